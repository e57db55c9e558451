//! Every kernel against the definition of a tile, on random shapes.

use super::guarded::Guarded;
use super::*;
use crate::engine::int8::arithmetic::{Clamp, Finish, Requantize};
use proptest::prelude::*;

/// The kernels of every instruction set that this processor has. Those for tile registers are always there: on the processor's own, on
/// instructions that trap, or, without AVX-512 around them, called.
pub fn every_kernel() -> Vec<Kernels> {
    let others = Isa::ALL.into_iter().filter(|&isa| isa != Isa::Amx).filter_map(Kernels::with_isa);
    let tiles = amx::assembly().unwrap_or_else(|| {
        println!("skipped: the instructions for tile registers, which need AVX-512 VNNI and Linux; only their loop runs");
        amx::SOFTWARE
    });
    others.chain([tiles]).collect()
}

/// Whether tile registers are let go by all threads that compute layers, as far as can be seen: where their instructions trap.
pub fn no_thread_holds_tiles() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return rayon::broadcast(|_| !amx::trap::is_configured()).into_iter().all(|free| free);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return true;
}

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32
    }
}

/// A convolution's inputs, as random as can be.
#[derive(Debug)]
struct Case {
    taps: [usize; 2],
    /// Bytes from a pixel to the next, of which `channels` are read.
    pixel: usize,
    channels: usize,
    outputs: usize,
    input: Vec<u8>,
    row: usize,
    weights: Vec<i8>,
    zero: u8,
    requantize: Requantize,
    pixels: Vec<usize>,
}

impl Case {
    fn weight(&self, output: usize, tap: usize, channel: usize) -> i8 {
        self.weights[(output * self.taps[0] * self.taps[1] + tap) * self.channels + channel]
    }

    fn accumulate(&self, pixel: usize, output: usize) -> i32 {
        let mut sum = 0;
        for y in 0..self.taps[0] {
            for x in 0..self.taps[1] {
                for c in 0..self.channels {
                    let byte = self.input[pixel + y * self.row + x * self.pixel + c];
                    sum += (i32::from(byte) - i32::from(self.zero)) * i32::from(self.weight(output, y * self.taps[1] + x, c));
                }
            }
        }
        sum
    }
}

/// What a case is made of. `spare` channels are not read; `step` pixels lie between one pixel of a tile and the next, or any number.
#[derive(Clone, Copy, Debug)]
struct Form {
    seed: u64,
    taps: [usize; 2],
    channels: usize,
    spare: usize,
    outputs: usize,
    count: usize,
    step: Option<usize>,
    bytes: bool,
}

fn forms() -> impl Strategy<Value = Form> {
    let channels = prop_oneof![1usize..100, Just(64), Just(128)];
    let shape = (1usize..4, 1usize..4, channels, 0usize..9, 1usize..150);
    (any::<u64>(), shape, 1usize..40, prop::option::of(0usize..3), any::<bool>()).prop_map(
        |(seed, (ky, kx, channels, spare, outputs), count, step, bytes)| Form {
            seed,
            taps: [ky, kx],
            channels,
            spare,
            outputs,
            count,
            step,
            bytes,
        },
    )
}

fn case(form: &Form) -> Case {
    let Form { seed, taps, channels, spare, outputs, count, step, bytes } = *form;
    let mut n = Numbers(seed);
    let pixel = (channels + spare).next_multiple_of(4);
    let (width, height) = (taps[1] + 7, taps[0] + 7);
    let row = width * pixel;
    // Extremes are frequent: they are what saturates.
    let extreme = |n: &mut Numbers| n.next().is_multiple_of(4);
    let input = (0..height * row).map(|_| if extreme(&mut n) { 255 } else { n.next() as u8 }).collect();
    let weights = (0..outputs * taps[0] * taps[1] * channels)
        .map(|_| if extreme(&mut n) { [-127, 127][n.next() as usize % 2] } else { ((n.next() % 255) as i16 - 127) as i8 })
        .collect();
    let multiplier = (0..outputs).map(|_| n.unit() * 1e-2).collect();
    let bias = (0..outputs).map(|_| (n.unit() - 0.5) * 200.0).collect();
    let zero = if n.next().is_multiple_of(2) { 0 } else { 128 };
    let finish = if bytes {
        Finish::Bytes(Clamp { low: if n.next().is_multiple_of(2) { 0.0 } else { -(zero as f32) }, high: (255 - zero) as f32, zero })
    } else {
        Finish::Floats { low: if n.next().is_multiple_of(2) { 0.0 } else { f32::NEG_INFINITY } }
    };
    let zero_of_input = n.next() as u8;
    let last = count.min(MAX_PIXELS) - 1;
    let pixels = (0..count).map(|i| match step {
        // The last one sees the end of the input.
        Some(step) => 7 * (row + pixel) - step * (last - i % (last + 1)) * pixel,
        None => (n.next() as usize % 8) * row + (n.next() as usize % 8) * pixel,
    });
    let pixels = pixels.collect();
    Case {
        taps,
        pixel,
        channels,
        outputs,
        input,
        row,
        weights,
        zero: zero_of_input,
        requantize: Requantize { multiplier, bias, finish },
        pixels,
    }
}

