//! Choosing a range by Kullback-Leibler divergence, as TensorRT and NVIDIA's pytorch-quantization made customary.
//!
//! "Entropy calibration" is a family: where it clips is decided by how many bins and levels it has, where its search starts, and
//! what it does with zeros. While a candidate has no more bins than levels, every bin is a level of its own; one bin further, a
//! spike in the first bin shares its level with the next and is smeared. On a lidar map, nine cells of ten are such a spike.

use super::histogram::{BINS, Histogram};

/// A calibrator of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    /// Over the whole range; a divisor of `histogram::BINS`.
    pub bins: usize,
    /// Bins of the first candidate.
    pub start: usize,
    /// Levels that candidates are merged into, where they are not those of the integers: signed calibrators know 128.
    pub levels: Option<u32>,
    pub zeros: Zeros,
}

/// What becomes of values that are exactly zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// They are in the first bin.
    Counted,
    /// The first bin is made as high as the second (pytorch-quantization).
    FirstBinReplaced,
    /// They are left out.
    Skipped,
}

impl Entropy {
    /// TensorRT's customary numbers.
    pub const fn customary(zeros: Zeros) -> Self {
        Self { bins: 2048, start: 128, levels: None, zeros }
    }

    pub(super) fn reach(&self, histogram: &Histogram, levels: u32) -> f32 {
        let mut counts = histogram.coarse(self.bins.clamp(1, BINS));
        match self.zeros {
            Zeros::Counted => counts[0] += histogram.zeros as f64,
            Zeros::FirstBinReplaced => counts[0] = counts[1],
            Zeros::Skipped => {}
        }
        let levels = self.levels.unwrap_or(levels + 1) as usize;
        let kept = best_length(&counts, levels, self.start.clamp(1, counts.len()));
        histogram.reach() * kept as f32 / counts.len() as f32
    }
}

/// How many of the first bins to keep. Of equals the least.
fn best_length(counts: &[f64], levels: usize, start: usize) -> usize {
    let total: f64 = counts.iter().sum();
    let mut kept: f64 = counts[..start].iter().sum();
    let mut best = (f64::INFINITY, counts.len());
    for length in start..=counts.len() {
        if length > start {
            kept += counts[length - 1];
        }
        let divergence = divergence(&counts[..length], total - kept, total, kept, levels);
        if divergence < best.0 {
            best = (divergence, length);
        }
    }
    best.1
}

/// Of these counts, the last with all that is clipped, from themselves spread evenly within each level. Infinite where the clipped
/// values fall into an empty bin.
fn divergence(counts: &[f64], clipped: f64, total: f64, kept: f64, levels: usize) -> f64 {
    let length = counts.len();
    let mut sum = 0.0;
    let levels = levels.min(length);
    let mut first = 0;
    for level in 0..levels {
        // Bin j belongs to level floor(j levels / length): the first levels are the longer ones.
        let end = ((level + 1) * length).div_ceil(levels);
        let bins = &counts[first..end];
        let used = bins.iter().filter(|n| **n > 0.0).count();
        let even = bins.iter().sum::<f64>() / used.max(1) as f64;
        for (i, &n) in bins.iter().enumerate() {
            let reference = n + if first + i == length - 1 { clipped } else { 0.0 };
            if reference > 0.0 {
                let candidate = if n > 0.0 { even / kept } else { 0.0 };
                let reference = reference / total;
                sum += reference * (reference / candidate).ln();
            }
        }
        first = end;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    /// 300 000 magnitudes of a normal distribution, and zeros up to this share of all.
    fn half_normal(zeros: f64) -> Histogram {
        let mut rng = Rng::new(5, "half normal");
        let mut normal = || {
            let (u, v) = (f64::from(rng.unit()).max(1e-9), f64::from(rng.unit()));
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).abs() as f32
        };
        let values: Vec<f32> = (0..300_000).map(|_| normal()).collect();
        let mut h = Histogram::new(values.iter().fold(0f32, |m, &x| m.max(x)));
        h.observe(&values);
        h.zeros += (300_000.0 * zeros / (1.0 - zeros)) as u64;
        h
    }

    fn share(h: &Histogram, entropy: Entropy) -> f32 {
        entropy.reach(h, 255) / h.reach()
    }

    /// The clip lands at levels / bins of the maximum, whatever the values are: measured with an independent implementation.
    #[test]
    fn counted_zeros_clip_at_levels_over_bins() {
        let h = half_normal(0.9);
        let counted = Entropy::customary(Zeros::Counted);
        let signed = Entropy { levels: Some(128), ..counted };
        let fine = Entropy { bins: 8192, ..counted };
        for (entropy, expected) in [(counted, 0.125), (signed, 0.0625), (fine, 256.0 / 8192.0)] {
            let found = share(&h, entropy);
            // The heights of neighbouring bins are random: a bin or two.
            assert!((found - expected).abs() < 2.5 / 2048.0, "{entropy:?}: {found}, expected {expected}");
        }
    }

    #[test]
    fn without_the_spike_most_of_the_range_stays() {
        let h = half_normal(0.9);
        for zeros in [Zeros::FirstBinReplaced, Zeros::Skipped] {
            let share = share(&h, Entropy::customary(zeros));
            assert!((0.6..=1.0).contains(&share), "{zeros:?}: {share}");
        }
    }

    #[test]
    fn a_divergence_by_hand() {
        // Two levels of two bins: (3, 1) becomes (2, 2), (0, 4) stays; nothing is clipped.
        let d = divergence(&[3.0, 1.0, 0.0, 4.0], 0.0, 8.0, 8.0, 2);
        let expected = 3.0 / 8.0 * 1.5f64.ln() + 1.0 / 8.0 * 0.5f64.ln();
        assert!((d - expected).abs() < 1e-12);
        assert_eq!(divergence(&[1.0, 0.0], 1.0, 2.0, 1.0, 2), f64::INFINITY);
    }
}
