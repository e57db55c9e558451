//! Which windows of a layer's maps are looked at, and what the float network makes of them.
//!
//! A map has tens of thousands of positions, and a layer's moments need some thousands over all frames. They are drawn at random,
//! with a probability that says how much each matters: so sums over the sample are weighted sums over the maps, without bias.

use super::CalibrationError;
use super::occupancy::Occupancy;
use super::shelf::{ArrayPlace, Shelf, ShelvedInputs};
use super::task::{Outputs, Task};
use super::windows::{Windows, extent, to_matrix};
use crate::engine::float::{Inputs, Norm, Processor, Tape};
use crate::graph::{Graph, NodeId, Op, Params};
use crate::random::Rng;
use ndarray::{Array2, ArrayD};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Layers that see the same windows: an input node and how it is cut.
pub type Site = (NodeId, Windows);

/// How positions are weighed; the parts are shares of the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighing {
    /// In proportion to what an error at the position costs the task, to first order.
    pub task: f32,
    /// Evenly over cells that may have seen a point.
    pub occupied: f32,
    // The rest is spread evenly over all cells.
}

/// What is drawn of the frames.
pub struct Samples {
    pub sites: BTreeMap<Site, Sample>,
    /// On which all targets lie.
    pub targets: Shelf,
}

/// The sample of a site.
#[derive(Default)]
pub struct Sample {
    /// `[sample, y, x]` in each frame.
    pub positions: Vec<Vec<[u32; 3]>>,
    /// What each layer that reads there gives in the float network, without bias: `[positions, rows]` of each frame.
    pub targets: BTreeMap<NodeId, Vec<ArrayPlace>>,
}

/// The sites of these layers, with the layers that share each.
pub fn sites(graph: &Graph, layers: &[NodeId]) -> BTreeMap<Site, Vec<NodeId>> {
    let mut sites: BTreeMap<Site, Vec<NodeId>> = BTreeMap::new();
    for &layer in layers {
        let node = &graph.nodes[layer];
        if let (Some(windows), Some(&input)) = (Windows::of(&node.op), node.inputs.first()) {
            sites.entry((input, windows)).or_default().push(layer);
        }
    }
    sites
}

