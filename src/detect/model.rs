//! A trained detector: configuration and weights that are known to fit each other.

use super::DetectorConfig;
use super::validate::ConfigError;
use crate::graph::{
    Graph, Manifest, ModelFileError, ParamError, Params, Precision, Provenance, Quantization, SchemeError, fold_graph, model_file_bytes,
    read_model_file, take_scheme, write_model_file,
};
use std::path::Path;

/// A detector as it is stored in a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    config: DetectorConfig,
    params: Params,
    provenance: Provenance,
    quantization: Option<Quantization>,
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
    #[error(transparent)]
    Scheme(#[from] SchemeError),
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// A configuration that contradicts itself; tensors that are missing, extra, misshapen (all are listed) or not finite.
    pub fn new(config: DetectorConfig, params: Params, provenance: Provenance) -> Result<Self, ModelError> {
        let graph = graph_of(&config)?;
        check(&params, &graph)?;
        Ok(Self { config, params, provenance, quantization: None, graph })
    }

    /// The same model in integers: `params` are those of the folded graph, biases perhaps changed by the method; weights become
    /// those that the scheme's integers stand for.
    ///
    /// # Errors
    /// A scheme or parameters that do not fit the folded graph.
    pub fn quantize(&self, quantization: Quantization, mut params: Params) -> Result<Self, ModelError> {
        let graph = fold_graph(&self.graph);
        quantization.scheme.check(&graph)?;
        for (layer, weight) in &quantization.scheme.weights {
            let axis = graph.node(layer).map_or(0, |id| graph.nodes[id].op.output_axis());
            params.0.insert(format!("{layer}.weight"), weight.values(axis));
        }
        check(&params, &graph)?;
        let (config, provenance) = (self.config.clone(), self.provenance.clone());
        Ok(Self { config, params, provenance, quantization: Some(quantization), graph })
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
        let (manifest, mut file) = read_model_file::<DetectorConfig>(bytes)?;
        let Some(entry) = manifest.quantization else {
            return Self::new(manifest.config, file.floats, manifest.provenance);
        };
        let graph = fold_graph(&graph_of(&manifest.config)?);
        let quantization = Some(take_scheme(entry, &mut file, &graph)?);
        if let Some(name) = file.bytes.into_keys().next() {
            return Err(ParamError { missing: vec![], extra: vec![name], misshapen: vec![] }.into());
        }
        check(&file.floats, &graph)?;
        Ok(Self { config: manifest.config, params: file.floats, provenance: manifest.provenance, quantization, graph })
    }

    /// Writes a model file; it appears under its name only when it is complete.
    ///
    /// # Errors
    /// As [`Model::to_bytes`]; a folder that is missing, full or not writable.
    pub fn save(&self, path: &Path, precision: Precision) -> Result<(), ModelError> {
        Ok(write_model_file(path, &self.to_bytes(precision)?)?)
    }

    /// The bytes of a model file.
    ///
    /// # Errors
    /// A weight beyond f16's range, when f16 is asked for.
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, ModelError> {
        Ok(model_file_bytes(&self.manifest(), &self.params, self.quantization.as_ref(), precision)?)
    }

    pub fn manifest(&self) -> Manifest<DetectorConfig> {
        let (config, provenance) = (self.config.clone(), self.provenance.clone());
        match &self.quantization {
            None => Manifest::new(config, provenance),
            Some(quantization) => Manifest::quantized(config, provenance, quantization),
        }
    }

    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Float parameters of [`Model::graph`]; in a quantized model those that the integers stand for.
    pub fn params(&self) -> &Params {
        &self.params
    }

    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// How the model is quantized, if it is.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// The network that the parameters belong to. A quantized model's batch norms are folded into its layers.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Configuration, graph and parameters, to be taken apart.
    pub fn into_parts(self) -> (DetectorConfig, Graph, Params) {
        (self.config, self.graph, self.params)
    }
}

fn graph_of(config: &DetectorConfig) -> Result<Graph, ModelError> {
    config.graph().map_err(|source| ModelError::Config { name: config.name.clone(), source })
}

fn check(params: &Params, graph: &Graph) -> Result<(), ModelError> {
    params.check(graph)?;
    match params.0.iter().find(|(_, values)| !values.iter().all(|v| v.is_finite())) {
        Some((name, _)) => Err(ModelError::NotFinite(name.clone())),
        None => Ok(()),
    }
}
