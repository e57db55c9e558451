//! Weights in the order in which tiles read them.

use super::super::aligned::AlignedBytes;
use super::super::arithmetic::Requantize;
use super::Kernels;
use super::tile::Stretch;

/// The weights of a window and what follows the sums, in blocks of output channels:
/// `[block][quad of input bytes][vector][lane][4]`, zero-filled to whole vectors and whole fours.
pub struct Packed {
    weights: AlignedBytes,
    start: Vec<i32>,
    multiplier: Vec<f32>,
    bias: Vec<f32>,
    blocks: Vec<Place>,
}

/// Where a block lies.
#[derive(Clone, Copy)]
struct Place {
    /// First output channel, and channels that exist.
    first: usize,
    used: usize,
    vectors: usize,
    /// Where its weights start, in bytes.
    weights: usize,
    weights_len: usize,
    /// Where its lanes start in `start`, `multiplier` and `bias`, and how many there are.
    lane: usize,
    lanes: usize,
}

/// One block, as a tile takes it.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub first: usize,
    pub used: usize,
    pub vectors: usize,
    pub weights: &'a [i8],
    pub start: &'a [i32],
    pub multiplier: &'a [f32],
    pub bias: &'a [f32],
}

impl Packed {
    /// `weight(output, tap, channel)` for bytes whose zero is `zero`; there are as many outputs as multipliers. Each tap's channels
    /// are padded to fours. No weight is -128 ([`Weight::limit`](crate::graph::Weight::limit)): some kernels rely on it.
    pub fn new(
        kernels: &Kernels,
        taps: usize,
        channels: usize,
        zero: u8,
        requantize: &Requantize,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Self {
        let outputs = requantize.multiplier.len();
        let quads_per_tap = channels.div_ceil(4);
        let quads = taps * quads_per_tap;
        let (lanes, most) = (kernels.lanes(), kernels.vectors());
        let mut blocks = Vec::new();
        let (mut first, mut at, mut lane) = (0, 0, 0);
        while first < outputs {
            let vectors = (outputs - first).div_ceil(lanes).min(most);
            let padded = vectors * lanes;
            let used = padded.min(outputs - first);
            let weights_len = quads * padded * 4;
            blocks.push(Place { first, used, vectors, weights: at, weights_len, lane, lanes: padded });
            first += used;
            at += weights_len;
            lane += padded;
        }
        let mut packed =
            Self { weights: AlignedBytes::zeroed(at), start: vec![0; lane], multiplier: vec![0.0; lane], bias: vec![0.0; lane], blocks };
        for block in &packed.blocks {
            for o in 0..block.used {
                let output = block.first + o;
                let mut sum = 0i32;
                for tap in 0..taps {
                    for channel in 0..channels {
                        let w = weight(output, tap, channel);
                        sum += i32::from(w);
                        let quad = tap * quads_per_tap + channel / 4;
                        packed.weights[block.weights + (quad * block.lanes + o) * 4 + channel % 4] = w as u8;
                    }
                }
                packed.start[block.lane + o] = (kernels.byte_shift() - i32::from(zero)) * sum;
                packed.multiplier[block.lane + o] = requantize.multiplier[output];
                packed.bias[block.lane + o] = requantize.bias[output];
            }
        }
        packed
    }

    /// Bytes of the weights, with filling.
    pub fn bytes(&self) -> usize {
        self.weights.len()
    }

    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let weights = self.weights.as_i8();
        self.blocks.iter().map(move |p| Block {
            first: p.first,
            used: p.used,
            vectors: p.vectors,
            weights: &weights[p.weights..][..p.weights_len],
            start: &self.start[p.lane..][..p.lanes],
            multiplier: &self.multiplier[p.lane..][..p.lanes],
            bias: &self.bias[p.lane..][..p.lanes],
        })
    }
}

/// The stretches of a window of `taps` (rows, columns) over an image whose rows are `row` bytes apart and whose pixels are
/// `pixel` bytes apart, reading the first `channels` bytes of each pixel. Where the channels are all there is, neighbouring
/// taps are one stretch.
pub fn window(taps: [usize; 2], row: usize, pixel: usize, channels: usize) -> Vec<Stretch> {
    let quads = channels.div_ceil(4);
    if quads * 4 == pixel {
        return (0..taps[0]).map(|y| Stretch { offset: y * row, quads: taps[1] * quads }).collect();
    }
    (0..taps[0]).flat_map(|y| (0..taps[1]).map(move |x| Stretch { offset: y * row + x * pixel, quads })).collect()
}
