//! Plain Rust: the definition, runs everywhere.

use super::super::arithmetic::{Clamp, Quantizer};
use super::Kernels;
use super::tile::{self, Dot, Gather, RawTile, copy, tile};
use crate::engine::Isa;

const LANES: usize = 16;

pub(super) struct Plain;

impl Dot for Plain {
    const LANES: usize = LANES;
    type Sums = [i32; LANES];
    type Bytes = [i32; 4];
    type Weights = [[i8; 4]; LANES];

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self::Sums {
        unsafe { p.cast::<Self::Sums>().read() }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, p: *mut i32) {
        unsafe { p.cast::<Self::Sums>().write(sums) }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Self::Bytes {
        unsafe { p.cast::<[u8; 4]>().read() }.map(i32::from)
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self::Weights {
        unsafe { p.cast::<Self::Weights>().read() }
    }

    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (byte, weight) in bytes.into_iter().zip(weights) {
                *sum = sum.wrapping_add(byte * i32::from(weight));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store_bytes(sums: Self::Sums, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize) {
        unsafe {
            let (m, b) = (multiplier.cast::<[f32; LANES]>().read(), bias.cast::<[f32; LANES]>().read());
            let bytes: [u8; LANES] = std::array::from_fn(|l| clamp.byte((sums[l] as f32).mul_add(m[l], b[l])));
            copy(&bytes, to, used);
        }
    }

    #[inline(always)]
    unsafe fn store_floats(sums: Self::Sums, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize) {
        unsafe {
            let (m, b) = (multiplier.cast::<[f32; LANES]>().read(), bias.cast::<[f32; LANES]>().read());
            let floats: [f32; LANES] = std::array::from_fn(|l| (sums[l] as f32).mul_add(m[l], b[l]).max(low));
            copy(&floats, to, used);
        }
    }
}

/// # Safety
/// As [`tile`]; every target has these.
unsafe fn conv<const R: usize>(t: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Plain, 4, R>(t) }
}

/// Safe on every target; unsafe only in type, as its siblings are.
unsafe fn quantize(quantizer: &Quantizer, from: &[f32], to: &mut [u8]) {
    tile::quantize(quantizer, from, to);
}

/// Safe on every target; unsafe only in type, as its siblings are.
unsafe fn gather(gather: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
    tile::gather(gather, windows, to, out);
}

pub(super) const KERNELS: Kernels = Kernels {
    isa: Isa::Portable,
    pixels: 4,
    lanes: LANES,
    table: &[conv::<1>],
    quantize,
    gather,
    byte_shift: 0,
    // The definition makes no detours.
    winograd: None,
};
