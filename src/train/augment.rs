//! Augmentation of a labelled cloud: the whole scene is mirrored, turned, scaled and shifted.

use super::targets::TrainingBox;
use crate::geometry::wrap_angle;
use crate::random::Rng;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// det3d's nuScenes settings are the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Mirror x and y, each with probability one half.
    pub flip: [bool; 2],
    /// Turn about z by up to this much to either side, radians.
    pub rotation: f32,
    /// Smallest and largest scale.
    pub scale: [f32; 2],
    /// Standard deviation of a shift along x, y, z, metres.
    pub shift: [f32; 3],
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self { flip: [true, true], rotation: 0.3925, scale: [0.95, 1.05], shift: [0.0; 3] }
    }
}

impl AugmentConfig {
    pub fn none() -> Self {
        Self { flip: [false; 2], rotation: 0.0, scale: [1.0; 2], shift: [0.0; 3] }
    }

    /// Changes points (x, y, z in the first three columns) and boxes alike.
    pub(super) fn apply(&self, rng: &mut Rng, points: &mut Array2<f32>, boxes: &mut [TrainingBox]) {
        let mirror = self.flip.map(|on| if on && rng.chance(0.5) { -1.0f32 } else { 1.0 });
        let (sin, cos) = rng.range(-self.rotation, self.rotation).sin_cos();
        let scale = rng.range(self.scale[0], self.scale[1]);
        let shift = self.shift.map(|s| rng.around(0.0, s));
        // `flip[0]` mirrors x, `flip[1]` mirrors y.
        let turn = |x: f32, y: f32| {
            let (x, y) = (x * mirror[0], y * mirror[1]);
            [x * cos - y * sin, x * sin + y * cos]
        };
        for mut row in points.rows_mut() {
            let [x, y] = turn(row[0], row[1]);
            row[0] = x * scale + shift[0];
            row[1] = y * scale + shift[1];
            row[2] = row[2] * scale + shift[2];
        }
        for TrainingBox { bbox, .. } in boxes {
            let [x, y] = turn(bbox.center[0], bbox.center[1]);
            bbox.center = [x * scale + shift[0], y * scale + shift[1], bbox.center[2] * scale + shift[2]];
            bbox.size = bbox.size.map(|s| s * scale);
            bbox.velocity = turn(bbox.velocity[0], bbox.velocity[1]).map(|v| v * scale);
            let heading = turn(bbox.yaw.cos(), bbox.yaw.sin());
            bbox.yaw = wrap_angle(heading[1].atan2(heading[0]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Box3;

    /// Whatever is done, a point that was inside a box stays inside, one outside stays outside.
    #[test]
    fn points_keep_their_place_in_boxes() {
        let config = AugmentConfig { rotation: 3.0, shift: [5.0, 5.0, 0.5], ..AugmentConfig::default() };
        let bbox = Box3 { center: [10.0, 5.0, -1.0], size: [4.0, 2.0, 1.5], yaw: 0.7, velocity: [2.0, 1.0] };
        for seed in 0..50 {
            let mut rng = Rng::new(seed, "augment");
            let mut points = Array2::from_shape_fn((300, 4), |_| rng.range(-3.0, 3.0));
            points.rows_mut().into_iter().for_each(|mut r| {
                r[0] += 10.0;
                r[1] += 5.0;
            });
            let mut boxes = [TrainingBox { bbox, label: 0, has_velocity: true }];
            let inside = |p: &Array2<f32>, b: &Box3| p.rows().into_iter().map(|r| b.contains([r[0], r[1], r[2]])).collect::<Vec<_>>();
            let before = inside(&points, &boxes[0].bbox);
            config.apply(&mut rng, &mut points, &mut boxes);
            let after = inside(&points, &boxes[0].bbox);
            let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            assert!(changed <= 1, "{changed} points crossed a face; rounding accounts for one on the surface at most");
            assert!(before.iter().any(|&b| b));
        }
    }
}
