//! Colours and patterns of everything that stands on the ground.
//!
//! Patterns are functions of a place on a part; what differs from one object to the next comes from the object's identity.

use super::light::{Finish, mix};
use super::noise::{clouds, hash, lumps, speckle, split, unit};
use crate::random::mix as scramble;
use crate::sim::solid::{Look, Part, Solid, Surface, Vec3};
use std::f32::consts::TAU;

/// How one part is coloured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coat {
    main: Vec3,
    second: Vec3,
    seed: u32,
}

/// A place on a part, in the part's own axes.
pub(super) struct Place {
    pub point: Vec3,
    pub normal: Vec3,
    /// Width of a pixel there, metres.
    pub pixel: f32,
}

/// Linear from sRGB.
pub(super) fn color([r, g, b]: [u8; 3]) -> Vec3 {
    Vec3::new(r.into(), g.into(), b.into()).map(|c: f32| {
        let c = c / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    })
}

const PAINTS: [&[[u8; 3]]; 4] = [
    &[[18, 18, 20], [26, 30, 44], [30, 34, 36], [52, 14, 18], [16, 34, 30]],
    &[[150, 24, 26], [32, 58, 118], [82, 86, 90], [40, 74, 60], [112, 60, 34], [64, 64, 70], [20, 84, 130]],
    &[[150, 154, 158], [120, 124, 130], [104, 140, 168], [170, 160, 138], [196, 150, 40], [126, 134, 120]],
    &[[232, 232, 230], [205, 208, 210], [222, 218, 206], [240, 240, 242]],
];
const CLOTHS: [[u8; 3]; 14] = [
    [36, 38, 44],
    [44, 58, 92],
    [70, 76, 84],
    [120, 30, 34],
    [150, 120, 90],
    [196, 190, 178],
    [58, 84, 60],
    [88, 60, 46],
    [196, 80, 40],
    [60, 110, 150],
    [222, 222, 222],
    [104, 56, 96],
    [214, 170, 60],
    [28, 28, 30],
];
const THINGS: [[u8; 3]; 9] =
    [[40, 82, 56], [120, 34, 30], [46, 66, 110], [84, 86, 88], [148, 122, 60], [176, 96, 40], [60, 60, 62], [170, 168, 160], [34, 96, 110]];
const WALLS: [[u8; 3]; 12] = [
    [214, 204, 186],
    [196, 178, 150],
    [168, 92, 72],
    [142, 78, 62],
    [190, 186, 180],
    [222, 216, 204],
    [206, 166, 128],
    [128, 124, 120],
    [176, 152, 132],
    [214, 190, 150],
    [160, 166, 172],
    [186, 120, 92],
];
const ROOFS: [[u8; 3]; 5] = [[126, 62, 46], [92, 52, 44], [82, 82, 86], [60, 58, 60], [150, 84, 58]];
const CARGOS: [[u8; 3]; 9] = [
    [226, 226, 222],
    [200, 204, 206],
    [34, 74, 130],
    [160, 38, 34],
    [222, 150, 40],
    [48, 100, 74],
    [96, 100, 106],
    [150, 76, 50],
    [236, 236, 232],
];
const SKINS: [[u8; 3]; 5] = [[224, 180, 150], [200, 150, 118], [160, 112, 82], [110, 74, 54], [232, 192, 166]];
const HAIRS: [[u8; 3]; 5] = [[30, 24, 20], [70, 46, 28], [120, 88, 50], [150, 146, 140], [44, 34, 30]];
const LEAVES: [[u8; 3]; 6] = [[66, 92, 38], [82, 104, 44], [52, 80, 40], [98, 112, 50], [60, 96, 52], [120, 116, 46]];

