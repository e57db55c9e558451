//! AVX-512 with VNNI: `vpdpbusd` is exactly the tile's step, four u8 x s8 products a lane added to an i32.

use super::super::arithmetic::{Clamp, Quantizer};
use super::Kernels;
use super::tile::{self, Dot, Gather, RawTile, WordDot, copy, tile};
use super::winograd::winograd_kernels;
use crate::engine::Isa;
use std::arch::x86_64::*;

pub(super) struct Vnni;

impl Dot for Vnni {
    const LANES: usize = 16;
    type Sums = __m512i;
    type Bytes = __m512i;
    type Weights = __m512i;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512i, p: *mut i32) {
        unsafe { _mm512_storeu_si512(p.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn store_bytes(sums: __m512i, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize) {
        unsafe {
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(multiplier), _mm512_loadu_ps(bias));
            let y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(clamp.low)), _mm512_set1_ps(clamp.high));
            // The conversion rounds half to even, which is the default mode that nothing in this program changes.
            let q = _mm512_add_epi32(_mm512_cvtps_epi32(y), _mm512_set1_epi32(clamp.zero));
            let bytes = _mm512_cvtepi32_epi8(q);
            if used == 16 {
                _mm_storeu_si128(to.cast(), bytes);
            } else {
                let mut all = [0u8; 16];
                _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                copy(&all, to, used);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_floats(sums: __m512i, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize) {
        unsafe {
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(multiplier), _mm512_loadu_ps(bias));
            let y = _mm512_max_ps(y, _mm512_set1_ps(low));
            _mm512_mask_storeu_ps(to, ((1u32 << used) - 1) as __mmask16, y);
        }
    }
}

impl WordDot for Vnni {
    type Pair = __m512i;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn pair(p: *const u8) -> __m512i {
        unsafe { Self::bytes(p) }
    }

    #[inline(always)]
    unsafe fn pairs(p: *const i8) -> __m512i {
        unsafe { Self::weights(p) }
    }

    #[inline(always)]
    unsafe fn dot_pairs(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_dpwssd_epi32(sums, a, b) }
    }
}

winograd_kernels!(WINOGRAD, "avx512f,avx512bw,avx512vnni", Vnni, 16, 6, [1, 2, 3, 4]);

/// # Safety
/// As [`tile`], on a processor with AVX-512F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn conv<const R: usize>(t: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Vnni, 6, R>(t) }
}

/// # Safety
/// A processor with AVX-512F.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn quantize(quantizer: &Quantizer, from: &[f32], to: &mut [u8]) {
    tile::quantize(quantizer, from, to);
}

/// # Safety
/// A processor with AVX-512F.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn gather(gather: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
    tile::gather(gather, windows, to, out);
}

/// 6 x 4 sums, four weights and an input fill 29 of 32 registers; six pixel addresses, weights and a counter eight of sixteen.
pub(super) const KERNELS: Kernels = Kernels {
    isa: Isa::Avx512Vnni,
    pixels: 6,
    lanes: 16,
    table: &[conv::<1>, conv::<2>, conv::<3>, conv::<4>],
    quantize,
    gather,
    byte_shift: 0,
    winograd: Some(WINOGRAD),
};
