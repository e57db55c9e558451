//! Sliding a window of weights over a channels-last image: the one loop behind convolution, transposed convolution, linear
//! layers and the gradients of all of them.
//!
//! Nothing is copied into columns. A channels-last row is contiguous over (tap, channel), so a window row is one stretch of the
//! reduction. Where the window hangs over the border, the stretch is cut: zero padding costs nothing.

use super::kernel::{Kernels, MAX_LANES, MAX_PIXELS, Real, Stretch, Strides};
use rayon::prelude::*;

/// Weights in the order in which the tiles read them: `[block of lanes][tap y][tap x][channel][lane]`, zero-filled to whole
/// vectors.
#[derive(Clone, Debug)]
pub(super) struct Packed<T> {
    data: Vec<T>,
    blocks: Vec<Block>,
    taps: [usize; 2],
    channels: usize,
}

/// Neighbouring output channels that one tile computes.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// First output channel.
    first: usize,
    /// Output channels that exist.
    used: usize,
    /// Lanes including filling.
    lanes: usize,
    /// Where its weights start.
    start: usize,
}

/// One sweep of the window over one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// Height and width of the input image.
    pub input: [usize; 2],
    /// Input pixels between neighbouring outputs.
    pub step: usize,
    /// Input coordinate of tap 0 at output 0; negative in the padding.
    pub origin: [isize; 2],
    /// Outputs along y and x.
    pub output: [usize; 2],
    /// In the output slice: the first element of output (0, 0).
    pub base: usize,
    /// In the output slice: elements from one output row, and from one output, to the next.
    pub row_stride: usize,
    pub column_stride: usize,
}

/// Which weights a pass reads, and where they lie in a layer's weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    pub outputs: usize,
    /// Along y and x.
    pub taps: [usize; 2],
    pub channels: usize,
    /// The weight of output 0, tap (0, 0), channel 0.
    pub first: usize,
    /// From one output, tap along y, tap along x, channel to the next; negative where a window is turned around.
    pub strides: [isize; 4],
}

impl Filter {
    fn place(&self, output: usize, [y, x]: [usize; 2], channel: usize) -> usize {
        let steps = [output, y, x, channel].into_iter().zip(self.strides).map(|(n, stride)| n as isize * stride);
        self.first.wrapping_add_signed(steps.sum())
    }
}

impl<T: Real> Packed<T> {
    /// Packs what a pass reads of a layer's weight.
    pub fn new(kernels: &Kernels<T>, weight: &[T], filter: &Filter) -> Self {
        let Filter { outputs, taps, channels, .. } = *filter;
        let (vector, depth) = (kernels.vector(), taps[0] * taps[1] * channels);
        let mut blocks = Vec::new();
        let (mut first, mut start) = (0, 0);
        while first < outputs {
            let left = outputs - first;
            let lanes = if left > vector { 2 * vector } else { vector };
            blocks.push(Block { first, used: left.min(lanes), lanes, start });
            first += lanes;
            start += lanes * depth;
        }
        let mut data = vec![T::zero(); start];
        for block in &blocks {
            let mut at = block.start;
            for y in 0..taps[0] {
                for x in 0..taps[1] {
                    for c in 0..channels {
                        for l in 0..block.used {
                            data[at + l] = weight[filter.place(block.first + l, [y, x], c)];
                        }
                        at += block.lanes;
                    }
                }
            }
        }
        Self { data, blocks, taps, channels }
    }

    /// The weights as `[channel][output]`, if there is one tap.
    pub fn matrix(&self) -> Option<Vec<T>> {
        let row = |c: usize| self.blocks.iter().flat_map(move |b| &self.data[b.start + c * b.lanes..][..b.used]);
        (self.taps == [1, 1]).then(|| (0..self.channels).flat_map(row).copied().collect())
    }
}

/// Outputs along one axis that see the same taps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    from: usize,
    to: usize,
    /// Taps inside the image.
    taps: (usize, usize),
}

/// Cuts an axis into spans: in the middle every tap is inside, near the ends some are not.
fn spans(outputs: usize, taps: usize, step: usize, origin: isize, input: usize) -> Vec<Span> {
    let inside = |o: usize| {
        let first = origin + (o * step) as isize;
        let low = (-first).clamp(0, taps as isize) as usize;
        let high = (input as isize - first).clamp(0, taps as isize) as usize;
        (low, high.max(low))
    };
    let mut spans: Vec<Span> = Vec::new();
    for o in 0..outputs {
        let taps = inside(o);
        match spans.last_mut() {
            Some(s) if s.taps == taps => s.to = o + 1,
            _ => spans.push(Span { from: o, to: o + 1, taps }),
        }
    }
    spans
}

