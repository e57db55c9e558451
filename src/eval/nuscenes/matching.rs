//! Which prediction found which object.

use super::metric::DetectionMetric;
use crate::eval::frame::{EvalFrame, ground_distance};

/// What became of the boxes of a frame.
///
/// Frames are matched one by one: an object can only be claimed within its own frame, so the order of scores across frames
/// does not matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMatches {
    /// Whether each prediction takes part: within the range of its class and among the best of the frame.
    pub predictions: Vec<bool>,
    /// Whether each object takes part: within the range of its class and not known to be without points.
    pub truth: Vec<bool>,
    /// For each of the metric's distances, the object that each prediction found.
    pub found: Vec<Vec<Option<usize>>>,
}

impl FrameMatches {
    pub fn new(metric: &DetectionMetric, frame: &EvalFrame) -> Self {
        let in_range = |label: usize, range_m: f64| metric.classes.get(label).is_some_and(|c| range_m < c.range_m);
        let mut order: Vec<usize> = (0..frame.predictions.len()).filter(|&i| !frame.predictions[i].score.is_nan()).collect();
        // Of equal scores the devkit takes the later one first, here and over all frames.
        order.sort_by(|&a, &b| frame.predictions[b].score.total_cmp(&frame.predictions[a].score).then(b.cmp(&a)));
        order.truncate(metric.max_boxes);
        order.retain(|&i| in_range(frame.predictions[i].label, frame.range(&frame.predictions[i].bbox)));

        let mut predictions = vec![false; frame.predictions.len()];
        order.iter().for_each(|&i| predictions[i] = true);
        let seen = frame.truth.iter().map(|t| t.points != Some(0) && in_range(t.label, frame.range(&t.bbox)));
        let truth: Vec<bool> = seen.collect();
        let found = metric.distances_m.iter().map(|&d| find(frame, &order, &truth, d)).collect();
        Self { predictions, truth, found }
    }
}

/// Each prediction in turn takes the nearest object of its class that is still free, if it is near enough.
fn find(frame: &EvalFrame, order: &[usize], takes_part: &[bool], distance_m: f64) -> Vec<Option<usize>> {
    let mut free = takes_part.to_vec();
    let mut found = vec![None; frame.predictions.len()];
    for &i in order {
        let prediction = &frame.predictions[i];
        let mut nearest = None;
        let mut nearest_m = distance_m;
        for (j, object) in frame.truth.iter().enumerate().filter(|(j, t)| free[*j] && t.label == prediction.label) {
            let apart_m = ground_distance(prediction.bbox.center, object.bbox.center);
            if apart_m < nearest_m {
                (nearest, nearest_m) = (Some(j), apart_m);
            }
        }
        if let Some(j) = nearest {
            free[j] = false;
        }
        found[i] = nearest;
    }
    found
}
