//! Convolutions: which of them share a step, and their weights as tiles read them.

use super::super::arithmetic::{Finish, Grid, Requantize};
use super::super::conv::{Conv, MAX_WINDOWS, Pass, To, Weights};
use super::super::cpu::{Packed, window};
use super::super::narrow::{Narrow, fours};
use super::super::plan::{FloatView, StepKind, View};
use super::super::winograd::Winograd;
use super::{LowerError, Lowering, channels, image};
use crate::engine::float::EngineError;
use crate::graph::{Dim, Node, NodeId, Op};

/// A longer sum of products of bytes could leave i32.
const MAX_DEPTH: usize = (i32::MAX / (255 * 128)) as usize;

/// What gathering taps costs, in channels of one vector.
const NARROW_COST: usize = 160;

/// Convolutions with equal keys can share a step.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    buffer: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    finish: Finish,
}

impl<'a> Lowering<'a> {
    /// The convolution `id` and all others that can share its step.
    pub(super) fn convolutions(&mut self, id: NodeId) -> Result<(), LowerError> {
        let key = self.key(id)?;
        let mut members = vec![id];
        // What is written into a concatenation keeps its own place.
        if !self.parts.contains_key(&id) && matches!(self.node(id).op, Op::Conv2d { .. }) {
            for other in id + 1..self.graph.nodes.len() {
                let same_kind = self.integer[other] && matches!(self.node(other).op, Op::Conv2d { .. }) && !self.parts.contains_key(&other);
                if same_kind && self.group[other] == self.group[id] && self.is_ready(other) && self.key(other)? == key {
                    members.push(other);
                }
            }
        }
        let node = self.node(id);
        let Some([height, width, _]) = image(node) else { return Err(self.unsupported(id, "its value is no image")) };
        let scale = if let Op::ConvTranspose2d { stride, .. } = node.op { stride } else { 1 };
        let windows = [height / scale, width / scale];
        if windows[1] > MAX_WINDOWS {
            return Err(self.unsupported(id, &format!("images wider than {MAX_WINDOWS} pixels are not supported")));
        }
        let repeat = self.plan.buffers[key.buffer].repeat.map(|[rows, columns]| {
            [(rows, height), (columns, width)].map(|(axis, outputs)| match node.op {
                Op::ConvTranspose2d { stride, .. } => axis.stretched(stride),
                _ => axis.through_window(key.kernel, key.stride, key.padding, outputs),
            })
        });

        // Output channels of each member, and where they go.
        let widths: Vec<usize> = members.iter().map(|&m| channels(self.node(m))).collect();
        let (to, first) = match key.finish {
            Finish::Bytes(clamp) => {
                let view = if members.len() == 1 { self.place(id, repeat)? } else { self.new_view(&members, repeat)? };
                (To::Bytes { buffer: view.buffer, clamp }, view.first)
            }
            Finish::Floats { low } => {
                let total = widths.iter().sum();
                let array = self.new_array(vec![Dim::Fixed(1), Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(total)]);
                (To::Floats { array, low }, 0)
            }
        };
        let firsts: Vec<usize> = widths.iter().scan(first, |at, w| Some(std::mem::replace(at, *at + w))).collect();
        for ((&member, &first), &channels) in members.iter().zip(&firsts).zip(&widths) {
            match to {
                To::Bytes { buffer, .. } => {
                    let grid = self.grid(member).unwrap_or(Grid { scale: 1.0, zero: 0, low: 0, high: 255 });
                    self.bytes.insert(member, View { buffer, first, channels, grid });
                }
                To::Floats { array, .. } => {
                    self.floats.insert(member, FloatView { array, first, channels });
                }
            }
        }
        let passes = self.passes(&members, &firsts, &key)?;
        let opens = match to {
            To::Bytes { buffer, .. } => self.opened.insert(buffer),
            To::Floats { .. } => true,
        };
        let conv = Conv {
            input: key.buffer,
            taps: key.kernel,
            stride: key.stride,
            padding: key.padding,
            windows,
            scale,
            passes,
            to,
            first,
            channels: widths.iter().sum(),
            opens,
            repeat,
        };
        self.finish_step(&members, StepKind::Conv(Box::new(conv)));
        Ok(())
    }

    /// The shape of a convolution, whose input is made bytes if it is not yet.
    fn key(&mut self, id: NodeId) -> Result<Key, LowerError> {
        let node = self.node(id);
        let (kernel, stride, padding, depth) = match node.op {
            Op::Conv2d { inputs, kernel, stride, padding, .. } => (kernel, stride, padding, inputs * kernel * kernel),
            Op::ConvTranspose2d { inputs, .. } => (1, 1, 0, inputs),
            _ => return Err(self.unsupported(id, "only convolutions have integer kernels")),
        };
        if depth > MAX_DEPTH {
            return Err(self.unsupported(id, &format!("it sums {depth} products, at most {MAX_DEPTH} fit into 32 bits")));
        }
        let input = self.as_bytes(node.inputs[0])?;
        let finish = match self.grid(id) {
            Some(grid) => Finish::Bytes(grid.clamp(node.op.has_relu())),
            None => Finish::Floats { low: if node.op.has_relu() { 0.0 } else { f32::NEG_INFINITY } },
        };
        Ok(Key { buffer: input.buffer, kernel, stride, padding, finish })
    }

