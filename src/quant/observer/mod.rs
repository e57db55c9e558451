//! What is known of a value after calibration, and the rules that choose the range worth representing.

mod entropy;
mod error;
mod histogram;
mod percentile;

pub use entropy::{Entropy, Zeros};
pub use error::{Candidates, STEP_SEARCH};
pub use histogram::Histogram;

/// A rule that chooses the magnitude from which on values are clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Nothing is clipped.
    MaxMin,
    /// This share of the values, zeros among them or not, is below.
    Percentile { share: f64, zeros: bool },
    /// The least squared error of all candidates: LiDAR-PTQ's "sparsity-based calibration" (section 1.4 of the digest of its
    /// formulas: max-min start, linear search of the step).
    LeastError(Candidates),
    /// The least Kullback-Leibler divergence.
    Entropy(Entropy),
}

impl Clip {
    /// Magnitude that becomes the greatest of `levels` integers above zero. Positive.
    pub fn reach(&self, histogram: &Histogram, levels: u32) -> f32 {
        let reach = match self {
            Clip::MaxMin => histogram.reach(),
            Clip::Percentile { share, zeros } => percentile::reach(histogram, *share, *zeros),
            Clip::LeastError(candidates) => candidates.best(histogram, levels),
            Clip::Entropy(entropy) => entropy.reach(histogram, levels),
        };
        if reach > 0.0 { reach } else { 1.0 }
    }
}

/// Integers above zero that activations of this form have.
pub fn levels(bits: u8, signed: bool) -> u32 {
    (1 << if signed { bits - 1 } else { bits }) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_hand() {
        assert_eq!([levels(8, false), levels(8, true), levels(4, false)], [255, 127, 15]);
    }
}
