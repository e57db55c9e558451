//! What moves: vehicles along lanes and people along pavements, one small step of time after another.
//!
//! Nobody moves into a place that somebody else has taken; whoever cannot go on for long is taken out of the town and comes
//! in again elsewhere under a new track number.

mod drive;
mod walk;

use super::bodies::{self, Body, Gait};
use super::town::{Footprint, Town, Vec2};
use crate::geometry::Pose;
use crate::random::Rng;
use drive::Driver;
use nalgebra::{Isometry3, Translation3, UnitQuaternion};
use walk::Walker;

/// A labelled object, or the lidar's own car, which is actor 0.
pub(crate) struct Actor {
    pub track: u32,
    pub body: Body,
    /// Middle of the box, seen from above.
    pub position: Vec2,
    pub yaw: f32,
    /// Height of the ground it stands on.
    pub z: f32,
    /// Over the last step, m/s.
    pub velocity: Vec2,
    /// Never moves.
    pub fixed: bool,
}

impl Actor {
    pub fn footprint(&self) -> Footprint {
        let half = Vec2::new(0.5 * self.body.size[0], 0.5 * self.body.size[1]);
        Footprint { center: self.position, axis: Vec2::new(self.yaw.cos(), self.yaw.sin()), half }
    }
}

pub(crate) struct Traffic {
    actors: Vec<Actor>,
    /// The first one drives the lidar's own car.
    drivers: Vec<Driver>,
    walkers: Vec<Walker>,
    /// Which drivers hold a way across a junction.
    claims: Vec<Claim>,
    standing: StandingGrid,
    rng: Rng,
    tracks: u32,
    /// How much the car brakes, for its pitch, m/s^2.
    ego_braking: f32,
}

/// A driver's right to cross a junction.
#[derive(Clone, Copy)]
struct Claim {
    driver: usize,
    lane: usize,
}

/// Mean distance between vehicles on a lane, and between people on a pavement, metres.
const VEHICLE_SPACING: [f32; 2] = [16.0, 44.0];
const PERSON_SPACING: [f32; 2] = [14.0, 45.0];
/// Least gap that is left between two actors, metres.
const ELBOW_ROOM: f32 = 0.08;

impl Traffic {
    pub fn new(town: &Town, seed: u64) -> Self {
        let rng = Rng::new(seed, "traffic");
        let mut traffic = Self {
            actors: Vec::new(),
            drivers: Vec::new(),
            walkers: Vec::new(),
            claims: Vec::new(),
            standing: StandingGrid::default(),
            rng,
            tracks: 0,
            ego_braking: 0.0,
        };
        // The lidar's own car comes first and finds its lane empty.
        traffic.enter_ego(town);
        for standing in &town.standing {
            let z = town.ground.height(standing.position);
            let track = traffic.next_track();
            let actor = Actor {
                track,
                body: standing.body.clone(),
                position: standing.position,
                yaw: standing.yaw,
                z,
                velocity: Vec2::zeros(),
                fixed: true,
            };
            traffic.standing.insert(traffic.actors.len(), &actor);
            traffic.actors.push(actor);
        }
        traffic.enter_vehicles(town);
        traffic.enter_people(town);
        traffic
    }

    pub fn actors(&self) -> &[Actor] {
        &self.actors
    }

    pub fn step(&mut self, town: &Town, dt: f32) {
        self.drive(town, dt);
        self.walk(town, dt);
    }

    /// The car's frame: below the middle of the rear axle, tilted with the road and a little by braking.
    pub fn ego_pose(&self, town: &Town) -> Pose {
        let ego = &self.actors[0];
        let forward = Vec2::new(ego.yaw.cos(), ego.yaw.sin());
        let axle = ego.position - self.ego_axle_to_center() * forward;
        let slope = town.ground.slope(axle);
        let (ahead, aside) = (slope.dot(&forward), slope.x * -forward.y + slope.y * forward.x);
        let pitch = -ahead.atan() + 0.0035 * self.ego_braking;
        let rotation = UnitQuaternion::from_euler_angles(f64::from(aside.atan()), f64::from(pitch), f64::from(ego.yaw));
        let z = town.ground.height(axle);
        Pose(Isometry3::from_parts(Translation3::new(f64::from(axle.x), f64::from(axle.y), f64::from(z)), rotation))
    }

    pub fn ego_axle_to_center(&self) -> f32 {
        self.drivers[0].axle_to_center()
    }

    fn next_track(&mut self) -> u32 {
        self.tracks += 1;
        self.tracks - 1
    }

    fn add(&mut self, town: &Town, body: Body, position: Vec2, yaw: f32) -> usize {
        let track = self.next_track();
        let z = town.ground.height(position);
        self.actors.push(Actor { track, body, position, yaw, z, velocity: Vec2::zeros(), fixed: false });
        self.actors.len() - 1
    }

    /// Who stands where `place` is, apart from `except`.
    fn blocker(&self, place: &Footprint, except: &[usize]) -> Option<usize> {
        let place = place.grown(ELBOW_ROOM);
        let reach = place.half.norm();
        let hit = |&i: &usize| {
            let actor = &self.actors[i];
            (actor.position - place.center).norm_squared() < (reach + actor.body.radius()).powi(2)
                && !except.contains(&i)
                && actor.footprint().overlaps(&place)
        };
        self.movers().find(hit).or_else(|| self.standing.near(place.center).find(hit))
    }

