//! Boxes, poses and their overlap.
//!
//! Conventions of the whole crate: metres, seconds, radians; REP-103 axes (x forward, y left, z up); `yaw` counter-clockwise
//! from x; a box is its centre and `[length, width, height]`. Every other convention is converted where it enters or leaves.

mod boxes;
mod overlap;
mod pose;

pub use boxes::{Box3, wrap_angle};
pub use overlap::{bev_intersection, bev_iou, iou_3d};
pub use pose::Pose;
