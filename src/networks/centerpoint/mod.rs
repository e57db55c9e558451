//! CenterPoint (Yin et al., CVPR 2021).

mod config;

pub use config::{Branch, BranchRole, Dialect, Head, PillarEncoder, PillarNetwork, Rpn, Task, Upsample};
