//! What `calibrate` and `ladder` have in common.

use crate::options::{CloudArgs, DeviceArgs, refuse_to_replace, use_threads, write_file};
use anyhow::{Context, bail};
use lidar_ptq::detect::{DetectorConfig, Model};
use lidar_ptq::quant::{Bits, Effort, Policy};
use std::path::{Path, PathBuf};

/// A float model, how it is quantized, and where figures go.
#[derive(clap::Args)]
pub struct QuantizeArgs {
    /// Float model, as `import` or `train` writes it.
    pub model: PathBuf,
    /// A layer that stays float: a name, the beginning of names followed by `*`, `first` or `last`. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub float: Vec<String>,
    /// Steps of gradient descent for each unit, of methods that descend; by default as published, which takes hours.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Frames of each such step; by default as published.
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Learn from square windows of so many cells of each frame; by default from whole frames, as published.
    #[arg(long, value_name = "CELLS")]
    pub window: Option<usize>,
    /// Of what is drawn at random.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Write all figures as one JSON object; `-` is the standard output, and tables go to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots of all figures: one file of HTML that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub clouds: CloudArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Worker threads; by default one a core.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `W4A8`, or `LAYER=W4A8` for some layers.
pub fn bits(text: &str) -> Result<(Option<String>, Bits), String> {
    match text.rsplit_once('=') {
        Some((layer, bits)) => Ok((Some(layer.to_owned()), bits.parse()?)),
        None => Ok((None, text.parse()?)),
    }
}

impl QuantizeArgs {
    /// Takes the threads and reads the model, and its configuration as the clouds want it.
    ///
    /// # Errors
    /// A model that is quantized already; outputs that would replace it; options that do not fit it.
    pub fn open(&self) -> anyhow::Result<(Model, DetectorConfig)> {
        use_threads(self.threads)?;
        self.json.iter().chain(&self.report).try_for_each(|output| refuse_to_replace(output, std::iter::once(&self.model)))?;
        let model = Model::load(&self.model).with_context(|| self.model.display().to_string())?;
        if model.quantization().is_some() {
            bail!("{}: is quantized already; give the float model that it was made from", self.model.display());
        }
        let mut config = model.config().clone();
        self.clouds.change(&mut config)?;
        config.validate().context("these options do not fit the model")?;
        Ok((model, config))
    }

    /// Bits without a layer are those of all others.
    pub fn policy(&self, bits: impl IntoIterator<Item = (Option<String>, Bits)>) -> Policy {
        let mut policy = Policy { float: self.float.clone(), ..Policy::default() };
        for (layer, bits) in bits {
            match layer {
                Some(layer) => policy.exceptions.push((layer, bits)),
                None => policy.bits = bits,
            }
        }
        policy
    }

    /// Of the calibration with this number, from 0.
    pub fn effort(&self, number: u64) -> Effort {
        let seed = self.seed.wrapping_add(number);
        Effort { seed, iterations: self.steps, batch: self.batch, window: self.window, ..Effort::default() }
    }

    /// Writes the page and the JSON, as far as they were asked for.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn put_out(&self, json: impl FnOnce() -> serde_json::Value, page: impl FnOnce() -> String) -> anyhow::Result<()> {
        if let Some(path) = &self.report {
            write_file(path, &page())?;
            crate::say(&format!("wrote {}\n", path.display()));
        }
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(&json())? + "\n";
        if self.json_to_stdout() { crate::print(&text) } else { write_file(path, &text) }
    }

    pub fn json_to_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}
