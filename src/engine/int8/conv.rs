//! A direct convolution over one or several windows: which pixels are computed, and which are known because nothing was there.

use super::arithmetic::{Clamp, Finish};
use super::cpu::{Kernels, MAX_PIXELS, Output, Packed, SIDE, Stretch, Tile};
use super::narrow::Narrow;
use super::plan::Buffer;
use super::repeat::{Empty, Repeat};
use super::winograd::{Place, Winograd};
use rayon::prelude::*;
use std::ops::Range;

/// One or more convolutions of the same shape over one buffer, with neighbouring outputs.
pub(super) struct Conv {
    pub input: usize,
    pub taps: usize,
    pub stride: usize,
    pub padding: usize,
    /// Windows along y and x.
    pub windows: [usize; 2],
    /// Output pixels for each window along an axis: 1, or a transposed convolution's stride.
    pub scale: usize,
    pub passes: Vec<Pass>,
    pub to: To,
    /// The first and the number of the channels that are written.
    pub first: usize,
    pub channels: usize,
    /// Whether this is the first to write into its output.
    pub opens: bool,
    /// Along y and x of the output.
    pub repeat: Option<[Repeat; 2]>,
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    Bytes { buffer: usize, clamp: Clamp },
    Floats { array: usize, low: f32 },
}

/// The weights that see one view of the input and write one range of output channels.
pub(super) struct Pass {
    pub weights: Weights,
    /// First input and first output channel.
    pub input_first: usize,
    pub output_first: usize,
    /// Which of the window's output pixels.
    pub phase: [usize; 2],
}

pub(super) enum Weights {
    /// A window at a time, or sixteen where that applies.
    Direct { packed: Packed, stretches: Vec<Stretch>, winograd: Option<Winograd> },
    /// A tap at a time; yields floats.
    Narrow(Narrow),
}

impl Weights {
    fn packed(&self) -> &Packed {
        match self {
            Weights::Direct { packed, .. } | Weights::Narrow(Narrow { packed, .. }) => packed,
        }
    }
}

/// What an empty canvas yields, in bytes or in floats.
#[derive(Clone, Debug, Default)]
pub(super) struct EmptyOutput {
    pub bytes: Empty<u8>,
    pub floats: Empty<f32>,
}

/// Windows that a task computes, at least: enough to reuse a block of weights, few enough to stay in the second-level cache.
const TASK_WINDOWS: usize = 1024;
/// Windows of a task, at most.
pub(super) const MAX_WINDOWS: usize = 4096;
const MAX_TILES: usize = MAX_WINDOWS / (SIDE * SIDE);

/// The form of an output: elements from row to row, from pixel to pixel, and before the first pixel of a row.
#[derive(Clone, Copy)]
pub(super) struct Surface {
    pub row: usize,
    pub pixel: usize,
    margin: usize,
}

/// What outputs are made of.
pub(super) trait Element: Copy + Send + Sync + 'static {
    fn output(slice: &mut [Self], finish: Finish) -> Output<'_>;
    fn empty(empty: &EmptyOutput) -> &Empty<Self>;
}

impl Element for u8 {
    fn output(slice: &mut [u8], finish: Finish) -> Output<'_> {
        let Finish::Bytes(clamp) = finish else { unreachable!("bytes end in a clamp") };
        Output::Bytes(slice, clamp)
    }

    fn empty(empty: &EmptyOutput) -> &Empty<u8> {
        &empty.bytes
    }
}

impl Element for f32 {
    fn output(slice: &mut [f32], finish: Finish) -> Output<'_> {
        let Finish::Floats { low } = finish else { unreachable!("floats end in floats") };
        Output::Floats(slice, low)
    }

    fn empty(empty: &EmptyOutput) -> &Empty<f32> {
        &empty.floats
    }
}

/// What is done with a window: its outputs are known, since it sees nothing; or they are computed; or nobody wants them.
pub(super) const KNOWN: u8 = 0;
pub(super) const COMPUTE: u8 = 1;
pub(super) const LEAVE: u8 = 2;

/// Which windows to compute, where it is not all.
#[derive(Clone, Copy)]
pub(super) struct Sparse<'a> {
    /// By window.
    pub todo: &'a [u8],
    /// What windows yield that are known.
    pub empty: Option<&'a EmptyOutput>,
}

impl Conv {
    /// The buffer into which it writes, if it writes bytes.
    pub fn output_buffer(&self) -> Option<usize> {
        match self.to {
            To::Bytes { buffer, .. } => Some(buffer),
            To::Floats { .. } => None,
        }
    }

    pub fn weight_bytes(&self) -> usize {
        let winograd = |w: &Weights| if let Weights::Direct { winograd: Some(w), .. } = w { w.bytes() } else { 0 };
        self.passes.iter().map(|p| p.weights.packed().bytes() + winograd(&p.weights)).sum()
    }

