//! nuScenes' tables, joined: of the roof lidar and of the chosen scenes only.

use super::rows::{
    AnnotationRow, CalibratedSensorRow, CategoryRow, EgoPoseRow, InstanceRow, SampleDataRow, SampleRow, SceneRow, SensorRow, Token,
    each_row,
};
use super::{LIDAR, detection_name, stamp};
use crate::dataset::{DatasetError, FrameName, FrameSelection};
use crate::geometry::Pose;
use crate::sensor::Stamp;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Tables {
    /// Names.
    pub scenes: Vec<String>,
    /// The frames, in the order asked for.
    pub samples: Vec<Sample>,
    pub sweeps: Vec<Sweep>,
    /// Those of a sample stand together.
    pub annotations: Vec<Annotation>,
    /// Detection classes, and other categories under their own names.
    pub categories: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub token: Token,
    /// Index into the scenes' names.
    pub scene: usize,
    /// Index into the sweeps.
    pub key_frame: usize,
    pub annotations: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub stamp: Stamp,
    /// Below the data set's root.
    pub file: String,
    /// Index of the sweep before this one.
    pub previous: Option<usize>,
    pub world_from_ego: Pose,
    pub ego_from_lidar: Pose,
}

#[derive(Clone, Debug)]
pub(super) struct Annotation {
    /// Index into the categories.
    pub category: usize,
    pub world_from_object: Pose,
    /// Width, length, height.
    pub size: [f32; 3],
    /// In the world; NaN where it is not known.
    pub velocity: [f64; 3],
    pub lidar_points: u32,
    pub radar_points: u32,
}

/// What velocities are estimated over at most, seconds (the devkit's `box_velocity`).
const MAX_TIME_S: f64 = 1.5;

impl Tables {
    pub fn read(version: &Path, only: Option<&FrameSelection>) -> Result<Self, DatasetError> {
        let index = Index::read(version)?;
        let chosen = index.chosen(only)?;
        let scenes: HashSet<usize> = chosen.iter().map(|token| index.samples[token].0).collect();
        // By sample, of the scenes that are needed: chosen samples take sweeps and velocities from their neighbours.
        let needed: HashMap<Token, i64> =
            index.samples.iter().filter(|(_, (scene, _))| scenes.contains(scene)).map(|(token, (_, time))| (*token, *time)).collect();
        let (sweeps, key_frames) = read_sweeps(version, &needed)?;
        let (categories, labels) = read_categories(version)?;
        let (annotations, ranges) = read_annotations(version, &needed, &labels)?;
        let table = version.join("sample.json");
        let samples = chosen.into_iter().map(|token| {
            let missing = || row_error(&table, token, "token", "a key frame of LIDAR_TOP in sample_data.json", "none");
            let key_frame = *key_frames.get(&token).ok_or_else(missing)?;
            let annotations = ranges.get(&token).cloned().unwrap_or(0..0);
            Ok(Sample { token, scene: index.samples[&token].0, key_frame, annotations })
        });
        Ok(Self { samples: samples.collect::<Result<_, DatasetError>>()?, scenes: index.scenes, sweeps, annotations, categories })
    }
}

/// Which samples there are.
struct Index {
    path: PathBuf,
    scenes: Vec<String>,
    /// Scene and time.
    samples: HashMap<Token, (usize, i64)>,
}

impl Index {
    fn read(version: &Path) -> Result<Self, DatasetError> {
        let (mut scenes, mut by_token) = (Vec::new(), HashMap::new());
        each_row(&version.join("scene.json"), |row: SceneRow| {
            by_token.insert(row.token, scenes.len());
            scenes.push(row.name);
            Ok(())
        })?;
        let path = version.join("sample.json");
        let mut samples = HashMap::new();
        each_row(&path, |row: SampleRow| {
            let scene = *find(&by_token, row.scene_token, &path, row.token, "scene_token", "a token of scene.json")?;
            samples.insert(row.token, (scene, row.timestamp));
            Ok(())
        })?;
        Ok(Self { path, scenes, samples })
    }

