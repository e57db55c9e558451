//! Convolutions on the device: which windows, which weights, where results go, and what is added to them on the way.

use super::program::{ALIGNMENT, Builder, Image};
use super::weights::{DeviceWeights, TILE_WINDOWS};
use crate::engine::cuda::{Args, DeviceError, Launch, Memory, turns};
use crate::engine::int8::arithmetic::Clamp;
use crate::engine::int8::conv::{Conv, To};
use crate::engine::int8::plan::{Addition, Plan, StepKind, View};

/// Threads of a block of a convolution.
const CONV_THREADS: u32 = 128;

/// Where a convolution writes: elements of `size` bytes.
struct Output {
    memory: Memory,
    image: Image,
    /// What is added to the channels that the plan names.
    shift: isize,
    size: usize,
    clamp: Clamp,
    seen: Option<Memory>,
}

impl Builder<'_> {
    pub(super) fn conv(&mut self, at: usize, conv: &Conv, sparse: bool) -> Result<(), DeviceError> {
        let output = self.output(conv)?;
        if let To::Bytes { buffer, .. } = conv.to
            && conv.opens
        {
            self.pad(buffer);
        }
        let (list, count) = if sparse { self.activate(at, conv, &output)? } else { (Memory::NULL, Memory::NULL) };
        let no_addition = (Memory::NULL, Args::default().words(&[0; 4 + 4 + 3]));
        self.products(conv, &output, [list, count], no_addition)
    }

    /// A convolution whose results are summands, and written as sums.
    pub(super) fn conv_and_add(&mut self, conv: &Conv, fused: &FusedAddition<'_>) -> Result<(), DeviceError> {
        let FusedAddition { other, to, add, opens, own_leads, .. } = *fused;
        if opens {
            self.pad(to.buffer);
        }
        let own = self.output(conv)?;
        let (memory, image) = self.image(to.buffer, 0);
        let output = Output { memory, image, shift: to.first as isize - conv.first as isize, ..own };
        let (addend, addend_image) = self.image(other.buffer, other.first);
        let factors = if own_leads { [add.a_factor, add.b_factor] } else { [add.b_factor, add.a_factor] };
        let args = Args::default()
            .words(&[addend_image.row, addend_image.pixel, addend_image.at, image.at + to.first, usize::from(other.grid.zero)])
            .float(factors[0])
            .float(factors[1])
            .words(&[usize::from(!own_leads)])
            .clamp(&add.clamp);
        self.products(conv, &output, [Memory::NULL; 2], (addend, args))
    }

    /// Where a convolution writes.
    fn output(&mut self, conv: &Conv) -> Result<Output, DeviceError> {
        Ok(match conv.to {
            To::Bytes { buffer, clamp } => {
                let (memory, image) = self.image(buffer, 0);
                Output { memory, image, shift: 0, size: 1, clamp, seen: Some(self.seen[buffer]) }
            }
            To::Floats { array, low } => {
                let (memory, pixel) = self.array(array)?;
                let image = Image { at: 0, row: conv.windows[1] * conv.scale * pixel, pixel, rows: 0 };
                Output { memory, image, shift: 0, size: 4, clamp: Clamp { low, high: 0.0, zero: 0 }, seen: None }
            }
        })
    }

    /// Has the windows that see something listed, and the others' outputs filled in. Gives the list and where its length is.
    fn activate(&mut self, at: usize, conv: &Conv, output: &Output) -> Result<(Memory, Memory), DeviceError> {
        let (Some(empty), Some([rows, columns])) = (&self.engine.empty[at], conv.repeat) else {
            return Ok((Memory::NULL, Memory::NULL));
        };
        let input = &self.plan.buffers[conv.input];
        let [windows_y, windows_x] = conv.windows;
        let windows = windows_y * windows_x;
        let (active, list) = (self.activation(windows)?, self.activation(4 * windows)?);
        let count = self.counts.offset(4 * at);
        self.pending.push(turns("zero", 1, Args::new(&[count]).words(&[1])));
        let args = Args::new(&[self.seen[conv.input], active, list, count, output.seen.unwrap_or(Memory::NULL)]).words(&[
            input.height,
            input.width,
            windows_y,
            windows_x,
            conv.taps,
            conv.stride,
            conv.padding,
            conv.scale,
            usize::from(conv.opens),
        ]);
        self.pending.push(turns("activate", windows, args));

        let table = if output.size == 1 {
            self.constant(empty.bytes.table())?
        } else {
            self.words(empty.floats.table().iter().map(|f| f.to_bits()))?
        };
        let [by_row, by_column] = [rows, columns].map(|axis| axis.indices());
        let (by_row, by_column) = (self.words(by_row)?, self.words(by_column)?);
        let image = Image { at: output.image.at + conv.first, ..output.image }.times(output.size);
        let args = Args::new(&[active, table, by_row, by_column, output.memory])
            .words(&[windows_y, windows_x, conv.scale, columns.distinct()])
            .words(&image.words())
            .words(&[conv.channels * output.size]);
        self.pending.push(turns("fill", windows * conv.scale * conv.scale * 32, args));
        Ok((list, count))
    }

    /// The convolution itself. `windows_of` is a list and its length; `addition` is another summand and what the kernel wants to
    /// know of it.
    fn products(
        &mut self,
        conv: &Conv,
        output: &Output,
        windows_of: [Memory; 2],
        (addend, addition): (Memory, Args),
    ) -> Result<(), DeviceError> {
        let weights = DeviceWeights::new(conv, &self.engine.kernels);
        let table: Vec<u32> = conv
            .passes
            .iter()
            .zip(&weights.passes)
            .flat_map(|(pass, own)| {
                let [y, x] = pass.phase;
                let first = pass.output_first.wrapping_add_signed(output.shift);
                let output_at = output.image.at + y * output.image.row + x * output.image.pixel + first;
                [own.weights, own.lanes, pass.input_first, output_at, own.outputs, own.chunks].map(|word| word as u32)
            })
            .collect();
        let (memory, image) = self.image(conv.input, 0);
        let border = self.plan.buffers[conv.input].border - conv.padding;
        let origin = border * (image.row + image.pixel);
        let windows = conv.windows[0] * conv.windows[1];
        let pointers = [
            memory,
            self.constant(&weights.weights)?,
            self.words(weights.start.iter().map(|&s| s as u32))?,
            self.words(weights.multiplier.iter().map(|m| m.to_bits()))?,
            self.words(weights.bias.iter().map(|b| b.to_bits()))?,
            self.words(table)?,
            windows_of[0],
            windows_of[1],
            output.memory,
            addend,
        ];
        let args = Args::new(&pointers)
            .words(&[
                windows,
                conv.windows[1],
                conv.taps,
                conv.stride * image.row,
                conv.stride * image.pixel,
                origin,
                image.row,
                image.pixel,
            ])
            .words(&[conv.scale * output.image.row, conv.scale * output.image.pixel, usize::from(output.size == 4)])
            .clamp(&output.clamp)
            .followed_by(&addition);
        let aligned = conv.passes.iter().all(|p| p.input_first.is_multiple_of(ALIGNMENT));
        let kernel = format!("conv_{TILE_WINDOWS}x{}_w{}{}", weights.tile, weights.bits, if aligned { "" } else { "_any" });
        let widest = weights.passes.iter().map(|p| p.outputs).max().unwrap_or(1);
        let grid = [windows.div_ceil(TILE_WINDOWS), widest.div_ceil(weights.tile), conv.passes.len()].map(|n| n as u32);
        self.pending.push(Launch { kernel, grid, threads: CONV_THREADS, args });
        Ok(())
    }
}

