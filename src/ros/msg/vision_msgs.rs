//! `vision_msgs`, version 4 (ROS 2 Humble and later).

use super::geometry_msgs::{Pose, PoseWithCovariance, Vector3};
use super::std_msgs::Header;
use super::{cdr_struct, ros_message};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ObjectHypothesis {
        pub class_id: String,
        pub score: f64,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ObjectHypothesisWithPose {
        pub hypothesis: ObjectHypothesis,
        pub pose: PoseWithCovariance,
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct BoundingBox3D {
        /// Geometric centre and orientation.
        pub center: Pose,
        /// Extent along the box's own x, y, z (length, width, height), metres.
        pub size: Vector3,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Detection3D {
        pub header: Header,
        pub results: Vec<ObjectHypothesisWithPose>,
        pub bbox: BoundingBox3D,
        /// Identity over time, empty without tracking.
        pub id: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Detection3DArray {
        pub header: Header,
        pub detections: Vec<Detection3D>,
    }
}

ros_message! {
    Detection3DArray: "vision_msgs" "Detection3DArray",
    "std_msgs" "Header", "builtin_interfaces" "Time",
    "vision_msgs" "Detection3D", "vision_msgs" "ObjectHypothesisWithPose", "vision_msgs" "ObjectHypothesis",
    "geometry_msgs" "PoseWithCovariance", "geometry_msgs" "Pose", "geometry_msgs" "Point", "geometry_msgs" "Quaternion",
    "vision_msgs" "BoundingBox3D", "geometry_msgs" "Vector3"
}
