//! From points to pillars: which points form which pillar, and the features with which they enter the network.
//!
//! The rules are those of the public code bases, to the bit where they decide which point goes where: det3d's
//! `points_to_voxel` and mmcv's `hard_voxelize` for the hard kind, OpenPCDet's `DynamicPillarVFE` for the dynamic kind.

use super::{DetectorConfig, Grid, Voxelization};
use crate::engine::float::Inputs;
use crate::graph::PillarIndex;
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// What the pillar network takes in.
#[derive(Clone, Debug, PartialEq)]
pub struct PillarInput {
    /// `[rows, features]`, rows grouped by pillar and in point order within it: the point's own channels, its offset from
    /// the mean of the pillar's points (x, y, z), its offset from the pillar's centre (x, y, perhaps z), metres.
    /// A hard pillar that is not full ends with one all-zero row: the originals' padded slots all behave alike under linear
    /// layers and a maximum, so one stands for all of them.
    pub features: Array2<f32>,
    pub index: PillarIndex,
    pub report: PillarReport,
}

/// Where the points went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PillarReport {
    pub points: usize,
    /// Points with a channel that is not finite; they are dropped.
    pub non_finite: usize,
    /// Points within the grid, before any cap.
    pub in_range: usize,
    /// Points that are in a pillar.
    pub kept: usize,
    pub pillars: usize,
    /// Hard pillars that hold as many points as they may.
    pub full_pillars: usize,
    /// Points lost because their pillar was full.
    pub dropped_by_max_points: usize,
    /// Points lost because there were too many pillars already.
    pub dropped_by_max_pillars: usize,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PillarError {
    #[error("grid: {found} cells along {axis}, expected {expected}; check `grid.min`, `grid.max` and `grid.voxel`")]
    GridCells { axis: char, found: usize, expected: String },
    #[error("grid: {found} pillar cells, at most {MAX_CELLS} are supported; make the range smaller or the voxels larger")]
    GridSize { found: usize },
    #[error("`points.features` must start with x, y, z, found {found:?}")]
    Features { found: Vec<String> },
    #[error("`network.encoder.center_offsets` is {found}, expected 2 (x, y) or 3 (x, y, z)")]
    CenterOffsets { found: usize },
    #[error("`voxelization`: max_points and max_pillars must be at least 1")]
    NoRoom,
    #[error("points have {found} channels, the model expects {expected}")]
    Channels { found: usize, expected: usize },
    #[error("{found} rows are more than a frame may have ({MAX_ROWS})")]
    Rows { found: usize },
}

/// Cells of the largest grid: 8192 x 8192, 256 MiB of lookup table.
const MAX_CELLS: usize = 1 << 26;
/// Rows are counted in u32, and a pillar adds at most one to its points.
pub(super) const MAX_ROWS: usize = (u32::MAX / 2) as usize;
const EMPTY: u32 = u32::MAX;

/// Puts points into pillars. Keeps its lookup table between frames.
#[derive(Clone, Debug)]
pub struct Pillarizer {
    grid: Grid,
    /// Along x, y.
    cells: [usize; 2],
    voxelization: Voxelization,
    /// Channels of a point as it comes in.
    channels: usize,
    center_offsets: usize,
    /// Pillar of each cell, [`EMPTY`] between frames. x-major, the order in which OpenPCDet sorts dynamic pillars.
    pillar_of_cell: Vec<u32>,
    /// Pillar of each point of the current frame, or [`EMPTY`].
    pillar_of_point: Vec<u32>,
}

/// A pillar while it is being filled.
#[derive(Clone, Copy)]
struct Pillar {
    cell: u32,
    points: u32,
}

