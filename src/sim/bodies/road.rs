//! Cars and two-wheelers.

use super::people::{Person, rider};
use super::{Body, ObjectClass};
use crate::random::Rng;
use crate::sim::solid::{Look, Part, Surface, Vec3};

/// Reflectance of car paint at 905 nm: black and dark blue absorb, white and silver do not.
pub(super) fn paint(rng: &mut Rng) -> Surface {
    let [low, high] = [[0.04, 0.12], [0.15, 0.35], [0.4, 0.6], [0.6, 0.85]][rng.weighted(&[0.25, 0.25, 0.25, 0.25])];
    Surface::glossy(rng.range(low, high))
}

/// Where a car's parts begin and end, as shares of its length, width and height.
struct CarStyle {
    size: [f32; 3],
    /// Height of the window line.
    belt: f32,
    /// Height of the bonnet's front edge.
    nose: f32,
    /// Bottom and top edge of the windscreen, and of the rear window, along the length.
    windscreen: [f32; 2],
    rear: [f32; 2],
    /// Half width of the roof, as a share of that of the body.
    roof: f32,
}

const SEDAN: CarStyle =
    CarStyle { size: [4.75, 1.95, 1.50], belt: 0.62, nose: 0.46, windscreen: [0.22, 0.05], rear: [-0.38, -0.24], roof: 0.8 };
const HATCHBACK: CarStyle =
    CarStyle { size: [4.20, 1.90, 1.55], belt: 0.61, nose: 0.48, windscreen: [0.24, 0.06], rear: [-0.49, -0.40], roof: 0.8 };
const SUV: CarStyle =
    CarStyle { size: [4.75, 2.02, 1.78], belt: 0.60, nose: 0.52, windscreen: [0.23, 0.10], rear: [-0.49, -0.42], roof: 0.8 };
const MINIVAN: CarStyle =
    CarStyle { size: [4.95, 2.05, 2.00], belt: 0.54, nose: 0.44, windscreen: [0.34, 0.20], rear: [-0.49, -0.46], roof: 0.8 };

/// A sedan, hatchback, sport utility vehicle or minivan.
pub(crate) fn car(rng: &mut Rng) -> Body {
    let style = [&SEDAN, &HATCHBACK, &SUV, &MINIVAN][rng.weighted(&[0.30, 0.22, 0.28, 0.20])].varied(rng);
    let paint = paint(rng);
    Body::new(ObjectClass::Car, style.parts(paint))
}

/// The car that carries the lidar, a small hatchback; what the lidar sees of it are its roof, bonnet and windscreen.
pub(crate) fn ego() -> Body {
    let style = CarStyle { size: [4.08, 1.73, 1.53], belt: 0.62, nose: 0.50, windscreen: [0.32, 0.06], rear: [-0.48, -0.29], roof: 0.60 };
    Body::new(ObjectClass::Car, style.parts(Surface::glossy(0.45)))
}

impl CarStyle {
    fn varied(&self, rng: &mut Rng) -> Self {
        let size = [rng.around(self.size[0], 0.24), rng.around(self.size[1], 0.07), rng.around(self.size[2], 0.06)];
        Self { size, belt: rng.around(self.belt, 0.015), nose: rng.around(self.nose, 0.02), ..*self }
    }

    fn parts(&self, paint: Surface) -> Vec<Part> {
        let [l, w, h] = self.size;
        let (half, body) = (0.5 * l, 0.47 * w);
        let [belt, nose] = [self.belt * h, self.nose * h];
        let [windscreen, rear] = [self.windscreen.map(|s| s * l), self.rear.map(|s| s * l)];
        let radius = (0.205 * h).clamp(0.29, 0.38);
        let mut parts = vec![
            Part::cuboid([0.0, 0.0, 0.5 * (0.2 + nose)], [l, 2.0 * body, nose - 0.2], paint.looking(Look::CarBody)),
            Part::prismoid([-half, half], body, [nose, belt], [-half + 0.05, windscreen[0] + 0.1 * l], 0.95 * body, paint),
            Part::prismoid(
                [rear[0], windscreen[0]],
                0.95 * body,
                [belt, h - 0.06],
                [rear[1], windscreen[1]],
                (self.roof - 0.02) * body,
                Surface::GLASS,
            ),
            Part::cuboid(
                [0.5 * (rear[1] + windscreen[1]), 0.0, h - 0.03],
                [windscreen[1] - rear[1] + 0.06, 2.0 * self.roof * body, 0.06],
                paint,
            ),
        ];
        let seats = [0.02 * l, -0.19 * l];
        parts.extend(seats.map(|x| Part::cuboid([x, 0.0, belt + 0.12], [0.2, 1.5 * body, 0.3], Surface::DARK)));
        for side in [-1.0, 1.0] {
            parts.push(Part::cuboid([windscreen[0] - 0.35, side * (0.5 * w - 0.08), belt + 0.06], [0.12, 0.16, 0.14], paint));
            let pillar = [0.5 * (windscreen[1] + rear[1]), side * (0.94 * self.roof + 0.12) * body, 0.5 * (belt + h)];
            parts.push(Part::cuboid(pillar, [0.1, 0.12 * body, h - belt], paint));
            for x in [0.31 * l, -0.29 * l] {
                parts.push(Part::wheel([x, side * (body - 0.1), radius], radius, 0.22, Surface::RUBBER));
            }
            parts.push(Part::cuboid(
                [-half + 0.01, side * 0.8 * body, 0.9 * belt],
                [0.04, 0.16, 0.10],
                Surface::RETRO.looking(Look::TailLamp),
            ));
        }
        parts.extend([-1.0, 1.0].map(|end| Part::cuboid([end * (half - 0.005), 0.0, 0.45], [0.02, 0.5, 0.11], Surface::RETRO)));
        parts
    }
}

