//! What sensors deliver: images, and point clouds from wherever, gathered over time, and the matrix that a network is fed with.

mod cloud;
pub(crate) mod columns;
mod features;
pub mod files;
mod image;
mod point_time;
mod sweeps;
mod track;
mod transforms;

pub use cloud::{PointCloud, Stamp};
pub use features::{FeatureError, IntensityTransform, PointsConfig, assemble};
pub use files::{CloudFileError, list_cloud_files, read_cloud};
pub use image::{ImageError, RgbImage, png_size};
pub use point_time::{PointTime, PointTimeError, TIME, TimeReference, TimeUnit};
pub use sweeps::{EgoMotion, FixedFrame, LeftOut, MotionError, NoMotion, OdometryMotion, Reset, SweepBuffer, SweepReport, SweepsConfig};
pub use track::{MAX_GAP_S, PoseTrack, TrackError};
pub use transforms::{TransformBuffer, TransformError};
