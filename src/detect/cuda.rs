//! The integer engine on a GPU as the network of a detector, and the choice between it and the CPU.

use super::detector::LayerTime;
use super::{DetectorConfig, HeadMaps, Int8NetworkError, Model, Network, NetworkError, PillarInput, WholeFrame, cuda_frame, network};
use crate::engine::cuda::{DeviceError, Gpu};
use crate::engine::int8::cuda::CudaEngine;
use crate::engine::int8::{Clipped, Int8Engine};
use crate::engine::{DeviceChoice, Isa};
use ndarray::ArrayView2;

/// A quantized model's network on a GPU. Its results are the CPU's, byte for byte.
pub(super) struct CudaNetwork {
    engine: CudaEngine,
    /// The settings that whole frames are run with.
    config: Option<DetectorConfig>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CudaNetworkError {
    #[error(transparent)]
    Model(#[from] Int8NetworkError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl CudaNetwork {
    pub fn new(model: &Model, isa: Isa, gpu: Gpu) -> Result<Self, CudaNetworkError> {
        let quantization = model.quantization().ok_or(Int8NetworkError::NotQuantized)?;
        let cpu = Int8Engine::new(model.graph(), model.params(), &quantization.scheme, isa).map_err(Int8NetworkError::from)?;
        Ok(Self { engine: CudaEngine::on(gpu, cpu)?, config: None })
    }
}

#[cfg(test)]
impl CudaNetwork {
    pub fn of(engine: CudaEngine) -> Self {
        Self { engine, config: None }
    }

    pub fn engine(&mut self) -> &mut CudaEngine {
        &mut self.engine
    }
}

impl Network for CudaNetwork {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        self.engine.run(&input.to_inputs())?;
        HeadMaps::from_outputs(self.engine.outputs().map(|(role, map)| (role.to_owned(), map.as_standard_layout().into_owned())))
    }

    fn detect(&mut self, config: &DetectorConfig, points: ArrayView2<'_, f32>) -> Option<WholeFrame> {
        if self.config.as_ref() != Some(config) {
            let does = self.engine.set_frame(cuda_frame::rules(config)).unwrap_or(false);
            if does {
                tracing::info!("whole frames run on the GPU");
            }
            self.config = Some(config.clone());
        }
        let standard = points.as_standard_layout();
        let result = self.engine.run_frame(standard.as_slice()?)?;
        Some(cuda_frame::whole_frame(config, points.nrows(), &result))
    }

    fn count_clipped(&mut self, count: bool) {
        self.engine.count_clipped(count);
    }

    fn clipped(&self) -> Vec<(String, Clipped)> {
        self.engine.clipped().map(|(nodes, clipped)| (nodes.join(", "), clipped)).collect()
    }

    fn time_layers(&mut self, by_layer: bool) -> Result<(), NetworkError> {
        Ok(self.engine.time_steps(by_layer)?)
    }

    fn layers(&self) -> Vec<LayerTime> {
        self.engine.steps()
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
    if let Some(ordinal) = ordinal {
        match on_gpu(model, isa, ordinal) {
            Ok((network, description)) => {
                tracing::info!(device = %description, "the network runs on a GPU");
                return Ok((Box::new(network), description));
            }
            Err(CudaNetworkError::Model(Int8NetworkError::Engine(error))) => return Err(error.into()),
            Err(reason) if device != DeviceChoice::Auto => tracing::warn!(wanted = %device, %reason, "the network runs on the CPU"),
            Err(reason) => tracing::info!(%reason, "the network runs on the CPU"),
        }
    }
    Ok((network(model, isa)?, "cpu".into()))
}

/// With the GPU's name.
fn on_gpu(model: &Model, isa: Isa, ordinal: usize) -> Result<(CudaNetwork, String), CudaNetworkError> {
    if model.quantization().is_none() {
        return Err(Int8NetworkError::NotQuantized.into());
    }
    let gpu = Gpu::open(ordinal)?;
    let description = gpu.description();
    Ok((CudaNetwork::new(model, isa, gpu)?, description))
}
