//! People on foot: along the pavements, around corners, and across the street when no car is near.

use super::{Traffic, gait};
use crate::sim::bodies::{self, Gait, Person};
use crate::sim::town::{Footprint, Town, Vec2, left_of};

/// Somebody who cannot go on for this long turns round, seconds.
const PATIENCE: f32 = 1.5;
/// Somebody who is stuck for this long leaves the town and comes in again elsewhere, seconds.
const DESPAIR: f32 = 6.0;
/// A street is crossed while nothing that moves is nearer than this, metres.
const CLEAR_ROAD: f32 = 16.0;
/// Sideways speed when making way, m/s.
const SIDESTEP: f32 = 0.4;

pub(super) struct Walker {
    pub actor: usize,
    person: Person,
    walk: usize,
    s: f32,
    forward: bool,
    speed: f32,
    /// Left of the path's own direction, metres, and where it is going to.
    lateral: f32,
    aim: f32,
    walked: f32,
    /// Seconds since it last went on, counted anew when it turns round, and in all.
    blocked: f32,
    stuck: f32,
}

impl Walker {
    /// Leaves the town as soon as it cannot go on.
    pub fn give_up(&mut self) {
        self.stuck = DESPAIR;
    }
}

impl Traffic {
    pub(super) fn enter_walker(&mut self, town: &Town, walk: usize, s: f32) {
        let person = Person::draw(&mut self.rng);
        let room = town.roads.walks[walk].room.max(0.1);
        let lateral = self.rng.range(-room, room);
        let forward = self.rng.chance(0.5);
        let speed = self.rng.around(1.35, 0.25) * if self.rng.chance(0.04) { 2.0 } else { 1.0 };
        let walker = Walker {
            actor: 0,
            walk,
            s,
            forward,
            speed,
            lateral,
            aim: lateral,
            walked: self.rng.range(0.0, 9.0),
            blocked: 0.0,
            stuck: 0.0,
            person,
        };
        let (position, yaw) = pose(town, &walker, s, lateral);
        let body = bodies::pedestrian(&walker.person, gait(walker.walked, walker.person.stride));
        let place =
            Footprint { center: position, axis: Vec2::new(yaw.cos(), yaw.sin()), half: Vec2::new(0.5 * body.size[0], 0.5 * body.size[1]) };
        if self.blocker(&place, &[]).is_none() {
            let actor = self.add(town, body, position, yaw);
            self.walkers.push(Walker { actor, ..walker });
        }
    }

    pub(super) fn walk(&mut self, town: &Town, dt: f32) {
        for i in 0..self.walkers.len() {
            self.choose_way(town, i);
            let walker = &self.walkers[i];
            let sign = if walker.forward { 1.0 } else { -1.0 };
            let s = walker.s + sign * walker.speed * dt;
            let lateral = walker.lateral + (walker.aim - walker.lateral).clamp(-SIDESTEP * dt, SIDESTEP * dt);
            let (mut position, yaw) = pose(town, walker, s, lateral);
            let actor = &self.actors[walker.actor];
            // Nobody jumps at a corner: the step is no longer than the speed allows.
            let step = position - actor.position;
            let longest = 1.25 * walker.speed * dt;
            if step.norm() > longest {
                position = actor.position + step * (longest / step.norm());
            }
            let yaw = turn_towards(actor.yaw, yaw, 4.0 * dt);
            let place = Footprint { center: position, axis: Vec2::new(yaw.cos(), yaw.sin()), ..actor.footprint() };
            let free = self.blocker(&place, &[walker.actor]).is_none();
            if free && self.may_step(town, i) {
                self.step_on(town, i, s, lateral, (position, yaw), dt);
            } else {
                self.wait(town, i, free, dt);
            }
        }
    }

    fn step_on(&mut self, town: &Town, i: usize, s: f32, lateral: f32, (position, yaw): (Vec2, f32), dt: f32) {
        let walker = &mut self.walkers[i];
        let actor = walker.actor;
        let far = (position - pose(town, walker, s, lateral).0).norm();
        // While catching up with the path, the path waits.
        if far < 0.5 {
            walker.s = s;
        }
        walker.lateral = lateral;
        walker.walked += walker.speed * dt;
        (walker.blocked, walker.stuck) = (0.0, 0.0);
        let parts = bodies::pedestrian(&walker.person, gait(walker.walked, walker.person.stride)).parts;
        self.actors[actor].body.parts = parts;
        self.move_to(town, actor, position, yaw, dt);
    }

