//! What the two nodes do, written against frames and messages rather than against ROS.
//!
//! A frame's way: [`Inputs`] or a transport gives a cloud, [`Perception`] turns it into boxes, [`messages`] into what rviz
//! shows. [`DetectNode`] does so with what a transport brings, [`replay`] with bags and files, every frame of them.
//! [`CalibrateNode`] makes the models.

pub mod calibrate;
mod calibrate_node;
pub mod calibration_report;
mod describe;
mod detect_node;
mod evaluator;
mod frame_choice;
mod gather;
mod input;
mod input_params;
mod judge;
mod labelled_bag;
mod labelled_dataset;
mod labelled_frame;
pub mod ladder;
pub mod layer_report;
pub mod layer_times;
pub mod messages;
mod motion;
mod perception;
mod replay;
pub mod simulated;
pub mod sinks;
mod summary;
mod truth;
mod tuning;
mod waiting;

pub use calibrate_node::{CalibrateNode, CalibrateParams, Open};
pub use calibration_report::Phase;
pub use describe::describe;
pub use detect_node::{DetectNode, DetectParams, StartError};
pub use evaluator::{EvalOutcome, Evaluator, LabelledCloud, LabelledEvent, Labels};
pub use frame_choice::{Choice, Survey, Wanted};
pub use gather::{Gathered, Unusable, gather};
pub use input::{Event, InputError, InputOptions, Inputs, OpenFrame, UnusableFrame};
pub use judge::JudgeSink;
pub use labelled_bag::{LabelledBags, LabelledBagsError};
pub use labelled_dataset::LabelledDataset;
pub use motion::{MotionLimits, MotionSource, MotionTracker};
pub use perception::{Frame, FrameError, Perception};
pub use replay::{FrameRecord, FrameSink, ReplayError, replay};
pub use summary::{Skipped, Stage, StageStatistics, Summary};
pub use truth::{BagTruth, TruthError, TruthOptions};
pub use tuning::{SettingName, Tuning, TuningError, wanted_fields};
