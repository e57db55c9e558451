//! The whole frame on the device: points are copied to it, and boxes from it.

use super::boxes::{BoxRules, TaskBoxes};
use super::engine::CudaEngine;
use super::program::Builder;
use super::voxelize::{PointMemory, PointRules, TOTALS};
use crate::engine::cuda::{DeviceError, Launch, Memory, bytes, bytes_mut};

/// What stands before the network and behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameRules {
    pub points: PointRules,
    pub boxes: BoxRules,
}

/// A frame's numbers and boxes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameResult {
    /// Points with a channel that is not finite.
    pub non_finite: usize,
    /// Points within the grid.
    pub in_range: usize,
    /// Of those, points whose pillar is one.
    pub assigned: usize,
    /// Of those, points that the network sees.
    pub kept: usize,
    pub pillars: usize,
    /// Hard pillars that hold as many points as they may.
    pub full_pillars: usize,
    pub tasks: Vec<TaskBoxes>,
}

/// The frame's place on the device.
pub(super) struct FrameMemory {
    points: PointMemory,
    /// Numbers, then what was found, then boxes.
    results: Memory,
    sequence: usize,
    /// What stands behind the network, alone.
    #[cfg(test)]
    behind: usize,
}

impl Builder<'_> {
    /// The whole frame as one sequence around the `network`'s launches, if the device can do all of it.
    pub(super) fn frame(&mut self, rules: &FrameRules, clear: &[Launch], network: &[Launch]) -> Result<Option<FrameMemory>, DeviceError> {
        let results = self.activation(4 * (TOTALS + rules.boxes.words()))?;
        let Some((points, before)) = self.voxelize(&rules.points, results)? else { return Ok(None) };
        let Some(behind) = self.boxes(&rules.boxes, results.offset(4 * TOTALS))? else { return Ok(None) };
        let sequence = self.prepare([clear, &before, network, &behind].concat())?;
        Ok(Some(FrameMemory {
            points,
            results,
            sequence,
            #[cfg(test)]
            behind: self.prepare(behind)?,
        }))
    }
}

impl CudaEngine {
    /// Has whole frames run on the device from now on, by these rules. Whether it can do them.
    ///
    /// # Errors
    /// As [`CudaEngine::on`]; the CPU runs from then on.
    pub fn set_frame(&mut self, rules: FrameRules) -> Result<bool, DeviceError> {
        if self.frame.as_ref() != Some(&rules) {
            self.frame = Some(rules);
            self.rebuild_or_fail()?;
        }
        Ok(self.program.frame.is_some())
    }

    /// From points, `[points, channels]`, to boxes. `None` where the device does not do whole frames: it was not told how, it cannot, it
    /// counts or times the network's steps, or it is lost, perhaps in this very frame.
    pub fn run_frame(&mut self, points: &[f32]) -> Option<FrameResult> {
        if self.fault.is_some() || self.counts_clipped {
            return None;
        }
        self.frame_on_device(points).unwrap_or_else(|error| {
            self.fail(&error);
            None
        })
    }

    fn frame_on_device(&mut self, points: &[f32]) -> Result<Option<FrameResult>, DeviceError> {
        let Some(rules) = &self.frame else { return Ok(None) };
        let count = points.len() / rules.points.channels.max(1);
        if self.program.frame.is_some() && count > self.options.capacity.points {
            let room = rules.points.capacity(count.next_power_of_two());
            self.options.capacity = self.options.capacity.or(room);
            self.rebuild()?;
        }
        let Some(frame) = &self.program.frame else { return Ok(None) };
        self.device.upload(frame.points.count, bytes(&[count as u32]))?;
        self.device.upload(frame.points.points, bytes(points))?;
        self.device.run(frame.sequence)?;
        self.results_of_frame().map(Some)
    }

