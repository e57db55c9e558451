//! From head maps to boxes, step by step as the public code bases do it; where they differ, [`DecodeConfig`] says how.
//!
//! Scores are sigmoids, sizes exponentials, headings arctangents, all in f32 and in the originals' order of operations.

use super::elementary::{atan2, exp};
use super::nms::{best_first, circle_nms, rotated_nms};
use super::rotated_iou::BevBox;
use super::{BoxCode, Candidates, DecodeConfig, Detection, DetectorConfig, NetworkError, Nms, RotationOrder, SizeOrder, YawConvention};
use crate::geometry::{Box3, wrap_angle};
use crate::networks::centerpoint::BranchRole;
use ndarray::{Array3, ArrayD, ArrayView3, Axis, Ix4};
use std::collections::BTreeMap;
use std::f32::consts::FRAC_PI_2;

/// The network's outputs for one sample, by role: `task0.heatmap`, `task0.offset`, ... (see [`BranchRole`]).
///
/// Each map is `[height, width, channels]`; the first row is the lowest y, the first column the lowest x of the grid.
#[derive(Clone, Debug, Default)]
pub struct HeadMaps {
    /// In standard layout.
    maps: BTreeMap<String, Array3<f32>>,
}

/// The boxes of a frame and what became of the candidates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodeOutput {
    /// Best score first.
    pub detections: Vec<Detection>,
    /// Candidates above their thresholds and within the range, before suppression.
    pub candidates: usize,
    /// Candidates above their thresholds whose box had a number that is not finite. They are dropped.
    pub non_finite: usize,
}

impl DecodeOutput {
    /// Puts boxes that stand by task into order. Equal scores stay in order of their tasks.
    pub(super) fn sort(&mut self) {
        self.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("the network gave no map `{role}`; it gave {found:?}")]
    Missing { role: String, found: Vec<String> },
    #[error("map `{role}` is {found:?}, expected {expected:?} (height, width, channels)")]
    Shape { role: String, found: [usize; 3], expected: [usize; 3] },
    #[error("`decode.out_size_factor` must be at least 1")]
    OutSizeFactor,
    #[error("`decode.nms.circle.min_radius` has {found} values, expected one for each of the {expected} tasks")]
    MinRadius { found: usize, expected: usize },
}

/// A box before suppression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    /// The yaw may lie outside `[-pi, pi)`: suppression sees it as the original's does, to the bit.
    pub bbox: Box3,
    pub score: f32,
    /// Within the task.
    pub class: usize,
    /// `y * width + x` on the head map.
    pub cell: usize,
}

/// A class whose score at a cell passes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Peak {
    cell: usize,
    class: usize,
    score: f32,
}

/// The maps of one task, checked.
struct TaskMaps<'a> {
    heatmap: ArrayView3<'a, f32>,
    offset: ArrayView3<'a, f32>,
    height: ArrayView3<'a, f32>,
    size: ArrayView3<'a, f32>,
    rotation: ArrayView3<'a, f32>,
    velocity: Option<ArrayView3<'a, f32>>,
}

/// Boxes of one sample, best score first.
///
/// # Errors
/// A map that is missing or has another shape than the configuration says; a configuration that contradicts itself.
pub fn decode(config: &DetectorConfig, maps: &HeadMaps) -> Result<DecodeOutput, DecodeError> {
    decode_peaks(config, maps, &Peaks::of(config, maps)?)
}

/// As [`decode`], at cells that are known already.
pub(super) fn decode_peaks(config: &DetectorConfig, maps: &HeadMaps, peaks: &Peaks) -> Result<DecodeOutput, DecodeError> {
    let mut output = DecodeOutput::default();
    let mut first_label = 0;
    for (task, group) in config.network.head.tasks.iter().enumerate() {
        let (candidates, non_finite) = task_candidates(config, maps, task, peaks)?;
        let kept = suppress(&config.decode, task, &candidates);
        output.candidates += candidates.len();
        output.non_finite += non_finite;
        output.detections.extend(kept.into_iter().map(|i| candidates[i].detection(first_label)));
        first_label += group.classes.len();
    }
    output.sort();
    Ok(output)
}

