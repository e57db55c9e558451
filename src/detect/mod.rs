//! From a point cloud to boxes.

mod config;
mod cuda;
mod cuda_frame;
#[cfg(test)]
mod cuda_tests;
mod decode;
mod detector;
mod elementary;
mod float;
mod head_maps;
mod import;
mod int8;
mod model;
mod nms;
mod onnx;
mod peaks;
mod pillars;
mod presets;
mod rotated_iou;
mod traits;
mod validate;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
pub(crate) mod test_support;

pub use crate::sensor::{IntensityTransform, PointsConfig, SweepsConfig};
pub use config::{
    BoxCode, Candidates, DecodeConfig, DetectorConfig, Grid, Nms, RotatedKernel, RotationOrder, SizeOrder, Voxelization, YawConvention,
};
pub use cuda::network_on;
pub use decode::{DecodeError, DecodeOutput, decode};
pub use detector::{
    ChooseCells, Clipped, DetectError, Detections, Detector, LayerTime, Network, NetworkError, StageTimes, WholeFrame, isa_in_use, network,
};
pub use float::FloatNetwork;
pub use head_maps::HeadMaps;
pub use import::{ImportError, Imported, import, import_file};
pub use int8::{Int8Network, Int8NetworkError};
pub use model::{Model, ModelError};
pub(crate) use peaks::peak_cells;
pub use pillars::{PillarError, PillarInput, PillarReport, Pillarizer};
pub use presets::{ConfigFileError, PRESETS, Preset};
pub use traits::{CloudTraits, Drift, cloud_traits, drift, spreads};
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
