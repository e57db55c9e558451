//! The CPU as a [`Backend`].

use super::backend::{Backend, NodeGradients, Operands, Run, Wanted};
use super::concrete_shape;
use super::kernel::Real;
use super::ops::linear::{Layer, bias_gradient, dense};
use super::ops::norm::{self, Statistics};
use super::ops::{accumulate, concat, concat_backward, pillar, relu_backward, relu_forward};
use super::snap::Snap;
use super::tape::{BatchStatistics, Norm};
use crate::graph::{Node, Op, PillarIndex};
use ndarray::{ArrayD, Axis};
use std::borrow::Cow;
use std::convert::Infallible;

pub(super) struct Host;

pub(super) enum Saved {
    Nothing,
    Statistics(Statistics),
    /// For each pillar and channel the row that was its maximum.
    Winners(Vec<u32>),
}

type Values<'a, T> = Cow<'a, ArrayD<T>>;

impl<'a, T: Real> Backend<'a, T> for Host {
    type Array = Values<'a, T>;
    type Index = &'a PillarIndex;
    type Saved = Saved;
    type Error = Infallible;

    fn take(&self, array: Cow<'a, ArrayD<T>>) -> Result<Self::Array, Infallible> {
        Ok(array)
    }

    fn take_index(&self, index: &'a PillarIndex) -> Result<Self::Index, Infallible> {
        Ok(index)
    }

    fn give(&self, array: Self::Array) -> Result<ArrayD<T>, Infallible> {
        Ok(array.into_owned())
    }

    fn copy(&self, array: &Self::Array) -> Result<Self::Array, Infallible> {
        Ok(array.clone())
    }

