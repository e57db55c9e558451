//! The integer engine on a GPU as the network of a detector, and the choice between it and the CPU.

use super::detector::LayerTime;
use super::{HeadMaps, Int8NetworkError, Model, Network, NetworkError, PillarInput, network};
use crate::engine::int8::cuda::{CudaEngine, DeviceError};
use crate::engine::int8::{Clipped, Int8Engine};
use crate::engine::{DeviceChoice, Isa};

/// A quantized model's network on a GPU. Its results are the CPU's, byte for byte.
pub struct CudaNetwork(CudaEngine);

impl CudaNetwork {
    /// # Errors
    /// A model that is not quantized or cannot be lowered; inside, why the GPU of this number cannot run it.
    pub fn new(model: &Model, isa: Isa, ordinal: usize) -> Result<Result<Self, DeviceError>, Int8NetworkError> {
        let quantization = model.quantization().ok_or(Int8NetworkError::NotQuantized)?;
        let cpu = Int8Engine::new(model.graph(), model.params(), &quantization.scheme, isa)?;
        Ok(CudaEngine::open(cpu, ordinal).map(Self).map_err(|(_, error)| error))
    }

    /// Name and architecture of the GPU.
    pub fn description(&self) -> String {
        self.0.description()
    }
}

impl Network for CudaNetwork {
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

    fn time_layers(&mut self, by_layer: bool) -> Result<(), NetworkError> {
        Ok(self.0.time_steps(by_layer)?)
    }

    fn layers(&self) -> Vec<LayerTime> {
        self.0.steps()
    }
}

/// The engine that belongs to a model on a device, and what it runs on in words. Where a GPU cannot be used, the CPU runs, and why
/// is logged: as a warning if the GPU was asked for.
///
/// # Errors
/// A model that the CPU refuses.
pub fn network_on(model: &Model, isa: Isa, device: DeviceChoice) -> Result<(Box<dyn Network>, String), NetworkError> {
    let ordinal = match device {
        DeviceChoice::Cpu => None,
        DeviceChoice::Auto => Some(0),
        DeviceChoice::Cuda(ordinal) => Some(ordinal),
    };
    let asked = matches!(device, DeviceChoice::Cuda(_));
    match ordinal {
        Some(ordinal) if model.quantization().is_some() => match CudaNetwork::new(model, isa, ordinal)? {
            Ok(cuda) => {
                let description = cuda.description();
                tracing::info!(device = %description, "the network runs on a GPU");
                return Ok((Box::new(cuda), description));
            }
            Err(reason) if asked => tracing::warn!(wanted = %device, %reason, "the network runs on the CPU"),
            Err(reason) => tracing::info!(%reason, "the network runs on the CPU"),
        },
        Some(_) if asked => tracing::warn!(wanted = %device, "only quantized models run on GPUs: the network runs on the CPU"),
        _ => {}
    }
    Ok((network(model, isa)?, "cpu".into()))
}