    fn chosen(&self, only: Option<&FrameSelection>) -> Result<Vec<Token>, DatasetError> {
        let mut ordered: Vec<(usize, i64, Token)> = self.samples.iter().map(|(token, (scene, time))| (*scene, *time, *token)).collect();
        ordered.sort_unstable();
        let Some(only) = only else {
            return Ok(ordered.into_iter().map(|(.., token)| token).collect());
        };
        let mut chosen = Vec::new();
        for name in only.names()? {
            let text = name.to_string();
            if let Some(scene) = self.scenes.iter().position(|s| *s == text) {
                chosen.extend(ordered.iter().filter(|(s, ..)| *s == scene).map(|(.., token)| *token));
            } else if let Some(token) = Token::parse(&text).filter(|t| self.samples.contains_key(t)) {
                chosen.push(token);
            } else {
                return Err(self.unknown(&name));
            }
        }
        Ok(chosen)
    }

    fn unknown(&self, name: &FrameName) -> DatasetError {
        let first = self.scenes.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let hint = format!("name scenes or tokens of samples; the first of {} scenes are {first}", self.scenes.len());
        DatasetError::UnknownFrame { path: self.path.clone(), name: name.to_string(), hint }
    }
}

/// The lidar's sweeps, and by sample which of them is its key frame.
fn read_sweeps(version: &Path, needed: &HashMap<Token, i64>) -> Result<(Vec<Sweep>, HashMap<Token, usize>), DatasetError> {
    let mut lidars = HashSet::new();
    each_row(&version.join("sensor.json"), |row: SensorRow| {
        lidars.extend((row.channel == LIDAR).then_some(row.token));
        Ok(())
    })?;
    let mut mounts = HashMap::new();
    let table = version.join("calibrated_sensor.json");
    each_row(&table, |row: CalibratedSensorRow| {
        if lidars.contains(&row.sensor_token) {
            mounts.insert(row.token, pose(&table, row.token, row.translation, row.rotation)?);
        }
        Ok(())
    })?;
    let table = version.join("sample_data.json");
    let mut rows: Vec<SampleDataRow> = Vec::new();
    each_row(&table, |row: SampleDataRow| {
        if needed.contains_key(&row.sample_token) && mounts.contains_key(&row.calibrated_sensor_token) {
            rows.push(row);
        }
        Ok(())
    })?;
    // Poses come with every image and radar sweep too: only those of the lidar are kept.
    let mut poses: HashMap<Token, Option<Pose>> = rows.iter().map(|row| (row.ego_pose_token, None)).collect();
    let pose_table = version.join("ego_pose.json");
    each_row(&pose_table, |row: EgoPoseRow| {
        if let Some(wanted) = poses.get_mut(&row.token) {
            *wanted = Some(pose(&pose_table, row.token, row.translation, row.rotation)?);
        }
        Ok(())
    })?;
    let at: HashMap<Token, usize> = rows.iter().enumerate().map(|(i, row)| (row.token, i)).collect();
    let key_frames = rows.iter().enumerate().filter(|(_, row)| row.is_key_frame).map(|(i, row)| (row.sample_token, i)).collect();
    let sweeps = rows.into_iter().map(|row| {
        let previous =
            row.prev.map(|prev| find(&at, prev, &table, row.token, "prev", "a token of this table, of the same scene and sensor"));
        let no_pose = || row_error(&table, row.token, "ego_pose_token", "a token of ego_pose.json", row.ego_pose_token);
        Ok(Sweep {
            stamp: stamp(row.timestamp),
            previous: previous.transpose()?.copied(),
            world_from_ego: poses[&row.ego_pose_token].ok_or_else(no_pose)?,
            ego_from_lidar: mounts[&row.calibrated_sensor_token],
            file: row.filename,
        })
    });
    Ok((sweeps.collect::<Result<_, DatasetError>>()?, key_frames))
}

