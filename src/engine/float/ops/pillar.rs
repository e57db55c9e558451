//! Between points, pillars and the bird's-eye image.

use super::super::kernel::Real;
use super::linear::{dense, dense_mut};
use crate::graph::PillarIndex;
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

/// Pillars of a parallel piece.
const PILLARS: usize = 256;

fn width<T>(array: &ArrayD<T>) -> usize {
    array.len_of(Axis(array.ndim() - 1))
}

fn rows_of(index: &PillarIndex, pillar: usize) -> std::ops::Range<usize> {
    index.offsets[pillar] as usize..index.offsets[pillar + 1] as usize
}

/// Maximum over the rows of each pillar. With `winners`, notes for each pillar and channel the first row that has it.
pub(in super::super) fn max<T: Real>(rows: &ArrayD<T>, index: &PillarIndex, out: &mut ArrayD<T>, mut winners: Option<&mut Vec<u32>>) {
    let c = width(rows);
    let (rows, out) = (dense(rows), dense_mut(out));
    if let Some(winners) = &mut winners {
        winners.clear();
        winners.resize(out.len(), 0);
    }
    let first = |pillar: usize, best: &mut [T]| {
        let range = rows_of(index, pillar);
        best.copy_from_slice(&rows[range.start * c..][..c]);
        range
    };
    match winners {
        None => out.par_chunks_mut((c * PILLARS).max(1)).enumerate().for_each(|(part, out)| {
            for (i, best) in out.chunks_exact_mut(c).enumerate() {
                for row in first(part * PILLARS + i, best).skip(1) {
                    for (b, &x) in best.iter_mut().zip(&rows[row * c..][..c]) {
                        *b = if x > *b { x } else { *b };
                    }
                }
            }
        }),
        Some(winners) => {
            for (pillar, (best, winner)) in out.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
                let range = first(pillar, best);
                winner.fill(range.start as u32);
                for row in range.skip(1) {
                    for ((b, w), &x) in best.iter_mut().zip(winner.iter_mut()).zip(&rows[row * c..][..c]) {
                        if x > *b {
                            (*b, *w) = (x, row as u32);
                        }
                    }
                }
            }
        }
    }
}

pub(in super::super) fn max_backward<T: Real>(grad: &ArrayD<T>, winners: &[u32], rows: usize) -> ArrayD<T> {
    let c = width(grad);
    let mut out = ArrayD::zeros(vec![rows, c]);
    let to = dense_mut(&mut out);
    for (i, (&g, &row)) in dense(grad).iter().zip(winners).enumerate() {
        to[row as usize * c + i % c] += g;
    }
    out
}

/// Each row followed by its pillar's values.
pub(in super::super) fn concat<T: Real>(rows: &ArrayD<T>, pillars: &ArrayD<T>, index: &PillarIndex, out: &mut ArrayD<T>) {
    let (a, b) = (width(rows), width(pillars));
    let (rows, pillars, out) = (dense(rows), dense(pillars), dense_mut(out));
    // The rows of some pillars are a piece of their own.
    let mut rest = out;
    let mut pieces = Vec::with_capacity(index.pillars().div_ceil(PILLARS));
    for first in (0..index.pillars()).step_by(PILLARS) {
        let some = first..(first + PILLARS).min(index.pillars());
        let count = (index.offsets[some.end] - index.offsets[some.start]) as usize;
        let (piece, behind) = rest.split_at_mut(count * (a + b));
        rest = behind;
        pieces.push((some, piece));
    }
    pieces.into_par_iter().for_each(|(some, piece)| {
        let mut out = piece.chunks_exact_mut(a + b);
        for pillar in some {
            for (row, to) in rows_of(index, pillar).zip(&mut out) {
                to[..a].copy_from_slice(&rows[row * a..][..a]);
                to[a..].copy_from_slice(&pillars[pillar * b..][..b]);
            }
        }
    });
}

/// Gradients with respect to the rows (width `a`) and to the pillars.
pub(in super::super) fn concat_backward<T: Real>(grad: &ArrayD<T>, a: usize, index: &PillarIndex) -> (ArrayD<T>, ArrayD<T>) {
    let b = width(grad) - a;
    let mut rows = ArrayD::zeros(vec![index.rows(), a]);
    let mut pillars = ArrayD::zeros(vec![index.pillars(), b]);
    let (to_rows, to_pillars, grad) = (dense_mut(&mut rows), dense_mut(&mut pillars), dense(grad));
    for pillar in 0..index.pillars() {
        for row in rows_of(index, pillar) {
            let from = &grad[row * (a + b)..][..a + b];
            to_rows[row * a..][..a].copy_from_slice(&from[..a]);
            for (p, &g) in to_pillars[pillar * b..][..b].iter_mut().zip(&from[a..]) {
                *p += g;
            }
        }
    }
    (rows, pillars)
}

/// The pillars at their cells of an otherwise empty image.
pub(in super::super) fn scatter<T: Real>(pillars: &ArrayD<T>, index: &PillarIndex, out: &mut ArrayD<T>) {
    let c = width(pillars);
    let [height, width] = [out.shape()[1], out.shape()[2]];
    let (pillars, out) = (dense(pillars), dense_mut(out));
    out.par_chunks_mut(1 << 16).for_each(|piece| piece.fill(T::zero()));
    for (pillar, &[sample, y, x]) in index.cells.iter().enumerate() {
        let cell = (sample as usize * height + y as usize) * width + x as usize;
        out[cell * c..][..c].copy_from_slice(&pillars[pillar * c..][..c]);
    }
}

pub(in super::super) fn scatter_backward<T: Real>(grad: &ArrayD<T>, index: &PillarIndex) -> ArrayD<T> {
    let c = width(grad);
    let [height, width] = [grad.shape()[1], grad.shape()[2]];
    let mut out = ArrayD::zeros(vec![index.pillars(), c]);
    let (to, grad) = (dense_mut(&mut out), dense(grad));
    for (pillar, &[sample, y, x]) in index.cells.iter().enumerate() {
        let cell = (sample as usize * height + y as usize) * width + x as usize;
        to[pillar * c..][..c].copy_from_slice(&grad[cell * c..][..c]);
    }
    out
}
