//! What a bag has no messages for: bird's-eye layers, voxels, and all that is known of the labelled objects, a file a frame.

use lidar_ptq::node::sinks::PendingFile;
use lidar_ptq::sim::{BevGrid, MapLayer, ObjectClass, SimFrame, Simulation, VoxelGrid};
use ndarray::{Array1, Array2, Axis};
use ndarray_npy::NpzWriter;
use std::io::{Cursor, Write};
use std::path::Path;

/// Writes the newest frame's file; `sim --help` names its arrays.
pub fn write(path: &Path, simulation: &Simulation, frame: &SimFrame) -> anyhow::Result<()> {
    let mut file = NpzWriter::new(Cursor::new(Vec::new()));
    let layers = simulation.map_layers(&BevGrid::default());
    for (layer, cells) in MapLayer::ALL.into_iter().zip(layers.axis_iter(Axis(0))) {
        file.add_array(layer.name(), &cells)?;
    }
    let space = simulation.occupancy(&VoxelGrid::default(), frame);
    file.add_array("semantics", &space.classes)?;
    file.add_array("mask_lidar", &space.observed)?;

    let truth = &frame.truth;
    let boxes = Array2::from_shape_fn((truth.len(), 9), |(row, column)| {
        let b = &truth[row].bbox;
        [b.center[0], b.center[1], b.center[2], b.size[0], b.size[1], b.size[2], b.yaw, b.velocity[0], b.velocity[1]][column]
    });
    file.add_array("boxes", &boxes)?;
    let label = |class: ObjectClass| ObjectClass::ALL.iter().position(|c| *c == class).map_or(u8::MAX, |i| i as u8);
    file.add_array("labels", &truth.iter().map(|t| label(t.class)).collect::<Array1<u8>>())?;
    file.add_array("tracks", &truth.iter().map(|t| t.track).collect::<Array1<u32>>())?;
    file.add_array("num_lidar_points", &truth.iter().map(|t| t.num_lidar_points).collect::<Array1<u32>>())?;

    let bytes = file.finish()?.into_inner();
    let mut out = PendingFile::create(path)?;
    out.write_all(&bytes)?;
    out.finish()
}
