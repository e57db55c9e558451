//! Points into pillars on the device.

use super::program::{Builder, Capacity};
use crate::engine::cuda::{Args, DeviceError, Launch, Memory, turns};
use crate::graph::Dim;

/// Items of a list that a block takes; see `voxelize.cu`.
pub(super) const TILE: usize = 2048;
pub(super) const THREADS: usize = 256;
/// Values of the part of a key by which one pass sorts.
const DIGITS: usize = 256;
const DIGIT_BITS: usize = 8;
/// Words of a frame's numbers.
pub(super) const TOTALS: usize = 8;

/// How points become pillars, in plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct PointRules {
    /// Of a point, x, y, z first.
    pub channels: usize,
    /// Coordinates of a point's offset from its pillar's centre.
    pub center_offsets: usize,
    /// Along x, y.
    pub cells: [usize; 2],
    pub min: [f32; 3],
    pub max: [f32; 2],
    pub voxel: [f32; 3],
    /// The centre of the first cell.
    pub first_center: [f32; 3],
    pub pillars: PillarRules,
}

/// Which points are in the pillars, and in which order these stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PillarRules {
    /// The first points of the first pillars, in the order of points; a pillar that is not full ends with a row of zeros.
    Hard { max_points: usize, max_pillars: usize },
    /// All points, in the order of cells, x first.
    Dynamic { test_z: bool },
}

impl PointRules {
    /// Room for every frame of so many points.
    pub(super) fn capacity(&self, points: usize) -> Capacity {
        let cells = self.cells[0].saturating_mul(self.cells[1]);
        match self.pillars {
            PillarRules::Hard { max_points, max_pillars } => {
                let pillars = points.min(cells).min(max_pillars);
                Capacity { points, pillars, rows: (points + pillars).min(pillars.saturating_mul(max_points)) }
            }
            PillarRules::Dynamic { .. } => Capacity { points, pillars: points.min(cells), rows: points },
        }
    }
}

/// Where a frame's points go.
#[derive(Clone, Copy)]
pub(super) struct PointMemory {
    pub points: Memory,
    pub count: Memory,
}

impl Builder<'_> {
    /// The launches that put points into pillars, and write them where the network's inputs are. `None` for a network that takes in
    /// anything else. `totals` gets the frame's numbers.
    pub(super) fn voxelize(&mut self, rules: &PointRules, totals: Memory) -> Result<Option<(PointMemory, Vec<Launch>)>, DeviceError> {
        let ([input], [index], [scatter]) = (&self.inputs[..], &self.indices[..], &self.scatters[..]) else {
            return Ok(None);
        };
        let (features, offsets, index_counts) = (input.memory, index.offsets, index.counts);
        let (scatter_cells, scatter_count) = (scatter.cells, scatter.count);
        let node = self.engine.graph.nodes.iter().find(|node| node.name == input.name);
        let width = rules.channels + 3 + rules.center_offsets;
        if index.name != scatter.index || node.is_none_or(|n| n.shape.last() != Some(&Dim::Fixed(width))) {
            return Ok(None);
        }
        let Capacity { points, pillars, .. } = self.options.capacity;
        let cells = rules.cells[0] * rules.cells[1];
        // Keys are pillars and, for points in none, all ones, which must be behind them.
        let passes = (usize::BITS - pillars.leading_zeros()).div_ceil(DIGIT_BITS as u32) as usize;
        let (hard, test_z, max_points, max_pillars) = match rules.pillars {
            PillarRules::Hard { max_points, max_pillars } => (true, true, max_points, max_pillars),
            PillarRules::Dynamic { test_z } => (false, test_z, u32::MAX as usize, u32::MAX as usize),
        };
        let opening_tiles = (if hard { points } else { cells }).div_ceil(TILE).max(1);
        let (point_tiles, pillar_tiles) = (points.div_ceil(TILE).max(1), pillars.div_ceil(TILE).max(1));

        let memory = PointMemory { points: self.activation(4 * points * rules.channels)?, count: self.activation(4)? };
        let [first, pillar_of_cell] = [self.activation(4 * cells)?, self.activation(4 * cells)?];
        let [cell_of_point, keys] = [self.activation(4 * points)?, self.activation(4 * points)?];
        let [cell_of_pillar, starts, ends] = [self.activation(4 * pillars)?, self.activation(4 * pillars)?, self.activation(4 * pillars)?];
        let tiles = self.activation(4 * opening_tiles.max(pillar_tiles))?;
        let digits = self.activation(4 * DIGITS * point_tiles)?;
        let mut sorted = [[Memory::NULL; 2]; 2];
        for memory in sorted.iter_mut().flatten() {
            *memory = self.activation(4 * points)?;
        }

        let mut sort = Vec::new();
        let mut from = [keys, Memory::NULL];
        for pass in 0..passes {
            let to = sorted[pass % 2];
            let args = Args::new(&[from[0], from[1], memory.count, to[0], to[1], digits]).words(&[pass * DIGIT_BITS, point_tiles]);
            sort.push(blocks("sort_count", point_tiles, &args));
            sort.push(blocks("sort_offsets", 1, &args));
            sort.push(blocks("sort_place", point_tiles, &args));
            from = to;
        }
        let own = [memory.points, memory.count, totals, first, pillar_of_cell, cell_of_point, cell_of_pillar, tiles, keys, starts, ends];
        let network = [scatter_cells, scatter_count, offsets, index_counts, from[0], from[1], features];
        let sizes = [rules.channels, rules.center_offsets, usize::from(hard), usize::from(test_z), max_points, max_pillars];
        let args = Args::new(&own).followed_by(&Args::new(&network)).words(&sizes).words(&rules.cells);
        let floats = rules.min.iter().chain(&rules.max).chain(&rules.voxel).chain(&rules.first_center);
        let args = floats.fold(args, |args, &float| args.float(float));
        let mut launches = vec![
            turns("voxel_clear", cells, args.clone()),
            turns("voxel_cells", points, args.clone()),
            blocks("pillars_count", opening_tiles, &args),
            blocks("pillars_place", opening_tiles, &args),
            turns("voxel_keys", points, args.clone()),
        ];
        launches.append(&mut sort);
        launches.extend([
            turns("pillar_bounds", points, args.clone()),
            blocks("rows_count", pillar_tiles, &args),
            blocks("rows_place", pillar_tiles, &args),
            turns("pillar_features", 32 * pillars, args),
        ]);
        Ok(Some((memory, launches)))
    }
}

fn blocks(kernel: &str, blocks: usize, args: &Args) -> Launch {
    Launch { kernel: kernel.to_owned(), grid: [blocks as u32, 1, 1], threads: THREADS as u32, args: args.clone() }
}
