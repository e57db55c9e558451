//! Where a head map's scores pass: the cells that become boxes, known from the heat maps alone.

use super::decode::{DecodeError, check};
use super::elementary::exp;
use super::nms::best_first;
use super::{Candidates, DecodeConfig, DetectorConfig, HeadMaps};
use crate::networks::centerpoint::BranchRole;

/// A class whose score at a cell passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// `y * width + x` on the head map.
    pub cell: usize,
    /// Within the task.
    pub class: usize,
    pub score: f32,
}

/// By task: the cells where a score passes. Only the heat maps are needed to know them.
pub(super) struct Peaks(Vec<Vec<Peak>>);

impl Peaks {
    /// # Errors
    /// As [`super::decode()`].
    pub fn of(config: &DetectorConfig, maps: &HeadMaps) -> Result<Self, DecodeError> {
        check(config)?;
        (0..config.network.head.tasks.len()).map(|task| task_peaks(config, maps, task)).collect::<Result<_, _>>().map(Self)
    }

    pub fn of_task(&self, task: usize) -> &[Peak] {
        &self.0[task]
    }

    /// By task: `y * width + x`. A cell may stand there more than once.
    pub fn cells(&self) -> Vec<Vec<usize>> {
        self.0.iter().map(|peaks| peaks.iter().map(|p| p.cell).collect()).collect()
    }
}

/// By task: the cells whose regressed values decoding will read, as [`super::Network::run_at_cells`] asks for them.
///
/// # Errors
/// As [`super::decode()`].
pub(crate) fn peak_cells(config: &DetectorConfig, maps: &HeadMaps) -> Result<Vec<Vec<usize>>, DecodeError> {
    Ok(Peaks::of(config, maps)?.cells())
}

fn task_peaks(config: &DetectorConfig, maps: &HeadMaps, task: usize) -> Result<Vec<Peak>, DecodeError> {
    let heatmap = maps.of_task(config, task, BranchRole::Heatmap)?;
    // One slice, see `HeadMaps::insert`.
    let logits = heatmap.to_slice().unwrap_or_default();
    let thresholds = class_thresholds(config, task);
    Ok(match config.decode.candidates {
        Candidates::BestClassPerCell => best_class_per_cell(logits, &thresholds),
        Candidates::TopK { count } => top_k(logits, &thresholds, count),
    })
}

/// A threshold that a score must be above, and a bound on the logit that no such score lies below: most cells are dismissed
/// by one comparison. A logit that is no number is above nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreThreshold {
    pub score: f32,
    pub logit: f32,
}

impl ScoreThreshold {
    /// Covers the rounding of logit and sigmoid, which near 0 and 1 is far below this in logits of interest.
    const SLACK: f32 = 1e-2;

    fn new(score: f32) -> Self {
        let p = f64::from(score);
        let logit = if p <= 0.0 { f64::NEG_INFINITY } else { (p / (1.0 - p)).ln() };
        // From 1 on, and close below, the sigmoid's own rounding decides.
        let logit = if p >= 0.9999 { 9.0 } else { logit as f32 - Self::SLACK };
        Self { score, logit }
    }

    /// The score, if it passes.
    fn pass(&self, logit: f32) -> Option<f32> {
        if logit > self.logit {
            let score = sigmoid(logit);
            return (score > self.score).then_some(score);
        }
        None
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + exp(-logit))
}

pub(super) fn class_thresholds(config: &DetectorConfig, task: usize) -> Vec<ScoreThreshold> {
    let DecodeConfig { score_threshold, class_thresholds, .. } = &config.decode;
    let threshold = |class: &String| class_thresholds.get(class).map_or(*score_threshold, |own| own.max(*score_threshold));
    config.network.head.tasks[task].classes.iter().map(|class| ScoreThreshold::new(threshold(class))).collect()
}

/// det3d: every cell with its best class, in order of cells. Of equal classes the first.
fn best_class_per_cell(heatmap: &[f32], thresholds: &[ScoreThreshold]) -> Vec<Peak> {
    let lowest = thresholds.iter().fold(f32::INFINITY, |lowest, t| lowest.min(t.logit));
    let mut peaks = Vec::new();
    for (cell, logits) in heatmap.chunks_exact(thresholds.len().max(1)).enumerate() {
        // Nearly all cells end here: none of their classes can pass, so the best one cannot.
        if !logits.iter().any(|&logit| logit > lowest) {
            continue;
        }
        let numbers = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
        if let Some((class, &logit)) = numbers.reduce(|best, next| if next.1 > best.1 { next } else { best })
            && let Some(score) = thresholds[class].pass(logit)
        {
            peaks.push(Peak { cell, class, score });
        }
    }
    peaks
}

/// OpenPCDet and mmdet3d: the best `count` pairs of class and cell, best first. Equal ones in order of class, then cell.
fn top_k(heatmap: &[f32], thresholds: &[ScoreThreshold], count: usize) -> Vec<Peak> {
    let mut peaks = Vec::new();
    let mut logits = Vec::new();
    for (class, threshold) in thresholds.iter().enumerate() {
        for (cell, &logit) in heatmap.iter().skip(class).step_by(thresholds.len()).enumerate() {
            if let Some(score) = threshold.pass(logit) {
                peaks.push(Peak { cell, class, score });
                logits.push(logit);
            }
        }
    }
    best_first(&logits, count).into_iter().map(|i| peaks[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logit_bound_never_hides_a_score_that_passes() {
        for threshold in [-0.5, 0.0, 1e-30, 1e-6, 0.1, 0.5, 0.97, 0.999_899, 0.9999, 0.999_999_9, 1.0, 2.0] {
            let passes = ScoreThreshold::new(threshold);
            for logit in (-120_000..120_000).map(|i| i as f32 * 1e-3).chain([f32::MAX, f32::MIN, f32::INFINITY]) {
                let expected = sigmoid(logit) > threshold;
                assert_eq!(passes.pass(logit).is_some(), expected, "threshold {threshold}, logit {logit}");
            }
            assert!(passes.pass(f32::NAN).is_none());
        }
    }
}
