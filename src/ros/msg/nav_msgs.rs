//! `nav_msgs`.

use super::geometry_msgs::{PoseWithCovariance, TwistWithCovariance};
use super::std_msgs::Header;
use super::{cdr_struct, ros_message};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Odometry {
        pub header: Header,
        /// The frame that moves, and that `twist` is in.
        pub child_frame_id: String,
        /// `header.frame_id` from `child_frame_id`.
        pub pose: PoseWithCovariance,
        pub twist: TwistWithCovariance,
    }
}

ros_message! {
    Odometry: "nav_msgs" "Odometry",
    "std_msgs" "Header", "builtin_interfaces" "Time",
    "geometry_msgs" "PoseWithCovariance", "geometry_msgs" "Pose", "geometry_msgs" "Point", "geometry_msgs" "Quaternion",
    "geometry_msgs" "TwistWithCovariance", "geometry_msgs" "Twist", "geometry_msgs" "Vector3"
}
