//! Running a graph.

pub mod float;
pub mod int8;
mod isa;

pub use isa::{Isa, IsaError};
