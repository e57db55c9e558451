//! How many activations stand at the end of their range: what lies beyond was clipped to it. Many of them say that the network
//! sees something else than calibration did.

use super::Int8Engine;
use crate::engine::int8::aligned::AlignedBytes;
use crate::engine::int8::conv::To;
use crate::engine::int8::plan::{Buffer, Plan, StepKind};

/// Of the activations that a step wrote as integers, those at the greatest byte, or at the least where that is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clipped {
    pub clipped: u64,
    /// Activations of pixels that see something.
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

/// Of a step that has just run.
pub(super) fn count(plan: &Plan, step: usize, memory: &[AlignedBytes], seen: &[Vec<u8>]) -> Clipped {
    let Some(Ends { buffer, first, channels, low, high }) = Ends::of(plan, step) else { return Clipped::default() };
    let (buffer, seen): (&Buffer, &[u8]) = (&plan.buffers[buffer], &seen[buffer]);
    let bytes = &memory[buffer.slot];
    let mut sum = Clipped::default();
    for y in 0..buffer.height {
        for x in 0..buffer.width {
            // Where nothing is known of an empty canvas, every pixel counts.
            if buffer.repeat.is_some() && seen[y * buffer.width + x] == 0 {
                continue;
            }
            let pixel = &bytes[buffer.at(y, x) + first..][..channels];
            sum.clipped += pixel.iter().filter(|&&byte| byte == high || Some(byte) == low).count() as u64;
            sum.of += channels as u64;
        }
    }
    sum
}
