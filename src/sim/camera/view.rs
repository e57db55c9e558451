//! From the town to pixels: a pinhole for cameras, parallel rays for the sun.
//!
//! View axes are those of an optical frame: x right, y down, z away. In both kinds of view a plane's *nearness* (below) is a
//! linear function of the pixel, which is what makes filling polygons cheap.

use crate::sim::solid::{Mat3, Vec3};

#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub origin: Vec3,
    /// Takes town axes to view axes.
    pub rotation: Mat3,
    pub lens: Lens,
    /// Columns and rows.
    pub size: [usize; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lens {
    /// Nearness is 1 / z.
    Pinhole { focal: [f32; 2], center: [f32; 2] },
    /// Nearness is `depth - z`; the middle of the picture looks along z.
    Parallel { pixels_per_metre: f32, depth: f32 },
}

/// Nothing nearer than this is seen by a pinhole, metres along z.
pub(super) const NEAR: f32 = 0.06;

/// A ray through a pixel, in town axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ray {
    pub origin: Vec3,
    /// Of unit length.
    pub direction: Vec3,
    /// Length of the ray for one metre along z.
    pub stretch: f32,
}

impl View {
    /// A place of the town, in view axes.
    #[inline]
    pub fn in_axes(&self, p: &Vec3) -> Vec3 {
        self.rotation * (p - self.origin)
    }

    /// Column, row (the centre of the first pixel is at 0.5) and nearness. For a pinhole z must be positive.
    #[inline]
    pub fn project(&self, v: &Vec3) -> [f32; 3] {
        match self.lens {
            Lens::Pinhole { focal, center } => {
                let near = 1.0 / v.z;
                [focal[0] * v.x * near + center[0], focal[1] * v.y * near + center[1], near]
            }
            Lens::Parallel { pixels_per_metre, depth } => {
                let [x, y] = self.middle();
                [pixels_per_metre * v.x + x, pixels_per_metre * v.y + y, depth - v.z]
            }
        }
    }

    fn middle(&self) -> [f32; 2] {
        self.size.map(|s| 0.5 * s as f32)
    }

    /// `[a, b, c]` such that the plane's nearness is `a * x + b * y + c`; normal and point in view axes. The plane must not
    /// be seen edge on.
    pub fn plane(&self, normal: &Vec3, point: &Vec3) -> [f32; 3] {
        let offset = normal.dot(point);
        match self.lens {
            Lens::Pinhole { focal, center } => {
                let (a, b) = (normal.x / (focal[0] * offset), normal.y / (focal[1] * offset));
                [a, b, normal.z / offset - a * center[0] - b * center[1]]
            }
            Lens::Parallel { pixels_per_metre, depth } => {
                let [x, y] = self.middle();
                let (a, b) = (normal.x / (normal.z * pixels_per_metre), normal.y / (normal.z * pixels_per_metre));
                [a, b, depth - offset / normal.z - a * x - b * y]
            }
        }
    }

    /// Whether a plane with this outward normal shows its face.
    pub fn faces(&self, normal: &Vec3, point: &Vec3) -> bool {
        match self.lens {
            Lens::Pinhole { .. } => normal.dot(point) < -1e-6,
            Lens::Parallel { .. } => normal.z < -1e-4,
        }
    }

    /// Least z that is seen.
    pub fn near(&self) -> f32 {
        match self.lens {
            Lens::Pinhole { .. } => NEAR,
            Lens::Parallel { .. } => f32::NEG_INFINITY,
        }
    }

    /// The ray through a point of the picture.
    #[inline]
    pub fn ray(&self, x: f32, y: f32) -> Ray {
        match self.lens {
            Lens::Pinhole { focal, center } => {
                let v = Vec3::new((x - center[0]) / focal[0], (y - center[1]) / focal[1], 1.0);
                let stretch = v.norm();
                Ray { origin: self.origin, direction: self.rotation.tr_mul(&v) * (1.0 / stretch), stretch }
            }
            Lens::Parallel { pixels_per_metre, .. } => {
                let [a, b] = self.middle();
                let v = Vec3::new((x - a) / pixels_per_metre, (y - b) / pixels_per_metre, 0.0);
                Ray { origin: self.origin + self.rotation.tr_mul(&v), direction: self.rotation.row(2).transpose(), stretch: 1.0 }
            }
        }
    }

