//! Convolutions to very few channels, such as the last ones of a detection head.
//!
//! With two outputs, seven eighths of a vector's lanes would idle. Instead every *tap* of every output gets a lane of its own:
//! one pass computes, for each input pixel, what it gives to each of the windows around it, and each output then gathers its
//! taps from its neighbours. The sum is the same, in i32, where order does not matter.

use super::conv::Band;
use super::cpu::{Gather, MAX_PIXELS, Output, Packed, Stretch, Tile};
use std::cell::RefCell;

/// One convolution whose taps are lanes.
pub(super) struct Narrow {
    /// One tap whose outputs are `[tap y][tap x][output]`, and nothing beyond one block.
    pub packed: Packed,
    pub stretches: Vec<Stretch>,
    pub outputs: usize,
    /// By output, filled up to fours: where the sum starts, and what follows it.
    pub start: Vec<[i32; 4]>,
    pub multiplier: Vec<[f32; 4]>,
    pub bias: Vec<[f32; 4]>,
}

/// Numbers in fours.
pub(super) fn fours<T: Copy + Default>(values: &[T]) -> Vec<[T; 4]> {
    values.chunks(4).map(|part| std::array::from_fn(|i| part.get(i).copied().unwrap_or_default())).collect()
}

#[derive(Default)]
struct Scratch {
    /// By pixel of the region that a band's windows see: its lanes.
    sums: Vec<i32>,
    /// Whether a window sees it.
    seen: Vec<bool>,
    /// By active window: its first pixel in the region.
    windows: Vec<u32>,
    /// By tap: where its lanes are, from a window's first pixel on.
    taps: Vec<usize>,
}

thread_local! {
    /// Grows to the largest band, then stays.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Band<'_> {
    /// Computes the windows that start at `inputs`, to `to`, both as offsets in ascending order.
    #[allow(clippy::too_many_arguments)] // what a pass needs
    pub fn narrow(&self, narrow: &Narrow, input_first: usize, output_first: usize, inputs: &[u32], to: &[u32], out: &mut [f32], low: f32) {
        let Some(block) = narrow.packed.blocks().next() else { return };
        let (lanes, outputs, taps) = (block.start.len(), narrow.outputs, self.conv.taps);
        let (row, pixel, origin) = (self.from.row(), self.from.channels, self.origin());
        let [width, height] = [self.conv.windows[1] + taps - 1, self.rows + taps - 1];
        SCRATCH.with_borrow_mut(|Scratch { sums, seen, windows, taps: places }| {
            places.clear();
            places.extend((0..taps * taps).map(|t| (t / taps * width + t % taps) * lanes + t * outputs));
            windows.clear();
            let (mut y, mut row_start) = (0u32, origin as u32);
            windows.extend(inputs.iter().map(|&input| {
                while input >= row_start + row as u32 {
                    (y, row_start) = (y + 1, row_start + row as u32);
                }
                y * width as u32 + (input - row_start) / pixel as u32
            }));
            // Never made smaller: what it grows by would be cleared again.
            sums.resize(sums.len().max(width * height * lanes), 0);
            seen.clear();
            // Where most windows are computed, noting which pixels they see costs more than it saves.
            let most = 4 * inputs.len() > 3 * self.rows * self.conv.windows[1];
            seen.resize(width * height, most);
            if !most {
                for &first in windows.iter() {
                    (0..taps).for_each(|y| seen[first as usize + y * width..][..taps].iter_mut().for_each(|s| *s = true));
                }
            }
            let mut tile = Pending::default();
            let mut run = |pixels: &[usize], places: &[usize]| {
                let output = Output::Sums(sums);
                self.kernels.run(Tile { input: self.input, pixels, stretches: &narrow.stretches, block, to: places, output });
            };
            for (y, seen) in seen.chunks_exact(width).enumerate() {
                let start = origin + y * row + input_first;
                for (x, _) in seen.iter().enumerate().filter(|(_, seen)| **seen) {
                    tile.push(start + x * pixel, (y * width + x) * lanes);
                    if tile.count == self.kernels.pixels() {
                        tile.take(&mut run);
                    }
                }
            }
            tile.take(&mut run);
            let Narrow { start, multiplier, bias, .. } = narrow;
            let gather = Gather { sums, lanes, taps: places, outputs, start, multiplier, bias, low, shift: output_first };
            self.kernels.gather(&gather, windows, to, out);
        });
    }
}

/// Pixels that wait for their tile to be full.
#[derive(Default)]
struct Pending {
    pixels: [usize; MAX_PIXELS],
    to: [usize; MAX_PIXELS],
    count: usize,
}

impl Pending {
    fn push(&mut self, pixel: usize, to: usize) {
        (self.pixels[self.count], self.to[self.count]) = (pixel, to);
        self.count += 1;
    }

    fn take(&mut self, run: &mut impl FnMut(&[usize], &[usize])) {
        if self.count > 0 {
            run(&self.pixels[..self.count], &self.to[..self.count]);
        }
        self.count = 0;
    }
}
