//! One unit learns.

use super::Reconstruction;
use super::exchange::Exchange;
use super::material::Material;
use super::objective::{Loss, Objective, Position, Sum};
use super::samples::{Sample, Sampler};
use super::units::Unit;
use super::variables::{SoftWeight, add_regularizer, undecided};
use crate::graph::{Graph, NodeId, Params, Scheme};
use crate::quant::CalibrationError;
use crate::quant::adaptive::LayerRounding;
use crate::quant::progress::Partial;
use crate::quant::task::Task;
use crate::random::Rng;
use crate::train::{Adam, AdamConfig};
use ndarray::{ArrayD, arr1};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// What is learnt in one pass over the units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesson {
    pub roundings: bool,
    /// Learning rate of the activations' steps.
    pub steps: Option<f64>,
    /// Whether activations are rounded meanwhile.
    pub activations: bool,
    pub iterations: usize,
}

/// AdaRound's weight of the regulariser beside the error, its exponent from the end of the warm-up to that of the lesson, and the share
/// of the lesson that is warm-up.
const REGULARIZATION: f32 = 0.01;
const BETA: [f32; 2] = [20.0, 2.0];
const WARM_UP: f64 = 0.2;
/// How far a variable can get at least, in units of its own: from one end (-2.4) to the other and back. A lesson that is too short for the
/// published learning rate has a higher one.
const REACH: f64 = 10.0;
/// How far a step can get at least, as a share of what was observed; the rate falls along a half cosine.
const STEP_REACH: f64 = 1.0;
/// Frames, or windows of them, by which a unit is judged before and after.
const JUDGED: usize = 16;

const ADAM: AdamConfig =
    AdamConfig { lr: 0.0, momentum: [0.9; 2], beta2: 0.999, division: 1.0, rise: 0.0, weight_decay: 0.0, clip_norm: f64::INFINITY };
const MOMENTUM: f64 = 0.9;

/// A unit with what it learns from.
pub struct Learner<'a> {
    float: &'a Params,
    objective: Objective<'a>,
    sampler: Sampler<'a>,
}

