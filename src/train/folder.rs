//! Labelled frames in a folder: `NNNNNN.npy` with the points as the network takes them, `NNNNNN.json` with the boxes.

use super::targets::TrainingBox;
use super::trainer::{Example, ExampleError, ExampleSource};
use ndarray::Array2;
use ndarray_npy::{read_npy, write_npy};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A labelled object as the JSON file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledBox {
    /// Position in the model's list of classes.
    pub label: usize,
    pub center: [f32; 3],
    pub size: [f32; 3],
    pub yaw: f32,
    /// Absent where nobody knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity: Option<[f32; 2]>,
}

/// A folder of labelled frames.
#[derive(Clone, Debug)]
pub struct ExampleFolder {
    frames: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: no frames here; expected pairs of NAME.npy and NAME.json", .0.display())]
    Empty(PathBuf),
    #[error("{}: {source}", path.display())]
    Points { path: PathBuf, source: ndarray_npy::ReadNpyError },
    #[error("{}: {source}", path.display())]
    Boxes { path: PathBuf, source: serde_json::Error },
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: ndarray_npy::WriteNpyError },
}

impl ExampleFolder {
    /// # Errors
    /// A folder that cannot be read or holds no frame.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: folder.to_owned(), source };
        let mut frames = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == "npy") && path.with_extension("json").exists() {
                frames.push(path);
            }
        }
        if frames.is_empty() {
            return Err(FolderError::Empty(folder.to_owned()));
        }
        frames.sort();
        Ok(Self { frames })
    }

    /// Adds a frame to a folder under a name without extension. The labels come last: a frame without them does not count.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn write(folder: &Path, name: &str, points: &Array2<f32>, boxes: &[LabelledBox]) -> Result<(), FolderError> {
        let path = folder.join(format!("{name}.npy"));
        write_npy(&path, points).map_err(|source| FolderError::Write { path, source })?;
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_vec(boxes).map_err(|source| FolderError::Boxes { path: path.clone(), source })?;
        std::fs::write(&path, text).map_err(|source| FolderError::Io { path, source })
    }

    fn read_boxes(&self, index: usize) -> Result<Vec<TrainingBox>, FolderError> {
        let path = self.frames[index].with_extension("json");
        let text = std::fs::read(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
        let boxes: Vec<LabelledBox> = serde_json::from_slice(&text).map_err(|source| FolderError::Boxes { path, source })?;
        let boxes = boxes.into_iter().map(|b| TrainingBox {
            bbox: crate::geometry::Box3 { center: b.center, size: b.size, yaw: b.yaw, velocity: b.velocity.unwrap_or_default() },
            label: b.label,
            has_velocity: b.velocity.is_some(),
        });
        Ok(boxes.collect())
    }

    fn read_points(&self, index: usize) -> Result<Array2<f32>, FolderError> {
        let path = &self.frames[index];
        read_npy(path).map_err(|source| FolderError::Points { path: path.clone(), source })
    }
}

impl ExampleSource for ExampleFolder {
    fn len(&self) -> usize {
        self.frames.len()
    }

    fn example(&self, index: usize) -> Result<Example, ExampleError> {
        Ok(Example { points: self.read_points(index)?, boxes: self.read_boxes(index)? })
    }

    fn boxes(&self, index: usize) -> Result<Vec<TrainingBox>, ExampleError> {
        Ok(self.read_boxes(index)?)
    }
}
