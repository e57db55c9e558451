//! The way to other nodes: `rcl` where the program was built with ROS, else plain DDS.

use lidar_ptq::node::Open;
use lidar_ptq::ros::interface::Interface;
use lidar_ptq::ros::rosout::Rosout;
use lidar_ptq::ros::transport::{Transport, TransportError};

/// A node's transport, with its log.
pub fn open(open: &Open, interface: Interface, rosout: Option<Rosout>) -> Result<Box<dyn Transport>, TransportError> {
    match rosout {
        Some(rosout) => rosout.open(interface, |interface| open(interface)),
        None => open(&interface),
    }
}

/// As ROS' environment variables say.
#[cfg(feature = "ros2")]
pub fn opener() -> anyhow::Result<Open> {
    use lidar_ptq::ros::rcl::RclTransport;
    Ok(std::sync::Arc::new(|interface| Ok(Box::new(RclTransport::open(interface)?))))
}

/// As ROS' environment variables say.
#[cfg(all(feature = "dds", not(feature = "ros2")))]
pub fn opener() -> anyhow::Result<Open> {
    use lidar_ptq::ros::dds::{DdsOptions, DdsTransport};
    let options = DdsOptions::from_env()?;
    tracing::info!(domain = options.domain, "plain DDS");
    Ok(std::sync::Arc::new(move |interface| Ok(Box::new(DdsTransport::open(options, interface)?))))
}

// No `required-features`: cargo-ament-build would then leave the programs out.
#[cfg(not(any(feature = "dds", feature = "ros2")))]
pub fn opener() -> anyhow::Result<Open> {
    anyhow::bail!("this program was built without the features `dds` and `ros2`, so it has no way to other nodes")
}
