//! The tile: the loop that all instruction sets share, and what it needs to know of one.

use super::super::arithmetic::Clamp;
use super::Block;

/// Most pixels of a tile on any instruction set.
pub const MAX_PIXELS: usize = 32;
/// Most sums of a tile that is held in vector registers.
const MAX_SUMS: usize = 6 * 64;

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
    /// The sums themselves, of all lanes, also of those that do not exist.
    Sums(&'a mut [i32]),
}

/// Outputs put together from sums of their taps, which lie with the pixels that gave them.
pub struct Gather<'a> {
    /// `[pixel][lane]`.
    pub sums: &'a [i32],
    pub lanes: usize,
    /// Where each tap of a window lies, from the first lane of the window's first pixel on. Four lanes can be read from there,
    /// and from every multiple of four before `outputs`.
    pub taps: &'a [usize],
    pub outputs: usize,
    /// By output, filled up to fours.
    pub start: &'a [[i32; 4]],
    pub multiplier: &'a [[f32; 4]],
    pub bias: &'a [[f32; 4]],
    /// Least output.
    pub low: f32,
    /// Elements before a window's outputs.
    pub shift: usize,
}

/// A tile whose bounds were checked.
pub(super) struct RawTile<'a> {
    pub input: *const u8,
    /// Pixels that exist. There are offsets for as many as the kernel has; those behind repeat the last one.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // it matters to large tiles only
    pub count: usize,
    pub pixels: &'a [usize],
    pub stretches: &'a [Stretch],
    pub weights: *const i8,
    pub end: End<'a>,
}

/// What follows a tile's sums, and where it goes. Its bounds were checked.
pub(super) struct End<'a> {
    pub start: *const i32,
    multiplier: *const f32,
    bias: *const f32,
    /// Channels that are written: those that exist, or all lanes of sums.
    used: usize,
    /// By pixel.
    to: &'a [usize],
    output: RawOutput,
}

/// An [`Output`] whose bounds were checked.
#[derive(Clone, Copy)]
enum RawOutput {
    Bytes(*mut u8, Clamp),
    Floats(*mut f32, f32),
    Sums(*mut i32),
}

impl<'a> End<'a> {
    /// # Panics
    /// If a block of so many `lanes` lacks numbers, or reaches outside the output.
    #[inline]
    pub fn new(block: &Block<'a>, lanes: usize, to: &'a [usize], output: Output<'a>) -> Self {
        let &Block { used, start, multiplier, bias, .. } = block;
        assert!(used <= lanes && start.len() == lanes && multiplier.len() == lanes && bias.len() == lanes);
        let (start, multiplier, bias) = (start.as_ptr(), multiplier.as_ptr(), bias.as_ptr());
        let (output, len, used) = match output {
            Output::Bytes(out, clamp) => (RawOutput::Bytes(out.as_mut_ptr(), clamp), out.len(), used),
            Output::Floats(out, low) => (RawOutput::Floats(out.as_mut_ptr(), low), out.len(), used),
            Output::Sums(out) => (RawOutput::Sums(out.as_mut_ptr()), out.len(), lanes),
        };
        assert!(greatest(to) + used <= len, "tile writes outside its output");
        Self { start, multiplier, bias, used, to, output }
    }
}

/// Of offsets.
pub(super) fn greatest(offsets: &[usize]) -> usize {
    offsets.iter().copied().max().unwrap_or(0)
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
    unsafe fn load(p: *const i32) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, p: *mut i32);
    unsafe fn bytes(p: *const u8) -> Self::Bytes;
    unsafe fn weights(p: *const i8) -> Self::Weights;
    /// `sums + sum of the four products`, wrapping.
    unsafe fn dot(sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums;
    /// Requantized, to the first `used` bytes behind `to`.
    unsafe fn store_bytes(sums: Self::Sums, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize);
    /// Scaled, to the first `used` floats behind `to`.
    unsafe fn store_floats(sums: Self::Sums, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize);
}

/// The same for pairs of 16-bit numbers.
///
/// # Safety
/// As for [`Dot`].
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // no other architecture has kernels for it yet
pub(super) trait WordDot: Dot {
    /// Two numbers a lane.
    type Pair: Copy;
    /// The same pair for all lanes.
    unsafe fn pair(p: *const u8) -> Self::Pair;
    /// A pair for each lane.
    unsafe fn pairs(p: *const i8) -> Self::Pair;
    /// `sums + sum of the two products`, wrapping.
    unsafe fn dot_pairs(sums: Self::Sums, a: Self::Pair, b: Self::Pair) -> Self::Sums;
}

