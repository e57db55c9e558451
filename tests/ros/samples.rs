//! The messages of `make_fixtures.py`, built with our structs.

use lidar_ptq::ros::msg::geometry_msgs::{
    Point, Pose, PoseStamped, PoseWithCovariance, Quaternion, Transform, TransformStamped, Twist, TwistWithCovariance, Vector3,
};
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::sensor_msgs::{CameraInfo, CompressedImage, PointCloud2, PointField, RegionOfInterest};
use lidar_ptq::ros::msg::std_msgs::{ColorRGBA, Header};
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::msg::vision_msgs::{BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose};
use lidar_ptq::ros::msg::visualization_msgs::{Marker, MarkerArray, MeshFile, UVCoordinate};
use lidar_ptq::sensor::Stamp;

const SECOND: i64 = 1_000_000_000;

fn header(stamp_ns: i64, frame: &str) -> Header {
    Header { stamp: Stamp(stamp_ns), frame_id: frame.to_owned() }
}

fn turned(x: f64, y: f64, z: f64) -> Pose {
    Pose { position: Point { x, y, z }, orientation: Quaternion { x: 0.0, y: 0.0, z: 0.6, w: 0.8 } }
}

fn covariance() -> [f64; 36] {
    std::array::from_fn(|i| i as f64)
}

pub fn point_cloud2(k: i64) -> PointCloud2 {
    let field = |(i, name): (u32, &str)| PointField { name: name.to_owned(), offset: 4 * i, datatype: PointField::FLOAT32, count: 1 };
    PointCloud2 {
        header: header((100 + k) * SECOND + 500, "lidar"),
        height: 1,
        width: 2,
        fields: (0..).zip(["x", "y", "z", "intensity"]).map(field).collect(),
        is_bigendian: false,
        point_step: 16,
        row_step: 32,
        data: (0..8).flat_map(|i| (k as f32 + 0.25 * i as f32).to_le_bytes()).collect(),
        is_dense: true,
    }
}

pub fn tf_message(k: i64) -> TFMessage {
    let transform =
        Transform { translation: Vector3 { x: k as f64, y: 0.5, z: -0.25 }, rotation: Quaternion { x: 0.0, y: 0.0, z: 0.6, w: 0.8 } };
    let header = header((100 + k) * SECOND, "odom");
    TFMessage { transforms: vec![TransformStamped { header, child_frame_id: "base".to_owned(), transform }] }
}

pub fn pose_stamped() -> PoseStamped {
    PoseStamped { header: header(SECOND + 2, "map"), pose: turned(1.0, 2.0, 3.0) }
}

pub fn odometry() -> Odometry {
    let twist = Twist { linear: Vector3 { x: 1.0, y: 0.0, z: 0.0 }, angular: Vector3 { x: 0.0, y: 0.0, z: 0.125 } };
    Odometry {
        header: header(SECOND + 2, "odom"),
        child_frame_id: "base".to_owned(),
        pose: PoseWithCovariance { pose: turned(1.0, 2.0, 3.0), covariance: covariance() },
        twist: TwistWithCovariance { twist, covariance: covariance() },
    }
}

pub fn detection3d_array() -> Detection3DArray {
    let hypothesis = ObjectHypothesisWithPose {
        hypothesis: ObjectHypothesis { class_id: "car".to_owned(), score: 0.875 },
        pose: PoseWithCovariance { pose: turned(4.0, 5.0, 6.0), covariance: covariance() },
    };
    let detection = Detection3D {
        header: header(7 * SECOND + 8, "lidar"),
        results: vec![hypothesis],
        bbox: BoundingBox3D { center: turned(4.0, 5.0, 6.0), size: Vector3 { x: 4.5, y: 2.0, z: 1.5 } },
        id: "17".to_owned(),
    };
    Detection3DArray { header: header(7 * SECOND + 8, "lidar"), detections: vec![detection.clone(), detection] }
}

pub fn compressed_image() -> CompressedImage {
    CompressedImage { header: header(-1, ""), format: "jpeg".to_owned(), data: vec![1, 2, 3] }
}

pub fn marker_array() -> MarkerArray {
    let marker = Marker {
        header: header(7 * SECOND + 8, "map"),
        ns: "boxes".to_owned(),
        id: -3,
        kind: Marker::LINE_LIST,
        action: Marker::ADD,
        pose: Pose { position: Point { x: 1.0, y: 2.0, z: 3.0 }, orientation: Quaternion::default() },
        scale: Vector3 { x: 0.1, y: 0.2, z: 0.3 },
        color: ColorRGBA { r: 0.25, g: 0.5, b: 0.75, a: 1.0 },
        lifetime: Stamp(100_000_000),
        frame_locked: true,
        points: vec![Point { x: 1.5, y: 2.5, z: 3.5 }],
        colors: vec![ColorRGBA { r: 1.0, g: 0.0, b: 0.0, a: 0.5 }],
        texture_resource: String::new(),
        texture: compressed_image(),
        uv_coordinates: vec![UVCoordinate { u: 0.5, v: 0.125 }],
        text: "car 0.9".to_owned(),
        mesh_resource: "package://a/b.dae".to_owned(),
        mesh_file: MeshFile { filename: "b.dae".to_owned(), data: vec![9, 8] },
        mesh_use_embedded_materials: true,
    };
    MarkerArray { markers: vec![marker.clone(), marker] }
}

pub fn camera_info() -> CameraInfo {
    CameraInfo {
        header: header(SECOND + 2, "camera"),
        height: 480,
        width: 640,
        distortion_model: "plumb_bob".to_owned(),
        d: (0..5).map(f64::from).collect(),
        k: std::array::from_fn(|i| i as f64),
        r: std::array::from_fn(|i| i as f64),
        p: std::array::from_fn(|i| i as f64),
        binning_x: 1,
        binning_y: 2,
        roi: RegionOfInterest { x_offset: 3, y_offset: 4, height: 5, width: 6, do_rectify: true },
    }
}
