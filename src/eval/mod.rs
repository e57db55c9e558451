//! Metrics, tables and pictures: how good boxes are, and how they look.
//!
//! Boxes carry the index of their class in a list of names that goes with them.

pub mod chart;
pub mod picture;
pub mod table;

pub use picture::class_color;

use crate::geometry::Box3;
use serde::{Deserialize, Serialize};

/// A box that a detector reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredBox {
    /// In a sensor or vehicle frame: ranges are measured from its origin.
    pub bbox: Box3,
    /// Index into the list of class names.
    pub label: usize,
    /// Confidence, usually in 0..=1.
    pub score: f32,
}

/// A box that a person or a simulator labelled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthBox {
    /// In the frame of the detections. A velocity that is not known is NaN.
    pub bbox: Box3,
    /// Index into the list of class names.
    pub label: usize,
    /// Sensor points inside the box, if counted.
    pub points: Option<u32>,
}
