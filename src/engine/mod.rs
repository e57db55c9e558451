//! Running a graph.

pub mod cuda;
mod device;
pub mod float;
pub mod int8;
mod isa;

pub use device::{DeviceChoice, DeviceChoiceError};
pub use isa::{Isa, IsaError};
