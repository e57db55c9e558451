//! `visualization_msgs`, as in ROS 2 Humble and later (Foxy and Galactic lack the texture and mesh file).

use super::geometry_msgs::{Point, Pose, Vector3};
use super::sensor_msgs::CompressedImage;
use super::std_msgs::{ColorRGBA, Header};
use super::{cdr_struct, ros_message};
use crate::sensor::Stamp;

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct UVCoordinate {
        pub u: f32,
        pub v: f32,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct MeshFile {
        pub filename: String,
        pub data: Vec<u8>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Marker {
        pub header: Header,
        /// Namespace; with `id` it names the marker.
        pub ns: String,
        pub id: i32,
        /// The definition's `type`: one of `Marker::CUBE`, ...
        pub kind: i32,
        /// `Marker::ADD`, ...
        pub action: i32,
        pub pose: Pose,
        pub scale: Vector3,
        pub color: ColorRGBA,
        /// A `builtin_interfaces/Duration`, which has the form of a time; zero is forever.
        pub lifetime: Stamp,
        pub frame_locked: bool,
        pub points: Vec<Point>,
        pub colors: Vec<ColorRGBA>,
        pub texture_resource: String,
        pub texture: CompressedImage,
        pub uv_coordinates: Vec<UVCoordinate>,
        pub text: String,
        pub mesh_resource: String,
        pub mesh_file: MeshFile,
        pub mesh_use_embedded_materials: bool,
    }
}

impl Marker {
    pub const ARROW: i32 = 0;
    pub const CUBE: i32 = 1;
    pub const LINE_STRIP: i32 = 4;
    pub const LINE_LIST: i32 = 5;
    pub const TEXT_VIEW_FACING: i32 = 9;

    pub const ADD: i32 = 0;
    pub const DELETE: i32 = 2;
    pub const DELETEALL: i32 = 3;
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct MarkerArray {
        pub markers: Vec<Marker>,
    }
}

ros_message! {
    MarkerArray: "visualization_msgs" "MarkerArray",
    "visualization_msgs" "Marker", "std_msgs" "Header", "builtin_interfaces" "Time",
    "geometry_msgs" "Pose", "geometry_msgs" "Point", "geometry_msgs" "Quaternion", "geometry_msgs" "Vector3",
    "std_msgs" "ColorRGBA", "builtin_interfaces" "Duration", "sensor_msgs" "CompressedImage",
    "visualization_msgs" "UVCoordinate", "visualization_msgs" "MeshFile"
}
