//! The detector node's parameters as the node works with them. Their names, types and bounds are in `declarations`.

use super::declarations::DECLARATIONS;
use crate::engine::DeviceChoice;
use crate::node::Tuning;
use crate::node::input_params::input_tuning;
use crate::node::messages::MarkerStyle;
use crate::ros::declarations::{DeclaredParameters, ParametersError};
use crate::ros::interface::Reliability;
use crate::ros::parameters::{ParameterValue, Parameters};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct DetectParams {
    pub model_path: PathBuf,
    /// Worker threads; `None`: one a core.
    pub threads: Option<usize>,
    pub device: DeviceChoice,
    pub tuning: Tuning,
    /// Frame that stands still; `None` tries `odom`, `map` and `world`.
    pub fixed_frame: Option<String>,
    pub max_pose_gap_s: f64,
    pub reliability: Reliability,
    pub markers: MarkerStyle,
    /// Markers live as the input's rate demands, instead of [`MarkerStyle::lifetime_s`].
    pub marker_lifetime_follows: bool,
    pub diagnostics_period_s: f64,
    /// Processing times above this are reported.
    pub max_processing_ms: f64,
    pub use_sim_time: bool,
    /// Whether the node is active from its start on; else it waits until it is configured and activated.
    pub autostart: bool,
}

/// The parameters' names of [`Tuning`]'s fields.
pub(super) fn setting_name(field: &str) -> String {
    match field {
        "sweeps" => "densification_params.num_past_frames".into(),
        "score_threshold" | "class_thresholds" => field.into(),
        _ => format!("input.{field}"),
    }
}

/// A class and its threshold, written `pedestrian=0.4`.
pub(super) fn class_threshold(entry: &str) -> Option<(String, f32)> {
    let (class, score) = entry.split_once('=')?;
    let score: f32 = score.trim().parse().ok()?;
    (0.0..=1.0).contains(&score).then(|| (class.trim().to_owned(), score))
}

impl DetectParams {
    /// What was set for a node, with what every parameter is declared to be. Names that this node does not know are warned of.
    ///
    /// # Errors
    /// Values of another type or out of bounds, and a model that is not named.
    pub fn declare(given: &Parameters) -> Result<DeclaredParameters, ParametersError> {
        let declared = DeclaredParameters::new(&DECLARATIONS, given);
        let has_no_model = match given.get("model_path") {
            None => true,
            Some(ParameterValue::String(path)) => path.is_empty(),
            Some(_) => false,
        };
        let problem = has_no_model
            .then(|| "model_path: not set; expected the path of a model file (`lidar_ptq import` and `calibrate` write them)".to_owned());
        match (declared, problem) {
            (Ok((declared, unknown)), None) => {
                unknown.iter().for_each(|name| tracing::warn!(parameter = name, "this node has no such parameter"));
                Ok(declared)
            }
            (declared, problem) => Err(ParametersError(declared.err().map_or_else(Vec::new, |e| e.0).into_iter().chain(problem).collect())),
        }
    }

