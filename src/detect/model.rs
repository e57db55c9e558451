//! A trained detector: configuration and weights that are known to fit each other.

use super::DetectorConfig;
use super::validate::ConfigError;
use crate::graph::{
    Graph, Manifest, ModelFileError, ParamError, Params, Precision, Provenance, model_file_bytes, read_model_file, write_model_file,
};
use std::path::Path;

/// A detector as it is stored in a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    config: DetectorConfig,
    params: Params,
    provenance: Provenance,
    graph: Graph,
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    File(#[from] ModelFileError),
    #[error("configuration `{name}`: {source}")]
    Config { name: String, source: ConfigError },
    #[error(transparent)]
    Params(#[from] ParamError),
    #[error("tensor `{0}` holds values that are not finite; the training that made it has diverged")]
    NotFinite(String),
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// A configuration that contradicts itself; tensors that are missing, extra, misshapen (all are listed) or not finite.
    pub fn new(config: DetectorConfig, params: Params, provenance: Provenance) -> Result<Self, ModelError> {
        let graph = config.graph().map_err(|source| ModelError::Config { name: config.name.clone(), source })?;
        params.check(&graph)?;
        if let Some((name, _)) = params.0.iter().find(|(_, values)| !values.iter().all(|v| v.is_finite())) {
            return Err(ModelError::NotFinite(name.clone()));
        }
        Ok(Self { config, params, provenance, graph })
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// See [`ModelError`]; the caller names the file.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_bytes(&std::fs::read(path)?)
    }

    /// Reads a model from the bytes of its file. f16 weights are widened to f32.
    ///
    /// # Errors
    /// A truncated file, a manifest that is missing or of another version, and all that [`Model::new`] refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (manifest, params) = read_model_file::<DetectorConfig>(bytes)?;
        Self::new(manifest.config, params, manifest.provenance)
    }

    /// Writes a model file; it appears under its name only when it is complete.
    ///
    /// # Errors
    /// See [`write_model_file`].
    pub fn save(&self, path: &Path, precision: Precision) -> Result<(), ModelError> {
        Ok(write_model_file(path, &self.manifest(), &self.params, precision)?)
    }

    /// The bytes of a model file.
    ///
    /// # Errors
    /// A weight beyond f16's range, when f16 is asked for.
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, ModelError> {
        Ok(model_file_bytes(&self.manifest(), &self.params, precision)?)
    }

    pub fn manifest(&self) -> Manifest<DetectorConfig> {
        Manifest::new(self.config.clone(), self.provenance.clone())
    }

    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The network that the parameters belong to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Configuration, graph and parameters, to be taken apart.
    pub fn into_parts(self) -> (DetectorConfig, Graph, Params) {
        (self.config, self.graph, self.params)
    }
}
