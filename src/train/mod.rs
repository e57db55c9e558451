//! Training: CenterPoint's targets and losses, augmentation, the optimiser and the loop.

mod augment;
mod folder;
mod initial;
mod loss;
mod optimizer;
mod targets;
mod trainer;

pub use augment::AugmentConfig;
pub use folder::{ExampleFolder, FolderError, LabelledBox};
pub use initial::initial_params;
pub use loss::{LossConfig, TaskLoss};
pub use optimizer::{AdamConfig, OneCycle};
pub use targets::{Targets, TaskTargets, TrainingBox};
pub use trainer::{Example, ExampleSource, Progress, StepReport, TrainConfig, TrainError, TrainState, Trainer};
