//! Whole frames on a GPU: the detector's rules in the engine's plain numbers, and the engine's boxes as the detector's.

use super::decode::{Candidate, DecodeOutput};
use super::peaks::class_thresholds;
use super::{
    Candidates, DetectorConfig, Nms, PillarReport, RotatedKernel, RotationOrder, SizeOrder, Voxelization, WholeFrame, YawConvention,
};
use crate::engine::int8::cuda::{BoxRules, DeviceBox, FrameResult, FrameRules, PillarRules, PointRules, Suppression, TaskRules};
use crate::geometry::Box3;
use crate::networks::centerpoint::BranchRole;

/// What a device has to do before and behind the network.
pub(super) fn rules(config: &DetectorConfig) -> FrameRules {
    FrameRules { points: point_rules(config), boxes: box_rules(config) }
}

fn point_rules(config: &DetectorConfig) -> PointRules {
    let (grid, [nx, ny, _]) = (config.grid, config.grid.cells());
    PointRules {
        channels: config.points.features.len(),
        center_offsets: config.network.encoder.center_offsets,
        cells: [nx, ny],
        min: grid.min,
        max: [grid.max[0], grid.max[1]],
        voxel: grid.voxel,
        first_center: grid.first_center(),
        pillars: match config.voxelization {
            Voxelization::Hard { max_points, max_pillars } => PillarRules::Hard { max_points, max_pillars },
            Voxelization::Dynamic { test_z } => PillarRules::Dynamic { test_z },
        },
    }
}

fn box_rules(config: &DetectorConfig) -> BoxRules {
    let (decode, [nx, ny, _]) = (&config.decode, config.grid.cells());
    let factor = decode.out_size_factor;
    let (suppression, post) = match &decode.nms {
        Nms::Circle { post, .. } => (Suppression::Near, *post),
        &Nms::Rotated { pre, post, threshold, kernel: RotatedKernel::Iou3d } => (Suppression::Iou3d { pre, threshold }, post),
        &Nms::Rotated { pre, post, threshold, kernel: RotatedKernel::Mmcv } => (Suppression::Mmcv { pre, threshold }, post),
    };
    let task = |task: usize| {
        let role = |branch: BranchRole| format!("task{task}.{}", branch.name());
        let has_velocity = config.network.head.branches.iter().any(|b| b.role == BranchRole::Velocity);
        TaskRules {
            heatmap: role(BranchRole::Heatmap),
            offset: role(BranchRole::Offset),
            height: role(BranchRole::Height),
            size: role(BranchRole::Size),
            rotation: role(BranchRole::Rotation),
            velocity: has_velocity.then(|| role(BranchRole::Velocity)),
            thresholds: class_thresholds(config, task).iter().map(|t| [t.score, t.logit]).collect(),
            min_radius: match &decode.nms {
                Nms::Circle { min_radius, .. } => min_radius.get(task).copied().unwrap_or(0.0),
                Nms::Rotated { .. } => 0.0,
            },
        }
    };
    BoxRules {
        tasks: (0..config.network.head.tasks.len()).map(task).collect(),
        height: ny / factor,
        width: nx / factor,
        top_k: match decode.candidates {
            Candidates::BestClassPerCell => None,
            Candidates::TopK { count } => Some(count),
        },
        cosine_first: decode.code.rotation == RotationOrder::CosSin,
        width_first: decode.code.size == SizeOrder::Wlh,
        det3d_yaw: decode.code.yaw == YawConvention::Det3d,
        factor,
        voxel: [config.grid.voxel[0], config.grid.voxel[1]],
        min: [config.grid.min[0], config.grid.min[1]],
        range: decode.post_range,
        suppression,
        post,
    }
}

/// A device's result as the stages would have given it.
pub(super) fn whole_frame(config: &DetectorConfig, points: usize, result: &FrameResult) -> WholeFrame {
    let pillars = PillarReport {
        points,
        non_finite: result.non_finite,
        in_range: result.in_range,
        kept: result.kept,
        pillars: result.pillars,
        full_pillars: result.full_pillars,
        dropped_by_max_points: result.assigned - result.kept,
        dropped_by_max_pillars: result.in_range - result.assigned,
    };
    let mut decoded = DecodeOutput::default();
    let mut first_label = 0;
    for (task, group) in result.tasks.iter().zip(&config.network.head.tasks) {
        decoded.candidates += task.candidates;
        decoded.non_finite += task.non_finite;
        decoded.detections.extend(task.boxes.iter().map(|found| candidate(found).detection(first_label)));
        first_label += group.classes.len();
    }
    decoded.sort();
    WholeFrame { pillars, decoded }
}

fn candidate(found: &DeviceBox) -> Candidate {
    let &DeviceBox { center, size, yaw, velocity, score, class } = found;
    Candidate { bbox: Box3 { center, size, yaw, velocity }, score, class, cell: 0 }
}
