//! What the network's heads yield for a frame.

use super::decode::DecodeError;
use super::{DetectorConfig, NetworkError};
use crate::networks::centerpoint::BranchRole;
use ndarray::{Array3, ArrayD, ArrayView3, Axis, Ix4};
use std::collections::BTreeMap;

/// The network's outputs for one sample, by role: `task0.heatmap`, `task0.offset`, ... (see [`BranchRole`]).
///
/// Each map is `[height, width, channels]`; the first row is the lowest y, the first column the lowest x of the grid.
#[derive(Clone, Debug, Default)]
pub struct HeadMaps {
    /// In standard layout.
    pub(super) maps: BTreeMap<String, Array3<f32>>,
}

impl HeadMaps {
    pub fn new() -> Self {
        Self::default()
    }

    /// From an engine's outputs by role, each `[1, height, width, channels]`.
    ///
    /// # Errors
    /// An output with another number of axes.
    pub fn from_outputs(outputs: impl IntoIterator<Item = (String, ArrayD<f32>)>) -> Result<Self, NetworkError> {
        let mut maps = Self::new();
        for (role, value) in outputs {
            maps.insert(role, value.into_dimensionality::<Ix4>()?.index_axis_move(Axis(0), 0));
        }
        Ok(maps)
    }

    /// Adds a map, `[height, width, channels]`, replacing one of the same role.
    pub fn insert(&mut self, role: impl Into<String>, map: Array3<f32>) {
        let map = if map.is_standard_layout() { map } else { map.as_standard_layout().into_owned() };
        self.maps.insert(role.into(), map);
    }

    /// A map of this role and size (height, width, channels) to be written, with whatever it holds: a map of another size makes
    /// room for zeros.
    pub fn slot(&mut self, role: &str, dim: [usize; 3]) -> &mut [f32] {
        if self.maps.get(role).is_none_or(|map| <[usize; 3]>::from(map.dim()) != dim) {
            self.maps.insert(role.to_owned(), Array3::zeros(dim));
        }
        let map = self.maps.get_mut(role).and_then(Array3::as_slice_mut);
        map.unwrap_or_default()
    }

    /// Role and map, in order of roles.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array3<f32>)> {
        self.maps.iter().map(|(role, map)| (role.as_str(), map))
    }

    /// A task's map of the shape that the configuration says.
    pub(super) fn of_task(&self, config: &DetectorConfig, task: usize, branch: BranchRole) -> Result<ArrayView3<'_, f32>, DecodeError> {
        let [nx, ny, _] = config.grid.cells();
        let factor = config.decode.out_size_factor;
        let role = format!("task{task}.{}", branch.name());
        self.get(&role, [ny / factor, nx / factor, branch.channels(config.network.head.tasks[task].classes.len())])
    }

    fn get(&self, role: &str, expected: [usize; 3]) -> Result<ArrayView3<'_, f32>, DecodeError> {
        let map = self
            .maps
            .get(role)
            .ok_or_else(|| DecodeError::Missing { role: role.to_owned(), found: self.maps.keys().cloned().collect() })?;
        let found = map.dim().into();
        if found != expected {
            return Err(DecodeError::Shape { role: role.to_owned(), found, expected });
        }
        Ok(map.view())
    }
}
