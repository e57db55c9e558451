//! `lidar_ptq detect`: boxes from bags and files.

use crate::interrupt::stop_flag;
use crate::options::{CloudArgs, DeviceArgs, refuse_to_replace, use_threads};
use crate::say;
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::detect::{Detector, DetectorConfig, Model, isa_in_use, network_on};
use lidar_ptq::engine::Isa;
use lidar_ptq::eval::table::Table;
use lidar_ptq::node::sinks::{BagSink, DumpSink, JsonSink, PendingFile, PictureSink};
use lidar_ptq::node::{FrameSink, Inputs, JudgeSink, LabelledBags, Perception, Stage, Summary, TruthOptions, replay, wanted_fields};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Find objects in recorded point clouds.
///
/// INPUT is a rosbag2 folder, an .mcap or .db3 file, a cloud (.bin, .pcd, .npy), or a folder of clouds; several run one after
/// the other. Boxes go to an MCAP (-o) for rviz and Foxglove, to JSON lines (--json) and to pictures (--png, --sheet).
/// Where a bag has ground truth (Detection3DArray on /ground_truth), the boxes are judged by it and the pictures show it.
///
/// Examples:
///   lidar_ptq detect model.safetensors drive.mcap -o boxes.mcap
///   lidar_ptq detect model.safetensors sweep.bin --fields x,y,z,intensity,time --json -
///   lidar_ptq detect model.safetensors velodyne/ --png pictures/ --score-threshold 0.3
#[derive(ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Model file, as `lidar_ptq import` writes it.
    model: PathBuf,
    /// Bags, clouds, folders.
    #[arg(required = true)]
    input: Vec<PathBuf>,

    /// Write an MCAP with the clouds, their boxes (Detection3DArray) and markers.
    #[arg(short, long, value_name = "FILE.mcap", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Write one JSON object a frame; `-` is the standard output.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Draw a bird's-eye picture of each frame into this folder.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    png: Option<PathBuf>,
    /// Draw the first frames side by side.
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    sheet: Option<PathBuf>,
    /// Half the width of pictures, metres.
    #[arg(long, default_value_t = 50.0, value_name = "METRES", help_heading = "Output")]
    picture_range: f32,
    /// Write the network's raw outputs under their node names.
    #[arg(long, value_name = "FILE.npz", help_heading = "Output")]
    dump: Option<PathBuf>,

    #[command(flatten)]
    clouds: CloudArgs,
    /// Topic of the ground truth (Detection3DArray), where it is not /ground_truth.
    #[arg(long, value_name = "TOPIC", help_heading = "Input")]
    truth_topic: Option<String>,
    /// Stop after this many frames.
    #[arg(long, value_name = "N", help_heading = "Input")]
    max_frames: Option<usize>,

    /// Report boxes above this score only. Lower than the model's own threshold is possible.
    #[arg(long, value_name = "SCORE", help_heading = "Boxes")]
    score_threshold: Option<f32>,
    /// Threshold of one class, e.g. pedestrian=0.25. May be repeated.
    #[arg(long, value_name = "CLASS=SCORE", value_parser = class_threshold, help_heading = "Boxes")]
    class_threshold: Vec<(String, f32)>,

    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

