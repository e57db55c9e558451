//! Roundings and steps by gradient descent, unit by unit: AdaRound, BRECQ, QDrop, PD-Quant and LiDAR-PTQ are settings of it.
//!
//! A unit's input is what the units before it yield as they are final, in integers; its target is what the float network yields.
//! Units behind it are float, and through them a task's loss is felt.

mod exchange;
mod learn;
mod material;
mod objective;
mod samples;
mod units;
mod variables;

pub use units::Grouping;

use super::layout::Layout;
use super::progress::{Partial, Store};
use super::quantizer::Effort;
use super::task::{Labels, Task};
use super::teacher::Teacher;
use super::{CalibrationError, Frames};
use crate::graph::{Graph, NodeId, Params, Scheme};
use learn::{Learner, Lesson};
use material::Material;
use std::collections::{BTreeMap, BTreeSet};
use units::{Unit, units};

/// What is learnt, and by which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reconstruction {
    pub grouping: Grouping,
    pub errors: Errors,
    /// Beside the error of the unit's own outputs.
    pub task: Option<TaskTerm>,
    /// Share of the values that stay float while the unit learns, each drawn anew (QDrop).
    pub dropped: f32,
    pub steps: Steps,
    /// Steps of gradient descent a unit.
    pub iterations: usize,
    /// Frames of each.
    pub batch: usize,
    /// Learning rate of the rounding variables.
    pub rounding_rate: f64,
}

/// What an error of a unit's output counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    Alike,
    /// As the diagonal of the Fisher matrix says (BRECQ).
    Fisher,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskTerm {
    pub labels: Labels,
    pub weight: f32,
}

/// Which steps of activations are learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steps {
    /// None: they stay as their observers found them.
    Observed,
    /// Together with the roundings.
    Together { rate: f64 },
    /// After all roundings, which are learnt without any rounding of activations.
    Afterwards { rate: f64, iterations: usize },
}

/// AdaRound's layers, with the settings of the public implementations.
pub const ADAROUND: Reconstruction = Reconstruction {
    grouping: Grouping::Layers,
    errors: Errors::Alike,
    task: None,
    dropped: 0.0,
    steps: Steps::Observed,
    iterations: 20_000,
    batch: 32,
    rounding_rate: 1e-3,
};
pub const BRECQ: Reconstruction = Reconstruction {
    grouping: Grouping::Blocks,
    errors: Errors::Fisher,
    steps: Steps::Afterwards { rate: 4e-4, iterations: 5_000 },
    ..ADAROUND
};
pub const QDROP: Reconstruction =
    Reconstruction { grouping: Grouping::Blocks, dropped: 0.5, steps: Steps::Together { rate: 4e-5 }, ..ADAROUND };
/// Without its correction of the inputs' distribution, which needs batch norms.
pub const PD_QUANT: Reconstruction =
    Reconstruction { task: Some(TaskTerm { labels: Labels::Scores { temperature: 4.0 }, weight: 10.0 }), rounding_rate: 3e-3, ..QDROP };
/// LiDAR-PTQ publishes neither the number of its iterations nor the weights of its terms.
pub const LIDAR_PTQ: Reconstruction = Reconstruction {
    grouping: Grouping::Blocks,
    task: Some(TaskTerm { labels: Labels::Hard, weight: 1.0 }),
    steps: Steps::Together { rate: 5e-5 },
    iterations: 20_000,
    batch: 4,
    rounding_rate: 5e-3,
    ..ADAROUND
};

impl Reconstruction {
    /// With another number of iterations a unit, of which the parts keep their proportion, and of frames.
    fn with(self, effort: Effort) -> Self {
        let wanted = effort.iterations.unwrap_or(self.iterations);
        let steps = match self.steps {
            Steps::Afterwards { rate, iterations } => {
                Steps::Afterwards { rate, iterations: (iterations * wanted).div_ceil(self.iterations) }
            }
            steps => steps,
        };
        Self { steps, iterations: wanted, batch: effort.batch.unwrap_or(self.batch).max(1), ..self }
    }

