//! The tile: the loop that all instruction sets share, and what it needs to know of one.

use super::super::arithmetic::Clamp;
use super::Block;

/// Most pixels of a tile on any instruction set.
pub const MAX_PIXELS: usize = 6;

/// Consecutive input bytes of a window: their offset from the window's first byte, and how many groups of four they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub offset: usize,
    pub quads: usize,
}

/// One call of a kernel.
pub struct Tile<'a> {
    pub input: &'a [u8],
    /// Offset of each pixel's window in `input`.
    pub pixels: &'a [usize],
    /// The window, the same for all pixels, in the order of the weights.
    pub stretches: &'a [Stretch],
    pub block: Block<'a>,
    /// Offset in the output of each pixel's first channel.
    pub to: &'a [usize],
    pub output: Output<'a>,
}

pub enum Output<'a> {
    Bytes(&'a mut [u8], Clamp),
    /// Floats not below this.
    Floats(&'a mut [f32], f32),
}

/// A tile whose bounds were checked.
pub(super) struct RawTile<'a> {
    pub input: *const u8,
    pub pixels: [usize; MAX_PIXELS],
    pub stretches: &'a [Stretch],
    pub weights: *const i8,
    pub start: *const i32,
    pub multiplier: *const f32,
    pub bias: *const f32,
    /// Channels that exist.
    pub used: usize,
    pub to: [usize; MAX_PIXELS],
    /// One of the two.
    pub bytes: Option<(*mut u8, Clamp)>,
    pub floats: Option<(*mut f32, f32)>,
}

pub(super) type RawKernel = unsafe fn(&RawTile<'_>);

/// The little that the loop needs of an instruction set.
///
/// # Safety
/// Callers of the methods guarantee that the processor has the instruction set and that pointers are good for what is read:
/// four bytes of input, four bytes of weight for each lane, one number for each lane.
pub(super) trait Dot {
    const LANES: usize;
    /// One i32 a lane.
    type Sums: Copy;
    /// Four input bytes, the same for all lanes.
    type Bytes: Copy;
    /// Four weights a lane.
    type Weights: Copy;
    unsafe fn start(p: *const i32) -> Self::Sums;
    unsafe fn bytes(p: *const u8) -> Self::Bytes;
    unsafe fn weights(p: *const i8) -> Self::Weights;
    /// `sums + sum of the four products`, wrapping.
    unsafe fn dot(sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums;
    /// Requantized, to the first `used` bytes behind `to`.
    unsafe fn store_bytes(sums: Self::Sums, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize);
    /// Scaled, to the first `used` floats behind `to`.
    unsafe fn store_floats(sums: Self::Sums, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize);
}

/// `P` pixels times `R` vectors.
///
/// # Safety
/// The processor has `D`'s instruction set; the tile was checked ([`super::Kernels::run`]).
#[inline(always)]
pub(super) unsafe fn tile<D: Dot, const P: usize, const R: usize>(tile: &RawTile<'_>) {
    // SAFETY: the caller vouches for every address below.
    unsafe {
        let starts: [D::Sums; R] = std::array::from_fn(|r| D::start(tile.start.add(r * D::LANES)));
        let mut sums: [[D::Sums; R]; P] = [starts; P];
        let mut weights = tile.weights;
        for stretch in tile.stretches {
            let pixels: [*const u8; P] = std::array::from_fn(|p| tile.input.add(tile.pixels[p] + stretch.offset));
            for quad in 0..stretch.quads {
                let w: [D::Weights; R] = std::array::from_fn(|r| D::weights(weights.add(r * D::LANES * 4)));
                for p in 0..P {
                    let bytes = D::bytes(pixels[p].add(quad * 4));
                    for r in 0..R {
                        sums[p][r] = D::dot(sums[p][r], bytes, w[r]);
                    }
                }
                weights = weights.add(R * D::LANES * 4);
            }
        }
        for r in 0..R {
            let at = r * D::LANES;
            let used = tile.used.saturating_sub(at).min(D::LANES);
            if used == 0 {
                break;
            }
            let (multiplier, bias) = (tile.multiplier.add(at), tile.bias.add(at));
            if let Some((out, clamp)) = tile.bytes {
                for p in 0..P {
                    D::store_bytes(sums[p][r], multiplier, bias, clamp, out.add(tile.to[p] + at), used);
                }
            } else if let Some((out, low)) = tile.floats {
                for p in 0..P {
                    D::store_floats(sums[p][r], multiplier, bias, low, out.add(tile.to[p] + at), used);
                }
            }
        }
    }
}

/// The body of every family's rounding of floats onto a grid.
#[inline(always)]
pub(super) fn quantize(quantizer: &super::Quantizer, from: &[f32], to: &mut [u8]) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = quantizer.byte(x);
    }
}

/// Copies the first `used` of a vector's results.
///
/// # Safety
/// `from` and `to` are good for `used` elements.
#[inline(always)]
pub(super) unsafe fn copy<T>(from: &[T], to: *mut T, used: usize) {
    debug_assert!(used <= from.len());
    // SAFETY: the caller vouches for both.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, used) }
}