    /// The actors that are not fixed.
    fn movers(&self) -> impl Iterator<Item = usize> + '_ {
        let first = 1 + self.standing.count;
        std::iter::once(0).filter(|_| !self.actors.is_empty()).chain(first..self.actors.len())
    }

    /// Puts an actor somewhere; its velocity follows from where it was.
    fn move_to(&mut self, town: &Town, actor: usize, position: Vec2, yaw: f32, dt: f32) {
        let a = &mut self.actors[actor];
        a.velocity = (position - a.position) / dt;
        (a.position, a.yaw, a.z) = (position, yaw, town.ground.height(position));
    }

    fn enter_people(&mut self, town: &Town) {
        let spacing = self.rng.range(PERSON_SPACING[0], PERSON_SPACING[1]);
        for walk in 0..town.roads.walks.len() {
            if town.roads.walks[walk].crossing {
                continue;
            }
            let length = town.roads.walks[walk].path.length();
            let mut s = self.rng.range(0.0, spacing);
            while s < length {
                self.enter_walker(town, walk, s);
                s += self.rng.range(0.3, 1.7) * spacing;
            }
        }
    }

    fn enter_vehicles(&mut self, town: &Town) {
        let spacing = self.rng.range(VEHICLE_SPACING[0], VEHICLE_SPACING[1]);
        for lane in 0..town.roads.lanes.len() {
            if matches!(town.roads.lanes[lane].kind, super::town::LaneKind::Junction { .. }) {
                continue;
            }
            let length = town.roads.lanes[lane].path.length();
            let mut s = self.rng.range(10.0, 10.0 + spacing);
            while s < length - 4.0 {
                self.enter_vehicle(town, lane, s);
                s += self.rng.range(0.4, 1.6) * spacing + 6.0;
            }
        }
    }
}

/// Shapes of what drives about: the body, what it pulls, and how far from the middle of its lane it keeps.
fn vehicle(rng: &mut Rng) -> (Body, Option<Body>) {
    match rng.weighted(&[0.52, 0.12, 0.09, 0.12, 0.08, 0.07]) {
        0 => (bodies::car(rng), None),
        1 => (bodies::truck(rng), None),
        2 => (bodies::bus(rng), None),
        3 => (bodies::tractor(rng, true), Some(bodies::trailer(rng))),
        4 => (bodies::motorcycle(rng, true), None),
        _ => (bodies::bicycle(rng, true), None),
    }
}

/// Fixed actors by square, so that few need looking at.
#[derive(Default)]
struct StandingGrid {
    squares: std::collections::HashMap<(i32, i32), Vec<usize>>,
    count: usize,
}

impl StandingGrid {
    /// No actor is longer than this by more than a little, metres.
    const SQUARE: f32 = 16.0;

    fn square(p: Vec2) -> (i32, i32) {
        ((p.x / Self::SQUARE).floor() as i32, (p.y / Self::SQUARE).floor() as i32)
    }

    fn insert(&mut self, id: usize, actor: &Actor) {
        self.squares.entry(Self::square(actor.position)).or_default().push(id);
        self.count += 1;
    }

    /// All that could touch something whose middle is at `p`.
    fn near(&self, p: Vec2) -> impl Iterator<Item = usize> + '_ {
        let (x, y) = Self::square(p);
        (-1..=1).flat_map(move |i| (-1..=1).map(move |j| (x + i, y + j))).filter_map(|key| self.squares.get(&key)).flatten().copied()
    }
}

/// The gait of somebody who has walked this far with this stride.
fn gait(walked: f32, stride: f32) -> Gait {
    Gait::Walking(std::f32::consts::PI * walked / stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Overlap of boxes as seen from above, except for what rounding explains.
    fn overlap(a: &Actor, b: &Actor) -> bool {
        (a.position - b.position).norm() < a.body.radius() + b.body.radius()
            && a.footprint().grown(-0.02).overlaps(&b.footprint().grown(-0.02))
    }

    #[test]
    fn nobody_is_in_anybody_elses_place_and_the_car_gets_on() {
        let mut driven = 0.0;
        for seed in 0..3 {
            let town = Town::new(seed);
            let mut traffic = Traffic::new(&town, seed);
            for step in 0..600 {
                traffic.step(&town, 0.05);
                driven += 0.05 * traffic.actors[0].velocity.norm();
                if step % 50 != 0 {
                    continue;
                }
                let movers: Vec<usize> = traffic.movers().collect();
                for &a in &movers {
                    for b in 0..traffic.actors.len() {
                        let [x, y] = [a, b].map(|i| &traffic.actors[i]);
                        let coupled = traffic.drivers.iter().any(|d| d.pulls(a, b) || d.pulls(b, a));
                        assert!(
                            a == b || coupled || !overlap(x, y),
                            "seed {seed} step {step}: {:?} {a} and {:?} {b}",
                            x.body.class,
                            y.body.class
                        );
                    }
                }
            }
        }
        assert!(driven > 150.0, "{driven} m in three drives of half a minute");
    }

    #[test]
    fn standing_objects_stand_apart() {
        for seed in 0..4 {
            let town = Town::new(seed);
            let actor = |s: &super::super::town::Standing| Actor {
                track: 0,
                body: s.body.clone(),
                position: s.position,
                yaw: s.yaw,
                z: 0.0,
                velocity: Vec2::zeros(),
                fixed: true,
            };
            let actors: Vec<Actor> = town.standing.iter().map(actor).collect();
            for (i, a) in actors.iter().enumerate() {
                assert!(actors[..i].iter().all(|b| !overlap(a, b)), "seed {seed}: {:?} at {}", a.body.class, a.position);
            }
        }
    }
}
