//! Training on a device: the same parameters as on the CPU, to the bit.

use super::*;
use crate::detect::{DetectorConfig, Grid};
use crate::engine::float::Processor;
use crate::geometry::Box3;
use ndarray::Array2;

/// Frames of a car-sized block on flat ground.
struct Blocks;

impl ExampleSource for Blocks {
    fn len(&self) -> usize {
        3
    }

    fn example(&self, index: usize) -> Result<Example, ExampleError> {
        let mut rows: Vec<[f32; 5]> = (0..400).map(|i| [(i % 20) as f32 - 9.7, (i / 20) as f32 - 9.4, -1.8, 0.1, 0.0]).collect();
        let center = [2.0 * index as f32 - 1.0, 3.0 - index as f32, -1.0];
        for i in 0..200 {
            let [u, v] = [(i as f32 * 0.618).fract() - 0.5, (i as f32 * 0.414).fract() - 0.5];
            rows.push([center[0] + 4.4 * u, center[1] + 1.9 * v, center[2] + 0.8, 0.6, 0.0]);
        }
        let bbox = Box3 { center, size: [4.4, 1.9, 1.6], yaw: 0.0, velocity: [0.0; 2] };
        Ok(Example { points: Array2::from(rows), boxes: vec![TrainingBox { bbox, label: 0, has_velocity: true }] })
    }
}

/// A detector of all that the preset consists of, with few channels on few cells.
fn tiny() -> DetectorConfig {
    let mut config = DetectorConfig::load("edge_pillar").expect("a preset");
    config.points.sweeps.count = 1;
    config.grid = Grid { min: [-12.8, -12.8, -4.0], max: [12.8, 12.8, 4.0], voxel: [0.8, 0.8, 8.0] };
    config.network.encoder.layers = vec![8];
    config.network.rpn.filters = vec![8, 8, 16];
    config.network.rpn.upsample_filters = vec![8, 8, 8];
    config.network.head.shared_channels = 8;
    config.network.head.branch_channels = 8;
    config
}

fn is_the_same_on(processor: &Processor, detector: &DetectorConfig, steps: usize) {
    let graph = detector.graph().expect("valid");
    let config = TrainConfig { steps, batch: 2, ..TrainConfig::default() };
    let trained = |processor: &Processor| {
        let trainer = Trainer::new(detector, &graph, initial_params(&graph, 3), config.clone()).expect("steps");
        let mut trainer = trainer.on(processor.clone());
        let reports: Vec<StepReport> = (0..steps).map(|_| trainer.step(&Blocks).expect("finite")).collect();
        (reports, trainer.progress().clone())
    };
    let (got, want) = (trained(processor), trained(&Processor::cpu()));
    assert!(processor.has_device(), "it ran on the CPU");
    assert_eq!(got, want);
}

#[test]
fn training_is_the_same_on_the_emulator() {
    if let Some(processor) = Processor::emulated() {
        is_the_same_on(&processor, &tiny(), 2);
    }
}

#[test]
fn training_is_the_same_on_a_gpu() {
    if let Some(processor) = Processor::gpu() {
        is_the_same_on(&processor, &tiny(), 20);
        is_the_same_on(&processor, &DetectorConfig::load("edge_pillar").expect("a preset"), 3);
    }
}
