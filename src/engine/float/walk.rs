//! A graph forwards with everything kept, and then backwards, on any [`Backend`].
//!
//! The graph is static, so there is nothing to record but values: backward is the same walk from the other end, each
//! operation's gradient written by hand beside its forward.

use super::Inputs;
use super::backend::{Backend, Operands, Run, Wanted};
use super::kernel::Real;
use super::snap::Snap;
use super::tape::{BatchStatistics, Gradients, Norm};
use crate::graph::{Graph, NodeId, Op, ParamSpec};
use ndarray::ArrayD;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is to be walked through. Inputs and parameters have been checked.
#[derive(Clone, Copy)]
pub(super) struct Task<'a, T> {
    pub graph: &'a Graph,
    pub params: &'a BTreeMap<String, ArrayD<T>>,
    pub inputs: &'a Inputs<T>,
    pub norm: Norm,
}

/// Which gradients are asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q> {
    /// Of parameters, by name.
    pub params: &'q dyn Fn(&str) -> bool,
    pub nodes: &'q [NodeId],
}

/// Values of all nodes of one forward run, and what their gradients need besides.
pub(super) struct Walk<'a, T: Real, B: Backend<'a, T>> {
    backend: B,
    task: Task<'a, T>,
    snaps: BTreeMap<NodeId, Snap>,
    specs: Vec<Vec<ParamSpec>>,
    params: Vec<Vec<B::Array>>,
    /// `None` of pillar indices.
    values: Vec<Option<B::Array>>,
    indices: Vec<Option<B::Index>>,
    saved: Vec<Option<B::Saved>>,
    /// Values of nodes with a snap, before it.
    exact: BTreeMap<NodeId, B::Array>,
}

