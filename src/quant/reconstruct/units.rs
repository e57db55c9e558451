//! What is reconstructed at a time, and the part of the network that has to run for it.

use crate::graph::{Graph, Node, NodeId, Op, Output};
use std::collections::{BTreeMap, BTreeSet};

/// Which layers learn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Those that do not depend on each other.
    Layers,
    /// In front of the first concatenation chains of convolutions, behind it layers: LiDAR-PTQ's blocks of the backbone, and layers
    /// of neck and head.
    Blocks,
}

/// Layers that learn together, with what lies between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unit {
    pub layers: Vec<NodeId>,
    /// The layers, operations that read nothing else, and values in front of the layers that nobody has read before.
    pub nodes: BTreeSet<NodeId>,
    /// Nodes that others read, or that are outputs of the network.
    pub outputs: Vec<NodeId>,
    /// Nodes by the range that they share, where all that share it are in the unit: these steps can be learnt here.
    pub ranges: BTreeMap<NodeId, Vec<NodeId>>,
}

/// Units of the integer `layers`, in an order in which they can run. `ranges` are the nodes that become integers, each with the node
/// whose range it takes.
pub fn units(graph: &Graph, layers: &BTreeSet<NodeId>, ranges: &BTreeMap<NodeId, NodeId>, grouping: Grouping) -> Vec<Unit> {
    let mut shared: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    ranges.iter().for_each(|(&node, &range)| shared.entry(range).or_default().push(node));
    let depth = depths(graph, layers);
    // Layers of a unit have the same key.
    let mut keys: BTreeMap<NodeId, Key> = BTreeMap::new();
    for &layer in layers {
        let before = graph.nodes[layer].inputs[0];
        let joins_range = ranges.get(&layer).is_some_and(|range| shared[range].iter().filter(|n| layers.contains(n)).count() > 1);
        let key = match keys.get(&before) {
            _ if joins_range => Key::Range(ranges[&layer]),
            Some(&key @ Key::Chain(_)) if is_link(graph, before, layer) => key,
            _ if grouping == Grouping::Blocks && is_link_of_chain(graph, layer) => Key::Chain(layer),
            _ => Key::Depth(depth[layer]),
        };
        keys.insert(layer, key);
    }
    let mut by_key: BTreeMap<Key, Vec<NodeId>> = BTreeMap::new();
    keys.iter().for_each(|(&layer, &key)| by_key.entry(key).or_default().push(layer));
    let mut groups: Vec<Vec<NodeId>> = by_key.into_values().collect();
    groups.sort_by_key(|group| group.iter().map(|&l| (depth[l], l)).max());
    let owners = owners(graph, &groups, ranges);
    let unit = |(number, layers): (usize, &Vec<NodeId>)| {
        let nodes: BTreeSet<NodeId> = owners.iter().filter(|(_, owner)| **owner == number).map(|(&node, _)| node).collect();
        let read_outside = |&&id: &&NodeId| {
            let is_read = graph.nodes.iter().enumerate().any(|(reader, n)| n.inputs.contains(&id) && !nodes.contains(&reader));
            is_read && !is_before(graph, id, layers) || graph.outputs.iter().any(|o| o.node == id)
        };
        let outputs = nodes.iter().filter(read_outside).copied().collect();
        let ranges = shared.iter().filter(|(_, sharers)| sharers.iter().all(|n| nodes.contains(n)));
        Unit { layers: layers.clone(), outputs, ranges: ranges.map(|(&r, s)| (r, s.clone())).collect(), nodes }
    };
    groups.iter().enumerate().map(unit).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Of the first layer of a chain.
    Chain(NodeId),
    /// Layers whose outputs share a range learn its step together.
    Range(NodeId),
    Depth(usize),
}

/// How many integer layers a node has behind it, itself among them.
fn depths(graph: &Graph, layers: &BTreeSet<NodeId>) -> Vec<usize> {
    let mut depth = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        depth[id] = node.inputs.iter().map(|&i| depth[i]).max().unwrap_or(0) + usize::from(layers.contains(&id));
    }
    depth
}

/// Whether a layer may be part of a chain: a convolution with no concatenation before it.
fn is_link_of_chain(graph: &Graph, layer: NodeId) -> bool {
    let mut before = vec![false; layer + 1];
    before[layer] = true;
    let mut joined = false;
    for id in (0..=layer).rev().filter(|&id| id <= layer) {
        if before[id] {
            joined |= graph.nodes[id].op == Op::Concat;
            graph.nodes[id].inputs.iter().for_each(|&i| before[i] = true);
        }
    }
    matches!(graph.nodes[layer].op, Op::Conv2d { .. }) && !joined
}

