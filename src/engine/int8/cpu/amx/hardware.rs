//! The tile unit of x86-64 processors (AMX-TILE, AMX-INT8). Stable Rust has no intrinsics for it.
//!
//! This code has never run on a processor that has the unit; see [`super::kernels`] for what stands guard over it.

use super::unit::{ROW, ROWS, TileUnit};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::cell::Cell;
use std::sync::OnceLock;

/// Whether processor and system let this process use the unit. Asks the system for it, once: on Linux a process must say that it
/// wants registers of this size.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_it() && system_allows_it())
}

/// Intel's manual, volume 1, chapter 18: leaf 7 says what the processor has, XCR0 what the system saves.
fn processor_has_it() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const TILE_CONFIG_AND_DATA: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 always exists where the system uses XSAVE.
        unsafe { _xgetbv(0) }
    }
    let has = __cpuid(0).eax >= 7 && __cpuid(1).ecx & OSXSAVE != 0 && __cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8;
    // SAFETY: OSXSAVE says that the instruction exists and is enabled.
    has && unsafe { xcr0() } & TILE_CONFIG_AND_DATA == TILE_CONFIG_AND_DATA
}

#[cfg(target_os = "linux")]
fn system_allows_it() -> bool {
    // Linux, Documentation/arch/x86/xstate.rst.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: changes nothing but what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_allows_it() -> bool {
    false
}

/// The operand of LDTILECFG.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static ALL_WHOLE: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (ROW as u16, ROWS as u8);
        tile += 1;
    }
    Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};
const _: () = assert!(size_of::<Config>() == 64);

thread_local! {
    /// Whether this thread has configured its tiles.
    static OPEN: Cell<bool> = const { Cell::new(false) };
}

/// This thread's unit. The outermost of several configures it and lets it go.
pub struct Hardware {
    is_outermost: bool,
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
        Self { is_outermost }
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
