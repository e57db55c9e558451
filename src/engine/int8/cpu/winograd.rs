//! Winograd's F(4x4, 3x3) in whole numbers: sixteen windows of 3 x 3 for 36 products instead of 144, to the bit.
//!
//! A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, appendix: `Y = A [(G g G') * (B' d B)] A'`. `G` holds
//! quarters, sixths and twenty-fourths. Here its rows are multiplied by 4, 6, 6, 24, 24 and 1, and the columns of `A` by what is left
//! of 24, so that everything is whole. The rows of `A` then yield 24, 12, 6 and 6 times the sums, once for each axis.
//!
//! Inputs reach at most 20 400 and weights 6 223: both fit into 16 bits. Their products do not fit into 32, but that is no matter,
//! since all that follows are sums and products of whole numbers, which 32 bits hold modulo 2^32: the result is 9 times a power of
//! two times the sum, the factor 9 has an inverse modulo 2^32, and a shift divides by the power of two. What comes out is the sum
//! itself if that lies within [`LIMIT`], whatever became of the numbers on the way.

use super::tile::{Dot, End, RawKernel, RawTile, WordDot, finish, tile};
use super::{Block, Kernels, Output, Tile};
use crate::engine::int8::arithmetic::Clamp;
use std::marker::PhantomData;
use std::num::Wrapping;

/// Windows of a tile along an axis, and pixels that it sees.
pub const SIDE: usize = 4;
pub const REACH: usize = 6;
/// Products of a tile, for each input and output.
pub const PLANES: usize = REACH * REACH;
/// Sums at most: the greatest power of two on the way is 2^6.
pub const LIMIT: i64 = (1 << 25) - 1;
/// Channels of inputs that are transformed together.
pub const CHANNELS: usize = 16;
/// Most lanes of a block on any instruction set.
pub const MAX_LANES: usize = 64;

/// 1 / 9 modulo 2^32.
const NINTH: i32 = 0x38e3_8e39;
/// By row of `A`: the power of two in 24, 12, 6, 6.
const SHIFTS: [u32; SIDE] = [3, 2, 1, 1];

/// Three weights of an axis to six.
fn weights_1d([a, b, c]: [i32; 3]) -> [i32; REACH] {
    [a, -a - b - c, b - a - c, a + 2 * b + 4 * c, a - 2 * b + 4 * c, c]
}

/// The weights of a window, rows first, to those of its 36 products.
pub fn weights(window: [[i32; 3]; 3]) -> [[i16; REACH]; REACH] {
    let rows = window.map(weights_1d);
    let mut out = [[0; REACH]; REACH];
    for x in 0..REACH {
        let column = weights_1d([0, 1, 2].map(|y| rows[y][x]));
        (0..REACH).for_each(|y| out[y][x] = column[y] as i16);
    }
    out
}

/// Scratch: the sums of a tile's sixteen windows.
pub type Done = [i32; SIDE * SIDE * MAX_LANES];
pub const NOTHING_DONE: Done = [0; SIDE * SIDE * MAX_LANES];
type OutputKernel = unsafe fn(&End<'_>, *const i32, usize, &mut Done);

/// What Winograd's tiles need of an instruction set.
pub(super) struct WinogradKernels {
    input: unsafe fn(&RawInput),
    /// Products of 16-bit numbers, by vectors of a block, less one.
    products: &'static [RawKernel],
    /// By vectors, less one: tile, first sum, sums from plane to plane.
    output: &'static [OutputKernel],
}

impl WinogradKernels {
    pub(super) const fn new(input: unsafe fn(&RawInput), products: &'static [RawKernel], output: &'static [OutputKernel]) -> Self {
        Self { input, products, output }
    }
}

/// Where a tile's inputs are, and where their transforms go.
pub struct Input<'a> {
    pub bytes: &'a [u8],
    /// The first channel of the first of 6 x 6 pixels.
    pub first: usize,
    /// Bytes from row to row, and from pixel to pixel.
    pub row: usize,
    pub pixel: usize,
    /// A multiple of [`CHANNELS`].
    pub channels: usize,
    pub to: &'a mut [i16],
    /// The tile's first number in the first plane, and numbers from plane to plane.
    pub at: usize,
    pub plane: usize,
}