/// Output rows that one task computes, so that their input stays in the second-level cache and there are tasks enough to share.
const TASK_ROWS: usize = 6;

/// `out[y, x, o] = bias[o] + sum over taps and channels of input * weight`, then ReLU if asked for.
///
/// # Panics
/// If a slice is too short for the pass.
pub(super) fn correlate<T: Real>(
    kernels: &Kernels<T>,
    input: &[T],
    weights: &Packed<T>,
    bias: Option<&[T]>,
    relu: bool,
    pass: &Pass,
    out: &mut [T],
) {
    let [height, width] = pass.output;
    if height == 0 || width == 0 {
        return;
    }
    let [rows, columns] = [0, 1].map(|i| spans(pass.output[i], weights.taps[i], pass.step, pass.origin[i], pass.input[i]));
    // A single long row (a linear layer) is shared out by columns instead.
    if height == 1 {
        let per_task = MAX_PIXELS * 64;
        let pieces: Vec<Span> = columns
            .iter()
            .flat_map(|s| (s.from..s.to).step_by(per_task).map(|from| Span { from, to: s.to.min(from + per_task), taps: s.taps }))
            .collect();
        let window = Window { kernels, input, weights, bias, relu, pass };
        let mut rest = &mut out[pass.base..];
        let mut tasks = Vec::with_capacity(pieces.len());
        let mut at = 0;
        for piece in pieces {
            let length = (piece.to - at) * pass.column_stride;
            let take = length.min(rest.len());
            let (mine, others) = rest.split_at_mut(take);
            rest = others;
            at = piece.to;
            tasks.push((piece, mine));
        }
        tasks.into_par_iter().for_each(|(piece, mine)| {
            for block in &weights.blocks {
                window.tiles_along_x(block, 0, rows[0].taps, piece, piece.from * pass.column_stride, mine);
            }
        });
        return;
    }
    out.par_chunks_mut(pass.row_stride * TASK_ROWS).enumerate().for_each(|(task, out)| {
        let window = Window { kernels, input, weights, bias, relu, pass };
        let (from, to) = (task * TASK_ROWS, height.min((task + 1) * TASK_ROWS));
        for block in &weights.blocks {
            for rows in &rows {
                let (from, to) = (from.max(rows.from), to.min(rows.to));
                for &columns in &columns {
                    if columns.to - columns.from >= 2 {
                        for y in from..to {
                            window.tiles_along_x(block, y, rows.taps, columns, task * TASK_ROWS * pass.row_stride, out_from(out, pass));
                        }
                    } else if from < to {
                        // One column at the border: tiles run down it, or every pixel would be a tile of its own.
                        window.tiles_along_y(
                            block,
                            Span { from, to, taps: rows.taps },
                            columns,
                            task * TASK_ROWS * pass.row_stride,
                            out_from(out, pass),
                        );
                    }
                }
            }
        }
    });
}

/// The part of a task's slice in which its outputs lie.
fn out_from<'a, T>(out: &'a mut [T], pass: &Pass) -> &'a mut [T] {
    let base = pass.base.min(out.len());
    &mut out[base..]
}

/// What all tiles of a pass share.
struct Window<'a, T> {
    kernels: &'a Kernels<T>,
    input: &'a [T],
    weights: &'a Packed<T>,
    bias: Option<&'a [T]>,
    relu: bool,
    pass: &'a Pass,
}

