//! Running a plan, step by step; `images.rs` has those steps that are not convolutions, `report.rs` says how they went.

pub(super) mod clipped;
mod images;
mod report;

pub use clipped::Clipped;
use clipped::Ends;
pub use report::StepReport;

use super::aligned::AlignedBytes;
use super::conv::{COMPUTE, Conv, EmptyOutput, Sparse, To};
use super::cpu::Kernels;
use super::lower::{LowerError, lower};
use super::plan::{FloatView, Plan, PlannedOutput, Source, Step, StepKind, View};
use super::repeat::Empty;
use crate::engine::Isa;
use crate::engine::float::{EngineError, Inputs};
use crate::graph::{Dim, Graph, Params, PillarIndex, Scheme, fold_batch_norm};
use ndarray::{ArrayD, ArrayViewD, Axis, Slice};
use std::time::{Duration, Instant};

/// A quantized network ready to run: one sample at a time.
pub struct Int8Engine {
    /// Folded.
    pub(super) graph: Graph,
    pub(super) plan: Plan,
    pub(super) kernels: Kernels,
    memory: Vec<AlignedBytes>,
    pub(super) arrays: Vec<ArrayD<f32>>,
    /// By buffer: which pixels saw a pillar. Not kept up where nothing is known of an empty canvas.
    seen: Vec<Vec<u8>>,
    /// By step: what to do with each window of a convolution, and what those yield that see nothing.
    todo: Vec<Vec<u8>>,
    pub(super) empty: Vec<Option<EmptyOutput>>,
    /// Scratch of the widest line of pixels.
    line: Vec<u8>,
    /// The cells of the frame before.
    cells: Vec<[u32; 3]>,
    /// Whether nothing is skipped.
    dense: bool,
    /// Groups of deferred outputs.
    groups: usize,
    /// Whether in the last run these were computed at some pixels only.
    partial: bool,
    times: Vec<Duration>,
    /// By step, if it is to be counted.
    pub(super) clipped: Option<Vec<Clipped>>,
}

/// An output of the last run.
#[derive(Clone, Copy, Debug)]
pub struct OutputMap<'a> {
    pub role: &'a str,
    /// Which group it is deferred with, if it is.
    pub group: Option<usize>,
    /// Height, width, channels.
    pub dim: [usize; 3],
    /// Values from a pixel to the next, and before the first channel.
    stride: usize,
    first: usize,
    values: &'a [f32],
}

impl<'a> OutputMap<'a> {
    /// The channels of each pixel, row by row.
    pub fn pixels(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let (first, channels) = (self.first, self.dim[2]);
        self.values.chunks_exact(self.stride).map(move |pixel| &pixel[first..first + channels])
    }

    /// The channels of the pixel `y * width + x`.
    ///
    /// # Panics
    /// If there is no such pixel.
    #[inline]
    pub fn pixel(&self, pixel: usize) -> &'a [f32] {
        &self.values[pixel * self.stride + self.first..][..self.dim[2]]
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Int8Error {
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("this processor or build has no integer kernels for {0}")]
    Unavailable(Isa),
    #[error("the integer engine runs one sample at a time, found {0}")]
    Batch(usize),
}

impl Int8Engine {
    /// Folds, lowers, packs, and learns what an empty canvas yields.
    ///
    /// # Errors
    /// A scheme or parameters that do not fit the folded graph, or an instruction set that the processor lacks.
    pub fn new(graph: &Graph, params: &Params, scheme: &Scheme, isa: Isa) -> Result<Self, Int8Error> {
        Self::with_deferred(graph, params, scheme, isa, &[])
    }

    /// With groups of outputs, by role, that [`Int8Engine::run_first`] leaves out. What is needed for one group alone is computed by
    /// [`Int8Engine::run_deferred`], where it is wanted.
    ///
    /// # Errors
    /// As [`Int8Engine::new`].
    pub fn with_deferred(graph: &Graph, params: &Params, scheme: &Scheme, isa: Isa, groups: &[Vec<String>]) -> Result<Self, Int8Error> {
        let kernels = Kernels::with_isa(isa).ok_or(Int8Error::Unavailable(isa))?;
        Self::with_kernels(graph, params, scheme, kernels, groups)
    }

