//! The float engine as the network of a detector.

use super::detector::LayerTime;
use super::{HeadMaps, Model, Network, NetworkError, PillarInput};
use crate::engine::float::{EngineError, FloatEngine};
use crate::graph::layer_costs;

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
}

impl Network for FloatNetwork {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        HeadMaps::from_outputs(self.0.run(&input.to_inputs())?)
    }

    fn layers(&self) -> Vec<LayerTime> {
        let costs = layer_costs(self.0.graph());
        let layer = |(time, cost): (&crate::engine::float::NodeTime, crate::graph::LayerCost)| LayerTime {
            nodes: vec![time.node.clone()],
            kind: "float",
            kernels: Vec::new(),
            macs: if cost.per_row { 0 } else { cost.macs },
            computed: 1.0,
            elapsed: time.elapsed,
        };
        self.0.times().iter().zip(costs).map(layer).collect()
    }
}
