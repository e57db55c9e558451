//! `tf2_msgs`.

use super::geometry_msgs::TransformStamped;
use super::{cdr_struct, ros_message};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TFMessage {
        pub transforms: Vec<TransformStamped>,
    }
}

ros_message! {
    TFMessage: "tf2_msgs" "TFMessage",
    "geometry_msgs" "TransformStamped", "std_msgs" "Header", "builtin_interfaces" "Time",
    "geometry_msgs" "Transform", "geometry_msgs" "Vector3", "geometry_msgs" "Quaternion"
}
