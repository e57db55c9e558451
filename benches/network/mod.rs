//! CenterPoint-Pillar's 2D network in the nuScenes configuration, and a canvas as full as a frame of ten sweeps: what the
//! network benchmarks run. `peers.py` builds the same.

use lidar_ptq::graph::{Graph, GraphBuilder, NodeId, Op, Params};
use ndarray::ArrayD;
use std::process::Command;
use std::time::Instant;

pub const GRID: usize = 512;
pub const PILLARS: usize = 12_000;
pub const CHANNELS: usize = 64;

/// Blocks of 64, 128 and 256 channels with 3, 5 and 5 repeats, three upsampled maps, six tasks of six branches; norms folded.
/// `start` appends what yields the canvas.
pub fn network(start: impl FnOnce(&mut GraphBuilder) -> NodeId) -> Graph {
    let mut b = GraphBuilder::new();
    let conv = |inputs, outputs, kernel, stride, relu| {
        let padding = if kernel == 3 { 1 } else { 0 };
        Op::Conv2d { inputs, outputs, kernel, stride, padding, bias: true, relu }
    };
    let mut x = start(&mut b);
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

pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32) / 8388608.0 - 1.0
    }

    fn weight(&mut self, shape: &[usize]) -> ArrayD<f32> {
        let fan: usize = shape.iter().skip(1).product();
        let scale = (3.0 * 2.0 / fan as f32).sqrt();
        ArrayD::from_shape_fn(shape, |_| self.next() * scale)
    }

    pub fn params(&mut self, graph: &Graph) -> Params {
        Params(graph.params().into_iter().map(|s| (s.name, self.weight(&s.shape))).collect())
    }

    /// Occupied cells `[y, x]`: pillars crowd around the sensor.
    pub fn cells(&mut self, count: usize) -> Vec<[usize; 2]> {
        let mut taken = vec![false; GRID * GRID];
        let mut cells = Vec::with_capacity(count);
        while cells.len() < count {
            let radius = (self.next() + self.next() + self.next()).abs() * 150.0;
            let angle = self.next() * std::f32::consts::PI;
            let cell = [angle.sin(), angle.cos()].map(|d| GRID as f32 / 2.0 + radius * d);
            if cell.iter().all(|&c| c >= 0.0 && c < GRID as f32) {
                let [y, x] = cell.map(|c| c as usize);
                if !std::mem::replace(&mut taken[y * GRID + x], true) {
                    cells.push([y, x]);
                }
            }
        }
        cells
    }

    /// Features of a pillar, not negative.
    pub fn features(&mut self) -> impl Iterator<Item = f32> {
        (0..CHANNELS).map(|_| self.next().max(0.0) + 1e-6)
    }
}

/// Times of some runs.
pub struct Times {
    /// By the clock on the wall, milliseconds.
    pub median: f64,
    pub least: f64,
    /// Of all threads together, a run, milliseconds: what is left to compare where other work takes the processor away.
    pub cpu: f64,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.1} ({:.1}) ms   CPU {:.0} ms", self.median, self.least, self.cpu)
    }
}

/// Runs once to warm up, then `runs` times.
pub fn time(runs: usize, mut run: impl FnMut()) -> Times {
    run();
    let cpu = cpu_ms();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    Times { median: times[times.len() / 2], least: times[0], cpu: (cpu_ms() - cpu) / runs as f64 }
}

/// CPU time of this process so far, in ticks of 10 ms, where the system tells (Linux).
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets, user and system time are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(11..13).map_or(0.0, |ticks| ticks.iter().filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() * 10.0)
}

/// Times other engines on the same network; they print rows of their own. `python` is the interpreter.
pub fn peers(engines: &str, threads: usize, runs: usize, folder: &std::path::Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let arguments = ["--engines", engines, "--threads", &threads.to_string(), "--runs", &runs.to_string()].map(str::to_owned);
    let status = Command::new(python).arg(script).args(arguments).arg("--folder").arg(folder).status();
    if !status.is_ok_and(|s| s.success()) {
        println!("peers: not run; they need python3 (or PYTHON=...) with numpy, onnx, onnxruntime and openvino");
    }
}

/// Command line options.
pub struct Options(Vec<String>);

impl Options {
    pub fn read() -> Self {
        Self(std::env::args().collect())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|a| a == name)
    }

    #[allow(dead_code)] // for the benchmarks that write something
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().position(|a| a == name).and_then(|i| self.0.get(i + 1)).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: usize) -> usize {
        self.0.iter().position(|a| a == name).and_then(|i| self.0.get(i + 1)?.parse().ok()).unwrap_or(default)
    }
}
