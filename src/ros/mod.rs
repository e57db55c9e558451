//! ROS 2 at the edge: messages as plain structs, CDR, and the transports that carry them.

pub mod action;
pub mod arguments;
#[cfg(any(feature = "dds", feature = "ros2"))]
mod background;
pub mod bag;
pub mod cdr;
#[cfg(feature = "dds")]
pub mod dds;
pub mod declarations;
pub mod inbox;
pub mod interface;
pub mod lifecycle;
pub mod msg;
pub mod names;
pub mod parameter_server;
pub mod parameters;
pub mod point_cloud;
#[cfg(feature = "ros2")]
pub mod rcl;
pub mod rosout;
#[cfg(any(feature = "dds", feature = "ros2"))]
mod sequences;
pub mod transport;
