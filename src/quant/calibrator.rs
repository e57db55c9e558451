//! Running the float network over frames, watching, and making a scheme of what was seen.

use super::layout::{Layout, Policy, is_non_negative};
use super::{Method, Observer};
use crate::engine::float::{EngineError, FloatEngine, Inputs};
use crate::graph::{
    Activation, Calibration, Granularity, Graph, NodeId, Params, Quantization, Scheme, Weight, fold_batch_norm, sha256_hex,
};
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;

/// Watches a float network at work.
pub struct Calibrator {
    graph: Graph,
    params: Params,
    engine: FloatEngine,
    method: Method,
    policy: Policy,
    layout: Layout,
    /// By node whose range is wanted.
    observers: BTreeMap<NodeId, Box<dyn Observer>>,
    frames: usize,
    /// Of the points of the frames so far.
    digest: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    #[error("no layer fits `{pattern}`; the layers are: {layers}")]
    NoSuchLayer { pattern: String, layers: String },
    #[error("{what} bits: expected 2 to 8, found {found}")]
    Bits { what: &'static str, found: u8 },
    #[error("no frame was observed")]
    NoFrames,
    #[error("`{node}` took values that are not finite; these frames, or this model, cannot be used")]
    NotFinite { node: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Calibrator {
    /// # Errors
    /// Parameters that do not fit the graph, a policy that does not fit it.
    pub fn new(graph: &Graph, params: &Params, method: Method, policy: &Policy) -> Result<Self, CalibrationError> {
        let (graph, params) = fold_batch_norm(graph, params);
        let layout = Layout::new(&graph, policy)?;
        let engine = FloatEngine::new(&graph, &params)?;
        let observers = layout.values.values().map(|&id| (id, (method.observer)())).collect();
        Ok(Self { graph, params, engine, method, policy: policy.clone(), layout, observers, frames: 0, digest: String::new() })
    }

    /// Frames observed so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Runs a frame; returns the float network's outputs by role.
    ///
    /// # Errors
    /// A frame that does not fit the network.
    pub fn observe(&mut self, inputs: &Inputs<f32>) -> Result<BTreeMap<String, ArrayD<f32>>, EngineError> {
        let (graph, observers) = (&self.graph, &mut self.observers);
        let mut watch = |name: &str, values: &ArrayD<f32>| {
            if let Some(observer) = graph.node(name).and_then(|id| observers.get_mut(&id)) {
                observer.observe(values.as_slice().unwrap_or_default());
            }
        };
        let outputs = self.engine.run_observing(inputs, &mut |node, values| watch(&node.name, values))?;
        inputs.dense.iter().for_each(|(name, values)| watch(name, values));
        self.frames += 1;
        let points: Vec<u8> = inputs.dense.values().flatten().flat_map(|x| x.to_le_bytes()).collect();
        self.digest = sha256_hex(format!("{}{}", self.digest, sha256_hex(&points)).as_bytes());
        Ok(outputs)
    }

    /// The scheme, and where it comes from. `inputs` are the names of what was read.
    ///
    /// # Errors
    /// No frame was observed, or one with values that are not finite.
    pub fn finish(self, inputs: Vec<String>) -> Result<Quantization, CalibrationError> {
        if self.frames == 0 {
            return Err(CalibrationError::NoFrames);
        }
        let mut scheme = Scheme { float: self.layout.float, ..Scheme::default() };
        for (&id, range_of) in &self.layout.values {
            let range = self.observers[range_of].range();
            let node = self.graph.nodes[id].name.clone();
            if !(range.low.is_finite() && range.high.is_finite()) {
                return Err(CalibrationError::NotFinite { node });
            }
            let (bits, signed) = (self.policy.activation_bits, !is_non_negative(&self.graph, *range_of));
            scheme.activations.insert(node, Activation { bits, signed, scale: range.scale(bits, signed), zero_point: 0 });
        }
        for &id in &self.layout.integer {
            let node = &self.graph.nodes[id];
            let weight = &self.params.0[&format!("{}.weight", node.name)];
            scheme.weights.insert(node.name.clone(), nearest(weight, node.op.output_axis(), self.policy.weight_bits));
        }
        let calibration = Calibration { method: self.method.name.to_owned(), inputs, frames: self.frames, frames_sha256: self.digest };
        Ok(Quantization { scheme, calibration })
    }
}

/// Each output's greatest magnitude becomes the greatest integer; the rest is rounded to nearest.
fn nearest(weight: &ArrayD<f32>, output_axis: usize, bits: u8) -> Weight {
    let limit = f32::from(Weight::limit(bits));
    let scale = |reach: f32| if reach > 0.0 { (reach / limit).max(f32::MIN_POSITIVE) } else { 1.0 };
    let reach = |part: ndarray::ArrayViewD<'_, f32>| part.iter().fold(0f32, |m, w| m.max(w.abs()));
    let scales = weight.axis_iter(Axis(output_axis)).map(|part| scale(reach(part))).collect();
    Weight::round_to_nearest(weight, output_axis, bits, Granularity::PerChannel, scales)
}
