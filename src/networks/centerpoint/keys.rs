//! The module names of the public code bases: one table each.

use super::Dialect;

/// Patterns of module names. `{i}` is a layer or block, `{n}` a position in a `nn.Sequential`, `{t}` a task, `{name}` a
/// branch.
#[derive(Debug)]
pub(super) struct KeyTable {
    pub pfn_linear: &'static str,
    pub pfn_norm: &'static str,
    /// A block is one `nn.Sequential`: convolution, batch norm, ReLU, and again.
    pub block: &'static str,
    /// Position of a block's first convolution: 1 where a `ZeroPad2d` stands before it.
    pub block_first: usize,
    pub deblock_conv: &'static str,
    pub deblock_norm: &'static str,
    pub shared_conv: &'static str,
    pub shared_norm: &'static str,
    pub branch_conv: &'static str,
    pub branch_norm: &'static str,
    pub branch_final: &'static str,
}

/// Modules of one repetition in a block's `nn.Sequential`: convolution, batch norm, ReLU.
pub(super) const BLOCK_PERIOD: usize = 3;

const DET3D: KeyTable = KeyTable {
    pfn_linear: "reader.pfn_layers.{i}.linear",
    pfn_norm: "reader.pfn_layers.{i}.norm",
    block: "neck.blocks.{i}.{n}",
    block_first: 1,
    deblock_conv: "neck.deblocks.{i}.0",
    deblock_norm: "neck.deblocks.{i}.1",
    shared_conv: "bbox_head.shared_conv.0",
    shared_norm: "bbox_head.shared_conv.1",
    branch_conv: "bbox_head.tasks.{t}.{name}.0",
    branch_norm: "bbox_head.tasks.{t}.{name}.1",
    branch_final: "bbox_head.tasks.{t}.{name}.3",
};

const OPENPCDET: KeyTable = KeyTable {
    pfn_linear: "vfe.pfn_layers.{i}.linear",
    pfn_norm: "vfe.pfn_layers.{i}.norm",
    block: "backbone_2d.blocks.{i}.{n}",
    block_first: 1,
    deblock_conv: "backbone_2d.deblocks.{i}.0",
    deblock_norm: "backbone_2d.deblocks.{i}.1",
    shared_conv: "dense_head.shared_conv.0",
    shared_norm: "dense_head.shared_conv.1",
    branch_conv: "dense_head.heads_list.{t}.{name}.0.0",
    branch_norm: "dense_head.heads_list.{t}.{name}.0.1",
    branch_final: "dense_head.heads_list.{t}.{name}.1",
};

const MMDET3D: KeyTable = KeyTable {
    pfn_linear: "pts_voxel_encoder.pfn_layers.{i}.linear",
    pfn_norm: "pts_voxel_encoder.pfn_layers.{i}.norm",
    block: "pts_backbone.blocks.{i}.{n}",
    block_first: 0,
    deblock_conv: "pts_neck.deblocks.{i}.0",
    deblock_norm: "pts_neck.deblocks.{i}.1",
    shared_conv: "pts_bbox_head.shared_conv.conv",
    shared_norm: "pts_bbox_head.shared_conv.bn",
    branch_conv: "pts_bbox_head.task_heads.{t}.{name}.0.conv",
    branch_norm: "pts_bbox_head.task_heads.{t}.{name}.0.bn",
    branch_final: "pts_bbox_head.task_heads.{t}.{name}.1",
};

impl Dialect {
    pub const ALL: [Dialect; 3] = [Dialect::Det3d, Dialect::OpenPcdet, Dialect::Mmdet3d];

    /// As in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Det3d => "det3d",
            Dialect::OpenPcdet => "openpcdet",
            Dialect::Mmdet3d => "mmdet3d",
        }
    }

    /// The code base whose pillar network has these keys, told by the name of its pillar encoder.
    pub fn recognize<'a>(keys: impl IntoIterator<Item = &'a str>) -> Option<Dialect> {
        let prefix = |dialect: Dialect| dialect.keys().pfn_linear.split('{').next().unwrap_or_default();
        keys.into_iter().find_map(|key| Dialect::ALL.into_iter().find(|&dialect| key.starts_with(prefix(dialect))))
    }

    pub(super) fn keys(self) -> &'static KeyTable {
        match self {
            Dialect::Det3d => &DET3D,
            Dialect::OpenPcdet => &OPENPCDET,
            Dialect::Mmdet3d => &MMDET3D,
        }
    }
}

/// A pattern with its placeholders replaced.
pub(super) fn fill(pattern: &str, values: &[(&str, &dyn std::fmt::Display)]) -> String {
    values.iter().fold(pattern.to_owned(), |text, (placeholder, value)| text.replace(placeholder, &value.to_string()))
}
