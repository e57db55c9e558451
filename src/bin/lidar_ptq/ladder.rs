//! `lidar_ptq ladder`: quantization methods compared on the same frames.

use crate::deadline::Deadline;
use crate::interrupt::stop_flag;
use crate::options::{PROGRAM, command_line};
use crate::quantize_args::{QuantizeArgs, bits};
use crate::sim::Beams;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::dataset::{Dataset, FrameSelection};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::Processor;
use lidar_ptq::eval::paired::Drawn;
use lidar_ptq::node::ladder::{Contender, Ladder, LadderReport, ReportOptions};
use lidar_ptq::node::simulated::SimulatedDrives;
use lidar_ptq::node::{LabelledBags, LabelledDataset, LabelledEvent, Survey, TruthOptions, Wanted, gather, wanted_fields};
use lidar_ptq::quant::{CalibrationError, CenterTask, Frames, METHODS, Method, Policy, Rounding, quantize};
use lidar_ptq::sim::SimConfig;
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Compare quantization methods: what each loses against the float model, and how sure that is.
///
/// Every method calibrates with the same frames, several times over with frames chosen anew, and all models then look at the same
/// other frames, each on the engine on which it would run. AP and NDS against ground truth come with the standard error of their
/// difference to the float model (paired bootstrap, over recordings if there are ten or more); agreement with the float model
/// needs no labels.
///
/// SOURCE is a bag, a folder of KITTI's or nuScenes' layout, or simulated drives: sim:A..B, of seeds A to B without B.
///
/// Examples:
///   lidar_ptq ladder model.safetensors --calibrate sim:1..40 --judge sim:900000..900025
///   lidar_ptq ladder model.safetensors --calibrate sim:1..40 --judge sim:900000..900025 --method max-min --method lidar-ptq \
///       --bits W8A8 --bits W4A8 --bits W4A4,last=W8A8 --report ladder.html
///   lidar_ptq ladder kitti.safetensors --calibrate kitti --calibrate-only train.txt --judge kitti --judge-only val.txt --class Car
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
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
    /// Bits to compare at: W8A8, or with exceptions W4A4,last=W8A8 as of `calibrate`. May be repeated.
    #[arg(long, default_values = ["W8A8"], value_name = "BITS[,LAYER=BITS...]")]
    bits: Vec<String>,
    /// Frames of each calibration.
    #[arg(long, default_value_t = 256, value_name = "N")]
    frames: usize,
    /// Calibrations of each method, each with frames chosen anew as `calibrate` chooses them with the next seed.
    #[arg(long, default_value_t = 3, value_name = "N")]
    draws: usize,
    /// Judge by the average precision of this class alone.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Judge one frame in this many seconds; of a data set every one.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    every: f64,
    /// Choices of frames from which the standard errors come.
    #[arg(long, default_value_t = 200, value_name = "N")]
    resamples: usize,
    /// Length of each simulated drive.
    #[arg(long, default_value_t = 10.0, help_heading = "Simulation")]
    seconds: f64,
    #[arg(long, value_enum, default_value_t = Beams::B32, help_heading = "Simulation")]
    beams: Beams,
    #[command(flatten)]
    common: QuantizeArgs,
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
    /// About how many frames it has, and how many of them will be judged.
    clouds: usize,
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
                let drives = SimulatedDrives::new(seeds.clone(), sim, classes);
                Recording { clouds: drives.expected_clouds() as usize, events: Box::new(drives), frames, every_s: self.every }
            }
            Source::Path(path) if Dataset::is_at(path) => {
                let dataset = Dataset::open(path, only.cloned().map(FrameSelection::File).as_ref())?;
                let frames = dataset.len();
                let events = LabelledDataset::new(dataset, config.points.sweeps.clone(), classes);
                Recording { events: Box::new(events), clouds: frames, frames, every_s: 0.0 }
            }
            Source::Path(path) => {
                let truth = TruthOptions { fixed_frame: self.common.clouds.fixed_frame.clone(), classes, ..TruthOptions::default() };
                let options = self.common.clouds.options(&config.points.time);
                let bags = LabelledBags::open(std::slice::from_ref(path), wanted_fields(config), options, &truth, false)?;
                bags.remarks().iter().for_each(|remark| eprintln!("{remark}"));
                let frames = bags.inputs().expected_frames() as usize;
                Recording { events: Box::new(bags), clouds: frames, frames, every_s: self.every }
            }
        })
    }

    fn policy(&self, spec: &str) -> anyhow::Result<Policy> {
        let parts = spec.split(',').map(|part| bits(part).map_err(|e| anyhow::anyhow!("--bits {spec}: {e}")));
        Ok(self.common.policy(parts.collect::<Result<Vec<_>, _>>()?))
    }
}

