//! `lidar_ptq eval`: how good a model's boxes are.

use crate::interrupt::stop_flag;
use crate::options::{CloudArgs, DeviceArgs, PROGRAM, command_line, refuse_to_replace, use_threads, write_file};
use crate::sim::Beams;
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::dataset::{Dataset, FrameSelection, KittiFolder};
use lidar_ptq::detect::{Detector, DetectorConfig, Model, network_on};
use lidar_ptq::engine::Isa;
use lidar_ptq::eval::kitti::KittiEvaluation;
use lidar_ptq::eval::report::{PAGE, Report, ReportFile, WorstRules};
use lidar_ptq::node::simulated::SimulatedDrives;
use lidar_ptq::node::{EvalOutcome, Evaluator, LabelledBags, LabelledDataset, LabelledEvent, Perception, TruthOptions, wanted_fields};
use lidar_ptq::sim::SimConfig;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Judge a model with the nuScenes or KITTI detection metric, and compare it with another.
///
/// INPUT is a bag with clouds and ground truth (Detection3DArray, such as `lidar_ptq sim` writes; `id` is the object's
/// track, from which its velocity comes). Objects without a point in the newest sweep do not count. With --sim drives are
/// simulated on the way, and no bag is needed. With --against, bags without ground truth will do too.
///
/// INPUT can also be one folder of nuScenes (`v1.0-*`, judged at every sample) or of KITTI's object benchmark (`label_2`, `calib`,
/// `velodyne` or `velodyne_reduced`), which is judged by KITTI's metric and by distance of centres.
///
/// Examples:
///   lidar_ptq eval model.safetensors drive.mcap
///   lidar_ptq eval model.safetensors --sim 900000..900025 --seconds 10 --json metrics.json
///   lidar_ptq eval model.safetensors drive.mcap --report report
///   lidar_ptq eval model.int8.safetensors drive.mcap --against model.safetensors
///   lidar_ptq eval model.safetensors kitti/training --only val.txt
#[derive(ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Model file, as `lidar_ptq import` writes it.
    model: PathBuf,
    /// Bags, and folders of them; or the folder of one data set.
    #[arg(required_unless_present = "sim")]
    input: Vec<PathBuf>,

    /// Of a data set, only the frames (KITTI) or scenes and samples (nuScenes) that this text file names, one a line.
    #[arg(long, value_name = "FILE", conflicts_with = "sim", help_heading = "Input")]
    only: Option<PathBuf>,

    /// Write all figures as one JSON object; `-` is the standard output, and the tables go to stderr.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write report.html into this folder, one page with tables, precision-recall plots and pictures of the worst frames, and the
    /// plots beside it as SVG.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Frames of which the report shows pictures.
    #[arg(long, default_value_t = WorstRules::default().keep, value_name = "N", requires = "report", help_heading = "Output")]
    worst: usize,
    /// Boxes above this score count as found or as false alarms in these pictures.
    #[arg(long, default_value_t = WorstRules::default().score, value_name = "SCORE", requires = "report", help_heading = "Output")]
    worst_score: f32,

    /// Compare with this model, the teacher: which of its boxes are found, and how far off.
    #[arg(long, value_name = "MODEL", help_heading = "What is judged")]
    against: Option<PathBuf>,
    /// Boxes above this score count, whatever thresholds the model has: precision over recall needs the unsure ones.
    #[arg(long, default_value_t = 0.05, value_name = "SCORE", help_heading = "What is judged")]
    score_threshold: f32,
    /// Judge one frame in this many seconds; nuScenes labels two a second. 0 judges every frame.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS", help_heading = "What is judged")]
    every: f64,

    /// Simulate drives of these seeds, A or A..B without B. Those from 900000 up are never trained on.
    #[arg(long, value_name = "SEEDS", value_parser = seeds, conflicts_with = "input", help_heading = "Simulation")]
    sim: Option<Range<u64>>,
    /// Length of each simulated drive.
    #[arg(long, default_value_t = 10.0, requires = "sim", help_heading = "Simulation")]
    seconds: f64,
    #[arg(long, value_enum, default_value_t = Beams::B32, requires = "sim", help_heading = "Simulation")]
    beams: Beams,

    /// Topic of the ground truth, where a bag has several Detection3DArray topics and none is /ground_truth.
    #[arg(long, value_name = "TOPIC", help_heading = "Input")]
    truth_topic: Option<String>,
    #[command(flatten)]
    clouds: CloudArgs,

    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no seed"));
    let range = match text.split_once("..") {
        Some((first, end)) => number(first)?..number(end)?,
        None => number(text)?..number(text)?.saturating_add(1),
    };
    if range.is_empty() { Err(format!("no seed lies in {text}")) } else { Ok(range) }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    use_threads(args.threads)?;
    if !(args.every >= 0.0 && args.score_threshold >= 0.0) {
        bail!("--every and --score-threshold must not be below 0");
    }
    let sources = || std::iter::once(&args.model).chain(&args.against).chain(&args.input);
    args.json.iter().try_for_each(|output| refuse_to_replace(output, sources()))?;
    let (perception, mut wanted) = args.perception(&args.model)?;
    let config = perception.detector().config().clone();
    let classes = config.classes();
    let time = config.points.time.clone();
    let dataset = args.dataset()?;
    // People chose the frames that they labelled.
    let mut evaluator = Evaluator::new(perception, if dataset.is_some() { 0.0 } else { args.every });
    if let Some(path) = &args.against {
        let (teacher, teacher_wants) = args.perception(path)?;
        let (own, other) = (&config.points.sweeps, &teacher.detector().config().points.sweeps);
        if dataset.is_some() && own != other {
            bail!("{}: a data set's sweeps are merged once for both models, which want {own:?} and {other:?}", path.display());
        }
        wanted.extend(teacher_wants.into_iter().filter(|f| !wanted.contains(f)).collect::<Vec<_>>());
        evaluator = evaluator.against(teacher);
    }
    if let Some(folder) = &args.report {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot make this folder", folder.display()))?;
        evaluator = evaluator.keep_worst(WorstRules { keep: args.worst, score: args.worst_score, ..WorstRules::default() });
    }
    let interrupted = stop_flag()?;
    let go_on = || !interrupted.load(Ordering::SeqCst);

    let mut remarks = Vec::new();
    let mut kitti = None;
    match (&args.sim, dataset) {
        (_, Some(dataset)) => {
            let mut frames = LabelledDataset::new(dataset, config.points.sweeps.clone(), classes.clone());
            let expected = frames.dataset().len() as u64;
            evaluate(&mut evaluator, &mut frames, expected, &go_on)?;
            if let Dataset::Kitti(folder) = frames.dataset() {
                kitti = Some(kitti_evaluation(&config, folder, evaluator.outcome())?);
            }
        }
        (Some(seeds), None) => {
            let config = SimConfig { seconds: args.seconds, lidar: args.beams.model(), ..SimConfig::default() };
            let mut drives = SimulatedDrives::new(seeds.clone(), config, classes);
            let expected = drives.expected_clouds();
            evaluate(&mut evaluator, &mut drives, expected, &go_on)?;
        }
        (None, None) => {
            let truth = TruthOptions { topic: args.truth_topic.clone(), fixed_frame: args.clouds.fixed_frame.clone(), classes };
            let mut bags = LabelledBags::open(&args.input, wanted, args.clouds.options(&time), &truth, args.against.is_none())?;
            remarks.extend(bags.remarks());
            let expected = bags.inputs().expected_frames();
            evaluate(&mut evaluator, &mut bags, expected, &go_on)?;
            remarks.extend(bags.inputs().problems().iter().map(|p| format!("bag: {p}")));
        }
    }
    let outcome = evaluator.finish();
    remarks.splice(0..0, outcome.summary.remarks());
    remarks.iter().for_each(|remark| eprintln!("{remark}"));
    if outcome.summary.frames == 0 {
        let mut why = format!("{} clouds, none of them usable, labelled and at least {} s into its recording", outcome.clouds, args.every);
        outcome.summary.skipped.keys().for_each(|reason| why += &format!("\n  {reason}"));
        bail!("no frame was judged: {why}");
    }
    if !go_on() {
        eprintln!("interrupted; these are the figures until then");
    }
    for path in args.put_out(&outcome, kitti.as_ref(), remarks)? {
        eprintln!("wrote {}", path.display());
    }
    eprintln!("{} frames of {} recordings in {:.1} s", outcome.summary.frames, outcome.recordings, started.elapsed().as_secs_f64());
    Ok(())
}

