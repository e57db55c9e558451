//! Which windows of a 3 x 3 convolution are computed sixteen at a time by Winograd's algorithm, and how that is run. The arithmetic,
//! and why it gives the same bytes, is in `cpu/winograd.rs`.

use super::aligned::AlignedBytes;
use super::conv::{Band, COMPUTE, Element, Sparse};
use super::cpu::{
    Block, Input, Kernels, LIMIT, MAX_LANES, MAX_PIXELS, NOTHING_DONE, Output, PLANES, Packed, SIDE, Stretch, Tile, WINOGRAD_CHANNELS,
    winograd_weights,
};
use rayon::prelude::*;
use std::cell::RefCell;

/// Tiles whose transforms stand side by side: a multiple of the kernels' pixels, few enough for the second-level cache.
const GROUP: usize = 36;
/// Of a tile's windows, those that must be computed at least; fewer cost less one by one.
const LEAST_WINDOWS: usize = 10;

/// The weights of a pass for Winograd's algorithm.
pub(super) struct Winograd {
    /// `[block][plane][pair of channels][vector][lane][2]`, 16-bit numbers.
    weights: AlignedBytes,
    channels: usize,
}

/// Where a tile is: its first window in the input, and its first output pixel in the band's piece of the output.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub input: u32,
    pub output: u32,
}

#[derive(Default)]
struct Scratch {
    /// `[plane][tile][channel]`, 16-bit numbers.
    inputs: AlignedBytes,
    /// `[plane][tile][lane]`, 32-bit sums.
    sums: AlignedBytes,
}

thread_local! {
    /// Grows to the widest layer, then stays.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Winograd {
    /// Of the weights `weight(output, tap, channel)` of 3 x 3 windows that `packed` holds; `None` where it does not apply: other
    /// kernels are faster, a number of channels that does not fill vectors, or weights so large that a sum could leave its range.
    pub fn new(
        kernels: &Kernels,
        packed: &Packed,
        channels: usize,
        outputs: usize,
        weight: impl Fn(usize, usize, usize) -> i8 + Sync,
    ) -> Option<Self> {
        if !kernels.has_winograd() || !channels.is_multiple_of(WINOGRAD_CHANNELS) {
            return None;
        }
        let taps = 0..9;
        let fits = |output: usize| {
            let all = taps.clone().flat_map(|t| (0..channels).map(move |c| (t, c))).map(|(t, c)| i64::from(weight(output, t, c)));
            let (up, down) = all.fold((0, 0), |(up, down), w| (up + w.max(0), down - w.min(0)));
            255 * up.max(down) <= LIMIT
        };
        if !(0..outputs).into_par_iter().all(fits) {
            return None;
        }
        let lanes = |block: &Block<'_>| block.start.len();
        let total: usize = packed.blocks().map(|b| PLANES * channels * lanes(&b) * 2).sum();
        let mut weights = AlignedBytes::zeroed(total);
        let mut rest = &mut *weights;
        let mut parts = Vec::new();
        for block in packed.blocks() {
            let (own, behind) = rest.split_at_mut(PLANES * channels * lanes(&block) * 2);
            rest = behind;
            parts.push((block, own));
        }
        parts.into_par_iter().for_each(|(block, own)| {
            for o in 0..block.used {
                for channel in 0..channels {
                    let window = [0, 1, 2].map(|y| [0, 1, 2].map(|x| i32::from(weight(block.first + o, y * 3 + x, channel))));
                    for (plane, w) in winograd_weights(window).into_iter().flatten().enumerate() {
                        let pair = plane * channels / 2 + channel / 2;
                        let at = (pair * lanes(&block) + o) * 4 + channel % 2 * 2;
                        own[at..at + 2].copy_from_slice(&w.to_ne_bytes());
                    }
                }
            }
        });
        Some(Self { weights, channels })
    }

    pub fn bytes(&self) -> usize {
        self.weights.len()
    }
}

