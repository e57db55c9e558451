//! Batch normalisation over all axes but the last.

use super::super::kernel::{Real, vectorized};
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

/// Rows that a parallel piece holds. Pieces are fixed and combined in order, so sums do not depend on the thread count.
pub(in super::super) const PIECE: usize = 2048;

/// Statistics of a batch, in two passes for accuracy.
pub(in super::super) fn batch_statistics<T: Real>(input: &ArrayD<T>, channels: usize) -> Statistics {
    let count = input.len() / channels.max(1);
    let pieces = || dense(input).par_chunks(channels.max(1) * PIECE);
    let average = |mut sums: Vec<f64>| {
        sums.iter_mut().for_each(|s| *s /= count.max(1) as f64);
        sums
    };
    let mean = average(in_order(channels, pieces().map(|rows| filled(channels, |sums| add_rows(sums, rows))).collect()));
    let var = average(in_order(channels, pieces().map(|rows| filled(channels, |sums| add_squares(sums, rows, &mean))).collect()));
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
    let mut out = ArrayD::zeros(input.raw_dim());
    let size = weight.len().max(1) * PIECE;
    dense_mut(&mut out).par_chunks_mut(size).zip(dense(input).par_chunks(size)).for_each(|(out, rows)| affine(out, rows, &scale, &shift));
    out
}

/// Gradients with respect to input, weight and bias.
///
/// With `batch` the statistics were those of the batch itself and depend on the input; otherwise they were constants.
pub(in super::super) fn backward<T: Real>(
    input: &ArrayD<T>,
    mut grad: ArrayD<T>,
    statistics: &Statistics,
    eps: f64,
    weight: &[T],
    batch: bool,
) -> (ArrayD<T>, ArrayD<T>, ArrayD<T>) {
    let channels = weight.len();
    let size = channels.max(1) * PIECE;
    let Statistics { mean, var, count } = statistics;
    let inverse: Vec<f64> = var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    // Sums of the gradient, and of the gradient times the centred input.
    let pieces = dense(&grad).par_chunks(size).zip(dense(input).par_chunks(size));
    let sums = pieces.map(|(g, x)| filled(2 * channels, |sums| add_gradients(sums, g, x, mean))).collect();
    let sums = in_order(2 * channels, sums);
    let (bias_grad, centred) = sums.split_at(channels);
    let weight_grad: Vec<f64> = centred.iter().zip(&inverse).map(|(s, i)| s * i).collect();

    // d loss / d x = a g + b x + c, per channel.
    let m = (*count).max(1) as f64;
    let coefficients: Vec<[T; 3]> = (0..channels)
        .map(|c| {
            let a = inverse[c] * weight[c].as_f64();
            let b = if batch { -a * inverse[c] * weight_grad[c] / m } else { 0.0 };
            let constant = if batch { -a * bias_grad[c] / m - b * mean[c] } else { 0.0 };
            [a, b, constant].map(T::from_f64)
        })
        .collect();
    let [a, b, constant]: [Vec<T>; 3] = [0, 1, 2].map(|i| coefficients.iter().map(|k| k[i]).collect());
    dense_mut(&mut grad)
        .par_chunks_mut(size)
        .zip(dense(input).par_chunks(size))
        .for_each(|(grads, inputs)| combine(grads, inputs, &a, &b, &constant));
    let vector =
        |v: &[f64]| ArrayD::from_shape_vec(vec![v.len()], v.iter().map(|&x| T::from_f64(x)).collect()).expect("one value a channel");
    (grad, vector(&weight_grad), vector(bias_grad))
}

fn filled(length: usize, fill: impl FnOnce(&mut [f64])) -> Vec<f64> {
    let mut sums = vec![0.0; length];
    fill(&mut sums);
    sums
}

fn in_order(length: usize, pieces: Vec<Vec<f64>>) -> Vec<f64> {
    let mut total = vec![0.0; length];
    for piece in pieces {
        total.iter_mut().zip(piece).for_each(|(t, p)| *t += p);
    }
    total
}

vectorized! {
    fn add_rows<T>(sums: &mut [f64], rows: &[T]) {
        for row in rows.chunks_exact(sums.len()) {
            for (s, &x) in sums.iter_mut().zip(row) {
                *s += x.as_f64();
            }
        }
    }
}

vectorized! {
    fn add_squares<T>(sums: &mut [f64], rows: &[T], mean: &[f64]) {
        for row in rows.chunks_exact(sums.len()) {
            for ((s, &x), &m) in sums.iter_mut().zip(row).zip(mean) {
                let d = x.as_f64() - m;
                *s += d * d;
            }
        }
    }
}

vectorized! {
    fn add_gradients<T>(sums: &mut [f64], grads: &[T], inputs: &[T], mean: &[f64]) {
        let (plain, centred) = sums.split_at_mut(mean.len());
        for (grads, inputs) in grads.chunks_exact(mean.len()).zip(inputs.chunks_exact(mean.len())) {
            for ((((p, c), &g), &x), &m) in plain.iter_mut().zip(centred.iter_mut()).zip(grads).zip(inputs).zip(mean) {
                *p += g.as_f64();
                *c += g.as_f64() * (x.as_f64() - m);
            }
        }
    }
}

vectorized! {
    fn affine<T>(out: &mut [T], rows: &[T], scale: &[T], shift: &[T]) {
        for (out, row) in out.chunks_exact_mut(scale.len()).zip(rows.chunks_exact(scale.len())) {
            for (((o, &x), &a), &b) in out.iter_mut().zip(row).zip(scale).zip(shift) {
                *o = x * a + b;
            }
        }
    }
}

vectorized! {
    fn combine<T>(grads: &mut [T], inputs: &[T], a: &[T], b: &[T], constant: &[T]) {
        for (grads, inputs) in grads.chunks_exact_mut(a.len()).zip(inputs.chunks_exact(a.len())) {
            for ((((g, &x), &a), &b), &c) in grads.iter_mut().zip(inputs).zip(a).zip(b).zip(constant) {
                *g = *g * a + x * b + c;
            }
        }
    }
}
