//! Writing a network down: each call appends a node and works out its shape.

use super::op::{Dim, Graph, GraphError, Node, NodeId, Op, Output, Shape};
use std::collections::HashSet;

/// Appends nodes to a graph. Shape mistakes are kept and reported once, by [`GraphBuilder::finish`], so that a network reads
/// without a `?` on every line.
#[derive(Default)]
pub struct GraphBuilder {
    graph: Graph,
    error: Option<GraphError>,
}

impl GraphBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// A dense input.
    pub fn input(&mut self, name: &str, shape: Shape) -> NodeId {
        self.push(name, Op::Input, vec![], shape)
    }

    /// Where the pillars stand.
    pub fn pillar_index(&mut self, name: &str) -> NodeId {
        self.push(name, Op::PillarIndex, vec![], vec![])
    }

    /// Any operation over earlier nodes.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = name.into();
        let shapes: Vec<&[Dim]> = inputs.iter().map(|&i| self.graph.nodes[i].shape.as_slice()).collect();
        let shape = infer_shape(&op, &shapes).unwrap_or_else(|(what, expected)| {
            let found = format!("{shapes:?}");
            self.error.get_or_insert(GraphError::Shape { node: name.clone(), what, expected, found });
            vec![Dim::Fixed(0)]
        });
        self.push(&name, op, inputs.to_vec(), shape)
    }

    /// Width of a node's last axis.
    pub fn channels(&self, node: NodeId) -> usize {
        last_fixed(&self.graph.nodes[node].shape).unwrap_or(0)
    }

    pub fn output(&mut self, role: impl Into<String>, node: NodeId) {
        self.graph.outputs.push(Output { role: role.into(), node });
    }

    /// The finished graph.
    ///
    /// # Errors
    /// The first shape that did not fit, or a name used twice.
    pub fn finish(self) -> Result<Graph, GraphError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut seen = HashSet::new();
        match self.graph.nodes.iter().find(|n| !seen.insert(n.name.as_str())) {
            Some(twice) => Err(GraphError::DuplicateName(twice.name.clone())),
            None => Ok(self.graph),
        }
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, shape: Shape) -> NodeId {
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, shape });
        self.graph.nodes.len() - 1
    }
}

fn last_fixed(shape: &[Dim]) -> Option<usize> {
    match shape.last() {
        Some(&Dim::Fixed(n)) => Some(n),
        _ => None,
    }
}

/// Shape of the result, or what was wrong and what was expected.
fn infer_shape(op: &Op, inputs: &[&[Dim]]) -> Result<Shape, (&'static str, String)> {
    use Dim::{Batch, Fixed, Pillars, Points};
    let image = |channels: usize| match inputs {
        [[Batch, Fixed(h), Fixed(w), Fixed(c)]] if *c == channels => Ok((*h, *w)),
        _ => Err(("input", format!("[Batch, height, width, {channels}]"))),
    };
    let with_last = |shape: &[Dim], channels: usize| {
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = Fixed(channels);
        }
        shape
    };
    match *op {
        Op::Input | Op::PillarIndex => Ok(vec![]),
        Op::Linear { inputs: n, outputs, .. } => match inputs {
            [s] if last_fixed(s) == Some(n) => Ok(with_last(s, outputs)),
            _ => Err(("input", format!("one value whose last axis is {n}"))),
        },
        Op::Conv2d { inputs: n, outputs, kernel, stride, padding, .. } => {
            let (h, w) = image(n)?;
            let out = |size: usize| (size + 2 * padding).checked_sub(kernel).map(|s| s / stride + 1);
            match (out(h), out(w)) {
                (Some(h), Some(w)) => Ok(vec![Batch, Fixed(h), Fixed(w), Fixed(outputs)]),
                _ => Err(("input", format!("an image of at least {kernel} x {kernel} with padding {padding}"))),
            }
        }
        Op::ConvTranspose2d { inputs: n, outputs, stride, .. } => {
            let (h, w) = image(n)?;
            Ok(vec![Batch, Fixed(h * stride), Fixed(w * stride), Fixed(outputs)])
        }
        Op::BatchNorm { channels, .. } => match inputs {
            [s] if last_fixed(s) == Some(channels) => Ok(s.to_vec()),
            _ => Err(("input", format!("one value whose last axis is {channels}"))),
        },
        Op::Relu => match inputs {
            [s] => Ok(s.to_vec()),
            _ => Err(("inputs", "one value".into())),
        },
        Op::PillarMax => match inputs {
            [[Points, Fixed(c)], []] => Ok(vec![Pillars, Fixed(*c)]),
            _ => Err(("inputs", "[Points, c] and a pillar index".into())),
        },
        Op::PillarConcat => match inputs {
            [[Points, Fixed(a)], [Pillars, Fixed(b)], []] => Ok(vec![Points, Fixed(a + b)]),
            _ => Err(("inputs", "[Points, a], [Pillars, b] and a pillar index".into())),
        },
        Op::PillarScatter { height, width } => match inputs {
            [[Pillars, Fixed(c)], []] => Ok(vec![Batch, Fixed(height), Fixed(width), Fixed(*c)]),
            _ => Err(("inputs", "[Pillars, c] and a pillar index".into())),
        },
        Op::Concat => {
            let first = inputs.first().ok_or(("inputs", "at least one value".to_owned()))?;
            let fits = |s: &[Dim]| s.len() == first.len() && s[..s.len() - 1] == first[..first.len() - 1] && last_fixed(s).is_some();
            if first.is_empty() || !inputs.iter().all(|s| fits(s)) {
                return Err(("inputs", "values that differ only in their last axis".into()));
            }
            Ok(with_last(first, inputs.iter().filter_map(|s| last_fixed(s)).sum()))
        }
        Op::Add => match inputs {
            [a, b] if a == b => Ok(a.to_vec()),
            _ => Err(("inputs", "two values of one shape".into())),
        },
    }
}
