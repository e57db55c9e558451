//! Executes the kernel's own instructions on processors without the unit: there each raises SIGILL, and the handler decodes it,
//! does what it says on [`Registers`] of the thread, and goes on behind it. For tests.
//!
//! Only what the kernel uses is known; anything else, and whatever a processor would refuse, ends the process with a message.

use super::registers::{Fault, Registers};
use std::cell::{Cell, RefCell};
use std::sync::Once;
use std::sync::atomic::{Ordering, compiler_fence};

thread_local! {
    static REGISTERS: RefCell<Registers> = const { RefCell::new(Registers::RELEASED) };
    static EXECUTED: Cell<usize> = const { Cell::new(0) };
}

/// From now on, tile instructions of this process are executed here.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: an all-zero `sigaction` is valid; the handler has the form that SA_SIGINFO asks for.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal_instruction as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "a handler of SIGILL");
    });
}

/// Instructions that were executed for this thread.
pub fn executed() -> usize {
    see_handler();
    EXECUTED.get()
}

/// Whether this thread's registers are configured.
pub fn is_configured() -> bool {
    see_handler();
    REGISTERS.with_borrow(Registers::is_configured)
}

/// To the compiler tile instructions do not touch memory: what the handler wrote must be read anew.
fn see_handler() {
    compiler_fence(Ordering::SeqCst);
}

extern "C" fn on_illegal_instruction(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: what SA_SIGINFO hands over. The instruction was fetched, so its bytes can be read; `decode` reads no more than it has.
    // It is one of the kernel's, which touches none of what is borrowed here.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rip = registers[libc::REG_RIP as usize] as u64;
        let code = (0..15).map(|i| (rip as *const u8).add(i).read());
        let result = match decode(code, |register| registers[PLACES[register] as usize] as u64) {
            Ok(None) => {
                // None of ours: back to it, and to what the system does.
                libc::signal(signal, libc::SIG_DFL);
                return;
            }
            Ok(Some((instruction, length))) => {
                registers[libc::REG_RIP as usize] += length as i64;
                REGISTERS.with_borrow_mut(|tiles| instruction.execute(tiles))
            }
            Err(fault) => Err(fault),
        };
        EXECUTED.set(EXECUTED.get() + 1);
        if let Err(fault) = result {
            // Past the test harness, which would keep it for itself.
            let text = format!("tile instruction at {rip:#x}: {fault}\n");
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            libc::abort();
        }
    }
}

/// Where general registers are in a signal's context, by their number in instructions.
const PLACES: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Operands are addresses and numbers of registers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Instruction {
    Configure { operand: u64 },
    Release,
    Load { tile: usize, from: u64, stride: i64 },
    Store { tile: usize, to: u64, stride: i64 },
    DotU8S8 { sums: usize, a: usize, b: usize },
}

impl Instruction {
    /// # Safety
    /// Its memory operand may be read, or written.
    unsafe fn execute(self, registers: &mut Registers) -> Result<(), Fault> {
        // SAFETY: the caller vouches for the operands.
        unsafe {
            match self {
                Self::Configure { operand } => registers.configure(&(operand as *const [u8; 64]).read()),
                Self::Release => {
                    registers.release();
                    Ok(())
                }
                Self::Load { tile, from, stride } => registers.load(tile, from as *const u8, stride as isize),
                Self::Store { tile, to, stride } => registers.store(tile, to as *mut u8, stride as isize),
                Self::DotU8S8 { sums, a, b } => registers.dot_u8s8(sums, a, b),
            }
        }
    }
}

/// A memory operand: base and displacement, and what is added for each row.
struct Memory {
    address: u64,
    stride: Option<u64>,
}

