//! What the head maps should say: CenterPoint's Gaussians and regression targets (det3d `preprocess.py`, `center_utils.py`).

use crate::detect::{DetectorConfig, RotationOrder, SizeOrder, YawConvention};
use crate::geometry::Box3;
use crate::networks::centerpoint::BranchRole;
use ndarray::{Array3, ArrayViewMut2};
use std::f32::consts::FRAC_PI_2;

/// A labelled object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingBox {
    pub bbox: Box3,
    /// Position in [`DetectorConfig::classes`].
    pub label: usize,
    /// Whether `bbox.velocity` is known.
    pub has_velocity: bool,
}

/// Targets of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    pub tasks: Vec<TaskTargets>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskTargets {
    /// `[height, width, classes]`, 1 at centres, Gaussian around them.
    pub heatmap: Array3<f32>,
    pub objects: Vec<ObjectTarget>,
}

/// Regression targets of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectTarget {
    /// Cell of the head map: y, x.
    pub cell: [usize; 2],
    /// Class within the task.
    pub class: usize,
    /// For each regression branch of the head, in its order; empty for the heat map. NaN where nothing is known.
    pub values: Vec<Vec<f32>>,
}

/// Overlap that a box shifted by the Gaussian's radius keeps (all three code bases).
const MIN_OVERLAP: f32 = 0.1;
const MIN_RADIUS: usize = 2;
/// Objects a task keeps (all three code bases).
const MAX_OBJECTS: usize = 500;

/// Targets of one sample on head maps of `map` = [height, width] cells.
pub(crate) fn targets(config: &DetectorConfig, map: [usize; 2], boxes: &[TrainingBox]) -> Targets {
    let mut first = 0;
    let tasks = config.network.head.tasks.iter().map(|task| {
        let labels = first..first + task.classes.len();
        first = labels.end;
        let mut heatmap = Array3::zeros((map[0], map[1], labels.len()));
        let mut objects = Vec::new();
        for object in boxes.iter().filter(|b| labels.contains(&b.label)).take(MAX_OBJECTS) {
            let class = object.label - labels.start;
            if let Some(target) = object_target(config, map, object, class) {
                let radius = radius_in_cells(config, &object.bbox);
                draw_gaussian(heatmap.index_axis_mut(ndarray::Axis(2), class), target.cell, radius);
                objects.push(target);
            }
        }
        TaskTargets { heatmap, objects }
    });
    Targets { tasks: tasks.collect() }
}

/// `None` for a box whose centre lies outside the map or that has no size.
fn object_target(config: &DetectorConfig, map: [usize; 2], object: &TrainingBox, class: usize) -> Option<ObjectTarget> {
    let factor = config.decode.out_size_factor as f32;
    let Box3 { center, size, yaw, velocity } = object.bbox;
    if size.iter().any(|&s| s.is_nan() || s <= 0.0) {
        return None;
    }
    let position = [0, 1].map(|i| (center[i] - config.grid.min[i]) / (config.grid.voxel[i] * factor));
    let inside = |i: usize, cells: usize| position[i] >= 0.0 && position[i] < cells as f32;
    if !(inside(0, map[1]) && inside(1, map[0])) {
        return None;
    }
    let cell = [position[1] as usize, position[0] as usize];
    let code = config.decode.code;
    let values = config.network.head.branches.iter().map(|branch| match branch.role {
        BranchRole::Heatmap => vec![],
        BranchRole::Offset => vec![position[0].fract(), position[1].fract()],
        BranchRole::Height => vec![center[2]],
        BranchRole::Size => {
            let [l, w, h] = size.map(f32::ln);
            match code.size {
                SizeOrder::Lwh => vec![l, w, h],
                SizeOrder::Wlh => vec![w, l, h],
            }
        }
        BranchRole::Rotation => {
            let yaw = match code.yaw {
                YawConvention::CounterClockwise => yaw,
                YawConvention::Det3d => -yaw - FRAC_PI_2,
            };
            match code.rotation {
                RotationOrder::SinCos => vec![yaw.sin(), yaw.cos()],
                RotationOrder::CosSin => vec![yaw.cos(), yaw.sin()],
            }
        }
        BranchRole::Velocity => {
            if object.has_velocity {
                velocity.to_vec()
            } else {
                vec![f32::NAN; 2]
            }
        }
    });
    Some(ObjectTarget { cell, class, values: values.collect() })
}

fn radius_in_cells(config: &DetectorConfig, bbox: &Box3) -> usize {
    let factor = config.decode.out_size_factor as f32;
    let length = bbox.size[0] / (config.grid.voxel[0] * factor);
    let width = bbox.size[1] / (config.grid.voxel[1] * factor);
    (gaussian_radius(length, width) as usize).max(MIN_RADIUS)
}

/// CornerNet's radius *as every code base has it*: the roots are not divided by the leading coefficient.
fn gaussian_radius(length: f32, width: f32) -> f32 {
    let (sum, area, overlap) = (length + width, length * width, MIN_OVERLAP);
    let root = |a: f32, b: f32, c: f32| (b + (b * b - 4.0 * a * c).max(0.0).sqrt()) / 2.0;
    let first = root(1.0, sum, area * (1.0 - overlap) / (1.0 + overlap));
    let second = root(4.0, 2.0 * sum, (1.0 - overlap) * area);
    let third = root(4.0 * overlap, -2.0 * overlap * sum, (overlap - 1.0) * area);
    first.min(second).min(third)
}