impl Pillarizer {
    /// # Errors
    /// A grid that is empty, not one cell high or absurdly fine; no x, y, z; caps of zero.
    pub fn new(config: &DetectorConfig) -> Result<Self, PillarError> {
        let [nx, ny, nz] = config.grid.cells();
        for (axis, found) in [('x', nx), ('y', ny)] {
            if found == 0 {
                return Err(PillarError::GridCells { axis, found, expected: "at least 1".into() });
            }
        }
        if nz != 1 {
            return Err(PillarError::GridCells { axis: 'z', found: nz, expected: "1: a pillar is as high as the grid".into() });
        }
        let cells = nx.saturating_mul(ny);
        if cells > MAX_CELLS {
            return Err(PillarError::GridSize { found: cells });
        }
        if !config.points.features.iter().map(String::as_str).take(3).eq(["x", "y", "z"]) {
            return Err(PillarError::Features { found: config.points.features.clone() });
        }
        let center_offsets = config.network.encoder.center_offsets;
        if !(2..=3).contains(&center_offsets) {
            return Err(PillarError::CenterOffsets { found: center_offsets });
        }
        if matches!(config.voxelization, Voxelization::Hard { max_points, max_pillars } if max_points == 0 || max_pillars == 0) {
            return Err(PillarError::NoRoom);
        }
        Ok(Self {
            grid: config.grid,
            cells: [nx, ny],
            voxelization: config.voxelization,
            channels: config.points.features.len(),
            center_offsets,
            pillar_of_cell: vec![EMPTY; cells],
            pillar_of_point: Vec::new(),
        })
    }

    /// One sample. `points` is `[points, channels]`, x, y, z first, metres, in the model's frame.
    ///
    /// The result depends on nothing but the points and their order. Sums run in point order in f32.
    ///
    /// # Errors
    /// Another number of channels than the model's, or more points than can be counted.
    pub fn pillarize(&mut self, points: ArrayView2<'_, f32>) -> Result<PillarInput, PillarError> {
        if points.ncols() != self.channels {
            return Err(PillarError::Channels { found: points.ncols(), expected: self.channels });
        }
        if points.nrows() > MAX_ROWS {
            return Err(PillarError::Rows { found: points.nrows() });
        }
        let mut report = PillarReport { points: points.nrows(), ..Default::default() };
        let points = points.as_standard_layout();
        // A standard layout always is one slice.
        let points = points.as_slice().unwrap_or_default();

        let mut pillars = self.assign(points, &mut report);
        if matches!(self.voxelization, Voxelization::Dynamic { .. }) {
            self.renumber_by_cell(&mut pillars);
        }
        for pillar in &pillars {
            self.pillar_of_cell[pillar.cell as usize] = EMPTY;
        }
        report.pillars = pillars.len();
        report.kept = pillars.iter().map(|p| p.points as usize).sum();
        report.full_pillars = pillars.iter().filter(|p| self.is_full(p)).count();

        let index = self.index(&pillars);
        let mut features = Array2::zeros((index.rows(), self.width()));
        if let Some(features) = features.as_slice_mut() {
            self.copy_channels(points, &index, features);
            self.append_offsets(&pillars, &index, features);
        }
        Ok(PillarInput { features, index, report })
    }

    /// Gives every point its pillar, opening pillars in the order of their first points.
    fn assign(&mut self, points: &[f32], report: &mut PillarReport) -> Vec<Pillar> {
        let (max_points, max_pillars) = match self.voxelization {
            Voxelization::Hard { max_points, max_pillars } => (max_points, max_pillars),
            Voxelization::Dynamic { .. } => (usize::MAX, usize::MAX),
        };
        let mut pillars: Vec<Pillar> = Vec::new();
        self.pillar_of_point.clear();
        for point in points.chunks_exact(self.channels) {
            let mut assigned = EMPTY;
            if !point.iter().all(|v| v.is_finite()) {
                report.non_finite += 1;
            } else if let Some(cell) = self.cell([point[0], point[1], point[2]]) {
                report.in_range += 1;
                let slot = &mut self.pillar_of_cell[cell];
                if *slot == EMPTY && pillars.len() < max_pillars {
                    *slot = pillars.len() as u32;
                    pillars.push(Pillar { cell: cell as u32, points: 0 });
                }
                match pillars.get_mut(*slot as usize) {
                    None => report.dropped_by_max_pillars += 1,
                    Some(pillar) if pillar.points as usize >= max_points => report.dropped_by_max_points += 1,
                    Some(pillar) => {
                        pillar.points += 1;
                        assigned = *slot;
                    }
                }
            }
            self.pillar_of_point.push(assigned);
        }
        pillars
    }

