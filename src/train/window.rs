//! Training on windows of the grid: a part of the frame around an object of a randomly chosen class.
//!
//! Most of a frame is far away and empty, and most objects are cars. A window of a third of the area costs a third of the
//! arithmetic, holds most of what there is to learn from, and gives rare classes their turn (class-balanced sampling as
//! in CBGS, Zhu et al. 2019, within the frame). Networks are convolutions, so the weights fit the whole grid; the last steps
//! see whole frames, and batch norms take their statistics from those.

use super::targets::TrainingBox;
use crate::detect::{DetectorConfig, Grid};
use crate::random::Rng;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Along x and y, metres: whole pillars, and as many of them as the network's strides divide.
    pub size: [f32; 2],
    /// Share of the steps after which frames are taken whole.
    #[serde(default = "default_until")]
    pub until: f64,
}

fn default_until() -> f64 {
    0.85
}

impl WindowConfig {
    /// The detector on a window in the corner of its grid.
    pub(super) fn detector(&self, whole: &DetectorConfig) -> DetectorConfig {
        let mut config = whole.clone();
        config.grid = self.at(&whole.grid, [whole.grid.min[0], whole.grid.min[1]]);
        config
    }

    /// A window near an object: its class is drawn first, then one of that class.
    pub(super) fn draw(&self, rng: &mut Rng, grid: &Grid, boxes: &[TrainingBox]) -> Grid {
        let mut labels: Vec<usize> = boxes.iter().map(|b| b.label).collect();
        labels.sort_unstable();
        labels.dedup();
        let center = if labels.is_empty() {
            [0, 1].map(|i| rng.range(grid.min[i], grid.max[i]))
        } else {
            let label = labels[rng.index(labels.len())];
            let chosen: Vec<&TrainingBox> = boxes.iter().filter(|b| b.label == label).collect();
            let object = chosen[rng.index(chosen.len())].bbox.center;
            [0, 1].map(|i| object[i] + 0.25 * self.size[i] * rng.range(-1.0, 1.0))
        };
        let corner = [0, 1].map(|i| {
            let last = (grid.max[i] - self.size[i]).max(grid.min[i]);
            let low = (center[i] - 0.5 * self.size[i]).clamp(grid.min[i], last);
            grid.min[i] + ((low - grid.min[i]) / grid.voxel[i]).floor() * grid.voxel[i]
        });
        self.at(grid, corner)
    }

    fn at(&self, grid: &Grid, corner: [f32; 2]) -> Grid {
        let [x, y] = corner;
        Grid { min: [x, y, grid.min[2]], max: [x + self.size[0], y + self.size[1], grid.max[2]], voxel: grid.voxel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Box3;

    #[test]
    fn windows_lie_within_the_grid_and_rare_classes_get_their_turn() {
        let grid = Grid { min: [-51.2, -51.2, -4.0], max: [51.2, 51.2, 4.0], voxel: [0.32, 0.32, 8.0] };
        let window = WindowConfig { size: [30.72, 20.48], until: 1.0 };
        let object = |x: f32, y: f32, label| TrainingBox {
            bbox: Box3 { center: [x, y, 0.0], size: [1.0; 3], yaw: 0.0, velocity: [0.0; 2] },
            label,
            has_velocity: false,
        };
        // Twenty cars on one side, a single bus on the other, near the edge.
        let mut boxes: Vec<_> = (0..20).map(|i| object(-30.0 - i as f32, 30.0, 0)).collect();
        boxes.push(object(50.0, -48.0, 3));
        let mut rng = Rng::new(1, "test");
        let mut bus = 0;
        for _ in 0..400 {
            let w = window.draw(&mut rng, &grid, &boxes);
            for i in 0..2 {
                assert!(w.min[i] >= grid.min[i] - 1e-3 && w.max[i] <= grid.max[i] + 1e-3, "{w:?}");
                let cells = (w.min[i] - grid.min[i]) / grid.voxel[i];
                assert!((cells - cells.round()).abs() < 1e-3, "{w:?} does not start on a pillar");
            }
            assert_eq!(w.cells(), [96, 64, 1]);
            let inside = |b: &TrainingBox| (0..2).all(|i| (w.min[i]..w.max[i]).contains(&b.bbox.center[i]));
            assert!(boxes.iter().any(inside), "{w:?}");
            bus += usize::from(inside(&boxes[20]));
        }
        assert!((150..250).contains(&bus), "{bus} of 400");
    }
}
