//! Where the sun does not reach: the scene as the sun sees it, fine around the car and coarse farther away; and how much of the
//! sky the ground sees beside and below what stands on it.

use super::raster::{BAND, DrawList, Layer};
use super::view::{Lens, View};
use crate::sim::solid::{Mat3, Part, Vec3};
use crate::sim::town::{Footprint, Ground, Vec2};
use rayon::prelude::*;

/// Edge in pixels, and pixels for a metre, of each map.
const MAPS: [(usize, f32); 2] = [(1600, 16.0), (1600, 4.5)];
/// The sun's view starts this far from the car, metres.
const DEPTH: f32 = 400.0;

pub(super) struct Shadows {
    maps: Vec<(View, Vec<f32>)>,
}

impl Shadows {
    pub fn new(toward_sun: &Vec3, center: &Vec3, parts: &[Part]) -> Self {
        let away = -toward_sun;
        let right = away.cross(&Vec3::z()).normalize();
        let rotation = Mat3::from_rows(&[right.transpose(), away.cross(&right).transpose(), away.transpose()]);
        let maps = MAPS.map(|(side, pixels_per_metre)| {
            let lens = Lens::Parallel { pixels_per_metre, depth: 2.0 * DEPTH };
            let view = View { origin: center + DEPTH * toward_sun, rotation, lens, size: [side, side] };
            let list = DrawList::new(&view, parts);
            let mut near = vec![0.0; side * side];
            near.par_chunks_mut(side * BAND).enumerate().for_each(|(band, rows)| {
                let mut layer = Layer::new(side * BAND);
                list.draw(&view, parts, band, &mut layer, None);
                rows.copy_from_slice(&layer.near[..rows.len()]);
            });
            (view, near)
        });
        Self { maps: maps.into() }
    }

    /// Share of the sun that reaches a place; all of it beyond the maps.
    pub fn sunlit(&self, place: &Vec3, normal: &Vec3) -> f32 {
        for (view, near) in &self.maps {
            let pixel = view.pixel_width(0.0);
            // Off the surface, so that it does not shade itself.
            let v = view.in_axes(&(place + (0.02 + 0.9 * pixel) * normal));
            let [x, y, nearness] = view.project(&v);
            let side = view.size[0];
            let (x, y) = (x - 0.5, y - 0.5);
            let limit = (side - 1) as f32;
            if !(x >= 0.0 && y >= 0.0 && x < limit && y < limit) {
                continue;
            }
            let (i, j) = (x as i32 as usize, y as i32 as usize);
            let (u, v) = (x - i as f32, y - j as f32);
            let bias = nearness + 0.5 * pixel;
            let lit = |k: usize| f32::from(near[k] <= bias);
            let at = j * side + i;
            let [a, b, c, d] = [lit(at), lit(at + 1), lit(at + side), lit(at + side + 1)];
            return (a + u * (b - a)) * (1.0 - v) + (c + u * (d - c)) * v;
        }
        1.0
    }
}

/// Share of the sky that is hidden from the ground, on a grid around the car.
pub(super) struct Contact {
    low: Vec2,
    hidden: Vec<f32>,
}

/// Edge of the grid in cells, edge of a cell in metres, and how far what stands there darkens the ground, in cells.
const CONTACT_SIDE: usize = 480;
const CONTACT_CELL: f32 = 0.25;
const CONTACT_REACH: usize = 3;
/// What hangs higher than this does not count, metres.
const CONTACT_HEIGHT: f32 = 0.6;

impl Contact {
    pub fn new(center: Vec2, parts: &[Part], ground: &Ground) -> Self {
        let low = center.add_scalar(-0.5 * CONTACT_SIDE as f32 * CONTACT_CELL);
        let mut hidden = vec![0.0; CONTACT_SIDE * CONTACT_SIDE];
        for part in parts {
            let extent = part.extent();
            let middle = part.center.xy();
            let reach = extent.xy().norm();
            if (middle - center).norm() > 0.5 * CONTACT_SIDE as f32 * CONTACT_CELL + reach || extent.xy().min() < 0.08 {
                continue;
            }
            if part.center.z - extent.z > ground.height(middle) + CONTACT_HEIGHT {
                continue;
            }
            let upright = part.rotation[(2, 2)] > 0.99;
            let (axis, half) = if upright { (part.rotation.column(0).xy().normalize(), part.half.xy()) } else { (Vec2::x(), extent.xy()) };
            let footprint = Footprint { center: middle, axis, half };
            let cell = |v: f32, low: f32| ((v - low) / CONTACT_CELL).clamp(0.0, (CONTACT_SIDE - 1) as f32) as usize;
            for row in cell(middle.y - reach, low.y)..=cell(middle.y + reach, low.y) {
                for column in cell(middle.x - reach, low.x)..=cell(middle.x + reach, low.x) {
                    let p = low + CONTACT_CELL * Vec2::new(column as f32 + 0.5, row as f32 + 0.5);
                    if footprint.contains(p) {
                        hidden[row * CONTACT_SIDE + column] = 1.0;
                    }
                }
            }
        }
        for stride in [1, CONTACT_SIDE, 1, CONTACT_SIDE] {
            hidden = blurred(&hidden, stride);
        }
        Self { low, hidden }
    }

    /// Share of the sky that the ground sees here.
    pub fn open(&self, p: Vec2) -> f32 {
        let q = (p - self.low) / CONTACT_CELL;
        let (x, y) = (q.x - 0.5, q.y - 0.5);
        let limit = (CONTACT_SIDE - 1) as f32;
        if !(x >= 0.0 && y >= 0.0 && x < limit && y < limit) {
            return 1.0;
        }
        let (i, j) = (x as i32 as usize, y as i32 as usize);
        let (u, v) = (x - i as f32, y - j as f32);
        let at = j * CONTACT_SIDE + i;
        let [a, b, c, d] = [at, at + 1, at + CONTACT_SIDE, at + CONTACT_SIDE + 1].map(|k| self.hidden[k]);
        1.0 - 0.8 * ((a + u * (b - a)) * (1.0 - v) + (c + u * (d - c)) * v)
    }
}

/// The mean over a few cells along one axis; cells at the rim keep their value.
fn blurred(values: &[f32], stride: usize) -> Vec<f32> {
    let margin = CONTACT_REACH * stride;
    let width = (2 * CONTACT_REACH + 1) as f32;
    let mut means = values.to_vec();
    for (i, mean) in means.iter_mut().enumerate().take(values.len() - margin).skip(margin) {
        *mean = (0..2 * CONTACT_REACH + 1).map(|k| values[i + k * stride - margin]).sum::<f32>() / width;
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::solid::Surface;

    #[test]
    fn a_pole_throws_its_shadow_away_from_the_sun() {
        let toward_sun = Vec3::new(1.0, 0.0, 1.0).normalize();
        let pole = Part::cuboid([5.0, 0.0, 2.0], [0.4, 0.4, 4.0], Surface::STEEL);
        let shadows = Shadows::new(&toward_sun, &Vec3::zeros(), &[pole]);
        let at = |x: f32, y: f32| shadows.sunlit(&Vec3::new(x, y, 0.0), &Vec3::z());
        // At 45 degrees the shadow is as long as the pole: from x = 5 down to x = 1.
        assert_eq!([at(4.0, 0.0), at(1.5, 0.0), at(0.5, 0.0), at(6.0, 0.0), at(3.0, 0.6), at(900.0, 0.0)], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        // The side of the pole that faces the sun is lit.
        assert_eq!(shadows.sunlit(&Vec3::new(5.2, 0.0, 2.0), &Vec3::x()), 1.0);
    }
}