/// Runs all blocks of a case; outputs stand side by side, pixel after pixel, with a gap that nothing may touch. Whatever is read or
/// written ends where memory does.
fn run(kernels: &Kernels, case: &Case) -> (Vec<u8>, Vec<f32>) {
    let packed =
        Packed::new(kernels, case.taps[0] * case.taps[1], case.channels, case.zero, &case.requantize, |o, t, c| case.weight(o, t, c));
    let stretches = window(case.taps, case.row, case.pixel, case.channels);
    let stride = case.outputs + 1;
    let (len, input) = (case.pixels.len() * stride - 1, Guarded::new(&case.input));
    let (mut bytes, mut floats) = (Guarded::new(&vec![77u8; len]), Guarded::new(&vec![77f32; len]));
    for block in packed.blocks() {
        let (weights, start) = (Guarded::new(block.weights), Guarded::new(block.start));
        let (multiplier, bias) = (Guarded::new(block.multiplier), Guarded::new(block.bias));
        let block = Block { weights: &weights, start: &start, multiplier: &multiplier, bias: &bias, ..block };
        for (i, pixels) in case.pixels.chunks(kernels.pixels()).enumerate() {
            let to: Vec<usize> = (0..pixels.len()).map(|p| (i * kernels.pixels() + p) * stride + block.first).collect();
            let output = match case.requantize.finish {
                Finish::Bytes(clamp) => Output::Bytes(&mut bytes, clamp),
                Finish::Floats { low } => Output::Floats(&mut floats, low),
            };
            kernels.run(Tile { input: &input, pixels, stretches: &stretches, block, to: &to, output });
        }
    }
    (bytes.to_vec(), floats.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_kernel_is_the_definition(form in forms()) {
        let (case, outputs) = (case(&form), form.outputs);
        let len = form.count * (outputs + 1) - 1;
        let mut want = (vec![77u8; len], vec![77f32; len]);
        for (p, &pixel) in case.pixels.iter().enumerate() {
            for o in 0..outputs {
                let y = (case.accumulate(pixel, o) as f32).mul_add(case.requantize.multiplier[o], case.requantize.bias[o]);
                match case.requantize.finish {
                    Finish::Bytes(clamp) => want.0[p * (outputs + 1) + o] = clamp.byte(y),
                    Finish::Floats { low } => want.1[p * (outputs + 1) + o] = y.max(low),
                }
            }
        }
        for kernels in every_kernel() {
            prop_assert_eq!(&run(&kernels, &case), &want, "{}", kernels.isa());
        }
    }
}

/// Registers are configured by the outermost session, for its thread only, and let go with it, also when it ends in a panic.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn tile_registers_are_let_go() {
    use amx::trap::{executed, is_configured};
    let Some(kernels) = amx::assembly().filter(|_| !Isa::Amx.is_available()) else {
        return println!("skipped: no AVX-512 VNNI, or a processor that has tile registers and keeps them to itself");
    };
    let form = Form { seed: 1, taps: [1, 1], channels: 64, spare: 0, outputs: 32, count: 32, step: Some(1), bytes: true };
    let case = case(&form);
    let one_tile = || {
        let before = executed();
        run(&kernels, &case);
        executed() - before
    };
    // Four loads of sums, two of inputs and two of weights, four products, four stores; and a configuration and its end.
    assert_eq!((one_tile(), is_configured()), (18, false));
    let session = kernels.session();
    assert!(is_configured());
    assert_eq!((one_tile(), is_configured()), (16, true));
    let inner = kernels.session();
    drop(inner);
    assert!(is_configured());
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let before = is_configured();
            let _session = kernels.session();
            (before, is_configured())
        });
        assert_eq!(other.join().expect("no panic"), (false, true));
    });
    assert!(is_configured());
    drop(session);
    assert!(!is_configured());
    let panics = std::panic::catch_unwind(|| {
        let _session = kernels.session();
        let to = [0, 32];
        let packed = Packed::new(&kernels, 1, 4, 0, &case.requantize, |_, _, _| 1);
        let (pixels, stretches) = ([0], window([1, 1], 4, 4, 4));
        let block = packed.blocks().next().expect("one");
        kernels.run(Tile { input: &[0; 4], pixels: &pixels, stretches: &stretches, block, to: &to, output: Output::Sums(&mut []) });
    });
    assert!(panics.is_err() && !is_configured());
}

/// The check that stands guard over the processor's own tile unit: right kernels pass it, so that on a processor with the unit nothing
/// runs in their place, and it notices wrong ones.
#[test]
fn the_check_of_tile_kernels_tells_right_from_wrong() {
    for kernels in every_kernel().iter().chain([&amx::SOFTWARE]) {
        assert!(amx::agrees_with_portable(kernels), "{}", kernels.isa());
    }
    assert!(!amx::agrees_with_portable(&Kernels { byte_shift: 1, ..amx::SOFTWARE }));
    assert!(Kernels::with_isa(Isa::Amx).is_none_or(|kernels| kernels.isa() == Isa::Amx));
}

#[test]
fn floats_round_onto_a_grid_alike_everywhere() {
    let grid = crate::engine::int8::Grid { scale: 0.3, zero: 128, low: 0, high: 255 };
    let values: Vec<f32> = (-600..601).map(|i| i as f32 * 0.075).collect();
    let want: Vec<u8> = values.iter().map(|&x| grid.quantizer().byte(x)).collect();
    for kernels in every_kernel() {
        let mut got = Guarded::new(&vec![0; values.len()]);
        kernels.quantize(&grid.quantizer(), &Guarded::new(&values), &mut got);
        assert_eq!(*got, *want, "{}", kernels.isa());
    }
}

#[test]
#[should_panic(expected = "outside its input")]
fn a_tile_that_reaches_outside_is_refused() {
    let mut case = case(&Form { seed: 1, taps: [3, 3], channels: 8, spare: 0, outputs: 16, count: 1, step: None, bytes: true });
    case.pixels[0] = case.input.len() - 8;
    run(&Kernels::with_isa(Isa::Portable).expect("everywhere"), &case);
}
