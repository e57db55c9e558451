//! Everything in which the pillar networks of the three public code bases differ, as data.

use serde::{Deserialize, Serialize};

/// Which public code base names the modules. Decides node names only; behaviour is in the other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// tianweiy/CenterPoint; also what networks trained by this crate use.
    Det3d,
    OpenPcdet,
    Mmdet3d,
}

/// CenterPoint-Pillar from pillar features to head maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PillarNetwork {
    pub dialect: Dialect,
    pub encoder: PillarEncoder,
    pub rpn: Rpn,
    pub head: Head,
}

/// The pillar feature network: per-point layers with a maximum over the pillar after each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PillarEncoder {
    /// Output width of each layer *as the pillar sees it*: every layer but the last computes half of it per point and
    /// appends the pillar's maximum. det3d and OpenPCDet `[64, 64]`, mmdet3d `[64]`.
    pub layers: Vec<usize>,
    /// det3d and OpenPCDet append 2 or 3 centre offsets; see [`crate::detect`] for where they are computed.
    pub center_offsets: usize,
    pub norm_eps: f64,
}

/// The 2D backbone: strided blocks, each brought back to one resolution, concatenated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpn {
    /// 3x3 convolutions in each block after its strided first one.
    pub layers: Vec<usize>,
    pub strides: Vec<usize>,
    pub filters: Vec<usize>,
    pub upsample: Vec<Upsample>,
    pub upsample_filters: Vec<usize>,
    pub norm_eps: f64,
}

/// How a block's output is brought to the common resolution. Each is followed by batch norm and ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsample {
    /// 2x2 convolution with stride 2 (upsample stride 0.5).
    Down2,
    /// 1x1 convolution (stride 1 in det3d and mmdet3d).
    Same,
    /// Transposed convolution with kernel = stride = n. `Transposed(1)` is OpenPCDet's stride 1: the same arithmetic as
    /// [`Upsample::Same`] with the weight stored `[in, out]`.
    Transposed(usize),
}

/// The centre heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub shared_channels: usize,
    /// Width between the two convolutions of a branch.
    pub branch_channels: usize,
    /// Whether convolutions in front of a batch norm have a bias (det3d, OpenPCDet: yes; mmdet3d: no).
    pub bias_before_norm: bool,
    pub norm_eps: f64,
    pub tasks: Vec<Task>,
    /// In the order of the original's configuration; the heat map is one of them.
    pub branches: Vec<Branch>,
}

/// A group of classes that share one head and one non-maximum suppression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub classes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    pub role: BranchRole,
    /// The original's module name (`reg`, `center`, ...).
    pub name: String,
    /// Width between its two convolutions, where it is not the head's `branch_channels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
}

/// What a branch regresses. Graph outputs are named `task{t}.{role}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchRole {
    /// Class scores before the sigmoid, one channel a class of the task.
    Heatmap,
    /// Centre within its cell, in cells: x, y.
    Offset,
    /// Centre height, metres.
    Height,
    /// Log of the three sizes, metres, in the order that the decoder's configuration says.
    Size,
    /// Sine and cosine of the heading, in the order that the decoder's configuration says.
    Rotation,
    /// x, y, m/s.
    Velocity,
}

impl BranchRole {
    pub fn name(self) -> &'static str {
        match self {
            BranchRole::Heatmap => "heatmap",
            BranchRole::Offset => "offset",
            BranchRole::Height => "height",
            BranchRole::Size => "size",
            BranchRole::Rotation => "rotation",
            BranchRole::Velocity => "velocity",
        }
    }

    /// Channels of the branch in a task of `classes` classes.
    pub fn channels(self, classes: usize) -> usize {
        match self {
            BranchRole::Heatmap => classes,
            BranchRole::Offset | BranchRole::Rotation | BranchRole::Velocity => 2,
            BranchRole::Height => 1,
            BranchRole::Size => 3,
        }
    }
}
