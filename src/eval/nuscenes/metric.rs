//! The metric as data.

use serde::{Deserialize, Serialize};

/// A detection metric of the nuScenes kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionMetric {
    /// Labels of boxes are positions in this list.
    pub classes: Vec<ClassRule>,
    /// A prediction and an object whose centres are closer than this in the ground plane match; one curve each, metres.
    pub distances_m: Vec<f64>,
    /// The one of `distances_m` at which errors of matches are taken.
    pub error_distance_m: f64,
    /// Recalls up to this one do not count.
    pub min_recall: f64,
    /// Precision up to this one does not count.
    pub min_precision: f64,
    /// Predictions of a frame that count, best scores first.
    pub max_boxes: usize,
    /// Weight of mAP in NDS, where each error has weight 1.
    pub mean_ap_weight: f64,
}

/// What is asked of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassRule {
    pub name: String,
    /// Boxes at this distance from the vehicle or farther do not count, metres.
    pub range_m: f64,
    pub orientation: Orientation,
    /// Whether the velocity error counts.
    pub velocity: bool,
}

/// What a heading means for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// Front and back are told apart.
    FullTurn,
    /// They are not (barriers).
    HalfTurn,
    /// Round things (cones).
    None,
}

impl DetectionMetric {
    /// `detection_cvpr_2019`, the configuration of the nuScenes leaderboard, with its ten classes.
    pub fn detection_cvpr_2019() -> Self {
        let rule = |name: &str, range_m| ClassRule { name: name.into(), range_m, orientation: Orientation::FullTurn, velocity: true };
        let far = ["car", "truck", "bus", "trailer", "construction_vehicle"].map(|name| rule(name, 50.0));
        let middle = ["pedestrian", "motorcycle", "bicycle"].map(|name| rule(name, 40.0));
        let near = [("traffic_cone", Orientation::None), ("barrier", Orientation::HalfTurn)];
        let near = near.map(|(name, orientation)| ClassRule { orientation, velocity: false, ..rule(name, 30.0) });
        Self {
            classes: far.into_iter().chain(middle).chain(near).collect(),
            distances_m: vec![0.5, 1.0, 2.0, 4.0],
            error_distance_m: 2.0,
            min_recall: 0.1,
            min_precision: 0.1,
            max_boxes: 500,
            mean_ap_weight: 5.0,
        }
    }

    /// [`DetectionMetric::detection_cvpr_2019`] over these classes, in this order. A class that nuScenes does not have is
    /// judged as its cars are.
    pub fn for_classes<S: AsRef<str>>(names: &[S]) -> Self {
        let official = Self::detection_cvpr_2019();
        let like = |name: &str| official.classes.iter().find(|c| c.name == name).unwrap_or(&official.classes[0]);
        let classes = names.iter().map(|name| ClassRule { name: name.as_ref().to_owned(), ..like(name.as_ref()).clone() });
        Self { classes: classes.collect(), ..official }
    }

    /// Whether the classes are the official ones, in any order: only then can results stand beside published ones.
    pub fn is_official(&self) -> bool {
        let sorted = |metric: &Self| {
            let mut metric = metric.clone();
            metric.classes.sort_by(|a, b| a.name.cmp(&b.name));
            metric
        };
        sorted(self) == sorted(&Self::detection_cvpr_2019())
    }
}

impl Orientation {
    /// Between two headings, radians from 0 to half the period; `None` where headings mean nothing.
    pub fn difference(self, a: f32, b: f32) -> Option<f64> {
        use std::f64::consts::{PI, TAU};
        let period = match self {
            Orientation::FullTurn => TAU,
            Orientation::HalfTurn => PI,
            Orientation::None => return None,
        };
        let turn = f64::from(a) - f64::from(b) + period / 2.0;
        Some((turn.rem_euclid(period) - period / 2.0).abs())
    }
}
