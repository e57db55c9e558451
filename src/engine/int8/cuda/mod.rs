//! Integers on NVIDIA GPUs: the CPU's plan, run by kernels that return the same bytes. See `docs/gpu.md`.
//!
//! * `program.rs` turns a plan into launches over memory that is planned once.
//! * [`CudaEngine`] runs them on a [device](crate::engine::cuda).

mod boxes;
mod convolution;
mod engine;
mod frame;
#[cfg(test)]
mod layer_tests;
mod program;
mod segment;
#[cfg(test)]
mod tests;
mod voxelize;
mod weights;

pub use boxes::{BoxRules, DeviceBox, Suppression, TaskBoxes, TaskRules};
pub use engine::CudaEngine;
pub use frame::{FrameResult, FrameRules};
pub use voxelize::{PillarRules, PointRules};

use crate::engine::cuda::Args;
use crate::engine::int8::arithmetic::Clamp;

impl Args {
    /// The structure of the same name in `device.cuh`.
    fn clamp(self, clamp: &Clamp) -> Self {
        self.float(clamp.low).float(clamp.high).words(&[clamp.zero as usize])
    }
}
