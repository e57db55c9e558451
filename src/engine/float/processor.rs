//! Where float networks run.

use super::cuda::Accelerator;
use super::snap::Snap;
use super::tape::{Norm, Tape, checked};
use super::{EngineError, Inputs};
use crate::engine::DeviceChoice;
use crate::graph::{Graph, NodeId};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What runs float networks, forwards and backwards: the CPU, or a GPU with the CPU behind it. Results are the same to the bit, on all
/// networks whose numbers are finite.
#[derive(Clone, Default)]
pub struct Processor(pub(super) Option<Arc<Accelerator>>);

impl Processor {
    /// The CPU.
    pub fn cpu() -> Self {
        Self(None)
    }

    /// What was asked for, if it can be used, and otherwise the CPU; why is logged: as a warning if the GPU was asked for.
    pub fn of(choice: DeviceChoice) -> Self {
        let ordinal = match choice {
            DeviceChoice::Cpu => return Self::cpu(),
            DeviceChoice::Auto => 0,
            DeviceChoice::Cuda(ordinal) => ordinal,
        };
        match Accelerator::open(ordinal) {
            Ok(accelerator) => {
                tracing::info!(device = %accelerator.description(), "the float network runs on a GPU");
                return Self(Some(Arc::new(accelerator)));
            }
            Err(reason) if choice != DeviceChoice::Auto => tracing::warn!(wanted = %choice, %reason, "the float network runs on the CPU"),
            Err(reason) => tracing::info!(%reason, "the float network runs on the CPU"),
        }
        Self::cpu()
    }

    /// In words.
    pub fn description(&self) -> String {
        self.accelerator().map_or_else(|| "cpu".into(), |accelerator| accelerator.description())
    }

    /// Whether there is a GPU, which has not failed.
    pub fn has_device(&self) -> bool {
        self.accelerator().is_some()
    }

    /// The GPU, unless it has failed.
    pub(super) fn accelerator(&self) -> Option<&Arc<Accelerator>> {
        self.0.as_ref().filter(|accelerator| accelerator.works())
    }

    /// Runs `graph` and keeps every value.
    ///
    /// # Errors
    /// An input or parameter is missing or misshapen.
    pub fn forward<'a>(
        &self,
        graph: &'a Graph,
        params: &'a BTreeMap<String, ArrayD<f32>>,
        inputs: &'a Inputs<f32>,
        norm: Norm,
    ) -> Result<Tape<'a, f32>, EngineError> {
        self.forward_snapped(graph, params, inputs, norm, BTreeMap::new())
    }

    /// As [`Processor::forward`], with the values of some nodes rounded before anyone reads them.
    ///
    /// # Errors
    /// As [`Processor::forward`].
    pub fn forward_snapped<'a>(
        &self,
        graph: &'a Graph,
        params: &'a BTreeMap<String, ArrayD<f32>>,
        inputs: &'a Inputs<f32>,
        norm: Norm,
        snaps: BTreeMap<NodeId, Snap>,
    ) -> Result<Tape<'a, f32>, EngineError> {
        let task = checked(graph, params, inputs, norm)?;
        let device = self.accelerator().and_then(|accelerator| super::cuda::walk(accelerator, task, &snaps));
        Ok(Tape::new(task, snaps, device))
    }
}

#[cfg(test)]
impl Processor {
    /// The emulator of `tests/cuda/`; nothing, and a message, where there is no C++ compiler.
    pub(crate) fn emulated() -> Option<Self> {
        let emulator = crate::engine::cuda::Emulator::start(800, 2)?;
        Some(Self(Some(Arc::new(Accelerator::on(Box::new(emulator))))))
    }

    /// A GPU; nothing, and a message, where there is none.
    pub(crate) fn gpu() -> Option<Self> {
        let opened = Accelerator::open(0).inspect_err(|error| println!("skipped: no GPU to run on ({error})"));
        Some(Self(Some(Arc::new(opened.ok()?))))
    }
}
