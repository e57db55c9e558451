//! What parameters the detector node has. `config/detect.param.yaml` explains them to users at more length.

use super::params::class_threshold;
use crate::node::input_params::INPUT;
use crate::ros::declarations::{Change, Declaration, Kind};

const RESTART: Change = Change::AtStart("start the node anew to change it");

pub(super) static DECLARATIONS: [&[Declaration]; 2] = [&DETECTOR, &INPUT];

static DETECTOR: [Declaration; 15] = [
    Declaration::text(
        "model_path",
        "Model file.",
        Change::AtStart("call ~/load_model, which keeps the old model if the new one is no good"),
    ),
    Declaration::integer("threads", 0, [0, 1024], "Worker threads; 0 is one a core.", RESTART),
    Declaration::choice(
        "device",
        "auto",
        &["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"],
        "What the network runs on; where a GPU cannot be used, the CPU runs.",
        RESTART,
    ),
    Declaration::flag("autostart", true, "Active from the start; false: unconfigured, for a lifecycle manager.", RESTART),
    Declaration::flag("use_sim_time", false, "Take the time from /clock.", RESTART),
    Declaration::number(
        "score_threshold",
        Some(-1.0),
        [-1.0, 1.0],
        "Boxes above this score only; negative: the model's own.",
        Change::Live,
    ),
    Declaration {
        name: "class_thresholds",
        kind: Kind::Texts {
            expected: "texts like `pedestrian=0.4`, with scores from 0 to 1",
            is_valid: |entry| class_threshold(entry).is_some(),
        },
        description: "Further thresholds by class.",
        change: Change::Live,
    },
    Declaration::choice(
        "qos.input_reliability",
        "auto",
        &["auto", "reliable", "best_effort"],
        "Whether lost packets are asked for again.",
        RESTART,
    ),
    Declaration::integer(
        "densification_params.num_past_frames",
        -1,
        [-1, 100],
        "Older sweeps to merge; -1: as the model was trained.",
        RESTART,
    ),
    Declaration::number("markers.lifetime", Some(0.0), [0.0, f64::MAX], "Seconds; 0: two and a half periods of the output.", Change::Live),
    Declaration::number("markers.alpha", Some(0.4), [0.0, 1.0], "Opacity of boxes.", Change::Live),
    Declaration::number(
        "markers.arrow_seconds",
        Some(1.0),
        [0.0, 10.0],
        "Velocity arrows show the way of this many seconds.",
        Change::Live,
    ),
    Declaration::number("markers.min_speed", Some(0.5), [0.0, f64::MAX], "Slower boxes have no arrow, m/s.", Change::Live),
    Declaration::number("diagnostics.period", Some(1.0), [0.05, 60.0], "Seconds between two reports.", Change::Live),
    Declaration::number(
        "diagnostics.max_allowed_processing_time_ms",
        Some(200.0),
        [0.0, f64::MAX],
        "A warning if one of 100 frames takes longer.",
        Change::Live,
    ),
];
