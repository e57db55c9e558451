//! Training: CenterPoint's targets and losses, augmentation, the optimiser and the loop.

mod augment;
mod dataset;
#[cfg(test)]
mod device_tests;
mod folder;
mod initial;
mod log;
mod loss;
mod optimizer;
mod paste;
mod targets;
mod trainer;
mod window;

pub use augment::AugmentConfig;
pub use dataset::{DatasetExamples, NoCommonClass};
pub use folder::{ExampleFolder, FolderError, LabelledBox};
pub use initial::{Transferred, initial_params, transferred_params};
pub use log::{LogEntry, LossLog};
pub(crate) use loss::task_loss;
pub use loss::{LossConfig, TaskLoss};
pub(crate) use optimizer::Adam;
pub use optimizer::{AdamConfig, OneCycle};
pub use paste::PasteConfig;
pub(crate) use targets::targets;
pub use targets::{Targets, TaskTargets, TrainingBox};
pub use trainer::{Example, ExampleError, ExampleSource, Progress, StepReport, TrainConfig, TrainError, TrainState, Trainer};
pub use window::WindowConfig;
