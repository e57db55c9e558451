//! The drive as a stream of frames.

use super::SimConfig;
use super::bodies::{self, ObjectClass};
use super::camera::Painter;
use super::lidar::{self, SensorMotion, Target};
use super::solid::{Mat3, Part, Vec3};
use super::town::{Town, Vec2};
use super::traffic::Traffic;
use crate::geometry::{Box3, Pose, wrap_angle};
use crate::random::{Rng, mix};
use crate::sensor::{PointCloud, Stamp};
use nalgebra::{Isometry3, Translation3, UnitQuaternion};
use ndarray::Array2;
use std::sync::OnceLock;

/// One revolution of the lidar, and what was there.
#[derive(Clone, Debug)]
pub struct SimFrame {
    pub stamp: Stamp,
    /// Columns `x`, `y`, `z`, `intensity` (0 to 255), `ring` (0 is the lowest), and with distortion `time` (seconds relative
    /// to the stamp, not above 0), in the frame `lidar`.
    pub cloud: PointCloud,
    /// `base` is the ground below the middle of the rear axle. `odom` is fixed to the town; z is 0 near the town's mean height.
    pub odom_from_base: Pose,
    pub base_from_lidar: Pose,
    /// All labelled objects within [`TRUTH_RANGE`], also those without a single return.
    pub truth: Vec<TruthBox>,
}

/// A labelled object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruthBox {
    /// In the lidar frame at the stamp; velocity over ground in the axes of the lidar frame.
    pub bbox: Box3,
    pub class: ObjectClass,
    /// The same for the same object in all frames of a drive.
    pub track: u32,
    /// Returns of this frame that came from the object itself.
    pub num_lidar_points: u32,
}

/// Objects whose centres are farther from the lidar are not in the truth, metres.
pub const TRUTH_RANGE: f32 = 80.0;
/// Height of the lidar over the ground and its distance ahead of the rear axle, metres (nuScenes).
const LIDAR_MOUNT: [f64; 3] = [0.94, 0.0, 1.84];
/// The lidar stands askew by about this much, radians.
const MOUNT_ERROR: f32 = 0.003;
/// Traffic runs this long before the first frame, seconds.
const WARM_UP: f32 = 8.0;
/// Things farther away than this from the lidar send nothing back, metres.
const VIEW: f32 = 106.0;

/// A drive through a simulated town.
pub struct Simulation {
    pub(super) config: SimConfig,
    pub(super) town: Town,
    pub(super) traffic: Traffic,
    pub(super) base_from_lidar: Pose,
    pub(super) ego_parts: Vec<Part>,
    /// Parts of the labelled objects that never move, in town coordinates, by actor.
    pub(super) standing_parts: Vec<Vec<Part>>,
    /// Made for the first picture.
    pub(super) painter: OnceLock<Painter>,
    /// The lidar's pose one frame ago.
    pub(super) before: Option<Pose>,
    pub(super) frame: u64,
    pub(super) frames: u64,
}

impl Simulation {
    pub fn new(config: &SimConfig) -> Self {
        let town = Town::new(config.town.unwrap_or(config.seed));
        let mut rng = Rng::new(config.seed, "sensor");
        let [roll, pitch] = [0, 1].map(|_| f64::from(rng.around(0.0, MOUNT_ERROR)));
        let mount = Isometry3::from_parts(Translation3::from(LIDAR_MOUNT), UnitQuaternion::from_euler_angles(roll, pitch, 0.0));
        let mut traffic = Traffic::new(&town, config.seed);
        let step = (1.0 / config.lidar.rate_hz()) as f32;
        for _ in 0..(WARM_UP / step) as usize {
            traffic.step(&town, step);
        }
        let standing_parts = traffic
            .actors()
            .iter()
            .filter(|a| a.fixed)
            .map(|a| a.body.parts.iter().map(|p| p.placed(Vec3::new(a.position.x, a.position.y, a.z), a.yaw)).collect())
            .collect();
        let frames = (config.seconds.max(0.0) * config.lidar.rate_hz()).round() as u64;
        Self {
            config: *config,
            town,
            traffic,
            base_from_lidar: Pose(mount),
            ego_parts: bodies::ego().parts,
            standing_parts,
            painter: OnceLock::new(),
            before: None,
            frame: 0,
            frames,
        }
    }

    /// Frames that are still to come.
    pub fn remaining(&self) -> u64 {
        self.frames - self.frame
    }

    fn targets(&self, origin: Vec2) -> Vec<Target> {
        let mut targets = Vec::with_capacity(8192);
        for prop in &self.town.props {
            if (prop.center.xy() - origin).norm() < VIEW + prop.radius {
                targets.extend(prop.parts.iter().map(|&part| Target { part, owner: lidar::NOBODY }));
            }
        }
        self.for_each_object(origin, VIEW, |part, owner| targets.push(Target { part, owner }));
        targets
    }