impl<T: Real> Window<'_, T> {
    fn tiles_along_x(&self, block: &Block, y: usize, row_taps: (usize, usize), columns: Span, skip: usize, out: &mut [T]) {
        let stride = self.pass.step * self.weights.channels;
        for x in (columns.from..columns.to).step_by(self.kernels.pixels()) {
            let pixels = self.kernels.pixels().min(columns.to - x);
            let first = y * self.pass.row_stride + x * self.pass.column_stride - skip;
            self.tile(block, [y, x], [row_taps, columns.taps], pixels, stride, first, self.pass.column_stride, out);
        }
    }

    fn tiles_along_y(&self, block: &Block, rows: Span, column: Span, skip: usize, out: &mut [T]) {
        let stride = self.pass.step * self.pass.input[1] * self.weights.channels;
        for y in (rows.from..rows.to).step_by(self.kernels.pixels()) {
            let pixels = self.kernels.pixels().min(rows.to - y);
            let first = y * self.pass.row_stride + column.from * self.pass.column_stride - skip;
            self.tile(block, [y, column.from], [rows.taps, column.taps], pixels, stride, first, self.pass.row_stride, out);
        }
    }

    /// One tile that starts at output `at` and whose pixels lie `stride` elements apart in the input and `apart` in the output.
    #[allow(clippy::too_many_arguments)] // a tile simply has this many coordinates
    #[inline]
    fn tile(
        &self,
        block: &Block,
        at: [usize; 2],
        taps: [(usize, usize); 2],
        pixels: usize,
        stride: usize,
        first: usize,
        apart: usize,
        out: &mut [T],
    ) {
        let &Window { kernels, input, weights, bias, relu, pass } = self;
        let (channels, lanes) = (weights.channels, block.lanes);
        let mut acc = [T::zero(); MAX_PIXELS * MAX_LANES];
        let acc = &mut acc[..pixels * lanes];
        if let Some(bias) = bias {
            for row in acc.chunks_exact_mut(lanes) {
                row[..block.used].copy_from_slice(&bias[block.first..block.first + block.used]);
            }
        }
        let [(y0, y1), (x0, x1)] = taps;
        let input_at = |axis: usize, tap: usize| (pass.origin[axis] + (at[axis] * pass.step + tap) as isize) as usize;
        if x1 > x0 {
            let mut stretches = [Stretch { a: 0, b: 0, len: 0 }; 16];
            for group in (y0..y1).step_by(stretches.len()) {
                let taps = group..y1.min(group + stretches.len());
                let count = taps.len();
                for (stretch, tap) in stretches.iter_mut().zip(taps) {
                    *stretch = Stretch {
                        a: (input_at(0, tap) * pass.input[1] + input_at(1, x0)) * channels,
                        b: block.start + (tap * weights.taps[1] + x0) * channels * lanes,
                        len: (x1 - x0) * channels,
                    };
                }
                kernels.run(input, &weights.data, Strides { pixel: stride, k: 1, b: lanes }, &stretches[..count], pixels, acc);
            }
        }
        for (p, row) in acc.chunks_exact_mut(lanes).enumerate() {
            let row = &mut row[..block.used];
            if relu {
                row.iter_mut().for_each(|v| *v = super::ops::relu(*v));
            }
            let to = first + p * apart + block.first;
            out[to..to + block.used].copy_from_slice(row);
        }
    }
}

/// Gradient of the weights: `grad[tap y][tap x][channel][output] += sum over outputs of input * out_grad`.
///
/// `out_grad` is dense, `[height, width, outputs]`; of `pass` only the input side and the number of outputs are used.
/// Work is shared out over taps and blocks, never over pixels, so the order of every sum is fixed.
pub(super) fn correlate_weight_gradient<T: Real>(
    kernels: &Kernels<T>,
    input: &[T],
    out_grad: &[T],
    taps: [usize; 2],
    pass: &Pass,
    grad: &mut [T],
) {
    let [height, width] = pass.output;
    let [inputs, positions] = [pass.input, pass.output].map(|[h, w]| h * w);
    if inputs == 0 || positions == 0 {
        return;
    }
    let (channels, outputs) = (input.len() / inputs, out_grad.len() / positions);
    // A block of output channels side by side, zero-filled to whole vectors, is what tiles read as weights.
    let nothing = Filter { outputs, taps: [1, 1], channels: 0, first: 0, strides: [0; 4] };
    let ones = Packed::new(kernels, &[], &nothing);
    let panels: Vec<Vec<T>> = ones
        .blocks
        .par_iter()
        .map(|block| {
            let mut panel = vec![T::zero(); height * width * block.lanes];
            for (to, from) in panel.chunks_exact_mut(block.lanes).zip(out_grad.chunks_exact(outputs)) {
                to[..block.used].copy_from_slice(&from[block.first..block.first + block.used]);
            }
            panel
        })
        .collect();
    let [rows, columns] = [0, 1].map(|i| spans(pass.output[i], taps[i], pass.step, pass.origin[i], pass.input[i]));
    // A tap's gradient is a `[channels][outputs]` matrix of its own; a task is some channels of one tap.
    let tasks: Vec<(usize, usize, &mut [T])> = grad
        .chunks_mut(channels * outputs)
        .enumerate()
        .flat_map(|(tap, grad)| grad.chunks_mut(2 * kernels.pixels() * outputs).enumerate().map(move |(i, part)| (tap, i, part)))
        .collect();
    let cut = WeightGradient { kernels, input, channels, outputs, pass, rows: &rows, columns: &columns };
    tasks.into_par_iter().for_each(|(tap, part, grad)| {
        let tap = [tap / taps[1], tap % taps[1]];
        let first = part * 2 * kernels.pixels();
        for (block, panel) in ones.blocks.iter().zip(&panels) {
            for y in (0..height).step_by(BAND_ROWS) {
                for x in (0..width).step_by(BAND_COLUMNS) {
                    let band = [(y, height.min(y + BAND_ROWS)), (x, width.min(x + BAND_COLUMNS))];
                    cut.add_band(tap, first, block, panel, band, grad);
                }
            }
        }
    });
}

