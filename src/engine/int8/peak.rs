//! What the kernels reach when nothing but them is in the way.

use super::arithmetic::{Clamp, Finish, Requantize};
use super::cpu::{Kernels, Output, Packed, Tile, window};
use crate::engine::Isa;
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Channels of the tile that is measured: its weights and inputs fit into the first-level cache.
const CHANNELS: usize = 256;
/// Of the measurement.
const LENGTH: Duration = Duration::from_millis(30);

/// Operations a second (a multiply-add is two) of all threads together, in the widest tile on data in the first-level cache.
/// 0 if this processor lacks the instruction set.
pub fn measured_peak(isa: Isa) -> f64 {
    let Some(kernels) = Kernels::with_isa(isa) else { return 0.0 };
    let outputs = kernels.vectors() * kernels.lanes();
    let finish = Finish::Bytes(Clamp { low: 0.0, high: 255.0, zero: 0 });
    let requantize = Requantize { multiplier: vec![1e-3; outputs], bias: vec![0.0; outputs], finish };
    let packed = Packed::new(&kernels, 1, CHANNELS, 0, &requantize, |o, _, c| (((o * 31 + c * 17) % 255) as i16 - 127) as i8);
    let input: Vec<u8> = (0..kernels.pixels() * CHANNELS).map(|i| (i * 7) as u8).collect();
    let pixels: Vec<usize> = (0..kernels.pixels()).map(|p| p * CHANNELS).collect();
    let to: Vec<usize> = (0..kernels.pixels()).map(|p| p * outputs).collect();
    let stretches = window([1, 1], CHANNELS, CHANNELS, CHANNELS);
    let macs = (kernels.pixels() * outputs * CHANNELS) as f64;
    let rates: Vec<f64> = (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let mut bytes = vec![0u8; kernels.pixels() * outputs];
            let _session = kernels.session();
            let mut best = 0f64;
            let end = Instant::now() + LENGTH;
            while Instant::now() < end {
                let start = Instant::now();
                for _ in 0..200 {
                    for block in packed.blocks() {
                        let output = Output::Bytes(&mut bytes, Clamp { low: 0.0, high: 255.0, zero: 0 });
                        kernels.run(Tile { input: &input, pixels: &pixels, stretches: &stretches, block, to: &to, output });
                    }
                }
                std::hint::black_box(&mut bytes);
                best = best.max(200.0 * 2.0 * macs / start.elapsed().as_secs_f64());
            }
            best
        })
        .collect();
    rates.iter().sum()
}
