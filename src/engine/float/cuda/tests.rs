//! The kernels themselves, on the emulator, against the CPU: values and gradients of every operation, the same numbers.
//!
//! Arrays are compared with `==`, for which zeros of both signs are equal: windows that hang over a border add zeros on a device.

use super::Accelerator;
use crate::engine::cuda::Emulator;
use crate::engine::float::tests::{Numbers, Parameters, one_layer, parameters, small_pillar_input, small_pillar_network};
use crate::engine::float::{BatchStatistics, Dropped, FloatEngine, Inputs, Norm, Processor, Snap, Tape, forward};
use crate::engine::int8::tests::{Form, Setup, frame, setup};
use crate::graph::{Dim, Graph, GraphBuilder, NodeId, Op, Params, PillarIndex};
use ndarray::ArrayD;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

/// The emulator. Cases share it, so that memory is used again.
fn emulated() -> Option<Processor> {
    static SHARED: OnceLock<Option<Processor>> = OnceLock::new();
    SHARED.get_or_init(Processor::emulated).clone()
}

/// All that a tape yields.
#[derive(Debug, PartialEq)]
struct Everything {
    values: Vec<Option<ArrayD<f32>>>,
    params: BTreeMap<String, ArrayD<f32>>,
    nodes: BTreeMap<NodeId, ArrayD<f32>>,
    steps: BTreeMap<NodeId, f64>,
    statistics: BTreeMap<String, BatchStatistics>,
}

fn everything(graph: &Graph, tape: &Tape<'_, f32>, seed: u64) -> Everything {
    let mut numbers = Numbers(seed);
    let seeds = graph.outputs.iter().map(|o| (o.node, numbers.array(tape.value(o.node).expect("there").shape())));
    let dense: Vec<NodeId> = (0..graph.nodes.len()).filter(|&id| graph.nodes[id].op != Op::PillarIndex).collect();
    let found = tape.backward(seeds.collect::<Vec<_>>(), &|_| true, &dense);
    Everything {
        values: (0..graph.nodes.len()).map(|id| tape.value(id).cloned()).collect(),
        params: found.params,
        nodes: found.nodes,
        steps: found.steps,
        statistics: tape.batch_statistics(),
    }
}

/// Forwards and backwards on the CPU and on the device.
fn is_the_same(graph: &Graph, params: &Parameters<f32>, inputs: &Inputs<f32>, norm: Norm, snaps: &BTreeMap<NodeId, Snap>) {
    if let Some(processor) = emulated() {
        is_the_same_on(&processor, (graph, params, inputs), norm, snaps);
    }
}

