//! How many activations stand at the end of their range: what lies beyond was clipped to it. Many of them say that the network
//! sees something else than calibration did.

use super::Int8Engine;
use crate::engine::int8::aligned::AlignedBytes;
use crate::engine::int8::conv::To;
use crate::engine::int8::plan::{Plan, StepKind};
use rayon::prelude::*;

/// Of the activations that a step wrote as integers, those at the greatest byte, or at the least where that is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clipped {
    pub clipped: u64,
    /// Activations of pixels that see something; of [deferred](super::Int8Engine::run_deferred) layers, of those that were wanted.
    pub of: u64,
}

impl Clipped {
    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.clipped as f64 / self.of as f64 }
    }
}

impl Int8Engine {
    /// From the next run on; it takes a look at every activation, so not every run should do it.
    pub fn count_clipped(&mut self, count: bool) {
        self.clipped = count.then(|| vec![Clipped::default(); self.plan.steps.len()]);
    }

    /// Of the last run, by the nodes that a step computes; nothing where it was not counted.
    pub fn clipped(&self) -> impl Iterator<Item = (&[String], Clipped)> {
        let steps = self.clipped.iter().flatten().zip(&self.plan.steps);
        steps.filter(|(clipped, _)| clipped.of > 0).map(|(clipped, step)| (step.names.as_slice(), *clipped))
    }
}

/// What a step writes as integers, and the bytes that are the ends of its range.
pub(in crate::engine::int8) struct Ends {
    pub buffer: usize,
    pub first: usize,
    pub channels: usize,
    /// A range that starts at zero has nothing below it that could be lost: a ReLU cut it off.
    pub low: Option<u8>,
    pub high: u8,
}

impl Ends {
    pub fn of(plan: &Plan, step: usize) -> Option<Self> {
        let (buffer, first, channels, [low, high]) = match &plan.steps[step].kind {
            StepKind::Scatter { to, .. } | StepKind::Quantize { to, .. } | StepKind::Add { to, .. } => {
                (to.buffer, to.first, to.channels, [to.grid.low, to.grid.high])
            }
            StepKind::Conv(conv) => match conv.to {
                To::Bytes { buffer, clamp } => {
                    (buffer, conv.first, conv.channels, [clamp.low, clamp.high].map(|end| (end as i32 + clamp.zero) as u8))
                }
                To::Floats { .. } => return None,
            },
            StepKind::Float { .. } | StepKind::Load { .. } | StepKind::Dequantize { .. } => return None,
        };
        let low = Some(low).filter(|&low| low != plan.buffers[buffer].zero);
        Some(Self { buffer, first, channels, low, high })
    }
}

impl Ends {
    /// Of a step that has just run, at the pixels of its buffer that `which` names.
    pub(super) fn count(&self, plan: &Plan, memory: &[AlignedBytes], which: impl Fn(usize) -> bool + Sync) -> Clipped {
        let buffer = &plan.buffers[self.buffer];
        let bytes = &memory[buffer.slot];
        let row = |y: usize| {
            let pixels = (0..buffer.width).filter(|x| which(y * buffer.width + x));
            pixels.fold(Clipped::default(), |sum, x| {
                let pixel = &bytes[buffer.at(y, x) + self.first..][..self.channels];
                Clipped {
                    clipped: sum.clipped + count_ends(pixel, self.low.unwrap_or(self.high), self.high),
                    of: sum.of + self.channels as u64,
                }
            })
        };
        let add = |a: Clipped, b: Clipped| Clipped { clipped: a.clipped + b.clipped, of: a.of + b.of };
        (0..buffer.height).into_par_iter().map(row).reduce(Clipped::default, add)
    }
}

/// How many bytes are one of the two.
fn count_ends(bytes: &[u8], low: u8, high: u8) -> u64 {
    // A byte can hold the count of so many, and compilers make vectors of bytes of this.
    let few = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, &byte| sum + u8::from((byte == low) | (byte == high)));
    bytes.chunks(255).map(|bytes| u64::from(few(bytes))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    #[test]
    fn ends_are_counted_as_one_by_one() {
        let mut rng = Rng::new(1, "ends");
        for length in [0, 1, 31, 254, 255, 256, 511, 900] {
            let bytes: Vec<u8> = (0..length).map(|_| [0, 7, 255, 255][rng.index(4)]).collect();
            for [low, high] in [[0, 255], [255, 255], [7, 7], [1, 254]] {
                let expected = bytes.iter().filter(|&&b| b == low || b == high).count() as u64;
                assert_eq!(count_ends(&bytes, low, high), expected, "{length} {low} {high}");
            }
        }
        assert_eq!(count_ends(&[9; 1000], 0, 9), 1000);
    }
}
