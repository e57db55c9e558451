//! nuScenes (Caesar et al., CVPR 2020): key frames of the roof lidar with the sweeps before them.

mod categories;
mod rows;
mod tables;

pub use categories::{DETECTION_CLASSES, detection_name};

use super::{DatasetError, EgoPoses, FrameSelection, LabelledFrame, LabelledObject};
use crate::geometry::{Box3, Pose, wrap_angle};
use crate::sensor::{OdometryMotion, PointCloud, PoseTrack, Stamp, SweepBuffer, SweepsConfig, read_cloud};
use nalgebra::Vector3;
use std::path::{Path, PathBuf};
use tables::{Annotation, Sweep, Tables};

/// The lidar that boxes are labelled in.
const LIDAR: &str = "LIDAR_TOP";
/// Columns of a sweep's file.
const COLUMNS: [&str; 5] = ["x", "y", "z", "intensity", "ring"];
/// However far apart sweeps are, they are merged, as by the devkit and by the loaders that networks were trained with, seconds.
const MAX_GAP_S: f64 = f64::INFINITY;
/// Table folders begin with this.
const VERSION: &str = "v1.0-";
/// Longer than any scene.
const HISTORY_S: f64 = 3600.0;

/// Whether a folder holds table folders, or is one.
pub(super) fn is_at(folder: &Path) -> bool {
    is_version(folder) || versions(folder).is_ok_and(|found| !found.is_empty())
}

fn is_version(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|n| n.to_str());
    name.is_some_and(|n| n.starts_with(VERSION)) && folder.join("sample.json").is_file()
}

fn versions(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        found.push(entry?.path());
    }
    found.retain(|path| is_version(path));
    found.sort();
    Ok(found)
}

/// A data set's folder: `samples`, `sweeps` and tables in `v1.0-*`.
///
/// Frames are the samples, scene by scene. Older sweeps come through the vehicle's poses. Coordinates are the lidar's own: its
/// y axis points forward.
#[derive(Clone, Debug)]
pub struct NuscenesFolder {
    root: PathBuf,
    tables: Tables,
}

impl NuscenesFolder {
    /// Reads the tables of the one version in `folder`, or of `folder` itself if it is one; all scenes, or those that are named
    /// or hold the named samples.
    ///
    /// # Errors
    /// A table that is missing or damaged, rows that refer to others that are not there, or a name that is unknown.
    pub fn open(folder: &Path, only: Option<&FrameSelection>) -> Result<Self, DatasetError> {
        let (root, version) = if is_version(folder) {
            (folder.join(".."), folder.to_owned())
        } else {
            let mut found = versions(folder).map_err(|source| DatasetError::Io { path: folder.to_owned(), source })?;
            let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match found.len() {
                0 => return Err(DatasetError::NoDataset { path: folder.to_owned() }),
                1 => (folder.to_owned(), found.remove(0)),
                _ => {
                    let names: Vec<String> = found.iter().map(name).collect();
                    return Err(DatasetError::Versions { path: folder.to_owned(), found: names.join(", "), first: names[0].clone() });
                }
            }
        };
        Ok(Self { root, tables: Tables::read(&version, only)? })
    }

    pub fn len(&self) -> usize {
        self.tables.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample's token.
    ///
    /// # Panics
    /// As every method that takes an index: it is not below [`NuscenesFolder::len`].
    pub fn id(&self, index: usize) -> String {
        self.tables.samples[index].token.to_string()
    }

    /// The name of the sample's scene: `scene-0061`.
    pub fn scene(&self, index: usize) -> &str {
        &self.tables.scenes[self.tables.samples[index].scene]
    }

    /// A key frame and as many sweeps before it as asked for, if the scene has so many.
    ///
    /// # Errors
    /// A sweep's file that is missing or damaged.
    pub fn frame(&self, index: usize, sweeps: &SweepsConfig) -> Result<LabelledFrame, DatasetError> {
        let key = &self.tables.sweeps[self.tables.samples[index].key_frame];
        let before = std::iter::successors(key.previous, |&at| self.tables.sweeps[at].previous);
        let mut older: Vec<&Sweep> = before.take(sweeps.count.saturating_sub(1)).map(|at| &self.tables.sweeps[at]).collect();
        older.reverse();

        let mut buffer = SweepBuffer::new(sweeps.clone(), MAX_GAP_S);
        let mut world_from_body = PoseTrack::new(HISTORY_S, 0.0);
        for sweep in older {
            world_from_body.push(sweep.stamp, sweep.world_from_ego);
            buffer.pass_over(&self.cloud(sweep)?);
        }
        world_from_body.push(key.stamp, key.world_from_ego);
        let motion = OdometryMotion { world_from_body, body_from_sensor: key.ego_from_lidar };
        let (cloud, _) = buffer.merge(&self.cloud(key)?, &motion);
        let ego = EgoPoses { world_from_ego: key.world_from_ego, ego_from_lidar: key.ego_from_lidar };
        Ok(LabelledFrame { id: self.id(index), cloud, objects: self.objects(index)?, ego: Some(ego) })
    }

    /// The sample's annotations; reads no cloud.
    ///
    /// # Errors
    /// None today: the tables were checked when they were read.
    pub fn objects(&self, index: usize) -> Result<Vec<LabelledObject>, DatasetError> {
        let sample = &self.tables.samples[index];
        let key = &self.tables.sweeps[sample.key_frame];
        let lidar_from_world = key.world_from_ego.compose(&key.ego_from_lidar).inverse();
        let annotations = &self.tables.annotations[sample.annotations.clone()];
        Ok(annotations.iter().map(|a| self.labelled(&lidar_from_world, a)).collect())
    }

    fn labelled(&self, lidar_from_world: &Pose, annotation: &Annotation) -> LabelledObject {
        let lidar_from_object = lidar_from_world.compose(&annotation.world_from_object);
        let velocity = lidar_from_world.0.rotation * Vector3::from(annotation.velocity);
        let [width, length, height] = annotation.size;
        LabelledObject {
            bbox: Box3 {
                center: lidar_from_object.translation().map(|v| v as f32),
                size: [length, width, height],
                yaw: wrap_angle(lidar_from_object.yaw() as f32),
                velocity: [velocity.x as f32, velocity.y as f32],
            },
            class: self.tables.categories[annotation.category].clone(),
            points: Some(annotation.lidar_points),
            radar_points: Some(annotation.radar_points),
            visibility: None,
        }
    }

    fn cloud(&self, sweep: &Sweep) -> Result<PointCloud, DatasetError> {
        let mut cloud = read_cloud(&self.root.join(&sweep.file), Some(&COLUMNS.map(str::to_owned)))?;
        cloud.stamp = sweep.stamp;
        Ok(cloud)
    }
}

/// nuScenes counts microseconds.
fn stamp(microseconds: i64) -> Stamp {
    Stamp(microseconds.saturating_mul(1000))
}
