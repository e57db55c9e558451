//! `lidar_ptq calibrate`: a float model becomes a quantized one, from recorded clouds without labels.

use crate::detect::peak_memory_mb;
use crate::interrupt::stop_flag;
use crate::options::{CloudArgs, DeviceArgs, refuse_to_replace, use_threads, write_file};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::Model;
use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::Processor;
use lidar_ptq::eval::agreement::Agreement;
use lidar_ptq::eval::table::Table;
use lidar_ptq::graph::{Precision, Quantization};
use lidar_ptq::node::calibrate::{Gathered, Wanted, gather_chosen, judge};
use lidar_ptq::node::layer_report::{LayerFigures, Layers, Promotion, promoted};
use lidar_ptq::node::{Choice, Inputs, wanted_fields};
use lidar_ptq::quant::{
    Bits, CalibrationError, CenterTask, Effort, LayerRounding, METHODS, Method, Policy, Quantized, StateFile, quantize_resuming,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Quantize a model with clouds that the robot recorded; no labels are needed.
///
/// The float network runs over frames spread over the input's time, the places and what stood around; a method turns what it sees into
/// integer weights and scales.
/// Then both models run on other frames of the input, and if their boxes agree too little, nothing is written. What works on
/// points stays float.
///
/// What is done is kept beside the output, in OUTPUT.partial, until the model is written: the same command, started again after it
/// was stopped or killed, goes on from the last layer that was finished, to the same result.
///
/// Examples:
///   lidar_ptq calibrate model.safetensors --bag drive.mcap -o model.int8.safetensors
///   lidar_ptq calibrate model.safetensors --input clouds/ --frames 200 --float 'bbox_head.tasks.0.*'
///   lidar_ptq calibrate model.safetensors --bag drive.mcap --bits W4A8 --bits first=W8A8 --bits last=W8A8
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Float model, as `import` or `train` writes it.
    model: PathBuf,
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
    /// A layer that stays float: a name, the beginning of names followed by `*`, `first` or `last`. May be repeated.
    #[arg(long, value_name = "LAYER")]
    float: Vec<String>,
    /// Bits of weights and of what they are multiplied with, 2 to 8: W8A8 for all layers, LAYER=W4A8 for some. May be repeated;
    /// the last that fits a layer decides. Weights of four bits and fewer are stored two a byte.
    #[arg(long, value_name = "[LAYER=]BITS", value_parser = bits)]
    bits: Vec<(Option<String>, Bits)>,
    /// Steps of gradient descent for each unit, of methods that descend; by default as published, which takes hours.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Frames of each such step; by default as published.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learn from square windows of so many cells of each frame; by default from whole frames, as published.
    #[arg(long, value_name = "CELLS")]
    window: Option<usize>,
    /// Let the N layers that gain most become finer: 8 bits if they have fewer, float if not.
    #[arg(long, value_name = "N", conflicts_with = "budget_bytes")]
    promote: Option<usize>,
    /// Let layers become finer, those first that gain most for a byte, as long as all weights together take no more bytes than this.
    #[arg(long, value_name = "BYTES")]
    budget_bytes: Option<usize>,
    /// Tell of each layer what is lost if only it is quantized, and what is gained if only it is float.
    #[arg(long)]
    sensitivity: bool,
    /// Write all figures as one JSON object; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Progress and the report on standard output for a program: a JSON object a line.
    #[arg(long)]
    progress_json: bool,
    /// Of what is drawn at random.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    clouds: CloudArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn bits(text: &str) -> Result<(Option<String>, Bits), String> {
    match text.rsplit_once('=') {
        Some((layer, bits)) => Ok((Some(layer.to_owned()), bits.parse()?)),
        None => Ok((None, text.parse()?)),
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    use_threads(args.threads)?;
    let isa = Isa::choose()?;
    let start = Instant::now();
    let output = args.output.clone().unwrap_or_else(|| args.model.with_extension("int8.safetensors"));
    refuse_to_replace(&output, std::iter::once(&args.model))?;
    if output.exists() && !args.force {
        bail!("{}: exists already; --force replaces it", output.display());
    }
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    if model.quantization().is_some() {
        bail!("{}: is quantized already; calibrate the float model that it was made from", args.model.display());
    }
    let method = Method::find(&args.method).with_context(|| format!("no method is named `{}`", args.method))?;
    let mut policy = Policy { float: args.float.clone(), ..Policy::default() };
    for (layer, bits) in &args.bits {
        match layer {
            Some(layer) => policy.exceptions.push((layer.clone(), *bits)),
            None => policy.bits = *bits,
        }
    }
    policy.check(model.graph())?;

    let interrupted = stop_flag()?;
    let stopped = || interrupted.load(Ordering::SeqCst);
    let progress = Progress::new(args.progress_json)?;
    // Beside the model: systems may have their own scratch files in memory.
    let scratch = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let processor = Processor::of(args.device.device);
    let device = processor.description();
    let (gathered, fingerprint) = gather(args, &model, (&processor, scratch), &progress, &stopped)?;
    let task = CenterTask::new(model.config());
    let effort = Effort { seed: args.seed, iterations: args.steps, batch: args.batch, window: args.window, ..Effort::default() };
    let quantize = |policy: &Policy, state: &mut StateFile<'_>| -> anyhow::Result<Quantized> {
        let mut on_step = |what: &str, done: usize, of: usize| {
            progress.tell(what, done, of);
            !stopped()
        };
        let names = paths(args).iter().map(|p| file_name(p)).collect();
        let done = quantize_resuming(&gathered.frames, &method, policy, (&task, effort), names, state, &mut on_step);
        progress.clear();
        match done {
            Err(CalibrationError::Stopped) => bail!("interrupted; the same command goes on from the last layer that was finished"),
            done => Ok(done?),
        }
    };
    let model_config = serde_json::to_string(model.config())?;
    let state =
        |policy: &Policy, name: &str| StateFile::new(&state_path(&output, name), &gathered.frames, &method, policy, effort, &model_config);

    // Before anything becomes finer, if something is to.
    let mut first_state = state(&policy, ".first.partial");
    if let Some(promotion) = args.promote.map(Promotion::Layers).or(args.budget_bytes.map(Promotion::Bytes)) {
        if gathered.held_out.is_empty() {
            bail!("to tell which layers are sensitive needs --held-out frames");
        }
        let first = quantize(&policy, &mut first_state)?;
        let figures = layer_figures(&model, &gathered, &first, true, &stopped)?;
        crate::say(&format!("before layers became finer:\n{}", layer_table(&figures)));
        policy = promoted(&policy, &figures, promotion);
    }
    let mut state = state(&policy, ".partial");
    let mut quantized = quantize(&policy, &mut state)?;
    quantized.quantization.calibration.recordings_sha256 = fingerprint;
    quantized.quantization.calibration.traits = gathered.traits.clone();
    let seconds = start.elapsed().as_secs_f64();
    tracing::info!(%device, seconds = %format!("{seconds:.1}"), "calibrated");

    let quantized_model = model.quantize(quantized.quantization.clone(), quantized.params.clone())?;
    let mut text = describe(&quantized.quantization);
    if !quantized.rounding.is_empty() {
        text += &rounding_table(&quantized.rounding).to_string();
    }
    for (reason, count) in &gathered.skipped {
        text += &format!("skipped {count}: {reason}\n");
    }
    let figures = if args.sensitivity || args.json.is_some() {
        layer_figures(&model, &gathered, &quantized, args.sensitivity, &stopped)?
    } else {
        Vec::new()
    };
    if args.sensitivity {
        text += &layer_table(&figures).to_string();
    }
    let agreement = (!gathered.held_out.is_empty()).then(|| judge(&quantized_model, &gathered.held_out, isa)).transpose()?;
    if let Some(file) = &args.json {
        let report = json!({
            "model": file_name(&args.model),
            "calibration": quantized.quantization.calibration,
            "seed": args.seed,
            "seconds": seconds,
            "peak_memory_mb": peak_memory_mb(),
            "layers": figures,
            "float_layers": quantized.quantization.scheme.float,
            "rounding": quantized.rounding,
            "agreement": agreement.as_ref().map(Agreement::json),
        });
        write_text(file, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    text += &match &agreement {
        None => "no frames were left to judge with; `lidar_ptq eval --against` compares the models on another recording\n".to_owned(),
        Some(agreement) => {
            format!("against the float model on {} frames that calibration has not seen:\n{}\n", agreement.frames(), agreement.table())
        }
    };
    crate::say(&text);
    let worst = agreement.as_ref().and_then(worst_share);
    if let Some(worst) = worst.filter(|worst| *worst < args.least_agreement) {
        let complaint = format!("only {worst:.3} of the boxes agree, less than --least-agreement {}", args.least_agreement);
        if !args.accept_disagreement {
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

fn paths(args: &Args) -> Vec<PathBuf> {
    args.bag.iter().chain(&args.input).cloned().collect()
}

/// Reads the frames, and tells the recordings' fingerprint.
fn gather(
    args: &Args,
    model: &Model,
    place: (&Processor, &Path),
    progress: &Progress,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<(Gathered, String)> {
    let mut config = model.config().clone();
    args.clouds.change(&mut config)?;
    config.validate().context("these options do not fit the model")?;
    let open = || Inputs::open(&paths(args), wanted_fields(&config), args.clouds.options(&config.points.time));
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
    let mut on_frame = counting("frames looked at", inputs.expected_frames() as usize);
    let choice = Choice::survey(inputs, args.clouds.motion(), (wanted, config.points.sweeps.count), args.seed, &mut on_frame);
    let mut on_frame = counting("frames observed", choice.calibrate.len() + choice.held_out.len());
    let gathered = gather_chosen((model, config.clone()), args.clouds.motion(), open()?, &choice, place, &mut on_frame)?;
    progress.clear();
    if stopped() {
        bail!("interrupted; nothing was written");
    }
    if gathered.frames.is_empty() {
        let reasons = gathered.skipped.keys().cloned().collect::<Vec<_>>().join("\n  ");
        bail!("no frame could be used{}{reasons}", if reasons.is_empty() { "" } else { ":\n  " });
    }
    Ok((gathered, choice.fingerprint))
}

/// What became of each layer on the held-out frames.
fn layer_figures(
    model: &Model,
    gathered: &Gathered,
    quantized: &Quantized,
    sensitivity: bool,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<LayerFigures>> {
    let layers = Layers::new(model, (gathered.frames.graph(), gathered.frames.params()), quantized, &gathered.held_out)?;
    let mut figures = layers.figures()?;
    if sensitivity {
        let bar = ProgressBar::new(figures.len() as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} sensitivity of layers {pos}/{len}  {eta} left")?);
        layers.sensitivities(&mut figures, &mut |done, _| {
            bar.set_position(done as u64);
            !stopped()
        })?;
        bar.finish_and_clear();
    }
    Ok(figures)
}

fn layer_table(figures: &[LayerFigures]) -> Table {
    let headers = ["layer", "bits", "bytes", "SNR dB", "clipped", "alone: loss", "1-F", "spared: loss", "1-F"];
    let mut table = Table::new(headers);
    for layer in figures {
        let mut row = vec![
            layer.layer.clone(),
            format!("W{}A{}", layer.weight_bits, layer.activation_bits),
            layer.weight_bytes.to_string(),
            format!("{:.1}", layer.output_snr_db),
            format!("{:.1e}", layer.clipped_share),
        ];
        let costs = layer.sensitivity.map(|s| [s.alone.loss, s.alone.disagreement, s.spared.loss, s.spared.disagreement]);
        row.extend((0..4).map(|i| costs.map_or_else(String::new, |costs| format!("{:.4}", costs[i]))));
        table.row(row);
    }
    table
}

fn write_text(file: &Path, text: &str) -> anyhow::Result<()> {
    if file == Path::new("-") { crate::print(text) } else { write_file(file, text) }
}

/// Where a calibration leaves what it has done until its model is written.
fn state_path(output: &Path, ending: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    output.with_file_name(name)
}

/// A bar for people, or lines for a program.
enum Progress {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    fn new(json: bool) -> anyhow::Result<Self> {
        if json {
            return Ok(Self::Lines);
        }
        let bar = ProgressBar::new(1);
        bar.set_style(ProgressStyle::with_template("{bar:30} {msg} {pos}/{len}  {eta} left")?);
        Ok(Self::Bar(bar))
    }

    fn tell(&self, stage: &str, done: usize, of: usize) {
        match self {
            Self::Bar(bar) => {
                if done == 1 {
                    bar.reset();
                    bar.set_length(of as u64);
                    bar.set_message(stage.to_owned());
                }
                bar.set_position(done as u64);
            }
            Self::Lines => print_line(&json!({"stage": stage, "done": done, "of": of})),
        }
    }

    fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    fn report(&self, report: &Value) {
        if matches!(self, Self::Lines) {
            print_line(&json!({"report": report}));
        }
    }
}

/// Who has stopped listening misses nothing that matters.
fn print_line(line: &Value) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The lower of recall and precision at the highest threshold, if there are boxes.
fn worst_share(agreement: &Agreement) -> Option<f64> {
    let at = agreement.overall().thresholds.last().copied()?;
    Some(at.recall?.min(at.precision.unwrap_or(0.0)))
}

/// What became of each layer.
pub fn describe(quantization: &Quantization) -> String {
    let Quantization { scheme, calibration } = quantization;
    let mut table = Table::new(["layer", "runs in", "weights", "output", "why"]).left(5);
    for (layer, weight) in &scheme.weights {
        let output =
            scheme.activations.get(layer).map_or("float".to_owned(), |a| format!("{}{}", if a.signed { "s" } else { "u" }, a.bits));
        table.row([layer.clone(), "integers".into(), format!("s{}", weight.bits), output, String::new()]);
    }
    for (layer, why) in &scheme.float {
        table.row([layer.clone(), "float".into(), "float".into(), "float".into(), why.clone()]);
    }
    let inputs = calibration.inputs.join(", ");
    format!("{table}{} frames of {inputs}, {}\n", calibration.frames, calibration.method)
}

/// What adaptive rounding gained.
fn rounding_table(layers: &[LayerRounding]) -> Table {
    let mut table = Table::new(["layer's output", "error, rounded to nearest", "error"]);
    for LayerRounding { layer, nearest_error, error } in layers {
        table.row([layer.clone(), format!("{:.2e}", nearest_error), format!("{:.2e}", error)]);
    }
    table
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