fn is_the_same_on(
    processor: &Processor,
    (graph, params, inputs): (&Graph, &Parameters<f32>, &Inputs<f32>),
    norm: Norm,
    snaps: &BTreeMap<NodeId, Snap>,
) {
    let cpu = Processor::cpu().forward_snapped(graph, params, inputs, norm, snaps.clone()).expect("fits");
    let device = processor.forward_snapped(graph, params, inputs, norm, snaps.clone()).expect("fits");
    let (want, got) = (everything(graph, &cpu, 5), everything(graph, &device, 5));
    assert!(processor.has_device(), "it ran on the CPU");
    for (id, (got, want)) in got.values.iter().zip(&want.values).enumerate() {
        assert_eq!(got, want, "the value of {}", graph.nodes[id].name);
    }
    for (name, want) in &want.params {
        assert_eq!(got.params.get(name), Some(want), "the gradient of {name}");
    }
    for (id, want) in &want.nodes {
        assert_eq!(got.nodes.get(id), Some(want), "the gradient of {}", graph.nodes[*id].name);
    }
    assert_eq!(got, want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Channels and outputs on both sides of tiles, chunks of sixteen and groups of four; parts of bands; inputs that no tap sees.
    #[test]
    fn layers_are_the_cpus(
        seed in 0u64..1000, n in 1usize..3, h in 1usize..15, w in 1usize..12, kernel in 1usize..4, stride in 1usize..4, padding in 0usize..3,
        channels in prop::sample::select(vec![1, 3, 4, 16, 20, 32, 68]), outputs in prop::sample::select(vec![1, 2, 8, 9, 12, 64, 67, 72]),
        kind in 0usize..3, bias: bool, relu: bool,
    ) {
        prop_assume!(h + 2 * padding >= kernel && w + 2 * padding >= kernel);
        let op = match kind {
            0 => Op::ConvTranspose2d { inputs: channels, outputs, stride, bias, relu },
            1 => Op::Linear { inputs: channels, outputs, bias, relu },
            _ => Op::Conv2d { inputs: channels, outputs, kernel, stride, padding, bias, relu },
        };
        let graph = one_layer(op, h, w, channels);
        let mut numbers = Numbers(seed);
        let params = parameters(&graph, &mut numbers);
        let inputs = Inputs::default().with_dense("x", numbers.array(&[n, h, w, channels]));
        is_the_same(&graph, &params, &inputs, Norm::Running, &BTreeMap::new());
    }

    /// Pillars of any number of points, none included, through all that stands between points and images.
    #[test]
    fn pillars_are_the_cpus(seed in 0u64..1000, pillars in 0usize..30, batch: bool) {
        let graph = small_pillar_network();
        let mut numbers = Numbers(seed);
        let params = parameters(&graph, &mut numbers);
        let mut index = PillarIndex { offsets: vec![0], cells: Vec::new(), batch: 2 };
        for p in 0..pillars as u32 {
            index.offsets.push(index.offsets[p as usize] + 1 + (seed as u32 + 7 * p) % 5);
            index.cells.push([p % 2, p / 2 / 10, p / 2 % 10]);
        }
        // Some rows of a pillar are alike, so that maxima are shared.
        let rows = ArrayD::from_shape_fn(vec![index.rows(), 5], |at| ((at[0] * 5 + at[1]) as u64 * (seed + 3) % 7) as f32 - 3.0);
        let inputs = Inputs::default().with_dense("points", rows).with_pillars("pillars", Arc::new(index));
        let norm = if batch { Norm::Batch } else { Norm::Running };
        is_the_same(&graph, &params, &inputs, norm, &BTreeMap::new());
    }
}

/// Bands of more rows and columns than one, and pieces of sums.
#[test]
fn sums_of_many_positions_are_the_cpus() {
    let conv = |channels, outputs| Op::Conv2d { inputs: channels, outputs, kernel: 3, stride: 1, padding: 1, bias: true, relu: true };
    for (op, shape) in [
        (conv(2, 3), [1, 8, 530, 2]),
        (conv(2, 3), [2, 15, 9, 2]),
        (Op::Linear { inputs: 3, outputs: 5, bias: true, relu: false }, [1, 5, 1100, 3]),
        (Op::BatchNorm { channels: 35, eps: 1e-3, momentum: 0.1 }, [2, 40, 70, 35]),
    ] {
        let graph = one_layer(op, shape[1], shape[2], shape[3]);
        let mut numbers = Numbers(11);
        let params = parameters(&graph, &mut numbers);
        let inputs = Inputs::default().with_dense("x", numbers.array(&shape));
        is_the_same(&graph, &params, &inputs, Norm::Batch, &BTreeMap::new());
    }
}

#[test]
fn roundings_are_the_cpus() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(4);
    let params = parameters(&graph, &mut numbers);
    let inputs = small_pillar_input(&mut numbers);
    for dropped in [None, Some(Dropped { share: 0.5, seed: 0x0123_4567_89ab_cdef })] {
        let snap = |name: &str, step| (graph.node(name).expect("there"), Snap { step, low: -3.0, high: 12.0, dropped });
        let snaps = BTreeMap::from([snap("points", 0.07), snap("scatter", 0.05), snap("same", 0.11), snap("both", 0.02)]);
        is_the_same(&graph, &params, &inputs, Norm::Running, &snaps);
    }
}

/// A network of integers, as calibration runs it.
#[test]
fn fake_quantization_is_the_cpus() {
    let Some(processor) = emulated() else { return };
    let form = Form { seed: 3, canvas: [16, 24], widths: [6, 9, 5, 7], float: [true, false], residual: true, signed: true };
    let Setup { graph, params, scheme } = setup(&form, &frame(&form, 60, true));
    let inputs = frame(&form, 40, true);
    let run = |processor: &Processor| {
        let mut engine = FloatEngine::on(processor, &graph, &params, &scheme).expect("fits");
        let mut seen = Vec::new();
        let outputs = engine.run_observing(&inputs, &mut |node, value| seen.push((node.name.clone(), value.clone()))).expect("runs");
        (outputs, seen)
    };
    assert_eq!(run(&processor), run(&Processor::cpu()));
    assert!(processor.has_device(), "it ran on the CPU");
}

