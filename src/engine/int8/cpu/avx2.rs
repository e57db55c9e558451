//! AVX2: no dot product that cannot overflow (`vpmaddubsw` saturates at 16 bits), so bytes are widened: the even and the odd
//! ones of each four as two 16-bit numbers, multiplied and added in pairs by `vpmaddwd`.

use super::super::arithmetic::{Clamp, Quantizer};
use super::Kernels;
use super::tile::{self, Dot, Gather, RawTile, WordDot, copy, tile};
use super::winograd::winograd_kernels;
use crate::engine::Isa;
use std::arch::x86_64::*;

const LANES: usize = 8;

struct Avx2;

/// The four bytes of each lane as 16-bit numbers: the first and third, the second and fourth.
#[derive(Clone, Copy)]
struct Pairs {
    even: __m256i,
    odd: __m256i,
}

impl Dot for Avx2 {
    const LANES: usize = LANES;
    type Sums = __m256i;
    type Bytes = Pairs;
    type Weights = Pairs;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn load(p: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m256i, p: *mut i32) {
        unsafe { _mm256_storeu_si256(p.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Pairs {
        unsafe {
            let all = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
            Pairs { even: _mm256_and_si256(all, _mm256_set1_epi16(0xff)), odd: _mm256_srli_epi16::<8>(all) }
        }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Pairs {
        unsafe {
            let all = _mm256_loadu_si256(p.cast());
            Pairs { even: _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(all)), odd: _mm256_srai_epi16::<8>(all) }
        }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, bytes: Pairs, weights: Pairs) -> __m256i {
        unsafe {
            let even = _mm256_madd_epi16(bytes.even, weights.even);
            let odd = _mm256_madd_epi16(bytes.odd, weights.odd);
            _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(sums: __m256i, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize) {
        unsafe {
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(multiplier), _mm256_loadu_ps(bias));
            let y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(clamp.low)), _mm256_set1_ps(clamp.high));
            // The conversion rounds half to even, which is the default mode that nothing in this program changes.
            let q = _mm256_add_epi32(_mm256_cvtps_epi32(y), _mm256_set1_epi32(clamp.zero));
            // Values are bytes already: packing saturates nothing.
            let words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
            let bytes = _mm_packus_epi16(words, words);
            if used == LANES {
                _mm_storel_epi64(to.cast(), bytes);
            } else {
                let mut all = [0u8; 16];
                _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                copy(&all, to, used);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_floats(sums: __m256i, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize) {
        unsafe {
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(multiplier), _mm256_loadu_ps(bias));
            let mut all = [0f32; LANES];
            _mm256_storeu_ps(all.as_mut_ptr(), _mm256_max_ps(y, _mm256_set1_ps(low)));
            copy(&all, to, used);
        }
    }
}

impl WordDot for Avx2 {
    type Pair = __m256i;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn pair(p: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn pairs(p: *const i8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    unsafe fn dot_pairs(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
    }
}

winograd_kernels!(WINOGRAD, "avx2,fma", Avx2, 8, 4, [1, 2]);

/// # Safety
/// As [`tile`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn conv<const R: usize>(t: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Avx2, 4, R>(t) }
}

/// # Safety
/// A processor with AVX2.
#[target_feature(enable = "avx2,fma")]
unsafe fn quantize(quantizer: &Quantizer, from: &[f32], to: &mut [u8]) {
    tile::quantize(quantizer, from, to);
}

/// # Safety
/// A processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn gather(gather: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
    tile::gather(gather, windows, to, out);
}

/// 4 x 2 sums, two weights of two registers and an input of two fill 14 of 16 registers.
pub(super) const KERNELS: Kernels = Kernels {
    isa: Isa::Avx2,
    pixels: 4,
    lanes: LANES,
    table: &[conv::<1>, conv::<2>],
    quantize,
    gather,
    byte_shift: 0,
    winograd: Some(WINOGRAD),
};
