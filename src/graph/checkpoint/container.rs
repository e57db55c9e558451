//! The two files that `torch.save` has written: a zip archive since PyTorch 1.6, before that a row of pickles and raw
//! storages.

use super::CheckpointError;
use super::pickle::{Pickle, Value};
use super::tensor::{DType, StorageRef};
use std::collections::HashMap;
use std::io::{Cursor, Read, copy, sink};
use zip::{CompressionMethod, ZipArchive};

/// First bytes of a zip archive.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// 0x1950a86a20f9469cfc6c, the first pickle of the old format, little endian.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_VERSION: i64 = 1001;

/// An opened `.pth`: its pickle, and where its tensors' bytes are found.
pub(super) enum Container<'a> {
    Zip { pickle: Pickle<'a>, storages: ZipStorages<'a> },
    Legacy { pickle: Pickle<'a>, storages: LegacyStorages<'a> },
}

/// The bytes of a storage, by its key.
pub(super) trait Storages<'a> {
    fn bytes(&mut self, key: &str) -> Result<&'a [u8], CheckpointError>;
}

pub(super) fn open(bytes: &[u8]) -> Result<Container<'_>, CheckpointError> {
    if bytes.starts_with(ZIP_MAGIC) {
        return open_zip(bytes);
    }
    match Pickle::parse(bytes) {
        Ok(first) if *first.get(first.root) == Value::BigInt(&LEGACY_MAGIC) => open_legacy(bytes, first.length),
        Ok(_) => Err(CheckpointError::Layout("a bare pickle without PyTorch's signature".into())),
        // Every pickle since protocol 2 starts so; what fails later is a damaged or refused one.
        Err(error) if bytes.first() == Some(&0x80) => Err(error.into()),
        Err(_) => Err(CheckpointError::UnknownFormat),
    }
}

/// Entries of an archive, used in place.
pub(super) struct ZipStorages<'a> {
    file: &'a [u8],
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder that all entries lie in, with its slash.
    folder: String,
    /// Entries whose checksum was right.
    checked: HashMap<String, &'a [u8]>,
    /// Bytes that may still be checked; entries that overlap would make this more than the file has.
    budget: usize,
}

fn open_zip(file: &[u8]) -> Result<Container<'_>, CheckpointError> {
    let archive = ZipArchive::new(Cursor::new(file))?;
    let is_root = |name: &&str| name.split_once('/').is_some_and(|(_, rest)| rest == "data.pkl");
    let Some(folder) = archive.file_names().find(is_root).and_then(|name| name.strip_suffix("data.pkl")).map(str::to_owned) else {
        return Err(CheckpointError::Archive("has no `data.pkl`: it was not written by torch.save".into()));
    };
    if archive.file_names().any(|name| name.strip_prefix(&*folder) == Some("constants.pkl")) {
        return Err(CheckpointError::Archive("is a TorchScript program; import the checkpoint that it was made from".into()));
    }
    let mut storages = ZipStorages { file, archive, folder, checked: HashMap::new(), budget: file.len() };
    let has_byte_order = storages.archive.index_for_name(&format!("{}byteorder", storages.folder)).is_some();
    if has_byte_order && storages.entry("byteorder")? != b"little" {
        return Err(CheckpointError::Archive("was written on a big-endian machine, which is not supported".into()));
    }
    let pickle = Pickle::parse(storages.entry("data.pkl")?)?;
    Ok(Container::Zip { pickle, storages })
}

