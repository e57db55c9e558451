//! `lidar_ptq detect` from the outside: what it reads, what it writes, what it says, how it ends.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::ros::bag::{BagReader, BagWriter, RawMessage};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::{PointCloud2, PointCloud2Ref, PointField};
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::msg::visualization_msgs::{Marker, MarkerArray};
use lidar_ptq::ros::point_cloud::{decode_cloud, encode_cloud};
use lidar_ptq::sensor::{PointCloud, Stamp};
use ndarray::Array4;
use ndarray_npy::NpzReader;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use support::{PERIOD, START, TOPIC, Workbench, mind_signals, scene, send_signal, tiny_config, tiny_model};

const DETECTIONS: &str = "/lidar_ptq/output/detections";
const MARKERS: &str = "/lidar_ptq/output/markers";
const FIELDS: &str = "x,y,z,intensity";
/// Frames of a run that takes far longer than any test waits for.
const LONG: usize = 250;
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

fn write_pcd(path: &Path, cloud: &PointCloud) {
    let n = cloud.len();
    let header = format!(
        "VERSION .7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {n}\nHEIGHT 1\n\
         VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA binary\n"
    );
    let points = cloud.data.iter().flat_map(|v| v.to_le_bytes());
    fs::write(path, header.into_bytes().into_iter().chain(points).collect::<Vec<u8>>()).expect("written");
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

fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    let list: Vec<f64> = value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect();
    list.try_into().unwrap_or_else(|list| panic!("{N} numbers expected: {list:?}"))
}

#[test]
fn json_lines_have_the_promised_form() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 3);
    let output = bench.run("drive.mcap --json -");
    let frames = json_lines(std::str::from_utf8(&output.stdout).expect("text"));
    assert_eq!((output.status.code(), frames.len()), (Some(0), 3), "{}", stderr(&output));
    // The closing table and everything else that is for people.
    for part in ["read", "sweep", "voxelize", "network", "decode", "write", "p50", "p99", "3 frames", "points", "boxes"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let named = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    let classes = tiny_config(1).classes();
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(keys(frame), named(&["stamp", "source", "boxes"]));
        let stamp = (START.0 + PERIOD * i as i64) as f64 * 1e-9;
        assert!((frame["stamp"].as_f64().expect("a number") - stamp).abs() < 1e-6, "{}", frame["stamp"]);
        assert_eq!(frame["source"], format!("drive.mcap:{TOPIC}"));
        assert!(boxes(frame).len() > 2, "the model sees nothing");
        let mut best = 1.0;
        for found in boxes(frame) {
            assert_eq!(keys(found), named(&["label", "score", "center", "size", "yaw", "velocity"]));
            assert!(classes.iter().any(|c| found["label"] == **c), "{}", found["label"]);
            let score = found["score"].as_f64().expect("a number");
            assert!(score <= best && score > 0.1, "{score} after {best}");
            best = score;
            assert!(numbers::<3>(&found["center"]).iter().all(|v| v.abs() < 100.0));
            assert!(numbers::<3>(&found["size"]).iter().all(|v| *v > 0.0));
            assert!(found["yaw"].as_f64().expect("a number").abs() <= std::f64::consts::PI + 1e-6);
            numbers::<2>(&found["velocity"]);
        }
    }
    assert_ne!(boxes(&frames[0]), boxes(&frames[2]), "frames differ");
    let file = bench.run("drive.mcap --json boxes.jsonl");
    assert!(file.stdout.is_empty() && stderr(&file).contains("boxes.jsonl"));
    assert_eq!(fs::read(bench.path("boxes.jsonl")).expect("written"), output.stdout);
}

