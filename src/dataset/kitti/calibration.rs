//! From the lidar to the left colour image.

use crate::dataset::DatasetError;
use crate::geometry::{Box3, wrap_angle};
use nalgebra::{Matrix3, Matrix3x4, Matrix4, Vector3, Vector4};
use std::path::Path;

/// A frame's calibration: of the lines of its file, `P2`, `R0_rect` and `Tr_velo_to_cam`.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// From the rectified camera frame to pixels of the left colour image.
    projection: Matrix3x4<f64>,
    /// From the lidar to the rectified camera with REP-103 axes.
    camera_from_lidar: Matrix4<f64>,
    lidar_from_camera: Matrix4<f64>,
}

/// From KITTI's camera axes (x right, y down, z forward) to REP-103's.
const AXES: Matrix3<f64> = Matrix3::new(0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0);
/// A box that reaches behind the camera is projected as if it ended this far in front of it, metres.
const NEAREST: f64 = 0.1;

impl Calibration {
    /// Reads a calibration file; `path` is for messages.
    ///
    /// # Errors
    /// A matrix that is missing, of another size, not finite or not invertible.
    pub fn parse(path: &Path, text: &str) -> Result<Self, DatasetError> {
        let projection = Matrix3x4::from_row_slice(&numbers::<12>(path, text, "P2")?);
        let rectification = Matrix3::from_row_slice(&numbers::<9>(path, text, "R0_rect")?);
        let camera_from_lidar = Matrix3x4::from_row_slice(&numbers::<12>(path, text, "Tr_velo_to_cam")?);
        let mut matrix = Matrix4::identity();
        matrix.fixed_view_mut::<3, 4>(0, 0).copy_from(&(AXES * rectification * camera_from_lidar));
        let what = || format!("together with `R0_rect` it cannot be inverted: {matrix}");
        let singular = || DatasetError::Calibration { path: path.to_owned(), key: "Tr_velo_to_cam", what: what() };
        let inverse = matrix.try_inverse().ok_or_else(singular)?;
        Ok(Self { projection, camera_from_lidar: matrix, lidar_from_camera: inverse })
    }

    /// A box of the rectified camera (see [`KittiObject::camera_box`](super::KittiObject::camera_box)) in the lidar frame.
    ///
    /// The two frames are inclined to each other by about a degree; the box stays upright, as is customary.
    pub fn lidar_box(&self, bbox: &Box3) -> Box3 {
        moved(&self.lidar_from_camera, bbox)
    }

    /// The inverse of [`Calibration::lidar_box`].
    pub fn camera_box(&self, bbox: &Box3) -> Box3 {
        moved(&self.camera_from_lidar, bbox)
    }

    /// Column and row at which the left colour camera sees a point of the lidar; `None` behind the camera.
    pub fn pixel(&self, point: [f32; 3]) -> Option<[f64; 2]> {
        let seen = self.project(self.camera_from_lidar * Vector3::from(point).cast().push(1.0));
        (seen.z > 0.0).then(|| [seen.x / seen.z, seen.y / seen.z])
    }

    /// The rectangle around a box of the rectified camera in an image of `size` (width, height), clipped to it. `None` where
    /// nothing of the box is in the image.
    pub fn image_box(&self, bbox: &Box3, [width, height]: [u32; 2]) -> Option<[f64; 4]> {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        let mut in_front = false;
        for [x, y] in bbox.bev_corners().map(|c| c.map(f64::from)) {
            for side in [-0.5, 0.5] {
                let z = f64::from(bbox.center[2]) + side * f64::from(bbox.size[2]);
                in_front |= x > NEAREST;
                let seen = self.project(Vector4::new(x.max(NEAREST), y, z, 1.0));
                for (axis, value) in [seen.x / seen.z, seen.y / seen.z].into_iter().enumerate() {
                    low[axis] = low[axis].min(value);
                    high[axis] = high[axis].max(value);
                }
            }
        }
        let last = [width, height].map(|pixels| f64::from(pixels.max(1)) - 1.0);
        let clip = |v: [f64; 2]| [v[0].clamp(0.0, last[0]), v[1].clamp(0.0, last[1])];
        let ([left, top], [right, bottom]) = (clip(low), clip(high));
        (in_front && left < right && top < bottom).then_some([left, top, right, bottom])
    }

    /// From the rectified camera with REP-103 axes to pixels times depth, and depth.
    fn project(&self, camera: Vector4<f64>) -> Vector3<f64> {
        let own_axes: Vector3<f64> = AXES.transpose() * camera.xyz();
        self.projection * own_axes.push(1.0)
    }
}

