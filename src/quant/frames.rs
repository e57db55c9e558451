//! Frames to calibrate with, and what the float network makes of them.

use super::CalibrationError;
use super::channels::Channels;
use super::equalize::equalize;
use super::layout::Layout;
use super::observer::Histogram;
use super::shelf::{Shelf, ShelvedInputs};
use super::teacher::Teacher;
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

/// Of each node, by name, over which cells.
pub(super) type Histograms = BTreeMap<(String, Cells), Histogram>;

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
    channels: BTreeMap<String, Channels>,
    /// Of its images.
    histograms: OnceLock<Histograms>,
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
            channels: BTreeMap::new(),
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
        let Self { dense, engine, channels, .. } = self;
        let mut kept = Inputs::default();
        let mut watch = |name: &str, values: &ArrayD<f32>| {
            if let Some(id) = dense.node(name) {
                channels.entry(name.to_owned()).or_default().observe(values);
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

    /// What each node of the dense part took.
    pub(super) fn channels(&self) -> &BTreeMap<String, Channels> {
        &self.channels
    }

    /// The float network as it is.
    pub(super) fn as_observed(&self) -> Teacher<'_> {
        Teacher::new(self, None)
    }

    /// The float network with its channels brought to like sizes, for whoever makes integers of it like this.
    pub(super) fn equalized(&self, layout: &Layout) -> Teacher<'_> {
        Teacher::new(self, Some(equalize(&self.graph, &self.params, &self.channels, layout)))
    }

    /// Counted once for all methods that take the network as it is.
    pub(super) fn histograms(&self) -> &OnceLock<Histograms> {
        &self.histograms
    }
}
