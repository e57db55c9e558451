//! The detector node's parameters: names, meanings, bounds. `config/detect.param.yaml` explains them to users.

use crate::node::Tuning;
use crate::node::messages::MarkerStyle;
use crate::ros::interface::Reliability;
use crate::ros::parameters::{ParameterValue, Parameters};
use crate::sensor::MAX_GAP_S;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct DetectParams {
    pub model_path: PathBuf,
    /// Worker threads; `None`: one a core.
    pub threads: Option<usize>,
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
    /// What was set and means nothing to this node: meant for others, or misspelt.
    pub unknown: Vec<String>,
}

/// Everything that is wrong, a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ParamsError(Vec<String>);

/// The parameters' names of [`Tuning`]'s fields.
pub(super) fn setting_name(field: &str) -> String {
    match field {
        "sweeps" => "densification_params.num_past_frames".into(),
        "score_threshold" | "class_thresholds" => field.into(),
        _ => format!("input.{field}"),
    }
}

impl DetectParams {
    /// # Errors
    /// Values of another type or out of bounds, and a model that is not named.
    pub fn from_parameters(parameters: &Parameters) -> Result<Self, ParamsError> {
        let mut read = Reading { parameters, known: BTreeSet::new(), problems: Vec::new() };
        let at_least_zero = 0.0..=f64::INFINITY;
        let past_frames = read.integer("densification_params.num_past_frames", -1, -1..=100);
        let tuning = Tuning {
            sweeps: usize::try_from(past_frames).ok().map(|n| n + 1),
            intensity_field: read.text("input.intensity_field"),
            intensity_scale: read.number_if_set("input.intensity_scale", f64::MIN..=f64::MAX).map(|v| v as f32),
            intensity_constant: read.number_if_set("input.intensity_constant", f64::MIN..=f64::MAX).map(|v| v as f32),
            time_field: read.text("input.time_field"),
            time_unit: read.choice("input.time_unit", "s, ms, us or ns"),
            time_reference: read.choice("input.time_reference", "before_stamp, after_stamp, scan_start or clock"),
            score_threshold: Some(read.number("score_threshold", -1.0, -1.0..=1.0) as f32).filter(|s| *s >= 0.0),
            class_thresholds: read.class_thresholds("class_thresholds"),
        };
        let style = MarkerStyle::default();
        let lifetime_s = read.number("markers.lifetime", 0.0, at_least_zero.clone());
        let markers = MarkerStyle {
            lifetime_s,
            alpha: read.number("markers.alpha", style.alpha.into(), 0.0..=1.0) as f32,
            arrow_s: read.number("markers.arrow_seconds", style.arrow_s.into(), 0.0..=10.0) as f32,
            min_speed: read.number("markers.min_speed", style.min_speed.into(), at_least_zero.clone()) as f32,
        };
        let threads = read.integer("threads", 0, 0..=1024);
        let params = Self {
            model_path: read.text("model_path").unwrap_or_default().into(),
            threads: (threads > 0).then_some(threads as usize),
            tuning,
            fixed_frame: read.text("densification_params.world_frame_id"),
            max_pose_gap_s: read.number("input.max_pose_gap", MAX_GAP_S, 1e-3..=60.0),
            reliability: read.choice("qos.input_reliability", "auto, reliable or best_effort").unwrap_or_default(),
            markers,
            marker_lifetime_follows: lifetime_s == 0.0,
            diagnostics_period_s: read.number("diagnostics.period", 1.0, 0.05..=60.0),
            max_processing_ms: read.number("diagnostics.max_allowed_processing_time_ms", 200.0, at_least_zero),
            use_sim_time: read.flag("use_sim_time", false),
            unknown: Vec::new(),
        };
        if params.model_path.as_os_str().is_empty() && read.problems.iter().all(|p| !p.starts_with("model_path")) {
            read.problems
                .push("model_path: not set; expected the path of a model file (`lidar_ptq import` and `calibrate` write them)".into());
        }
        if !read.problems.is_empty() {
            return Err(ParamsError(read.problems));
        }
        let unknown = parameters.keys().filter(|name| !read.known.contains(name.as_str())).cloned().collect();
        Ok(Self { unknown, ..params })
    }
}