    /// One after the other, over all units.
    fn lessons(&self) -> Vec<Lesson> {
        let roundings = Lesson { roundings: true, steps: None, activations: true, iterations: self.iterations };
        match self.steps {
            Steps::Observed => vec![roundings],
            Steps::Together { rate } => vec![Lesson { steps: Some(rate), ..roundings }],
            Steps::Afterwards { rate, iterations } => vec![
                Lesson { activations: false, ..roundings },
                Lesson { roundings: false, steps: Some(rate), activations: true, iterations },
            ],
        }
    }
}

/// Learns the integers of a network's weights and the steps of its activations, both as they came from observers and rounding to
/// nearest, unit by unit. Units that are done in `partial` stay; `store` keeps it after each.
///
/// # Errors
/// Frames that do not fit the graph; a task that the outputs are not of; `progress` said no; the store failed.
pub(super) fn reconstruct(
    (frames, teacher): (&Frames, &Teacher<'_>),
    layout: &Layout,
    recipe: &Reconstruction,
    (task, effort): (&dyn Task, Effort),
    mut partial: Partial,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Partial, CalibrationError> {
    let recipe = recipe.with(effort);
    let material = match effort.window {
        Some(side) => Material::windows(frames.dense(), teacher, side, effort.seed)?,
        None => Material::whole(frames.dense(), teacher),
    };
    let units = dense_units(frames, layout, recipe.grouping);
    let lessons = recipe.lessons();
    let total: usize = lessons.iter().map(|lesson| lesson.iterations * units.len()).sum();
    let (mut stage, mut steps) = (0, 0);
    for lesson in &lessons {
        for (number, unit) in units.iter().enumerate() {
            stage += 1;
            if stage <= partial.done {
                steps += lesson.iterations;
                continue;
            }
            let (prefix, prefix_params) = prefix((frames.dense(), teacher), &partial, &units[number..], lesson.activations);
            let name = &material.graph.nodes[unit.layers[0]].name;
            let mut step = || {
                steps += 1;
                progress(steps, total)
            };
            let mut learner = Learner::new(&material, unit, (&recipe, *lesson), task, (&prefix, &prefix_params))?;
            let report = learner.learn(&mut partial, (effort.seed, name), &mut step)?;
            // The last lesson of a layer says how it ended.
            partial.rounding.retain(|old| report.iter().all(|new| new.layer != old.layer));
            partial.rounding.extend(report);
            partial.done = stage;
            store.save(&partial)?;
        }
    }
    Ok(partial)
}

/// The units of the dense part, whose nodes have other numbers than those of the whole graph.
fn dense_units(frames: &Frames, layout: &Layout, grouping: Grouping) -> Vec<Unit> {
    let (graph, dense) = (frames.graph(), frames.dense());
    let place = |id: NodeId| dense.node(&graph.nodes[id].name);
    let layers: BTreeSet<NodeId> = layout.integer.keys().filter_map(|&id| place(id)).collect();
    let ranges: BTreeMap<NodeId, NodeId> =
        layout.values.iter().filter_map(|(&id, &(range, _))| Some((place(id)?, place(range)?))).collect();
    units(dense, &layers, &ranges, grouping)
}

/// The network in which the units from `open` on are still float.
fn prefix((graph, teacher): (&Graph, &Teacher<'_>), partial: &Partial, open: &[Unit], activations: bool) -> (Scheme, Params) {
    let is_open = |name: &String| open.iter().any(|unit| unit.nodes.iter().any(|&id| graph.nodes[id].name == *name));
    let mut scheme = partial.scheme.clone();
    scheme.weights.retain(|name, _| !is_open(name));
    scheme.activations.retain(|name, _| activations && !is_open(name));
    let mut params = teacher.params().clone();
    for layer in scheme.weights.keys() {
        for name in ["weight", "bias"].map(|suffix| format!("{layer}.{suffix}")) {
            if let Some(value) = partial.params.0.get(&name) {
                params.0.insert(name, value.clone());
            }
        }
    }
    (scheme, params)
}
