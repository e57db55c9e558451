//! One recording, written by us and rewritten by the public bag libraries in every storage and compression: the same boxes.
//!
//! Real frames come from the reference folder (`LIDAR_PTQ_SHARED`, default `../shared`), the rewriting from the Python packages
//! `mcap` and `rosbags`. What is absent is said, and the test passes without it.

use lidar_ptq::detect::{Detection, Detector, DetectorConfig, FloatNetwork, Model, import_file};
use lidar_ptq::geometry::Pose;
use lidar_ptq::graph::Provenance;
use lidar_ptq::node::{Event, InputOptions, Inputs, MotionTracker, Perception};
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::msg::geometry_msgs::TransformStamped;
use lidar_ptq::ros::msg::std_msgs::Header;
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::files::{list_cloud_files, read_cloud};
use lidar_ptq::sensor::{PointCloud, Stamp};
use lidar_ptq::train::initial_params;
use std::path::{Path, PathBuf};
use std::process::Command;

fn shared() -> PathBuf {
    std::env::var_os("LIDAR_PTQ_SHARED").map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from)
}

/// A real nuScenes sweep and two KITTI frames.
fn real_clouds() -> Option<Vec<PointCloud>> {
    let mut clouds = Vec::new();
    for (folder, count) in [("data/nuscenes_demo", 1), ("data/kitti/velodyne_reduced", 2)] {
        let folder = shared().join(folder);
        if !folder.exists() {
            eprintln!("skipped: {} is not there (set LIDAR_PTQ_SHARED)", folder.display());
            return None;
        }
        clouds.extend(list_cloud_files(&folder).unwrap().iter().take(count).map(|f| read_cloud(f, None).unwrap()));
    }
    Some(clouds)
}

fn python_can_rewrite() -> bool {
    let found = Command::new("python3").args(["-c", "import mcap, rosbags"]).output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: python3 with the packages mcap and rosbags is not there");
    }
    found
}

/// The clouds at 10 Hz, on a vehicle that drives straight on at 5 m/s.
fn write_bag(path: &Path, clouds: &[PointCloud]) {
    let mut bag = BagWriter::create(path).unwrap();
    for (i, cloud) in clouds.iter().enumerate() {
        let seconds = i as f64 * 0.1;
        let stamp = Stamp::from_secs_f64(1.0e9 + seconds);
        let odom_from_lidar = Pose::from_yaw([5.0 * seconds, 0.0, 0.0], 0.0);
        let header = Header { stamp, frame_id: "odom".into() };
        let moved = TransformStamped { header, child_frame_id: "lidar".into(), transform: (&odom_from_lidar).into() };
        bag.write("/tf", stamp, &TFMessage { transforms: vec![moved] }).unwrap();
        let cloud = PointCloud { stamp, frame_id: "lidar".into(), ..cloud.clone() };
        bag.write("/points", stamp, &encode_cloud(&cloud)).unwrap();
    }
    bag.finish().unwrap();
}

/// mmdet3d's reference network, or random weights in its shape: either gives hundreds of boxes.
fn model() -> Model {
    let checkpoint = shared().join("golden/C_mmdet3d_pillar02/mmdet3d_pillar02_random.pth");
    if checkpoint.exists() {
        return import_file(&checkpoint, None).unwrap().model;
    }
    let config = DetectorConfig::load("edge_pillar").unwrap();
    let params = initial_params(&config.graph().unwrap(), 1);
    Model::new(config, params, Provenance::default()).unwrap()
}

fn boxes(model: &Model, bag: &Path) -> Vec<Vec<Detection>> {
    let detector = Detector::new(model.config().clone(), Box::new(FloatNetwork::new(model).unwrap())).unwrap();
    let mut perception = Perception::new(detector, MotionTracker::new(None));
    let mut inputs = Inputs::open(&[bag.to_owned()], vec!["intensity".into()], InputOptions::default()).unwrap();
    let mut frames = Vec::new();
    for event in inputs.by_ref() {
        match event {
            Event::Start { .. } => perception.reset(),
            Event::Motion(message) => perception.on_motion(&message),
            Event::Frame(frame) => frames.push(perception.on_cloud(&frame.unwrap(), None).unwrap().detections.boxes),
        }
    }
    // A file that is not indexed is read from end to end, which is said; nothing may be lost.
    let lost: Vec<_> = inputs.problems().iter().filter(|p| !p.contains("summary")).collect();
    assert!(lost.is_empty(), "{}: {lost:?}", bag.display());
    frames
}

#[test]
fn every_rewriting_gives_the_same_boxes() {
    let Some(clouds) = real_clouds() else { return };
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours.mcap");
    write_bag(&ours, &clouds);
    let model = model();
    let expected = boxes(&model, &ours);
    assert_eq!(expected.len(), clouds.len());
    assert!(expected.iter().all(|frame| frame.len() > 20));
    if !python_can_rewrite() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rewrite_bags.py");
    let out = Command::new("python3").args([Path::new(script), &ours, folder.path()]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let listing = String::from_utf8(out.stdout).unwrap();
    let bags: Vec<&str> = listing.lines().collect();
    assert_eq!(bags.len(), 13);
    for bag in bags {
        assert_eq!(boxes(&model, Path::new(bag)), expected, "{bag}");
    }
}
