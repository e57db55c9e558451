//! The part of a network that works on images.

use super::op::{Graph, Node, NodeId, Op, Output};
use super::scheme::is_rows;

/// The part of a graph behind its points and pillars: what yields images, from the last rows on, which become inputs under
/// their own names. Nodes keep their names.
///
/// Point layers stay float, so a frame can be kept as these rows, which are far smaller than any map that follows.
pub fn dense_part(graph: &Graph) -> Graph {
    let stays = |node: &Node| !is_rows(node) && node.op != Op::PillarIndex;
    let mut part = Graph::default();
    let mut moved: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().filter(|(_, n)| stays(n)) {
        let inputs = node.inputs.iter().map(|&input| {
            *moved[input].get_or_insert_with(|| {
                let from = &graph.nodes[input];
                let op = if from.op == Op::PillarIndex { Op::PillarIndex } else { Op::Input };
                part.nodes.push(Node { name: from.name.clone(), op, inputs: Vec::new(), shape: from.shape.clone() });
                part.nodes.len() - 1
            })
        });
        let inputs = inputs.collect();
        part.nodes.push(Node { inputs, ..node.clone() });
        moved[id] = Some(part.nodes.len() - 1);
    }
    part.outputs = graph.outputs.iter().filter_map(|o| Some(Output { role: o.role.clone(), node: moved[o.node]? })).collect();
    part
}
