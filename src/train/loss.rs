//! CenterPoint's losses with their gradients (det3d `centernet_loss.py`, `center_head.py`).

use super::targets::{Targets, TaskTargets};
use crate::networks::centerpoint::{BranchRole, Head};
use ndarray::{Array4, ArrayView4};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Of the regression terms against the heat map's: 0.25 for nuScenes, 2 for Waymo.
    pub location_weight: f32,
    /// Of velocity within the regression terms; every other code weighs 1.
    pub velocity_weight: f32,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { location_weight: 0.25, velocity_weight: 0.2 }
    }
}

/// The loss of one task over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TaskLoss {
    pub heatmap: f64,
    pub location: f64,
    pub objects: usize,
}

/// The loss of one task and the gradient of each of its branches.
///
/// `outputs` are the branches' maps, `[batch, height, width, channels]`, in the head's order; gradients come back alike.
pub(crate) fn task_loss(
    head: &Head,
    config: &LossConfig,
    task: usize,
    targets: &[Targets],
    outputs: &[ArrayView4<'_, f32>],
) -> (TaskLoss, Vec<Array4<f32>>) {
    let targets: Vec<&TaskTargets> = targets.iter().map(|t| &t.tasks[task]).collect();
    let objects: usize = targets.iter().map(|t| t.objects.len()).sum();
    let mut loss = TaskLoss { objects, ..TaskLoss::default() };
    let mut grads = Vec::with_capacity(outputs.len());
    for (branch, (role, output)) in head.branches.iter().map(|b| b.role).zip(outputs).enumerate() {
        let mut grad = Array4::zeros(output.raw_dim());
        if role == BranchRole::Heatmap {
            loss.heatmap += focal(output, &targets, objects, &mut grad);
        } else {
            let weight = config.location_weight * if role == BranchRole::Velocity { config.velocity_weight } else { 1.0 };
            loss.location += l1(output, &targets, branch, weight / (objects as f32 + 1e-4), &mut grad);
        }
        grads.push(grad);
    }
    (loss, grads)
}

/// Probabilities are clamped to this and one minus this; beyond, the gradient is 0 (all three code bases).
const CLAMP: f32 = 1e-4;

/// Penalty-reduced focal loss. Only the objects' own centre cells are positives (det3d); divided by their number.
fn focal(logits: &ArrayView4<'_, f32>, targets: &[&TaskTargets], objects: usize, grad: &mut Array4<f32>) -> f64 {
    let scale = 1.0 / objects.max(1) as f32;
    let mut loss = 0.0f64;
    for (sample, target) in targets.iter().enumerate() {
        let logits = logits.index_axis(ndarray::Axis(0), sample);
        let mut grad = grad.index_axis_mut(ndarray::Axis(0), sample);
        for ((g, &x), &y) in grad.iter_mut().zip(logits.iter()).zip(target.heatmap.iter()) {
            let (p, inside) = probability(x);
            let weight = (1.0 - y).powi(4);
            loss -= f64::from((1.0 - p).ln() * p * p * weight * scale);
            if inside {
                *g = weight * (p * p * p - 2.0 * p * p * (1.0 - p) * (1.0 - p).ln()) * scale;
            }
        }
        for object in &target.objects {
            let at = [object.cell[0], object.cell[1], object.class];
            let (p, inside) = probability(logits[at]);
            let q = 1.0 - p;
            loss -= f64::from(p.ln() * q * q * scale);
            if inside {
                grad[at] += (2.0 * p * q * q * p.ln() - q * q * q) * scale;
            }
        }
    }
    loss
}

fn probability(logit: f32) -> (f32, bool) {
    let p = 1.0 / (1.0 + (-logit).exp());
    (p.clamp(CLAMP, 1.0 - CLAMP), p > CLAMP && p < 1.0 - CLAMP)
}

/// Weighted absolute error at the objects' cells. Unknown targets (NaN) cost nothing.
fn l1(output: &ArrayView4<'_, f32>, targets: &[&TaskTargets], branch: usize, weight: f32, grad: &mut Array4<f32>) -> f64 {
    let mut loss = 0.0f64;
    for (sample, target) in targets.iter().enumerate() {
        for object in &target.objects {
            let [y, x] = object.cell;
            for (channel, &want) in object.values[branch].iter().enumerate() {
                let at = [sample, y, x, channel];
                let error = output[at] - want;
                if !error.is_nan() {
                    loss += f64::from(error.abs() * weight);
                    grad[at] += if error == 0.0 { 0.0 } else { error.signum() * weight };
                }
            }
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support;
    use crate::geometry::Box3;
    use crate::train::targets::{TrainingBox, targets};

    /// Gradients against central differences; the maps are in f32, so differences are taken of the f64 sums with a step
    /// large enough for f32.
    #[test]
    fn gradients_are_central_differences() {
        let config = test_support::config(test_support::CodeBase::Det3d);
        let mut rng = crate::random::Rng::new(3, "loss");
        let boxes: Vec<TrainingBox> = (0..12)
            .map(|i| TrainingBox {
                bbox: Box3 {
                    center: [rng.range(-50.0, 50.0), rng.range(-50.0, 50.0), -1.0],
                    size: [4.0, 2.0, 1.5],
                    yaw: rng.range(-3.0, 3.0),
                    velocity: [1.0, 2.0],
                },
                label: i % 10,
                has_velocity: i % 3 != 0,
            })
            .collect();
        let t = vec![targets(&config, [128, 128], &boxes), targets(&config, [128, 128], &boxes[..5])];
        let head = &config.network.head;
        for (task, group) in head.tasks.iter().enumerate() {
            let mut maps: Vec<Array4<f32>> = head
                .branches
                .iter()
                .map(|b| Array4::from_shape_simple_fn((2, 128, 128, b.role.channels(group.classes.len())), || rng.range(-2.0, 2.0)))
                .collect();
            let run = |maps: &[Array4<f32>]| {
                let views: Vec<_> = maps.iter().map(|m| m.view()).collect();
                task_loss(head, &LossConfig::default(), task, &t, &views)
            };
            let (_, grads) = run(&maps);
            let total = |l: TaskLoss| l.heatmap + l.location;
            for b in 0..maps.len() {
                // At an object's own cell, and at one beside it.
                let Some(object) = t[0].tasks[task].objects.first() else { continue };
                let [y, x] = object.cell;
                for at in [[0, y, x, 0], [0, (y + 1).min(127), x, 0]] {
                    let (old, eps) = (maps[b][at], 1e-2f32);
                    maps[b][at] = old + eps;
                    let up = total(run(&maps).0);
                    maps[b][at] = old - eps;
                    let down = total(run(&maps).0);
                    maps[b][at] = old;
                    let numeric = (up - down) / (2.0 * f64::from(eps));
                    let got = f64::from(grads[b][at]);
                    assert!((got - numeric).abs() < 2e-3 * (1.0 + numeric.abs()), "task {task} branch {b} {at:?}: {got} {numeric}");
                }
            }
        }
    }

    #[test]
    fn without_objects_only_false_alarms_cost() {
        let config = test_support::config(test_support::CodeBase::Det3d);
        let t = [targets(&config, [4, 4], &[])];
        let maps: Vec<Array4<f32>> = config.network.head.branches.iter().map(|b| Array4::zeros((1, 4, 4, b.role.channels(1)))).collect();
        let views: Vec<_> = maps.iter().map(|m| m.view()).collect();
        let (loss, _) = task_loss(&config.network.head, &LossConfig::default(), 0, &t, &views);
        // p = 1/2 in 16 cells: -ln(1/2) / 4 each.
        assert!((loss.heatmap - 16.0 * 0.5f64.ln().abs() / 4.0).abs() < 1e-5 && loss.location == 0.0);
    }
}