impl Band<'_> {
    /// Computes tiles of sixteen windows each.
    pub fn winograd<T: Element>(
        &self,
        winograd: &Winograd,
        packed: &Packed,
        input_first: usize,
        output_first: usize,
        tiles: &[Place],
        chunk: &mut [T],
    ) {
        SCRATCH.with_borrow_mut(|Scratch { inputs, sums }| {
            let channels = winograd.channels;
            let input_plane = GROUP * channels;
            inputs.grow(PLANES * input_plane * 2);
            sums.grow(PLANES * GROUP * MAX_LANES * 4);
            for group in tiles.chunks(GROUP) {
                let (row, pixel) = (self.from.row(), self.from.channels);
                for (i, tile) in group.iter().enumerate() {
                    let (first, to) = (tile.input as usize + input_first, inputs.as_i16_mut());
                    let at = i * channels;
                    self.kernels.winograd_input(Input { bytes: self.input, first, row, pixel, channels, to, at, plane: input_plane });
                }
                let mut weights = winograd.weights.as_i8();
                for block in packed.blocks() {
                    let (own, rest) = weights.split_at(PLANES * channels * block.start.len() * 2);
                    weights = rest;
                    self.products(block, own, inputs, channels, group.len(), sums.as_i32_mut());
                    self.outputs(block, output_first, group, sums.as_i32_mut(), chunk);
                }
            }
        });
    }

    /// For each plane, the products of all tiles.
    fn products(&self, block: Block<'_>, weights: &[i8], inputs: &[u8], channels: usize, tiles: usize, sums: &mut [i32]) {
        const ZERO: [i32; MAX_LANES] = [0; MAX_LANES];
        let (lanes, size) = (block.start.len(), self.kernels.pixels());
        let stretches = [Stretch { offset: 0, quads: channels / 2 }];
        let (mut pixels, mut to) = ([0; MAX_PIXELS], [0; MAX_PIXELS]);
        for (plane, weights) in weights.chunks_exact(channels * lanes * 2).enumerate() {
            let block = Block { weights, start: &ZERO[..lanes], ..block };
            for first in (0..tiles).step_by(size) {
                let count = size.min(tiles - first);
                for i in 0..count {
                    let tile = plane * GROUP + first + i;
                    (pixels[i], to[i]) = (tile * channels * 2, tile * lanes);
                }
                self.kernels.winograd_products(Tile {
                    input: inputs,
                    pixels: &pixels[..count],
                    stretches: &stretches,
                    block,
                    to: &to[..count],
                    output: Output::Sums(sums),
                });
            }
        }
    }

    fn outputs<T: Element>(&self, block: Block<'_>, output_first: usize, tiles: &[Place], sums: &[i32], chunk: &mut [T]) {
        let lanes = block.start.len();
        let mut done = NOTHING_DONE;
        for (i, tile) in tiles.iter().enumerate() {
            let first = tile.output as usize + output_first + block.first;
            let to = std::array::from_fn(|w| first + w / SIDE * self.surface.row + w % SIDE * self.surface.pixel);
            self.kernels.winograd_output(block, sums, i * lanes, GROUP * lanes, &mut done, &to, T::output(chunk, self.finish));
        }
    }

    /// The tiles of the band with enough windows that must be computed; returns how many. They are noted in `chosen`,
    /// `[rows / 4][windows / 4]`.
    pub fn tiles(&self, sparse: Option<Sparse<'_>>, chosen: &mut [bool], tiles: &mut [Place]) -> usize {
        let width = self.conv.windows[1];
        let (columns, origin) = (width / SIDE, self.origin());
        let mut count = 0;
        for y in 0..self.rows / SIDE {
            for x in 0..columns {
                if let Some(Sparse { todo, .. }) = sparse {
                    let line = |dy: usize| &todo[(self.first + y * SIDE + dy) * width + x * SIDE..][..SIDE];
                    let windows = (0..SIDE).flat_map(line).filter(|&&w| w == COMPUTE).count();
                    if windows < LEAST_WINDOWS {
                        continue;
                    }
                }
                chosen[y * columns + x] = true;
                tiles[count] = Place {
                    input: (origin + y * SIDE * self.from.row() + x * SIDE * self.from.channels) as u32,
                    output: self.output(y * SIDE, x * SIDE) as u32,
                };
                count += 1;
            }
        }
        count
    }
}
