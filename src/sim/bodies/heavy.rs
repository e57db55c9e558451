//! Trucks, buses, trailers and construction vehicles.

use super::road::paint;
use super::{Body, ObjectClass};
use crate::random::Rng;
use crate::sim::solid::{Look, Part, Surface, Vec3};

/// Wheels on both sides at each of `axles`.
fn wheels(axles: &[f32], half_width: f32, radius: f32, width: f32) -> impl Iterator<Item = Part> {
    axles.iter().flat_map(move |&x| {
        [-1.0, 1.0].map(|side| Part::wheel([x, side * (half_width - 0.5 * width), radius], radius, width, Surface::RUBBER))
    })
}

fn plate(x: f32) -> Part {
    Part::cuboid([x, 0.0, 0.6], [0.02, 0.5, 0.12], Surface::RETRO)
}

/// A pickup, a delivery van, a box truck, a flatbed or a dump truck.
pub(crate) fn truck(rng: &mut Rng) -> Body {
    let parts = match rng.weighted(&[0.27, 0.15, 0.33, 0.25]) {
        0 => pickup(rng),
        1 => delivery_van(rng),
        2 => {
            let (l, w, h) = (rng.around(7.9, 1.1), rng.around(2.62, 0.1), rng.around(3.35, 0.25));
            let cargo = Surface::matt(rng.range(0.35, 0.8)).looking(Look::Cargo);
            let mut parts = cab(l, w, rng.range(2.3, 2.8), rng);
            let floor = 0.95;
            let length = l - 2.1;
            parts.push(Part::cuboid([-0.5 * l + 0.5 * length, 0.0, 0.5 * (floor + h)], [length, w, h - floor], cargo));
            parts
        }
        _ => {
            let (l, w, h) = (rng.around(8.0, 1.0), rng.around(2.6, 0.1), rng.around(2.9, 0.2));
            let mut parts = cab(l, w, h, rng);
            let (length, middle) = (l - 2.2, -1.1);
            parts.push(Part::cuboid([middle, 0.0, 1.05], [length, w, 0.2], Surface::STEEL));
            let side = if rng.chance(0.5) { rng.range(0.4, 1.1) } else { 0.0 };
            if side > 0.0 {
                let wall = Surface::matt(rng.range(0.15, 0.5)).looking(Look::Coloured);
                parts.extend(
                    [-1.0, 1.0].map(|s| Part::cuboid([middle, s * (0.5 * w - 0.05), 1.15 + 0.5 * side], [length, 0.1, side], wall)),
                );
                parts.push(Part::cuboid([-0.5 * l + 0.05, 0.0, 1.15 + 0.5 * side], [0.1, w, side], wall));
            }
            if rng.chance(0.6) {
                let load = rng.range(0.4, 0.85) * length;
                parts.push(Part::prismoid(
                    [middle - 0.5 * load, middle + 0.5 * load],
                    0.42 * w,
                    [1.15, 1.5 + side],
                    [middle - 0.35 * load, middle + 0.3 * load],
                    0.3 * w,
                    Surface::matt(0.25).looking(Look::Soil),
                ));
            }
            parts
        }
    };
    Body::new(ObjectClass::Truck, parts)
}

/// Chassis, cab and wheels of a truck of this length.
fn cab(l: f32, w: f32, height: f32, rng: &mut Rng) -> Vec<Part> {
    let paint = paint(rng);
    let (front, back) = (0.5 * l, 0.5 * l - 1.9);
    let half = 0.46 * w;
    let mut parts = vec![
        Part::cuboid(
            [0.5 * (front + back), 0.0, 0.5 * (0.45 + 0.58 * height)],
            [1.9, 2.0 * half, 0.58 * height - 0.45],
            paint.looking(Look::Cab),
        ),
        Part::prismoid([back, front], half, [0.58 * height, 0.86 * height], [back, front - 0.2], 0.96 * half, Surface::GLASS),
        Part::cuboid([back + 0.05, 0.0, 0.72 * height], [0.1, 1.9 * half, 0.28 * height], paint),
        Part::cuboid([back + 0.7, 0.0, 0.66 * height], [0.3, 1.6 * half, 0.2 * height], Surface::DARK),
        Part::cuboid([0.5 * (front - 0.2 + back), 0.0, 0.93 * height], [1.7, 1.92 * half, 0.14 * height], paint),
        Part::cuboid([-0.5, 0.0, 0.8], [l - 1.0, 0.9, 0.25], Surface::DARK),
        plate(front - 0.005),
        plate(-front + 0.005),
    ];
    parts.extend(
        [-1.0, 1.0].map(|side| Part::cuboid([front - 0.15, side * (0.5 * w - 0.06), 0.7 * height], [0.12, 0.12, 0.5], Surface::DARK)),
    );
    parts.extend(wheels(&[front - 1.1, -front + 1.6, -front + 2.6][..if l > 8.0 { 3 } else { 2 }], 0.5 * w, 0.48, 0.35));
    parts
}

