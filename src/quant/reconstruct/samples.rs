//! What a unit learns from: a frame as it meets the unit, and what should come out.

use super::units::{Cut, Unit};
use super::{Errors, Reconstruction};
use crate::engine::float::{Dropped, EngineError, FloatEngine, Inputs, Norm, Processor, Snap};
use crate::engine::int8::Grid;
use crate::graph::{Graph, Node, NodeId, Op, Output, Params, Scheme};
use crate::quant::CalibrationError;
use crate::quant::sampling::signed_gradients;
use crate::quant::shelf::ShelvedInputs;
use crate::quant::task::{Outputs, Task};
use crate::random::Rng;
use ndarray::{ArrayD, Zip};
use std::collections::{BTreeMap, BTreeSet};

/// One frame.
pub struct Sample {
    /// Of the cut: what units before this one yield in integers.
    inputs: Inputs<f32>,
    /// The same values of the float network, if some are to be mixed in.
    exact: BTreeMap<String, ArrayD<f32>>,
    /// What the float network yields at each of the unit's outputs.
    pub targets: Vec<ArrayD<f32>>,
    /// What a squared error of each counts, if not all count alike.
    pub importance: Vec<ArrayD<f32>>,
    /// The float network's outputs, if the task is asked.
    pub teacher: Outputs,
}

impl Sample {
    pub fn inputs(&self) -> &Inputs<f32> {
        &self.inputs
    }

    /// The inputs with values of the float network at random places.
    pub fn mixed(&self, dropped: Dropped) -> Inputs<f32> {
        let mut inputs = self.inputs.clone();
        for (number, (name, exact)) in self.exact.iter().enumerate() {
            let dropped = Dropped { seed: dropped.seed.wrapping_add((number as u64) << 40), ..dropped };
            if let Some(values) = inputs.dense.get_mut(name) {
                let pairs = values.iter_mut().zip(exact).enumerate();
                pairs.filter(|(place, _)| dropped.has(*place)).for_each(|(_, (value, &exact))| *value = exact);
            }
        }
        inputs
    }
}

/// Makes samples of frames.
pub struct Sampler<'a> {
    processor: &'a Processor,
    graph: &'a Graph,
    params: &'a Params,
    frames: &'a ShelvedInputs,
    task: &'a dyn Task,
    unit: &'a Unit,
    boundary: Vec<NodeId>,
    /// Up to the unit.
    quantized: FloatEngine,
    snaps: BTreeMap<String, Snap>,
    /// Up to the unit's outputs, or the network's.
    exact: FloatEngine,
    mixes: bool,
    asks_task: bool,
    fisher: bool,
}