fn moved(matrix: &Matrix4<f64>, bbox: &Box3) -> Box3 {
    let center = matrix * Vector3::from(bbox.center).cast::<f64>().push(1.0);
    let yaw = f64::from(bbox.yaw);
    let heading = matrix * Vector4::new(yaw.cos(), yaw.sin(), 0.0, 0.0);
    let yaw = wrap_angle(heading.y.atan2(heading.x) as f32);
    Box3 { center: [center.x, center.y, center.z].map(|v| v as f32), yaw, ..*bbox }
}

/// The numbers behind `key:`.
fn numbers<const N: usize>(path: &Path, text: &str, key: &'static str) -> Result<[f64; N], DatasetError> {
    let wrong = |what: String| DatasetError::Calibration { path: path.to_owned(), key, what };
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(':'));
    let words: Vec<&str> = line.ok_or_else(|| wrong(format!("expected a line with {N} numbers, found none")))?.split_whitespace().collect();
    if words.len() != N {
        return Err(wrong(format!("expected {N} numbers, found {}", words.len())));
    }
    let mut values = [0.0; N];
    for (value, word) in values.iter_mut().zip(words) {
        let not_finite = || wrong(format!("expected finite numbers, found `{word}`"));
        *value = word.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(not_finite)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A camera 0.3 m ahead of and 0.1 m below the lidar, turned by a degree, with a focal length of 700 pixels.
    pub(super) fn text() -> String {
        let (sin, cos) = 1f64.to_radians().sin_cos();
        format!(
            "P2: 700 0 600 0 0 700 180 0 0 0 1 0\nR0_rect: {cos} 0 {sin} 0 1 0 {} 0 {cos}\n\
             Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.1 1 0 0 -0.3\nTr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0\n",
            -sin
        )
    }

    #[test]
    fn boxes_go_to_the_camera_and_back() {
        let calibration = Calibration::parse(Path::new("calib"), &text()).unwrap();
        let bbox = Box3 { center: [20.0, -3.0, -0.8], size: [4.0, 1.8, 1.5], yaw: 0.4, velocity: [0.0; 2] };
        let camera = calibration.camera_box(&bbox);
        // A turn by a degree moves the centre sideways by 20 m * sin(1 degree), and turns the box with it.
        assert!((camera.yaw - bbox.yaw).abs() - 1f32.to_radians() < 1e-5);
        assert!((camera.center[2] - (-0.8 + 0.1)).abs() < 1e-5, "{camera:?}");
        let back = calibration.lidar_box(&camera);
        for i in 0..3 {
            assert!((back.center[i] - bbox.center[i]).abs() < 1e-5);
        }
        assert!((back.yaw - bbox.yaw).abs() < 1e-6);
    }

    #[test]
    fn what_is_straight_ahead_is_at_the_principal_point() {
        let plain = text().replace(&1f64.to_radians().sin().to_string(), "0").replace(&1f64.to_radians().cos().to_string(), "1");
        let calibration = Calibration::parse(Path::new("calib"), &plain).unwrap();
        let [u, v] = calibration.pixel([10.3, 0.0, 0.1 - 0.2]).unwrap();
        assert!((u - 600.0).abs() < 1e-4 && (v - 180.0).abs() < 1e-4, "{u} {v}");
        assert_eq!(calibration.pixel([-5.0, 0.0, 0.0]), None);
        // A metre to the left and half a metre up at 10 m: 70 pixels left, 35 up.
        let [u, v] = calibration.pixel([10.3, 1.0, 0.4]).unwrap();
        assert!((u - 530.0).abs() < 1e-4 && (v - 145.0).abs() < 1e-4, "{u} {v}");
        let cube = Box3 { center: [11.0, 0.0, 0.0], size: [2.0; 3], yaw: 0.0, velocity: [0.0; 2] };
        let [left, top, right, bottom] = calibration.image_box(&cube, [1242, 375]).unwrap();
        for (got, want) in [(left, 530.0), (top, 110.0), (right, 670.0), (bottom, 250.0)] {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
        assert_eq!(calibration.image_box(&Box3 { center: [-11.0, 0.0, 0.0], ..cube }, [1242, 375]), None);
    }

    #[test]
    fn errors_name_file_and_matrix() {
        let parse = |text: &str| Calibration::parse(Path::new("calib/000000.txt"), text).unwrap_err().to_string();
        assert_eq!(parse("P2: 1 2 3\n"), "calib/000000.txt: `P2`: expected 12 numbers, found 3");
        assert!(parse(&text().replace("R0_rect", "R_rect")).contains("`R0_rect`: expected a line"));
        assert!(parse(&text().replace("Tr_velo_to_cam: 0 -1 0 0", "Tr_velo_to_cam: 0 0 0 0")).contains("cannot be inverted"));
        assert!(parse(&text().replace("700 180", "700 nan")).contains("`nan`"));
    }
}
