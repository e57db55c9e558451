//! The nuScenes detection metric (Caesar et al. 2020), with the numbers of nuscenes-devkit's `detection_cvpr_2019`.
//!
//! An [`Evaluation`] takes frames one by one, matches each at once and keeps its boxes; [`Metrics`] of all frames, of a
//! range or of any choice of frames (for a bootstrap, say) come from what it kept. On the way lie a [`Ranking`] for each
//! class and distance, which can be added to others, and its [`Curve`].
//!
//! Attributes (parked, sitting, ...) are not judged: no detector here reports them. What that means for NDS,
//! [`Metrics::nds_without_attributes`] says. Of the devkit's filters one is missing: it leaves out bicycles that stand in a
//! labelled bicycle rack.
//!
//! ```
//! use lidar_ptq::eval::{EvalFrame, ScoredBox, TruthBox, nuscenes::{DetectionMetric, Evaluation}};
//! use lidar_ptq::geometry::Box3;
//! let bbox = Box3 { center: [12.0, 3.0, 0.8], size: [4.6, 1.9, 1.7], yaw: 0.1, velocity: [5.0, 0.0] };
//! let mut evaluation = Evaluation::new(DetectionMetric::for_classes(&["car"]));
//! evaluation.add(EvalFrame {
//!     source: "example".into(),
//!     time_s: 0.0,
//!     ego: [0.0, 0.0],
//!     predictions: vec![ScoredBox { bbox, label: 0, score: 0.8 }],
//!     truth: vec![TruthBox { bbox, label: 0, points: Some(20) }],
//! });
//! assert!((evaluation.metrics().mean_ap() - 1.0).abs() < 1e-12);
//! ```

mod curve;
mod matching;
mod metric;
mod metrics;
mod ranking;
mod report;

#[cfg(test)]
mod tests;

pub use curve::{Curve, ErrorKind, SAMPLES};
pub use matching::FrameMatches;
pub use metric::{ClassRule, DetectionMetric, Orientation};
pub use metrics::{ClassMetrics, Evaluation, Metrics};
pub use ranking::{Judged, MatchErrors, Ranking};
pub(crate) use report::figure;
pub use report::{NDS_FORMULA, detections_table, metrics_json, metrics_table, ranges_json, ranges_table, short_summary, summary_lines};