/// Takes parameters one by one and gathers what is wrong with them.
struct Reading<'p> {
    parameters: &'p Parameters,
    known: BTreeSet<&'static str>,
    problems: Vec<String>,
}

impl<'p> Reading<'p> {
    fn get(&mut self, name: &'static str) -> Option<&'p ParameterValue> {
        self.known.insert(name);
        self.parameters.get(name)
    }

    fn wrong(&mut self, name: &str, found: &ParameterValue, expected: &str) {
        self.problems.push(format!("{name}: is {found} ({}), expected {expected}", found.type_name()));
    }

    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.get(name) {
            None => default,
            Some(ParameterValue::Bool(value)) => *value,
            Some(other) => {
                self.wrong(name, other, "true or false");
                default
            }
        }
    }

    fn integer(&mut self, name: &'static str, default: i64, bounds: RangeInclusive<i64>) -> i64 {
        match self.get(name) {
            None => default,
            Some(ParameterValue::Integer(value)) if bounds.contains(value) => *value,
            Some(other) => {
                self.wrong(name, other, &format!("a whole number from {} to {}", bounds.start(), bounds.end()));
                default
            }
        }
    }

    fn number(&mut self, name: &'static str, default: f64, bounds: RangeInclusive<f64>) -> f64 {
        self.number_if_set(name, bounds).unwrap_or(default)
    }

    /// Whole numbers are numbers too: who writes `1` means it.
    fn number_if_set(&mut self, name: &'static str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let found = self.get(name)?;
        let value = match found {
            ParameterValue::Double(value) => Some(*value),
            ParameterValue::Integer(value) => Some(*value as f64),
            _ => None,
        };
        let valid = value.filter(|v| bounds.contains(v));
        if valid.is_none() {
            let expected = match (*bounds.start(), *bounds.end()) {
                (f64::MIN, f64::MAX) => "a finite number".to_owned(),
                (low, f64::INFINITY) => format!("a number of at least {low}"),
                (low, high) => format!("a number from {low} to {high}"),
            };
            self.wrong(name, found, &expected);
        }
        valid
    }

    /// An empty text is as good as none: launch files cannot leave an argument out.
    fn text(&mut self, name: &'static str) -> Option<String> {
        match self.get(name)? {
            ParameterValue::String(text) if text.is_empty() => None,
            ParameterValue::String(text) => Some(text.clone()),
            other => {
                self.wrong(name, other, "a text");
                None
            }
        }
    }

    fn choice<T: DeserializeOwned>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let chosen = serde_json::from_value(serde_json::Value::String(text.clone())).ok();
        if chosen.is_none() {
            self.wrong(name, &ParameterValue::String(text), expected);
        }
        chosen
    }

    fn class_thresholds(&mut self, name: &'static str) -> BTreeMap<String, f32> {
        let expected = "texts like `pedestrian=0.4`, with scores from 0 to 1";
        let entries = match self.get(name) {
            None => return BTreeMap::new(),
            Some(ParameterValue::StringArray(entries)) => entries,
            Some(other) => {
                self.wrong(name, other, expected);
                return BTreeMap::new();
            }
        };
        let parse = |entry: &String| {
            let (class, score) = entry.split_once('=')?;
            let score: f32 = score.trim().parse().ok()?;
            (0.0..=1.0).contains(&score).then(|| (class.trim().to_owned(), score))
        };
        let parsed: Option<BTreeMap<String, f32>> = entries.iter().filter(|e| !e.is_empty()).map(parse).collect();
        if parsed.is_none() {
            self.wrong(name, &ParameterValue::StringArray(entries.clone()), expected);
        }
        parsed.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::TimeUnit;

    fn params(values: &[(&str, &str)]) -> Result<DetectParams, ParamsError> {
        let parse = |(name, text): &(&str, &str)| ((*name).to_owned(), ParameterValue::parse(text).unwrap());
        DetectParams::from_parameters(&values.iter().map(parse).collect())
    }

    #[test]
    fn what_is_not_set_is_left_to_the_model() {
        let read = params(&[("model_path", "m.safetensors"), ("other_node.rate", "3")]).unwrap();
        assert_eq!((read.tuning, read.threads, read.reliability), (Tuning::default(), None, Reliability::Auto));
        assert_eq!(read.unknown, ["other_node.rate"]);
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
            DetectParams::from_parameters(&parameters).unwrap()
        };
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