    pub fn new(declared: &DeclaredParameters) -> Self {
        let text = |name: &str| declared.text(name).map(str::to_owned);
        let at_least_zero = |value: f64| Some(value as f32).filter(|v| *v >= 0.0);
        let tuning = Tuning {
            sweeps: usize::try_from(declared.integer("densification_params.num_past_frames")).ok().map(|n| n + 1),
            score_threshold: at_least_zero(declared.number("score_threshold")),
            class_thresholds: declared.texts("class_thresholds").filter_map(class_threshold).collect(),
            ..input_tuning(declared)
        };
        let lifetime_s = declared.number("markers.lifetime");
        let markers = MarkerStyle {
            lifetime_s,
            alpha: declared.number("markers.alpha") as f32,
            arrow_s: declared.number("markers.arrow_seconds") as f32,
            min_speed: declared.number("markers.min_speed") as f32,
        };
        Self {
            model_path: text("model_path").unwrap_or_default().into(),
            threads: usize::try_from(declared.integer("threads")).ok().filter(|n| *n > 0),
            device: declared.choice("device").unwrap_or_default(),
            tuning,
            fixed_frame: text("densification_params.world_frame_id"),
            max_pose_gap_s: declared.number("input.max_pose_gap"),
            reliability: declared.choice("qos.input_reliability").unwrap_or_default(),
            markers,
            marker_lifetime_follows: lifetime_s == 0.0,
            diagnostics_period_s: declared.number("diagnostics.period"),
            max_processing_ms: declared.number("diagnostics.max_allowed_processing_time_ms"),
            use_sim_time: declared.flag("use_sim_time"),
            autostart: declared.flag("autostart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::TimeUnit;

    fn params(values: &[(&str, &str)]) -> Result<DetectParams, ParametersError> {
        let parse = |(name, text): &(&str, &str)| ((*name).to_owned(), ParameterValue::parse(text).unwrap());
        Ok(DetectParams::new(&DetectParams::declare(&values.iter().map(parse).collect())?))
    }

    #[test]
    fn what_is_not_set_is_left_to_the_model() {
        let read = params(&[("model_path", "m.safetensors"), ("other_node.rate", "3")]).unwrap();
        assert_eq!((read.tuning, read.threads, read.reliability), (Tuning::default(), None, Reliability::Auto));
        let style = MarkerStyle::default();
        assert_eq!(read.markers, MarkerStyle { lifetime_s: 0.0, ..style }, "the same as of the command line");
    }

    #[test]
    fn what_is_set_holds() {
        let read = params(&[
            ("model_path", "m.safetensors"),
            ("score_threshold", "0"),
            ("class_thresholds", "[pedestrian=0.4]"),
            ("densification_params.num_past_frames", "4"),
            ("densification_params.world_frame_id", "map"),
            ("input.time_unit", "ns"),
            ("qos.input_reliability", "best_effort"),
            ("markers.lifetime", "1.5"),
        ])
        .unwrap();
        assert_eq!((read.tuning.score_threshold, read.tuning.class_thresholds["pedestrian"]), (Some(0.0), 0.4));
        assert_eq!((read.tuning.sweeps, read.tuning.time_unit), (Some(5), Some(TimeUnit::Ns)));
        assert_eq!((read.fixed_frame.as_deref(), read.reliability), (Some("map"), Reliability::BestEffort));
        assert_eq!((read.markers.lifetime_s, read.marker_lifetime_follows), (1.5, false));
    }

    #[test]
    fn the_installed_file_holds_the_defaults_under_names_that_exist() {
        let node = crate::ros::names::NodeName::new("", "lidar_ptq").unwrap();
        let file = crate::ros::parameters::parse_parameter_file(include_str!("../../../config/detect.param.yaml"), &node).unwrap();
        let set = |mut parameters: Parameters| {
            parameters.insert("model_path".into(), ParameterValue::String("m.safetensors".into()));
            DetectParams::new(&DetectParams::declare(&parameters).unwrap())
        };
        for name in file.keys() {
            assert!(DECLARATIONS.iter().copied().flatten().any(|d| d.name == name), "{name}");
        }
        assert_eq!(set(file), set(Parameters::new()));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let error = params(&[
            ("score_threshold", "1.5"),
            ("threads", "two"),
            ("qos.input_reliability", "sometimes"),
            ("class_thresholds", "[car=2]"),
            ("input.intensity_scale", ".nan"),
        ])
        .unwrap_err()
        .to_string();
        for expected in [
            "score_threshold: is 1.5 (double), expected a number from -1 to 1",
            "threads: is `two` (string), expected a whole number from 0 to 1024",
            "qos.input_reliability: is `sometimes` (string), expected auto, reliable or best_effort",
            "class_thresholds: is",
            "input.intensity_scale: is NaN (double), expected a finite number",
            "model_path: not set",
        ] {
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(error.lines().count(), 6, "{error}");
    }
}