#[test]
fn the_bag_holds_the_clouds_and_the_same_boxes() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 4);
    let frames = bench.frames("drive.mcap -o boxes.mcap");
    let (input, output) = (messages(&bench.path("drive.mcap")), messages(&bench.path("boxes.mcap")));
    let on = |topic: &str| output.iter().filter(|m| &*m.topic == topic).cloned().collect::<Vec<_>>();
    assert_eq!(on(TOPIC), input, "the clouds are passed on as they came, at the time at which they were recorded");
    assert_eq!(output.len(), 3 * input.len());
    for (i, frame) in frames.iter().enumerate() {
        let (detections, markers) = (&on(DETECTIONS)[i], &on(MARKERS)[i]);
        assert_eq!((&*detections.type_name, &*markers.type_name), (Detection3DArray::TYPE, MarkerArray::TYPE));
        assert_eq!((detections.stamp, markers.stamp), (input[i].stamp, input[i].stamp));

        let array = Detection3DArray::decode(&detections.data).expect("a message");
        assert_eq!((array.header.stamp, array.header.frame_id.as_str()), (scene(i).stamp, "velodyne"));
        assert_eq!(array.detections.len(), boxes(frame).len());
        for (d, json) in array.detections.iter().zip(boxes(frame)) {
            // JSON has the shortest decimal of the float32 that the message holds as float64.
            let widened = |v: f64| f64::from(v as f32);
            assert_eq!(json["label"], d.results[0].hypothesis.class_id);
            assert_eq!(widened(json["score"].as_f64().expect("a number")), d.results[0].hypothesis.score);
            let (p, q, s) = (d.bbox.center.position, d.bbox.center.orientation, d.bbox.size);
            assert_eq!(numbers::<3>(&json["center"]).map(widened), [p.x, p.y, p.z]);
            assert_eq!(numbers::<3>(&json["size"]).map(widened), [s.x, s.y, s.z]);
            let yaw = json["yaw"].as_f64().expect("a number");
            let turn = (2.0 * q.z.atan2(q.w) - yaw).rem_euclid(std::f64::consts::TAU);
            assert!(turn.min(std::f64::consts::TAU - turn) < 1e-6, "{yaw} {q:?}");
        }
        let array = MarkerArray::decode(&markers.data).expect("a message");
        let cubes = array.markers.iter().filter(|m| m.kind == Marker::CUBE && m.action == Marker::ADD).count();
        assert_eq!((array.markers[0].action, cubes), (Marker::DELETEALL, boxes(frame).len()));
        assert!(array.markers.iter().all(|m| m.header.frame_id == "velodyne" && m.header.stamp == scene(i).stamp));
    }
    assert_eq!(bench.listing(), ["boxes.mcap", "drive.mcap", "model.safetensors"]);
}

#[test]
fn a_cloud_gives_the_same_boxes_in_whatever_it_comes() {
    let bench = Workbench::new();
    let cloud = scene(0);
    fs::create_dir(bench.path("folder")).expect("a folder");
    bench.write_bag("cloud.mcap", 1);
    write_bin(&bench.path("cloud.bin"), &cloud);
    write_bin(&bench.path("folder/1700000000123456789.bin"), &cloud);
    write_pcd(&bench.path("cloud.pcd"), &cloud);
    ndarray_npy::write_npy(bench.path("cloud.npy"), &cloud.data).expect("written");
    let expected = bench.frames("cloud.mcap");
    for input in ["cloud.bin", "cloud.npy", "cloud.pcd", "folder"] {
        let frames = bench.frames(&format!("{input} --fields {FIELDS}"));
        assert_eq!(frames.len(), 1);
        assert_eq!(boxes(&frames[0]), boxes(&expected[0]), "{input}");
        let stamp = if input == "folder" { START.as_secs_f64() } else { 0.0 };
        assert!((frames[0]["stamp"].as_f64().expect("a number") - stamp).abs() < 1e-6);
        assert!(frames[0]["source"].as_str().expect("text").starts_with(input));
    }
    // Without a bag to copy from, the cloud is written as a message of its own.
    bench.detect(&format!("cloud.bin --fields {FIELDS} -o boxes.mcap"));
    let output = messages(&bench.path("boxes.mcap"));
    let written = output.iter().find(|m| &*m.type_name == PointCloud2::TYPE).expect("a cloud");
    let (read, _) = decode_cloud(&PointCloud2Ref::view(&written.data).expect("a message"), &["intensity"]).expect("a cloud");
    assert_eq!(read.data, cloud.data);
}

