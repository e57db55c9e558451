//! `lidar_ptq train`: a detector from labelled frames.

use crate::interrupt::stop_flag;
use crate::options::use_threads;
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::eval::chart::Chart;
use lidar_ptq::graph::{Manifest, Precision, Provenance, read_model_file, sha256_hex, write_model_file};
use lidar_ptq::train::{ExampleFolder, LogEntry, LossLog, Progress, TrainConfig, TrainState, Trainer, initial_params};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Train a detector on labelled frames, on the CPU.
///
/// CONFIG is a YAML file:
///   detector: edge_pillar          # a preset or a file, see `lidar_ptq import --list-presets`
///   frames: examples/              # folder of NAME.npy and NAME.json, see `lidar_ptq sim --examples`
///   init: start.safetensors        # optional: weights to start from
///   train: {seed: 1, steps: 2000, batch: 4, adam: {lr: 0.002}}
///
/// Beside the model stand MODEL.state (to go on from), MODEL.log.csv (losses of each step) and MODEL.loss.svg (their plot).
/// Ctrl-C and SIGTERM stop after the current step and keep everything; --resume goes on from there.
#[derive(ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct Args {
    config: PathBuf,
    /// The model to write.
    #[arg(short, long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    /// Go on from the state that an earlier run left beside the model.
    #[arg(long)]
    resume: bool,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunConfig {
    detector: String,
    frames: PathBuf,
    init: Option<PathBuf>,
    #[serde(default)]
    train: TrainConfig,
    /// Steps between stored states.
    #[serde(default = "default_store_every")]
    store_every: usize,
}

fn default_store_every() -> usize {
    100
}

/// Tells the allocator to keep what is freed: every step asks for the same large arrays, and having the kernel clear their pages
/// again each time costs a quarter of the step (0.71 s against 0.54 s on two Zen 4 cores).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: `mallopt` only sets options of the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 256 << 20);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

pub fn run(args: &Args) -> anyhow::Result<()> {
    keep_freed_memory();
    use_threads(args.threads)?;
    let text = std::fs::read_to_string(&args.config).with_context(|| args.config.display().to_string())?;
    let run: RunConfig = serde_norway::from_str(&text).with_context(|| args.config.display().to_string())?;
    let detector = DetectorConfig::load(&run.detector)?;
    let graph = detector.graph()?;
    let params = match &run.init {
        Some(path) => Model::load(path).with_context(|| path.display().to_string())?.params().clone(),
        None => initial_params(&graph, run.train.seed),
    };
    let frames = ExampleFolder::open(&run.frames)?;
    let state_path = args.out.with_extension("state");
    let mut trainer = Trainer::new(&detector, &graph, params, run.train.clone())?;
    if args.resume {
        trainer.resume(load_state(&state_path)?)?;
    }

    let interrupted = stop_flag()?;

    let bar = ProgressBar::new(run.train.steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {elapsed} so far, {eta} left  {msg}")?);
    let log_path = args.out.with_extension("log.csv");
    let mut log = LossLog::open(&log_path, trainer.progress().step).with_context(|| log_path.display().to_string())?;
    let keep = |trainer: &Trainer<'_>, log: &LossLog| {
        store(trainer, &detector, &run, &args.out, &state_path)?;
        draw(log, &args.out.with_extension("loss.svg"))
    };
    let mut average = None;
    while !trainer.is_done() && !interrupted.load(Ordering::SeqCst) {
        let report = trainer.step(&frames)?;
        let smooth = average.map_or(report.loss(), |a: f64| 0.98 * a + 0.02 * report.loss());
        average = Some(smooth);
        bar.set_position(trainer.progress().step as u64);
        bar.set_message(format!("loss {smooth:.3}, gradient {:.1}, lr {:.1e}", report.gradient_norm, report.lr));
        log.push(LogEntry::from(&report)).with_context(|| log_path.display().to_string())?;
        if trainer.progress().step % run.store_every == 0 {
            keep(&trainer, &log)?;
        }
    }
    keep(&trainer, &log)?;
    bar.finish();
    if interrupted.load(Ordering::SeqCst) && !trainer.is_done() {
        bail!("interrupted at step {}; go on with --resume", trainer.progress().step);
    }
    Ok(())
}

/// The losses of each task over the steps, smoothed.
fn draw(log: &LossLog, path: &Path) -> anyhow::Result<()> {
    const POINTS: usize = 200;
    let entries = log.entries();
    let mut chart = Chart::new("Training loss", "step", "loss");
    for task in 0..entries.first().map_or(0, |e| e.tasks.len()) {
        for (part, name) in ["heat map", "location"].iter().enumerate() {
            let points = entries.chunks(entries.len().div_ceil(POINTS)).map(|chunk| {
                let mean = chunk.iter().map(|e| e.tasks[task][part]).sum::<f64>() / chunk.len() as f64;
                (chunk[chunk.len() / 2].step as f64, mean)
            });
            chart.line(&format!("task {task}, {name}"), points);
        }
    }
    std::fs::write(path, chart.to_svg()?).with_context(|| path.display().to_string())
}

fn store(trainer: &Trainer<'_>, detector: &DetectorConfig, run: &RunConfig, out: &Path, state: &Path) -> anyhow::Result<()> {
    let progress = trainer.progress();
    let text = serde_json::to_string(run)?;
    let provenance = Provenance {
        source: format!("step {} of {}, {text}", progress.step, run.train.steps),
        sha256: sha256_hex(text.as_bytes()),
        code_base: "lidar_ptq".into(),
        dropped: Vec::new(),
        written_by: concat!("lidar_ptq ", env!("CARGO_PKG_VERSION")).into(),
    };
    let (numbers, tensors) = progress.to_tensors();
    write_model_file(state, &Manifest::new(numbers, provenance.clone()), &tensors, Precision::F32)?;
    Model::new(detector.clone(), progress.params.clone(), provenance)?.save(out, Precision::F16)?;
    Ok(())
}

fn load_state(path: &Path) -> anyhow::Result<Progress> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: --resume needs the state of an earlier run", path.display()))?;
    let (manifest, tensors) = read_model_file::<TrainState>(&bytes).with_context(|| path.display().to_string())?;
    Ok(Progress::from_tensors(manifest.config, tensors))
}
