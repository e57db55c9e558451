//! Kernels: the innermost loop of integer convolution for each instruction set.
//!
//! A kernel computes a *tile*: some pixels, anywhere in the input, times some vectors of output channels, with all sums in
//! registers, from the first multiplication to the bytes that are stored. Pixels are given by offsets, so that the same kernel
//! serves dense images, strides, and the scattered pixels of a sparse one. See `docs/kernels.md`.

#[cfg(any(target_arch = "x86_64", test))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(test)]
mod guarded;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(test)]
mod tests;
mod tile;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // no other architecture has kernels for it yet
mod winograd;

#[cfg(target_arch = "x86_64")]
pub use amx::is_available as has_tile_unit;
pub use pack::{Block, Packed, window};
#[cfg(test)]
pub use tests::{every_kernel, no_thread_holds_tiles};
pub use tile::{Gather, MAX_PIXELS, Output, Stretch, Tile};
pub use winograd::{CHANNELS as WINOGRAD_CHANNELS, Input, LIMIT, MAX_LANES, NOTHING_DONE, PLANES, SIDE, weights as winograd_weights};

use super::arithmetic::Quantizer;
use crate::engine::Isa;
use tile::{End, RawKernel, RawTile, greatest};
use winograd::WinogradKernels;

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
    gather: unsafe fn(&Gather<'_>, &[u32], &[u32], &mut [f32]),
    /// What is added to an accumulator's start for each unit of weight: kernels for signed bytes see every byte less 128.
    byte_shift: i32,
    /// Where they pay.
    winograd: Option<WinogradKernels>,
}

/// Tile registers that are ready for use, on processors that have them.
#[cfg(target_arch = "x86_64")]
pub type Session = Option<amx::Hardware>;
#[cfg(not(target_arch = "x86_64"))]
pub type Session = Option<std::convert::Infallible>;

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
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => amx::kernels(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::NEON,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => neon::NEON_DOT,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => neon::NEON_I8MM,
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

    /// What a thread should hold while it runs many tiles. Tiles are right without it, only slower.
    pub fn session(&self) -> Session {
        // SAFETY: kernels for the unit are only made where it is available.
        #[cfg(target_arch = "x86_64")]
        return (self.isa == Isa::Amx).then(|| unsafe { amx::Hardware::take() });
        #[cfg(not(target_arch = "x86_64"))]
        return None;
    }

    pub fn byte_shift(&self) -> i32 {
        self.byte_shift
    }

    /// Operands, operation, tile (pixels x channels), instruction set.
    pub fn name(&self, vectors: usize) -> String {
        format!("conv_u8s8_{}x{}_{}", self.pixels, vectors * self.lanes, self.isa)
    }

    /// Operands, algorithm, tile of windows, instruction set.
    pub fn winograd_name(&self) -> String {
        format!("winograd_u8s8_{SIDE}x{SIDE}_{}", self.isa)
    }

    /// Runs one tile.
    ///
    /// # Panics
    /// If the tile is larger than the kernels are, or reaches outside a slice.
    #[inline]
    pub fn run(&self, tile: Tile<'_>) {
        self.run_in(self.table, tile);
    }

    #[inline]
    fn run_in(&self, table: &[RawKernel], tile: Tile<'_>) {
        let block = tile.block;
        let vectors = block.vectors;
        assert!((1..=table.len()).contains(&vectors), "tile is wider than the kernels");
        let count = tile.pixels.len();
        assert!((1..=self.pixels).contains(&count) && tile.to.len() == count, "tile has more pixels than the kernels");
        let padded = vectors * self.lanes;
        let quads: usize = tile.stretches.iter().map(|s| s.quads).sum();
        assert!(quads * padded * 4 == block.weights.len(), "tile reads other weights than its own");
        let reach = tile.stretches.iter().map(|s| s.offset + 4 * s.quads).max().unwrap_or(0);
        assert!(greatest(tile.pixels) + reach <= tile.input.len(), "tile reaches outside its input");

        let (filled_pixels, filled_to);
        let (pixels, to) = if count == self.pixels {
            (tile.pixels, tile.to)
        } else {
            // Missing pixels repeat the last one: computed twice, written twice, the same.
            let fill = |offsets: &[usize]| std::array::from_fn::<_, MAX_PIXELS, _>(|i| offsets[i.min(count - 1)]);
            (filled_pixels, filled_to) = (fill(tile.pixels), fill(tile.to));
            (&filled_pixels[..self.pixels], &filled_to[..self.pixels])
        };
        let end = End::new(&block, padded, to, tile.output);
        let (input, weights) = (tile.input.as_ptr(), block.weights.as_ptr());
        let raw = RawTile { input, count, pixels, stretches: tile.stretches, weights, end };
        // SAFETY: kernels are only made for instruction sets that the processor has (`with_isa`); everything that a kernel reads
        // or writes was shown above to lie inside its slice, and the output is borrowed mutably.
        unsafe { table[vectors - 1](&raw) }
    }

    /// Puts outputs together from sums of taps. `windows` are the first pixels of windows, `to` where their outputs start in
    /// `out`.
    ///
    /// # Panics
    /// If a window or an output lies outside its slice.
    pub fn gather(&self, gather: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
        // SAFETY: made only for instruction sets that the processor has.
        unsafe { (self.gather)(gather, windows, to, out) }
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
