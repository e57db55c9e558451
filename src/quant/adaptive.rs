//! Adaptive rounding of a whole network from second moments, front to back.

use super::CalibrationError;
use super::moments::{InputMoments, OutputMoments, Problem};
use super::rounding::{Rounded, bias_shift, round};
use super::sampling::{Samples, Site, sites};
use super::windows::{extent, from_matrix, to_matrix};
use crate::engine::float::{FloatEngine, Inputs};
use crate::engine::int8::Grid;
use crate::graph::{Granularity, Graph, NodeId, Op, Params, Scheme, Weight};
use ndarray::{Array2, ArrayD};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Share of the mean of `A`'s diagonal that is added to it: directions that the calibration frames did not show must not be
/// free.
const DAMPING: f64 = 0.01;

/// What rounding did to a layer.
#[derive(Clone, Debug)]
pub struct LayerRounding {
    pub layer: String,
    /// Squared error of the layer's outputs as a share of their variance, rounded to nearest and now.
    pub nearest_error: f64,
    pub error: f64,
}

/// Rounds the integer layers of `scheme` again, so that each gives what the float network gives, although its input is
/// quantized. Biases that take up shifts of means go into `params`.
///
/// `stages` are layers in an order in which they can run, those of a stage independent of each other: they see the layers of earlier
/// stages as they are final.
///
/// # Errors
/// Frames that do not fit the graph; `progress` said no.
pub fn round_layers(
    (graph, float_params): (&Graph, &Params),
    frames: &[Inputs<f32>],
    stages: &[Vec<NodeId>],
    samples: &Samples,
    scheme: &mut Scheme,
    params: &mut Params,
    progress: &mut dyn FnMut() -> bool,
) -> Result<Vec<LayerRounding>, CalibrationError> {
    let mut report = Vec::new();
    for stage in stages {
        let layers: Vec<NodeId> = stage.iter().copied().filter(|&id| scheme.is_integer(&graph.nodes[id].name)).collect();
        let moments = gather((graph, float_params), frames, &layers, samples, scheme, params, progress)?;
        for site in moments {
            for (id, outputs) in site.layers {
                let rounded = round_layer(&graph.nodes[id].name, &graph.nodes[id].op, float_params, &site.inputs, &outputs, scheme, params);
                report.extend(rounded);
            }
        }
    }
    Ok(report)
}

/// Sums over the windows of a site.
struct SiteMoments {
    site: Site,
    window: usize,
    inputs: InputMoments,
    layers: Vec<(NodeId, OutputMoments)>,
    /// Windows of the frame at hand: of the float network and of the quantized one.
    exact: Array2<f32>,
    quantized: Array2<f32>,
}

fn gather(
    (graph, float_params): (&Graph, &Params),
    frames: &[Inputs<f32>],
    layers: &[NodeId],
    samples: &Samples,
    scheme: &Scheme,
    params: &Params,
    progress: &mut dyn FnMut() -> bool,
) -> Result<Vec<SiteMoments>, CalibrationError> {
    // What lies behind the layers' inputs need not run.
    let last = layers.iter().flat_map(|&id| &graph.nodes[id].inputs).max().map_or(0, |&id| id + 1);
    let before = Graph { nodes: graph.nodes[..last].to_vec(), outputs: Vec::new() };
    let mut exact = FloatEngine::new(&before, float_params)?;
    let mut quantized = FloatEngine::with_scheme(&before, params, scheme)?;
    let weight = |id: NodeId| to_matrix(&graph.nodes[id].op, &float_params.0[&format!("{}.weight", graph.nodes[id].name)].view());
    let weights: BTreeMap<NodeId, Array2<f32>> = layers.iter().map(|&id| (id, weight(id))).collect();
    let mut all: Vec<SiteMoments> = sites(graph, layers)
        .into_iter()
        .map(|(site, layers)| {
            let window = layers.first().map_or(0, |id| weights[id].ncols());
            let layers = layers.into_iter().map(|id| (id, OutputMoments::new(weights[&id].nrows(), window))).collect();
            let none = || Array2::zeros((0, window));
            SiteMoments { site, window, inputs: InputMoments::new(window), layers, exact: none(), quantized: none() }
        })
        .collect();
    for (f, inputs) in frames.iter().enumerate() {
        exact.run_observing(inputs, &mut |node, value| {
            for site in all.iter_mut().filter(|s| graph.nodes[s.site.0].name == node.name) {
                site.exact = site.windows(value, &samples[&site.site][f]);
            }
        })?;
        quantized.run_observing(inputs, &mut |node, value| {
            for site in all.iter_mut().filter(|s| graph.nodes[s.site.0].name == node.name) {
                site.quantized = site.windows(value, &samples[&site.site][f]);
            }
        })?;
        // Engines read inputs in place; a layer rounds them as it takes them.
        for site in all.iter_mut().filter(|s| graph.nodes[s.site.0].op == Op::Input) {
            let name = &graph.nodes[site.site.0].name;
            if let (Some(value), Some(&activation)) = (inputs.dense.get(name), scheme.activations.get(name)) {
                let grid = Grid::from(activation);
                let quantizer = grid.quantizer();
                site.exact = site.windows(value, &samples[&site.site][f]);
                site.quantized = site.exact.mapv(|x| grid.value(quantizer.byte(x)));
            }
        }
        all.par_iter_mut().for_each(|site| {
            let SiteMoments { inputs, layers, exact, quantized, .. } = site;
            inputs.add(&quantized.view());
            for (id, outputs) in layers {
                outputs.add(&exact.dot(&weights[id].t()).view(), &quantized.view());
            }
        });
        if !progress() {
            return Err(CalibrationError::Stopped);
        }
    }
    Ok(all)
}

impl SiteMoments {
    fn windows(&self, map: &ArrayD<f32>, positions: &[[u32; 3]]) -> Array2<f32> {
        let extent = extent(map);
        let mut windows = Array2::zeros((positions.len(), self.window));
        let map = map.as_slice().unwrap_or_default();
        for (mut row, position) in windows.outer_iter_mut().zip(positions) {
            if let Some(row) = row.as_slice_mut() {
                self.site.1.copy(map, extent, position.map(|n| n as usize), row);
            }
        }
        windows
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