/// `P` pixels times `R` vectors.
///
/// # Safety
/// The processor has `D`'s instruction set; the tile was checked ([`super::Kernels::run`]).
#[inline(always)]
pub(super) unsafe fn tile<D: Dot, const P: usize, const R: usize>(tile: &RawTile<'_>) {
    const { assert!(P <= MAX_PIXELS && P * R * D::LANES <= MAX_SUMS) };
    // SAFETY: the caller vouches for every address below, and for `P` pixels.
    unsafe {
        let offsets = &*tile.pixels.as_ptr().cast::<[usize; P]>();
        let starts: [D::Sums; R] = std::array::from_fn(|r| D::load(tile.end.start.add(r * D::LANES)));
        let mut sums: [[D::Sums; R]; P] = [starts; P];
        let mut weights = tile.weights;
        for stretch in tile.stretches {
            let pixels: [*const u8; P] = std::array::from_fn(|p| tile.input.add(offsets[p] + stretch.offset));
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
        if let RawOutput::Sums(out) = tile.end.output {
            let to = &*tile.end.to.as_ptr().cast::<[usize; P]>();
            for (sums, to) in sums.iter().zip(to) {
                for (r, &sums) in sums.iter().enumerate() {
                    D::store(sums, out.add(to + r * D::LANES));
                }
            }
            return;
        }
        // Through memory, once: a loop that picks from `sums` would keep the compiler from holding them in registers above.
        let mut done = [0i32; MAX_SUMS];
        for (p, sums) in sums.iter().enumerate() {
            for (r, &sums) in sums.iter().enumerate() {
                D::store(sums, done.as_mut_ptr().add((p * R + r) * D::LANES));
            }
        }
        finish::<D>(&tile.end, &done, P, R);
    }
}

/// From sums, `[pixel][vector][lane]`, to what the tile yields.
///
/// # Safety
/// The processor has `D`'s instruction set; `done` holds the sums of `pixels` times `vectors` vectors, and the end as many offsets.
#[inline(always)]
pub(super) unsafe fn finish<D: Dot>(end: &End<'_>, done: &[i32], pixels: usize, vectors: usize) {
    // SAFETY: the caller vouches for every address below.
    unsafe {
        let to = |p: usize| *end.to.get_unchecked(p);
        for r in 0..vectors {
            let at = r * D::LANES;
            let used = end.used.saturating_sub(at).min(D::LANES);
            if used == 0 {
                break;
            }
            let (multiplier, bias) = (end.multiplier.add(at), end.bias.add(at));
            for p in 0..pixels {
                let sums = D::load(done.as_ptr().add((p * vectors + r) * D::LANES));
                match end.output {
                    RawOutput::Bytes(out, clamp) => D::store_bytes(sums, multiplier, bias, clamp, out.add(to(p) + at), used),
                    RawOutput::Floats(out, low) => D::store_floats(sums, multiplier, bias, low, out.add(to(p) + at), used),
                    RawOutput::Sums(out) => D::store(sums, out.add(to(p) + at)),
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

/// The body of every family's gathering of taps. `windows` are the first pixels of windows, `to` where their outputs start.
#[inline(always)]
pub(super) fn gather(g: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
    let groups = g.start.len();
    assert!(g.multiplier.len() == groups && g.bias.len() == groups && g.outputs.div_ceil(4) == groups);
    for (&window, &to) in windows.iter().zip(to) {
        let from = &g.sums[window as usize * g.lanes..];
        let out = &mut out[to as usize + g.shift..][..g.outputs];
        for (group, out) in out.chunks_mut(4).enumerate() {
            let mut sums = g.start[group];
            for &tap in g.taps {
                let lanes: &[i32; 4] = from[tap + 4 * group..].first_chunk().expect("four lanes behind every tap");
                sums.iter_mut().zip(lanes).for_each(|(sum, &lane)| *sum = sum.wrapping_add(lane));
            }
            let y: [f32; 4] = std::array::from_fn(|o| (sums[o] as f32).mul_add(g.multiplier[group][o], g.bias[group][o]).max(g.low));
            out.copy_from_slice(&y[..out.len()]);
        }
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
