//! Adaptive rounding of a whole network, front to back.

use super::CalibrationError;
use super::frontier::Frontier;
use super::moments::{InputMoments, OutputMoments, Problem};
use super::observer::levels;
use super::progress::{Partial, Store};
use super::rectified::{Goal, Seen, refine};
use super::rounding::{Rounded, bias_shift, round};
use super::sampling::{Sample, Samples, Site, sites as sites_of};
use super::shelf::{ArrayPlace, Shelf, ShelvedInputs};
use super::windows::{from_matrix, to_matrix};
use crate::engine::float::Processor;
use crate::graph::{Granularity, Graph, Node, NodeId, Params, Scheme, Weight};
use ndarray::{Array2, ArrayD, Axis, Ix2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Share of the mean of `A`'s diagonal that is added to it: directions that the calibration frames did not show must not be
/// free.
const DAMPING: f64 = 0.01;

/// What rounding did to a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRounding {
    pub layer: String,
    /// Squared error of the layer's outputs as a share of their variance, rounded to nearest and now.
    pub nearest_error: f64,
    pub error: f64,
}

/// Rounds the integer layers of the network again, so that each gives what the float network gives, although its input is quantized.
/// Biases take up shifts of means.
///
/// `stages` are layers in an order in which they can run, those of a stage independent of each other: they see the layers of earlier
/// stages as they are final. Those that are done in `partial` stay; `store` keeps it after each.
///
/// # Errors
/// Frames that do not fit the graph; `progress` said no; the store failed.
pub fn round_layers(
    (processor, graph, float_params): (&Processor, &Graph, &Params),
    frames: &ShelvedInputs,
    stages: &[Vec<NodeId>],
    samples: Samples,
    mut partial: Partial,
    store: &mut dyn Store,
    progress: &mut dyn FnMut() -> bool,
) -> Result<Partial, CalibrationError> {
    let is_integer = |&id: &NodeId| partial.scheme.is_integer(&graph.nodes[id].name);
    let all: Vec<Vec<NodeId>> = stages.iter().map(|stage| stage.iter().copied().filter(is_integer).collect()).collect();
    let Samples { mut sites, targets } = samples;
    let open = all.iter().skip(partial.done).flatten().filter_map(|&id| graph.nodes[id].inputs.first().copied()).collect();
    let mut frontier = Frontier::new((processor, graph), frames, open);
    for (number, layers) in all.into_iter().enumerate() {
        if number < partial.done {
            if !(0..frames.len()).all(|_| progress()) {
                return Err(CalibrationError::Stopped);
            }
            continue;
        }
        let mut moments: Vec<SiteMoments> = sites_of(graph, &layers)
            .into_iter()
            .filter_map(|(site, layers)| {
                Some(SiteMoments::new(site, sites.remove(&site)?, (graph, float_params), &layers, &partial.scheme))
            })
            .collect();
        let Partial { scheme, params, rounding, .. } = &mut partial;
        gather(&mut frontier, &mut moments, &targets, (scheme, params), progress)?;
        for site in moments {
            let Some(inputs) = site.inputs else { continue };
            for layer in site.layers {
                let Some(outputs) = layer.outputs else { continue };
                let windows = site.seen.as_ref().zip(layer.goal.as_ref());
                rounding.extend(round_layer(&graph.nodes[layer.id], float_params, (&inputs, &outputs), windows, (scheme, params)));
            }
        }
        partial.done = number + 1;
        store.save(&partial)?;
    }
    Ok(partial)
}

/// Sums over the windows of a site.
struct SiteMoments {
    site: Site,
    /// In each frame.
    positions: Vec<Vec<[u32; 3]>>,
    /// `None` before the first frame; so are the layers' own.
    inputs: Option<InputMoments>,
    /// The windows themselves, if a layer is to see them; empty before the first frame.
    seen: Option<Seen>,
    /// Those that read there.
    layers: Vec<LayerMoments>,
}

struct LayerMoments {
    id: NodeId,
    /// In each frame.
    targets: Vec<ArrayPlace>,
    outputs: Option<OutputMoments>,
    /// If something of its outputs is cut off: what they should be.
    goal: Option<Goal>,
}

/// Runs the quantized network as far as the sites, and adds up their windows.
fn gather(
    frontier: &mut Frontier<'_>,
    all: &mut [SiteMoments],
    targets: &Shelf,
    (scheme, params): (&Scheme, &Params),
    progress: &mut dyn FnMut() -> bool,
) -> Result<(), CalibrationError> {
    let wanted = all.iter().map(|site| site.site.0).collect();
    let mut added = Ok(());
    let goes_on = frontier.advance(&wanted, (scheme, params), &mut |f, values| {
        let add = |site: &mut SiteMoments| match values.iter().find(|(id, _)| *id == site.site.0) {
            Some((_, value)) => site.add(f, value, targets),
            None => Ok(()),
        };
        added = all.par_iter_mut().try_for_each(add);
        added.is_ok() && progress()
    })?;
    added?;
    if goes_on { Ok(()) } else { Err(CalibrationError::Stopped) }
}

