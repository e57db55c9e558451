//! What a network's outputs mean to whoever uses them: all that methods know of a task.

use super::CalibrationError;
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// Values by the roles of a graph's outputs, each `[batch, height, width, channels]`.
pub type Outputs = BTreeMap<String, ArrayD<f32>>;

/// A task, seen through a float network's outputs; there are no labels.
pub trait Task: Sync {
    /// How much a squared error of each output number costs the task, given what the float network yields.
    fn importance(&self, teacher: &Outputs) -> Outputs;

    /// What `outputs` cost when labels are made from what the float network yields for the same frame; and the gradient.
    ///
    /// # Errors
    /// Outputs that are not this task's.
    fn loss(&self, labels: Labels, teacher: &Outputs, outputs: &Outputs) -> Result<(f64, Outputs), CalibrationError>;
}

/// What a float network's outputs are turned into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Labels {
    /// Pseudo-boxes, all alike whatever their scores: LiDAR-PTQ's Task-guided Global Positive Loss.
    Hard,
    /// That loss with the float network's scores themselves in place of what boxes would make of them.
    Soft,
    /// Nothing but scores, softened by a temperature (PD-Quant).
    Scores { temperature: f32 },
}
