//! How far each calibration frame has got: the network runs over the frames once, a few layers at a time.
//!
//! Layers are rounded front to back, and each stage needs its inputs as all stages before left them. Running every frame from the start
//! for each stage would cost as many networks as there are stages. Kept instead are the outputs of layers that later ones read, as
//! bytes where the scheme makes bytes of them; what lies between layers is computed again.

use super::CalibrationError;
use super::shelf::{ArrayPlace, Place, Shelf, ShelvedInputs};
use crate::engine::float::{FloatEngine, Processor, Snap};
use crate::engine::int8::Grid;
use crate::graph::{Graph, Node, NodeId, Op, Params, Scheme};
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The quantized network, up to where it has run.
pub struct Frontier<'a> {
    processor: &'a Processor,
    graph: &'a Graph,
    frames: &'a ShelvedInputs,
    /// Layers that have run.
    done: BTreeSet<NodeId>,
    /// Nodes that are yet to be seen.
    open: BTreeSet<NodeId>,
    shelf: Shelf,
    /// Of each frame, the outputs of those from which the open ones will be computed.
    kept: Vec<BTreeMap<NodeId, Kept>>,
}

/// Nodes and their values in a frame.
type Seen<'v> = [(NodeId, &'v ArrayD<f32>)];

/// A value that can be put together again, to the bit (of bytes, all zeros are positive).
enum Kept {
    Bytes { grid: Grid, shape: Vec<usize>, bytes: Place },
    Floats(ArrayPlace),
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
    /// `open` are the nodes that will be seen, each once.
    pub fn new((processor, graph): (&'a Processor, &'a Graph), frames: &'a ShelvedInputs, open: BTreeSet<NodeId>) -> Self {
        let kept = (0..frames.len()).map(|_| BTreeMap::new()).collect();
        Self { processor, graph, frames, done: BTreeSet::new(), open, shelf: frames.shelf().another(), kept }
    }

