//! A method at work: from frames to a scheme.

use super::CalibrationError;
use super::adaptive::{LayerRounding, round_layers};
use super::frames::Frames;
use super::layout::{Layout, Policy, is_non_negative};
use super::method::{MAX_MIN, Method, Rounding};
use super::observer::levels;
use super::progress::{Forget, Partial, Store};
use super::reconstruct::reconstruct;
use super::sampling::{Samples, Weighing, draw};
use super::task::{Labels, Outputs, Task};
use super::teacher::Teacher;
use crate::engine::float::{Inputs, Tape};
use crate::graph::{Activation, Calibration, Graph, NodeId, Params, Quantization, Scheme};
use std::collections::BTreeMap;

/// How much work a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Windows of each layer, over all frames; of each frame `LEAST_WINDOWS` at least.
    pub windows: usize,
    /// Steps of gradient descent a unit, and frames of each; by default as published.
    pub iterations: Option<usize>,
    pub batch: Option<usize>,
    /// Cells of a side of the windows that gradient descent learns from; by default whole frames, as published.
    pub window: Option<usize>,
    pub seed: u64,
}

/// A frame's windows say little of other frames, but a layer has a thousand and more weights for each of its outputs, and a rounding
/// that fits a few thousand windows too well is worse on all others: 24 frames need more of each than 256.
const LEAST_WINDOWS: usize = 96;

impl Default for Effort {
    fn default() -> Self {
        Self { windows: 24_576, iterations: None, batch: None, window: None, seed: 1 }
    }
}

/// What a method yields.
#[derive(Clone, Debug)]
pub struct Quantized {
    pub quantization: Quantization,
    /// Of the folded network: floats that the method changed, the rest as it was.
    pub params: Params,
    /// The float network that this stands for, folded: the one that was observed, or an equal one with channels of other sizes.
    pub float: Params,
    /// What rounding did, if it was adaptive.
    pub rounding: Vec<LayerRounding>,
}

/// Quantizes a network with the frames that were observed. `inputs` are the names of what they were read from. `progress` hears what
/// is being done, how many steps of it are done, and of how many; it may say no.
///
/// # Errors
/// [`CalibrationError::Stopped`] if `progress` said no; no frames; a policy that does not fit the network; values that are not finite.
pub fn quantize(
    frames: &Frames,
    method: &Method,
    policy: &Policy,
    (task, effort): (&dyn Task, Effort),
    inputs: Vec<String>,
    progress: &mut dyn FnMut(&str, usize, usize) -> bool,
) -> Result<Quantized, CalibrationError> {
    quantize_resuming(frames, method, policy, (task, effort), inputs, &mut Forget, progress)
}

/// As [`quantize`], going on from what `store` has, and leaving there what is done. The result is the same to the bit.
///
/// # Errors
/// As [`quantize`]; the store failed.
pub fn quantize_resuming(
    frames: &Frames,
    method: &Method,
    policy: &Policy,
    (task, effort): (&dyn Task, Effort),
    inputs: Vec<String>,
    store: &mut dyn Store,
    progress: &mut dyn FnMut(&str, usize, usize) -> bool,
) -> Result<Quantized, CalibrationError> {
    if frames.is_empty() {
        return Err(CalibrationError::NoFrames);
    }
    let graph = frames.graph();
    let layout = Layout::new(graph, policy)?;
    let dense = frames.dense();
    let layers: Vec<NodeId> = layout.integer.keys().filter_map(|&id| dense.node(&graph.nodes[id].name)).collect();
    let teacher = if method.equalized { frames.equalized(&layout) } else { frames.as_observed() };
    // Before anything asks for a range: its run of the float network counts for the histograms too.
    let samples = match method.rounding {
        Rounding::Adaptive(weighing) => Some(windows((dense, &teacher), &layers, task, weighing, effort, progress)?),
        _ => None,
    };
    let mut scheme = Scheme { float: layout.float.clone(), ..Scheme::default() };
    for (&id, &(range_of, bits)) in &layout.values {
        let signed = !is_non_negative(graph, range_of);
        let levels = levels(bits, signed);
        let reach = teacher.reach(&graph.nodes[range_of].name, &method.activations, method.cells, levels)?;
        let scale = (reach / levels as f32).max(f32::MIN_POSITIVE);
        scheme.activations.insert(graph.nodes[id].name.clone(), Activation { bits, signed, scale, zero_point: 0 });
    }
    let mut params = teacher.params().clone();
    for (&id, &bits) in &layout.integer {
        let node = &graph.nodes[id];
        let name = format!("{}.weight", node.name);
        let weight = method.weights.nearest(&params.0[&name], node.op.output_axis(), bits);
        params.0.insert(name, weight.values(node.op.output_axis()));
        scheme.weights.insert(node.name.clone(), weight);
    }
    let start = Partial { done: 0, scheme, params, rounding: Vec::new() };
    let Partial { scheme, params, rounding, .. } = match (method.rounding, samples) {
        (Rounding::Adaptive(_), Some(samples)) => {
            let stages = stages(dense, &layers);
            let total = frames.len() * stages.len();
            let mut done = 0;
            let mut step = || {
                done += 1;
                progress("rounding", done, total)
            };
            let partial = store.load()?.unwrap_or(start);
            round_layers((frames.processor(), dense, teacher.params()), teacher.inputs(), &stages, samples, partial, store, &mut step)?
        }
        (Rounding::Learnt(recipe), _) => {
            let partial = store.load()?.unwrap_or(start);
            reconstruct((frames, &teacher), &layout, &recipe, (task, effort), partial, store, &mut |done, of| {
                progress("learning", done, of)
            })?
        }
        _ => start,
    };
    let calibration = Calibration {
        method: method.name.to_owned(),
        inputs,
        frames: frames.len(),
        frames_sha256: frames.digest().to_owned(),
        ..Calibration::default()
    };
    Ok(Quantized { quantization: Quantization { scheme, calibration }, params, float: teacher.params().clone(), rounding })
}

