//! A direct convolution over one or several windows: which pixels are computed, and which are known because nothing was there.

use super::arithmetic::{Clamp, Finish};
use super::cpu::{Kernels, MAX_PIXELS, Output, Packed, Stretch, Tile};
use super::narrow::Narrow;
use super::plan::Buffer;
use super::repeat::{Empty, Repeat};
use rayon::prelude::*;

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
    /// A window at a time.
    Direct { packed: Packed, stretches: Vec<Stretch> },
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

/// The form of an output: elements from row to row, from pixel to pixel, and before the first pixel of a row.
#[derive(Clone, Copy)]
struct Surface {
    row: usize,
    pixel: usize,
    margin: usize,
}

/// What outputs are made of.
trait Element: Copy + Send + Sync + 'static {
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

/// The windows to compute, and what the others yield.
#[derive(Clone, Copy)]
pub(super) struct Sparse<'a> {
    /// By window, not 0 where it sees something.
    pub active: &'a [u8],
    pub empty: &'a EmptyOutput,
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
        self.passes.iter().map(|p| p.weights.packed().bytes()).sum()
    }

    /// The kernels that run, by name.
    pub fn kernels(&self, kernels: &Kernels) -> Vec<String> {
        let mut names: Vec<String> =
            self.passes.iter().flat_map(|p| p.weights.packed().blocks().map(|b| kernels.name(b.vectors))).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Which windows see an active pixel of the input.
    pub fn activate(&self, input: &Buffer, seen: &[u8], active: &mut [u8]) {
        let [windows_y, windows_x] = self.windows;
        let (height, width) = (input.height, input.width);
        let range = |o: usize, size: usize| {
            let first = o * self.stride;
            (first.saturating_sub(self.padding), (first + self.taps).saturating_sub(self.padding).min(size))
        };
        for y in 0..windows_y {
            let (top, bottom) = range(y, height);
            let row = &mut active[y * windows_x..][..windows_x];
            for (x, to) in row.iter_mut().enumerate() {
                let (left, right) = range(x, width);
                *to = (top..bottom).fold(0, |any, iy| seen[iy * width + left..iy * width + right].iter().fold(any, |a, &s| a | s));
            }
        }
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
        let rows = (TASK_WINDOWS / width).clamp(1, shares.max(1)).min((MAX_WINDOWS / width).max(1));
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
    surface: Surface,
    finish: Finish,
    first: usize,
    pub rows: usize,
}

impl Band<'_> {
    fn run<T: Element>(&self, chunk: &mut [T], sparse: Option<Sparse<'_>>) {
        let &Band { conv, from, first, rows, .. } = self;
        let width = conv.windows[1];
        // Where each window starts in the input, and its first output pixel in the chunk.
        let (mut inputs, mut outputs, mut count) = ([0u32; MAX_WINDOWS], [0u32; MAX_WINDOWS], 0);
        let origin = self.origin();
        for y in 0..rows {
            for x in 0..width {
                if let Some(sparse) = sparse
                    && sparse.active[(first + y) * width + x] == 0
                {
                    self.fill(chunk, T::empty(sparse.empty), y, x);
                    continue;
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
    }

    /// Where the band's first window starts in the input: `padding` up and left of its pixel, in the border if need be.
    pub fn origin(&self) -> usize {
        let Band { conv, from, first, .. } = self;
        (from.border - conv.padding) * (from.row() + from.channels) + first * conv.stride * from.row()
    }

    /// The first of a window's output pixels.
    fn output(&self, y: usize, x: usize) -> usize {
        (y * self.surface.row + x * self.surface.pixel) * self.conv.scale + self.surface.margin
    }

    fn compute<T: Element>(&self, chunk: &mut [T], inputs: &[u32], outputs: &[u32]) {
        let size = self.kernels.pixels();
        for pass in &self.conv.passes {
            let shift = pass.phase[0] * self.surface.row + pass.phase[1] * self.surface.pixel + pass.output_first;
            let (packed, stretches) = match &pass.weights {
                Weights::Direct { packed, stretches } => (packed, stretches),
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
