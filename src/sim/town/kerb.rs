//! How far it is to the nearest kerb. The ground knows its kerbs as edges of cells; a camera would see the steps.

use super::ground::Ground;
use super::path::Vec2;

/// Signed distance to the smoothed line between what is raised and what is not, on the ground's grid of cells.
pub(crate) struct KerbMap {
    low: Vec2,
    cell: f32,
    size: [usize; 2],
    /// At the cells' centres, millimetres, positive on the raised side.
    distance: Vec<i16>,
}

/// Distances beyond this are not told apart, metres.
const REACH: f32 = 6.0;
/// Costs of a step to a neighbour and to a diagonal one, in cells (Borgefors' chamfer distance).
const STEP: f32 = 0.955;
const DIAGONAL: f32 = 1.369;

impl KerbMap {
    pub fn new(ground: &Ground) -> Self {
        let (low, cell, size, paving) = ground.cells();
        let raised = |p: &crate::sim::town::Paving| p.height() > 0.0;
        let inside = chamfer(size, paving.iter().map(|p| !raised(p)));
        let outside = chamfer(size, paving.iter().map(raised));
        // Between two cells of different kind the line runs in the middle.
        let mut distance: Vec<f32> = inside.iter().zip(&outside).map(|(i, o)| if *i > 0.0 { i - 0.5 } else { 0.5 - o }).collect();
        for axis in [0, 1] {
            distance = smooth(&distance, size, axis);
        }
        let limit = REACH / cell;
        let distance = distance.iter().map(|d| (1000.0 * cell * d.clamp(-limit, limit)) as i16).collect();
        Self { low, cell, size, distance }
    }

    /// Metres, at most [`REACH`] and positive on the raised side; beyond the map all is raised.
    #[inline]
    pub fn at(&self, p: Vec2) -> f32 {
        let q = (p - self.low) / self.cell;
        let (x, y) = (q.x - 0.5, q.y - 0.5);
        let [columns, rows] = self.size;
        if !(x >= 0.0 && y >= 0.0 && x < (columns - 1) as f32 && y < (rows - 1) as f32) {
            return REACH;
        }
        let (i, j) = (x as i32 as usize, y as i32 as usize);
        let (u, v) = (x - i as f32, y - j as f32);
        let at = j * columns + i;
        let [a, b, c, d] = [at, at + 1, at + columns, at + columns + 1].map(|k| f32::from(self.distance[k]));
        0.001 * ((a + u * (b - a)) * (1.0 - v) + (c + u * (d - c)) * v)
    }
}

/// For each cell the distance in cells to the nearest one that is in the set, in two passes.
fn chamfer([columns, rows]: [usize; 2], set: impl Iterator<Item = bool>) -> Vec<f32> {
    const FAR: f32 = 1e6;
    let mut d: Vec<f32> = set.map(|s| if s { 0.0 } else { FAR }).collect();
    let mut relax = |at: usize, from: usize, cost: f32| d[at] = d[at].min(d[from] + cost);
    for y in 0..rows {
        for x in 0..columns {
            let at = y * columns + x;
            if x > 0 {
                relax(at, at - 1, STEP);
            }
            if y > 0 {
                relax(at, at - columns, STEP);
                if x > 0 {
                    relax(at, at - columns - 1, DIAGONAL);
                }
                if x + 1 < columns {
                    relax(at, at - columns + 1, DIAGONAL);
                }
            }
        }
    }
    for y in (0..rows).rev() {
        for x in (0..columns).rev() {
            let at = y * columns + x;
            if x + 1 < columns {
                relax(at, at + 1, STEP);
            }
            if y + 1 < rows {
                relax(at, at + columns, STEP);
                if x + 1 < columns {
                    relax(at, at + columns + 1, DIAGONAL);
                }
                if x > 0 {
                    relax(at, at + columns - 1, DIAGONAL);
                }
            }
        }
    }
    d
}

/// Weighted mean over seven cells along one axis, which takes the steps out of slanted kerbs.
fn smooth(d: &[f32], [columns, rows]: [usize; 2], axis: usize) -> Vec<f32> {
    const WEIGHTS: [f32; 7] = [1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0];
    let stride = [1, columns][axis];
    let mut smoothed = d.to_vec();
    for y in 0..rows {
        for x in 0..columns {
            let (k, count) = [(x, columns), (y, rows)][axis];
            if k >= 3 && k + 3 < count {
                let first = y * columns + x - 3 * stride;
                smoothed[y * columns + x] = WEIGHTS.iter().enumerate().map(|(i, w)| w * d[first + i * stride]).sum::<f32>() / 16.0;
            }
        }
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::super::ground::{Paving, Rectangle};
    use super::*;
    use crate::random::Rng;

    #[test]
    fn a_slanted_kerb_is_straight_and_distances_are_metres() {
        let mut ground = Ground::new(Vec2::new(-20.0, -20.0), Vec2::new(20.0, 20.0), &mut Rng::new(1, "ground"));
        let axis = Vec2::new(0.96, 0.28);
        ground.pave_rectangle(&Rectangle { center: Vec2::zeros(), axis, half: Vec2::new(60.0, 4.0) }, Paving::Road);
        let map = KerbMap::new(&ground);
        let across = Vec2::new(-axis.y, axis.x);
        for k in -100..=100 {
            let along = 0.1 * k as f32 * axis;
            for (off, tolerance) in [(3.0, 0.12), (3.8, 0.05), (4.0, 0.05), (4.3, 0.05), (6.0, 0.2)] {
                let found = map.at(along + off * across);
                assert!((found - (off - 4.0)).abs() < tolerance, "{k} {off}: {found}");
            }
        }
        assert_eq!(map.at(Vec2::new(500.0, 0.0)), REACH);
    }
}