impl Kernels {
    /// Whether there are kernels for it.
    pub fn has_winograd(&self) -> bool {
        self.winograd.is_some()
    }

    /// Transforms a tile's inputs.
    ///
    /// # Panics
    /// If it reaches outside a slice, or the kernels do not exist.
    pub fn winograd_input(&self, t: Input<'_>) {
        let kernels = self.winograd.as_ref().expect("asked for before");
        let last = REACH - 1;
        assert!(t.channels.is_multiple_of(CHANNELS));
        assert!(t.first + last * (t.row + t.pixel) + t.channels <= t.bytes.len(), "tile reaches outside its input");
        assert!(t.at + (PLANES - 1) * t.plane + t.channels <= t.to.len(), "tile writes outside its planes");
        // SAFETY: within both slices, as was just seen.
        let raw = unsafe {
            let (input, to) = (t.bytes.as_ptr().add(t.first), t.to.as_mut_ptr().add(t.at));
            RawInput { input, row: t.row, pixel: t.pixel, channels: t.channels, to, plane: t.plane }
        };
        // SAFETY: made only for instruction sets that the processor has.
        unsafe { (kernels.input)(&raw) }
    }

    /// Runs one tile of products: as [`Kernels::run`], but inputs and weights are 16-bit numbers, pairs of them instead of fours.
    ///
    /// # Panics
    /// As [`Kernels::run`], or if the kernels do not exist.
    #[inline]
    pub fn winograd_products(&self, tile: Tile<'_>) {
        self.run_in(self.winograd.as_ref().expect("asked for before").products, tile);
    }

    /// From products to the outputs of sixteen windows, row by row.
    ///
    /// * `sums`: `[plane][..]`, the tile's first lane at `at` of the first plane, planes `plane` apart.
    ///
    /// # Panics
    /// If it reaches outside a slice, or the kernels do not exist.
    #[allow(clippy::too_many_arguments)] // what a tile needs
    pub fn winograd_output(
        &self,
        block: Block<'_>,
        sums: &[i32],
        at: usize,
        plane: usize,
        done: &mut Done,
        to: &[usize; SIDE * SIDE],
        output: Output<'_>,
    ) {
        let kernels = self.winograd.as_ref().expect("asked for before");
        let padded = block.vectors * self.lanes;
        assert!((1..=kernels.output.len()).contains(&block.vectors) && padded <= MAX_LANES);
        assert!(at + (PLANES - 1) * plane + padded <= sums.len(), "tile reaches outside its planes");
        let end = End::new(&block, padded, to, output);
        // SAFETY: made only for instruction sets that the processor has; all that is read or written lies within the slices, as was
        // just seen.
        unsafe { kernels.output[block.vectors - 1](&end, sums.as_ptr().add(at), plane, done) }
    }
}

/// An [`Input`] whose bounds were checked.
pub(super) struct RawInput {
    pub input: *const u8,
    pub row: usize,
    pub pixel: usize,
    pub channels: usize,
    pub to: *mut i16,
    pub plane: usize,
}

type Lanes = [i16; CHANNELS];

/// Each lane of six vectors by itself.
#[inline(always)]
fn inputs_1d(d: &[Lanes; REACH]) -> [Lanes; REACH] {
    let mut out = [[0; CHANNELS]; REACH];
    for l in 0..CHANNELS {
        let [a, b, c, d, e, f] = [d[0][l], d[1][l], d[2][l], d[3][l], d[4][l], d[5][l]];
        out[0][l] = 4 * a - 5 * c + e;
        out[1][l] = (d + e) - 4 * (b + c);
        out[2][l] = (e - d) + 4 * (b - c);
        out[3][l] = (e - c) + 2 * (d - b);
        out[4][l] = (e - c) - 2 * (d - b);
        out[5][l] = 4 * b - 5 * d + f;
    }
    out
}

