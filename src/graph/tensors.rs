//! Named tensors in a `.safetensors` file: the container of models, and one of the forms that checkpoints come in.

use super::Params;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use ndarray::ArrayD;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use safetensors::{SafeTensors, serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// Tensors of two or more axes as f16; biases and batch norm stay f32, they are small and their range is wide.
    F16,
}

#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    #[error("its length does not fit its header: it is truncated, or something was appended")]
    Truncated,
    #[error("not a safetensors file: {0}")]
    Header(SafeTensorError),
    #[error("tensor `{name}`: {what}")]
    Tensor { name: String, what: String },
    #[error("tensor `{name}` does not fit into f16: {value}; save the model in f32")]
    Range { name: String, value: f32 },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    pub floats: Params,
    /// Tensors of one byte an element.
    pub bytes: BTreeMap<String, ByteTensor>,
    /// Name and type of every other tensor.
    pub others: Vec<(String, String)>,
    /// The file's free-form metadata.
    pub metadata: HashMap<String, String>,
}

/// An `I8` or `U8` tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteTensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl TensorFile {
    /// Name and type of every tensor that holds no floats.
    pub(super) fn not_float(&self) -> Vec<(String, String)> {
        let bytes = self.bytes.iter().map(|(name, tensor)| (name.clone(), type_name(tensor.dtype)));
        let mut all: Vec<_> = bytes.chain(self.others.iter().cloned()).collect();
        all.sort();
        all
    }
}

fn type_name(dtype: Dtype) -> String {
    format!("{dtype:?} tensor").to_lowercase()
}

/// Reads every float tensor as f32.
///
/// # Errors
/// A file that is truncated or whose header contradicts itself.
pub(super) fn read_tensors(bytes: &[u8]) -> Result<TensorFile, TensorFileError> {
    // The reader validates the header as a whole: every shape fits its bytes, no byte is unaccounted for.
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(header_error)?;
    let file = SafeTensors::deserialize(bytes).map_err(header_error)?;
    let mut params = Params::default();
    let mut bytes_found = BTreeMap::new();
    let mut others = Vec::new();
    for (name, tensor) in file.iter() {
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b)).collect::<Vec<_>>().to_f32_vec(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b)).collect::<Vec<_>>().to_f32_vec(),
            dtype @ (Dtype::I8 | Dtype::U8) => {
                bytes_found.insert(name.to_owned(), ByteTensor { dtype, shape: tensor.shape().to_vec(), data: data.to_vec() });
                continue;
            }
            other => {
                others.push((name.to_owned(), type_name(other)));
                continue;
            }
        };
        let array = ArrayD::from_shape_vec(tensor.shape().to_vec(), values)
            .map_err(|error| TensorFileError::Tensor { name: name.to_owned(), what: error.to_string() })?;
        params.0.insert(name.to_owned(), array);
    }
    others.sort();
    Ok(TensorFile { floats: params, bytes: bytes_found, others, metadata: metadata.metadata().clone().unwrap_or_default() })
}

fn header_error(error: SafeTensorError) -> TensorFileError {
    match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooSmall => {
            TensorFileError::Truncated
        }
        other => TensorFileError::Header(other),
    }
}

/// The bytes of a file with these floats, bytes and metadata.
///
/// # Errors
/// A value beyond f16's range, when f16 is asked for.
pub(super) fn tensor_bytes(
    floats: &Params,
    integers: &BTreeMap<String, ByteTensor>,
    precision: Precision,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    let mut stored = Vec::with_capacity(floats.0.len());
    for (name, values) in &floats.0 {
        let bytes: Vec<u8> = if precision == Precision::F16 && values.ndim() > 1 {
            if let Some(&value) = values.iter().find(|v| v.is_finite() && !f16::from_f32(**v).is_finite()) {
                return Err(TensorFileError::Range { name: name.clone(), value });
            }
            values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        let dtype = if bytes.len() == 4 * values.len() { Dtype::F32 } else { Dtype::F16 };
        stored.push((name, dtype, values.shape().to_vec(), bytes));
    }
    let floats = stored.iter().map(|(name, dtype, shape, bytes)| (*name, *dtype, shape, bytes));
    let integers = integers.iter().map(|(name, tensor)| (name, tensor.dtype, &tensor.shape, &tensor.data));
    let views: Result<Vec<_>, _> =
        floats.chain(integers).map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape.clone(), bytes)?))).collect();
    views.and_then(|views| serialize(views, Some(metadata))).map_err(TensorFileError::Header)
}

/// Writes a file under a temporary name beside `path`, then renames it: readers see the old file or the new one, never half.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As any new file: what the process's mask leaves of it.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
