//! The calibration node as a process beside the detector.

use crate::fixture::{Bench, Node, python_with_cyclonedds};
use lidar_ptq::detect::Model;
use lidar_ptq::ros::bag::{BagReader, BagWriter};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use serde_json::{Value, json};
use std::path::Path;

/// As `action_msgs/msg/GoalStatus` numbers them.
const SUCCEEDED: i64 = 4;
const CANCELED: i64 = 5;
const ABORTED: i64 = 6;

fn write_bag(bench: &Bench) -> String {
    let path = bench.path("drive.mcap");
    let mut bag = BagWriter::create(&path).expect("a bag");
    bench.clouds(2_000, 8).iter().for_each(|c| bag.write("/points", c.header.stamp, c).expect("written"));
    bag.finish().expect("finished");
    path.display().to_string()
}

/// Recordings in a folder, by their number of clouds.
fn recordings(folder: &Path) -> Vec<usize> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|f| f.expect("a file").path());
    let bags = files.filter(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("calibration_")));
    bags.map(|f| BagReader::open(&f).expect("a bag").filter(|m| &*m.type_name == PointCloud2::TYPE).count()).collect()
}

fn is_quantized(path: &Path) -> bool {
    Model::load(path).is_ok_and(|model| model.quantization().is_some())
}

#[test]
fn a_goal_is_a_model_that_the_detector_runs() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let bag = write_bag(&bench);
    let Some(node) = Node::start(&bench, "") else { return };
    let calibrator = node.calibrator(&bench, "");
    let goals = [
        json!({"bag": bag, "load": true}),
        json!({"bag": bench.path("nowhere.mcap")}),
        json!({}),
        json!({"record_minutes": 5.0, "cancel": true}),
        json!({"bag": bag, "output": bench.path("second.safetensors")}),
    ];
    let heard = calibrator.calibrate(&python, &goals);
    let results: Vec<&Value> = heard.iter().filter(|line| line["status"].is_i64()).collect();
    let [loaded, no_bag, nothing, cancelled, written] = results[..] else { panic!("{heard:?}") };

    assert_eq!((&loaded["status"], &loaded["success"], &loaded["loaded"]), (&SUCCEEDED.into(), &true.into(), &true.into()), "{loaded}");
    assert!(loaded["message"].as_str().is_some_and(|m| m.ends_with("model.int8.safetensors runs")), "{loaded}");
    assert!(is_quantized(&bench.path("model.int8.safetensors")));
    assert!(loaded["agreement"].as_f64().is_some_and(|a| (0.0..=1.0).contains(&a)), "{loaded}");
    assert!(loaded["report"].as_str().is_some_and(|r| r.contains("runs in") && r.contains("against the float model")), "{loaded}");
    let stages: Vec<&str> = loaded["stages"].as_array().expect("some").iter().filter_map(|s| s[0].as_str()).collect();
    assert!(stages.contains(&"loading"), "{stages:?}");

    for (failed, reason) in [(no_bag, "nowhere.mcap"), (nothing, "record_minutes is 0")] {
        assert_eq!((&failed["status"], &failed["success"]), (&ABORTED.into(), &false.into()));
        assert!(failed["message"].as_str().is_some_and(|m| m.contains(reason)), "{failed}");
    }
    assert_eq!((&cancelled["status"], recordings(&bench.path(""))), (&CANCELED.into(), vec![]), "{cancelled}");
    assert!(heard.contains(&json!({"second": false})) && heard.contains(&json!({"cancelled": 0})), "{heard:?}");
    assert_eq!((&written["status"], &written["loaded"]), (&SUCCEEDED.into(), &false.into()), "{written}");
    assert!(is_quantized(&bench.path("second.safetensors")));
    let all = [SUCCEEDED, ABORTED, ABORTED, CANCELED, SUCCEEDED];
    assert!(heard.contains(&json!({"statuses": all})) && heard.contains(&json!({"unknown": 0})), "{heard:?}");
    calibrator.stop("INT");
    node.stop("INT");
}

#[test]
fn the_next_seconds_are_recorded_and_calibrated_from() {
    let bench = Bench::new();
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let calibrator = node.calibrator(&bench, "-p record_minutes:=0.04 -p exit_when_done:=true");
    // 2.4 s from the first that comes; the recorder takes a while to be found.
    peer.play(&bench.clouds(2_000, 50));
    assert!(calibrator.wait().success());
    let [clouds] = recordings(&bench.path(""))[..] else { panic!("one recording") };
    assert!((5..=50).contains(&clouds), "{clouds}");
    assert!(is_quantized(&bench.path("model.int8.safetensors")));
    node.stop("INT");
}

/// A block of `ulimit -f` is 512 or 1024 bytes, as the shell likes.
#[test]
fn a_full_disk_leaves_nothing_half_and_the_node_alive() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let bag = write_bag(&bench);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let calibrator = node.calibrator_on_full_disk(&bench, 8, "");
    let calibrating = calibrator.calibrate(&python, &[json!({"bag": bag})]);
    assert_eq!((&calibrating[1]["status"], &calibrating[1]["success"]), (&ABORTED.into(), &false.into()), "{calibrating:?}");
    assert!(!bench.path("model.int8.safetensors").exists());
    let goals = [json!({"record_minutes": 0.05})];
    let recording = std::thread::scope(|scope| {
        let heard = scope.spawn(|| calibrator.calibrate(&python, &goals));
        peer.play(&bench.clouds(2_000, 40));
        heard.join().expect("it ends")
    });
    assert_eq!(recording[1]["status"], ABORTED, "{recording:?}");
    assert_eq!(recordings(&bench.path("")), Vec::<usize>::new());
    calibrator.stop("TERM");
    node.stop("INT");
}

/// Processes of `lidar_ptq calibrate` that work in a folder.
#[cfg(target_os = "linux")]
fn calibrations(folder: &Path) -> usize {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("Linux").filter_map(|p| std::fs::read(p.ok()?.path().join("cmdline")).ok());
    processes
        .map(|c| String::from_utf8_lossy(&c).into_owned())
        .filter(|c| c.contains("lidar_ptq\0calibrate\0") && c.contains(&folder))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_that_is_killed_leaves_no_calibration_behind() {
    let bench = Bench::new();
    let bag = write_bag(&bench);
    let Some(node) = Node::start(&bench, "") else { return };
    let mut calibrator = node.calibrator(&bench, &format!("-p bag:={bag} -p calibration.method:=lidar-ptq"));
    let wait_for = |count| {
        let since = std::time::Instant::now();
        while calibrations(&bench.path("")) != count {
            assert!(since.elapsed().as_secs() < 30, "{count}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    wait_for(1);
    calibrator.kill();
    wait_for(0);
    // The kill may have come too late to prevent it.
    let output = bench.path("model.int8.safetensors");
    assert!(!output.exists() || is_quantized(&output));
    node.stop("INT");
}
