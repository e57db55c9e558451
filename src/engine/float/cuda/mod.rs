//! Float networks on NVIDIA GPUs, forwards and backwards: the CPU's operations as launches of our kernels. See `docs/gpu.md`.
//!
//! * `memory.rs` gives memory out and takes it back.
//! * `layers.rs`, `norm.rs` and `values.rs` have the operations as launches: one file for each of the files of kernels.
//! * Here they are a [`Backend`], on which the walk is the CPU's.
//! * `engine.rs` runs a network forwards only, which keeps nothing.

mod engine;
mod layers;
mod memory;
mod norm;
#[cfg(test)]
mod tests;
mod values;

pub use engine::{DeviceEngine, Frame};
pub use memory::{Accelerator, Array};

use super::backend::{Backend, NodeGradients, Operands, Run, Wanted};
use super::concrete_shape;
use super::ops::linear::Layer;
use super::snap::Snap;
use super::tape::{BatchStatistics, DeviceWalk, Gradients, Norm};
use super::walk::{Asked, Task, Walk};
use crate::engine::cuda::{Args, DeviceError, Launch};
use crate::graph::{Node, NodeId, Op, PillarIndex};
use ndarray::ArrayD;
use norm::Statistics;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use values::Index;

/// A launch whose blocks have each a part of their own.
fn blocks(kernel: &str, threads: usize, grid: [usize; 3], args: Args) -> Result<Launch, DeviceError> {
    // Of CUDA.
    const MOST: [usize; 3] = [i32::MAX as usize, 65_535, 65_535];
    if grid.iter().zip(MOST).any(|(&n, most)| n > most) {
        return Err(DeviceError::Plan(format!("{kernel}: a grid of {grid:?} blocks; at most {MOST:?} can be")));
    }
    Ok(Launch { kernel: kernel.to_owned(), grid: grid.map(|n| n as u32), threads: threads as u32, args })
}

/// Runs a graph forwards on a device; nothing if it fails.
pub(super) fn walk<'a>(
    accelerator: &Arc<Accelerator>,
    task: Task<'a, f32>,
    snaps: &BTreeMap<NodeId, Snap>,
) -> Option<Box<dyn DeviceWalk<f32> + 'a>> {
    match Walk::new(accelerator.clone(), task, snaps.clone()) {
        Ok(walk) => Some(Box::new(walk)),
        Err(error) => {
            accelerator.fail(&error);
            None
        }
    }
}

impl<'a> DeviceWalk<f32> for Walk<'a, f32, Arc<Accelerator>> {
    fn value(&self, id: NodeId) -> Result<Option<ArrayD<f32>>, DeviceError> {
        Walk::value(self, id).map(|array| self.backend().download(array)).transpose()
    }

    fn batch_statistics(&self) -> Result<BTreeMap<String, BatchStatistics>, DeviceError> {
        Walk::batch_statistics(self)
    }

    fn backward(&self, seeds: &[(NodeId, ArrayD<f32>)], asked: Asked<'_>) -> Result<Gradients<f32>, DeviceError> {
        let seeds = seeds.iter().map(|(id, seed)| Ok((*id, self.backend().upload(seed)?)));
        Walk::backward(self, seeds.collect::<Result<_, DeviceError>>()?, asked)
    }

    fn fail(&self, error: &DeviceError) {
        self.backend().fail(error);
    }
}

/// What a gradient needs besides operands and results.
pub(super) enum Saved {
    Nothing,
    Statistics(Statistics),
    /// Words: for each pillar and channel the row that was its maximum.
    Winners(Array),
}

impl<'a> Backend<'a, f32> for Arc<Accelerator> {
    type Array = Array;
    type Index = Index;
    type Saved = Saved;
    type Error = DeviceError;

    fn take(&self, array: Cow<'a, ArrayD<f32>>) -> Result<Array, DeviceError> {
        self.upload(&array)
    }

    fn take_index(&self, index: &'a PillarIndex) -> Result<Index, DeviceError> {
        self.index(index)
    }

    fn give(&self, array: Array) -> Result<ArrayD<f32>, DeviceError> {
        self.download(&array)
    }

    /// Nothing writes over an array that somebody has.
    fn copy(&self, array: &Array) -> Result<Array, DeviceError> {
        Ok(array.clone())
    }

