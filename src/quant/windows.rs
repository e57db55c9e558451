//! A layer as a matrix product: each of its positions sees one window of the input.

use crate::graph::Op;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, IxDyn};

/// Where a layer's windows lie. Positions count the outputs of a convolution and the inputs of a transposed one, whose kernel
/// equals its stride: each of its inputs has outputs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Windows {
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Windows {
    /// `None` for an operation without a weight.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Conv2d { kernel, stride, padding, .. } => Some(Self { kernel, stride, padding }),
            Op::ConvTranspose2d { .. } | Op::Linear { .. } => Some(Self { kernel: 1, stride: 1, padding: 0 }),
            _ => None,
        }
    }

    /// Positions along y and x for an input of this height and width.
    pub fn positions(self, [height, width]: [usize; 2]) -> [usize; 2] {
        [height, width].map(|n| (n + 2 * self.padding).saturating_sub(self.kernel) / self.stride + 1)
    }

    /// Values of a window of a map with so many channels.
    pub fn length(self, channels: usize) -> usize {
        self.kernel * self.kernel * channels
    }

    /// Copies the window of sample `n` at position `[y, x]` of a map `[batch, height, width, channels]`: rows of the window,
    /// then columns, then channels; zeros where it hangs over the border.
    pub fn copy(self, map: &[f32], [height, width, channels]: [usize; 3], [n, y, x]: [usize; 3], to: &mut [f32]) {
        let image = &map[n * height * width * channels..];
        for (tap, to) in to.chunks_exact_mut(channels).enumerate() {
            let inside = |at: usize, tap: usize, size: usize| (at * self.stride + tap).checked_sub(self.padding).filter(|&i| i < size);
            match (inside(y, tap / self.kernel, height), inside(x, tap % self.kernel, width)) {
                (Some(iy), Some(ix)) => to.copy_from_slice(&image[(iy * width + ix) * channels..][..channels]),
                _ => to.fill(0.0),
            }
        }
    }

    /// The windows `[positions, window]` of a map at positions `[sample, y, x]`.
    pub fn cut(self, map: &ArrayD<f32>, positions: &[[u32; 3]]) -> Array2<f32> {
        let extent = extent(map);
        let mut windows = Array2::zeros((positions.len(), self.length(extent[2])));
        let map = map.as_slice().unwrap_or_default();
        for (mut row, position) in windows.outer_iter_mut().zip(positions) {
            if let Some(row) = row.as_slice_mut() {
                self.copy(map, extent, position.map(|n| n as usize), row);
            }
        }
        windows
    }
}

/// The order of a weight's axes in which its outputs come first and the rest is as in a window.
fn axes(op: &Op, rank: usize) -> Vec<usize> {
    match op {
        Op::Conv2d { .. } => vec![0, 2, 3, 1],
        Op::ConvTranspose2d { .. } => vec![1, 2, 3, 0],
        _ => (0..rank).collect(),
    }
}

/// A layer's weight as the matrix that windows are multiplied with, `[rows, window]`. A transposed convolution has a row for
/// each output channel and place in the kernel, the places of a channel one after the other.
pub fn to_matrix<T: Clone>(op: &Op, weight: &ArrayViewD<'_, T>) -> Array2<T> {
    let permuted = weight.view().permuted_axes(IxDyn(&axes(op, weight.ndim())));
    let width = row_length(op, permuted.shape());
    let values: Vec<T> = permuted.iter().cloned().collect();
    Array2::from_shape_vec((values.len() / width.max(1), width), values).expect("as many as it had")
}

/// The weight that [`to_matrix`] made a matrix of; `shape` is the weight's.
pub fn from_matrix<T: Clone + Default>(op: &Op, matrix: ArrayView2<'_, T>, shape: &[usize]) -> ArrayD<T> {
    let axes = axes(op, shape.len());
    let permuted: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
    let values = ArrayD::from_shape_vec(permuted, matrix.iter().cloned().collect()).expect("as many as the weight has");
    let mut back = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    values.permuted_axes(IxDyn(&back)).as_standard_layout().into_owned()
}

fn row_length(op: &Op, permuted: &[usize]) -> usize {
    match op {
        Op::ConvTranspose2d { .. } => permuted[3],
        _ => permuted[1..].iter().product(),
    }
}

/// Height, width and channels of a map `[batch, height, width, channels]`, or of rows `[n, channels]` as one column.
pub fn extent(map: &ArrayD<f32>) -> [usize; 3] {
    let channels = map.len_of(Axis(map.ndim() - 1));
    match map.shape() {
        [_, h, w, _] => [*h, *w, channels],
        shape => [shape[..shape.len() - 1].iter().product(), 1, channels],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::float::{FloatEngine, Inputs};
    use crate::graph::{Dim, GraphBuilder, Params};
    use crate::random::Rng;
    use std::collections::BTreeMap;

    /// Matrix times window is what the float engine computes, for every kind of layer.
    #[test]
    fn windows_and_matrices_make_layers() {
        let conv = |kernel, stride, padding| Op::Conv2d { inputs: 3, outputs: 5, kernel, stride, padding, bias: false, relu: false };
        let ops = [
            conv(3, 1, 1),
            conv(3, 2, 1),
            conv(1, 1, 0),
            conv(2, 2, 0),
            Op::ConvTranspose2d { inputs: 3, outputs: 4, stride: 2, bias: false, relu: false },
        ];
        for op in ops {
            let mut rng = Rng::new(2, "windows");
            let mut b = GraphBuilder::new();
            let x = b.input("x", vec![Dim::Batch, Dim::Fixed(6), Dim::Fixed(8), Dim::Fixed(3)]);
            let layer = b.add("layer", op.clone(), &[x]);
            b.output("y", layer);
            let graph = b.finish().expect("a graph");
            let shape = op.params("layer")[0].shape.clone();
            let weight = ArrayD::from_shape_simple_fn(shape.clone(), || rng.range(-1.0, 1.0));
            let input = ArrayD::from_shape_simple_fn(vec![2, 6, 8, 3], || rng.range(-1.0, 1.0));
            let params = Params(BTreeMap::from([("layer.weight".to_owned(), weight.clone())]));
            let out =
                FloatEngine::new(&graph, &params).expect("fits").run(&Inputs::default().with_dense("x", input.clone())).expect("runs");
            let out = &out["y"];

            let matrix = to_matrix(&op, &weight.view());
            assert_eq!(from_matrix(&op, matrix.view(), &shape), weight);
            let windows = Windows::of(&op).expect("a layer");
            let [height, width, _] = extent(&input);
            let [rows, columns] = windows.positions([height, width]);
            let mut window = vec![0.0; matrix.ncols()];
            let phases = matrix.nrows() / out.len_of(Axis(3));
            let stride = (phases as f64).sqrt() as usize;
            for (n, y, x) in (0..2).flat_map(|n| (0..rows).flat_map(move |y| (0..columns).map(move |x| (n, y, x)))) {
                windows.copy(input.as_slice().expect("dense"), [6, 8, 3], [n, y, x], &mut window);
                for (row, weights) in matrix.outer_iter().enumerate() {
                    let sum: f32 = weights.iter().zip(&window).map(|(w, v)| w * v).sum();
                    let (channel, phase) = (row / phases, row % phases);
                    let found = out[[n, y * stride + phase / stride, x * stride + phase % stride, channel]];
                    assert!((sum - found).abs() < 1e-5, "{op:?} {n} {y} {x} {row}: {sum} {found}");
                }
            }
        }
    }
}