/// Whether `layer` goes on with the chain that `before` is part of.
fn is_link(graph: &Graph, before: NodeId, layer: NodeId) -> bool {
    let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&before)).count();
    let is_output = graph.outputs.iter().any(|o| o.node == before);
    readers == 1 && !is_output && is_link_of_chain(graph, layer)
}

/// Whether a node stands in front of a unit's layers rather than behind any of them.
fn is_before(graph: &Graph, id: NodeId, layers: &[NodeId]) -> bool {
    let mut behind = vec![false; id + 1];
    for node in 0..=id {
        behind[node] = layers.contains(&node) || graph.nodes[node].inputs.iter().any(|&i| behind[i]);
    }
    !behind[id]
}

/// The unit of each node that has one.
fn owners(graph: &Graph, groups: &[Vec<NodeId>], ranges: &BTreeMap<NodeId, NodeId>) -> BTreeMap<NodeId, usize> {
    let mut owners: BTreeMap<NodeId, usize> =
        groups.iter().enumerate().flat_map(|(number, layers)| layers.iter().map(move |&l| (l, number))).collect();
    let mut behind_layers = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        behind_layers[id] = node.op.is_layer() || node.inputs.iter().any(|&i| behind_layers[i]);
        if node.op.is_layer() || node.op == Op::PillarIndex {
            continue;
        }
        let owner = if behind_layers[id] {
            let first = owners.get(&node.inputs[0]).copied();
            first.filter(|_| node.inputs.iter().all(|i| owners.get(i).copied() == first))
        } else {
            let readers = graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&id));
            readers.filter_map(|(reader, _)| owners.get(&reader).copied()).min().filter(|_| ranges.contains_key(&id))
        };
        owners.extend(owner.map(|owner| (id, owner)));
    }
    owners
}

/// A part of a graph that runs on its own: values that come from outside are inputs under their own names.
pub struct Cut {
    pub graph: Graph,
    /// Where nodes of the whole graph stand in the part; what is missing is not needed.
    pub place: BTreeMap<NodeId, NodeId>,
    /// Nodes of the whole graph whose values come from outside.
    pub boundary: Vec<NodeId>,
}

