//! Things without a label: buildings, plants, fences, poles and other street furniture. Each stands on the ground at the
//! origin, x along the street or the front.

use crate::random::Rng;
use crate::sim::solid::{Look, Part, Surface, Vec3};

/// How far foundations reach below the ground, so that no gap shows on a slope.
const FOOTING: f32 = 0.6;

/// A block `length` along x and `depth` across, its front at `-y`, with balconies, pillars, windows and sometimes a gable.
pub(super) fn building(length: f32, depth: f32, height: f32, rng: &mut Rng) -> Vec<Part> {
    let wall = Surface::matt(rng.range(0.1, 0.85)).looking(Look::Facade);
    let front = -0.5 * depth;
    let relief = 0.35;
    let mut parts = vec![Part::cuboid([0.0, 0.5 * relief, 0.5 * (height - FOOTING)], [length, depth - relief, height + FOOTING], wall)];
    let bays = (length / rng.range(2.6, 4.2)).max(1.0) as usize;
    let bay = length / bays as f32;
    let storeys = (height / 3.2).max(1.0) as usize;
    // Pillars stand forward of the wall, window panes lie back in it and swallow most beams.
    let pillar = rng.range(0.3, 0.9);
    for i in 0..=bays {
        let x = (-0.5 * length + i as f32 * bay).clamp(0.5 * (pillar - length), 0.5 * (length - pillar));
        parts.push(Part::cuboid([x, front + 0.5 * relief, 0.5 * (height - FOOTING)], [pillar, relief, height + FOOTING], wall));
    }
    let (balconies, awning) = (rng.chance(0.35), rng.chance(0.35));
    for storey in 0..storeys {
        let floor = 3.2 * storey as f32;
        parts.push(Part::cuboid([0.0, front + 0.5 * relief, floor + 0.4], [length, relief, 0.8], wall));
        for i in 0..bays {
            let x = -0.5 * length + (i as f32 + 0.5) * bay;
            if balconies && storey > 0 && rng.chance(0.5) {
                parts.push(Part::cuboid([x, front - 0.45, floor + 0.1], [0.7 * bay, 0.9, 0.15], wall));
                parts.push(Part::cuboid([x, front - 0.88, floor + 0.6], [0.7 * bay, 0.05, 0.9], Surface::porous(0.3, 0.5)));
            }
        }
    }
    if awning {
        parts.push(Part::cuboid([0.0, front - 0.5, 2.8], [0.9 * length, 1.0, 0.12], Surface::matt(0.4).looking(Look::Coloured)));
    }
    if storeys <= 3 && rng.chance(0.6) {
        let rise = rng.range(1.5, 3.5);
        let tiles = wall.looking(Look::Roof);
        let gable = Part::prismoid(
            [-0.5 * length, 0.5 * length],
            0.5 * depth,
            [height, height + rise],
            [-0.45 * length, 0.45 * length],
            0.1,
            tiles,
        );
        parts.push(gable);
    }
    parts
}

/// A trunk and a crown of leaves that beams reach into.
pub(super) fn tree(rng: &mut Rng) -> Vec<Part> {
    let height = rng.around(7.0, 1.8);
    let trunk = rng.range(0.10, 0.24);
    let bare = rng.range(0.25, 0.42) * height;
    let lean = [rng.range(-0.2, 0.2), rng.range(-0.2, 0.2)];
    let mut parts = vec![Part::bar(
        Vec3::new(0.0, 0.0, -0.3),
        Vec3::new(lean[0], lean[1], 0.75 * height),
        [2.0 * trunk, 0.0],
        true,
        Surface::matt(0.3).looking(Look::Bark),
    )];
    let crown = height - bare;
    for _ in 0..3 + rng.index(3) {
        let width = rng.range(0.45, 0.75) * crown;
        let z = bare + rng.range(0.3, 0.75) * crown;
        let spread = 0.28 * crown;
        let center = [lean[0] + rng.range(-spread, spread), lean[1] + rng.range(-spread, spread), z];
        parts.push(Part::ellipsoid(center, [width, width, rng.range(0.4, 0.6) * crown], Surface::leaves(0.4, rng.range(0.8, 2.2))));
    }
    parts
}