fn class_threshold(text: &str) -> Result<(String, f32), String> {
    let (class, score) = text.split_once('=').ok_or("expected CLASS=SCORE, for example car=0.4")?;
    let score: f32 = score.parse().map_err(|_| format!("`{score}` is no number"))?;
    Ok((class.to_owned(), score))
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    crate::memory::keep();
    let started = Instant::now();
    let isa = Isa::choose()?;
    use_threads(args.threads)?;
    let model = Model::load(&args.model).with_context(|| args.model.display().to_string())?;
    let mut config = model.config().clone();
    args.change(&mut config)?;
    let classes = config.classes();
    let wanted = wanted_fields(&config);
    args.check_outputs()?;
    let options = args.clouds.options(&config.points.time);
    let truth = TruthOptions { topic: args.truth_topic.clone(), fixed_frame: args.clouds.fixed_frame.clone(), classes: classes.clone() };
    let mut inputs = LabelledBags::open_with_labels_if_any(&args.input, wanted, options, &truth)?;
    let label_remarks = inputs.remarks();
    let overlaps = args.out.as_ref().map_or_else(Vec::new, |out| overlap_notes(inputs.inputs(), out));
    let expected = inputs.inputs().expected_frames();
    let expected = args.max_frames.map_or(expected, |n| expected.min(n as u64));

    let used = isa_in_use(&model, isa);
    let (network, device) =
        network_on(&model, isa, args.device.device).map_err(anyhow::Error::from_boxed).with_context(|| args.model.display().to_string())?;
    let detector = Detector::new(config, network)?;
    let mut perception = Perception::new(detector, args.clouds.motion());
    let interrupted = stop_flag()?;
    let mut outputs = args.outputs(&model, &classes, expected, &interrupted)?;
    tracing::info!(model = %args.model.display(), %device, isa = %used, load_s = started.elapsed().as_secs_f64(), "ready");

    let bar = progress_bar(expected);
    let mut first_box = None;
    let mut judge = JudgeSink::new(&classes);
    let summary = {
        let mut sinks = outputs.sinks();
        sinks.push(&mut judge);
        let mut go_on = |summary: &Summary| {
            if first_box.is_none() && summary.boxes() > 0 {
                first_box = Some(started.elapsed());
            }
            bar.set_position((summary.frames + summary.frames_skipped()) as u64);
            bar.set_message(format!("{} boxes", summary.boxes()));
            !interrupted.load(Ordering::SeqCst)
        };
        replay(&mut inputs, &mut perception, &mut sinks, args.max_frames.unwrap_or(usize::MAX), &mut go_on)?
    };
    bar.finish_and_clear();
    let written = outputs.finish()?;

    say(&report(&summary, inputs.inputs(), first_box, started.elapsed(), used, &device));
    label_remarks.iter().for_each(|remark| say(&format!("{remark}\n")));
    if let Some(judged) = judge.report(&perception.detector().config().decode) {
        say(&format!("\n{judged}"));
    }
    overlaps.iter().for_each(|note| say(note));
    for path in written {
        say(&format!("wrote {}\n", path.display()));
    }
    if interrupted.load(Ordering::SeqCst) {
        say("interrupted; what was done until then is complete\n");
    }
    if summary.frames == 0 {
        let reasons = summary.skipped_lines().chain(inputs.inputs().problems().iter().cloned()).collect::<Vec<_>>().join("\n  ");
        bail!("no frame could be used{}{reasons}", if reasons.is_empty() { "" } else { ":\n  " });
    }
    Ok(())
}

impl Args {
    fn change(&self, config: &mut DetectorConfig) -> anyhow::Result<()> {
        self.clouds.change(config)?;
        if let Some(threshold) = self.score_threshold {
            config.decode.score_threshold = threshold;
        }
        config.decode.class_thresholds.extend(self.class_threshold.iter().cloned());
        config.validate().context("these options do not fit the model")?;
        Ok(())
    }

    /// Results must not take the place of what they are made from.
    fn check_outputs(&self) -> anyhow::Result<()> {
        let sources = || std::iter::once(&self.model).chain(&self.input);
        [&self.out, &self.json, &self.sheet, &self.dump].into_iter().flatten().try_for_each(|output| refuse_to_replace(output, sources()))
    }

    fn outputs(&self, model: &Model, classes: &[String], expected: u64, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Outputs> {
        let json = self.json.as_ref().map(|path| JsonTarget::open(path, interrupted)).transpose()?;
        let pictures = self.png.is_some() || self.sheet.is_some();
        Ok(Outputs {
            bag: self.out.as_ref().map(|p| BagSink::create(p, classes.to_vec()).map(|s| (p.clone(), s))).transpose()?,
            json: json.map(|target| JsonSink::new(target, classes.to_vec())),
            pictures: pictures
                .then(|| PictureSink::new(self.png.clone(), self.sheet.clone(), classes.to_vec(), self.picture_range, 0.0))
                .transpose()?,
            dump: self.dump.as_ref().map(|p| DumpSink::create(p, model.graph(), expected != 1).map(|s| (p.clone(), s))).transpose()?,
            json_path: self.json.clone().filter(|p| p.as_os_str() != "-"),
            picture_paths: self.png.iter().chain(&self.sheet).cloned().collect(),
        })
    }
}

enum JsonTarget {
    File(PendingFile),
    /// The standard output, a pipe or a device.
    Stream {
        name: String,
        out: Box<dyn Write>,
        /// Set when the reader has gone (`| head`), which is a wish to stop, not a failure.
        interrupted: Arc<AtomicBool>,
    },
}

impl JsonTarget {
    fn open(path: &Path, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        let stream = |name: String, out| JsonTarget::Stream { name, out, interrupted: interrupted.clone() };
        if path.as_os_str() == "-" {
            return Ok(stream("standard output".into(), Box::new(io::stdout())));
        }
        let name = path.display().to_string();
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(path).with_context(|| name.clone())?;
                Ok(stream(name, Box::new(file)))
            }
            _ => Ok(JsonTarget::File(PendingFile::create(path)?)),
        }
    }

    /// Runs `f`; names the stream in its error, and gives `done` if the stream's reader has gone.
    fn guarded<T>(&mut self, done: T, f: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        let (name, out, interrupted) = match self {
            JsonTarget::File(file) => return f(file),
            JsonTarget::Stream { name, out, interrupted } => (name, out, interrupted),
        };
        match f(out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                interrupted.store(true, Ordering::SeqCst);
                Ok(done)
            }
            result => result.map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}"))),
        }
    }
}

