//! Folding batch norm and ReLU into the layer before them.

use super::op::{Dim, Graph, Node, NodeId, Op};
use super::params::Params;
use ndarray::{ArrayD, Axis};

/// The same function with every batch norm (running statistics) multiplied into the weights of the layer that feeds it, and
/// every ReLU made part of the layer before it. Node names of layers stay; folded nodes vanish.
///
/// A batch norm or ReLU is folded only where its input is a layer that nobody else reads; others stay as they are. Arithmetic
/// is done in f64 and rounded once. The parameters must fit the graph ([`Params::check`]).
pub fn fold_batch_norm(graph: &Graph, params: &Params) -> (Graph, Params) {
    let (folded, norms) = fold_nodes(graph);
    let mut out = Params::default();
    for spec in folded.params() {
        if let Some(value) = params.0.get(&spec.name) {
            out.0.insert(spec.name, value.clone());
        }
    }
    for Absorbed { host, norm, eps } in norms {
        multiply_in(&folded.nodes[host], &mut out, params, &norm, eps);
    }
    (folded, out)
}

/// The graph that [`fold_batch_norm`] yields, without the arithmetic on parameters.
pub fn fold_graph(graph: &Graph) -> Graph {
    fold_nodes(graph).0
}

/// A batch norm that became part of the layer `host` of the folded graph.
struct Absorbed {
    host: NodeId,
    norm: String,
    eps: f64,
}

fn fold_nodes(graph: &Graph) -> (Graph, Vec<Absorbed>) {
    let mut readers = vec![0usize; graph.nodes.len()];
    for input in graph.nodes.iter().flat_map(|n| &n.inputs) {
        readers[*input] += 1;
    }
    for output in &graph.outputs {
        readers[output.node] += 1;
    }

    let mut folded = Graph::default();
    let mut norms = Vec::new();
    // Where each old node's value is found in the new graph.
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let host = node.inputs.first().filter(|&&i| readers[i] == 1).map(|&i| moved[i]);
        let absorbed = host.filter(|&host| match node.op {
            Op::BatchNorm { .. } => give_bias(&mut folded.nodes[host].op),
            Op::Relu => set_relu(&mut folded.nodes[host].op),
            _ => false,
        });
        if let Some(host) = absorbed {
            if let Op::BatchNorm { eps, .. } = node.op {
                norms.push(Absorbed { host, norm: node.name.clone(), eps });
            }
            moved.push(host);
            continue;
        }
        let inputs = node.inputs.iter().map(|&i| moved[i]).collect();
        folded.nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs, shape: node.shape.clone() });
        moved.push(folded.nodes.len() - 1);
    }
    folded.outputs = graph.outputs.iter().map(|o| super::Output { role: o.role.clone(), node: moved[o.node] }).collect();
    (folded, norms)
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

/// Makes room for a batch norm in a layer; false if the operation is no layer without ReLU.
fn give_bias(op: &mut Op) -> bool {
    match op {
        Op::Linear { bias, relu: false, .. } | Op::Conv2d { bias, relu: false, .. } | Op::ConvTranspose2d { bias, relu: false, .. } => {
            *bias = true;
            true
        }
        _ => false,
    }
}

