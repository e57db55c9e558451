//! Predictions of one class, from the surest to the least sure.

use super::curve::Curve;
use super::matching::FrameMatches;
use super::metric::{DetectionMetric, Orientation};
use crate::eval::frame::EvalFrame;
use crate::geometry::Box3;
use std::ops::{AddAssign, Range};

/// How far a match is off; each is better the smaller it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatchErrors {
    /// Between the centres in the ground plane, metres.
    pub translation: f64,
    /// One minus the overlap of the boxes if they stood on each other.
    pub scale: f64,
    /// Radians; NaN where headings mean nothing.
    pub orientation: f64,
    /// m/s; NaN where either velocity is not known.
    pub velocity: f64,
}

impl MatchErrors {
    pub fn between(prediction: &Box3, truth: &Box3, orientation: Orientation) -> Self {
        Self {
            translation: crate::eval::frame::ground_distance(prediction.center, truth.center),
            scale: 1.0 - aligned_iou(prediction.size, truth.size),
            orientation: orientation.difference(truth.yaw, prediction.yaw).unwrap_or(f64::NAN),
            velocity: crate::eval::frame::ground_distance(prediction.velocity, truth.velocity),
        }
    }
}

/// Overlap of two boxes with the same centre and heading; 0 if one of them is no box.
fn aligned_iou(a: [f32; 3], b: [f32; 3]) -> f64 {
    let volume = |size: [f64; 3]| size.iter().product::<f64>();
    let (a, b) = (a.map(f64::from), b.map(f64::from));
    if !a.iter().chain(&b).all(|&edge| edge > 0.0) {
        return 0.0;
    }
    let common = volume([0, 1, 2].map(|i| a[i].min(b[i])));
    common / (volume(a) + volume(b) - common)
}

/// A prediction that was judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub score: f32,
    /// Set if it found an object.
    pub errors: Option<MatchErrors>,
}

/// The judged predictions of a class at one distance, and how many objects there were to find.
///
/// Rankings of different frames, classes or ranges add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    pub objects: usize,
    /// In the order of frames and, within a frame, of its predictions.
    pub judged: Vec<Judged>,
}

impl Ranking {
    /// Takes in a frame's boxes of a class at one of the metric's distances, as far as they lie in the range (metres from
    /// the vehicle): objects and what found them by the range of the object, false alarms by their own. So every box is in
    /// exactly one of several bins that together cover everything, and nothing is lost at a bin's edge.
    pub fn add_frame(
        &mut self,
        metric: &DetectionMetric,
        (class, distance): (usize, usize),
        frame: &EvalFrame,
        matches: &FrameMatches,
        range_m: &Range<f64>,
    ) {
        let objects = frame.truth.iter().zip(&matches.truth).filter(|(t, takes_part)| **takes_part && t.label == class);
        self.objects += objects.filter(|(t, _)| range_m.contains(&frame.range(&t.bbox))).count();
        for (i, prediction) in frame.predictions.iter().enumerate() {
            if !matches.predictions[i] || prediction.label != class {
                continue;
            }
            let object = matches.found[distance][i].map(|j| &frame.truth[j].bbox);
            if range_m.contains(&frame.range(object.unwrap_or(&prediction.bbox))) {
                let orientation = metric.classes[class].orientation;
                let errors = object.map(|object| MatchErrors::between(&prediction.bbox, object, orientation));
                self.judged.push(Judged { score: prediction.score, errors });
            }
        }
    }

    /// Best score first; of equal scores the later one, as in the devkit.
    pub fn best_first(&self) -> Vec<Judged> {
        let mut order: Vec<usize> = (0..self.judged.len()).collect();
        order.sort_by(|&a, &b| self.judged[b].score.total_cmp(&self.judged[a].score).then(b.cmp(&a)));
        order.into_iter().map(|i| self.judged[i]).collect()
    }

    /// Precision, score and errors over recall.
    pub fn curve(&self) -> Curve {
        Curve::new(self.objects, &self.best_first())
    }
}

impl AddAssign<&Ranking> for Ranking {
    fn add_assign(&mut self, other: &Ranking) {
        self.objects += other.objects;
        self.judged.extend(&other.judged);
    }
}
