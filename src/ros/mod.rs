//! ROS 2 at the edge: messages as plain structs, CDR, and the transports that carry them.

pub mod bag;
pub mod cdr;
pub mod msg;
pub mod point_cloud;
pub mod transport;