    /// Position in the lookup table of a finite point, if it is in the grid.
    fn cell(&self, point: [f32; 3]) -> Option<usize> {
        let Grid { min, max, voxel } = self.grid;
        // True divisions in f32, as in all three originals: a product with the inverse puts points on an edge elsewhere.
        // Within the grid the originals' floor is a truncation.
        let along = |axis: usize, cells: usize| {
            let position = (point[axis] - min[axis]) / voxel[axis];
            (position >= 0.0 && position < cells as f32).then_some(position as usize)
        };
        let test_z = match self.voxelization {
            Voxelization::Hard { .. } => true,
            Voxelization::Dynamic { test_z } => {
                // OpenPCDet's mask_points_by_range, closed at both ends, comes before the test of the cells.
                if !(0..2).all(|axis| (min[axis]..=max[axis]).contains(&point[axis])) {
                    return None;
                }
                test_z
            }
        };
        if test_z {
            along(2, 1)?;
        }
        Some(along(0, self.cells[0])? * self.cells[1] + along(1, self.cells[1])?)
    }

    /// Dynamic pillars stand in the order of their cells.
    fn renumber_by_cell(&mut self, pillars: &mut [Pillar]) {
        let mut rank = vec![EMPTY; pillars.len()];
        let mut sorted = Vec::with_capacity(pillars.len());
        for &old in self.pillar_of_cell.iter().filter(|&&p| p != EMPTY) {
            rank[old as usize] = sorted.len() as u32;
            sorted.push(pillars[old as usize]);
        }
        for pillar in self.pillar_of_point.iter_mut().filter(|p| **p != EMPTY) {
            *pillar = rank[*pillar as usize];
        }
        pillars.copy_from_slice(&sorted);
    }

    fn index(&self, pillars: &[Pillar]) -> PillarIndex {
        let pads = matches!(self.voxelization, Voxelization::Hard { .. });
        let mut offsets = Vec::with_capacity(pillars.len() + 1);
        let mut rows = 0;
        offsets.push(rows);
        for pillar in pillars {
            rows += pillar.points + u32::from(pads && !self.is_full(pillar));
            offsets.push(rows);
        }
        let cells = pillars.iter().map(|p| self.xy(p)).map(|[x, y]| [0, y, x]).collect();
        PillarIndex { offsets, cells, batch: 1 }
    }

    /// Features of a row.
    fn width(&self) -> usize {
        self.channels + 3 + self.center_offsets
    }

    fn is_full(&self, pillar: &Pillar) -> bool {
        matches!(self.voxelization, Voxelization::Hard { max_points, .. } if pillar.points as usize == max_points)
    }

    fn xy(&self, pillar: &Pillar) -> [u32; 2] {
        let ny = self.cells[1] as u32;
        [pillar.cell / ny, pillar.cell % ny]
    }

    /// Groups the points' own channels by pillar.
    fn copy_channels(&self, points: &[f32], index: &PillarIndex, features: &mut [f32]) {
        let width = self.width();
        let mut next_row = index.offsets.clone();
        for (point, &pillar) in points.chunks_exact(self.channels).zip(&self.pillar_of_point) {
            if pillar != EMPTY {
                let row = &mut next_row[pillar as usize];
                let start = *row as usize * width;
                features[start..start + self.channels].copy_from_slice(point);
                *row += 1;
            }
        }
    }

    /// Fills in the offsets from the mean and from the centre, beside the channels that are there already.
    fn append_offsets(&self, pillars: &[Pillar], index: &PillarIndex, features: &mut [f32]) {
        let width = self.width();
        let first_center = self.grid.first_center();
        for (pillar, &first_row) in pillars.iter().zip(&index.offsets) {
            let start = first_row as usize * width;
            let rows = &mut features[start..start + pillar.points as usize * width];

            let mut sum = [0f32; 3];
            for row in rows.chunks_exact(width) {
                for axis in 0..3 {
                    sum[axis] += row[axis];
                }
            }
            let mean = sum.map(|s| s / pillar.points as f32);
            let [x, y] = self.xy(pillar);
            let cell = [x as f32, y as f32, 0.0];
            let center: [f32; 3] = std::array::from_fn(|axis| cell[axis].mul_add(self.grid.voxel[axis], first_center[axis]));

            for row in rows.chunks_exact_mut(width) {
                let (point, offsets) = row.split_at_mut(self.channels);
                for axis in 0..3 {
                    offsets[axis] = point[axis] - mean[axis];
                }
                for axis in 0..self.center_offsets {
                    offsets[3 + axis] = point[axis] - center[axis];
                }
            }
        }
    }
}

impl Grid {
    /// Of the first cell.
    pub(super) fn first_center(&self) -> [f32; 3] {
        std::array::from_fn(|axis| self.voxel[axis].mul_add(0.5, self.min[axis]))
    }
}

