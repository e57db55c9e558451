//! The little that a tile needs to know of an instruction set.

/// A register of lanes.
///
/// # Safety
/// Callers of the methods guarantee that the processor has the instruction set, and that pointers are good for `LANES`
/// elements.
pub(super) trait Vector: Copy {
    type Scalar: Copy;
    const LANES: usize;
    unsafe fn splat(x: Self::Scalar) -> Self;
    unsafe fn load(p: *const Self::Scalar) -> Self;
    unsafe fn store(self, p: *mut Self::Scalar);
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
}

/// Plain Rust; the compiler makes of it what the target has.
#[derive(Clone, Copy)]
pub(super) struct Plain<T, const L: usize>([T; L]);

macro_rules! plain {
    ($type:ty) => {
        impl<const L: usize> Vector for Plain<$type, L> {
            type Scalar = $type;
            const LANES: usize = L;

            #[inline(always)]
            unsafe fn splat(x: $type) -> Self {
                Self([x; L])
            }

            #[inline(always)]
            unsafe fn load(p: *const $type) -> Self {
                // SAFETY: the caller vouches for L elements; arrays have their element's alignment.
                Self(unsafe { p.cast::<[$type; L]>().read() })
            }

            #[inline(always)]
            unsafe fn store(self, p: *mut $type) {
                // SAFETY: as above.
                unsafe { p.cast::<[$type; L]>().write(self.0) }
            }

            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                Self(std::array::from_fn(|l| self.0[l].mul_add(b.0[l], c.0[l])))
            }
        }
    };
}
plain!(f32);
plain!(f64);

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! x86 {
        ($name:ident, $register:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $fma:ident) => {
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name($register);

            impl Vector for $name {
                type Scalar = f32;
                const LANES: usize = $lanes;

                // SAFETY of all: the trait's contract.
                #[inline(always)]
                unsafe fn splat(x: f32) -> Self {
                    Self(unsafe { $splat(x) })
                }

                #[inline(always)]
                unsafe fn load(p: *const f32) -> Self {
                    Self(unsafe { $load(p) })
                }

                #[inline(always)]
                unsafe fn store(self, p: *mut f32) {
                    unsafe { $store(p, self.0) }
                }

                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }
            }
        };
    }
    x86!(F32x8, __m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    x86!(F32x16, __m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
}