#[test]
fn raw_outputs_stand_under_their_node_names() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 2);
    let (model, config) = (tiny_model(1), tiny_config(1));
    let graph = model.graph();
    let side = 64 / config.decode.out_size_factor;
    let names = |npz: &str| {
        let mut npz = NpzReader::new(File::open(bench.path(npz)).expect("written")).expect("an archive");
        let mut names: Vec<String> = npz.names().expect("names").iter().map(|n| n.trim_end_matches(".npy").to_owned()).collect();
        names.sort();
        (names, npz)
    };
    let mut expected: Vec<String> = graph.outputs.iter().map(|o| graph.nodes[o.node].name.clone()).collect();
    expected.sort();

    bench.detect("drive.mcap --max-frames 1 --dump one.npz");
    let (single, mut npz) = names("one.npz");
    assert_eq!(single, expected);
    for output in &graph.outputs {
        let name = &graph.nodes[output.node].name;
        let map: Array4<f32> = npz.by_name(name).or_else(|_| npz.by_name(&format!("{name}.npy"))).expect("four dimensions");
        let classes = |task: usize| config.network.head.tasks[task].classes.len();
        let (task, role) = output.role.strip_prefix("task").and_then(|r| r.split_once('.')).expect("task and role");
        let channels = match role {
            "heatmap" => classes(task.parse().expect("a number")),
            "height" => 1,
            "size" => 3,
            _ => 2,
        };
        assert_eq!(map.shape(), [1, channels, side, side], "{name}");
        assert!(map.iter().all(|v| v.is_finite()));
    }
    bench.detect("drive.mcap --dump two.npz");
    let expected: Vec<String> = (0..2).flat_map(|i| expected.iter().map(move |n| format!("{i:06}/{n}"))).collect();
    assert_eq!(names("two.npz").0, expected);
}

/// Width, height and bytes.
fn read_png(path: &Path) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).expect("a picture"))).read_info().expect("a PNG");
    let mut data = vec![0; reader.output_buffer_size().expect("of a size in reason")];
    let info = reader.next_frame(&mut data).expect("whole");
    (info.width, info.height, data)
}

#[test]
fn pictures_of_every_frame_and_a_sheet() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 3);
    bench.detect("drive.mcap --png pictures --sheet sheet.png");
    let mut names: Vec<PathBuf> = fs::read_dir(bench.path("pictures")).expect("made").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    assert_eq!(names, [0, 1, 2].map(|i| bench.path(&format!("pictures/{i:06}.png"))));
    let pictures: Vec<_> = names.iter().map(|p| read_png(p)).collect();
    assert!(pictures.iter().all(|(width, height, _)| *width == 1000 && *height >= 1000), "{} by {}", pictures[0].0, pictures[0].1);
    assert_ne!(pictures[0], pictures[1]);
    assert!(read_png(&bench.path("sheet.png")).0 > 1000);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What other files of this user have; results are not more private than these.
        File::create(bench.path("plain")).expect("written");
        bench.detect("drive.mcap --max-frames 1 -o b.mcap --json j.jsonl --dump d.npz");
        let mode = |name: &str| fs::metadata(bench.path(name)).expect("written").permissions().mode() & 0o777;
        for name in ["pictures/000000.png", "sheet.png", "b.mcap", "j.jsonl", "d.npz"] {
            assert_eq!(mode(name), mode("plain"), "{name}");
        }
    }
}

