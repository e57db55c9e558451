//! Rounding values to a grid, with gradients for the values and for the grid's step: the straight-through estimator and learned
//! step sizes (LSQ, Esser et al. 2020).

use super::kernel::{Real, vectorized};
use super::ops::linear::{dense, dense_mut};
use crate::engine::int8::Grid;
use crate::random::{mix, unit};
use ndarray::ArrayD;
use rayon::prelude::*;

/// Rounds values to multiples of a step, within limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snap {
    pub step: f32,
    /// Least and greatest multiple; whole numbers.
    pub low: f32,
    pub high: f32,
    /// Values that stay as they are, drawn at random (QDrop).
    pub dropped: Option<Dropped>,
}

/// A share of places, drawn by a seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropped {
    pub share: f32,
    pub seed: u64,
}

impl Dropped {
    /// Whether the value at this place of an array is one of them.
    pub fn has(&self, place: usize) -> bool {
        unit(mix(self.seed.wrapping_add(place as u64))) < self.share
    }
}

/// Elements of a parallel piece. Sums are chains over a piece, and then over the pieces.
pub(super) const PIECE: usize = 1 << 14;

impl Snap {
    /// To the values that the bytes of a grid stand for, all of them.
    pub fn onto(grid: &Grid) -> Self {
        let clamp = grid.clamp(false);
        Self { step: grid.scale, low: clamp.low, high: clamp.high, dropped: None }
    }

    /// Rounds an array in standard layout in place.
    ///
    /// # Panics
    /// If it is in another layout.
    pub fn apply<T: Real>(&self, values: &mut ArrayD<T>) {
        let [inverse, low, high, step] = self.numbers();
        dense_mut(values).par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            let exact = self.dropped.map(|dropped| (dropped, values.to_vec()));
            snap_piece(values, inverse, low, high, step);
            if let Some((dropped, exact)) = exact {
                (0..values.len()).filter(|i| dropped.has(piece * PIECE + i)).for_each(|i| values[i] = exact[i]);
            }
        });
    }

    /// From the gradient of the rounded values to that of the values as they came, and that of the step.
    pub(super) fn backward<T: Real>(&self, exact: &ArrayD<T>, mut grad: ArrayD<T>) -> (ArrayD<T>, f64) {
        let [inverse, low, high, _] = self.numbers();
        let pieces = dense_mut(&mut grad).par_chunks_mut(PIECE).zip(dense(exact).par_chunks(PIECE)).enumerate();
        // Fixed pieces, summed in order: the same bits for every thread count.
        let sums: Vec<f64> = pieces
            .map(|(piece, (grad, exact))| {
                let mut parts = vec![T::zero(); grad.len()];
                let whole = self.dropped.is_some().then(|| grad.to_vec());
                straight_through(grad, exact, &mut parts, inverse, low, high);
                if let (Some(dropped), Some(whole)) = (&self.dropped, whole) {
                    for i in (0..grad.len()).filter(|i| dropped.has(piece * PIECE + i)) {
                        (grad[i], parts[i]) = (whole[i], T::zero());
                    }
                }
                parts.iter().map(|part| part.as_f64()).sum()
            })
            .collect();
        (grad, sums.iter().sum())
    }

    /// The multiples of the step rather than what they amount to: integers, less their zero.
    pub(super) fn multiples<T: Real>(&self, exact: &ArrayD<T>, multiples: &mut ArrayD<T>) {
        let [inverse, low, high, _] = self.numbers();
        let pieces = dense_mut(multiples).par_chunks_mut(PIECE).zip(dense(exact).par_chunks(PIECE));
        pieces.for_each(|(multiples, exact)| {
            multiples.copy_from_slice(exact);
            snap_piece(multiples, inverse, low, high, T::one());
        });
    }

    /// The step's inverse, the limits and the step.
    pub(super) fn numbers<T: Real>(&self) -> [T; 4] {
        [1.0 / f64::from(self.step), self.low.into(), self.high.into(), self.step.into()].map(T::from_f64)
    }
}

