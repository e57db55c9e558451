//! Metrics, tables, charts, pictures and reports: how good boxes are, and how they look.
//!
//! Boxes carry the index of their class in a list of names that goes with them.

pub mod agreement;
mod agreement_chart;
pub mod chart;
mod frame;
pub mod kitti;
pub mod nuscenes;
pub mod page;
pub mod paired;
pub mod picture;
pub mod report;
pub mod strips;
pub mod table;

pub use agreement_chart::agreement_strips;
pub use frame::{EvalFrame, RANGE_BINS, ScoredBox, TruthBox, range_name};
pub use picture::class_color;
