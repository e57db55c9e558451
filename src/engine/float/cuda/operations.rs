//! Operations without a weight matrix on a device.

use super::args;
use super::memory::{Accelerator, Array};
use crate::engine::cuda::{Args, DeviceError, Memory, turns};
use crate::engine::float::ops::norm::PIECE;
use crate::engine::float::snap::{self, Dropped, Snap};
use crate::graph::PillarIndex;

/// A [`PillarIndex`] on the device.
pub struct Index {
    pub batch: usize,
    pub pillars: usize,
    pub rows: usize,
    /// Words: the number of pillars, where each one's rows begin, sample, y and x of each one's cell.
    words: Array,
}

impl Index {
    fn count(&self) -> Memory {
        self.words.memory()
    }

    fn offsets(&self) -> Memory {
        self.count().offset(4)
    }

    fn cells(&self) -> Memory {
        self.offsets().offset(4 * (self.pillars + 1))
    }
}

/// Mean and variance of each channel, in doubles.
pub struct Statistics {
    pub mean: Array,
    pub var: Array,
    pub count: usize,
}

impl Accelerator {
    pub fn index(&self, index: &PillarIndex) -> Result<Index, DeviceError> {
        let mut words = vec![index.pillars() as u32];
        words.extend(&index.offsets);
        words.extend(index.cells.iter().flatten());
        Ok(Index { batch: index.batch, pillars: index.pillars(), rows: index.rows(), words: self.upload_words(&words)? })
    }

    pub fn relu(&self, input: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("relu_forward", input, None)
    }

    /// From ReLU's result and the gradient of it.
    pub fn relu_gradient(&self, output: &Array, gradient: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("relu_backward", output, Some(gradient))
    }

    pub fn sum(&self, a: &Array, b: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("add_values", a, Some(b))
    }

    fn one_by_one(&self, kernel: &str, a: &Array, b: Option<&Array>) -> Result<Array, DeviceError> {
        let to = self.room(&a.shape)?;
        let memory = [a.memory(), b.map_or(Memory::NULL, Array::memory), to.memory()];
        self.launch(&turns(kernel, to.len(), args(&memory).words(&[to.len()])))?;
        Ok(to)
    }