/// The frames that were judged, by KITTI's own metric.
fn kitti_evaluation(config: &DetectorConfig, folder: &KittiFolder, outcome: &EvalOutcome) -> anyhow::Result<KittiEvaluation> {
    let area = [config.grid.min, config.grid.max].map(|[x, y, _]| [x, y]);
    let mut evaluation = KittiEvaluation::new(config.classes(), area);
    for (frame, _) in outcome.evaluation.frames() {
        evaluation.add(folder, frame)?;
    }
    Ok(evaluation)
}

/// Runs until the recordings end or `go_on` says no.
fn evaluate(
    evaluator: &mut Evaluator,
    events: &mut dyn Iterator<Item = LabelledEvent>,
    expected: u64,
    go_on: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let bar = ProgressBar::new(expected);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} clouds  {per_sec}  {eta} left  {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    for event in events.take_while(|_| go_on()) {
        evaluator.on_event(event);
        bar.set_position(evaluator.outcome().clouds);
        bar.set_message(format!("{} frames judged", evaluator.outcome().summary.frames));
    }
    bar.finish_and_clear();
    Ok(())
}

impl Args {
    /// The model as it runs here, and the fields that it wants of clouds.
    fn perception(&self, path: &Path) -> anyhow::Result<(Perception, Vec<String>)> {
        let model = Model::load(path).with_context(|| path.display().to_string())?;
        let mut config = model.config().clone();
        self.clouds.change(&mut config)?;
        config.decode.score_threshold = self.score_threshold;
        config.decode.class_thresholds.clear();
        config.validate().with_context(|| format!("these options do not fit the model {}", path.display()))?;
        let wanted = wanted_fields(&config);
        let network = network_on(&model, Isa::choose()?, self.device.device);
        let (network, _) = network.map_err(anyhow::Error::from_boxed).with_context(|| path.display().to_string())?;
        let detector = Detector::new(config, network)?;
        Ok((Perception::new(detector, self.clouds.motion()), wanted))
    }

