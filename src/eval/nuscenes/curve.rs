//! Precision and errors over recall.

use super::metric::DetectionMetric;
use super::ranking::{Judged, MatchErrors};
use serde::{Deserialize, Serialize};

/// Recalls at which curves are sampled: 0, 0.01, ..., 1.
pub const SAMPLES: usize = 101;

/// What a class reaches at each recall, at one distance. Every list has [`SAMPLES`] values, sample i at recall i / 100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// 0 beyond the highest recall that is reached.
    pub precision: Vec<f64>,
    /// The score from which on predictions must be taken to reach the recall; 0 beyond the highest.
    pub score: Vec<f64>,
    /// Means over the matches of at least that score: see [`MatchErrors`].
    pub translation: Vec<f64>,
    pub scale: Vec<f64>,
    pub orientation: Vec<f64>,
    pub velocity: Vec<f64>,
}

/// The errors of true positives that nuScenes knows, apart from attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ErrorKind {
    #[serde(rename = "ATE")]
    Translation,
    #[serde(rename = "ASE")]
    Scale,
    #[serde(rename = "AOE")]
    Orientation,
    #[serde(rename = "AVE")]
    Velocity,
}

impl ErrorKind {
    pub const ALL: [Self; 4] = [Self::Translation, Self::Scale, Self::Orientation, Self::Velocity];

    /// ATE, ASE, AOE, AVE.
    pub fn name(self) -> &'static str {
        match self {
            Self::Translation => "ATE",
            Self::Scale => "ASE",
            Self::Orientation => "AOE",
            Self::Velocity => "AVE",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Translation => "m",
            Self::Scale => "1-IoU",
            Self::Orientation => "rad",
            Self::Velocity => "m/s",
        }
    }
}

impl Curve {
    /// From predictions, best first, and the number of objects. Without objects or without a match it is [`Curve::nothing`].
    pub fn new(objects: usize, best_first: &[Judged]) -> Self {
        let matched: Vec<(f64, MatchErrors)> = best_first.iter().filter_map(|j| Some((f64::from(j.score), j.errors?))).collect();
        if objects == 0 || matched.is_empty() {
            return Self::nothing();
        }
        let mut hits = 0usize;
        let (mut recall, mut precision) = (Vec::with_capacity(best_first.len()), Vec::with_capacity(best_first.len()));
        for (rank, judged) in best_first.iter().enumerate() {
            hits += usize::from(judged.errors.is_some());
            recall.push(hits as f64 / objects as f64);
            precision.push(hits as f64 / (rank + 1) as f64);
        }
        let scores: Vec<f64> = best_first.iter().map(|j| f64::from(j.score)).collect();
        let reached = recall[recall.len() - 1];
        let at_recalls = |values: &[f64]| {
            let sample = |i: usize| {
                // As `numpy.linspace` rounds: at a step of the curve the last bit decides.
                let wanted = i as f64 * (1.0 / (SAMPLES - 1) as f64);
                if wanted > reached { 0.0 } else { interpolate(&recall, values, wanted) }
            };
            (0..SAMPLES).map(sample).collect::<Vec<f64>>()
        };
        let precision = at_recalls(&precision);
        let score = at_recalls(&scores);

        // Errors are means over all matches that are at least as sure, looked up by score.
        let rising_scores: Vec<f64> = matched.iter().rev().map(|(score, _)| *score).collect();
        let at_scores = |error: fn(&MatchErrors) -> f64| {
            let mut means = cumulative_mean(matched.iter().map(|(_, errors)| error(errors)));
            means.reverse();
            score.iter().map(|&s| interpolate(&rising_scores, &means, s)).collect::<Vec<f64>>()
        };
        Self {
            translation: at_scores(|e| e.translation),
            scale: at_scores(|e| e.scale),
            orientation: at_scores(|e| e.orientation),
            velocity: at_scores(|e| e.velocity),
            precision,
            score,
        }
    }

    /// The curve of a class of which nothing was found: no precision, errors of 1.
    pub fn nothing() -> Self {
        let [zeros, ones] = [0.0, 1.0].map(|v| vec![v; SAMPLES]);
        Self {
            precision: zeros.clone(),
            score: zeros,
            translation: ones.clone(),
            scale: ones.clone(),
            orientation: ones.clone(),
            velocity: ones,
        }
    }

    /// Recall of a sample.
    pub fn recall(sample: usize) -> f64 {
        sample as f64 / (SAMPLES - 1) as f64
    }

    /// The highest recall that is reached, to a hundredth.
    pub fn max_recall(&self) -> f64 {
        Self::recall(self.last_sample())
    }

    fn last_sample(&self) -> usize {
        self.score.iter().rposition(|&s| s != 0.0).unwrap_or(0)
    }

    /// Area under the part of the curve above the least precision and beyond the least recall, as a share of what is there.
    pub fn average_precision(&self, metric: &DetectionMetric) -> f64 {
        let counted = self.precision.get(first_sample(metric)..).unwrap_or_default();
        let area: f64 = counted.iter().map(|p| (p - metric.min_precision).max(0.0)).sum();
        area / counted.len().max(1) as f64 / (1.0 - metric.min_precision)
    }

    /// Mean of an error over recalls from the least to the highest reached; 1 if the least is not reached.
    pub fn mean_error(&self, metric: &DetectionMetric, kind: ErrorKind) -> f64 {
        let (first, last) = (first_sample(metric), self.last_sample());
        if last < first {
            return 1.0;
        }
        let values = &self.errors(kind)[first..=last];
        values.iter().sum::<f64>() / values.len() as f64
    }

    pub fn errors(&self, kind: ErrorKind) -> &[f64] {
        match kind {
            ErrorKind::Translation => &self.translation,
            ErrorKind::Scale => &self.scale,
            ErrorKind::Orientation => &self.orientation,
            ErrorKind::Velocity => &self.velocity,
        }
    }
}

/// The sample after the least recall, which itself does not count.
fn first_sample(metric: &DetectionMetric) -> usize {
    (metric.min_recall * (SAMPLES - 1) as f64).round() as usize + 1
}

/// Mean of the values up to each, without those that are NaN; 0 before the first that is not. If all are NaN, ones.
fn cumulative_mean(values: impl ExactSizeIterator<Item = f64> + Clone) -> Vec<f64> {
    if values.clone().all(f64::is_nan) {
        return vec![1.0; values.len()];
    }
    let (mut sum, mut count) = (0.0, 0usize);
    let mean = |value: f64| {
        if !value.is_nan() {
            sum += value;
            count += 1;
        }
        if count == 0 { 0.0 } else { sum / count as f64 }
    };
    values.map(mean).collect()
}

/// `numpy.interp`: the line through points whose x do not fall, level beyond its ends; of points with equal x the last counts.
fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let after = xs.partition_point(|&p| p <= x);
    let Some(before) = after.checked_sub(1) else { return ys[0] };
    if after == xs.len() || xs[before] == x {
        return ys[before];
    }
    let slope = (ys[after] - ys[before]) / (xs[after] - xs[before]);
    slope * (x - xs[before]) + ys[before]
}
