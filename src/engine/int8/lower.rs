//! From a folded graph and its scheme to a flat plan.
//!
//! * Convolutions that read the same value become one wide convolution; those that read different parts of one buffer become
//!   one step of several passes (a block-diagonal, or grouped, convolution).
//! * A concatenation is no step: what is concatenated is written into one buffer straight away.
//! * Layers that stay float, and whatever has no integer form, are gathered into float segments; values change form where
//!   they cross over.

mod convolutions;

use super::arithmetic::Grid;
use super::cpu::Kernels;
use super::deferred::group_of_nodes;
use super::plan::{Addition, Buffer, FloatView, Plan, PlannedOutput, Source, Step, StepKind, View};
use super::repeat::Repeat;
use crate::engine::float::{EngineError, FloatEngine};
use crate::graph::{Dim, Graph, Node, NodeId, Op, Output, Params, Scheme, SchemeError, layer_costs};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LowerError {
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("layer `{layer}` cannot run in integers: {what}; let it stay float (lidar_ptq calibrate --float {layer})")]
    Unsupported { layer: String, what: String },
}

/// Lowers a folded graph. `deferred` are groups of outputs, by role, that are wanted at few pixels only.
///
/// # Errors
/// A scheme that does not fit, parameters that are missing, a layer that has no integer kernel.
pub(super) fn lower(
    graph: &Graph,
    params: &Params,
    scheme: &Scheme,
    kernels: &Kernels,
    deferred: &[Vec<String>],
) -> Result<Plan, LowerError> {
    scheme.check(graph)?;
    let macs = layer_costs(graph).iter().map(|l| if l.per_row { 0 } else { l.macs }).collect();
    let (readers, integer) = (readers(graph), integer_nodes(graph, scheme));
    let is_bytes = |id: NodeId| integer[id] && scheme.activations.contains_key(&graph.nodes[id].name);
    let in_concat = |id: NodeId| readers[id].iter().any(|&r| graph.nodes[r].op == Op::Concat);
    let group = group_of_nodes(graph, &readers, deferred, |id| integer[id] && !in_concat(id), is_bytes);
    let mut lowering = Lowering {
        graph,
        params,
        scheme,
        kernels,
        macs,
        readers,
        integer,
        group,
        parts: BTreeMap::new(),
        opened: BTreeSet::new(),
        bytes: BTreeMap::new(),
        floats: BTreeMap::new(),
        done: vec![false; graph.nodes.len()],
        plan: Plan::default(),
    };
    lowering.run(deferred.len())?;
    lowering.plan.place_buffers();
    Ok(lowering.plan)
}

struct Lowering<'a> {
    graph: &'a Graph,
    params: &'a Params,
    scheme: &'a Scheme,
    kernels: &'a Kernels,
    macs: Vec<u64>,
    readers: Vec<Vec<NodeId>>,
    integer: Vec<bool>,
    /// By node, if it is deferred.
    group: Vec<Option<usize>>,
    /// Values that are part of a concatenation: its node, and their first channel in it.
    parts: BTreeMap<NodeId, (NodeId, usize)>,
    /// Buffers that a step writes already.
    opened: BTreeSet<usize>,
    bytes: BTreeMap<NodeId, View>,
    floats: BTreeMap<NodeId, FloatView>,
    done: Vec<bool>,
    plan: Plan,
}

fn readers(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&i| readers[i].push(id));
    }
    readers
}

/// Which nodes yield integers, or floats out of integers.
fn integer_nodes(graph: &Graph, scheme: &Scheme) -> Vec<bool> {
    let mut integer = vec![false; graph.nodes.len()];
    let mut in_concat = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        let quantized = scheme.activations.contains_key(&node.name);
        let written_in_place = |&i: &NodeId| integer[i] && !in_concat[i] && !matches!(graph.nodes[i].op, Op::PillarScatter { .. });
        integer[id] = match node.op {
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } => scheme.is_integer(&node.name),
            Op::PillarScatter { .. } => quantized,
            Op::Add => quantized && node.inputs.iter().all(|&i| scheme.activations.contains_key(&graph.nodes[i].name)),
            Op::Concat => quantized && node.inputs.iter().all(written_in_place),
            _ => false,
        };
        if integer[id] && node.op == Op::Concat {
            node.inputs.iter().for_each(|&i| in_concat[i] = true);
        }
    }
    integer
}

