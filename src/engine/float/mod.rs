//! Float: inference ([`FloatEngine`]) and training forwards and backwards ([`Tape`]), on CPUs and, with a [`Processor`], on GPUs.
//!
//! Values are channels-last arrays in standard layout. Every result is the same to the bit for every thread count, instruction set
//! and GPU: sums run in a fixed order with fused multiply-adds.

mod backend;
mod clipped;
mod correlate;
mod cuda;
mod fake;
mod host;
mod inference;
mod kernel;
mod ops;
mod processor;
mod snap;
mod tape;
#[cfg(test)]
pub(in crate::engine) mod tests;
mod walk;

pub use clipped::{add_scaled, clipped_change, cut};
pub use inference::{FloatEngine, NodeTime};
pub use kernel::Real;
pub use processor::Processor;
pub use snap::{Dropped, Snap};
pub use tape::{BatchStatistics, Gradients, Norm, Tape, forward};

use crate::graph::{Dim, Graph, Op, PillarIndex};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What goes into a graph, by the names of its input nodes.
#[derive(Clone, Debug, Default)]
pub struct Inputs<T> {
    pub dense: BTreeMap<String, ArrayD<T>>,
    pub pillars: BTreeMap<String, Arc<PillarIndex>>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    #[error("input `{0}` is missing")]
    MissingInput(String),
    #[error("input `{name}`: expected shape {expected}, found {found:?}")]
    InputShape { name: String, expected: String, found: Vec<usize> },
    #[error("pillar index `{name}`: {what}")]
    BadIndex { name: String, what: String },
    #[error("parameter `{0}` is missing")]
    MissingParameter(String),
    #[error("parameter `{name}`: expected shape {expected:?}, found {found:?}")]
    ParameterShape { name: String, expected: Vec<usize>, found: Vec<usize> },
}

impl<T> Inputs<T> {
    pub fn with_dense(mut self, name: &str, value: ArrayD<T>) -> Self {
        self.dense.insert(name.to_owned(), value);
        self
    }

    pub fn with_pillars(mut self, name: &str, index: Arc<PillarIndex>) -> Self {
        self.pillars.insert(name.to_owned(), index);
        self
    }

    /// Whether every input of `graph` is there, of the right shape, and every index points inside what it indexes: after this,
    /// no operation meets an index out of bounds.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), EngineError> {
        let mut rows = None;
        for node in graph.nodes.iter().filter(|n| n.op == Op::PillarIndex) {
            let index = self.pillars.get(&node.name).ok_or_else(|| EngineError::MissingInput(node.name.clone()))?;
            rows = Some(index.rows());
            check_index(index, graph).map_err(|what| EngineError::BadIndex { name: node.name.clone(), what })?;
        }
        for node in graph.nodes.iter().filter(|n| n.op == Op::Input) {
            let value = self.dense.get(&node.name).ok_or_else(|| EngineError::MissingInput(node.name.clone()))?;
            let fits = value.ndim() == node.shape.len()
                && value.shape().iter().zip(&node.shape).all(|(&n, d)| match d {
                    Dim::Fixed(m) => n == *m,
                    Dim::Points => rows.is_none_or(|r| r == n),
                    Dim::Batch | Dim::Pillars => true,
                });
            if !fits || !value.is_standard_layout() {
                let expected = format!("{:?} (Points = {rows:?}) in standard layout", node.shape);
                return Err(EngineError::InputShape { name: node.name.clone(), expected, found: value.shape().to_vec() });
            }
        }
        Ok(())
    }
}

fn check_index(index: &PillarIndex, graph: &Graph) -> Result<(), String> {
    if index.offsets.len() != index.pillars() + 1 || index.offsets[0] != 0 {
        return Err(format!("expected {} offsets from 0, found {}", index.pillars() + 1, index.offsets.len()));
    }
    if let Some(p) = index.offsets.windows(2).position(|w| w[0] >= w[1]) {
        return Err(format!("pillar {p} has no points"));
    }
    for node in &graph.nodes {
        if let Op::PillarScatter { height, width } = node.op {
            let outside = |&&[n, y, x]: &&[u32; 3]| n as usize >= index.batch || y as usize >= height || x as usize >= width;
            if let Some(cell) = index.cells.iter().find(outside) {
                return Err(format!("cell {cell:?} lies outside {} images of {height} x {width}", index.batch));
            }
        }
    }
    Ok(())
}

/// The tensors of a node: weight and bias of a layer, or the four of a batch norm, checked against the graph.
fn parameter<'a, T>(params: &'a BTreeMap<String, ArrayD<T>>, spec: &crate::graph::ParamSpec) -> Result<&'a ArrayD<T>, EngineError> {
    let value = params.get(&spec.name).ok_or_else(|| EngineError::MissingParameter(spec.name.clone()))?;
    if value.shape() != spec.shape || !value.is_standard_layout() {
        return Err(EngineError::ParameterShape { name: spec.name.clone(), expected: spec.shape.clone(), found: value.shape().to_vec() });
    }
    Ok(value)
}

/// Shape of a node's value for a given number of samples, points and pillars.
fn concrete_shape(shape: &[Dim], batch: usize, points: usize, pillars: usize) -> Vec<usize> {
    shape
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => *n,
            Dim::Batch => batch,
            Dim::Points => points,
            Dim::Pillars => pillars,
        })
        .collect()
}
