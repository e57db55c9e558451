//! CenterPoint's heads as a task: scores at centres, and boxes where scores are.

use super::CalibrationError;
use super::task::{Labels, Outputs, Task};
use crate::detect::{Candidates, DecodeConfig, DetectorConfig, HeadMaps, decode};
use crate::networks::centerpoint::{BranchRole, output_role};
use crate::train::{LossConfig, Targets, TrainingBox, targets, task_loss};
use ndarray::{Array4, ArrayD, ArrayView4, Axis, Ix4, Zip};
use std::collections::BTreeMap;

/// LiDAR-PTQ's gamma and K, CenterPoint's own: boxes are made of the so many best scores above this.
const LEAST_SCORE: f32 = 0.1;
const MOST_BOXES: usize = 500;

/// The heads of a CenterPoint.
#[derive(Clone, Debug)]
pub struct CenterTask {
    /// With the decoder that makes pseudo-boxes.
    config: DetectorConfig,
    /// What a squared error of a box's number costs beside one of a score's logit, each in its own unit (cells, metres,
    /// logarithms, m/s).
    box_weight: f32,
}

impl CenterTask {
    pub fn new(config: &DetectorConfig) -> Self {
        let candidates = Candidates::TopK { count: MOST_BOXES };
        let own = config.decode.clone();
        let decode = DecodeConfig { candidates, score_threshold: LEAST_SCORE, class_thresholds: BTreeMap::new(), ..own };
        Self { config: DetectorConfig { decode, ..config.clone() }, box_weight: 1.0 }
    }

    /// The branches of a task's head, in the head's order, with the roles of their outputs.
    fn branches(&self, task: usize) -> impl Iterator<Item = (BranchRole, String)> {
        self.config.network.head.branches.iter().map(move |b| (b.role, output_role(task, b.role)))
    }

    /// Targets of the boxes that the float network's outputs decode to. What a box's numbers should be are that network's own
    /// at the box's cell: a box drawn there and back would lose the length of its heading's vector.
    fn pseudo_targets(&self, teacher: &Outputs) -> Result<Targets, CalibrationError> {
        let maps = HeadMaps::from_outputs(teacher.clone()).map_err(|error| CalibrationError::Task(error.to_string()))?;
        let size = maps.iter().next().map_or([0; 2], |(_, map)| [map.dim().0, map.dim().1]);
        // The maps may be a window of the whole.
        let mut config = self.config.clone();
        for (axis, cells) in [(0, size[1]), (1, size[0])] {
            config.grid.max[axis] = config.grid.min[axis] + (cells * config.decode.out_size_factor) as f32 * config.grid.voxel[axis];
        }
        let config = &config;
        let found = decode(config, &maps).map_err(|error| CalibrationError::Task(error.to_string()))?;
        let boxes = found.detections.iter().map(|d| TrainingBox { bbox: d.bbox, label: d.label, has_velocity: true });
        let mut made = targets(config, size, &boxes.collect::<Vec<_>>());
        for (task, made) in made.tasks.iter_mut().enumerate() {
            for (branch, (_, role)) in self.branches(task).enumerate() {
                let Some(map) = teacher.get(&role) else { continue };
                for object in &mut made.objects {
                    let [y, x] = object.cell;
                    object.values[branch].iter_mut().enumerate().for_each(|(c, value)| *value = map[[0, y, x, c]]);
                }
            }
        }
        Ok(made)
    }
}

impl Task for CenterTask {
    /// The curvature `p (1 - p)` of a logit's cross-entropy from the float model's own score `p` (a soft label); for the numbers of
    /// a box, its score, as the loss of a box counts where there is one.
    fn importance(&self, teacher: &Outputs) -> Outputs {
        let mut all = BTreeMap::new();
        for task in 0..self.config.network.head.tasks.len() {
            let heatmap = output_role(task, BranchRole::Heatmap);
            let Some(logits) = teacher.get(&heatmap) else { continue };
            let scores = logits.mapv(sigmoid);
            let classes = Axis(scores.ndim() - 1);
            let best = scores.map_axis(classes, |s| s.iter().fold(0f32, |m, &x| m.max(x)));
            let counts = best.mapv(|p| if p > LEAST_SCORE { self.box_weight * p } else { 0.0 });
            for (_, role) in self.branches(task).filter(|(role, _)| *role != BranchRole::Heatmap) {
                if let Some(values) = teacher.get(&role) {
                    let mut weights = ArrayD::zeros(values.raw_dim());
                    weights.axis_iter_mut(Axis(values.ndim() - 1)).for_each(|mut part| part.assign(&counts));
                    all.insert(role, weights);
                }
            }
            all.insert(heatmap, scores.mapv(|p| p * (1.0 - p)));
        }
        all
    }

