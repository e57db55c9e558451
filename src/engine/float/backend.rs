//! What runs the operations of a walk: the CPU, or a GPU. Both give the same bits, so a walk may be made on either.

use super::kernel::Real;
use super::snap::Snap;
use super::tape::{BatchStatistics, Norm};
use crate::graph::{Node, PillarIndex};
use ndarray::ArrayD;
use std::borrow::Cow;

/// Runs operations on arrays of its own. `'a` is how long what it was given stays.
pub(super) trait Backend<'a, T: Real> {
    type Array;
    type Index;
    /// What the way back of an operation needs besides its inputs and its output.
    type Saved;
    type Error;

    fn take(&self, array: Cow<'a, ArrayD<T>>) -> Result<Self::Array, Self::Error>;
    fn take_index(&self, index: &'a PillarIndex) -> Result<Self::Index, Self::Error>;
    fn give(&self, array: Self::Array) -> Result<ArrayD<T>, Self::Error>;
    fn copy(&self, array: &Self::Array) -> Result<Self::Array, Self::Error>;

    /// The value of a node that is no input.
    fn forward(
        &self,
        node: &Node,
        norm: Norm,
        operands: &Operands<'_, Self::Array, Self::Index>,
    ) -> Result<(Self::Array, Self::Saved), Self::Error>;

    /// From the gradient of a node's output to those of its inputs and its parameters, as far as they are wanted.
    fn backward(
        &self,
        node: &Node,
        norm: Norm,
        operands: &Operands<'_, Self::Array, Self::Index>,
        run: Run<'_, Self::Array, Self::Saved>,
        gradient: Self::Array,
        wanted: &Wanted,
    ) -> Result<NodeGradients<Self::Array>, Self::Error>;

    fn snap(&self, snap: &Snap, exact: &Self::Array) -> Result<Self::Array, Self::Error>;
    /// The gradient of the exact values, and that of the step.
    fn snap_backward(&self, snap: &Snap, exact: &Self::Array, gradient: Self::Array) -> Result<(Self::Array, f64), Self::Error>;

    /// `sum + part`
    fn add(&self, sum: Self::Array, part: Self::Array) -> Result<Self::Array, Self::Error>;

    /// What a batch norm met.
    fn statistics(&self, saved: &Self::Saved) -> Result<Option<BatchStatistics>, Self::Error>;
}

/// What a node reads.
pub(super) struct Operands<'v, A, I> {
    /// Dense inputs in the node's order.
    pub inputs: Vec<&'v A>,
    pub index: Option<&'v I>,
    /// In the order of [`crate::graph::Op::params`].
    pub params: &'v [A],
}

/// What became of a node forwards.
pub(super) struct Run<'v, A, S> {
    /// Before it was rounded.
    pub output: &'v A,
    pub saved: &'v S,
}

/// Which gradients are needed.
pub(super) struct Wanted {
    pub inputs: Vec<bool>,
    /// In the order of the parameters.
    pub params: Vec<bool>,
}

/// By position among the dense inputs, and among the parameters.
pub(super) struct NodeGradients<A> {
    pub inputs: Vec<(usize, A)>,
    pub params: Vec<(usize, A)>,
}

impl<A> NodeGradients<A> {
    pub fn of_inputs(inputs: impl IntoIterator<Item = A>) -> Self {
        Self { inputs: inputs.into_iter().enumerate().collect(), params: Vec::new() }
    }
}