pub(super) fn bush(rng: &mut Rng) -> Vec<Part> {
    let size = rng.range(0.7, 1.9);
    let leaves = Surface::leaves(0.42, 5.0);
    (0..2 + rng.index(2))
        .map(|_| {
            let h = size * rng.range(0.6, 1.0);
            Part::ellipsoid([rng.range(-0.3, 0.3) * size, rng.range(-0.3, 0.3) * size, 0.45 * h], [size, size, h], leaves)
        })
        .collect()
}

/// A dense row of leaves.
pub(super) fn hedge(length: f32, height: f32, rng: &mut Rng) -> Vec<Part> {
    let bits = (length / 1.5).ceil();
    let bit = length / bits;
    (0..bits as usize)
        .map(|i| {
            let h = height * rng.range(0.9, 1.1);
            let x = (i as f32 + 0.5) * bit - 0.5 * length;
            Part::cuboid([x, rng.range(-0.06, 0.06), 0.5 * (h - 0.2)], [bit, rng.range(0.6, 0.9), h + 0.2], Surface::leaves(0.42, 9.0))
        })
        .collect()
}

pub(super) fn wall(length: f32, height: f32, rng: &mut Rng) -> Vec<Part> {
    let stone = Surface::matt(rng.range(0.25, 0.5)).looking(Look::Masonry);
    vec![Part::cuboid([0.0, 0.0, 0.5 * (height - FOOTING)], [length, 0.22, height + FOOTING], stone)]
}

/// Posts with wire or bars between them.
pub(super) fn fence(length: f32, height: f32, rng: &mut Rng) -> Vec<Part> {
    let posts = (length / 2.5).ceil() as usize;
    let mut parts: Vec<Part> = (0..=posts)
        .map(|i| Part::upright([length * (i as f32 / posts as f32 - 0.5), 0.0], [-0.3, height + 0.05], [0.04, 0.04], Surface::STEEL))
        .collect();
    let mesh = Surface::porous(0.35, rng.range(0.55, 0.8));
    parts.push(Part::cuboid([0.0, 0.0, 0.5 * height + 0.03], [length, 0.03, height - 0.06], mesh));
    parts
}

/// A lamp whose arm reaches over the road, which lies towards `-y`.
pub(super) fn lamp(rng: &mut Rng) -> Vec<Part> {
    let height = rng.range(6.0, 9.0);
    let reach = rng.range(0.8, 2.0);
    vec![
        Part::upright([0.0, 0.0], [-0.3, height], [0.10, 0.06], Surface::STEEL),
        Part::upright([0.0, 0.0], [-0.1, 0.7], [0.16, 0.14], Surface::STEEL),
        Part::bar(Vec3::new(0.0, 0.0, height), Vec3::new(0.0, -reach, height + 0.3), [0.08, 0.0], true, Surface::STEEL),
        Part::cuboid([0.0, -reach, height + 0.28], [0.25, 0.6, 0.12], Surface::STEEL),
    ]
}

pub(super) fn sign(rng: &mut Rng) -> Vec<Part> {
    let height = rng.range(2.2, 2.8);
    let side = rng.range(0.5, 0.8);
    vec![
        Part::upright([0.0, 0.0], [-0.3, height + 0.5 * side], [0.035, 0.035], Surface::STEEL),
        Part::cuboid([0.05, 0.0, height], [0.03, side, side], Surface::RETRO.looking(Look::Sign)),
    ]
}

/// A signal on its post; half of them have an arm over the road.
pub(super) fn traffic_light(rng: &mut Rng) -> Vec<Part> {
    let housing = |y: f32, z: f32| Part::cuboid([0.0, y, z], [0.3, 0.32, 0.95], Surface::DARK.looking(Look::Signal));
    let mut parts = vec![Part::upright([0.0, 0.0], [-0.3, 5.4], [0.10, 0.08], Surface::STEEL), housing(0.25, 2.9)];
    if rng.chance(0.5) {
        parts.push(Part::bar(Vec3::new(0.0, 0.0, 5.3), Vec3::new(0.0, -4.5, 5.6), [0.12, 0.0], true, Surface::STEEL));
        parts.push(housing(-4.2, 5.4));
    }
    parts
}