#[test]
fn inputs_and_frames_are_chosen() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 8);
    write_bin(&bench.path("a.bin"), &scene(2));
    write_bin(&bench.path("b.bin"), &scene(3));
    let all = bench.frames("drive.mcap");
    assert_eq!(all.len(), 8);

    let several = bench.frames(&format!("a.bin drive.mcap b.bin --fields {FIELDS}"));
    let sources: Vec<&str> = several.iter().map(|f| f["source"].as_str().expect("text")).collect();
    assert_eq!((sources[0], sources[1], sources[9], sources.len()), ("a.bin", "drive.mcap:/lidar/points", "b.bin", 10));
    assert_eq!((boxes(&several[0]), boxes(&several[9])), (boxes(&all[2]), boxes(&all[3])));
    // Files without a time of their own must not share one: they would hide each other in a viewer.
    assert_ne!(several[0]["stamp"], several[9]["stamp"]);

    assert_eq!(bench.frames("drive.mcap --max-frames 3"), all[..3]);
    // Seconds from the first message: frames stand at 0.0, 0.1, ...
    assert_eq!(bench.frames("drive.mcap --from 0.25"), all[3..]);
    assert_eq!(bench.frames("drive.mcap --until 0.25"), all[..3]);
    assert_eq!(bench.frames("drive.mcap --from 0.15 --until 0.45"), all[2..5]);
    assert_eq!(bench.frames("drive.mcap --topic /lidar/points --max-frames 1"), all[..1]);
}

/// A scan's points with their own times in a column `field`, of this datatype and these bytes.
fn timed_cloud(field: &str, datatype: u8, times: impl Iterator<Item = Vec<u8>>) -> PointCloud2 {
    let mut message = encode_cloud(&scene(0));
    let points: Vec<u8> = message.data.chunks_exact(16).zip(times).flat_map(|(point, time)| [point.to_vec(), time].concat()).collect();
    message.fields.push(PointField { name: field.into(), offset: 16, datatype, count: 1 });
    message.point_step = (points.len() / message.width as usize) as u32;
    message.row_step = points.len() as u32;
    message.data = points;
    message
}

#[test]
fn points_own_times_are_read_in_whatever_way_a_driver_gives_them() {
    let bench = Workbench::new();
    let points = scene(0).len() as u32;
    // A scan of 0.1 s in steps of whole microseconds, up to its stamp: nanoseconds before it.
    let lags = || (0..points).map(|i| (points - 1 - i) * (100_000 / points) * 1000);
    let longest = lags().next().expect("points");
    let written = [
        ("seconds.mcap", timed_cloud("time", PointField::FLOAT32, lags().map(|ns| (ns as f32 * 1e-9).to_le_bytes().to_vec()))),
        ("velodyne.mcap", timed_cloud("time", PointField::FLOAT32, lags().map(|ns| (-(ns as f32) * 1e-9).to_le_bytes().to_vec()))),
        ("ouster.mcap", timed_cloud("t", PointField::UINT32, lags().map(|ns| (longest - ns).to_le_bytes().to_vec()))),
        ("hesai.mcap", {
            let clock = |ns: u32| (START.0 - i64::from(ns)) as f64 * 1e-9;
            timed_cloud("timestamp", PointField::FLOAT64, lags().map(|ns| clock(ns).to_le_bytes().to_vec()))
        }),
        ("nanoseconds.mcap", timed_cloud("time", PointField::UINT32, lags().map(|ns| ns.to_le_bytes().to_vec()))),
    ];
    written.into_iter().for_each(|(name, cloud)| write_bag(&bench.path(name), [(TOPIC, cloud)].into_iter()));
    let expected = &bench.frames("seconds.mcap")[0];
    assert_ne!(boxes(&bench.frames("seconds.mcap --time-field none")[0]), boxes(expected), "the model does look at the time");
    for arguments in [
        "velodyne.mcap --time-reference after_stamp",
        "ouster.mcap --time-field t --time-unit ns --time-reference scan_start",
        "hesai.mcap --time-field timestamp --time-reference clock",
        "nanoseconds.mcap --time-unit ns",
    ] {
        let output = bench.run(&format!("{arguments} --json -"));
        assert!(!stderr(&output).contains("own times"), "{arguments}: {}", stderr(&output));
        let found = &json_lines(std::str::from_utf8(&output.stdout).expect("text"))[0];
        assert_eq!(boxes(found).len(), boxes(expected).len(), "{arguments}");
        // Within what a double of today's seconds leaves open, a quarter of a microsecond.
        for (a, b) in boxes(found).iter().zip(boxes(expected)) {
            let [a_score, b_score] = [a, b].map(|v| v["score"].as_f64().expect("a number"));
            assert!(a["label"] == b["label"] && (a_score - b_score).abs() < 1e-4, "{arguments}: {a} {b}");
        }
    }
    // Taken as they stand, and said.
    for (arguments, says) in [("nanoseconds.mcap", "0.0000 to 99"), ("velodyne.mcap", "-0.09")] {
        let text = stderr(&bench.run(arguments));
        assert!(text.contains("points' own times are") && text.contains(says) && text.contains("--time-unit"), "{text}");
    }
    bench.fails("seconds.mcap --time-field t", &["`t`", "x, y, z, intensity, time", "--time-field"]);
    write_bin(&bench.path("a.bin"), &scene(0));
    bench.fails(&format!("a.bin --fields {FIELDS} --time-field intensity --time-reference clock"), &["a.bin", "bags"]);
    let output = bench.run("seconds.mcap --time-unit minutes");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("`ns`"), "{}", stderr(&output));
}