/// What cannot be decoded whatever the maps hold.
pub(super) fn check(config: &DetectorConfig) -> Result<(), DecodeError> {
    let tasks = config.network.head.tasks.len();
    match &config.decode.nms {
        _ if config.decode.out_size_factor == 0 => Err(DecodeError::OutSizeFactor),
        Nms::Circle { min_radius, .. } if min_radius.len() != tasks => {
            Err(DecodeError::MinRadius { found: min_radius.len(), expected: tasks })
        }
        _ => Ok(()),
    }
}

/// By task: the cells where a score passes. Only the heat maps are needed to know them.
pub(super) struct Peaks(Vec<Vec<Peak>>);

impl Peaks {
    /// # Errors
    /// As [`decode`].
    pub fn of(config: &DetectorConfig, maps: &HeadMaps) -> Result<Self, DecodeError> {
        check(config)?;
        (0..config.network.head.tasks.len()).map(|task| task_peaks(config, maps, task)).collect::<Result<_, _>>().map(Self)
    }

    /// By task: `y * width + x`. A cell may stand there more than once.
    pub fn cells(&self) -> Vec<Vec<usize>> {
        self.0.iter().map(|peaks| peaks.iter().map(|p| p.cell).collect()).collect()
    }
}

/// By task: the cells whose regressed values decoding will read, as [`super::Network::run_at_cells`] asks for them.
///
/// # Errors
/// As [`decode`].
pub(crate) fn peak_cells(config: &DetectorConfig, maps: &HeadMaps) -> Result<Vec<Vec<usize>>, DecodeError> {
    Ok(Peaks::of(config, maps)?.cells())
}

fn task_peaks(config: &DetectorConfig, maps: &HeadMaps, task: usize) -> Result<Vec<Peak>, DecodeError> {
    let heatmap = map_of(config, maps, task, BranchRole::Heatmap)?;
    // One slice, see `HeadMaps::insert`.
    let logits = heatmap.to_slice().unwrap_or_default();
    let thresholds = class_thresholds(config, task);
    Ok(match config.decode.candidates {
        Candidates::BestClassPerCell => best_class_per_cell(logits, &thresholds),
        Candidates::TopK { count } => top_k(logits, &thresholds, count),
    })
}

/// The candidates of a task whose box is finite and within the range, and how many boxes were not finite. In order of cells
/// or best first, as [`Candidates`] says.
pub(super) fn task_candidates(
    config: &DetectorConfig,
    maps: &HeadMaps,
    task: usize,
    peaks: &Peaks,
) -> Result<(Vec<Candidate>, usize), DecodeError> {
    let (maps, peaks) = (TaskMaps::of(config, maps, task)?, &peaks.0[task]);
    let mut non_finite = 0;
    let mut candidates = Vec::with_capacity(peaks.len());
    for &Peak { cell, class, score } in peaks {
        let bbox = maps.decode_box(config, cell);
        if !is_finite(&bbox) {
            non_finite += 1;
        } else if is_within(bbox.center, config.decode.post_range) {
            candidates.push(Candidate { bbox, score, class, cell });
        }
    }
    Ok((candidates, non_finite))
}

/// Positions of the candidates that stay, best score first.
pub(super) fn suppress(config: &DecodeConfig, task: usize, candidates: &[Candidate]) -> Vec<usize> {
    let scores: Vec<f32> = candidates.iter().map(|c| c.score).collect();
    match &config.nms {
        Nms::Rotated { pre, post, threshold, kernel } => {
            let boxes: Vec<BevBox> = candidates.iter().map(Candidate::bev_box).collect();
            rotated_nms(&boxes, &scores, *kernel, *threshold, *pre, *post)
        }
        Nms::Circle { post, min_radius } => {
            let centers: Vec<[f32; 2]> = candidates.iter().map(|c| c.bev_box().center).collect();
            circle_nms(&centers, &scores, min_radius[task], *post)
        }
    }
}

/// A threshold that a score must be above, and a bound on the logit that no such score lies below: most cells are dismissed
/// by one comparison. A logit that is no number is above nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreThreshold {
    pub score: f32,
    pub logit: f32,
}

impl ScoreThreshold {
    /// Covers the rounding of logit and sigmoid, which near 0 and 1 is far below this in logits of interest.
    const SLACK: f32 = 1e-2;

    fn new(score: f32) -> Self {
        let p = f64::from(score);
        let logit = if p <= 0.0 { f64::NEG_INFINITY } else { (p / (1.0 - p)).ln() };
        // From 1 on, and close below, the sigmoid's own rounding decides.
        let logit = if p >= 0.9999 { 9.0 } else { logit as f32 - Self::SLACK };
        Self { score, logit }
    }

