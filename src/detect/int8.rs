//! The integer engine as the network of a detector.

use super::detector::LayerTime;
use super::{HeadMaps, Model, Network, NetworkError, PillarInput};
use crate::engine::Isa;
use crate::engine::int8::{Clipped, Int8Engine, Int8Error};

/// A quantized model's network in integers, on the CPU.
pub struct Int8Network(Int8Engine);

#[derive(Debug, thiserror::Error)]
pub enum Int8NetworkError {
    #[error("the model is not quantized; make it so with lidar_ptq calibrate")]
    NotQuantized,
    #[error(transparent)]
    Engine(#[from] Int8Error),
}

impl Int8Network {
    /// # Errors
    /// A model that is not quantized or cannot be lowered; an instruction set that this processor lacks.
    pub fn new(model: &Model, isa: Isa) -> Result<Self, Int8NetworkError> {
        let quantization = model.quantization().ok_or(Int8NetworkError::NotQuantized)?;
        Ok(Self(Int8Engine::new(model.graph(), model.params(), &quantization.scheme, isa)?))
    }

    pub fn engine(&self) -> &Int8Engine {
        &self.0
    }
}

impl Network for Int8Network {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        self.0.run(&input.to_inputs())?;
        HeadMaps::from_outputs(self.0.outputs().map(|(role, map)| (role.to_owned(), map.as_standard_layout().into_owned())))
    }

    fn count_clipped(&mut self, count: bool) {
        self.0.count_clipped(count);
    }

    fn clipped(&self) -> Vec<(String, Clipped)> {
        self.0.clipped().map(|(nodes, clipped)| (nodes.join(", "), clipped)).collect()
    }

    fn layers(&self) -> Vec<LayerTime> {
        self.0.steps()
    }
}
