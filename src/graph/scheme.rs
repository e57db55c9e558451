//! The quantization scheme: which values of a network are integers, and what they stand for.
//!
//! It is an annotation on the *folded* graph ([`super::fold_graph`]), by node names. Every method in `quant` yields one, every
//! integer engine and fake quantization consume one.

use super::op::{Dim, Graph, Node, Op};
use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bits that weights and activations may have.
const BITS: std::ops::RangeInclusive<u8> = 2..=8;

/// How a node's value is held: `value = scale * (q - zero_point)`, one scale for the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    pub bits: u8,
    /// Two's complement, or from 0 on.
    pub signed: bool,
    pub scale: f32,
    pub zero_point: i32,
}

/// How many scales a weight has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    PerTensor,
    PerChannel,
}

/// A layer's weight in integers: `weight = scale * q`, symmetric, with one scale for all or one for each output.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    pub bits: u8,
    pub granularity: Granularity,
    pub scales: Vec<f32>,
    /// In the layout of the layer's float weight, within `-limit..=limit` ([`Weight::limit`]). The rounding is whatever the
    /// method chose, to nearest or learnt.
    pub integers: ArrayD<i8>,
}

/// What is integer, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheme {
    /// By node. A value that several nodes read has one form.
    pub activations: BTreeMap<String, Activation>,
    /// By layer.
    pub weights: BTreeMap<String, Weight>,
    /// The layers that stay float, and why.
    pub float: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchemeError {
    #[error("quantization of `{node}`: `{field}`: expected {expected}, found {found}")]
    Field { node: String, field: &'static str, expected: String, found: String },
    #[error("quantization names `{0}`, which is no node of this network")]
    UnknownNode(String),
    #[error("quantization names `{0}`, which is no layer with a weight")]
    NoLayer(String),
    #[error("quantization says nothing of layer `{0}`; every layer is either among `weights` or among `float`")]
    Uncovered(String),
    #[error("quantization of `{layer}`: its input `{input}` has no entry in `activations`")]
    NoInput { layer: String, input: String },
    #[error("quantization of `{concat}`: its input `{input}` must have the same entry in `activations`, because both share memory")]
    Concat { concat: String, input: String },
}

impl Activation {
    /// Least integer.
    pub fn lowest(&self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// Greatest integer.
    pub fn highest(&self) -> i32 {
        self.lowest() + (1 << self.bits) - 1
    }

    fn check(&self, node: &str) -> Result<(), SchemeError> {
        check_bits(node, self.bits)?;
        check_scale(node, self.scale)?;
        if !(self.lowest()..=self.highest()).contains(&self.zero_point) {
            return Err(field(node, "zero_point", format!("{} to {}", self.lowest(), self.highest()), self.zero_point));
        }
        Ok(())
    }
}

impl Weight {
    /// Greatest magnitude of an integer: 127 for 8 bits, 7 for 4.
    pub fn limit(bits: u8) -> i8 {
        ((1i16 << (bits - 1)) - 1) as i8
    }

    /// Integers by rounding to nearest (ties to even) at the given scales.
    ///
    /// `output_axis` is the axis of `weight` that counts outputs. With [`Granularity::PerTensor`] there is one scale.
    pub fn round_to_nearest(weight: &ArrayD<f32>, output_axis: usize, bits: u8, granularity: Granularity, scales: Vec<f32>) -> Self {
        let limit = f32::from(Self::limit(bits));
        let mut integers = ArrayD::zeros(weight.raw_dim());
        for (c, (mut to, from)) in integers.axis_iter_mut(Axis(output_axis)).zip(weight.axis_iter(Axis(output_axis))).enumerate() {
            let scale = scales[if scales.len() == 1 { 0 } else { c }];
            to.zip_mut_with(&from, |q: &mut i8, &w| *q = (w / scale).round_ties_even().clamp(-limit, limit) as i8);
        }
        Self { bits, granularity, scales, integers }
    }

    /// Scale of an output.
    pub fn scale(&self, output: usize) -> f32 {
        if self.scales.len() == 1 { self.scales[0] } else { self.scales[output] }
    }

    /// The floats that the integers stand for. `output_axis` is the axis that counts outputs.
    pub fn values(&self, output_axis: usize) -> ArrayD<f32> {
        let mut values = self.integers.mapv(f32::from);
        for (c, mut slice) in values.axis_iter_mut(Axis(output_axis)).enumerate() {
            slice *= self.scale(c);
        }
        values
    }

    fn check(&self, node: &Node) -> Result<(), SchemeError> {
        let name = &node.name;
        check_bits(name, self.bits)?;
        let shape = node.op.params(name).swap_remove(0).shape;
        if self.integers.shape() != shape {
            return Err(field(name, "weight", format!("shape {shape:?}"), format!("{:?}", self.integers.shape())));
        }
        let expected = match self.granularity {
            Granularity::PerTensor => 1,
            Granularity::PerChannel => shape[node.op.output_axis()],
        };
        if self.scales.len() != expected {
            return Err(field(name, "weight_scale", format!("{expected} values"), self.scales.len()));
        }
        self.scales.iter().try_for_each(|&scale| check_scale(name, scale))?;
        let limit = Self::limit(self.bits);
        match self.integers.iter().find(|q| !(-limit..=limit).contains(*q)) {
            Some(q) => Err(field(name, "weight", format!("integers from {} to {limit}", -limit), q)),
            None => Ok(()),
        }
    }
}

impl Scheme {
    /// Whether the scheme fits a folded graph: names, shapes, ranges; every layer covered; every integer layer with integer
    /// input; everything around a concatenation in one form.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, graph: &Graph) -> Result<(), SchemeError> {
        let node = |name: &String| graph.node(name).map(|id| &graph.nodes[id]).ok_or_else(|| SchemeError::UnknownNode(name.clone()));
        for (name, activation) in &self.activations {
            node(name)?;
            activation.check(name)?;
        }
        for name in self.weights.keys().chain(self.float.keys()) {
            if !node(name)?.op.is_layer() {
                return Err(SchemeError::NoLayer(name.clone()));
            }
        }
        for node in &graph.nodes {
            let inputs = || node.inputs.iter().map(|&i| &graph.nodes[i].name);
            if let Some(weight) = self.weights.get(&node.name) {
                weight.check(node)?;
                if let Some(input) = inputs().find(|i| !self.activations.contains_key(*i)) {
                    return Err(SchemeError::NoInput { layer: node.name.clone(), input: input.clone() });
                }
            } else if node.op.is_layer() && !self.float.contains_key(&node.name) {
                return Err(SchemeError::Uncovered(node.name.clone()));
            }
            if let (Op::Concat, Some(own)) = (&node.op, self.activations.get(&node.name))
                && let Some(input) = inputs().find(|i| self.activations.get(*i) != Some(own))
            {
                return Err(SchemeError::Concat { concat: node.name.clone(), input: input.clone() });
            }
        }
        Ok(())
    }

    /// Whether a layer runs in integers.
    pub fn is_integer(&self, layer: &str) -> bool {
        self.weights.contains_key(layer)
    }
}

/// Whether a node's value is rows of points or pillars rather than an image.
pub fn is_rows(node: &Node) -> bool {
    matches!(node.shape.first(), Some(Dim::Points | Dim::Pillars))
}

fn check_bits(node: &str, bits: u8) -> Result<(), SchemeError> {
    if BITS.contains(&bits) { Ok(()) } else { Err(field(node, "bits", format!("{} to {}", BITS.start(), BITS.end()), bits)) }
}

fn check_scale(node: &str, scale: f32) -> Result<(), SchemeError> {
    if scale.is_normal() && scale > 0.0 { Ok(()) } else { Err(field(node, "scale", "a positive number".into(), scale)) }
}

fn field(node: &str, field: &'static str, expected: String, found: impl std::fmt::Display) -> SchemeError {
    SchemeError::Field { node: node.to_owned(), field, expected, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;

    fn graph() -> Graph {
        let mut b = GraphBuilder::new();
        let image = |c| vec![Dim::Batch, Dim::Fixed(2), Dim::Fixed(2), Dim::Fixed(c)];
        let conv = Op::Conv2d { inputs: 2, outputs: 3, kernel: 1, stride: 1, padding: 0, bias: true, relu: true };
        let x = b.input("x", image(2));
        let a = b.add("a", conv.clone(), &[x]);
        let c = b.add("b", conv, &[x]);
        let y = b.add("cat", Op::Concat, &[a, c]);
        b.output("y", y);
        b.finish().expect("fits")
    }

    fn scheme() -> Scheme {
        let u8 = Activation { bits: 8, signed: false, scale: 0.5, zero_point: 0 };
        let weight = ArrayD::from_shape_vec(vec![3, 2, 1, 1], vec![1.0, -1.27, 0.3, 0.2, 0.0, 5.0]).expect("six");
        let weight = Weight::round_to_nearest(&weight, 0, 8, Granularity::PerChannel, vec![0.01, 0.1, 1.0]);
        Scheme {
            activations: ["x", "a", "b", "cat"].map(|n| (n.to_owned(), u8)).into(),
            weights: ["a", "b"].map(|n| (n.to_owned(), weight.clone())).into(),
            float: BTreeMap::new(),
        }
    }

    #[test]
    fn rounding_is_to_nearest_and_back() {
        let weight = &scheme().weights["a"];
        assert_eq!(weight.integers.iter().copied().collect::<Vec<_>>(), [100, -127, 3, 2, 0, 5]);
        assert_eq!(weight.values(0)[[1, 0, 0, 0]], 3.0 * 0.1f32);
        assert_eq!((Weight::limit(8), Weight::limit(4), Weight::limit(2)), (127, 7, 1));
        let halves = ArrayD::from_shape_vec(vec![1, 4], vec![0.5, 1.5, -2.5, 9.0]).expect("four");
        let halves = Weight::round_to_nearest(&halves, 0, 4, Granularity::PerTensor, vec![1.0]);
        assert_eq!(halves.integers.iter().copied().collect::<Vec<_>>(), [0, 2, -2, 7]);
    }

    #[test]
    fn ranges_of_integers() {
        let range = |bits, signed| {
            let a = Activation { bits, signed, scale: 1.0, zero_point: 0 };
            (a.lowest(), a.highest())
        };
        assert_eq!([range(8, false), range(8, true), range(4, true), range(6, false)], [(0, 255), (-128, 127), (-8, 7), (0, 63)]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        scheme().check(&graph()).expect("fits");
        type Change = fn(&mut Scheme);
        let changes: [(&str, Change); 9] = [
            ("`x`: `scale`", |s| s.activations.get_mut("x").unwrap().scale = f32::NAN),
            ("`x`: `bits`", |s| s.activations.get_mut("x").unwrap().bits = 9),
            ("`x`: `zero_point`: expected 0 to 255", |s| s.activations.get_mut("x").unwrap().zero_point = -1),
            ("`a`: `weight_scale`: expected 3 values", |s| s.weights.get_mut("a").unwrap().scales.truncate(2)),
            ("`a`: `weight`: expected integers from -7 to 7", |s| s.weights.get_mut("a").unwrap().bits = 4),
            ("its input `x` has no entry", |s| assert!(s.activations.remove("x").is_some())),
            ("nothing of layer `a`", |s| drop(s.weights.remove("a"))),
            ("`cat`: its input `a` must", |s| s.activations.get_mut("a").unwrap().scale = 1.0),
            ("`ghost`, which is no node", |s| drop(s.float.insert("ghost".into(), "why".into()))),
        ];
        for (expected, change) in changes {
            let mut scheme = scheme();
            change(&mut scheme);
            let error = scheme.check(&graph()).expect_err(expected).to_string();
            assert!(error.contains(expected), "expected `{expected}` in `{error}`");
        }
    }
}
