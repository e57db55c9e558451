//! Batch normalisation over all axes but the last.

use super::super::kernel::Real;
use super::linear::{dense, dense_mut};
use ndarray::ArrayD;
use rayon::prelude::*;

/// Mean and (biased) variance of each channel, in f64.
pub(in super::super) struct Statistics {
    pub mean: Vec<f64>,
    pub var: Vec<f64>,
    /// Positions averaged over.
    pub count: usize,
}

/// Rows a parallel piece holds. Pieces are fixed and combined in order, so sums do not depend on the thread count.
const PIECE: usize = 4096;

/// Statistics of a batch, in two passes for accuracy.
pub(in super::super) fn batch_statistics<T: Real>(input: &ArrayD<T>, channels: usize) -> Statistics {
    let count = input.len() / channels.max(1);
    let average = |f: &(dyn Fn(usize, f64) -> f64 + Sync)| -> Vec<f64> {
        let mut mean = sum_columns(channels, dense(input), |c, x: T| f(c, x.as_f64()));
        mean.iter_mut().for_each(|m| *m /= count.max(1) as f64);
        mean
    };
    let mean = average(&|_, x| x);
    let var = average(&|c, x| (x - mean[c]) * (x - mean[c]));
    Statistics { mean, var, count }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`
pub(in super::super) fn normalize<T: Real>(input: &ArrayD<T>, mean: &[f64], var: &[f64], eps: f64, weight: &[T], bias: &[T]) -> ArrayD<T> {
    let (scale, shift): (Vec<T>, Vec<T>) = (0..weight.len())
        .map(|c| {
            let scale = weight[c].as_f64() / (var[c] + eps).sqrt();
            (T::from_f64(scale), T::from_f64(bias[c].as_f64() - mean[c] * scale))
        })
        .unzip();
    let mut out = input.clone();
    dense_mut(&mut out).par_chunks_mut(weight.len().max(1) * PIECE).for_each(|piece| {
        for row in piece.chunks_exact_mut(weight.len()) {
            for ((x, &a), &b) in row.iter_mut().zip(&scale).zip(&shift) {
                *x = x.mul_add(a, b);
            }
        }
    });
    out
}

/// Gradients with respect to input, weight and bias.
///
/// With `batch` the statistics were those of the batch itself and depend on the input; otherwise they were constants.
pub(in super::super) fn backward<T: Real>(
    input: &ArrayD<T>,
    grad: &ArrayD<T>,
    statistics: &Statistics,
    eps: f64,
    weight: &[T],
    batch: bool,
) -> (ArrayD<T>, ArrayD<T>, ArrayD<T>) {
    let channels = weight.len();
    let Statistics { mean, var, count } = statistics;
    let inverse: Vec<f64> = var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    let bias_grad = sum_columns(channels, dense(grad), |_, g: T| g.as_f64());
    let weight_grad = sum_column_pairs(channels, dense(input), dense(grad), |c, x, g| g * (x - mean[c]) * inverse[c]);
    let mut input_grad = grad.clone();
    let m = (*count).max(1) as f64;
    dense_mut(&mut input_grad).par_chunks_mut(channels.max(1) * PIECE).zip(dense(input).par_chunks(channels.max(1) * PIECE)).for_each(
        |(grads, inputs)| {
            for (grads, inputs) in grads.chunks_exact_mut(channels).zip(inputs.chunks_exact(channels)) {
                for c in 0..channels {
                    let g = grads[c].as_f64();
                    let centred = if batch {
                        let normal = (inputs[c].as_f64() - mean[c]) * inverse[c];
                        g - bias_grad[c] / m - normal * weight_grad[c] / m
                    } else {
                        g
                    };
                    grads[c] = T::from_f64(centred * inverse[c] * weight[c].as_f64());
                }
            }
        },
    );
    let vector =
        |v: &[f64]| ArrayD::from_shape_vec(vec![v.len()], v.iter().map(|&x| T::from_f64(x)).collect()).expect("one value a channel");
    (input_grad, vector(&weight_grad), vector(&bias_grad))
}

fn sum_columns<T: Real>(channels: usize, data: &[T], f: impl Fn(usize, T) -> f64 + Sync) -> Vec<f64> {
    let sums: Vec<Vec<f64>> = data
        .par_chunks(channels.max(1) * PIECE)
        .map(|piece| {
            let mut sum = vec![0.0; channels];
            for row in piece.chunks_exact(channels) {
                for (c, &x) in row.iter().enumerate() {
                    sum[c] += f(c, x);
                }
            }
            sum
        })
        .collect();
    in_order(channels, sums)
}

fn sum_column_pairs<T: Real>(channels: usize, a: &[T], b: &[T], f: impl Fn(usize, f64, f64) -> f64 + Sync) -> Vec<f64> {
    let size = channels.max(1) * PIECE;
    let sums: Vec<Vec<f64>> = a
        .par_chunks(size)
        .zip(b.par_chunks(size))
        .map(|(a, b)| {
            let mut sum = vec![0.0; channels];
            for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
                for c in 0..channels {
                    sum[c] += f(c, a[c].as_f64(), b[c].as_f64());
                }
            }
            sum
        })
        .collect();
    in_order(channels, sums)
}

fn in_order(channels: usize, pieces: Vec<Vec<f64>>) -> Vec<f64> {
    let mut total = vec![0.0; channels];
    for piece in pieces {
        for (t, p) in total.iter_mut().zip(piece) {
            *t += p;
        }
    }
    total
}
