//! What a sensor or a robot wants otherwise than the model's file says.

use crate::detect::DetectorConfig;
use crate::sensor::{TIME, TimeReference, TimeUnit};
use std::collections::BTreeMap;

/// Changes to a model's configuration; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Sweeps to merge.
    pub sweeps: Option<usize>,
    /// Field of the cloud to take for intensity.
    pub intensity_field: Option<String>,
    /// Factor from the sensor's intensity to that of the training.
    pub intensity_scale: Option<f32>,
    /// Intensity of every point.
    pub intensity_constant: Option<f32>,
    /// Field of the points' own times; `none` if they have none.
    pub time_field: Option<String>,
    pub time_unit: Option<TimeUnit>,
    pub time_reference: Option<TimeReference>,
    pub score_threshold: Option<f32>,
    /// Thresholds by class name, besides the model's own.
    pub class_thresholds: BTreeMap<String, f32>,
}

/// How a setting is called where it was made.
pub type SettingName<'a> = &'a dyn Fn(&str) -> String;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{settings} do not fit the model: it takes {features}, and no time")]
pub struct TuningError {
    settings: String,
    features: String,
}

impl Tuning {
    /// `setting` makes the user's name of a field of this struct, for messages.
    ///
    /// # Errors
    /// Settings of points' times for a model that takes none.
    pub fn apply(&self, config: &mut DetectorConfig, setting: SettingName) -> Result<(), TuningError> {
        let points = &mut config.points;
        if let Some(field) = &self.intensity_field {
            points.intensity.field.clone_from(field);
        }
        if let Some(scale) = self.intensity_scale {
            points.intensity.scale = scale;
        }
        if self.intensity_constant.is_some() {
            points.intensity.constant = self.intensity_constant;
        }
        if let Some(field) = &self.time_field {
            points.time.field = (field != "none").then(|| field.clone());
        }
        points.time.unit = self.time_unit.unwrap_or(points.time.unit);
        points.time.reference = self.time_reference.unwrap_or(points.time.reference);
        if let Some(count) = self.sweeps {
            points.sweeps.count = count;
        }
        let times = self.time_field.is_some() || self.time_unit.is_some() || self.time_reference.is_some();
        if times && !points.features.iter().any(|f| f == TIME) {
            let settings = format!("{}, {} and {}", setting("time_field"), setting("time_unit"), setting("time_reference"));
            return Err(TuningError { settings, features: points.features.join(", ") });
        }
        config.decode.score_threshold = self.score_threshold.unwrap_or(config.decode.score_threshold);
        config.decode.class_thresholds.extend(self.class_thresholds.clone());
        Ok(())
    }
}

/// Fields to look for in clouds, besides x, y, z.
pub fn wanted_fields(config: &DetectorConfig) -> Vec<String> {
    let points = &config.points;
    let field = |name: &String| if name == "intensity" { points.intensity.field.clone() } else { name.clone() };
    points.features.iter().skip(3).map(field).collect()
}
