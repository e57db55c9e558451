//! Weights as the convolution kernels read them.

use crate::engine::int8::conv::{Conv, Pass, Weights};
use crate::engine::int8::cpu::{Kernels, Packed};
use crate::engine::int8::narrow::Narrow;

/// Bytes of a stage and of a chunk along what is summed over; see `conv.cu`.
const STAGE: usize = 64;
const CHUNK: usize = 16;
/// Windows of a block.
pub const TILE_WINDOWS: usize = 128;
/// Outputs of a block: what wide and narrow convolutions use.
const TILE_OUTPUTS: [usize; 2] = [64, 8];

/// A step's weights and what follows its sums, to be copied to the device as they are.
pub struct DeviceWeights {
    /// Outputs of a block.
    pub tile: usize,
    /// Of a weight: 8, or 4 where all weights fit.
    pub bits: usize,
    pub weights: Vec<u8>,
    pub start: Vec<i32>,
    pub multiplier: Vec<f32>,
    pub bias: Vec<f32>,
    pub passes: Vec<DevicePass>,
}

pub struct DevicePass {
    pub weights: usize,
    pub lanes: usize,
    pub outputs: usize,
    /// Of a tap.
    pub chunks: usize,
}

impl DeviceWeights {
    /// From what the CPU's kernels have packed.
    pub fn new(conv: &Conv, kernels: &Kernels) -> Self {
        let taps = conv.taps * conv.taps;
        let passes: Vec<Dense> = conv.passes.iter().map(|pass| Dense::new(pass, taps, kernels)).collect();
        let widest = passes.iter().map(|p| p.outputs).max().unwrap_or(0);
        let tile = if widest <= TILE_OUTPUTS[1] { TILE_OUTPUTS[1] } else { TILE_OUTPUTS[0] };
        let bits = if passes.iter().all(|p| p.weights.iter().all(|w| (-8..8).contains(w))) { 4 } else { 8 };
        let mut all =
            Self { tile, bits, weights: Vec::new(), start: Vec::new(), multiplier: Vec::new(), bias: Vec::new(), passes: Vec::new() };
        for pass in &passes {
            all.append(pass, taps);
        }
        all
    }

    fn append(&mut self, pass: &Dense, taps: usize) {
        let chunks = pass.channels.div_ceil(CHUNK);
        let row = (taps * chunks * CHUNK).next_multiple_of(STAGE);
        let rows = pass.outputs.next_multiple_of(self.tile);
        let mut wide = vec![0i8; rows * row];
        for (o, to) in wide.chunks_exact_mut(row).enumerate().take(pass.outputs) {
            for tap in 0..taps {
                let from = &pass.weights[(o * taps + tap) * pass.channels..][..pass.channels];
                to[tap * chunks * CHUNK..][..pass.channels].copy_from_slice(from);
            }
        }
        self.passes.push(DevicePass { weights: self.weights.len(), lanes: self.start.len(), outputs: pass.outputs, chunks });
        if self.bits == 8 {
            self.weights.extend(wide.iter().map(|&w| w as u8));
        } else {
            // Weights k and k + 16 of each 32 share a byte.
            for pair in wide.chunks_exact(2 * CHUNK) {
                let (low, high) = pair.split_at(CHUNK);
                self.weights.extend(low.iter().zip(high).map(|(&low, &high)| (low as u8 & 15) | ((high as u8) << 4)));
            }
        }
        let padded = self.start.len() + rows;
        self.start.extend(&pass.start);
        self.multiplier.extend(&pass.multiplier);
        self.bias.extend(&pass.bias);
        self.start.resize(padded, 0);
        self.multiplier.resize(padded, 0.0);
        self.bias.resize(padded, 0.0);
    }
}

/// A pass as it was before it was packed.
struct Dense {
    /// With filling up to fours.
    channels: usize,
    outputs: usize,
    /// `[output][tap][channel]`.
    weights: Vec<i8>,
    start: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    fn new(pass: &Pass, taps: usize, kernels: &Kernels) -> Self {
        match &pass.weights {
            Weights::Direct { packed, .. } => Self::direct(packed, taps, kernels.byte_shift()),
            Weights::Narrow(narrow) => {
                // Its taps are outputs.
                let lanes = Self::direct(&narrow.packed, 1, 0);
                let Narrow { outputs, start, multiplier, bias, .. } = narrow;
                let (outputs, channels) = (*outputs, lanes.channels);
                let pixels = (0..outputs).flat_map(|o| (0..taps).map(move |tap| tap * outputs + o));
                Self {
                    channels,
                    outputs,
                    weights: pixels.flat_map(|lane| lanes.weights[lane * channels..][..channels].iter().copied()).collect(),
                    start: start.iter().flatten().copied().take(outputs).collect(),
                    multiplier: multiplier.iter().flatten().copied().take(outputs).collect(),
                    bias: bias.iter().flatten().copied().take(outputs).collect(),
                }
            }
        }
    }

    /// `byte_shift` is what the kernels take off every byte, for which sums start higher.
    fn direct(packed: &Packed, taps: usize, byte_shift: i32) -> Self {
        let mut dense = Self { channels: 0, outputs: 0, weights: Vec::new(), start: Vec::new(), multiplier: Vec::new(), bias: Vec::new() };
        for block in packed.blocks() {
            let lanes = block.start.len();
            let quads = block.weights.len() / (4 * lanes);
            dense.channels = quads / taps * 4;
            dense.outputs += block.used;
            for lane in 0..block.used {
                let weights = (0..quads).flat_map(|quad| &block.weights[(quad * lanes + lane) * 4..][..4]);
                let sum: i32 = weights.clone().map(|&w| i32::from(w)).sum();
                dense.weights.extend(weights);
                dense.start.push(block.start[lane] - byte_shift * sum);
            }
            dense.multiplier.extend(&block.multiplier[..block.used]);
            dense.bias.extend(&block.bias[..block.used]);
        }
        dense
    }
}
