//! What the nodes' log says, and where.

use lidar_ptq::ros::arguments::RosArguments;
use lidar_ptq::ros::names::NodeName;
use lidar_ptq::ros::rosout::Rosout;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// At the level that the arguments tell in ROS' words; `LOGGER:=LEVEL` counts as `LEVEL`. Returns the part for other nodes, if they shall
/// have it.
pub fn start_log(ros: &RosArguments, node: &NodeName) -> anyhow::Result<Option<Rosout>> {
    let level = ros.log_level.as_deref().map(|l| l.rsplit_once(":=").map_or(l, |(_, level)| level));
    let level = match level.unwrap_or("info").to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" => LevelFilter::ERROR,
        other => anyhow::bail!("--log-level {other}: expected debug, info, warn, error or fatal"),
    };
    let rosout = if ros.rosout_disabled { None } else { Some(Rosout::new(node, &ros.remaps)?) };
    // No colours: launch and journals keep the text.
    let printed =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false).log_internal_errors(false);
    tracing_subscriber::registry().with(level).with(printed).with(rosout.clone()).init();
    Ok(rosout)
}
