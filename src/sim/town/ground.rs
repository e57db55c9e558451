//! The ground: gentle hills, a kerb's height between road and pavement, and what it is paved with.

use super::path::Vec2;
use crate::random::Rng;
use crate::sim::solid::Vec3;

/// What the ground is made of at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Paving {
    /// The inside of a block, before anything is built there.
    Open,
    Road,
    Marking,
    Pavement,
    Grass,
    /// A yard or car park, level with the pavement.
    Yard,
    Dirt,
    /// Under a building.
    Built,
}

impl Paving {
    /// Above the carriageway, metres.
    pub fn height(self) -> f32 {
        match self {
            Self::Road | Self::Marking => 0.0,
            _ => KERB,
        }
    }

    /// Diffuse reflectance at 905 nm, and the depth of its texture in metres (one standard deviation).
    pub fn optics(self) -> (f32, f32) {
        match self {
            Self::Road => (0.17, 0.006),
            Self::Marking => (0.55, 0.006),
            Self::Pavement => (0.36, 0.006),
            Self::Yard => (0.2, 0.008),
            Self::Grass | Self::Open => (0.42, 0.04),
            Self::Dirt => (0.27, 0.05),
            Self::Built => (0.25, 0.005),
        }
    }
}

/// Height of a kerb, metres.
pub(crate) const KERB: f32 = 0.14;
/// Edge of a paving cell and of a cell of the hills, metres.
const CELL: f32 = 0.2;
const HILL_CELL: f32 = 2.0;
/// Step of the search for kerbs along a ray, metres over the ground.
const KERB_STEP: f32 = 0.15;

pub(crate) struct Ground {
    low: Vec2,
    columns: usize,
    rows: usize,
    paving: Vec<Paving>,
    hill_columns: usize,
    hills: Vec<f32>,
}

/// Where a ray comes down to the level of the pavement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LevelHit {
    pub distance: f32,
    /// Change of the height over the ground along the ray, negative.
    pub rate: f32,
    pub slope: Vec2,
    pub foot: Vec2,
}

/// Where a ray meets the ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GroundHit {
    pub distance: f32,
    pub normal: Vec3,
    pub paving: Paving,
}

impl Ground {
    /// Open land from `low` to `high`, with hills whose slope is a few percent at most.
    pub fn new(low: Vec2, high: Vec2, rng: &mut Rng) -> Self {
        let size = high - low;
        let (columns, rows) = ((size.x / CELL) as usize + 1, (size.y / CELL) as usize + 1);
        let hill_columns = (size.x / HILL_CELL) as usize + 2;
        let hill_rows = (size.y / HILL_CELL) as usize + 2;
        let waves: Vec<(Vec2, f32, f32)> = (0..5)
            .map(|_| {
                let wavelength = rng.range(50.0, 260.0);
                let angle = rng.range(0.0, std::f32::consts::TAU);
                let wave = std::f32::consts::TAU / wavelength * Vec2::new(angle.cos(), angle.sin());
                (wave, rng.range(0.0, std::f32::consts::TAU), rng.range(0.2, 1.0) * 0.0022 * wavelength)
            })
            .collect();
        let hills = (0..hill_rows * hill_columns)
            .map(|i| {
                let p = low + HILL_CELL * Vec2::new((i % hill_columns) as f32, (i / hill_columns) as f32);
                waves.iter().map(|(wave, phase, amplitude)| amplitude * (wave.dot(&p) + phase).sin()).sum()
            })
            .collect();
        Self { low, columns, rows, paving: vec![Paving::Open; columns * rows], hill_columns, hills }
    }

    fn cell(&self, p: Vec2) -> Option<usize> {
        let q = (p - self.low) / CELL;
        (q.x >= 0.0 && q.y >= 0.0 && q.x < self.columns as f32 && q.y < self.rows as f32)
            .then(|| q.y as u32 as usize * self.columns + q.x as u32 as usize)
    }

    /// Low corner, edge, columns and rows of the paving cells, and the cells row by row.
    pub fn cells(&self) -> (Vec2, f32, [usize; 2], &[Paving]) {
        (self.low, CELL, [self.columns, self.rows], &self.paving)
    }

    pub fn paving(&self, p: Vec2) -> Paving {
        self.cell(p).map_or(Paving::Open, |i| self.paving[i])
    }

    /// The hills alone, and their slope.
    #[inline]
    fn hill(&self, p: Vec2) -> (f32, Vec2) {
        let q = (p - self.low) / HILL_CELL;
        let hill_rows = self.hills.len() / self.hill_columns;
        let column = (q.x.max(0.0) as u32 as usize).min(self.hill_columns - 2);
        let row = (q.y.max(0.0) as u32 as usize).min(hill_rows - 2);
        // Beyond the map the border goes on level.
        let (u, v) = ((q.x - column as f32).clamp(0.0, 1.0), (q.y - row as f32).clamp(0.0, 1.0));
        let at = |c: usize, r: usize| self.hills[(row + r) * self.hill_columns + column + c];
        let (a, b, c, d) = (at(0, 0), at(1, 0), at(0, 1), at(1, 1));
        let height = (a * (1.0 - u) + b * u) * (1.0 - v) + (c * (1.0 - u) + d * u) * v;
        let slope = Vec2::new((b - a) * (1.0 - v) + (d - c) * v, (c - a) * (1.0 - u) + (d - b) * u) / HILL_CELL;
        (height, slope)
    }

