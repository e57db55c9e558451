//! What several commands have in common.

use anyhow::{Context, bail};
use clap::Args;
use lidar_ptq::detect::DetectorConfig;
use lidar_ptq::node::InputOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
}

impl CloudArgs {
    pub fn options(&self) -> InputOptions {
        InputOptions { topic: self.topic.clone(), columns: self.fields.clone(), from_s: self.from, until_s: self.until }
    }

    pub fn change(&self, config: &mut DetectorConfig) {
        let intensity = &mut config.points.intensity;
        if let Some(field) = &self.intensity_field {
            intensity.field.clone_from(field);
        }
        if let Some(scale) = self.intensity_scale {
            intensity.scale = scale;
        }
        if self.intensity_constant.is_some() {
            intensity.constant = self.intensity_constant;
        }
        if let Some(count) = self.sweeps {
            config.points.sweeps.count = count;
        }
    }
}

/// Fields to look for in clouds, besides x, y, z.
pub fn wanted_fields(config: &DetectorConfig) -> Vec<String> {
    let points = &config.points;
    let field = |name: &String| if name == "intensity" { points.intensity.field.clone() } else { name.clone() };
    points.features.iter().skip(3).map(field).collect()
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

/// How many threads work; by default one a core.
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    match threads {
        Some(threads) => rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads"),
        None => Ok(()),
    }
}

/// Set at the first Ctrl-C; a second one ends the program at once.
pub fn catch_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot catch Ctrl-C")?;
    Ok(interrupted)
}