    /// Nearness at a distance along a ray.
    #[inline]
    pub fn nearness(&self, ray: &Ray, distance: f32) -> f32 {
        match self.lens {
            Lens::Pinhole { .. } => ray.stretch / distance,
            Lens::Parallel { depth, .. } => depth - distance,
        }
    }

    /// Distance along a ray at a nearness.
    #[inline]
    pub fn distance(&self, ray: &Ray, nearness: f32) -> f32 {
        match self.lens {
            Lens::Pinhole { .. } => ray.stretch / nearness,
            Lens::Parallel { depth, .. } => depth - nearness,
        }
    }

    /// Width of a pixel at this z, metres.
    #[inline]
    pub fn pixel_width(&self, z: f32) -> f32 {
        match self.lens {
            Lens::Pinhole { focal, .. } => z / focal[0],
            Lens::Parallel { pixels_per_metre, .. } => 1.0 / pixels_per_metre,
        }
    }

    /// Whether a ball could be in the picture.
    pub fn may_see(&self, center: &Vec3, radius: f32) -> bool {
        let [columns, rows] = self.size.map(|s| s as f32);
        match self.lens {
            Lens::Pinhole { focal, center: [cx, cy] } => {
                // Distance outside each of the planes through the picture's edges.
                let side = |v: f32, edge: f32, focal: f32| {
                    let slope = edge / focal;
                    (v - slope * center.z) / (1.0 + slope * slope).sqrt()
                };
                center.z + radius > NEAR
                    && side(center.x, -cx, focal[0]) > -radius
                    && side(center.x, columns - cx, focal[0]) < radius
                    && side(center.y, -cy, focal[1]) > -radius
                    && side(center.y, rows - cy, focal[1]) < radius
            }
            Lens::Parallel { pixels_per_metre, .. } => {
                center.x.abs() < 0.5 * columns / pixels_per_metre + radius && center.y.abs() < 0.5 * rows / pixels_per_metre + radius
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views() -> [View; 2] {
        let rotation = *nalgebra::Rotation3::from_euler_angles(0.3, -0.2, 1.1).matrix();
        let lenses =
            [Lens::Pinhole { focal: [500.0, 510.0], center: [410.0, 230.0] }, Lens::Parallel { pixels_per_metre: 8.0, depth: 90.0 }];
        lenses.map(|lens| View { origin: Vec3::new(3.0, -7.0, 1.5), rotation, lens, size: [800, 450] })
    }

    #[test]
    fn a_point_lies_on_the_ray_through_its_pixel() {
        for view in views() {
            let p = view.origin + view.rotation.transpose() * Vec3::new(2.0, -1.0, 12.0);
            let [x, y, nearness] = view.project(&view.in_axes(&p));
            let ray = view.ray(x, y);
            let found = ray.origin + view.distance(&ray, nearness) * ray.direction;
            assert!((found - p).norm() < 1e-4, "{found}");
            assert!((view.nearness(&ray, view.distance(&ray, nearness)) - nearness).abs() < 1e-5 * nearness.abs());
        }
    }

    #[test]
    fn a_planes_nearness_is_that_of_its_points() {
        for view in views() {
            let (point, normal) = (Vec3::new(1.0, 2.0, 20.0), Vec3::new(0.3, 0.2, -1.0).normalize());
            let [a, b, c] = view.plane(&normal, &point);
            assert!(view.faces(&normal, &point) && !view.faces(&-normal, &point));
            for (s, t) in [(0.0, 0.0), (3.0, -1.0), (-2.0, 4.0)] {
                let along = normal.cross(&Vec3::x()).normalize();
                let [x, y, nearness] = view.project(&(point + s * along + t * normal.cross(&along)));
                assert!((a * x + b * y + c - nearness).abs() < 1e-4 * nearness, "{nearness}");
            }
        }
    }

    #[test]
    fn what_projects_into_the_picture_may_be_seen() {
        for view in views() {
            for i in 0..2000u32 {
                let [x, y, z] = [i * 37 % 101, i * 53 % 97, i * 71 % 89].map(|k| k as f32);
                let v = Vec3::new(0.8 * (x - 50.0), 0.6 * (y - 48.0), 0.5 * z + 0.1);
                let [column, row, _] = view.project(&v);
                let inside = (0.0..800.0).contains(&column) && (0.0..450.0).contains(&row);
                assert!(!inside || view.may_see(&v, 0.01), "{v}");
            }
        }
    }
}