impl Coat {
    pub fn new(part: &Part, identity: u64) -> Self {
        let reflectance = part.surface.reflectance;
        let seed = scramble(identity ^ 0xc0a7) as u32;
        let pick = |colors: &[[u8; 3]], salt: i32| color(colors[hash(seed as i32, salt, 0) as usize % colors.len()]);
        let grey = |value: f32| Vec3::repeat(value);
        let paints = |salt| pick(PAINTS[[0.13, 0.37, 0.6].iter().filter(|&&limit| reflectance > limit).count()], salt);
        let (main, second) = match part.surface.look {
            Look::Paint | Look::CarBody | Look::Cab | Look::Helmet => (paints(1), grey(0.03)),
            Look::Coach => (paints(1), pick(&CARGOS, 2)),
            Look::Cargo => (pick(&CARGOS, 3), pick(&CARGOS, 4)),
            // Jacket and trousers differ by their reflectance.
            Look::Cloth => {
                let salt = reflectance.to_bits() as i32;
                (pick(&CLOTHS, salt) * (0.6 + 0.6 * reflectance), grey(0.0))
            }
            Look::Skin | Look::Head => (pick(&SKINS, 5), pick(&HAIRS, 6)),
            Look::HiVis => (grey(0.7), color([212, 236, 40])),
            Look::Machine => ([color([232, 172, 24]), color([226, 120, 26])][seed as usize % 2], grey(0.03)),
            Look::Orange => ([color([238, 92, 22]), color([214, 74, 20])][seed as usize % 2], grey(0.5)),
            Look::Facade => (pick(&WALLS, 7), [grey(0.62), grey(0.05), color([92, 70, 52])][seed as usize / 5 % 3]),
            Look::Roof => (pick(&ROOFS, 8), grey(0.1)),
            Look::Masonry => ([color([168, 160, 148]), color([150, 86, 68])][seed as usize % 2], grey(0.4)),
            Look::Bark => (color([92, 78, 64]), color([58, 50, 42])),
            Look::Leaves => (pick(&LEAVES, 9), pick(&LEAVES, 10)),
            Look::Coloured | Look::Board => (pick(&THINGS, 11), grey(0.6)),
            Look::Barrier if reflectance > 0.5 => ([color([190, 40, 34]), color([226, 224, 218])][seed as usize % 2], grey(0.3)),
            Look::Barrier => (color([172, 168, 160]), grey(0.2)),
            Look::Wood => (color([140, 104, 68]), color([100, 72, 48])),
            Look::Soil => (color([122, 98, 74]), color([92, 74, 56])),
            Look::Steel => ([grey(0.22), color([70, 78, 76]), grey(0.36)][seed as usize % 3], grey(0.05)),
            Look::Mesh => (color([110, 118, 112]), grey(0.2)),
            Look::Tyre => (grey(0.022), grey(0.45)),
            Look::Spokes => (grey(0.03), grey(0.4)),
            Look::Plate => (grey(0.72), grey(0.03)),
            Look::Sign => (pick(&[[30, 70, 160], [224, 224, 220], [236, 190, 40], [196, 30, 34]], 12), grey(0.8)),
            Look::Dark | Look::Signal | Look::TailLamp | Look::Glass => (grey(0.028), grey(0.03)),
            Look::Collar => (grey(0.82), grey(0.6)),
            Look::Plain => (grey(0.06 + 0.6 * reflectance), grey(0.3)),
        };
        Self { main, second, seed }
    }

