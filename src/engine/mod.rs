//! Running a graph.

pub mod float;
