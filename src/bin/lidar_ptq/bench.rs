//! `lidar_ptq bench`: how long a model takes, stage by stage and layer by layer.

use crate::options::{CloudArgs, DeviceArgs, use_threads};
use anyhow::{Context, bail};
use lidar_ptq::detect::{
    ChooseCells, Detector, DetectorConfig, FloatNetwork, HeadMaps, LayerTime, Model, Network, NetworkError, PillarInput, WholeFrame,
    isa_in_use, network_on,
};
use lidar_ptq::engine::Isa;
use lidar_ptq::engine::int8::measured_peak;
use lidar_ptq::eval::table::Table;
use lidar_ptq::node::{Inputs, LabelledEvent, Perception, Stage, Summary, replay, wanted_fields};
use ndarray::ArrayView2;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Measure how long a model takes on recorded clouds
///
/// Prints stages and layers: milliseconds, operations per second, and what share that is of what this processor reached in the
/// kernel alone. Compare within one run: other work on the machine counts too.
#[derive(clap::Args)]
pub struct Args {
    /// Model file; a quantized one runs in integers.
    model: PathBuf,
    /// Bags, clouds, folders of clouds.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Frames to measure, after two to warm up. Input that has fewer is read again.
    #[arg(long, default_value_t = 20, value_name = "N")]
    frames: usize,
    /// Write everything as one JSON object; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run a quantized model in float, with fake quantization.
    #[arg(long)]
    float: bool,
    /// Have a GPU run every layer by itself, so that it can be timed: slower as a whole.
    #[arg(long)]
    by_layer: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    clouds: CloudArgs,
}

const WARM_UP: usize = 2;
const STAGES: [Stage; 5] = [Stage::Read, Stage::Sweep, Stage::Voxelize, Stage::Network, Stage::Decode];

/// A network whose layers' times are kept.
struct Logged {
    network: Box<dyn Network>,
    frames: Arc<Mutex<Vec<Vec<LayerTime>>>>,
}

impl Logged {
    fn log(&self) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(self.network.layers());
    }
}

impl Network for Logged {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let maps = self.network.run(input)?;
        self.log();
        Ok(maps)
    }

    fn run_at_cells(&mut self, input: &PillarInput, choose: &mut ChooseCells<'_>) -> Result<HeadMaps, NetworkError> {
        let maps = self.network.run_at_cells(input, choose)?;
        self.log();
        Ok(maps)
    }

    fn detect(&mut self, config: &DetectorConfig, points: ArrayView2<'_, f32>) -> Option<WholeFrame> {
        let found = self.network.detect(config, points)?;
        self.log();
        Some(found)
    }

    fn recycle(&mut self, maps: HeadMaps) {
        self.network.recycle(maps);
    }
}

/// A layer over all frames.
struct Layer {
    name: String,
    kind: &'static str,
    kernels: Vec<String>,
    ms: f64,
    macs: u64,
    computed: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    crate::memory::keep();
    let isa = Isa::choose()?;
    use_threads(args.threads)?;
    let start = Instant::now();
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    let is_integer = model.quantization().is_some() && !args.float;
    let (mut engine, device): (Box<dyn Network>, String) = if args.float {
        FloatNetwork::fake_quantized(&model).map(|n| (Box::new(n) as _, "cpu".into()))?
    } else {
        network_on(&model, isa, args.device.device).map_err(anyhow::Error::from_boxed)?
    };
    engine.time_layers(args.by_layer).map_err(anyhow::Error::from_boxed)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;