impl<'a> Lowering<'a> {
    fn run(&mut self, groups: usize) -> Result<(), LowerError> {
        for (id, node) in self.graph.nodes.iter().enumerate() {
            self.done[id] = matches!(node.op, Op::Input | Op::PillarIndex);
            if self.integer[id] && node.op == Op::Concat {
                let mut first = 0;
                for &input in &node.inputs {
                    self.parts.insert(input, (id, first));
                    first += channels(&self.graph.nodes[input]);
                }
            }
        }
        loop {
            self.integer_nodes(None)?;
            let mut segment: Vec<NodeId> = Vec::new();
            for (id, node) in self.graph.nodes.iter().enumerate() {
                if !self.done[id] && !self.integer[id] && node.inputs.iter().all(|i| self.done[*i] || segment.contains(i)) {
                    segment.push(id);
                }
            }
            if segment.is_empty() {
                break;
            }
            self.float_segment(&segment)?;
        }
        // What turns values into floats must not stand among deferred steps.
        self.outputs(None);
        for group in 0..groups {
            self.integer_nodes(Some(group))?;
        }
        (0..groups).for_each(|group| self.outputs(Some(group)));
        Ok(())
    }

    /// All that can be computed in integers by now.
    fn integer_nodes(&mut self, group: Option<usize>) -> Result<(), LowerError> {
        let next = |own: &Self| (0..own.graph.nodes.len()).find(|&id| own.integer[id] && own.group[id] == group && own.is_ready(id));
        while let Some(id) = next(self) {
            self.integer_node(id)?;
        }
        Ok(())
    }

    fn outputs(&mut self, group: Option<usize>) {
        for Output { role, node } in self.graph.outputs.iter().filter(|o| self.group[o.node] == group).collect::<Vec<_>>() {
            let view = self.as_floats(*node);
            self.plan.outputs.push(PlannedOutput { role: role.clone(), view, group });
        }
    }

    fn is_ready(&self, id: NodeId) -> bool {
        !self.done[id] && self.graph.nodes[id].inputs.iter().all(|&i| self.done[i])
    }

    fn node(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes[id]
    }

    fn grid(&self, id: NodeId) -> Option<Grid> {
        self.scheme.activations.get(&self.node(id).name).map(|&a| Grid::from(a))
    }

