//! 64-bit Arm. Three ways to the tile's step, the first that the processor has being the best:
//!
//! * I8MM: `usdot` is exactly the step, four u8 x s8 products a lane added to an i32.
//! * dot product: `sdot` takes two signed operands, so it sees every byte less 128 (the top bit flipped); what that takes away
//!   from a sum, 128 times its weights, is given back by where the sum starts ([`Kernels::byte_shift`]).
//! * NEON alone: bytes less 128 as above, widening products, pairs added in 16 bits. A pair is at most 2 x 128 x 127 < 2^15,
//!   since no weight is -128.

use super::super::arithmetic::{Clamp, Quantizer};
use super::Kernels;
use super::tile::{self, Dot, Gather, RawTile, copy, tile};
use crate::engine::Isa;
use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

const LANES: usize = 4;

/// How four products a lane are added up.
///
/// # Safety
/// Callers guarantee that the processor has the instructions.
trait Step {
    /// What every byte of the input is combined with by exclusive or.
    const FLIP: u8;
    unsafe fn dot(sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t;
}

struct Widening;
struct DotProduct;
struct MatrixMultiply;

impl Step for Widening {
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
        // SAFETY: every 64-bit Arm processor has these.
        unsafe {
            let bytes = vreinterpretq_s8_u8(bytes);
            let low = vmull_s8(vget_low_s8(bytes), vget_low_s8(weights));
            let high = vmull_high_s8(bytes, weights);
            vpadalq_s16(sums, vpaddq_s16(low, high))
        }
    }
}

// The intrinsics of these two instructions are not in stable Rust. The directive lets the assembler know them whatever the
// function around it is compiled for; that the processor has them is the caller's promise.
impl Step for DotProduct {
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract; registers only.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
                sums = inout(vreg) sums, bytes = in(vreg) bytes, weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

impl Step for MatrixMultiply {
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
        // SAFETY: the trait's contract; registers only.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "usdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
                sums = inout(vreg) sums, bytes = in(vreg) bytes, weights = in(vreg) weights,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

struct Neon<S>(PhantomData<S>);

impl<S: Step> Dot for Neon<S> {
    const LANES: usize = LANES;
    type Sums = int32x4_t;
    type Bytes = uint8x16_t;
    type Weights = int8x16_t;

    // SAFETY of all: the trait's contract.
    #[inline(always)]
    unsafe fn load(p: *const i32) -> int32x4_t {
        unsafe { vld1q_s32(p) }
    }

    #[inline(always)]
    unsafe fn store(sums: int32x4_t, p: *mut i32) {
        unsafe { vst1q_s32(p, sums) }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> uint8x16_t {
        unsafe {
            let all = vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned()));
            if S::FLIP == 0 { all } else { veorq_u8(all, vdupq_n_u8(S::FLIP)) }
        }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> int8x16_t {
        unsafe { vld1q_s8(p) }
    }

    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
        unsafe { S::dot(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn store_bytes(sums: int32x4_t, multiplier: *const f32, bias: *const f32, clamp: Clamp, to: *mut u8, used: usize) {
        unsafe {
            let y = vfmaq_f32(vld1q_f32(bias), vcvtq_f32_s32(sums), vld1q_f32(multiplier));
            let y = vminnmq_f32(vmaxnmq_f32(y, vdupq_n_f32(clamp.low)), vdupq_n_f32(clamp.high));
            let q = vaddq_s32(vcvtnq_s32_f32(y), vdupq_n_s32(clamp.zero));
            // Values are bytes already: narrowing cuts nothing off.
            let words = vmovn_s32(q);
            let bytes = vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words)));
            let all = vget_lane_u32::<0>(bytes);
            if used == LANES { to.cast::<u32>().write_unaligned(all) } else { copy(&all.to_ne_bytes(), to, used) }
        }
    }

    #[inline(always)]
    unsafe fn store_floats(sums: int32x4_t, multiplier: *const f32, bias: *const f32, low: f32, to: *mut f32, used: usize) {
        unsafe {
            let y = vfmaq_f32(vld1q_f32(bias), vcvtq_f32_s32(sums), vld1q_f32(multiplier));
            let y = vmaxnmq_f32(y, vdupq_n_f32(low));
            if used == LANES {
                vst1q_f32(to, y);
            } else {
                let mut all = [0f32; LANES];
                vst1q_f32(all.as_mut_ptr(), y);
                copy(&all, to, used);
            }
        }
    }
}

/// # Safety
/// As [`tile`], on a processor that has the instructions of `S`.
unsafe fn conv<S: Step, const R: usize>(t: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { tile::<Neon<S>, 6, R>(t) }
}

/// Safe on every target; unsafe only in type, as its siblings are.
unsafe fn quantize(quantizer: &Quantizer, from: &[f32], to: &mut [u8]) {
    tile::quantize(quantizer, from, to);
}

/// Safe on every target; unsafe only in type, as its siblings are.
unsafe fn gather(gather: &Gather<'_>, windows: &[u32], to: &[u32], out: &mut [f32]) {
    tile::gather(gather, windows, to, out);
}

/// 6 x 4 sums, four weights and an input fill 29 of 32 registers (the two halves of a product two more).
const fn kernels<S: Step>(isa: Isa) -> Kernels {
    let table = const { &[conv::<S, 1> as tile::RawKernel, conv::<S, 2>, conv::<S, 3>, conv::<S, 4>] };
    Kernels { isa, pixels: 6, lanes: LANES, table, quantize, gather, byte_shift: S::FLIP as i32, winograd: None }
}

pub(super) const NEON: Kernels = kernels::<Widening>(Isa::Neon);
pub(super) const NEON_DOT: Kernels = kernels::<DotProduct>(Isa::NeonDot);
pub(super) const NEON_I8MM: Kernels = kernels::<MatrixMultiply>(Isa::NeonI8mm);
