//! CenterPoint-Pillar's 2D network (nuScenes configuration, 512 x 512 canvas) in integers, and what a user would run instead.
//!
//!     cargo bench --bench int8_network -- [--threads 2] [--runs 9] [--rounds 3] [--layers] [--peer] [--occupancy] [--chart FILE.svg]
//!
//! `--peer` also times the same network in ONNX Runtime (INT8, FP32) and OpenVINO (INT8, BF16), in turns with ours, through
//! `benches/peers.py`. `LIDAR_PTQ_ISA` chooses our kernels; `ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI` keeps OpenVINO off AMX.
//! `--occupancy` shows how time falls with the number of occupied pillars, and `--chart` draws it. Rows of one run may be compared, rows of different
//! runs may not.

mod network;

use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::Inputs;
use lidar_ptq::engine::int8::{Int8Engine, measured_peak};
use lidar_ptq::eval::chart::Chart;
use lidar_ptq::graph::{Dim, Graph, Op, Params, PillarIndex};
use lidar_ptq::quant::{Frames, Policy, max_min};
use ndarray::ArrayD;
use network::{CHANNELS, GRID, Numbers, Options, PILLARS, peers, time};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let options = Options::read();
    let (threads, runs) = (options.number("--threads", 2), options.number("--runs", 9));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the only pool");
    let isa = Isa::choose().expect("LIDAR_PTQ_ISA names an instruction set of this processor");

    let graph = network::network(|b| {
        let features = b.input("features", vec![Dim::Pillars, Dim::Fixed(CHANNELS)]);
        let pillars = b.pillar_index("pillars");
        b.add("scatter", Op::PillarScatter { height: GRID, width: GRID }, &[features, pillars])
    });
    let macs: u64 = lidar_ptq::graph::layer_costs(&graph).iter().map(|l| l.macs).sum();
    let mut numbers = Numbers(1);
    let params = numbers.params(&graph);
    let cells = scattered(&mut numbers, PILLARS);
    let inputs = frame(&mut numbers, cells);
    let start = Instant::now();
    let mut engine = quantize(&graph, &params, &inputs, isa);
    let load = start.elapsed().as_secs_f64();
    let (activations, weights) = engine.memory_bytes();
    println!("CenterPoint-Pillar 2D network, {:.1} GMAC, batch 1, {threads} threads, median (min) of {runs}", macs as f64 * 1e-9);
    println!(
        "{isa}: kernels alone {:.0} Gop/s; calibrated and packed in {load:.2} s; {:.0} MB of activations, {:.1} MB of weights",
        measured_peak(isa) * 1e-9,
        activations as f64 * 1e-6,
        weights as f64 * 1e-6
    );

    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..options.number("--rounds", if options.flag("--peer") { 3 } else { 1 }) {
        for (name, dense) in [("every cell computed", true), ("empty cells skipped", false)] {
            engine.set_dense(dense);
            let times = time(runs, || engine.run(&inputs).expect("inputs fit"));
            let gops = 2e-6 * macs as f64 / times.median;
            println!("{:40} {times}   {gops:.0} Gop/s", format!("lidar_ptq int8 {isa}, {name}"));
        }
        if options.flag("--peer") {
            peers("ort-int8,ov-int8,ov-bf16,ort-fp32", threads, runs, folder.path());
        }
    }
    if options.flag("--layers") {
        for dense in [true, false] {
            engine.set_dense(dense);
            time(1, || engine.run(&inputs).expect("inputs fit"));
            for s in engine.steps() {
                let ms = s.elapsed.as_secs_f64() * 1e3;
                let gops = 2e-6 * s.macs as f64 * s.computed / ms;
                let name = if s.nodes.len() > 1 { format!("{} and {} more", s.nodes[0], s.nodes.len() - 1) } else { s.nodes[0].clone() };
                println!("{name:40} {ms:8.2} ms {:6.1} % {gops:6.0} Gop/s  {}", 100.0 * s.computed, s.kernels.join(", "));
            }
        }
    }
    if options.flag("--occupancy") {
        engine.set_dense(false);
        let chart = occupancy(&mut engine, &mut numbers, runs);
        if let Some(path) = options.text("--chart") {
            std::fs::write(path, chart.to_svg().expect("drawn")).expect("a folder that can be written to");
        }
    }
}

/// Prints and draws the cost of frames that are filled to a growing share.
fn occupancy(engine: &mut Int8Engine, numbers: &mut Numbers, runs: usize) -> Chart {
    const PERCENT: [usize; 8] = [0, 1, 2, 5, 10, 20, 40, 100];
    let mut chart = Chart::new("INT8 network, CPU time of a frame", "occupied pillars, % of the canvas", "ms");
    let mut most = 0f64;
    for (name, spread) in [("scattered", true), ("one square", false)] {
        println!("occupied pillars, % of the canvas, {name}; median (min) ms");
        let line = PERCENT.map(|percent| {
            let pillars = GRID * GRID * percent / 100;
            let cells = if spread { scattered(numbers, pillars) } else { square(pillars) };
            let inputs = frame(numbers, cells);
            let times = time(runs, || engine.run(&inputs).expect("inputs fit"));
            println!("{percent:4} %  {times}");
            most = most.max(times.cpu);
            (percent as f64, times.cpu)
        });
        chart.line(name, line);
    }
    chart.ranges(0.0..100.0, 0.0..most * 1.05)
}

/// Pillars that crowd around the sensor, here and there.
fn scattered(numbers: &mut Numbers, pillars: usize) -> Vec<[usize; 2]> {
    if pillars < GRID * GRID { numbers.cells(pillars) } else { square(pillars) }
}

/// Pillars side by side in the middle.
fn square(pillars: usize) -> Vec<[usize; 2]> {
    let side = (pillars as f64).sqrt().round() as usize;
    let first = (GRID - side) / 2;
    (0..side * side).map(|i| [first + i / side, first + i % side]).collect()
}

fn frame(numbers: &mut Numbers, cells: Vec<[usize; 2]>) -> Inputs<f32> {
    let mut cells: Vec<[u32; 3]> = cells.into_iter().map(|[y, x]| [0, y as u32, x as u32]).collect();
    cells.sort_unstable();
    let features: Vec<f32> = cells.iter().flat_map(|_| numbers.features().collect::<Vec<_>>()).collect();
    let index = PillarIndex { offsets: (0..=cells.len() as u32).collect(), cells, batch: 1 };
    let features = ArrayD::from_shape_vec(vec![index.pillars(), CHANNELS], features).expect("a row a pillar");
    Inputs::default().with_dense("features", features).with_pillars("pillars", Arc::new(index))
}

fn quantize(graph: &Graph, params: &Params, inputs: &Inputs<f32>, isa: Isa) -> Int8Engine {
    let mut frames = Frames::new(graph, params).expect("fits");
    frames.observe(inputs).expect("runs");
    let scheme = max_min(&frames, &Policy::default(), Vec::new()).expect("one frame").scheme;
    Int8Engine::new(graph, params, &scheme, isa).expect("lowers")
}
