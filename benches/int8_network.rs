//! CenterPoint-Pillar's 2D network (nuScenes configuration, 512 x 512 canvas) in integers, and what a user would run instead.
//!
//!     cargo bench --bench int8_network -- [--threads 2] [--runs 9] [--rounds 3] [--layers] [--peer] [--occupancy] [--chart FILE.svg] [--gpu]
//!
//! `--peer` also times the same network in ONNX Runtime (INT8, FP32) and OpenVINO (INT8, BF16), in turns with ours, through
//! `benches/peers.py`. `LIDAR_PTQ_ISA` chooses our kernels; `ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI` keeps OpenVINO off AMX.
//! `--occupancy` shows how time falls with the number of occupied pillars, and `--chart` draws it. Rows of one run may be compared, rows of different
//! runs may not. `--gpu` also runs the network on the first GPU, compares its bytes with the CPU's, and times it beside PyTorch
//! (`benches/torch_peer.py`).

mod network;

use lidar_ptq::engine::Isa;
use lidar_ptq::engine::cuda::Gpu;
use lidar_ptq::engine::float::Inputs;
use lidar_ptq::engine::int8::cuda::CudaEngine;
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
    if options.flag("--gpu") {
        on_gpu(quantize(&graph, &params, &inputs, isa), &inputs, macs, options.number("--runs", 100));
    }
    if options.flag("--occupancy") {
        engine.set_dense(false);
        let chart = occupancy(&mut engine, &mut numbers, runs);
        if let Some(path) = options.text("--chart") {
            std::fs::write(path, chart.to_svg().expect("drawn")).expect("a folder that can be written to");
        }
    }
}

/// Compares a GPU's bytes with the CPU's, and prints its times: of whole frames from pillars to maps in host memory, of the network
/// alone, and layer by layer.
fn on_gpu(mut cpu: Int8Engine, inputs: &Inputs<f32>, macs: u64, runs: usize) {
    cpu.run(inputs).expect("inputs fit");
    let want: Vec<_> = cpu.outputs().map(|(role, map)| (role.to_owned(), map.to_owned())).collect();
    let start = Instant::now();
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => return println!("GPU: not run ({error})"),
    };
    let name = gpu.description();
    let opened = start.elapsed().as_secs_f64();
    let mut engine = match CudaEngine::on(gpu, cpu) {
        Ok(engine) => engine,
        Err(error) => return println!("{name}: not run ({error})"),
    };
    let (activations, weights) = engine.memory_bytes();
    println!(
        "{name}: kernels ready in {opened:.2} s, network in {:.2} s; {:.0} MB of activations, {:.1} MB of weights",
        start.elapsed().as_secs_f64() - opened,
        activations as f64 * 1e-6,
        weights as f64 * 1e-6
    );
    for (name, dense) in [("every cell computed", true), ("empty cells skipped", false)] {
        engine.set_dense(dense).expect("it fitted before");
        let whole = time(runs, || engine.run(inputs).expect("inputs fit"));
        assert_eq!(engine.fault(), None);
        let same = engine.outputs().zip(&want).all(|((role, map), want)| role == want.0 && map == want.1);
        let mut resident: Vec<f64> = (0..runs).map(|_| engine.run_resident().expect("runs").as_secs_f64() * 1e3).collect();
        resident.sort_by(f64::total_cmp);
        let (median, least) = (resident[runs / 2], resident[0]);
        println!("{:48} {whole}", format!("lidar_ptq int8 GPU, {name}, host to host"));
        println!(
            "{:48} {median:8.3} ({least:.3}) ms   {:.0} Gop/s",
            format!("lidar_ptq int8 GPU, {name}, resident"),
            2e-6 * macs as f64 / median
        );
        println!("{name}: {}", if same { "the same bytes as on the CPU" } else { "NOT THE SAME BYTES AS ON THE CPU" });
    }
    engine.time_steps(true).expect("it fitted before");
    time(3, || engine.run(inputs).expect("inputs fit"));
    for s in engine.steps().iter().filter(|s| s.macs > 0) {
        let ms = s.elapsed.as_secs_f64() * 1e3;
        println!("{:40} {ms:8.3} ms with its start and end  {:6.0} Gop/s of a full canvas", s.nodes[0], 2e-6 * s.macs as f64 / ms);
    }
    let script = std::env::var("TORCH_PEER").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/benches/torch_peer.py").into());
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    if !std::process::Command::new(python).args([script, "--runs".into(), runs.to_string()]).status().is_ok_and(|s| s.success()) {
        println!("PyTorch: not run; it needs python3 (or PYTHON=...) with torch and CUDA");
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