vectorized! {
    /// `x = scale * round(clamp(x * inverse))`
    fn snap_piece<T>(piece: &mut [T], inverse: T, low: T, high: T, scale: T) {
        for x in piece {
            *x = (*x * inverse).max(low).min(high).round_ties_even() * scale;
        }
    }
}

vectorized! {
    /// With `u = x / step`: the gradient of the step is `round(u) - u` inside the limits and the limit outside; that of `x` is 1
    /// inside and 0 outside. Both times `grad`.
    fn straight_through<T>(grad: &mut [T], exact: &[T], parts: &mut [T], inverse: T, low: T, high: T) {
        for ((g, &x), part) in grad.iter_mut().zip(exact).zip(parts) {
            let u = x * inverse;
            let rounded = u.max(low).min(high).round_ties_even();
            let inside = u > low && u < high;
            *part = *g * (if inside { rounded - u } else { rounded });
            *g = if inside { *g } else { T::zero() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LSQ's equations 3 and 5 by hand: step 0.5, multiples 0 to 3.
    #[test]
    fn values_and_gradients_by_hand() {
        let snap = Snap { step: 0.5, low: 0.0, high: 3.0, dropped: None };
        let exact = ArrayD::from_shape_vec(vec![5], vec![-1.0, 0.2, 0.8, 1.4, 9.0]).expect("five");
        let mut rounded = exact.clone();
        snap.apply::<f64>(&mut rounded);
        assert_eq!(rounded.as_slice(), Some(&[0.0, 0.0, 1.0, 1.5, 1.5][..]));
        let mut multiples = ArrayD::zeros(vec![5]);
        snap.multiples::<f64>(&exact, &mut multiples);
        assert_eq!(multiples.as_slice(), Some(&[0.0, 0.0, 2.0, 3.0, 3.0][..]));
        let grad = ArrayD::from_shape_vec(vec![5], vec![1.0, 10.0, 100.0, 1000.0, 1e4]).expect("five");
        let (passed, step) = snap.backward::<f64>(&exact, grad);
        assert_eq!(passed.as_slice(), Some(&[0.0, 10.0, 100.0, 1000.0, 0.0][..]));
        // u = 0.4 -> 0, 1.6 -> 2, 2.8 -> 3, and 3 above the limit.
        let expected = -0.4 * 10.0 + 0.4 * 100.0 + 0.2 * 1000.0 + 3.0 * 1e4;
        assert!((step - expected).abs() < 1e-9, "{step}");
    }

    #[test]
    fn dropped_values_pass_and_their_share_is_kept() {
        let dropped = Dropped { share: 0.25, seed: 5 };
        let snap = Snap { step: 1.0, low: 0.0, high: 1.0, dropped: Some(dropped) };
        let exact = ArrayD::from_elem(vec![40_000], 7.4f32);
        let mut rounded = exact.clone();
        snap.apply(&mut rounded);
        let stayed = rounded.iter().filter(|&&x| x == 7.4).count();
        assert!((stayed as f32 / 40_000.0 - 0.25).abs() < 0.01, "{stayed}");
        let (passed, step) = snap.backward(&exact, ArrayD::ones(vec![40_000]));
        assert_eq!(passed.sum(), stayed as f32);
        assert_eq!(step, (40_000 - stayed) as f64);
    }

    /// As the integer engines round: to the values of the bytes, at halves and beyond the limits too.
    #[test]
    fn a_grid_rounds_to_what_its_bytes_stand_for() {
        for (scale, zero, low, high) in [(0.1, 0, 0, 255), (0.037, 128, 1, 255), (1.5, 77, 0, 255)] {
            let grid = Grid { scale, zero, low, high };
            let exact = ArrayD::from_shape_fn(vec![3000], |i| (i[0] as f32 - 1500.0) * scale / 4.0);
            let want = exact.mapv(|x| grid.value(grid.quantizer().byte(x)));
            let mut rounded = exact;
            Snap::onto(&grid).apply(&mut rounded);
            assert_eq!(rounded, want, "{grid:?}");
        }
    }
}
