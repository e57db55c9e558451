//! The part of a network that works on images, with or without quantization.

use super::proto::{Attribute, Side, Type, model};
use super::writer::{Writer, has_bias, parameter, unsupported};
use super::{OnnxDialect, OnnxError};
use crate::graph::{Activation, Dim, Graph, Node, NodeId, Op, Params, Scheme, Weight, fold_batch_norm, is_rows};
use std::collections::BTreeMap;

/// What the image that pillars were scattered onto is called.
const CANVAS: &str = "canvas";

/// The bytes of an ONNX file: the network from its canvas to its outputs, for one sample, batch norm folded into layers.
///
/// Input `canvas` is `[1, channels, height, width]`, zero where no pillar stands; outputs have their roles as names
/// (`task0.heatmap`) and are channels-first as well. Values between nodes have the nodes' names. With a scheme, which must fit
/// the folded graph, layers that it quantizes stand between `DequantizeLinear` and `QuantizeLinear`; those that stay float, and
/// everything without a scheme, are plain operators. `metadata` is kept as the file's properties.
///
/// # Errors
/// A network without a canvas, an operation or a name that ONNX cannot hold, parameters that are missing, a scheme that does
/// not fit.
pub fn export(
    graph: &Graph,
    params: &Params,
    scheme: Option<&Scheme>,
    dialect: OnnxDialect,
    name: &str,
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>, OnnxError> {
    let (graph, params) = fold_batch_norm(graph, params);
    if let Some(scheme) = scheme {
        scheme.check(&graph)?;
    }
    let mut export = Export {
        graph: &graph,
        params: &params,
        scheme,
        dialect,
        writer: Writer::default(),
        values: Vec::with_capacity(graph.nodes.len()),
        rounded: BTreeMap::new(),
    };
    for node in &graph.nodes {
        let value = if is_rows(node) || node.op == Op::PillarIndex { None } else { Some(export.value(node)?) };
        export.values.push(value);
    }
    for output in &graph.outputs {
        let node = &graph.nodes[output.node];
        let value = export.plain(output.node)?;
        export.writer.output(&value, &output.role, &sides(node)?)?;
    }
    let description = "input: pillar features scattered onto the bird's-eye canvas, zero where no pillar stands";
    Ok(model(&export.writer.parts, name, description, metadata))
}

struct Export<'a> {
    graph: &'a Graph,
    params: &'a Params,
    scheme: Option<&'a Scheme>,
    dialect: OnnxDialect,
    writer: Writer,
    /// By node: what its value is called, nothing for rows.
    values: Vec<Option<String>>,
    /// Values that stay float but are also read as integers: the rounded ones.
    rounded: BTreeMap<NodeId, String>,
}

impl<'a> Export<'a> {
    /// Appends what computes a node; its inputs are there.
    fn value(&mut self, node: &Node) -> Result<String, OnnxError> {
        let to = self.name_of(node);
        match node.op {
            Op::Input => self.writer.input(node.name.clone(), &sides(node)?),
            Op::PillarScatter { .. } => {
                let canvases = self.graph.nodes.iter().filter(|n| matches!(n.op, Op::PillarScatter { .. })).count();
                let name = if canvases == 1 { CANVAS.to_owned() } else { node.name.clone() };
                let canvas = self.writer.input(name.clone(), &sides(node)?)?;
                match self.activation(node) {
                    Some(activation) => self.round(canvas, activation, &name, format!("{name}/rounded")),
                    None => Ok(canvas),
                }
            }
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => self.layer(node, to),
            Op::BatchNorm { eps, .. } => {
                let source = self.plain(node.inputs[0])?;
                self.writer.batch_norm(node, eps, self.params, &source, to)
            }
            Op::Relu => {
                let source = self.plain(node.inputs[0])?;
                self.writer.node("Relu", &[&source], to, &[])
            }
            Op::Add => self.join("Add", node, &[], to),
            Op::Concat => self.join("Concat", node, &[Attribute::Int("axis", 1)], to),
            Op::PillarIndex | Op::PillarMax | Op::PillarConcat => Err(unsupported(node, "it works on points")),
        }
    }

