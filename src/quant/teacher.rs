//! The float network that a method makes integers of.

use super::equalize::Equalized;
use super::frames::{Cells, Frames, Histograms};
use super::observer::Histogram;
use super::occupancy::Occupancy;
use super::shelf::ShelvedInputs;
use super::{CalibrationError, Clip};
use crate::engine::float::{FloatEngine, Inputs, Processor};
use crate::graph::{Params, Scheme};
use ndarray::ArrayD;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The network that was observed, or an equal one with channels of other sizes.
pub struct Teacher<'a> {
    frames: &'a Frames,
    params: Cow<'a, Params>,
    /// Inputs of the dense part.
    inputs: Cow<'a, ShelvedInputs>,
    /// By what channels of nodes are multiplied.
    factors: BTreeMap<String, Vec<f32>>,
    histograms: Cow<'a, OnceLock<Histograms>>,
}

impl<'a> Teacher<'a> {
    pub fn new(frames: &'a Frames, equalized: Option<Equalized>) -> Self {
        match equalized {
            None => Self {
                frames,
                params: Cow::Borrowed(frames.params()),
                inputs: Cow::Borrowed(frames.kept()),
                factors: BTreeMap::new(),
                histograms: Cow::Borrowed(frames.histograms()),
            },
            Some(Equalized { params, factors }) => Self {
                frames,
                params: Cow::Owned(params),
                inputs: Cow::Owned(frames.kept().multiplied(&factors)),
                factors,
                histograms: Cow::Owned(OnceLock::new()),
            },
        }
    }

    /// Of the folded network.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where it runs.
    pub fn processor(&self) -> &Processor {
        self.frames.processor()
    }

    /// Inputs of [`Frames::dense`].
    pub fn inputs(&self) -> &ShelvedInputs {
        &self.inputs
    }

    /// The magnitude at which a node's value is clipped.
    ///
    /// # Errors
    /// A node that took values that are not finite.
    pub fn reach(&self, node: &str, clip: &Clip, cells: Cells, levels: u32) -> Result<f32, CalibrationError> {
        if !self.frames.channels().get(node).is_none_or(|channels| channels.is_finite()) {
            return Err(CalibrationError::NotFinite { node: node.to_owned() });
        }
        let greatest = self.greatest(node);
        // A layer that is always silent, or so quiet that a step would not be a normal number.
        if greatest < f32::MIN_POSITIVE * 1e6 {
            return Ok(1.0);
        }
        if *clip == Clip::MaxMin {
            return Ok(greatest);
        }
        let histograms = self.histograms()?;
        Ok(histograms.get(&(node.to_owned(), cells)).map_or(greatest, |h| clip.reach(h, levels)))
    }

    /// The greatest magnitude that a node took.
    fn greatest(&self, node: &str) -> f32 {
        self.frames.channels().get(node).map_or(0.0, |channels| channels.greatest(self.factors.get(node).map(Vec::as_slice)))
    }

    /// Of every image of the dense part; made at first use, by another run over all frames if nobody has counted yet.
    fn histograms(&self) -> Result<&Histograms, CalibrationError> {
        if let Some(mut counting) = self.counting() {
            let mut engine = FloatEngine::on(self.processor(), self.frames.dense(), &self.params, &Scheme::default())?;
            for inputs in self.inputs.iter() {
                let inputs = inputs?;
                let mut occupancy = counting.occupancy(&inputs);
                engine.run_observing(&inputs, &mut |node, values| counting.count(&node.name, values, &mut occupancy))?;
                inputs.dense.iter().for_each(|(name, values)| counting.count(name, values, &mut occupancy));
            }
            counting.finish();
        }
        Ok(self.histograms.get_or_init(BTreeMap::new))
    }

    /// For whoever runs the float network over all frames; `None` if that was done.
    pub fn counting(&self) -> Option<Counting<'_>> {
        self.histograms.get().is_none().then_some(Counting { teacher: self, histograms: BTreeMap::new() })
    }
}

/// Histograms on the way.
pub struct Counting<'a> {
    teacher: &'a Teacher<'a>,
    histograms: Histograms,
}

impl Counting<'_> {
    /// Where a frame's points are.
    pub fn occupancy(&self, inputs: &Inputs<f32>) -> Option<Occupancy> {
        Occupancy::new(self.teacher.frames.dense(), inputs)
    }

    /// Counts a node's value in a frame, if it is an image.
    pub fn count(&mut self, node: &str, values: &ArrayD<f32>, occupancy: &mut Option<Occupancy>) {
        let [_, height, width, channels] = *values.shape() else { return };
        let values = values.as_slice().unwrap_or_default();
        let reach = self.teacher.greatest(node);
        for cells in [Cells::All, Cells::Occupied] {
            let histogram = self.histograms.entry((node.to_owned(), cells)).or_insert_with(|| Histogram::new(reach));
            match occupancy {
                Some(occupancy) if cells == Cells::Occupied => histogram.observe_rows(values, channels, occupancy.mask([height, width])),
                _ => histogram.observe(values),
            }
        }
    }

    /// Call once all frames are counted.
    pub fn finish(self) {
        self.teacher.histograms.get_or_init(|| self.histograms);
    }
}
