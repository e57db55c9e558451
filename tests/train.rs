//! The training loop: it learns what it is shown, and where it was stopped or how many threads it had leaves no trace.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::detect::{Detector, DetectorConfig, FloatNetwork, Model};
use lidar_ptq::geometry::Box3;
use lidar_ptq::graph::{Provenance, read_model_file};
use lidar_ptq::train::{
    AdamConfig, AugmentConfig, Example, ExampleError, ExampleFolder, ExampleSource, LabelledBox, PasteConfig, Progress, TrainConfig,
    TrainState, Trainer, TrainingBox, initial_params,
};
use ndarray::Array2;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::tiny_config;

/// Frames with a car-sized and a person-sized block each, on flat ground.
struct Blocks(usize);

impl Blocks {
    fn boxes(index: usize) -> [TrainingBox; 2] {
        let i = index as f32;
        let car = Box3 { center: [8.0 + 2.0 * i, 3.0 - i, -1.0], size: [4.4, 1.9, 1.6], yaw: 0.4 * i - 0.5, velocity: [0.0; 2] };
        let person = Box3 { center: [-6.0 + i, -9.0 + 2.0 * i, -0.9], size: [0.7, 0.7, 1.8], yaw: 0.0, velocity: [0.0; 2] };
        [(car, 0), (person, 8)].map(|(bbox, label)| TrainingBox { bbox, label, has_velocity: true })
    }

    fn points(index: usize) -> Array2<f32> {
        let mut rows: Vec<[f32; 5]> = Vec::new();
        for x in -24..24 {
            for y in -24..24 {
                rows.push([x as f32 + 0.3, y as f32 - 0.2, -1.8, 0.1, 0.0]);
            }
        }
        for TrainingBox { bbox, .. } in Self::boxes(index) {
            let (sin, cos) = bbox.yaw.sin_cos();
            for i in 0..200 {
                // The two near sides and the roof, on a grid that is not regular.
                let [u, v] = [(i as f32 * 0.618).fract() - 0.5, (i as f32 * 0.414).fract() - 0.5];
                let [a, b, c] = [[u, 0.5, v], [0.5, u, v], [u, v, 0.5]][i % 3];
                let [a, b, c] = [a * bbox.size[0], b * bbox.size[1], c * bbox.size[2]];
                rows.push([bbox.center[0] + a * cos - b * sin, bbox.center[1] + a * sin + b * cos, bbox.center[2] + c, 0.6, 0.0]);
            }
        }
        Array2::from(rows)
    }
}

impl ExampleSource for Blocks {
    fn len(&self) -> usize {
        self.0
    }

    fn example(&self, index: usize) -> Result<Example, ExampleError> {
        Ok(Example { points: Self::points(index), boxes: Self::boxes(index).to_vec() })
    }
}

fn run_config(steps: usize) -> TrainConfig {
    TrainConfig { steps, batch: 2, adam: AdamConfig { lr: 0.01, ..AdamConfig::default() }, ..TrainConfig::default() }
}

fn train(detector: &DetectorConfig, config: &TrainConfig, stop_at: Option<usize>) -> Progress {
    let graph = detector.graph().expect("valid");
    let start = || Trainer::new(detector, &graph, initial_params(&graph, 3), config.clone()).expect("steps");
    let mut trainer = start();
    while !trainer.is_done() {
        if Some(trainer.progress().step) == stop_at {
            let (state, tensors) = trainer.progress().to_tensors();
            trainer = start();
            trainer.resume(Progress::from_tensors(state, tensors)).expect("the same network");
        }
        trainer.step(&Blocks(3)).expect("finite");
    }
    trainer.progress().clone()
}

#[test]
fn objects_that_were_shown_are_found_where_they_stand() {
    let detector = tiny_config(1);
    // Steps enough for running statistics that follow by a hundredth each.
    let config = TrainConfig { augment: AugmentConfig::none(), ..run_config(600) };
    let params = train(&detector, &config, None).params;
    let model = Model::new(detector.clone(), params, Provenance::default()).expect("they fit");
    let mut found = Detector::new(detector.clone(), Box::new(FloatNetwork::new(&model).expect("runs"))).expect("valid");
    let classes = detector.classes();
    for index in 0..3 {
        let boxes = found.detect(Blocks::points(index).view()).expect("runs").boxes;
        for want in Blocks::boxes(index) {
            let near = |b: &&lidar_ptq::detect::Detection| {
                let [dx, dy] = [0, 1].map(|i| b.bbox.center[i] - want.bbox.center[i]);
                b.label == want.label && dx.hypot(dy) < 0.3
            };
            let best = boxes.iter().find(near).unwrap_or_else(|| panic!("frame {index}: no {} near {:?}", classes[want.label], want.bbox));
            assert!(best.score > 0.5, "{best:?}");
            for (got, size) in best.bbox.size.iter().zip(want.bbox.size) {
                assert!((got / size).ln().abs() < 0.2, "{best:?}");
            }
        }
        assert!(boxes.iter().filter(|b| b.score > 0.5).count() <= 3, "{boxes:?}");
    }
}

