//! Detections as the messages that rviz and Foxglove show.

use crate::detect::Detection;
use crate::geometry::{self, Box3};
use crate::ros::msg::geometry_msgs::{Point, Pose, PoseWithCovariance, Quaternion, Vector3};
use crate::ros::msg::sensor_msgs::CameraInfo;
use crate::ros::msg::std_msgs::{ColorRGBA, Header};
use crate::ros::msg::vision_msgs::{BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose};
use crate::ros::msg::visualization_msgs::{Marker, MarkerArray};
use crate::sensor::Stamp;

/// `vision_msgs/Detection3DArray`: score and class name in the first hypothesis, `size.x` along the heading.
///
/// The message has no velocity; [`marker_array`] shows it.
pub fn detection_array(stamp: Stamp, frame_id: &str, boxes: &[Detection], classes: &[String]) -> Detection3DArray {
    let header = Header { stamp, frame_id: frame_id.to_owned() };
    let detections = boxes.iter().map(|d| detection(&header, &d.bbox, class_name(classes, d.label), f64::from(d.score), String::new()));
    Detection3DArray { detections: detections.collect(), header: header.clone() }
}

/// Labelled objects as `Detection3DArray`: box, class name, track. Scores are 1; `id` is the track.
pub fn truth_array<'a>(stamp: Stamp, frame_id: &str, objects: impl Iterator<Item = (Box3, &'a str, u32)>) -> Detection3DArray {
    let header = Header { stamp, frame_id: frame_id.to_owned() };
    let detections = objects.map(|(bbox, class, track)| detection(&header, &bbox, class.to_owned(), 1.0, track.to_string()));
    Detection3DArray { detections: detections.collect(), header: header.clone() }
}

fn detection(header: &Header, bbox: &Box3, class_id: String, score: f64, id: String) -> Detection3D {
    let pose = pose(bbox);
    let hypothesis = ObjectHypothesis { class_id, score };
    let results = vec![ObjectHypothesisWithPose { hypothesis, pose: PoseWithCovariance { pose, covariance: [0.0; 36] } }];
    Detection3D { header: header.clone(), results, bbox: BoundingBox3D { center: pose, size: vector(bbox.size) }, id }
}