#[test]
fn bags_that_overlap_in_time_are_told_and_stay_readable_in_order() {
    let bench = Workbench::new();
    bench.write_bag("long.mcap", 6);
    write_bag(&bench.path("inside.mcap"), (2..4).map(|i| ("/roof/points", encode_cloud(&scene(i)))));
    write_bag(&bench.path("later.mcap"), (7..9).map(|i| (TOPIC, encode_cloud(&scene(i)))));
    let text = stderr(&bench.run("long.mcap later.mcap -o boxes.mcap"));
    assert!(!text.contains("same time"), "{text}");
    let text = stderr(&bench.run("long.mcap inside.mcap later.mcap -o boxes.mcap"));
    assert!(text.contains("long.mcap and inside.mcap were recorded at the same time"), "{text}");
    assert_eq!(text.matches("same time").count(), 1, "{text}");
    // The index lets readers go by time.
    let read = messages(&bench.path("boxes.mcap"));
    assert!(read.len() == 30 && read.is_sorted_by_key(|m| m.stamp));
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
fn broken_frames_are_skipped_and_counted() {
    let bench = Workbench::new();
    let clouds = [encode_cloud(&scene(0)), broken_cloud(1), encode_cloud(&scene(2)), broken_cloud(3)];
    write_bag(&bench.path("drive.mcap"), clouds.into_iter().map(|c| (TOPIC, c)));
    let output = bench.run("drive.mcap --json - -o boxes.mcap");
    let frames = json_lines(std::str::from_utf8(&output.stdout).expect("text"));
    assert_eq!((output.status.code(), frames.len()), (Some(0), 2));
    let text = stderr(&output);
    assert!(text.contains("skipped 2: drive.mcap:/lidar/points: ") && text.contains("2 frames"), "{text}");
    assert_eq!(messages(&bench.path("boxes.mcap")).len(), 6);

    fs::create_dir(bench.path("folder")).expect("a folder");
    (0..3).for_each(|i| write_bin(&bench.path(&format!("folder/{i}.bin")), &scene(i)));
    fs::write(bench.path("folder/1.bin"), [7; 33]).expect("written");
    let output = bench.run(&format!("folder --fields {FIELDS} --json -"));
    let frames = json_lines(std::str::from_utf8(&output.stdout).expect("text"));
    let sources: Vec<&Value> = frames.iter().map(|f| &f["source"]).collect();
    assert_eq!((output.status.code(), sources), (Some(0), vec![&Value::from("folder/0.bin"), &Value::from("folder/2.bin")]));
    assert!(stderr(&output).contains("skipped 1: folder/1.bin"), "{}", stderr(&output));
}

#[test]
fn a_folder_of_files_that_cannot_be_read_gives_one_reason_not_thousands() {
    let bench = Workbench::new();
    fs::create_dir(bench.path("folder")).expect("a folder");
    (0..2000).for_each(|i| fs::write(bench.path(&format!("folder/{i}.bin")), [7; 33]).expect("written"));
    let output = bench.run("folder");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("skipped 2000: folder/0.bin and others: ") && text.lines().count() < 20, "{text}");
}

