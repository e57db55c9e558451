//! The ROS 2 calibration node: `ros2 run lidar_ptq calibrate_node --ros-args -p model_path:=model.safetensors`.

#[path = "nodes/graph.rs"]
mod graph;
#[path = "lidar_ptq/interrupt.rs"]
mod interrupt;
#[path = "nodes/log.rs"]
mod log;

use anyhow::Context;
use lidar_ptq::node::{CalibrateNode, CalibrateParams};
use lidar_ptq::ros::arguments::RosArguments;
use std::process::ExitCode;

const HELP: &str = "\
calibrate_node: makes quantized models from what the robot sees, as a ROS 2 node; without ROS installed, too.

  calibrate_node --ros-args -p model_path:=MODEL -r '~/input/pointcloud:=/points' ...
  calibrate_node --ros-args -p model_path:=MODEL -p bag:=BAG -p exit_when_done:=true

The action ~/calibrate (lidar_ptq_msgs/action/Calibrate) takes a bag's path, or minutes to record.
Parameters: config/calibrate.param.yaml explains them. Topics and services: docs/ros2.md.
ROS_DOMAIN_ID, ROS_LOCALHOST_ONLY, ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_DISTRO hold as for other nodes.
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // The log has told why.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False if the node was there for one goal, and that was not reached.
fn run() -> anyhow::Result<bool> {
    let (ros, own) = RosArguments::take(std::env::args().skip(1))?;
    match own.first().map(String::as_str) {
        None => {}
        Some("-h" | "--help") => {
            print!("{HELP}");
            return Ok(true);
        }
        Some(other) => anyhow::bail!("{other}: no option of this node; --help tells of them, and ROS' own stand behind --ros-args"),
    }
    let name = ros.node_name("lidar_ptq_calibrate")?;
    let rosout = log::start_log(&ros, &name)?;
    let declared = CalibrateParams::declare(&ros.parameters(&name)?).context("parameters")?;
    let stop = interrupt::stop_flag()?;
    let program = std::env::current_exe().context("where this program is")?.with_file_name("lidar_ptq");
    let open = graph::opener()?;
    let mut node = CalibrateNode::new(name, &ros.remaps, declared, program, open.clone())?;
    let mut transport = graph::open(&open, node.interface(), rosout)?;
    tracing::info!("joined");
    Ok(node.run(&mut *transport, &stop)?)
}
