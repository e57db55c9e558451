//! Weights to start from.

use crate::graph::{Graph, Op, ParamSpec, Params};
use crate::networks::centerpoint::BranchRole;
use crate::random::Rng;
use ndarray::ArrayD;

/// Bias of heat maps at the start: every class is rare (sigmoid(-2.19) is 0.1; all three code bases).
const HEATMAP_BIAS: f32 = -2.19;

/// Normal weights of He's variance, zero biases, identity batch norms, and heat maps that see nothing.
pub fn initial_params(graph: &Graph, seed: u64) -> Params {
    let heatmap = format!(".{}", BranchRole::Heatmap.name());
    let heatmaps: Vec<String> =
        graph.outputs.iter().filter(|o| o.role.ends_with(&heatmap)).map(|o| format!("{}.bias", graph.nodes[o.node].name)).collect();
    let mut params = Params::default();
    for node in &graph.nodes {
        for spec in node.op.params(&node.name) {
            let value = if heatmaps.contains(&spec.name) {
                ArrayD::from_elem(spec.shape.as_slice(), HEATMAP_BIAS)
            } else {
                initial_value(&node.op, &spec, seed)
            };
            params.0.insert(spec.name, value);
        }
    }
    params
}

fn initial_value(op: &Op, spec: &ParamSpec, seed: u64) -> ArrayD<f32> {
    let is = |suffix: &str| spec.name.ends_with(suffix);
    if matches!(op, Op::BatchNorm { .. }) {
        return ArrayD::from_elem(spec.shape.as_slice(), if is(".weight") || is(".running_var") { 1.0 } else { 0.0 });
    }
    if is(".bias") {
        return ArrayD::zeros(spec.shape.as_slice());
    }
    // Inputs that one output sums over; a transposed convolution's kernel equals its stride, so only channels count.
    let fan_in = match *op {
        Op::ConvTranspose2d { inputs, .. } => inputs,
        _ => spec.shape.iter().skip(1).product(),
    };
    let deviation = (2.0 / fan_in.max(1) as f32).sqrt();
    let mut rng = Rng::new(seed, &spec.name);
    ArrayD::from_shape_simple_fn(spec.shape.as_slice(), || rng.around(0.0, deviation))
}