/// Draws `count` positions of every site in each frame, and runs the float network there.
///
/// What an error at a position costs is the squared gradient there ([`signed_gradients`]), of which many frames take the mean.
///
/// `seen` gets what the float network makes of each frame, as it is met.
///
/// # Errors
/// Frames that do not fit the graph; a full disk; `progress` said no.
pub fn draw(
    (processor, graph, params): (&Processor, &Graph, &Params),
    frames: &ShelvedInputs,
    layers: &[NodeId],
    task: &dyn Task,
    (weighing, count, seed): (Weighing, usize, u64),
    seen: &mut dyn FnMut(&Inputs<f32>, &Tape<'_, f32>),
    progress: &mut dyn FnMut() -> bool,
) -> Result<Samples, CalibrationError> {
    let sites = sites(graph, layers);
    let mut samples = Samples { sites: BTreeMap::new(), targets: frames.shelf().another() };
    let weight = |id: NodeId| to_matrix(&graph.nodes[id].op, &params.0[&format!("{}.weight", graph.nodes[id].name)].view());
    let matrices: BTreeMap<NodeId, Array2<f32>> = layers.iter().map(|&id| (id, weight(id))).collect();
    for (f, inputs) in frames.iter().enumerate() {
        let mut rng = Rng::new(seed.wrapping_add(f as u64), "calibration windows");
        let inputs = inputs?;
        let tape = processor.forward(graph, &params.0, &inputs, Norm::Running)?;
        seen(&inputs, &tape);
        let gradients = if weighing.task > 0.0 { signed_gradients(graph, &tape, task, &mut rng, layers) } else { BTreeMap::new() };
        let mut occupancy = Occupancy::new(graph, &inputs);
        for (site, readers) in &sites {
            let (input, windows) = *site;
            let Some(map) = tape.value(input) else { continue };
            let batch = map.shape()[0];
            let [height, width, _] = extent(map);
            let [rows, columns] = windows.positions([height, width]);
            let area = rows * columns;
            let mut task_weights = vec![0f32; batch * area];
            for &layer in readers {
                if let (Some(gradient), Some(value)) = (gradients.get(&layer), tape.value(layer)) {
                    add_squares(&graph.nodes[layer].op, gradient, value, columns, &mut task_weights);
                }
            }
            let mut weights = vec![(1.0 - weighing.task - weighing.occupied).max(0.0) / (batch * area) as f32; batch * area];
            add_share(&mut weights, weighing.task, &task_weights);
            if let Some(occupancy) = &mut occupancy {
                let mask: Vec<f32> = occupancy.mask([rows, columns]).iter().map(|&o| f32::from(u8::from(o))).collect();
                add_share(&mut weights, weighing.occupied, &mask);
            }
            let drawn = positions(&weights, count, &mut rng);
            let place = |i: usize| [i / area, i % area / columns, i % columns].map(|n| n as u32);
            let positions: Vec<[u32; 3]> = drawn.into_iter().map(place).collect();
            let cut = windows.cut(map, &positions);
            let outputs: Vec<_> = readers.par_iter().map(|id| (*id, cut.dot(&matrices[id].t()))).collect();
            let sample = samples.sites.entry(*site).or_default();
            for (id, output) in outputs {
                sample.targets.entry(id).or_default().push(samples.targets.put_array(&output)?);
            }
            sample.positions.push(positions);
        }
        if !progress() {
            return Err(CalibrationError::Stopped);
        }
    }
    Ok(samples)
}

/// Gradients at some nodes of the sum of all output numbers, each weighed by the root of what the task says and with a random sign:
/// the mean of their squares is the diagonal of the task's Gauss-Newton matrix (Hutchinson 1990).
pub fn signed_gradients(
    graph: &Graph,
    tape: &Tape<'_, f32>,
    task: &dyn Task,
    rng: &mut Rng,
    nodes: &[NodeId],
) -> BTreeMap<NodeId, ArrayD<f32>> {
    let outputs: Outputs = graph.outputs.iter().filter_map(|o| Some((o.role.clone(), tape.value(o.node)?.clone()))).collect();
    let importance = task.importance(&outputs);
    let seeds = graph.outputs.iter().filter_map(|o| {
        let signed = importance.get(&o.role)?.mapv(|w| w.sqrt() * rng.sign());
        Some((o.node, signed))
    });
    tape.backward(seeds.collect::<Vec<_>>(), &|_| false, nodes).nodes
}

/// Adds, at each position, the squares of the gradient before ReLU.
fn add_squares(op: &Op, gradient: &ArrayD<f32>, value: &ArrayD<f32>, columns: usize, weights: &mut [f32]) {
    let [height, width, channels] = extent(gradient);
    let stride = (width / columns.max(1)).max(1);
    let relu = op.has_relu();
    let (gradient, value) = (gradient.as_slice().unwrap_or_default(), value.as_slice().unwrap_or_default());
    let squares = gradient.par_chunks(channels).zip(value.par_chunks(channels)).map(|(g, y)| {
        let passed = g.iter().zip(y).filter(|(_, y)| !relu || **y > 0.0);
        passed.map(|(g, _)| g * g).sum::<f32>()
    });
    for (i, square) in squares.collect::<Vec<_>>().into_iter().enumerate() {
        let (n, y, x) = (i / (height * width), i % (height * width) / width, i % width);
        weights[(n * (height / stride) + y / stride) * columns + x / stride] += square;
    }
}

/// Adds a distribution, scaled to this share, if it is one.
fn add_share(weights: &mut [f32], share: f32, part: &[f32]) {
    let sum: f32 = part.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        weights.iter_mut().zip(part).for_each(|(w, p)| *w += share * p / sum);
    }
}

/// Draws `count` places, systematically: one at random in each of as many equal parts of the distribution. In rising order.
fn positions(weights: &[f32], count: usize, rng: &mut Rng) -> Vec<usize> {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let mut drawn = Vec::with_capacity(count);
    let (mut sum, mut place) = (0.0, 0);
    for i in 0..count {
        let wanted = (i as f64 + f64::from(rng.unit())) / count as f64 * total;
        while place + 1 < weights.len() && sum + f64::from(weights[place]) < wanted {
            sum += f64::from(weights[place]);
            place += 1;
        }
        drawn.push(place);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_drawn_as_they_weigh() {
        let weights = [0.0, 3.0, 0.0, 1.0, 4.0];
        let mut rng = Rng::new(1, "positions");
        let mut counts = [0; 5];
        positions(&weights, 8000, &mut rng).into_iter().for_each(|i| counts[i] += 1);
        assert_eq!((counts[0], counts[2]), (0, 0));
        for (i, expected) in [(1, 3000), (3, 1000), (4, 4000)] {
            assert!(i32::abs(counts[i] - expected) <= 1, "{counts:?}");
        }
    }
}
