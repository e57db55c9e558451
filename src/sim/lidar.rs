//! A spinning lidar: its beams, what they meet, and what of that comes back.
//!
//! All rays of a revolution start at (nearly) one point, so instead of searching a tree for each ray, each part of the scene
//! is put into the columns and rings that its bounds cover, nearest first, and a column is a small depth buffer.

use super::solid::{Mat3, Part, Surface, Vec3};
use super::town::{Footprint, Ground, Vec2};
use crate::random::{mix, normal, unit};
use rayon::prelude::*;
use std::f32::consts::{PI, TAU};

/// The sensors that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LidarModel {
    /// 32 beams from -30.67 to +10.67 degrees, 20 Hz, about 1085 columns: Velodyne HDL-32E as nuScenes carries it.
    Beams32,
    /// 64 beams from -24.33 to +2 degrees, denser above, 10 Hz, 2048 columns: like the Velodyne HDL-64E of KITTI.
    Beams64,
}

impl LidarModel {
    /// Revolutions a second.
    pub fn rate_hz(self) -> f64 {
        match self {
            Self::Beams32 => 20.0,
            Self::Beams64 => 10.0,
        }
    }

    /// Firings in a revolution.
    pub fn columns(self) -> usize {
        match self {
            Self::Beams32 => 1085,
            Self::Beams64 => 2048,
        }
    }

    /// Elevation of each ring, radians, lowest first; ring numbers count from the lowest as nuScenes' do.
    pub fn elevations(self) -> Vec<f32> {
        let degrees: Vec<f32> = match self {
            Self::Beams32 => (0..32).map(|i| -30.67 + i as f32 * (41.34 / 31.0)).collect(),
            Self::Beams64 => (0..32).map(|i| -24.33 + 0.5 * i as f32).chain((0..32).map(|i| -8.33 + i as f32 / 3.0)).collect(),
        };
        degrees.into_iter().map(f32::to_radians).collect()
    }
}

/// Beyond this no return is reported, metres (both sensors' data sheets say 100 to 120).
const MAX_RANGE: f32 = 105.0;
/// Nearer than this nothing is reported, metres.
const MIN_RANGE: f32 = 0.5;
/// One standard deviation of the range, metres (data sheet: 2 cm).
const RANGE_NOISE: f32 = 0.018;
/// A return as strong as that of a surface of this reflectance, head on at 100 m, is seen half of the time.
const SENSITIVITY: f32 = 0.2;
/// Share of returns lost for no reason.
const LOSS: f32 = 0.006;

/// The sensor's pose in the town during one revolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SensorMotion {
    /// At the stamp, which is the end of the revolution.
    pub origin: Vec3,
    pub rotation: Mat3,
    /// Metres a second and radians a second about z, or zeros for a sweep without distortion.
    pub velocity: Vec3,
    pub yaw_rate: f32,
}

/// A part of the scene, and whose it is.
pub(crate) struct Target {
    pub part: Part,
    pub owner: u32,
}

/// The ground and everything unlabelled.
pub(crate) const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Return {
    /// In the sensor's frame at the moment of firing.
    pub point: [f32; 3],
    pub intensity: f32,
    pub ring: u32,
    /// Seconds before the stamp, negative or 0.
    pub time: f32,
    pub owner: u32,
}

/// What part of the revolution a target may be seen in.
#[derive(Clone, Copy)]
struct Window {
    target: u32,
    first_column: u32,
    columns: u32,
    rings: [u16; 2],
    /// Nothing of it is nearer, seen from above.
    near: f32,
}

/// What a ray has met so far.
#[derive(Clone, Copy)]
struct Hit {
    distance: f32,
    normal: Vec3,
    surface: Surface,
    /// Depth of the surface's texture, metres.
    texture: f32,
    owner: u32,
}