    fn wait(&mut self, town: &Town, i: usize, free: bool, dt: f32) {
        let walker = &mut self.walkers[i];
        let room = town.roads.walks[walker.walk].room.max(0.1);
        let actor = &mut self.actors[walker.actor];
        actor.velocity = Vec2::zeros();
        actor.body.parts = bodies::pedestrian(&walker.person, Gait::Standing).parts;
        walker.stuck += dt;
        if !free {
            walker.blocked += dt;
            walker.lateral += SIDESTEP * dt * (walker.aim - walker.lateral).signum();
            if walker.blocked > 0.4 {
                walker.aim = self.rng.range(-room, room);
            }
            if walker.blocked > PATIENCE {
                walker.forward = !walker.forward;
                walker.blocked = 0.0;
            }
        }
        if self.walkers[i].stuck > DESPAIR && (!free || self.walkers[i].stuck > 4.0 * DESPAIR) {
            self.come_again(town, i);
        }
    }

    /// Puts somebody on another pavement, far from the lidar, if there is room.
    fn come_again(&mut self, town: &Town, i: usize) {
        let walk = self.rng.index(town.roads.walks.len());
        let s = self.rng.unit() * town.roads.walks[walk].path.length();
        let walker = &self.walkers[i];
        let actor = walker.actor;
        let (position, yaw) = pose(town, &Walker { walk, person: walker.person.clone(), ..*walker }, s, 0.0);
        let place = Footprint { center: position, axis: Vec2::new(yaw.cos(), yaw.sin()), ..self.actors[actor].footprint() };
        let far = (position - self.actors[0].position).norm() > 50.0;
        if town.roads.walks[walk].crossing || !far || self.blocker(&place, &[actor]).is_some() {
            return;
        }
        let track = self.next_track();
        let z = town.ground.height(position);
        let a = &mut self.actors[actor];
        (a.track, a.position, a.yaw, a.z, a.velocity) = (track, position, yaw, z, Vec2::zeros());
        let walker = &mut self.walkers[i];
        (walker.walk, walker.s, walker.lateral, walker.aim, walker.blocked, walker.stuck) = (walk, s, 0.0, 0.0, 0.0, 0.0);
    }

    /// At the end of a walk, goes on to another one.
    fn choose_way(&mut self, town: &Town, i: usize) {
        let walker = &self.walkers[i];
        let walks = &town.roads.walks;
        let here = &walks[walker.walk];
        let length = here.path.length();
        let (end, over) = if walker.forward { (1, walker.s >= length) } else { (0, walker.s <= 0.0) };
        if !over {
            return;
        }
        let options = &here.next[end];
        let weights: Vec<f32> = options.iter().map(|&w| if walks[w].crossing { 0.8 } else { 1.0 }).collect();
        let next = options[self.rng.weighted(&weights)];
        let corner = here.path.at(if end == 1 { length } else { 0.0 }).0;
        let far = walks[next].path.length();
        let forward = (walks[next].path.at(0.0).0 - corner).norm() < (walks[next].path.at(far).0 - corner).norm();
        let room = walks[next].room.max(0.1);
        let aim = self.rng.range(-room, room);
        let walker = &mut self.walkers[i];
        (walker.walk, walker.forward, walker.s, walker.aim, walker.lateral) = (next, forward, if forward { 0.0 } else { far }, aim, aim);
    }

    /// Whoever has not yet set foot on a crossing waits for the cars.
    fn may_step(&self, town: &Town, i: usize) -> bool {
        let walker = &self.walkers[i];
        let walk = &town.roads.walks[walker.walk];
        let along = if walker.forward { walker.s } else { walk.path.length() - walker.s };
        if !walk.crossing || along > 1.2 {
            return true;
        }
        let middle = walk.path.at(0.5 * walk.path.length()).0;
        self.drivers.iter().all(|d| {
            let car = &self.actors[d.actor];
            (car.position - middle).norm() > CLEAR_ROAD || car.velocity.norm() < 0.3
        })
    }
}

/// Where a walker is at `s`, and the way it faces.
fn pose(town: &Town, walker: &Walker, s: f32, lateral: f32) -> (Vec2, f32) {
    let path = &town.roads.walks[walker.walk].path;
    let (point, direction) = path.at(s.clamp(0.0, path.length()));
    let direction = direction.normalize();
    let facing = if walker.forward { direction } else { -direction };
    (point + lateral * left_of(direction), facing.y.atan2(facing.x))
}

fn turn_towards(yaw: f32, wanted: f32, most: f32) -> f32 {
    yaw + crate::geometry::wrap_angle(wanted - yaw).clamp(-most, most)
}
