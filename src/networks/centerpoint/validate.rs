//! Whether a network's configuration makes sense, before anything is built or allocated from it.

use super::{BranchRole, Head, PillarEncoder, PillarNetwork, Rpn, Upsample};
use crate::graph::GraphError;
use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// Bounds that no sensible network meets; they keep sizes computed from a hostile file far from overflow.
const CHANNELS: RangeInclusive<usize> = 1..=4096;
const BLOCKS: RangeInclusive<usize> = 1..=8;
const REPEATS: RangeInclusive<usize> = 0..=64;
const STRIDES: RangeInclusive<usize> = 1..=16;
const TASKS: RangeInclusive<usize> = 1..=64;
const CLASSES: RangeInclusive<usize> = 1..=256;
/// Cells along one side of the canvas.
const SIDE: RangeInclusive<usize> = 1..=4096;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    #[error("`network.{field}`: expected {expected}, found {found}")]
    Field { field: String, expected: String, found: String },
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl PillarNetwork {
    /// Checks every field, alone and against the others.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub(super) fn validate(&self, point_features: usize, canvas: [usize; 2]) -> Result<(), NetworkError> {
        self.encoder.validate()?;
        within("(point features)", point_features, CHANNELS)?;
        self.rpn.validate()?;
        self.head.validate()?;
        let coarsest = self.rpn.coarsest_stride();
        for side in canvas {
            within("(canvas)", side, SIDE)?;
            if !side.is_multiple_of(coarsest) {
                return Err(field(
                    "rpn.strides",
                    format!("strides whose product ({coarsest}) divides the grid's {side} cells"),
                    &self.rpn.strides,
                ));
            }
        }
        Ok(())
    }
}

impl PillarEncoder {
    fn validate(&self) -> Result<(), NetworkError> {
        within("encoder.layers (their number)", self.layers.len(), BLOCKS)?;
        for &width in &self.layers {
            within("encoder.layers", width, CHANNELS)?;
        }
        if self.layers.iter().rev().skip(1).any(|width| width % 2 == 1) {
            return Err(field(
                "encoder.layers",
                "even widths before the last layer, half for the point and half for its pillar",
                &self.layers,
            ));
        }
        within("encoder.center_offsets", self.center_offsets, 2..=3)?;
        epsilon("encoder.norm_eps", self.norm_eps)
    }
}

impl Rpn {
    /// Grid cells per head-map cell, or `None` if the blocks are not brought to one resolution.
    pub fn output_stride(&self) -> Option<usize> {
        let mut strides = self.block_strides().zip(&self.upsample).map(|(stride, upsample)| match *upsample {
            Upsample::Down2 => Some(stride * 2),
            Upsample::Same => Some(stride),
            Upsample::Transposed(n) => (n > 0 && stride.is_multiple_of(n)).then(|| stride / n),
        });
        let first = strides.next()??;
        strides.all(|stride| stride == Some(first)).then_some(first)
    }

    /// Grid cells per cell of each block's output.
    fn block_strides(&self) -> impl Iterator<Item = usize> {
        self.strides.iter().scan(1usize, |product, &stride| {
            *product = product.saturating_mul(stride);
            Some(*product)
        })
    }

    /// The largest stride on any way through the network.
    fn coarsest_stride(&self) -> usize {
        let ways = self.block_strides().zip(&self.upsample).map(|(stride, up)| if *up == Upsample::Down2 { stride * 2 } else { stride });
        ways.max().unwrap_or(1)
    }

    fn validate(&self) -> Result<(), NetworkError> {
        let blocks = self.filters.len();
        within("rpn.filters (their number)", blocks, BLOCKS)?;
        let lengths = [
            ("rpn.layers", self.layers.len()),
            ("rpn.strides", self.strides.len()),
            ("rpn.upsample", self.upsample.len()),
            ("rpn.upsample_filters", self.upsample_filters.len()),
        ];
        for (name, found) in lengths {
            if found != blocks {
                return Err(field(name, format!("one value for each of the {blocks} blocks"), &found));
            }
        }
        for i in 0..blocks {
            within("rpn.layers", self.layers[i], REPEATS)?;
            within("rpn.strides", self.strides[i], STRIDES)?;
            within("rpn.filters", self.filters[i], CHANNELS)?;
            within("rpn.upsample_filters", self.upsample_filters[i], CHANNELS)?;
            if let Upsample::Transposed(stride) = self.upsample[i] {
                within("rpn.upsample", stride, STRIDES)?;
            }
        }
        if self.output_stride().is_none() {
            return Err(field("rpn.upsample", format!("steps that undo strides {:?} to one resolution", self.strides), &self.upsample));
        }
        epsilon("rpn.norm_eps", self.norm_eps)
    }
}

impl Head {
    fn validate(&self) -> Result<(), NetworkError> {
        within("head.shared_channels", self.shared_channels, CHANNELS)?;
        within("head.branch_channels", self.branch_channels, CHANNELS)?;
        within("head.tasks (their number)", self.tasks.len(), TASKS)?;
        let mut classes = HashSet::new();
        for task in &self.tasks {
            within("head.tasks.classes (their number)", task.classes.len(), CLASSES)?;
            if let Some(twice) = task.classes.iter().find(|c| c.is_empty() || !classes.insert(c.as_str())) {
                return Err(field("head.tasks.classes", "names that differ", twice));
            }
        }
        let mut roles = HashSet::new();
        let mut names = HashSet::new();
        for branch in &self.branches {
            let is_word = !branch.name.is_empty() && branch.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_word || !names.insert(branch.name.as_str()) {
                return Err(field("head.branches.name", "module names that differ, of letters, digits and `_`", &branch.name));
            }
            if !roles.insert(branch.role) {
                return Err(field("head.branches.role", "roles that differ", &branch.role.name()));
            }
            within("head.branches.channels", branch.channels.unwrap_or(1), CHANNELS)?;
        }
        // Velocity is the only branch that a detector can do without.
        let required = [BranchRole::Heatmap, BranchRole::Offset, BranchRole::Height, BranchRole::Size, BranchRole::Rotation];
        if let Some(missing) = required.into_iter().find(|role| !roles.contains(role)) {
            return Err(field("head.branches", format!("a branch with the role `{}`", missing.name()), &names));
        }
        epsilon("head.norm_eps", self.norm_eps)
    }
}

fn field(name: &str, expected: impl Into<String>, found: &impl Debug) -> NetworkError {
    NetworkError::Field { field: name.to_owned(), expected: expected.into(), found: format!("{found:?}") }
}

fn within(name: &str, found: usize, range: RangeInclusive<usize>) -> Result<(), NetworkError> {
    if range.contains(&found) { Ok(()) } else { Err(field(name, format!("{} to {}", range.start(), range.end()), &found)) }
}

fn epsilon(name: &str, eps: f64) -> Result<(), NetworkError> {
    if eps > 0.0 && eps < 1.0 { Ok(()) } else { Err(field(name, "a number between 0 and 1", &eps)) }
}