/// One revolution, clockwise from behind as seen from above, columns in the order of firing and rings from the lowest.
pub(crate) fn sweep(model: LidarModel, motion: &SensorMotion, targets: &[Target], ground: &Ground, seed: u64) -> Vec<Return> {
    let scan = Scan::new(model, motion, seed);
    let windows = scan.windows(targets);
    let (starts, lists) = scan.by_column(&windows);
    let columns = scan.columns;
    (0..columns)
        .into_par_iter()
        .with_min_len(16)
        .flat_map_iter(|column| {
            let seen = lists[starts[column]..starts[column + 1]].iter().map(|&w| &windows[w as usize]);
            scan.column(column, seen, targets, ground)
        })
        .collect()
}

struct Scan<'a> {
    motion: &'a SensorMotion,
    columns: usize,
    period: f32,
    /// Azimuth of the first column, radians; the start drifts from revolution to revolution.
    start: f32,
    elevations: Vec<f32>,
    seed: u64,
}

impl<'a> Scan<'a> {
    fn new(model: LidarModel, motion: &'a SensorMotion, seed: u64) -> Self {
        let columns = model.columns();
        let start = PI - TAU / columns as f32 * unit(mix(seed ^ 0x51)) * 3.0;
        Self { motion, columns, period: 1.0 / model.rate_hz() as f32, start, elevations: model.elevations(), seed }
    }

    /// Seconds before the stamp at which a column fires.
    fn time(&self, column: usize) -> f32 {
        self.period * ((column + 1) as f32 / self.columns as f32 - 1.0)
    }

    /// How far the sensor moves during the revolution, metres and radians.
    fn travel(&self) -> (f32, f32) {
        (self.period * self.motion.velocity.norm(), self.period * self.motion.yaw_rate.abs())
    }

    fn windows(&self, targets: &[Target]) -> Vec<Window> {
        let mut windows: Vec<Window> =
            targets.par_iter().enumerate().with_min_len(64).filter_map(|(i, t)| self.window(i as u32, &t.part)).collect();
        windows.sort_unstable_by(|a, b| a.near.total_cmp(&b.near).then(a.target.cmp(&b.target)));
        windows
    }

