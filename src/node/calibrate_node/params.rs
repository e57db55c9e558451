//! The calibration node's parameters. `config/calibrate.param.yaml` explains them to users at more length.

use crate::node::input_params::{INPUT, input_tuning};
use crate::node::tuning::Tuning;
use crate::quant::METHOD_NAMES;
use crate::ros::declarations::{Change, Declaration, DeclaredParameters, ParametersError};
use crate::ros::interface::Reliability;
use crate::ros::msg::lidar_ptq_msgs::CalibrateGoal;
use crate::ros::parameters::Parameters;
use std::path::PathBuf;

/// What it needs beside the goal. All but what is for the start holds from the next goal on.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrateParams {
    /// For goals that name none.
    pub model: Option<PathBuf>,
    pub output: Option<PathBuf>,
    /// Topic of the clouds in a bag that has several; recordings have that of the node's input.
    pub bag_topic: Option<String>,
    pub method: String,
    pub frames: i64,
    pub held_out: i64,
    pub least_agreement: f64,
    /// Worker threads.
    pub threads: i64,
    /// How much the calibration gives way to other programs, 0 to 19.
    pub nice: i64,
    pub max_memory_mb: i64,
    /// Where recordings go; `None`: to the output's folder.
    pub record_folder: Option<PathBuf>,
    pub record_max_mb: i64,
    pub reliability: Reliability,
    /// Of clouds.
    pub tuning: Tuning,
    pub fixed_frame: Option<String>,
    pub max_pose_gap_s: f64,
    /// To do at the start, if anything.
    pub first_goal: Option<CalibrateGoal>,
    /// End when the first goal has.
    pub exit_when_done: bool,
}

static DECLARATIONS: [&[Declaration]; 2] = [&CALIBRATION, &INPUT];

const NOW: Change = Change::AtStart("send a goal to ~/calibrate");

static CALIBRATION: [Declaration; 18] = [
    Declaration::text("model_path", "Float model.", Change::Live),
    Declaration::text("output_path", "Where the quantized model goes; empty: beside the float one.", Change::Live),
    Declaration::text("bag", "A bag to calibrate from at once.", NOW),
    Declaration::number("record_minutes", Some(0.0), [0.0, 600.0], "Record for so long and calibrate from that, at once.", NOW),
    Declaration::flag("load", true, "Ask the detector to load what comes out of that.", NOW),
    Declaration::flag("exit_when_done", false, "End with that.", NOW),
    Declaration::flag("use_sim_time", false, "Has no meaning here: recordings are stamped by the system's clock.", NOW),
    Declaration::text("bag_topic", "Topic of the clouds in a bag that has several.", Change::Live),
    Declaration::choice("calibration.method", "lidar-ptq", &METHOD_NAMES, "How ranges and roundings are chosen.", Change::Live),
    Declaration::integer("calibration.frames", 64, [1, 100_000], "Frames to calibrate with.", Change::Live),
    Declaration::integer("calibration.held_out", 16, [0, 100_000], "Frames between those, to judge with.", Change::Live),
    Declaration::number(
        "calibration.least_agreement",
        Some(0.85),
        [0.0, 1.0],
        "Write nothing if a smaller share of the float model's boxes is found again, or is right.",
        Change::Live,
    ),
    Declaration::integer("threads", 1, [1, 1024], "Worker threads.", Change::Live),
    Declaration::integer("nice", 10, [0, 19], "How much it gives way to other programs.", Change::Live),
    Declaration::integer("max_memory_mb", 8192, [64, 1 << 20], "Memory that it may take; it fails rather than take more.", Change::Live),
    Declaration::text("record.folder", "Where recordings go; empty: beside the quantized model.", Change::Live),
    Declaration::integer("record.max_mb", 4096, [1, 1 << 20], "A recording ends early when its messages take more.", Change::Live),
    Declaration::choice(
        "qos.input_reliability",
        "auto",
        &["auto", "reliable", "best_effort"],
        "Whether lost packets are asked for again.",
        Change::Live,
    ),
];

impl CalibrateParams {
    /// What was set for a node, with what every parameter is declared to be. Names that this node does not know are warned of.
    ///
    /// # Errors
    /// Values of another type or out of bounds.
    pub fn declare(given: &Parameters) -> Result<DeclaredParameters, ParametersError> {
        let (declared, unknown) = DeclaredParameters::new(&DECLARATIONS, given)?;
        unknown.iter().for_each(|name| tracing::warn!(parameter = name, "this node has no such parameter"));
        Ok(declared)
    }

    pub fn new(declared: &DeclaredParameters) -> Self {
        let text = |name: &str| declared.text(name).map(str::to_owned);
        let path = |name: &str| text(name).map(PathBuf::from);
        let (bag, record_minutes) = (text("bag"), declared.number("record_minutes"));
        let goal = || CalibrateGoal {
            bag: bag.clone().unwrap_or_default(),
            record_minutes,
            load: declared.flag("load"),
            ..CalibrateGoal::default()
        };
        Self {
            model: path("model_path"),
            output: path("output_path"),
            bag_topic: text("bag_topic"),
            method: text("calibration.method").unwrap_or_else(|| METHOD_NAMES[0].to_owned()),
            frames: declared.integer("calibration.frames"),
            held_out: declared.integer("calibration.held_out"),
            least_agreement: declared.number("calibration.least_agreement"),
            threads: declared.integer("threads"),
            nice: declared.integer("nice"),
            max_memory_mb: declared.integer("max_memory_mb"),
            record_folder: path("record.folder"),
            record_max_mb: declared.integer("record.max_mb"),
            reliability: declared.choice("qos.input_reliability").unwrap_or_default(),
            tuning: input_tuning(declared),
            fixed_frame: text("densification_params.world_frame_id"),
            max_pose_gap_s: declared.number("input.max_pose_gap"),
            first_goal: (bag.is_some() || record_minutes > 0.0).then(goal),
            exit_when_done: declared.flag("exit_when_done"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::parameters::ParameterValue;

    #[test]
    fn the_installed_file_holds_the_defaults_under_names_that_exist() {
        let node = crate::ros::names::NodeName::new("", "calibrate").unwrap();
        let file = crate::ros::parameters::parse_parameter_file(include_str!("../../../config/calibrate.param.yaml"), &node).unwrap();
        for name in file.keys() {
            assert!(DECLARATIONS.iter().copied().flatten().any(|d| d.name == name), "{name}");
        }
        let read = |given: &Parameters| CalibrateParams::new(&CalibrateParams::declare(given).unwrap());
        assert_eq!(read(&file), read(&Parameters::new()));
        assert_eq!(read(&file).first_goal, None);
    }

    #[test]
    fn a_bag_or_a_time_is_something_to_do() {
        let first =
            |name: &str, value| CalibrateParams::new(&CalibrateParams::declare(&[(name.to_owned(), value)].into()).unwrap()).first_goal;
        assert_eq!(first("bag", ParameterValue::String("b.mcap".into())).unwrap().bag, "b.mcap");
        assert_eq!(first("record_minutes", ParameterValue::Integer(2)).unwrap().record_minutes, 2.0);
    }
}
