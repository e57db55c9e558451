//! Tile registers: 32 pixels times 32 channels, 64 bytes deep, in four steps of 16 x 16.
//!
//! The kernel is written over [`TileUnit`]; the processor's own is a thin layer of assembly. [`registers`] defines the unit in plain
//! Rust. Tests without such a processor run the assembly, each of whose instructions traps and is then executed there ([`trap`]),
//! or call it where they cannot.

#[cfg(target_arch = "x86_64")]
mod hardware;
#[cfg(test)]
mod registers;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub mod trap;
mod unit;

use super::super::arithmetic::{Clamp, Finish, Requantize};
use super::tile::{Dot, RawTile, finish};
use super::{Kernels, Output, Packed, Tile, portable, window};
use crate::random::Rng;
use unit::{ROW, ROWS, TileUnit};

#[cfg(target_arch = "x86_64")]
pub use hardware::{Hardware, is_available};

/// Channels of a vector, and groups of four bytes in a row of a tile.
const LANES: usize = 16;
const QUADS: usize = 16;
/// Pixels of a tile of outputs.
const PIXELS: usize = 2 * ROWS;

/// `R` vectors. Registers 0 to 3 hold sums (pixels `16 g ..`, vector `r` in `2 g + r`), 4 and 5 inputs, 6 and 7 weights.
///
/// # Safety
/// The processor has the unit and `D`'s instruction set; the tile was checked ([`Kernels::run`]).
#[inline(always)]
unsafe fn conv<U: TileUnit, D: Dot, const R: usize>(tile: &RawTile<'_>) {
    const { assert!(D::LANES == LANES && (R == 1 || R == 2)) };
    // SAFETY: the caller vouches for every address; scratch is as large as a register.
    unsafe {
        let mut unit = U::open();
        let two = tile.count > ROWS;
        let steps = [even_step(&tile.pixels[..ROWS]), even_step(&tile.pixels[ROWS..])];
        let mut inputs = [[0u8; ROWS * ROW]; 2];
        let mut tail = [[0u8; ROWS * ROW]; 2];

        // Every pixel starts from the same sums: a stride of nothing repeats a row.
        let start = tile.end.start;
        unit.load::<0>(start.cast(), 0);
        unit.load::<2>(start.cast(), 0);
        if R == 2 {
            unit.load::<1>(start.add(LANES).cast(), 0);
            unit.load::<3>(start.add(LANES).cast(), 0);
        }
        let mut weights = tile.weights.cast::<u8>();
        for stretch in tile.stretches {
            for quad in (0..stretch.quads).step_by(QUADS) {
                let quads = (stretch.quads - quad).min(QUADS);
                let offset = stretch.offset + 4 * quad;
                for group in 0..if two { 2 } else { 1 } {
                    let pixels = &tile.pixels[group * ROWS..][..ROWS];
                    let (from, stride) = match steps[group] {
                        Some(step) if quads == QUADS => (tile.input.add(pixels[0] + offset), step),
                        _ => {
                            for (to, &pixel) in inputs[group].chunks_exact_mut(ROW).zip(pixels) {
                                // What lies behind the last bytes meets weights of zero.
                                std::ptr::copy_nonoverlapping(tile.input.add(pixel + offset), to.as_mut_ptr(), 4 * quads);
                            }
                            (inputs[group].as_ptr(), ROW)
                        }
                    };
                    if group == 0 { unit.load::<4>(from, stride) } else { unit.load::<5>(from, stride) }
                }
                for (r, tail) in tail.iter_mut().enumerate().take(R) {
                    let mut from = (weights.add(r * ROW), R * ROW);
                    if quads < QUADS {
                        tail.fill(0);
                        for (q, to) in tail.chunks_exact_mut(ROW).take(quads).enumerate() {
                            std::ptr::copy_nonoverlapping(from.0.add(q * from.1), to.as_mut_ptr(), ROW);
                        }
                        from = (tail.as_ptr(), ROW);
                    }
                    if r == 0 { unit.load::<6>(from.0, from.1) } else { unit.load::<7>(from.0, from.1) }
                }
                unit.dot::<0, 4, 6>();
                if R == 2 {
                    unit.dot::<1, 4, 7>();
                }
                if two {
                    unit.dot::<2, 5, 6>();
                    if R == 2 {
                        unit.dot::<3, 5, 7>();
                    }
                }
                weights = weights.add(quads * R * ROW);
            }
        }
        // `[pixel][vector][lane]`
        let mut done = [0i32; PIXELS * 2 * LANES];
        let to = done.as_mut_ptr().cast::<u8>();
        unit.store::<0>(to, R * ROW);
        unit.store::<2>(to.add(ROWS * R * ROW), R * ROW);
        if R == 2 {
            unit.store::<1>(to.add(ROW), R * ROW);
            unit.store::<3>(to.add(ROWS * R * ROW + ROW), R * ROW);
        }
        drop(unit);
        finish::<D>(&tile.end, &done, tile.count, R);
    }
}

