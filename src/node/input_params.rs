//! Parameters of how clouds are read, which the detector and the calibration must have in common.

use super::tuning::Tuning;
use crate::ros::declarations::{Change, Declaration, DeclaredParameters};
use crate::sensor::MAX_GAP_S;

const WITH_MODEL: Change = Change::AtStart("it decides how clouds are read and gathered for the model; start the node anew to change it");
const FINITE: [f64; 2] = [f64::MIN, f64::MAX];

pub(super) static INPUT: [Declaration; 8] = [
    Declaration::text("input.intensity_field", "Field to take for intensity.", WITH_MODEL),
    Declaration::number("input.intensity_scale", None, FINITE, "Factor from the sensor's intensity to that of the training.", WITH_MODEL),
    Declaration::number("input.intensity_constant", None, FINITE, "Intensity of every point.", WITH_MODEL),
    Declaration::text("input.time_field", "Field of the points' own times; none if they have none.", WITH_MODEL),
    Declaration::choice("input.time_unit", "", &["s", "ms", "us", "ns"], "Unit of the points' times.", WITH_MODEL),
    Declaration::choice(
        "input.time_reference",
        "",
        &["before_stamp", "after_stamp", "scan_start", "clock"],
        "What the points' times count from.",
        WITH_MODEL,
    ),
    Declaration::number(
        "input.max_pose_gap",
        Some(MAX_GAP_S),
        [1e-3, 60.0],
        "Leave sweeps out where poses lie further apart than this, seconds.",
        WITH_MODEL,
    ),
    Declaration::text(
        "densification_params.world_frame_id",
        "Frame that stands still; empty: odom, map or world, whichever /tf reaches.",
        WITH_MODEL,
    ),
];

/// What they change of a model.
pub(super) fn input_tuning(declared: &DeclaredParameters) -> Tuning {
    let text = |name: &str| declared.text(name).map(str::to_owned);
    Tuning {
        intensity_field: text("input.intensity_field"),
        intensity_scale: declared.number_if_set("input.intensity_scale").map(|v| v as f32),
        intensity_constant: declared.number_if_set("input.intensity_constant").map(|v| v as f32),
        time_field: text("input.time_field"),
        time_unit: declared.choice("input.time_unit"),
        time_reference: declared.choice("input.time_reference"),
        ..Tuning::default()
    }
}