fn pickup(rng: &mut Rng) -> Vec<Part> {
    let (l, w, h) = (rng.around(5.5, 0.25), rng.around(2.05, 0.07), rng.around(1.88, 0.06));
    let paint = paint(rng);
    let (half, body) = (0.5 * l, 0.47 * w);
    let (belt, bed) = (0.64 * h, -0.10 * l);
    let mut parts = vec![
        Part::cuboid([0.0, 0.0, 0.5 * (0.3 + 0.5 * h)], [l, 2.0 * body, 0.5 * h - 0.3], paint.looking(Look::CarBody)),
        Part::prismoid([bed, half], body, [0.5 * h, belt], [bed, half - 0.1], 0.96 * body, paint),
        Part::prismoid([bed, 0.25 * l], 0.95 * body, [belt, h - 0.06], [bed + 0.12, 0.11 * l], 0.8 * body, Surface::GLASS),
        Part::cuboid([0.5 * (bed + 0.12 + 0.11 * l), 0.0, h - 0.03], [0.11 * l - bed - 0.1, 1.6 * body, 0.06], paint),
        Part::cuboid([0.03 * l, 0.0, belt + 0.12], [0.2, 1.5 * body, 0.3], Surface::DARK),
        Part::cuboid([-half + 0.04, 0.0, 0.5 * (0.5 * h + belt)], [0.08, 2.0 * body, belt - 0.5 * h], paint),
        plate(half - 0.005),
        plate(-half + 0.005),
    ];
    let wall = [l * 0.4, 0.1, belt - 0.5 * h];
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([0.5 * (bed - half), side * (body - 0.05), 0.5 * (0.5 * h + belt)], wall, paint)));
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([0.2 * l, side * (0.5 * w - 0.09), belt + 0.08], [0.12, 0.18, 0.18], paint)));
    parts.extend(wheels(&[0.32 * l, -0.31 * l], body, 0.4, 0.26));
    parts
}

fn delivery_van(rng: &mut Rng) -> Vec<Part> {
    let (l, w, h) = (rng.around(6.1, 0.4), rng.around(2.3, 0.08), rng.around(2.65, 0.15));
    let paint = Surface::glossy(rng.range(0.3, 0.8));
    let (half, body, cab) = (0.5 * l, 0.46 * w, 0.5 * l - 1.9);
    let mut parts = vec![
        Part::cuboid([-0.5 * (half - cab), 0.0, 0.5 * (0.35 + h)], [half + cab, 2.0 * body, h - 0.35], paint),
        Part::prismoid([cab, half], body, [0.35, 1.15], [cab, half - 0.1], body, paint.looking(Look::Cab)),
        Part::prismoid([cab, half - 0.35], 0.97 * body, [1.15, 0.9 * h], [cab, cab + 0.45], 0.85 * body, Surface::GLASS),
        Part::cuboid([cab + 0.25, 0.0, 0.95 * h], [0.5, 1.7 * body, 0.1 * h], paint),
        Part::cuboid([cab + 0.5, 0.0, 1.4], [0.25, 1.5 * body, 0.5], Surface::DARK),
        plate(half - 0.005),
        plate(-half + 0.005),
    ];
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([cab + 1.0, side * (0.5 * w - 0.09), 1.4], [0.12, 0.18, 0.3], Surface::DARK)));
    parts.extend(wheels(&[half - 1.0, -half + 1.1], body, 0.36, 0.25));
    parts
}

/// What pulls a trailer; a truck by its class. While it does, the tail that is under the trailer counts as the trailer's.
pub(crate) fn tractor(rng: &mut Rng, towing: bool) -> Body {
    let (l, w, h) = (if towing { rng.around(4.4, 0.2) } else { rng.around(6.1, 0.3) }, rng.around(2.6, 0.06), rng.around(3.5, 0.2));
    let mut parts = cab(l, w, h, rng);
    parts.push(Part::cuboid([-0.35 * l, 0.0, 1.05], [1.2, 1.0, 0.25], Surface::STEEL));
    Body::new(ObjectClass::Truck, parts)
}

