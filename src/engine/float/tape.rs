//! Running a network forwards with everything kept, and then backwards: on the CPU, or on a GPU with the CPU behind it.

use super::backend::Backend;
use super::host::Host;
use super::kernel::Real;
use super::snap::Snap;
use super::walk::{Asked, Task, Walk};
use super::{EngineError, Inputs, parameter};
use crate::engine::cuda::DeviceError;
use crate::graph::{Graph, NodeId};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Which statistics batch norm uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Those of the batch, through which gradients flow.
    Batch,
    /// The running ones, as constants: evaluation, calibration, fine-tuning with frozen statistics.
    Running,
}

/// Mean and variance that a batch norm met in [`Norm::Batch`].
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    pub mean: Vec<f64>,
    /// Unbiased, as running statistics are kept.
    pub var: Vec<f64>,
}

impl BatchStatistics {
    /// From the biased variance of so many values.
    pub(super) fn new(mean: Vec<f64>, var: &[f64], count: usize) -> Self {
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        Self { mean, var: var.iter().map(|v| v * unbiased).collect() }
    }
}

/// What backward yields.
#[derive(Debug)]
pub struct Gradients<T> {
    /// By parameter name; only those that were wanted.
    pub params: BTreeMap<String, ArrayD<T>>,
    /// Of each node's value, where one was asked for.
    pub nodes: BTreeMap<NodeId, ArrayD<T>>,
    /// Of the step of each snap that gradients reached.
    pub steps: BTreeMap<NodeId, f64>,
}

/// Values of all nodes of one forward run, and what their gradients need besides.
pub struct Tape<'a, T: Real> {
    task: Task<'a, T>,
    snaps: BTreeMap<NodeId, Snap>,
    /// Not made before it is needed where a device does the work.
    host: OnceLock<Walk<'a, T, Host>>,
    device: Option<Box<dyn DeviceWalk<T> + 'a>>,
    /// Values that were asked of the device.
    fetched: Vec<OnceLock<ArrayD<T>>>,
}

/// A walk on a device that may fail, in which case the CPU makes it once more, to the same bits.
pub(super) trait DeviceWalk<T>: Send + Sync {
    fn value(&self, id: NodeId) -> Result<Option<ArrayD<T>>, DeviceError>;
    fn batch_statistics(&self) -> Result<BTreeMap<String, BatchStatistics>, DeviceError>;
    fn backward(&self, seeds: &[(NodeId, ArrayD<T>)], asked: Asked<'_>) -> Result<Gradients<T>, DeviceError>;
    /// The device is not used any more.
    fn fail(&self, error: &DeviceError);
}

/// Runs `graph` on the CPU and keeps every value.
///
/// # Errors
/// An input or parameter is missing or misshapen.
pub fn forward<'a, T: Real>(
    graph: &'a Graph,
    params: &'a BTreeMap<String, ArrayD<T>>,
    inputs: &'a Inputs<T>,
    norm: Norm,
) -> Result<Tape<'a, T>, EngineError> {
    let task = checked(graph, params, inputs, norm)?;
    Ok(Tape::new(task, BTreeMap::new(), None))
}

/// What can be walked through without meeting anything that is missing or misshapen.
pub(super) fn checked<'a, T: Real>(
    graph: &'a Graph,
    params: &'a BTreeMap<String, ArrayD<T>>,
    inputs: &'a Inputs<T>,
    norm: Norm,
) -> Result<Task<'a, T>, EngineError> {
    inputs.check(graph)?;
    for spec in graph.params() {
        parameter(params, &spec)?;
    }
    Ok(Task { graph, params, inputs, norm })
}

impl<'a, T: Real> Tape<'a, T> {
    pub(super) fn new(task: Task<'a, T>, snaps: BTreeMap<NodeId, Snap>, device: Option<Box<dyn DeviceWalk<T> + 'a>>) -> Self {
        let fetched = (0..task.graph.nodes.len()).map(|_| OnceLock::new()).collect();
        let tape = Self { task, snaps, host: OnceLock::new(), device, fetched };
        if tape.device.is_none() {
            tape.host();
        }
        tape
    }

    /// The walk on the CPU.
    fn host(&self) -> &Walk<'a, T, Host> {
        self.host.get_or_init(|| {
            let Ok(walk) = Walk::new(Host, self.task, self.snaps.clone());
            walk
        })
    }

    /// Asks the device, if there is one; nothing if it fails.
    fn on_device<R>(&self, ask: impl FnOnce(&dyn DeviceWalk<T>) -> Result<R, DeviceError>) -> Option<R> {
        let device = self.device.as_deref().filter(|_| self.host.get().is_none())?;
        ask(device).inspect_err(|error| device.fail(error)).ok()
    }

    /// The value of a node; `None` for a pillar index.
    pub fn value(&self, id: NodeId) -> Option<&ArrayD<T>> {
        if let Some(value) = self.fetched.get(id)?.get() {
            return Some(value);
        }
        match self.on_device(|device| device.value(id)) {
            Some(value) => value.map(|value| self.fetched[id].get_or_init(|| value)),
            None => self.host().value(id).map(|value| &**value),
        }
    }

    /// The value of an output, by role.
    pub fn output(&self, role: &str) -> Option<&ArrayD<T>> {
        self.value(self.task.graph.output(role)?)
    }

    /// What each batch norm met, by node name. Empty with [`Norm::Running`].
    pub fn batch_statistics(&self) -> BTreeMap<String, BatchStatistics> {
        self.on_device(|device| device.batch_statistics()).unwrap_or_else(|| {
            let Ok(all) = self.host().batch_statistics();
            all
        })
    }

    /// The gradients of a loss, given its gradients with respect to some nodes' values.
    ///
    /// `wanted` says for which parameters a gradient is needed: nothing is computed for frozen ones, nor below the first node
    /// on which anything wanted depends. `keep` names nodes whose values' gradients are wanted too.
    pub fn backward(
        &self,
        seeds: impl IntoIterator<Item = (NodeId, ArrayD<T>)>,
        wanted: &dyn Fn(&str) -> bool,
        keep: &[NodeId],
    ) -> Gradients<T> {
        let seeds: Vec<_> = seeds.into_iter().collect();
        let asked = Asked { params: wanted, nodes: keep };
        self.on_device(|device| device.backward(&seeds, asked)).unwrap_or_else(|| {
            let own = |(id, seed)| {
                let Ok(seed) = Backend::<'a, T>::take(&Host, std::borrow::Cow::Owned(seed));
                (id, seed)
            };
            let Ok(gradients) = self.host().backward(seeds.into_iter().map(own).collect(), asked);
            gradients
        })
    }
}
