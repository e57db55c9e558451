//! Scales of weights.

use super::observer::Candidates;
use crate::graph::{Granularity, Weight};
use ndarray::{ArrayD, ArrayViewD, Axis};
use rayon::prelude::*;

/// How the scale of an output channel's weights is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightScale {
    /// The greatest magnitude becomes the greatest integer.
    MaxMin,
    /// The candidate with the least squared error.
    LeastError(Candidates),
}

impl WeightScale {
    /// Scales of a weight: one for each output.
    pub fn scales(&self, weight: &ArrayD<f32>, output_axis: usize, bits: u8) -> Vec<f32> {
        let parts: Vec<ArrayViewD<'_, f32>> = weight.axis_iter(Axis(output_axis)).collect();
        parts.into_par_iter().map(|part| self.scale(&part, f32::from(Weight::limit(bits)))).collect()
    }

    fn scale(&self, part: &ArrayViewD<'_, f32>, limit: f32) -> f32 {
        let reach = part.iter().fold(0f32, |m, w| m.max(w.abs()));
        if reach == 0.0 {
            return 1.0;
        }
        let full = reach / limit;
        let best = match self {
            WeightScale::MaxMin => full,
            WeightScale::LeastError(candidates) => {
                let mut best = (f64::INFINITY, full);
                for factor in candidates.factors() {
                    let scale = full * factor as f32;
                    let error = squared_error(part, scale, limit);
                    if error < best.0 {
                        best = (error, scale);
                    }
                }
                best.1
            }
        };
        best.max(f32::MIN_POSITIVE)
    }

    /// Integers to nearest at these scales.
    pub fn nearest(&self, weight: &ArrayD<f32>, output_axis: usize, bits: u8) -> Weight {
        Weight::round_to_nearest(weight, output_axis, bits, Granularity::PerChannel, self.scales(weight, output_axis, bits))
    }
}

fn squared_error(part: &ArrayViewD<'_, f32>, scale: f32, limit: f32) -> f64 {
    let error = |w: f32| f64::from((w / scale).round_ties_even().clamp(-limit, limit) * scale - w);
    part.iter().map(|&w| error(w) * error(w)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::observer::STEP_SEARCH;
    use ndarray::arr2;

    #[test]
    fn scales_by_hand() {
        // 15 weights of 1 and one of 10 at 2 bits (-1, 0, 1): to keep the outlier loses 15, to clip it loses 81.
        let mut values = vec![1.0f32; 16];
        values[3] = 10.0;
        let weight = arr2(&[[127.0f32, 1.0], [0.0, 0.0]]).into_dyn();
        assert_eq!(WeightScale::MaxMin.scales(&weight, 0, 8), [1.0, 1.0]);
        let one = ArrayD::from_shape_vec(vec![1, 16], values).expect("sixteen");
        assert_eq!(WeightScale::MaxMin.scales(&one, 0, 2), [10.0]);
        // At 200 ones the outlier no longer pays.
        let mut values = vec![1.0f32; 200];
        values[3] = 10.0;
        let many = ArrayD::from_shape_vec(vec![1, 200], values).expect("two hundred");
        let scale = WeightScale::LeastError(STEP_SEARCH).scales(&many, 0, 2)[0];
        assert!((scale - 1.05).abs() < 0.1, "{scale}");
    }
}