    pub(super) fn with_kernels(
        graph: &Graph,
        params: &Params,
        scheme: &Scheme,
        kernels: Kernels,
        groups: &[Vec<String>],
    ) -> Result<Self, Int8Error> {
        let (graph, params) = fold_batch_norm(graph, params);
        let plan = lower(&graph, &params, scheme, &kernels, groups)?;
        let memory = plan.slots.iter().map(|&len| AlignedBytes::zeroed(len)).collect();
        let fixed = |shape: &[Dim]| shape.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 0 }).collect::<Vec<_>>();
        let arrays = plan.arrays.iter().map(|shape| ArrayD::zeros(fixed(shape))).collect();
        let seen = plan.buffers.iter().map(|b| vec![0; b.height * b.width]).collect();
        let todo = plan.steps.iter().map(|s| vec![0; s.windows()]).collect();
        let line = |step: &Step| if let StepKind::Conv(conv) = &step.kind { conv.line(&plan.buffers[conv.input]) } else { 0 };
        let line = vec![0; plan.steps.iter().map(line).max().unwrap_or(0)];
        let empty = vec![None; plan.steps.len()];
        let times = vec![Duration::ZERO; plan.steps.len()];
        let mut engine = Self {
            graph,
            plan,
            kernels,
            memory,
            arrays,
            seen,
            todo,
            empty,
            line,
            cells: Vec::new(),
            dense: true,
            groups: groups.len(),
            partial: false,
            times,
            clipped: None,
        };
        engine.learn_empty();
        engine.dense = false;
        Ok(engine)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Computes every pixel, or (as at first) only those that can differ from an empty canvas. The results are the same.
    pub fn set_dense(&mut self, dense: bool) {
        self.dense = dense;
    }

    /// Runs the network, deferred outputs included.
    ///
    /// # Errors
    /// An input is missing, has the wrong shape, indexes outside the canvas, or holds several samples.
    pub fn run(&mut self, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        inputs.check(&self.graph)?;
        self.partial = false;
        (0..self.plan.steps.len()).try_for_each(|at| self.run_timed(at, inputs))
    }

    /// Runs all but what deferred outputs alone need.
    ///
    /// # Errors
    /// As [`Int8Engine::run`].
    pub fn run_first(&mut self, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        inputs.check(&self.graph)?;
        let first = self.plan.steps.iter().take_while(|s| s.group.is_none()).count();
        (0..first).try_for_each(|at| self.run_timed(at, inputs))
    }

    /// The rest, once after [`Int8Engine::run_first`]: `pixels` of each group's outputs, `y * width + x`. Elsewhere these outputs
    /// mean nothing.
    pub fn run_deferred(&mut self, pixels: &[Vec<usize>]) {
        self.partial = true;
        for (group, pixels) in pixels.iter().enumerate().take(self.groups) {
            self.plan.want(group, pixels, &mut self.todo);
            for at in self.plan.group(group) {
                let start = Instant::now();
                self.run_conv(at);
                self.times[at] = start.elapsed();
                self.count(at);
            }
        }
    }

    /// The outputs of the last run by role: `[1, height, width, channels]`.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, ArrayViewD<'_, f32>)> {
        self.plan.outputs.iter().map(|o| (o.role.as_str(), floats(&self.arrays, &o.view)))
    }

    /// Those of them that are images, to be read without copying them.
    pub fn maps(&self) -> impl Iterator<Item = OutputMap<'_>> {
        self.plan.outputs.iter().filter_map(|PlannedOutput { role, view, group }| {
            let array = &self.arrays[view.array];
            let &[1, height, width, stride] = array.shape() else { return None };
            Some(OutputMap {
                role,
                group: *group,
                dim: [height, width, view.channels],
                stride,
                first: view.first,
                values: array.as_slice()?,
            })
        })
    }

    fn run_timed(&mut self, at: usize, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        let start = Instant::now();
        self.run_step(at, inputs)?;
        self.times[at] = start.elapsed();
        self.count(at);
        Ok(())
    }

    /// Counts clipped activations of a step that has just run, if they are to be counted.
    fn count(&mut self, at: usize) {
        let partial = self.is_partial(at);
        let (Some(clipped), Some(ends)) = (&mut self.clipped, Ends::of(&self.plan, at)) else { return };
        let (todo, seen) = (&self.todo[at], &self.seen[ends.buffer]);
        // Where nothing is known of an empty canvas, every pixel counts.
        let all = self.plan.buffers[ends.buffer].repeat.is_none();
        let which = |pixel: usize| if partial { todo[pixel] == COMPUTE } else { all || seen[pixel] != 0 };
        clipped[at] = ends.count(&self.plan, &self.memory, which);
    }

    pub(super) fn run_step(&mut self, at: usize, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        match &self.plan.steps[at].kind {
            StepKind::Float { .. } => return self.run_float(at, inputs),
            StepKind::Load { input, to } => {
                let value = &inputs.dense[input];
                if matches!(self.plan.arrays[*to].first(), Some(Dim::Fixed(_))) && value.shape().first() != Some(&1) {
                    return Err(Int8Error::Batch(value.shape().first().copied().unwrap_or(0)));
                }
                self.arrays[*to].clone_from(value);
            }
            StepKind::Scatter { features, index, to } => {
                let index = &inputs.pillars[index];
                if index.batch != 1 {
                    return Err(Int8Error::Batch(index.batch));
                }
                let (features, to) = (*features, *to);
                self.clear_cells(&to);
                self.scatter(&features, index, &to);
            }
            StepKind::Quantize { from, to } => {
                let (from, to) = (*from, *to);
                let mut bytes = std::mem::take(&mut self.memory[self.plan.buffers[to.buffer].slot]);
                let buffer = &self.plan.buffers[to.buffer];
                buffer.pad(&mut bytes);
                images::quantize(&self.kernels, &floats(&self.arrays, &from), buffer, &to, &mut bytes);
                self.memory[buffer.slot] = bytes;
            }
            StepKind::Dequantize { from, to } => {
                let (from, to) = (*from, *to);
                let buffer = &self.plan.buffers[from.buffer];
                images::dequantize(&self.memory[buffer.slot], buffer, &from, &mut self.arrays[to]);
            }
            StepKind::Add { a, b, to, add, opens } => {
                let (a, b, to, add, opens) = (*a, *b, *to, *add, *opens);
                let buffer = &self.plan.buffers[to.buffer];
                let mut bytes = std::mem::take(&mut self.memory[buffer.slot]);
                if opens {
                    buffer.pad(&mut bytes);
                }
                let part = |v: &View| (&self.plan.buffers[v.buffer], &*self.memory[self.plan.buffers[v.buffer].slot], v.first, v.grid);
                images::add(add, part(&a), part(&b), buffer, &to, &mut bytes);
                self.memory[buffer.slot] = bytes;
                let mut seen = std::mem::take(&mut self.seen[to.buffer]);
                for (i, seen) in seen.iter_mut().enumerate() {
                    *seen = (*seen & u8::from(!opens)) | self.seen[a.buffer][i] | self.seen[b.buffer][i];
                }
                self.seen[to.buffer] = seen;
            }
            StepKind::Conv(_) => self.run_conv(at),
        }
        Ok(())
    }

    fn run_float(&mut self, at: usize, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        let StepKind::Float { inputs: wanted, indices, .. } = &self.plan.steps[at].kind else { return Ok(()) };
        let mut own = Inputs::default();
        for (name, source) in wanted {
            let value = match source {
                Source::Outside => inputs.dense[name].clone(),
                Source::Inside(view) => floats(&self.arrays, view).as_standard_layout().into_owned(),
            };
            own.dense.insert(name.clone(), value);
        }
        for name in indices {
            own.pillars.insert(name.clone(), inputs.pillars[name].clone());
        }
        let StepKind::Float { engine, outputs, .. } = &mut self.plan.steps[at].kind else { return Ok(()) };
        let mut values = engine.run(&own)?;
        for (role, array) in outputs {
            if let Some(value) = values.remove(role) {
                self.arrays[*array] = value;
            }
        }
        Ok(())
    }

    fn clear_cells(&mut self, to: &View) {
        let buffer = &self.plan.buffers[to.buffer];
        let bytes = &mut self.memory[buffer.slot];
        for [_, y, x] in self.cells.drain(..) {
            let at = buffer.at(y as usize, x as usize);
            bytes[at..at + buffer.channels].fill(buffer.zero);
            self.seen[to.buffer][y as usize * buffer.width + x as usize] = 0;
        }
    }

    fn scatter(&mut self, features: &FloatView, index: &PillarIndex, to: &View) {
        let buffer = &self.plan.buffers[to.buffer];
        let mut bytes = std::mem::take(&mut self.memory[buffer.slot]);
        let features = floats(&self.arrays, features);
        let seen = &mut self.seen[to.buffer];
        let quantizer = to.grid.quantizer();
        for (row, &[_, y, x]) in features.rows().into_iter().zip(&index.cells) {
            let at = buffer.at(y as usize, x as usize) + to.first;
            if let Some(row) = row.as_slice() {
                self.kernels.quantize(&quantizer, row, &mut bytes[at..at + to.channels]);
            }
            seen[y as usize * buffer.width + x as usize] = 1;
        }
        self.memory[buffer.slot] = bytes;
        self.cells.extend(&index.cells);
    }

    /// Whether windows that see nothing are left out.
    fn is_sparse(&self, at: usize) -> bool {
        self.empty[at].is_some() && !self.dense
    }

    /// Whether only windows are computed that somebody wants.
    fn is_partial(&self, at: usize) -> bool {
        self.partial && self.plan.steps[at].group.is_some()
    }

    fn run_conv(&mut self, at: usize) {
        let StepKind::Conv(conv) = &self.plan.steps[at].kind else { return };
        let from = &self.plan.buffers[conv.input];
        let partial = self.is_partial(at);
        if conv.repeat.is_some() && !partial {
            conv.activate(from, &self.seen[conv.input], &mut self.line, &mut self.todo[at]);
        }
        let todo = &self.todo[at];
        let sparse = if partial {
            Some(Sparse { todo, empty: None })
        } else {
            self.empty[at].as_ref().filter(|_| self.is_sparse(at)).map(|empty| Sparse { todo, empty: Some(empty) })
        };
        match conv.to {
            To::Bytes { buffer, .. } => {
                let to = &self.plan.buffers[buffer];
                let mut bytes = std::mem::take(&mut self.memory[to.slot]);
                conv.run_bytes(&self.kernels, from, &self.memory[from.slot], to, &mut bytes, sparse);
                self.memory[to.slot] = bytes;
                if conv.repeat.is_some() && !partial {
                    spread(conv, &self.todo[at], to.width, &mut self.seen[buffer]);
                }
            }
            To::Floats { array, .. } => {
                let array = &mut self.arrays[array];
                let channels = array.len_of(Axis(array.ndim() - 1));
                let floats = array.as_slice_mut().unwrap_or_default();
                conv.run_floats(&self.kernels, from, &self.memory[from.slot], channels, floats, sparse);
            }
        }
    }

    /// Runs an empty canvas through all steps that know what becomes of it, and keeps each distinct pixel.
    fn learn_empty(&mut self) {
        for at in 0..self.plan.steps.len() {
            match &self.plan.steps[at].kind {
                StepKind::Scatter { to, .. } => {
                    let buffer = &self.plan.buffers[to.buffer];
                    self.memory[buffer.slot].fill(buffer.zero);
                }
                StepKind::Add { to, .. } if self.plan.buffers[to.buffer].repeat.is_some() => {
                    // Nothing is loaded, quantized or run in float before it: it has no other inputs.
                    self.run_step(at, &Inputs::default()).expect("an addition reads only what was computed");
                }
                StepKind::Conv(conv) => {
                    let Some(repeat) = conv.repeat else { continue };
                    self.run_conv(at);
                    let StepKind::Conv(conv) = &self.plan.steps[at].kind else { continue };
                    let mut empty = EmptyOutput::default();
                    match conv.to {
                        To::Bytes { buffer, .. } => {
                            let to = &self.plan.buffers[buffer];
                            let bytes = &self.memory[to.slot];
                            empty.bytes = Empty::capture(repeat, conv.channels, |y, x| &bytes[to.at(y, x) + conv.first..][..conv.channels]);
                        }
                        To::Floats { array, .. } => {
                            let array = &self.arrays[array];
                            let [width, channels] = [2, 3].map(|axis| array.len_of(Axis(axis)));
                            let floats = array.as_slice().unwrap_or_default();
                            empty.floats =
                                Empty::capture(repeat, conv.channels, |y, x| &floats[(y * width + x) * channels..][..conv.channels]);
                        }
                    }
                    self.empty[at] = Some(empty);
                }
                _ => {}
            }
        }
    }
}

impl Step {
    /// Windows of a convolution.
    fn windows(&self) -> usize {
        if let StepKind::Conv(conv) = &self.kind { conv.windows[0] * conv.windows[1] } else { 0 }
    }
}

/// Some channels of an array.
fn floats<'a>(arrays: &'a [ArrayD<f32>], view: &FloatView) -> ArrayViewD<'a, f32> {
    let array = &arrays[view.array];
    array.slice_axis(Axis(array.ndim() - 1), Slice::from(view.first..view.first + view.channels))
}

/// The pixels that active windows wrote.
fn spread(conv: &Conv, active: &[u8], width: usize, seen: &mut [u8]) {
    let scale = conv.scale;
    for (y, row) in seen.chunks_exact_mut(width).enumerate() {
        let windows = &active[y / scale * conv.windows[1]..][..conv.windows[1]];
        for (seen, &active) in row.chunks_exact_mut(scale).zip(windows) {
            for s in seen {
                *s = if conv.opens { active } else { *s | active };
            }
        }
    }
}
