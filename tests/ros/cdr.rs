//! CDR of every message, in both byte orders, byte for byte.

use crate::{fixture, samples};
use lidar_ptq::ros::cdr::{CdrWriter, Endian};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::geometry_msgs::PoseStamped;
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::sensor_msgs::{CameraInfo, CompressedImage, PointCloud2, PointCloud2Ref};
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::msg::visualization_msgs::MarkerArray;
use proptest::prelude::*;
use std::fmt::Debug;

fn check<M: RosMessage + PartialEq + Debug>(name: &str, message: &M) {
    let read = |order: &str| std::fs::read(fixture(&format!("cdr/{name}.{order}.cdr"))).unwrap();
    let (little, big) = (read("le"), read("be"));
    assert_eq!(message.encode(), little, "{name}, little-endian");
    let mut writer = CdrWriter::new(Endian::Big);
    message.write(&mut writer);
    assert_eq!(writer.finish(), big, "{name}, big-endian");
    assert_eq!(&M::decode(&little).unwrap(), message);
    assert_eq!(&M::decode(&big).unwrap(), message);
    for length in 0..little.len() {
        let error = M::decode(&little[..length]).expect_err("a message that is cut short");
        assert!(error.message == M::TYPE && error.offset <= length, "{error}");
    }
}

#[test]
fn messages_are_those_of_rosbags_in_both_byte_orders_and_refuse_to_be_cut() {
    check("point_cloud2", &samples::point_cloud2(3));
    check("tf_message", &samples::tf_message(3));
    check("pose_stamped", &samples::pose_stamped());
    check("odometry", &samples::odometry());
    check("detection3d_array", &samples::detection3d_array());
    check("marker_array", &samples::marker_array());
    check("compressed_image", &samples::compressed_image());
    check("camera_info", &samples::camera_info());
}

#[test]
fn a_viewed_cloud_is_the_decoded_one_without_a_copy() {
    let bytes = samples::point_cloud2(3).encode();
    let view = PointCloud2Ref::view(&bytes).unwrap();
    assert_eq!(view, PointCloud2::decode(&bytes).unwrap().as_view());
    assert!(bytes.as_ptr_range().contains(&view.data.as_ptr()));
}

#[test]
fn an_error_names_type_field_and_place() {
    let mut bytes = samples::odometry().encode();
    bytes[12..16].copy_from_slice(&1000u32.to_le_bytes());
    let error = Odometry::decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "nav_msgs/msg/Odometry: field header.frame_id at byte 16: a sequence of 1000 elements needs at least 1000 bytes, 700 left"
    );
}

fn decode_all(bytes: &[u8]) {
    let _ = PointCloud2Ref::view(bytes);
    let _ = PointCloud2::decode(bytes);
    let _ = TFMessage::decode(bytes);
    let _ = PoseStamped::decode(bytes);
    let _ = Odometry::decode(bytes);
    let _ = Detection3DArray::decode(bytes);
    let _ = MarkerArray::decode(bytes);
    let _ = CompressedImage::decode(bytes);
    let _ = CameraInfo::decode(bytes);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), little in any::<bool>()) {
        decode_all(&bytes);
        decode_all(&[&[0, u8::from(little), 0, 0], &bytes[..]].concat());
    }

    #[test]
    fn changed_messages_never_panic(which in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = match which {
            0 => samples::marker_array().encode(),
            1 => samples::detection3d_array().encode(),
            2 => samples::camera_info().encode(),
            _ => samples::point_cloud2(1).encode(),
        };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        decode_all(&bytes);
    }
}
