//! `lidar_ptq calibrate`: a float model becomes a quantized one, from recorded clouds without labels.

mod progress;

use crate::deadline::Deadline;
use crate::detect::peak_memory_mb;
use crate::interrupt::stop_flag;
use crate::options::{PROGRAM, command_line, refuse_to_replace};
use crate::quantize_args::{QuantizeArgs, bits};
use anyhow::{Context, bail};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::Processor;
use lidar_ptq::graph::Precision;
use lidar_ptq::node::calibrate::{JudgeError, judge};
use lidar_ptq::node::calibration_report::{CalibrationReport, layer_table};
use lidar_ptq::node::layer_report::{LayerFigures, Layers, Promotion, finer, promoted};
use lidar_ptq::node::layer_times::{LayerClock, TimeBudget};
use lidar_ptq::node::{Gathered, Inputs, LabelledEvent, Survey, Unusable, Wanted, gather, wanted_fields};
use lidar_ptq::quant::{
    Bits, CalibrationError, CenterTask, METHODS, Method, Partial, Policy, Quantized, Rounding, StateFile, Store, quantize_resuming,
};
use progress::Progress;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Quantize a model with clouds that the robot recorded; no labels are needed.
///
/// The float network runs over frames spread over the input's time, the places and what stood around; a method turns what it sees into
/// integer weights and scales.
/// Then both models run on other frames of the input, and if their boxes agree too little, nothing is written. What works on
/// points stays float.
///
/// What is done is kept beside the output, in OUTPUT.partial, until the model is written: the same command, started again after it
/// was stopped or killed, goes on from the last layer that was finished, to the same result. Ctrl-C and SIGTERM end it within some
/// seconds. Started with `&` by a script, it hears no Ctrl-C, as its shell wants it; SIGTERM it always hears.
///
/// Examples:
///   lidar_ptq calibrate model.safetensors --bag drive.mcap -o model.int8.safetensors
///   lidar_ptq calibrate model.safetensors --input clouds/ --frames 200 --float 'bbox_head.tasks.0.*' --report calibration.html
///   lidar_ptq calibrate model.safetensors --bag drive.mcap --bits W4A8 --bits first=W8A8 --bits last=W8A8
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Bags: rosbag2 folders, .mcap, .db3.
    #[arg(long, num_args = 1.., required_unless_present = "input", value_name = "BAG")]
    bag: Vec<PathBuf>,
    /// Clouds (.bin, .pcd, .npy) and folders of them.
    #[arg(long, num_args = 1.., value_name = "FILES")]
    input: Vec<PathBuf>,
    /// How ranges and roundings are chosen.
    ///
    /// lidar-ptq is the default; the others are there to compare with, and faster.
    #[arg(long, visible_alias = "recipe", default_value = "lidar-ptq", value_parser = METHODS.map(|m| m.name))]
    method: String,
    /// Where the quantized model goes [default: the model's name with .int8.safetensors].
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    /// Frames to calibrate with, spread over time, places, and what stood around.
    #[arg(long, default_value_t = 64, value_name = "N")]
    frames: usize,
    /// Further frames like these, to judge with.
    #[arg(long, default_value_t = 16, value_name = "N")]
    held_out: usize,
    /// Write nothing if less than this share of the float model's boxes is found again, or is right, at a score of 0.3.
    #[arg(long, default_value_t = 0.85, value_name = "SHARE")]
    least_agreement: f64,
    /// Write the model even so.
    #[arg(long)]
    accept_disagreement: bool,
    /// Bits of weights and of what they are multiplied with, 2 to 8: W8A8 for all layers, LAYER=W4A8 for some. May be repeated;
    /// the last that fits a layer decides. Weights of four bits and fewer are stored two a byte.
    #[arg(long, value_name = "[LAYER=]BITS", value_parser = bits)]
    bits: Vec<(Option<String>, Bits)>,
    /// Let the N layers that gain most become finer: 8 bits if they have fewer, float if not.
    #[arg(long, value_name = "N", conflicts_with_all = ["budget_bytes", "budget_ms"])]
    promote: Option<usize>,
    /// Let layers become finer, those first that gain most for a byte, as long as all weights together take no more bytes than this.
    #[arg(long, value_name = "BYTES", conflicts_with = "budget_ms")]
    budget_bytes: Option<usize>,
    /// Let layers become finer, those first that gain most for a millisecond, as long as the network takes no more milliseconds than this.
    /// It is timed on this machine, by layer, as `bench` does.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    budget_ms: Option<f64>,
    /// Threads with which it is timed.
    #[arg(long, default_value_t = 2, value_name = "N", requires = "budget_ms", value_parser = clap::value_parser!(u16).range(1..=1024))]
    budget_threads: u16,
    /// Tell of each layer what is lost if only it is quantized, and what is gained if only it is float.
    #[arg(long)]
    sensitivity: bool,
    /// Progress and the report on standard output for a program: a JSON object a line.
    #[arg(long)]
    progress_json: bool,
    #[command(flatten)]
    common: QuantizeArgs,
}