/// A box, container, flatbed or tank trailer.
pub(crate) fn trailer(rng: &mut Rng) -> Body {
    let (l, w, h) = (rng.around(12.5, 1.2), rng.around(2.9, 0.1), rng.around(4.0, 0.15));
    let half = 0.5 * l;
    let floor = 1.2;
    let skin = Surface::matt(rng.range(0.3, 0.8)).looking(Look::Cargo);
    let mut parts = vec![
        Part::cuboid([0.0, 0.0, floor - 0.15], [l, 0.45 * w, 0.3], Surface::DARK),
        Part::cuboid([-half + 0.05, 0.0, 0.62], [0.1, 0.85 * w, 0.15], Surface::RETRO),
    ];
    match rng.weighted(&[0.6, 0.2, 0.2]) {
        0 => parts.push(Part::cuboid([0.0, 0.0, 0.5 * (floor + h)], [l, w, h - floor], skin)),
        1 => {
            parts.push(Part::cuboid([0.0, 0.0, floor + 0.1], [l, w, 0.2], Surface::STEEL));
            for end in [-1.0, 1.0].into_iter().filter(|_| rng.chance(0.8)).collect::<Vec<_>>() {
                parts.push(Part::cuboid([end * 0.25 * l, 0.0, 0.5 * (floor + 0.2 + h)], [0.46 * l, 0.95 * w, h - floor - 0.2], skin));
            }
            parts.push(Part::cuboid([half - 0.06, 0.0, 0.5 * (floor + h) - 0.3], [0.12, w, h - floor - 0.6], Surface::STEEL));
        }
        _ => {
            let radius = 0.5 * (h - floor);
            let z = floor + radius;
            parts.push(Part::bar(Vec3::new(-half, 0.0, z), Vec3::new(half, 0.0, z), [2.0 * radius, 0.0], true, Surface::glossy(0.5)));
            parts.push(Part::cuboid([0.0, 0.0, floor + 0.05], [l, w, 0.2], Surface::STEEL));
        }
    }
    parts.extend(wheels(&[-half + 1.0, -half + 2.3, -half + 3.6], 0.5 * w, 0.5, 0.4));
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([half - 3.0, side * 0.3 * w, 0.55], [0.12, 0.12, 1.1], Surface::STEEL)));
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([-0.05 * l, side * 0.45 * w, 0.8], [0.35 * l, 0.06, 0.5], Surface::STEEL)));
    Body::new(ObjectClass::Trailer, parts)
}

/// A city bus or coach, with windows that let beams in to the seats.
pub(crate) fn bus(rng: &mut Rng) -> Body {
    let (l, w, h) = (rng.around(10.6, 1.3), rng.around(2.94, 0.08), rng.around(3.47, 0.18));
    let (half, body) = (0.5 * l, 0.46 * w);
    let paint = Surface::glossy(rng.range(0.3, 0.8));
    let (sill, head) = (1.15, 2.45);
    let mut parts = vec![
        Part::cuboid([0.0, 0.0, 0.5 * (0.32 + sill)], [l, 2.0 * body, sill - 0.32], paint.looking(Look::Coach)),
        Part::prismoid([-half, half], body, [sill, head], [-half, half - 0.15], 0.98 * body, Surface::GLASS),
        Part::prismoid([-half, half - 0.15], 0.98 * body, [head, h - 0.25], [-half, half - 0.25], 0.94 * body, paint),
        Part::cuboid([-0.2 * l, 0.0, h - 0.13], [0.4 * l, 1.3 * body, 0.26], Surface::matt(0.5)),
        Part::cuboid([-half + 0.1, 0.0, 0.5 * (sill + head)], [0.2, 1.9 * body, head - sill], paint),
        Part::cuboid([half - 0.02, 0.0, head + 0.25], [0.04, 1.2 * body, 0.3], Surface::DARK),
        plate(half - 0.005),
        plate(-half + 0.005),
    ];
    let rows = ((l - 3.0) / 0.95) as usize;
    for row in 0..rows {
        let x = half - 2.2 - 0.95 * row as f32;
        parts.extend([-1.0, 1.0].map(|side| Part::cuboid([x, side * 0.58 * body, sill + 0.3], [0.15, 0.65 * body, 0.6], Surface::DARK)));
        if row % 2 == 0 {
            parts.extend(
                [-1.0, 1.0].map(|side| Part::cuboid([x, side * 0.96 * body, 0.5 * (sill + head)], [0.12, 0.06, head - sill], paint)),
            );
        }
    }
    parts.extend([-1.0, 1.0].map(|side| Part::cuboid([half - 0.1, side * (0.5 * w - 0.08), 2.2], [0.14, 0.16, 0.4], Surface::DARK)));
    parts.extend(wheels(&[0.5 * l - 2.6, -0.5 * l + 2.9], body, 0.48, 0.3));
    Body::new(ObjectClass::Bus, parts)
}

