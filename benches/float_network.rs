//! CenterPoint-Pillar's 2D network (nuScenes configuration, 512 x 512 canvas) in float, and what a user would run instead.
//!
//!     cargo bench --bench float_network -- [--threads 2] [--runs 9] [--layers] [--peer]
//!
//! `--peer` also times the same network in ONNX Runtime, in turns with ours, through `benches/peers.py` (needs the Python
//! packages numpy, onnx and onnxruntime). Rows of one run may be compared, rows of different runs may not.

use lidar_ptq::engine::float::{FloatEngine, Inputs};
use lidar_ptq::graph::{Dim, Graph, GraphBuilder, NodeId, Op, Params};
use ndarray::ArrayD;
use std::process::Command;
use std::time::Instant;

const GRID: usize = 512;
const PILLARS: usize = 12_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let value =
        |name: &str, default: usize| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default);
    let (threads, runs) = (value("--threads", 2), value("--runs", 9));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the only pool");

    let graph = network();
    let macs: u64 = lidar_ptq::graph::layer_costs(&graph).iter().map(|l| l.macs).sum();
    let mut numbers = Numbers(1);
    let params = Params(graph.params().into_iter().map(|s| (s.name.clone(), numbers.weight(&s.shape))).collect());
    let mut engine = FloatEngine::new(&graph, &params).expect("parameters made for this graph");
    let inputs = Inputs::default().with_dense("canvas", canvas(&mut numbers));

    let peer_rounds = if flag("--peer") { 3 } else { 1 };
    println!("CenterPoint-Pillar 2D network, {:.1} GMAC, batch 1, {threads} threads, median (min) of {runs}", macs as f64 * 1e-9);
    for _ in 0..peer_rounds {
        engine.run(&inputs).expect("warm-up");
        let mut times: Vec<f64> = (0..runs)
            .map(|_| {
                let start = Instant::now();
                engine.run(&inputs).expect("inputs fit");
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let gflops = 2e-6 * macs as f64 / median;
        println!("{:28} {median:8.1} ({:.1}) ms   {gflops:.0} GFLOP/s", format!("lidar_ptq float, {}", engine.isa()), times[0]);
        if flag("--peer") {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers.py");
            let status = Command::new("python3").args([script, "--threads", &threads.to_string(), "--runs", &runs.to_string()]).status();
            if !status.is_ok_and(|s| s.success()) {
                println!("peer: not run; it needs python3 with numpy, onnx and onnxruntime");
            }
        }
    }
    if flag("--layers") {
        for t in engine.times() {
            println!("{:40} {:16} {:8.2} ms", t.node, t.kind, t.elapsed.as_secs_f64() * 1e3);
        }
    }
}

/// Blocks of 64, 128 and 256 channels with 3, 5 and 5 repeats, three upsampled maps, six tasks of six branches; norms folded.
fn network() -> Graph {
    let mut b = GraphBuilder::new();
    let conv = |inputs, outputs, kernel, stride, relu| {
        let padding = if kernel == 3 { 1 } else { 0 };
        Op::Conv2d { inputs, outputs, kernel, stride, padding, bias: true, relu }
    };
    let mut x = b.input("canvas", vec![Dim::Batch, Dim::Fixed(GRID), Dim::Fixed(GRID), Dim::Fixed(64)]);
    let mut ups: Vec<NodeId> = vec![];
    for (i, (channels, repeats)) in [(64, 3), (128, 5), (256, 5)].into_iter().enumerate() {
        let inputs = b.channels(x);
        x = b.add(format!("block{i}.0"), conv(inputs, channels, 3, 2, true), &[x]);
        for j in 1..=repeats {
            x = b.add(format!("block{i}.{j}"), conv(channels, channels, 3, 1, true), &[x]);
        }
        let up = match i {
            0 => conv(channels, 128, 2, 2, true),
            1 => conv(channels, 128, 1, 1, true),
            _ => Op::ConvTranspose2d { inputs: channels, outputs: 128, stride: 2, bias: true, relu: true },
        };
        ups.push(b.add(format!("up{i}"), up, &[x]));
    }
    let x = b.add("concat", Op::Concat, &ups);
    let shared = b.add("shared", conv(384, 64, 3, 1, true), &[x]);
    for (task, classes) in [1, 2, 2, 1, 2, 2].into_iter().enumerate() {
        for (branch, channels) in [("hm", classes), ("reg", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2)] {
            let y = b.add(format!("task{task}.{branch}.0"), conv(64, 64, 3, 1, true), &[shared]);
            let y = b.add(format!("task{task}.{branch}.1"), conv(64, channels, 3, 1, false), &[y]);
            b.output(format!("task{task}.{branch}"), y);
        }
    }
    b.finish().expect("shapes fit")
}

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32) / 8388608.0 - 1.0
    }

    fn weight(&mut self, shape: &[usize]) -> ArrayD<f32> {
        let fan: usize = shape.iter().skip(1).product();
        let scale = (3.0 * 2.0 / fan as f32).sqrt();
        ArrayD::from_shape_fn(shape, |_| self.next() * scale)
    }
}

/// As full as a nuScenes frame of ten sweeps: pillars crowd around the sensor.
fn canvas(numbers: &mut Numbers) -> ArrayD<f32> {
    let mut canvas = ArrayD::zeros(vec![1, GRID, GRID, 64]);
    let mut filled = 0;
    while filled < PILLARS {
        let radius = (numbers.next() + numbers.next() + numbers.next()).abs() * 150.0;
        let angle = numbers.next() * std::f32::consts::PI;
        let cell = [angle.sin(), angle.cos()].map(|d| GRID as f32 / 2.0 + radius * d);
        if cell.iter().all(|&c| c >= 0.0 && c < GRID as f32) && canvas[[0, cell[0] as usize, cell[1] as usize, 0]] == 0.0 {
            for channel in 0..64 {
                canvas[[0, cell[0] as usize, cell[1] as usize, channel]] = numbers.next().max(0.0) + 1e-6;
            }
            filled += 1;
        }
    }
    canvas
}