    fn results_of_frame(&mut self) -> Result<FrameResult, DeviceError> {
        let (Some(rules), Some(frame)) = (&self.frame, &self.program.frame) else { return Ok(FrameResult::default()) };
        let mut words = vec![0; TOTALS + rules.boxes.words()];
        self.device.download(frame.results, bytes_mut(&mut words))?;
        let [non_finite, in_range, assigned, kept, full_pillars, pillars] = std::array::from_fn(|i| words[i] as usize);
        let tasks = rules.boxes.read(&words[TOTALS..]);
        Ok(FrameResult { non_finite, in_range, assigned, kept, pillars, full_pillars, tasks })
    }
}

#[cfg(test)]
impl CudaEngine {
    /// On the emulator, with little room at first, so that frames outgrow it. `None`, and a message, where there is no C++ compiler.
    pub(crate) fn emulated(cpu: crate::engine::int8::Int8Engine, arch: u32, order: u64) -> Option<Self> {
        let device = crate::engine::cuda::Emulator::start(arch, order)?;
        let capacity = super::program::Capacity { points: 0, pillars: 8, rows: 8 };
        let options = super::program::ProgramOptions { capacity, ..Default::default() };
        Some(Self::new(cpu, Box::new(device), options).expect("fits"))
    }

    /// As [`CudaEngine::emulated`], on a device that is lost when it is to run its kernels once more than so many times.
    pub(crate) fn emulated_for(cpu: crate::engine::int8::Int8Engine, frames: usize) -> Option<Self> {
        let mut device = crate::engine::cuda::Emulator::start(800, 0)?;
        // Memory is planned when the engine is made, and anew when it learns what stands around the network, and when points come.
        device.lasts = Some(3 + frames);
        Some(Self::new(cpu, Box::new(device), super::program::ProgramOptions::default()).expect("fits"))
    }

    /// The rows that the network saw in the last frame, where each pillar's begin, and the pillars' cells, `y * width + x`.
    pub(crate) fn rows_of_last_frame(&mut self) -> (Vec<f32>, Vec<u32>, Vec<u32>) {
        let (input, index, scatter) = (&self.program.inputs[0], &self.program.indices[0], &self.program.scatters[0]);
        let rules = &self.frame.as_ref().expect("set").points;
        let mut read = |from: Memory, words: usize| {
            let mut got = vec![0; words];
            self.device.download(from, bytes_mut(&mut got)).expect("there");
            got
        };
        let counts = read(index.counts, 2);
        assert_eq!(read(scatter.count, 1), counts[..1]);
        let [pillars, rows] = [counts[0] as usize, counts[1] as usize];
        let features = read(input.memory, rows * (rules.channels + 3 + rules.center_offsets));
        (features.into_iter().map(f32::from_bits).collect(), read(index.offsets, pillars + 1), read(scatter.cells, pillars))
    }

    /// What would be found in these maps, by role, `[height, width, channels]`.
    pub(crate) fn boxes_of<'a>(&mut self, maps: impl Iterator<Item = (&'a str, &'a [f32])>) -> Vec<TaskBoxes> {
        for (role, map) in maps {
            let view = self.cpu.plan.outputs.iter().find(|o| o.role == role).expect("an output").view;
            let (memory, shape) = (self.program.arrays[view.array].expect("on the device"), &self.cpu.plan.arrays[view.array]);
            let crate::graph::Dim::Fixed(row) = shape[3] else { panic!("{shape:?}") };
            let mut whole = vec![0f32; map.len() / view.channels * row];
            self.device.download(memory, bytes_mut(&mut whole)).expect("there");
            for (pixel, values) in whole.chunks_exact_mut(row).zip(map.chunks_exact(view.channels)) {
                pixel[view.first..][..view.channels].copy_from_slice(values);
            }
            self.device.upload(memory, bytes(&whole)).expect("there");
        }
        self.device.run(self.program.frame.as_ref().expect("whole frames").behind).expect("runs");
        self.results_of_frame().expect("there").tasks
    }
}
