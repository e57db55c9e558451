//! A line of a label file, or of a result file, which has a score behind it.
//!
//! KITTI's boxes stand in the rectified frame of the reference camera (x right, y down, z forward): the middle of the bottom,
//! `height width length`, and `rotation_y` about the downward axis, 0 where the object faces right. This crate sees the same
//! frame with REP-103 axes (x forward, y left, z up): see [`KittiObject::camera_box`].

use crate::dataset::DatasetError;
use crate::geometry::{Box3, wrap_angle};
use std::f32::consts::FRAC_PI_2;
use std::path::Path;

/// The types that a label can have, apart from [`DONT_CARE`].
pub const CLASSES: [&str; 8] = ["Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"];
/// A region of the image in which nobody looked for objects.
pub const DONT_CARE: &str = "DontCare";

/// A labelled or detected object.
///
/// Numbers that thresholds are applied to are f64, as the official evaluator has them: 0.15 as f32 is more than 0.15.
#[derive(Clone, Debug, PartialEq)]
pub struct KittiObject {
    pub class: String,
    /// Share outside of the image, 0 to 1; -1 where nobody knows.
    pub truncation: f64,
    /// 0 to 3; -1 where nobody knows.
    pub occlusion: i32,
    /// Left, top, right, bottom, pixels of the left colour image.
    pub image_box: [f64; 4],
    /// Length, width, height, metres.
    pub size: [f32; 3],
    /// Middle of the bottom in the rectified camera's own axes, metres.
    pub bottom: [f32; 3],
    /// Radians.
    pub rotation_y: f32,
    /// Of detections.
    pub score: Option<f64>,
}

impl KittiObject {
    /// A detection. `bbox` is as [`KittiObject::camera_box`] gives it.
    pub fn detection(class: String, bbox: &Box3, image_box: [f64; 4], score: f32) -> Self {
        let Box3 { center: [forward, left, up], size, yaw, .. } = *bbox;
        Self {
            class,
            truncation: -1.0,
            occlusion: -1,
            image_box,
            size,
            bottom: [-left, size[2] / 2.0 - up, forward],
            rotation_y: wrap_angle(-yaw - FRAC_PI_2),
            score: Some(f64::from(score)),
        }
    }

    /// Whether it has a place in space. `DontCare` regions have sizes of -1 and positions of -1000.
    pub fn has_box(&self) -> bool {
        self.class != DONT_CARE && self.size.iter().all(|s| *s > 0.0)
    }

    /// The box in the rectified camera frame with REP-103 axes. The camera's optical axis is x.
    pub fn camera_box(&self) -> Box3 {
        let [right, down, forward] = self.bottom;
        let yaw = wrap_angle(-self.rotation_y - FRAC_PI_2);
        Box3 { center: [forward, -right, self.size[2] / 2.0 - down], size: self.size, yaw, velocity: [f32::NAN; 2] }
    }
}

/// Reads a label or result file; `path` is for messages.
///
/// # Errors
/// A line that has not 15 columns (16 with a score), or a column that is no finite number.
pub fn parse_objects(path: &Path, text: &str) -> Result<Vec<KittiObject>, DatasetError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            parse_line(line).map_err(|Wrong { what, expected, found }| {
                let path = path.to_owned();
                DatasetError::Line { path, line: index + 1, what, expected, found }
            })
        })
        .collect()
}

struct Wrong {
    what: &'static str,
    expected: &'static str,
    found: String,
}

/// Names of the columns behind the class.
const COLUMNS: [&str; 15] = [
    "truncation",
    "occlusion",
    "alpha",
    "left",
    "top",
    "right",
    "bottom",
    "height",
    "width",
    "length",
    "x",
    "y",
    "z",
    "rotation_y",
    "score",
];

fn parse_line(line: &str) -> Result<KittiObject, Wrong> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !(15..=16).contains(&words.len()) {
        return Err(Wrong { what: "columns", expected: "15, or 16 with a score", found: words.len().to_string() });
    }
    let mut values = [0.0f64; 15];
    for ((value, word), what) in values.iter_mut().zip(&words[1..]).zip(COLUMNS) {
        let wrong = || Wrong { what, expected: "a finite number", found: format!("`{word}`") };
        *value = word.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(wrong)?;
    }
    let [truncation, occlusion, _, left, top, right, bottom, h, w, l, x, y, z, rotation_y, score] = values;
    Ok(KittiObject {
        class: words[0].to_owned(),
        truncation,
        occlusion: occlusion as i32,
        image_box: [left, top, right, bottom],
        size: [l, w, h].map(|v| v as f32),
        bottom: [x, y, z].map(|v| v as f32),
        rotation_y: rotation_y as f32,
        score: (words.len() == 16).then_some(score),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "Car 0.00 1 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57";

    fn parse(text: &str) -> Result<Vec<KittiObject>, DatasetError> {
        parse_objects(Path::new("label_2/000001.txt"), text)
    }

    #[test]
    fn a_label_in_the_axes_of_this_crate() {
        let object = parse(LINE).unwrap().remove(0);
        assert_eq!((object.class.as_str(), object.occlusion, object.score), ("Car", 1, None));
        assert_eq!(object.image_box, [387.63, 181.54, 423.81, 203.12]);
        let b = object.camera_box();
        assert_eq!(b.center, [58.49, 16.53, 1.67 / 2.0 - 2.39]);
        assert_eq!(b.size, [3.69, 1.87, 1.67]);
        // It faces away from the camera's right hand by a quarter turn about the downward axis: towards the camera.
        assert!((wrap_angle(b.yaw).abs() - std::f32::consts::PI).abs() < 1e-3, "{}", b.yaw);
        let again = KittiObject::detection("Car".into(), &b, object.image_box, 0.5);
        for i in 0..3 {
            assert!((again.bottom[i] - object.bottom[i]).abs() < 1e-5);
        }
        assert!((again.rotation_y - object.rotation_y).abs() < 1e-5 && again.score == Some(0.5));
    }

    #[test]
    fn regions_have_no_box() {
        let text = format!("{LINE} 0.9\n\nDontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n");
        let objects = parse(&text).unwrap();
        assert_eq!(objects.iter().map(KittiObject::has_box).collect::<Vec<_>>(), [true, false]);
        assert_eq!(objects[0].score, Some(0.9));
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let short = parse(&format!("{LINE}\nCar 0 0 1")).unwrap_err().to_string();
        assert_eq!(short, "label_2/000001.txt: line 2: columns: expected 15, or 16 with a score, found 4");
        let word = parse(&LINE.replace("1.87", "wide")).unwrap_err().to_string();
        assert_eq!(word, "label_2/000001.txt: line 1: width: expected a finite number, found `wide`");
        assert!(parse(&LINE.replace("1.87", "inf")).is_err());
    }
}
