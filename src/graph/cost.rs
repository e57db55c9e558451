//! What each layer costs: multiply-adds, parameters, bytes.

use super::op::{Dim, Graph, Op, Shape};
use serde::Serialize;

/// One row of the layer table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCost {
    pub name: String,
    pub kind: &'static str,
    pub shape: Shape,
    /// Multiply-adds for one sample on a full canvas; for operations on rows, per row.
    pub macs: u64,
    /// Whether `macs` counts one row (point or pillar) instead of one sample.
    pub per_row: bool,
    pub parameters: u64,
}

/// The cost of every node, in node order.
pub fn layer_costs(graph: &Graph) -> Vec<LayerCost> {
    graph
        .nodes
        .iter()
        .map(|node| {
            let per_row = matches!(node.shape.first(), Some(Dim::Points | Dim::Pillars));
            let positions: u64 = match node.shape.split_last() {
                Some((_, leading)) => leading.iter().map(|d| if let Dim::Fixed(n) = d { *n as u64 } else { 1 }).product(),
                None => 0,
            };
            let per_position = match node.op {
                Op::Linear { inputs, outputs, .. } | Op::ConvTranspose2d { inputs, outputs, .. } => inputs * outputs,
                Op::Conv2d { inputs, outputs, kernel, .. } => inputs * outputs * kernel * kernel,
                _ => 0,
            } as u64;
            LayerCost {
                name: node.name.clone(),
                kind: node.op.kind(),
                shape: node.shape.clone(),
                macs: positions * per_position,
                per_row,
                parameters: node.op.params(&node.name).iter().map(|s| s.shape.iter().product::<usize>() as u64).sum(),
            }
        })
        .collect()
}
