//! Adaptive rounding of a whole network from second moments, front to back.

use super::CalibrationError;
use super::frontier::Frontier;
use super::moments::{InputMoments, OutputMoments, Problem};
use super::progress::{Partial, Store};
use super::rounding::{Rounded, bias_shift, round};
use super::sampling::{Sample, Samples, Site, sites as sites_of};
use super::shelf::{ArrayPlace, Shelf, ShelvedInputs};
use super::windows::{from_matrix, to_matrix};
use crate::graph::{Granularity, Graph, NodeId, Op, Params, Scheme, Weight};
use ndarray::{ArrayD, Ix2};
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
    (graph, float_params): (&Graph, &Params),
    frames: &ShelvedInputs,
    stages: &[Vec<NodeId>],
    samples: Samples,
    mut partial: Partial,
    store: &mut dyn Store,
    progress: &mut dyn FnMut() -> bool,
) -> Result<Partial, CalibrationError> {
    let is_integer = |&id: &NodeId| partial.scheme.is_integer(&graph.nodes[id].name);
    let all: Vec<Vec<NodeId>> = stages.iter().map(|stage| stage.iter().copied().filter(is_integer).collect()).collect();
    let Samples { mut sites, targets, .. } = samples;
    let open = all.iter().skip(partial.done).flatten().filter_map(|&id| graph.nodes[id].inputs.first().copied()).collect();
    let mut frontier = Frontier::new(graph, frames, open);
    for (number, layers) in all.into_iter().enumerate() {
        if number < partial.done {
            if !(0..frames.len()).all(|_| progress()) {
                return Err(CalibrationError::Stopped);
            }
            continue;
        }
        let mut moments: Vec<SiteMoments> = sites_of(graph, &layers)
            .into_iter()
            .filter_map(|(site, layers)| Some(SiteMoments::new(site, sites.remove(&site)?, &layers)))
            .collect();
        let Partial { scheme, params, rounding, .. } = &mut partial;
        gather(&mut frontier, &mut moments, &targets, (scheme, params), progress)?;
        for site in moments {
            let Some(inputs) = site.inputs else { continue };
            for (id, _, outputs) in site.layers {
                let Some(outputs) = outputs else { continue };
                let rounded = round_layer(&graph.nodes[id].name, &graph.nodes[id].op, float_params, &inputs, &outputs, scheme, params);
                rounding.extend(rounded);
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
    /// Layers that read there, each with its targets in each frame.
    layers: Vec<(NodeId, Vec<ArrayPlace>, Option<OutputMoments>)>,
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
    fn new(site: Site, mut sample: Sample, layers: &[NodeId]) -> Self {
        let layers = layers.iter().filter_map(|id| Some((*id, sample.targets.remove(id)?, None))).collect();
        Self { site, positions: sample.positions, inputs: None, layers }
    }

    fn add(&mut self, frame: usize, map: &ArrayD<f32>, shelf: &Shelf) -> Result<(), CalibrationError> {
        let quantized = self.site.1.cut(map, &self.positions[frame]);
        let inputs = self.inputs.get_or_insert_with(|| InputMoments::new(quantized.ncols()));
        inputs.add(&quantized.view());
        for (_, targets, outputs) in &mut self.layers {
            let exact = shelf.get_array(&targets[frame])?.into_dimensionality::<Ix2>().expect("rows of outputs");
            let outputs = outputs.get_or_insert_with(|| OutputMoments::new(exact.ncols(), quantized.ncols()));
            outputs.add(&exact.view(), &quantized.view());
        }
        Ok(())
    }
}

/// Rounds one layer; its integers and its bias change.
fn round_layer(
    name: &str,
    op: &Op,
    float_params: &Params,
    inputs: &InputMoments,
    outputs: &OutputMoments,
    scheme: &mut Scheme,
    params: &mut Params,
) -> Option<LayerRounding> {
    let float_weight = float_params.0.get(&format!("{name}.weight"))?;
    let weight = scheme.weights.get_mut(name)?;
    let bias_name = format!("{name}.bias");
    let float_bias = float_params.0.get(&bias_name);
    let matrix = to_matrix(op, &float_weight.view());
    let problem = Problem::new(inputs, outputs, &matrix.view(), float_bias.is_some(), DAMPING);
    let channels = float_weight.len_of(ndarray::Axis(op.output_axis()));
    let scales: Vec<f32> = (0..channels).map(|c| weight.scale(c)).collect();
    let Rounded { integers, scales, nearest_error, error } = round(&matrix.view(), &scales, weight.bits, &problem);
    // Nearest rounding is what it started from: no layer leaves worse than it came.
    let integers = from_matrix(op, integers.view(), float_weight.shape());
    *weight = Weight { bits: weight.bits, granularity: Granularity::PerChannel, scales, integers };
    let values = weight.values(op.output_axis());
    if let Some(bias) = float_bias {
        let shift = bias_shift(&to_matrix(op, &values.view()).view(), &problem);
        let rows = shift.len() / channels.max(1);
        let mut bias = bias.clone();
        for (c, b) in bias.iter_mut().enumerate() {
            *b += shift[c * rows..(c + 1) * rows].iter().sum::<f32>() / rows.max(1) as f32;
        }
        params.0.insert(bias_name, bias);
    }
    params.0.insert(format!("{name}.weight"), values);
    Some(LayerRounding { layer: name.to_owned(), nearest_error, error })
}