/// An excavator, a wheel loader or a roller.
pub(crate) fn construction_vehicle(rng: &mut Rng) -> Body {
    let scale = rng.around(1.0, 0.13);
    let paint = Surface::matt(rng.range(0.4, 0.65)).looking(Look::Machine);
    let v = Vec3::new;
    let parts = match rng.weighted(&[0.5, 0.32, 0.18]) {
        0 => {
            let elbow = v(2.6 + rng.range(-0.3, 0.3), 0.0, rng.range(3.1, 3.9));
            let wrist = v(rng.range(3.5, 4.5), 0.0, rng.range(0.9, 1.9));
            let mut parts = vec![
                Part::cuboid([-0.5, 0.0, 1.5], [3.3, 2.6, 0.9], paint),
                Part::prismoid([-2.1, -0.9], 1.25, [1.95, 2.35], [-2.0, -0.9], 1.1, paint),
                Part::cuboid([0.2, 0.75, 2.45], [1.5, 1.0, 1.2], Surface::GLASS),
                Part::cuboid([0.2, 0.75, 3.08], [1.5, 1.0, 0.08], paint),
                Part::cuboid([0.0, 0.75, 2.2], [0.5, 0.6, 0.8], Surface::DARK),
                Part::bar(v(0.9, -0.25, 1.7), elbow, [0.4, 0.5], false, paint),
                Part::bar(elbow, wrist, [0.32, 0.4], false, paint),
                Part::prismoid(
                    [wrist.x - 0.75, wrist.x + 0.25],
                    0.6,
                    [wrist.z - 0.8, wrist.z + 0.1],
                    [wrist.x - 0.3, wrist.x + 0.2],
                    0.55,
                    Surface::STEEL,
                ),
                Part::cuboid([0.0, 0.0, 0.95], [1.2, 1.2, 0.3], Surface::DARK),
            ];
            for side in [-1.0, 1.0] {
                parts.push(Part::cuboid([0.0, side * 1.15, 0.42], [2.9, 0.55, 0.84], Surface::DARK));
                parts.extend([-1.45, 1.45].map(|x| Part::wheel([x, side * 1.15, 0.42], 0.42, 0.55, Surface::DARK)));
            }
            parts
        }
        1 => {
            let lift = rng.range(0.0, 0.9);
            let mut parts = vec![
                Part::cuboid([-1.7, 0.0, 1.45], [2.4, 1.8, 1.1], paint),
                Part::cuboid([-0.1, 0.0, 1.1], [1.6, 1.3, 0.6], paint),
                Part::prismoid([-0.8, 0.6], 0.8, [1.9, 3.1], [-0.75, 0.45], 0.75, Surface::GLASS),
                Part::cuboid([-0.15, 0.0, 3.16], [1.5, 1.6, 0.12], paint),
                Part::cuboid([-0.3, 0.0, 2.1], [0.5, 0.7, 0.7], Surface::DARK),
                Part::prismoid([2.3, 3.4], 1.35, [0.1 + lift, 1.2 + lift], [2.3, 2.8], 1.35, Surface::STEEL),
            ];
            for side in [-1.0, 1.0] {
                parts.push(Part::bar(v(0.5, side * 0.5, 1.6), v(2.4, side * 0.5, 0.7 + lift), [0.2, 0.4], false, paint));
                parts.extend([1.1, -1.8].map(|x| Part::wheel([x, side * 1.05, 0.75], 0.75, 0.6, Surface::RUBBER)));
            }
            parts
        }
        _ => {
            let drum = |x: f32| Part::wheel([x, 0.0, 0.75], 0.75, 2.1, Surface::STEEL);
            let mut parts = vec![
                drum(1.7),
                Part::cuboid([1.6, 0.0, 1.2], [1.5, 2.3, 0.25], paint),
                Part::cuboid([-1.4, 0.0, 1.35], [2.2, 1.7, 0.9], paint),
                Part::cuboid([0.0, 0.0, 1.2], [1.4, 1.3, 0.6], paint),
                Part::cuboid([-0.1, 0.0, 2.95], [1.8, 1.6, 0.1], paint),
                Part::cuboid([-0.3, 0.0, 1.8], [0.6, 0.7, 0.8], Surface::DARK),
            ];
            for side in [-1.0, 1.0] {
                parts.extend([0.7, -0.9].map(|x| Part::upright([x, side * 0.72], [1.4, 2.9], [0.05, 0.05], Surface::STEEL)));
                parts.push(Part::wheel([-1.6, side * 0.85, 0.7], 0.7, 0.5, Surface::RUBBER));
            }
            parts
        }
    };
    Body::new(ObjectClass::ConstructionVehicle, parts.into_iter().map(|p| p.scaled(scale)).collect())
}