    pub fn finish(&self, part: &Part, at: &Place) -> Finish {
        let (p, n, half) = (&at.point, &at.normal, &part.half);
        let dirt = 1.0 + 0.10 * clouds(3.0 * (p.x + p.y) + 11.0, 3.0 * p.z);
        match part.surface.look {
            Look::Paint | Look::Helmet => Finish::polished(self.main, 0.05),
            Look::CarBody => self.car_body(p, n, half, at.pixel),
            Look::Cab => self.front(p, n, half).unwrap_or_else(|| Finish::polished(self.main, 0.05)),
            Look::Coach => {
                let stripe = p.z > 0.15 * half.z && p.z < 0.8 * half.z;
                self.front(p, n, half).unwrap_or_else(|| Finish::polished(if stripe { self.second } else { self.main }, 0.05))
            }
            Look::Cargo => self.cargo(p, n, half, at.pixel),
            Look::Glass => self.glass(part, at),
            Look::Tyre => self.wheel(p, n, half),
            Look::Spokes => Finish::matt(if p.x.hypot(p.y) > 0.88 * half.x { self.main } else { self.second }),
            Look::Plate => {
                let letters = p.z.abs() < 0.55 * half.z
                    && p.y.abs() < 0.85 * half.y
                    && !hash(split(p.y * 40.0).0, self.seed as i32, 1).is_multiple_of(3);
                Finish::matt(if letters && at.pixel < 0.03 { self.second } else { self.main })
            }
            Look::TailLamp => Finish { glow: Vec3::new(0.12, 0.004, 0.004), ..Finish::polished(Vec3::new(0.42, 0.02, 0.02), 0.06) },
            Look::Head => {
                let hair = p.z > 0.35 * half.z || (p.x < -0.15 * half.x && p.z > -0.35 * half.z);
                Finish::matt(if hair { self.second } else { self.main })
            }
            Look::Cloth => Finish::matt(self.main * (1.0 + 0.12 * clouds(14.0 * p.x + 9.0 * p.z, 14.0 * p.y + 30.0 * p.z))),
            Look::Board => {
                let red = split((p.x + p.y + p.z) * 4.0).0 & 1 == 0;
                Finish::matt(if red { Vec3::new(0.62, 0.03, 0.02) } else { Vec3::repeat(0.8) })
            }
            Look::Facade => self.facade(part, at),
            Look::Roof if n.z > 0.1 => {
                let (row, f) = split((p.z + 0.7 * p.y.abs()) * 4.0);
                let tile = 0.12 * speckle(p.x * 3.5 + 0.5 * (row & 1) as f32, row as f32);
                let edge = if f < 0.18 { -0.25 * fade(at.pixel, 0.06) } else { 0.0 };
                Finish::matt(self.main * (1.0 + tile * fade(at.pixel, 0.2) + edge) * dirt)
            }
            Look::Masonry => {
                let along = if n.y.abs() > n.x.abs() { p.x } else { p.y };
                Finish::matt(bricks(self.main, self.second, along, p.z, [0.42, 0.2], at.pixel) * dirt)
            }
            Look::Bark => {
                let groove = clouds(22.0 * p.y.atan2(p.x), 6.0 * p.z);
                Finish::matt(mix(self.main, self.second, (0.5 + 0.9 * groove).clamp(0.0, 1.0)))
            }
            Look::Leaves => self.leaves(p, half),
            Look::Mesh => {
                let (u, v) = (if n.y.abs() > n.x.abs() { p.x } else { p.y }, p.z);
                let wire = |c: f32| (split(c * 12.0).1 - 0.5).abs() > 0.5 - 0.06;
                let near = if wire(u) || wire(v) { 0.95 } else { 0.0 };
                let share = fade(at.pixel, 0.03);
                Finish { opacity: share * near + (1.0 - share) * 0.3, ..Finish::matt(self.main) }
            }
            Look::Wood => {
                let grain = clouds(2.0 * p.x + 5.0, 40.0 * (p.y + p.z));
                Finish::matt(mix(self.main, self.second, (0.4 + 0.8 * grain).clamp(0.0, 1.0)))
            }
            Look::Soil => Finish::matt(mix(self.main, self.second, (0.5 + clouds(6.0 * p.x, 6.0 * p.y + 4.0 * p.z)).clamp(0.0, 1.0))),
            Look::Sign => self.sign(p, n, half),
            Look::Signal => self.signal(p, n, half),
            Look::HiVis => {
                Finish { glow: Vec3::repeat(0.03), ..Finish::matt(if p.z.abs() < 0.4 * half.z { self.main } else { self.second }) }
            }
            Look::Steel => Finish::polished(self.main * dirt, 0.07),
            Look::Dark => Finish::polished(self.main, 0.03),
            Look::Machine => Finish::polished(self.main * (dirt - 0.06), 0.03),
            Look::Orange | Look::Collar | Look::Skin | Look::Roof => Finish::matt(self.main * (0.97 * dirt)),
            Look::Plain | Look::Coloured | Look::Barrier => {
                let low = 1.0 - 0.2 * (1.0 - ((p.z + half.z) * 3.0).clamp(0.0, 1.0));
                Finish::matt(self.main * (dirt * low * (1.0 + 0.12 * clouds(9.0 * p.x + 5.0 * p.z, 9.0 * p.y - 4.0 * p.z))))
            }
        }
    }

