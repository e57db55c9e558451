//! CenterPoint (Yin et al., CVPR 2021).

mod build;
mod config;
mod keys;
mod validate;

pub use build::{build, output_role};
pub use config::{Branch, BranchRole, Dialect, Head, PillarEncoder, PillarNetwork, Rpn, Task, Upsample};
pub use validate::NetworkError;
