//! `lidar_ptq ladder`: quantization methods compared on the same frames.

use crate::calibrate::bits;
use crate::interrupt::stop_flag;
use crate::options::{CloudArgs, refuse_to_replace, use_threads, write_file};
use crate::sim::Beams;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::dataset::{Dataset, FrameSelection};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::engine::Isa;
use lidar_ptq::eval::paired::Drawn;
use lidar_ptq::node::ladder::{Contender, DrawOptions, Ladder, LadderReport, ReportOptions, draw_frames};
use lidar_ptq::node::simulated::SimulatedDrives;
use lidar_ptq::node::{LabelledBags, LabelledDataset, LabelledEvent, TruthOptions, wanted_fields};
use lidar_ptq::quant::{CenterTask, Effort, Frames, METHODS, Method, Policy, Rounding, quantize};
use lidar_ptq::sim::SimConfig;
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Compare quantization methods: what each loses against the float model, and how sure that is.
///
/// Every method calibrates with the same frames, several times over with frames drawn anew, and all models then look at the same
/// other frames, each on the engine on which it would run. AP and NDS against ground truth come with the standard error of their
/// difference to the float model (paired bootstrap, over recordings if there are ten or more); agreement with the float model
/// needs no labels.
///
/// SOURCE is a bag, a folder of KITTI's or nuScenes' layout, or simulated drives: sim:A..B, of seeds A to B without B.
///
/// Examples:
///   lidar_ptq ladder model.safetensors --calibrate sim:1..40 --judge sim:900000..900025
///   lidar_ptq ladder model.safetensors --calibrate sim:1..40 --judge sim:900000..900025 --method max-min --method lidar-ptq \
///       --bits W8A8 --bits W4A8 --bits W4A4,last=W8A8 --json ladder.json
///   lidar_ptq ladder kitti.safetensors --calibrate kitti --calibrate-only train.txt --judge kitti --judge-only val.txt --class Car
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Float model, as `import` or `train` writes it.
    model: PathBuf,
    /// What to calibrate with.
    #[arg(long, value_name = "SOURCE")]
    calibrate: Source,
    /// What to judge with; no frame of it should be among the others.
    #[arg(long, value_name = "SOURCE")]
    judge: Source,
    /// Of a data set, only the frames or scenes that this text file names.
    #[arg(long, value_name = "FILE")]
    calibrate_only: Option<PathBuf>,
    /// The same for judging.
    #[arg(long, value_name = "FILE")]
    judge_only: Option<PathBuf>,
    /// A method, as of `calibrate`; may be repeated [default: all but those that learn by gradient descent, which take hours].
    #[arg(long, value_parser = METHODS.map(|m| m.name))]
    method: Vec<String>,
    /// Steps of gradient descent for each unit, frames of each, and cells of the windows that it sees, as of `calibrate`.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    #[arg(long, value_name = "CELLS")]
    window: Option<usize>,
    /// Bits to compare at: W8A8, or with exceptions W4A4,last=W8A8 as of `calibrate`. May be repeated.
    #[arg(long, default_values = ["W8A8"], value_name = "BITS[,LAYER=BITS...]")]
    bits: Vec<String>,
    /// A layer that stays float: a name, the beginning of names followed by `*`, `first` or `last`. May be repeated.
    #[arg(long, value_name = "LAYER")]
    float: Vec<String>,
    /// Frames of each calibration.
    #[arg(long, default_value_t = 256, value_name = "N")]
    frames: usize,
    /// Calibrations of each method, each with frames drawn anew.
    #[arg(long, default_value_t = 3, value_name = "N")]
    draws: usize,
    /// Judge by the average precision of this class alone.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Look at one frame in this many seconds; of a data set at every one.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    every: f64,
    /// Choices of frames from which the standard errors come.
    #[arg(long, default_value_t = 200, value_name = "N")]
    resamples: usize,
    /// Write all figures as one JSON object; `-` is the standard output, and the tables go to stderr.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of what is drawn at random.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Length of each simulated drive.
    #[arg(long, default_value_t = 10.0, help_heading = "Simulation")]
    seconds: f64,
    #[arg(long, value_enum, default_value_t = Beams::B32, help_heading = "Simulation")]
    beams: Beams,
    #[command(flatten)]
    clouds: CloudArgs,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Where frames come from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Simulated(Range<u64>),
    Path(PathBuf),
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("sim:") {
            Some(seeds) => Ok(Self::Simulated(crate::eval::seeds(seeds)?)),
            None => Ok(Self::Path(text.into())),
        }
    }
}

/// A source that was opened.
struct Recording {
    events: Box<dyn Iterator<Item = LabelledEvent>>,
    /// Frames that can be looked at.
    frames: usize,
    every_s: f64,
}

