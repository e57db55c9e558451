//! CenterPoint-Pillar written down: pillar feature network, scatter, 2D backbone, centre heads.

use super::keys::{BLOCK_PERIOD, KeyTable, fill};
use super::{BranchRole, Head, NetworkError, PillarEncoder, PillarNetwork, Rpn, Upsample};
use crate::graph::{Dim, Graph, GraphBuilder, NodeId, Op};

/// Weight of a new batch in the running statistics, pillar encoder and backbone (all three code bases).
const BODY_MOMENTUM: f64 = 0.01;
/// The same in the head, where the code bases leave PyTorch's default.
const HEAD_MOMENTUM: f64 = 0.1;

/// Batch norm's two constants.
#[derive(Clone, Copy)]
struct Norm {
    eps: f64,
    momentum: f64,
}

/// The graph of a pillar network. Nodes with parameters carry the module names of its code base.
///
/// Inputs: `points` `[Points, point_features]` and `pillars`, the index of their pillars. In hard voxelization each pillar
/// that is not full has one more row, all zero: the originals pad with zeros, and padded slots take part in the maximum.
/// Outputs: for each task and branch a map `[Batch, height, width, channels]` in the role `task{t}.{branch}`.
///
/// `canvas` is the height (y) and width (x) of the pillar grid in cells.
///
/// # Errors
/// A network whose fields contradict each other or the canvas.
pub fn build(network: &PillarNetwork, point_features: usize, canvas: [usize; 2]) -> Result<Graph, NetworkError> {
    network.validate(point_features, canvas)?;
    let keys = network.dialect.keys();
    let [height, width] = canvas;
    let mut graph = GraphBuilder::new();
    let points = graph.input("points", vec![Dim::Points, Dim::Fixed(point_features)]);
    let pillars = graph.pillar_index("pillars");
    let features = pillar_features(&mut graph, &network.encoder, keys, points, pillars);
    let bev = graph.add("scatter", Op::PillarScatter { height, width }, &[features, pillars]);
    let map = backbone(&mut graph, &network.rpn, keys, bev);
    heads(&mut graph, &network.head, keys, map);
    Ok(graph.finish()?)
}

/// Per point: linear, batch norm, ReLU; per pillar: the maximum, which all layers but the last hand back to the points.
fn pillar_features(graph: &mut GraphBuilder, encoder: &PillarEncoder, keys: &KeyTable, points: NodeId, pillars: NodeId) -> NodeId {
    let norm = Norm { eps: encoder.norm_eps, momentum: BODY_MOMENTUM };
    let mut rows = points;
    let mut features = points;
    for (i, &width) in encoder.layers.iter().enumerate() {
        let is_last = i + 1 == encoder.layers.len();
        let inputs = graph.channels(rows);
        let outputs = if is_last { width } else { width / 2 };
        let linear = fill(keys.pfn_linear, &[("{i}", &i)]);
        let x = graph.add(&linear, Op::Linear { inputs, outputs, bias: false, relu: false }, &[rows]);
        let x = norm_relu(graph, fill(keys.pfn_norm, &[("{i}", &i)]), norm, x);
        features = graph.add(format!("{linear}.max"), Op::PillarMax, &[x, pillars]);
        if !is_last {
            rows = graph.add(format!("{linear}.concat"), Op::PillarConcat, &[x, features, pillars]);
        }
    }
    features
}

/// Blocks of 3x3 convolutions, the first of each strided; every block's output brought to one resolution and concatenated.
fn backbone(graph: &mut GraphBuilder, rpn: &Rpn, keys: &KeyTable, bev: NodeId) -> NodeId {
    let norm = Norm { eps: rpn.norm_eps, momentum: BODY_MOMENTUM };
    let mut x = bev;
    let mut maps = Vec::new();
    for (i, &filters) in rpn.filters.iter().enumerate() {
        for j in 0..=rpn.layers[i] {
            let at = keys.block_first + BLOCK_PERIOD * j;
            let stride = if j == 0 { rpn.strides[i] } else { 1 };
            let op = Op::Conv2d { inputs: graph.channels(x), outputs: filters, kernel: 3, stride, padding: 1, bias: false, relu: false };
            x = graph.add(fill(keys.block, &[("{i}", &i), ("{n}", &at)]), op, &[x]);
            x = norm_relu(graph, fill(keys.block, &[("{i}", &i), ("{n}", &(at + 1))]), norm, x);
        }
        let (inputs, outputs, bias, relu) = (filters, rpn.upsample_filters[i], false, false);
        let op = match rpn.upsample[i] {
            Upsample::Down2 => Op::Conv2d { inputs, outputs, kernel: 2, stride: 2, padding: 0, bias, relu },
            Upsample::Same => Op::Conv2d { inputs, outputs, kernel: 1, stride: 1, padding: 0, bias, relu },
            Upsample::Transposed(stride) => Op::ConvTranspose2d { inputs, outputs, stride, bias, relu },
        };
        let map = graph.add(fill(keys.deblock_conv, &[("{i}", &i)]), op, &[x]);
        maps.push(norm_relu(graph, fill(keys.deblock_norm, &[("{i}", &i)]), norm, map));
    }
    graph.add("concat", Op::Concat, &maps)
}

/// One shared convolution, then for each task and branch two convolutions of its own.
fn heads(graph: &mut GraphBuilder, head: &Head, keys: &KeyTable, map: NodeId) {
    let norm = Norm { eps: head.norm_eps, momentum: HEAD_MOMENTUM };
    let conv3x3 = |inputs, outputs, bias| Op::Conv2d { inputs, outputs, kernel: 3, stride: 1, padding: 1, bias, relu: false };
    let shared = graph.add(keys.shared_conv, conv3x3(graph.channels(map), head.shared_channels, head.bias_before_norm), &[map]);
    let shared = norm_relu(graph, keys.shared_norm.to_owned(), norm, shared);
    for (t, task) in head.tasks.iter().enumerate() {
        for branch in &head.branches {
            let key = |pattern| fill(pattern, &[("{t}", &t), ("{name}", &branch.name)]);
            let hidden = branch.channels.unwrap_or(head.branch_channels);
            let channels = branch.role.channels(task.classes.len());
            let x = graph.add(key(keys.branch_conv), conv3x3(head.shared_channels, hidden, head.bias_before_norm), &[shared]);
            let x = norm_relu(graph, key(keys.branch_norm), norm, x);
            let x = graph.add(key(keys.branch_final), conv3x3(hidden, channels, true), &[x]);
            graph.output(output_role(t, branch.role), x);
        }
    }
}

/// The role in which the decoder asks for a head map.
pub fn output_role(task: usize, role: BranchRole) -> String {
    format!("task{task}.{}", role.name())
}

fn norm_relu(graph: &mut GraphBuilder, name: String, norm: Norm, x: NodeId) -> NodeId {
    let relu = format!("{name}.relu");
    let x = graph.add(name, Op::BatchNorm { channels: graph.channels(x), eps: norm.eps, momentum: norm.momentum }, &[x]);
    graph.add(relu, Op::Relu, &[x])
}
