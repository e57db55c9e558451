//! CenterPoint-Pillar's 2D network (nuScenes configuration, 512 x 512 canvas) in float, and what a user would run instead.
//!
//!     cargo bench --bench float_network -- [--threads 2] [--runs 9] [--layers] [--peer]
//!
//! `--peer` also times the same network in ONNX Runtime, in turns with ours, through `benches/peers.py` (needs the Python
//! packages numpy, onnx and onnxruntime). Rows of one run may be compared, rows of different runs may not.

mod network;

use lidar_ptq::engine::float::{FloatEngine, Inputs};
use lidar_ptq::graph::Dim;
use ndarray::ArrayD;
use network::{CHANNELS, GRID, Numbers, Options, PILLARS, peers, time};

fn main() {
    let options = Options::read();
    let (threads, runs) = (options.number("--threads", 2), options.number("--runs", 9));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the only pool");

    let graph = network::network(|b| b.input("canvas", vec![Dim::Batch, Dim::Fixed(GRID), Dim::Fixed(GRID), Dim::Fixed(CHANNELS)]));
    let macs: u64 = lidar_ptq::graph::layer_costs(&graph).iter().map(|l| l.macs).sum();
    let mut numbers = Numbers(1);
    let params = numbers.params(&graph);
    let mut engine = FloatEngine::new(&graph, &params).expect("parameters made for this graph");
    let inputs = Inputs::default().with_dense("canvas", canvas(&mut numbers));

    let folder = tempfile::tempdir().expect("a folder");
    let peer_rounds = if options.flag("--peer") { 3 } else { 1 };
    println!("CenterPoint-Pillar 2D network, {:.1} GMAC, batch 1, {threads} threads, median (min) of {runs}", macs as f64 * 1e-9);
    for _ in 0..peer_rounds {
        let times = time(runs, || drop(engine.run(&inputs).expect("inputs fit")));
        let gflops = 2e-6 * macs as f64 / times.median;
        println!("{:40} {times}   {gflops:.0} GFLOP/s", format!("lidar_ptq float, {}", engine.isa()));
        if options.flag("--peer") {
            peers("ort-fp32", threads, runs, folder.path());
        }
    }
    if options.flag("--layers") {
        for t in engine.times() {
            println!("{:40} {:16} {:8.2} ms", t.node, t.kind, t.elapsed.as_secs_f64() * 1e3);
        }
    }
}

fn canvas(numbers: &mut Numbers) -> ArrayD<f32> {
    let mut canvas = ArrayD::zeros(vec![1, GRID, GRID, CHANNELS]);
    for [y, x] in numbers.cells(PILLARS) {
        for (channel, value) in numbers.features().enumerate() {
            canvas[[0, y, x, channel]] = value;
        }
    }
    canvas
}