    /// The score, if it passes.
    fn pass(&self, logit: f32) -> Option<f32> {
        if logit > self.logit {
            let score = sigmoid(logit);
            return (score > self.score).then_some(score);
        }
        None
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + exp(-logit))
}

pub(super) fn class_thresholds(config: &DetectorConfig, task: usize) -> Vec<ScoreThreshold> {
    let DecodeConfig { score_threshold, class_thresholds, .. } = &config.decode;
    let threshold = |class: &String| class_thresholds.get(class).map_or(*score_threshold, |own| own.max(*score_threshold));
    config.network.head.tasks[task].classes.iter().map(|class| ScoreThreshold::new(threshold(class))).collect()
}

/// det3d: every cell with its best class, in order of cells. Of equal classes the first.
fn best_class_per_cell(heatmap: &[f32], thresholds: &[ScoreThreshold]) -> Vec<Peak> {
    let lowest = thresholds.iter().fold(f32::INFINITY, |lowest, t| lowest.min(t.logit));
    let mut peaks = Vec::new();
    for (cell, logits) in heatmap.chunks_exact(thresholds.len().max(1)).enumerate() {
        // Nearly all cells end here: none of their classes can pass, so the best one cannot.
        if !logits.iter().any(|&logit| logit > lowest) {
            continue;
        }
        let numbers = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
        if let Some((class, &logit)) = numbers.reduce(|best, next| if next.1 > best.1 { next } else { best })
            && let Some(score) = thresholds[class].pass(logit)
        {
            peaks.push(Peak { cell, class, score });
        }
    }
    peaks
}

/// OpenPCDet and mmdet3d: the best `count` pairs of class and cell, best first. Equal ones in order of class, then cell.
fn top_k(heatmap: &[f32], thresholds: &[ScoreThreshold], count: usize) -> Vec<Peak> {
    let mut peaks = Vec::new();
    let mut logits = Vec::new();
    for (class, threshold) in thresholds.iter().enumerate() {
        for (cell, &logit) in heatmap.iter().skip(class).step_by(thresholds.len()).enumerate() {
            if let Some(score) = threshold.pass(logit) {
                peaks.push(Peak { cell, class, score });
                logits.push(logit);
            }
        }
    }
    best_first(&logits, count).into_iter().map(|i| peaks[i]).collect()
}

/// A map of the shape that the configuration says.
fn map_of<'a>(config: &DetectorConfig, maps: &'a HeadMaps, task: usize, branch: BranchRole) -> Result<ArrayView3<'a, f32>, DecodeError> {
    let [nx, ny, _] = config.grid.cells();
    let factor = config.decode.out_size_factor;
    let role = format!("task{task}.{}", branch.name());
    maps.get(&role, [ny / factor, nx / factor, branch.channels(config.network.head.tasks[task].classes.len())])
}

impl<'a> TaskMaps<'a> {
    fn of(config: &DetectorConfig, maps: &'a HeadMaps, task: usize) -> Result<Self, DecodeError> {
        let map = |branch: BranchRole| map_of(config, maps, task, branch);
        let has_velocity = config.network.head.branches.iter().any(|b| b.role == BranchRole::Velocity);
        Ok(Self {
            heatmap: map(BranchRole::Heatmap)?,
            offset: map(BranchRole::Offset)?,
            height: map(BranchRole::Height)?,
            size: map(BranchRole::Size)?,
            rotation: map(BranchRole::Rotation)?,
            velocity: has_velocity.then(|| map(BranchRole::Velocity)).transpose()?,
        })
    }

