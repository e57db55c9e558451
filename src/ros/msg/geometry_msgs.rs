//! `geometry_msgs`: metres, metres per second, radians per second.

use super::std_msgs::Header;
use super::{cdr_struct, ros_message};
use crate::geometry;

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Point {
        pub x: f64,
        pub y: f64,
        pub z: f64,
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Vector3 {
        pub x: f64,
        pub y: f64,
        pub z: f64,
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Quaternion {
        pub x: f64,
        pub y: f64,
        pub z: f64,
        pub w: f64,
    }
}

impl Default for Quaternion {
    /// No rotation, as in the interface definition.
    fn default() -> Self {
        Self { x: 0.0, y: 0.0, z: 0.0, w: 1.0 }
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Pose {
        pub position: Point,
        pub orientation: Quaternion,
    }
}

impl Pose {
    /// `None` if a number is not finite or the quaternion has no direction.
    pub fn to_pose(&self) -> Option<geometry::Pose> {
        to_pose([self.position.x, self.position.y, self.position.z], &self.orientation)
    }
}

impl From<&geometry::Pose> for Pose {
    fn from(pose: &geometry::Pose) -> Self {
        let [x, y, z] = pose.translation();
        Self { position: Point { x, y, z }, orientation: pose.quaternion_xyzw().into() }
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct PoseStamped {
        pub header: Header,
        pub pose: Pose,
    }
}

ros_message! {
    PoseStamped: "geometry_msgs" "PoseStamped",
    "std_msgs" "Header", "builtin_interfaces" "Time",
    "geometry_msgs" "Pose", "geometry_msgs" "Point", "geometry_msgs" "Quaternion"
}

cdr_struct! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct PoseWithCovariance {
        pub pose: Pose,
        /// Row-major 6x6 over x, y, z and the rotations about them.
        pub covariance: [f64; 36],
    }
}

impl Default for PoseWithCovariance {
    fn default() -> Self {
        Self { pose: Pose::default(), covariance: [0.0; 36] }
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Twist {
        pub linear: Vector3,
        pub angular: Vector3,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct TwistWithCovariance {
        pub twist: Twist,
        /// Row-major 6x6 over x, y, z and the rotations about them.
        pub covariance: [f64; 36],
    }
}

impl Default for TwistWithCovariance {
    fn default() -> Self {
        Self { twist: Twist::default(), covariance: [0.0; 36] }
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Transform {
        pub translation: Vector3,
        pub rotation: Quaternion,
    }
}

impl Transform {
    /// The pose `header.frame_id` from `child_frame_id` of the transform's message.
    /// `None` if a number is not finite or the quaternion has no direction.
    pub fn to_pose(&self) -> Option<geometry::Pose> {
        to_pose([self.translation.x, self.translation.y, self.translation.z], &self.rotation)
    }
}

impl From<&geometry::Pose> for Transform {
    fn from(pose: &geometry::Pose) -> Self {
        let [x, y, z] = pose.translation();
        Self { translation: Vector3 { x, y, z }, rotation: pose.quaternion_xyzw().into() }
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TransformStamped {
        pub header: Header,
        pub child_frame_id: String,
        pub transform: Transform,
    }
}

impl From<[f64; 4]> for Quaternion {
    fn from([x, y, z, w]: [f64; 4]) -> Self {
        Self { x, y, z, w }
    }
}

fn to_pose(translation: [f64; 3], q: &Quaternion) -> Option<geometry::Pose> {
    geometry::Pose::from_parts(translation, [q.x, q.y, q.z, q.w])
}
