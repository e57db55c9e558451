//! The detector node, fed by a bag in place of a network.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::engine::Isa;
use lidar_ptq::graph::Precision;
use lidar_ptq::node::{DetectNode, DetectParams};
use lidar_ptq::ros::bag::{BagReader, BagWriter, RawMessage};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::diagnostic_msgs::DiagnosticArray;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::msg::visualization_msgs::MarkerArray;
use lidar_ptq::ros::names::NodeName;
use lidar_ptq::ros::parameters::{ParameterValue, Parameters};
use lidar_ptq::ros::transport::BagTransport;
use lidar_ptq::sensor::Stamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use support::{TOPIC, tiny_model};
use tempfile::TempDir;

const DRIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/drive.mcap");

struct Bench(TempDir);

impl Bench {
    /// With a model of several sweeps.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        tiny_model(5).save(&bench.path("model.safetensors"), Precision::F32).expect("written");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn node(&self, more: &[(&str, ParameterValue)]) -> DetectNode {
        let path = ParameterValue::String(self.path("model.safetensors").display().to_string());
        let mut parameters: Parameters = [("model_path".to_owned(), path)].into();
        parameters.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let params = DetectParams::declare(&parameters).expect("valid");
        let remaps = [("~/input/pointcloud".to_owned(), TOPIC.to_owned())];
        let node = NodeName::new("", "lidar_ptq").expect("a name");
        DetectNode::new(node, &remaps, params, Isa::choose().expect("one")).expect("starts")
    }

    /// What the node publishes when it is fed with a bag.
    fn run(&self, bag: &Path) -> Vec<RawMessage> {
        self.run_with(bag, &[])
    }

    fn run_with(&self, bag: &Path, more: &[(&str, ParameterValue)]) -> Vec<RawMessage> {
        let out = self.path("node.mcap");
        let sink = BagWriter::create(&out).expect("a bag");
        let mut transport = BagTransport::new(BagReader::open(bag).expect("a bag"), Some(sink));
        self.node(more).run(&mut transport, &AtomicBool::new(false)).expect("ends");
        transport.finish().expect("finished");
        BagReader::open(&out).expect("a bag").collect()
    }
}

fn detections(messages: impl IntoIterator<Item = RawMessage>) -> BTreeMap<Stamp, Detection3DArray> {
    let of_type = messages.into_iter().filter(|m| &*m.type_name == Detection3DArray::TYPE && m.topic.ends_with("detections"));
    of_type.map(|m| Detection3DArray::decode(&m.data).expect("valid")).map(|d| (d.header.stamp, d)).collect()
}

/// Of the last report.
fn report(messages: &[RawMessage], what: &str) -> BTreeMap<String, String> {
    let last = messages.iter().rfind(|m| &*m.type_name == DiagnosticArray::TYPE).expect("a report at the end");
    let report = DiagnosticArray::decode(&last.data).expect("valid");
    let status = report.status.into_iter().find(|s| s.name == format!("lidar_ptq: {what}")).expect("one of that name");
    status.values.into_iter().map(|v| (v.key, v.value)).collect()
}

#[test]
fn a_bag_through_the_node_gives_the_command_lines_boxes() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    let output = command.current_dir(bench.0.path()).args(["detect", "model.safetensors", DRIVE, "-o", "boxes.mcap"]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = detections(BagReader::open(&bench.path("boxes.mcap")).expect("a bag"));

    let messages = bench.run(DRIVE.as_ref());
    let found = detections(messages.iter().cloned());
    assert!(expected.values().any(|d| !d.detections.is_empty()), "there is something to find");
    assert_eq!(found, expected);
    let input = report(&messages, "input");
    assert_eq!((input["answered"].as_str(), input["skipped"].as_str()), (expected.len().to_string().as_str(), "0"));
    assert_eq!(report(&messages, "motion")["source"], "transforms through odom");
}

#[test]
fn markers_last_a_little_longer_than_a_frame() {
    let bench = Bench::new();
    let messages = bench.run(DRIVE.as_ref());
    let markers: Vec<MarkerArray> =
        messages.iter().filter(|m| &*m.type_name == MarkerArray::TYPE).map(|m| MarkerArray::decode(&m.data).expect("valid")).collect();
    assert!(!markers.is_empty());
    for marker in markers.iter().flat_map(|array| &array.markers) {
        assert!((200_000_000..=2_000_000_000).contains(&marker.lifetime.0), "{:?}", marker.lifetime);
    }
}

