//! Which layers become integers, and which values need a range for it.

use super::CalibrationError;
use crate::graph::{Graph, NodeId, Op, fold_graph, is_rows};
use std::collections::{BTreeMap, BTreeSet};

/// What is quantized, and to how many bits.
///
/// Patterns are names of layers, beginnings of names followed by `*`, or `first` and `last`: the layers that no other integer layer
/// precedes, and those that yield outputs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Layers that stay float.
    pub float: Vec<String>,
    /// Of layers that no pattern of `exceptions` fits.
    pub bits: Bits,
    /// The last that fits a layer decides.
    pub exceptions: Vec<(String, Bits)>,
}

impl Policy {
    /// Whether the policy fits a network.
    ///
    /// # Errors
    /// A pattern that fits no layer; bits out of range.
    pub fn check(&self, graph: &Graph) -> Result<(), CalibrationError> {
        Layout::new(&fold_graph(graph), self).map(drop)
    }
}

/// Of a layer's weight, and of the values that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits {
    pub weight: u8,
    pub activation: u8,
}

impl Bits {
    pub const W8A8: Self = Self { weight: 8, activation: 8 };
}

impl Default for Policy {
    fn default() -> Self {
        Self { float: Vec::new(), bits: Bits::W8A8, exceptions: Vec::new() }
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "W{}A{}", self.weight, self.activation)
    }
}

impl std::str::FromStr for Bits {
    type Err = String;

    /// `W4A8`, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let parts = upper.strip_prefix('W').and_then(|rest| rest.split_once('A'));
        let bits = parts.and_then(|(w, a)| Some(Self { weight: w.parse().ok()?, activation: a.parse().ok()? }));
        bits.ok_or_else(|| format!("`{text}`: write bits as W8A8, W4A8"))
    }
}

/// A decision about every layer of a folded graph.
pub(super) struct Layout {
    /// Bits of the weights of layers that become integers.
    pub integer: BTreeMap<NodeId, u8>,
    /// Layer and reason.
    pub float: BTreeMap<String, String>,
    /// Nodes whose values become integers, each with the node whose range it takes (itself, or the concatenation of which it
    /// is a part) and its bits: the most that any of its readers wants.
    pub values: BTreeMap<NodeId, (NodeId, u8)>,
}

impl Layout {
    /// # Errors
    /// A pattern of the policy that fits no layer; bits out of range.
    pub fn new(graph: &Graph, policy: &Policy) -> Result<Self, CalibrationError> {
        for bits in std::iter::once(&policy.bits).chain(policy.exceptions.iter().map(|(_, bits)| bits)) {
            for (what, found) in [("weight", bits.weight), ("activation", bits.activation)] {
                if !(2..=8).contains(&found) {
                    return Err(CalibrationError::Bits { what, found });
                }
            }
        }
        let patterns = Patterns::new(graph);
        for pattern in policy.float.iter().chain(policy.exceptions.iter().map(|(pattern, _)| pattern)) {
            if !patterns.layers().any(|id| patterns.fits(pattern, id)) {
                let names = patterns.layers().map(|id| graph.nodes[id].name.clone()).collect::<Vec<_>>().join(", ");
                return Err(CalibrationError::NoSuchLayer { pattern: pattern.clone(), layers: names });
            }
        }
        let mut float = BTreeMap::new();
        let mut integer: BTreeMap<NodeId, Bits> = BTreeMap::new();
        for id in patterns.layers() {
            let node = &graph.nodes[id];
            if policy.float.iter().any(|pattern| patterns.fits(pattern, id)) {
                float.insert(node.name.clone(), "as asked for".to_owned());
            } else if is_rows(node) {
                float.insert(node.name.clone(), "works on points: coordinates of tens of metres with offsets of centimetres".to_owned());
            } else {
                let exception = policy.exceptions.iter().rev().find(|(pattern, _)| patterns.fits(pattern, id));
                integer.insert(id, exception.map_or(policy.bits, |(_, bits)| *bits));
            }
        }
        let values = with_bits(graph, &integer, values(graph, &integer));
        Ok(Self { integer: integer.into_iter().map(|(id, bits)| (id, bits.weight)).collect(), float, values })
    }
}

/// What names and patterns mean on a graph.
struct Patterns<'a> {
    graph: &'a Graph,
    first: BTreeSet<NodeId>,
}

impl<'a> Patterns<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut behind = vec![false; graph.nodes.len()];
        let mut first = BTreeSet::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let dense = node.op.is_layer() && !is_rows(node);
            behind[id] = node.inputs.iter().any(|&i| behind[i]);
            if dense && !behind[id] {
                first.insert(id);
                behind[id] = true;
            }
        }
        Self { graph, first }
    }

    fn layers(&self) -> impl Iterator<Item = NodeId> {
        self.graph.nodes.iter().enumerate().filter(|(_, n)| n.op.is_layer()).map(|(id, _)| id)
    }

    fn fits(&self, pattern: &str, id: NodeId) -> bool {
        let name = &self.graph.nodes[id].name;
        match pattern {
            "first" => self.first.contains(&id),
            "last" => self.graph.outputs.iter().any(|o| o.node == id),
            _ => pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start)),
        }
    }
}

/// Inputs of integer layers, and what those are put together from.
fn values(graph: &Graph, integer: &BTreeMap<NodeId, Bits>) -> BTreeMap<NodeId, NodeId> {
    let mut needed: BTreeSet<NodeId> = integer.keys().flat_map(|&id| graph.nodes[id].inputs.clone()).collect();
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

/// Gives each value the most bits that a reader of its range, or of what its range is part of, wants.
fn with_bits(graph: &Graph, integer: &BTreeMap<NodeId, Bits>, values: BTreeMap<NodeId, NodeId>) -> BTreeMap<NodeId, (NodeId, u8)> {
    let mut bits: BTreeMap<NodeId, u8> = BTreeMap::new();
    for (&layer, wanted) in integer {
        for &range in graph.nodes[layer].inputs.iter().filter_map(|input| values.get(input)) {
            let most = bits.entry(range).or_insert(wanted.activation);
            *most = wanted.activation.max(*most);
        }
    }
    // What is only added up has the bits of its sum.
    for (&id, &range) in values.iter().rev() {
        if !bits.contains_key(&range) {
            let readers = graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&id));
            let most = readers.filter_map(|(reader, _)| bits.get(values.get(&reader)?).copied()).max();
            bits.insert(range, most.unwrap_or(8));
        }
    }
    values.into_iter().map(|(id, range)| (id, (range, bits[&range]))).collect()
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
