//! CenterPoint's heads as a task: scores at centres, and boxes where scores are.

use super::task::{Outputs, Task};
use crate::networks::centerpoint::{BranchRole, Head, output_role};
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;

/// The heads of a CenterPoint.
#[derive(Clone, Debug)]
pub struct CenterTask {
    /// Of each task: the role of its heat map, and those of its other branches.
    tasks: Vec<(String, Vec<String>)>,
    /// What a squared error of a box's number costs beside one of a score's logit, each in its own unit (cells, metres,
    /// logarithms, m/s).
    box_weight: f32,
    /// Boxes of lower scores do not count.
    least_score: f32,
}

impl CenterTask {
    /// LiDAR-PTQ's pseudo-labels are boxes with scores above 0.1, CenterPoint's own threshold.
    pub fn new(head: &Head) -> Self {
        let tasks = (0..head.tasks.len()).map(|task| {
            let others = head.branches.iter().map(|b| b.role).filter(|r| *r != BranchRole::Heatmap);
            (output_role(task, BranchRole::Heatmap), others.map(|r| output_role(task, r)).collect())
        });
        Self { tasks: tasks.collect(), box_weight: 1.0, least_score: 0.1 }
    }
}

impl Task for CenterTask {
    /// The curvature `p (1 - p)` of a logit's cross-entropy from the float model's own score `p` (a soft label); for the numbers of
    /// a box, its score, as the loss of a box counts where there is one.
    fn importance(&self, teacher: &Outputs) -> Outputs {
        let mut all = BTreeMap::new();
        for (heatmap, others) in &self.tasks {
            let Some(logits) = teacher.get(heatmap) else { continue };
            let scores = logits.mapv(|x| 1.0 / (1.0 + (-x).exp()));
            let classes = Axis(scores.ndim() - 1);
            let best = scores.map_axis(classes, |s| s.iter().fold(0f32, |m, &x| m.max(x)));
            let counts = best.mapv(|p| if p > self.least_score { self.box_weight * p } else { 0.0 });
            for role in others {
                if let Some(values) = teacher.get(role) {
                    let mut weights = ArrayD::zeros(values.raw_dim());
                    weights.axis_iter_mut(Axis(values.ndim() - 1)).for_each(|mut part| part.assign(&counts));
                    all.insert(role.clone(), weights);
                }
            }
            all.insert(heatmap.clone(), scores.mapv(|p| p * (1.0 - p)));
        }
        all
    }
}
