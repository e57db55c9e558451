//! The model file: tensors and a manifest in one `.safetensors`.
//!
//! The manifest is a JSON object under [`MANIFEST_KEY`] of the file's metadata. This room knows its frame; the configuration
//! inside belongs to whoever runs the network and is a type parameter.

use super::Params;
use super::scheme::SchemeError;
use super::scheme_file::{Quantization, QuantizationEntry, store};
use super::tensors::{Precision, TensorFile, TensorFileError, read_tensors, tensor_bytes, write_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Where the manifest stands in the metadata.
pub const MANIFEST_KEY: &str = "manifest";
/// `format` of every manifest.
pub const FORMAT: &str = "lidar_ptq";
/// Version of a manifest without quantization.
pub const FLOAT_VERSION: u32 = 1;
/// Version of a quantized model whose calibration tells of its frames no more than their digest.
const PLAIN_CALIBRATION_VERSION: u32 = 2;
/// The newest version. Incremented whenever an older reader would misunderstand the file, or refuse what it does not know.
pub const VERSION: u32 = 3;

/// Where a model's weights come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the file they were read from, without its folder.
    pub source: String,
    /// SHA-256 of that file, in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
    /// The program whose layout the file had: `det3d`, `openpcdet`, `mmdet3d`, `lidar_ptq`.
    pub code_base: String,
    /// Entries that were left out on purpose: counters, optimizer state.
    pub dropped: Vec<String>,
    /// Name and version of the program that wrote the model.
    pub written_by: String,
}

/// The manifest, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<C> {
    pub format: String,
    pub version: u32,
    pub config: C,
    pub provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationEntry>,
}

/// The part of a manifest that every version has.
#[derive(Deserialize)]
struct Signature {
    format: String,
    version: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error("no model: its metadata has no `{MANIFEST_KEY}`; if it is a checkpoint, import it first (lidar_ptq import)")]
    NoManifest,
    #[error("manifest: `format`: expected `{FORMAT}`, found `{0}`")]
    Format(String),
    #[error("manifest: `version`: this program reads {FLOAT_VERSION} to {VERSION}, found {found}; {}", advice(*.found))]
    Version { found: u32 },
    #[error("manifest: {0}")]
    Manifest(#[from] serde_json::Error),
    #[error("tensor `{name}`: expected floats, found a {found}")]
    NotFloat { name: String, found: String },
    #[error("tensor `{name}`: expected {expected}, found none")]
    Missing { name: String, expected: String },
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Integers { name: String, expected: String, found: String },
    #[error("manifest: {0}")]
    Scheme(#[from] SchemeError),
}

fn advice(found: u32) -> &'static str {
    if found > VERSION { "use a newer lidar_ptq" } else { "import the checkpoint anew" }
}

/// The digest of a file's bytes in hexadecimal, as `sha256sum` prints it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<C> Manifest<C> {
    pub fn new(config: C, provenance: Provenance) -> Self {
        Self { format: FORMAT.into(), version: FLOAT_VERSION, config, provenance, quantization: None }
    }

    /// The manifest of a quantized model.
    pub fn quantized(config: C, provenance: Provenance, quantization: &Quantization) -> Self {
        let calibration = &quantization.calibration;
        let is_plain = calibration.traits.is_empty() && calibration.recordings_sha256.is_empty();
        let version = if is_plain { PLAIN_CALIBRATION_VERSION } else { VERSION };
        Self { version, quantization: Some(quantization.into()), ..Self::new(config, provenance) }
    }
}

/// Reads manifest and tensors from the bytes of a file. Whether they fit each other is for the caller to check; a manifest with
/// quantization is to be given to [`super::take_scheme`].
///
/// # Errors
/// Anything but a complete file with a manifest of a known version, whose tensors are floats, or floats and bytes if it is
/// quantized.
pub fn read_model_file<C: DeserializeOwned>(bytes: &[u8]) -> Result<(Manifest<C>, TensorFile), ModelFileError> {
    let file = read_tensors(bytes)?;
    let text = file.metadata.get(MANIFEST_KEY).ok_or(ModelFileError::NoManifest)?;
    let signature: Signature = serde_json::from_str(text)?;
    if signature.format != FORMAT {
        return Err(ModelFileError::Format(signature.format));
    }
    if !(FLOAT_VERSION..=VERSION).contains(&signature.version) {
        return Err(ModelFileError::Version { found: signature.version });
    }
    let manifest: Manifest<C> = serde_json::from_str(text)?;
    let strange = if manifest.quantization.is_some() { file.others.clone() } else { file.not_float() };
    match strange.into_iter().next() {
        Some((name, found)) => Err(ModelFileError::NotFloat { name, found }),
        None => Ok((manifest, file)),
    }
}

/// The bytes of a model file. A quantized model's `params` are those of its folded graph; where the scheme has integers, they
/// are stored instead.
///
/// # Errors
/// A weight beyond f16's range, when f16 is asked for.
pub fn model_file_bytes<C: Serialize>(
    manifest: &Manifest<C>,
    params: &Params,
    quantization: Option<&Quantization>,
    precision: Precision,
) -> Result<Vec<u8>, ModelFileError> {
    let metadata = HashMap::from([(MANIFEST_KEY.to_owned(), serde_json::to_string(manifest)?)]);
    Ok(match quantization {
        None => tensor_bytes(params, &BTreeMap::new(), precision, metadata)?,
        Some(quantization) => {
            let stored = store(params, &quantization.scheme);
            tensor_bytes(&stored.floats, &stored.bytes, precision, metadata)?
        }
    })
}

/// Writes the bytes of a model file; it appears under its name only when it is complete.
///
/// # Errors
/// A folder that is missing, full or not writable.
pub fn write_model_file(path: &Path, bytes: &[u8]) -> Result<(), ModelFileError> {
    Ok(write_file(path, bytes).map_err(TensorFileError::Io)?)
}