impl PillarInput {
    /// As the engines take it. Their inputs are owned; a frame's points are small beside its maps.
    pub fn to_inputs(&self) -> Inputs<f32> {
        Inputs::default().with_dense("points", self.features.clone().into_dyn()).with_pillars("pillars", Arc::new(self.index.clone()))
    }

    /// Several samples as one batch, in this order.
    ///
    /// # Errors
    /// Samples of different width, or more rows than can be counted.
    pub fn batch(samples: &[PillarInput]) -> Result<PillarInput, PillarError> {
        let width = samples.first().map_or(0, |s| s.features.ncols());
        if let Some(other) = samples.iter().find(|s| s.features.ncols() != width) {
            return Err(PillarError::Channels { found: other.features.ncols(), expected: width });
        }
        let total_rows: usize = samples.iter().map(|s| s.features.nrows()).sum();
        if total_rows > MAX_ROWS {
            return Err(PillarError::Rows { found: total_rows });
        }
        let mut features = Vec::with_capacity(total_rows * width);
        let mut index = PillarIndex { offsets: vec![0], ..Default::default() };
        let mut report = PillarReport::default();
        for sample in samples {
            let (first_row, first_sample) = (index.rows() as u32, index.batch as u32);
            features.extend(sample.features.iter().copied());
            index.offsets.extend(sample.index.offsets.iter().skip(1).map(|o| first_row + o));
            index.cells.extend(sample.index.cells.iter().map(|&[s, y, x]| [first_sample + s, y, x]));
            index.batch += sample.index.batch;
            report = report.plus(&sample.report);
        }
        let rows = index.rows();
        let features = Array2::from_shape_vec((rows, width), features).map_err(|_| PillarError::Rows { found: total_rows })?;
        Ok(PillarInput { features, index, report })
    }
}