/// Names, and by instance which of them it has.
fn read_categories(version: &Path) -> Result<(Vec<String>, HashMap<Token, usize>), DatasetError> {
    let (mut names, mut by_token) = (Vec::new(), HashMap::new());
    each_row(&version.join("category.json"), |row: CategoryRow| {
        by_token.insert(row.token, names.len());
        names.push(detection_name(&row.name).map_or(row.name, str::to_owned));
        Ok(())
    })?;
    let table = version.join("instance.json");
    let mut instances = HashMap::new();
    each_row(&table, |row: InstanceRow| {
        let category = find(&by_token, row.category_token, &table, row.token, "category_token", "a token of category.json")?;
        instances.insert(row.token, *category);
        Ok(())
    })?;
    Ok((names, instances))
}

/// Where a sample's own annotations stand.
type BySample = HashMap<Token, Range<usize>>;

/// The annotations, sample by sample.
fn read_annotations(
    version: &Path,
    times: &HashMap<Token, i64>,
    instances: &HashMap<Token, usize>,
) -> Result<(Vec<Annotation>, BySample), DatasetError> {
    let table = version.join("sample_annotation.json");
    let mut rows: Vec<AnnotationRow> = Vec::new();
    each_row(&table, |row: AnnotationRow| {
        if times.contains_key(&row.sample_token) {
            rows.push(row);
        }
        Ok(())
    })?;
    // Stable: within a sample they keep the table's order.
    rows.sort_by_key(|row| (times[&row.sample_token], row.sample_token));
    let at: HashMap<Token, usize> = rows.iter().enumerate().map(|(i, row)| (row.token, i)).collect();
    let mut ranges = BySample::new();
    let mut annotations = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        ranges.entry(row.sample_token).or_insert(i..i).end = i + 1;
        let neighbour = |token: Option<Token>, field| {
            let found = token.map(|t| find(&at, t, &table, row.token, field, "a token of this table, of the same scene"));
            Ok::<_, DatasetError>(found.transpose()?.map(|&n| &rows[n]))
        };
        let instance = find(instances, row.instance_token, &table, row.token, "instance_token", "a token of instance.json")?;
        annotations.push(Annotation {
            category: *instance,
            world_from_object: pose(&table, row.token, row.translation, row.rotation)?,
            size: row.size,
            velocity: velocity(row, neighbour(row.prev, "prev")?, neighbour(row.next, "next")?, times),
            lidar_points: row.num_lidar_pts,
            radar_points: row.num_radar_pts,
        });
    }
    Ok((annotations, ranges))
}

/// As the devkit's `box_velocity`: from the annotation before to that after, or to or from this one where there is only one of
/// the two; not over too long a time.
fn velocity(
    current: &AnnotationRow,
    before: Option<&AnnotationRow>,
    after: Option<&AnnotationRow>,
    times: &HashMap<Token, i64>,
) -> [f64; 3] {
    let limit_s = match (before, after) {
        (None, None) => return [f64::NAN; 3],
        (Some(_), Some(_)) => 2.0 * MAX_TIME_S,
        _ => MAX_TIME_S,
    };
    let (first, last) = (before.unwrap_or(current), after.unwrap_or(current));
    let elapsed_s = 1e-6 * times[&last.sample_token].saturating_sub(times[&first.sample_token]) as f64;
    if elapsed_s > limit_s || elapsed_s <= 0.0 {
        return [f64::NAN; 3];
    }
    [0, 1, 2].map(|i| (last.translation[i] - first.translation[i]) / elapsed_s)
}

fn pose(path: &Path, token: Token, translation: [f64; 3], [w, x, y, z]: [f64; 4]) -> Result<Pose, DatasetError> {
    let wrong = || row_error(path, token, "rotation", "a quaternion of length 1", format_args!("{:?}", [w, x, y, z]));
    Pose::from_parts(translation, [x, y, z, w]).ok_or_else(wrong)
}

/// The row that another one refers to.
fn find<'m, V>(
    rows: &'m HashMap<Token, V>,
    wanted: Token,
    path: &Path,
    token: Token,
    field: &'static str,
    expected: &'static str,
) -> Result<&'m V, DatasetError> {
    rows.get(&wanted).ok_or_else(|| row_error(path, token, field, expected, wanted))
}

fn row_error(path: &Path, token: Token, field: &'static str, expected: &'static str, found: impl Display) -> DatasetError {
    DatasetError::Row { path: path.to_owned(), token: token.to_string(), field, expected, found: found.to_string() }
}
