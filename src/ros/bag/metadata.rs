//! rosbag2's `metadata.yaml`, and which files make up a bag.

use super::report::{BagError, Problem, ProblemKind, Report};
use serde::Deserialize;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "metadata.yaml";
/// Far above what rosbag2 writes for thousands of files and topics.
const MAX_METADATA_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct Document {
    rosbag2_bagfile_information: Information,
}

#[derive(Deserialize)]
struct Information {
    #[serde(default)]
    relative_file_paths: Vec<PathBuf>,
    #[serde(default)]
    compression_format: String,
}

/// The files of the bag in `folder`: those that its metadata lists, or without metadata those that look like bag files.
pub(super) fn bag_files(folder: &Path, report: &mut Report) -> Result<Vec<PathBuf>, BagError> {
    let metadata_path = folder.join(FILE_NAME);
    let mut files = Vec::new();
    if metadata_path.exists() {
        match read_information(&metadata_path) {
            Ok(information) => {
                if !["", "zstd"].contains(&information.compression_format.as_str()) {
                    return Err(BagError::Compression { path: metadata_path, format: information.compression_format });
                }
                // Early versions put the folder's own name before the file's. All files lie in the folder itself, and
                // taking the last part only also keeps a path from leaving it.
                files.extend(information.relative_file_paths.iter().filter_map(|p| p.file_name()).map(|name| folder.join(name)));
            }
            Err(reason) => report.add(Problem { file: metadata_path, kind: ProblemKind::Metadata { reason } }),
        }
    }
    if files.is_empty() {
        files = list_bag_files(folder).map_err(|source| BagError::Io { path: folder.to_owned(), source })?;
    }
    if files.is_empty() { Err(BagError::EmptyFolder { path: folder.to_owned() }) } else { Ok(files) }
}

fn read_information(path: &Path) -> Result<Information, String> {
    let mut text = String::new();
    fs::File::open(path).and_then(|f| f.take(MAX_METADATA_BYTES).read_to_string(&mut text)).map_err(|e| e.to_string())?;
    serde_norway::from_str::<Document>(&text).map(|d| d.rosbag2_bagfile_information).map_err(|e| e.to_string())
}

fn list_bag_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let name = name.strip_suffix(".zstd").unwrap_or(name);
        if path.is_file() && (name.ends_with(".mcap") || name.ends_with(".db3")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