/// As `ros2 bag play --loop` does: the second round must be as the first, static transforms included, which come once only.
#[test]
fn a_bag_that_starts_over_is_a_new_drive() {
    let bench = Bench::new();
    let first = detections(bench.run(DRIVE.as_ref()));
    let twice = bench.path("twice.mcap");
    let mut writer = BagWriter::create(&twice).expect("a bag");
    let drive: Vec<RawMessage> = BagReader::open(DRIVE.as_ref()).expect("a bag").collect();
    let wanted = |m: &&RawMessage| ["/tf", "/tf_static", TOPIC].contains(&&*m.topic);
    let (start, end) = (drive[0].stamp, drive[drive.len() - 1].stamp);
    for round in 0..2 {
        for message in drive.iter().filter(wanted).filter(|m| round == 0 || &*m.topic != "/tf_static") {
            let at = Stamp(message.stamp.0 + round * (end.0 - start.0 + 1_000_000_000));
            let definition = if &*message.topic == TOPIC { PointCloud2::DEFINITION } else { TFMessage::DEFINITION };
            writer.write_raw(&message.topic, &message.type_name, definition, at, &message.data).expect("written");
        }
    }
    writer.finish().expect("finished");

    let messages = bench.run(&twice);
    let input = report(&messages, "input");
    assert_eq!(input["answered"], (2 * first.len()).to_string());
    // The second round's answers have the first one's stamps and overwrite them here. The transforms that precede its first
    // cloud are of the old drive's future, so its first frames may have fewer sweeps; the last must not.
    let (stamp, last) = detections(messages).pop_last().expect("some");
    assert_eq!(last, first[&stamp]);
}

/// Localization that falls silent for a while: clouds wait for it, the newest is answered with fewer sweeps and a word of it, and then all is
/// as before.
#[test]
fn lost_transforms_cost_sweeps_and_nothing_else() {
    let bench = Bench::new();
    let whole = detections(bench.run(DRIVE.as_ref()));
    let drive: Vec<RawMessage> = BagReader::open(DRIVE.as_ref()).expect("a bag").collect();
    let (start, end) = (drive[0].stamp.0, drive[drive.len() - 1].stamp.0);
    let is_lost = |m: &RawMessage| &*m.topic == "/tf" && (start + (end - start) / 4..start + (end - start) / 2).contains(&m.stamp.0);
    assert!(drive.iter().any(is_lost));
    let path = bench.path("lost.mcap");
    let mut writer = BagWriter::create(&path).expect("a bag");
    let wanted = |m: &&RawMessage| ["/tf", "/tf_static", TOPIC].contains(&&*m.topic);
    for message in drive.iter().filter(wanted).filter(|m| !is_lost(m)) {
        let definition = if &*message.topic == TOPIC { PointCloud2::DEFINITION } else { TFMessage::DEFINITION };
        writer.write_raw(&message.topic, &message.type_name, definition, message.stamp, &message.data).expect("written");
    }
    writer.finish().expect("finished");

    // A fifth of a second is missing; poses come twenty times a second.
    let messages = bench.run_with(&path, &[("input.max_pose_gap", ParameterValue::Double(0.1))]);
    let motion = report(&messages, "motion");
    assert!(motion["frames_with_fewer_sweeps"].parse::<u32>().is_ok_and(|n| n > 0), "{motion:?}");
    // Those that waited for transforms were overtaken when these came.
    let input = report(&messages, "input");
    let count = |key: &str| input[key].parse::<usize>().expect("a number");
    assert_eq!((count("answered") + count("dropped_for_newer"), count("skipped")), (whole.len(), 0), "{input:?}");
    let found = detections(messages);
    assert_eq!(found.len(), count("answered"));
    assert_eq!(found.last_key_value(), whole.last_key_value());
}

/// A quantized model sees clouds like those of calibration, and then the same with an intensity that another sensor might have.
#[test]
fn clouds_unlike_those_of_calibration_are_told_of() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    command.current_dir(bench.0.path()).args(["calibrate", "model.safetensors", "--bag", DRIVE, "--method", "max-min"]);
    let output = command.args(["--least-agreement", "0"]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(bench.path("model.int8.safetensors"), bench.path("model.safetensors")).expect("renamed");
    let model = |more: &[(&str, ParameterValue)]| {
        let model = report(&bench.run_with(DRIVE.as_ref(), more), "model");
        let number = |key: &str| model[key].parse::<f64>().expect("a number");
        (number("clipped_share"), number("drift_deviations"), model["drift_most_in"].clone())
    };
    let (like, unlike) = (model(&[]), model(&[("input.intensity_scale", ParameterValue::Double(10.0))]));
    assert!(like.0 < 0.001 && unlike.0 > 10.0 * like.0.max(0.0001), "{like:?} and {unlike:?}");
    assert!(like.1 < 5.0 && unlike.1 > 20.0 && unlike.2 == "mean_intensity", "{like:?} and {unlike:?}");
    // Less than calibration saw clips nothing, and is told of all the same.
    let dim = model(&[("input.intensity_scale", ParameterValue::Double(0.1))]);
    assert!(dim.1 > 5.0 && dim.2 == "mean_intensity", "{dim:?}");
}
