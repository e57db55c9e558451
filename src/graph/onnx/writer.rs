//! A graph under construction whose names are unique, as ONNX wants it.

use super::OnnxError;
use super::proto::{Attribute, Parts, Side, Type, node, tensor, value_info};
use crate::graph::{Node, Op, Params};
use ndarray::ArrayD;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Writer {
    pub parts: Parts,
    names: BTreeSet<String>,
}

impl Writer {
    fn take(&mut self, name: String) -> Result<String, OnnxError> {
        if self.names.insert(name.clone()) { Ok(name) } else { Err(OnnxError::Name(name)) }
    }

    /// The value that an operator yields.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: String, attributes: &[Attribute<'_>]) -> Result<String, OnnxError> {
        let output = self.take(output)?;
        self.parts.nodes.push(node(operator, inputs, &output, attributes));
        Ok(output)
    }

    pub fn input(&mut self, name: String, shape: &[Side<'_>]) -> Result<String, OnnxError> {
        let name = self.take(name)?;
        self.parts.inputs.push(value_info(&name, shape));
        Ok(name)
    }

    /// Lets `value` leave the graph under this name.
    pub fn output(&mut self, value: &str, name: &str, shape: &[Side<'_>]) -> Result<(), OnnxError> {
        if value != name {
            self.node("Identity", &[value], name.to_owned(), &[])?;
        }
        self.parts.outputs.push(value_info(name, shape));
        Ok(())
    }

    pub fn floats(&mut self, name: String, shape: &[usize], values: impl IntoIterator<Item = f32>) -> Result<String, OnnxError> {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.constant(name, Type::F32, shape, &bytes)
    }

    /// A constant from its elements' little-endian bytes.
    pub fn constant(&mut self, name: String, element: Type, shape: &[usize], bytes: &[u8]) -> Result<String, OnnxError> {
        let name = self.take(name)?;
        self.parts.constants.push(tensor(&name, element, shape, bytes));
        Ok(name)
    }

    /// A batch norm that is part of no layer.
    pub fn batch_norm(&mut self, node: &Node, eps: f64, params: &Params, source: &str, output: String) -> Result<String, OnnxError> {
        let mut inputs = vec![source.to_owned()];
        for spec in node.op.params(&node.name) {
            let values = parameter(params, &spec.name)?;
            inputs.push(self.floats(spec.name, &spec.shape, values.iter().copied())?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("BatchNormalization", &inputs, output, &[Attribute::Float("epsilon", eps as f32)])
    }
}

pub(super) fn parameter<'p>(params: &'p Params, name: &str) -> Result<&'p ArrayD<f32>, OnnxError> {
    params.0.get(name).ok_or_else(|| OnnxError::MissingParameter(name.to_owned()))
}

pub(super) fn has_bias(op: &Op) -> bool {
    matches!(op, Op::Linear { bias: true, .. } | Op::Conv2d { bias: true, .. } | Op::ConvTranspose2d { bias: true, .. })
}

pub(super) fn unsupported(node: &Node, what: &str) -> OnnxError {
    OnnxError::Unsupported { node: node.name.clone(), kind: node.op.kind(), what: what.to_owned() }
}
