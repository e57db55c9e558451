//! What sensors deliver: point clouds, and how they are gathered over time.

mod cloud;

pub use cloud::{PointCloud, Stamp};