    /// Conservative bounds of a part in columns and rings; `None` if no beam can meet it.
    fn window(&self, target: u32, part: &Part) -> Option<Window> {
        let (travel, turn) = self.travel();
        let relative = part.center - self.motion.origin;
        let extent = part.extent();
        let upright = part.rotation[(2, 2)] > 0.9999;
        let (axis, half) = if upright { (part.rotation.column(0).xy(), part.half.xy()) } else { (Vec2::x(), extent.xy()) };
        let footprint = Footprint { center: relative.xy(), axis, half };
        let near = footprint.distance(Vec2::zeros()) - travel;
        if near > MAX_RANGE {
            return None;
        }
        // The sensor's tilt moves a direction by at most this much in elevation, and by a share of it in azimuth.
        let tilt = self.motion.rotation[(2, 2)].clamp(-1.0, 1.0).acos() + 0.004;
        let corners = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]].map(|[x, y]| footprint.at(x, y));
        let far = corners.iter().map(|c| c.norm()).fold(0.0, f32::max) + travel;
        let close = near.max(0.05);
        let (low, high) = (relative.z - extent.z, relative.z + extent.z);
        let lowest = low.atan2(if low < 0.0 { close } else { far }) - tilt;
        let highest = high.atan2(if high > 0.0 { close } else { far }) + tilt;
        let first = self.elevations.partition_point(|&e| e < lowest);
        let end = self.elevations.partition_point(|&e| e <= highest);
        if first >= end {
            return None;
        }
        let yaw = self.motion.rotation[(1, 0)].atan2(self.motion.rotation[(0, 0)]);
        let middle = relative.y.atan2(relative.x);
        let (mut left, mut right) = (0.0f32, 0.0f32);
        for corner in corners {
            let angle = wrap(corner.y.atan2(corner.x) - middle);
            (left, right) = (left.max(angle), right.min(angle));
        }
        let pad = tilt + turn + TAU / self.columns as f32 + travel / close;
        let step = TAU / self.columns as f32;
        let (first_column, columns) = if near < 0.3 || left - right > 3.0 || left - right + 2.0 * pad >= TAU {
            (0, self.columns as u32)
        } else {
            // Columns run clockwise: the leftmost comes first.
            let from = (self.start - (middle - yaw + left + pad)).rem_euclid(TAU) / step;
            let count = ((left - right + 2.0 * pad) / step).ceil() as u32 + 1;
            (from as u32 % self.columns as u32, count.min(self.columns as u32))
        };
        Some(Window { target, first_column, columns, rings: [first as u16, end as u16], near })
    }

    /// For each column the windows that cover it, in their order: `lists[starts[c]..starts[c + 1]]`.
    fn by_column(&self, windows: &[Window]) -> (Vec<usize>, Vec<u32>) {
        let covered =
            |&Window { first_column, columns, .. }: &Window| (0..columns).map(move |k| (first_column + k) as usize % self.columns);
        let mut starts = vec![0usize; self.columns + 1];
        windows.iter().for_each(|w| covered(w).for_each(|c| starts[c + 1] += 1));
        for c in 0..self.columns {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let mut lists = vec![0u32; starts[self.columns]];
        for (i, w) in windows.iter().enumerate() {
            for c in covered(w) {
                lists[next[c]] = i as u32;
                next[c] += 1;
            }
        }
        (starts, lists)
    }

    fn column<'w>(&self, column: usize, seen: impl Iterator<Item = &'w Window>, targets: &[Target], ground: &Ground) -> Vec<Return> {
        let time = self.time(column);
        let rotation = super::solid::turn_about_z(self.motion.yaw_rate * time) * self.motion.rotation;
        let origin = self.motion.origin + time * self.motion.velocity;
        let azimuth = self.start - TAU * column as f32 / self.columns as f32;
        let forward = Vec3::new(azimuth.cos(), azimuth.sin(), 0.0);
        let (ahead, up) = (rotation * forward, rotation * Vec3::z());
        let mut hits: Vec<Option<Hit>> = vec![None; self.elevations.len()];
        let angles: Vec<(f32, f32)> = self.elevations.iter().map(|e| e.sin_cos()).collect();
        let ray = |ring: usize| mix(self.seed ^ ((column * self.elevations.len() + ring) as u64) << 20);

        for window in seen {
            let Target { part, owner } = &targets[window.target as usize];
            let into = part.rotation.transpose();
            let (o, h, u) = (into * (origin - part.center), into * ahead, into * up);
            for ring in window.rings[0] as usize..window.rings[1] as usize {
                let (sin, cos) = angles[ring];
                let limit = hits[ring].map_or(MAX_RANGE, |hit| hit.distance);
                if window.near > limit * cos + 0.1 {
                    continue;
                }
                let direction = cos * h + sin * u;
                let Some(span) = part.solid.span(&part.half, &o, &direction) else { continue };
                if span.near >= limit || span.far < MIN_RANGE {
                    continue;
                }
                let bits = mix(ray(ring) ^ u64::from(window.target).wrapping_mul(0x9e37_79b9));
                if let Some((distance, normal)) = meet(&part.surface, span, &direction, bits).filter(|met| met.0 < limit) {
                    let normal = part.rotation * normal;
                    hits[ring] = Some(Hit { distance, normal, surface: part.surface, texture: 0.0, owner: *owner });
                }
            }
        }

        let mut returns = Vec::with_capacity(hits.len());
        for (ring, mut hit) in hits.into_iter().enumerate() {
            let (sin, cos) = angles[ring];
            let direction = cos * ahead + sin * up;
            let limit = hit.map_or(MAX_RANGE, |h| h.distance);
            if let Some(met) = ground.hit(&origin, &direction, limit) {
                let (reflectance, texture) = met.paving.optics();
                hit = Some(Hit { distance: met.distance, normal: met.normal, surface: Surface::matt(reflectance), texture, owner: NOBODY });
            }
            let Some((distance, intensity)) = hit.and_then(|h| receive(&h, &direction, ray(ring))) else { continue };
            let [x, y] = [forward.x, forward.y].map(|f| f * cos * distance);
            let owner = hit.map_or(NOBODY, |h| h.owner);
            returns.push(Return { point: [x, y, sin * distance], intensity, ring: ring as u32, time, owner });
        }
        returns
    }
}

