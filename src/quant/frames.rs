//! Frames to calibrate with, and what the float network makes of them.

use super::observer::{Histogram, Range};
use super::occupancy::Occupancy;
use super::shelf::{Shelf, ShelvedInputs};
use super::{CalibrationError, Clip};
use crate::engine::float::{EngineError, FloatEngine, Inputs, Processor};
use crate::graph::{Graph, Node, Op, Params, Scheme, dense_part, fold_batch_norm, sha256_hex};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// Which cells of a map a histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cells {
    All,
    /// Those that may have seen a point. The others hold one constant vector of each layer, which is not zero behind the first.
    Occupied,
}

/// Frames, kept in a file as what goes into the network's images: points pass through layers that stay float.
pub struct Frames {
    /// Batch norm folded.
    graph: Graph,
    params: Params,
    /// [`dense_part`] of the graph.
    dense: Graph,
    processor: Processor,
    engine: FloatEngine,
    frames: ShelvedInputs,
    /// Of each node of the dense part.
    ranges: BTreeMap<String, Range>,
    histograms: OnceLock<BTreeMap<(String, Cells), Histogram>>,
    /// Of the points of the frames so far.
    digest: String,
}

impl Frames {
    /// Scratch files lie where the system has its own.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn new(graph: &Graph, params: &Params) -> Result<Self, EngineError> {
        Self::with_scratch(graph, params, &std::env::temp_dir())
    }

    /// Scratch files lie in this directory, some 10 MB for each frame of a network of full size.
    ///
    /// # Errors
    /// As [`Frames::new`].
    pub fn with_scratch(graph: &Graph, params: &Params, scratch: &Path) -> Result<Self, EngineError> {
        let (graph, params) = fold_batch_norm(graph, params);
        let engine = FloatEngine::new(&graph, &params)?;
        let dense = dense_part(&graph);
        Ok(Self {
            graph,
            params,
            dense,
            processor: Processor::cpu(),
            engine,
            frames: ShelvedInputs::new(Shelf::new(scratch)),
            ranges: BTreeMap::new(),
            histograms: OnceLock::new(),
            digest: String::new(),
        })
    }

    /// Where the networks of a calibration run.
    ///
    /// # Errors
    /// As [`Frames::new`].
    pub fn on(self, processor: Processor) -> Result<Self, EngineError> {
        let engine = FloatEngine::on(&processor, &self.graph, &self.params, &Scheme::default())?;
        Ok(Self { processor, engine, ..self })
    }

    pub(super) fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Runs a frame and keeps it; returns the float network's outputs by role.
    ///
    /// # Errors
    /// A frame that does not fit the network; a full disk.
    pub fn observe(&mut self, inputs: &Inputs<f32>) -> Result<BTreeMap<String, ArrayD<f32>>, CalibrationError> {
        let Self { dense, engine, ranges, .. } = self;
        let mut kept = Inputs::default();
        let mut watch = |name: &str, values: &ArrayD<f32>| {
            if let Some(id) = dense.node(name) {
                ranges.entry(name.to_owned()).or_default().extend(values.as_slice().unwrap_or_default());
                if dense.nodes[id].op == Op::Input {
                    kept.dense.insert(name.to_owned(), values.clone());
                }
            }
        };
        let watched = |node: &Node| dense.node(&node.name).is_some();
        let outputs = engine.run_watching(inputs, &watched, &mut |node, values| watch(&node.name, values))?;
        inputs.dense.iter().for_each(|(name, values)| watch(name, values));
        kept.pillars.extend(inputs.pillars.clone());
        self.frames.push(&kept)?;
        self.histograms = OnceLock::new();
        let points: Vec<u8> = inputs.dense.values().flatten().flat_map(|x| x.to_le_bytes()).collect();
        self.digest = sha256_hex(format!("{}{}", self.digest, sha256_hex(&points)).as_bytes());
        Ok(outputs)
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// As [`crate::graph::Calibration::frames_sha256`] wants it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folded network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Of the folded network.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The part of it that the kept frames go into.
    pub fn dense(&self) -> &Graph {
        &self.dense
    }

    /// Inputs of [`Frames::dense`].
    pub fn kept(&self) -> &ShelvedInputs {
        &self.frames
    }

    /// The magnitude at which a node's value is clipped.
    ///
    /// # Errors
    /// A node that took values that are not finite.
    pub fn reach(&self, node: &str, clip: &Clip, cells: Cells, levels: u32) -> Result<f32, CalibrationError> {
        let range = self.ranges.get(node).copied().unwrap_or_default();
        if !range.is_finite() {
            return Err(CalibrationError::NotFinite { node: node.to_owned() });
        }
        // A layer that is always silent, or so quiet that a step would not be a normal number.
        if range.reach() < f32::MIN_POSITIVE * 1e6 {
            return Ok(1.0);
        }
        if *clip == Clip::MaxMin {
            return Ok(range.reach());
        }
        let histograms = self.histograms()?;
        Ok(histograms.get(&(node.to_owned(), cells)).map_or(range.reach(), |h| clip.reach(h, levels)))
    }

    /// Of every image of the dense part; made at first use, by another run over all frames if nobody has counted yet.
    fn histograms(&self) -> Result<&BTreeMap<(String, Cells), Histogram>, CalibrationError> {
        if let Some(mut counting) = self.counting() {
            let mut engine = FloatEngine::on(&self.processor, &self.dense, &self.params, &Scheme::default())?;
            for inputs in self.frames.iter() {
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
        self.histograms.get().is_none().then_some(Counting { frames: self, histograms: BTreeMap::new() })
    }
}

/// Histograms on the way.
pub struct Counting<'a> {
    frames: &'a Frames,
    histograms: BTreeMap<(String, Cells), Histogram>,
}

impl Counting<'_> {
    /// Where a frame's points are.
    pub fn occupancy(&self, inputs: &Inputs<f32>) -> Option<Occupancy> {
        Occupancy::new(&self.frames.dense, inputs)
    }

    /// Counts a node's value in a frame, if it is an image.
    pub fn count(&mut self, node: &str, values: &ArrayD<f32>, occupancy: &mut Option<Occupancy>) {
        let [_, height, width, channels] = *values.shape() else { return };
        let values = values.as_slice().unwrap_or_default();
        let reach = self.frames.ranges.get(node).map_or(1.0, Range::reach);
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
        self.frames.histograms.get_or_init(|| self.histograms);
    }
}