impl Write for JsonTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.guarded(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guarded((), |out| out.flush())
    }
}

struct Outputs {
    bag: Option<(PathBuf, BagSink)>,
    json: Option<JsonSink<JsonTarget>>,
    pictures: Option<PictureSink>,
    dump: Option<(PathBuf, DumpSink)>,
    json_path: Option<PathBuf>,
    picture_paths: Vec<PathBuf>,
}

impl Outputs {
    fn sinks(&mut self) -> Vec<&mut dyn FrameSink> {
        let bag = self.bag.as_mut().map(|(_, s)| s as &mut dyn FrameSink);
        let json = self.json.as_mut().map(|s| s as &mut dyn FrameSink);
        let pictures = self.pictures.as_mut().map(|s| s as &mut dyn FrameSink);
        let dump = self.dump.as_mut().map(|(_, s)| s as &mut dyn FrameSink);
        [bag, json, pictures, dump].into_iter().flatten().collect()
    }

    /// Completes every file; returns those that a person will look for.
    fn finish(self) -> anyhow::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        if let Some((path, bag)) = self.bag {
            bag.finish()?;
            written.push(path);
        }
        if let Some(json) = self.json
            && let JsonTarget::File(file) = json.finish()?
        {
            file.finish()?;
            written.extend(self.json_path);
        }
        if let Some(pictures) = self.pictures {
            pictures.finish()?;
            written.extend(self.picture_paths);
        }
        if let Some((path, dump)) = self.dump {
            dump.finish()?;
            written.push(path);
        }
        Ok(written)
    }
}

fn progress_bar(expected: u64) -> ProgressBar {
    let bar = if expected > 0 { ProgressBar::new(expected) } else { ProgressBar::new_spinner() };
    let template = "{bar:30} {pos}/{len} frames  {per_sec}  {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The closing tables.
fn report(summary: &Summary, inputs: &Inputs, first_box: Option<Duration>, total: Duration, isa: Isa, device: &str) -> String {
    let mut text = String::new();
    let mut line = |s: String| {
        text.push_str(&s);
        text.push('\n');
    };
    let mut stages = Table::new(["stage", "p50 ms", "p99 ms", "total s"]);
    for stage in Stage::ALL {
        let s = summary.statistics(stage);
        stages.row([stage.name().to_owned(), format!("{:.2}", s.p50_ms), format!("{:.2}", s.p99_ms), format!("{:.2}", s.total_ms / 1e3)]);
    }
    line(stages.to_string());
    if !summary.boxes_by_class.is_empty() {
        let mut boxes = Table::new(["class", "boxes"]);
        for (class, count) in &summary.boxes_by_class {
            boxes.row([class.clone(), count.to_string()]);
        }
        line(boxes.to_string());
    }
    let dropped = if summary.points_dropped > 0 { format!(" ({} not finite, dropped)", summary.points_dropped) } else { String::new() };
    line(format!("{} frames, {} points{dropped}, {} boxes", summary.frames, summary.points, summary.boxes()));
    let first = first_box.map_or_else(String::new, |t| format!(", first box after {:.2} s", t.as_secs_f64()));
    let memory = peak_memory_mb().map_or_else(String::new, |mb| format!(", peak memory {mb} MB"));
    let gpu = if device == "cpu" { String::new() } else { format!(", {device}") };
    line(format!("{:.2} s in all{first}{memory}, {} threads, {isa}{gpu}", total.as_secs_f64(), rayon::current_num_threads()));
    summary.remarks().for_each(&mut line);
    for problem in inputs.problems() {
        line(format!("bag: {problem}"));
    }
    text
}

/// Inputs whose times overlap come one after the other here, and mixed to whoever reads the output in its order of time.
fn overlap_notes(inputs: &Inputs, out: &Path) -> Vec<String> {
    let note = |(a, b): (&Path, &Path)| {
        format!(
            "note: {} and {} were recorded at the same time; readers of {} see their messages mixed. Run each with its own -o to tell them apart\n",
            a.display(),
            b.display(),
            out.display()
        )
    };
    inputs.overlaps().into_iter().map(note).collect()
}

/// Highest resident memory so far, where the system tells (Linux).
pub fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
