//! Which frames of a data set are meant.

use super::DatasetError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Frames by name, in place or in a file.
///
/// KITTI: frame numbers. nuScenes: names of scenes or tokens of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FrameSelection {
    Names(Vec<FrameName>),
    /// A text file with a name a line, as KITTI's `ImageSets/train.txt`. Empty lines and what follows a `#` do not count.
    File(PathBuf),
}

/// A frame's name; KITTI's are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FrameName {
    Number(u64),
    Text(String),
}

impl FrameSelection {
    /// The names in their order.
    ///
    /// # Errors
    /// A file that cannot be read or names nothing.
    pub fn names(&self) -> Result<Vec<FrameName>, DatasetError> {
        match self {
            Self::Names(names) => Ok(names.clone()),
            Self::File(path) => read(path),
        }
    }
}

impl FrameName {
    /// A word from a text file or the command line.
    pub fn parse(word: &str) -> Self {
        word.parse().map_or_else(|_| Self::Text(word.to_owned()), Self::Number)
    }
}

impl std::fmt::Display for FrameName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn read(path: &Path) -> Result<Vec<FrameName>, DatasetError> {
    let text = std::fs::read_to_string(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
    let words = text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    let names: Vec<FrameName> = words.map(FrameName::parse).collect();
    if names.is_empty() {
        return Err(DatasetError::Empty { path: path.to_owned(), expected: "a frame's name a line" });
    }
    Ok(names)
}