/// How long a step of a calibration may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(2);
const INTERRUPTED: &str = "interrupted; nothing was compared";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let isa = Isa::choose()?;
    let (model, config) = args.common.open()?;
    if args.draws == 0 || args.frames == 0 || args.every.is_nan() || args.every < 0.0 {
        bail!("--draws and --frames must be at least 1, --every not below 0");
    }
    if let (Source::Simulated(a), Source::Simulated(b)) = (&args.calibrate, &args.judge)
        && a.start.max(b.start) < a.end.min(b.end)
    {
        bail!("--calibrate and --judge share drives, so that models would be judged on what they were made with");
    }
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
    let deadline = Deadline::watch(&stop, GRACE, INTERRUPTED)?;
    let (draws, mut remarks) = calibration_frames(args, &model, &config, &stop)?;
    let mut contenders = Vec::new();
    let bar = ProgressBar::new((policies.len() * methods.len() * draws.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} quantized  {msg}  {eta} left")?);
    let mut layers = Vec::new();
    for (spec, policy) in args.bits.iter().zip(&policies) {
        for (index, method) in methods.iter().enumerate() {
            for (draw, frames) in draws.iter().enumerate() {
                bar.set_message(format!("{spec} {}", method.name));
                let task = CenterTask::new(model.config());
                let effort = args.common.effort(draw as u64);
                let quantized = quantize(frames, method, policy, (&task, effort), Vec::new(), &mut |_, _, _| !interrupted());
                let quantized = match quantized {
                    Err(CalibrationError::Stopped) => bail!(INTERRUPTED),
                    quantized => quantized?,
                };
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
    // From here on a signal ends the judging, and what was judged until then is told.
    drop(deadline);

    let recording = args.open(&args.judge, args.judge_only.as_ref(), &config)?;
    let mut ladder = Ladder::new(&model, config, args.common.clouds.motion(), recording.every_s, contenders)?;
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
    remarks.extend(outcome.summary.remarks());
    let report = LadderReport::new(&outcome, &ReportOptions { class, resamples: args.resamples, seed: args.common.seed });
    args.put_out(&report, &layers, remarks)?;
    eprintln!("{:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// The frames of each calibration; and which could not be used.
fn calibration_frames(
    args: &Args,
    model: &Model,
    config: &DetectorConfig,
    stop: &AtomicBool,
) -> anyhow::Result<(Vec<Frames>, Vec<String>)> {
    let open = || args.open(&args.calibrate, args.calibrate_only.as_ref(), config);
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}  {eta} left")?);
    let counting = |what: &'static str, of: usize| {
        bar.reset();
        bar.set_length(of as u64);
        bar.set_message(what);
        || {
            bar.inc(1);
            !stop.load(Ordering::SeqCst)
        }
    };
    let recording = open()?;
    let total = (args.frames, config.points.sweeps.count);
    let motion = || args.common.clouds.motion();
    let survey = Survey::new(recording.events, recording.clouds, motion(), total, &mut counting("frames looked at", recording.clouds));
    if survey.len() < args.frames {
        eprintln!("only {} frames to calibrate with, not {}: every draw has the same", survey.len(), args.frames);
    }
    let wanted = Wanted { frames: args.frames, held_out: 0 };
    let choices: Vec<_> = (0..args.draws).map(|draw| survey.choose(wanted, args.common.seed.wrapping_add(draw as u64))).collect();
    let union = choices.iter().flat_map(|choice| &choice.calibrate).collect::<BTreeSet<_>>().len();
    let mut on_frame = counting("frames observed", union);
    let place = (&Processor::of(args.common.device.device), &*std::env::temp_dir());
    let (gathered, unusable) = gather((model, config.clone()), motion(), open()?.events, &choices, place, &mut on_frame)?;
    bar.finish_and_clear();
    if stop.load(Ordering::SeqCst) {
        bail!(INTERRUPTED);
    }
    if gathered.iter().any(|gathered| gathered.frames.is_empty()) {
        let reasons: String = unusable.keys().map(|reason| format!("\n  {reason}")).collect();
        bail!("a calibration got no frame{reasons}");
    }
    let remarks: Vec<String> = unusable.iter().map(|(reason, count)| format!("to calibrate with, skipped {count}: {reason}")).collect();
    remarks.iter().for_each(|remark| eprintln!("{remark}"));
    Ok((gathered.into_iter().map(|gathered| gathered.frames).collect(), remarks))
}

impl Args {
    fn put_out(&self, report: &LadderReport, layers: &[String], remarks: Vec<String>) -> anyhow::Result<()> {
        let errors = match report.drawn {
            Drawn::Recordings(n) => format!("{n} recordings, {} frames; standard errors from drawing recordings", report.frames),
            Drawn::Frames(n) => format!("{n} frames; standard errors from drawing frames"),
        };
        let errors = format!("{errors} {} times", self.resamples);
        let [overall, by_range] = report.tables();
        let text = format!(
            "{}\n{errors}\n\n{overall}\nAP and NDS in points of a hundred; draws ±: standard deviation over {} calibrations of {} frames; boxes >.3: the\n\
             model's for each of the float model's; heat dB: heat maps' signal to noise where the float score is above 0.1\n\n{by_range}\n",
            layers.join("\n"),
            self.draws,
            self.frames,
        );
        if self.common.json_to_stdout() {
            crate::say(&text);
        } else {
            crate::print(&text)?;
        }
        let json = || {
            let mut all = report.json();
            all["settings"] = json!({
                "command": std::env::args().collect::<Vec<_>>(),
                "frames": self.frames,
                "draws": self.draws,
                "resamples": self.resamples,
                "layers": layers,
                "program": PROGRAM,
            });
            all
        };
        let model = self.common.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let facts = [
            ("Judged", errors.clone()),
            ("Calibrated", format!("{} times with {} frames, seeds from {}", self.draws, self.frames, self.common.seed)),
            ("Layers", layers.join("; ")),
            ("Command", command_line()),
            ("Program", PROGRAM.to_owned()),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        self.common.put_out(json, || report.html(&format!("Quantizing {model}"), &facts, remarks))
    }
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
