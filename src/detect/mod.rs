//! From a point cloud to boxes.

mod config;

pub use crate::sensor::{IntensityTransform, PointsConfig, SweepsConfig};
pub use config::{
    BoxCode, Candidates, DecodeConfig, DetectorConfig, Grid, Nms, RotatedKernel, RotationOrder, SizeOrder, Voxelization, YawConvention,
};

use crate::geometry::Box3;
use serde::{Deserialize, Serialize};

/// One detected object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub bbox: Box3,
    /// 0..=1.
    pub score: f32,
    /// Index into [`DetectorConfig::classes`].
    pub label: usize,
}