impl SiteMoments {
    /// Of the layers that read there, which are all of one stage.
    fn new(site: Site, mut sample: Sample, (graph, params): (&Graph, &Params), layers: &[NodeId], scheme: &Scheme) -> Self {
        let samples = sample.positions.iter().map(Vec::len).sum();
        let layer = |&id: &NodeId| {
            let node = &graph.nodes[id];
            let bias = params.0.get(&format!("{}.bias", node.name));
            let rows = sample.targets.get(&id)?.first().map_or(0, |at| at.shape()[1]);
            let goal = bounds(node, scheme).zip(bias).map(|(bounds, bias)| {
                let per_channel = rows / bias.len().max(1);
                let bias = (0..rows).map(|r| bias[[r / per_channel]]).collect();
                Goal::new(bias, bounds, samples)
            });
            Some(LayerMoments { id, targets: sample.targets.remove(&id)?, outputs: None, goal })
        };
        let layers: Vec<LayerMoments> = layers.iter().filter_map(layer).collect();
        let seen = layers.iter().any(|layer| layer.goal.is_some()).then(|| Seen::new(samples));
        Self { site, positions: sample.positions, inputs: None, seen, layers }
    }

    fn add(&mut self, frame: usize, map: &ArrayD<f32>, shelf: &Shelf) -> Result<(), CalibrationError> {
        let quantized = self.site.1.cut(map, &self.positions[frame]);
        let inputs = self.inputs.get_or_insert_with(|| InputMoments::new(quantized.ncols()));
        inputs.add(&quantized.view());
        if let Some(seen) = &mut self.seen {
            seen.add(&quantized.view());
        }
        for LayerMoments { targets, outputs, goal, .. } in &mut self.layers {
            let exact = shelf.get_array(&targets[frame])?.into_dimensionality::<Ix2>().expect("rows of outputs");
            let outputs = outputs.get_or_insert_with(|| OutputMoments::new(exact.ncols(), quantized.ncols()));
            outputs.add(&exact.view(), &quantized.view());
            if let Some(goal) = goal {
                goal.add(&exact.view());
            }
        }
        Ok(())
    }
}

/// Between which numbers the readers of a layer see its outputs; `None` if nothing is cut off.
fn bounds(node: &Node, scheme: &Scheme) -> Option<[f32; 2]> {
    let reach = scheme.activations.get(&node.name).map(|a| levels(a.bits, a.signed) as f32 * a.scale);
    let relu = node.op.has_relu();
    (relu || reach.is_some()).then(|| {
        let high = reach.unwrap_or(f32::INFINITY);
        [if relu { 0.0 } else { -high }, high]
    })
}

/// Rounds one layer; its integers and its bias change.
fn round_layer(
    node: &Node,
    float_params: &Params,
    (inputs, outputs): (&InputMoments, &OutputMoments),
    windows: Option<(&Seen, &Goal)>,
    (scheme, params): (&mut Scheme, &mut Params),
) -> Option<LayerRounding> {
    let Node { name, op, .. } = node;
    let float_weight = float_params.0.get(&format!("{name}.weight"))?;
    let weight = scheme.weights.get_mut(name)?;
    let bias_name = format!("{name}.bias");
    let float_bias = float_params.0.get(&bias_name);
    let matrix = to_matrix(op, &float_weight.view());
    let problem = Problem::new(inputs, outputs, &matrix.view(), float_bias.is_some(), DAMPING);
    let channels = float_weight.len_of(Axis(op.output_axis()));
    let per_channel = matrix.nrows() / channels.max(1);
    let scales: Vec<f32> = (0..channels).map(|c| weight.scale(c)).collect();
    let nearest = to_matrix(op, &weight.values(op.output_axis()).view());
    let mut rounded = round(&matrix.view(), &scales, weight.bits, &problem);
    if let Some(float_bias) = float_bias {
        let values = values(&rounded, per_channel);
        let shift = bias_shift(&values.view(), &problem);
        let mut bias: Vec<f32> = shift.iter().enumerate().map(|(r, shift)| float_bias[[r / per_channel]] + shift).collect();
        if let Some(windows) = windows {
            refine(&matrix.view(), (&nearest.view(), weight.bits), &mut rounded, &mut bias, windows);
        }
        let mean = |rows: &[f32]| rows.iter().sum::<f32>() / rows.len() as f32;
        params.0.insert(bias_name, bias.chunks(per_channel).map(mean).collect::<ndarray::Array1<f32>>().into_dyn());
    }
    let Rounded { integers, scales, nearest_error, error } = rounded;
    let integers = from_matrix(op, integers.view(), float_weight.shape());
    *weight = Weight { bits: weight.bits, granularity: Granularity::PerChannel, scales, integers };
    params.0.insert(format!("{name}.weight"), weight.values(op.output_axis()));
    Some(LayerRounding { layer: name.to_owned(), nearest_error, error })
}

/// What a layer's integers stand for, `[rows, window]`.
fn values(rounded: &Rounded, per_channel: usize) -> Array2<f32> {
    let mut values = rounded.integers.mapv(f32::from);
    values.outer_iter_mut().enumerate().for_each(|(r, mut row)| row *= rounded.scales[r / per_channel]);
    values
}
