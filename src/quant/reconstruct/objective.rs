//! What a unit makes less: the error of its own outputs, and what its network costs the task.

use super::samples::Sample;
use super::units::{Cut, Unit, cut};
use super::{Lesson, Reconstruction};
use crate::engine::float::{Dropped, Gradients, Norm, Processor, Snap};
use crate::engine::int8::Grid;
use crate::graph::{Graph, NodeId, Op, Output, Scheme};
use crate::quant::CalibrationError;
use crate::quant::task::{Outputs, Task};
use ndarray::{ArrayD, Axis, Zip};
use std::collections::BTreeMap;

/// A unit's loss.
pub struct Objective<'a> {
    processor: &'a Processor,
    pub graph: &'a Graph,
    pub unit: &'a Unit,
    pub recipe: &'a Reconstruction,
    pub lesson: Lesson,
    task: &'a dyn Task,
    /// For the error of the unit's outputs.
    own: Cut,
    /// For the task's loss.
    with_rest: Option<Cut>,
}

/// Where the variables stand.
pub struct Position {
    /// Of every layer that a cut needs: the unit's as they are now, later ones in float.
    pub params: BTreeMap<String, ArrayD<f32>>,
    /// By range.
    pub steps: BTreeMap<NodeId, f32>,
}

/// Sums over frames.
#[derive(Clone, Default)]
pub struct Loss {
    /// Squared errors and, about their mean, squares of each output of the unit.
    pub errors: Vec<[f64; 2]>,
    /// What is made less.
    pub objective: f64,
}

