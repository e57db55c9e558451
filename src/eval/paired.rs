//! How sure a difference between two detectors is that looked at the same frames: a paired bootstrap.
//!
//! What makes frames hard or easy makes them so for both; differences over the same choice of frames leave that out.

use super::nuscenes::Evaluation;
use crate::random::Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// With fewer recordings than this, frames are drawn instead.
const FEWEST_RECORDINGS: usize = 10;

/// Choices of frames, drawn with replacement.
///
/// Frames of one recording show the same objects, so that whole recordings are drawn if there are at least ten.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    choices: Vec<Vec<usize>>,
    /// What was drawn.
    pub of: Drawn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawn {
    Recordings(usize),
    Frames(usize),
}

/// A difference and its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub value: f64,
    pub standard_error: f64,
}

impl Bootstrap {
    /// For the frames of an evaluation, which those of all others must equal in number and order.
    pub fn new(evaluation: &Evaluation, resamples: usize, seed: u64) -> Self {
        let mut recordings: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, (frame, _)) in evaluation.frames().iter().enumerate() {
            recordings.entry(&frame.source).or_default().push(i);
        }
        let frames = evaluation.frames().len();
        let (groups, of): (Vec<Vec<usize>>, _) = if recordings.len() >= FEWEST_RECORDINGS {
            let of = Drawn::Recordings(recordings.len());
            (recordings.into_values().collect(), of)
        } else {
            ((0..frames).map(|i| vec![i]).collect(), Drawn::Frames(frames))
        };
        let mut rng = Rng::new(seed, "bootstrap");
        let mut choice = || (0..groups.len()).flat_map(|_| groups[rng.index(groups.len())].clone()).collect();
        Self { choices: (0..resamples).map(|_| choice()).collect(), of }
    }

    /// Figures of an evaluation over each choice of frames.
    pub fn figures<T: Send>(&self, evaluation: &Evaluation, figures: impl Fn(&Evaluation, &[usize]) -> T + Sync) -> Vec<T> {
        self.choices.par_iter().map(|choice| figures(evaluation, choice)).collect()
    }
}

impl Difference {
    /// `value`, with the spread of the differences over the choices: one's figures minus the other's.
    pub fn new(value: f64, differences: impl Iterator<Item = f64> + Clone) -> Self {
        Self { value, standard_error: deviation(differences) }
    }
}

/// Standard deviation of a sample; 0 of fewer than two values.
pub fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::nuscenes::DetectionMetric;
    use crate::eval::{EvalFrame, ScoredBox, TruthBox};
    use crate::geometry::Box3;

    /// One car a frame, found where `found` says so.
    fn evaluation(found: impl Iterator<Item = bool>, recording: impl Fn(usize) -> String) -> Evaluation {
        let bbox = Box3 { center: [10.0, 0.0, 0.0], size: [4.0, 2.0, 1.5], yaw: 0.0, velocity: [0.0; 2] };
        let mut evaluation = Evaluation::new(DetectionMetric::for_classes(&["car"]));
        for (i, found) in found.enumerate() {
            evaluation.add(EvalFrame {
                source: recording(i),
                time_s: 0.0,
                ego: [0.0; 2],
                predictions: found.then_some(ScoredBox { bbox, label: 0, score: 0.5 }).into_iter().collect(),
                truth: vec![TruthBox { bbox, label: 0, points: Some(9) }],
            });
        }
        evaluation
    }

    /// Share of the objects that were found: a mean over frames, of which the bootstrap's error is known.
    fn recall(evaluation: &Evaluation, frames: &[usize]) -> f64 {
        let ranking = evaluation.ranking((0, 2), frames.iter().copied(), &(0.0..f64::INFINITY));
        ranking.judged.len() as f64 / ranking.objects as f64
    }

    #[test]
    fn the_error_of_a_mean_is_that_of_the_binomial_distribution() {
        // One frame in five is found: sqrt(p (1 - p) / n).
        let evaluation = evaluation((0..400).map(|i| i % 5 == 0), |i| format!("{i}"));
        let bootstrap = Bootstrap::new(&evaluation, 2000, 1);
        assert_eq!(bootstrap.of, Drawn::Recordings(400));
        let recalls = bootstrap.figures(&evaluation, recall);
        let expected = (0.2f64 * 0.8 / 400.0).sqrt();
        assert!((deviation(recalls.iter().copied()) / expected - 1.0).abs() < 0.06);
    }

    #[test]
    fn frames_of_a_recording_are_drawn_together_and_pairs_share_what_is_hard() {
        // Whole recordings of ten frames are found or not, so that ten times fewer things were seen.
        let of_recording = |i: usize| format!("{}", i / 10);
        let one = evaluation((0..400).map(|i| i / 10 % 5 == 0), of_recording);
        // The other finds the same and one recording more.
        let other = evaluation((0..400).map(|i| i / 10 % 5 == 0 || i / 10 == 1), of_recording);
        let bootstrap = Bootstrap::new(&one, 2000, 1);
        assert_eq!(bootstrap.of, Drawn::Recordings(40));
        let [ones, others] = [&one, &other].map(|e| bootstrap.figures(e, recall));
        let expected = (0.2f64 * 0.8 / 40.0).sqrt();
        assert!((deviation(ones.iter().copied()) / expected - 1.0).abs() < 0.06);
        let difference = Difference::new(0.025, others.iter().zip(&ones).map(|(a, b)| a - b));
        let expected = (0.025f64 * 0.975 / 40.0).sqrt();
        assert!((difference.standard_error / expected - 1.0).abs() < 0.06, "{difference:?} {expected}");
    }

    #[test]
    fn frames_are_drawn_where_recordings_are_few() {
        let evaluation = evaluation((0..50).map(|i| i % 2 == 0), |_| "drive".into());
        assert_eq!(Bootstrap::new(&evaluation, 10, 1).of, Drawn::Frames(50));
    }
}