    fn forward(
        &self,
        node: &Node,
        norm: Norm,
        operands: &Operands<'_, Self::Array, Self::Index>,
    ) -> Result<(Self::Array, Saved), Infallible> {
        let input = |i: usize| -> &ArrayD<T> { operands.inputs[i] };
        let param = |i: usize| -> &ArrayD<T> { &operands.params[i] };
        let index = || *operands.index.expect("the graph gives pillar operations an index");
        let room = || {
            let index = index();
            ArrayD::zeros(concrete_shape(&node.shape, index.batch, index.rows(), index.pillars()))
        };
        let mut saved = Saved::Nothing;
        let value = match &node.op {
            Op::Input | Op::PillarIndex => unreachable!("inputs are not computed"),
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                let layer = Layer::of(&node.op).expect("a layer");
                let mut out = ArrayD::zeros(layer.output_shape(input(0).shape()));
                let bias = layer.bias.then(|| dense(param(1)));
                layer.forward(input(0), &layer.pack(param(0)), bias, &mut out);
                out
            }
            Op::BatchNorm { channels, eps, .. } => {
                let statistics = match norm {
                    Norm::Batch => norm::batch_statistics(input(0), *channels),
                    Norm::Running => {
                        let wide = |i: usize| param(i).iter().map(|x| x.as_f64()).collect();
                        Statistics { mean: wide(2), var: wide(3), count: input(0).len() / channels }
                    }
                };
                let out = norm::normalize(input(0), &statistics.mean, &statistics.var, *eps, dense(param(0)), dense(param(1)));
                saved = Saved::Statistics(statistics);
                out
            }
            Op::Relu => relu_forward(input(0)),
            Op::Add => input(0) + input(1),
            Op::Concat => {
                let inputs: Vec<&ArrayD<T>> = (0..operands.inputs.len()).map(input).collect();
                let mut shape = inputs[0].shape().to_vec();
                let last = shape.len() - 1;
                shape[last] = inputs.iter().map(|a| a.len_of(Axis(last))).sum();
                let mut out = ArrayD::zeros(shape);
                concat(&inputs, &mut out);
                out
            }
            Op::PillarMax => {
                let (mut out, mut winners) = (room(), Vec::new());
                pillar::max(input(0), index(), &mut out, Some(&mut winners));
                saved = Saved::Winners(winners);
                out
            }
            Op::PillarConcat => {
                let mut out = room();
                pillar::concat(input(0), input(1), index(), &mut out);
                out
            }
            Op::PillarScatter { .. } => {
                let mut out = room();
                pillar::scatter(input(0), index(), &mut out);
                out
            }
        };
        Ok((Cow::Owned(value), saved))
    }

    fn backward(
        &self,
        node: &Node,
        norm: Norm,
        operands: &Operands<'_, Self::Array, Self::Index>,
        run: Run<'_, Self::Array, Saved>,
        gradient: Self::Array,
        wanted: &Wanted,
    ) -> Result<NodeGradients<Self::Array>, Infallible> {
        let input = |i: usize| -> &ArrayD<T> { operands.inputs[i] };
        let index = || *operands.index.expect("the graph gives pillar operations an index");
        let grad = gradient.into_owned();
        let of_inputs = |inputs: Vec<ArrayD<T>>| NodeGradients::of_inputs(inputs.into_iter().map(Cow::Owned));
        Ok(match (&node.op, run.saved) {
            (Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. }, _) => {
                let layer = Layer::of(&node.op).expect("a layer");
                let grad = if layer.relu { relu_backward(run.output, grad) } else { grad };
                let mut found = of_inputs(Vec::new());
                if wanted.params[0] {
                    found.params.push((0, Cow::Owned(layer.weight_gradient(input(0), &grad))));
                }
                if layer.bias && wanted.params[1] {
                    found.params.push((1, Cow::Owned(bias_gradient(&grad))));
                }
                if wanted.inputs[0] {
                    found.inputs.push((0, Cow::Owned(layer.input_gradient(&operands.params[0], &grad, input(0).shape()))));
                }
                found
            }
            (Op::BatchNorm { eps, .. }, Saved::Statistics(statistics)) => {
                let (input_grad, weight_grad, bias_grad) =
                    norm::backward(input(0), grad, statistics, *eps, dense(&operands.params[0]), norm == Norm::Batch);
                let params = [weight_grad, bias_grad].into_iter().enumerate().filter(|(i, _)| wanted.params[*i]);
                let params = params.map(|(i, grad)| (i, Cow::Owned(grad))).collect();
                NodeGradients { params, ..of_inputs(vec![input_grad]) }
            }
            (Op::Relu, _) => of_inputs(vec![relu_backward(run.output, grad)]),
            (Op::Add, _) => of_inputs(vec![grad.clone(), grad]),
            (Op::Concat, _) => {
                let last = Axis(grad.ndim() - 1);
                let widths: Vec<usize> = operands.inputs.iter().map(|a| a.len_of(last)).collect();
                of_inputs(concat_backward(&widths, &grad))
            }
            (Op::PillarMax, Saved::Winners(winners)) => of_inputs(vec![pillar::max_backward(&grad, winners, index().rows())]),
            (Op::PillarConcat, _) => {
                let (rows, pillars) = pillar::concat_backward(&grad, input(0).len_of(Axis(1)), index());
                of_inputs(vec![rows, pillars])
            }
            (Op::PillarScatter { .. }, _) => of_inputs(vec![pillar::scatter_backward(&grad, index())]),
            (Op::Input | Op::PillarIndex | Op::BatchNorm { .. } | Op::PillarMax, _) => of_inputs(Vec::new()),
        })
    }

    fn snap(&self, snap: &Snap, exact: &Self::Array) -> Result<Self::Array, Infallible> {
        let mut rounded = exact.clone().into_owned();
        snap.apply(&mut rounded);
        Ok(Cow::Owned(rounded))
    }

    fn snap_backward(&self, snap: &Snap, exact: &Self::Array, gradient: Self::Array) -> Result<(Self::Array, f64), Infallible> {
        let (gradient, step) = snap.backward(exact, gradient.into_owned());
        Ok((Cow::Owned(gradient), step))
    }

    fn add(&self, mut sum: Self::Array, part: Self::Array) -> Result<Self::Array, Infallible> {
        accumulate(sum.to_mut(), &part);
        Ok(sum)
    }

    fn statistics(&self, saved: &Saved) -> Result<Option<BatchStatistics>, Infallible> {
        let Saved::Statistics(Statistics { mean, var, count }) = saved else { return Ok(None) };
        Ok(Some(BatchStatistics::new(mean.clone(), var, *count)))
    }
}
