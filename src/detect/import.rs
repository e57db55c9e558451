//! From a public code base's checkpoint to a model: recognising it, finding its configuration, saying what does not fit.

use super::DetectorConfig;
use super::model::{Model, ModelError};
use super::presets::{ConfigFileError, PRESETS};
use super::validate::ConfigError;
use crate::graph::{Checkpoint, CheckpointError, Graph, ParamError, Provenance, sha256_hex};
use crate::networks::centerpoint::Dialect;
use std::collections::BTreeSet;
use std::path::Path;

/// Entries of a state dict that a network does not need for inference: batch norm's counters of every code base, and the
/// training step of OpenPCDet.
const COUNTERS: [&str; 2] = ["num_batches_tracked", "global_step"];

/// A model, and what its user should know of how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub model: Model,
    /// Other presets that fit the tensors as well and differ in what a checkpoint does not tell.
    pub alternatives: Vec<&'static str>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "no pillar CenterPoint of det3d, OpenPCDet or mmdet3d: no key begins with `reader.pfn_layers`, `vfe.pfn_layers` or \
         `pts_voxel_encoder.pfn_layers`; its keys begin with {found}"
    )]
    UnknownNetwork { found: String },
    #[error(
        "looks like a network of {dialect}, but fits none of its presets; nearest is `{preset}`:\n{differences}\nIf the network is meant \
         to differ, describe it: write `lidar_ptq import --print-config {preset}` to a file, change the lines that differ (classes, \
         ranges, layers), and import with `--config FILE`"
    )]
    NoPreset { dialect: &'static str, preset: &'static str, differences: ParamError },
    #[error("its keys are those of {found}, the configuration `{config}` says `network.dialect: {expected}`")]
    Dialect { config: String, expected: &'static str, found: &'static str },
    #[error("does not fit the configuration `{config}`: {differences}")]
    Unfit { config: String, differences: ParamError },
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error("preset: {0}")]
    Preset(#[from] ConfigError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Imports a checkpoint file, with the given configuration or the preset that its tensors fit.
///
/// # Errors
/// See [`ImportError`]; the caller names the file.
pub fn import_file(path: &Path, config: Option<DetectorConfig>) -> Result<Imported, ImportError> {
    let bytes = std::fs::read(path)?;
    let source = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    import(&bytes, source, config)
}

/// Imports a checkpoint from the bytes of its file; `source` is the file's name, for the model's provenance.
///
/// # Errors
/// See [`ImportError`].
pub fn import(bytes: &[u8], source: String, config: Option<DetectorConfig>) -> Result<Imported, ImportError> {
    let checkpoint = Checkpoint::from_bytes(bytes)?;
    let dialect = Dialect::recognize(checkpoint.params.0.keys().map(String::as_str)).ok_or_else(|| unknown_network(&checkpoint))?;
    let (config, alternatives) = match config {
        Some(config) if config.network.dialect != dialect => {
            let expected = config.network.dialect.name();
            return Err(ImportError::Dialect { config: config.name, expected, found: dialect.name() });
        }
        Some(config) => {
            let graph = config.graph().map_err(|source| ModelError::Config { name: config.name.clone(), source })?;
            fit(&checkpoint, &graph).map_err(|differences| ImportError::Unfit { config: config.name.clone(), differences })?;
            (config, Vec::new())
        }
        None => choose_preset(dialect, &checkpoint)?,
    };
    let mut dropped: Vec<String> = checkpoint.others.into_iter().map(|(name, _)| name).collect();
    dropped.extend(checkpoint.beside);
    let provenance = Provenance {
        source,
        sha256: sha256_hex(bytes),
        code_base: dialect.name().to_owned(),
        dropped,
        written_by: concat!("lidar_ptq ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    Ok(Imported { model: Model::new(config, checkpoint.params, provenance)?, alternatives })
}

/// The first preset whose network has exactly the checkpoint's tensors, and the names of others that have them too.
fn choose_preset(dialect: Dialect, checkpoint: &Checkpoint) -> Result<(DetectorConfig, Vec<&'static str>), ImportError> {
    let mut chosen = None;
    let mut alternatives = Vec::new();
    let mut nearest: Option<(&'static str, ParamError)> = None;
    for preset in PRESETS {
        let config = preset.config()?;
        if config.network.dialect != dialect {
            continue;
        }
        match fit(checkpoint, &config.graph()?) {
            Ok(()) if chosen.is_none() => chosen = Some(config),
            Ok(()) => alternatives.push(preset.name),
            Err(differences) => {
                if nearest.as_ref().is_none_or(|(_, least)| count(&differences) < count(least)) {
                    nearest = Some((preset.name, differences));
                }
            }
        }
    }
    match (chosen, nearest) {
        (Some(config), _) => Ok((config, alternatives)),
        (None, Some((preset, differences))) => Err(ImportError::NoPreset { dialect: dialect.name(), preset, differences }),
        (None, None) => Err(unknown_network(checkpoint)),
    }
}

fn count(differences: &ParamError) -> usize {
    differences.missing.len() + differences.extra.len() + differences.misshapen.len()
}

/// Whether the checkpoint has what the graph asks for, and besides that only counters.
fn fit(checkpoint: &Checkpoint, graph: &Graph) -> Result<(), ParamError> {
    let mut error = match checkpoint.params.check(graph) {
        Ok(()) => ParamError { missing: vec![], extra: vec![], misshapen: vec![] },
        Err(error) => error,
    };
    let is_counter = |name: &str| name.rsplit('.').next().is_some_and(|last| COUNTERS.contains(&last));
    let strangers = checkpoint.others.iter().filter(|(name, _)| !is_counter(name));
    error.extra.extend(strangers.map(|(name, what)| format!("{name} ({what})")));
    if count(&error) == 0 { Ok(()) } else { Err(error) }
}

fn unknown_network(checkpoint: &Checkpoint) -> ImportError {
    let prefixes: BTreeSet<&str> = checkpoint.params.0.keys().filter_map(|key| key.split('.').next()).take(1000).collect();
    let found = prefixes.into_iter().take(10).map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(", ");
    ImportError::UnknownNetwork { found }
}