/// The distance from each pixel to the next, if it is the same for all.
fn even_step(pixels: &[usize]) -> Option<usize> {
    let step = pixels[1].checked_sub(pixels[0])?;
    pixels.windows(2).all(|p| p[1].wrapping_sub(p[0]) == step).then_some(step)
}

/// # Safety
/// The tile was checked.
#[cfg(test)]
unsafe fn software<const R: usize>(tile: &RawTile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { conv::<registers::Registers, portable::Plain, R>(tile) }
}

/// The kernel over the unit in software: for tests, on every processor.
#[cfg(test)]
pub const SOFTWARE: Kernels = Kernels { pixels: PIXELS, table: &[software::<1>, software::<2>], ..portable::KERNELS };

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::avx512vnni;
    use super::*;
    use crate::engine::Isa;
    use std::sync::OnceLock;

    /// # Safety
    /// The tile was checked; the processor has the unit, AVX-512F and BW.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn hardware<const R: usize>(tile: &RawTile<'_>) {
        // SAFETY: passed on to the caller.
        unsafe { conv::<Hardware, avx512vnni::Vnni, R>(tile) }
    }

    const HARDWARE: Kernels = Kernels {
        isa: Isa::Amx,
        pixels: PIXELS,
        table: &[hardware::<1>, hardware::<2>],
        // The unit multiplies bytes eight times as fast as anything multiplies 16-bit numbers.
        winograd: None,
        ..avx512vnni::KERNELS
    };

    /// The kernels of the processor's unit, which it must have; those of AVX-512 if they do not agree with plain code here.
    ///
    /// The assembly has met emulators of the unit only, so it is not taken at its word.
    pub fn kernels() -> Kernels {
        static AGREES: OnceLock<bool> = OnceLock::new();
        let agrees = *AGREES.get_or_init(|| {
            let agrees = agrees_with_portable(&HARDWARE);
            if !agrees {
                tracing::warn!("the AMX kernels do not agree with plain code on this processor; AVX-512 runs instead. Please report this");
            }
            agrees
        });
        if agrees { HARDWARE } else { avx512vnni::KERNELS }
    }

    /// The same, unchecked, for tests. On a processor that lacks nothing but the unit, its instructions trap.
    #[cfg(all(test, target_os = "linux"))]
    pub fn assembly() -> Option<Kernels> {
        Isa::Avx512Vnni.is_available().then(|| {
            if !Isa::Amx.is_available() {
                trap::install();
            }
            HARDWARE
        })
    }
}
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub use x86::assembly;
#[cfg(target_arch = "x86_64")]
pub use x86::kernels;
#[cfg(all(test, not(all(target_arch = "x86_64", target_os = "linux"))))]
pub fn assembly() -> Option<Kernels> {
    None
}

/// Whether kernels give the bytes of plain code on random tiles: whole and broken rows of registers, pixels in and out of line.
pub fn agrees_with_portable(kernels: &Kernels) -> bool {
    let mut rng = Rng::new(1, "tiles");
    (0..24).all(|round| {
        let (channels, outputs) = (1 + rng.index(150), 1 + rng.index(70));
        let taps = [1 + round % 3, 1 + rng.index(3)];
        let pixel = channels.next_multiple_of(4);
        let row = (PIXELS + 3) * pixel;
        let input: Vec<u8> = (0..4 * row).map(|_| rng.index(256) as u8).collect();
        let weights: Vec<i8> = (0..taps[0] * taps[1] * channels * outputs).map(|_| (rng.index(255) as i16 - 127) as i8).collect();
        let even = round % 2 == 0;
        let count = if even { PIXELS } else { 1 + rng.index(PIXELS) };
        let pixels: Vec<usize> = (0..count).map(|i| if even { i * pixel } else { rng.index(PIXELS) * pixel }).collect();
        let clamp = Clamp { low: 0.0, high: 255.0, zero: 0 };
        let scale = (1..=outputs).map(|_| rng.range(1e-5, 1e-3)).collect();
        let bias = (1..=outputs).map(|_| rng.range(-50.0, 200.0)).collect();
        let requantize = Requantize { multiplier: scale, bias, finish: Finish::Bytes(clamp) };
        let run = |kernels: &Kernels| {
            let weight = |o: usize, t: usize, c: usize| weights[(o * taps[0] * taps[1] + t) * channels + c];
            let packed = Packed::new(kernels, taps[0] * taps[1], channels, 3, &requantize, weight);
            let stretches = window(taps, row, pixel, channels);
            let mut bytes = vec![0u8; count * outputs];
            for block in packed.blocks() {
                for (i, pixels) in pixels.chunks(kernels.pixels()).enumerate() {
                    let to: Vec<usize> = (0..pixels.len()).map(|p| (i * kernels.pixels() + p) * outputs + block.first).collect();
                    let output = Output::Bytes(&mut bytes, clamp);
                    kernels.run(Tile { input: &input, pixels, stretches: &stretches, block, to: &to, output });
                }
            }
            bytes
        };
        run(kernels) == run(&portable::KERNELS)
    })
}