    /// Side by side along the last axis.
    pub fn concat(&self, inputs: &[&Array]) -> Result<Array, DeviceError> {
        let mut shape = inputs[0].shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = inputs.iter().map(|input| input.width()).sum();
        }
        let to = self.room(&shape)?;
        let mut at = 0;
        for input in inputs {
            self.copy_columns((input, 0), (&to, at), input.width())?;
            at += input.width();
        }
        Ok(to)
    }

    /// The inverse.
    pub fn cut(&self, whole: &Array, widths: &[usize]) -> Result<Vec<Array>, DeviceError> {
        let mut at = 0;
        let part = |&width: &usize| {
            let mut shape = whole.shape.clone();
            if let Some(last) = shape.last_mut() {
                *last = width;
            }
            let to = self.room(&shape)?;
            self.copy_columns((whole, at), (&to, 0), width)?;
            at += width;
            Ok(to)
        };
        widths.iter().map(part).collect()
    }

    fn copy_columns(&self, (from, from_first): (&Array, usize), (to, to_first): (&Array, usize), width: usize) -> Result<(), DeviceError> {
        let rows = to.len() / to.width().max(1);
        let words = args(&[from.memory(), to.memory()]).words(&[rows, width, from.width(), from_first, to.width(), to_first]);
        self.launch(&turns("copy_columns", rows * width, words))
    }

    pub fn pillar_max(&self, rows: &Array, index: &Index) -> Result<(Array, Array), DeviceError> {
        let channels = rows.width();
        let best = self.room(&[index.pillars, channels])?;
        let winners = self.room(&best.shape)?;
        let memory = [rows.memory(), best.memory(), winners.memory(), index.offsets()];
        self.launch(&turns("pillar_winners", best.len(), args(&memory).words(&[index.pillars, channels])))?;
        Ok((best, winners))
    }

    pub fn pillar_max_gradient(&self, gradient: &Array, winners: &Array, index: &Index) -> Result<Array, DeviceError> {
        let channels = gradient.width();
        let to = self.zeros(&[index.rows, channels])?;
        let words = args(&[gradient.memory(), to.memory(), winners.memory()]).words(&[index.pillars, channels]);
        self.launch(&turns("pillar_winners_backward", gradient.len(), words))?;
        Ok(to)
    }

    /// Each row followed by its pillar's values.
    pub fn pillar_concat(&self, rows: &Array, pillars: &Array, index: &Index) -> Result<Array, DeviceError> {
        let to = self.room(&[index.rows, rows.width() + pillars.width()])?;
        let memory = [rows.memory(), pillars.memory(), to.memory(), index.offsets(), index.count()];
        let words = args(&memory).words(&[rows.width(), pillars.width()]);
        self.launch(&turns("pillar_concat", index.pillars * to.width(), words))?;
        Ok(to)
    }

    /// Gradients with respect to the rows (of this width) and to the pillars.
    pub fn pillar_concat_gradient(&self, gradient: &Array, width: usize, index: &Index) -> Result<[Array; 2], DeviceError> {
        let rows = self.room(&[index.rows, width])?;
        self.copy_columns((gradient, 0), (&rows, 0), width)?;
        let channels = gradient.width() - width;
        let pillars = self.room(&[index.pillars, channels])?;
        let words = args(&[gradient.memory(), pillars.memory(), index.offsets()]);
        let words = words.words(&[index.pillars, channels, gradient.width(), width]);
        self.launch(&turns("pillar_sum", pillars.len(), words))?;
        Ok([rows, pillars])
    }

    /// The pillars at their cells of an otherwise empty image.
    pub fn pillar_scatter(&self, pillars: &Array, index: &Index, shape: &[usize]) -> Result<Array, DeviceError> {
        let to = self.zeros(shape)?;
        self.to_cells("pillar_scatter", (pillars, &to), index, &to)?;
        Ok(to)
    }

    pub fn pillar_gather(&self, image: &Array, index: &Index) -> Result<Array, DeviceError> {
        let to = self.room(&[index.pillars, image.width()])?;
        self.to_cells("pillar_gather", (image, &to), index, image)?;
        Ok(to)
    }

    fn to_cells(&self, kernel: &str, (from, to): (&Array, &Array), index: &Index, image: &Array) -> Result<(), DeviceError> {
        let [_, height, width, channels] = image.shape[..] else { return Err(DeviceError::Plan(format!("{kernel}: no image"))) };
        let words = args(&[from.memory(), to.memory(), index.cells()]).words(&[index.pillars, channels, height, width]);
        self.launch(&turns(kernel, index.pillars * channels, words))
    }

    /// Statistics of a batch, in two passes as on the CPU.
    pub fn batch_statistics(&self, input: &Array) -> Result<Statistics, DeviceError> {
        let count = input.len() / input.width().max(1);
        let mean =
            self.average("sum_rows_double", [input.memory(), Memory::NULL, Memory::NULL], [count, input.width(), PIECE], 1, count)?;
        let var = self.average("sum_squares", [input.memory(), Memory::NULL, mean.memory()], [count, input.width(), PIECE], 1, count)?;
        Ok(Statistics { mean, var, count })
    }

    pub fn running_statistics(&self, input: &Array, mean: &Array, var: &Array) -> Result<Statistics, DeviceError> {
        let wide = |floats: &Array| {
            let doubles = self.words(floats.shape.clone(), 2 * floats.len())?;
            self.launch(&turns("widen", floats.len(), args(&[floats.memory(), doubles.memory()]).words(&[floats.len()])))?;
            Ok(doubles)
        };
        Ok(Statistics { mean: wide(mean)?, var: wide(var)?, count: input.len() / input.width().max(1) })
    }

    /// Sums of `sums` kinds of each column in doubles, divided by `count`.
    fn average(
        &self,
        kernel: &str,
        memory: [Memory; 3],
        [rows, channels, piece]: [usize; 3],
        sums: usize,
        count: usize,
    ) -> Result<Array, DeviceError> {
        let (width, pieces) = (sums * channels, rows.div_ceil(piece));
        let to = self.words(vec![width], 2 * width)?;
        let parts = self.words(vec![pieces, width], 2 * pieces * width)?;
        if pieces > 0 {
            self.sum_rows(kernel, memory, &parts, [rows, channels, piece])?;
        }
        let words = args(&[parts.memory(), to.memory()]).words(&[pieces, width, count.max(1)]);
        self.launch(&turns("average_pieces", width, words))?;
        Ok(to)
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias`
    pub fn normalize(&self, input: &Array, met: &Statistics, eps: f64, weight: &Array, bias: &Array) -> Result<Array, DeviceError> {
        let channels = weight.len();
        let [scale, shift, to] = [self.room(&[channels])?, self.room(&[channels])?, self.room(&input.shape)?];
        let statistics = [met.mean.memory(), met.var.memory(), weight.memory(), bias.memory(), Memory::NULL];
        let found = [scale.memory(), Memory::NULL, shift.memory(), Memory::NULL, Memory::NULL];
        let words = args(&[statistics, found].concat()).words(&[channels]).double(eps).words(&[0, 0]);
        self.launch(&turns("norm_coefficients", channels, words))?;
        let memory = [Memory::NULL, input.memory(), scale.memory(), Memory::NULL, shift.memory(), to.memory()];
        self.launch(&turns("norm_forward", to.len(), args(&memory).words(&[to.len(), channels])))?;
        Ok(to)
    }

    /// Gradients with respect to input, weight and bias. With `batch` the statistics depend on the input.
    pub fn norm_gradient(
        &self,
        input: &Array,
        gradient: &Array,
        met: &Statistics,
        eps: f64,
        weight: &Array,
        batch: bool,
    ) -> Result<[Array; 3], DeviceError> {
        let (channels, rows) = (weight.len(), met.count);
        let memory = [gradient.memory(), input.memory(), met.mean.memory()];
        let sums = self.average("sum_gradients", memory, [rows, channels, PIECE], 2, 1)?;
        let vector = || self.room(&[channels]);
        let [scale, of_input, shift, weight_gradient, bias_gradient] = [vector()?, vector()?, vector()?, vector()?, vector()?];
        let statistics = [met.mean.memory(), met.var.memory(), weight.memory(), Memory::NULL, sums.memory()];
        let found = [&scale, &of_input, &shift, &weight_gradient, &bias_gradient].map(Array::memory);
        let words = args(&[statistics, found].concat()).words(&[channels]).double(eps).words(&[rows.max(1), usize::from(batch)]);
        self.launch(&turns("norm_gradients", channels, words))?;
        let to = self.room(&input.shape)?;
        let memory = [gradient, input, &scale, &of_input, &shift, &to].map(Array::memory);
        self.launch(&turns("norm_backward", to.len(), args(&memory).words(&[to.len(), channels])))?;
        Ok([to, weight_gradient, bias_gradient])
    }

    /// [`Snap::apply`]
    pub fn snapped(&self, snap: &Snap, exact: &Array) -> Result<Array, DeviceError> {
        self.round(exact, snap.numbers(), snap.dropped)
    }

    /// [`Snap::multiples`]
    pub fn multiples(&self, snap: &Snap, exact: &Array) -> Result<Array, DeviceError> {
        let [inverse, low, high, _] = snap.numbers();
        self.round(exact, [inverse, low, high, 1.0], None)
    }

    fn round(&self, exact: &Array, numbers: [f32; 4], dropped: Option<Dropped>) -> Result<Array, DeviceError> {
        let to = self.room(&exact.shape)?;
        let memory = [exact.memory(), Memory::NULL, to.memory(), Memory::NULL];
        self.launch(&turns("snap_forward", to.len(), snap_args(numbers, dropped, &memory, to.len())))?;
        Ok(to)
    }

    pub fn snap_gradient(&self, snap: &Snap, exact: &Array, gradient: &Array) -> Result<(Array, f64), DeviceError> {
        let [to, of_step] = [self.room(&exact.shape)?, self.room(&exact.shape)?];
        let memory = [exact, gradient, &to, &of_step].map(Array::memory);
        self.launch(&turns("snap_backward", to.len(), snap_args(snap.numbers(), snap.dropped, &memory, to.len())))?;
        let sizes = [of_step.len(), 1, snap::PIECE];
        let sum = self.average("sum_rows_double", [of_step.memory(), Memory::NULL, Memory::NULL], sizes, 1, 1)?;
        let step = self.download_doubles(&sum)?.iter().sum();
        Ok((to, step))
    }
}

fn snap_args([inverse, low, high, step]: [f32; 4], dropped: Option<Dropped>, memory: &[Memory], count: usize) -> Args {
    let (share, seed) = dropped.map_or((0.0, 0), |dropped| (dropped.share, dropped.seed));
    let seed = [seed as u32 as usize, (seed >> 32) as usize];
    args(memory).words(&[count]).float(inverse).float(low).float(high).float(step).float(share).words(&seed)
}