fn milliseconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|ms: &f64| *ms > 0.0 && ms.is_finite()).ok_or_else(|| format!("`{text}` is no number of milliseconds"))
}

/// How long a step may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(2);
const INTERRUPTED: &str = "interrupted; the same command goes on from the last layer that was finished, if one was";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let common = &args.common;
    let isa = Isa::choose()?;
    let output = args.output.clone().unwrap_or_else(|| common.model.with_extension("int8.safetensors"));
    refuse_to_replace(&output, std::iter::once(&common.model))?;
    if output.exists() && !args.force {
        bail!("{}: exists already; --force replaces it", output.display());
    }
    let (model, config) = common.open()?;
    let method = Method::find(&args.method).with_context(|| format!("no method is named `{}`", args.method))?;
    let mut policy = common.policy(args.bits.iter().cloned());
    policy.check(model.graph())?;

    let interrupted = stop_flag()?;
    let stopped = || interrupted.load(Ordering::SeqCst);
    let deadline = Deadline::watch(&interrupted, GRACE, INTERRUPTED)?;
    let progress = Progress::new(args.progress_json)?;
    // Beside the model: systems may have their own scratch files in memory.
    let scratch = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let processor = Processor::of(common.device.device);
    let device = processor.description();
    let (gathered, unusable, fingerprint) = frames(args, (&model, &config), (&processor, scratch), &progress, &stopped)?;
    let task = CenterTask::new(model.config());
    let effort = common.effort(0);
    let quantize = |policy: &Policy, store: &mut StateFile<'_>| -> anyhow::Result<Quantized> {
        let mut on_step = |what: &str, done: usize, of: usize| {
            progress.tell(what, done, of);
            !stopped()
        };
        let names = paths(args).iter().map(|p| file_name(p)).collect();
        let mut store = Undisturbed { store, deadline: &deadline };
        let done = quantize_resuming(&gathered.frames, &method, policy, (&task, effort), names, &mut store, &mut on_step);
        progress.clear();
        // After its last step, the last layer still has to be rounded.
        progress.mark(match method.rounding {
            Rounding::Nearest => "ranges",
            Rounding::Adaptive(_) => "rounding",
            Rounding::Learnt(_) => "learning",
        });
        match done {
            Err(CalibrationError::Stopped) => bail!(INTERRUPTED),
            done => Ok(done?),
        }
    };
    let model_config = serde_json::to_string(model.config())?;
    let state =
        |policy: &Policy, name: &str| StateFile::new(&state_path(&output, name), &gathered.frames, &method, policy, effort, &model_config);

    // Before anything becomes finer, if something is to.
    let mut first_state = state(&policy, ".first.partial");
    let mut time_budget = None;
    if args.wants_finer() {
        if gathered.held_out.is_empty() {
            bail!("to tell which layers are sensitive needs --held-out frames");
        }
        let first = quantize(&policy, &mut first_state)?;
        let figures = layer_figures(&model, &gathered, &first, true, &progress, &stopped)?;
        crate::say(&format!("before layers became finer:\n{}", layer_table(&figures)));
        (policy, time_budget) = promote(args, (&model, &gathered), &policy, &figures, isa, &progress, &stopped)?;
    }
    let mut state = state(&policy, ".partial");
    let mut quantized = quantize(&policy, &mut state)?;
    quantized.quantization.calibration.recordings_sha256 = fingerprint;
    quantized.quantization.calibration.traits = gathered.traits.clone();
    let seconds: f64 = progress.phases().iter().map(|phase| phase.seconds).sum();
    tracing::info!(%device, seconds = %format!("{seconds:.1}"), "calibrated");
    let quantized_model = model.quantize(quantized.quantization.clone(), quantized.params.clone())?;

    let wants_figures = args.sensitivity || common.json.is_some() || common.report.is_some();
    let layers =
        if wants_figures { layer_figures(&model, &gathered, &quantized, args.sensitivity, &progress, &stopped)? } else { Vec::new() };
    let agreement = (!gathered.held_out.is_empty()).then(|| judge(&quantized_model, &gathered.held_out, isa)).transpose()?;
    progress.mark("judging");
    // What is left is to write.
    drop(deadline);
    let report = CalibrationReport {
        model: file_name(&common.model),
        quantized: &quantized,
        bits: bits_text(&policy),
        seed: common.seed,
        threads: rayon::current_num_threads(),
        phases: progress.phases(),
        peak_memory_mb: peak_memory_mb(),
        layers,
        time_budget,
        agreement,
        unusable: &unusable,
        command: command_line(),
        program: PROGRAM.to_owned(),
    };
    let text = report.text();
    crate::say(&text);
    let worst = report.worst_share();
    let complaint = worst
        .filter(|worst| *worst < args.least_agreement)
        .map(|worst| format!("only {worst:.3} of the boxes agree, less than --least-agreement {}", args.least_agreement));
    let is_refused = complaint.is_some() && !args.accept_disagreement;
    let verdict = match (&complaint, is_refused) {
        (Some(complaint), true) => format!("Refused: {complaint}; nothing was written"),
        (Some(complaint), false) => format!("{}: {complaint}, accepted even so", file_name(&output)),
        (None, _) => {
            worst.map_or_else(|| file_name(&output), |w| format!("{}: at least {w:.3} of the boxes above 0.3 agree", file_name(&output)))
        }
    };
    common.put_out(|| report.json(), || report.html(&verdict))?;
    if let Some(complaint) = complaint {
        if is_refused {
            bail!(
                "{complaint}; nothing was written. --accept-disagreement writes the model even so, without calibrating again; more --frames, more --bits or --float layers may mend it"
            );
        }
        crate::say(&format!("{complaint}\n"));
    }
    quantized_model.save(&output, Precision::F32).with_context(|| output.display().to_string())?;
    crate::say(&format!("wrote {}\n", output.display()));
    progress.report(&json!({"model": output, "agreement": worst, "text": text}));
    state.remove()?;
    first_state.remove()?;
    Ok(())
}

