//! Integers: a quantized network on CPUs.
//!
//! What is computed is defined to the bit in `arithmetic.rs`; every instruction set gives the same bytes. `lower.rs` turns a
//! folded graph and its scheme into a flat plan once, [`Int8Engine`] runs it.

mod aligned;
mod arithmetic;
mod conv;
mod cpu;
pub mod cuda;
mod deferred;
mod engine;
mod lower;
mod narrow;
mod peak;
mod plan;
mod repeat;
#[cfg(test)]
pub(crate) mod tests;
mod winograd;

pub use arithmetic::{Clamp, Finish, Grid, Quantizer, Requantize};
#[cfg(target_arch = "x86_64")]
pub(super) use cpu::has_tile_unit;
pub use engine::{Clipped, Int8Engine, Int8Error, OutputMap, StepReport};
pub use lower::LowerError;
pub use peak::measured_peak;

/// The instruction set whose integer kernels run where this one is chosen: another if it has none of its own, or if they failed
/// their check. `None` if the processor lacks it.
pub fn isa_in_use(isa: crate::engine::Isa) -> Option<crate::engine::Isa> {
    cpu::Kernels::with_isa(isa).map(|kernels| kernels.isa())
}