impl<'a> Learner<'a> {
    /// `prefix` is the network in which this unit and later ones are float.
    pub fn new(
        material: &'a Material<'a>,
        unit: &'a Unit,
        (recipe, lesson): (&'a Reconstruction, Lesson),
        task: &'a dyn Task,
        prefix: (&Scheme, &Params),
    ) -> Result<Self, CalibrationError> {
        let graph: &Graph = &material.graph;
        let objective = Objective::new((material.processor, graph), unit, (recipe, lesson), task);
        let network = (material.processor, graph, material.params);
        let sampler = Sampler::new(network, &material.frames, task, (unit, objective.widest()), recipe, prefix)?;
        Ok(Self { float: material.params, objective, sampler })
    }

    /// Learns, and writes what was learnt into `partial` if it is better than what stood there. Says how each output of the unit fared.
    pub fn learn(
        &mut self,
        partial: &mut Partial,
        (seed, name): (u64, &str),
        progress: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<LayerRounding>, CalibrationError> {
        let mut rng = Rng::new(seed, &format!("reconstruction {name} {}", self.objective.lesson.roundings));
        let judged = self.judged(seed)?;
        let observed = self.observed_steps(&partial.scheme);
        let start = self.position(&partial.params, observed.clone());
        let before = self.objective.judge(&start, &partial.scheme, &judged)?;

        let mut at = self.position(&partial.params, observed.clone());
        let mut roundings = Roundings::new(self.soft_weights(&partial.scheme));
        let mut steps = StepVariables::new(&self.objective, observed);
        let iterations = self.objective.lesson.iterations;
        let mut exchange = Exchange::new(self.sampler.frames(), self.bytes(judged.first()), iterations);
        let mut resident = Vec::new();
        for iteration in 0..iterations {
            if let Some(frames) = exchange.due(iteration, &mut rng) {
                resident.clear();
                for frame in frames {
                    resident.push(self.sampler.sample(frame, seed)?);
                }
            }
            roundings.put_soft(&mut at);
            let mut gradients = Sum::default();
            for _ in 0..self.objective.recipe.batch {
                let sample = &resident[rng.index(resident.len())];
                self.objective.descend(&at, &partial.scheme, sample, rng.next_u64(), &mut gradients)?;
            }
            gradients.divide(self.objective.recipe.batch);
            let done = iteration as f64 / iterations as f64;
            roundings.descend(&gradients, self.objective.recipe.rounding_rate.max(REACH / iterations as f64), done);
            steps.descend(&gradients, done, &mut at);
            if !progress() {
                return Err(CalibrationError::Stopped);
            }
        }
        roundings.put_hard(self.objective.graph, &mut at);
        let after = self.objective.judge(&at, &partial.scheme, &judged)?;
        let better = after.objective < before.objective;
        tracing::debug!(
            unit = name,
            undecided = roundings.undecided(),
            before = before.objective,
            after = after.objective,
            better,
            "learnt"
        );
        if better {
            self.keep(partial, &roundings, &at);
        }
        Ok(self.report(&before, if better { &after } else { &before }))
    }

    /// Frames spread over all, by which the unit is judged.
    fn judged(&mut self, seed: u64) -> Result<Vec<Sample>, CalibrationError> {
        let frames = self.sampler.frames();
        let count = frames.min(JUDGED);
        (0..count).map(|i| self.sampler.sample(i * frames / count, seed)).collect()
    }

    fn soft_weights(&self, scheme: &Scheme) -> BTreeMap<String, SoftWeight> {
        let Objective { graph, unit, lesson, .. } = self.objective;
        let of = |&id: &NodeId| {
            let node = &graph.nodes[id];
            let weight = &self.float.0[&format!("{}.weight", node.name)];
            (node.name.clone(), SoftWeight::new(weight, &scheme.weights[&node.name], node.op.output_axis()))
        };
        unit.layers.iter().filter(|_| lesson.roundings).map(of).collect()
    }

    fn observed_steps(&self, scheme: &Scheme) -> BTreeMap<NodeId, f32> {
        let step = |&range: &NodeId| Some((range, scheme.activations.get(&self.objective.name(range))?.scale));
        self.objective.unit.ranges.keys().filter_map(step).collect()
    }

    fn position(&self, quantized: &Params, steps: BTreeMap<NodeId, f32>) -> Position {
        let mut params = self.float.0.clone();
        for &layer in &self.objective.unit.layers {
            let weight = format!("{}.weight", self.objective.name(layer));
            params.insert(weight.clone(), quantized.0[&weight].clone());
        }
        Position { params, steps }
    }

    fn keep(&self, partial: &mut Partial, roundings: &Roundings, at: &Position) {
        for (layer, weight) in roundings.hard() {
            let name = format!("{layer}.weight");
            partial.params.0.insert(name.clone(), at.params[&name].clone());
            partial.scheme.weights.insert(layer.clone(), weight);
        }
        for (range, nodes) in &self.objective.unit.ranges {
            for &node in nodes {
                if let (Some(activation), Some(&step)) =
                    (partial.scheme.activations.get_mut(&self.objective.name(node)), at.steps.get(range))
                {
                    activation.scale = step;
                }
            }
        }
    }

    fn report(&self, before: &Loss, now: &Loss) -> Vec<LayerRounding> {
        let share = |[error, energy]: [f64; 2]| error / energy.max(f64::MIN_POSITIVE);
        let outputs = self.objective.unit.outputs.iter().zip(before.errors.iter().zip(&now.errors));
        let line = |(&id, (&nearest, &now)): (&NodeId, (&[f64; 2], &[f64; 2]))| LayerRounding {
            layer: self.objective.name(id),
            nearest_error: share(nearest),
            error: share(now),
        };
        outputs.map(line).collect()
    }

    /// Of a sample.
    fn bytes(&self, sample: Option<&Sample>) -> usize {
        let Some(sample) = sample else { return 0 };
        let maps = sample.inputs().dense.values().chain(&sample.targets).chain(&sample.importance).chain(sample.teacher.values());
        let mixed = if self.objective.recipe.dropped > 0.0 { 2 } else { 1 };
        maps.map(|map| map.len() * size_of::<f32>()).sum::<usize>() * mixed
    }
}

type Variables = BTreeMap<String, ArrayD<f32>>;

/// The rounding variables of a unit's layers; none in a lesson without roundings.
struct Roundings {
    soft: BTreeMap<String, SoftWeight>,
    variables: Variables,
    adam: Adam,
}

impl Roundings {
    fn new(soft: BTreeMap<String, SoftWeight>) -> Self {
        let variables = soft.iter().map(|(layer, soft)| (layer.clone(), soft.start())).collect();
        Self { soft, variables, adam: Adam::new() }
    }

    fn put_soft(&self, at: &mut Position) {
        for (layer, soft) in &self.soft {
            at.params.insert(format!("{layer}.weight"), soft.values(&self.variables[layer]));
        }
    }

    fn put_hard(&self, graph: &Graph, at: &mut Position) {
        for (layer, weight) in self.hard() {
            let axis = graph.node(layer).map_or(0, |id| graph.nodes[id].op.output_axis());
            at.params.insert(format!("{layer}.weight"), weight.values(axis));
        }
    }

    fn hard(&self) -> impl Iterator<Item = (&String, crate::graph::Weight)> {
        self.soft.iter().map(|(layer, soft)| (layer, soft.harden(&self.variables[layer])))
    }

    /// `done` is the share of the lesson that is over.
    fn descend(&mut self, sum: &Sum, rate: f64, done: f64) {
        let of = |(layer, soft): (&String, &SoftWeight)| {
            let variables = &self.variables[layer];
            let mut gradient = soft.gradient(variables, sum.weights.get(&format!("{layer}.weight"))?);
            if done >= WARM_UP {
                let beta = BETA[0] + (BETA[1] - BETA[0]) * ((done - WARM_UP) / (1.0 - WARM_UP)) as f32;
                add_regularizer(variables, REGULARIZATION, beta, &mut gradient);
            }
            Some((layer.clone(), gradient))
        };
        let mut gradients: Variables = self.soft.iter().filter_map(of).collect();
        self.adam.step(&ADAM, (rate, MOMENTUM), &mut self.variables, &mut gradients);
    }

    fn undecided(&self) -> f64 {
        self.variables.values().map(undecided).sum::<f64>() / self.variables.len().max(1) as f64
    }
}

/// The steps of a unit's activations, in units of their learning rates, which may differ: Adam's moves do not depend on a variable's
/// unit. None in a lesson without steps.
struct StepVariables {
    observed: BTreeMap<NodeId, f32>,
    rates: BTreeMap<NodeId, f32>,
    variables: Variables,
    adam: Adam,
}

impl StepVariables {
    fn new(objective: &Objective<'_>, observed: BTreeMap<NodeId, f32>) -> Self {
        let least = |step: f32| STEP_REACH * f64::from(step) / objective.lesson.iterations.max(1) as f64;
        let rates: BTreeMap<NodeId, f32> = match objective.lesson.steps {
            Some(rate) => observed.iter().map(|(&range, &step)| (range, rate.max(least(step)) as f32)).collect(),
            None => BTreeMap::new(),
        };
        let variables = rates.iter().map(|(range, rate)| (range.to_string(), arr1(&[observed[range] / rate]).into_dyn())).collect();
        Self { observed, rates, variables, adam: Adam::new() }
    }

    /// `done` is the share of the lesson that is over.
    fn descend(&mut self, sum: &Sum, done: f64, at: &mut Position) {
        let of = |(range, rate): (&NodeId, &f32)| {
            let gradient = *sum.steps.get(range)? as f32 * rate;
            Some((range.to_string(), arr1(&[gradient]).into_dyn()))
        };
        let mut gradients: Variables = self.rates.iter().filter_map(of).collect();
        let fall = 0.5 * (1.0 + (PI * done).cos());
        self.adam.step(&ADAM, (fall, MOMENTUM), &mut self.variables, &mut gradients);
        for (range, rate) in &self.rates {
            if let (Some(variable), Some(step)) = (self.variables.get_mut(&range.to_string()), at.steps.get_mut(range)) {
                // A step that collapses, or that nothing holds, must not leave the numbers that a grid can have.
                let observed = self.observed[range];
                *step = (variable[[0]] * rate).clamp(observed * 0.2, observed * 5.0);
                variable[[0]] = *step / rate;
            }
        }
    }
}
