//! A network as a flat list of steps over buffers whose sizes and places are known.

use super::arithmetic::{Clamp, Grid};
use super::conv::Conv;
use super::repeat::Repeat;
use crate::engine::float::FloatEngine;
use crate::graph::Dim;

/// Kernels read whole fours of bytes; the last four may start at the last channel.
const SLACK: usize = 64;

/// A channels-last image of bytes with a border of padding around it.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub height: usize,
    pub width: usize,
    /// Bytes from a pixel to the next: a multiple of four.
    pub channels: usize,
    pub border: usize,
    /// The byte that stands for 0.0.
    pub zero: u8,
    /// Which piece of memory.
    pub slot: usize,
    /// What an empty canvas yields along y and x, if that is known.
    pub repeat: Option<[Repeat; 2]>,
}

impl Buffer {
    /// Bytes from a row to the next.
    pub fn row(&self) -> usize {
        (self.width + 2 * self.border) * self.channels
    }

    pub fn len(&self) -> usize {
        (self.height + 2 * self.border) * self.row() + SLACK
    }

    /// Where a pixel starts.
    pub fn at(&self, y: usize, x: usize) -> usize {
        (y + self.border) * self.row() + (x + self.border) * self.channels
    }

    /// Fills the border with padding.
    pub fn pad(&self, bytes: &mut [u8]) {
        let (row, side) = (self.row(), self.border * self.channels);
        let (ends, last) = (self.border * row, (self.height + self.border) * row);
        bytes[..ends].fill(self.zero);
        bytes[last..last + ends].fill(self.zero);
        if side > 0 {
            for line in bytes[ends..last].chunks_exact_mut(row) {
                line[..side].fill(self.zero);
                line[row - side..].fill(self.zero);
            }
        }
    }
}

/// Some channels of a buffer: a node's value in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub buffer: usize,
    pub first: usize,
    pub channels: usize,
    pub grid: Grid,
}

/// Some channels of a float array: a node's value in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FloatView {
    pub array: usize,
    pub first: usize,
    pub channels: usize,
}

pub(super) struct Step {
    /// The nodes that it computes.
    pub names: Vec<String>,
    /// Multiply-adds of a full canvas.
    pub macs: u64,
    /// The group of deferred outputs that it is for. Such steps are convolutions, stand behind all others, and in order of groups.
    pub group: Option<usize>,
    pub kind: StepKind,
}

pub(super) enum StepKind {
    /// Nodes that stay float.
    Float {
        engine: Box<FloatEngine>,
        inputs: Vec<(String, Source)>,
        indices: Vec<String>,
        outputs: Vec<(String, usize)>,
    },
    /// An input of the graph that integers read.
    Load {
        input: String,
        to: usize,
    },
    /// Pillars to their cells.
    Scatter {
        features: FloatView,
        index: String,
        to: View,
    },
    Quantize {
        from: FloatView,
        to: View,
    },
    Dequantize {
        from: View,
        to: usize,
    },
    Add {
        a: View,
        b: View,
        to: View,
        add: Addition,
        opens: bool,
    },
    Conv(Box<Conv>),
}

/// Where a float segment's input comes from.
pub(super) enum Source {
    /// The input of this name.
    Outside,
    Inside(FloatView),
}

/// `y = fma(a - zero, a_factor, (b - zero) * b_factor)`, then as everything ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addition {
    pub a_factor: f32,
    pub b_factor: f32,
    pub clamp: Clamp,
}

/// Where an output of the graph is found.
pub(super) struct PlannedOutput {
    pub role: String,
    pub view: FloatView,
    /// Its group, if it is deferred.
    pub group: Option<usize>,
}

/// Everything that running needs, ready to run.
#[derive(Default)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    pub buffers: Vec<Buffer>,
    /// Bytes of each piece of memory. Values that are never alive together share one.
    pub slots: Vec<usize>,
    /// Shapes of the float arrays.
    pub arrays: Vec<Vec<Dim>>,
    pub outputs: Vec<PlannedOutput>,
}

impl Plan {
    /// Gives every buffer a piece of memory. Call once, when all steps are there.
    pub fn place_buffers(&mut self) {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.buffers.len()];
        let mut keep = vec![false; self.buffers.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let used = match &step.kind {
                StepKind::Float { .. } | StepKind::Load { .. } => vec![],
                StepKind::Scatter { to, .. } => {
                    keep[to.buffer] = true; // only the cells of the frame before are cleared
                    vec![to.buffer]
                }
                StepKind::Quantize { to, .. } => vec![to.buffer],
                StepKind::Dequantize { from, .. } => vec![from.buffer],
                StepKind::Add { a, b, to, .. } => vec![a.buffer, b.buffer, to.buffer],
                StepKind::Conv(conv) => [Some(conv.input), conv.output_buffer()].into_iter().flatten().collect(),
            };
            for buffer in used {
                let life = lives[buffer].get_or_insert((at, at));
                life.1 = at;
            }
        }
        // When each piece of memory becomes free.
        let mut free_after: Vec<usize> = Vec::new();
        let mut order: Vec<usize> = (0..self.buffers.len()).collect();
        order.sort_by_key(|&b| lives[b]);
        for b in order {
            let Some((born, dies)) = lives[b] else { continue };
            let len = self.buffers[b].len();
            let free = (0..self.slots.len()).filter(|&s| free_after[s] < born);
            // The one that grows least.
            let best = free.min_by_key(|&s| (len.saturating_sub(self.slots[s]), self.slots[s])).filter(|_| !keep[b]);
            let slot = best.unwrap_or_else(|| {
                self.slots.push(0);
                free_after.push(0);
                self.slots.len() - 1
            });
            self.slots[slot] = self.slots[slot].max(len);
            free_after[slot] = if keep[b] { usize::MAX } else { dies };
            self.buffers[b].slot = slot;
        }
    }
}