/// A band of output pixels stays in the cache while every channel of it is visited. Its products are summed in one chain, and then the
/// bands, so these numbers are part of what a gradient is.
pub(super) const BAND_ROWS: usize = 6;
pub(super) const BAND_COLUMNS: usize = 512;

struct WeightGradient<'a, T> {
    kernels: &'a Kernels<T>,
    input: &'a [T],
    channels: usize,
    outputs: usize,
    pass: &'a Pass,
    rows: &'a [Span],
    columns: &'a [Span],
}

impl<T: Real> WeightGradient<'_, T> {
    /// Adds what the output pixels of `band` contribute to the gradient of channels `first..` of one tap.
    fn add_band(&self, tap: [usize; 2], first: usize, block: &Block, panel: &[T], band: [(usize, usize); 2], grad: &mut [T]) {
        let &WeightGradient { kernels, input, channels, outputs, pass, rows, columns } = self;
        let sees = |s: &&Span, axis: usize| s.taps.0 <= tap[axis] && tap[axis] < s.taps.1;
        let input_at = |axis: usize, o: usize| (pass.origin[axis] + (o * pass.step + tap[axis]) as isize) as usize;
        let strides = Strides { pixel: 1, k: pass.step * channels, b: block.lanes };
        let mut sums = [T::zero(); MAX_PIXELS * MAX_LANES];
        for (group, grad) in grad.chunks_mut(kernels.pixels() * outputs).enumerate() {
            let channel = first + group * kernels.pixels();
            let count = grad.len() / outputs;
            let sums = &mut sums[..count * block.lanes];
            sums.fill(T::zero());
            for row in rows.iter().filter(|s| sees(s, 0)) {
                for y in row.from.max(band[0].0)..row.to.min(band[0].1) {
                    for column in columns.iter().filter(|s| sees(s, 1)) {
                        let (from, to) = (column.from.max(band[1].0), column.to.min(band[1].1));
                        if from < to {
                            let a = (input_at(0, y) * pass.input[1] + input_at(1, from)) * channels + channel;
                            let stretch = Stretch { a, b: (y * pass.output[1] + from) * block.lanes, len: to - from };
                            kernels.run(input, panel, strides, &[stretch], count, sums);
                        }
                    }
                }
            }
            for (grad, sums) in grad.chunks_exact_mut(outputs).zip(sums.chunks_exact(block.lanes)) {
                for (g, &s) in grad[block.first..block.first + block.used].iter_mut().zip(sums) {
                    *g += s;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_a_padded_window() {
        // 5 outputs of a window of 3 with padding 1.
        let got = spans(5, 3, 1, -1, 5);
        assert_eq!(
            got,
            [Span { from: 0, to: 1, taps: (1, 3) }, Span { from: 1, to: 4, taps: (0, 3) }, Span { from: 4, to: 5, taps: (0, 2) }]
        );
        // Stride 2: the last output's window ends inside.
        assert_eq!(spans(3, 3, 2, -1, 6), [Span { from: 0, to: 1, taps: (1, 3) }, Span { from: 1, to: 3, taps: (0, 3) }]);
        // A window wider than the image.
        assert_eq!(spans(1, 5, 1, -2, 1), [Span { from: 0, to: 1, taps: (2, 3) }]);
    }
}