impl PillarReport {
    fn plus(&self, other: &Self) -> Self {
        Self {
            points: self.points + other.points,
            non_finite: self.non_finite + other.non_finite,
            in_range: self.in_range + other.in_range,
            kept: self.kept + other.kept,
            pillars: self.pillars + other.pillars,
            full_pillars: self.full_pillars + other.full_pillars,
            dropped_by_max_points: self.dropped_by_max_points + other.dropped_by_max_points,
            dropped_by_max_pillars: self.dropped_by_max_pillars + other.dropped_by_max_pillars,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{self, CodeBase};
    use ndarray::{Array2, array, s};

    fn small(voxelization: Voxelization, center_offsets: usize) -> Pillarizer {
        let mut config = test_support::config(CodeBase::Det3d);
        config.grid = Grid { min: [0.0, 0.0, -1.0], max: [4.0, 3.0, 1.0], voxel: [1.0, 1.0, 2.0] };
        config.points.features = ["x", "y", "z", "intensity"].map(String::from).to_vec();
        config.network.encoder.center_offsets = center_offsets;
        config.voxelization = voxelization;
        Pillarizer::new(&config).unwrap()
    }

    #[test]
    fn hard_pillars_keep_the_first_points_and_end_with_a_zero_row() {
        let mut pillarizer = small(Voxelization::Hard { max_points: 2, max_pillars: 2 }, 3);
        let points = array![
            [2.25f32, 1.5, 0.5, 7.0],
            [0.5, 0.5, 0.0, 1.0],
            [2.75, 1.25, -0.5, 8.0],
            [2.5, 1.5, 0.0, 9.0], // pillar full
            [1.5, 1.5, 0.0, 9.0], // third pillar
            [2.5, 1.5, 1.0, 9.0], // z on the open upper bound
        ];
        let input = pillarizer.pillarize(points.view()).unwrap();
        assert_eq!(input.index.cells, [[0, 1, 2], [0, 0, 0]]);
        assert_eq!(input.index.offsets, [0, 2, 4]);
        let expected = array![
            [2.25f32, 1.5, 0.5, 7.0, -0.25, 0.125, 0.5, -0.25, 0.0, 0.5],
            [2.75, 1.25, -0.5, 8.0, 0.25, -0.125, -0.5, 0.25, -0.25, -0.5],
            [0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(input.features, expected);
        let report = PillarReport {
            points: 6,
            in_range: 5,
            kept: 3,
            pillars: 2,
            full_pillars: 1,
            dropped_by_max_points: 1,
            dropped_by_max_pillars: 1,
            non_finite: 0,
        };
        assert_eq!(input.report, report);
        assert_eq!(pillarizer.pillarize(points.view()).unwrap(), input, "a frame leaves nothing behind");
    }

    #[test]
    fn dynamic_pillars_are_sorted_by_x_then_y_and_need_not_test_z() {
        let points = array![[2.5f32, 0.5, 0.0, 0.0], [0.5, 2.5, 90.0, 1.0], [0.5, 1.5, 0.0, 2.0], [0.5, 2.25, 0.0, 3.0]];
        let input = small(Voxelization::Dynamic { test_z: false }, 2).pillarize(points.view()).unwrap();
        assert_eq!(input.index.cells, [[0, 1, 0], [0, 2, 0], [0, 0, 2]]);
        assert_eq!(input.index.offsets, [0, 1, 3, 4]);
        assert_eq!(input.features.column(3).to_vec(), [2.0, 1.0, 3.0, 0.0]);
        assert_eq!(input.features.row(1).slice(s![4..]).to_vec(), [0.0, 0.125, 45.0, 0.0, 0.0]);
        let tested = small(Voxelization::Dynamic { test_z: true }, 2).pillarize(points.view()).unwrap();
        assert_eq!(tested.index.offsets, [0, 1, 2, 3]);
    }

    #[test]
    fn absurd_points_are_dropped_and_counted() {
        for voxelization in [Voxelization::Hard { max_points: 4, max_pillars: 9 }, Voxelization::Dynamic { test_z: false }] {
            let absurd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, f32::MIN_POSITIVE, -0.0];
            let mut rows = Vec::new();
            for x in absurd {
                for y in absurd {
                    for z in absurd {
                        rows.extend([x, y, z, x]);
                    }
                }
            }
            let points = Array2::from_shape_vec((rows.len() / 4, 4), rows).unwrap();
            let input = small(voxelization, 3).pillarize(points.view()).unwrap();
            assert_eq!(input.report.non_finite, 7 * 7 * 7 - 4 * 4 * 4);
            assert_eq!(input.index.cells, [[0, 0, 0]]);
            assert_eq!(input.report.in_range, if matches!(voxelization, Voxelization::Hard { .. }) { 8 } else { 16 });
        }
    }

    #[test]
    fn a_batch_is_its_samples_one_after_the_other() {
        let mut pillarizer = small(Voxelization::Hard { max_points: 2, max_pillars: 9 }, 2);
        let a = pillarizer.pillarize(array![[0.5f32, 0.5, 0.0, 1.0], [1.5, 0.5, 0.0, 2.0]].view()).unwrap();
        let b = pillarizer.pillarize(array![[0.5f32, 0.5, 0.0, 3.0], [0.75, 0.5, 0.0, 4.0]].view()).unwrap();
        let empty = pillarizer.pillarize(Array2::zeros((0, 4)).view()).unwrap();
        let batch = PillarInput::batch(&[a.clone(), empty, b.clone()]).unwrap();
        assert_eq!(batch.index.batch, 3);
        assert_eq!(batch.index.offsets, [0, 2, 4, 6]);
        assert_eq!(batch.index.cells, [[0, 0, 0], [0, 0, 1], [2, 0, 0]]);
        assert_eq!(batch.features.slice(s![..4, ..]), a.features);
        assert_eq!(batch.features.slice(s![4.., ..]), b.features);
        assert_eq!(batch.report.kept, 4);
    }

    #[test]
    fn misfits_are_named() {
        let mut pillarizer = small(Voxelization::Dynamic { test_z: true }, 2);
        let error = pillarizer.pillarize(Array2::zeros((1, 5)).view()).unwrap_err();
        assert_eq!(error, PillarError::Channels { found: 5, expected: 4 });

        let mut config = test_support::config(CodeBase::Det3d);
        config.grid.voxel = [1e-6, 1e-6, 8.0];
        assert!(matches!(Pillarizer::new(&config), Err(PillarError::GridSize { .. })));
        config.grid.voxel = [f32::NAN, 0.2, 8.0];
        assert!(matches!(Pillarizer::new(&config), Err(PillarError::GridCells { axis: 'x', .. })));
        config.grid.voxel = [0.2, 0.2, 0.2];
        assert!(matches!(Pillarizer::new(&config), Err(PillarError::GridCells { axis: 'z', .. })));
    }
}
