//! Finding the state dict in what a training program saved.

use super::container::Storages;
use super::pickle::{Pickle, ValueId};
use super::tensor::{DType, TensorRef};
use super::{Checkpoint, CheckpointError};
use ndarray::ArrayD;
use std::collections::HashSet;

/// Where det3d and mmdet3d (`state_dict`), OpenPCDet (`model_state`) and others (`model`) keep it.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state", "model"];
/// What `DistributedDataParallel` puts before every key.
const PARALLEL_PREFIX: &str = "module.";
/// Values read per byte of the file: an f16 file yields half, tensors that share storage a little more. Bounds views that
/// repeat one element (stride 0).
const MAX_VALUES_PER_BYTE: usize = 4;
/// Bytes of keys and descriptions per byte of the file. Bounds keys and class names that a pickle stores once and mentions
/// many times.
const MAX_TEXT_PER_BYTE: usize = 16;

/// Reads the tensors of the state dict that `pickle` holds.
pub(super) fn read<'a>(pickle: &Pickle<'a>, storages: &mut impl Storages<'a>, file_len: usize) -> Result<Checkpoint, CheckpointError> {
    let (entries, beside) = find(pickle)?;
    let mut budget = file_len.saturating_mul(MAX_VALUES_PER_BYTE);
    let mut text_budget = file_len.saturating_mul(MAX_TEXT_PER_BYTE);
    let mut spend_text = |text: &str| {
        let left = text_budget.checked_sub(text.len());
        text_budget = left.ok_or_else(|| CheckpointError::Layout("its keys repeat and make up more than the whole file".into()))?;
        Ok::<(), CheckpointError>(())
    };
    let mut tensors = Vec::new();
    let mut others = Vec::new();
    for &(key, value) in entries {
        let name = pickle.text(key).unwrap_or("(a key that is no string)");
        spend_text(name)?;
        let name = name.to_owned();
        let wrong = |what: String| CheckpointError::Tensor { name: name.clone(), what };
        let Some(tensor) = TensorRef::parse(pickle, value).map_err(wrong)? else {
            let what = pickle.describe(value);
            spend_text(&what)?;
            others.push((name, what));
            continue;
        };
        if let DType::Integer(kind, _) = tensor.storage.dtype {
            others.push((name, format!("{kind} tensor")));
            continue;
        }
        budget = tensor
            .len()
            .and_then(|len| budget.checked_sub(len))
            .ok_or_else(|| wrong(format!("shape {:?} is more than the whole file can hold", tensor.shape)))?;
        let bytes = storages.bytes(&tensor.storage.key)?;
        if bytes.len() / tensor.storage.dtype.bytes() < tensor.storage.count {
            return Err(wrong(format!("its storage has {} bytes, expected {} elements", bytes.len(), tensor.storage.count)));
        }
        if let Some(values) = tensor.read(bytes).map_err(wrong)? {
            tensors.push((name, values));
        }
    }
    normalize(tensors, others, beside)
}

/// Keys without the prefix of parallel training, each once.
pub(super) fn normalize(
    tensors: Vec<(String, ArrayD<f32>)>,
    others: Vec<(String, String)>,
    beside: Vec<String>,
) -> Result<Checkpoint, CheckpointError> {
    let bare = |name: String| name.strip_prefix(PARALLEL_PREFIX).map(str::to_owned).unwrap_or(name);
    let mut checkpoint =
        Checkpoint { others: others.into_iter().map(|(name, what)| (bare(name), what)).collect(), beside, ..Default::default() };
    for (name, values) in tensors {
        let name = bare(name);
        if checkpoint.params.0.insert(name.clone(), values).is_some() {
            return Err(CheckpointError::DuplicateTensor(name));
        }
    }
    Ok(checkpoint)
}

/// Keys and values of a dict.
type Entries = [(ValueId, ValueId)];

/// The entries of the state dict, and the keys of what else is in the file.
fn find<'p>(pickle: &'p Pickle<'_>) -> Result<(&'p Entries, Vec<String>), CheckpointError> {
    let missing = |found: String| CheckpointError::NoStateDict { found };
    let root = pickle.dict(pickle.root).ok_or_else(|| missing(pickle.describe(pickle.root)))?;
    let has_tensors = |items: &Entries| items.iter().any(|(_, value)| !matches!(TensorRef::parse(pickle, *value), Ok(None)));
    if has_tensors(root) {
        return Ok((root, Vec::new()));
    }
    let keys = || root.iter().filter_map(|(key, _)| pickle.text(*key));
    for wrapper in WRAPPERS {
        let inner = root.iter().rev().find(|(key, _)| pickle.text(*key) == Some(wrapper)).and_then(|(_, value)| pickle.dict(*value));
        if let Some(items) = inner.filter(|items| has_tensors(items)) {
            // Each once: a pickle can mention one long key as often as it likes.
            let mut seen = HashSet::from([wrapper]);
            return Ok((items, keys().filter(|key| seen.insert(key)).map(str::to_owned).collect()));
        }
    }
    let found: Vec<String> =
        root.iter().take(20).filter_map(|(key, value)| Some(format!("`{}` ({})", pickle.text(*key)?, pickle.describe(*value)))).collect();
    Err(missing(if found.is_empty() { "an empty file".into() } else { found.join(", ") }))
}