/// The lidar starts long after the rest, and the recording was cut off: no index tells of its topic.
#[test]
fn a_cloud_topic_that_appears_late_is_found() {
    let bench = Workbench::new();
    let mut bag = BagWriter::create(&bench.path("late.mcap")).expect("a bag");
    for i in 0..2000 {
        bag.write("/markers", Stamp(START.0 + i * 10_000_000), &MarkerArray::default()).expect("written");
    }
    for i in 200..220 {
        bag.write(TOPIC, scene(i).stamp, &encode_cloud(&scene(i))).expect("written");
    }
    bag.finish().expect("written");
    let frames = bench.frames("late.mcap");
    assert_eq!(frames.len(), 20);
    let bytes = fs::read(bench.path("late.mcap")).expect("written");
    fs::write(bench.path("cut.mcap"), &bytes[..bytes.len() - 200]).expect("written");
    let of_cut = bench.frames("cut.mcap");
    assert_eq!(of_cut.iter().map(boxes).collect::<Vec<_>>(), frames.iter().map(boxes).collect::<Vec<_>>());
}

#[test]
fn outputs_that_cannot_be_written_are_errors() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 2);
    fs::write(bench.path("file"), "").expect("written");
    fs::create_dir(bench.path("taken")).expect("a folder");
    // A folder that is a file refuses writers with every right; the permission bits of a read-only one, root does not feel.
    for option in ["-o file/x.mcap", "--json file/x.jsonl", "--dump file/x.npz", "--png file/x", "--sheet file/x.png"] {
        bench.fails(&format!("drive.mcap {option}"), &["file/x"]);
    }
    for option in ["-o absent/x.mcap", "--json absent/x.jsonl", "--dump absent/x.npz"] {
        bench.fails(&format!("drive.mcap {option}"), &["absent/x"]);
    }
    for option in ["-o taken", "--json taken", "--dump taken", "--sheet taken"] {
        bench.fails(&format!("drive.mcap {option}"), &["taken"]);
    }
    // What is made must not replace what it is made from.
    for option in ["-o drive.mcap", "--json ./model.safetensors"] {
        bench.fails(&format!("drive.mcap {option}"), &["would replace"]);
    }
    #[cfg(target_os = "linux")]
    {
        bench.fails("drive.mcap --json /dev/full", &["/dev/full"]);
        bench.fails("drive.mcap -o /dev/full", &["/dev/full"]);
        let mut command = bench.command("drive.mcap --json -");
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = command.stdout(full).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("standard output"), "{}", stderr(&output));
        // A device that takes everything stays the device that it is.
        bench.detect("drive.mcap --json /dev/null");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let folder = bench.path("taken");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("ours");
        if File::create(folder.join("probe")).is_err() {
            bench.fails("drive.mcap -o taken/x.mcap", &["taken/x.mcap"]);
            bench.fails("drive.mcap --json taken/x.jsonl", &["taken/x.jsonl"]);
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::remove_file(folder.join("probe")).ok();
    }
    assert_eq!(bench.listing(), ["drive.mcap", "file", "model.safetensors", "taken"]);
    assert_eq!(fs::read_dir(bench.path("taken")).expect("there").count(), 0);
}

