//! `lidar_ptq detect` from the outside: what it reads, what it writes, what it says, how it ends.

#[allow(dead_code)] // each test file uses its own part
#[path = "../support/mod.rs"]
mod support;

mod endings;
mod inputs;
mod results;

use lidar_ptq::ros::bag::{BagReader, BagWriter, RawMessage};
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use lidar_ptq::ros::msg::visualization_msgs::MarkerArray;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::{PointCloud, Stamp};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use support::{START, TOPIC, Workbench, scene};

const FIELDS: &str = "x,y,z,intensity";
/// From measurement to recording, nanoseconds.
const RECORDING_DELAY: i64 = 7_000_003;

impl Workbench {
    /// A run that succeeds: its standard output.
    fn detect(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The JSON lines of a run.
    fn frames(&self, arguments: &str) -> Vec<Value> {
        json_lines(&self.detect(&format!("{arguments} --json -")))
    }

    /// A run that fails with status 1, and says these things.
    fn fails(&self, arguments: &str, says: &[&str]) {
        let output = self.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
        assert!(text.contains("error: ") && !text.contains("panicked"), "{arguments}: {text}");
        says.iter().for_each(|part| assert!(text.contains(part), "{arguments}: `{part}` is not in: {text}"));
    }

    fn write_bag(&self, name: &str, frames: usize) {
        write_bag(&self.path(name), (0..frames).map(|i| (TOPIC, encode_cloud(&scene(i)))));
    }

    /// Everything in the folder, by name.
    fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).expect("a folder");
        let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn boxes(frame: &Value) -> &Vec<Value> {
    frame["boxes"].as_array().expect("a list of boxes")
}

fn write_bag<'a>(path: &Path, clouds: impl Iterator<Item = (&'a str, PointCloud2)>) {
    let mut bag = BagWriter::create(path).expect("a bag");
    for (topic, cloud) in clouds {
        bag.write(topic, Stamp(cloud.header.stamp.0 + RECORDING_DELAY), &cloud).expect("written");
    }
    bag.finish().expect("written");
}

fn write_bin(path: &Path, cloud: &PointCloud) {
    fs::write(path, cloud.data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).expect("written");
}

fn messages(bag: &Path) -> Vec<RawMessage> {
    let mut reader = BagReader::open(bag).expect("a bag");
    let messages = reader.by_ref().collect();
    assert!(reader.report().problems().is_empty(), "{:?}", reader.report().problems());
    messages
}

/// A cloud message whose width lies about its data.
fn broken_cloud(frame: usize) -> PointCloud2 {
    let mut cloud = encode_cloud(&scene(frame));
    cloud.width += 1_000_000;
    cloud
}

#[test]
fn thresholds_remove_the_boxes_below_them() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 1);
    let all = boxes(&bench.frames("drive.mcap")[0]).clone();
    let score = |b: &Value| b["score"].as_f64().expect("a number");
    let middle = (score(&all[all.len() / 2]) * 1000.0).round() / 1000.0;
    // Suppression takes candidates by score: what is above a threshold does not depend on what is below.
    let above: Vec<Value> = all.iter().filter(|b| score(b) > middle).cloned().collect();
    assert!(!above.is_empty() && above.len() < all.len(), "{middle}");
    assert_eq!(*boxes(&bench.frames(&format!("drive.mcap --score-threshold {middle}"))[0]), above);

    let class = all[0]["label"].as_str().expect("text");
    let without = bench.frames(&format!("drive.mcap --class-threshold {class}=1"));
    let labels: Vec<&Value> = boxes(&without[0]).iter().map(|b| &b["label"]).collect();
    assert!(!labels.is_empty() && labels.iter().all(|l| *l != class), "{labels:?}");
    assert!(bench.frames("drive.mcap --score-threshold 1").iter().all(|f| boxes(f).is_empty()), "a frame without boxes is a frame");
}

#[test]
fn wrong_usage_is_2() {
    let bench = Workbench::new();
    for arguments in ["", "a.bin --unknown", "a.bin --class-threshold car", "a.bin --class-threshold car=much", "a.bin --threads some"] {
        let output = bench.run(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn failures_are_1_and_name_what_failed() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 1);
    let two = [("/front", encode_cloud(&scene(0))), ("/rear", encode_cloud(&scene(1)))];
    write_bag(&bench.path("two.mcap"), two.into_iter());
    let mut bag = BagWriter::create(&bench.path("none.mcap")).expect("a bag");
    bag.write("/markers", START, &MarkerArray::default()).expect("written");
    bag.finish().expect("written");
    fs::write(bench.path("garbage.bin"), [7; 33]).expect("written");
    fs::write(bench.path("garbage.mcap"), [7; 333]).expect("written");
    BagWriter::create(&bench.path("blank.mcap")).expect("a bag").finish().expect("written");
    fs::write(bench.path("hollow.mcap"), []).expect("written");
    fs::write(bench.path("cloud.txt"), "1 2 3").expect("written");
    fs::create_dir(bench.path("empty")).expect("a folder");

    bench.fails("absent.mcap", &["absent.mcap", "no such file"]);
    bench.fails("drive.mcap absent.bin --json -", &["absent.bin"]);
    bench.fails("two.mcap", &["two.mcap", "/front, /rear", "--topic"]);
    bench.fails("two.mcap --topic /roof", &["two.mcap", "/roof", "/front, /rear"]);
    bench.fails("none.mcap", &["none.mcap", "/markers", "PointCloud2"]);
    bench.fails("garbage.bin", &["no frame could be used", "garbage.bin"]);
    bench.fails("garbage.mcap", &["garbage.mcap"]);
    bench.fails("cloud.txt", &["cloud.txt"]);
    bench.fails("empty", &["empty", ".mcap", ".bin"]);
    bench.fails("drive.mcap --from 100", &["no frame could be used", "drive.mcap: no cloud of /lidar/points", "counts 1", "--from"]);
    bench.fails("blank.mcap", &["blank.mcap", "PointCloud2", "none, the bag is empty"]);
    bench.fails("hollow.mcap", &["hollow.mcap is empty"]);
    bench.fails("drive.mcap --class-threshold tram=0.5", &["tram", "pedestrian"]);
    bench.fails("drive.mcap --score-threshold 7", &["score_threshold", "7"]);
    bench.fails("drive.mcap --sweeps 0", &["sweeps", "0"]);
    bench.fails("drive.mcap --intensity-field reflectivity", &["reflectivity", "x, y, z"]);

    for (model, says) in [("absent.safetensors", "absent.safetensors"), ("garbage.mcap", "garbage.mcap"), ("empty", "empty")] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).current_dir(bench.folder()).args(["detect", model, "drive.mcap"]).output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn the_bits_depend_neither_on_threads_nor_on_instructions() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 3);
    let expected = bench.detect("drive.mcap --json - --threads 1");
    assert!(json_lines(&expected).iter().all(|f| !boxes(f).is_empty()));
    assert_eq!(bench.detect("drive.mcap --json - --threads 2"), expected);
    assert_eq!(bench.detect("drive.mcap --json - --threads 5"), expected);
    for isa in lidar_ptq::engine::Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let output = bench.command("drive.mcap --json -").env("LIDAR_PTQ_ISA", isa.to_string()).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains(&isa.float().to_string()));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{isa}");
    }
    let output = bench.command("drive.mcap").env("LIDAR_PTQ_ISA", "mmx").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("LIDAR_PTQ_ISA") && stderr(&output).contains("mmx"), "{}", stderr(&output));
}
