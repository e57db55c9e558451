//! What a trained detector expects of its input and how its head maps become boxes. Stored in the model file; the presets
//! for the public code bases are the YAML files in `config/models/`, in exactly this form.

use crate::networks::centerpoint::PillarNetwork;
use crate::sensor::PointsConfig;
use serde::{Deserialize, Serialize};

/// A whole detector, apart from its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// For people: `nuscenes_pillar_det3d`.
    pub name: String,
    pub points: PointsConfig,
    pub grid: Grid,
    pub voxelization: Voxelization,
    pub network: PillarNetwork,
    pub decode: DecodeConfig,
}

/// The pillar grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// x, y, z, metres.
    pub min: [f32; 3],
    pub max: [f32; 3],
    /// Voxel edge lengths; a pillar's z edge is the whole height.
    pub voxel: [f32; 3],
}

impl Grid {
    /// Cells along x, y, z, rounded as the originals do.
    pub fn cells(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| ((self.max[i] - self.min[i]) / self.voxel[i]).round() as usize)
    }
}

/// How points are put into pillars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Voxelization {
    /// The first `max_points` points of each of the first `max_pillars` pillars, in point order. Slots that stay empty enter
    /// the pillar feature network as zeros and take part in its maximum (det3d, mmdet3d, OpenPCDet's hard variant).
    Hard { max_points: usize, max_pillars: usize },
    /// Every point. With `test_z` false, points below or above the grid stay in (OpenPCDet's dynamic pillars).
    Dynamic { test_z: bool },
}

/// From head maps to boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeConfig {
    /// Grid cells per head-map cell.
    pub out_size_factor: usize,
    pub code: BoxCode,
    pub candidates: Candidates,
    /// A candidate's score must be above this.
    pub score_threshold: f32,
    /// Additional thresholds by class name.
    #[serde(default)]
    pub class_thresholds: std::collections::BTreeMap<String, f32>,
    /// Centres outside are dropped: x, y, z minimum and maximum, metres.
    pub post_range: [[f32; 3]; 2],
    pub nms: Nms,
}

/// What the regression channels mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCode {
    pub rotation: RotationOrder,
    pub size: SizeOrder,
    pub yaw: YawConvention,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationOrder {
    /// det3d, mmdet3d.
    SinCos,
    /// OpenPCDet.
    CosSin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeOrder {
    /// det3d.
    Wlh,
    /// OpenPCDet, mmdet3d 1.x.
    Lwh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum YawConvention {
    /// Counter-clockwise from x.
    CounterClockwise,
    /// `-yaw - pi/2` of the counter-clockwise one.
    Det3d,
}

/// Which (cell, class) pairs become candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Candidates {
    /// Every cell above the threshold, with its best class (det3d: no peak picking).
    BestClassPerCell,
    /// The best `count` pairs of class and cell of a task (OpenPCDet, mmdet3d).
    TopK { count: usize },
}

/// Non-maximum suppression within a task, over all its classes together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Nms {
    /// By rotated overlap seen from above.
    Rotated {
        pre: usize,
        post: usize,
        threshold: f32,
        /// det3d and OpenPCDet's kernel counts corners up to 1 cm outside a box as inside and suppresses above the
        /// threshold; mmcv's has no margin and suppresses at or above it.
        kernel: RotatedKernel,
    },
    /// By **squared** distance of centres, one threshold a task, square metres.
    Circle { post: usize, min_radius: Vec<f32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotatedKernel {
    Iou3d,
    Mmcv,
}

impl DetectorConfig {
    /// All class names; a label is a position in this list.
    pub fn classes(&self) -> Vec<String> {
        self.network.head.tasks.iter().flat_map(|t| t.classes.iter().cloned()).collect()
    }

    /// Channels of a point as the pillar encoder sees it: its own, the offset from the pillar's mean, and the offset from
    /// the pillar's centre.
    pub fn point_features(&self) -> usize {
        // Saturating: a configuration that is not validated yet may hold any number.
        (self.points.features.len() + 3).saturating_add(self.network.encoder.center_offsets)
    }
}
