//! The part of a network that works on the points of each pillar, in float.

use super::OnnxError;
use super::proto::{Attribute, Side, Type, model};
use super::writer::{Writer, has_bias, parameter, unsupported};
use crate::graph::{Dim, Graph, Node, Op, Params, fold_batch_norm, is_rows};

const POINTS: &str = "points";
const FEATURES: &str = "pillar_features";
const PILLARS: Side<'static> = Side::Named("pillars");
const SLOTS: Side<'static> = Side::Named("slots");

/// The bytes of an ONNX file: the pillar encoder, batch norm folded into its layers.
///
/// Input `points` is `[pillars, slots, point features]`; output `pillar_features` is `[pillars, 1, channels]`, the rows that are
/// scattered onto the canvas. What fills slots without a point takes part in the maximum: zeros with hard voxelization, as in
/// the original code bases; copies of any of the pillar's points with dynamic voxelization.
///
/// # Errors
/// A network without a canvas, an operation on rows that has no form here, parameters that are missing.
pub fn export_encoder(graph: &Graph, params: &Params, name: &str, metadata: &[(&str, &str)]) -> Result<Vec<u8>, OnnxError> {
    let (graph, params) = fold_batch_norm(graph, params);
    let Some(scatter) = graph.nodes.iter().position(|n| matches!(n.op, Op::PillarScatter { .. })) else {
        return Err(OnnxError::NoCanvas);
    };
    let features = graph.nodes[scatter].inputs[0];
    let mut writer = Writer::default();
    let mut values: Vec<Option<String>> = Vec::new();
    for (id, node) in graph.nodes[..scatter].iter().enumerate() {
        let value = if is_rows(node) {
            let inputs = node.inputs.iter().filter_map(|&i| values[i].clone()).collect::<Vec<_>>();
            let to = if id == features { FEATURES.to_owned() } else { node.name.clone() };
            Some(rows(&mut writer, node, &inputs.iter().map(String::as_str).collect::<Vec<_>>(), to, &params)?)
        } else {
            None
        };
        values.push(value);
    }
    let node = &graph.nodes[features];
    let value = values[features].clone().ok_or_else(|| unsupported(node, "it is not computed from points"))?;
    writer.output(&value, FEATURES, &[PILLARS, Side::Fixed(1), Side::Fixed(channels(node)?)])?;
    Ok(model(&writer.parts, name, "points of each pillar to the pillar's features", metadata))
}

/// Appends what computes a node. Rows of points are `[pillars, slots, channels]`, those of pillars have one slot.
fn rows(writer: &mut Writer, node: &Node, inputs: &[&str], to: String, params: &Params) -> Result<String, OnnxError> {
    match node.op {
        Op::Input => writer.input(POINTS.to_owned(), &[PILLARS, SLOTS, Side::Fixed(channels(node)?)]),
        Op::Linear { inputs: depth, outputs, relu, .. } => {
            let name = format!("{}.weight", node.name);
            // Transposed: rows stand left of the product.
            let weight = parameter(params, &name)?.t();
            let weight = writer.floats(name, &[depth, outputs], weight.iter().copied())?;
            let after = |more: bool, stage: &str| if more { format!("{}/{stage}", node.name) } else { to.clone() };
            let biased = has_bias(&node.op);
            let mut value = writer.node("MatMul", &[inputs[0], &weight], after(biased || relu, "product"), &[])?;
            if biased {
                let name = format!("{}.bias", node.name);
                let bias = parameter(params, &name)?;
                let bias = writer.floats(name, bias.shape(), bias.iter().copied())?;
                value = writer.node("Add", &[&value, &bias], after(relu, "sum"), &[])?;
            }
            if relu { writer.node("Relu", &[&value], to, &[]) } else { Ok(value) }
        }
        Op::Relu => writer.node("Relu", inputs, to, &[]),
        Op::Add => writer.node("Add", inputs, to, &[]),
        Op::Concat => writer.node("Concat", inputs, to, &[Attribute::Int("axis", 2)]),
        Op::PillarMax => writer.node("ReduceMax", inputs, to, &[Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 1)]),
        Op::PillarConcat => {
            let name = |stage: &str| format!("{}/{stage}", node.name);
            let number = |n: i64| n.to_le_bytes();
            let second = writer.constant(name("second"), Type::I64, &[1], &number(1))?;
            let one = writer.constant(name("one"), Type::I64, &[1], &number(1))?;
            let shape = writer.node("Shape", &[inputs[0]], name("shape"), &[])?;
            let slots = writer.node("Gather", &[&shape, &second], name("slots"), &[Attribute::Int("axis", 0)])?;
            let shape = writer.node("Concat", &[&one, &slots, &one], name("repeats"), &[Attribute::Int("axis", 0)])?;
            let repeated = writer.node("Expand", &[inputs[1], &shape], name("repeated"), &[])?;
            writer.node("Concat", &[inputs[0], &repeated], to, &[Attribute::Int("axis", 2)])
        }
        _ => Err(unsupported(node, "it has no form for rows of points")),
    }
}

fn channels(node: &Node) -> Result<usize, OnnxError> {
    match node.shape.last() {
        Some(&Dim::Fixed(channels)) => Ok(channels),
        _ => Err(unsupported(node, "its width is not fixed")),
    }
}
