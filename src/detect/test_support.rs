//! Configurations of the public nuScenes pillar networks, and the stored outputs of their original code.

use super::*;
use ndarray::{Array, Array2, Dimension};
use ndarray_npy::{NpzReader, ReadableElement};
use std::fs::File;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeBase {
    Det3d,
    OpenPcdet,
    Mmdet3d,
}

impl CodeBase {
    pub const ALL: [Self; 3] = [Self::Det3d, Self::OpenPcdet, Self::Mmdet3d];
}

/// The nuScenes pillar configuration of a code base, with rotated suppression.
pub fn config(code_base: CodeBase) -> DetectorConfig {
    let preset = match code_base {
        CodeBase::Det3d => "nuscenes_pillar_det3d",
        CodeBase::OpenPcdet => "nuscenes_pillar_openpcdet",
        CodeBase::Mmdet3d => "nuscenes_pillar_mmdet3d",
    };
    DetectorConfig::load(preset).expect("a preset of this program")
}

/// The stored outputs of a code base, or `None`, with a word on stderr, where the folder is not there.
pub struct Golden {
    folder: PathBuf,
}

impl Golden {
    pub fn open(code_base: CodeBase) -> Option<Self> {
        let shared =
            std::env::var_os("LIDAR_PTQ_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
        let set = match code_base {
            CodeBase::Det3d => "A_det3d_pillar",
            CodeBase::OpenPcdet => "B_openpcdet_pillar",
            CodeBase::Mmdet3d => "C_mmdet3d_pillar02",
        };
        let folder = shared.join("golden").join(set);
        if !folder.is_dir() {
            eprintln!("skipped: {} is not there", folder.display());
            return None;
        }
        Some(Self { folder })
    }

    /// Points of an input (`s1`, `s3`): x, y, z, intensity, time.
    pub fn points(&self, input: &str) -> Array2<f32> {
        let bytes = std::fs::read(self.folder.join(format!("../A_det3d_pillar/points_{input}.bin"))).unwrap();
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Array2::from_shape_vec((values.len() / 5, 5), values).unwrap()
    }

    pub fn expected(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("expected.json")).unwrap()).unwrap()
    }

    pub fn arrays(&self, input: &str) -> GoldenArrays {
        GoldenArrays(NpzReader::new(File::open(self.folder.join(format!("golden_{input}.npz"))).unwrap()).unwrap())
    }
}

pub struct GoldenArrays(NpzReader<File>);

impl GoldenArrays {
    pub fn get<T: ReadableElement, D: Dimension>(&mut self, name: &str) -> Array<T, D> {
        self.0.by_name(name).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}