/// A link to a result stays a link; an older result is replaced.
#[cfg(unix)]
#[test]
fn links_to_results_stay() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", 1);
    fs::create_dir(bench.path("results")).expect("a folder");
    for name in ["b.mcap", "b.jsonl"] {
        fs::write(bench.path(&format!("results/{name}")), "old").expect("written");
        std::os::unix::fs::symlink(format!("results/{name}"), bench.path(name)).expect("a link");
    }
    let lines = bench.detect("drive.mcap --json - --max-frames 1");
    bench.detect("drive.mcap -o b.mcap --json b.jsonl");
    assert_eq!(fs::read_to_string(bench.path("results/b.jsonl")).expect("written"), lines);
    assert_eq!(messages(&bench.path("results/b.mcap")).len(), 3);
    assert!(bench.path("b.mcap").is_symlink() && bench.path("b.jsonl").is_symlink());
}

/// Starts a run far longer than any test waits for; returns it with its first line.
fn long_run(bench: &Workbench) -> (Child, BufReader<ChildStdout>, String) {
    bench.write_bag("drive.mcap", LONG);
    let mut command = bench.command("drive.mcap --json - -o boxes.mcap --png pictures --dump maps.npz --threads 1");
    #[cfg(unix)]
    mind_signals(&mut command);
    let mut child = command.spawn().expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    (child, lines, first)
}

/// Waits for the early end of a long run. Its files are complete and agree; returns how many frames they hold.
fn frames_of_ended_run(bench: &Workbench, child: Child) -> usize {
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    let frames = messages(&bench.path("boxes.mcap")).len() / 3;
    let pictures = fs::read_dir(bench.path("pictures")).expect("made").count();
    let arrays = NpzReader::new(File::open(bench.path("maps.npz")).expect("written")).expect("an archive").len();
    assert!((1..LONG).contains(&frames), "{frames}");
    assert_eq!((pictures, arrays), (frames, frames * tiny_model(1).graph().outputs.len()));
    assert_eq!(bench.listing(), ["boxes.mcap", "drive.mcap", "maps.npz", "model.safetensors", "pictures"]);
    frames
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_complete_files() {
    for signal in ["INT", "TERM", "HUP"] {
        let bench = Workbench::new();
        let (child, mut lines, mut text) = long_run(&bench);
        send_signal(&child, signal);
        lines.read_to_string(&mut text).expect("text");
        assert_eq!(json_lines(&text).len(), frames_of_ended_run(&bench, child), "{signal}");
    }
}

/// `nohup lidar_ptq ... &`: a signal that whoever started the program wants ignored.
#[cfg(target_os = "linux")]
#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", LONG);
    let detect = format!("{} detect model.safetensors drive.mcap --json - --threads 1", env!("CARGO_BIN_EXE_lidar_ptq"));
    let mut command = Command::new("sh");
    command.current_dir(bench.folder()).args(["-c", &format!("trap '' HUP; exec {detect}")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("a line").expect("text");
    send_signal(&child, "HUP");
    // Far more frames than were on their way.
    assert_eq!(lines.by_ref().take(20).count(), 20);
    send_signal(&child, "TERM");
    assert!(lines.count() < LONG - 21);
    assert!(stderr(&child.wait_with_output().expect("it ends")).contains("interrupted"));
}

/// A terminal that is closed takes the standard error with it; what is written must not suffer from that.
#[test]
fn a_run_whose_messages_nobody_takes_is_complete() {
    let bench = Workbench::new();
    let clouds = [encode_cloud(&scene(0)), broken_cloud(1), encode_cloud(&scene(2))];
    write_bag(&bench.path("drive.mcap"), clouds.into_iter().map(|c| (TOPIC, c)));
    let mut child = bench.command("drive.mcap -o boxes.mcap").spawn().expect("the program runs");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(messages(&bench.path("boxes.mcap")).len(), 6);
}

/// `lidar_ptq detect ... --json - | head -1`
#[test]
fn a_reader_that_leaves_ends_the_run() {
    let bench = Workbench::new();
    let (child, lines, first) = long_run(&bench);
    assert_eq!(json_lines(&first).len(), 1);
    drop(lines);
    frames_of_ended_run(&bench, child);
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
