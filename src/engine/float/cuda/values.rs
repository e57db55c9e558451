//! What happens to floats one by one, and between rows, pillars and images: the launches of `float_values.cu`.

use super::memory::{Accelerator, Array};
use super::norm::Summand;
use crate::engine::cuda::{Args, DeviceError, Memory, turns};
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

impl Accelerator {
    /// Copies an index to the device.
    pub fn index(&self, index: &PillarIndex) -> Result<Index, DeviceError> {
        let mut words = vec![index.pillars() as u32];
        words.extend(&index.offsets);
        words.extend(index.cells.iter().flatten());
        Ok(Index { batch: index.batch, pillars: index.pillars(), rows: index.rows(), words: self.upload_words(&words)? })
    }

    /// Zero for what is less.
    pub fn relu(&self, input: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("relu_forward", input, None)
    }

    /// From ReLU's result and the gradient of it.
    pub fn relu_gradient(&self, output: &Array, gradient: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("relu_backward", output, Some(gradient))
    }

    /// Of two arrays of one shape.
    pub fn sum(&self, a: &Array, b: &Array) -> Result<Array, DeviceError> {
        self.one_by_one("add_values", a, Some(b))
    }

    fn one_by_one(&self, kernel: &str, a: &Array, b: Option<&Array>) -> Result<Array, DeviceError> {
        let to = self.room(&a.shape)?;
        let memory = [a.memory(), b.map_or(Memory::NULL, Array::memory), to.memory()];
        self.launch(&turns(kernel, to.len(), Args::new(&memory).words(&[to.len()])))?;
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

    /// An array's columns, given out in pieces of these widths: the inverse of [`Accelerator::concat`].
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

    /// Copies so many columns, from the first one given of one array to that of the other, which has as many rows.
    fn copy_columns(&self, (from, from_first): (&Array, usize), (to, to_first): (&Array, usize), width: usize) -> Result<(), DeviceError> {
        let rows = to.len() / to.width().max(1);
        let args = Args::new(&[from.memory(), to.memory()]).words(&[rows, width, from.width(), from_first, to.width(), to_first]);
        self.launch(&turns("copy_columns", rows * width, args))
    }

    /// The greatest value of each channel in each pillar, `[pillars, channels]`, and the first row that has it (words).
    pub fn pillar_max(&self, rows: &Array, index: &Index) -> Result<(Array, Array), DeviceError> {
        let channels = rows.width();
        let best = self.room(&[index.pillars, channels])?;
        let winners = self.room(&best.shape)?;
        let memory = [rows.memory(), Memory::NULL, best.memory(), winners.memory(), index.offsets(), index.count()];
        self.launch(&turns("pillar_max", best.len(), Args::new(&memory).words(&[channels, 0])))?;
        Ok((best, winners))
    }

    /// Gradients of the pillars' values to the rows that are their maxima.
    pub fn pillar_max_gradient(&self, gradient: &Array, winners: &Array, index: &Index) -> Result<Array, DeviceError> {
        let channels = gradient.width();
        let to = self.zeros(&[index.rows, channels])?;
        let args = Args::new(&[gradient.memory(), to.memory(), winners.memory()]).words(&[index.pillars, channels]);
        self.launch(&turns("pillar_max_backward", gradient.len(), args))?;
        Ok(to)
    }

    /// Each row followed by its pillar's values.
    pub fn pillar_concat(&self, rows: &Array, pillars: &Array, index: &Index) -> Result<Array, DeviceError> {
        let to = self.room(&[index.rows, rows.width() + pillars.width()])?;
        let memory = [rows.memory(), pillars.memory(), to.memory(), Memory::NULL, index.offsets(), index.count()];
        let args = Args::new(&memory).words(&[rows.width(), pillars.width()]);
        self.launch(&turns("pillar_concat", index.pillars * to.width(), args))?;
        Ok(to)
    }

    /// Gradients with respect to the rows (of this width) and to the pillars.
    pub fn pillar_concat_gradient(&self, gradient: &Array, width: usize, index: &Index) -> Result<[Array; 2], DeviceError> {
        let rows = self.room(&[index.rows, width])?;
        self.copy_columns((gradient, 0), (&rows, 0), width)?;
        let channels = gradient.width() - width;
        let pillars = self.room(&[index.pillars, channels])?;
        let args = Args::new(&[gradient.memory(), pillars.memory(), index.offsets()]);
        let args = args.words(&[index.pillars, channels, gradient.width(), width]);
        self.launch(&turns("pillar_sum", pillars.len(), args))?;
        Ok([rows, pillars])
    }

    /// The pillars at their cells of an otherwise empty image.
    pub fn pillar_scatter(&self, pillars: &Array, index: &Index, shape: &[usize]) -> Result<Array, DeviceError> {
        let to = self.zeros(shape)?;
        self.to_cells("pillar_scatter", (pillars, &to), index, &to)?;
        Ok(to)
    }

    /// An image's values at the pillars' cells.
    pub fn pillar_gather(&self, image: &Array, index: &Index) -> Result<Array, DeviceError> {
        let to = self.room(&[index.pillars, image.width()])?;
        self.to_cells("pillar_gather", (image, &to), index, image)?;
        Ok(to)
    }

    /// From pillars to their cells of an image, or back.
    fn to_cells(&self, kernel: &str, (from, to): (&Array, &Array), index: &Index, image: &Array) -> Result<(), DeviceError> {
        let [_, height, width, channels] = image.shape[..] else {
            return Err(DeviceError::Plan(format!("{kernel}: an image has four axes, this array {}", image.shape.len())));
        };
        let args = Args::new(&[from.memory(), to.memory(), index.cells()]).words(&[index.pillars, channels, height, width]);
        self.launch(&turns(kernel, index.pillars * channels, args))
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

    /// The gradients of the values as they came, and of the step ([`Snap::backward`]).
    pub fn snap_gradient(&self, snap: &Snap, exact: &Array, gradient: &Array) -> Result<(Array, f64), DeviceError> {
        let [to, of_step] = [self.room(&exact.shape)?, self.room(&[exact.len(), 1])?];
        let memory = [exact, gradient, &to, &of_step].map(Array::memory);
        self.launch(&turns("snap_backward", to.len(), snap_args(snap.numbers(), snap.dropped, &memory, to.len())))?;
        let step = self.average(Summand::Doubles(&of_step), snap::PIECE, 1)?;
        Ok((to, self.download_doubles(&step)?[0]))
    }
}

fn snap_args([inverse, low, high, step]: [f32; 4], dropped: Option<Dropped>, memory: &[Memory], count: usize) -> Args {
    let (share, seed) = dropped.map_or((0.0, 0), |dropped| (dropped.share, dropped.seed));
    let seed = [seed as u32 as usize, (seed >> 32) as usize];
    Args::new(memory).words(&[count]).float(inverse).float(low).float(high).float(step).float(share).words(&seed)
}
