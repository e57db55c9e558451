//! What a network's outputs mean to whoever uses them: all that methods know of a task.

use ndarray::ArrayD;
use std::collections::BTreeMap;

/// Values by the roles of a graph's outputs, each `[batch, height, width, channels]`.
pub type Outputs = BTreeMap<String, ArrayD<f32>>;

/// A task, seen through a float network's outputs; there are no labels.
pub trait Task: Sync {
    /// How much a squared error of each output number costs the task, given what the float network yields.
    fn importance(&self, teacher: &Outputs) -> Outputs;
}
