//! The ROS 2 detector node: `ros2 run lidar_ptq detect_node --ros-args -p model_path:=model.safetensors`.

#[path = "nodes/graph.rs"]
mod graph;
#[path = "lidar_ptq/interrupt.rs"]
mod interrupt;
#[path = "nodes/log.rs"]
mod log;
#[path = "nodes/memory.rs"]
mod memory;

use anyhow::Context;
use lidar_ptq::engine::Isa;
use lidar_ptq::node::{DetectNode, DetectParams};
use lidar_ptq::ros::arguments::RosArguments;
use std::process::ExitCode;

const HELP: &str = "\
detect_node: finds objects in point clouds, as a ROS 2 node; without ROS installed, too.

  detect_node [--check] --ros-args -p model_path:=MODEL -r '~/input/pointcloud:=/points' [--params-file FILE] ...

  --check    Load the model, check parameters and names, and end.

Parameters: config/detect.param.yaml explains them. Topics and services: docs/ros2.md.
ROS_DOMAIN_ID, ROS_LOCALHOST_ONLY, ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_DISTRO hold as for other nodes.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    memory::keep();
    let (ros, own) = RosArguments::take(std::env::args().skip(1))?;
    let mut check_only = false;
    for argument in &own {
        match argument.as_str() {
            "--check" => check_only = true,
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(());
            }
            other => anyhow::bail!("{other}: no option of this node; --help tells of them, and ROS' own stand behind --ros-args"),
        }
    }
    let name = ros.node_name("lidar_ptq")?;
    let rosout = log::start_log(&ros, &name)?;
    let declared = DetectParams::declare(&ros.parameters(&name)?).context("parameters")?;
    if let Some(threads) = DetectParams::new(&declared).threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("threads")?;
    }
    let isa = Isa::choose()?;
    let mut node = DetectNode::new(name.clone(), &ros.remaps, declared, isa)?;
    if check_only {
        println!("{name}: parameters and model are in order");
        return Ok(());
    }
    tracing::info!(node = %name, %isa, "model loaded");
    let stop = interrupt::stop_flag()?;
    let mut transport = graph::open(&graph::opener()?, node.interface(), rosout)?;
    tracing::info!("joined");
    node.run(&mut *transport, &stop)?;
    tracing::info!(node = %name, "ends");
    Ok(())
}