    /// For hard labels CenterPoint's own loss: focal for scores, L1 for boxes at the cells of pseudo-boxes, divided by their number.
    /// For soft ones the divergence of the scores at every cell instead, which is least at the float network's own.
    fn loss(&self, labels: Labels, teacher: &Outputs, outputs: &Outputs) -> Result<(f64, Outputs), CalibrationError> {
        let (mut total, mut gradients) = (0.0, Outputs::new());
        let made = match labels {
            Labels::Scores { .. } => None,
            Labels::Hard | Labels::Soft => Some([self.pseudo_targets(teacher)?]),
        };
        for task in 0..self.config.network.head.tasks.len() {
            let heatmap = output_role(task, BranchRole::Heatmap);
            let maps = self.branches(task).map(|(_, role)| map(outputs, &role)).collect::<Result<Vec<_>, _>>()?;
            let objects = made.as_ref().map_or(0, |made| made[0].tasks[task].objects.len());
            if let Some(made) = &made {
                let (loss, grads) = task_loss(&self.config.network.head, &LossConfig::default(), task, made, &maps);
                total += loss.location;
                if labels == Labels::Hard {
                    total += loss.heatmap;
                }
                gradients.extend(self.branches(task).map(|(_, role)| role).zip(grads.into_iter().map(Array4::into_dyn)));
            }
            let (temperature, share) = match labels {
                Labels::Hard => continue,
                Labels::Soft => (1.0, 1.0 / objects.max(1) as f32),
                Labels::Scores { temperature } => {
                    let logits = map(outputs, &heatmap)?;
                    (temperature, 1.0 / (logits.len() / logits.len_of(Axis(3)).max(1)).max(1) as f32)
                }
            };
            let (loss, grad) = divergence(&map(teacher, &heatmap)?, &map(outputs, &heatmap)?, temperature, share);
            total += loss;
            gradients.insert(heatmap, grad.into_dyn());
        }
        Ok((total, gradients))
    }
}

fn map<'a>(outputs: &'a Outputs, role: &str) -> Result<ArrayView4<'a, f32>, CalibrationError> {
    let found = outputs.get(role).ok_or_else(|| CalibrationError::Task(format!("the network gave no map `{role}`")))?;
    found.view().into_dimensionality::<Ix4>().map_err(|_| CalibrationError::Task(format!("`{role}` has {} axes, expected 4", found.ndim())))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Sum over all numbers of the Kullback-Leibler divergence of the score that a logit means from the teacher's, both divided by a
/// temperature, times `share`.
fn divergence(teacher: &ArrayView4<'_, f32>, logits: &ArrayView4<'_, f32>, temperature: f32, share: f32) -> (f64, Array4<f32>) {
    // ln(1 + e^x), without overflow
    let softplus = |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let mut gradient = Array4::zeros(logits.raw_dim());
    let mut total = 0.0;
    Zip::from(&mut gradient).and(teacher).and(logits).for_each(|g, &a, &b| {
        let (a, b) = (a / temperature, b / temperature);
        let score = sigmoid(a);
        total += f64::from(score * (a - b) + softplus(b) - softplus(a));
        *g = (sigmoid(b) - score) / temperature * share;
    });
    (total * f64::from(share), gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{self, CodeBase};
    use crate::random::Rng;

    /// Six tasks on 128 x 128 cells with some objects above the threshold.
    fn case() -> (CenterTask, Outputs, Outputs) {
        let task = CenterTask::new(&test_support::config(CodeBase::Det3d));
        let mut rng = Rng::new(8, "center task");
        let mut teacher = Outputs::new();
        for (t, group) in task.config.network.head.tasks.iter().enumerate() {
            for (role, name) in task.branches(t) {
                let channels = role.channels(group.classes.len());
                let mut map = ArrayD::from_shape_simple_fn(vec![1, 128, 128, channels], || rng.range(0.0, 1.0));
                if role == BranchRole::Heatmap {
                    map.mapv_inplace(|x| if x > 0.9995 { 1.0 } else { -6.0 });
                }
                teacher.insert(name, map);
            }
        }
        let outputs = teacher.iter().map(|(role, map)| (role.clone(), map.mapv(|x| x + rng.range(-0.3, 0.3)))).collect();
        (task, teacher, outputs)
    }

    #[test]
    fn gradients_are_central_differences() {
        let (task, teacher, outputs) = case();
        for labels in [Labels::Hard, Labels::Soft, Labels::Scores { temperature: 4.0 }] {
            let (loss, gradients) = task.loss(labels, &teacher, &outputs).expect("fits");
            assert!(loss > 0.0, "{labels:?}");
            for (role, gradient) in &gradients {
                // Where the gradient is greatest, a difference of the sums can be seen.
                let at = (0..gradient.len()).max_by(|&a, &b| f32::total_cmp(&value(gradient, a).abs(), &value(gradient, b).abs()));
                let at = at.expect("not empty");
                let moved = |by: f32| {
                    let mut outputs = outputs.clone();
                    outputs.get_mut(role).expect("there").as_slice_mut().expect("dense")[at] += by;
                    task.loss(labels, &teacher, &outputs).expect("fits").0
                };
                let (expected, found) = ((moved(5e-3) - moved(-5e-3)) / 1e-2, f64::from(value(gradient, at)));
                assert!((expected - found).abs() < 1e-3 + 0.02 * found.abs(), "{labels:?} {role}: {found} {expected}");
            }
        }
    }

    fn value(map: &ArrayD<f32>, at: usize) -> f32 {
        map.as_slice().expect("dense")[at]
    }

    /// Soft labels are met by the float network itself. Hard ones are not: its scores of 0.73 should be 1.
    #[test]
    fn only_soft_labels_are_met_by_the_teacher() {
        let (task, teacher, _) = case();
        for labels in [Labels::Soft, Labels::Scores { temperature: 4.0 }] {
            let (loss, gradients) = task.loss(labels, &teacher, &teacher).expect("fits");
            assert!(loss.abs() < 1e-6 && gradients.values().flatten().all(|g| g.abs() < 1e-6), "{labels:?}: {loss}");
        }
        let (loss, gradients) = task.loss(Labels::Hard, &teacher, &teacher).expect("fits");
        let pulled_up = gradients["task0.heatmap"].iter().zip(&teacher["task0.heatmap"]).filter(|(g, x)| **x > 0.0 && **g < -1e-4).count();
        assert!(loss > 0.0 && pulled_up > 0, "{loss} {pulled_up}");
        // Boxes are where they should be.
        assert!(gradients["task0.offset"].iter().all(|g| *g == 0.0));
    }
}
