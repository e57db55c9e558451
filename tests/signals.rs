//! A service that is stopped, a terminal that is closed: what long commands have done until then is whole.
//! (`detect` is in `detect_cli/endings.rs`.)
#![cfg(unix)]

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::detect::Model;
use lidar_ptq::graph::read_model_file;
use lidar_ptq::ros::bag::{BagReader, BagWriter};
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::train::{ExampleFolder, LabelledBox, TrainState};
use ndarray::Array2;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{TOPIC, mind_signals, save_tiny_model, scene, send_signal, tiny_config};

fn start(folder: &Path, arguments: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    command.current_dir(folder).args(arguments.split_whitespace()).stdin(Stdio::null()).stderr(Stdio::piped());
    mind_signals(&mut command);
    command.spawn().expect("the program runs")
}

/// Sends the signal when `has_begun`, and returns what the program said; its exit status is 1: not all was done.
fn stopped(mut child: Child, signal: &str, has_begun: impl Fn() -> bool) -> String {
    while !has_begun() && child.try_wait().expect("asked").is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    send_signal(&child, signal);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted"), "{text}");
    text
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_simulated_drive_is_a_whole_bag() {
    let folder = tempfile::tempdir().expect("a folder");
    let child = start(folder.path(), "sim --seconds 40 -o drive.mcap");
    // The first frames are in the temporary file.
    let written =
        || std::fs::read_dir(folder.path()).expect("a folder").any(|e| e.expect("an entry").metadata().is_ok_and(|m| m.len() > 100_000));
    stopped(child, "TERM", written);
    let mut bag = BagReader::open(&folder.path().join("drive.mcap")).expect("a bag");
    let on = |topic: &str| bag.topics().iter().find(|t| *t.name == *topic).map_or(0, |t| t.count);
    let frames = on("/lidar/points");
    assert!((1..800).contains(&frames) && on("/ground_truth") == frames, "{frames}");
    assert_eq!(bag.by_ref().filter(|m| &*m.topic == "/lidar/points").count() as u64, frames);
    assert!(bag.report().is_clean(), "{:?}", bag.report().problems());
    assert_eq!(files(folder.path()), ["drive.mcap"]);
}

#[test]
fn a_training_keeps_its_model_and_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let car = LabelledBox { label: 0, center: [8.0, 3.0, -1.0], size: [4.4, 1.9, 1.6], yaw: 0.3, velocity: None };
    let seen = scene(0).data;
    let points = Array2::from_shape_fn((seen.nrows(), 5), |(row, column)| if column < 4 { seen[[row, column]] } else { 0.0 });
    std::fs::create_dir(path("frames")).expect("created");
    ExampleFolder::write(&path("frames"), "0", &points, &[car]).expect("written");
    // JSON is YAML.
    std::fs::write(path("tiny.yaml"), serde_json::to_string(&tiny_config(1)).expect("text")).expect("written");
    let config = "detector: tiny.yaml\nframes: frames\nstore_every: 1\ntrain: {steps: 100000, batch: 1}\n";
    std::fs::write(path("train.yaml"), config).expect("written");

    let text = stopped(start(folder.path(), "train train.yaml -o model.safetensors"), "HUP", || path("model.state").exists());
    Model::load(&path("model.safetensors")).expect("a model");
    let (manifest, _) = read_model_file::<TrainState>(&std::fs::read(path("model.state")).expect("there")).expect("a state");
    assert!(text.contains(&format!("interrupted at step {}", manifest.config.step)), "{text}");
}

/// As a script starts it with `&`: Ctrl-C is not for it, SIGTERM is, even if that was to be ignored too.
#[test]
fn a_calibration_in_the_background_hears_sigterm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    save_tiny_model(&path("model.safetensors"));
    let mut bag = BagWriter::create(&path("drive.mcap")).expect("created");
    for frame in 0..6 {
        let cloud = scene(frame);
        bag.write(TOPIC, cloud.stamp, &encode_cloud(&cloud)).expect("written");
    }
    bag.finish().expect("complete");
    let recipe = "calibrate model.safetensors --bag drive.mcap -o q.safetensors --recipe adaround --steps 1000000 --batch 1 --frames 4";
    let command = format!("trap '' INT TERM; exec '{}' {recipe} --held-out 0 --progress-json", env!("CARGO_BIN_EXE_lidar_ptq"));
    let out = std::fs::File::create(path("progress")).expect("created");
    let mut child = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let learns = || std::fs::read_to_string(path("progress")).is_ok_and(|text| text.contains("learning"));
    while !learns() && child.try_wait().expect("asked").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    send_signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("asked").is_none(), "it heard what was not for it");
    let asked = Instant::now();
    let text = stopped(child, "TERM", || true);
    assert!(asked.elapsed() < Duration::from_secs(10) && text.contains("the same command goes on"), "{text}");
    assert!(!path("q.safetensors").exists());
}