/// Where in its span the beam is sent back, if it is, and by a surface that faces where (in the part's own axes).
fn meet(surface: &Surface, span: super::solid::Span, direction: &Vec3, bits: u64) -> Option<(f32, Vec3)> {
    if surface.density > 0.0 {
        // Leaves are met after an exponentially distributed length.
        let start = span.near.max(0.0);
        let distance = start - (1.0 - unit(bits)).ln() / surface.density;
        let tilt = Vec3::from_fn(|i, _| unit(mix(bits ^ (i as u64 + 1))) - 0.5);
        return (distance < span.far).then(|| (distance, (tilt - direction).normalize()));
    }
    // A beam that starts inside a solid body leaves it unhindered; windows let some through.
    (span.near > 0.0 && unit(bits) >= surface.passes).then_some((span.near, span.normal))
}

/// Range and intensity as the sensor reports them, or `None` if the return is too weak.
fn receive(hit: &Hit, direction: &Vec3, bits: u64) -> Option<(f32, f32)> {
    let facing = hit.normal.dot(direction).abs().min(1.0);
    let Surface { reflectance, gloss, retro, .. } = hit.surface;
    // Rough surfaces are more even than Lambert's law; clear coat sends oblique beams away.
    let shape = if gloss > 0.0 { 0.12 + 0.88 * facing.powf(1.0 + gloss) } else { 0.25 + 0.75 * facing };
    let speckle = 1.0 + 0.16 * normal(mix(bits ^ 1));
    let seen = reflectance * shape * speckle.max(0.2);
    let power = if retro { 30.0 } else { seen } * (100.0 / hit.distance.max(2.0)).powi(2);
    let ratio = (power / SENSITIVITY).powi(3);
    if unit(mix(bits ^ 2)) < LOSS + (1.0 - LOSS) / (1.0 + ratio) {
        return None;
    }
    let rough = hit.texture * normal(mix(bits ^ 3)) / facing.max(0.05);
    let distance = hit.distance + RANGE_NOISE * normal(mix(bits ^ 4)) + rough.clamp(-0.4, 0.4);
    if !(MIN_RANGE..MAX_RANGE).contains(&distance) {
        return None;
    }
    let intensity = if retro {
        // Reflectances above 100 are the sensor's scale for retroreflectors.
        100.0 + 155.0 * (0.3 + 0.7 * facing) * (0.6 + 0.4 * unit(mix(bits ^ 5)))
    } else {
        // Fitted to nuScenes sweeps: near returns read brighter and far ones darker than their reflectance in percent.
        125.0 * seen * (0.15 + 0.85 / (1.0 + (distance / 28.0).powi(2)))
    };
    Some((distance, intensity.round().clamp(0.0, 255.0)))
}

