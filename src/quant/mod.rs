//! From a float model and frames without labels to a quantized model.
//!
//! [`Frames`] runs the float network and keeps what is needed of each frame. A [`Method`] is a composition: a rule that
//! [clips](Clip) ranges, over all cells or the occupied ones; a rule for the scales of weights; a rounding. [`quantize`] puts it to
//! work. What stays float, and in how many bits the rest is, is [`Policy`]. No method knows a network: what its outputs mean, a
//! [`Task`] says.

mod adaptive;
mod center_task;
mod channels;
mod equalize;
mod frames;
mod frontier;
mod layout;
mod method;
mod moments;
mod observer;
mod occupancy;
mod products;
mod progress;
mod quantizer;
mod reconstruct;
mod rectified;
mod rounding;
mod sampling;
mod shelf;
mod state_file;
mod task;
mod teacher;
#[cfg(test)]
mod tests;
mod weights;
mod windows;

pub use adaptive::LayerRounding;
pub use center_task::CenterTask;
pub use frames::{Cells, Frames};
pub use layout::{Bits, Policy};
pub use method::{METHOD_NAMES, METHODS, Method, Rounding};
pub use observer::{Candidates, Clip, Entropy, Histogram, STEP_SEARCH, Zeros};
pub use progress::{Forget, Partial, Store};
pub use quantizer::{Effort, Quantized, max_min, quantize, quantize_resuming};
pub use reconstruct::{Errors, Grouping, Reconstruction, Steps, TaskTerm};
pub use sampling::Weighing;
pub use state_file::StateFile;
pub use task::{Labels, Outputs, Task};
pub use weights::WeightScale;

use crate::engine::float::EngineError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    #[error("no layer fits `{pattern}`; the layers are: {layers}")]
    NoSuchLayer { pattern: String, layers: String },
    #[error("{what} bits: expected 2 to 8, found {found}")]
    Bits { what: &'static str, found: u8 },
    #[error("no frame was observed")]
    NoFrames,
    #[error("`{node}` took values that are not finite; these frames, or this model, cannot be used")]
    NotFinite { node: String },
    #[error("stopped before the end")]
    Stopped,
    #[error("windows of {side} cells cannot be cut out of this network's maps; a multiple of {step} can")]
    Window { side: usize, step: usize },
    #[error("the network's outputs are not those of its task: {0}")]
    Task(String),
    #[error("what was done so far cannot be kept or read: {0}")]
    Store(String),
    #[error("the scratch file in {}: {error}; make room there, or take another directory", directory.display())]
    Scratch { directory: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
}
