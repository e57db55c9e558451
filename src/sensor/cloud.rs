//! A point cloud as a table of named columns.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

/// Nanoseconds since the epoch of the source's clock (ROS time).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub i64);

impl Stamp {
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1e9).round() as i64)
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// `self - earlier` in seconds, exact for differences up to months.
    pub fn seconds_since(self, earlier: Stamp) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 * 1e-9
    }
}

/// One lidar frame: a row per point, a named column per field.
///
/// The first three columns are always `x`, `y`, `z` in metres in `frame_id`. Others are as the sensor or file gave them
/// (`intensity`, `ring`, `time`, ...). Rows whose x, y or z is not finite have been dropped by whoever made the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct PointCloud {
    pub stamp: Stamp,
    pub frame_id: String,
    pub fields: Vec<String>,
    /// `[points, fields]`, standard layout.
    pub data: Array2<f32>,
}

impl PointCloud {
    pub fn len(&self) -> usize {
        self.data.nrows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f == name)
    }

    pub fn column(&self, name: &str) -> Option<ArrayView1<'_, f32>> {
        self.field_index(name).map(|i| self.data.column(i))
    }
}