    /// Lamps, grille and bumper of a vehicle's front.
    fn front(&self, p: &Vec3, n: &Vec3, half: &Vec3) -> Option<Finish> {
        if n.x < 0.7 {
            return None;
        }
        let (y, z) = (p.y.abs() / half.y, p.z / half.z);
        if y > 0.62 && (-0.35..0.1).contains(&z) {
            return Some(Finish::polished(Vec3::repeat(0.75), 0.25));
        }
        let dark = (y < 0.55 && (-0.3..0.45).contains(&z) && split(p.z * 18.0).1 > 0.35) || z < -0.7;
        dark.then(|| Finish::polished(self.second, 0.04))
    }

    fn car_body(&self, p: &Vec3, n: &Vec3, half: &Vec3, pixel: f32) -> Finish {
        let z = p.z / half.z;
        let paint = Finish::polished(self.main, 0.055);
        let trim = Finish::matt(self.second);
        if n.x > 0.7 {
            let y = p.y.abs() / half.y;
            if y > 0.6 && z > 0.2 && z < 0.9 {
                return Finish::polished(Vec3::repeat(0.7), 0.25);
            }
            let grille = y < 0.5 && z > -0.1 && z < 0.6;
            return if grille || z < -0.72 { trim } else { paint };
        }
        if n.x < -0.7 {
            return if z < -0.6 { trim } else { paint };
        }
        if n.y.abs() > 0.7 {
            // The wheels' axles are 0.31 and 0.29 of the length from the middle and about 0.33 m above the ground.
            let axle = -half.z - 0.2 + 0.33;
            let arch = [0.62, -0.58].iter().any(|x| (p.x - x * half.x).hypot(p.z - axle) < 0.40);
            if arch || z < -0.8 {
                return trim;
            }
            let gap = [0.36, -0.06, -0.44].iter().any(|x| (p.x - x * half.x).abs() < 0.008f32.max(0.4 * pixel));
            let handle = z > 0.45 && z < 0.62 && [-0.0, -0.38].iter().any(|x| (p.x - x * half.x - 0.05 * half.x).abs() < 0.07);
            if gap && pixel < 0.04 {
                return Finish::matt(self.main * 0.3);
            }
            if handle {
                return Finish::polished(self.main * 0.5 + Vec3::repeat(0.05), 0.1);
            }
        }
        paint
    }

    fn cargo(&self, p: &Vec3, n: &Vec3, half: &Vec3, pixel: f32) -> Finish {
        let upright = n.z.abs() < 0.5;
        let (u, wide) = if n.y.abs() > n.x.abs() { (p.x, half.x) } else { (p.y, half.y) };
        let rail = (half.z - p.z.abs()) < 0.12 || (wide - u.abs()) < 0.07;
        if upright && rail {
            return Finish::polished(Vec3::repeat(0.4), 0.05);
        }
        let doors = n.x < -0.7 && (u.abs() < 0.02 || (u.abs() - 0.55 * wide).abs() < 0.025);
        if doors {
            return Finish::matt(Vec3::repeat(0.12));
        }
        let (_, f) = split(u * 3.4);
        let rib = if upright { (f * TAU).sin() * 0.07 * fade(pixel, 0.12) } else { 0.0 };
        // A company's block and lines of writing.
        let signed = !self.seed.is_multiple_of(3) && n.y.abs() > 0.7 && wide > 1.5;
        let block = signed && p.z > -0.1 * half.z && p.z < 0.6 * half.z && (u + 0.2 * wide).abs() < 0.35 * wide;
        let line = signed
            && p.z > -0.55 * half.z
            && p.z < -0.3 * half.z
            && u.abs() < 0.7 * wide
            && !hash(split(u * 3.0).0, self.seed as i32, 2).is_multiple_of(4);
        let base = if block || line { self.second } else { self.main };
        Finish::polished(base * (1.0 + rib + 0.08 * clouds(2.0 * u, p.z)), 0.03)
    }

