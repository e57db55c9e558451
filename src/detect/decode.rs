//! From head maps to boxes, step by step as the public code bases do it; where they differ, [`DecodeConfig`] says how.
//!
//! Scores are sigmoids, sizes exponentials, headings arctangents, all in f32 and in the originals' order of operations.

use super::elementary::{atan2, exp};
use super::nms::{circle_nms, rotated_nms};
use super::peaks::{Peak, Peaks};
use super::rotated_iou::BevBox;
use super::{BoxCode, DecodeConfig, Detection, DetectorConfig, HeadMaps, Nms, RotationOrder, SizeOrder, YawConvention};
use crate::geometry::{Box3, wrap_angle};
use crate::networks::centerpoint::BranchRole;
use ndarray::ArrayView3;
use std::f32::consts::FRAC_PI_2;

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

/// The candidates of a task whose box is finite and within the range, and how many boxes were not finite. In order of cells
/// or best first, as [`Candidates`] says.
pub(super) fn task_candidates(
    config: &DetectorConfig,
    maps: &HeadMaps,
    task: usize,
    peaks: &Peaks,
) -> Result<(Vec<Candidate>, usize), DecodeError> {
    let (maps, peaks) = (TaskMaps::of(config, maps, task)?, peaks.of_task(task));
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

impl<'a> TaskMaps<'a> {
    fn of(config: &DetectorConfig, maps: &'a HeadMaps, task: usize) -> Result<Self, DecodeError> {
        let map = |branch: BranchRole| maps.of_task(config, task, branch);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{self, CodeBase};
    use crate::detect::{Candidates, RotatedKernel};
    use ndarray::Array3;
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
