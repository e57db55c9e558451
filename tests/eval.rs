//! `lidar_ptq eval` and the ground truth of bags.

mod support;

use lidar_ptq::geometry::{Box3, Pose};
use lidar_ptq::node::messages::truth_array;
use lidar_ptq::node::{BagTruth, TruthError, TruthOptions, simulated};
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::msg::geometry_msgs::TransformStamped;
use lidar_ptq::ros::msg::std_msgs::Header;
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::{PointCloud, Stamp};
use lidar_ptq::sim::{SimConfig, Simulation};
use ndarray::Array2;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{START, TOPIC, save_tiny_model};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/edge_pillar.safetensors");
const DRIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/drive.mcap");

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).arg("eval").args(arguments).output().expect("the program runs")
}

fn succeeds(arguments: &[&str]) -> (String, String) {
    let output = eval(arguments);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    (stdout, stderr)
}

fn fails(arguments: &[&str], says: &[&str]) {
    let output = eval(arguments);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    says.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// In 0..=1.
fn share(value: &Value) -> f64 {
    let share = value.as_f64().unwrap_or_else(|| panic!("no number: {value}"));
    assert!((0.0..=1.0).contains(&share), "{share}");
    share
}

#[test]
fn the_bundled_model_on_the_bundled_drive() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (path, same) = (folder.path().join("metrics.json"), other.path().join("same.safetensors"));
    std::fs::copy(MODEL, &same).expect("copied");
    let [path_text, same] = [&path, &same].map(|p| p.to_str().expect("text"));
    let (table, _) = succeeds(&[MODEL, DRIVE, "--every", "0.25", "--json", path_text, "--against", same]);
    for part in ["AP 0.5m", "construction_vehicle", "20-40 m", "mAP 0.", "attributes are not judged"] {
        assert!(table.contains(part), "`{part}` is not in: {table}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    assert_eq!(json["frames"], 3);
    let (map, nds) = (share(&json["mAP"]), share(&json["NDS"]));
    assert!(map > 0.0 && nds > share(&json["NDS_with_AAE_1"]));
    let classes = json["classes"].as_object().expect("classes");
    assert_eq!(classes.len(), 10);
    let means: f64 = classes.values().map(|c| share(&c["mean_ap"])).sum();
    assert!((means / 10.0 - map).abs() < 1e-12);
    let car = &classes["car"];
    assert!(car["objects"].as_u64() > Some(30) && car["ap"].as_object().map(|a| a.len()) == Some(4), "{car}");
    assert!(share(&car["ap"]["0.5"]) <= share(&car["ap"]["4.0"]));
    assert!(car["errors"]["AVE"].is_f64() && classes["traffic_cone"]["errors"]["AOE"].is_null());
    let ranges = json["ranges"].as_array().expect("ranges");
    let cars = |range: &Value| range["classes"]["car"]["objects"].as_u64().unwrap_or(0);
    assert_eq!(Some(ranges.iter().map(cars).sum::<u64>()), car["objects"].as_u64());
    // A model is of one mind with itself.
    let all = &json["agreement"]["all"];
    assert!(all["pairs"].as_u64() > Some(20), "{all}");
    for figure in ["center_shift_m", "yaw_error_rad", "velocity_error_m_s", "score_bias"] {
        assert_eq!(all[figure], 0.0, "{figure}");
    }
    assert_eq!((&all["thresholds"][0]["recall"], &all["thresholds"][1]["precision"]), (&1.0.into(), &1.0.into()));
    assert!(all["score_correlation"].as_f64() > Some(0.999_999));
}

#[test]
fn a_report_is_one_page_and_its_plots() {
    let folder = tempfile::tempdir().expect("a folder");
    let (report, json) = (folder.path().join("a & b"), folder.path().join("metrics.json"));
    let [report_text, json_text] = [&report, &json].map(|p| p.to_str().expect("text"));
    let judged = [MODEL, DRIVE, "--every", "0.25", "--json", json_text, "--report", report_text];
    let (_, said) = succeeds(&[&judged[..], &["--worst-score", "0.2"]].concat());
    assert!(said.contains("report.html"), "{said}");
    let page = std::fs::read_to_string(report.join("report.html")).expect("written");
    let json: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    let figure = |value: &Value| format!("{:.3}", value.as_f64().expect("a number"));
    let car = &json["classes"]["car"];
    for part in [
        format!("mAP {}, NDS {}", figure(&json["mAP"]), figure(&json["NDS"])),
        format!(
            "<td class=\"left\">car</td><td>{}</td><td>{}</td><td>{}</td>",
            car["objects"],
            car["predictions"],
            figure(&car["ap"]["0.5"])
        ),
        format!("<td>{}</td><td>{}</td>", figure(&car["mean_ap"]), figure(&car["max_recall"])),
        "a &amp; b".to_owned(),
        "from a score of 0.2 on".to_owned(),
    ] {
        assert!(page.contains(&part), "`{part}` is not in the page");
    }
    // Three frames within a second are one picture.
    assert_eq!(page.matches("<img ").count(), 1);
    let plot = std::fs::read_to_string(report.join("precision_recall_car.svg")).expect("written");
    assert!(page.contains(&plot) && plot.contains("within 0.5 m"));
    // With no more frames to show than none.
    succeeds(&[&judged[..], &["--worst", "0"]].concat());
    assert!(!std::fs::read_to_string(report.join("report.html")).expect("written").contains("<img "));
    assert_eq!(eval(&[MODEL, DRIVE, "--worst", "3"]).status.code(), Some(2), "--worst alone is wrong usage");
}

/// The bundled drive again, without the bag: coordinates there are rounded to 2 mm, and points are counted otherwise.
#[test]
fn a_simulated_drive_gives_nearly_the_figures_of_its_bag() {
    let figures = |arguments: &[&str]| {
        let (json, _) = succeeds(&[&[MODEL, "--every", "0.25", "--json", "-"], arguments].concat());
        serde_json::from_str::<Value>(&json).expect("JSON on stdout, nothing else")
    };
    let (bag, simulated) = (figures(&[DRIVE]), figures(&["--sim", "900001", "--seconds", "0.8"]));
    assert_eq!(bag["frames"], simulated["frames"]);
    let difference = share(&bag["mAP"]) - share(&simulated["mAP"]);
    assert!(difference.abs() < 0.02, "{difference}");
    assert!(share(&bag["classes"]["car"]["mean_ap"]) > 0.05);
}

#[test]
fn what_cannot_be_judged_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.safetensors");
    save_tiny_model(&model);
    let unlabelled = folder.path().join("unlabelled.mcap");
    let mut bag = BagWriter::create(&unlabelled).expect("created");
    for i in 0..3 {
        let cloud = encode_cloud(&support::scene(i));
        bag.write(TOPIC, cloud.header.stamp, &cloud).expect("written");
    }
    bag.finish().expect("written");
    let [model, unlabelled] = [&model, &unlabelled].map(|p| p.to_str().expect("text"));
    fails(&[model, unlabelled], &["unlabelled.mcap", "no ground truth", TOPIC]);
    fails(&[model, "absent.mcap"], &["absent.mcap", "no such file"]);
    fails(&[model, DRIVE, "--truth-topic", "/odom"], &["/odom", "/ground_truth"]);
    fails(&[model, DRIVE, "--every", "5"], &["no frame was judged", "16 clouds"]);
    fails(&[model, DRIVE, "--json", model], &["would replace the input"]);
    assert_eq!(eval(&[model]).status.code(), Some(2));
    assert_eq!(eval(&[model, "--sim", "7..7"]).status.code(), Some(2));

    // Two models can be compared without labels.
    let (json, _) = succeeds(&[model, unlabelled, "--against", model, "--every", "0", "--json", "-"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["mAP"].is_null() && json["frames"] == 3 && json["agreement"]["frames"] == 3, "{json}");
}

fn transforms(parent: &str, child: &str, stamp: Stamp, pose: &Pose) -> TFMessage {
    let header = Header { stamp, frame_id: parent.to_owned() };
    TFMessage { transforms: vec![TransformStamped { header, child_frame_id: child.to_owned(), transform: pose.into() }] }
}

fn options(classes: &[&str]) -> TruthOptions {
    TruthOptions { classes: classes.iter().map(|c| c.to_string()).collect(), ..TruthOptions::default() }
}

/// Half a second apart: a robot that turns, a car that drives straight on, one that is seen only in the third frame, and one
/// without a track.
fn write_turning_drive(path: &Path) {
    let mut bag = BagWriter::create(path).expect("created");
    for i in 0..4 {
        let seconds = 0.5 * f64::from(i);
        let stamp = Stamp(START.0 + 500_000_000 * i64::from(i));
        let lidar_from_odom = odom_from_lidar(seconds).inverse();
        bag.write("/tf", stamp, &transforms("odom", "lidar", stamp, &odom_from_lidar(seconds))).expect("written");
        let at = |x: f64, y: f64| {
            let center = lidar_from_odom.apply([x, y, 1.0]).map(|v| v as f32);
            Box3 { center, size: [4.0, 2.0, 1.5], yaw: 0.0, velocity: [0.0; 2] }
        };
        let mut objects = vec![(at(20.0 + 6.0 * seconds, 5.0 - 2.0 * seconds), "car", 7)];
        if i == 2 {
            objects.push((at(10.0, 0.0), "car", 8));
            objects.push((at(15.0, 0.0), "unicorn", 9));
        }
        let mut array = truth_array(stamp, "lidar", objects.into_iter());
        if i == 1 {
            array.detections.extend(truth_array(stamp, "lidar", [(at(12.0, 0.0), "car", 0)].into_iter()).detections);
            array.detections[1].id.clear();
        }
        bag.write("/ground_truth", stamp, &array).expect("written");
    }
    bag.finish().expect("written");
}

fn odom_from_lidar(seconds: f64) -> Pose {
    Pose::from_yaw([4.0 * seconds, seconds * seconds, 2.0], 0.4 * seconds)
}

#[test]
fn velocity_comes_from_the_track_over_ground_in_the_axes_of_the_sensor() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drive.mcap");
    write_turning_drive(&path);
    let truth = BagTruth::read(&path, &options(&["pedestrian", "car"])).expect("read");
    for i in 0..4 {
        let labels = truth.at(Stamp(START.0 + 500_000_000 * i64::from(i))).expect("labelled");
        let car = &labels.boxes[0];
        let turn = 0.4 * 0.5 * f64::from(i);
        let want = [6.0 * turn.cos() - 2.0 * turn.sin(), -6.0 * turn.sin() - 2.0 * turn.cos()];
        for (got, want) in car.bbox.velocity.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-4, "frame {i}: {got}, not {want}");
        }
        assert_eq!((car.label, car.points), (1, None));
    }
    let unknown = |frame: i64, index: usize| {
        let labels = truth.at(Stamp(START.0 + 500_000_000 * frame)).expect("labelled");
        labels.boxes[index].bbox.velocity.iter().all(|v| v.is_nan())
    };
    assert!(unknown(1, 1) && unknown(2, 1));
    assert_eq!(truth.remarks().collect::<Vec<_>>(), ["/ground_truth: 1 objects of class `unicorn`, which the model does not have"]);
    assert!(truth.at(Stamp(START.0 + 1)).is_none());
}