    /// Panes, with the dark frames and pillars that hold them.
    fn glass(&self, part: &Part, at: &Place) -> Finish {
        let (p, n, half) = (&at.point, &at.normal, &part.half);
        if let Solid::Prismoid { top_x, top_y } = part.solid {
            let up = 0.5 + 0.5 * p.z / half.z;
            let [back, front] = [-half.x + up * (top_x[0] + half.x), half.x + up * (top_x[1] - half.x)];
            let across = half.y + up * (top_y - half.y);
            let side = n.y.abs() > n.x.abs();
            let from_edge = if side { (p.x - back).min(front - p.x) } else { across - p.y.abs() };
            let from_sill = half.z - p.z.abs();
            if from_edge < if side { 0.07 } else { 0.05 } || from_sill < 0.025 {
                return Finish::polished(Vec3::repeat(0.02), 0.04);
            }
        }
        // What lets more beams through lets more light through.
        let opacity = (0.84 - 3.8 * (part.surface.passes - Surface::GLASS.passes)).clamp(0.2, 0.84);
        Finish { opacity, ..Finish::polished(Vec3::new(0.010, 0.013, 0.013), 0.09) }
    }

    fn wheel(&self, p: &Vec3, n: &Vec3, half: &Vec3) -> Finish {
        let radius = p.x.hypot(p.y) / half.x;
        if n.z.abs() < 0.6 || radius > 0.66 {
            return Finish::matt(self.main * if radius > 0.93 { 1.3 } else { 1.0 });
        }
        let spokes = 5.0 + (self.seed % 4) as f32;
        let spoke = (p.y.atan2(p.x) * spokes).cos() > -0.15 || !(0.16..0.57).contains(&radius);
        Finish::polished(if spoke { self.second } else { Vec3::repeat(0.02) }, 0.08)
    }

    fn leaves(&self, p: &Vec3, half: &Vec3) -> Finish {
        let clump = lumps(1.9 * p.x, 1.9 * p.y, 1.9 * p.z);
        let leaf = unit(hash(split(14.0 * p.x).0, split(14.0 * p.y).0, split(14.0 * p.z).0));
        // Deep in the crown and below it is darker.
        let depth = (p.component_div(half)).norm().min(1.0);
        let low = 0.5 + 0.5 * (p.z / half.z).clamp(-1.0, 1.0);
        let tuft = 0.5 + 0.9 * lumps(5.3 * p.x, 5.3 * p.y, 5.3 * p.z);
        let shade = (0.25 + 0.75 * depth * depth) * (0.5 + 0.5 * low) * (0.55 + 0.8 * leaf) * tuft * (0.75 + 0.5 * clump);
        Finish { soft: true, ..Finish::matt(mix(self.main, self.second, clump) * shade) }
    }

