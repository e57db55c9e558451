//! Matrix products on all cores.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Rows that one thread computes at a time: fixed, so that sums do not depend on how many threads there are.
const ROWS: usize = 64;

/// `sum += left right`.
///
/// # Panics
/// If the shapes do not fit.
pub fn add_product(left: &ArrayView2<'_, f32>, right: &ArrayView2<'_, f32>, sum: &mut Array2<f32>) {
    assert_eq!((left.nrows(), left.ncols(), right.ncols()), (sum.nrows(), right.nrows(), sum.ncols()));
    let parts: Vec<_> = sum.axis_chunks_iter_mut(Axis(0), ROWS).zip(left.axis_chunks_iter(Axis(0), ROWS)).collect();
    parts.into_par_iter().for_each(|(mut sum, left)| general_mat_mul(1.0, &left, right, 1.0, &mut sum));
}

/// `left right`.
///
/// # Panics
/// If the shapes do not fit.
pub fn product(left: &ArrayView2<'_, f32>, right: &ArrayView2<'_, f32>) -> Array2<f32> {
    let mut sum = Array2::zeros((left.nrows(), right.ncols()));
    add_product(left, right, &mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_by_hand() {
        let left = Array2::from_shape_fn((130, 3), |(i, j)| (i * 3 + j) as f32);
        let right = Array2::from_shape_fn((3, 2), |(i, j)| i as f32 - 2.0 * j as f32);
        let found = product(&left.view(), &right.view());
        for i in 0..130 {
            let [a, b, c] = [0.0, 1.0, 2.0].map(|j| (i * 3) as f32 + j);
            assert_eq!([found[[i, 0]], found[[i, 1]]], [b + 2.0 * c, -2.0 * a - b]);
        }
    }
}