impl<'a> ZipStorages<'a> {
    /// The bytes of an entry, once its checksum is known to be right.
    fn entry(&mut self, name: &str) -> Result<&'a [u8], CheckpointError> {
        let path = format!("{}{name}", self.folder);
        if let Some(bytes) = self.checked.get(&path) {
            return Ok(bytes);
        }
        let mut entry = self.archive.by_name(&path).map_err(|error| match error {
            zip::result::ZipError::FileNotFound => CheckpointError::Archive(format!("lacks the entry `{path}`")),
            other => other.into(),
        })?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(CheckpointError::Archive(format!(
                "has compressed entries (`{path}`), which torch.save never writes: repack it with `unzip FILE -d NEW && cd NEW && zip -0 -r ../new.pth .`, or load and save it anew with torch"
            )));
        }
        let outside = || CheckpointError::Archive(format!("is truncated: `{path}` reaches beyond its end"));
        let start = usize::try_from(entry.data_start()).map_err(|_| outside())?;
        let length = usize::try_from(entry.size()).map_err(|_| outside())?;
        let bytes = self.file.get(start..).and_then(|rest| rest.get(..length)).ok_or_else(outside)?;
        self.budget = self.budget.checked_sub(length).ok_or_else(|| CheckpointError::Archive("has entries that overlap".into()))?;
        let read = copy(&mut entry.by_ref().take(length as u64 + 1), &mut sink())
            .map_err(|error| CheckpointError::Archive(format!("is damaged: `{path}`: {error}")))?;
        if read != length as u64 {
            return Err(outside());
        }
        self.checked.insert(path, bytes);
        Ok(bytes)
    }
}

impl<'a> Storages<'a> for ZipStorages<'a> {
    fn bytes(&mut self, key: &str) -> Result<&'a [u8], CheckpointError> {
        self.entry(&format!("data/{key}"))
    }
}

/// Storages that follow the pickles, in the order of their keys.
pub(super) struct LegacyStorages<'a>(HashMap<String, &'a [u8]>);

fn open_legacy(file: &[u8], mut at: usize) -> Result<Container<'_>, CheckpointError> {
    let layout = |what: &str| CheckpointError::Layout(what.to_owned());
    let mut next = || -> Result<Pickle<'_>, CheckpointError> {
        let pickle = Pickle::parse(&file[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    let version = next()?;
    if *version.get(version.root) != Value::Int(LEGACY_VERSION) {
        return Err(layout("its protocol is not 1001"));
    }
    let system = next()?;
    let little_endian = system.dict(system.root).unwrap_or_default().iter().find(|(key, _)| system.text(*key) == Some("little_endian"));
    if little_endian.is_some_and(|(_, value)| *system.get(*value) != Value::Bool(true)) {
        return Err(layout("it was written on a big-endian machine, which is not supported"));
    }
    let pickle = next()?;
    let keys = next()?;
    let dtypes = storage_types(&pickle);
    let mut storages = HashMap::new();
    for &key in keys.sequence(keys.root).ok_or_else(|| layout("its list of storages is none"))? {
        let key = keys.text(key).ok_or_else(|| layout("the key of a storage is no string"))?;
        let dtype = dtypes
            .get(key)
            .ok_or_else(|| CheckpointError::Layout(format!("storage `{key}` is used by no tensor, so its type is unknown")))?;
        let truncated = || CheckpointError::Layout(format!("it is truncated in storage `{key}`"));
        let (count, rest) = file.get(at..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or_else(truncated)?;
        let length = usize::try_from(i64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(dtype.bytes())).ok_or_else(truncated)?;
        storages.insert(key.to_owned(), rest.get(..length).ok_or_else(truncated)?);
        at += 8 + length;
    }
    Ok(Container::Legacy { pickle, storages: LegacyStorages(storages) })
}

/// The element type of every storage that a pickle refers to.
fn storage_types(pickle: &Pickle<'_>) -> HashMap<String, DType> {
    let id = |value: &Value<'_>| if let Value::Persistent(id) = value { Some(*id) } else { None };
    pickle.values().filter_map(id).filter_map(|id| StorageRef::parse(pickle, id).ok()).map(|s| (s.key, s.dtype)).collect()
}

impl<'a> Storages<'a> for LegacyStorages<'a> {
    fn bytes(&mut self, key: &str) -> Result<&'a [u8], CheckpointError> {
        self.0.get(key).copied().ok_or_else(|| CheckpointError::Layout(format!("storage `{key}` is not in the file")))
    }
}