    fn forward(&self, node: &Node, norm: Norm, operands: &Operands<'_, Array, Index>) -> Result<(Array, Saved), DeviceError> {
        let input = |i: usize| operands.inputs[i];
        let param = |i: usize| &operands.params[i];
        let index = || operands.index.ok_or_else(|| DeviceError::Plan(format!("`{}` has no index", node.name)));
        let value = match &node.op {
            Op::Input | Op::PillarIndex => return Err(DeviceError::Plan(format!("`{}` is not computed", node.name))),
            Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => {
                let layer = Layer::of(&node.op).expect("a layer");
                self.layer(&layer, input(0), param(0), operands.params.get(1))?
            }
            Op::BatchNorm { eps, .. } => {
                let statistics = match norm {
                    Norm::Batch => self.batch_statistics(input(0))?,
                    Norm::Running => self.running_statistics(input(0), param(2), param(3))?,
                };
                let value = self.normalize(input(0), &statistics, *eps, param(0), param(1))?;
                return Ok((value, Saved::Statistics(statistics)));
            }
            Op::Relu => self.relu(input(0))?,
            Op::Add => self.sum(input(0), input(1))?,
            Op::Concat => self.concat(&operands.inputs)?,
            Op::PillarMax => {
                let (value, winners) = self.pillar_max(input(0), index()?)?;
                return Ok((value, Saved::Winners(winners)));
            }
            Op::PillarConcat => self.pillar_concat(input(0), input(1), index()?)?,
            Op::PillarScatter { .. } => {
                let index = index()?;
                self.pillar_scatter(input(0), index, &concrete_shape(&node.shape, index.batch, index.rows, index.pillars))?
            }
        };
        Ok((value, Saved::Nothing))
    }

    fn backward(
        &self,
        node: &Node,
        norm: Norm,
        operands: &Operands<'_, Array, Index>,
        run: Run<'_, Array, Saved>,
        gradient: Array,
        wanted: &Wanted,
    ) -> Result<NodeGradients<Array>, DeviceError> {
        let input = |i: usize| operands.inputs[i];
        let index = || operands.index.ok_or_else(|| DeviceError::Plan(format!("`{}` has no index", node.name)));
        Ok(match (&node.op, run.saved) {
            (Op::Linear { .. } | Op::Conv2d { .. } | Op::ConvTranspose2d { .. }, _) => {
                let layer = Layer::of(&node.op).expect("a layer");
                let gradient = if layer.relu { self.relu_gradient(run.output, &gradient)? } else { gradient };
                let mut found = NodeGradients::of_inputs([]);
                if wanted.params[0] {
                    found.params.push((0, self.weight_gradient(&layer, input(0), &gradient)?));
                }
                if layer.bias && wanted.params[1] {
                    found.params.push((1, self.bias_gradient(&gradient)?));
                }
                if wanted.inputs[0] {
                    found.inputs.push((0, self.input_gradient(&layer, &operands.params[0], &gradient, &input(0).shape)?));
                }
                found
            }
            (Op::BatchNorm { eps, .. }, Saved::Statistics(statistics)) => {
                let batch = norm == Norm::Batch;
                let [of_input, weight, bias] = self.norm_gradient(input(0), &gradient, statistics, *eps, &operands.params[0], batch)?;
                let params = [weight, bias].into_iter().enumerate().filter(|(i, _)| wanted.params[*i]).collect();
                NodeGradients { params, ..NodeGradients::of_inputs([of_input]) }
            }
            (Op::Relu, _) => NodeGradients::of_inputs([self.relu_gradient(run.output, &gradient)?]),
            (Op::Add, _) => NodeGradients::of_inputs([gradient.clone(), gradient]),
            (Op::Concat, _) => {
                let widths: Vec<usize> = operands.inputs.iter().map(|array| array.width()).collect();
                NodeGradients::of_inputs(self.cut(&gradient, &widths)?)
            }
            (Op::PillarMax, Saved::Winners(winners)) => {
                NodeGradients::of_inputs([self.pillar_max_gradient(&gradient, winners, index()?)?])
            }
            (Op::PillarConcat, _) => NodeGradients::of_inputs(self.pillar_concat_gradient(&gradient, input(0).width(), index()?)?),
            (Op::PillarScatter { .. }, _) => NodeGradients::of_inputs([self.pillar_gather(&gradient, index()?)?]),
            (Op::Input | Op::PillarIndex | Op::BatchNorm { .. } | Op::PillarMax, _) => NodeGradients::of_inputs([]),
        })
    }

    fn snap(&self, snap: &Snap, exact: &Array) -> Result<Array, DeviceError> {
        self.snapped(snap, exact)
    }

    fn snap_backward(&self, snap: &Snap, exact: &Array, gradient: Array) -> Result<(Array, f64), DeviceError> {
        self.snap_gradient(snap, exact, &gradient)
    }

    fn add(&self, sum: Array, part: Array) -> Result<Array, DeviceError> {
        self.sum(&sum, &part)
    }

    fn statistics(&self, saved: &Saved) -> Result<Option<BatchStatistics>, DeviceError> {
        let Saved::Statistics(Statistics { mean, var, count }) = saved else { return Ok(None) };
        Ok(Some(BatchStatistics::new(self.download_doubles(mean)?, &self.download_doubles(var)?, *count)))
    }
}