impl Args {
    fn wants_finer(&self) -> bool {
        self.promote.is_some() || self.budget_bytes.is_some() || self.budget_ms.is_some()
    }
}

/// A store that the end of the program does not break off.
struct Undisturbed<'a, S> {
    store: S,
    deadline: &'a Deadline,
}

impl Store for Undisturbed<'_, &mut StateFile<'_>> {
    fn load(&mut self) -> Result<Option<Partial>, CalibrationError> {
        self.store.load()
    }

    fn save(&mut self, partial: &Partial) -> Result<(), CalibrationError> {
        let _writing = self.deadline.hold();
        self.store.save(partial)
    }
}

fn paths(args: &Args) -> Vec<PathBuf> {
    args.bag.iter().chain(&args.input).cloned().collect()
}

/// Reads the frames, and tells the recordings' fingerprint.
fn frames(
    args: &Args,
    (model, config): (&Model, &DetectorConfig),
    place: (&Processor, &Path),
    progress: &Progress,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<(Gathered, Unusable, String)> {
    let clouds = &args.common.clouds;
    let open = || Inputs::open(&paths(args), wanted_fields(config), clouds.options(&config.points.time));
    let wanted = Wanted { frames: args.frames.max(1), held_out: args.held_out };
    let counting = |what: &'static str, expected: usize| {
        let mut met = 0;
        move || {
            met += 1;
            progress.tell(what, met, expected);
            !stopped()
        }
    };
    let inputs = open()?;
    let expected = inputs.expected_frames() as usize;
    let mut on_frame = counting("frames looked at", expected);
    let total = (wanted.frames + wanted.held_out, config.points.sweeps.count);
    let survey = Survey::new(inputs.map(LabelledEvent::from), expected, clouds.motion(), total, &mut on_frame);
    let choices = [survey.choose(wanted, args.common.seed)];
    let mut on_frame = counting("frames observed", choices[0].calibrate.len() + choices[0].held_out.len());
    let events = open()?.map(LabelledEvent::from);
    let (mut gathered, unusable) = gather((model, config.clone()), clouds.motion(), events, &choices, place, &mut on_frame)?;
    progress.clear();
    if stopped() {
        bail!("interrupted; nothing was written");
    }
    match gathered.pop().filter(|gathered| !gathered.frames.is_empty()) {
        Some(gathered) => Ok((gathered, unusable, survey.fingerprint().to_owned())),
        None => {
            let reasons = unusable.keys().cloned().collect::<Vec<_>>().join("\n  ");
            bail!("no frame could be used{}{reasons}", if reasons.is_empty() { "" } else { ":\n  " });
        }
    }
}