#[test]
fn without_motion_no_velocity_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drive.mcap");
    let mut bag = BagWriter::create(&path).expect("created");
    for i in 0..3 {
        let stamp = Stamp(START.0 + 100_000_000 * i);
        let bbox = Box3 { center: [5.0 + i as f32, 0.0, 0.0], size: [4.0, 2.0, 1.5], yaw: 0.0, velocity: [0.0; 2] };
        bag.write("/truth", stamp, &truth_array(stamp, "lidar", [(bbox, "car", 1)].into_iter())).expect("written");
        bag.write("/detections", stamp, &truth_array(stamp, "lidar", std::iter::empty())).expect("written");
    }
    bag.finish().expect("written");
    let error = BagTruth::read(&path, &options(&["car"])).expect_err("two topics");
    assert!(matches!(error, TruthError::SeveralTopics { .. }), "{error}");
    let chosen = TruthOptions { topic: Some("/truth".into()), ..options(&["car"]) };
    let truth = BagTruth::read(&path, &chosen).expect("read");
    let labels = truth.at(Stamp(START.0 + 100_000_000)).expect("labelled");
    assert!(labels.boxes[0].bbox.velocity[0].is_nan());
}

/// Labels in the vehicle's frame, a lidar that looks to the left: what is judged must still meet the points.
#[test]
fn labels_may_be_in_another_frame_than_the_cloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.safetensors");
    save_tiny_model(&model);
    let bag_with = |name: &str, mounting: Option<Pose>| -> PathBuf {
        let path = folder.path().join(name);
        let mut bag = BagWriter::create(&path).expect("created");
        for i in 0..4i64 {
            let stamp = Stamp(START.0 + 100_000_000 * i);
            if let Some(mounting) = &mounting {
                bag.write("/tf_static", stamp, &transforms("base_link", "lidar", stamp, mounting)).expect("written");
            }
            bag.write(TOPIC, stamp, &encode_cloud(&points(stamp))).expect("written");
            let bbox = |center, yaw| Box3 { center, size: [4.0, 2.0, 1.5], yaw, velocity: [0.0; 2] };
            // The first is around the points, the second where they would be without the mounting.
            let objects = [(bbox([1.0, 10.0, 2.0], 1.6), "car", 1), (bbox([10.0, 0.0, 0.0], 0.0), "car", 2)];
            bag.write("/ground_truth", stamp, &truth_array(stamp, "base_link", objects.into_iter())).expect("written");
        }
        bag.finish().expect("written");
        path
    };
    let mounting = Pose::from_yaw([1.0, 0.0, 2.0], std::f64::consts::FRAC_PI_2);
    let turned = bag_with("turned.mcap", Some(mounting));
    let [model, turned] = [&model, &turned].map(|p| p.to_str().expect("text"));
    let (json, _) = succeeds(&[model, turned, "--every", "0", "--json", "-"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    // One of the two holds points, in each of four frames.
    assert_eq!((&json["frames"], &json["classes"]["car"]["objects"]), (&4.into(), &4.into()), "{json}");
    let unlinked = bag_with("unlinked.mcap", None);
    fails(&[model, unlinked.to_str().expect("text"), "--every", "0"], &["labels are in frame `base_link`", "`lidar`"]);
}

/// A clump ten metres ahead of the lidar.
fn points(stamp: Stamp) -> PointCloud {
    let fields = ["x", "y", "z", "intensity"].map(str::to_owned).to_vec();
    let data = Array2::from_shape_fn((50, 4), |(i, column)| [10.0, 0.0, 0.0, 20.0][column] + 0.01 * (i % 7) as f32);
    PointCloud { stamp, frame_id: "lidar".into(), fields, data }
}

/// The bundled drive's labels against the simulator's own velocities.
#[test]
fn velocities_of_the_bundled_drive_are_the_simulators() {
    let config = SimConfig { seed: 900_001, seconds: 0.8, ..SimConfig::default() };
    let classes: Vec<&str> = lidar_ptq::sim::ObjectClass::ALL.iter().map(|c| c.name()).collect();
    let truth = BagTruth::read(Path::new(DRIVE), &options(&classes)).expect("read");
    let mut compared = 0;
    for frame in Simulation::new(&config).skip(1).take(14) {
        let labels = truth.at(simulated::stamp_of(&frame)).expect("labelled");
        let seen: Vec<_> = frame.truth.iter().filter(|t| t.num_lidar_points > 0).collect();
        assert_eq!(labels.boxes.len(), seen.len());
        for (label, simulated) in labels.boxes.iter().zip(seen) {
            let [got, want] = [label.bbox.velocity, simulated.bbox.velocity];
            if got[0].is_finite() {
                // Speed changes between the frames before and after, and single precision at 400 m shows.
                assert!((got[0] - want[0]).hypot(got[1] - want[1]) < 0.2, "{got:?}, not {want:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}
