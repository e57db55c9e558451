//! From a point cloud to boxes.

mod config;
mod import;
mod model;
mod presets;
mod validate;

pub use config::{
    BoxCode, Candidates, DecodeConfig, DetectorConfig, Grid, IntensityTransform, Nms, PointsConfig, RotatedKernel, RotationOrder,
    SizeOrder, SweepsConfig, Voxelization, YawConvention,
};
pub use import::{ImportError, Imported, import, import_file};
pub use model::{Model, ModelError};
pub use presets::{ConfigFileError, PRESETS, Preset};
pub use validate::ConfigError;

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