/// The body of every family's transform of a tile's inputs.
///
/// # Safety
/// 6 x 6 pixels of `channels` bytes can be read, and 36 planes written.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // a transposition
pub(super) unsafe fn input(t: &RawInput) {
    // SAFETY: the caller vouches for every address.
    unsafe {
        let mut columns = [[[0; CHANNELS]; REACH]; REACH];
        for channel in (0..t.channels).step_by(CHANNELS) {
            let from = t.input.add(channel);
            // Loops over lanes are what the compiler makes vectors of.
            for (x, column) in columns.iter_mut().enumerate() {
                let mut pixels = [[0; CHANNELS]; REACH];
                for (y, pixel) in pixels.iter_mut().enumerate() {
                    let bytes = from.add(y * t.row + x * t.pixel).cast::<[u8; CHANNELS]>().read();
                    for l in 0..CHANNELS {
                        pixel[l] = i16::from(bytes[l]);
                    }
                }
                *column = inputs_1d(&pixels);
            }
            for y in 0..REACH {
                let mut row = [[0; CHANNELS]; REACH];
                for x in 0..REACH {
                    row[x] = columns[x][y];
                }
                for (x, lanes) in inputs_1d(&row).iter().enumerate() {
                    t.to.add((y * REACH + x) * t.plane + channel).cast::<Lanes>().write_unaligned(*lanes);
                }
            }
        }
    }
}

#[inline(always)]
fn outputs_1d<const L: usize>(m: &[[i32; L]; REACH]) -> [[i32; L]; SIDE] {
    let mut out = [[0; L]; SIDE];
    for l in 0..L {
        let [a, b, c, d, e, f] = [m[0][l], m[1][l], m[2][l], m[3][l], m[4][l], m[5][l]].map(Wrapping);
        let six = |w: Wrapping<i32>| (w << 2) + (w << 1);
        out[0][l] = (six(a) + ((b + c) << 2) + (d + e)).0;
        out[1][l] = (((b - c) << 1) + (d - e)).0;
        out[2][l] = (b + c + d + e).0;
        out[3][l] = ((b - c) + ((d - e) << 1) + six(f)).0;
    }
    out
}

/// A tile of products: [`tile`] on pairs of 16-bit numbers.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn products<D: WordDot, const P: usize, const R: usize>(t: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Words<D>, P, R>(t) }
}

/// The body of every family's way from products to outputs. `sums` is the tile's first lane in the first of 36 planes that are
/// `plane` apart; `end` says where its sixteen windows go.
///
/// # Safety
/// The processor has `D`'s instruction set, `L` is `D`'s number of lanes, the tile has `vectors` vectors and sixteen places that can
/// be written, and the planes can be read.
#[inline(always)]
pub(super) unsafe fn output<D: Dot, const L: usize>(end: &End<'_>, sums: *const i32, plane: usize, done: &mut Done, vectors: usize) {
    const { assert!(D::LANES == L) };
    let mut columns = [[[0; L]; SIDE]; REACH];
    // SAFETY: the caller vouches for every address.
    unsafe {
        for at in (0..vectors * L).step_by(L) {
            for (x, column) in columns.iter_mut().enumerate() {
                let mut products = [[0; L]; REACH];
                for (y, products) in products.iter_mut().enumerate() {
                    *products = sums.add((y * REACH + x) * plane + at).cast::<[i32; L]>().read();
                }
                *column = outputs_1d(&products);
            }
            let start = end.start.add(at).cast::<[i32; L]>().read();
            for y in 0..SIDE {
                let mut row = [[0; L]; REACH];
                for x in 0..REACH {
                    row[x] = columns[x][y];
                }
                let row = outputs_1d(&row);
                for x in 0..SIDE {
                    let to = &mut done[(y * SIDE + x) * vectors * L + at..][..L];
                    for l in 0..L {
                        let sum = row[x][l].wrapping_mul(NINTH) >> (SHIFTS[y] + SHIFTS[x]);
                        to[l] = sum.wrapping_add(start[l]);
                    }
                }
            }
        }
        finish::<D>(end, done, SIDE * SIDE, vectors);
    }
}