/// What fails is done again on the CPU: the same numbers, each value seen once.
#[test]
fn a_device_that_is_lost_changes_nothing() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(6);
    let params = parameters(&graph, &mut numbers);
    let inputs = small_pillar_input(&mut numbers);
    let whole = Params(params.clone());
    let observed = |processor: &Processor| {
        let mut engine = FloatEngine::on(processor, &graph, &whole, &Default::default()).expect("fits");
        let seen = Mutex::new(Vec::new());
        engine
            .run_observing(&inputs, &mut |node, value| seen.lock().expect("sound").push((node.name.clone(), value.clone())))
            .expect("runs");
        seen.into_inner().expect("sound")
    };
    let (want, want_observed) =
        (everything(&graph, &forward(&graph, &params, &inputs, Norm::Batch).expect("fits"), 3), observed(&Processor::cpu()));
    for lasts in [0, 5, 20, 60, 90] {
        let lost = || {
            let mut emulator = Emulator::start(800, 0)?;
            emulator.lasts = Some(lasts);
            Some(Processor(Some(Arc::new(Accelerator::on(Box::new(emulator))))))
        };
        let (Some(processor), Some(other)) = (lost(), lost()) else { return };
        let tape = processor.forward(&graph, &params, &inputs, Norm::Batch).expect("fits");
        assert_eq!(everything(&graph, &tape, 3), want, "lost after {lasts} kernels");
        assert!(!processor.has_device(), "{lasts} kernels were enough");
        assert_eq!(observed(&other), want_observed, "lost after {lasts} kernels");
    }
}

/// Layers as wide and maps as large as those of real networks, and a whole small network, on a GPU if there is one.
#[test]
fn operations_are_the_same_on_a_gpu() {
    let Some(processor) = Processor::gpu() else { return };
    let conv =
        |inputs, outputs, kernel, stride| Op::Conv2d { inputs, outputs, kernel, stride, padding: kernel / 2, bias: true, relu: true };
    let layers = [
        (conv(64, 64, 3, 1), [2, 128, 96, 64]),
        (conv(64, 128, 3, 2), [2, 128, 96, 64]),
        (conv(128, 256, 3, 2), [1, 65, 63, 128]),
        (conv(384, 64, 1, 1), [2, 60, 62, 384]),
        (conv(64, 2, 3, 1), [2, 128, 128, 64]),
        (conv(2, 64, 3, 1), [2, 128, 128, 2]),
        (Op::ConvTranspose2d { inputs: 256, outputs: 128, stride: 4, bias: false, relu: false }, [1, 32, 31, 256]),
        (Op::Linear { inputs: 10, outputs: 64, bias: false, relu: false }, [1, 100, 300, 10]),
        (Op::BatchNorm { channels: 64, eps: 1e-3, momentum: 0.1 }, [2, 128, 128, 64]),
        (Op::BatchNorm { channels: 3, eps: 1e-5, momentum: 0.1 }, [1, 77, 300, 3]),
    ];
    for (number, (op, shape)) in layers.into_iter().enumerate() {
        let graph = one_layer(op, shape[1], shape[2], shape[3]);
        let mut numbers = Numbers(number as u64);
        let params = parameters(&graph, &mut numbers);
        let inputs = Inputs::default().with_dense("x", numbers.array(&shape));
        is_the_same_on(&processor, (&graph, &params, &inputs), Norm::Batch, &BTreeMap::new());
    }
    let graph = small_pillar_network();
    for seed in 0..20 {
        let mut numbers = Numbers(seed);
        let params = parameters(&graph, &mut numbers);
        let inputs = small_pillar_input(&mut numbers);
        let dropped = (seed % 2 == 1).then_some(Dropped { share: 0.5, seed });
        let snap = |name: &str| (graph.node(name).expect("there"), Snap { step: 0.05, low: -3.0, high: 12.0, dropped });
        let snaps = if seed % 3 == 0 { BTreeMap::new() } else { BTreeMap::from([snap("points"), snap("scatter"), snap("same")]) };
        let norm = if seed % 5 < 2 { Norm::Batch } else { Norm::Running };
        is_the_same_on(&processor, (&graph, &params, &inputs), norm, &snaps);
    }
}

/// Inputs that differ in size from run to run use memory again.
#[test]
fn a_graph_of_values_only_runs() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", vec![Dim::Batch, Dim::Fixed(3), Dim::Fixed(3), Dim::Fixed(5)]);
    let y = b.add("relu", Op::Relu, &[x]);
    let z = b.add("sum", Op::Add, &[x, y]);
    let all = b.add("all", Op::Concat, &[z, y, x]);
    b.output("all", all);
    let graph = b.finish().expect("a graph");
    for n in [3, 1, 0, 4] {
        let inputs = Inputs::default().with_dense("x", Numbers(n as u64).array(&[n, 3, 3, 5]));
        is_the_same(&graph, &BTreeMap::new(), &inputs, Norm::Batch, &BTreeMap::new());
    }
}
