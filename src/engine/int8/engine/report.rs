//! What an engine consists of, and how its last run went.

use super::Int8Engine;
use crate::engine::int8::conv::COMPUTE;
use crate::engine::int8::plan::{Step, StepKind};
use std::time::Duration;

/// A step of the last run.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The nodes that it computes, by name.
    pub nodes: Vec<String>,
    /// `int8`, `float` or what it does between the two.
    pub kind: &'static str,
    /// The kernels that ran, by name.
    pub kernels: Vec<String>,
    /// Multiply-adds of a full canvas.
    pub macs: u64,
    /// Share of the windows that were computed rather than known.
    pub computed: f64,
    pub elapsed: Duration,
}

impl Int8Engine {
    /// Bytes of all activations and of all weights, with their filling.
    pub fn memory_bytes(&self) -> (usize, usize) {
        let weights = self.plan.steps.iter().map(|s| if let StepKind::Conv(c) = &s.kind { c.weight_bytes() } else { 0 }).sum();
        (self.plan.slots.iter().sum(), weights)
    }

    /// What each step was, and how long it took in the last run.
    pub fn steps(&self) -> Vec<StepReport> {
        let report = |(i, step): (usize, &Step)| {
            let (kernels, computed) = match &step.kind {
                StepKind::Conv(conv) if self.is_sparse(i) || self.is_partial(i) => {
                    let share = self.todo[i].iter().filter(|&&w| w == COMPUTE).count() as f64 / self.todo[i].len().max(1) as f64;
                    (conv.kernels(&self.kernels), share)
                }
                StepKind::Conv(conv) => (conv.kernels(&self.kernels), 1.0),
                _ => (Vec::new(), 1.0),
            };
            let (nodes, macs, elapsed) = (step.names.clone(), step.macs, self.times[i]);
            StepReport { nodes, kind: step.kind_name(), kernels, macs, computed, elapsed }
        };
        self.plan.steps.iter().enumerate().map(report).collect()
    }
}

impl Step {
    fn kind_name(&self) -> &'static str {
        match self.kind {
            StepKind::Float { .. } => "float",
            StepKind::Load { .. } => "load",
            StepKind::Scatter { .. } => "scatter",
            StepKind::Quantize { .. } => "quantize",
            StepKind::Dequantize { .. } => "dequantize",
            StepKind::Add { .. } | StepKind::Conv(_) => "int8",
        }
    }
}
