//! KITTI's object detection benchmark (Geiger et al., CVPR 2012): folders of clouds, labels and calibrations.

mod calibration;
mod object;

pub use calibration::Calibration;
pub use object::{CLASSES, DONT_CARE, KittiObject, parse_objects};

use super::{DatasetError, FrameName, FrameSelection, LabelledFrame, LabelledObject, Visibility};
use crate::geometry::Box3;
use crate::sensor::{PointCloud, png_size, read_cloud};
use ndarray::Axis;
use std::path::{Path, PathBuf};

/// Width and height of a colour image where the image itself is not there, pixels (most frames; the others are a little smaller).
pub const IMAGE_SIZE: [u32; 2] = [1242, 375];
/// Clouds that were cropped to the camera's view before, and those of the whole turn.
const CLOUD_FOLDERS: [&str; 2] = ["velodyne_reduced", "velodyne"];
/// Columns of a cloud; reflectance is 0 to 1.
const COLUMNS: [&str; 4] = ["x", "y", "z", "intensity"];

/// Whether a folder, or `training` in it, has KITTI's layout.
pub(super) fn is_at(folder: &Path) -> bool {
    root(folder).is_some()
}

fn root(folder: &Path) -> Option<PathBuf> {
    let has = |root: &Path| root.join("label_2").is_dir() && root.join("calib").is_dir();
    [folder.to_owned(), folder.join("training")].into_iter().find(|r| has(r))
}

/// An object folder: `label_2`, `calib`, and `velodyne_reduced` or else `velodyne`; `image_2` is only asked for sizes.
///
/// Only what the left colour camera sees is labelled, so that clouds of `velodyne` are cropped to its view.
#[derive(Clone, Debug)]
pub struct KittiFolder {
    root: PathBuf,
    clouds: PathBuf,
    needs_crop: bool,
    frames: Vec<String>,
}

impl KittiFolder {
    /// Opens all labelled frames that have a cloud, or the chosen ones in their order. `folder` may be the one above `training`.
    ///
    /// # Errors
    /// A folder of another layout, or a chosen frame without label or cloud.
    pub fn open(folder: &Path, only: Option<&FrameSelection>) -> Result<Self, DatasetError> {
        let no_dataset = || DatasetError::NoDataset { path: folder.to_owned() };
        let root = root(folder).ok_or_else(no_dataset)?;
        let clouds = CLOUD_FOLDERS.iter().map(|f| root.join(f)).find(|f| f.is_dir()).ok_or_else(no_dataset)?;
        let needs_crop = clouds.ends_with(CLOUD_FOLDERS[1]);
        let mut opened = Self { root, clouds, needs_crop, frames: Vec::new() };
        opened.frames = match only {
            Some(selection) => selection.names()?.iter().map(|name| opened.named(name)).collect::<Result<_, _>>()?,
            None => opened.list()?,
        };
        Ok(opened)
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame's number as its files have it: `000042`.
    ///
    /// # Panics
    /// As every method that takes an index: it is not below [`KittiFolder::len`].
    pub fn id(&self, index: usize) -> &str {
        &self.frames[index]
    }

    /// The frame with this number.
    ///
    /// # Errors
    /// It is not among those that were opened.
    pub fn index_of(&self, id: &str) -> Result<usize, DatasetError> {
        let unknown = || DatasetError::UnknownFrame { path: self.root.clone(), name: id.to_owned(), hint: "it was not opened".to_owned() };
        self.frames.iter().position(|frame| frame == id).ok_or_else(unknown)
    }

    /// The lines of the frame's label file, `DontCare` included.
    ///
    /// # Errors
    /// A file that is missing, or a line that is no label.
    pub fn labels(&self, index: usize) -> Result<Vec<KittiObject>, DatasetError> {
        let path = self.label_path(self.id(index));
        parse_objects(&path, &read_text(&path)?)
    }

    /// # Errors
    /// A file that is missing, or a matrix that is missing or makes no sense.
    pub fn calibration(&self, index: usize) -> Result<Calibration, DatasetError> {
        let path = self.root.join("calib").join(self.id(index)).with_extension("txt");
        Calibration::parse(&path, &read_text(&path)?)
    }

    /// Width and height of the left colour image, [`IMAGE_SIZE`] where it is not there.
    pub fn image_size(&self, index: usize) -> [u32; 2] {
        let path = self.root.join("image_2").join(self.id(index)).with_extension("png");
        png_size(&path).unwrap_or(IMAGE_SIZE)
    }

    /// The frame in the lidar's frame. Objects without a box in space (`DontCare`) are not among its objects; points are counted.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn frame(&self, index: usize) -> Result<LabelledFrame, DatasetError> {
        let calibration = self.calibration(index)?;
        let cloud = self.cloud(index, &calibration)?;
        let labels = self.labels(index)?;
        let placed = labels.iter().filter(|label| label.has_box());
        let objects = placed.map(|label| labelled(label, calibration.lidar_box(&label.camera_box()), &cloud)).collect();
        Ok(LabelledFrame { id: self.id(index).to_owned(), cloud, objects, ego: None })
    }