/// An addition that the convolution before it can do on its way.
pub(super) struct FusedAddition<'a> {
    other: &'a View,
    to: &'a View,
    add: &'a Addition,
    opens: bool,
    /// Whether the convolution's result is the sum's first part.
    own_leads: bool,
}

/// The addition behind step `at`, if that is a convolution whose result nothing else reads.
pub(super) fn fused_addition(plan: &Plan, at: usize) -> Option<FusedAddition<'_>> {
    let (StepKind::Conv(conv), StepKind::Add { a, b, to, add, opens }) = (&plan.steps[at].kind, &plan.steps.get(at + 1)?.kind) else {
        return None;
    };
    let own = conv.output_buffer().filter(|_| conv.scale == 1 && conv.opens)?;
    let is_own = |view: &View| view.buffer == own && view.first == conv.first && view.channels == conv.channels;
    let own_leads = is_own(a);
    if own_leads == is_own(b) {
        return None;
    }
    let reads = |kind: &StepKind| match kind {
        StepKind::Conv(conv) => conv.input == own,
        StepKind::Dequantize { from, .. } => from.buffer == own,
        StepKind::Add { a, b, .. } => a.buffer == own || b.buffer == own,
        _ => false,
    };
    let readers = plan.steps.iter().filter(|step| reads(&step.kind)).count();
    // Sums are written while the convolution's input is still read.
    let apart = plan.buffers[to.buffer].slot != plan.buffers[conv.input].slot;
    let other = if own_leads { b } else { a };
    (readers == 1 && apart).then_some(FusedAddition { other, to, add, opens: *opens, own_leads })
}