#[test]
fn neither_a_stop_nor_the_number_of_threads_leaves_a_trace() {
    let detector = tiny_config(1);
    let paste = PasteConfig { fill: [("car".to_owned(), 3)].into(), until: 0.7, ..PasteConfig::default() };
    let config = TrainConfig { paste, ..run_config(8) };
    let on = |threads: usize, stop_at| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| train(&detector, &config, stop_at))
    };
    let straight = on(1, None);
    assert!(on(3, Some(5)) == straight);
    // The same run with other frames is another run: the comparison above is of something.
    let unpasted = TrainConfig { paste: PasteConfig::default(), ..config.clone() };
    assert!(train(&detector, &unpasted, None) != straight);
}

#[test]
fn frames_of_another_width_are_refused_by_name() {
    struct Narrow;
    impl ExampleSource for Narrow {
        fn len(&self) -> usize {
            1
        }
        fn example(&self, _: usize) -> Result<Example, ExampleError> {
            Ok(Example { points: Array2::zeros((4, 3)), boxes: vec![] })
        }
    }
    let detector = tiny_config(1);
    let graph = detector.graph().expect("valid");
    let mut trainer = Trainer::new(&detector, &graph, initial_params(&graph, 3), run_config(1)).expect("steps");
    let error = trainer.step(&Narrow).expect_err("refused");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(error.to_string().contains("frame 0") && cause.contains("5 columns, found 3"), "{error}: {cause}");
}

/// The command: a folder of frames in; a model, its state and its log out.
#[test]
fn a_killed_run_goes_on_and_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("frames")).expect("created");
    for index in 0..3 {
        let boxes: Vec<LabelledBox> = Blocks::boxes(index)
            .iter()
            .map(|b| LabelledBox {
                label: b.label,
                center: b.bbox.center,
                size: b.bbox.size,
                yaw: b.bbox.yaw,
                velocity: Some(b.bbox.velocity),
            })
            .collect();
        ExampleFolder::write(&path("frames"), &format!("{index:03}"), &Blocks::points(index), &boxes).expect("written");
    }
    // JSON is YAML.
    std::fs::write(path("tiny.yaml"), serde_json::to_string(&tiny_config(1)).expect("text")).expect("written");
    std::fs::write(path("train.yaml"), "detector: tiny.yaml\nframes: frames\nstore_every: 4\ntrain: {steps: 60, batch: 1}\n")
        .expect("written");
    let command = |out: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        command.current_dir(folder.path()).args(["train", "train.yaml", "-o", out]).args(more).stderr(Stdio::piped());
        command
    };
    let run = |out: &str, more: &[&str]| command(out, more).output().expect("runs");
    let state = |name: &str| {
        let (manifest, tensors) = read_model_file::<TrainState>(&std::fs::read(path(name)).expect("there")).expect("a state");
        (manifest.config, tensors)
    };

    let refused = run("killed.safetensors", &["--resume"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && message.contains("killed.state"), "{message}");

    assert!(run("straight.safetensors", &[]).status.success());
    assert_eq!(Model::load(&path("straight.safetensors")).expect("a model").config(), &tiny_config(1));
    assert_eq!(std::fs::read_to_string(path("straight.log.csv")).expect("a log").lines().count(), 1 + 60);
    assert!(std::fs::read_to_string(path("straight.loss.svg")).expect("a plot").contains("task 0, location"));

    let mut killed = command("killed.safetensors", &[]).spawn().expect("runs");
    while !path("killed.state").exists() && killed.try_wait().expect("asked").is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().expect("killed or at its end");
    killed.wait().expect("gone");
    assert!(run("killed.safetensors", &["--resume"]).status.success());
    assert!(state("killed.state") == state("straight.state"));
    assert_eq!(std::fs::read(path("killed.log.csv")).expect("a log"), std::fs::read(path("straight.log.csv")).expect("a log"));
}