/// The instruction and its length; `None` if the code is no tile instruction. `general` reads a general register.
///
/// The form is SDM volume 2, "Instruction Format": three bytes of VEX, opcode, ModR/M, perhaps SIB and a displacement. The opcodes
/// (VEX.128, map 0F38, W0) are those of the instructions' pages:
///
/// | instruction | prefix | opcode | ModR/M |
/// |---|---|---|---|
/// | LDTILECFG m512 | none | 49 | memory, 0 |
/// | TILERELEASE | none | 49 | C0 |
/// | TILELOADD tmm1, sibmem | F2 | 4B | memory with SIB, tmm1 |
/// | TILESTORED sibmem, tmm1 | F3 | 4B | memory with SIB, tmm1 |
/// | TDPBUSD tmm1, tmm2, tmm3 | 66 | 5E | register tmm2, tmm1; tmm3 in VEX |
fn decode(mut code: impl Iterator<Item = u8>, general: impl Fn(usize) -> u64) -> Result<Option<(Instruction, usize)>, Fault> {
    const NONE: u8 = 0;
    const P66: u8 = 1;
    const PF3: u8 = 2;
    const PF2: u8 = 3;
    let mut length = 0;
    let mut next = || {
        length += 1;
        code.next().unwrap_or(0)
    };
    if next() != 0xc4 {
        return Ok(None);
    }
    // R, X, B inverted and the map; W, vvvv inverted, L and the prefix.
    let (one, two, opcode) = (next(), next(), next());
    if one & 0x1f != 2 || !matches!(opcode, 0x49 | 0x4b | 0x5e) {
        return Ok(None);
    }
    if two & 0x84 != 0 {
        return Err(Fault::Opcode("W and L must be zero"));
    }
    let extend = |bit: u32| usize::from(!one >> bit & 1) << 3;
    let (extend_reg, extend_index, extend_base) = (extend(7), extend(6), extend(5));
    let (vvvv, prefix) = (usize::from(!two >> 3 & 15), two & 3);
    let modrm = next();
    let (mode, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7) | extend_reg, usize::from(modrm & 7));
    let mut memory = || {
        let sib = (rm == 4).then(&mut next);
        let (base, index) = match sib {
            Some(sib) => (usize::from(sib & 7), Some((usize::from(sib >> 3 & 7) | extend_index, sib >> 6))),
            None => (rm, None),
        };
        if mode == 0 && base == 5 {
            return Err(Fault::Opcode("an address without a base, which the kernel does not use"));
        }
        let displacement = match mode {
            0 => 0,
            1 => i64::from(next() as i8),
            _ => i64::from(i32::from_le_bytes(std::array::from_fn(|_| next()))),
        };
        let address = general(base | extend_base).wrapping_add_signed(displacement);
        // Index 4 is none.
        let stride = index.map(|(index, scale)| if index == 4 { 0 } else { general(index) << scale });
        Ok(Memory { address, stride })
    };
    let instruction = match (opcode, prefix, mode) {
        (0x49, NONE, 3) if modrm == 0xc0 => Instruction::Release,
        (0x49, NONE, 0..3) if reg == 0 => {
            let Memory { address, stride } = memory()?;
            Instruction::Configure { operand: address.wrapping_add(stride.unwrap_or(0)) }
        }
        (0x4b, PF2 | PF3, 0..3) => {
            let Memory { address, stride: Some(stride) } = memory()? else {
                return Err(Fault::Opcode("rows of memory need a SIB byte"));
            };
            let (tile, stride) = (reg, stride as i64);
            if prefix == PF2 { Instruction::Load { tile, from: address, stride } } else { Instruction::Store { tile, to: address, stride } }
        }
        (0x5e, P66, 3) => return Ok(Some((Instruction::DotU8S8 { sums: reg, a: rm | extend_base, b: vvvv }, length))),
        _ => return Err(Fault::Opcode("a tile instruction that the kernel does not use")),
    };
    if vvvv != 0 {
        return Err(Fault::Opcode("vvvv must be ones"));
    }
    Ok(Some((instruction, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    /// In a process of its own, which it ends.
    #[test]
    fn wrong_use_ends_the_process() {
        const CHILD: &str = "LIDAR_PTQ_TEST_WRONG_TILES";
        if crate::engine::Isa::Amx.is_available() {
            return println!("skipped: a processor that has tile registers raises SIGILL by itself");
        }
        if std::env::var_os(CHILD).is_some() {
            install();
            // SAFETY: without a configuration it does nothing but trap.
            unsafe { std::arch::asm!("tdpbusd tmm0, tmm1, tmm2", options(nostack)) }
            return;
        }
        let name = concat!(module_path!(), "::wrong_use_ends_the_process").split_once("::").expect("the crate's name").1;
        let program = std::env::current_exe().expect("this program");
        let child = std::process::Command::new(program).args(["--exact", name]).env(CHILD, "1").output().expect("runs");
        let text = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{text}");
        assert!(text.contains("invalid opcode: registers that are not configured"), "{text}");
    }

    /// Code as the GNU assembler writes it, with registers that hold their number times 1000.
    #[test]
    fn code_is_decoded() {
        let decode = |code: &[u8]| {
            let (instruction, length) = decode(code.iter().copied(), |register| 1000 * register as u64).expect("valid").expect("tiles");
            assert_eq!(length, code.len());
            instruction
        };
        // ldtilecfg [rax]; [r13+0x40]; [rsp-0x100]
        assert_eq!(decode(&[0xc4, 0xe2, 0x78, 0x49, 0x00]), Instruction::Configure { operand: 0 });
        assert_eq!(decode(&[0xc4, 0xc2, 0x78, 0x49, 0x45, 0x40]), Instruction::Configure { operand: 13_064 });
        let operand = decode(&[0xc4, 0xe2, 0x78, 0x49, 0x84, 0x24, 0x00, 0xff, 0xff, 0xff]);
        assert_eq!(operand, Instruction::Configure { operand: 3_744 });
        assert_eq!(decode(&[0xc4, 0xe2, 0x78, 0x49, 0xc0]), Instruction::Release);
        // tileloadd tmm5, [rdi+rsi*1]; tmm0, [r13+r9*2]
        assert_eq!(decode(&[0xc4, 0xe2, 0x7b, 0x4b, 0x2c, 0x37]), Instruction::Load { tile: 5, from: 7_000, stride: 6_000 });
        assert_eq!(decode(&[0xc4, 0x82, 0x7b, 0x4b, 0x44, 0x4d, 0x00]), Instruction::Load { tile: 0, from: 13_000, stride: 18_000 });
        // tilestored [rbx+rcx*1], tmm7
        assert_eq!(decode(&[0xc4, 0xe2, 0x7a, 0x4b, 0x3c, 0x0b]), Instruction::Store { tile: 7, to: 3_000, stride: 1_000 });
        // tdpbusd tmm1, tmm2, tmm3; tmm3, tmm5, tmm7
        assert_eq!(decode(&[0xc4, 0xe2, 0x61, 0x5e, 0xca]), Instruction::DotU8S8 { sums: 1, a: 2, b: 3 });
        assert_eq!(decode(&[0xc4, 0xe2, 0x41, 0x5e, 0xdd]), Instruction::DotU8S8 { sums: 3, a: 5, b: 7 });
    }

    #[test]
    fn other_code_is_refused() {
        let decode = |code: &[u8]| decode(code.iter().copied(), |_| 0);
        // ud2; vpaddd ymm0, ymm1, ymm2; andn eax, ebx, ecx
        for code in [&[0x0f, 0x0b][..], &[0xc5, 0xf5, 0xfe, 0xc2], &[0xc4, 0xe2, 0x60, 0xf2, 0xc1]] {
            assert_eq!(decode(code), Ok(None));
        }
        // W; L; no SIB byte; vvvv in a load; tdpbssd; sttilecfg [rax]; tilerelease with a register
        let codes: [&[u8]; 7] = [
            &[0xc4, 0xe2, 0xe1, 0x5e, 0xca],
            &[0xc4, 0xe2, 0x65, 0x5e, 0xca],
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x00],
            &[0xc4, 0xe2, 0x73, 0x4b, 0x2c, 0x37],
            &[0xc4, 0xe2, 0x63, 0x5e, 0xca],
            &[0xc4, 0xe2, 0x79, 0x49, 0x00],
            &[0xc4, 0xe2, 0x78, 0x49, 0xc8],
        ];
        for code in codes {
            assert!(matches!(decode(code), Err(Fault::Opcode(_))), "{code:x?}");
        }
    }
}