fn wrap(angle: f32) -> f32 {
    (angle + PI).rem_euclid(TAU) - PI
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    const HEIGHT: f32 = 1.84;

    fn level(velocity: Vec3, yaw: f32) -> SensorMotion {
        SensorMotion { origin: Vec3::new(0.0, 0.0, HEIGHT), rotation: crate::sim::solid::turn_about_z(yaw), velocity, yaw_rate: 0.0 }
    }

    fn far_ground() -> Ground {
        Ground::new(Vec2::new(-20.0, -20.0), Vec2::new(20.0, 20.0), &mut Rng::new(1, "ground"))
    }

    fn target(part: Part, owner: u32) -> Target {
        Target { part, owner }
    }

    #[test]
    fn a_wall_at_twenty_metres_is_at_twenty_metres() {
        for yaw in [0.0, 0.7, -2.0, 3.1] {
            let wall = Part::cuboid([20.5, 0.0, 5.0], [1.0, 30.0, 16.0], Surface::matt(0.5)).placed(Vec3::zeros(), yaw);
            let returns = sweep(LidarModel::Beams32, &level(Vec3::zeros(), yaw), &[target(wall, 3)], &far_ground(), 9);
            let on_wall: Vec<_> = returns.iter().filter(|r| r.owner == 3).collect();
            // 30 m at 20 m span 2 atan(15 / 20) = 73.7 degrees, or 222 columns.
            let columns = on_wall.iter().filter(|r| r.ring == 25).count();
            assert!((210..=224).contains(&columns), "{columns}");
            let mean = on_wall.iter().map(|r| r.point[0]).sum::<f32>() / on_wall.len() as f32;
            assert!((mean - 20.0).abs() < 0.01, "{mean}");
            assert!(on_wall.iter().all(|r| (r.point[0] - 20.0).abs() < 0.1));
        }
    }

    #[test]
    fn what_is_behind_is_not_seen() {
        let wall = Part::cuboid([10.0, 0.0, 2.0], [0.3, 12.0, 6.0], Surface::matt(0.5));
        let hidden = Part::cuboid([15.0, 0.0, 1.0], [4.0, 2.0, 1.5], Surface::matt(0.5));
        let count = |targets: &[Target]| {
            sweep(LidarModel::Beams32, &level(Vec3::zeros(), 0.0), targets, &far_ground(), 9).iter().filter(|r| r.owner == 1).count()
        };
        assert!(count(&[target(hidden, 1)]) > 50);
        assert_eq!(count(&[target(wall, 0), target(hidden, 1)]), 0);
        assert_eq!(count(&[target(hidden, 1), target(wall, 0)]), 0);
    }

    #[test]
    fn bounds_lose_no_return() {
        // The same scene with every window opened to the whole sweep.
        let mut rng = Rng::new(11, "bounds");
        let targets: Vec<Target> = (0..150)
            .map(|i| {
                let at = [rng.range(-30.0, 30.0), rng.range(-30.0, 30.0), rng.range(-1.0, 4.0)];
                let size = [rng.range(0.1, 6.0), rng.range(0.1, 6.0), rng.range(0.1, 6.0)];
                let part =
                    if i % 3 == 0 { Part::ellipsoid(at, size, Surface::matt(0.5)) } else { Part::cuboid(at, size, Surface::matt(0.5)) };
                let tilt = nalgebra::Rotation3::from_euler_angles(if i % 2 == 0 { 0.4 } else { 0.0 }, 0.0, rng.range(-3.0, 3.0));
                target(Part { rotation: *tilt.matrix(), ..part }, i)
            })
            .collect();
        let tilt = nalgebra::Rotation3::from_euler_angles(0.01, -0.015, 0.4);
        let motion = SensorMotion { rotation: *tilt.matrix(), yaw_rate: 0.5, ..level(Vec3::new(12.0, 5.0, 0.0), 0.0) };
        let scan = Scan::new(LidarModel::Beams32, &motion, 4);
        let bounded = sweep(LidarModel::Beams32, &motion, &targets, &far_ground(), 4);
        let open: Vec<Window> = (0..targets.len() as u32)
            .map(|i| Window { target: i, first_column: 0, columns: scan.columns as u32, rings: [0, 32], near: 0.0 })
            .collect();
        let all: Vec<Return> = (0..scan.columns).flat_map(|c| scan.column(c, open.iter(), &targets, &far_ground())).collect();
        assert_eq!(bounded.len(), all.len());
        assert!(bounded.iter().zip(&all).all(|(a, b)| a.point == b.point && a.owner == b.owner));
    }

    #[test]
    fn distortion_shifts_what_was_seen_early() {
        let wall = || target(Part::cuboid([0.0, 20.5, 5.0], [60.0, 1.0, 16.0], Surface::matt(0.5)), 3);
        // Driving towards the wall on the left at 20 m/s. The sweep starts behind and passes the left a quarter turn later,
        // three quarters of 50 ms before the stamp: the wall reads 0.75 m further away than at the stamp.
        let moving = sweep(LidarModel::Beams32, &level(Vec3::new(0.0, 20.0, 0.0), 0.0), &[wall()], &far_ground(), 9);
        let left: Vec<f32> = moving.iter().filter(|r| r.owner == 3 && r.point[0].abs() < 0.5).map(|r| r.point[1]).collect();
        let mean = left.iter().sum::<f32>() / left.len() as f32;
        assert!((mean - 20.75).abs() < 0.02, "{mean}");
    }
}
