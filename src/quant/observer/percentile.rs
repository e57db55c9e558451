//! Clipping a share of the values.

use super::Histogram;

/// The magnitude below which this share of the values lies.
pub(super) fn reach(histogram: &Histogram, share: f64, zeros: bool) -> f32 {
    let zeros = if zeros { histogram.zeros as f64 } else { 0.0 };
    let wanted = share * (zeros + histogram.non_zeros() as f64);
    let mut below = zeros;
    for (bin, &count) in histogram.counts.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && below + count >= wanted {
            let within = ((wanted - below) / count).clamp(0.0, 1.0);
            return ((bin as f64 + within) * histogram.width()) as f32;
        }
        below += count;
    }
    histogram.reach()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values() {
        let mut h = Histogram::new(1.0);
        h.observe(&(1..=100_000).map(|i| i as f32 / 1e5).collect::<Vec<_>>());
        h.observe(&vec![0.0; 100_000]);
        assert!((reach(&h, 0.99, false) - 0.99).abs() < 1e-3);
        // Half of the values are zeros: 99 % of all are 98 % of the others.
        assert!((reach(&h, 0.99, true) - 0.98).abs() < 1e-3);
        assert_eq!(reach(&h, 1.0, true), 1.0);
    }
}
