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

/// Weights of one model as a start for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Transferred {
    pub params: Params,
    /// Names of the tensors that begin anew: the model has none of this name and shape.
    pub anew: Vec<String>,
    /// Names of the model's tensors that found no place.
    pub unused: Vec<String>,
}

impl Transferred {
    /// How many tensors were taken over.
    pub fn taken(&self) -> usize {
        self.params.0.len() - self.anew.len()
    }
}

/// Every tensor of `from` whose name and shape `graph` has too; the others as [`initial_params`] gives them. Between models of
/// other classes these are the last convolutions of the heat maps.
pub fn transferred_params(graph: &Graph, seed: u64, mut from: Params) -> Transferred {
    let mut params = initial_params(graph, seed);
    let mut anew = Vec::new();
    for (name, value) in &mut params.0 {
        match from.0.remove(name) {
            Some(given) if given.shape() == value.shape() => *value = given,
            given => {
                anew.push(name.clone());
                from.0.extend(given.map(|g| (name.clone(), g)));
            }
        }
    }
    Transferred { params, anew, unused: from.0.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{CodeBase, config};

    #[test]
    fn other_classes_keep_all_but_the_last_heat_map_convolutions() {
        let mut detector = config(CodeBase::Det3d);
        let from = initial_params(&detector.graph().unwrap(), 1);
        detector.network.head.tasks.truncate(1);
        detector.network.head.tasks[0].classes.push("tram".into());
        let graph = detector.graph().unwrap();
        let got = transferred_params(&graph, 2, from.clone());
        assert_eq!(got.anew, ["bbox_head.tasks.0.hm.3.bias", "bbox_head.tasks.0.hm.3.weight"]);
        assert_eq!(got.taken(), graph.params().len() - 2);
        assert!(got.unused.iter().all(|n| n.starts_with("bbox_head.tasks.") || got.anew.contains(n)), "{:?}", got.unused);
        got.params.check(&graph).unwrap();
        let same = |name: &str| got.params.0[name] == from.0[name];
        assert!(same("reader.pfn_layers.0.linear.weight") && same("bbox_head.tasks.0.hm.0.weight"));
    }
}