    /// The parts of all labelled objects within `reach`, and of the lidar's own car (owner 0), in town coordinates.
    pub(super) fn for_each_object(&self, origin: Vec2, reach: f32, mut take: impl FnMut(Part, u32)) {
        let mut fixed = self.standing_parts.iter();
        for (owner, actor) in self.traffic.actors().iter().enumerate() {
            let owner = owner as u32;
            let placed = actor.fixed.then(|| fixed.next()).flatten();
            if (actor.position - origin).norm() > reach + actor.body.radius() {
                continue;
            }
            let foot = Vec3::new(actor.position.x, actor.position.y, actor.z);
            match placed {
                Some(parts) => parts.iter().for_each(|&part| take(part, owner)),
                None if owner != 0 => actor.body.parts.iter().for_each(|p| take(p.placed(foot, actor.yaw), owner)),
                None => {}
            }
        }
        // The lidar's own car, which tilts with it.
        let ego = self.traffic.ego_pose(&self.town);
        let rotation: Mat3 = ego.0.rotation.to_rotation_matrix().matrix().cast();
        let ahead = Vec3::new(self.traffic.ego_axle_to_center(), 0.0, 0.0);
        let foot: Vec3 = ego.0.translation.vector.cast();
        for p in &self.ego_parts {
            take(Part { center: foot + rotation * (p.center + ahead), rotation: rotation * p.rotation, ..*p }, 0);
        }
    }

    fn truth(&self, lidar_from_odom: &Pose, counts: &[u32]) -> Vec<TruthBox> {
        let actors = self.traffic.actors().iter().zip(counts).skip(1);
        actors
            .filter_map(|(actor, &num_lidar_points)| {
                let size = actor.body.size;
                let z = f64::from(actor.z + 0.5 * size[2]);
                let center = lidar_from_odom.apply([f64::from(actor.position.x), f64::from(actor.position.y), z]).map(|v| v as f32);
                let turn = |x: f32, y: f32| lidar_from_odom.0.rotation * nalgebra::Vector3::new(f64::from(x), f64::from(y), 0.0);
                let heading = turn(actor.yaw.cos(), actor.yaw.sin());
                let velocity = turn(actor.velocity.x, actor.velocity.y);
                let bbox = Box3 {
                    center,
                    size,
                    yaw: wrap_angle(heading.y.atan2(heading.x) as f32),
                    velocity: [velocity.x as f32, velocity.y as f32],
                };
                let near = bbox.range() <= TRUTH_RANGE;
                near.then_some(TruthBox { bbox, class: actor.body.class, track: actor.track, num_lidar_points })
            })
            .collect()
    }

    fn cloud(&self, stamp: Stamp, returns: &[lidar::Return]) -> PointCloud {
        let mut fields: Vec<String> = ["x", "y", "z", "intensity", "ring"].map(String::from).into();
        if self.config.distortion {
            fields.push("time".into());
        }
        let width = fields.len();
        let data = Array2::from_shape_fn((returns.len(), width), |(row, column)| match column {
            0..3 => returns[row].point[column],
            3 => returns[row].intensity,
            4 => returns[row].ring as f32,
            _ => returns[row].time,
        });
        PointCloud { stamp, frame_id: "lidar".into(), fields, data }
    }
}

impl Iterator for Simulation {
    type Item = SimFrame;

    fn next(&mut self) -> Option<SimFrame> {
        if self.frame >= self.frames {
            return None;
        }
        let period = 1.0 / self.config.lidar.rate_hz();
        if self.frame > 0 {
            self.traffic.step(&self.town, period as f32);
        }
        let stamp = Stamp::from_secs_f64(self.frame as f64 * period);
        let odom_from_base = self.traffic.ego_pose(&self.town);
        let odom_from_lidar = odom_from_base.compose(&self.base_from_lidar);
        let before = self.before.replace(odom_from_lidar).filter(|_| self.config.distortion).unwrap_or(odom_from_lidar);
        let motion = SensorMotion {
            origin: odom_from_lidar.0.translation.vector.cast(),
            rotation: odom_from_lidar.0.rotation.to_rotation_matrix().matrix().cast(),
            velocity: ((odom_from_lidar.0.translation.vector - before.0.translation.vector) / period).cast(),
            yaw_rate: wrap_angle((odom_from_lidar.yaw() - before.yaw()) as f32) / period as f32,
        };
        let noise = mix(mix(self.config.seed) ^ self.frame);
        let returns = lidar::sweep(self.config.lidar, &motion, &self.targets(motion.origin.xy()), &self.town.ground, noise);
        let mut counts = vec![0u32; self.traffic.actors().len()];
        for r in &returns {
            if let Some(count) = counts.get_mut(r.owner as usize) {
                *count += 1;
            }
        }
        self.frame += 1;
        Some(SimFrame {
            stamp,
            cloud: self.cloud(stamp, &returns),
            odom_from_base,
            base_from_lidar: self.base_from_lidar,
            truth: self.truth(&odom_from_lidar.inverse(), &counts),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
        (remaining, Some(remaining))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::LidarModel;
    use std::collections::HashMap;

    fn drive(seed: u64, seconds: f64) -> Simulation {
        Simulation::new(&SimConfig { seed, seconds, ..SimConfig::default() })
    }

    #[test]
    fn threads_do_not_matter() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| drive(5, 0.3).map(|f| (f.cloud, f.truth)).collect::<Vec<_>>())
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one.len(), 6);
        assert!(one == two);
        assert!(one[0].0.data != drive(6, 0.05).next().unwrap().cloud.data);
    }