impl Args {
    fn open(&self, source: &Source, only: Option<&PathBuf>, config: &DetectorConfig) -> anyhow::Result<Recording> {
        let classes = config.classes();
        if only.is_some() && !matches!(source, Source::Path(path) if Dataset::is_at(path)) {
            bail!("--calibrate-only and --judge-only choose frames of a data set");
        }
        Ok(match source {
            Source::Simulated(seeds) => {
                let sim = SimConfig { seconds: self.seconds, lidar: self.beams.model(), ..SimConfig::default() };
                let a_drive = self.seconds / self.every.max(1.0 / sim.lidar.rate_hz());
                let frames = (seeds.end - seeds.start) as usize * a_drive as usize;
                Recording { events: Box::new(SimulatedDrives::new(seeds.clone(), sim, classes)), frames, every_s: self.every }
            }
            Source::Path(path) if Dataset::is_at(path) => {
                let dataset = Dataset::open(path, only.cloned().map(FrameSelection::File).as_ref())?;
                let frames = dataset.len();
                let events = LabelledDataset::new(dataset, config.points.sweeps.clone(), classes);
                Recording { events: Box::new(events), frames, every_s: 0.0 }
            }
            Source::Path(path) => {
                let truth = TruthOptions { fixed_frame: self.clouds.fixed_frame.clone(), classes, ..TruthOptions::default() };
                let options = self.clouds.options(&config.points.time);
                let bags = LabelledBags::open(std::slice::from_ref(path), wanted_fields(config), options, &truth, false)?;
                bags.remarks().iter().for_each(|remark| eprintln!("{remark}"));
                let frames = bags.inputs().expected_frames() as usize;
                Recording { events: Box::new(bags), frames, every_s: self.every }
            }
        })
    }

