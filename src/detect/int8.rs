//! The integer engine as the network of a detector.

use super::detector::{ChooseCells, LayerTime};
use super::{HeadMaps, Model, Network, NetworkError, PillarInput};
use crate::engine::Isa;
use crate::engine::int8::{Clipped, Int8Engine, Int8Error, OutputMap};
use crate::networks::centerpoint::BranchRole;

/// A quantized model's network in integers, on the CPU. What its heads regress it computes only where boxes will be read, if it
/// may ([`Network::run_at_cells`]).
pub struct Int8Network {
    engine: Int8Engine,
    /// Maps that came back, to be written again.
    spare: HeadMaps,
}

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
        let head = &model.config().network.head;
        let regressed = || head.branches.iter().map(|b| b.role).filter(|&role| role != BranchRole::Heatmap);
        let of_task = |task: usize| regressed().map(|role| format!("task{task}.{}", role.name())).collect();
        let groups: Vec<Vec<String>> = (0..head.tasks.len()).map(of_task).collect();
        let engine = Int8Engine::with_deferred(model.graph(), model.params(), &quantization.scheme, isa, &groups)?;
        Ok(Self { engine, spare: HeadMaps::new() })
    }

    pub fn engine(&self) -> &Int8Engine {
        &self.engine
    }
}

impl Network for Int8Network {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        self.engine.run(&input.to_inputs())?;
        let mut maps = std::mem::take(&mut self.spare);
        self.engine.maps().for_each(|map| copy(&map, &mut maps));
        Ok(maps)
    }

    fn run_at_cells(&mut self, input: &PillarInput, choose: &mut ChooseCells<'_>) -> Result<HeadMaps, NetworkError> {
        self.engine.run_first(&input.to_inputs())?;
        let mut maps = std::mem::take(&mut self.spare);
        self.engine.maps().filter(|map| map.group.is_none()).for_each(|map| copy(&map, &mut maps));
        let cells = choose(&maps);
        self.engine.run_deferred(&cells);
        for map in self.engine.maps() {
            let Some(group) = map.group else { continue };
            let [height, width, channels] = map.dim;
            let to = maps.slot(map.role, map.dim);
            for &cell in cells.get(group).into_iter().flatten().filter(|&&cell| cell < height * width) {
                to[cell * channels..][..channels].copy_from_slice(map.pixel(cell));
            }
        }
        Ok(maps)
    }

    fn recycle(&mut self, maps: HeadMaps) {
        self.spare = maps;
    }

    fn count_clipped(&mut self, count: bool) {
        self.engine.count_clipped(count);
    }

    fn clipped(&self) -> Vec<(String, Clipped)> {
        self.engine.clipped().map(|(nodes, clipped)| (nodes.join(", "), clipped)).collect()
    }

    fn layers(&self) -> Vec<LayerTime> {
        self.engine.steps()
    }
}

fn copy(map: &OutputMap<'_>, maps: &mut HeadMaps) {
    let to = maps.slot(map.role, map.dim);
    to.chunks_exact_mut(map.dim[2]).zip(map.pixels()).for_each(|(to, pixel)| to.copy_from_slice(pixel));
}
