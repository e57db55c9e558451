//! Barriers and traffic cones.

use super::{Body, ObjectClass};
use crate::random::Rng;
use crate::sim::solid::{Look, Part, Surface, Vec3, turn_about_z};
use std::f32::consts::FRAC_PI_2;

/// A concrete or water-filled wall element, or a board on feet. Its heading is across the row that it stands in, as
/// nuScenes labels it: the length is its thickness.
pub(crate) fn barrier(rng: &mut Rng) -> Body {
    let (thick, long, h) = (rng.around(0.50, 0.07), rng.around(2.53, 0.35), rng.around(0.98, 0.08));
    let wall = [Surface::matt(0.35), Surface::matt(0.6)][rng.index(2)].looking(Look::Barrier);
    let half = 0.5 * long;
    // Drawn along x, then turned across.
    let parts = match rng.weighted(&[0.45, 0.35, 0.2]) {
        0 => vec![
            Part::cuboid([0.0, 0.0, 0.05], [long, thick, 0.1], wall),
            Part::prismoid([-half, half], 0.5 * thick, [0.1, 0.4 * h], [-half, half], 0.26 * thick, wall),
            Part::prismoid([-half, half], 0.26 * thick, [0.4 * h, h], [-half, half], 0.17 * thick, wall),
        ],
        1 => vec![
            Part::cuboid([-0.3 * long, 0.0, 0.06], [0.35, thick, 0.12], wall),
            Part::cuboid([0.3 * long, 0.0, 0.06], [0.35, thick, 0.12], wall),
            Part::cuboid([0.0, 0.0, 0.36 * h], [long, 0.7 * thick, 0.55 * h], wall),
            Part::cuboid([0.0, 0.0, 0.8 * h], [long, 0.5 * thick, 0.4 * h], wall),
        ],
        _ => {
            let legs = [-0.42 * long, 0.42 * long].into_iter().flat_map(|x| {
                [-1.0, 1.0].map(|side| {
                    Part::bar(
                        Vec3::new(x, side * (0.5 * thick - 0.04), 0.02),
                        Vec3::new(x, 0.0, h - 0.03),
                        [0.06, 0.06],
                        false,
                        Surface::STEEL,
                    )
                })
            });
            let striped = Surface { reflectance: 0.7, ..Surface::RETRO }.looking(Look::Board);
            let boards = [0.45 * h, h - 0.1].map(|z| Part::cuboid([0.0, 0.0, z], [long, 0.06, 0.2], striped));
            legs.chain(boards).collect()
        }
    };
    let quarter = turn_about_z(FRAC_PI_2);
    Body::new(ObjectClass::Barrier, parts.into_iter().map(|p| Part { center: quarter * p.center, ..p.turned(FRAC_PI_2) }).collect())
}

/// A cone, a tall slim delineator or a drum.
pub(crate) fn traffic_cone(rng: &mut Rng) -> Body {
    let orange = Surface::matt(0.55).looking(Look::Orange);
    let collar_of = Surface::RETRO.looking(Look::Collar);
    let base = |width: f32, z: f32| Part::cuboid([0.0, 0.0, 0.5 * z], [width, width, z], Surface::DARK);
    let parts = match rng.weighted(&[0.55, 0.25, 0.2]) {
        0 => {
            let (h, w) = (rng.around(0.95, 0.12), rng.around(0.40, 0.03));
            let radius = |z: f32| 0.4 * w * (1.0 - z / h) + 0.03;
            let collar = [0.55 * h, 0.75 * h];
            let cone = |z: [f32; 2], surface| Part::upright([0.0; 2], z, z.map(radius), surface);
            vec![base(w, 0.05), cone([0.05, collar[0]], orange), cone(collar, collar_of), cone([collar[1], h], orange)]
        }
        1 => {
            let (h, w) = (rng.around(1.25, 0.12), rng.around(0.36, 0.03));
            let post = |z: [f32; 2], surface| Part::upright([0.0; 2], z, [0.07, 0.06], surface);
            vec![base(w, 0.10), post([0.1, 0.6 * h], orange), post([0.6 * h, 0.8 * h], collar_of), post([0.8 * h, h], orange)]
        }
        _ => {
            let (h, w) = (rng.around(1.08, 0.06), rng.around(0.52, 0.04));
            let ring = |z: [f32; 2], surface| Part::upright([0.0; 2], z.map(|s| s * h), z.map(|s| 0.5 * w * (1.0 - 0.25 * s)), surface);
            vec![ring([0.0, 0.45], orange), ring([0.45, 0.6], collar_of), ring([0.6, 1.0], orange)]
        }
    };
    Body::new(ObjectClass::TrafficCone, parts)
}