    /// Height of the surface, kerbs included.
    pub fn height(&self, p: Vec2) -> f32 {
        self.hill(p).0 + self.paving(p).height()
    }

    /// Slope of the hills along x and y.
    pub fn slope(&self, p: Vec2) -> Vec2 {
        self.hill(p).1
    }

    /// Paves every cell whose centre is within `half_width` of the segment.
    pub fn pave_strip(&mut self, from: Vec2, to: Vec2, half_width: f32, paving: Paving, over: impl Fn(Paving) -> bool) {
        let along = to - from;
        let square = along.norm_squared().max(1e-9);
        self.pave_where(from.inf(&to).add_scalar(-half_width), from.sup(&to).add_scalar(half_width), paving, |p, old| {
            let t = ((p - from).dot(&along) / square).clamp(0.0, 1.0);
            (p - from - t * along).norm_squared() <= half_width * half_width && over(old)
        });
    }

    /// Paves an oriented rectangle.
    pub fn pave_rectangle(&mut self, rectangle: &Rectangle, paving: Paving) {
        let reach = rectangle.half.norm();
        let [low, high] = [rectangle.center.add_scalar(-reach), rectangle.center.add_scalar(reach)];
        self.pave_where(low, high, paving, |p, _| rectangle.contains(p));
    }

    fn pave_where(&mut self, low: Vec2, high: Vec2, paving: Paving, inside: impl Fn(Vec2, Paving) -> bool) {
        let bound = |v: f32, count: usize| (v / CELL).clamp(0.0, count as f32 - 1.0) as usize;
        let [low, high] = [low - self.low, high - self.low];
        for row in bound(low.y, self.rows)..=bound(high.y, self.rows) {
            for column in bound(low.x, self.columns)..=bound(high.x, self.columns) {
                let p = self.low + CELL * Vec2::new(column as f32 + 0.5, row as f32 + 0.5);
                let cell = &mut self.paving[row * self.columns + column];
                if inside(p, *cell) {
                    *cell = paving;
                }
            }
        }
    }

    /// Whether all of the rectangle is paved with something that `accept`s.
    pub fn all(&self, rectangle: &Rectangle, accept: impl Fn(Paving) -> bool) -> bool {
        let steps = |half: f32| ((2.0 * half / 0.8).ceil() as i32).max(1);
        let (nx, ny) = (steps(rectangle.half.x), steps(rectangle.half.y));
        (0..=nx).all(|i| {
            (0..=ny).all(|j| accept(self.paving(rectangle.at(2.0 * i as f32 / nx as f32 - 1.0, 2.0 * j as f32 / ny as f32 - 1.0))))
        })
    }

    /// Where a ray comes down to the level of the pavement, above road or not, if that is not much beyond `limit`.
    /// `start` is a first guess of the distance.
    pub fn level(&self, origin: &Vec3, direction: &Vec3, start: f32, limit: f32) -> Option<LevelHit> {
        let clearance = |t: f32| {
            let p = origin + t * direction;
            let (height, slope) = self.hill(p.xy());
            (p.z - height, direction.z - slope.dot(&direction.xy()), slope, p.xy())
        };
        // Newton's steps to the level of the pavement; the hills are smooth, so a few are enough.
        let mut t = start;
        for _ in 0..6 {
            let (above, rate, ..) = clearance(t);
            if rate > -1e-3 {
                return None;
            }
            let next = t - (above - KERB) / rate;
            if next > limit + 5.0 {
                return None;
            }
            let done = (next - t).abs() < 2e-3;
            t = next.max(0.0);
            if done {
                break;
            }
        }
        let (_, rate, slope, foot) = clearance(t);
        (rate <= -1e-3).then_some(LevelHit { distance: t, rate, slope, foot })
    }

    /// The first meeting of the ray with the ground nearer than `limit`. `direction` has unit length.
    pub fn hit(&self, origin: &Vec3, direction: &Vec3, limit: f32) -> Option<GroundHit> {
        let LevelHit { distance: t, rate, slope, foot } = self.level(origin, direction, 0.0, limit)?;
        let top = self.paving(foot);
        let flat = Vec3::new(-slope.x, -slope.y, 1.0).normalize();
        let hit = if top.height() > 0.0 {
            GroundHit { distance: t, normal: flat, paving: top }
        } else {
            // Below the level of the pavement: either the road, or before it a kerb.
            let bottom = t - KERB / rate;
            let stride = KERB_STEP / direction.xy().norm().max(0.05);
            let mut s = t + stride;
            loop {
                if s >= bottom {
                    let paving = self.paving((origin + bottom * direction).xy());
                    break GroundHit { distance: bottom, normal: flat, paving };
                }
                let paving = self.paving((origin + s * direction).xy());
                if paving.height() > 0.0 {
                    let against = -direction.xy().normalize();
                    break GroundHit { distance: s, normal: Vec3::new(against.x, against.y, 0.3).normalize(), paving: Paving::Pavement };
                }
                s += stride;
            }
        };
        (hit.distance < limit).then_some(hit)
    }
}

