//! Every kernel against the definition of a tile, on random shapes.

use super::*;
use crate::engine::int8::arithmetic::{Clamp, Finish, Requantize};
use proptest::prelude::*;

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

fn case(seed: u64, taps: [usize; 2], channels: usize, spare: usize, outputs: usize, count: usize, bytes: bool) -> Case {
    let mut n = Numbers(seed);
    let pixel = (channels + spare).next_multiple_of(4);
    let (width, height) = (taps[1] + 7, taps[0] + 3);
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
    let pixels = (0..count).map(|_| (n.next() as usize % 4) * row + (n.next() as usize % 8) * pixel).collect();
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

/// Runs all blocks of a case; outputs stand side by side, pixel after pixel, with a gap that nothing may touch.
fn run(kernels: &Kernels, case: &Case) -> (Vec<u8>, Vec<f32>) {
    let packed =
        Packed::new(kernels, case.taps[0] * case.taps[1], case.channels, case.zero, &case.requantize, |o, t, c| case.weight(o, t, c));
    let stretches = window(case.taps, case.row, case.pixel, case.channels);
    let stride = case.outputs + 1;
    let (mut bytes, mut floats) = (vec![77u8; case.pixels.len() * stride], vec![77f32; case.pixels.len() * stride]);
    for block in packed.blocks() {
        for (i, pixels) in case.pixels.chunks(kernels.pixels()).enumerate() {
            let to: Vec<usize> = (0..pixels.len()).map(|p| (i * kernels.pixels() + p) * stride + block.first).collect();
            let output = match case.requantize.finish {
                Finish::Bytes(clamp) => Output::Bytes(&mut bytes, clamp),
                Finish::Floats { low } => Output::Floats(&mut floats, low),
            };
            kernels.run(Tile { input: &case.input, pixels, stretches: &stretches, block, to: &to, output });
        }
    }
    (bytes, floats)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_kernel_is_the_definition(seed: u64, ky in 1usize..4, kx in 1usize..4, channels in 1usize..100, spare in 0usize..9, outputs in 1usize..150, count in 1usize..40, bytes: bool) {
        let case = case(seed, [ky, kx], channels, spare, outputs, count, bytes);
        let mut want = (vec![77u8; count * (outputs + 1)], vec![77f32; count * (outputs + 1)]);
        for (p, &pixel) in case.pixels.iter().enumerate() {
            for o in 0..outputs {
                let y = (case.accumulate(pixel, o) as f32).mul_add(case.requantize.multiplier[o], case.requantize.bias[o]);
                match case.requantize.finish {
                    Finish::Bytes(clamp) => want.0[p * (outputs + 1) + o] = clamp.byte(y),
                    Finish::Floats { low } => want.1[p * (outputs + 1) + o] = y.max(low),
                }
            }
        }
        for kernels in Isa::ALL.into_iter().filter_map(Kernels::with_isa).chain([amx::SOFTWARE]) {
            prop_assert_eq!(&run(&kernels, &case), &want, "{}", kernels.isa());
        }
    }
}

/// The check that stands guard over the processor's own tile unit: it passes the kernel in software, and notices a wrong one.
#[test]
fn the_check_of_tile_kernels_tells_right_from_wrong() {
    assert!(amx::agrees_with_portable(&amx::SOFTWARE));
    assert!(!amx::agrees_with_portable(&Kernels { byte_shift: 1, ..amx::SOFTWARE }));
}

#[test]
fn floats_round_onto_a_grid_alike_everywhere() {
    let grid = crate::engine::int8::Grid { scale: 0.3, zero: 128, low: 0, high: 255 };
    let values: Vec<f32> = (-600..600).map(|i| i as f32 * 0.075).collect();
    let want: Vec<u8> = values.iter().map(|&x| grid.quantizer().byte(x)).collect();
    for kernels in Isa::ALL.into_iter().filter_map(Kernels::with_isa) {
        let mut got = vec![0; values.len()];
        kernels.quantize(&grid.quantizer(), &values, &mut got);
        assert_eq!(got, want, "{}", kernels.isa());
    }
}

#[test]
#[should_panic(expected = "outside its input")]
fn a_tile_that_reaches_outside_is_refused() {
    let mut case = case(1, [3, 3], 8, 0, 16, 1, true);
    case.pixels[0] = case.input.len() - 8;
    run(&Kernels::with_isa(Isa::Portable).expect("everywhere"), &case);
}
