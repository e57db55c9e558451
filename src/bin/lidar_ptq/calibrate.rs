//! `lidar_ptq calibrate`: a float model becomes a quantized one, from recorded clouds without labels.

use crate::interrupt::stop_flag;
use crate::options::{CloudArgs, refuse_to_replace, use_threads};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::Model;
use lidar_ptq::engine::Isa;
use lidar_ptq::eval::agreement::Agreement;
use lidar_ptq::eval::table::Table;
use lidar_ptq::graph::{Precision, Quantization};
use lidar_ptq::node::calibrate::{Wanted, gather, judge};
use lidar_ptq::node::{Inputs, wanted_fields};
use lidar_ptq::quant::{Bits, CenterTask, Effort, LayerRounding, METHODS, Method, Policy, quantize};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Quantize a model with clouds that the robot recorded; no labels are needed.
///
/// The float network runs over frames spread evenly over the input; a method turns what it sees into integer weights and scales.
/// Then both models run on other frames of the input, and if their boxes agree too little, nothing is written. What works on
/// points stays float.
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
    #[arg(long, default_value = "lidar-ptq", value_parser = METHODS.map(|m| m.name))]
    method: String,
    /// Where the quantized model goes [default: the model's name with .int8.safetensors].
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    /// Frames to calibrate with, spread evenly over the input.
    #[arg(long, default_value_t = 64, value_name = "N")]
    frames: usize,
    /// Frames between those, to judge with.
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
    /// Of what is drawn at random.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Progress and the report on standard output for a program: a JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    clouds: CloudArgs,
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

    let mut config = model.config().clone();
    args.clouds.change(&mut config)?;
    config.validate().context("these options do not fit the model")?;
    let paths: Vec<PathBuf> = args.bag.iter().chain(&args.input).cloned().collect();
    let inputs = Inputs::open(&paths, wanted_fields(&config), args.clouds.options(&config.points.time))?;
    let wanted = Wanted { frames: args.frames.max(1), held_out: args.held_out };
    let interrupted = stop_flag()?;
    let progress = Progress::new(args.json)?;
    let (mut observed, expected) = (0, inputs.expected_frames().min((wanted.frames + wanted.held_out) as u64) as usize);
    let mut on_frame = || {
        observed += 1;
        progress.tell("frames observed", observed, expected);
        !interrupted.load(Ordering::SeqCst)
    };
    let gathered = gather(&model, config, args.clouds.motion(), inputs, wanted, &mut on_frame)?;
    progress.clear();
    if interrupted.load(Ordering::SeqCst) {
        bail!("interrupted; nothing was written");
    }
    if gathered.frames.is_empty() {
        let reasons = gathered.skipped.keys().cloned().collect::<Vec<_>>().join("\n  ");
        bail!("no frame could be used{}{reasons}", if reasons.is_empty() { "" } else { ":\n  " });
    }

    let mut on_step = |what: &str, done: usize, of: usize| {
        progress.tell(what, done, of);
        !interrupted.load(Ordering::SeqCst)
    };
    let task = CenterTask::new(&model.config().network.head);
    let effort = Effort { seed: args.seed, ..Effort::default() };
    let names = paths.iter().map(|p| file_name(p)).collect();
    let quantized = quantize(&gathered.frames, &method, &policy, (&task, effort), names, &mut on_step)?;
    progress.clear();
    let quantized_model = model.quantize(quantized.quantization.clone(), quantized.params)?;
    let mut report = describe(&quantized.quantization);
    if !quantized.rounding.is_empty() {
        report += &rounding_table(&quantized.rounding).to_string();
    }
    for (reason, count) in &gathered.skipped {
        report += &format!("skipped {count}: {reason}\n");
    }
    let agreement = (!gathered.held_out.is_empty()).then(|| judge(&quantized_model, &gathered.held_out, isa)).transpose()?;
    report += &match &agreement {
        Some(agreement) => {
            format!("against the float model on {} frames that calibration has not seen:\n{}\n", agreement.frames(), agreement.table())
        }
        None => "no frames were left to judge with; `lidar_ptq eval --against` compares the models on another recording\n".to_owned(),
    };
    crate::say(&report);
    let worst = agreement.as_ref().and_then(worst_share);
    if let Some(worst) = worst.filter(|worst| *worst < args.least_agreement) {
        let complaint = format!("only {worst:.3} of the boxes agree, less than --least-agreement {}", args.least_agreement);
        if !args.accept_disagreement {
            bail!(
                "{complaint}; nothing was written. --accept-disagreement writes the model even so; more --frames, more --bits or --float layers may mend it"
            );
        }
        crate::say(&format!("{complaint}\n"));
    }
    quantized_model.save(&output, Precision::F32).with_context(|| output.display().to_string())?;
    crate::say(&format!("wrote {}\n", output.display()));
    progress.report(&json!({"model": output, "agreement": worst, "text": report}));
    Ok(())
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
