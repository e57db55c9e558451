//! Simulated frames a second, seconds a training step, and the memory that both take.
//!
//!     cargo bench --bench world -- [--threads 2] [--seconds 5] [--steps 9]
//!
//! Training is that of the bundled model: windows of 61 m, batch 4. Rows of one run may be compared, rows of different runs may not.

#[allow(dead_code)] // it is the networks', and each bench takes its part
mod network;

use lidar_ptq::detect::DetectorConfig;
use lidar_ptq::sim::{LidarModel, SimConfig, Simulation};
use lidar_ptq::train::{ExampleFolder, TrainConfig, Trainer, WindowConfig, initial_params};
use network::{Options, time};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Town seeds on which nobody is judged.
const SEEDS: [u64; 3] = [70_001, 70_002, 70_003];

fn main() {
    let options = Options::read();
    let (threads, seconds, steps) = (options.number("--threads", 2), options.number("--seconds", 5), options.number("--steps", 9));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the only pool");

    for (name, lidar) in [("32 beams, 20 Hz", LidarModel::Beams32), ("64 beams, 10 Hz", LidarModel::Beams64)] {
        for seed in SEEDS {
            let started = Instant::now();
            let mut frames = Simulation::new(&SimConfig { seed, seconds: seconds as f64, lidar, ..SimConfig::default() });
            let first = frames.next().expect("a frame");
            let town = started.elapsed().as_secs_f64();
            let started = Instant::now();
            let points: Vec<usize> = frames.map(|frame| frame.cloud.len()).collect();
            let rate = points.len() as f64 / started.elapsed().as_secs_f64();
            println!("{name}, drive {seed}: first frame after {town:.2} s, then {rate:.1} frames/s of {} points", first.cloud.len());
        }
    }
    println!("peak memory of simulation {} MB, {threads} threads", peak_memory_mb());

    let folder = tempfile::tempdir().expect("a folder");
    let examples = folder.path().join("examples");
    simulate_examples(&examples);
    let detector = DetectorConfig::load("edge_pillar").expect("a preset");
    let graph = detector.graph().expect("valid");
    let config =
        TrainConfig { steps: 1000, batch: 4, window: Some(WindowConfig { size: [61.44, 61.44], until: 1.0 }), ..TrainConfig::default() };
    let mut trainer = Trainer::new(&detector, &graph, initial_params(&graph, 1), config).expect("valid");
    let source = ExampleFolder::open(&examples).expect("just written");
    let times = time(steps, || drop(trainer.step(&source).expect("a step")));
    println!("training edge_pillar, 4 windows of 61 m a step: {times} a step, median (min) of {steps}");
    println!("peak memory with training {} MB, {threads} threads", peak_memory_mb());
}

fn simulate_examples(folder: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    command.args(["sim", "--seed", "70001", "--drives", "16", "--seconds", "0.25", "--every", "0.25", "--examples"]).arg(folder);
    assert!(command.status().expect("the program runs").success());
}

/// The most that this process held at once; 0 where the system does not tell.
fn peak_memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).map_or(0, |kb| kb / 1024)
}
