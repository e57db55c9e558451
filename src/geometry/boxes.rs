//! Oriented boxes that stand on a plane parallel to x and y.

use super::Pose;
use nalgebra::Vector3;
use serde::{Deserialize, Serialize};

/// An oriented box: all that CenterPoint and BEVFormer regress for an object.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Box3 {
    /// Geometric centre (not the bottom), metres.
    pub center: [f32; 3],
    /// Length (along the heading), width, height, metres.
    pub size: [f32; 3],
    /// Heading, radians counter-clockwise from x, in `[-pi, pi)`.
    pub yaw: f32,
    /// Velocity over ground in the axes of the box's own frame of reference (not of the box), m/s.
    pub velocity: [f32; 2],
}

impl Box3 {
    /// The four corners seen from above, counter-clockwise, starting front left.
    pub fn bev_corners(&self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.yaw.sin_cos();
        let [l, w, _] = self.size;
        [[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]].map(|[a, b]| {
            let (dx, dy) = (a * l, b * w);
            [self.center[0] + dx * cos - dy * sin, self.center[1] + dx * sin + dy * cos]
        })
    }

    /// Whether a point lies inside the box or on its surface.
    pub fn contains(&self, point: [f32; 3]) -> bool {
        let (sin, cos) = self.yaw.sin_cos();
        let [dx, dy, dz] = [0, 1, 2].map(|i| point[i] - self.center[i]);
        let along = dx * cos + dy * sin;
        let across = dy * cos - dx * sin;
        2.0 * along.abs() <= self.size[0] && 2.0 * across.abs() <= self.size[1] && 2.0 * dz.abs() <= self.size[2]
    }

    /// The same box in another frame. What tilts it is lost: its edges stay parallel to the ground plane and its height.
    pub fn moved(&self, to_from_own: &Pose) -> Self {
        let turn = |x: f64, y: f64| to_from_own.0.rotation * Vector3::new(x, y, 0.0);
        let (sin, cos) = f64::from(self.yaw).sin_cos();
        let heading = turn(cos, sin);
        let velocity = turn(self.velocity[0].into(), self.velocity[1].into());
        Self {
            center: to_from_own.apply(self.center.map(f64::from)).map(|v| v as f32),
            size: self.size,
            yaw: wrap_angle(heading.y.atan2(heading.x) as f32),
            velocity: [velocity.x as f32, velocity.y as f32],
        }
    }

    /// Distance of the centre from the origin in the ground plane, metres.
    pub fn range(&self) -> f32 {
        self.center[0].hypot(self.center[1])
    }
}

/// The same direction in `[-pi, pi)`. Non-finite input stays non-finite.
pub fn wrap_angle(angle: f32) -> f32 {
    use std::f32::consts::{PI, TAU};
    let wrapped = (angle + PI).rem_euclid(TAU) - PI;
    if wrapped >= PI { -PI } else { wrapped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::{FRAC_PI_2, PI};

    #[test]
    fn a_wrapped_angle_is_the_same_direction_in_the_half_open_range() {
        for k in -20..=20 {
            for a in [0.0f32, 0.3, -1.2, 3.0, PI, -PI] {
                let w = wrap_angle(a + k as f32 * 2.0 * PI);
                assert!((-PI..PI).contains(&w), "{w}");
                assert!((w.sin() - a.sin()).abs() < 1e-4 && (w.cos() - a.cos()).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_moved_box_has_its_corners_where_the_pose_takes_them() {
        let b = Box3 { center: [3.0, -2.0, 1.0], size: [4.0, 2.0, 1.5], yaw: 2.5, velocity: [3.0, 0.5] };
        let pose = Pose::from_yaw([10.0, 5.0, -1.0], 1.1);
        let moved = b.moved(&pose);
        for (corner, own) in moved.bev_corners().iter().zip(b.bev_corners()) {
            let want = pose.apply([own[0].into(), own[1].into(), 0.0]);
            assert!((f64::from(corner[0]) - want[0]).abs() < 1e-5 && (f64::from(corner[1]) - want[1]).abs() < 1e-5);
        }
        // Speed along the heading stays what it is.
        let along = |b: &Box3| b.velocity[0] * b.yaw.cos() + b.velocity[1] * b.yaw.sin();
        assert!((along(&moved) - along(&b)).abs() < 1e-5 && moved.center[2].abs() < 1e-6);
    }

    #[test]
    fn corners_of_a_turned_box() {
        let b = Box3 { center: [1.0, 2.0, 0.0], size: [4.0, 2.0, 1.5], yaw: FRAC_PI_2, velocity: [0.0; 2] };
        let expected = [[0.0, 4.0], [0.0, 0.0], [2.0, 0.0], [2.0, 4.0]];
        for (got, want) in b.bev_corners().iter().zip(expected) {
            assert!((got[0] - want[0]).abs() < 1e-5 && (got[1] - want[1]).abs() < 1e-5, "{got:?} {want:?}");
        }
        assert!(b.contains([1.0, 3.9, 0.7]) && !b.contains([2.9, 2.0, 0.0]) && !b.contains([1.0, 2.0, 0.8]));
    }
}
