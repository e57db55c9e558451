//! What is written: lines, bags, arrays and pictures, whole or not at all.

use crate::support::{PERIOD, START, TOPIC, Workbench, scene, tiny_config, tiny_model};
use crate::{boxes, json_lines, messages, stderr, write_bag};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::msg::visualization_msgs::{Marker, MarkerArray};
use lidar_ptq::ros::point_cloud::encode_cloud;
use ndarray::Array4;
use ndarray_npy::NpzReader;
use serde_json::Value;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

const DETECTIONS: &str = "/lidar_ptq/output/detections";
const MARKERS: &str = "/lidar_ptq/output/markers";

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
