//! The frames in which a model did worst, with their clouds, gathered while the frames go by.

use crate::eval::nuscenes::{DetectionMetric, Evaluation, FrameMatches};
use crate::eval::picture::{BevPicture, Mark, MarkKind};
use crate::eval::{EvalFrame, ScoredBox};
use crate::sensor::{PointCloud, RgbImage};
use ndarray::{Array2, s};

/// Which frames are worst, and how many of them are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorstRules {
    pub keep: usize,
    /// Boxes of at least this score count, as if it were the detector's threshold.
    pub score: f32,
    /// Objects with fewer points are not held against a model.
    pub min_points: u32,
    /// Of frames of one recording that are closer than this only the worst is kept: they look alike.
    pub apart_s: f64,
}

impl Default for WorstRules {
    fn default() -> Self {
        Self { keep: 8, score: 0.3, min_points: 5, apart_s: 2.0 }
    }
}

/// An object that was not found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Missed {
    /// Among the frame's labelled objects.
    pub object: usize,
    /// Score of a box that found it and was too unsure to count.
    pub unsure: Option<f32>,
}

/// What a model did wrong in a frame, told by that frame alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    pub missed: Vec<Missed>,
    /// Boxes where no object of their class is: positions among the frame's predictions.
    pub false_alarms: Vec<usize>,
}

/// A frame that is kept.
#[derive(Clone, Debug)]
pub struct WorstFrame {
    /// Position among the evaluation's frames.
    pub frame: usize,
    pub faults: Faults,
    /// x, y, z of what the model saw, `[n, 3]`.
    points: Array2<f32>,
}

/// The worst frames so far, the worst first. No more clouds are kept than these.
#[derive(Clone, Debug, Default)]
pub struct WorstFrames {
    rules: WorstRules,
    kept: Vec<WorstFrame>,
}

impl Faults {
    /// By what the metric matched at the distance of its errors. Surer boxes choose their object first, so that what is below
    /// the score changes nothing for those above it.
    pub fn new(metric: &DetectionMetric, frame: &EvalFrame, matches: &FrameMatches, rules: &WorstRules) -> Self {
        let distance = metric.distances_m.iter().position(|&d| d == metric.error_distance_m).unwrap_or(0);
        let Some(found) = matches.found.get(distance) else { return Self::default() };
        let score_of_finder = |object: usize| found.iter().position(|f| *f == Some(object)).map(|i| frame.predictions[i].score);
        let to_find = frame.truth.iter().enumerate().filter(|(j, t)| matches.truth[*j] && t.points.is_none_or(|n| n >= rules.min_points));
        let missed = to_find
            .map(|(object, _)| Missed { object, unsure: score_of_finder(object) })
            .filter(|missed| missed.unsure.is_none_or(|score| score < rules.score));
        let wrong = |i: &usize| matches.predictions[*i] && found[*i].is_none() && frame.predictions[*i].score >= rules.score;
        Self { missed: missed.collect(), false_alarms: (0..frame.predictions.len()).filter(wrong).collect() }
    }

    /// How bad the frame is: misses and false alarms weigh the same.
    pub fn count(&self) -> usize {
        self.missed.len() + self.false_alarms.len()
    }
}

impl WorstFrames {
    pub fn new(rules: WorstRules) -> Self {
        Self { rules, kept: Vec::new() }
    }

    pub fn rules(&self) -> &WorstRules {
        &self.rules
    }

    pub fn kept(&self) -> &[WorstFrame] {
        &self.kept
    }

    /// Looks at the frame that was added to the evaluation last, which was made from this cloud. Frames without a fault are
    /// never kept; of equally bad ones the first stays.
    pub fn offer_last(&mut self, evaluation: &Evaluation, cloud: &PointCloud) {
        let frames = evaluation.frames();
        let Some((frame, matches)) = frames.last() else { return };
        let faults = Faults::new(evaluation.metric(), frame, matches, &self.rules);
        let is_near = |kept: &WorstFrame| {
            let (other, _) = &frames[kept.frame];
            other.source == frame.source && (other.time_s - frame.time_s).abs() < self.rules.apart_s
        };
        if faults.count() == 0 || self.kept.iter().any(|k| is_near(k) && k.faults.count() >= faults.count()) {
            return;
        }
        self.kept.retain(|k| !is_near(k));
        let place = self.kept.partition_point(|k| k.faults.count() >= faults.count());
        if place < self.rules.keep {
            self.kept.truncate(self.rules.keep - 1);
            let points = cloud.data.slice(s![.., ..cloud.data.ncols().min(3)]).to_owned();
            self.kept.insert(place, WorstFrame { frame: frames.len() - 1, faults, points });
        }
    }

    /// The frame from above: the boxes that count, the objects to find in dashed white, a ring around what was missed, a
    /// cross over false alarms.
    ///
    /// # Panics
    /// If the frame is not of this evaluation.
    pub fn picture(&self, worst: &WorstFrame, evaluation: &Evaluation, classes: &[String]) -> RgbImage {
        /// Around the sensor, where ranges are measured from the vehicle.
        const MARGIN_M: f32 = 2.0;
        let (frame, matches) = &evaluation.frames()[worst.frame];
        let counts = |&(p, judged): &(&ScoredBox, &bool)| *judged && p.score >= self.rules.score;
        let boxes: Vec<_> = frame.predictions.iter().zip(&matches.predictions).filter(counts).map(|(p, _)| *p).collect();
        let truth: Vec<_> = frame.truth.iter().zip(&matches.truth).filter(|(_, judged)| **judged).map(|(t, _)| *t).collect();
        let name = |label: usize| classes.get(label).map_or("unknown", String::as_str);
        let missed = worst.faults.missed.iter().map(|m| &frame.truth[m.object]);
        let missed = missed.map(|t| Mark { bbox: t.bbox, kind: MarkKind::Missed, text: format!("missed {}", name(t.label)) });
        let wrong = worst.faults.false_alarms.iter().map(|&i| &frame.predictions[i]);
        let wrong = wrong.map(|p| Mark { bbox: p.bbox, kind: MarkKind::FalseAlarm, text: format!("{} {:.2}", name(p.label), p.score) });
        let marks: Vec<Mark> = missed.chain(wrong).collect();
        let farthest = evaluation.metric().classes.iter().map(|c| c.range_m as f32).fold(0.0, f32::max);
        let picture =
            BevPicture { title: format!("{:.2} s", frame.time_s), range_m: farthest + MARGIN_M, labels: false, ..BevPicture::new(classes) };
        picture.draw_marked(worst.points.view(), &boxes, Some(&truth), &marks)
    }
}
