//! Whether a detector's configuration makes sense, before anything is built or allocated from it.

use super::{Candidates, DecodeConfig, DetectorConfig, Grid, IntensityTransform, Nms, PointsConfig, Voxelization};
use crate::graph::Graph;
use crate::networks::centerpoint::{self, NetworkError};
use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// Bounds that no sensible detector meets; they keep what is computed and allocated from a hostile file small.
const FEATURES: RangeInclusive<usize> = 3..=32;
const SWEEPS: RangeInclusive<usize> = 1..=100;
const POINTS: RangeInclusive<usize> = 1..=1000;
const PILLARS: RangeInclusive<usize> = 1..=10_000_000;
const BOXES: RangeInclusive<usize> = 1..=1_000_000;
/// Cells of the canvas: 2048 x 2048, at 64 channels 1 GiB.
const MAX_CELLS: usize = 1 << 22;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("`{field}`: expected {expected}, found {found}")]
    Field { field: &'static str, expected: String, found: String },
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl DetectorConfig {
    /// Checks every field, alone and against the others.
    ///
    /// # Errors
    /// The first field that is wrong, with what was expected.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.graph().map(drop)
    }

    /// The network, with the canvas that the grid asks for.
    ///
    /// # Errors
    /// As [`DetectorConfig::validate`].
    pub fn graph(&self) -> Result<Graph, ConfigError> {
        self.points.validate()?;
        self.grid.validate()?;
        self.voxelization.validate()?;
        let [width, height, _] = self.grid.cells();
        let graph = centerpoint::build(&self.network, self.point_features(), [height, width])?;
        self.decode.validate(&self.classes(), self.network.head.tasks.len())?;
        match self.network.rpn.output_stride() {
            Some(stride) if stride == self.decode.out_size_factor => Ok(graph),
            stride => {
                let expected = format!("{}, from `network.rpn`'s strides and upsampling", stride.unwrap_or(0));
                Err(wrong("decode.out_size_factor", expected, &self.decode.out_size_factor))
            }
        }
    }
}

impl PointsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("points.features (their number)", self.features.len(), FEATURES)?;
        let mut seen = HashSet::new();
        if self.features[..3] != ["x", "y", "z"] || !self.features.iter().all(|f| !f.is_empty() && seen.insert(f)) {
            return Err(wrong("points.features", "x, y, z, then other fields, each once", &self.features));
        }
        let IntensityTransform { scale, offset, clip, constant, .. } = &self.intensity;
        finite("points.intensity.scale", *scale)?;
        finite("points.intensity.offset", *offset)?;
        finite("points.intensity.constant", constant.unwrap_or(0.0))?;
        if clip.is_some_and(|[low, high]| low.is_nan() || high.is_nan() || low > high) {
            return Err(wrong("points.intensity.clip", "the lower bound, then the upper", clip));
        }
        if self.time.field.as_deref().is_some_and(|field| ["", "x", "y", "z"].contains(&field)) {
            return Err(wrong("points.time.field", "the name of a field that is no coordinate, or null for none", &self.time.field));
        }
        within("points.sweeps.count", self.sweeps.count, SWEEPS)?;
        if !self.sweeps.ego_box.iter().all(|half| half.is_finite() && *half >= 0.0) {
            return Err(wrong("points.sweeps.ego_box", "two distances in metres, 0 for none", &self.sweeps.ego_box));
        }
        Ok(())
    }
}

impl Grid {
    fn validate(&self) -> Result<(), ConfigError> {
        if !self.voxel.iter().all(|edge| edge.is_finite() && *edge > 0.0) {
            return Err(wrong("grid.voxel", "three positive lengths in metres", &self.voxel));
        }
        if !(0..3).all(|i| self.min[i].is_finite() && self.max[i].is_finite() && self.min[i] < self.max[i]) {
            return Err(wrong("grid.max", format!("three bounds above grid.min, {:?}", self.min), &self.max));
        }
        let [x, y, z] = self.cells();
        if z != 1 {
            return Err(wrong(
                "grid.voxel",
                format!("a height that makes one layer of the grid's {} m", self.max[2] - self.min[2]),
                &self.voxel,
            ));
        }
        match x.checked_mul(y) {
            Some(1..=MAX_CELLS) => Ok(()),
            _ => Err(wrong("grid", format!("1 to {MAX_CELLS} pillars"), &format_args!("{x} x {y}"))),
        }
    }
}

impl Voxelization {
    fn validate(&self) -> Result<(), ConfigError> {
        if let Voxelization::Hard { max_points, max_pillars } = *self {
            within("voxelization.hard.max_points", max_points, POINTS)?;
            within("voxelization.hard.max_pillars", max_pillars, PILLARS)?;
        }
        Ok(())
    }
}

impl DecodeConfig {
    fn validate(&self, classes: &[String], tasks: usize) -> Result<(), ConfigError> {
        let is_score = |score: f32| (0.0..=1.0).contains(&score);
        if let Candidates::TopK { count } = self.candidates {
            within("decode.candidates.top_k.count", count, BOXES)?;
        }
        if !is_score(self.score_threshold) {
            return Err(wrong("decode.score_threshold", "0 to 1", &self.score_threshold));
        }
        for (class, &threshold) in &self.class_thresholds {
            if !classes.contains(class) {
                return Err(wrong("decode.class_thresholds", format!("names of the classes {classes:?}"), class));
            }
            if !is_score(threshold) {
                return Err(wrong("decode.class_thresholds", "0 to 1", &threshold));
            }
        }
        let [low, high] = &self.post_range;
        if !(0..3).all(|i| low[i] < high[i]) {
            return Err(wrong("decode.post_range", "the lower corner, then the upper, metres", &self.post_range));
        }
        match &self.nms {
            Nms::Rotated { pre, post, threshold, .. } => {
                within("decode.nms.rotated.pre", *pre, BOXES)?;
                within("decode.nms.rotated.post", *post, BOXES)?;
                if !is_score(*threshold) {
                    return Err(wrong("decode.nms.rotated.threshold", "0 to 1", threshold));
                }
            }
            Nms::Circle { post, min_radius } => {
                within("decode.nms.circle.post", *post, BOXES)?;
                if min_radius.len() != tasks || !min_radius.iter().all(|r| r.is_finite() && *r >= 0.0) {
                    return Err(wrong(
                        "decode.nms.circle.min_radius",
                        format!("one threshold for each of the {tasks} tasks, square metres"),
                        min_radius,
                    ));
                }
            }
        }
        Ok(())
    }
}

fn wrong(field: &'static str, expected: impl Into<String>, found: &impl Debug) -> ConfigError {
    ConfigError::Field { field, expected: expected.into(), found: format!("{found:?}") }
}

fn within(field: &'static str, found: usize, range: RangeInclusive<usize>) -> Result<(), ConfigError> {
    if range.contains(&found) { Ok(()) } else { Err(wrong(field, format!("{} to {}", range.start(), range.end()), &found)) }
}

fn finite(field: &'static str, found: f32) -> Result<(), ConfigError> {
    if found.is_finite() { Ok(()) } else { Err(wrong(field, "a finite number", &found)) }
}