/// The part that yields a unit's outputs, and, `with_rest`, the network's.
pub fn cut(whole: &Graph, unit: &Unit, with_rest: bool) -> Cut {
    let mut inside: Vec<bool> = (0..whole.nodes.len()).map(|id| unit.nodes.contains(&id)).collect();
    if with_rest {
        let from_unit =
            |inside: &[bool], id: NodeId| whole.nodes[id].inputs.iter().any(|&i| inside[i] && !is_before(whole, i, &unit.layers));
        for id in 0..whole.nodes.len() {
            inside[id] = inside[id] || from_unit(&inside, id);
        }
    }
    let mut cut = Cut { graph: Graph::default(), place: BTreeMap::new(), boundary: Vec::new() };
    let add = |cut: &mut Cut, id: NodeId, node: Node| {
        cut.graph.nodes.push(node);
        cut.place.insert(id, cut.graph.nodes.len() - 1);
    };
    for id in (0..whole.nodes.len()).filter(|&id| inside[id]) {
        let node = &whole.nodes[id];
        for &input in node.inputs.iter().filter(|&&i| !inside[i]) {
            if !cut.place.contains_key(&input) {
                let from = &whole.nodes[input];
                let op = if from.op == Op::PillarIndex { Op::PillarIndex } else { Op::Input };
                add(&mut cut, input, Node { name: from.name.clone(), op, inputs: Vec::new(), shape: from.shape.clone() });
                cut.boundary.push(input);
            }
        }
        let inputs = node.inputs.iter().map(|i| cut.place[i]).collect();
        add(&mut cut, id, Node { inputs, ..node.clone() });
    }
    let outputs = whole.outputs.iter().filter_map(|o| Some(Output { role: o.role.clone(), node: *cut.place.get(&o.node)? }));
    cut.graph.outputs = outputs.collect();
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Dim, GraphBuilder};

    /// A backbone of two blocks, a neck that joins them, a shared layer and two heads.
    fn network() -> Graph {
        let conv = |inputs, outputs, stride| Op::Conv2d { inputs, outputs, kernel: 3, stride, padding: 1, bias: true, relu: true };
        let up = |inputs, stride| Op::ConvTranspose2d { inputs, outputs: 4, stride, bias: true, relu: true };
        let mut b = GraphBuilder::new();
        let x = b.input("x", vec![Dim::Batch, Dim::Fixed(8), Dim::Fixed(8), Dim::Fixed(3)]);
        let a0 = b.add("a0", conv(3, 4, 1), &[x]);
        let a1 = b.add("a1", conv(4, 4, 1), &[a0]);
        let b0 = b.add("b0", conv(4, 6, 2), &[a1]);
        let b1 = b.add("b1", conv(6, 6, 1), &[b0]);
        let up_a = b.add("up_a", up(4, 1), &[a1]);
        let up_b = b.add("up_b", up(6, 2), &[b1]);
        let neck = b.add("neck", Op::Concat, &[up_a, up_b]);
        let shared = b.add("shared", conv(8, 4, 1), &[neck]);
        for head in ["h", "k"] {
            let y = b.add(format!("{head}0"), conv(4, 4, 1), &[shared]);
            let y = b.add(format!("{head}1"), conv(4, 2, 1), &[y]);
            b.output(head, y);
        }
        b.finish().expect("a graph")
    }

    fn names(graph: &Graph, nodes: impl IntoIterator<Item = NodeId>) -> String {
        nodes.into_iter().map(|id| graph.nodes[id].name.clone()).collect::<Vec<_>>().join(" ")
    }

    fn units_of(graph: &Graph, grouping: Grouping) -> Vec<Unit> {
        let layers: BTreeSet<NodeId> = (0..graph.nodes.len()).filter(|&id| graph.nodes[id].op.is_layer()).collect();
        let neck = graph.node("neck").expect("there");
        let ranges = (0..graph.nodes.len()).filter(|id| !graph.outputs.iter().any(|o| o.node == *id));
        let ranges = ranges.map(|id| (id, if graph.nodes[neck].inputs.contains(&id) { neck } else { id })).collect();
        units(graph, &layers, &ranges, grouping)
    }

    #[test]
    fn blocks_of_the_backbone_layers_of_neck_and_head() {
        let graph = network();
        let blocks = units_of(&graph, Grouping::Blocks);
        let layers: Vec<String> = blocks.iter().map(|u| names(&graph, u.layers.clone())).collect();
        assert_eq!(layers, ["a0 a1", "b0 b1", "up_a up_b", "shared", "h0 k0", "h1 k1"]);
        let outputs: Vec<String> = blocks.iter().map(|u| names(&graph, u.outputs.clone())).collect();
        assert_eq!(outputs, ["a1", "b1", "neck", "shared", "h0 k0", "h1 k1"]);
        let ranges: Vec<String> = blocks.iter().map(|u| names(&graph, u.ranges.keys().copied())).collect();
        assert_eq!(ranges, ["x a0 a1", "b0 b1", "neck", "shared", "h0 k0", ""]);
        assert_eq!(names(&graph, blocks[2].ranges[&graph.node("neck").expect("there")].clone()), "up_a up_b neck");
        let single = units_of(&graph, Grouping::Layers);
        let layers: Vec<String> = single.iter().map(|u| names(&graph, u.layers.clone())).collect();
        assert_eq!(layers, ["a0", "a1", "b0", "b1", "up_a up_b", "shared", "h0 k0", "h1 k1"]);
    }

    #[test]
    fn cuts_take_from_outside_what_earlier_units_yield() {
        let graph = network();
        let units = units_of(&graph, Grouping::Blocks);
        let part = |unit: usize, rest| {
            let cut = cut(&graph, &units[unit], rest);
            assert!(cut.graph.nodes.iter().enumerate().all(|(id, n)| n.inputs.iter().all(|&i| i < id)));
            (names(&graph, cut.boundary.clone()), cut.graph.nodes.len(), cut.graph.outputs.len())
        };
        // The network's input is the unit's own: it is rounded there.
        assert_eq!(part(0, false), (String::new(), 3, 0));
        assert_eq!(part(0, true), (String::new(), graph.nodes.len(), 2));
        assert_eq!(part(1, false), ("a1".into(), 3, 0));
        // The first block's output goes around the second into the neck, whose own branch there need not run again.
        assert_eq!(part(1, true), ("a1 up_a".into(), graph.nodes.len() - 2, 2));
        assert_eq!(part(2, false), ("a1 b1".into(), 5, 0));
        assert_eq!(part(5, true), ("h0 k0".into(), 4, 2));
    }
}
