//! How far each calibration frame has got: the network runs over the frames once, a few layers at a time.
//!
//! Layers are rounded front to back, and each stage needs its inputs as all stages before left them. Running every frame from the start
//! for each stage would cost as many networks as there are stages. Kept instead are the outputs of layers that later ones read, as
//! bytes where the scheme makes bytes of them; what lies between layers is computed again.

use crate::engine::float::{EngineError, FloatEngine, Inputs};
use crate::engine::int8::Grid;
use crate::graph::{Graph, Node, NodeId, Op, Params, Scheme};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The quantized network, up to where it has run.
pub struct Frontier<'a> {
    graph: &'a Graph,
    frames: &'a [Inputs<f32>],
    /// Layers that have run.
    done: BTreeSet<NodeId>,
    /// Of each frame, the outputs of those that others still need.
    kept: Vec<BTreeMap<NodeId, Kept>>,
}

/// A value that can be put together again, to the bit.
enum Kept {
    Bytes { grid: Grid, shape: Vec<usize>, bytes: Vec<u8> },
    Floats(ArrayD<f32>),
}

/// The nodes that run in a step.
struct Step {
    /// Those that come from what is kept are inputs in it.
    graph: Graph,
    inputs: Vec<NodeId>,
    /// Layers, by name.
    layers: BTreeMap<String, NodeId>,
}

impl<'a> Frontier<'a> {
    pub fn new(graph: &'a Graph, frames: &'a [Inputs<f32>]) -> Self {
        Self { graph, frames, done: BTreeSet::new(), kept: frames.iter().map(|_| BTreeMap::new()).collect() }
    }

    /// Runs every frame as far as the nodes `wanted`; `observe` sees their values in each frame, those of the graph's inputs as layers
    /// round them, and may end it by returning false.
    ///
    /// Layers before them must be final in `scheme` and `params`: they do not run again.
    ///
    /// # Errors
    /// Frames that do not fit the graph.
    pub fn advance(
        &mut self,
        wanted: &BTreeSet<NodeId>,
        (scheme, params): (&Scheme, &Params),
        observe: &mut dyn FnMut(usize, &[(NodeId, &ArrayD<f32>)]) -> bool,
    ) -> Result<bool, EngineError> {
        let step = self.step(wanted);
        let mut engine = FloatEngine::with_scheme(&step.graph, params, scheme)?;
        self.done.extend(step.layers.values());
        let needed = self.needed();
        let names: BTreeMap<&str, NodeId> = wanted.iter().map(|&id| (self.graph.nodes[id].name.as_str(), id)).collect();
        for (f, frame) in self.frames.iter().enumerate() {
            let mut inputs = Inputs { dense: frame.dense.clone(), pillars: frame.pillars.clone() };
            for id in &step.inputs {
                inputs.dense.insert(self.graph.nodes[*id].name.clone(), self.kept[f][id].value());
            }
            let mut seen: BTreeMap<NodeId, ArrayD<f32>> = BTreeMap::new();
            let kept = &mut self.kept[f];
            kept.retain(|id, _| needed.contains(id));
            engine.run_observing(&inputs, &mut |node, value| {
                if let Some(&id) = names.get(node.name.as_str()) {
                    seen.insert(id, value.clone());
                }
                if let Some(id) = step.layers.get(&node.name).filter(|id| needed.contains(id)) {
                    kept.insert(*id, Kept::new(node, value, scheme));
                }
            })?;
            // Engines read inputs in place; a layer rounds them as it takes them. What was kept from before has been rounded.
            for &id in wanted {
                let node = &self.graph.nodes[id];
                if let (false, Some(value)) = (seen.contains_key(&id), inputs.dense.get(&node.name)) {
                    let kept = if node.op == Op::Input { Kept::new(node, value, scheme).value() } else { value.clone() };
                    seen.insert(id, kept);
                }
            }
            let all: Vec<(NodeId, &ArrayD<f32>)> = seen.iter().map(|(&id, value)| (id, value)).collect();
            if !observe(f, &all) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What must run for the values of these nodes.
    fn step(&self, wanted: &BTreeSet<NodeId>) -> Step {
        let nodes = &self.graph.nodes;
        let mut runs: BTreeSet<NodeId> = BTreeSet::new();
        let mut open: Vec<NodeId> = wanted.iter().copied().collect();
        while let Some(id) = open.pop() {
            if runs.insert(id) && !self.done.contains(&id) {
                open.extend(&nodes[id].inputs);
            }
        }
        let mut step = Step { graph: Graph::default(), inputs: Vec::new(), layers: BTreeMap::new() };
        let mut moved: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for id in runs {
            let node = &nodes[id];
            if self.done.contains(&id) {
                step.inputs.push(id);
                step.graph.nodes.push(Node { op: Op::Input, inputs: Vec::new(), ..node.clone() });
            } else {
                if node.op.is_layer() {
                    step.layers.insert(node.name.clone(), id);
                }
                step.graph.nodes.push(Node { inputs: node.inputs.iter().map(|input| moved[input]).collect(), ..node.clone() });
            }
            moved.insert(id, step.graph.nodes.len() - 1);
        }
        step
    }

    /// Layers that have run and that one which has not needs, directly or through what is no layer.
    fn needed(&self) -> BTreeSet<NodeId> {
        let nodes = &self.graph.nodes;
        let mut needed = BTreeSet::new();
        let mut met = BTreeSet::new();
        let mut open: Vec<NodeId> = (0..nodes.len()).filter(|id| nodes[*id].op.is_layer() && !self.done.contains(id)).collect();
        while let Some(id) = open.pop() {
            for &input in &nodes[id].inputs {
                if self.done.contains(&input) {
                    needed.insert(input);
                } else if met.insert(input) {
                    open.push(input);
                }
            }
        }
        needed
    }
}

impl Kept {
    fn new(node: &Node, value: &ArrayD<f32>, scheme: &Scheme) -> Self {
        match (scheme.activations.get(&node.name), value.as_slice()) {
            (Some(&activation), Some(values)) => {
                let grid = Grid::from(activation);
                let quantizer = grid.quantizer();
                let bytes = values.par_iter().with_min_len(4096).map(|&x| quantizer.byte(x)).collect();
                Self::Bytes { grid, shape: value.shape().to_vec(), bytes }
            }
            _ => Self::Floats(value.clone()),
        }
    }

    fn value(&self) -> ArrayD<f32> {
        match self {
            Self::Bytes { grid, shape, bytes } => {
                let values: Vec<f32> = bytes.par_iter().with_min_len(4096).map(|&byte| grid.value(byte)).collect();
                ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many as it had")
            }
            Self::Floats(value) => value.clone(),
        }
    }
}
