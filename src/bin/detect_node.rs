//! The ROS 2 detector node, on plain DDS: `ros2 run lidar_ptq detect_node --ros-args -p model_path:=model.safetensors`.

#[cfg(feature = "dds")]
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
detect_node: finds objects in point clouds, as a ROS 2 node on DDS; no ROS needs to be installed.

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
    log::start_log(ros.log_level.as_deref())?;
    let name = ros.node_name("lidar_ptq")?;
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
    serve(&mut node)?;
    tracing::info!(node = %name, "ends");
    Ok(())
}

/// Until a signal comes.
#[cfg(feature = "dds")]
fn serve(node: &mut DetectNode) -> anyhow::Result<()> {
    use lidar_ptq::ros::dds::{DdsOptions, DdsTransport};
    let stop = interrupt::stop_flag()?;
    let options = DdsOptions::from_env()?;
    let mut transport = DdsTransport::open(options, &node.interface())?;
    tracing::info!(domain = options.domain, "joined");
    Ok(node.run(&mut transport, &stop)?)
}

// No `required-features`: cargo-ament-build would then leave the program out.
#[cfg(not(feature = "dds"))]
fn serve(_node: &mut DetectNode) -> anyhow::Result<()> {
    anyhow::bail!("this program was built without its feature `dds`, so it has no way to the network")
}
