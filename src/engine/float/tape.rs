//! Running a network forwards with everything kept, and then backwards.
//!
//! The graph is static, so there is nothing to record but values: backward is the same walk from the other end, each
//! operation's gradient written by hand beside its forward.

use super::kernel::Real;
use super::ops::linear::{Layer, bias_gradient, dense};
use super::ops::norm::{self, Statistics};
use super::ops::{accumulate, concat, concat_backward, pillar, relu_backward, relu_forward};
use super::snap::Snap;
use super::{EngineError, Inputs, concrete_shape, parameter};
use crate::graph::{Graph, NodeId, Op, PillarIndex};
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Values of all nodes of one forward run, and what their gradients need besides.
pub struct Tape<'a, T> {
    graph: &'a Graph,
    params: &'a BTreeMap<String, ArrayD<T>>,
    inputs: &'a Inputs<T>,
    values: Vec<Option<ArrayD<T>>>,
    saved: Vec<Saved>,
    norm: Norm,
    snaps: BTreeMap<NodeId, Snap>,
    /// Values of nodes with a snap, before it; those of inputs are the caller's.
    exact: BTreeMap<NodeId, ArrayD<T>>,
}

enum Saved {
    Nothing,
    Statistics(Statistics),
    /// For each pillar and channel the row that was its maximum.
    Winners(Vec<u32>),
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

/// Runs `graph` and keeps every value.
///
/// # Errors
/// An input or parameter is missing or misshapen.
pub fn forward<'a, T: Real>(
    graph: &'a Graph,
    params: &'a BTreeMap<String, ArrayD<T>>,
    inputs: &'a Inputs<T>,
    norm: Norm,
) -> Result<Tape<'a, T>, EngineError> {
    forward_snapped(graph, params, inputs, norm, BTreeMap::new())
}

/// As [`forward`], with the values of some nodes rounded before anyone reads them.
///
/// # Errors
/// As [`forward`].
pub fn forward_snapped<'a, T: Real>(
    graph: &'a Graph,
    params: &'a BTreeMap<String, ArrayD<T>>,
    inputs: &'a Inputs<T>,
    norm: Norm,
    snaps: BTreeMap<NodeId, Snap>,
) -> Result<Tape<'a, T>, EngineError> {
    inputs.check(graph)?;
    for spec in graph.params() {
        parameter(params, &spec)?;
    }
    let nodes = graph.nodes.len();
    let (values, saved) = (Vec::with_capacity(nodes), Vec::with_capacity(nodes));
    let mut tape = Tape { graph, params, inputs, values, saved, norm, snaps, exact: BTreeMap::new() };
    for id in 0..nodes {
        let (value, saved) = tape.run_node(id);
        let value = tape.snap(id, value);
        tape.values.push(value);
        tape.saved.push(saved);
    }
    Ok(tape)
}

