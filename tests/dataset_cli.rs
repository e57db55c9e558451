//! Training and judging on a public data set's folder, and training from another model's weights.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::dataset::Dataset;
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::node::{LabelledDataset, LabelledEvent};
use lidar_ptq::sensor::SweepsConfig;
use lidar_ptq::train::{DatasetExamples, ExampleSource};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{save_tiny_model, tiny_config};

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nuscenes/dataset")
}

/// The tiny detector for two of the data set's classes in place of ten.
fn two_classes() -> DetectorConfig {
    let mut config = tiny_config(2);
    config.network.head.tasks[0].classes = ["Car", "Pedestrian"].map(str::to_owned).to_vec();
    config
}

#[test]
fn labels_become_the_detectors_own() {
    let config = two_classes();
    let dataset = Dataset::open(&recording(), None).unwrap();
    let examples = DatasetExamples::new(dataset.clone(), &config).unwrap();
    assert_eq!(examples.len(), dataset.len());
    for index in 0..examples.len() {
        let example = examples.example(index).unwrap();
        let objects = dataset.objects(index).unwrap();
        let wanted: Vec<_> = objects.iter().filter(|o| o.points > Some(0) && ["car", "pedestrian"].contains(&o.class.as_str())).collect();
        assert_eq!(example.points.ncols(), config.points.features.len());
        assert_eq!(example.boxes, examples.boxes(index).unwrap());
        assert_eq!(example.boxes.len(), wanted.len());
        for (got, want) in example.boxes.iter().zip(wanted) {
            assert_eq!((got.bbox.center, got.label), (want.bbox.center, usize::from(want.class == "pedestrian")));
            // Nothing that is not a number may reach the losses.
            assert!(got.bbox.velocity.iter().all(|v| v.is_finite()) && got.has_velocity == want.has_velocity());
        }
        let lags = example.points.column(config.points.features.iter().position(|f| f == "time").unwrap());
        assert_eq!(lags.iter().any(|&lag| lag > 0.0), index != 0 && index != 3, "the first frame of a scene has nothing before it");
    }
}

#[test]
fn a_data_set_without_any_of_the_classes_is_refused() {
    let mut config = two_classes();
    config.network.head.tasks[0].classes.iter_mut().for_each(|class| class.push_str("_like"));
    let error = DatasetExamples::new(Dataset::open(&recording(), None).unwrap(), &config).unwrap_err().to_string();
    assert!(error.contains("Car_like, Pedestrian_like") && error.contains("traffic_cone"), "{error}");
}

#[test]
fn the_command_takes_a_data_set_and_what_fits_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // JSON is YAML.
    std::fs::write(path("two.yaml"), serde_json::to_string(&two_classes()).unwrap()).unwrap();
    save_tiny_model(&path("start.safetensors"));
    let run = |frames: &str, init: &str| -> Output {
        let text =
            format!("detector: two.yaml\nframes: {frames}\n{init}\ntrain: {{steps: 1, batch: 1, adam: {{lr: 0.0, weight_decay: 0.0}}}}\n");
        std::fs::write(path("train.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        command.current_dir(folder.path()).args(["train", "train.yaml", "-o", "out.safetensors"]).output().unwrap()
    };
    let says = |output: &Output, parts: &[&str]| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
    };
    let frames = recording().display().to_string();

    let whole = run(&frames, "init: start.safetensors");
    assert_eq!(whole.status.code(), Some(1));
    says(&whole, &["start.safetensors", "partial: true", "bbox_head.tasks.0.hm.3.weight"]);

    let listed = format!("{{folder: {frames}, only: [scene-0002]}}");
    let partial = run(&listed, "init: {model: start.safetensors, partial: true}");
    assert!(partial.status.success(), "{}", String::from_utf8_lossy(&partial.stderr));
    says(&partial, &["begins anew: bbox_head.tasks.0.hm.3.weight", "not taken: bbox_head.tasks.0.hm.3.bias"]);
    // With a learning rate of 0 the model is what it started from.
    let (start, out) = (Model::load(&path("start.safetensors")).unwrap(), Model::load(&path("out.safetensors")).unwrap());
    assert_eq!(out.config(), &two_classes());
    let is_half =
        |name: &str| start.params().0[name].iter().zip(&out.params().0[name]).all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs().max(1e-4));
    assert!(is_half("neck.blocks.0.1.weight") && is_half("bbox_head.tasks.0.dim.3.weight"));

    let unknown = run(&format!("{{folder: {frames}, only: [scene-0009]}}"), "");
    assert_eq!(unknown.status.code(), Some(1));
    says(&unknown, &["`scene-0009`", "scene-0001, scene-0002"]);
}

#[test]
fn the_command_judges_a_model_on_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    save_tiny_model(&path("model.safetensors"));
    std::fs::write(path("only.txt"), "scene-0002\n").unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        command.current_dir(folder.path()).args(["eval", "model.safetensors"]).arg(recording()).args(more).output().unwrap()
    };
    for (more, scenes, frames) in [(&[][..], 2, 7), (&["--only", "only.txt"], 1, 4)] {
        let output = run(&[more, &["--json", "-"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((figures["frames"].as_u64(), figures["recordings"].as_u64()), (Some(frames), Some(scenes)));
        assert!(
            figures["mAP"].is_number() && !String::from_utf8_lossy(&output.stderr).contains("base_link"),
            "the vehicle's place is known"
        );
    }
    let beside = run(&["model.safetensors"]);
    assert!(!beside.status.success() && String::from_utf8_lossy(&beside.stderr).contains("judged alone"));
}

/// Each sample comes with its labels, counted as nuScenes counts them, and with the place of the lidar on the vehicle.
#[test]
fn a_data_set_is_a_labelled_recording() {
    let classes = ["bus", "car", "pedestrian"].map(str::to_owned).to_vec();
    let dataset = Dataset::open(&recording(), None).unwrap();
    let (mut starts, mut motions, mut clouds) = (Vec::new(), 0, 0);
    for event in LabelledDataset::new(dataset.clone(), SweepsConfig::default(), classes.clone()) {
        match event {
            LabelledEvent::Start { source, labelled } => {
                assert!(labelled);
                starts.push(source);
            }
            LabelledEvent::Motion(_) => motions += 1,
            LabelledEvent::Cloud(cloud) => {
                let objects = dataset.objects(clouds).unwrap();
                let labels = cloud.labels.unwrap().boxes;
                let wanted: Vec<_> = objects.iter().filter(|o| classes.contains(&o.class)).collect();
                assert_eq!(labels.len(), wanted.len());
                for (got, want) in labels.iter().zip(wanted) {
                    assert_eq!((&classes[got.label], got.bbox.center), (&want.class, want.bbox.center));
                    assert_eq!(got.points, Some(want.points.unwrap() + want.radar_points.unwrap()));
                }
                clouds += 1;
            }
            LabelledEvent::Failed(reason) => panic!("{reason}"),
        }
    }
    assert_eq!((starts, motions, clouds), (vec!["scene-0001".to_owned(), "scene-0002".to_owned()], 2, 7));
}
