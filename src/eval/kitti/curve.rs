//! Precision over recall at 41 points.

use serde::{Deserialize, Serialize};

/// Recalls at which curves are sampled: 0, 1/40, ..., 1.
pub(super) const SAMPLES: usize = 41;

/// Precision at recalls 0, 1/40, ..., 1: the best that is reached at this recall or a higher one, 0 where none is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KittiCurve {
    pub precision: Vec<f64>,
    /// Labels that count.
    pub labels: usize,
}

impl KittiCurve {
    /// From precisions at rising recalls, of which at most [`SAMPLES`] are taken.
    pub(super) fn new(mut precision: Vec<f64>, labels: usize) -> Self {
        precision.resize(SAMPLES, 0.0);
        for i in (0..SAMPLES - 1).rev() {
            precision[i] = precision[i].max(precision[i + 1]);
        }
        Self { precision, labels }
    }

    /// From the number of labels found and the precision after each detection, best first.
    pub(super) fn from_steps(steps: &[(usize, f64)], labels: usize) -> Self {
        let at_recall = |sample: usize| {
            let reached = steps.iter().filter(|(found, _)| (SAMPLES - 1) * found >= sample * labels);
            reached.map(|(_, precision)| *precision).fold(0.0, f64::max)
        };
        Self { precision: (0..SAMPLES).map(at_recall).collect(), labels }
    }

    /// Over 11 recalls from 0 on, as before October 2019; 0 to 1.
    pub fn r11(&self) -> f64 {
        self.precision.iter().step_by(4).sum::<f64>() / 11.0
    }

    /// Over 40 recalls, without recall 0; 0 to 1.
    pub fn r40(&self) -> f64 {
        self.precision.iter().skip(1).sum::<f64>() / 40.0
    }
}