impl<T: Real> Tape<'_, T> {
    /// The value of a node; `None` for a pillar index.
    pub fn value(&self, id: NodeId) -> Option<&ArrayD<T>> {
        let node = self.graph.nodes.get(id)?;
        self.values.get(id)?.as_ref().or_else(|| self.inputs.dense.get(&node.name))
    }

    /// The value of an output, by role.
    pub fn output(&self, role: &str) -> Option<&ArrayD<T>> {
        self.value(self.graph.output(role)?)
    }

    /// What each batch norm met, by node name. Empty with [`Norm::Running`].
    pub fn batch_statistics(&self) -> BTreeMap<String, BatchStatistics> {
        let mut all = BTreeMap::new();
        if self.norm == Norm::Batch {
            for (node, saved) in self.graph.nodes.iter().zip(&self.saved) {
                if let Saved::Statistics(s) = saved {
                    let unbiased = s.count as f64 / (s.count.max(2) - 1) as f64;
                    let var = s.var.iter().map(|v| v * unbiased).collect();
                    all.insert(node.name.clone(), BatchStatistics { mean: s.mean.clone(), var });
                }
            }
        }
        all
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
        let useful = self.useful(wanted, keep);
        let mut grads: Vec<Option<ArrayD<T>>> = vec![None; self.graph.nodes.len()];
        let mut result = Gradients { params: BTreeMap::new(), nodes: BTreeMap::new(), steps: BTreeMap::new() };
        for (id, seed) in seeds {
            add_to(&mut grads[id], seed);
        }
        for id in (0..self.graph.nodes.len()).rev() {
            let Some(mut grad) = grads[id].take() else { continue };
            if keep.contains(&id) {
                result.nodes.insert(id, grad.clone());
            }
            if let (Some(snap), Some(exact)) = (self.snaps.get(&id), self.exact(id)) {
                let (before, step) = snap.backward(exact, grad);
                grad = before;
                result.steps.insert(id, step);
            }
            for (input, grad) in self.node_backward(id, grad, wanted, &useful, &mut result.params) {
                if useful[input] {
                    add_to(&mut grads[input], grad);
                }
            }
        }
        result
    }

    /// Whether a node's value depends on anything for which a gradient is wanted.
    fn useful(&self, wanted: &dyn Fn(&str) -> bool, keep: &[NodeId]) -> Vec<bool> {
        let mut useful = vec![false; self.graph.nodes.len()];
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let own = node.op.params(&node.name).iter().any(|s| s.trainable && wanted(&s.name));
            useful[id] = own || keep.contains(&id) || self.snaps.contains_key(&id) || node.inputs.iter().any(|&i| useful[i]);
        }
        useful
    }

    /// Rounds a node's value, if it has a snap.
    fn snap(&mut self, id: NodeId, value: Option<ArrayD<T>>) -> Option<ArrayD<T>> {
        let Some(snap) = self.snaps.get(&id) else { return value };
        match value {
            Some(exact) => {
                let rounded = snap.forward(&exact);
                self.exact.insert(id, exact);
                Some(rounded)
            }
            None => self.inputs.dense.get(&self.graph.nodes[id].name).map(|exact| snap.forward(exact)),
        }
    }

    /// The value of a node before its snap.
    fn exact(&self, id: NodeId) -> Option<&ArrayD<T>> {
        let unsnapped = || if self.snaps.contains_key(&id) { self.inputs.dense.get(&self.graph.nodes[id].name) } else { self.value(id) };
        self.exact.get(&id).or_else(unsnapped)
    }

    fn input(&self, id: NodeId, i: usize) -> &ArrayD<T> {
        self.value(self.graph.nodes[id].inputs[i]).expect("a dense value stands before its reader")
    }

    fn index(&self, id: NodeId, i: usize) -> &Arc<PillarIndex> {
        &self.inputs.pillars[&self.graph.nodes[self.graph.nodes[id].inputs[i]].name]
    }

    fn param(&self, id: NodeId, suffix: &str) -> &ArrayD<T> {
        &self.params[&format!("{}.{suffix}", self.graph.nodes[id].name)]
    }

    fn run_node(&self, id: NodeId) -> (Option<ArrayD<T>>, Saved) {
        let node = &self.graph.nodes[id];
        let pillar_shape = |index: &PillarIndex| concrete_shape(&node.shape, index.batch, index.rows(), index.pillars());
        let value = match &node.op {
            Op::Input | Op::PillarIndex => return (None, Saved::Nothing),
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                let layer = Layer::of(&node.op).expect("a layer");
                let input = self.input(id, 0);
                let mut out = ArrayD::zeros(layer.output_shape(input.shape()));
                let bias = layer.bias.then(|| dense(self.param(id, "bias")));
                layer.forward(input, &layer.pack(&self.param(id, "weight").view()), bias, &mut out);
                out
            }
            Op::BatchNorm { channels, eps, .. } => {
                let input = self.input(id, 0);
                let statistics = match self.norm {
                    Norm::Batch => norm::batch_statistics(input, *channels),
                    Norm::Running => {
                        let wide = |suffix: &str| self.param(id, suffix).iter().map(|x| x.as_f64()).collect();
                        Statistics { mean: wide("running_mean"), var: wide("running_var"), count: input.len() / channels }
                    }
                };
                let (weight, bias) = (dense(self.param(id, "weight")), dense(self.param(id, "bias")));
                let out = norm::normalize(input, &statistics.mean, &statistics.var, *eps, weight, bias);
                return (Some(out), Saved::Statistics(statistics));
            }
            Op::Relu => relu_forward(self.input(id, 0)),
            Op::Add => self.input(id, 0) + self.input(id, 1),
            Op::Concat => {
                let inputs: Vec<&ArrayD<T>> = (0..node.inputs.len()).map(|i| self.input(id, i)).collect();
                let mut shape = inputs[0].shape().to_vec();
                let last = shape.len() - 1;
                shape[last] = inputs.iter().map(|a| a.len_of(Axis(last))).sum();
                let mut out = ArrayD::zeros(shape);
                concat(&inputs, &mut out);
                out
            }
            Op::PillarMax => {
                let mut winners = Vec::new();
                let mut out = ArrayD::zeros(pillar_shape(self.index(id, 1)));
                pillar::max(self.input(id, 0), self.index(id, 1), &mut out, Some(&mut winners));
                return (Some(out), Saved::Winners(winners));
            }
            Op::PillarConcat => {
                let mut out = ArrayD::zeros(pillar_shape(self.index(id, 2)));
                pillar::concat(self.input(id, 0), self.input(id, 1), self.index(id, 2), &mut out);
                out
            }
            Op::PillarScatter { .. } => {
                let mut out = ArrayD::zeros(pillar_shape(self.index(id, 1)));
                pillar::scatter(self.input(id, 0), self.index(id, 1), &mut out);
                out
            }
        };
        (Some(value), Saved::Nothing)
    }

    /// Gradients of a node's inputs; those of its wanted parameters go into `params`.
    fn node_backward(
        &self,
        id: NodeId,
        grad: ArrayD<T>,
        wanted: &dyn Fn(&str) -> bool,
        useful: &[bool],
        params: &mut BTreeMap<String, ArrayD<T>>,
    ) -> Vec<(NodeId, ArrayD<T>)> {
        let node = &self.graph.nodes[id];
        let needs = |i: usize| useful[node.inputs[i]];
        let own = |suffix: &str| Some(format!("{}.{suffix}", node.name)).filter(|name| wanted(name));
        match &node.op {
            Op::Input | Op::PillarIndex => vec![],
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                let layer = Layer::of(&node.op).expect("a layer");
                let grad = if layer.relu { relu_backward(self.exact(id).expect("ran"), grad) } else { grad };
                let input = self.input(id, 0);
                if let Some(name) = own("weight") {
                    params.insert(name, layer.weight_gradient(input, &grad));
                }
                if let Some(name) = own("bias").filter(|_| layer.bias) {
                    params.insert(name, bias_gradient(&grad));
                }
                if !needs(0) {
                    return vec![];
                }
                vec![(node.inputs[0], layer.input_gradient(&self.param(id, "weight").view(), &grad, input.shape()))]
            }
            Op::BatchNorm { eps, .. } => {
                let Saved::Statistics(statistics) = &self.saved[id] else { unreachable!("batch norms save statistics") };
                let batch = self.norm == Norm::Batch;
                let weight = dense(self.param(id, "weight"));
                let (input_grad, weight_grad, bias_grad) = norm::backward(self.input(id, 0), grad, statistics, *eps, weight, batch);
                for (suffix, grad) in [("weight", weight_grad), ("bias", bias_grad)] {
                    if let Some(name) = own(suffix) {
                        params.insert(name, grad);
                    }
                }
                vec![(node.inputs[0], input_grad)]
            }
            Op::Relu => vec![(node.inputs[0], relu_backward(self.exact(id).expect("ran"), grad))],
            Op::Add => vec![(node.inputs[0], grad.clone()), (node.inputs[1], grad)],
            Op::Concat => {
                let last = Axis(grad.ndim() - 1);
                let widths: Vec<usize> = (0..node.inputs.len()).map(|i| self.input(id, i).len_of(last)).collect();
                node.inputs.iter().copied().zip(concat_backward(&widths, &grad)).collect()
            }
            Op::PillarMax => {
                let Saved::Winners(winners) = &self.saved[id] else { unreachable!("maxima save their winners") };
                vec![(node.inputs[0], pillar::max_backward(&grad, winners, self.index(id, 1).rows()))]
            }
            Op::PillarConcat => {
                let width = self.input(id, 0).len_of(Axis(1));
                let (rows, pillars) = pillar::concat_backward(&grad, width, self.index(id, 2));
                vec![(node.inputs[0], rows), (node.inputs[1], pillars)]
            }
            Op::PillarScatter { .. } => vec![(node.inputs[0], pillar::scatter_backward(&grad, self.index(id, 1)))],
        }
    }
}

fn add_to<T: Real>(slot: &mut Option<ArrayD<T>>, grad: ArrayD<T>) {
    match slot {
        Some(sum) => accumulate(sum, &grad),
        None => *slot = Some(grad),
    }
}
