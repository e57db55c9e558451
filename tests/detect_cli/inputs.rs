//! What is read: whatever holds clouds, chosen and damaged.

use crate::support::{START, TOPIC, Workbench, scene};
use crate::{FIELDS, boxes, broken_cloud, json_lines, messages, stderr, write_bag, write_bin};
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::{PointCloud2, PointCloud2Ref, PointField};
use lidar_ptq::ros::msg::visualization_msgs::MarkerArray;
use lidar_ptq::ros::point_cloud::{decode_cloud, encode_cloud};
use lidar_ptq::sensor::{PointCloud, Stamp};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn write_pcd(path: &Path, cloud: &PointCloud) {
    let n = cloud.len();
    let header = format!(
        "VERSION .7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {n}\nHEIGHT 1\n\
         VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA binary\n"
    );
    let points = cloud.data.iter().flat_map(|v| v.to_le_bytes());
    fs::write(path, header.into_bytes().into_iter().chain(points).collect::<Vec<u8>>()).expect("written");
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