    /// The box that a cell regresses. Its yaw is not wrapped.
    fn decode_box(&self, config: &DetectorConfig, cell: usize) -> Box3 {
        let (row, column) = (cell / self.heatmap.dim().1, cell % self.heatmap.dim().1);
        let at = |map: &ArrayView3<'_, f32>, channel: usize| map[[row, column, channel]];

        let DecodeConfig { out_size_factor, code, .. } = &config.decode;
        let along = |axis: usize, index: usize| {
            (index as f32 + at(&self.offset, axis)) * *out_size_factor as f32 * config.grid.voxel[axis] + config.grid.min[axis]
        };
        let center = [along(0, column), along(1, row), at(&self.height, 0)];
        let coded_size = [0, 1, 2].map(|i| exp(at(&self.size, i)));
        let [first, second] = [0, 1].map(|i| at(&self.rotation, i));
        let coded_yaw = match code.rotation {
            RotationOrder::SinCos => atan2(first, second),
            RotationOrder::CosSin => atan2(second, first),
        };
        let velocity = self.velocity.as_ref().map_or([0.0; 2], |map| [at(map, 0), at(map, 1)]);
        let (size, yaw) = size_and_yaw(code, coded_size, coded_yaw);
        Box3 { center, size, yaw, velocity }
    }
}

/// From a code base's own conventions to `[length, width, height]` and a counter-clockwise yaw, which is not wrapped.
pub(super) fn size_and_yaw(code: &BoxCode, size: [f32; 3], yaw: f32) -> ([f32; 3], f32) {
    let [first, second, height] = size;
    let size = match code.size {
        SizeOrder::Lwh => [first, second, height],
        SizeOrder::Wlh => [second, first, height],
    };
    let yaw = match code.yaw {
        YawConvention::CounterClockwise => yaw,
        YawConvention::Det3d => -yaw - FRAC_PI_2,
    };
    (size, yaw)
}

fn is_finite(b: &Box3) -> bool {
    b.center.iter().chain(&b.size).chain(&b.velocity).chain([&b.yaw]).all(|v| v.is_finite())
}

fn is_within(center: [f32; 3], [min, max]: [[f32; 3]; 2]) -> bool {
    (0..3).all(|axis| (min[axis]..=max[axis]).contains(&center[axis]))
}

impl Candidate {
    /// What the kernels see. Both are fed in the convention of [`Box3`]: OpenPCDet and mmdet3d share it, and det3d converts
    /// its boxes to it in front of the kernel.
    fn bev_box(&self) -> BevBox {
        let Box3 { center: [x, y, _], size: [length, width, _], yaw, .. } = self.bbox;
        BevBox { center: [x, y], size: [length, width], yaw }
    }

    pub fn detection(&self, first_label: usize) -> Detection {
        let bbox = Box3 { yaw: wrap_angle(self.bbox.yaw), ..self.bbox };
        Detection { bbox, score: self.score, label: first_label + self.class }
    }
}

impl HeadMaps {
    pub fn new() -> Self {
        Self::default()
    }

    /// From an engine's outputs by role, each `[1, height, width, channels]`.
    ///
    /// # Errors
    /// An output with another number of axes.
    pub fn from_outputs(outputs: impl IntoIterator<Item = (String, ArrayD<f32>)>) -> Result<Self, NetworkError> {
        let mut maps = Self::new();
        for (role, value) in outputs {
            maps.insert(role, value.into_dimensionality::<Ix4>()?.index_axis_move(Axis(0), 0));
        }
        Ok(maps)
    }

    /// Adds a map, `[height, width, channels]`, replacing one of the same role.
    pub fn insert(&mut self, role: impl Into<String>, map: Array3<f32>) {
        let map = if map.is_standard_layout() { map } else { map.as_standard_layout().into_owned() };
        self.maps.insert(role.into(), map);
    }

    /// A map of this role and size (height, width, channels) to be written, with whatever it holds: a map of another size makes
    /// room for zeros.
    pub fn slot(&mut self, role: &str, dim: [usize; 3]) -> &mut [f32] {
        if self.maps.get(role).is_none_or(|map| <[usize; 3]>::from(map.dim()) != dim) {
            self.maps.insert(role.to_owned(), Array3::zeros(dim));
        }
        let map = self.maps.get_mut(role).and_then(Array3::as_slice_mut);
        map.unwrap_or_default()
    }

