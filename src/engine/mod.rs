//! Running a graph.

pub mod float;
mod isa;

pub use isa::{Isa, IsaError};