/// `sensor_msgs/CameraInfo` of a pinhole camera without distortion: raw and rectified images are the same.
///
/// * `size`: columns and rows; `focal`, `center`: pixels, the centre of the first pixel is at 0.
pub fn camera_info(header: Header, size: [usize; 2], focal: [f64; 2], center: [f64; 2]) -> CameraInfo {
    let ([fx, fy], [cx, cy]) = (focal, center);
    CameraInfo {
        header,
        width: size[0] as u32,
        height: size[1] as u32,
        distortion_model: "plumb_bob".into(),
        d: vec![0.0; 5],
        k: [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p: [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
        ..CameraInfo::default()
    }
}

/// How markers look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarkerStyle {
    /// How long markers stay without a successor: a little over one period, so that a stopped detector leaves no ghosts.
    pub lifetime_s: f64,
    /// Opacity of the boxes.
    pub alpha: f32,
    /// Length of the velocity arrow: the way of this many seconds.
    pub arrow_s: f32,
    /// Boxes slower than this have no arrow, m/s.
    pub min_speed: f32,
}

impl Default for MarkerStyle {
    fn default() -> Self {
        Self { lifetime_s: 0.25, alpha: 0.4, arrow_s: 1.0, min_speed: 0.5 }
    }
}

/// `visualization_msgs/MarkerArray`: first a marker that deletes all earlier ones, then for each box a cube, its label and,
/// if it moves, an arrow. One namespace a class, so that rviz can switch classes off.
pub fn marker_array(stamp: Stamp, frame_id: &str, boxes: &[Detection], classes: &[String], style: &MarkerStyle) -> MarkerArray {
    let header = Header { stamp, frame_id: frame_id.to_owned() };
    let marker = |kind: i32, ns: String, id: usize, color: ColorRGBA| Marker {
        header: header.clone(),
        ns,
        id: id as i32,
        kind,
        action: Marker::ADD,
        color,
        lifetime: Stamp::from_secs_f64(style.lifetime_s),
        pose: Pose { orientation: Quaternion { w: 1.0, ..Quaternion::default() }, ..Pose::default() },
        ..Marker::default()
    };
    let mut markers = vec![Marker { action: Marker::DELETEALL, ..marker(Marker::CUBE, String::new(), 0, ColorRGBA::default()) }];
    for (id, d) in boxes.iter().enumerate() {
        let name = class_name(classes, d.label);
        let [r, g, b] = crate::eval::class_color(&name, d.label).map(|c| f32::from(c) / 255.0);
        let color = |a: f32| ColorRGBA { r, g, b, a };
        markers.push(Marker {
            pose: pose(&d.bbox),
            scale: vector(d.bbox.size),
            ..marker(Marker::CUBE, name.clone(), id, color(style.alpha))
        });

        let mut above = pose(&d.bbox);
        above.position.z += f64::from(d.bbox.size[2]) / 2.0 + 0.5;
        let text = Marker {
            pose: above,
            scale: Vector3 { z: 0.6, ..Vector3::default() },
            text: format!("{name} {:.2}", d.score),
            ..marker(Marker::TEXT_VIEW_FACING, format!("{name}/label"), id, ColorRGBA { r: 1.0, g: 1.0, b: 1.0, a: 0.9 })
        };
        markers.push(text);

        let [vx, vy] = d.bbox.velocity;
        if vx.hypot(vy) > style.min_speed {
            let from = point(d.bbox.center);
            let to = Point { x: from.x + f64::from(vx * style.arrow_s), y: from.y + f64::from(vy * style.arrow_s), z: from.z };
            markers.push(Marker {
                points: vec![from, to],
                // Shaft and head diameter, head length.
                scale: Vector3 { x: 0.15, y: 0.35, z: 0.5 },
                ..marker(Marker::ARROW, format!("{name}/velocity"), id, color(0.9))
            });
        }
    }
    MarkerArray { markers }
}

fn class_name(classes: &[String], label: usize) -> String {
    classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"))
}

fn pose(b: &Box3) -> Pose {
    Pose::from(&geometry::Pose::from_yaw(b.center.map(f64::from), f64::from(b.yaw)))
}

fn point([x, y, z]: [f32; 3]) -> Point {
    Point { x: x.into(), y: y.into(), z: z.into() }
}

fn vector([x, y, z]: [f32; 3]) -> Vector3 {
    Vector3 { x: x.into(), y: y.into(), z: z.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::msg::RosMessage;

    fn boxes() -> Vec<Detection> {
        let bbox = |velocity| Box3 { center: [10.0, -4.0, 0.5], size: [4.6, 1.9, 1.7], yaw: std::f32::consts::FRAC_PI_2, velocity };
        vec![Detection { bbox: bbox([3.0, 0.0]), score: 0.75, label: 0 }, Detection { bbox: bbox([0.0, 0.1]), score: 0.5, label: 1 }]
    }

    #[test]
    fn a_box_stands_in_the_message_as_it_was_found() {
        let classes = ["car".to_owned(), "bus".to_owned()];
        let array = detection_array(Stamp(5_000_000_007), "lidar", &boxes(), &classes);
        let array = Detection3DArray::decode(&array.encode()).unwrap();
        assert_eq!((array.header.stamp, array.header.frame_id.as_str(), array.detections.len()), (Stamp(5_000_000_007), "lidar", 2));
        let d = &array.detections[0];
        assert_eq!((d.results[0].hypothesis.class_id.as_str(), d.results[0].hypothesis.score), ("car", 0.75));
        assert_eq!(d.bbox.size, vector([4.6, 1.9, 1.7]));
        // A quarter turn about z.
        let q = d.bbox.center.orientation;
        assert!((q.z - 0.5f64.sqrt()).abs() < 1e-7 && (q.w - 0.5f64.sqrt()).abs() < 1e-7 && q.x == 0.0 && q.y == 0.0);
    }

    #[test]
    fn markers_clear_the_frame_before_and_only_moving_boxes_have_arrows() {
        let classes = ["car".to_owned(), "bus".to_owned()];
        let array = marker_array(Stamp(0), "lidar", &boxes(), &classes, &MarkerStyle::default());
        assert_eq!(array.markers[0].action, Marker::DELETEALL);
        let kinds: Vec<i32> = array.markers[1..].iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Marker::CUBE, Marker::TEXT_VIEW_FACING, Marker::ARROW, Marker::CUBE, Marker::TEXT_VIEW_FACING]);
        // rviz names a marker by namespace and id; no two may share both.
        let names: std::collections::HashSet<_> = array.markers[1..].iter().map(|m| (m.ns.clone(), m.id)).collect();
        assert_eq!(names.len(), array.markers.len() - 1);
        assert!(array.markers.iter().all(|m| m.lifetime == Stamp(250_000_000)));
        let arrow = &array.markers[3];
        assert!((arrow.points[1].x - arrow.points[0].x - 3.0).abs() < 1e-6);
    }
}
