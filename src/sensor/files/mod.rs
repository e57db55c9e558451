//! Point clouds from files: raw `.bin` (KITTI, nuScenes), PCD and NPY.
//!
//! A file says nothing about frames, and only its name may say when it was recorded ([`stamp_from_name`]).

mod bin;
mod builder;
mod columns;
mod listing;
mod npy;
mod pcd;
mod pyliteral;
mod scalar;

pub use bin::parse_bin;
pub use columns::ColumnsError;
pub use listing::{list_cloud_files, stamp_from_name};
pub use npy::{NpyError, parse_npy};
pub use pcd::{PcdError, parse_pcd};

use super::PointCloud;
use std::path::{Path, PathBuf};

/// The frame of clouds that come from files: these name none, and viewers refuse an empty one.
pub const FILE_FRAME: &str = "lidar";

/// A cloud, and what was left out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedCloud {
    /// Frame [`FILE_FRAME`].
    pub cloud: PointCloud,
    /// Rows dropped because x, y or z was not finite.
    pub dropped_non_finite: usize,
}

/// A file that holds no cloud that we can read.
#[derive(Debug, thiserror::Error)]
pub enum CloudFileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a point cloud file by its name; supported are .bin, .pcd.bin, .pcd and .npy")]
    Extension { path: PathBuf },
    #[error("{path}: {source}")]
    Format { path: PathBuf, source: CloudFormatError },
}

/// What is wrong with a file's content.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CloudFormatError {
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    #[error("PCD: {0}")]
    Pcd(#[from] PcdError),
    #[error("NPY: {0}")]
    Npy(#[from] NpyError),
}

/// Reads one file; the format goes by the name's ending.
///
/// `columns` names the columns of a raw `.bin` or of a plain NPY matrix, in file order; without it they are worked out
/// ([`parse_bin`]). PCD and structured NPY files name their own, and `columns` is then not looked at. The stamp is
/// that of the name or else 0. Rows with a non-finite coordinate are dropped and counted in a warning; call
/// [`parse_cloud`] to have the count.
pub fn read_cloud(path: &Path, columns: Option<&[String]>) -> Result<PointCloud, CloudFileError> {
    let bytes = std::fs::read(path).map_err(|source| CloudFileError::Io { path: path.to_owned(), source })?;
    let parsed = parse_cloud(path, &bytes, columns)?;
    if parsed.dropped_non_finite > 0 {
        tracing::warn!(path = %path.display(), dropped = parsed.dropped_non_finite, "points with non-finite coordinates dropped");
    }
    Ok(parsed.cloud)
}

/// [`read_cloud`] for bytes that have been read already; `path` only gives format and stamp.
pub fn parse_cloud(path: &Path, bytes: &[u8], columns: Option<&[String]>) -> Result<ParsedCloud, CloudFileError> {
    let parsed = match Format::of(path) {
        Some(Format::NuscenesBin) => bin::parse_nuscenes_bin(bytes, columns),
        Some(Format::Bin) => parse_bin(bytes, columns),
        Some(Format::Pcd) => parse_pcd(bytes),
        Some(Format::Npy) => parse_npy(bytes, columns),
        None => return Err(CloudFileError::Extension { path: path.to_owned() }),
    };
    let mut parsed = parsed.map_err(|source| CloudFileError::Format { path: path.to_owned(), source })?;
    parsed.cloud.stamp = stamp_from_name(path).unwrap_or_default();
    Ok(parsed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    NuscenesBin,
    Bin,
    Pcd,
    Npy,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".bin") {
            // nuScenes calls its raw files `.pcd.bin`; they have nothing to do with PCD.
            let nuscenes = lower.ends_with(".pcd.bin") || name.contains("LIDAR_TOP");
            Some(if nuscenes { Self::NuscenesBin } else { Self::Bin })
        } else if lower.ends_with(".pcd") {
            Some(Self::Pcd)
        } else if lower.ends_with(".npy") {
            Some(Self::Npy)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