    fn sign(&self, p: &Vec3, n: &Vec3, half: &Vec3) -> Finish {
        if n.x < 0.5 {
            return Finish::matt(Vec3::repeat(0.3));
        }
        let (y, z) = (p.y / half.y, p.z / half.z);
        let rim = y.abs().max(z.abs()) > 0.86;
        let figure = match self.seed % 4 {
            0 => y.hypot(z) < 0.55,
            1 => y.abs() < 0.2 && z.abs() < 0.65,
            2 => z.abs() < 0.16 && y.abs() < 0.6,
            _ => (y.abs() + z - 0.1).abs() < 0.2 && z.abs() < 0.6,
        };
        Finish::matt(if rim || figure {
            self.second - 0.6 * self.main.inf(&Vec3::repeat(0.9)) * f32::from(self.main.x > 0.6)
        } else {
            self.main
        })
    }

    fn signal(&self, p: &Vec3, n: &Vec3, half: &Vec3) -> Finish {
        let lamps = [Vec3::new(1.0, 0.04, 0.02), Vec3::new(1.0, 0.6, 0.05), Vec3::new(0.05, 0.9, 0.5)];
        let lit = [0, 0, 2, 2, 1][self.seed as usize % 5];
        for (i, lamp) in lamps.into_iter().enumerate() {
            let z = p.z - half.z * (0.62 - 0.62 * i as f32);
            if n.x.abs() > 0.7 && p.y.hypot(z) < 0.1 {
                let glow = if i == lit { lamp * 1.6 } else { Vec3::zeros() };
                return Finish { glow, ..Finish::polished(lamp * 0.12, 0.05) };
            }
        }
        Finish::matt(self.main)
    }

    /// Walls of brick or plaster with rows of windows. The front's panes lie between pillars and the bands of the floors, which
    /// are parts of their own.
    fn facade(&self, part: &Part, at: &Place) -> Finish {
        let (p, n, half) = (&at.point, &at.normal, &part.half);
        if n.z.abs() > 0.7 {
            let tone = if n.z > 0.0 { 0.2 } else { 0.3 };
            return Finish::matt(Vec3::repeat(tone) * (1.0 + 0.3 * clouds(2.0 * p.x, 2.0 * p.y)));
        }
        let front_or_back = n.y.abs() > n.x.abs();
        let (u, wide) = if front_or_back { (p.x, half.x) } else { (p.y, half.y) };
        // Foundations reach 0.6 m below the ground.
        let v = p.z + half.z - 0.6;
        let main_block = half.y > 0.2 && half.z > 1.0 && half.x > 0.5;
        let (floor, f) = split(v / 3.2);
        if main_block && v > 0.0 {
            let shop = floor == 0 && self.seed & 64 != 0;
            if front_or_back && n.y < 0.0 {
                let (pane, m) = split((u + wide) / (1.15 + 0.5 * unit(self.seed)));
                let frame = (0.05f32).max(0.7 * at.pixel);
                if f > if shop { 0.93 } else { 0.86 } {
                    return Finish::matt(self.wall(u, v, at.pixel));
                }
                if m < frame || (f - 0.55).abs() < 0.35 * frame {
                    return Finish::matt(self.second);
                }
                return self.window(floor, pane, f, shop);
            }
            let pitch = 2.3 + 1.2 * unit(self.seed.rotate_left(9));
            let (pane, m) = split(u / pitch + 0.5);
            let (x, y) = ((m - 0.5).abs() * pitch, (f - 0.55).abs() * 3.2);
            if wide > 2.0 && u.abs() < wide - 0.9 && v < 2.0 * half.z - 1.4 && x < 0.62 && y < 0.75 {
                if x > 0.55 || y > 0.68 || x < 0.03 {
                    return Finish::matt(self.second);
                }
                return self.window(floor, pane + 50, f, false);
            }
        }
        Finish::matt(self.wall(u, v, at.pixel))
    }

    fn window(&self, floor: i32, pane: i32, f: f32, shop: bool) -> Finish {
        let room = hash(floor, pane, self.seed as i32);
        let inside = match room % 5 {
            0 => Vec3::new(0.34, 0.32, 0.28),
            1 if f > 0.55 => Vec3::new(0.4, 0.39, 0.36),
            _ => Vec3::new(0.02, 0.024, 0.028),
        };
        let glow = if shop { Vec3::new(0.16, 0.13, 0.09) * unit(room) } else { Vec3::zeros() };
        Finish { glow, ..Finish::polished(inside, 0.16) }
    }

