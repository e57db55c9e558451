//! Which layers become integers, and which values need a range for it.

use super::CalibrationError;
use crate::graph::{Graph, NodeId, Op, is_rows};
use std::collections::{BTreeMap, BTreeSet};

/// What is quantized, and to how many bits.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Layers that stay float: names, or beginnings of names followed by `*`.
    pub float: Vec<String>,
    pub weight_bits: u8,
    pub activation_bits: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { float: Vec::new(), weight_bits: 8, activation_bits: 8 }
    }
}

/// A decision about every layer of a folded graph.
pub(super) struct Layout {
    pub integer: Vec<NodeId>,
    /// Layer and reason.
    pub float: BTreeMap<String, String>,
    /// Nodes whose values become integers, each with the node whose range it takes: itself, or the concatenation of which it
    /// is a part.
    pub values: BTreeMap<NodeId, NodeId>,
}

impl Layout {
    /// # Errors
    /// A pattern of the policy that fits no layer; bits out of range.
    pub fn new(graph: &Graph, policy: &Policy) -> Result<Self, CalibrationError> {
        for (name, bits) in [("weight", policy.weight_bits), ("activation", policy.activation_bits)] {
            if !(2..=8).contains(&bits) {
                return Err(CalibrationError::Bits { what: name, found: bits });
            }
        }
        let layers = || graph.nodes.iter().filter(|n| n.op.is_layer());
        for pattern in &policy.float {
            if !layers().any(|n| fits(pattern, &n.name)) {
                let names = layers().map(|n| n.name.clone()).collect::<Vec<_>>().join(", ");
                return Err(CalibrationError::NoSuchLayer { pattern: pattern.clone(), layers: names });
            }
        }
        let mut float = BTreeMap::new();
        let mut integer = Vec::new();
        for (id, node) in graph.nodes.iter().enumerate().filter(|(_, n)| n.op.is_layer()) {
            if policy.float.iter().any(|pattern| fits(pattern, &node.name)) {
                float.insert(node.name.clone(), "as asked for".to_owned());
            } else if is_rows(node) {
                float.insert(node.name.clone(), "works on points: coordinates of tens of metres with offsets of centimetres".to_owned());
            } else {
                integer.push(id);
            }
        }
        let values = values(graph, &integer);
        Ok(Self { integer, float, values })
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Inputs of integer layers, and what those are put together from.
fn values(graph: &Graph, integer: &[NodeId]) -> BTreeMap<NodeId, NodeId> {
    let mut needed: BTreeSet<NodeId> = integer.iter().flat_map(|&id| graph.nodes[id].inputs.clone()).collect();
    let mut values = BTreeMap::new();
    // From the end on: a concatenation is met before its parts.
    for id in (0..graph.nodes.len()).rev().filter(|&id| graph.nodes[id].op != Op::PillarIndex) {
        if !needed.contains(&id) {
            continue;
        }
        let range = *values.entry(id).or_insert(id);
        let node = &graph.nodes[id];
        if matches!(node.op, Op::Concat | Op::Add) {
            needed.extend(&node.inputs);
        }
        if node.op == Op::Concat {
            values.extend(node.inputs.iter().map(|&input| (input, range)));
        }
    }
    values
}

/// Whether a value cannot be negative, told by the operations before it.
pub(super) fn is_non_negative(graph: &Graph, id: NodeId) -> bool {
    let node = &graph.nodes[id];
    let mut dense = node.inputs.iter().filter(|&&i| graph.nodes[i].op != Op::PillarIndex).peekable();
    match node.op {
        _ if node.op.has_relu() => true,
        Op::Concat | Op::Add | Op::PillarMax | Op::PillarConcat | Op::PillarScatter { .. } => {
            dense.peek().is_some() && dense.all(|&i| is_non_negative(graph, i))
        }
        _ => false,
    }
}
