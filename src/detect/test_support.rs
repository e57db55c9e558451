//! Configurations of the public nuScenes pillar networks, and the stored outputs of their original code.

use super::*;
use crate::networks::centerpoint::{Branch, BranchRole, Dialect, Head, PillarEncoder, PillarNetwork, Rpn, Task, Upsample};
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
    use CodeBase::*;
    let names = |list: &[&str]| list.iter().map(|n| n.to_string()).collect::<Vec<String>>();
    let tasks: [&[&str]; 6] = [
        &["car"],
        &["truck", "construction_vehicle"],
        &["bus", "trailer"],
        &["barrier"],
        &["motorcycle", "bicycle"],
        &["pedestrian", "traffic_cone"],
    ];
    let roles = [BranchRole::Offset, BranchRole::Height, BranchRole::Size, BranchRole::Rotation, BranchRole::Velocity, BranchRole::Heatmap];
    let branch_names = match code_base {
        Det3d => ["reg", "height", "dim", "rot", "vel", "hm"],
        OpenPcdet => ["center", "center_z", "dim", "rot", "vel", "hm"],
        Mmdet3d => ["reg", "height", "dim", "rot", "vel", "heatmap"],
    };
    let kernel = if code_base == Mmdet3d { RotatedKernel::Mmcv } else { RotatedKernel::Iou3d };
    DetectorConfig {
        name: format!("{code_base:?}"),
        points: PointsConfig {
            features: names(&["x", "y", "z", "intensity", "time"]),
            intensity: Default::default(),
            sweeps: Default::default(),
        },
        grid: Grid { min: [-51.2, -51.2, -5.0], max: [51.2, 51.2, 3.0], voxel: [0.2, 0.2, 8.0] },
        voxelization: match code_base {
            Det3d => Voxelization::Hard { max_points: 20, max_pillars: 60_000 },
            OpenPcdet => Voxelization::Dynamic { test_z: false },
            Mmdet3d => Voxelization::Hard { max_points: 20, max_pillars: 40_000 },
        },
        network: PillarNetwork {
            dialect: match code_base {
                Det3d => Dialect::Det3d,
                OpenPcdet => Dialect::OpenPcdet,
                Mmdet3d => Dialect::Mmdet3d,
            },
            encoder: PillarEncoder {
                layers: if code_base == Mmdet3d { vec![64] } else { vec![64, 64] },
                center_offsets: if code_base == Det3d { 2 } else { 3 },
                norm_eps: 1e-3,
            },
            rpn: Rpn {
                layers: vec![3, 5, 5],
                strides: vec![2, 2, 2],
                filters: vec![64, 128, 256],
                upsample: vec![Upsample::Down2, Upsample::Same, Upsample::Transposed(2)],
                upsample_filters: vec![128; 3],
                norm_eps: 1e-3,
            },
            head: Head {
                shared_channels: 64,
                branch_channels: 64,
                bias_before_norm: code_base != Mmdet3d,
                norm_eps: 1e-5,
                tasks: tasks.iter().map(|classes| Task { classes: names(classes) }).collect(),
                branches: roles.into_iter().zip(branch_names).map(|(role, name)| Branch { role, name: name.into() }).collect(),
            },
        },
        decode: DecodeConfig {
            out_size_factor: 4,
            code: BoxCode {
                rotation: if code_base == OpenPcdet { RotationOrder::CosSin } else { RotationOrder::SinCos },
                size: if code_base == Det3d { SizeOrder::Wlh } else { SizeOrder::Lwh },
                yaw: if code_base == Det3d { YawConvention::Det3d } else { YawConvention::CounterClockwise },
            },
            candidates: if code_base == Det3d { Candidates::BestClassPerCell } else { Candidates::TopK { count: 500 } },
            score_threshold: 0.1,
            class_thresholds: Default::default(),
            post_range: [[-61.2, -61.2, -10.0], [61.2, 61.2, 10.0]],
            nms: Nms::Rotated { pre: 1000, post: 83, threshold: 0.2, kernel },
        },
    }
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
