//! Fake quantization: integer layers in float arithmetic.
//!
//! Values between nodes are the floats that integers stand for, so that every other operation takes them as they are. A layer
//! turns its input back into integers, sums integers, and ends as [`crate::engine::int8`] defines it.

use super::kernel::vectorized;
use super::ops::linear::dense_mut;
use super::snap::Snap;
use crate::engine::int8::{Finish, Grid, Requantize};
use crate::graph::{Graph, Node, Scheme};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

/// What an integer layer does besides summing.
pub(super) struct FakeLayer {
    /// Onto the grid of its input.
    pub input: Snap,
    pub requantize: Requantize,
    /// Of the output, if it is quantized.
    pub scale: f32,
}

/// Rows of a parallel piece.
const ROWS: usize = 256;

impl FakeLayer {
    /// The layer at `node` of a folded graph and its integer weight, if the scheme has it.
    pub fn of(graph: &Graph, node: &Node, scheme: &Scheme, bias: Option<&[f32]>) -> Option<(Self, ArrayD<f32>)> {
        let weight = scheme.weights.get(&node.name)?;
        let grid = |name: &str| scheme.activations.get(name).map(|&a| Grid::from(a));
        let input = grid(&graph.nodes[*node.inputs.first()?].name)?;
        let output = grid(&node.name);
        let requantize = Requantize::new(&node.op, weight, bias, &input, output.as_ref());
        let fake = Self { input: Snap::onto(&input), requantize, scale: output.map_or(1.0, |grid| grid.scale) };
        Some((fake, weight.integers.mapv(f32::from)))
    }

    /// From accumulators to the floats that the layer's output stands for.
    pub fn finish(&self, out: &mut ArrayD<f32>) {
        let channels = out.len_of(Axis(out.ndim() - 1));
        let Requantize { multiplier, bias, finish } = &self.requantize;
        dense_mut(out).par_chunks_mut(ROWS * channels.max(1)).for_each(|rows| match *finish {
            Finish::Bytes(clamp) => round_rows(rows, multiplier, bias, clamp.low, clamp.high, self.scale),
            Finish::Floats { low } => scale_rows(rows, multiplier, bias, low),
        });
    }
}

vectorized! {
    /// `x = scale * round(clamp(fma(x, multiplier[c], bias[c])))`
    fn round_rows<T>(rows: &mut [T], multiplier: &[T], bias: &[T], low: T, high: T, scale: T) {
        for row in rows.chunks_mut(multiplier.len()) {
            for ((x, &m), &b) in row.iter_mut().zip(multiplier).zip(bias) {
                *x = x.mul_add(m, b).max(low).min(high).round_ties_even() * scale;
            }
        }
    }
}

vectorized! {
    /// `x = max(low, fma(x, multiplier[c], bias[c]))`
    fn scale_rows<T>(rows: &mut [T], multiplier: &[T], bias: &[T], low: T) {
        for row in rows.chunks_mut(multiplier.len()) {
            for ((x, &m), &b) in row.iter_mut().zip(multiplier).zip(bias) {
                *x = x.mul_add(m, b).max(low);
            }
        }
    }
}
