//! Kernels: the innermost loop of integer convolution for each instruction set.
//!
//! A kernel computes a *tile*: some pixels, anywhere in the input, times some vectors of output channels, with all sums in
//! registers, from the first multiplication to the bytes that are stored. Pixels are given by offsets, so that the same kernel
//! serves dense images, strides, and the scattered pixels of a sparse one. See `docs/kernels.md`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod pack;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

pub use pack::{Block, Packed, window};
pub use tile::{MAX_PIXELS, Output, Stretch, Tile};

use super::arithmetic::Quantizer;
use crate::engine::Isa;
use tile::{RawKernel, RawTile};

/// The kernels of one instruction set. There is no other way to a kernel than through this, and none to this without the
/// instruction set.
pub struct Kernels {
    isa: Isa,
    /// Pixels of a tile.
    pixels: usize,
    /// Channels of a vector.
    lanes: usize,
    /// By vectors of a tile, less one.
    table: &'static [RawKernel],
    quantize: unsafe fn(&Quantizer, &[f32], &mut [u8]),
    /// What is added to an accumulator's start for each unit of weight: kernels for signed bytes see every byte less 128.
    byte_shift: i32,
}

impl Kernels {
    /// The integer kernels that belong to an instruction set, if this processor has it.
    pub fn with_isa(isa: Isa) -> Option<Self> {
        if !isa.is_available() {
            return None;
        }
        Some(match isa.integer() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => avx512vnni::KERNELS,
            _ => portable::KERNELS,
        })
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Channels of a vector.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Most vectors of a tile.
    pub fn vectors(&self) -> usize {
        self.table.len()
    }

    /// Most pixels of a tile.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    pub fn byte_shift(&self) -> i32 {
        self.byte_shift
    }

    /// Operands, operation, tile (pixels x channels), instruction set.
    pub fn name(&self, vectors: usize) -> String {
        format!("conv_u8s8_{}x{}_{}", self.pixels, vectors * self.lanes, self.isa)
    }

    /// Runs one tile.
    ///
    /// # Panics
    /// If the tile is larger than the kernels are, or reaches outside a slice.
    #[inline]
    pub fn run(&self, tile: Tile<'_>) {
        let block = tile.block;
        let vectors = block.vectors;
        assert!((1..=self.table.len()).contains(&vectors) && block.used <= vectors * self.lanes, "tile is wider than the kernels");
        let count = tile.pixels.len();
        assert!((1..=self.pixels).contains(&count) && tile.to.len() == count, "tile has more pixels than the kernels");
        let padded = vectors * self.lanes;
        assert!(block.start.len() == padded && block.multiplier.len() == padded && block.bias.len() == padded);
        let quads: usize = tile.stretches.iter().map(|s| s.quads).sum();
        assert!(quads * padded * 4 == block.weights.len(), "tile reads other weights than its own");
        let reach = tile.stretches.iter().map(|s| s.offset + 4 * s.quads).max().unwrap_or(0);
        let last = |offsets: &[usize]| offsets.iter().copied().max().unwrap_or(0);
        assert!(last(tile.pixels) + reach <= tile.input.len(), "tile reaches outside its input");

        // Missing pixels repeat the last one: computed twice, written twice, the same.
        let mut pixels = [tile.pixels[count - 1]; MAX_PIXELS];
        pixels[..count].copy_from_slice(tile.pixels);
        let mut to = [tile.to[count - 1]; MAX_PIXELS];
        to[..count].copy_from_slice(tile.to);
        let (bytes, floats) = match tile.output {
            Output::Bytes(out, clamp) => {
                assert!(last(tile.to) + block.used <= out.len(), "tile writes outside its output");
                (Some((out.as_mut_ptr(), clamp)), None)
            }
            Output::Floats(out, low) => {
                assert!(last(tile.to) + block.used <= out.len(), "tile writes outside its output");
                (None, Some((out.as_mut_ptr(), low)))
            }
        };
        let raw = RawTile {
            input: tile.input.as_ptr(),
            pixels,
            stretches: tile.stretches,
            weights: block.weights.as_ptr(),
            start: block.start.as_ptr(),
            multiplier: block.multiplier.as_ptr(),
            bias: block.bias.as_ptr(),
            used: block.used,
            to,
            bytes,
            floats,
        };
        // SAFETY: kernels are only made for instruction sets that the processor has (`with_isa`); everything that a kernel reads
        // or writes was shown above to lie inside its slice, and the output is borrowed mutably.
        unsafe { self.table[vectors - 1](&raw) }
    }

    /// Rounds floats onto a grid.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn quantize(&self, quantizer: &Quantizer, from: &[f32], to: &mut [u8]) {
        assert_eq!(from.len(), to.len());
        // SAFETY: made only for instruction sets that the processor has.
        unsafe { (self.quantize)(quantizer, from, to) }
    }
}
