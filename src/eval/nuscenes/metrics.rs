//! Frames in, figures out.

use super::curve::{Curve, ErrorKind};
use super::matching::FrameMatches;
use super::metric::DetectionMetric;
use super::ranking::Ranking;
use crate::eval::frame::EvalFrame;
use std::ops::Range;

/// All ranges.
const EVERYWHERE: Range<f64> = 0.0..f64::INFINITY;

/// Frames under a metric, each matched as it comes.
#[derive(Clone, Debug)]
pub struct Evaluation {
    metric: DetectionMetric,
    frames: Vec<(EvalFrame, FrameMatches)>,
}

impl Evaluation {
    pub fn new(metric: DetectionMetric) -> Self {
        Self { metric, frames: Vec::new() }
    }

    pub fn metric(&self) -> &DetectionMetric {
        &self.metric
    }

    /// Labels of the boxes are positions in the metric's classes; boxes with others are ignored.
    pub fn add(&mut self, frame: EvalFrame) {
        let matches = FrameMatches::new(&self.metric, &frame);
        self.frames.push((frame, matches));
    }

    /// The frames so far, and what became of their boxes.
    pub fn frames(&self) -> &[(EvalFrame, FrameMatches)] {
        &self.frames
    }

    /// Over all frames.
    pub fn metrics(&self) -> Metrics {
        self.metrics_of(0..self.frames.len(), &EVERYWHERE)
    }

    /// Over all frames, of what lies in a range of distances from the vehicle; see [`Ranking::add_frame`].
    pub fn metrics_in(&self, range_m: &Range<f64>) -> Metrics {
        self.metrics_of(0..self.frames.len(), range_m)
    }

    /// Over chosen frames, which may be named more than once.
    ///
    /// # Panics
    /// If a frame does not exist.
    pub fn metrics_of(&self, frames: impl Iterator<Item = usize> + Clone, range_m: &Range<f64>) -> Metrics {
        let classes = self.metric.classes.iter().enumerate().map(|(class, rule)| {
            let rankings: Vec<Ranking> =
                (0..self.metric.distances_m.len()).map(|d| self.ranking((class, d), frames.clone(), range_m)).collect();
            let (objects, predictions) = rankings.first().map_or((0, 0), |r| (r.objects, r.judged.len()));
            let curves: Vec<Curve> = rankings.iter().map(Ranking::curve).collect();
            ClassMetrics { name: rule.name.clone(), objects, predictions, curves }
        });
        Metrics { classes: classes.collect(), metric: self.metric.clone() }
    }

    /// The judged predictions of a class at one of the metric's distances, over chosen frames.
    ///
    /// # Panics
    /// If a frame, the class or the distance does not exist.
    pub fn ranking(&self, (class, distance): (usize, usize), frames: impl Iterator<Item = usize>, range_m: &Range<f64>) -> Ranking {
        let mut ranking = Ranking::default();
        for (frame, matches) in frames.map(|i| &self.frames[i]) {
            ranking.add_frame(&self.metric, (class, distance), frame, matches, range_m);
        }
        ranking
    }
}

/// What came out for a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMetrics {
    pub name: String,
    /// Objects to find.
    pub objects: usize,
    /// Predictions that took part.
    pub predictions: usize,
    /// One for each of the metric's distances.
    pub curves: Vec<Curve>,
}

/// What came out for all classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// In the order of the metric's classes.
    pub classes: Vec<ClassMetrics>,
    pub metric: DetectionMetric,
}

impl ClassMetrics {
    /// At each of the metric's distances.
    pub fn average_precisions(&self, metric: &DetectionMetric) -> Vec<f64> {
        self.curves.iter().map(|c| c.average_precision(metric)).collect()
    }

    /// Over the metric's distances.
    pub fn mean_ap(&self, metric: &DetectionMetric) -> f64 {
        mean(self.average_precisions(metric)).unwrap_or(0.0)
    }

    /// The curve whose errors count.
    pub fn error_curve(&self, metric: &DetectionMetric) -> Option<&Curve> {
        let distance = metric.distances_m.iter().position(|&d| d == metric.error_distance_m)?;
        self.curves.get(distance)
    }

    /// `None` where the class has no such error (cones have no heading).
    pub fn error(&self, metric: &DetectionMetric, kind: ErrorKind) -> Option<f64> {
        let rule = metric.classes.iter().find(|c| c.name == self.name)?;
        let counts = match kind {
            ErrorKind::Translation | ErrorKind::Scale => true,
            ErrorKind::Orientation => rule.orientation != super::Orientation::None,
            ErrorKind::Velocity => rule.velocity,
        };
        if counts { Some(self.error_curve(metric)?.mean_error(metric, kind)) } else { None }
    }
}

impl Metrics {
    /// mAP as the devkit computes it: the mean over **all** classes, of which one without objects counts 0.
    pub fn mean_ap(&self) -> f64 {
        mean(self.classes.iter().map(|c| c.mean_ap(&self.metric))).unwrap_or(0.0)
    }

    /// Mean over those classes that have objects to find; `None` if there are none. Equal to mAP if every class has some.
    pub fn mean_ap_of_present(&self) -> Option<f64> {
        mean(self.present().map(|c| c.mean_ap(&self.metric)))
    }

    /// Classes that have objects to find.
    pub fn present(&self) -> impl Iterator<Item = &ClassMetrics> {
        self.classes.iter().filter(|c| c.objects > 0)
    }

    /// Mean of an error over all classes that have it, as the devkit computes it: a class without objects counts 1.
    pub fn mean_error(&self, kind: ErrorKind) -> Option<f64> {
        mean(self.classes.iter().filter_map(|c| c.error(&self.metric, kind)))
    }

    /// Sum of what the four errors that exist leave of 1.
    fn error_scores(&self) -> f64 {
        ErrorKind::ALL.iter().filter_map(|&kind| self.mean_error(kind)).map(|e| (1.0 - e).max(0.0)).sum()
    }

    /// NDS as if the attribute error did not exist: `(5 mAP + sum of max(0, 1 - error)) / 9` over ATE, ASE, AOE and AVE,
    /// where nuScenes has a fifth error, AAE, and divides by 10.
    ///
    /// With a good attribute classifier (AAE near 0) the official figure would be a little above this one.
    pub fn nds_without_attributes(&self) -> f64 {
        let weight = self.metric.mean_ap_weight;
        (weight * self.mean_ap() + self.error_scores()) / (weight + ErrorKind::ALL.len() as f64)
    }

    /// The official NDS of a detector that gets every attribute wrong (AAE of 1). It is what the devkit prints for boxes
    /// without attributes, and the least that the official NDS can be.
    pub fn nds_with_wrong_attributes(&self) -> f64 {
        let weight = self.metric.mean_ap_weight;
        (weight * self.mean_ap() + self.error_scores()) / (weight + (ErrorKind::ALL.len() + 1) as f64)
    }
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}
