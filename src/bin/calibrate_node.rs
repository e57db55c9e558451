//! The ROS 2 calibration node, on plain DDS: `ros2 run lidar_ptq calibrate_node --ros-args -p model_path:=model.safetensors`.

#[cfg(feature = "dds")]
#[path = "lidar_ptq/interrupt.rs"]
mod interrupt;
#[path = "nodes/log.rs"]
mod log;

use anyhow::Context;
use lidar_ptq::node::CalibrateParams;
use lidar_ptq::ros::arguments::RosArguments;
use lidar_ptq::ros::declarations::DeclaredParameters;
use lidar_ptq::ros::names::NodeName;
use std::process::ExitCode;

const HELP: &str = "\
calibrate_node: makes quantized models from what the robot sees, as a ROS 2 node on DDS; no ROS needs to be installed.

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
    log::start_log(ros.log_level.as_deref())?;
    let name = ros.node_name("lidar_ptq_calibrate")?;
    let declared = CalibrateParams::declare(&ros.parameters(&name)?).context("parameters")?;
    serve(name, &ros.remaps, declared)
}

/// Until a signal comes, or all is done.
#[cfg(feature = "dds")]
fn serve(name: NodeName, remaps: &[(String, String)], declared: DeclaredParameters) -> anyhow::Result<bool> {
    use lidar_ptq::node::CalibrateNode;
    use lidar_ptq::ros::dds::{DdsOptions, DdsTransport};
    use lidar_ptq::ros::interface::Interface;
    use std::sync::Arc;
    let stop = interrupt::stop_flag()?;
    let options = DdsOptions::from_env()?;
    let program = std::env::current_exe().context("where this program is")?.with_file_name("lidar_ptq");
    let open = Arc::new(move |interface: &Interface| Ok(Box::new(DdsTransport::open(options, interface)?) as Box<_>));
    let mut node = CalibrateNode::new(name, remaps, declared, program, open)?;
    let mut transport = DdsTransport::open(options, &node.interface())?;
    tracing::info!(domain = options.domain, "joined");
    Ok(node.run(&mut transport, &stop)?)
}

// No `required-features`: cargo-ament-build would then leave the program out.
#[cfg(not(feature = "dds"))]
fn serve(_name: NodeName, _remaps: &[(String, String)], _declared: DeclaredParameters) -> anyhow::Result<bool> {
    anyhow::bail!("this program was built without its feature `dds`, so it has no way to the network")
}
