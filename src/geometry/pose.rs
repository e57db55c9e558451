//! Rigid transforms in double precision: map coordinates reach kilometres.

use nalgebra::{Isometry3, Point3, Quaternion, Translation3, UnitQuaternion};

/// A rigid transform. Read `Pose` named `a_from_b` as "takes coordinates in frame `b` to coordinates in frame `a`".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose(pub Isometry3<f64>);

impl Pose {
    pub fn identity() -> Self {
        Self(Isometry3::identity())
    }

    /// From a translation in metres and a quaternion `[x, y, z, w]` (ROS order), which is normalised.
    /// Returns `None` if a number is not finite or the quaternion has no direction.
    pub fn from_parts(translation: [f64; 3], quaternion_xyzw: [f64; 4]) -> Option<Self> {
        let [x, y, z, w] = quaternion_xyzw;
        let q = Quaternion::new(w, x, y, z);
        let finite = translation.iter().chain(&quaternion_xyzw).all(|v| v.is_finite());
        if !finite || q.norm() < 1e-6 {
            return None;
        }
        Some(Self(Isometry3::from_parts(Translation3::from(translation), UnitQuaternion::from_quaternion(q))))
    }

    /// A turn about z followed by a shift.
    pub fn from_yaw(translation: [f64; 3], yaw: f64) -> Self {
        let rotation = UnitQuaternion::from_euler_angles(0.0, 0.0, yaw);
        Self(Isometry3::from_parts(Translation3::from(translation), rotation))
    }

    pub fn inverse(&self) -> Self {
        Self(self.0.inverse())
    }

    /// `a_from_b.compose(&b_from_c)` is `a_from_c`.
    pub fn compose(&self, other: &Pose) -> Self {
        Self(self.0 * other.0)
    }

    pub fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        let p = self.0 * Point3::from(point);
        [p.x, p.y, p.z]
    }

    pub fn translation(&self) -> [f64; 3] {
        self.0.translation.vector.into()
    }

    /// ROS order.
    pub fn quaternion_xyzw(&self) -> [f64; 4] {
        let q = self.0.rotation.quaternion();
        [q.i, q.j, q.k, q.w]
    }

    /// Heading of the x axis in the ground plane.
    pub fn yaw(&self) -> f64 {
        let x = self.0.rotation * nalgebra::Vector3::x();
        x.y.atan2(x.x)
    }

    /// Between two poses: shift linear, rotation spherical. `t` in 0..=1.
    pub fn interpolate(&self, other: &Pose, t: f64) -> Self {
        let shift = self.0.translation.vector.lerp(&other.0.translation.vector, t);
        // Opposite rotations have no shortest way between them; either end is then as good.
        let rotation = self.0.rotation.try_slerp(&other.0.rotation, t, 1e-9).unwrap_or(self.0.rotation);
        Self(Isometry3::from_parts(Translation3::from(shift), rotation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_and_composition_reads_right_to_left() {
        let a_from_b = Pose::from_yaw([1.0, 2.0, 3.0], 0.7);
        let b_from_c = Pose::from_parts([0.5, -1.0, 0.0], [0.1, 0.2, 0.3, 0.9]).unwrap();
        let p = [4.0, 5.0, 6.0];
        let direct = a_from_b.compose(&b_from_c).apply(p);
        let twice = a_from_b.apply(b_from_c.apply(p));
        let back = a_from_b.compose(&b_from_c).inverse().apply(direct);
        for i in 0..3 {
            assert!((direct[i] - twice[i]).abs() < 1e-12 && (back[i] - p[i]).abs() < 1e-12);
        }
    }

    #[test]
    fn bad_quaternions_are_refused() {
        assert!(Pose::from_parts([0.0; 3], [0.0; 4]).is_none());
        assert!(Pose::from_parts([f64::NAN, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]).is_none());
    }

    #[test]
    fn halfway_of_a_quarter_turn_is_an_eighth() {
        let a = Pose::identity();
        let b = Pose::from_yaw([2.0, 0.0, 0.0], std::f64::consts::FRAC_PI_2);
        let m = a.interpolate(&b, 0.5);
        assert!((m.yaw() - std::f64::consts::FRAC_PI_4).abs() < 1e-12);
        assert!((m.translation()[0] - 1.0).abs() < 1e-12);
    }
}