impl<'a, T: Real, B: Backend<'a, T>> Walk<'a, T, B> {
    /// Forwards.
    pub fn new(backend: B, task: Task<'a, T>, snaps: BTreeMap<NodeId, Snap>) -> Result<Self, B::Error> {
        let specs = task.graph.nodes.iter().map(|node| node.op.params(&node.name)).collect();
        let (params, values, indices, saved) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut walk = Self { backend, task, snaps, specs, params, values, indices, saved, exact: BTreeMap::new() };
        for id in 0..task.graph.nodes.len() {
            walk.visit(id)?;
        }
        Ok(walk)
    }

    fn visit(&mut self, id: NodeId) -> Result<(), B::Error> {
        let Task { graph, params, inputs, norm } = self.task;
        let node = &graph.nodes[id];
        let own = self.specs[id].iter().map(|spec| self.backend.take(Cow::Borrowed(&params[&spec.name])));
        let own = own.collect::<Result<_, _>>()?;
        self.params.push(own);
        let (mut value, mut index, mut saved) = (None, None, None);
        match node.op {
            Op::PillarIndex => index = Some(self.backend.take_index(&inputs.pillars[&node.name])?),
            Op::Input => value = Some(self.backend.take(Cow::Borrowed(&inputs.dense[&node.name]))?),
            _ => {
                let (output, kept) = self.backend.forward(node, norm, &self.operands(id))?;
                (value, saved) = (Some(output), Some(kept));
            }
        }
        if let (Some(snap), Some(exact)) = (self.snaps.get(&id), &mut value) {
            let rounded = self.backend.snap(snap, exact)?;
            self.exact.insert(id, std::mem::replace(exact, rounded));
        }
        self.values.push(value);
        self.indices.push(index);
        self.saved.push(saved);
        Ok(())
    }

    fn operands(&self, id: NodeId) -> Operands<'_, B::Array, B::Index> {
        let inputs = &self.task.graph.nodes[id].inputs;
        Operands {
            inputs: inputs.iter().filter_map(|&input| self.values[input].as_ref()).collect(),
            index: inputs.iter().find_map(|&input| self.indices[input].as_ref()),
            params: &self.params[id],
        }
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The value of a node; `None` for a pillar index.
    pub fn value(&self, id: NodeId) -> Option<&B::Array> {
        self.values.get(id)?.as_ref()
    }

    /// What each batch norm met, by node name. Empty with [`Norm::Running`].
    pub fn batch_statistics(&self) -> Result<BTreeMap<String, BatchStatistics>, B::Error> {
        let mut all = BTreeMap::new();
        if self.task.norm == Norm::Running {
            return Ok(all);
        }
        for (node, saved) in self.task.graph.nodes.iter().zip(&self.saved) {
            if let Some(met) = saved.as_ref().map(|saved| self.backend.statistics(saved)).transpose()?.flatten() {
                all.insert(node.name.clone(), met);
            }
        }
        Ok(all)
    }

    /// Backwards, from gradients of some nodes' values.
    pub fn backward(&self, seeds: Vec<(NodeId, B::Array)>, asked: Asked<'_>) -> Result<Gradients<T>, B::Error> {
        let graph = self.task.graph;
        let useful = self.useful(asked);
        let mut grads: Vec<Option<B::Array>> = (0..graph.nodes.len()).map(|_| None).collect();
        let (mut params, mut nodes, mut steps) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (id, seed) in seeds {
            self.add_to(&mut grads[id], seed)?;
        }
        for id in (0..graph.nodes.len()).rev() {
            let Some(mut grad) = grads[id].take() else { continue };
            if asked.nodes.contains(&id) {
                nodes.insert(id, self.backend.copy(&grad)?);
            }
            if let (Some(snap), Some(exact)) = (self.snaps.get(&id), self.exact.get(&id)) {
                let (before, step) = self.backend.snap_backward(snap, exact, grad)?;
                grad = before;
                steps.insert(id, step);
            }
            let node = &graph.nodes[id];
            let (Some(output), Some(saved)) = (self.exact.get(&id).or(self.value(id)), &self.saved[id]) else { continue };
            let dense: Vec<NodeId> = node.inputs.iter().copied().filter(|&input| self.values[input].is_some()).collect();
            let wanted = Wanted {
                inputs: dense.iter().map(|&input| useful[input]).collect(),
                params: self.specs[id].iter().map(|spec| spec.trainable && (asked.params)(&spec.name)).collect(),
            };
            let run = Run { output, saved };
            let found = self.backend.backward(node, self.task.norm, &self.operands(id), run, grad, &wanted)?;
            for (position, grad) in found.inputs {
                if useful[dense[position]] {
                    self.add_to(&mut grads[dense[position]], grad)?;
                }
            }
            for (position, grad) in found.params {
                params.insert(self.specs[id][position].name.clone(), grad);
            }
        }
        Ok(Gradients { params: self.given(params)?, nodes: self.given(nodes)?, steps })
    }

    fn given<K: Ord>(&self, arrays: BTreeMap<K, B::Array>) -> Result<BTreeMap<K, ArrayD<T>>, B::Error> {
        arrays.into_iter().map(|(key, array)| Ok((key, self.backend.give(array)?))).collect()
    }

    fn add_to(&self, slot: &mut Option<B::Array>, grad: B::Array) -> Result<(), B::Error> {
        *slot = Some(match slot.take() {
            Some(sum) => self.backend.add(sum, grad)?,
            None => grad,
        });
        Ok(())
    }

    /// Whether a node's value depends on anything for which a gradient is wanted.
    fn useful(&self, asked: Asked<'_>) -> Vec<bool> {
        let mut useful = vec![false; self.task.graph.nodes.len()];
        for (id, node) in self.task.graph.nodes.iter().enumerate() {
            let own = self.specs[id].iter().any(|spec| spec.trainable && (asked.params)(&spec.name));
            useful[id] = own || asked.nodes.contains(&id) || self.snaps.contains_key(&id) || node.inputs.iter().any(|&input| useful[input]);
        }
        useful
    }
}