    /// Weights of the members of a step: those that read the same value side by side in one pass.
    fn passes(&mut self, members: &[NodeId], firsts: &[usize], key: &Key) -> Result<Vec<Pass>, LowerError> {
        let mut groups: Vec<(View, Vec<usize>)> = Vec::new();
        for (i, &member) in members.iter().enumerate() {
            let input = self.as_bytes(self.node(member).inputs[0])?;
            match groups.last_mut() {
                Some((view, group)) if view.first == input.first => group.push(i),
                _ => groups.push((input, vec![i])),
            }
        }
        let mut passes = Vec::new();
        for (input, group) in groups {
            let (base, op) = (firsts[group[0]], &self.node(members[group[0]]).op);
            let scale = if let Op::ConvTranspose2d { stride, .. } = *op { stride } else { 1 };
            let kernel = if let Op::Conv2d { kernel, .. } = *op { kernel } else { 1 };
            let outputs = group.iter().map(|&i| channels(self.node(members[i]))).sum();
            let mut requantize = Requantize { multiplier: Vec::new(), bias: Vec::new(), finish: Finish::Floats { low: 0.0 } };
            // Whose weight an output channel has, and which of its outputs it is.
            let mut owner: Vec<(&ndarray::ArrayD<i8>, usize)> = Vec::with_capacity(outputs);
            for &i in &group {
                let node = self.node(members[i]);
                let weight = &self.scheme.weights[&node.name];
                let own = Requantize::new(&node.op, weight, self.bias(node)?, &input.grid, self.grid(members[i]).as_ref());
                requantize.multiplier.extend(own.multiplier);
                requantize.bias.extend(own.bias);
                owner.extend((0..channels(node)).map(|c| (&weight.integers, c)));
            }
            let buffer = &self.plan.buffers[input.buffer];
            let window = |taps: usize| window([taps; 2], buffer.row(), buffer.channels, input.channels);
            for phase in (0..scale).flat_map(|y| (0..scale).map(move |x| [y, x])) {
                let weight = |output: usize, tap: usize, c: usize| {
                    let (w, o) = owner[output];
                    if matches!(op, Op::ConvTranspose2d { .. }) {
                        w[[c, o, phase[0], phase[1]]]
                    } else {
                        w[[o, c, tap / kernel, tap % kernel]]
                    }
                };
                let (channels, zero) = (input.channels, input.grid.zero);
                let weights = if self.is_narrow(key, channels, outputs) {
                    let taps = kernel * kernel;
                    let sum = |o: usize| {
                        (0..taps).flat_map(|t| (0..channels).map(move |c| (t, c))).map(|(t, c)| i32::from(weight(o, t, c))).sum::<i32>()
                    };
                    let by_tap = |lane: usize, _: usize, c: usize| weight(lane % outputs, lane / outputs, c);
                    // What follows the sums follows after they were gathered.
                    let nothing = Requantize { multiplier: vec![0.0; taps * outputs], bias: vec![0.0; taps * outputs], ..requantize };
                    Weights::Narrow(Narrow {
                        packed: Packed::new(self.kernels, 1, channels, 0, &nothing, by_tap),
                        stretches: window(1),
                        outputs,
                        start: fours(&(0..outputs).map(|o| -i32::from(zero) * sum(o)).collect::<Vec<_>>()),
                        multiplier: fours(&requantize.multiplier),
                        bias: fours(&requantize.bias),
                    })
                } else {
                    let packed = Packed::new(self.kernels, kernel * kernel, channels, zero, &requantize, weight);
                    let is_3x3 = kernel == 3 && key.stride == 1;
                    let winograd = is_3x3.then(|| Winograd::new(self.kernels, &packed, channels, outputs, weight)).flatten();
                    Weights::Direct { packed, stretches: window(kernel), winograd }
                };
                passes.push(Pass { weights, input_first: input.first, output_first: base, phase });
            }
        }
        Ok(passes)
    }

    /// Whether a lane for every tap of every output costs less than a vector of outputs for every tap.
    fn is_narrow(&self, key: &Key, channels: usize, outputs: usize) -> bool {
        let (lanes, taps) = (self.kernels.lanes(), key.kernel * key.kernel);
        let vectors = (taps * outputs).div_ceil(lanes);
        // Gathering reads outputs by fours.
        let fits = vectors <= self.kernels.vectors() && (taps - 1) * outputs + outputs.next_multiple_of(4) <= vectors * lanes;
        // It costs about as much as so many channels.
        let pays = vectors * channels + NARROW_COST < taps * outputs.div_ceil(lanes) * channels;
        matches!(key.finish, Finish::Floats { .. }) && key.stride == 1 && fits && pays
    }

    fn bias(&self, node: &Node) -> Result<Option<&'a [f32]>, LowerError> {
        let Some(spec) = node.op.params(&node.name).into_iter().nth(1) else { return Ok(None) };
        let bias = self.params.0.get(&spec.name).filter(|b| b.shape() == spec.shape).and_then(|b| b.as_slice());
        bias.map(Some).ok_or_else(|| EngineError::MissingParameter(spec.name).into())
    }
}