impl<'a> Sampler<'a> {
    /// For the unit that `cut` begins with; `prefix` is the network in which this unit and later ones are float.
    pub fn new(
        (processor, graph, params): (&'a Processor, &'a Graph, &'a Params),
        frames: &'a ShelvedInputs,
        task: &'a dyn Task,
        (unit, cut): (&'a Unit, &Cut),
        recipe: &Reconstruction,
        (scheme, prefix_params): (&Scheme, &Params),
    ) -> Result<Self, EngineError> {
        // Inputs of the network that the unit itself rounds are read as they are.
        let own_inputs = unit.nodes.iter().copied().filter(|&id| graph.nodes[id].op == Op::Input);
        let boundary: Vec<NodeId> = cut.boundary.iter().copied().chain(own_inputs).collect();
        let mut wanted = unit.outputs.clone();
        if recipe.task.is_some() {
            wanted.extend(graph.outputs.iter().map(|o| o.node));
        }
        if recipe.dropped > 0.0 {
            wanted.extend(&boundary);
        }
        let of_boundary = |&id: &NodeId| {
            let name = &graph.nodes[id].name;
            Some((name.clone(), Snap::onto(&Grid::from(*scheme.activations.get(name)?))))
        };
        Ok(Self {
            quantized: FloatEngine::on(processor, &before(graph, &boundary), prefix_params, scheme)?,
            snaps: boundary.iter().filter_map(of_boundary).collect(),
            exact: FloatEngine::on(processor, &before(graph, &wanted), params, &Scheme::default())?,
            mixes: recipe.dropped > 0.0,
            asks_task: recipe.task.is_some(),
            fisher: recipe.errors == Errors::Fisher,
            processor,
            graph,
            params,
            frames,
            task,
            unit,
            boundary,
        })
    }

    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// The sample of a frame. `seed` is of what is drawn for Fisher's matrix.
    pub fn sample(&mut self, frame: usize, seed: u64) -> Result<Sample, CalibrationError> {
        let inputs = &self.frames.get(frame)?;
        let names: BTreeSet<&str> = self.boundary.iter().map(|&id| self.graph.nodes[id].name.as_str()).collect();
        let take = |values: &mut BTreeMap<String, ArrayD<f32>>, name: &str, value: &ArrayD<f32>| {
            if names.contains(name) {
                values.insert(name.to_owned(), value.clone());
            }
        };
        let mut met = Inputs { dense: BTreeMap::new(), pillars: inputs.pillars.clone() };
        let mut exact = BTreeMap::new();
        inputs.dense.iter().for_each(|(name, value)| take(&mut met.dense, name, value));
        let on_boundary = |node: &Node| names.contains(node.name.as_str());
        self.quantized.run_watching(inputs, &on_boundary, &mut |node, value| take(&mut met.dense, &node.name, value))?;
        // A float layer's output is rounded by the integer layer that reads it.
        for (name, snap) in &self.snaps {
            if let Some(values) = met.dense.get_mut(name) {
                snap.apply(values);
            }
        }
        let mut targets: BTreeMap<NodeId, ArrayD<f32>> = BTreeMap::new();
        let output = |node: &Node| self.unit.outputs.iter().copied().find(|&id| self.graph.nodes[id].name == node.name);
        let watched = |node: &Node| self.mixes && on_boundary(node) || output(node).is_some();
        let teacher = self.exact.run_watching(inputs, &watched, &mut |node, value| {
            if self.mixes {
                take(&mut exact, &node.name, value);
            }
            if let Some(id) = output(node) {
                targets.insert(id, value.clone());
            }
        })?;
        let importance = if self.fisher { self.importance((frame, inputs), seed)? } else { Vec::new() };
        let teacher = if self.asks_task { teacher } else { Outputs::new() };
        Ok(Sample { inputs: met, exact, targets: targets.into_values().collect(), importance, teacher })
    }

    /// Squared gradients of the outputs' error, which in the mean over many frames are Fisher's diagonal, scaled to a mean of one: where
    /// all are alike this is the plain error.
    fn importance(&self, (frame, inputs): (usize, &Inputs<f32>), seed: u64) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let tape = self.processor.forward(self.graph, &self.params.0, inputs, Norm::Running)?;
        let mut rng = Rng::new(seed.wrapping_add(frame as u64), "fisher");
        let mut gradients = signed_gradients(self.graph, &tape, self.task, &mut rng, &self.unit.outputs);
        let square = |id: &NodeId| {
            let mut squares = gradients.remove(id)?.mapv(|g| g * g);
            let mean = squares.mean().unwrap_or(0.0);
            Zip::from(&mut squares).for_each(|g| *g = if mean > 0.0 { *g / mean } else { 1.0 });
            Some(squares)
        };
        Ok(self.unit.outputs.iter().filter_map(square).collect())
    }
}

/// The part of a graph that yields these nodes' values.
fn before(whole: &Graph, wanted: &[NodeId]) -> Graph {
    let mut needed = vec![false; whole.nodes.len()];
    wanted.iter().for_each(|&id| needed[id] = true);
    for id in (0..whole.nodes.len()).rev().filter(|&id| whole.nodes[id].op != Op::Input) {
        if needed[id] {
            whole.nodes[id].inputs.iter().for_each(|&input| needed[input] = true);
        }
    }
    let mut part = Graph::default();
    let mut place = BTreeMap::new();
    for id in (0..whole.nodes.len()).filter(|&id| needed[id]) {
        let node = &whole.nodes[id];
        let inputs = node.inputs.iter().map(|i| place[i]).collect();
        part.nodes.push(Node { inputs, ..node.clone() });
        place.insert(id, part.nodes.len() - 1);
    }
    let outputs = whole.outputs.iter().filter_map(|o| Some(Output { role: o.role.clone(), node: *place.get(&o.node)? }));
    part.outputs = outputs.collect();
    part
}
