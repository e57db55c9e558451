//! NVIDIA GPUs, for all engines: the driver, our kernels, and the tests' emulator of both. See `docs/gpu.md`.
//!
//! * `kernels/` has the kernels, in CUDA C++; nothing in them needs a header. All are compiled as one file.
//! * A `Device` runs them: the driver, or the emulator in `tests/cuda/`, which runs the very same kernels on a CPU.
//! * What they are run for is the engines' business: [`crate::engine::int8::cuda`], [`crate::engine::float`].

mod compile;
mod device;
mod driver;
#[cfg(test)]
mod emulator;

pub use compile::{Compiled, CompiledKernel, OLDEST_ARCH, cache_folder, compile, cubin_name, write};
pub use device::DeviceError;
pub(in crate::engine) use device::{Args, Device, Launch, Memory, bytes, bytes_mut, turns};
pub(in crate::engine) use driver::Driver;
#[cfg(test)]
pub(in crate::engine) use emulator::Emulator;

/// All kernels, in an order in which they can be compiled as one file.
const SOURCES: [(&str, &str); 12] = [
    ("device.cuh", include_str!("kernels/device.cuh")),
    ("block.cuh", include_str!("kernels/block.cuh")),
    ("elementary.cuh", include_str!("kernels/elementary.cuh")),
    ("overlap.cuh", include_str!("kernels/overlap.cuh")),
    ("conv.cu", include_str!("kernels/conv.cu")),
    ("image.cu", include_str!("kernels/image.cu")),
    ("pillar.cu", include_str!("kernels/pillar.cu")),
    ("voxelize.cu", include_str!("kernels/voxelize.cu")),
    ("boxes.cu", include_str!("kernels/boxes.cu")),
    ("float_layers.cu", include_str!("kernels/float_layers.cu")),
    ("float_norm.cu", include_str!("kernels/float_norm.cu")),
    ("float_values.cu", include_str!("kernels/float_values.cu")),
];

/// All kernels as one file; messages about it name the files that it is made of.
fn source() -> String {
    SOURCES.iter().map(|(name, text)| format!("#line 1 \"{name}\"\n{text}\n")).collect()
}

/// A GPU with our kernels on it, ready for a network.
pub struct Gpu(pub(in crate::engine) Box<dyn Device>);

impl Gpu {
    /// Opens the GPU of this number.
    ///
    /// # Errors
    /// No driver, one that is too old, no such GPU, one that is too old; kernels that can be neither found nor compiled.
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        Ok(Self(Box::new(Driver::open(ordinal)?)))
    }

    /// Name and architecture.
    pub fn description(&self) -> String {
        self.0.description()
    }
}