    /// An addition or concatenation, in integers if its value and all its inputs are.
    fn join(&mut self, operator: &str, node: &Node, attributes: &[Attribute<'_>], to: String) -> Result<String, OnnxError> {
        let all = node.inputs.iter().all(|&i| self.activation(&self.graph.nodes[i]).is_some());
        let activation = self.activation(node).filter(|_| all);
        let inputs = node.inputs.iter().map(|&i| if activation.is_some() { self.rounded(i) } else { self.plain(i) });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        match activation {
            None => self.writer.node(operator, &inputs, to, attributes),
            Some(activation) => {
                let sum = self.writer.node(operator, &inputs, format!("{}/float", node.name), attributes)?;
                self.round(sum, activation, &node.name, to)
            }
        }
    }

    fn layer(&mut self, node: &Node, to: String) -> Result<String, OnnxError> {
        let integers = self.scheme.and_then(|scheme| scheme.weights.get(&node.name));
        let activation = self.activation(node).filter(|_| integers.is_some());
        let source = if integers.is_some() { self.rounded(node.inputs[0])? } else { self.plain(node.inputs[0])? };
        let mut inputs = vec![source];
        match integers {
            Some(weight) => inputs.extend(self.integer_parameters(node, weight)?),
            None => inputs.extend(self.float_parameters(node)?),
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();

        let relu = node.op.has_relu();
        let after = |more: bool, stage: &str| if more { format!("{}/{stage}", node.name) } else { to.clone() };
        let name = after(relu || activation.is_some(), "sum");
        let mut value = match node.op {
            Op::Conv2d { kernel, stride, padding, .. } => {
                let shape = [
                    Attribute::Ints("kernel_shape", &[kernel; 2]),
                    Attribute::Ints("strides", &[stride; 2]),
                    Attribute::Ints("pads", &[padding; 4]),
                ];
                self.writer.node("Conv", &inputs, name, &shape)?
            }
            Op::ConvTranspose2d { stride, .. } => {
                let shape = [Attribute::Ints("kernel_shape", &[stride; 2]), Attribute::Ints("strides", &[stride; 2])];
                self.writer.node("ConvTranspose", &inputs, name, &shape)?
            }
            // Over the last axis of an image: a convolution of one pixel.
            _ => self.writer.node("Conv", &inputs, name, &[Attribute::Ints("kernel_shape", &[1; 2])])?,
        };
        if relu {
            value = self.writer.node("Relu", &[&value], after(activation.is_some(), "float"), &[])?;
        }
        match activation {
            None => Ok(value),
            Some(activation) => self.round(value, activation, &node.name, to),
        }
    }

    fn float_parameters(&mut self, node: &Node) -> Result<Vec<String>, OnnxError> {
        let specs = node.op.params(&node.name).into_iter();
        specs
            .map(|spec| {
                let values = parameter(self.params, &spec.name)?;
                let shape = kernel_shape(&node.op, &spec.shape);
                self.writer.floats(spec.name, &shape, values.iter().copied())
            })
            .collect()
    }

    /// Weight and bias of an integer layer. The bias is float: OpenVINO and TensorRT add it to the scaled sum, as we do, and ONNX
    /// Runtime rounds it to steps of the sum by itself.
    fn integer_parameters(&mut self, node: &Node, weight: &Weight) -> Result<Vec<String>, OnnxError> {
        let name = format!("{}.weight", node.name);
        let integers: Vec<u8> = weight.integers.iter().map(|&q| q as u8).collect();
        let shape = kernel_shape(&node.op, weight.integers.shape());
        let axis = node.op.output_axis();
        let scales: &[usize] = if weight.scales.len() == 1 { &[] } else { &[weight.scales.len()] };
        let q = self.writer.constant(format!("{name}/integers"), Type::I8, &shape, &integers)?;
        let scale = self.writer.floats(format!("{name}/scale"), scales, weight.scales.iter().copied())?;
        let zero = self.writer.constant(format!("{name}/zero"), Type::I8, scales, &vec![0; weight.scales.len()])?;
        let by_channel = [Attribute::Int("axis", axis as i64)];
        let attributes = if scales.is_empty() { &[][..] } else { &by_channel[..] };
        let mut inputs = vec![self.writer.node("DequantizeLinear", &[&q, &scale, &zero], name, attributes)?];
        if has_bias(&node.op) {
            let name = format!("{}.bias", node.name);
            let bias = parameter(self.params, &name)?;
            inputs.push(self.writer.floats(name, bias.shape(), bias.iter().copied())?);
        }
        Ok(inputs)
    }

    /// The integers that stand for `value`, and what they stand for, called `to`. `name` is the node's.
    fn round(&mut self, mut value: String, form: Form, name: &str, to: String) -> Result<String, OnnxError> {
        if let Some([low, high]) = form.clip {
            let low = self.writer.floats(format!("{name}/low"), &[], [low])?;
            let high = self.writer.floats(format!("{name}/high"), &[], [high])?;
            value = self.writer.node("Clip", &[&value, &low, &high], format!("{name}/clipped"), &[])?;
        }
        let element = if form.signed { Type::I8 } else { Type::U8 };
        let scale = self.writer.floats(format!("{name}/scale"), &[], [form.scale])?;
        let zero = self.writer.constant(format!("{name}/zero"), element, &[], &[form.zero_point as u8])?;
        let q = self.writer.node("QuantizeLinear", &[&value, &scale, &zero], format!("{name}/integers"), &[])?;
        self.writer.node("DequantizeLinear", &[&q, &scale, &zero], to, &[])
    }

    /// A node's value as other float operators read it.
    fn plain(&self, id: NodeId) -> Result<String, OnnxError> {
        self.values[id].clone().ok_or_else(|| unsupported(&self.graph.nodes[id], "an image operation reads its rows"))
    }

    /// A node's value as integer layers read it.
    fn rounded(&mut self, id: NodeId) -> Result<String, OnnxError> {
        let node = &self.graph.nodes[id];
        let value = self.plain(id)?;
        let Some(activation) = self.activation(node).filter(|_| !self.yields_integers(node)) else { return Ok(value) };
        if let Some(rounded) = self.rounded.get(&id) {
            return Ok(rounded.clone());
        }
        let rounded = self.round(value, activation, &node.name, format!("{}/rounded", node.name))?;
        self.rounded.insert(id, rounded.clone());
        Ok(rounded)
    }

    /// Whether a node that the scheme names was rounded where it was computed.
    fn yields_integers(&self, node: &Node) -> bool {
        match node.op {
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                self.scheme.is_some_and(|scheme| scheme.is_integer(&node.name))
            }
            Op::PillarScatter { .. } => true,
            Op::Add | Op::Concat => node.inputs.iter().all(|&i| self.activation(&self.graph.nodes[i]).is_some()),
            _ => false,
        }
    }

    /// What the scheme says of a node's value, as the dialect can say it.
    fn activation(&self, node: &Node) -> Option<Form> {
        Some(Form::new(self.scheme?.activations.get(&node.name)?, self.dialect))
    }

    /// The role of a value that leaves the graph, so that no copy is needed; the node's name otherwise.
    fn name_of(&self, node: &Node) -> String {
        let role = self.graph.outputs.iter().find(|o| self.graph.nodes[o.node].name == node.name);
        role.map_or_else(|| node.name.clone(), |output| output.role.clone())
    }
}

/// How a value is rounded: `value = scale * (q - zero_point)`, q a whole byte.
#[derive(Clone, Copy)]
struct Form {
    signed: bool,
    scale: f32,
    zero_point: i32,
    /// Where the value ends, if that is before the byte ends.
    clip: Option<[f32; 2]>,
}

impl Form {
    fn new(a: &Activation, dialect: OnnxDialect) -> Self {
        let (low, high) = (a.lowest() - a.zero_point, a.highest() - a.zero_point);
        let clip = (a.bits < 8).then(|| [low, high].map(|q| q as f32 * a.scale));
        match dialect {
            OnnxDialect::Exact => Self { signed: a.signed, scale: a.scale, zero_point: a.zero_point, clip },
            OnnxDialect::Tensorrt => {
                let steps = if low >= -128 && high <= 127 { 1.0 } else { (-low).max(high) as f32 / 127.0 };
                Self { signed: true, scale: a.scale * steps, zero_point: 0, clip }
            }
        }
    }
}

/// The shape of a layer's parameter, a linear layer's weight as a kernel of one pixel.
fn kernel_shape(op: &Op, shape: &[usize]) -> Vec<usize> {
    let is_matrix = matches!(op, Op::Linear { .. }) && shape.len() == 2;
    shape.iter().copied().chain(std::iter::repeat_n(1, if is_matrix { 2 } else { 0 })).collect()
}

/// Channels-first, one sample.
fn sides(node: &Node) -> Result<[Side<'static>; 4], OnnxError> {
    match node.shape[..] {
        [Dim::Batch, Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(channels)] => Ok([1, channels, height, width].map(Side::Fixed)),
        _ => Err(unsupported(node, "its value is no image")),
    }
}