    let log = Arc::new(Mutex::new(Vec::new()));
    let mut config = model.config().clone();
    args.clouds.change(&mut config)?;
    config.validate().context("these options do not fit the model")?;
    let (wanted_fields, time) = (wanted_fields(&config), config.points.time.clone());
    let detector = Detector::new(config, Box::new(Logged { network: engine, frames: log.clone() }))?;
    let mut perception = Perception::new(detector, args.clouds.motion());
    let mut summary = Summary::default();
    let mut warm = false;
    while summary.frames < args.frames {
        let inputs = Inputs::open(&args.input, wanted_fields.clone(), args.clouds.options(&time))?;
        let wanted = if warm { args.frames - summary.frames } else { WARM_UP };
        let part = replay(&mut inputs.map(LabelledEvent::from), &mut perception, &mut [], wanted, &mut |_| true)?;
        if part.frames == 0 {
            let reasons = part.skipped.keys().cloned().collect::<Vec<_>>().join("\n  ");
            bail!("no frame could be used:\n  {reasons}");
        }
        if warm {
            summary.extend(part);
        } else {
            warm = true;
            log.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
    let layers = merge(&log.lock().unwrap_or_else(PoisonError::into_inner));
    let threads = rayon::current_num_threads();
    let peak = if is_integer { measured_peak(isa) } else { 0.0 };
    let used = if args.float { isa.float() } else { isa_in_use(&model, isa) };

    let stages: serde_json::Map<String, Value> = STAGES
        .iter()
        .map(|&stage| {
            let s = summary.statistics(stage);
            (stage.name().to_owned(), json!({"p50_ms": s.p50_ms, "p99_ms": s.p99_ms}))
        })
        .collect();
    if let Some(path) = &args.json {
        let rows: Vec<Value> = layers.iter().map(|l| l.json(peak)).collect();
        let report = json!({
            "model": model.config().name, "isa": used.to_string(), "device": device, "threads": threads, "frames": summary.frames, "load_ms": load_ms,
            "engine": if is_integer { "int8" } else { "float" }, "stages": stages, "layers": rows, "kernel_peak_gops": peak * 1e-9,
        });
        let text = format!("{report}\n");
        if path.as_os_str() == "-" {
            return crate::print(&text);
        }
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let mut table = Table::new(["stage", "p50 ms", "p99 ms"]);
    for stage in STAGES {
        let s = summary.statistics(stage);
        table.row([stage.name().to_owned(), format!("{:.2}", s.p50_ms), format!("{:.2}", s.p99_ms)]);
    }
    let peak_text = if peak > 0.0 { format!(", kernels alone {:.0} Gop/s", peak * 1e-9) } else { String::new() };
    crate::print(&format!(
        "{table}\n{}\n{} frames, {threads} threads, {used}, loaded in {load_ms:.0} ms{peak_text}\n",
        layer_table(&layers, peak),
        summary.frames
    ))
}

/// Medians over frames, layer by layer.
fn merge(frames: &[Vec<LayerTime>]) -> Vec<Layer> {
    let Some(first) = frames.first() else { return Vec::new() };
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let layer = |(i, l): (usize, &LayerTime)| {
        let of = |f: fn(&LayerTime) -> f64| median(frames.iter().map(|layers| f(&layers[i])).collect());
        let name = match l.nodes.as_slice() {
            [only] => only.clone(),
            [first, .., last] => format!("{first} .. {last} ({})", l.nodes.len()),
            [] => String::new(),
        };
        Layer {
            name,
            kind: l.kind,
            kernels: l.kernels.clone(),
            ms: of(|l| l.elapsed.as_secs_f64() * 1e3),
            macs: l.macs,
            computed: of(|l| l.computed),
        }
    };
    first.iter().enumerate().map(layer).collect()
}

impl Layer {
    /// Operations a second that were really done; a multiply-add is two.
    fn ops(&self) -> f64 {
        2.0 * self.macs as f64 * self.computed / (self.ms * 1e-3)
    }

    fn json(&self, peak: f64) -> Value {
        let mut value = json!({"name": self.name, "kind": self.kind, "ms": self.ms, "macs": self.macs, "computed": self.computed, "kernels": self.kernels});
        if self.macs > 0 {
            value["gops"] = json!(self.ops() * 1e-9);
            if peak > 0.0 {
                value["share_of_peak"] = json!(self.ops() / peak);
            }
        }
        value
    }
}

fn layer_table(layers: &[Layer], peak: f64) -> Table {
    let mut table = Table::new(["layer", "runs in", "kernel", "ms", "computed", "Gop/s", "of peak"]).left(3);
    for l in layers {
        let [computed, ops, share] = match (l.macs, peak > 0.0) {
            (0, _) => [String::new(), String::new(), String::new()],
            (_, false) => [String::new(), format!("{:.0}", l.ops() * 1e-9), String::new()],
            _ => [format!("{:.0} %", 100.0 * l.computed), format!("{:.0}", l.ops() * 1e-9), format!("{:.0} %", 100.0 * l.ops() / peak)],
        };
        table.row([l.name.clone(), l.kind.to_owned(), l.kernels.join(", "), format!("{:.3}", l.ms), computed, ops, share]);
    }
    table
}