/// One of the small upright things that are easily taken for a cone or a person.
pub(super) fn clutter(rng: &mut Rng) -> Vec<Part> {
    let coloured = |reflectance: f32| Surface::matt(reflectance).looking(Look::Coloured);
    match rng.index(7) {
        0 => vec![Part::upright([0.0, 0.0], [-0.1, rng.range(0.7, 1.0)], [0.07, 0.07], Surface::STEEL)],
        1 => vec![
            Part::upright([0.0, 0.0], [-0.1, 0.75], [0.13, 0.11], coloured(0.4)),
            Part::ellipsoid([0.0, 0.0, 0.75], [0.24, 0.24, 0.2], coloured(0.4)),
            Part::cuboid([0.0, 0.0, 0.5], [0.36, 0.12, 0.12], coloured(0.4)),
        ],
        2 => vec![Part::upright([0.0, 0.0], [-0.1, rng.range(0.8, 1.15)], [0.25, 0.28], coloured(rng.range(0.15, 0.4)))],
        3 => vec![Part::cuboid([0.0, 0.0, 0.6], [rng.range(0.6, 1.4), 0.45, 1.3], coloured(0.35))],
        4 => vec![
            Part::cuboid([0.0, 0.0, 0.43], [1.7, 0.45, 0.06], Surface::matt(0.35).looking(Look::Wood)),
            Part::cuboid([0.0, 0.22, 0.68], [1.7, 0.05, 0.35], Surface::matt(0.35).looking(Look::Wood)),
            Part::cuboid([-0.7, 0.0, 0.2], [0.08, 0.4, 0.44], Surface::STEEL),
            Part::cuboid([0.7, 0.0, 0.2], [0.08, 0.4, 0.44], Surface::STEEL),
        ],
        5 => vec![
            Part::upright([0.0, 0.0], [-0.1, 0.6], [0.4, 0.5], Surface::matt(0.4)),
            Part::ellipsoid([0.0, 0.0, 0.85], [0.9, 0.9, 0.7], Surface::leaves(0.42, 5.0)),
        ],
        _ => {
            let height = rng.range(1.5, 2.1);
            vec![
                Part::upright([0.0, 0.0], [-0.1, 0.9], [0.05, 0.05], Surface::STEEL),
                Part::cuboid([0.0, 0.0, height - 0.35], [0.4, 0.25, 0.9], coloured(0.3)),
            ]
        }
    }
}

/// Roof, back and one side of glass, open towards `-y`.
pub(super) fn bus_shelter() -> Vec<Part> {
    let mut parts = vec![
        Part::cuboid([0.0, 0.0, 2.5], [4.2, 1.5, 0.1], Surface::STEEL),
        Part::cuboid([0.0, 0.65, 1.25], [4.0, 0.03, 2.1], Surface { passes: 0.75, ..Surface::GLASS }),
        Part::cuboid([0.4, 0.4, 0.45], [2.4, 0.35, 0.06], Surface::matt(0.3).looking(Look::Wood)),
        Part::cuboid([2.0, 0.0, 1.3], [0.12, 1.2, 2.0], Surface::matt(0.4).looking(Look::Coloured)),
    ];
    parts.extend([-2.0, 2.0].map(|x| Part::upright([x, 0.65], [-0.1, 2.5], [0.05, 0.05], Surface::STEEL)));
    parts
}

/// A heap of soil or gravel.
pub(super) fn heap(rng: &mut Rng) -> Vec<Part> {
    let (width, height) = (rng.range(1.5, 4.0), rng.range(0.6, 1.6));
    vec![
        Part::ellipsoid([0.0; 3], [1.3 * width, width, 2.0 * height], Surface::matt(0.3).looking(Look::Soil)),
        Part::ellipsoid([0.3 * width, 0.2, 0.0], [width, width, 1.4 * height], Surface::matt(0.3).looking(Look::Soil)),
    ]
}

/// Stacked pipes, pallets or a site container.
pub(super) fn material(rng: &mut Rng) -> Vec<Part> {
    match rng.index(3) {
        0 => (0..3)
            .map(|i| {
                let y = [-0.35, 0.35, 0.0][i];
                let z = [0.3, 0.3, 0.85][i];
                Part::bar(Vec3::new(-2.0, y, z), Vec3::new(2.0, y, z), [0.62, 0.0], true, Surface::matt(0.4))
            })
            .collect(),
        1 => vec![
            Part::cuboid([0.0, 0.0, 0.5], [1.2, 1.0, 1.0], Surface::matt(0.4).looking(Look::Wood)),
            Part::cuboid([1.3, 0.1, 0.3], [1.2, 0.9, 0.6], Surface::matt(0.4).looking(Look::Wood)),
        ],
        _ => vec![Part::cuboid([0.0, 0.0, 1.2], [4.5, 2.3, 2.6], Surface::matt(0.5).looking(Look::Cargo))],
    }
}
