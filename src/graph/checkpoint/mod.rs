//! Reading the checkpoints of other programs: `.pth` of every PyTorch, and `.safetensors`.
//!
//! A `.pth` is a Python pickle, a small program. It is read by a machine that has no calls ([`pickle`]); the few
//! constructions that tensors need are recognised by name ([`torch`]). Every length is compared with the file before it is
//! used, so the memory taken is bounded by a small multiple of the file's size.

mod container;
mod globals;
mod pickle;
mod state_dict;
mod tensor;

pub use pickle::PickleError;

use super::Params;
use super::tensors::{TensorFileError, read_tensors};
use std::path::Path;

/// The state dict of a trained network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The float tensors by their keys, without a leading `module.`; f16, bf16 and f64 are converted to f32.
    pub params: Params,
    /// Entries of the state dict that are no float tensors: key and what it is (`i64 tensor`).
    pub others: Vec<(String, String)>,
    /// What the file holds beside the state dict (`optimizer`, `epoch`), by its keys.
    pub beside: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error("no checkpoint: expected a `.pth` (zip archive or pickle) or a `.safetensors` file, found bytes that are neither")]
    UnknownFormat,
    #[error(transparent)]
    Pickle(#[from] PickleError),
    #[error("the zip archive is damaged or truncated: {0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("the archive {0}")]
    Archive(String),
    #[error("not a file that torch.save writes: {0}")]
    Layout(String),
    #[error(
        "found no state dict: expected tensors at the top level or under `state_dict`, `model_state` or `model`, found {found}. Save one \
         with torch.save(model.state_dict(), PATH)"
    )]
    NoStateDict { found: String },
    #[error("tensor `{name}`: {what}")]
    Tensor { name: String, what: String },
    #[error("two tensors are named `{0}` once the leading `module.` is removed")]
    DuplicateTensor(String),
    #[error(transparent)]
    TensorFile(#[from] TensorFileError),
}

impl Checkpoint {
    /// Reads a checkpoint file.
    ///
    /// # Errors
    /// See [`CheckpointError`]; the caller names the file.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(&std::fs::read(path)?)
    }

    /// Reads a checkpoint from the bytes of its file, whose kind is told by its content.
    ///
    /// # Errors
    /// See [`CheckpointError`]. No input makes this panic, run anything, or take more than a small multiple of its length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        // The header of a safetensors file is an eight-byte length and a JSON object.
        if bytes.get(8) == Some(&b'{') {
            let file = read_tensors(bytes)?;
            let others = file.not_float();
            return state_dict::normalize(file.floats.0.into_iter().collect(), others, Vec::new());
        }
        match container::open(bytes)? {
            container::Container::Zip { pickle, mut storages } => state_dict::read(&pickle, &mut storages, bytes.len()),
            container::Container::Legacy { pickle, mut storages } => state_dict::read(&pickle, &mut storages, bytes.len()),
        }
    }
}