/// The simplest method: nothing is clipped, weights are rounded to nearest.
///
/// # Errors
/// As [`quantize`].
pub fn max_min(frames: &Frames, policy: &Policy, inputs: Vec<String>) -> Result<Quantization, CalibrationError> {
    struct Nothing;
    impl Task for Nothing {
        fn importance(&self, _: &Outputs) -> Outputs {
            Outputs::new()
        }

        fn loss(&self, _: Labels, _: &Outputs, _: &Outputs) -> Result<(f64, Outputs), CalibrationError> {
            Ok((0.0, Outputs::new()))
        }
    }
    let quantized = quantize(frames, &MAX_MIN, policy, (&Nothing, Effort::default()), inputs, &mut |_, _, _| true)?;
    Ok(quantized.quantization)
}

fn windows(
    (graph, teacher): (&Graph, &Teacher<'_>),
    layers: &[NodeId],
    task: &dyn Task,
    weighing: Weighing,
    effort: Effort,
    progress: &mut dyn FnMut(&str, usize, usize) -> bool,
) -> Result<Samples, CalibrationError> {
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress("weighing", done, teacher.inputs().len())
    };
    let count = (effort.windows / teacher.inputs().len().max(1)).max(LEAST_WINDOWS);
    let how = (weighing, count, effort.seed);
    let mut counting = teacher.counting();
    let mut seen = |inputs: &Inputs<f32>, tape: &Tape<'_, f32>| {
        let Some(counting) = &mut counting else { return };
        let mut occupancy = counting.occupancy(inputs);
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Some(values) = tape.value(id) {
                counting.count(&node.name, values, &mut occupancy);
            }
        }
    };
    let samples = draw((teacher.processor(), graph, teacher.params()), teacher.inputs(), layers, task, how, &mut seen, &mut step)?;
    if let Some(counting) = counting {
        counting.finish();
    }
    Ok(samples)
}

/// Layers by how many of them lie before them: those of a stage do not depend on each other.
///
/// Layers must not be rounded with inputs that are not final. Each makes up for what its input lost, also for what is the same in
/// every empty cell; if the layers before it then make up for it too, the error comes back with the other sign and grows from
/// layer to layer (measured: in seven layers from 1 % to 16 % of the signal).
fn stages(graph: &Graph, layers: &[NodeId]) -> Vec<Vec<NodeId>> {
    let mut depth = vec![0usize; graph.nodes.len()];
    let mut stages: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        depth[id] = node.inputs.iter().map(|&i| depth[i]).max().unwrap_or(0);
        if layers.contains(&id) {
            depth[id] += 1;
            stages.entry(depth[id]).or_default().push(id);
        }
    }
    stages.into_values().collect()
}
