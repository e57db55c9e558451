//! The integer engine on a GPU, with the CPU's beside it.

use super::frame::FrameRules;
use super::program::{Piece, Program, ProgramOptions};
use super::segment::runs_on_device;
use crate::engine::cuda::{Device, DeviceError, Gpu, Memory, bytes, bytes_mut};
use crate::engine::float::Inputs;
use crate::engine::int8::plan::StepKind;
use crate::engine::int8::{Clipped, Int8Engine, Int8Error, StepReport};
use crate::graph::{Dim, Op, PillarIndex};
use ndarray::{ArrayD, ArrayViewD};
use std::time::{Duration, Instant};

/// A quantized network on a GPU. Layers that stay float, and every frame after the device was lost, run on the CPU; the results
/// are the same bytes.
pub struct CudaEngine {
    /// Its arrays are where all results end up.
    pub(super) cpu: Int8Engine,
    pub(super) device: Box<dyn Device>,
    pub(super) program: Program,
    pub(super) options: ProgramOptions,
    /// What stands before and behind the network, if whole frames are run.
    pub(super) frame: Option<FrameRules>,
    /// Why the device is no longer used.
    pub(super) fault: Option<DeviceError>,
    /// Whether bytes at the ends of their range are counted.
    pub(super) counts_clipped: bool,
    /// By step, where steps run by themselves.
    times: Vec<Duration>,
}