    /// The data set, if the input is one.
    fn dataset(&self) -> anyhow::Result<Option<Dataset>> {
        let only = self.only.clone().map(FrameSelection::File);
        match self.input.iter().find(|path| Dataset::is_at(path)) {
            Some(folder) if self.input.len() == 1 => Ok(Some(Dataset::open(folder, only.as_ref())?)),
            Some(folder) => bail!("{}: a data set is judged alone, without other inputs", folder.display()),
            None if only.is_some() => bail!("--only chooses frames of a data set, and no input is one"),
            None => Ok(None),
        }
    }

    /// Prints the tables and writes what was asked for; returns the paths of the files.
    fn put_out(&self, outcome: &EvalOutcome, kitti: Option<&KittiEvaluation>, remarks: Vec<String>) -> anyhow::Result<Vec<PathBuf>> {
        let model = self.model.file_name().unwrap_or_default().to_string_lossy();
        let mut report = Report::new(&format!("How good {model} is"), &outcome.evaluation);
        report.agreement = outcome.agreement.as_ref();
        report.kitti = kitti;
        report.worst = outcome.worst.as_ref();
        report.facts = self.facts(outcome);
        report.remarks = remarks;

        let mut written = Vec::new();
        let to_stdout = |path: &PathBuf| path.as_os_str() == "-";
        let json = self.json.as_ref().map(|_| self.json_text(outcome, &report)).transpose()?;
        if self.json.as_ref().is_some_and(to_stdout) {
            crate::say(&report.text());
        } else {
            crate::print(&report.text())?;
        }
        if let (Some(path), Some(json)) = (&self.json, json) {
            if to_stdout(path) {
                crate::print(&json)?;
            } else {
                write_file(path, &json)?;
                written.push(path.clone());
            }
        }
        if let Some(folder) = &self.report {
            for ReportFile { name, text } in report.files()? {
                write_file(&folder.join(name), &text)?;
            }
            written.push(folder.join(PAGE));
        }
        Ok(written)
    }

    fn json_text(&self, outcome: &EvalOutcome, report: &Report<'_>) -> anyhow::Result<String> {
        let mut all = report.json();
        all.insert("frames".into(), json!(outcome.summary.frames));
        all.insert("recordings".into(), json!(outcome.recordings));
        let sim = self
            .sim
            .as_ref()
            .map(|s| json!({"seeds": [s.start, s.end], "seconds": self.seconds, "beams": format!("{:?}", self.beams.model())}));
        let settings = json!({
            "model": self.model.display().to_string(),
            "against": self.against.as_ref().map(|p| p.display().to_string()),
            "inputs": self.input.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
            "sim": sim,
            "score_threshold": self.score_threshold,
            "every_s": self.every,
            "metric": outcome.evaluation.metric(),
            "program": PROGRAM,
        });
        all.insert("settings".into(), settings);
        Ok(serde_json::to_string_pretty(&Value::Object(all))? + "\n")
    }

    /// The same for people.
    fn facts(&self, outcome: &EvalOutcome) -> Vec<(String, String)> {
        let paths = |paths: &mut dyn Iterator<Item = &PathBuf>| paths.map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let sim =
            |s: &Range<u64>| format!("simulated drives {} to {}, {} s each, {:?}", s.start, s.end - 1, self.seconds, self.beams.model());
        let labelled = outcome.evaluation.frames().len();
        let official =
            if outcome.evaluation.metric().is_official() { "nuScenes detection" } else { "as nuScenes detection, other classes" };
        let facts = [
            ("Model", Some(paths(&mut std::iter::once(&self.model)))),
            ("Second model", self.against.as_ref().map(|path| paths(&mut std::iter::once(path)))),
            ("Inputs", Some(self.sim.as_ref().map_or_else(|| paths(&mut self.input.iter()), sim))),
            ("Frames", Some(format!("{} ({labelled} labelled) of {} recordings", outcome.summary.frames, outcome.recordings))),
            ("Metric", Some(official.to_owned())),
            ("Boxes", Some(format!("of a score of {} and more", self.score_threshold))),
            ("Command", Some(command_line())),
            ("Program", Some(PROGRAM.to_owned())),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