/// Multiplies a batch norm into the parameters of the layer `host`.
fn multiply_in(host: &Node, out: &mut Params, params: &Params, norm: &str, eps: f64) {
    let column = |suffix: &str| params.0.get(&format!("{norm}.{suffix}"));
    let (Some(gamma), Some(beta), Some(mean), Some(var), Some(weight)) =
        (column("weight"), column("bias"), column("running_mean"), column("running_var"), out.0.get_mut(&format!("{}.weight", host.name)))
    else {
        return; // parameters that do not fit their graph; whoever uses the result finds them missing
    };
    let scale: Vec<f64> = gamma.iter().zip(var).map(|(&g, &v)| f64::from(g) / (f64::from(v) + eps).sqrt()).collect();
    for (mut slice, &s) in weight.axis_iter_mut(Axis(host.op.output_axis())).zip(&scale) {
        slice.mapv_inplace(|w| (f64::from(w) * s) as f32);
    }
    let bias_name = format!("{}.bias", host.name);
    let old = out.0.get(&bias_name).map_or_else(|| vec![0.0; scale.len()], |b| b.iter().map(|&b| f64::from(b)).collect());
    let bias: Vec<f32> = (0..scale.len()).map(|c| ((old[c] - f64::from(mean[[c]])) * scale[c] + f64::from(beta[[c]])) as f32).collect();
    out.0.insert(bias_name, ArrayD::from_shape_vec(vec![bias.len()], bias).expect("one bias per output"));
    debug_assert!(matches!(host.shape.last(), Some(Dim::Fixed(c)) if *c == scale.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;

    const NORM: Op = Op::BatchNorm { channels: 2, eps: 0.0, momentum: 0.1 };
    const LINEAR: Op = Op::Linear { inputs: 2, outputs: 2, bias: true, relu: false };

    fn params(entries: &[(&str, &[usize], &[f32])]) -> Params {
        let tensor = |shape: &[usize], values: &[f32]| ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).expect("shape fits");
        Params(entries.iter().map(|(name, shape, values)| ((*name).to_owned(), tensor(shape, values))).collect())
    }

    fn norm_params() -> Vec<(&'static str, &'static [usize], &'static [f32])> {
        // gamma / sqrt(var) is 3 / 2 and 1 / 4.
        vec![
            ("n.weight", &[2], &[3.0, 1.0]),
            ("n.bias", &[2], &[10.0, 20.0]),
            ("n.running_mean", &[2], &[1.0, 4.0]),
            ("n.running_var", &[2], &[4.0, 16.0]),
        ]
    }

    /// (w x + b - mean) gamma / sqrt(var) + beta, by hand.
    #[test]
    fn linear_by_hand() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", vec![Dim::Points, Dim::Fixed(2)]);
        let y = g.add("l", LINEAR, &[x]);
        let y = g.add("n", NORM, &[y]);
        let y = g.add("r", Op::Relu, &[y]);
        g.output("y", y);
        let mut entries = norm_params();
        entries.extend([("l.weight", &[2, 2][..], &[2.0, 4.0, 8.0, 16.0][..]), ("l.bias", &[2][..], &[5.0, 8.0][..])]);
        let (graph, folded) = fold_batch_norm(&g.finish().expect("fits"), &params(&entries));
        assert_eq!(folded, params(&[("l.weight", &[2, 2], &[3.0, 6.0, 2.0, 4.0]), ("l.bias", &[2], &[16.0, 21.0])]));
        assert_eq!(graph.nodes.len(), 2);
        assert_eq!(graph.nodes[1].op, Op::Linear { inputs: 2, outputs: 2, bias: true, relu: true });
        assert_eq!(graph.output("y"), Some(1));
        folded.check(&graph).expect("the folded parameters fit the folded graph");
    }

    /// A transposed convolution's outputs are its weight's second axis.
    #[test]
    fn transposed_convolution_scales_the_second_axis() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", vec![Dim::Batch, Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(1)]);
        let y = g.add("t", Op::ConvTranspose2d { inputs: 1, outputs: 2, stride: 1, bias: false, relu: false }, &[x]);
        let y = g.add("n", NORM, &[y]);
        g.output("y", y);
        let mut entries = norm_params();
        entries.push(("t.weight", &[1, 2, 1, 1], &[2.0, 8.0]));
        let (graph, folded) = fold_batch_norm(&g.finish().expect("fits"), &params(&entries));
        assert_eq!(folded, params(&[("t.weight", &[1, 2, 1, 1], &[3.0, 2.0]), ("t.bias", &[2], &[8.5, 19.0])]));
        folded.check(&graph).expect("the folded parameters fit the folded graph");
    }

    /// A value that somebody else reads must stay what it was.
    #[test]
    fn a_layer_with_two_readers_stays() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", vec![Dim::Points, Dim::Fixed(2)]);
        let y = g.add("l", LINEAR, &[x]);
        let z = g.add("n", NORM, &[y]);
        g.output("y", y);
        g.output("z", z);
        let mut entries = norm_params();
        entries.extend([("l.weight", &[2, 2][..], &[2.0, 4.0, 8.0, 16.0][..]), ("l.bias", &[2][..], &[5.0, 8.0][..])]);
        let (graph, params) = (g.finish().expect("fits"), params(&entries));
        assert_eq!(fold_batch_norm(&graph, &params), (graph, params));
    }
}
