//! Forward and backward of each operation, on dense channels-last arrays.

pub(super) mod linear;
pub(super) mod norm;
pub(super) mod pillar;

use super::kernel::Real;
use ndarray::{ArrayD, Axis, Slice, Zip};

/// NaN stays NaN, as in PyTorch: a broken network must not look healthy.
#[inline]
pub(super) fn relu<T: Real>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

/// Gradient through ReLU, given its *output*. At 0 it is 0 (PyTorch's choice; most cells of a lidar map are 0).
pub(super) fn relu_backward<T: Real>(output: &ArrayD<T>, mut grad: ArrayD<T>) -> ArrayD<T> {
    Zip::from(&mut grad).and(output).par_for_each(|g, &y| {
        if y <= T::zero() {
            *g = T::zero();
        }
    });
    grad
}

/// Side by side along the last axis.
pub(super) fn concat<T: Real>(inputs: &[&ArrayD<T>], out: &mut ArrayD<T>) {
    let last = Axis(out.ndim() - 1);
    let mut at = 0;
    for input in inputs {
        let width = input.len_of(last);
        out.slice_axis_mut(last, Slice::from(at..at + width)).assign(input);
        at += width;
    }
}

/// The gradient of [`concat`], cut at the inputs' widths.
pub(super) fn concat_backward<T: Real>(widths: &[usize], grad: &ArrayD<T>) -> Vec<ArrayD<T>> {
    let last = Axis(grad.ndim() - 1);
    let mut at = 0;
    widths
        .iter()
        .map(|&width| {
            let part = grad.slice_axis(last, Slice::from(at..at + width)).to_owned();
            at += width;
            part
        })
        .collect()
}
