//! Batch norm on a device, and sums of columns: the launches of `float_norm.cu`.

use super::blocks;
use super::memory::{Accelerator, Array};
use crate::engine::cuda::{Args, DeviceError, Memory, turns};
use crate::engine::float::ops::norm::PIECE;

/// As in `float_norm.cu`: threads of a block, and the channels that it sums.
const THREADS: usize = 256;
const SUM_CHANNELS: usize = 32;

/// Mean and variance of each channel, in doubles.
pub struct Statistics {
    pub mean: Array,
    pub var: Array,
    /// Positions averaged over.
    pub count: usize,
}

/// What is added up of each column, row by row.
#[derive(Clone, Copy)]
pub enum Summand<'a> {
    /// The values, in floats.
    Floats(&'a Array),
    /// The values, in doubles.
    Doubles(&'a Array),
    /// Squares of their differences from the column's mean, in doubles.
    Squares { values: &'a Array, mean: &'a Array },
    /// A gradient, and its product with the input less the input's mean: two sums, in doubles.
    Gradients { gradient: &'a Array, input: &'a Array, mean: &'a Array },
}

impl<'a> Summand<'a> {
    fn kernel(&self) -> &'static str {
        match self {
            Self::Floats(_) => "sum_rows_float",
            Self::Doubles(_) => "sum_rows_double",
            Self::Squares { .. } => "sum_squares",
            Self::Gradients { .. } => "sum_gradients",
        }
    }

    /// `[.., columns]`
    fn values(&self) -> &'a Array {
        match *self {
            Self::Floats(values) | Self::Doubles(values) | Self::Squares { values, .. } => values,
            Self::Gradients { gradient, .. } => gradient,
        }
    }

    /// Values, inputs and means, as the kernels take them.
    fn memory(&self) -> [Memory; 3] {
        let values = self.values().memory();
        match self {
            Self::Floats(_) | Self::Doubles(_) => [values, Memory::NULL, Memory::NULL],
            Self::Squares { mean, .. } => [values, Memory::NULL, mean.memory()],
            Self::Gradients { input, mean, .. } => [values, input.memory(), mean.memory()],
        }
    }

    /// Sums of all columns, and of all kinds.
    fn sums(&self) -> usize {
        self.values().width() * if let Self::Gradients { .. } = self { 2 } else { 1 }
    }
}

impl Accelerator {
    /// Sums over pieces of so many rows, `[pieces, sums]`.
    pub fn sum_rows(&self, summand: Summand<'_>, piece: usize) -> Result<Array, DeviceError> {
        let columns = summand.values().width();
        let rows = summand.values().len() / columns.max(1);
        let shape = [rows.div_ceil(piece), summand.sums()];
        let parts = if let Summand::Floats(_) = summand { self.room(&shape)? } else { self.doubles(&shape)? };
        if rows > 0 {
            let [values, inputs, mean] = summand.memory();
            let args = Args::new(&[values, inputs, mean, parts.memory()]).words(&[rows, columns, piece]);
            self.launch(&blocks(summand.kernel(), THREADS, [shape[0], columns.div_ceil(SUM_CHANNELS), 1], args)?)?;
        }
        Ok(parts)
    }

    /// Sums over all rows, piece by piece, divided by `count`: doubles.
    pub fn average(&self, summand: Summand<'_>, piece: usize, count: usize) -> Result<Array, DeviceError> {
        let parts = self.sum_rows(summand, piece)?;
        let to = self.doubles(&[parts.width()])?;
        let args = Args::new(&[parts.memory(), to.memory()]).words(&[parts.shape[0], parts.width(), count.max(1)]);
        self.launch(&turns("average_pieces", to.len(), args))?;
        Ok(to)
    }

    /// Statistics of a batch, in two passes as on the CPU.
    pub fn batch_statistics(&self, input: &Array) -> Result<Statistics, DeviceError> {
        let count = input.len() / input.width().max(1);
        let mean = self.average(Summand::Doubles(input), PIECE, count)?;
        let var = self.average(Summand::Squares { values: input, mean: &mean }, PIECE, count)?;
        Ok(Statistics { mean, var, count })
    }

    /// The running statistics, which are floats, as if a batch had them.
    pub fn running_statistics(&self, input: &Array, mean: &Array, var: &Array) -> Result<Statistics, DeviceError> {
        let wide = |floats: &Array| {
            let doubles = self.doubles(&floats.shape)?;
            let args = Args::new(&[floats.memory(), doubles.memory()]).words(&[floats.len()]);
            self.launch(&turns("widen", floats.len(), args))?;
            Ok(doubles)
        };
        Ok(Statistics { mean: wide(mean)?, var: wide(var)?, count: input.len() / input.width().max(1) })
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias`
    pub fn normalize(&self, input: &Array, statistics: &Statistics, eps: f64, weight: &Array, bias: &Array) -> Result<Array, DeviceError> {
        let channels = weight.len();
        let [scale, shift, to] = [self.room(&[channels])?, self.room(&[channels])?, self.room(&input.shape)?];
        let known = [statistics.mean.memory(), statistics.var.memory(), weight.memory(), bias.memory(), Memory::NULL];
        let found = [scale.memory(), Memory::NULL, shift.memory(), Memory::NULL, Memory::NULL];
        let args = Args::new(&[known, found].concat()).words(&[channels]).double(eps).words(&[0, 0]);
        self.launch(&turns("norm_coefficients", channels, args))?;
        let memory = [Memory::NULL, input.memory(), scale.memory(), Memory::NULL, shift.memory(), to.memory()];
        self.launch(&turns("norm_forward", to.len(), Args::new(&memory).words(&[to.len(), channels])))?;
        Ok(to)
    }

    /// Gradients with respect to input, weight and bias. With `batch` the statistics depend on the input.
    pub fn norm_gradient(
        &self,
        input: &Array,
        gradient: &Array,
        statistics: &Statistics,
        eps: f64,
        weight: &Array,
        batch: bool,
    ) -> Result<[Array; 3], DeviceError> {
        let channels = weight.len();
        let sums = self.average(Summand::Gradients { gradient, input, mean: &statistics.mean }, PIECE, 1)?;
        let vector = || self.room(&[channels]);
        let [scale, of_input, shift, weight_gradient, bias_gradient] = [vector()?, vector()?, vector()?, vector()?, vector()?];
        let known = [statistics.mean.memory(), statistics.var.memory(), weight.memory(), Memory::NULL, sums.memory()];
        let found = [&scale, &of_input, &shift, &weight_gradient, &bias_gradient].map(Array::memory);
        let args = Args::new(&[known, found].concat()).words(&[channels]).double(eps).words(&[statistics.count.max(1), usize::from(batch)]);
        self.launch(&turns("norm_gradients", channels, args))?;
        let to = self.room(&input.shape)?;
        let memory = [gradient, input, &scale, &of_input, &shift, &to].map(Array::memory);
        self.launch(&turns("norm_backward", to.len(), Args::new(&memory).words(&[to.len(), channels])))?;
        Ok([to, weight_gradient, bias_gradient])
    }
}