    fn wall(&self, u: f32, v: f32, pixel: f32) -> Vec3 {
        let streaks = 1.0 + 0.13 * clouds(2.5 * u, 0.5 * v) + 0.06 * clouds(17.0 * u, 17.0 * v) * fade(pixel, 0.08);
        let foot = 1.0 - 0.25 * (1.0 - (v * 1.6).clamp(0.0, 1.0));
        let base = match self.seed % 4 {
            0 | 1 if self.main.x > 1.5 * self.main.z => bricks(self.main, Vec3::repeat(0.38), u, v, [0.26, 0.085], pixel),
            2 => bricks(self.main, self.main * 0.6, u, v, [1.2, 0.6], pixel),
            _ => self.main,
        };
        base * (streaks * foot)
    }
}

/// 1 where a pattern of this size is well resolved, 0 where a pixel holds it all.
fn fade(pixel: f32, size: f32) -> f32 {
    (1.5 - 2.0 * pixel / size).clamp(0.0, 1.0)
}

/// Courses of bricks or slabs with joints between them; `size` is along and up.
pub(super) fn bricks(brick: Vec3, joint: Vec3, u: f32, v: f32, size: [f32; 2], pixel: f32) -> Vec3 {
    let share = fade(pixel, size[1]);
    let (row, f) = split(v / size[1]);
    let (column, g) = split(u / size[0] + 0.5 * (row & 1) as f32);
    let tone = 1.0 + 0.14 * (unit(hash(column, row, 3)) - 0.5) * fade(pixel, size[0]);
    let gap = 0.011f32.max(0.5 * pixel);
    let in_joint = f * size[1] < gap || g * size[0] < gap;
    // A joint narrower than a pixel takes its share of it.
    let weight = if in_joint { (0.011 / gap) * share } else { 0.0 };
    mix(brick * tone, joint, 0.8 * weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::solid::Surface;

    #[test]
    fn albedo_is_between_black_and_white_whatever_it_is_made_of() {
        let looks = [
            Surface::glossy(0.5),
            Surface::glossy(0.1).looking(Look::CarBody),
            Surface::matt(0.5).looking(Look::Facade),
            Surface::matt(0.5).looking(Look::Cargo),
            Surface::RETRO.looking(Look::Sign),
            Surface::leaves(0.4, 2.0),
            Surface::RUBBER,
            Surface::matt(0.6).looking(Look::Masonry),
            Surface::DARK.looking(Look::Signal),
        ];
        for (k, surface) in looks.into_iter().enumerate() {
            let part = Part::cuboid([0.0; 3], [4.0, 6.0, 8.0], surface);
            for i in 0..3000 {
                let at = |salt: i32| 2.0 * unit(hash(i, salt, k as i32)) - 1.0;
                let normal = [Vec3::x(), -Vec3::x(), Vec3::y(), -Vec3::y(), Vec3::z()][i as usize % 5];
                let point = Vec3::new(at(1), at(2), at(3)).component_mul(&part.half);
                let place = Place { point, normal, pixel: 0.2 * unit(hash(i, 4, 0)) };
                let finish = Coat::new(&part, i as u64 % 40).finish(&part, &place);
                assert!(finish.albedo.iter().all(|a| (0.0..=1.0).contains(a)), "{k}: {finish:?}");
            }
        }
    }

    #[test]
    fn objects_differ_and_keep_their_colour() {
        let part = Part::cuboid([0.0; 3], [1.0; 3], Surface::glossy(0.2));
        let colors: Vec<Vec3> = (0..40).map(|id| Coat::new(&part, id).main).collect();
        assert!(colors.iter().any(|c| *c != colors[0]) && Coat::new(&part, 7).main == colors[7]);
    }
}