impl<'a> Objective<'a> {
    pub fn new(
        (processor, graph): (&'a Processor, &'a Graph),
        unit: &'a Unit,
        (recipe, lesson): (&'a Reconstruction, Lesson),
        task: &'a dyn Task,
    ) -> Self {
        let with_rest = recipe.task.map(|_| cut(graph, unit, true));
        Self { processor, graph, unit, recipe, lesson, task, own: cut(graph, unit, false), with_rest }
    }

    /// The part of the network that runs.
    pub fn widest(&self) -> &Cut {
        self.with_rest.as_ref().unwrap_or(&self.own)
    }

    pub fn name(&self, id: NodeId) -> String {
        self.graph.nodes[id].name.clone()
    }

    /// The roundings of the unit's values in a cut.
    fn snaps(&self, at: &Position, scheme: &Scheme, cut: &Cut, dropped: Option<Dropped>) -> BTreeMap<NodeId, Snap> {
        if !self.lesson.activations {
            return BTreeMap::new();
        }
        let range_of = |id: NodeId| self.unit.ranges.iter().find(|(_, nodes)| nodes.contains(&id)).map(|(&range, _)| range);
        // The parts of a concatenation are rounded already.
        let rounded = self.unit.nodes.iter().copied().filter(|&id| self.graph.nodes[id].op != Op::Concat);
        let snap = |(number, id): (usize, NodeId)| {
            let activation = scheme.activations.get(&self.name(id))?;
            let step = range_of(id).and_then(|range| at.steps.get(&range).copied()).unwrap_or(activation.scale);
            let dropped = dropped.map(|d| Dropped { seed: d.seed.wrapping_sub((number as u64) << 40), ..d });
            Some((*cut.place.get(&id)?, Snap { step, dropped, ..Snap::onto(&Grid::from(*activation)) }))
        };
        rounded.enumerate().filter_map(snap).collect()
    }

    /// Adds the gradients of a sample's loss.
    pub fn descend(&self, at: &Position, scheme: &Scheme, sample: &Sample, seed: u64, sum: &mut Sum) -> Result<(), CalibrationError> {
        let dropped = (self.recipe.dropped > 0.0).then_some(Dropped { share: self.recipe.dropped, seed });
        match (&self.with_rest, dropped) {
            (Some(cut), None) => self.run(at, scheme, sample, cut, (true, true), None, Some(sum))?,
            (None, _) => self.run(at, scheme, sample, &self.own, (true, false), dropped, Some(sum))?,
            // The task sees the unit as it will be.
            (Some(cut), Some(_)) => {
                self.run(at, scheme, sample, &self.own, (true, false), dropped, Some(&mut *sum))?;
                self.run(at, scheme, sample, cut, (false, true), None, Some(sum))?
            }
        };
        Ok(())
    }

    /// Sums over samples.
    pub fn judge(&self, at: &Position, scheme: &Scheme, samples: &[Sample]) -> Result<Loss, CalibrationError> {
        let mut total = Loss { errors: vec![[0.0; 2]; self.unit.outputs.len()], ..Loss::default() };
        for sample in samples {
            let loss = match &self.with_rest {
                Some(cut) => self.run(at, scheme, sample, cut, (true, true), None, None)?,
                None => self.run(at, scheme, sample, &self.own, (true, false), None, None)?,
            };
            total.objective += loss.objective;
            total.errors.iter_mut().zip(&loss.errors).for_each(|(t, e)| *t = [t[0] + e[0], t[1] + e[1]]);
        }
        Ok(total)
    }

    /// Runs a cut forwards and, if there is a sum to add gradients to, backwards.
    #[allow(clippy::too_many_arguments)] // one run, described in full
    fn run(
        &self,
        at: &Position,
        scheme: &Scheme,
        sample: &Sample,
        cut: &Cut,
        (own_errors, tasks_loss): (bool, bool),
        dropped: Option<Dropped>,
        gradients: Option<&mut Sum>,
    ) -> Result<Loss, CalibrationError> {
        let mixed = dropped.map(|dropped| sample.mixed(dropped));
        let inputs = mixed.as_ref().unwrap_or(sample.inputs());
        let snaps = self.snaps(at, scheme, cut, dropped);
        let tape = self.processor.forward_snapped(&cut.graph, &at.params, inputs, Norm::Running, snaps)?;
        let mut loss = Loss::default();
        let mut seeds: Vec<(NodeId, ArrayD<f32>)> = Vec::new();
        if own_errors {
            for (number, (&id, target)) in self.unit.outputs.iter().zip(&sample.targets).enumerate() {
                let place = cut.place[&id];
                let Some(value) = tape.value(place) else { continue };
                let (objective, errors, gradient) = error(value, target, sample.importance.get(number));
                loss.objective += objective;
                loss.errors.push(errors);
                seeds.push((place, gradient));
            }
        }
        if let (true, Some(term)) = (tasks_loss, &self.recipe.task) {
            let output = |o: &Output| Some((o.role.clone(), tape.value(o.node)?.clone()));
            // What does not depend on the unit is as good as the float network's.
            let mut outputs: Outputs = sample.teacher.clone();
            outputs.extend(cut.graph.outputs.iter().filter_map(output));
            let (objective, gradient) = self.task.loss(term.labels, &sample.teacher, &outputs)?;
            loss.objective += f64::from(term.weight) * objective;
            let felt = cut.graph.outputs.iter().filter_map(|o| Some((o.node, gradient.get(&o.role)?.mapv(|g| g * term.weight))));
            seeds.extend(felt);
        }
        if let Some(sum) = gradients {
            let is_own =
                |name: &str| self.lesson.roundings && self.unit.layers.iter().any(|&l| *name == format!("{}.weight", self.name(l)));
            let found = tape.backward(seeds, &is_own, &[]);
            let ranges = self.unit.ranges.iter().map(|(&range, nodes)| (range, nodes.iter().filter_map(|id| cut.place.get(id).copied())));
            sum.add(found, ranges.map(|(range, places)| (range, places.collect::<Vec<_>>())));
        }
        Ok(loss)
    }
}

/// Mean over positions of the squared error, weighed; the squared errors themselves with the squares of the target about its mean;
/// and the gradient of the first.
fn error(value: &ArrayD<f32>, target: &ArrayD<f32>, importance: Option<&ArrayD<f32>>) -> (f64, [f64; 2], ArrayD<f32>) {
    let channels = value.len_of(Axis(value.ndim() - 1)).max(1);
    let share = channels as f32 / value.len().max(1) as f32;
    let mut gradient = value - target;
    let squares: f64 = gradient.iter().map(|&d| f64::from(d) * f64::from(d)).sum();
    let mean = target.iter().map(|&y| f64::from(y)).sum::<f64>() / target.len().max(1) as f64;
    let energy: f64 = target.iter().map(|&y| (f64::from(y) - mean).powi(2)).sum();
    let weighed = match importance {
        None => squares,
        Some(weights) => {
            let sum = gradient.iter().zip(weights).map(|(&d, &w)| f64::from(w) * f64::from(d) * f64::from(d)).sum();
            Zip::from(&mut gradient).and(weights).par_for_each(|d, &w| *d *= w);
            sum
        }
    };
    gradient.par_mapv_inplace(|d| 2.0 * share * d);
    (weighed * f64::from(share), [squares, energy], gradient)
}

/// Gradients over a batch.
#[derive(Default)]
pub struct Sum {
    pub weights: BTreeMap<String, ArrayD<f32>>,
    /// By range.
    pub steps: BTreeMap<NodeId, f64>,
}

impl Sum {
    /// From sums to means.
    pub fn divide(&mut self, count: usize) {
        self.weights.values_mut().for_each(|sum| *sum /= count as f32);
        self.steps.values_mut().for_each(|sum| *sum /= count as f64);
    }

    fn add(&mut self, found: Gradients<f32>, ranges: impl Iterator<Item = (NodeId, Vec<NodeId>)>) {
        for (name, gradient) in found.params {
            match self.weights.get_mut(&name) {
                Some(sum) => *sum += &gradient,
                None => drop(self.weights.insert(name, gradient)),
            }
        }
        for (range, places) in ranges {
            *self.steps.entry(range).or_default() += places.iter().filter_map(|place| found.steps.get(place)).sum::<f64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        let map = |values: [f32; 4]| ArrayD::from_shape_vec(vec![1, 1, 2, 2], values.to_vec()).expect("four");
        let (value, target) = (map([1.0, 2.0, 3.0, 4.0]), map([1.0, 1.0, 1.0, 5.0]));
        let (objective, errors, gradient) = error(&value, &target, None);
        // Two positions; squares 0 1 4 1; the target's mean is 2.
        assert_eq!((objective, errors), (3.0, [6.0, 12.0]));
        assert_eq!(gradient, map([0.0, 1.0, 2.0, -1.0]));
        let (objective, _, gradient) = error(&value, &target, Some(&map([1.0, 2.0, 0.0, 4.0])));
        assert_eq!((objective, gradient), (3.0, map([0.0, 2.0, 0.0, -4.0])));
    }
}