    fn policy(&self, spec: &str) -> anyhow::Result<Policy> {
        let mut policy = Policy { float: self.float.clone(), ..Policy::default() };
        for part in spec.split(',') {
            match bits(part).map_err(|e| anyhow::anyhow!("--bits {spec}: {e}"))? {
                (Some(layer), bits) => policy.exceptions.push((layer, bits)),
                (None, bits) => policy.bits = bits,
            }
        }
        Ok(policy)
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    use_threads(args.threads)?;
    let isa = Isa::choose()?;
    args.json.iter().try_for_each(|output| refuse_to_replace(output, std::iter::once(&args.model)))?;
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    if model.quantization().is_some() {
        bail!("{}: is quantized already; give the float model that it was made from", args.model.display());
    }
    if args.draws == 0 || args.frames == 0 || args.every.is_nan() || args.every < 0.0 {
        bail!("--draws and --frames must be at least 1, --every not below 0");
    }
    if let (Source::Simulated(a), Source::Simulated(b)) = (&args.calibrate, &args.judge)
        && a.start.max(b.start) < a.end.min(b.end)
    {
        bail!("--calibrate and --judge share drives, so that models would be judged on what they were made with");
    }
    let mut config = model.config().clone();
    args.clouds.change(&mut config)?;
    config.validate().context("these options do not fit the model")?;
    let class = args.class.as_ref().map(|name| {
        let classes = config.classes();
        let found = classes.iter().position(|c| c.eq_ignore_ascii_case(name));
        found.with_context(|| format!("--class {name}: the model's classes are {}", classes.join(", ")))
    });
    let class = class.transpose()?;
    let policies = args.bits.iter().map(|spec| args.policy(spec)).collect::<Result<Vec<_>, _>>()?;
    policies.iter().try_for_each(|policy| policy.check(model.graph()))?;
    let is_wanted = |method: &Method| {
        let is_named = args.method.iter().any(|name| name == method.name);
        is_named || args.method.is_empty() && !matches!(method.rounding, Rounding::Learnt(_))
    };
    let methods: Vec<Method> = METHODS.into_iter().filter(is_wanted).collect();

    let stop = stop_flag()?;
    let interrupted = || stop.load(Ordering::SeqCst);
    let draws = calibration_frames(args, &model, &config, &stop)?;
    let mut contenders = Vec::new();
    let bar = ProgressBar::new((policies.len() * methods.len() * draws.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} quantized  {msg}  {eta} left")?);
    let mut layers = Vec::new();
    for (spec, policy) in args.bits.iter().zip(&policies) {
        for (index, method) in methods.iter().enumerate() {
            for (draw, frames) in draws.iter().enumerate() {
                bar.set_message(format!("{spec} {}", method.name));
                let task = CenterTask::new(model.config());
                let effort = Effort {
                    seed: args.seed.wrapping_add(draw as u64),
                    iterations: args.steps,
                    batch: args.batch,
                    window: args.window,
                    ..Effort::default()
                };
                let quantized = quantize(frames, method, policy, (&task, effort), Vec::new(), &mut |_, _, _| !interrupted())?;
                if (index, draw) == (0, 0) {
                    let scheme = &quantized.quantization.scheme;
                    let float = scheme.float.keys().cloned().collect::<Vec<_>>().join(", ");
                    layers.push(format!("{spec}: {} layers in integers; in float: {float}", scheme.weights.len()));
                }
                let quantized_model = model.quantize(quantized.quantization, quantized.params)?;
                let contender = Contender::new((spec, method.name, draw), &quantized_model, isa).map_err(anyhow::Error::from_boxed)?;
                contenders.push(contender);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    drop(draws);

    let recording = args.open(&args.judge, args.judge_only.as_ref(), &config)?;
    let mut ladder = Ladder::new(&model, config, args.clouds.motion(), recording.every_s, contenders)?;
    let bar = ProgressBar::new(recording.frames as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} frames judged  {eta} left")?);
    for event in recording.events.take_while(|_| !interrupted()) {
        ladder.on_event(event)?;
        bar.set_position(ladder.frames() as u64);
    }
    bar.finish_and_clear();
    let outcome = ladder.finish()?;
    outcome.summary.remarks().for_each(|remark| eprintln!("{remark}"));
    if outcome.float.frames().is_empty() {
        bail!("no frame was judged: none was usable and at least {} s into its recording", args.every);
    }
    if interrupted() {
        eprintln!("interrupted; these are the figures until then");
    }
    let report = LadderReport::new(&outcome, &ReportOptions { class, resamples: args.resamples, seed: args.seed });
    put_out(args, &report, &layers)?;
    eprintln!("{:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

fn calibration_frames(args: &Args, model: &Model, config: &DetectorConfig, stop: &AtomicBool) -> anyhow::Result<Vec<Frames>> {
    let recording = args.open(&args.calibrate, args.calibrate_only.as_ref(), config)?;
    // All frames of a bag come into question: how many lie in so many seconds, nobody knows beforehand.
    let is_bag = matches!(&args.calibrate, Source::Path(path) if !Dataset::is_at(path));
    let every_s = if is_bag { 0.0 } else { recording.every_s };
    if recording.frames < args.frames {
        eprintln!("only {} frames to calibrate with, not {}: every draw has the same", recording.frames, args.frames);
    }
    let options = DrawOptions { draws: args.draws, frames: args.frames, among: recording.frames, every_s, seed: args.seed };
    let bar = ProgressBar::new(recording.frames as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} frames to calibrate with  {eta} left")?);
    let mut on_frame = |frames: usize| {
        bar.set_position(frames as u64);
        !stop.load(Ordering::SeqCst)
    };
    let draws = draw_frames(model, config.clone(), args.clouds.motion(), recording.events, options, &mut on_frame)?;
    bar.finish_and_clear();
    if stop.load(Ordering::SeqCst) {
        bail!("interrupted; nothing was compared");
    }
    Ok(draws)
}

fn put_out(args: &Args, report: &LadderReport, layers: &[String]) -> anyhow::Result<()> {
    let errors = match report.drawn {
        Drawn::Recordings(n) => format!("{n} recordings, {} frames; standard errors from drawing recordings", report.frames),
        Drawn::Frames(n) => format!("{n} frames; standard errors from drawing frames"),
    };
    let [overall, by_range] = report.tables();
    let text = format!(
        "{}\n{errors} {} times\n\n{overall}\nAP and NDS in points of a hundred; draws ±: standard deviation over {} calibrations of {} frames; boxes >.3: the\n\
         model's for each of the float model's; heat dB: heat maps' signal to noise where the float score is above 0.1\n\n{by_range}\n",
        layers.join("\n"),
        args.resamples,
        args.draws,
        args.frames,
    );
    let Some(path) = &args.json else { return crate::print(&text) };
    let mut all = report.json();
    all["settings"] = json!({
        "command": std::env::args().collect::<Vec<_>>(),
        "frames": args.frames,
        "draws": args.draws,
        "resamples": args.resamples,
        "layers": layers,
        "program": concat!("lidar_ptq ", env!("CARGO_PKG_VERSION")),
    });
    let json = serde_json::to_string_pretty(&all)? + "\n";
    if path == Path::new("-") {
        crate::say(&text);
        return crate::print(&json);
    }
    crate::print(&text)?;
    write_file(path, &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_drives_or_paths() {
        assert_eq!("sim:3..9".parse(), Ok(Source::Simulated(3..9)));
        assert_eq!("drive.mcap".parse(), Ok(Source::Path("drive.mcap".into())));
        assert!("sim:9..3".parse::<Source>().is_err());
    }
}
