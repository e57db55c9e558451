//! The detector node as a process, and others on the same network: another process of this crate, and Eclipse Cyclone DDS.
//!
//! Everything stays on the loopback interface, in a domain and under topics of its own.
#![cfg(all(unix, feature = "dds"))]

#[allow(dead_code)] // each test file uses its own part
#[path = "../support/mod.rs"]
mod support;

mod calibrate;
mod faults;
mod fixture;
mod lifecycle;
mod rosout;
mod soak;

use fixture::{Answers, Bench, Node};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use serde_json::{Value, json};

/// As a bag has it, a small automotive lidar, a large one.
const SIZES: [usize; 3] = [30_000, 120_000, 300_000];

#[test]
fn every_cloud_is_answered_as_on_the_command_line_or_counted() {
    let bench = Bench::new();
    for size in SIZES {
        let clouds = bench.clouds(size, 10);
        let expected = bench.command_line(&clouds);
        let Some(node) = Node::start(&bench, "") else { return };
        let Some(mut peer) = node.peer() else { return };
        let answers = peer.play(&clouds);
        answers.check(&expected);
        node.stop("INT");
    }
}

#[test]
fn every_cloud_of_an_independent_participant_is_answered_or_counted() {
    let Some(python) = fixture::python_with_cyclonedds() else { return };
    let bench = Bench::new();
    for (size, reliability) in SIZES.map(|size| (size, "reliable")).into_iter().chain([(SIZES[1], "best_effort")]) {
        let clouds = bench.clouds(size, 10);
        let expected = bench.command_line(&clouds);
        let Some(node) = Node::start(&bench, "") else { return };
        let answers: Answers = node.independent_peer(&python, &clouds, if reliability == "reliable" { &[] } else { &["--best-effort"] });
        answers.check(&expected);
        assert_eq!(answers.input("reliability"), reliability, "as the publisher offers");
        println!("{size} points, {reliability}: {} of {} answered, {}", answers.boxes.len(), clouds.len(), answers.summary());
        node.stop("TERM");
    }
}

#[test]
fn bad_clouds_are_told_of_and_the_next_good_one_is_answered() {
    let bench = Bench::new();
    let good = bench.clouds(2_000, 3);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let mut cut = good[0].encode();
    cut.truncate(100);
    let without_x = PointCloud2 { fields: good[0].fields[1..].to_vec(), ..good[0].clone() };
    let too_long = PointCloud2 { width: u32::MAX, ..good[0].clone() };
    let none = PointCloud2 { width: 0, row_step: 0, data: vec![], ..good[1].clone() };
    let messages = [good[0].encode(), cut, without_x.encode(), too_long.encode(), none.encode(), good[2].encode()];
    let answers = peer.play_one_by_one(messages);
    let stamps: Vec<_> = answers.boxes.keys().copied().collect();
    assert_eq!(stamps, good.iter().map(|c| c.header.stamp).collect::<Vec<_>>(), "an empty cloud has an answer, too");
    assert_eq!((answers.since_before("received"), answers.since_before("skipped")), (6, 3), "{}", answers.summary());
    assert!(answers.input("last_skip_reason").contains("row_step"), "{}", answers.summary());
    node.stop("INT");
}

#[test]
fn a_model_is_replaced_only_by_one_that_works() {
    let Some(python) = fixture::python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 4);
    let Some(node) = Node::start(&bench, "") else { return };
    std::fs::write(bench.path("garbage.safetensors"), b"no model").expect("written");
    let path = |name: &str| bench.path(name).display().to_string();
    let (garbage, other) = (path("garbage.safetensors"), path("other.safetensors"));
    let answers = node.independent_peer(&python, &clouds, &["--load-model", &garbage, "--load-model", &other]);
    let [(false, refused), (true, taken)] = &answers.calls[..] else { panic!("{:?}", answers.calls) };
    assert!(refused.contains(&garbage) && taken.contains(&other), "{:?}", answers.calls);
    answers.check(&bench.command_line(&clouds));
    node.stop("INT");
}

#[test]
fn parameters_are_read_and_set_as_ros_tools_do() {
    let Some(python) = fixture::python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 3);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let found = |boxes: fixture::Answers| boxes.boxes.values().map(Vec::len).sum::<usize>();
    assert!(found(peer.play(&clouds)) > 0);

    let told = node.set_parameters(&python);
    let [listed, types, score, threads, set, together, values, changed] = &told[..] else { panic!("{told:?}") };
    let markers = ["markers.alpha", "markers.arrow_seconds", "markers.lifetime", "markers.min_speed"];
    let sweeps = ["densification_params.num_past_frames", "densification_params.world_frame_id"];
    let names = [&sweeps[..], &markers[..]].concat();
    assert_eq!(listed, &json!({"names": names, "prefixes": ["densification_params", "markers"]}));
    // Integer, double, string, not set: rcl_interfaces/msg/ParameterType.
    assert_eq!(types["types"], json!([2, 3, 4, 0]));
    let bounds =
        json!({"described": "score_threshold", "type": 3, "read_only": false, "constraints": "", "floats": [[-1.0, 1.0]], "integers": []});
    assert_eq!(score, &bounds);
    assert_eq!((&threads["read_only"], &threads["integers"]), (&json!(true), &json!([[0, 1024]])));
    assert_eq!(set["set"], json!([true, false, false, false, false, true]));
    for (at, reason) in
        [(1, "expected a number from 0 to 1"), (2, "call ~/load_model"), (3, "no such parameter"), (4, "names of the classes")]
    {
        assert!(set["reasons"][at].as_str().is_some_and(|r| r.contains(reason)), "{set}");
    }
    assert_eq!(together["set"], json!([false]), "one of two is read-only");
    assert_eq!(values["values"], json!([[3, 1.0], [3, 0.0], [0, 0.0]]));
    assert_eq!(changed["changed"], Value::from(["class_thresholds", "score_threshold"].map(str::to_owned).to_vec()));

    // Nothing is above a threshold of one.
    let answers = peer.play(&clouds);
    assert_eq!((answers.boxes.len(), found(answers)), (clouds.len(), 0));
    node.stop("INT");
}
