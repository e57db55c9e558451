//! What the two nodes do, written against frames and messages rather than against ROS.
//!
//! A frame's way: [`Inputs`] or a transport gives a cloud, [`Perception`] turns it into boxes, [`messages`] into what rviz
//! shows. [`replay`] is the detector node without a network: bags and files in, a bag and lines out.

mod input;
pub mod messages;
mod motion;
mod perception;
mod replay;
pub mod sinks;
mod summary;

pub use input::{Event, InputError, InputOptions, Inputs, OpenFrame};
pub use motion::{MotionSource, MotionTracker};
pub use perception::{Frame, FrameError, Perception};
pub use replay::{FrameRecord, FrameSink, ReplayError, replay};
pub use summary::{Stage, StageStatistics, Summary};
