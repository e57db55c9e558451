//! The pillar network on the device: float layers over points and pillars, in the CPU's order of operations.

use super::program::{Builder, IndexMemory, InputMemory};
use crate::engine::cuda::{Args, DeviceError, Memory, turns};
use crate::engine::float::FloatEngine;
use crate::engine::int8::plan::{Plan, Source, StepKind};
use crate::graph::{Dim, NodeId, Op};
use std::collections::BTreeMap;

/// Whether a float step has device kernels for all that it does, and only the device reads what it yields.
pub(super) fn runs_on_device(plan: &Plan, step: &StepKind) -> bool {
    let StepKind::Float { engine, inputs, indices, outputs } = step else { return false };
    let read_by_host = |array: usize| {
        plan.outputs.iter().any(|o| o.view.array == array)
            || plan.steps.iter().any(|other| match &other.kind {
                StepKind::Float { inputs, .. } => inputs.iter().any(|(_, s)| matches!(s, Source::Inside(view) if view.array == array)),
                _ => false,
            })
    };
    let graph = engine.graph();
    let has_kernel = |id: NodeId| match graph.nodes[id].op {
        Op::Input => matches!(graph.nodes[id].shape.as_slice(), [Dim::Points, Dim::Fixed(_)]),
        Op::PillarIndex | Op::PillarMax | Op::PillarConcat => true,
        Op::Linear { .. } => {
            matches!(graph.nodes[id].shape.as_slice(), [Dim::Points | Dim::Pillars, Dim::Fixed(_)]) && engine.linear(id).is_some()
        }
        _ => false,
    };
    indices.len() == 1
        && inputs.iter().all(|(_, source)| matches!(source, Source::Outside))
        && outputs.iter().all(|&(_, array)| !read_by_host(array))
        && (0..graph.nodes.len()).all(has_kernel)
}

impl Builder<'_> {
    /// The launches of a step that [`runs_on_device`].
    pub(super) fn segment(&mut self, engine: &FloatEngine, indices: &[String], outputs: &[(String, usize)]) -> Result<(), DeviceError> {
        let graph = engine.graph();
        let capacity = self.options.capacity;
        let (offsets, counts) = (self.activation(4 * (capacity.pillars + 1))?, self.activation(8)?);
        self.indices.extend(indices.iter().map(|name| IndexMemory { name: name.clone(), offsets, counts }));
        let mut values: BTreeMap<NodeId, Memory> = BTreeMap::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let width = |id: NodeId| if let Some(&Dim::Fixed(n)) = graph.nodes[id].shape.last() { n } else { 0 };
            if node.op == Op::PillarIndex {
                continue;
            }
            let most: usize = node.shape.iter().map(|&d| capacity.of(d)).product();
            let output = graph.outputs.iter().find(|o| o.node == id);
            let to = match output.and_then(|o| outputs.iter().find(|(role, _)| *role == o.role)) {
                Some(&(_, array)) => self.array(array)?.0,
                None => self.activation(4 * most)?,
            };
            values.insert(id, to);
            let of = |i: usize| values[&node.inputs[i]];
            let launch = match node.op {
                Op::Input => {
                    self.inputs.push(InputMemory { name: node.name.clone(), memory: to });
                    continue;
                }
                Op::Linear { inputs, outputs, relu, .. } => {
                    let Some((weights, bias)) = engine.linear(id) else { continue };
                    let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
                    let weights = self.words(bits(&weights))?;
                    let bias = bias.map(|bias| self.words(bits(bias))).transpose()?.unwrap_or(Memory::NULL);
                    let rows = if node.shape[0] == Dim::Points { counts.offset(4) } else { counts };
                    turns("linear", most, Args::new(&[of(0), weights, bias, to, rows]).words(&[inputs, outputs, usize::from(relu)]))
                }
                Op::PillarMax => {
                    turns("pillar_max", most, Args::new(&[of(0), Memory::NULL, to, Memory::NULL, offsets, counts]).words(&[width(id), 0]))
                }
                Op::PillarConcat => {
                    let widths = [width(node.inputs[0]), width(node.inputs[1])];
                    turns("pillar_concat", most, Args::new(&[of(0), of(1), to, Memory::NULL, offsets, counts]).words(&widths))
                }
                _ => continue,
            };
            self.pending.push(launch);
        }
        Ok(())
    }
}