    fn cloud(&self, index: usize, calibration: &Calibration) -> Result<PointCloud, DatasetError> {
        let cloud = read_cloud(&self.cloud_path(self.id(index)), Some(&COLUMNS.map(str::to_owned)))?;
        Ok(if self.needs_crop { cropped(cloud, calibration, self.image_size(index)) } else { cloud })
    }

    fn cloud_path(&self, id: &str) -> PathBuf {
        self.clouds.join(id).with_extension("bin")
    }

    fn label_path(&self, id: &str) -> PathBuf {
        self.root.join("label_2").join(id).with_extension("txt")
    }

    fn named(&self, name: &FrameName) -> Result<String, DatasetError> {
        let id = match name {
            FrameName::Number(number) => format!("{number:06}"),
            FrameName::Text(text) => text.clone(),
        };
        for path in [self.label_path(&id), self.cloud_path(&id)] {
            if !path.is_file() {
                return Err(DatasetError::UnknownFrame { path: self.root.clone(), name: id, hint: format!("no file {}", path.display()) });
            }
        }
        Ok(id)
    }

    fn list(&self) -> Result<Vec<String>, DatasetError> {
        let folder = self.root.join("label_2");
        let io = |source| DatasetError::Io { path: folder.clone(), source };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let stem = path.file_stem().and_then(|s| s.to_str()).filter(|_| path.extension().is_some_and(|e| e == "txt"));
            ids.extend(stem.filter(|id| self.cloud_path(id).is_file()).map(str::to_owned));
        }
        if ids.is_empty() {
            return Err(DatasetError::Empty { path: folder, expected: "NNNNNN.txt, each with its NNNNNN.bin in the cloud folder" });
        }
        ids.sort();
        Ok(ids)
    }
}

fn read_text(path: &Path) -> Result<String, DatasetError> {
    std::fs::read_to_string(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })
}

fn labelled(label: &KittiObject, bbox: Box3, cloud: &PointCloud) -> LabelledObject {
    let inside = cloud.data.rows().into_iter().filter(|p| bbox.contains([p[0], p[1], p[2]])).count();
    let &KittiObject { image_box, truncation, occlusion, .. } = label;
    LabelledObject {
        bbox,
        class: label.class.clone(),
        points: Some(inside as u32),
        radar_points: None,
        visibility: Some(Visibility { image_box, truncation, occlusion }),
    }
}

/// The points that the left colour camera sees, as `velodyne_reduced` has them.
fn cropped(mut cloud: PointCloud, calibration: &Calibration, [width, height]: [u32; 2]) -> PointCloud {
    let seen = |p: [f32; 3]| {
        let inside = |[u, v]: [f64; 2]| (0.0..f64::from(width)).contains(&u) && (0.0..f64::from(height)).contains(&v);
        calibration.pixel(p).is_some_and(inside)
    };
    let rows = cloud.data.rows().into_iter().enumerate();
    let kept: Vec<usize> = rows.filter(|(_, p)| seen([p[0], p[1], p[2]])).map(|(i, _)| i).collect();
    cloud.data = cloud.data.select(Axis(0), &kept);
    cloud
}
