//! The float engine as the network of a detector.

use super::{HeadMaps, Model, Network, NetworkError, PillarInput};
use crate::engine::float::{EngineError, FloatEngine, Inputs, NodeTime};
use ndarray::{Array3, ArrayD, Axis, Ix4};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model's network in float.
pub struct FloatNetwork(FloatEngine);

impl FloatNetwork {
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn new(model: &Model) -> Result<Self, EngineError> {
        FloatEngine::new(model.graph(), model.params()).map(Self)
    }

    /// With fake quantization, if the model is quantized: what an integer engine yields, in float arithmetic.
    ///
    /// # Errors
    /// As [`FloatNetwork::new`].
    pub fn fake_quantized(model: &Model) -> Result<Self, EngineError> {
        match model.quantization() {
            None => Self::new(model),
            Some(quantization) => FloatEngine::with_scheme(model.graph(), model.params(), &quantization.scheme).map(Self),
        }
    }

    /// Time of each node of the last run.
    pub fn times(&self) -> &[NodeTime] {
        self.0.times()
    }

    /// A frame as the engine takes it. The engine's inputs are owned; a frame's points are small beside its maps.
    pub(crate) fn inputs(input: &PillarInput) -> Inputs<f32> {
        Inputs::default().with_dense("points", input.features.clone().into_dyn()).with_pillars("pillars", Arc::new(input.index.clone()))
    }

    pub(crate) fn head_maps(outputs: BTreeMap<String, ArrayD<f32>>) -> Result<HeadMaps, NetworkError> {
        let mut maps = HeadMaps::new();
        for (role, value) in outputs {
            let batch = value.into_dimensionality::<Ix4>()?;
            let map: Array3<f32> = batch.index_axis_move(Axis(0), 0);
            maps.insert(role, map);
        }
        Ok(maps)
    }
}

impl Network for FloatNetwork {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        Self::head_maps(self.0.run(&Self::inputs(input))?)
    }
}
