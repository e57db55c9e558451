//! What can be wrong with a data set's folder.

use crate::sensor::CloudFileError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(
        "{}: neither a KITTI object folder (`label_2`, `calib`, and `velodyne` or `velodyne_reduced`) nor a nuScenes folder (`v1.0-*`)",
        path.display()
    )]
    NoDataset { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Cloud(#[from] CloudFileError),
    #[error("{}: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    /// A line of a text file.
    #[error("{}: line {line}: {what}: expected {expected}, found {found}", path.display())]
    Line { path: PathBuf, line: usize, what: &'static str, expected: &'static str, found: String },
    #[error("{}: `{key}`: {what}", path.display())]
    Calibration { path: PathBuf, key: &'static str, what: String },
    /// A row of a nuScenes table.
    #[error("{}: row {token}: `{field}`: expected {expected}, found {found}", path.display())]
    Row { path: PathBuf, token: String, field: &'static str, expected: &'static str, found: String },
    #[error("{}: no frames here; expected {expected}", path.display())]
    Empty { path: PathBuf, expected: &'static str },
    #[error("{}: there is no frame `{name}`; {hint}", path.display())]
    UnknownFrame { path: PathBuf, name: String, hint: String },
    #[error("{}: several table folders ({found}); open one of them, for example {}/{first}", path.display(), path.display())]
    Versions { path: PathBuf, found: String, first: String },
}
