//! Outputs that are wanted at few pixels only, such as what a detector regresses at every cell and reads where its heat map is
//! high.
//!
//! Layers that nothing but such outputs needs run behind all others, group by group, and only at the pixels that then are known to
//! be wanted. What they yield there is what they always yield.

use super::conv::{COMPUTE, Conv, LEAVE, To};
use super::plan::{Buffer, Plan, StepKind};
use crate::graph::{Graph, NodeId, Op};
use std::ops::Range;

/// By node: the group whose outputs are all that its value is good for. `groups` name outputs by their roles. A group with a layer
/// that is no plain integer convolution is left out, and runs with all others.
pub(super) fn group_of_nodes(
    graph: &Graph,
    readers: &[Vec<NodeId>],
    groups: &[Vec<String>],
    is_conv: impl Fn(NodeId) -> bool,
    is_bytes: impl Fn(NodeId) -> bool,
) -> Vec<Option<usize>> {
    let mut of_node = vec![None; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        let by_readers = readers[id].iter().map(|&r| of_node[r]);
        let as_output = graph.outputs.iter().filter(|o| o.node == id).map(|o| groups.iter().position(|g| g.contains(&o.role)));
        let mut users = by_readers.chain(as_output);
        let first = users.next().flatten();
        of_node[id] = first.filter(|_| users.all(|other| other == first));
    }
    // Their inputs are there as bytes, and outputs are floats, so that no other step is needed between.
    let fits = |id: NodeId, group: usize| {
        let is_output = graph.outputs.iter().any(|o| o.node == id);
        let inputs_fit = graph.nodes[id].inputs.iter().all(|&i| is_bytes(i));
        is_conv(id) && matches!(graph.nodes[id].op, Op::Conv2d { .. }) && inputs_fit && is_output != is_bytes(id) && group < groups.len()
    };
    let mut misfits: Vec<usize> = (0..graph.nodes.len()).filter_map(|id| of_node[id].filter(|&g| !fits(id, g))).collect();
    misfits.dedup();
    of_node.into_iter().map(|group| group.filter(|g| !misfits.contains(g))).collect()
}

impl Plan {
    /// The steps of a group, which stand side by side.
    pub fn group(&self, group: usize) -> Range<usize> {
        let is_in = |at: &usize| self.steps[*at].group == Some(group);
        let first = (0..self.steps.len()).find(is_in).unwrap_or(0);
        first..first + (first..self.steps.len()).take_while(is_in).count()
    }

    /// Notes which windows of a group's steps must be computed for these pixels of its outputs, `y * width + x`. Pixels outside an
    /// output are not wanted.
    pub fn want(&self, group: usize, pixels: &[usize], todo: &mut [Vec<u8>]) {
        let steps = self.group(group);
        todo[steps.clone()].iter_mut().for_each(|windows| windows.fill(LEAVE));
        for at in steps.clone().rev() {
            let StepKind::Conv(conv) = &self.steps[at].kind else { continue };
            let (before, own) = todo.split_at_mut(at);
            if matches!(conv.to, To::Floats { .. }) {
                pixels.iter().for_each(|&pixel| own[0].get_mut(pixel).into_iter().for_each(|w| *w = COMPUTE));
            }
            for (maker, pixels) in self.steps[steps.start..at].iter().zip(&mut before[steps.start..]) {
                if let StepKind::Conv(maker) = &maker.kind
                    && maker.output_buffer() == Some(conv.input)
                {
                    conv.want_inputs(&self.buffers[conv.input], &own[0], pixels);
                }
            }
        }
    }
}

impl Conv {
    /// Marks the pixels of the input that windows to be computed see.
    fn want_inputs(&self, input: &Buffer, windows: &[u8], pixels: &mut [u8]) {
        let wanted = windows.iter().enumerate().filter(|(_, w)| **w == COMPUTE).map(|(i, _)| i);
        for window in wanted {
            let [y, x] = [window / self.windows[1], window % self.windows[1]];
            let columns = self.reach(x, input.width);
            for row in self.reach(y, input.height) {
                pixels[row * input.width..][columns.clone()].fill(COMPUTE);
            }
        }
    }
}
