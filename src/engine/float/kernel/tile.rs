//! The tile, compiled for each instruction set and size.

use super::vector::{Plain, Vector};
use super::{Kernels, RawKernel, RawTile};
use crate::engine::Isa;

/// The loop itself.
///
/// # Safety
/// The processor has `V`'s instruction set, and all that the strides and stretches of `tile` reach is in bounds.
#[inline(always)]
unsafe fn tile<V: Vector, const P: usize, const R: usize>(tile: &RawTile<V::Scalar>) {
    let &RawTile { a, b, strides, stretches, acc } = tile;
    // SAFETY: the caller vouches for every address below.
    unsafe {
        let mut sums: [[V; R]; P] = std::array::from_fn(|p| std::array::from_fn(|r| V::load(acc.add((p * R + r) * V::LANES))));
        for stretch in &*stretches {
            let mut a = a.add(stretch.a);
            let mut b = b.add(stretch.b);
            for _ in 0..stretch.len {
                let weights: [V; R] = std::array::from_fn(|r| V::load(b.add(r * V::LANES)));
                for (p, row) in sums.iter_mut().enumerate() {
                    let x = V::splat(*a.add(p * strides.pixel));
                    for (sum, &w) in row.iter_mut().zip(&weights) {
                        *sum = x.fma(w, *sum);
                    }
                }
                a = a.wrapping_add(strides.k);
                b = b.wrapping_add(strides.b);
            }
        }
        for (p, row) in sums.iter().enumerate() {
            for (r, sum) in row.iter().enumerate() {
                sum.store(acc.add((p * R + r) * V::LANES));
            }
        }
    }
}

/// Kernels of 1..=N pixels in a table.
macro_rules! table {
    ($kernel:ident, $vectors:literal, [$($pixels:literal)*]) => {
        vec![$($kernel::<$pixels, $vectors> as RawKernel<_>),*]
    };
}

/// # Safety
/// As [`tile`]; every target has these.
unsafe fn portable_f32<const P: usize, const R: usize>(t: &RawTile<f32>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Plain<f32, 8>, P, R>(t) }
}

/// # Safety
/// As [`tile`]; every target has these.
unsafe fn portable_f64<const P: usize, const R: usize>(t: &RawTile<f64>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Plain<f64, 4>, P, R>(t) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector::Plain;
    use super::super::vector::x86::{F32x8, F32x16};
    use super::{RawTile, tile};

    /// # Safety
    /// As [`tile`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2_f64<const P: usize, const R: usize>(t: &RawTile<f64>) {
        // SAFETY: passed on to the caller.
        unsafe { tile::<Plain<f64, 4>, P, R>(t) }
    }

    /// # Safety
    /// As [`tile`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const P: usize, const R: usize>(t: &RawTile<f32>) {
        // SAFETY: passed on to the caller.
        unsafe { tile::<F32x8, P, R>(t) }
    }

    /// # Safety
    /// As [`tile`], on a processor with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512<const P: usize, const R: usize>(t: &RawTile<f32>) {
        // SAFETY: passed on to the caller.
        unsafe { tile::<F32x16, P, R>(t) }
    }
}

/// Sixteen registers hold 6 x 2 sums, two weights and an input; thirty-two hold 14 x 2.
pub(super) fn build_f32(isa: Isa) -> Kernels<f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            use x86::avx2;
            let table = [table!(avx2, 1, [1 2 3 4 5 6]), table!(avx2, 2, [1 2 3 4 5 6])];
            Kernels { isa, pixels: 6, vector: 8, table }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            use x86::avx512;
            let table = [table!(avx512, 1, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]), table!(avx512, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14])];
            Kernels { isa, pixels: 14, vector: 16, table }
        }
        // On Arm the compiler turns the plain code into NEON: 64-bit Arm always has it.
        _ => {
            let table = [table!(portable_f32, 1, [1 2 3 4 5 6]), table!(portable_f32, 2, [1 2 3 4 5 6])];
            Kernels { isa, pixels: 6, vector: 8, table }
        }
    }
}

pub(super) fn build_f64(isa: Isa) -> Kernels<f64> {
    let table = match isa {
        // Every processor with AVX-512F has AVX2 and FMA; `f64` only checks gradients and needs no more.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => {
            use x86::avx2_f64;
            [table!(avx2_f64, 1, [1 2 3 4 5 6]), table!(avx2_f64, 2, [1 2 3 4 5 6])]
        }
        _ => [table!(portable_f64, 1, [1 2 3 4 5 6]), table!(portable_f64, 2, [1 2 3 4 5 6])],
    };
    Kernels { isa, pixels: 6, vector: 4, table }
}
