//! What parameters the detector node has. `config/detect.param.yaml` explains them to users at more length.

use super::params::class_threshold;
use crate::ros::declarations::{Change, Declaration, Kind};
use crate::sensor::MAX_GAP_S;

const NEEDS_RESTART: Change = Change::AtStart("start the node anew to change it");
const NEEDS_MODEL: Change = Change::AtStart("it decides how clouds are read and gathered for the model; start the node anew to change it");

pub(super) static DECLARATIONS: [Declaration; 21] = [
    text("model_path", "Model file.", Change::AtStart("call ~/load_model, which keeps the old model if the new one is no good")),
    integer("threads", 0, 0, 1024, "Worker threads; 0 is one a core."),
    Declaration {
        name: "use_sim_time",
        kind: Kind::Flag { default: false },
        description: "Take the time from /clock.",
        change: NEEDS_RESTART,
    },
    number("score_threshold", Some(-1.0), [-1.0, 1.0], "Boxes above this score only; negative: the model's own.", Change::Live),
    Declaration {
        name: "class_thresholds",
        kind: Kind::Texts {
            expected: "texts like `pedestrian=0.4`, with scores from 0 to 1",
            is_valid: |entry| class_threshold(entry).is_some(),
        },
        description: "Further thresholds by class.",
        change: Change::Live,
    },
    choice("qos.input_reliability", "auto", &["auto", "reliable", "best_effort"], "Whether lost packets are asked for again."),
    text("input.intensity_field", "Field to take for intensity.", NEEDS_MODEL),
    number("input.intensity_scale", None, [f64::MIN, f64::MAX], "Factor from the sensor's intensity to that of the training.", NEEDS_MODEL),
    number("input.intensity_constant", None, [f64::MIN, f64::MAX], "Intensity of every point.", NEEDS_MODEL),
    text("input.time_field", "Field of the points' own times; none if they have none.", NEEDS_MODEL),
    choice("input.time_unit", "", &["s", "ms", "us", "ns"], "Unit of the points' times."),
    choice("input.time_reference", "", &["before_stamp", "after_stamp", "scan_start", "clock"], "What the points' times count from."),
    number("input.max_pose_gap", Some(MAX_GAP_S), [1e-3, 60.0], "Leave sweeps out where poses lie further apart, seconds.", NEEDS_MODEL),
    integer("densification_params.num_past_frames", -1, -1, 100, "Older sweeps to merge; -1: as the model was trained."),
    text("densification_params.world_frame_id", "Frame that stands still; empty: odom, map or world.", NEEDS_MODEL),
    number("markers.lifetime", Some(0.0), [0.0, f64::MAX], "Seconds; 0: two and a half periods of the output.", Change::Live),
    number("markers.alpha", Some(0.4), [0.0, 1.0], "Opacity of boxes.", Change::Live),
    number("markers.arrow_seconds", Some(1.0), [0.0, 10.0], "Velocity arrows show the way of this many seconds.", Change::Live),
    number("markers.min_speed", Some(0.5), [0.0, f64::MAX], "Slower boxes have no arrow, m/s.", Change::Live),
    number("diagnostics.period", Some(1.0), [0.05, 60.0], "Seconds between two reports.", Change::Live),
    number(
        "diagnostics.max_allowed_processing_time_ms",
        Some(200.0),
        [0.0, f64::MAX],
        "A warning if one of 100 frames takes longer.",
        Change::Live,
    ),
];

const fn text(name: &'static str, description: &'static str, change: Change) -> Declaration {
    Declaration { name, kind: Kind::Text, description, change }
}

const fn choice(name: &'static str, default: &'static str, of: &'static [&'static str], description: &'static str) -> Declaration {
    Declaration { name, kind: Kind::Choice { default, of }, description, change: NEEDS_RESTART }
}

const fn integer(name: &'static str, default: i64, least: i64, most: i64, description: &'static str) -> Declaration {
    Declaration { name, kind: Kind::Integer { default, least, most }, description, change: NEEDS_RESTART }
}

const fn number(
    name: &'static str,
    default: Option<f64>,
    [least, most]: [f64; 2],
    description: &'static str,
    change: Change,
) -> Declaration {
    Declaration { name, kind: Kind::Number { default, least, most }, description, change }
}
