//! What several commands have in common.

use anyhow::{Context, bail};
use clap::Args;
use lidar_ptq::detect::DetectorConfig;
use lidar_ptq::engine::DeviceChoice;
use lidar_ptq::node::sinks::PendingFile;
use lidar_ptq::node::{InputOptions, MotionLimits, MotionTracker, Tuning};
use lidar_ptq::sensor::{MAX_GAP_S, PointTime, TimeReference, TimeUnit};
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the network runs on.
#[derive(Args)]
pub struct DeviceArgs {
    /// What the network runs on: auto (a GPU if there is one that can be used), cpu, cuda, or cuda:N. GPUs find boxes with quantized
    /// models only. Where a GPU cannot be used, the CPU runs, to the same results, and why is said.
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "DEVICE")]
    pub device: DeviceChoice,
}

/// Which clouds to take, and how to understand them.
#[derive(Args)]
pub struct CloudArgs {
    /// Topic of the clouds, where a bag has several.
    #[arg(long, help_heading = "Input")]
    topic: Option<String>,
    /// Columns of raw .bin and .npy clouds: x,y,z,intensity,time.
    #[arg(long, value_delimiter = ',', help_heading = "Input")]
    fields: Option<Vec<String>>,
    /// Frame that stands still, for merging sweeps; by default odom, map or world, whichever /tf reaches.
    #[arg(long, value_name = "FRAME", help_heading = "Input")]
    pub fixed_frame: Option<String>,
    /// Leave sweeps out where poses of /tf or odometry lie further apart than this. A frame whose transforms come rarely, such
    /// as map from a slow localization, may need more.
    #[arg(long, default_value_t = MAX_GAP_S, value_name = "SECONDS", help_heading = "Input")]
    max_pose_gap: f64,
    /// Start this many seconds into each bag.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", help_heading = "Input")]
    from: f64,
    /// Stop this many seconds into each bag.
    #[arg(long, value_name = "SECONDS", help_heading = "Input")]
    until: Option<f64>,
    /// Merge this many sweeps instead of the model's number.
    #[arg(long, value_name = "N", help_heading = "Input")]
    sweeps: Option<usize>,
    /// Field of the cloud to take for intensity.
    #[arg(long, value_name = "FIELD", help_heading = "Input")]
    intensity_field: Option<String>,
    /// Factor from the sensor's intensity to the one the model was trained with (nuScenes: 0..255).
    #[arg(long, value_name = "FACTOR", help_heading = "Input")]
    intensity_scale: Option<f32>,
    /// Intensity of every point, for a sensor that has none.
    #[arg(long, value_name = "VALUE", help_heading = "Input")]
    intensity_constant: Option<f32>,
    /// Field of the cloud that holds the points' own times, where it is not `time`; `none` if they have none.
    #[arg(long, value_name = "FIELD", help_heading = "Input")]
    time_field: Option<String>,
    /// Unit of the points' times: s, ms, us or ns.
    #[arg(long, value_name = "UNIT", value_parser = named::<TimeUnit>, help_heading = "Input")]
    time_unit: Option<TimeUnit>,
    /// What the points' times count: before_stamp (back from the cloud's stamp, 0 and above), after_stamp (forward from it,
    /// negative before it), scan_start (forward from the scan's first point), clock (the time itself).
    #[arg(long, value_name = "REFERENCE", value_parser = named::<TimeReference>, help_heading = "Input")]
    time_reference: Option<TimeReference>,
}

/// A value by its name in a configuration.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_norway::from_str(text).map_err(|e| e.to_string())
}

impl CloudArgs {
    /// For a model with this configuration, which [`CloudArgs::change`] has changed.
    pub fn options(&self, time: &PointTime) -> InputOptions {
        InputOptions {
            topic: self.topic.clone(),
            columns: self.fields.clone(),
            time: time.clone(),
            from_s: self.from,
            until_s: self.until,
            pass_on: Vec::new(),
        }
    }

    pub fn motion(&self) -> MotionTracker {
        let limits = MotionLimits { max_gap_s: self.max_pose_gap, ..MotionLimits::default() };
        MotionTracker::with_limits(self.fixed_frame.clone(), limits)
    }

    /// # Errors
    /// Options that the model has no use for, or that mean nothing.
    pub fn change(&self, config: &mut DetectorConfig) -> anyhow::Result<()> {
        let tuning = Tuning {
            sweeps: self.sweeps,
            intensity_field: self.intensity_field.clone(),
            intensity_scale: self.intensity_scale,
            intensity_constant: self.intensity_constant,
            time_field: self.time_field.clone(),
            time_unit: self.time_unit,
            time_reference: self.time_reference,
            ..Tuning::default()
        };
        tuning.apply(config, &|field| format!("--{}", field.replace('_', "-")))?;
        if self.max_pose_gap.is_nan() || self.max_pose_gap <= 0.0 {
            bail!("--max-pose-gap is {}, expected more than 0 seconds", self.max_pose_gap);
        }
        Ok(())
    }
}

/// Results must not take the place of what they are made from.
pub fn refuse_to_replace<'a>(output: &Path, mut sources: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
    // A file that does not exist yet replaces nothing.
    let Ok(file) = output.canonicalize() else { return Ok(()) };
    if let Some(source) = sources.find(|s| s.canonicalize().is_ok_and(|s| s == file)) {
        bail!("{}: would replace the input {}", output.display(), source.display());
    }
    Ok(())
}

/// A file of text, whole or not at all.
pub fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = PendingFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
    file.finish()
}

pub const PROGRAM: &str = concat!("lidar_ptq ", env!("CARGO_PKG_VERSION"));

/// This command, as a shell reads it.
pub fn command_line() -> String {
    std::env::args().map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A word of a command line as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// How many threads work; by default one a core.
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    match threads {
        Some(threads) => rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads"),
        None => Ok(()),
    }
}
