//! The one inner loop of all float matrix work.
//!
//! A tile is `pixels x lanes` sums that stay in registers while the reduction runs:
//! `acc[p][l] += a[p * pixel_stride + k * k_stride] * b[k * b_stride + l]`. Convolution, its two gradients and linear layers
//! differ only in what those strides mean (see [`super::correlate`]).
//!
//! Every sum is a chain of fused multiply-adds in the order of `k`, whatever the tile size, instruction set or thread count,
//! so that all of them give the same bits.

mod tile;
mod vector;
mod vectorized;

pub(super) use vectorized::vectorized;

use crate::engine::{Isa, IsaError};
use ndarray::NdFloat;
use std::sync::OnceLock;

/// Most pixels of a tile on any instruction set.
pub const MAX_PIXELS: usize = 14;
/// Most lanes of a tile on any instruction set (two vectors of sixteen `f32`).
pub const MAX_LANES: usize = 32;

/// One stretch of a reduction: where it starts in `a` and `b`, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub a: usize,
    pub b: usize,
    pub len: usize,
}

/// The strides of a tile, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// In `a`, from one pixel of the tile to the next.
    pub pixel: usize,
    /// In `a`, from one step of the reduction to the next.
    pub k: usize,
    /// In `b`, from one step of the reduction to the next.
    pub b: usize,
}

/// What a compiled tile gets; pointers instead of slices because every bound was checked once, outside.
struct RawTile<T> {
    a: *const T,
    b: *const T,
    strides: Strides,
    stretches: *const [Stretch],
    acc: *mut T,
}

type RawKernel<T> = unsafe fn(&RawTile<T>);

/// A scalar type with kernels.
pub trait Real: NdFloat + Default + std::iter::Sum {
    /// The kernels of the instruction set that [`Isa::choose`] gives.
    ///
    /// # Panics
    /// If `LIDAR_PTQ_ISA` is wrong; programs call [`Isa::choose`] first, to say so properly.
    fn kernels() -> &'static Kernels<Self>;
    fn from_f64(x: f64) -> Self;
    fn as_f64(self) -> f64;
    fn round_ties_even(self) -> Self;
}

/// The kernels of one scalar type on one instruction set.
pub struct Kernels<T> {
    isa: Isa,
    pixels: usize,
    vector: usize,
    /// `[one or two vectors][pixels - 1]`
    table: [Vec<RawKernel<T>>; 2],
}

impl<T: Real> Kernels<T> {
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Most pixels of a tile.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// Lanes of one vector. A tile is one or two vectors wide.
    pub fn vector(&self) -> usize {
        self.vector
    }

    /// Runs one tile: `acc` is `[pixels][lanes]`, read, added to and written.
    ///
    /// # Panics
    /// If the tile is larger than the kernels are, or reaches outside a slice.
    #[inline]
    pub fn run(&self, a: &[T], b: &[T], strides: Strides, stretches: &[Stretch], pixels: usize, acc: &mut [T]) {
        let lanes = acc.len() / pixels.max(1);
        let vectors = lanes / self.vector;
        assert!(pixels >= 1 && pixels <= self.pixels && (1..=2).contains(&vectors) && acc.len() == pixels * vectors * self.vector);
        for s in stretches {
            if s.len > 0 {
                let last = s.len - 1;
                assert!(s.a + (pixels - 1) * strides.pixel + last * strides.k < a.len(), "tile reaches outside its input");
                assert!(s.b + last * strides.b + lanes <= b.len(), "tile reaches outside its weights");
            }
        }
        let raw = RawTile { a: a.as_ptr(), b: b.as_ptr(), strides, stretches, acc: acc.as_mut_ptr() };
        // SAFETY: the table holds only kernels of an instruction set that this processor has (`build`); every element that a
        // kernel reads or writes was shown above to lie inside its slice, and `acc` is borrowed mutably.
        unsafe { self.table[vectors - 1][pixels - 1](&raw) }
    }
}

impl Kernels<f32> {
    /// The kernels of an instruction set, if this processor has it.
    pub fn with_isa(isa: Isa) -> Option<Self> {
        isa.is_available().then(|| tile::build_f32(isa.float()))
    }
}

impl Kernels<f64> {
    /// The kernels of an instruction set, if this processor has it.
    pub fn with_isa(isa: Isa) -> Option<Self> {
        isa.is_available().then(|| tile::build_f64(isa.float()))
    }
}

fn chosen() -> Result<Isa, IsaError> {
    Isa::choose().map(Isa::float)
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn kernels() -> &'static Kernels<Self> {
                static KERNELS: OnceLock<Kernels<$type>> = OnceLock::new();
                KERNELS.get_or_init(|| {
                    let isa = chosen().unwrap_or_else(|e| panic!("{e}"));
                    Kernels::<$type>::with_isa(isa).expect("chosen because it is available")
                })
            }

            fn from_f64(x: f64) -> Self {
                x as $type
            }

            fn as_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn round_ties_even(self) -> Self {
                <$type>::round_ties_even(self)
            }
        }
    };
}
real!(f32);
real!(f64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, in the order of `k`.
    fn naive(a: &[f32], b: &[f32], strides: Strides, stretches: &[Stretch], pixels: usize, lanes: usize, acc: &mut [f32]) {
        for p in 0..pixels {
            for l in 0..lanes {
                for s in stretches {
                    for k in 0..s.len {
                        let x = a[s.a + p * strides.pixel + k * strides.k];
                        acc[p * lanes + l] = x.mul_add(b[s.b + k * strides.b + l], acc[p * lanes + l]);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_bits_of_the_definition(seed in 0u64..1000, pixels in 1usize..=MAX_PIXELS, vectors in 1usize..=2, len in 0usize..40, pixel in 1usize..9, k in 1usize..5) {
            let mut state = seed.wrapping_add(1);
            let mut random = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); ((state >> 40) as f32) / 8388608.0 - 1.0 };
            let a: Vec<f32> = (0..600).map(|_| random()).collect();
            let b: Vec<f32> = (0..4000).map(|_| random()).collect();
            for isa in Isa::ALL {
                let Some(kernels) = Kernels::<f32>::with_isa(isa) else { continue };
                let pixels = pixels.min(kernels.pixels());
                let lanes = vectors * kernels.vector();
                let strides = Strides { pixel, k, b: lanes };
                let stretches = [Stretch { a: 3, b: 7, len }, Stretch { a: 100, b: 1500, len: len / 2 }];
                let mut got: Vec<f32> = (0..pixels * lanes).map(|i| i as f32 * 0.01).collect();
                let mut want = got.clone();
                kernels.run(&a, &b, strides, &stretches, pixels, &mut got);
                naive(&a, &b, strides, &stretches, pixels, lanes, &mut want);
                prop_assert_eq!(got, want, "{}", isa);
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside its weights")]
    fn a_tile_that_reaches_outside_is_refused() {
        let kernels = f32::kernels();
        let lanes = kernels.vector();
        let strides = Strides { pixel: 1, k: 1, b: lanes };
        kernels.run(&[0.0; 8], &vec![0.0; lanes], strides, &[Stretch { a: 0, b: 0, len: 2 }], 1, &mut vec![0.0; lanes]);
    }
}
