//! Folding batch norm and ReLU into the layer before them.

use super::op::{Dim, Graph, Node, NodeId, Op};
use super::params::Params;
use ndarray::{ArrayD, Axis};

/// The same function with every batch norm (running statistics) multiplied into the weights of the layer that feeds it, and
/// every ReLU made part of the layer before it. Node names of layers stay; folded nodes vanish.
///
/// A batch norm or ReLU is folded only where its input is a layer that nobody else reads; others stay as they are. Arithmetic
/// is done in f64 and rounded once.
pub fn fold_batch_norm(graph: &Graph, params: &Params) -> (Graph, Params) {
    let mut readers = vec![0usize; graph.nodes.len()];
    for input in graph.nodes.iter().flat_map(|n| &n.inputs) {
        readers[*input] += 1;
    }
    for output in &graph.outputs {
        readers[output.node] += 1;
    }

    let mut folded = Graph::default();
    let mut out = Params::default();
    // Where each old node's value is found in the new graph.
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let alone = |i: usize| readers[node.inputs[i]] == 1;
        let host = node.inputs.first().map(|&i| moved[i]);
        let absorbed = match (&node.op, host) {
            (Op::BatchNorm { eps, .. }, Some(host)) if alone(0) => {
                absorb_batch_norm(&mut folded.nodes[host], &mut out, params, &node.name, *eps)
            }
            (Op::Relu, Some(host)) if alone(0) => set_relu(&mut folded.nodes[host].op),
            _ => false,
        };
        if absorbed {
            moved.push(host.unwrap_or(0));
            continue;
        }
        for spec in node.op.params(&node.name) {
            if let Some(value) = params.0.get(&spec.name) {
                out.0.insert(spec.name, value.clone());
            }
        }
        let inputs = node.inputs.iter().map(|&i| moved[i]).collect();
        folded.nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs, shape: node.shape.clone() });
        moved.push(folded.nodes.len() - 1);
    }
    folded.outputs = graph.outputs.iter().map(|o| super::Output { role: o.role.clone(), node: moved[o.node] }).collect();
    (folded, out)
}

/// Makes ReLU part of a layer; false if the operation has no place for it.
fn set_relu(op: &mut Op) -> bool {
    match op {
        Op::Linear { relu, .. } | Op::Conv2d { relu, .. } | Op::ConvTranspose2d { relu, .. } => {
            *relu = true;
            true
        }
        _ => false,
    }
}

/// Multiplies a batch norm into the layer `host`; false if the host is no layer without ReLU or a tensor is missing.
fn absorb_batch_norm(host: &mut Node, out: &mut Params, params: &Params, norm: &str, eps: f64) -> bool {
    let output_axis = match host.op {
        Op::Linear { relu: false, .. } | Op::Conv2d { relu: false, .. } => 0,
        Op::ConvTranspose2d { relu: false, .. } => 1,
        _ => return false,
    };
    let column = |suffix: &str| params.0.get(&format!("{norm}.{suffix}"));
    let (Some(gamma), Some(beta), Some(mean), Some(var)) =
        (column("weight"), column("bias"), column("running_mean"), column("running_var"))
    else {
        return false;
    };
    let Some(weight) = out.0.get_mut(&format!("{}.weight", host.name)) else {
        return false;
    };
    let scale: Vec<f64> = gamma.iter().zip(var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + eps).sqrt()).collect();
    for (mut slice, &s) in weight.axis_iter_mut(Axis(output_axis)).zip(&scale) {
        slice.mapv_inplace(|w| (f64::from(w) * s) as f32);
    }
    let bias_name = format!("{}.bias", host.name);
    let old = out.0.get(&bias_name).map_or_else(|| vec![0.0; scale.len()], |b| b.iter().map(|&b| f64::from(b)).collect());
    let bias: Vec<f32> = (0..scale.len()).map(|c| ((old[c] - f64::from(mean[[c]])) * scale[c] + f64::from(beta[[c]])) as f32).collect();
    out.0.insert(bias_name, ArrayD::from_shape_vec(vec![bias.len()], bias).expect("one bias per output"));
    match &mut host.op {
        Op::Linear { bias, .. } | Op::Conv2d { bias, .. } | Op::ConvTranspose2d { bias, .. } => *bias = true,
        _ => unreachable!("matched above"),
    }
    debug_assert!(matches!(host.shape.last(), Some(Dim::Fixed(c)) if *c == scale.len()));
    true
}