/// A rectangle on the ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rectangle {
    pub center: Vec2,
    /// Unit vector along its x.
    pub axis: Vec2,
    pub half: Vec2,
}

impl Rectangle {
    /// The point at these shares of the half edges.
    pub fn at(&self, x: f32, y: f32) -> Vec2 {
        self.center + x * self.half.x * self.axis + y * self.half.y * super::path::left_of(self.axis)
    }

    pub fn contains(&self, p: Vec2) -> bool {
        let d = p - self.center;
        d.dot(&self.axis).abs() <= self.half.x && d.dot(&super::path::left_of(self.axis)).abs() <= self.half.y
    }

    pub fn grown(&self, by: f32) -> Self {
        Self { half: self.half.add_scalar(by), ..*self }
    }

    /// Whether two rectangles overlap: no axis of either separates them.
    pub fn overlaps(&self, other: &Rectangle) -> bool {
        let between = other.center - self.center;
        let reach =
            |r: &Rectangle, axis: &Vec2| r.half.x * r.axis.dot(axis).abs() + r.half.y * super::path::left_of(r.axis).dot(axis).abs();
        [self.axis, super::path::left_of(self.axis), other.axis, super::path::left_of(other.axis)]
            .iter()
            .all(|axis| between.dot(axis).abs() < reach(self, axis) + reach(other, axis))
    }

    pub fn distance(&self, p: Vec2) -> f32 {
        let d = p - self.center;
        let outside = Vec2::new(d.dot(&self.axis).abs() - self.half.x, d.dot(&super::path::left_of(self.axis)).abs() - self.half.y);
        outside.sup(&Vec2::zeros()).norm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> Ground {
        let mut ground = Ground::new(Vec2::new(-20.0, -20.0), Vec2::new(20.0, 20.0), &mut Rng::new(1, "ground"));
        ground.hills.fill(0.0);
        ground
    }

    #[test]
    fn level_ground_is_met_at_height_over_sine() {
        let mut ground = level();
        ground.pave_rectangle(&Rectangle { center: Vec2::zeros(), axis: Vec2::x(), half: Vec2::new(30.0, 30.0) }, Paving::Road);
        let direction = Vec3::new(0.9, 0.1, -0.2).normalize();
        let hit = ground.hit(&Vec3::new(0.0, 0.0, 1.84), &direction, 100.0).unwrap();
        assert!((hit.distance - 1.84 / -direction.z).abs() < 1e-3 && hit.paving == Paving::Road);
        assert!(ground.hit(&Vec3::new(0.0, 0.0, 1.84), &Vec3::x(), 100.0).is_none());
    }

    #[test]
    fn a_kerb_stands_up_from_the_road() {
        let mut ground = level();
        ground.pave_rectangle(&Rectangle { center: Vec2::zeros(), axis: Vec2::x(), half: Vec2::new(5.0, 30.0) }, Paving::Road);
        // Aimed 5 cm above the road at x = 5: hits the kerb's face there.
        let direction = Vec3::new(5.0, 0.0, 0.05 - 1.84).normalize();
        let hit = ground.hit(&Vec3::new(0.0, 0.0, 1.84), &direction, 100.0).unwrap();
        assert!((hit.distance * direction.x - 5.0).abs() < 0.2 && hit.normal.x < -0.8, "{hit:?}");
        let beyond = ground.hit(&Vec3::new(0.0, 0.0, 1.84), &Vec3::new(8.0, 0.0, KERB - 1.84).normalize(), 100.0).unwrap();
        assert!((beyond.normal.z - 1.0).abs() < 1e-3 && beyond.paving == Paving::Open);
    }

    #[test]
    fn overlap_of_rectangles() {
        let a = Rectangle { center: Vec2::zeros(), axis: Vec2::x(), half: Vec2::new(2.0, 1.0) };
        let diagonal = Vec2::new(1.0, 1.0).normalize();
        let b = |x| Rectangle { center: Vec2::new(x, 0.0), axis: diagonal, half: Vec2::new(1.0, 1.0) };
        assert!(a.overlaps(&b(3.4)) && !a.overlaps(&b(3.42)));
        assert!((a.distance(Vec2::new(5.0, 5.0)) - 5.0).abs() < 1e-5 && a.distance(Vec2::new(1.0, 0.5)) == 0.0);
    }
}