    /// Whether windows can be computed by Winograd's algorithm.
    fn has_winograd(&self) -> bool {
        self.passes.iter().all(|p| matches!(p.weights, Weights::Direct { winograd: Some(_), .. }))
    }

    /// The kernels that run, by name.
    pub fn kernels(&self, kernels: &Kernels) -> Vec<String> {
        let mut names: Vec<String> =
            self.passes.iter().flat_map(|p| p.weights.packed().blocks().map(|b| kernels.name(b.vectors))).collect();
        if self.has_winograd() {
            names.push(kernels.winograd_name());
        }
        names.sort();
        names.dedup();
        names
    }

    /// Which windows see an active pixel of the input. `line` is scratch as long as [`Conv::line`].
    pub fn activate(&self, input: &Buffer, seen: &[u8], line: &mut [u8], active: &mut [u8]) {
        let (height, width, windows) = (input.height, input.width, self.windows[1]);
        let line = &mut line[..self.line(input)];
        line.fill(0);
        for (y, row) in active.chunks_exact_mut(windows).enumerate() {
            // Down the columns, then along the line.
            let columns = &mut line[self.padding..][..width];
            columns.fill(0);
            for pixels in seen.chunks_exact(width).take(height).skip(self.reach(y, height).start).take(self.reach(y, height).len()) {
                columns.iter_mut().zip(pixels).for_each(|(any, &s)| *any |= s);
            }
            row.fill(0);
            for tap in 0..self.taps {
                if self.stride == 1 {
                    row.iter_mut().zip(&line[tap..]).for_each(|(any, &s)| *any |= s);
                } else {
                    row.iter_mut().zip(line[tap..].iter().step_by(self.stride)).for_each(|(any, &s)| *any |= s);
                }
            }
        }
    }

    /// Bytes of a line of pixels as windows see it: with padding, and as far as the last window reaches.
    pub fn line(&self, input: &Buffer) -> usize {
        (input.width + 2 * self.padding).max((self.windows[1] - 1) * self.stride + self.taps)
    }

    /// The pixels that a window sees along an axis of `size`.
    pub fn reach(&self, window: usize, size: usize) -> Range<usize> {
        let first = window * self.stride;
        first.saturating_sub(self.padding)..(first + self.taps).saturating_sub(self.padding).min(size)
    }

    /// Computes bytes.
    pub fn run_bytes(&self, kernels: &Kernels, from: &Buffer, input: &[u8], to: &Buffer, output: &mut [u8], sparse: Option<Sparse<'_>>) {
        let To::Bytes { clamp, .. } = self.to else { return };
        if self.opens {
            to.pad(output);
        }
        let surface = Surface { row: to.row(), pixel: to.channels, margin: to.border * to.channels };
        let interior = &mut output[to.border * to.row()..][..to.height * to.row()];
        self.sweep(kernels, from, input, surface, interior, Finish::Bytes(clamp), sparse);
    }

    /// Computes floats, `[height, width, channels]`.
    pub fn run_floats(
        &self,
        kernels: &Kernels,
        from: &Buffer,
        input: &[u8],
        channels: usize,
        output: &mut [f32],
        sparse: Option<Sparse<'_>>,
    ) {
        let To::Floats { low, .. } = self.to else { return };
        let surface = Surface { row: self.windows[1] * self.scale * channels, pixel: channels, margin: 0 };
        self.sweep(kernels, from, input, surface, output, Finish::Floats { low }, sparse);
    }

    #[allow(clippy::too_many_arguments)] // what a sweep needs
    fn sweep<T: Element>(
        &self,
        kernels: &Kernels,
        from: &Buffer,
        input: &[u8],
        surface: Surface,
        output: &mut [T],
        finish: Finish,
        sparse: Option<Sparse<'_>>,
    ) {
        let [height, width] = self.windows;
        // Tasks of whole rows, enough of them for every thread.
        let shares = height.div_ceil(4 * rayon::current_num_threads());
        let mut rows = (TASK_WINDOWS / width).clamp(1, shares.max(1)).min((MAX_WINDOWS / width).max(1));
        if self.has_winograd() && width * SIDE <= MAX_WINDOWS {
            rows = rows.next_multiple_of(SIDE).min(MAX_WINDOWS / width / SIDE * SIDE);
        }
        output.par_chunks_mut(rows * self.scale * surface.row).enumerate().for_each(|(task, chunk)| {
            let band = Band { conv: self, kernels, from, input, surface, finish, first: task * rows, rows: rows.min(height - task * rows) };
            band.run(chunk, sparse);
        });
    }
}