    /// Runs every frame as far as the nodes `wanted`; `observe` sees their values in each frame, those of the graph's inputs as layers
    /// round them, and may end it by returning false.
    ///
    /// Layers before them must be final in `scheme` and `params`: they do not run again. Nothing is kept for nodes that are seen.
    ///
    /// # Errors
    /// Frames that do not fit the graph; a full disk.
    pub fn advance(
        &mut self,
        wanted: &BTreeSet<NodeId>,
        (scheme, params): (&Scheme, &Params),
        observe: &mut dyn FnMut(usize, &Seen<'_>) -> bool,
    ) -> Result<bool, CalibrationError> {
        let step = self.step(wanted);
        let mut engine = FloatEngine::on(self.processor, &step.graph, params, scheme)?;
        self.done.extend(step.layers.values());
        self.open.retain(|id| !wanted.contains(id));
        let needed = self.needed();
        let names: BTreeMap<&str, NodeId> = wanted.iter().map(|&id| (self.graph.nodes[id].name.as_str(), id)).collect();
        for (f, inputs) in self.frames.iter().enumerate() {
            let mut inputs = inputs?;
            for id in &step.inputs {
                inputs.dense.insert(self.graph.nodes[*id].name.clone(), self.kept[f][id].value(&self.shelf)?);
            }
            let mut seen: BTreeMap<NodeId, ArrayD<f32>> = BTreeMap::new();
            let (kept, shelf) = (&mut self.kept[f], &self.shelf);
            kept.retain(|id, _| needed.contains(id));
            let mut failed = None;
            let is_needed = |node: &Node| step.layers.get(&node.name).is_some_and(|id| needed.contains(id));
            let watched = |node: &Node| names.contains_key(node.name.as_str()) || is_needed(node);
            engine.run_watching(&inputs, &watched, &mut |node, value| {
                if let Some(&id) = names.get(node.name.as_str()) {
                    seen.insert(id, value.clone());
                }
                if let Some(id) = step.layers.get(&node.name).filter(|id| needed.contains(id)) {
                    match Kept::new(node, value, scheme, shelf) {
                        Ok(place) => drop(kept.insert(*id, place)),
                        Err(error) => failed = Some(error),
                    }
                }
            })?;
            failed.map_or(Ok(()), Err)?;
            // Engines read inputs in place; a layer rounds them as it takes them. What was kept from before has been rounded.
            for &id in wanted {
                let node = &self.graph.nodes[id];
                if let (false, Some(value)) = (seen.contains_key(&id), inputs.dense.get(&node.name)) {
                    let mut value = value.clone();
                    if let (Op::Input, Some(&activation)) = (&node.op, scheme.activations.get(&node.name)) {
                        Snap::onto(&Grid::from(activation)).apply(&mut value);
                    }
                    seen.insert(id, value);
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

    /// Layers that have run and that open nodes come from, directly or through what has not run.
    fn needed(&self) -> BTreeSet<NodeId> {
        let nodes = &self.graph.nodes;
        let mut needed = BTreeSet::new();
        let mut met = BTreeSet::new();
        let mut open: Vec<NodeId> = self.open.iter().copied().collect();
        while let Some(id) = open.pop() {
            if self.done.contains(&id) {
                needed.insert(id);
            } else if met.insert(id) {
                open.extend(&nodes[id].inputs);
            }
        }
        needed
    }
}

impl Kept {
    fn new(node: &Node, value: &ArrayD<f32>, scheme: &Scheme, shelf: &Shelf) -> Result<Self, CalibrationError> {
        Ok(match (scheme.activations.get(&node.name), value.as_slice()) {
            (Some(&activation), Some(values)) => {
                let grid = Grid::from(activation);
                let quantizer = grid.quantizer();
                let bytes: Vec<u8> = values.par_iter().with_min_len(4096).map(|&x| quantizer.byte(x)).collect();
                Self::Bytes { grid, shape: value.shape().to_vec(), bytes: shelf.put(&bytes)? }
            }
            _ => Self::Floats(shelf.put_array(value)?),
        })
    }

    fn value(&self, shelf: &Shelf) -> Result<ArrayD<f32>, CalibrationError> {
        match self {
            Self::Bytes { grid, shape, bytes } => {
                let values = shelf.get(bytes)?.par_iter().with_min_len(4096).map(|&byte| grid.value(byte)).collect();
                Ok(ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many as it had"))
            }
            Self::Floats(value) => shelf.get_array(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::float::Inputs;
    use crate::graph::{Dim, GraphBuilder};
    use crate::quant::{Frames, Policy, max_min};
    use crate::random::Rng;

    /// A branch, a join, a layer that stays float: step by step every value is what one run of the network yields.
    #[test]
    fn step_by_step_is_as_in_one_run() {
        let conv = |inputs, kernel, stride| Op::Conv2d { inputs, outputs: 6, kernel, stride, padding: kernel / 2, bias: true, relu: true };
        let mut b = GraphBuilder::new();
        let x = b.input("x", vec![Dim::Batch, Dim::Fixed(8), Dim::Fixed(8), Dim::Fixed(3)]);
        let first = b.add("first", conv(3, 3, 1), &[x]);
        let down = b.add("down", conv(6, 3, 2), &[first]);
        let deep = b.add("deep", conv(6, 3, 1), &[down]);
        let up = b.add("up", Op::ConvTranspose2d { inputs: 6, outputs: 6, stride: 2, bias: true, relu: true }, &[deep]);
        let both = b.add("both", Op::Concat, &[first, up]);
        let shared = b.add("shared", conv(12, 3, 1), &[both]);
        let (one, two) = (b.add("one", conv(6, 1, 1), &[shared]), b.add("two", conv(6, 3, 1), &[shared]));
        b.output("one", one);
        b.output("two", two);
        let graph = b.finish().unwrap();
        let mut rng = Rng::new(3, "frontier");
        let mut params = Params::default();
        for spec in graph.params() {
            params.0.insert(spec.name, ArrayD::from_shape_simple_fn(spec.shape, || rng.range(-0.4, 0.4)));
        }
        let mut frames = Frames::new(&graph, &params).unwrap();
        for _ in 0..3 {
            let x = ArrayD::from_shape_simple_fn(vec![1, 8, 8, 3], || rng.range(-1.0, 1.0));
            frames.observe(&Inputs::default().with_dense("x", x)).unwrap();
        }
        let policy = Policy { float: vec!["deep".into()], ..Policy::default() };
        let scheme = max_min(&frames, &policy, Vec::new()).unwrap().scheme;

        let mut whole = FloatEngine::with_scheme(&graph, &params, &scheme).unwrap();
        let mut values: Vec<BTreeMap<NodeId, ArrayD<f32>>> = Vec::new();
        for inputs in frames.kept().iter() {
            let inputs = &inputs.unwrap();
            let mut of_frame = BTreeMap::new();
            let id = |node: &Node| graph.nodes.iter().position(|n| n.name == node.name).unwrap();
            whole.run_observing(inputs, &mut |node, value| drop(of_frame.insert(id(node), value.clone()))).unwrap();
            values.push(of_frame);
        }
        let mut frontier =
            Frontier::new((frames.processor(), &graph), frames.kept(), BTreeSet::from([first, down, deep, both, shared, one]));
        let mut compared = 0;
        for (wanted, kept) in
            [(first, vec![first]), (down, vec![first, down]), (deep, vec![first, deep]), (both, vec![first, up]), (shared, vec![shared])]
        {
            let all = BTreeSet::from([wanted]);
            let seen = &mut |f: usize, seen: &[(NodeId, &ArrayD<f32>)]| {
                assert_eq!(seen.len(), 1);
                assert_eq!(seen[0].1, &values[f][&wanted], "{} of frame {f}", graph.nodes[wanted].name);
                compared += 1;
                true
            };
            assert!(frontier.advance(&all, (&scheme, &params), seen).unwrap());
            assert_eq!(frontier.kept[0].keys().copied().collect::<Vec<_>>(), kept, "behind {}", graph.nodes[wanted].name);
        }
        assert_eq!(compared, 15);
        assert!(frontier.advance(&BTreeSet::from([one]), (&scheme, &params), &mut |f, seen| *seen[0].1 == values[f][&one]).unwrap());
        assert!(frontier.kept.iter().all(BTreeMap::is_empty), "kept for nobody");
    }
}
