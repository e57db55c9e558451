//! What happens to whole images but for convolution: onto a grid, off it, added.

use crate::engine::int8::arithmetic::Grid;
use crate::engine::int8::cpu::Kernels;
use crate::engine::int8::plan::{Addition, Buffer, View};
use ndarray::{ArrayD, ArrayViewD, Axis};
use rayon::prelude::*;

/// Rows of a parallel piece.
const ROWS: usize = 8;

/// An image of floats onto a grid.
pub fn quantize(kernels: &Kernels, from: &ArrayViewD<'_, f32>, buffer: &Buffer, to: &View, bytes: &mut [u8]) {
    let (row, border) = (buffer.row(), buffer.border);
    let quantizer = to.grid.quantizer();
    let from = from.index_axis(Axis(0), 0);
    bytes[border * row..][..buffer.height * row].par_chunks_mut(row).enumerate().for_each(|(y, line)| {
        let source = from.index_axis(Axis(0), y);
        for (x, pixel) in source.rows().into_iter().enumerate() {
            let at = (x + border) * buffer.channels + to.first;
            match pixel.as_slice() {
                Some(pixel) => kernels.quantize(&quantizer, pixel, &mut line[at..at + to.channels]),
                None => line[at..at + to.channels].iter_mut().zip(pixel).for_each(|(to, &x)| *to = quantizer.byte(x)),
            }
        }
    });
}

/// The floats that an image of bytes stands for.
pub fn dequantize(bytes: &[u8], buffer: &Buffer, from: &View, to: &mut ArrayD<f32>) {
    let floats = to.as_slice_mut().unwrap_or_default();
    floats.par_chunks_mut(buffer.width * from.channels).enumerate().for_each(|(y, line)| {
        for (x, pixel) in line.chunks_exact_mut(from.channels).enumerate() {
            let at = buffer.at(y, x) + from.first;
            pixel.iter_mut().zip(&bytes[at..]).for_each(|(to, &byte)| *to = from.grid.value(byte));
        }
    });
}

/// A buffer, its bytes, the first channel and the grid of a summand.
type Part<'a> = (&'a Buffer, &'a [u8], usize, Grid);

/// The sum of two images, on a grid of its own.
pub fn add(add: Addition, a: Part<'_>, b: Part<'_>, buffer: &Buffer, to: &View, bytes: &mut [u8]) {
    let (row, border) = (buffer.row(), buffer.border);
    let centred = |byte: u8, grid: &Grid| f32::from(i16::from(byte) - i16::from(grid.zero));
    bytes[border * row..][..buffer.height * row].par_chunks_mut(row * ROWS).enumerate().for_each(|(band, lines)| {
        for (i, line) in lines.chunks_exact_mut(row).enumerate() {
            for x in 0..buffer.width {
                let at = (x + border) * buffer.channels + to.first;
                let y = band * ROWS + i;
                let [a_pixel, b_pixel] = [&a, &b].map(|(buffer, bytes, first, _)| &bytes[buffer.at(y, x) + first..]);
                for ((to, &p), &q) in line[at..at + to.channels].iter_mut().zip(a_pixel).zip(b_pixel) {
                    let sum = centred(p, &a.3).mul_add(add.a_factor, centred(q, &b.3) * add.b_factor);
                    *to = add.clamp.byte(sum);
                }
            }
        }
    });
}