/// Some rows of windows, the work of a task.
pub(super) struct Band<'a> {
    pub conv: &'a Conv,
    pub kernels: &'a Kernels,
    pub from: &'a Buffer,
    pub input: &'a [u8],
    pub surface: Surface,
    pub finish: Finish,
    pub first: usize,
    pub rows: usize,
}

impl Band<'_> {
    fn run<T: Element>(&self, chunk: &mut [T], sparse: Option<Sparse<'_>>) {
        let &Band { conv, from, first, rows, .. } = self;
        let width = conv.windows[1];
        let (mut chosen, mut tiles, mut tile_count) = ([false; MAX_TILES], [Place::default(); MAX_TILES], 0);
        if conv.has_winograd() {
            tile_count = self.tiles(sparse, &mut chosen, &mut tiles);
        }
        // Where each other window starts in the input, and its first output pixel in the chunk.
        let (mut inputs, mut outputs, mut count) = ([0u32; MAX_WINDOWS], [0u32; MAX_WINDOWS], 0);
        let (origin, columns) = (self.origin(), width / SIDE);
        for y in 0..rows {
            let tiles = if tile_count > 0 && y < rows / SIDE * SIDE { &chosen[y / SIDE * columns..][..columns] } else { &[] };
            let todo = sparse.map(|s| &s.todo[(first + y) * width..][..width]);
            for x in 0..width {
                if tiles.get(x / SIDE).is_some_and(|&chosen| chosen) {
                    continue;
                }
                if let (Some(todo), Some(Sparse { empty, .. })) = (todo, sparse) {
                    match (todo[x], empty) {
                        (LEAVE, _) => continue,
                        (KNOWN, Some(empty)) => {
                            self.fill(chunk, T::empty(empty), y, x);
                            continue;
                        }
                        _ => {}
                    }
                }
                inputs[count] = (origin + (y * from.row() + x * from.channels) * conv.stride) as u32;
                outputs[count] = self.output(y, x) as u32;
                count += 1;
            }
        }
        if count > 0 {
            let _session = self.kernels.session();
            self.compute(chunk, &inputs[..count], &outputs[..count]);
        }
        for pass in &conv.passes {
            if let Weights::Direct { packed, winograd: Some(winograd), .. } = &pass.weights {
                self.winograd(winograd, packed, pass.input_first, pass.output_first, &tiles[..tile_count], chunk);
            }
        }
    }

    /// Where the band's first window starts in the input: `padding` up and left of its pixel, in the border if need be.
    pub fn origin(&self) -> usize {
        let Band { conv, from, first, .. } = self;
        (from.border - conv.padding) * (from.row() + from.channels) + first * conv.stride * from.row()
    }

    /// The first of a window's output pixels.
    pub fn output(&self, y: usize, x: usize) -> usize {
        (y * self.surface.row + x * self.surface.pixel) * self.conv.scale + self.surface.margin
    }

    fn compute<T: Element>(&self, chunk: &mut [T], inputs: &[u32], outputs: &[u32]) {
        let size = self.kernels.pixels();
        for pass in &self.conv.passes {
            let shift = pass.phase[0] * self.surface.row + pass.phase[1] * self.surface.pixel + pass.output_first;
            let (packed, stretches) = match &pass.weights {
                Weights::Direct { packed, stretches, .. } => (packed, stretches),
                Weights::Narrow(narrow) => {
                    if let Output::Floats(out, low) = T::output(chunk, self.finish) {
                        self.narrow(narrow, pass.input_first, pass.output_first, inputs, outputs, out, low);
                    }
                    continue;
                }
            };
            for block in packed.blocks() {
                for (windows, places) in inputs.chunks(size).zip(outputs.chunks(size)) {
                    let (mut pixels, mut to) = ([0; MAX_PIXELS], [0; MAX_PIXELS]);
                    for i in 0..windows.len() {
                        pixels[i] = windows[i] as usize + pass.input_first;
                        to[i] = places[i] as usize + shift + block.first;
                    }
                    self.kernels.run(Tile {
                        input: self.input,
                        pixels: &pixels[..windows.len()],
                        stretches,
                        block,
                        to: &to[..windows.len()],
                        output: T::output(chunk, self.finish),
                    });
                }
            }
        }
    }

    /// Writes what an empty canvas yields.
    fn fill<T: Element>(&self, chunk: &mut [T], empty: &Empty<T>, y: usize, x: usize) {
        let conv = self.conv;
        let Some(repeat) = conv.repeat else { return };
        for dy in 0..conv.scale {
            for dx in 0..conv.scale {
                let to = self.output(y, x) + dy * self.surface.row + dx * self.surface.pixel + conv.first;
                let pixel = empty.pixel(repeat, (self.first + y) * conv.scale + dy, x * conv.scale + dx);
                chunk[to..to + pixel.len()].copy_from_slice(pixel);
            }
        }
    }
}