    #[test]
    fn velocity_is_the_change_of_position_over_ground() {
        let mut before: HashMap<u32, [f64; 3]> = HashMap::new();
        let mut moving = 0;
        for frame in drive(2, 3.0) {
            let odom_from_lidar = frame.odom_from_base.compose(&frame.base_from_lidar);
            let mut now = HashMap::new();
            for t in &frame.truth {
                let at = odom_from_lidar.apply(t.bbox.center.map(f64::from));
                if let Some(last) = before.get(&t.track) {
                    let step = nalgebra::Vector3::from([0, 1, 2].map(|i| (at[i] - last[i]) * 20.0));
                    let seen = odom_from_lidar.0.rotation.inverse() * nalgebra::Vector3::new(step.x, step.y, 0.0);
                    let error = (seen.x as f32 - t.bbox.velocity[0]).hypot(seen.y as f32 - t.bbox.velocity[1]);
                    // Town coordinates are single precision: 0.03 mm at 400 m, 20 times a second.
                    assert!(error < 0.01, "{:?}: {error}", t.class);
                    moving += usize::from(seen.norm() > 0.5);
                }
                now.insert(t.track, at);
            }
            before = now;
        }
        assert!(moving > 200, "{moving}");
    }

    #[test]
    fn an_objects_points_are_in_its_box() {
        for seed in [1, 4] {
            for frame in drive(seed, 1.0).step_by(10) {
                let points: Vec<[f32; 3]> = frame.cloud.data.outer_iter().map(|r| [r[0], r[1], r[2]]).collect();
                for t in frame.truth.iter().filter(|t| t.num_lidar_points > 0) {
                    // Range noise, and the tilt between the lidar and the ground that the box stands on.
                    let tilt = 0.04 * t.bbox.size[0].max(t.bbox.size[2]);
                    let grown = Box3 { size: t.bbox.size.map(|s| s + 2.0 * (0.09 + 0.5 * tilt)), ..t.bbox };
                    let inside = points.iter().filter(|&&p| grown.contains(p)).count() as u32;
                    assert!(inside >= t.num_lidar_points, "{:?} {:?}: {inside} of {}", t.class, t.bbox, t.num_lidar_points);
                }
            }
        }
    }

    #[test]
    fn every_class_is_met() {
        let mut met: HashMap<ObjectClass, u32> = HashMap::new();
        let frames: u32 = (0..8)
            .map(|seed| {
                let frames: Vec<SimFrame> = drive(seed, 0.05).collect();
                frames.iter().flat_map(|f| &f.truth).filter(|t| t.num_lidar_points > 0).for_each(|t| *met.entry(t.class).or_default() += 1);
                frames.len() as u32
            })
            .sum();
        for class in ObjectClass::ALL {
            let share = f64::from(*met.get(&class).unwrap_or(&0)) / f64::from(frames);
            assert!(share > 0.12, "{class:?}: {share} per frame");
        }
    }

    #[test]
    fn the_denser_sensor_gives_ten_larger_frames_a_second() {
        let config = SimConfig { seed: 3, seconds: 0.2, lidar: LidarModel::Beams64, distortion: true, ..SimConfig::default() };
        let frames: Vec<SimFrame> = Simulation::new(&config).collect();
        assert_eq!(frames.len(), 2);
        assert!((frames[1].stamp.seconds_since(frames[0].stamp) - 0.1).abs() < 1e-9);
        let cloud = &frames[1].cloud;
        assert!(cloud.len() > 80_000, "{}", cloud.len());
        let times = cloud.column("time").unwrap();
        assert!(times.iter().all(|&t| (-0.1..=0.0).contains(&t)) && times[0] < -0.09);
    }
}