/// Pairs of 16-bit numbers in the place of fours of bytes.
struct Words<D>(PhantomData<D>);

impl<D: WordDot> Dot for Words<D> {
    const LANES: usize = D::LANES;
    type Sums = D::Sums;
    type Bytes = D::Pair;
    type Weights = D::Pair;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self::Sums {
        unsafe { D::load(p) }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, p: *mut i32) {
        unsafe { D::store(sums, p) }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> D::Pair {
        unsafe { D::pair(p) }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> D::Pair {
        unsafe { D::pairs(p) }
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, bytes: D::Pair, weights: D::Pair) -> Self::Sums {
        unsafe { D::dot_pairs(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn store_bytes(sums: Self::Sums, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize) {
        unsafe { D::store_bytes(sums, multiplier, bias, clamp, to, used) }
    }

    #[inline(always)]
    unsafe fn store_floats(sums: Self::Sums, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize) {
        unsafe { D::store_floats(sums, multiplier, bias, low, to, used) }
    }
}

/// The kernels of a family: functions with its target features around the bodies above.
#[cfg(target_arch = "x86_64")]
macro_rules! winograd_kernels {
    ($name:ident, $features:literal, $dot:ty, $lanes:literal, $pixels:literal, [$($vectors:literal),+]) => {
        pub(super) const $name: crate::engine::int8::cpu::winograd::WinogradKernels = {
            use crate::engine::int8::cpu::{tile::End, winograd};
            /// # Safety
            /// A processor with these features, and what [`winograd::input`] asks for.
            #[target_feature(enable = $features)]
            unsafe fn input(t: &winograd::RawInput) {
                // SAFETY: passed on to the caller.
                unsafe { winograd::input(t) }
            }
            /// # Safety
            /// A processor with these features; the tile was checked.
            #[target_feature(enable = $features)]
            unsafe fn products<const R: usize>(t: &RawTile<'_>) {
                // SAFETY: passed on to the caller.
                unsafe { winograd::products::<$dot, $pixels, R>(t) }
            }
            /// # Safety
            /// A processor with these features, and what [`winograd::output`] asks for.
            #[target_feature(enable = $features)]
            unsafe fn output<const R: usize>(end: &End<'_>, sums: *const i32, plane: usize, done: &mut winograd::Done) {
                // SAFETY: passed on to the caller.
                unsafe { winograd::output::<$dot, $lanes>(end, sums, plane, done, R) }
            }
            winograd::WinogradKernels::new(input, &[$(products::<$vectors>),+], &[$(output::<$vectors>),+])
        };
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use winograd_kernels;

#[cfg(test)]
mod tests {
    use super::*;

    /// The planes' extremes, by the signs of the transforms.
    #[test]
    fn transforms_fit_into_sixteen_bits() {
        let unit = |i: usize| std::array::from_fn(|k| [i16::from(k == i); CHANNELS]);
        let rows: Vec<[i32; REACH]> = (0..REACH).map(|o| std::array::from_fn(|i| i32::from(inputs_1d(&unit(i))[o][0]))).collect();
        for a in &rows {
            for b in &rows {
                let products = || a.iter().flat_map(|x| b.iter().map(move |y| x * y * 255));
                let (most, least): (i32, i32) = (products().filter(|p| *p > 0).sum(), products().filter(|p| *p < 0).sum());
                assert!(most <= 20_400 && least >= -20_400, "{most} {least}");
            }
        }
        let greatest = [-127, 127].map(|w| [-127, 127].map(|v| [[w, v, w], [v, w, v], [w, v, w]]));
        let values = greatest.into_iter().flatten().flat_map(|window| weights(window).into_iter().flatten());
        assert_eq!(values.map(i16::unsigned_abs).max(), Some(6_223));
    }
}
