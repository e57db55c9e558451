//! Forward and backward of each operation, on dense channels-last arrays.

pub(super) mod linear;
pub(super) mod norm;
pub(super) mod pillar;

use super::kernel::{Real, vectorized};
use linear::{dense, dense_mut};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

/// NaN stays NaN, as in PyTorch: a broken network must not look healthy.
#[inline]
pub(super) fn relu<T: Real>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

pub(super) fn relu_forward<T: Real>(input: &ArrayD<T>) -> ArrayD<T> {
    let mut out = ArrayD::zeros(input.raw_dim());
    dense_mut(&mut out).par_chunks_mut(PIECE).zip(dense(input).par_chunks(PIECE)).for_each(|(out, input)| copy_positive(out, input));
    out
}

/// Gradient through ReLU, given its *output*. At 0 it is 0 (PyTorch's choice; most cells of a lidar map are 0).
pub(super) fn relu_backward<T: Real>(output: &ArrayD<T>, mut grad: ArrayD<T>) -> ArrayD<T> {
    dense_mut(&mut grad).par_chunks_mut(PIECE).zip(dense(output).par_chunks(PIECE)).for_each(|(grad, output)| keep_positive(grad, output));
    grad
}

/// `sum += part`
pub(super) fn accumulate<T: Real>(sum: &mut ArrayD<T>, part: &ArrayD<T>) {
    dense_mut(sum).par_chunks_mut(PIECE).zip(dense(part).par_chunks(PIECE)).for_each(|(sum, part)| add(sum, part));
}

/// Elements of a parallel piece.
const PIECE: usize = 1 << 15;

vectorized! {
    fn copy_positive<T>(out: &mut [T], input: &[T]) {
        for (o, &x) in out.iter_mut().zip(input) {
            *o = relu(x);
        }
    }
}

vectorized! {
    fn keep_positive<T>(grad: &mut [T], output: &[T]) {
        for (g, &y) in grad.iter_mut().zip(output) {
            *g = if y <= T::zero() { T::zero() } else { *g };
        }
    }
}

vectorized! {
    fn add<T>(sum: &mut [T], part: &[T]) {
        for (s, &p) in sum.iter_mut().zip(part) {
            *s += p;
        }
    }
}

/// Side by side along the last axis.
pub(super) fn concat<T: Real>(inputs: &[&ArrayD<T>], out: &mut ArrayD<T>) {
    let width = last_axis(out);
    let mut at = 0;
    for input in inputs {
        let part = last_axis(input);
        let from = dense(input).par_chunks_exact(part.max(1));
        dense_mut(out).par_chunks_exact_mut(width.max(1)).zip(from).with_min_len(1024).for_each(|(to, from)| {
            to[at..at + part].copy_from_slice(from);
        });
        at += part;
    }
}

/// The gradient of [`concat`], cut at the inputs' widths.
pub(super) fn concat_backward<T: Real>(widths: &[usize], grad: &ArrayD<T>) -> Vec<ArrayD<T>> {
    let width = last_axis(grad);
    let mut at = 0;
    let cut = |part: usize| {
        let mut shape = grad.shape().to_vec();
        shape.pop();
        shape.push(part);
        let mut out = ArrayD::zeros(shape);
        let from = dense(grad).par_chunks_exact(width.max(1));
        dense_mut(&mut out).par_chunks_exact_mut(part.max(1)).zip(from).with_min_len(1024).for_each(|(to, from)| {
            to.copy_from_slice(&from[at..at + part]);
        });
        at += part;
        out
    };
    widths.iter().copied().map(cut).collect()
}

fn last_axis<T>(array: &ArrayD<T>) -> usize {
    array.len_of(Axis(array.ndim() - 1))
}
