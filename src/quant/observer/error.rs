//! Searching a step by the squared error that it leaves.

use super::Histogram;

/// Steps between two multiples of the step at which nothing is clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidates {
    pub from: f64,
    pub to: f64,
    pub count: usize,
}

/// LiDAR-PTQ searches an interval `[alpha s0, beta s0]` in T parts; it does not publish the three. A step below 0.05 s0 clips
/// more than any of our values can bear at any number of bits, and one above s0 represents nothing more.
pub const STEP_SEARCH: Candidates = Candidates { from: 0.05, to: 1.0, count: 96 };

impl Candidates {
    /// The candidates, greatest first.
    pub fn factors(self) -> impl Iterator<Item = f64> {
        let last = self.count.max(2) - 1;
        (0..=last).map(move |i| self.to + (self.from - self.to) * i as f64 / last as f64)
    }

    /// The magnitude that becomes the greatest of `levels` integers. Of equals the greatest.
    pub(super) fn best(self, histogram: &Histogram, levels: u32) -> f32 {
        let full = f64::from(histogram.reach());
        let mut best = (f64::INFINITY, full);
        for factor in self.factors() {
            let error = squared_error(histogram, factor * full / f64::from(levels), levels);
            if error < best.0 {
                best = (error, factor * full);
            }
        }
        best.1 as f32
    }
}

/// Sum over the values of the square of what rounding and clipping change, each taken to stand in the middle of its bin.
fn squared_error(histogram: &Histogram, step: f64, levels: u32) -> f64 {
    let width = histogram.width();
    let error = |bin: usize| {
        let x = (bin as f64 + 0.5) * width;
        let rounded = (x / step).round().min(f64::from(levels)) * step;
        (x - rounded) * (x - rounded)
    };
    histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(bin, &n)| n as f64 * error(bin)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    /// Where the squared error wants a normal distribution clipped is known: at 2.55 deviations for 4 bits, 3.92 for 8 (Banner et al.
    /// 2019).
    #[test]
    fn a_normal_distribution_is_clipped_where_the_literature_says() {
        let mut rng = Rng::new(1, "normal");
        let mut normal = || {
            let (u, v) = (f64::from(rng.unit()).max(1e-9), f64::from(rng.unit()));
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        };
        let values: Vec<f32> = (0..400_000).map(|_| normal()).collect();
        let reach = values.iter().fold(0f32, |m, x| m.max(x.abs()));
        let mut h = Histogram::new(reach);
        h.observe(&values);
        for (levels, expected) in [(7, 2.55), (127, 3.92)] {
            let clip = STEP_SEARCH.best(&h, levels);
            assert!((clip - expected).abs() < 0.2, "{levels}: {clip}");
        }
    }

    #[test]
    fn few_levels_leave_outliers_outside() {
        let mut h = Histogram::new(100.0);
        h.observe(&(0..100_000).map(|i| i as f32 / 1e5).collect::<Vec<_>>());
        h.observe(&[100.0]);
        assert!(STEP_SEARCH.best(&h, 15) < 20.0);
        assert_eq!(Candidates { from: 1.0, to: 1.0, count: 2 }.best(&h, 15), 100.0);
    }
}
