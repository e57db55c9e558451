//! Integers on NVIDIA GPUs: the CPU's plan, run by kernels that return the same bytes. See `docs/gpu.md`.
//!
//! * `kernels/` has the kernels, in CUDA C++; nothing in them needs a header.
//! * `program.rs` turns a plan into launches over memory that is planned once.
//! * [`CudaEngine`] runs them on a `Device`: the driver, or the emulator in `tests/cuda/`, which runs the
//!   very same kernels on a CPU.

mod boxes;
mod compile;
mod convolution;
mod device;
mod driver;
#[cfg(test)]
mod emulator;
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
pub use compile::{Compiled, CompiledKernel, OLDEST_ARCH, cache_folder, compile, cubin_name, write};
pub use device::DeviceError;
pub use engine::{CudaEngine, Gpu};
pub use frame::{FrameResult, FrameRules};
pub use voxelize::{PillarRules, PointRules};

/// All kernels, in an order in which they can be compiled as one file.
const SOURCES: [(&str, &str); 9] = [
    ("device.cuh", include_str!("kernels/device.cuh")),
    ("block.cuh", include_str!("kernels/block.cuh")),
    ("elementary.cuh", include_str!("kernels/elementary.cuh")),
    ("overlap.cuh", include_str!("kernels/overlap.cuh")),
    ("conv.cu", include_str!("kernels/conv.cu")),
    ("image.cu", include_str!("kernels/image.cu")),
    ("pillar.cu", include_str!("kernels/pillar.cu")),
    ("voxelize.cu", include_str!("kernels/voxelize.cu")),
    ("boxes.cu", include_str!("kernels/boxes.cu")),
];

/// All kernels as one file; messages about it name the files that it is made of.
fn source() -> String {
    SOURCES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}\n")).collect()
}