/// A policy in which the layers that gain most are finer.
fn promote(
    args: &Args,
    (model, gathered): (&Model, &Gathered),
    policy: &Policy,
    figures: &[LayerFigures],
    isa: Isa,
    progress: &Progress,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<(Policy, Option<TimeBudget>)> {
    if let Some(budget_ms) = args.budget_ms {
        let clock = LayerClock::new(model, (&gathered.frames, &gathered.held_out), isa, args.budget_threads.into())?;
        let promoted = clock.promote(policy, figures, budget_ms, &mut |done, of| {
            progress.tell("layers timed", done, of);
            !stopped()
        });
        let (policy, budget) = heard(promoted)?;
        progress.clear();
        if budget.before_ms > budget_ms {
            crate::say(&format!("the network takes {:.2} ms already, more than --budget-ms {budget_ms}\n", budget.before_ms));
        }
        return Ok((policy, Some(budget)));
    }
    let promotion = args.promote.map(Promotion::Layers).or(args.budget_bytes.map(Promotion::Bytes));
    let layers = promotion.map(|promotion| promoted(figures, &promotion)).unwrap_or_default();
    Ok((finer(policy, layers), None))
}

/// What became of each layer on the held-out frames.
fn layer_figures(
    model: &Model,
    gathered: &Gathered,
    quantized: &Quantized,
    sensitivity: bool,
    progress: &Progress,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<LayerFigures>> {
    let layers = Layers::new(model, gathered.frames.graph(), quantized, &gathered.held_out)?;
    let mut figures = layers.figures()?;
    progress.mark("figures of layers");
    if sensitivity {
        heard(layers.sensitivities(&mut figures, &mut |done, of| {
            progress.tell("sensitivity of layers", done, of);
            !stopped()
        }))?;
        progress.clear();
    }
    Ok(figures)
}

/// Says what to do after a signal.
fn heard<T>(done: Result<T, JudgeError>) -> anyhow::Result<T> {
    match done {
        Err(JudgeError::Quantization(CalibrationError::Stopped)) => bail!(INTERRUPTED),
        done => Ok(done?),
    }
}

/// As `--bits` and `--float` say it.
fn bits_text(policy: &Policy) -> String {
    let exceptions = policy.exceptions.iter().map(|(layer, bits)| format!("{layer}={bits}"));
    let float = policy.float.iter().map(|layer| format!("{layer} float"));
    std::iter::once(policy.bits.to_string()).chain(exceptions).chain(float).collect::<Vec<_>>().join(", ")
}

/// Where a calibration leaves what it has done until its model is written.
fn state_path(output: &Path, ending: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    output.with_file_name(name)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
