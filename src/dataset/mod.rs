//! Labelled recordings of the public data sets, as one type of labelled frames.
//!
//! Boxes stand in the frame of the lidar that the cloud came from, in this crate's convention, whatever the data set's own is.

mod error;
pub mod kitti;
pub mod nuscenes;
mod selection;

pub use error::DatasetError;
pub use kitti::KittiFolder;
pub use nuscenes::NuscenesFolder;
pub use selection::{FrameName, FrameSelection};

use crate::geometry::{Box3, Pose};
use crate::sensor::{PointCloud, SweepsConfig};
use std::path::Path;

/// A frame, and what people found in it.
#[derive(Clone, Debug)]
pub struct LabelledFrame {
    /// Unique in its recording: `000042` (KITTI), the sample's token (nuScenes).
    pub id: String,
    /// The newest sweep, older ones merged into it where the data set has them and they were asked for.
    pub cloud: PointCloud,
    pub objects: Vec<LabelledObject>,
    /// Where the vehicle was, if the data set tells.
    pub ego: Option<EgoPoses>,
}

/// Where the vehicle was when the cloud was taken, and where its lidar is mounted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EgoPoses {
    pub world_from_ego: Pose,
    pub ego_from_lidar: Pose,
}

/// An object as it is labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledObject {
    /// In the lidar frame. A velocity that is not known is NaN.
    pub bbox: Box3,
    /// KITTI's type; nuScenes' detection class, or its category where that belongs to none.
    pub class: String,
    /// Lidar points inside the box, of the newest sweep alone.
    pub points: Option<u32>,
    /// Radar returns, where they are counted: nuScenes judges objects that either sensor saw.
    pub radar_points: Option<u32>,
    /// How hard it is to see, where the data set says so.
    pub visibility: Option<Visibility>,
}

/// What KITTI's difficulties go by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visibility {
    /// Left, top, right, bottom in the left colour image, pixels.
    pub image_box: [f64; 4],
    /// Share of the object that lies outside of the image, 0 to 1.
    pub truncation: f64,
    /// 0 fully visible, 1 partly, 2 largely occluded, 3 unknown.
    pub occlusion: i32,
}

impl LabelledObject {
    pub fn has_velocity(&self) -> bool {
        self.bbox.velocity.iter().all(|v| v.is_finite())
    }
}

/// A folder of one of the data sets that this program reads.
#[derive(Clone, Debug)]
pub enum Dataset {
    Kitti(KittiFolder),
    Nuscenes(NuscenesFolder),
}

impl Dataset {
    /// Whether a folder looks like one of the data sets, by the folders in it.
    pub fn is_at(folder: &Path) -> bool {
        kitti::is_at(folder) || nuscenes::is_at(folder)
    }

    /// Opens a folder, all of it or the chosen frames in the order in which they are named.
    ///
    /// # Errors
    /// A folder of neither data set, tables that cannot be read, or a chosen frame that is not there.
    pub fn open(folder: &Path, only: Option<&FrameSelection>) -> Result<Self, DatasetError> {
        if kitti::is_at(folder) {
            Ok(Self::Kitti(KittiFolder::open(folder, only)?))
        } else if nuscenes::is_at(folder) {
            Ok(Self::Nuscenes(NuscenesFolder::open(folder, only)?))
        } else {
            Err(DatasetError::NoDataset { path: folder.to_owned() })
        }
    }

    /// Frames.
    pub fn len(&self) -> usize {
        match self {
            Self::Kitti(folder) => folder.len(),
            Self::Nuscenes(folder) => folder.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A frame with its older sweeps, as far as the recording has them.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    ///
    /// # Panics
    /// `index` is not below [`Dataset::len`].
    pub fn frame(&self, index: usize, sweeps: &SweepsConfig) -> Result<LabelledFrame, DatasetError> {
        match self {
            Self::Kitti(folder) => folder.frame(index),
            Self::Nuscenes(folder) => folder.frame(index, sweeps),
        }
    }

    /// The objects of [`Dataset::frame`], where they can be had for less than the whole frame.
    ///
    /// # Errors
    /// As [`Dataset::frame`].
    ///
    /// # Panics
    /// `index` is not below [`Dataset::len`].
    pub fn objects(&self, index: usize) -> Result<Vec<LabelledObject>, DatasetError> {
        match self {
            Self::Kitti(folder) => Ok(folder.frame(index)?.objects),
            Self::Nuscenes(folder) => folder.objects(index),
        }
    }

    /// What a frame is part of: the name of a nuScenes scene; a frame of KITTI, which stands for itself, by its number.
    ///
    /// # Panics
    /// `index` is not below [`Dataset::len`].
    pub fn recording(&self, index: usize) -> &str {
        match self {
            Self::Kitti(folder) => folder.id(index),
            Self::Nuscenes(folder) => folder.scene(index),
        }
    }

    /// The class names that labels of this data set can have.
    pub fn classes(&self) -> &'static [&'static str] {
        match self {
            Self::Kitti(_) => &kitti::CLASSES,
            Self::Nuscenes(_) => &nuscenes::DETECTION_CLASSES,
        }
    }
}
