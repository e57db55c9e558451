//! Integers: a quantized network on CPUs.
//!
//! What is computed is defined to the bit in `arithmetic.rs`; every instruction set gives the same bytes. `lower.rs` turns a
//! folded graph and its scheme into a flat plan once, [`Int8Engine`] runs it.

mod aligned;
mod arithmetic;
mod conv;
mod cpu;
pub mod cuda;
mod engine;
mod lower;
mod narrow;
mod peak;
mod plan;
mod repeat;
#[cfg(test)]
mod tests;

pub use arithmetic::{Clamp, Finish, Grid, Quantizer, Requantize};
#[cfg(target_arch = "x86_64")]
pub(super) use cpu::has_tile_unit;
pub use engine::{Clipped, Int8Engine, Int8Error, StepReport};
pub use lower::LowerError;
pub use peak::measured_peak;