impl CudaEngine {
    /// Moves a lowered network to a GPU. `cpu` is what runs it where the GPU cannot.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn on(gpu: Gpu, cpu: Int8Engine) -> Result<Self, DeviceError> {
        Self::new(cpu, gpu.0, ProgramOptions::default())
    }

    /// On any device, in any way.
    ///
    /// # Errors
    /// As [`CudaEngine::on`], and kernels that the device does not have.
    pub(super) fn new(cpu: Int8Engine, mut device: Box<dyn Device>, options: ProgramOptions) -> Result<Self, DeviceError> {
        let times = vec![Duration::ZERO; cpu.plan.steps.len()];
        let program = Program::build(&cpu, device.as_mut(), options, None)?;
        Ok(Self { cpu, device, program, options, frame: None, fault: None, counts_clipped: false, times })
    }

    /// Runs the network. Where the device fails, the CPU runs this frame and all that follow.
    ///
    /// # Errors
    /// As [`Int8Engine::run`].
    pub fn run(&mut self, inputs: &Inputs<f32>) -> Result<(), Int8Error> {
        if self.fault.is_some() {
            return self.cpu.run(inputs);
        }
        inputs.check(&self.cpu.graph)?;
        match self.run_on_device(inputs) {
            Ok(()) => Ok(()),
            Err(Failure::Engine(error)) => Err(error),
            Err(Failure::Device(error)) => {
                self.fail(&error);
                self.cpu.run(inputs)
            }
        }
    }

    fn run_on_device(&mut self, inputs: &Inputs<f32>) -> Result<(), Failure> {
        self.make_room(inputs)?;
        if let Some(clear) = self.program.clear {
            self.device.run(clear)?;
        }
        for scatter in &self.program.scatters {
            let index = &inputs.pillars[&scatter.index];
            if index.batch != 1 {
                return Err(Int8Error::Batch(index.batch).into());
            }
            let cells: Vec<u32> = index.cells.iter().map(|&[_, y, x]| y * scatter.width as u32 + x).collect();
            self.device.upload(scatter.cells, bytes(&cells))?;
            self.device.upload(scatter.count, bytes(&[index.pillars() as u32]))?;
        }
        for own in &self.program.indices {
            let index = &inputs.pillars[&own.name];
            self.device.upload(own.offsets, bytes(&index.offsets))?;
            self.device.upload(own.counts, bytes(&[index.pillars() as u32, index.rows() as u32]))?;
        }
        for input in &self.program.inputs {
            upload(self.device.as_mut(), Some(input.memory), &inputs.dense[&input.name])?;
        }
        if self.counts_clipped {
            self.device.run(self.program.forget_ends)?;
        }
        for piece in &self.program.pieces {
            let start = Instant::now();
            match piece {
                Piece::Host { step, downloads, uploads } => {
                    for &array in downloads {
                        download(self.device.as_mut(), self.program.arrays[array], &mut self.cpu.arrays[array])?;
                    }
                    self.cpu.run_step(*step, inputs)?;
                    for &array in uploads {
                        upload(self.device.as_mut(), self.program.arrays[array], &self.cpu.arrays[array])?;
                    }
                    self.times[*step] = start.elapsed();
                }
                Piece::Device { steps, sequence, counting } => {
                    self.device.run(if self.counts_clipped { *counting } else { *sequence })?;
                    if self.options.by_step {
                        self.device.wait()?;
                        self.times[steps[0]] = start.elapsed();
                    }
                }
            }
        }
        for &array in &self.program.results {
            download(self.device.as_mut(), self.program.arrays[array], &mut self.cpu.arrays[array])?;
        }
        if self.counts_clipped {
            let mut counts = vec![0u32; 2 * self.cpu.plan.steps.len()];
            self.device.download(self.program.ends, bytes_mut(&mut counts))?;
            let of_step = |&[clipped, of]: &[u32; 2]| Clipped { clipped: clipped.into(), of: of.into() };
            self.cpu.clipped = Some(counts.as_chunks().0.iter().map(of_step).collect());
        }
        Ok(self.device.wait()?)
    }

    /// Plans memory anew if a frame has more pillars or points than any before.
    fn make_room(&mut self, inputs: &Inputs<f32>) -> Result<(), Failure> {
        let most = |count: fn(&PillarIndex) -> usize| inputs.pillars.values().map(|p| count(p)).max().unwrap_or(0);
        let per_pillar = self.cpu.graph.nodes.iter().filter(|n| n.op == Op::Input && n.shape.first() == Some(&Dim::Pillars));
        let values = per_pillar.map(|node| inputs.dense[&node.name].shape()[0]).max().unwrap_or(0);
        let (pillars, rows) = (most(PillarIndex::pillars).max(values), most(PillarIndex::rows));
        let capacity = &mut self.options.capacity;
        if pillars > capacity.pillars || rows > capacity.rows {
            capacity.pillars = capacity.pillars.max(pillars.next_power_of_two());
            capacity.rows = capacity.rows.max(rows.next_power_of_two());
            self.rebuild()?;
        }
        Ok(())
    }

    /// The device is not used any more.
    pub(super) fn fail(&mut self, error: &DeviceError) {
        tracing::error!(device = %self.device.description(), %error, "the GPU failed; the CPU goes on from this frame");
        self.fault = Some(error.clone());
    }

    pub(super) fn rebuild(&mut self) -> Result<(), DeviceError> {
        if let Some(error) = &self.fault {
            return Err(error.clone());
        }
        self.device.clear();
        self.program = Program::build(&self.cpu, self.device.as_mut(), self.options, self.frame.as_ref())?;
        Ok(())
    }

    /// Where it fails, the device is not used any more.
    pub(super) fn rebuild_or_fail(&mut self) -> Result<(), DeviceError> {
        let first = self.fault.is_none();
        self.rebuild().inspect_err(|error| {
            if first {
                self.fail(error);
            }
        })
    }

    /// The outputs of the last run by role: `[1, height, width, channels]`.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, ArrayViewD<'_, f32>)> {
        self.cpu.outputs()
    }

    /// Why the device is no longer used, if it is not.
    pub fn fault(&self) -> Option<&DeviceError> {
        self.fault.as_ref()
    }

    /// Bytes of activations and of weights on the device.
    pub fn memory_bytes(&self) -> (usize, usize) {
        self.program.memory_bytes
    }

    /// Computes every pixel, or (as at first) only those that can differ from an empty canvas. The results are the same.
    ///
    /// # Errors
    /// As [`CudaEngine::on`]; the CPU runs from then on.
    pub fn set_dense(&mut self, dense: bool) -> Result<(), DeviceError> {
        self.options.dense = dense;
        self.rebuild_or_fail()
    }

    /// Runs once more, over what the last frame left on the device, what the device does, and waits for it: the time without any
    /// copying, for benchmarks.
    ///
    /// # Errors
    /// The device is lost.
    pub fn run_resident(&mut self) -> Result<Duration, DeviceError> {
        self.device.wait()?;
        let start = Instant::now();
        for piece in &self.program.pieces {
            if let Piece::Device { sequence, .. } = piece {
                self.device.run(*sequence)?;
            }
        }
        self.device.wait()?;
        Ok(start.elapsed())
    }

    /// Has every step run, and be timed, by itself: slower as a whole.
    ///
    /// # Errors
    /// As [`CudaEngine::on`]; the CPU runs from then on.
    pub fn time_steps(&mut self, by_step: bool) -> Result<(), DeviceError> {
        self.options.by_step = by_step;
        self.rebuild_or_fail()
    }

    /// What each step was, and how long it took in the last run if steps are timed.
    pub fn steps(&self) -> Vec<StepReport> {
        let mut steps = self.cpu.steps();
        if self.fault.is_none() {
            for ((report, elapsed), step) in steps.iter_mut().zip(&self.times).zip(&self.cpu.plan.steps) {
                report.elapsed = *elapsed;
                if !matches!(step.kind, StepKind::Float { .. } | StepKind::Load { .. }) || runs_on_device(&self.cpu.plan, &step.kind) {
                    report.kernels = vec!["cuda".into()];
                    report.computed = 1.0;
                }
            }
        }
        steps
    }

    /// From the next run on; it takes a look at every activation, so not every run should do it. A convolution whose results are only
    /// summands is not counted where the sum is formed in it.
    pub fn count_clipped(&mut self, count: bool) {
        self.counts_clipped = count;
        self.cpu.count_clipped(count);
    }

    /// See [`Int8Engine::clipped`].
    pub fn clipped(&self) -> impl Iterator<Item = (&[String], Clipped)> {
        self.cpu.clipped()
    }
}

fn upload(device: &mut dyn Device, to: Option<Memory>, array: &ArrayD<f32>) -> Result<(), DeviceError> {
    let (Some(to), Some(floats)) = (to, array.as_slice()) else {
        return Err(DeviceError::Plan("an array has no place on the device".into()));
    };
    device.upload(to, bytes(floats))
}

fn download(device: &mut dyn Device, from: Option<Memory>, array: &mut ArrayD<f32>) -> Result<(), DeviceError> {
    let (Some(from), Some(floats)) = (from, array.as_slice_mut()) else {
        return Err(DeviceError::Plan("an array has no place on the device".into()));
    };
    device.download(from, bytes_mut(floats))
}

enum Failure {
    Engine(Int8Error),
    Device(DeviceError),
}

impl From<Int8Error> for Failure {
    fn from(error: Int8Error) -> Self {
        Self::Engine(error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}