    fn integer_node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let node = self.node(id);
        match &node.op {
            Op::Concat => {
                let view = self.part_view(id)?;
                self.bytes.insert(id, view);
                self.done[id] = true;
            }
            Op::PillarScatter { .. } => {
                let features = self.as_floats(node.inputs[0]);
                let to = self.new_view(&[id], image(node).map(|[h, w, _]| [Repeat::canvas(h), Repeat::canvas(w)]))?;
                let index = self.node(node.inputs[1]).name.clone();
                self.finish_step(&[id], StepKind::Scatter { features, index, to });
                self.bytes.insert(id, to);
            }
            Op::Add => {
                let (a, b) = (self.as_bytes(node.inputs[0])?, self.as_bytes(node.inputs[1])?);
                let repeat = self.plan.buffers[a.buffer].repeat.zip(self.plan.buffers[b.buffer].repeat);
                let to = self.place(id, repeat.map(|(a, b)| [a[0].and(b[0]), a[1].and(b[1])]))?;
                let factor = |from: &View| (f64::from(from.grid.scale) / f64::from(to.grid.scale)) as f32;
                let add = Addition { a_factor: factor(&a), b_factor: factor(&b), clamp: to.grid.clamp(false) };
                let opens = self.opened.insert(to.buffer);
                self.finish_step(&[id], StepKind::Add { a, b, to, add, opens });
                self.bytes.insert(id, to);
            }
            _ => self.convolutions(id)?,
        }
        Ok(())
    }

    /// Nodes that run in float, as one engine.
    fn float_segment(&mut self, segment: &[NodeId]) -> Result<(), LowerError> {
        let inside: BTreeSet<NodeId> = segment.iter().copied().collect();
        let mut graph = Graph::default();
        let mut moved: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let (mut inputs, mut indices) = (Vec::new(), Vec::new());
        for &id in segment {
            for &input in self.node(id).inputs.iter().filter(|i| !inside.contains(i)) {
                if moved.contains_key(&input) {
                    continue;
                }
                let node = self.node(input);
                let op = if node.op == Op::PillarIndex { Op::PillarIndex } else { Op::Input };
                match node.op {
                    Op::PillarIndex => indices.push(node.name.clone()),
                    Op::Input => inputs.push((node.name.clone(), Source::Outside)),
                    _ => inputs.push((node.name.clone(), Source::Inside(self.as_floats(input)))),
                }
                graph.nodes.push(Node { op, inputs: vec![], ..node.clone() });
                moved.insert(input, graph.nodes.len() - 1);
            }
            let node = self.node(id);
            graph.nodes.push(Node { inputs: node.inputs.iter().map(|i| moved[i]).collect(), ..node.clone() });
            moved.insert(id, graph.nodes.len() - 1);
        }
        let mut outputs = Vec::new();
        for &id in segment {
            let leaves = self.graph.outputs.iter().any(|o| o.node == id);
            if leaves || self.readers[id].iter().any(|r| !inside.contains(r)) {
                let node = self.node(id);
                let array = self.new_array(node.shape.clone());
                graph.outputs.push(Output { role: node.name.clone(), node: moved[&id] });
                outputs.push((node.name.clone(), array));
                self.floats.insert(id, FloatView { array, first: 0, channels: channels(node) });
            }
        }
        let engine = Box::new(FloatEngine::new(&graph, self.params)?);
        self.finish_step(segment, StepKind::Float { engine, inputs, indices, outputs });
        Ok(())
    }

    /// A node's value as floats, converted if need be.
    fn as_floats(&mut self, id: NodeId) -> FloatView {
        if let Some(&view) = self.floats.get(&id) {
            return view;
        }
        let shape = self.node(id).shape.iter().map(|d| if *d == Dim::Batch { Dim::Fixed(1) } else { *d }).collect();
        let array = self.new_array(shape);
        let view = FloatView { array, first: 0, channels: channels(self.node(id)) };
        match self.bytes.get(&id) {
            Some(&from) => self.push(format!("{} to float", self.node(id).name), StepKind::Dequantize { from, to: array }),
            // An input of the whole graph.
            None => self.push(self.node(id).name.clone(), StepKind::Load { input: self.node(id).name.clone(), to: array }),
        }
        self.floats.insert(id, view);
        view
    }

    /// A node's value as bytes, converted if need be.
    fn as_bytes(&mut self, id: NodeId) -> Result<View, LowerError> {
        if let Some(&view) = self.bytes.get(&id) {
            return Ok(view);
        }
        let from = self.as_floats(id);
        let to = self.new_view(&[id], None)?;
        self.push(format!("{} to integers", self.node(id).name), StepKind::Quantize { from, to });
        self.bytes.insert(id, to);
        Ok(to)
    }

    /// Where a value goes: its place in a concatenation, or a buffer of its own. `repeat` is what an empty canvas yields in it.
    fn place(&mut self, id: NodeId, repeat: Option<[Repeat; 2]>) -> Result<View, LowerError> {
        if !self.parts.contains_key(&id) {
            return self.new_view(&[id], repeat);
        }
        let view = self.part_view(id)?;
        let buffer = &mut self.plan.buffers[view.buffer];
        buffer.repeat = if self.opened.contains(&view.buffer) {
            buffer.repeat.zip(repeat).map(|(a, b)| [a[0].and(b[0]), a[1].and(b[1])])
        } else {
            repeat
        };
        Ok(view)
    }

    /// The place of a value that is a concatenation or part of one.
    fn part_view(&mut self, id: NodeId) -> Result<View, LowerError> {
        if let Some(&view) = self.bytes.get(&id) {
            return Ok(view);
        }
        match self.parts.get(&id).copied() {
            Some((whole, first)) => {
                let view = self.part_view(whole)?;
                Ok(View { first: view.first + first, channels: channels(self.node(id)), ..view })
            }
            None => {
                let view = self.new_view(&[id], None)?;
                self.bytes.insert(id, view);
                Ok(view)
            }
        }
    }

    /// A new buffer for the values of these nodes, side by side.
    fn new_view(&mut self, ids: &[NodeId], repeat: Option<[Repeat; 2]>) -> Result<View, LowerError> {
        let id = ids[0];
        let Some([height, width, _]) = image(self.node(id)) else { return Err(self.unsupported(id, "its value is no image")) };
        let Some(grid) = self.grid(id) else { return Err(self.unsupported(id, "the scheme says nothing of its value")) };
        let total: usize = ids.iter().map(|&id| channels(self.node(id))).sum();
        let border = ids.iter().map(|&id| self.border(id)).max().unwrap_or(0);
        let buffer = Buffer { height, width, channels: total.next_multiple_of(4), border, zero: grid.zero, slot: 0, repeat };
        if u32::try_from(buffer.len()).is_err() {
            return Err(self.unsupported(id, "its value is larger than 4 GiB"));
        }
        self.plan.buffers.push(buffer);
        Ok(View { buffer: self.plan.buffers.len() - 1, first: 0, channels: total, grid })
    }

    /// The widest padding of any convolution that reads the value, or the concatenation that it is part of.
    fn border(&self, id: NodeId) -> usize {
        let mut widest = 0;
        let mut visit = vec![id];
        let mut seen = BTreeSet::new();
        while let Some(id) = visit.pop() {
            seen.insert(id);
            for &reader in &self.readers[id] {
                if let Op::Conv2d { padding, .. } = self.node(reader).op {
                    widest = widest.max(padding);
                }
            }
            if self.integer[id] && self.node(id).op == Op::Concat {
                visit.extend(self.node(id).inputs.iter().filter(|i| !seen.contains(i)));
            }
            visit.extend(self.parts.get(&id).map(|&(whole, _)| whole).filter(|whole| !seen.contains(whole)));
        }
        widest
    }

    fn new_array(&mut self, shape: Vec<Dim>) -> usize {
        self.plan.arrays.push(shape);
        self.plan.arrays.len() - 1
    }

    /// A step that computes these nodes.
    fn finish_step(&mut self, nodes: &[NodeId], kind: StepKind) {
        nodes.iter().for_each(|&id| self.done[id] = true);
        let names = nodes.iter().map(|&id| self.node(id).name.clone()).collect();
        let macs = nodes.iter().map(|&id| self.macs[id]).sum();
        let group = nodes.first().and_then(|&id| self.group[id]);
        self.plan.steps.push(Step { names, macs, group, kind });
    }

    /// A step that only changes a value's form.
    fn push(&mut self, name: String, kind: StepKind) {
        self.plan.steps.push(Step { names: vec![name], macs: 0, group: None, kind });
    }

    fn unsupported(&self, id: NodeId, what: &str) -> LowerError {
        LowerError::Unsupported { layer: self.node(id).name.clone(), what: what.to_owned() }
    }
}

/// Height, width and channels of an image.
fn image(node: &Node) -> Option<[usize; 3]> {
    match node.shape.as_slice() {
        &[Dim::Batch, Dim::Fixed(h), Dim::Fixed(w), Dim::Fixed(c)] => Some([h, w, c]),
        _ => None,
    }
}

fn channels(node: &Node) -> usize {
    match node.shape.last() {
        Some(&Dim::Fixed(n)) => n,
        _ => 0,
    }
}
