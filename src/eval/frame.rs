//! What is judged: a moment with the boxes that were found and those that were there.

use crate::geometry::Box3;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A box that a detector reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredBox {
    /// In a sensor or vehicle frame.
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

/// A labelled moment and what a detector made of it. Boxes are kept, clouds are not, so that thousands fit in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalFrame {
    /// The recording: a bag and topic, a scene, a simulated drive.
    pub source: String,
    /// Since the start of the recording, seconds.
    pub time_s: f64,
    /// The vehicle in the frame of the boxes: x and y of the point from which ranges are measured.
    pub ego: [f32; 2],
    pub predictions: Vec<ScoredBox>,
    pub truth: Vec<TruthBox>,
}

impl EvalFrame {
    /// Distance of a box's centre from the vehicle in the ground plane, metres.
    pub fn range(&self, bbox: &Box3) -> f64 {
        ground_distance(bbox.center, self.ego)
    }
}

/// Between two points in the ground plane, metres.
pub(super) fn ground_distance<const A: usize, const B: usize>(a: [f32; A], b: [f32; B]) -> f64 {
    let [dx, dy] = [0, 1].map(|i| f64::from(a[i]) - f64::from(b[i]));
    (dx * dx + dy * dy).sqrt()
}

/// The distances by which results are told apart, metres from the vehicle.
pub const RANGE_BINS: [Range<f64>; 3] = [0.0..20.0, 20.0..40.0, 40.0..f64::INFINITY];

/// `20-40 m`, `40+ m`.
pub fn range_name(range: &Range<f64>) -> String {
    if range.end.is_finite() { format!("{}-{} m", range.start, range.end) } else { format!("{}+ m", range.start) }
}