/// Raises the map to a Gaussian of 6 sigma = 2 radius + 1 around `cell`.
fn draw_gaussian(mut map: ArrayViewMut2<'_, f32>, cell: [usize; 2], radius: usize) {
    let sigma = (2 * radius + 1) as f32 / 6.0;
    let span = |at: usize, len: usize| at.saturating_sub(radius)..(at + radius + 1).min(len);
    for y in span(cell[0], map.nrows()) {
        for x in span(cell[1], map.ncols()) {
            let (dy, dx) = (y as f32 - cell[0] as f32, x as f32 - cell[1] as f32);
            let value = (-(dx * dx + dy * dy) / (2.0 * sigma * sigma)).exp();
            // det3d drops what is below the machine epsilon; it never is within three sigma.
            map[[y, x]] = map[[y, x]].max(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Detection, HeadMaps, test_support};

    fn car(x: f32, y: f32, yaw: f32, label: usize) -> TrainingBox {
        let bbox = Box3 { center: [x, y, -1.0], size: [4.6, 2.0, 1.7], yaw, velocity: [3.0, -1.0] };
        TrainingBox { bbox, label, has_velocity: true }
    }

    /// What `det3d.core.utils.center_utils.gaussian_radius` gives, worked out from its text by hand for two sizes.
    #[test]
    fn radius_of_known_sizes() {
        // 10 x 4 cells: the third root is the least, (-2.8 + sqrt(2.8^2 + 4 * 0.4 * 36)) / 2.
        assert!((gaussian_radius(10.0, 4.0) - 2.644_75).abs() < 1e-4, "{}", gaussian_radius(10.0, 4.0));
        // Symmetric in its arguments.
        assert_eq!(gaussian_radius(3.0, 8.0), gaussian_radius(8.0, 3.0));
    }

    #[test]
    fn gaussians_are_one_at_the_centre_and_keep_the_larger_value() {
        let config = test_support::config(test_support::CodeBase::Det3d);
        let t = targets(&config, [128, 128], &[car(10.0, -20.0, 0.3, 0), car(11.0, -20.0, 0.3, 0), car(99.0, 0.0, 0.0, 0)]);
        let map = &t.tasks[0].heatmap;
        assert_eq!(t.tasks[0].objects.len(), 2, "the one outside the map is left out");
        assert_eq!(map.iter().filter(|&&v| v == 1.0).count(), 2);
        assert!(map.iter().all(|v| (0.0..=1.0).contains(v)));
        let [y, x] = t.tasks[0].objects[0].cell;
        assert_eq!([y, x], [((-20.0f32 + 51.2) / 0.8) as usize, ((10.0f32 + 51.2) / 0.8) as usize]);
        // One cell aside, sigma = 5/6: exp(-1 / (2 * 25/36)).
        assert!((map[[y - 1, x, 0]] - (-0.72f32).exp()).abs() < 1e-6);
        assert!(t.tasks[1..].iter().all(|t| t.objects.is_empty()));
    }

    /// Perfect head maps must decode to the boxes that made them, in every convention.
    #[test]
    fn decoding_undoes_encoding() {
        for code_base in [test_support::CodeBase::Det3d, test_support::CodeBase::OpenPcdet, test_support::CodeBase::Mmdet3d] {
            let config = test_support::config(code_base);
            let boxes = [car(10.0, -20.0, 0.3, 0), car(-30.3, 5.5, -2.9, 3), car(0.4, 40.0, 1.6, 8)];
            let t = targets(&config, [128, 128], &boxes);
            let mut maps = HeadMaps::new();
            for (task, (targets, group)) in t.tasks.iter().zip(&config.network.head.tasks).enumerate() {
                for (b, branch) in config.network.head.branches.iter().enumerate() {
                    let mut map = Array3::zeros((128, 128, branch.role.channels(group.classes.len())));
                    if branch.role == BranchRole::Heatmap {
                        map.fill(-9.0);
                    }
                    for object in &targets.objects {
                        let [y, x] = object.cell;
                        match branch.role {
                            BranchRole::Heatmap => map[[y, x, object.class]] = 3.0,
                            _ => object.values[b].iter().enumerate().for_each(|(c, &v)| map[[y, x, c]] = v),
                        }
                    }
                    maps.insert(format!("task{task}.{}", branch.role.name()), map);
                }
            }
            let found: Vec<Detection> = crate::detect::decode(&config, &maps).unwrap().detections;
            assert_eq!(found.len(), boxes.len());
            for want in boxes {
                let got = found.iter().find(|d| d.label == want.label).unwrap();
                for i in 0..3 {
                    assert!((got.bbox.center[i] - want.bbox.center[i]).abs() < 1e-4 && (got.bbox.size[i] - want.bbox.size[i]).abs() < 1e-4);
                }
                assert!(crate::geometry::wrap_angle(got.bbox.yaw - want.bbox.yaw).abs() < 1e-4, "{code_base:?}");
                assert_eq!(got.bbox.velocity, want.bbox.velocity);
            }
        }
    }
}
