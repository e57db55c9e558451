//! Networks as builder functions that read like their papers, and the key names of the public checkpoints.

pub mod centerpoint;