    /// Role and map, in order of roles.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array3<f32>)> {
        self.maps.iter().map(|(role, map)| (role.as_str(), map))
    }

    fn get(&self, role: &str, expected: [usize; 3]) -> Result<ArrayView3<'_, f32>, DecodeError> {
        let map = self
            .maps
            .get(role)
            .ok_or_else(|| DecodeError::Missing { role: role.to_owned(), found: self.maps.keys().cloned().collect() })?;
        let found = map.dim().into();
        if found != expected {
            return Err(DecodeError::Shape { role: role.to_owned(), found, expected });
        }
        Ok(map.view())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::RotatedKernel;
    use crate::detect::test_support::{self, CodeBase};
    use std::f32::consts::PI;

    /// Maps of 6 x 4 head cells with everything below the threshold.
    fn quiet(code_base: CodeBase) -> (DetectorConfig, HeadMaps) {
        let mut config = test_support::config(code_base);
        config.grid.min = [0.0, 0.0, -5.0];
        config.grid.max = [3.2, 4.8, 3.0];
        let mut maps = HeadMaps::new();
        for (task, group) in config.network.head.tasks.iter().enumerate() {
            for branch in &config.network.head.branches {
                let value = if branch.role == BranchRole::Heatmap { -9.0 } else { 0.0 };
                let map = Array3::from_elem((6, 4, branch.role.channels(group.classes.len())), value);
                maps.insert(format!("task{task}.{}", branch.role.name()), map);
            }
        }
        (config, maps)
    }

    fn set(maps: &mut HeadMaps, role: &str, cell: [usize; 2], values: &[f32]) {
        for (channel, &value) in values.iter().enumerate() {
            maps.maps.get_mut(role).unwrap()[[cell[0], cell[1], channel]] = value;
        }
    }

    #[test]
    fn a_cell_becomes_the_box_it_regresses_in_every_convention() {
        // A truck 8 x 2 x 3 m at heading 30 degrees.
        let (sin, cos) = (PI / 6.0).sin_cos();
        for code_base in CodeBase::ALL {
            let (config, mut maps) = quiet(code_base);
            set(&mut maps, "task1.heatmap", [5, 2], &[1.0, 0.5]);
            set(&mut maps, "task1.offset", [5, 2], &[0.25, 0.75]);
            set(&mut maps, "task1.height", [5, 2], &[-1.5]);
            set(&mut maps, "task1.velocity", [5, 2], &[3.0, -4.0]);
            let (size, rotation) = match code_base {
                // yaw_det3d = -yaw - pi/2: sine -cos(yaw), cosine -sin(yaw).
                CodeBase::Det3d => ([2f32, 8.0, 3.0], [-cos, -sin]),
                CodeBase::OpenPcdet => ([8.0, 2.0, 3.0], [cos, sin]),
                CodeBase::Mmdet3d => ([8.0, 2.0, 3.0], [sin, cos]),
            };
            set(&mut maps, "task1.size", [5, 2], &size.map(f32::ln));
            set(&mut maps, "task1.rotation", [5, 2], &rotation);
            let output = decode(&config, &maps).unwrap();
            // The second class of the cell is a candidate only where pairs compete; it is suppressed by the first.
            assert_eq!(output.candidates, if code_base == CodeBase::Det3d { 1 } else { 2 });
            let [Detection { bbox, score, label }] = output.detections[..] else { panic!("{output:?}") };
            assert_eq!(label, 1);
            assert!((score - 0.731_058_6).abs() < 1e-6);
            let got = [bbox.center[0], bbox.center[1], bbox.center[2], bbox.size[0], bbox.size[1], bbox.size[2], bbox.yaw];
            let expected = [1.8, 4.6, -1.5, 8.0, 2.0, 3.0, PI / 6.0];
            assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-5), "{code_base:?} {got:?}");
            assert_eq!(bbox.velocity, [3.0, -4.0]);
        }
    }

    #[test]
    fn without_a_velocity_branch_boxes_stand_still() {
        let (mut config, mut maps) = quiet(CodeBase::Det3d);
        set(&mut maps, "task0.heatmap", [1, 1], &[2.0]);
        set(&mut maps, "task0.velocity", [1, 1], &[3.0, 4.0]);
        assert_eq!(decode(&config, &maps).unwrap().detections[0].bbox.velocity, [3.0, 4.0]);
        config.network.head.branches.retain(|b| b.role != BranchRole::Velocity);
        assert_eq!(decode(&config, &maps).unwrap().detections[0].bbox.velocity, [0.0, 0.0]);
    }

    #[test]
    fn thresholds_are_exclusive_and_may_differ_by_class() {
        let (mut config, mut maps) = quiet(CodeBase::OpenPcdet);
        config.decode.score_threshold = 0.5;
        config.decode.class_thresholds.insert("bus".into(), 0.7);
        config.decode.class_thresholds.insert("pedestrian".into(), 0.3); // cannot undercut the general one
        set(&mut maps, "task0.heatmap", [0, 0], &[0.0]); // 0.5 exactly
        set(&mut maps, "task2.heatmap", [0, 0], &[0.7, -9.0]); // bus 0.668
        set(&mut maps, "task2.heatmap", [5, 3], &[0.9, -9.0]); // bus 0.711
        set(&mut maps, "task2.heatmap", [0, 3], &[-9.0, 0.7]); // trailer 0.668
        set(&mut maps, "task5.heatmap", [0, 0], &[-0.4, -9.0]); // pedestrian 0.4
        let labels: Vec<usize> = decode(&config, &maps).unwrap().detections.iter().map(|d| d.label).collect();
        assert_eq!(labels, [3, 4]);
    }

    #[test]
    fn a_logit_bound_never_hides_a_score_that_passes() {
        for threshold in [-0.5, 0.0, 1e-30, 1e-6, 0.1, 0.5, 0.97, 0.999_899, 0.9999, 0.999_999_9, 1.0, 2.0] {
            let passes = ScoreThreshold::new(threshold);
            for logit in (-120_000..120_000).map(|i| i as f32 * 1e-3).chain([f32::MAX, f32::MIN, f32::INFINITY]) {
                let expected = sigmoid(logit) > threshold;
                assert_eq!(passes.pass(logit).is_some(), expected, "threshold {threshold}, logit {logit}");
            }
            assert!(passes.pass(f32::NAN).is_none());
        }
    }

    #[test]
    fn top_k_counts_over_classes_and_ties_follow_class_then_cell() {
        let (mut config, mut maps) = quiet(CodeBase::Mmdet3d);
        config.decode.nms = Nms::Rotated { pre: 9, post: 9, threshold: 1.0, kernel: RotatedKernel::Iou3d };
        config.decode.candidates = Candidates::TopK { count: 3 };
        set(&mut maps, "task5.heatmap", [0, 1], &[1.0, 2.0]);
        set(&mut maps, "task5.heatmap", [4, 1], &[1.0, 1.0]);
        let output = decode(&config, &maps).unwrap();
        let order: Vec<(usize, f32)> = output.detections.iter().map(|d| (d.label, d.bbox.center[1])).collect();
        assert_eq!(order, [(9, 0.0), (8, 0.0), (8, 3.2)]);
    }

    #[test]
    fn a_missing_or_misshapen_map_is_named() {
        let (config, mut maps) = quiet(CodeBase::Det3d);
        maps.insert("task3.size", Array3::zeros((6, 4, 2)));
        let error = decode(&config, &maps).unwrap_err();
        assert_eq!(error, DecodeError::Shape { role: "task3.size".into(), found: [6, 4, 2], expected: [6, 4, 3] });
        maps.maps.remove("task2.velocity");
        assert!(matches!(decode(&config, &maps), Err(DecodeError::Missing { role, .. }) if role == "task2.velocity"));
    }

    #[test]
    fn hostile_maps_give_finite_boxes_or_none() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 0.0, 3.0];
        for code_base in CodeBase::ALL {
            for circle in [false, true] {
                let (mut config, mut maps) = quiet(code_base);
                if circle {
                    config.decode.nms = Nms::Circle { post: 9, min_radius: vec![4.0; 6] };
                }
                let mut turn = 0;
                for map in maps.maps.values_mut() {
                    turn += 1;
                    for (i, v) in map.iter_mut().enumerate() {
                        *v = values[(i * turn + i / 5) % values.len()];
                    }
                }
                let output = decode(&config, &maps).unwrap();
                assert!(output.detections.iter().all(|d| is_finite(&d.bbox) && d.score > 0.1 && d.score <= 1.0));
                assert!(output.non_finite > 0);
            }
        }
    }

    #[test]
    fn a_configuration_that_contradicts_itself_is_refused() {
        let (mut config, maps) = quiet(CodeBase::Mmdet3d);
        config.decode.nms = Nms::Circle { post: 9, min_radius: vec![4.0; 5] };
        assert_eq!(decode(&config, &maps), Err(DecodeError::MinRadius { found: 5, expected: 6 }));
        config.decode.out_size_factor = 0;
        assert_eq!(decode(&config, &maps), Err(DecodeError::OutSizeFactor));
    }
}
