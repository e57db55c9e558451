//! What a calibration has done, in a file beside its model.

use super::progress::{Partial, Store};
use super::{CalibrationError, Effort, Frames, LayerRounding, Method, Policy};
use crate::graph::{
    Calibration, Graph, Manifest, Precision, Provenance, Quantization, model_file_bytes, read_model_file, sha256_hex, take_scheme,
    write_model_file,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A [`Store`] that outlives the program: a model file whose configuration is not a detector's but says what is done.
pub struct StateFile<'a> {
    path: PathBuf,
    graph: &'a Graph,
    /// Of everything on which the result depends.
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    calibration_state: String,
    done: usize,
    rounding: Vec<LayerRounding>,
}

impl<'a> StateFile<'a> {
    /// `model` is what else the result depends on: the model's configuration.
    pub fn new(path: &Path, frames: &'a Frames, method: &Method, policy: &Policy, effort: Effort, model: &str) -> Self {
        let mut weights = Vec::new();
        for (name, values) in &frames.params().0 {
            weights.extend(name.bytes());
            weights.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        }
        let parts =
            format!("{} {method:?} {policy:?} {effort:?} {} {} {model}", env!("CARGO_PKG_VERSION"), frames.digest(), sha256_hex(&weights));
        Self { path: path.to_owned(), graph: frames.graph(), fingerprint: sha256_hex(parts.as_bytes()) }
    }

    /// Removes the file, once the model is written.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self) -> Result<(), CalibrationError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    fn error(&self, error: impl std::fmt::Display) -> CalibrationError {
        CalibrationError::Store(format!("{}: {error}", self.path.display()))
    }
}

impl Store for StateFile<'_> {
    /// The state, if it is of this calibration; that of another one is left to be replaced.
    fn load(&mut self) -> Result<Option<Partial>, CalibrationError> {
        let bytes = match std::fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| self.error(e))?,
        };
        let (manifest, mut file) =
            read_model_file::<State>(&bytes).map_err(|e| self.error(format!("is not the state of a calibration ({e}); move it away")))?;
        let State { calibration_state, done, rounding } = manifest.config;
        let Some(entry) = manifest.quantization.filter(|_| calibration_state == self.fingerprint) else {
            tracing::warn!(file = %self.path.display(), "the state of another calibration is replaced");
            return Ok(None);
        };
        let Quantization { scheme, .. } = take_scheme(entry, &mut file, self.graph).map_err(|e| self.error(e))?;
        file.floats.check(self.graph).map_err(|e| self.error(e))?;
        tracing::info!(file = %self.path.display(), done, "goes on");
        Ok(Some(Partial { done, scheme, params: file.floats, rounding }))
    }

    fn save(&mut self, partial: &Partial) -> Result<(), CalibrationError> {
        let Partial { done, scheme, params, rounding } = partial;
        let config = State { calibration_state: self.fingerprint.clone(), done: *done, rounding: rounding.clone() };
        let quantization = Quantization { scheme: scheme.clone(), calibration: Calibration::default() };
        let manifest = Manifest::quantized(config, Provenance::default(), &quantization);
        let bytes = model_file_bytes(&manifest, params, Some(&quantization), Precision::F32).map_err(|e| self.error(e))?;
        write_model_file(&self.path, &bytes).map_err(|e| self.error(e))
    }
}
