//! `lidar_ptq train`: a detector from labelled frames.

use crate::interrupt::stop_flag;
use crate::options::{DeviceArgs, use_threads};
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::dataset::{Dataset, FrameSelection};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::engine::float::Processor;
use lidar_ptq::eval::chart::Chart;
use lidar_ptq::graph::{Graph, Manifest, Params, Precision, Provenance, model_file_bytes, read_model_file, sha256_hex, write_model_file};
use lidar_ptq::train::{
    DatasetExamples, ExampleFolder, ExampleSource, LogEntry, LossLog, Progress, TrainConfig, TrainState, Trainer, initial_params,
    transferred_params,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Train a detector on labelled frames.
///
/// CONFIG is a YAML file:
///   detector: edge_pillar          # a preset or a file, see `lidar_ptq import --list-presets`
///   frames: examples/              # folder of NAME.npy and NAME.json, see `lidar_ptq sim --examples`,
///                                  # or of KITTI's or nuScenes' layout; some of its frames only:
///                                  # {folder: kitti, only: [0, 3, 7]}, or a text file with a frame or scene a line
///   init: start.safetensors        # optional: weights to start from; of another model, what fits of them:
///                                  # {model: start.safetensors, partial: true}; or without some of its tensors:
///                                  # {model: start.safetensors, without: [bbox_head.tasks.0.vel]}
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
    #[command(flatten)]
    device: DeviceArgs,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunConfig {
    detector: String,
    frames: Frames,
    init: Option<Init>,
    #[serde(default)]
    train: TrainConfig,
    /// Steps between stored states.
    #[serde(default = "default_store_every")]
    store_every: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Frames {
    Folder(PathBuf),
    Some(SomeFrames),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SomeFrames {
    folder: PathBuf,
    only: FrameSelection,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Init {
    Model(PathBuf),
    Part(PartialInit),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartialInit {
    model: PathBuf,
    /// Whether the model may be another one, of which everything is taken that fits.
    #[serde(default)]
    partial: bool,
    /// Beginnings of names of tensors that are not taken.
    #[serde(default)]
    without: Vec<String>,
}

impl Frames {
    fn open(&self, detector: &DetectorConfig) -> anyhow::Result<Box<dyn ExampleSource>> {
        let (folder, only) = match self {
            Self::Folder(folder) => (folder, None),
            Self::Some(SomeFrames { folder, only }) => (folder, Some(only)),
        };
        Ok(if only.is_some() || Dataset::is_at(folder) {
            Box::new(DatasetExamples::new(Dataset::open(folder, only)?, detector)?)
        } else {
            Box::new(ExampleFolder::open(folder)?)
        })
    }
}

impl Init {
    /// Parameters of the network to train; says what they do not take from a model that is another one.
    fn params(&self, detector: &DetectorConfig, graph: &Graph, seed: u64) -> anyhow::Result<Params> {
        let (path, partial, without) = match self {
            Self::Model(path) => (path, false, &[][..]),
            Self::Part(PartialInit { model, partial, without }) => (model, *partial || !without.is_empty(), &without[..]),
        };
        let model = Model::load(path).with_context(|| path.display().to_string())?;
        let (config, _, mut params) = model.into_parts();
        for start in without {
            let before = params.0.len();
            params.0.retain(|name, _| !name.starts_with(start));
            if params.0.len() == before {
                bail!("{}: `init.without`: no tensor's name begins with `{start}`", path.display());
            }
        }
        let (from, to) = (&config.decode.code, &detector.decode.code);
        if from != to {
            bail!("{}: `decode.code`: expected that of the detector to train, {to:?}, found {from:?}", path.display());
        }
        let (from, to) = (&config.points.features, &detector.points.features);
        if from.len() == to.len() && from != to {
            bail!("{}: `points.features`: expected those of the detector to train, {to:?}, found {from:?}", path.display());
        }
        if !partial {
            let other =
                || format!("{}: not the network to train; take what fits with `init: {{model: ..., partial: true}}`", path.display());
            params.check(graph).with_context(other)?;
            return Ok(params);
        }
        let transferred = transferred_params(graph, seed, params);
        if transferred.taken() == 0 {
            bail!("{}: none of its tensors has the name and shape of one of the network to train", path.display());
        }
        eprintln!("{}: took {} tensors", path.display(), transferred.taken());
        for (what, names) in [("begins anew", &transferred.anew), ("not taken", &transferred.unused)] {
            names.iter().for_each(|name| eprintln!("  {what}: {name}"));
        }
        Ok(transferred.params)
    }
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
        Some(init) => init.params(&detector, &graph, run.train.seed)?,
        None => initial_params(&graph, run.train.seed),
    };
    let frames = run.frames.open(&detector)?;
    let state_path = args.out.with_extension("state");
    let mut trainer = Trainer::new(&detector, &graph, params, run.train.clone())?;
    if args.resume {
        trainer.resume(load_state(&state_path)?)?;
    }

    let processor = Processor::of(args.device.device);
    let device = processor.description();
    let mut trainer = trainer.on(processor);
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
    // The first step reads all labels, and a GPU has yet to find memory.
    let (first, mut started) = (trainer.progress().step + 1, Instant::now());
    while !trainer.is_done() && !interrupted.load(Ordering::SeqCst) {
        let report = trainer.step(&*frames)?;
        let smooth = average.map_or(report.loss(), |a: f64| 0.98 * a + 0.02 * report.loss());
        average = Some(smooth);
        let step = trainer.progress().step;
        if step == first {
            started = Instant::now();
        }
        bar.set_position(step as u64);
        bar.set_message(format!("loss {smooth:.3}, gradient {:.1}, lr {:.1e}", report.gradient_norm, report.lr));
        log.push(LogEntry::from(&report)).with_context(|| log_path.display().to_string())?;
        if trainer.progress().step % run.store_every == 0 {
            keep(&trainer, &log)?;
        }
    }
    let steps = trainer.progress().step.saturating_sub(first);
    if steps > 0 {
        let seconds = started.elapsed().as_secs_f64() / steps as f64;
        tracing::info!(%device, steps, seconds_per_step = %format!("{seconds:.4}"), "trained");
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
    write_model_file(state, &model_file_bytes(&Manifest::new(numbers, provenance.clone()), &tensors, None, Precision::F32)?)?;
    Model::new(detector.clone(), progress.params.clone(), provenance)?.save(out, Precision::F16)?;
    Ok(())
}

fn load_state(path: &Path) -> anyhow::Result<Progress> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: --resume needs the state of an earlier run", path.display()))?;
    let (manifest, tensors) = read_model_file::<TrainState>(&bytes).with_context(|| path.display().to_string())?;
    Ok(Progress::from_tensors(manifest.config, tensors.floats))
}
