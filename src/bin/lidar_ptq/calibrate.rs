//! `lidar_ptq calibrate`: a float model becomes a quantized one, from recorded clouds without labels.

use crate::options::{CloudArgs, use_threads};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::{Detector, HeadMaps, Model, Network, NetworkError, PillarInput};
use lidar_ptq::eval::table::Table;
use lidar_ptq::graph::{Precision, Quantization};
use lidar_ptq::node::{Event, Inputs, Perception, wanted_fields};
use lidar_ptq::quant::{Calibrator, METHODS, Method, Policy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Quantize a model with clouds that the robot recorded; no labels are needed.
///
/// The float network runs over frames spread evenly over the input, the ranges of its values are observed, and weights and
/// activations become integers. What works on points stays float.
///
/// Examples:
///   lidar_ptq calibrate model.safetensors --bag drive.mcap -o model.int8.safetensors
///   lidar_ptq calibrate model.safetensors --input clouds/ --frames 200 --float 'bbox_head.tasks.0.*'
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
    /// How ranges are chosen.
    #[arg(long, default_value = METHODS[0].name, value_parser = METHODS.map(|m| m.name))]
    method: String,
    /// Where the quantized model goes [default: the model's name with .int8.safetensors].
    #[arg(short, long, value_name = "MODEL")]
    output: Option<PathBuf>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    /// Frames to observe, spread evenly over the input.
    #[arg(long, default_value_t = 64, value_name = "N")]
    frames: usize,
    /// A layer that stays float, or the beginning of names followed by `*`. May be repeated.
    #[arg(long, value_name = "LAYER")]
    float: Vec<String>,
    /// Bits of weights, 2 to 8; four and fewer are stored two a byte.
    #[arg(long, default_value_t = 8, value_name = "BITS")]
    weight_bits: u8,
    /// Bits of activations, 2 to 8.
    #[arg(long, default_value_t = 8, value_name = "BITS")]
    activation_bits: u8,
    #[command(flatten)]
    clouds: CloudArgs,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// The float network of a detector, watched.
struct Watched(Arc<Mutex<Option<Calibrator>>>);

impl Network for Watched {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let mut calibrator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calibrator = calibrator.as_mut().ok_or("calibration is over")?;
        HeadMaps::from_outputs(calibrator.observe(&input.to_inputs())?)
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    use_threads(args.threads)?;
    let output = args.output.clone().unwrap_or_else(|| args.model.with_extension("int8.safetensors"));
    if output.exists() && !args.force {
        bail!("{}: exists already; --force replaces it", output.display());
    }
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    if model.quantization().is_some() {
        bail!("{}: is quantized already; calibrate the float model that it was made from", args.model.display());
    }
    let method = Method::find(&args.method).with_context(|| format!("no method is named `{}`", args.method))?;
    let policy = Policy { float: args.float.clone(), weight_bits: args.weight_bits, activation_bits: args.activation_bits };
    let calibrator = Arc::new(Mutex::new(Some(Calibrator::new(model.graph(), model.params(), method, &policy)?)));

    let mut config = model.config().clone();
    args.clouds.change(&mut config)?;
    config.validate().context("these options do not fit the model")?;
    let paths: Vec<PathBuf> = args.bag.iter().chain(&args.input).cloned().collect();
    let inputs = Inputs::open(&paths, wanted_fields(&config), args.clouds.options(&config.points.time))?;
    let detector = Detector::new(config, Box::new(Watched(calibrator.clone())))?;
    let perception = Perception::new(detector, args.clouds.motion());
    let skipped = observe(inputs, perception, args.frames);

    let calibrator = calibrator.lock().unwrap_or_else(PoisonError::into_inner).take().context("calibration ran once")?;
    if calibrator.frames() == 0 {
        let reasons = skipped.keys().cloned().collect::<Vec<_>>().join("\n  ");
        bail!("no frame could be used{}{reasons}", if reasons.is_empty() { "" } else { ":\n  " });
    }
    let quantization = calibrator.finish(paths.iter().map(|p| file_name(p)).collect())?;
    let quantized = model.quantize(quantization.clone())?;
    quantized.save(&output, Precision::F32).with_context(|| output.display().to_string())?;
    eprint!("{}", describe(&quantization));
    for (reason, count) in skipped {
        eprintln!("skipped {count}: {reason}");
    }
    eprintln!("wrote {}", output.display());
    Ok(())
}

/// Runs the frames that are to be observed; returns those that could not be used, by reason.
fn observe(mut inputs: Inputs, mut perception: Perception, wanted: usize) -> BTreeMap<String, usize> {
    let every = (inputs.expected_frames() as usize / wanted.max(1)).max(1);
    let bar = ProgressBar::new(inputs.expected_frames().div_ceil(every as u64).min(wanted as u64));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} frames observed  {eta} left") {
        bar.set_style(style);
    }
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let (mut met, mut observed) = (0usize, 0);
    while observed < wanted {
        let Some(event) = inputs.next() else { break };
        match event {
            Event::Start { .. } => perception.reset(),
            Event::Motion(message) => perception.on_motion(&message),
            Event::Frame(frame) => {
                met += 1;
                let reason = match *frame {
                    Err(unusable) => unusable.reason,
                    // The last of each stretch: sweeps have gathered by then.
                    Ok(frame) if !met.is_multiple_of(every) => {
                        perception.pass_over(&frame);
                        continue;
                    }
                    Ok(frame) => match perception.on_cloud(&frame, &mut |_| {}) {
                        Err(error) => format!("{:#}", anyhow::Error::from(error)),
                        Ok(_) => {
                            observed += 1;
                            bar.inc(1);
                            continue;
                        }
                    },
                };
                *skipped.entry(reason).or_default() += 1;
            }
        }
    }
    bar.finish_and_clear();
    skipped
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

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
