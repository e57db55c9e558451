//! What scripts rely on: exit status 0, 1 on failure, 2 on wrong usage; data on stdout, messages on stderr.

use lidar_ptq::detect::{DetectorConfig, PRESETS};
use lidar_ptq::graph::Params;
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, TensorView};
use std::process::{Command, Output, Stdio};

fn lidar_ptq(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).args(arguments).output().expect("the program runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

/// A checkpoint of zeros that fits a preset, in a folder that lives as long as the value.
fn checkpoint(preset: &str) -> (tempfile::TempDir, String) {
    let graph = DetectorConfig::load(preset).expect("a preset").graph().expect("valid");
    let params = Params(graph.params().into_iter().map(|s| (s.name, ArrayD::zeros(IxDyn(&s.shape)))).collect());
    let zeros = vec![0; 2 * params.0.values().map(|a| a.len()).max().unwrap_or(0)];
    let view = |a: &ArrayD<f32>| TensorView::new(Dtype::F16, a.shape().to_vec(), &zeros[..2 * a.len()]).expect("valid");
    let bytes = safetensors::serialize(params.0.iter().map(|(name, a)| (name, view(a))), None).expect("written");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint.safetensors");
    std::fs::write(&path, bytes).expect("written");
    let path = path.to_str().expect("text").to_owned();
    (folder, path)
}

#[test]
fn import_then_info() {
    let (folder, checkpoint) = checkpoint("nuscenes_pillar_mmdet3d");
    let model = folder.path().join("model.safetensors");
    let model = model.to_str().expect("text");

    let imported = lidar_ptq(&["import", &checkpoint, "-o", model]);
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
    assert_eq!(stdout(&imported), "");
    assert!(stderr(&imported).contains("nuscenes_pillar_mmdet3d_circle"), "{}", stderr(&imported));

    let info = lidar_ptq(&["info", model, "--json"]);
    let info: serde_json::Value = serde_json::from_str(stdout(&info)).expect("one JSON object");
    assert_eq!(info["manifest"]["config"]["name"], "nuscenes_pillar_mmdet3d");
    assert_eq!(info["totals"]["parameters"], 5_993_606);
    let layers = info["layers"].as_array().expect("layers");
    let shared = layers.iter().find(|l| l["name"] == "pts_bbox_head.shared_conv.conv").expect("the shared convolution");
    assert_eq!(shared["shape"], serde_json::json!(["batch", 128, 128, 64]));
    assert_eq!(shared["macs"], 128u64 * 128 * 384 * 64 * 9);
    assert_eq!(shared["bytes"], 384 * 64 * 9 * 4);

    let table = lidar_ptq(&["info", model]);
    assert!(stdout(&table).contains("5,993,606"), "{}", stdout(&table));

    let half = folder.path().join("half.safetensors");
    let half = half.to_str().expect("text");
    assert_eq!(lidar_ptq(&["import", &checkpoint, "-o", half, "--f16"]).status.code(), Some(0));
    let [full, half] = [model, half].map(|path| std::fs::metadata(path).expect("there").len() as f64);
    assert!((0.5..0.51).contains(&(half / full)), "{}", half / full);
}

#[test]
fn presets_are_listed_and_printed() {
    let listed = lidar_ptq(&["import", "--list-presets"]);
    let names: Vec<&str> = stdout(&listed).lines().collect();
    assert_eq!(names, PRESETS.iter().map(|p| p.name).collect::<Vec<_>>());
    let printed = lidar_ptq(&["import", "--print-config", names[0]]);
    assert_eq!(DetectorConfig::from_yaml(stdout(&printed)).expect("a configuration").name, names[0]);
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    for arguments in [&[][..], &["import"], &["info"], &["nonsense"], &["import", "a.pth", "--list-presets"]] {
        let output = lidar_ptq(arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{arguments:?}");
    }
    for arguments in [&["import", "absent.pth"][..], &["info", "absent.safetensors"], &["import", "--print-config", "nonsense"]] {
        let output = lidar_ptq(arguments);
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""), "{arguments:?}");
        assert!(stderr(&output).contains(arguments[arguments.len() - 1]), "{}", stderr(&output));
    }
    let (_folder, checkpoint) = checkpoint("waymo_pillar_det3d");
    let output = lidar_ptq(&["import", &checkpoint]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("would replace the checkpoint"), "{}", stderr(&output));
}

/// `lidar_ptq ... | head`: a reader that leaves is no failure.
#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"))
        .args(["import", "--list-presets"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
