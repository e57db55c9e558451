//! The tile unit of x86-64 processors (AMX-TILE, AMX-INT8). Stable Rust has no intrinsics for it.
//!
//! This code has run in emulators only; see [`super::kernels`] for what stands guard over it.

use super::unit::{ALL_WHOLE, ROW, ROWS, TileUnit};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Whether processor and system let this process use the unit. Asks the system for it, once: on Linux a process must say that it
/// wants registers of this size.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| Processor::this().has_tiles() && system_allows_it())
}

/// What processor and system say of themselves (Intel's manual, volume 1, chapter 18, and volume 2, CPUID). If this said yes where
/// the answer is no, the first instruction would end the process.
#[derive(Clone, Copy)]
struct Processor {
    /// The greatest leaf of CPUID.
    leaves: u32,
    leaf_1_ecx: u32,
    leaf_7_edx: u32,
    /// EAX to ECX of leaf 1D, 1: the first palette.
    palette: [u32; 3],
    /// What the system saves when it switches threads.
    xcr0: u64,
}

impl Processor {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const TILE_CONFIG: u64 = 1 << 17;
    const TILE_DATA: u64 = 1 << 18;
    const PALETTE_LEAF: u32 = 0x1d;

    fn this() -> Self {
        #[target_feature(enable = "xsave")]
        fn xcr0() -> u64 {
            // SAFETY: register 0 always exists where the system uses XSAVE.
            unsafe { _xgetbv(0) }
        }
        let (leaves, leaf_1_ecx) = (__cpuid(0).eax, __cpuid(1).ecx);
        let palette = if leaves >= Self::PALETTE_LEAF { Some(__cpuid_count(Self::PALETTE_LEAF, 1)) } else { None };
        Self {
            leaves,
            leaf_1_ecx,
            leaf_7_edx: if leaves >= 7 { __cpuid_count(7, 0).edx } else { 0 },
            palette: palette.map_or([0; 3], |leaf| [leaf.eax, leaf.ebx, leaf.ecx]),
            // SAFETY: OSXSAVE says that the instruction exists and is enabled.
            xcr0: if leaf_1_ecx & Self::OSXSAVE != 0 { unsafe { xcr0() } } else { 0 },
        }
    }

    fn has_tiles(&self) -> bool {
        let [eax, ebx, ecx] = self.palette;
        // Bytes of a register and of a row, registers, rows.
        let palette = [eax >> 16, ebx & 0xffff, ebx >> 16, ecx & 0xffff];
        self.leaves >= Self::PALETTE_LEAF
            && self.leaf_1_ecx & Self::OSXSAVE != 0
            && self.leaf_7_edx & Self::AMX_TILE != 0
            && self.leaf_7_edx & Self::AMX_INT8 != 0
            && self.xcr0 & Self::TILE_CONFIG != 0
            && self.xcr0 & Self::TILE_DATA != 0
            && palette == [(ROWS * ROW) as u32, ROW as u32, 8, ROWS as u32]
    }
}

#[cfg(target_os = "linux")]
fn system_allows_it() -> bool {
    // Linux, Documentation/arch/x86/xstate.rst.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // For all threads, those to come too. Refused where a thread's stack for signals could not hold the registers.
    // SAFETY: changes nothing but what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_allows_it() -> bool {
    false
}

thread_local! {
    /// Whether this thread has configured its tiles.
    static OPEN: Cell<bool> = const { Cell::new(false) };
}

/// This thread's unit, which no other thread may let go. The outermost of several configures it and lets it go.
pub struct Hardware {
    is_outermost: bool,
    of_this_thread: PhantomData<*const ()>,
}

impl Hardware {
    /// # Safety
    /// [`is_available`].
    pub unsafe fn take() -> Self {
        let is_outermost = !OPEN.replace(true);
        if is_outermost {
            // SAFETY: the caller's promise; a valid configuration.
            unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const ALL_WHOLE, options(nostack, readonly, preserves_flags)) }
        }
        Self { is_outermost, of_this_thread: PhantomData }
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        if self.is_outermost {
            OPEN.set(false);
            // SAFETY: it was configured by `take`.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
        }
    }
}

// Tile registers are named in the text: no code of the compiler's own touches them, so values stay from block to block.
impl TileUnit for Hardware {
    #[inline(always)]
    unsafe fn open() -> Self {
        // SAFETY: passed on to the caller.
        unsafe { Self::take() }
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from, stride = in(reg) stride,
                options(nostack, readonly, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{t}", t = const T, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: registers only.
        unsafe { asm!("tdpbusd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B, options(nostack, preserves_flags)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_counts() {
        // As Sapphire Rapids has them.
        let all = Processor {
            leaves: 0x20,
            leaf_1_ecx: 1 << 27,
            leaf_7_edx: 1 << 24 | 1 << 25,
            palette: [1024 << 16 | 8192, 8 << 16 | 64, 16],
            xcr0: 0x6_02e7,
        };
        assert!(all.has_tiles());
        let palettes = [[0; 3], [512 << 16, 8 << 16 | 64, 16], [1024 << 16, 8 << 16 | 32, 16], [1024 << 16, 4 << 16 | 64, 16]];
        let mut lacking = vec![
            Processor { leaves: 7, ..all },
            Processor { leaf_1_ecx: !(1 << 27), ..all },
            Processor { leaf_7_edx: !(1 << 24), ..all },
            Processor { leaf_7_edx: !(1 << 25), ..all },
            Processor { xcr0: !(1 << 17), ..all },
            Processor { xcr0: !(1 << 18), ..all },
        ];
        lacking.extend(palettes.map(|palette| Processor { palette, ..all }));
        assert_eq!(lacking.iter().position(Processor::has_tiles), None);
    }
}