/// A motorcycle or scooter, ridden or not.
pub(crate) fn motorcycle(rng: &mut Rng, ridden: bool) -> Body {
    let l = rng.around(2.11, 0.16);
    let w = rng.around(0.77, 0.07);
    let paint = paint(rng);
    let radius = rng.range(0.24, 0.33);
    let wheels = [0.5 * l - radius, -0.5 * l + radius];
    let mut parts: Vec<Part> = wheels.iter().map(|&x| Part::wheel([x, 0.0, radius], radius, 0.13, Surface::RUBBER)).collect();
    parts.extend([
        Part::cuboid([0.05, 0.0, 0.45], [0.75, 0.30, 0.42], Surface::STEEL),
        Part::ellipsoid([0.22, 0.0, 0.78], [0.65, 0.34, 0.34], paint),
        Part::cuboid([-0.42, 0.0, 0.76], [0.72, 0.28, 0.12], Surface::DARK),
        Part::bar(Vec3::new(wheels[0], 0.0, radius), Vec3::new(wheels[0] - 0.32, 0.0, 0.98), [0.14, 0.14], true, Surface::STEEL),
        Part::cuboid([wheels[0] - 0.34, 0.0, 1.0], [0.06, w, 0.05], Surface::DARK),
        Part::cuboid([wheels[0] - 0.2, 0.0, 0.9], [0.14, 0.3, 0.26], Surface::GLASS),
        Part::cuboid([-0.5 * l + 0.2, 0.0, 0.62], [0.02, 0.2, 0.12], Surface::RETRO),
    ]);
    if rng.chance(0.3) {
        parts.push(Part::cuboid([-0.75, 0.0, 1.02], [0.42, 0.42, 0.38], Surface::matt(0.5).looking(Look::Coloured)));
    }
    if ridden || rng.chance(0.1) {
        let person = Person::draw(rng);
        parts.extend(rider(&person, [-0.25, 0.80], [wheels[0] - 0.36, 1.02], 0.9 * w));
    } else {
        let mirror = |side: f32| Part::cuboid([wheels[0] - 0.38, side * 0.42 * w, 1.14], [0.05, 0.12, 0.12], Surface::DARK);
        parts.extend([mirror(-1.0), mirror(1.0)]);
    }
    Body::new(ObjectClass::Motorcycle, parts)
}

/// A bicycle, ridden or not.
pub(crate) fn bicycle(rng: &mut Rng, ridden: bool) -> Body {
    let l = rng.around(1.70, 0.10);
    let w = rng.around(0.58, 0.05);
    let paint = paint(rng);
    let radius = rng.range(0.31, 0.35);
    let [front, back] = [0.5 * l - radius, -0.5 * l + radius];
    let v = Vec3::new;
    let bar = |from, to| Part::bar(from, to, [0.045, 0.045], true, paint);
    // Spokes let most beams through; the tyre is the rest of the disc.
    let disc = Surface::porous(0.15, 0.55).looking(Look::Spokes);
    let mut parts = vec![
        Part::wheel([front, 0.0, radius], radius, 0.05, disc),
        Part::wheel([back, 0.0, radius], radius, 0.05, disc),
        bar(v(back, 0.0, radius), v(-0.18, 0.0, 0.88)),
        bar(v(-0.05, 0.0, 0.32), v(-0.2, 0.0, 0.95)),
        bar(v(-0.05, 0.0, 0.32), v(front - 0.12, 0.0, 0.85)),
        bar(v(-0.18, 0.0, 0.82), v(front - 0.14, 0.0, 0.9)),
        bar(v(front, 0.0, radius), v(front - 0.16, 0.0, 1.02)),
        bar(v(back, 0.0, radius), v(-0.05, 0.0, 0.32)),
        Part::cuboid([front - 0.16, 0.0, 1.03], [0.1, w, 0.05], Surface::DARK),
        Part::cuboid([-0.2, 0.0, 0.97], [0.27, 0.16, 0.08], Surface::DARK),
        Part::cuboid([back - 0.1, 0.0, 0.72], [0.03, 0.08, 0.08], Surface::RETRO.looking(Look::TailLamp)),
    ];
    if rng.chance(0.25) {
        parts.push(Part::cuboid([front - 0.02, 0.0, 0.95], [0.3, 0.34, 0.24], Surface::porous(0.3, 0.3)));
    }
    if ridden {
        let person = Person::draw(rng);
        parts.extend(rider(&person, [-0.2, 0.93], [front - 0.18, 1.05], 0.9 * w));
    }
    Body::new(ObjectClass::Bicycle, parts)
}
