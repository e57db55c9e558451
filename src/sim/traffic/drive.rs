//! Vehicles: they follow their lane, keep their distance by the intelligent driver model (Treiber, Hennecke, Helbing 2000),
//! and cross a junction only while they hold the right to.

use super::{Claim, ELBOW_ROOM, Traffic, vehicle};
use crate::sim::bodies::{self, ObjectClass};
use crate::sim::town::{Footprint, LaneKind, Roads, Town, Vec2, left_of};
use std::collections::VecDeque;

/// m/s^2.
const ACCELERATION: f32 = 1.8;
const BRAKING: f32 = 2.5;
const HARDEST_BRAKING: f32 = 7.0;
/// Seconds and metres that are kept to the one in front.
const HEADWAY: f32 = 1.2;
const STANDSTILL: f32 = 1.8;
/// How far ahead a driver plans, metres.
const HORIZON: f32 = 45.0;
/// Two curves across a junction nearer than this cannot be used at the same time; long vehicles need more.
const PASSING_GAP: f32 = 2.9;
const LONG_EXTRA: f32 = 1.2;
/// Who has waited at a junction for this much longer than another goes first, seconds.
const COURTESY: f32 = 2.5;
/// Seconds after which somebody who is stuck leaves the town.
const PATIENCE: f32 = 8.0;
const QUEUE_PATIENCE: f32 = 40.0;

pub(super) struct Driver {
    pub actor: usize,
    /// The lane that the rear end is on, and those that follow.
    route: VecDeque<usize>,
    /// Of the rear axle, along the route.
    s: f32,
    speed: f32,
    /// Share of the speed limit.
    temper: f32,
    /// Left of the middle of the lane, metres.
    offset: f32,
    /// From the rear axle forward to the front axle and to the front, and back to the rear end.
    wheelbase: f32,
    front: f32,
    back: f32,
    trailer: Option<Towed>,
    /// Seconds since it last moved, and since it was last held up by somebody in its place.
    waiting: f32,
    stuck: f32,
    /// The way across a junction that it stands before and could take if the others let it.
    wish: Option<usize>,
}

/// A trailer: its box, and its measures from the hitch, which is above the tractor's rear axle.
struct Towed {
    actor: usize,
    /// From the hitch back to the axle, forward to the front end, and from the axle back to the rear end.
    drawbar: f32,
    ahead: f32,
    back: f32,
}

impl Driver {
    pub fn axle_to_center(&self) -> f32 {
        0.5 * (self.front - self.back)
    }

    /// Behind the rear axle everything that is pulled.
    fn tail(&self) -> f32 {
        self.trailer.as_ref().map_or(self.back, |t| t.drawbar + t.back)
    }

    #[cfg(test)]
    pub fn pulls(&self, tractor: usize, trailer: usize) -> bool {
        self.actor == tractor && self.trailer.as_ref().is_some_and(|t| t.actor == trailer)
    }

    fn is_long(&self) -> bool {
        self.front + self.tail() > 8.5
    }

    /// Position and direction at `s` along the route; on the lane's extension beyond its ends.
    fn at(&self, roads: &Roads, s: f32) -> (Vec2, Vec2) {
        let mut left = s;
        let mut last = 0;
        for (i, &lane) in self.route.iter().enumerate() {
            last = lane;
            let length = roads.lanes[lane].path.length();
            if left <= length || i + 1 == self.route.len() {
                break;
            }
            left -= length;
        }
        let (point, direction) = roads.lanes[last].path.at(left);
        let direction = direction.normalize();
        (point + self.offset * left_of(direction), direction)
    }

    /// The boxes of the vehicle and of its trailer with the rear axle at `s`: middle and heading.
    fn poses(&self, roads: &Roads, s: f32) -> (Pose2, Option<Pose2>) {
        let axle = self.at(roads, s).0;
        let forward = (self.at(roads, s + self.wheelbase).0 - axle).normalize();
        let body = (axle + self.axle_to_center() * forward, forward.y.atan2(forward.x));
        let towed = self.trailer.as_ref().map(|t| {
            let along = (axle - self.at(roads, s - t.drawbar).0).normalize();
            let middle = 0.5 * (t.ahead - t.drawbar - t.back);
            (axle + middle * along, along.y.atan2(along.x))
        });
        (body, towed)
    }
}

type Pose2 = (Vec2, f32);

fn footprint((center, yaw): Pose2, size: [f32; 3]) -> Footprint {
    Footprint { center, axis: Vec2::new(yaw.cos(), yaw.sin()), half: Vec2::new(0.5 * size[0], 0.5 * size[1]) }
}

impl Traffic {
    pub(super) fn enter_ego(&mut self, town: &Town) {
        let streets: Vec<usize> =
            (0..town.roads.lanes.len()).filter(|&l| matches!(town.roads.lanes[l].kind, LaneKind::Street { .. })).collect();
        let lane = streets[self.rng.index(streets.len())];
        let s = self.rng.range(0.2, 0.5) * town.roads.lanes[lane].path.length();
        let body = bodies::ego();
        let actor = self.add(town, body, Vec2::zeros(), 0.0);
        let driver = self.driver(town, actor, None, lane, s);
        let (position, yaw) = driver.poses(&town.roads, driver.s).0;
        self.drivers.push(Driver { offset: 0.0, temper: 1.0, ..driver });
        (self.actors[0].position, self.actors[0].yaw, self.actors[0].z) = (position, yaw, town.ground.height(position));
    }

    /// A new vehicle with its rear axle there, if there is room.
    pub(super) fn enter_vehicle(&mut self, town: &Town, lane: usize, s: f32) {
        let (body, trailer) = vehicle(&mut self.rng);
        let class = body.class;
        let outer = matches!(town.roads.lanes[lane].kind, LaneKind::Street { outer: true });
        if matches!(class, ObjectClass::Bicycle) && !outer {
            return;
        }
        let actor = self.add(town, body, Vec2::zeros(), 0.0);
        let towed = trailer.map(|t| self.add(town, t, Vec2::zeros(), 0.0));
        let driver = self.driver(town, actor, towed, lane, s);
        let (body, towed_pose) = driver.poses(&town.roads, s);
        let boxes = [Some((actor, body)), towed.zip(towed_pose)];
        let own = [actor, towed.unwrap_or(actor)];
        let free =
            boxes.iter().flatten().all(|&(a, pose)| self.blocker(&footprint(pose, self.actors[a].body.size).grown(0.8), &own).is_none());
        // With its tail beyond the lane's start it would stand in the junction without the right to.
        if free && driver.s > driver.tail() {
            for &(a, (position, yaw)) in boxes.iter().flatten() {
                let z = town.ground.height(position);
                let actor = &mut self.actors[a];
                (actor.position, actor.yaw, actor.z) = (position, yaw, z);
            }
            self.drivers.push(driver);
        } else {
            self.actors.truncate(actor);
        }
    }

    fn driver(&mut self, town: &Town, actor: usize, towed: Option<usize>, lane: usize, s: f32) -> Driver {
        let [length, width, _] = self.actors[actor].body.size;
        let class = self.actors[actor].body.class;
        let rng = &mut self.rng;
        // Where the axles are, as shares of the length from the front.
        let (front_axle, rear_axle) = match class {
            ObjectClass::Bus => (0.25, 0.77),
            ObjectClass::Truck => (0.15, 0.79),
            _ => (0.19, 0.82),
        };
        // The kerb is on the side of a lane that is away from the middle of the street: to the right where traffic keeps right.
        let kerb = kerb_side(&town.roads, lane);
        let offset = match class {
            ObjectClass::Bicycle => kerb * rng.range(1.3, 1.5),
            ObjectClass::Motorcycle => rng.range(-0.6, 0.6),
            _ => rng.around(0.0, 0.1) * if width > 2.3 { 0.3 } else { 1.0 },
        };
        let temper = match class {
            ObjectClass::Bicycle => rng.range(0.35, 0.55),
            ObjectClass::Bus | ObjectClass::Truck => rng.range(0.7, 0.95),
            _ => rng.around(1.0, 0.12),
        };
        let trailer = towed.map(|actor| {
            let pulled = self.actors[actor].body.size[0];
            // Its front end is behind the tractor's box, with room for its corners in a turn.
            let ahead = -(1.0 - rear_axle) * length - 0.5;
            Towed { actor, drawbar: 0.74 * pulled - ahead, ahead, back: 0.26 * pulled }
        });
        Driver {
            actor,
            route: VecDeque::from([lane]),
            s,
            speed: 0.5 * town.roads.lanes[lane].limit * temper,
            temper,
            offset,
            wheelbase: (rear_axle - front_axle) * length,
            front: rear_axle * length,
            back: (1.0 - rear_axle) * length,
            trailer,
            waiting: 0.0,
            stuck: 0.0,
            wish: None,
        }
    }

    pub(super) fn drive(&mut self, town: &Town, dt: f32) {
        for i in 0..self.drivers.len() {
            self.extend_route(&town.roads, i);
            let ahead = self.look_ahead(town, i);
            let driver = &self.drivers[i];
            let speed = driver.speed;
            let wanted = self.wanted_speed(&town.roads, i);
            let closing = speed - ahead.speed;
            let desired = STANDSTILL + (speed * HEADWAY + 0.5 * speed * closing / (ACCELERATION * BRAKING).sqrt()).max(0.0);
            let acceleration = ACCELERATION * (1.0 - (speed / wanted.max(0.5)).powi(4) - (desired / ahead.gap.max(0.1)).powi(2));
            let acceleration = acceleration.clamp(-HARDEST_BRAKING, ACCELERATION);
            let next = (speed + acceleration * dt).max(0.0);
            self.advance(town, i, next, ahead.who, dt);
        }
        self.recycle(town);
    }

    /// Moves driver `i` on for `dt` at `speed`, unless somebody stands there.
    fn advance(&mut self, town: &Town, i: usize, speed: f32, leader: Option<usize>, dt: f32) {
        let driver = &self.drivers[i];
        let s = driver.s + speed * dt;
        let (body, towed) = driver.poses(&town.roads, s);
        let own = [driver.actor, driver.trailer.as_ref().map_or(driver.actor, |t| t.actor)];
        let boxes = [Some((own[0], body)), towed.map(|pose| (own[1], pose))];
        let blocker = boxes.iter().flatten().find_map(|&(a, pose)| self.blocker(&footprint(pose, self.actors[a].body.size), &own));
        let moves = blocker.is_none() && speed > 0.01;
        for &(a, (position, yaw)) in boxes.iter().flatten() {
            if moves {
                self.move_to(town, a, position, yaw, dt);
            } else {
                self.actors[a].velocity = Vec2::zeros();
            }
        }
        let driver = &mut self.drivers[i];
        if i == 0 {
            let braking = (driver.speed - speed) / dt;
            self.ego_braking += (braking - self.ego_braking) * (2.0 * dt).min(1.0);
        }
        driver.speed = if moves { speed } else { 0.0 };
        driver.waiting = if moves { 0.0 } else { driver.waiting + dt };
        driver.stuck = if blocker.is_some() { driver.stuck + dt } else { 0.0 };
        if moves {
            driver.s = s;
            self.leave_lanes(&town.roads, i);
        }
        if i == 0 && (self.drivers[0].stuck > 4.0 || self.drivers[0].waiting > 15.0) {
            self.clear_the_way(blocker.or(leader));
        }
    }

    /// Whoever keeps the lidar's own car from going on gives way to it in the end.
    fn clear_the_way(&mut self, who: Option<usize>) {
        let Some(who) = who else { return };
        let is = |d: &&mut Driver| d.actor == who || d.trailer.as_ref().is_some_and(|t| t.actor == who);
        if let Some(other) = self.drivers.iter_mut().skip(1).find(is) {
            other.stuck = 2.0 * PATIENCE;
        }
        if let Some(walker) = self.walkers.iter_mut().find(|w| w.actor == who) {
            walker.give_up();
        }
    }

    /// Forgets the lanes that the rear end has left, and gives back the right to the junction.
    fn leave_lanes(&mut self, roads: &Roads, i: usize) {
        let driver = &mut self.drivers[i];
        while driver.route.len() > 1 {
            let lane = driver.route[0];
            let length = roads.lanes[lane].path.length();
            if driver.s - driver.tail() < length {
                break;
            }
            driver.s -= length;
            driver.route.pop_front();
            self.claims.retain(|c| c.driver != i || c.lane != lane);
        }
    }

    fn extend_route(&mut self, roads: &Roads, i: usize) {
        loop {
            let driver = &self.drivers[i];
            let length: f32 = driver.route.iter().map(|&l| roads.lanes[l].path.length()).sum();
            if length > driver.s + driver.front + HORIZON + 10.0 {
                return;
            }
            let Some(&last) = driver.route.back() else { return };
            let options = &roads.lanes[last].next;
            // Long vehicles avoid tight corners where they can; the lidar's own car likes them.
            let turn = |lane: usize| if let LaneKind::Junction { turn, .. } = roads.lanes[lane].kind { turn.abs() } else { 0.0 };
            let weights: Vec<f32> = options
                .iter()
                .map(|&l| match (turn(l) > 0.6, driver.is_long(), i == 0) {
                    (true, true, _) => 0.03,
                    (true, false, true) => 1.3,
                    (true, false, false) => 0.5,
                    (false, ..) => 1.0,
                })
                .collect();
            let chosen = options[self.rng.weighted(&weights)];
            self.drivers[i].route.push_back(chosen);
        }
    }

    /// The speed limit here, and early enough that of the lanes ahead.
    fn wanted_speed(&self, roads: &Roads, i: usize) -> f32 {
        let driver = &self.drivers[i];
        let mut start = 0.0;
        let mut wanted = f32::INFINITY;
        for &lane in &driver.route {
            let Some(here) = roads.lanes.get(lane) else { break };
            let end = start + here.path.length();
            let distance = (start - driver.s - driver.front).max(0.0);
            if end > driver.s && distance < HORIZON {
                let limit = here.limit * driver.temper;
                wanted = wanted.min((limit * limit + 2.0 * 0.8 * BRAKING * distance).sqrt());
            }
            start = end;
        }
        wanted
    }

    fn look_ahead(&mut self, town: &Town, i: usize) -> Ahead {
        let ahead = self.obstacle(&town.roads, i);
        let Some(stop) = self.stop_line(&town.roads, i) else { return ahead };
        if stop < ahead.gap { Ahead { gap: stop.max(0.05), speed: 0.0, who: None } } else { ahead }
    }

    /// The nearest actor on the way.
    fn obstacle(&self, roads: &Roads, i: usize) -> Ahead {
        let driver = &self.drivers[i];
        let own = [driver.actor, driver.trailer.as_ref().map_or(driver.actor, |t| t.actor)];
        let me = &self.actors[driver.actor];
        let reach = (8.0 + 3.0 * driver.speed).min(HORIZON);
        let near: Vec<usize> = self
            .movers()
            .filter(|a| {
                !own.contains(a) && (self.actors[*a].position - me.position).norm() < reach + self.actors[*a].body.radius() + driver.front
            })
            .collect();
        let radius = 0.5 * me.body.size[1] + 0.15;
        let mut distance = 0.3;
        while distance < reach && !near.is_empty() {
            let (point, direction) = self.drivers[i].at(roads, driver.s + driver.front - radius + distance);
            for &a in &near {
                let other = &self.actors[a];
                // People who walk get more room.
                let walks = matches!(other.body.class, ObjectClass::Pedestrian) && other.velocity.norm() > 0.1;
                let room = radius + if walks { 0.35 } else { 0.0 };
                if other.footprint().distance(point) < room {
                    return Ahead { gap: distance, speed: other.velocity.dot(&direction).max(0.0), who: Some(a) };
                }
            }
            distance += 0.7;
        }
        Ahead { gap: f32::INFINITY, speed: driver.speed, who: None }
    }

    /// The distance to a junction that driver `i` may not yet enter. Asks for the right when it is near.
    fn stop_line(&mut self, roads: &Roads, i: usize) -> Option<f32> {
        let driver = &self.drivers[i];
        let front = driver.s + driver.front;
        let mut start = 0.0;
        for (k, &lane) in driver.route.iter().enumerate() {
            let crossing = matches!(roads.lanes[lane].kind, LaneKind::Junction { .. });
            if crossing && start > front - 0.5 && !self.claims.iter().any(|c| c.driver == i && c.lane == lane) {
                let distance = start - front;
                let to = driver.route.get(k + 1).copied();
                let asks = distance < 8.0 + driver.speed * driver.speed / (2.0 * BRAKING);
                let room = asks && to.is_none_or(|to| self.room_on(roads, to) > self.drivers[i].front + self.drivers[i].tail() + 2.5);
                if room && self.may_cross(roads, i, lane) {
                    self.claims.push(Claim { driver: i, lane });
                    self.drivers[i].wish = None;
                    return None;
                }
                self.drivers[i].wish = room.then_some(lane);
                return Some(distance - 0.3 + STANDSTILL);
            }
            start += roads.lanes[lane].path.length();
            if start > front + HORIZON {
                break;
            }
        }
        None
    }

    /// Whether nobody who holds a conflicting right, or has waited for one for much longer, is in the way.
    fn may_cross(&self, roads: &Roads, i: usize, lane: usize) -> bool {
        let from = |l: usize| if let LaneKind::Junction { from, .. } = roads.lanes[l].kind { Some(from) } else { None };
        let conflict = |other: usize, other_lane: usize| {
            let long = self.drivers[i].is_long() || self.drivers[other].is_long();
            let follows = from(other_lane) == from(lane) && !long;
            other != i && !follows && roads.gap(other_lane, lane) <= PASSING_GAP + if long { LONG_EXTRA } else { 0.0 }
        };
        let waiting = self.drivers[i].waiting;
        let first = |d: &Driver| d.waiting > waiting + COURTESY || (d.waiting > COURTESY && waiting == 0.0);
        let taken = self.claims.iter().any(|c| conflict(c.driver, c.lane));
        // A drive that waits shows little: the lidar's own car need not queue as long as the others.
        let ego = |k: usize| k == 0 && self.drivers[0].waiting > COURTESY;
        let outranked = self.drivers.iter().enumerate().any(|(k, d)| (ego(k) || first(d)) && d.wish.is_some_and(|wish| conflict(k, wish)));
        !taken && (!outranked || ego(i))
    }

    /// How much of a lane's beginning is free.
    fn room_on(&self, roads: &Roads, lane: usize) -> f32 {
        let mut room = roads.lanes[lane].path.length();
        for driver in &self.drivers {
            let mut start = 0.0;
            for &l in &driver.route {
                let front = driver.s + driver.front - start;
                if l == lane && front > -1.0 {
                    room = room.min(driver.s - driver.tail() - start);
                }
                start += roads.lanes[l].path.length();
                if start > driver.s + driver.front + 1.0 {
                    break;
                }
            }
        }
        room
    }

    /// Takes out whoever has been stuck for too long and lets them in elsewhere.
    fn recycle(&mut self, town: &Town) {
        for i in 1..self.drivers.len() {
            let driver = &self.drivers[i];
            if driver.stuck < PATIENCE && driver.waiting < QUEUE_PATIENCE {
                continue;
            }
            let lane = self.rng.index(town.roads.lanes.len());
            let length = town.roads.lanes[lane].path.length();
            let kind = town.roads.lanes[lane].kind;
            let s = self.rng.range(0.0, length);
            let tail = self.drivers[i].tail();
            if !matches!(kind, LaneKind::Street { outer: true }) || s < tail + 1.0 || s > length - 8.0 {
                continue;
            }
            self.reenter(town, i, lane, s);
        }
    }

    fn reenter(&mut self, town: &Town, i: usize, lane: usize, s: f32) {
        let old = (std::mem::replace(&mut self.drivers[i].route, VecDeque::from([lane])), std::mem::replace(&mut self.drivers[i].s, s));
        let driver = &self.drivers[i];
        let own = [driver.actor, driver.trailer.as_ref().map_or(driver.actor, |t| t.actor)];
        let (body, towed) = driver.poses(&town.roads, s);
        let boxes = [Some((own[0], body)), towed.map(|pose| (own[1], pose))];
        let far = (body.0 - self.actors[0].position).norm() > 60.0;
        let free = boxes
            .iter()
            .flatten()
            .all(|&(a, pose)| self.blocker(&footprint(pose, self.actors[a].body.size).grown(3.0 * ELBOW_ROOM), &own).is_none());
        if !far || !free {
            (self.drivers[i].route, self.drivers[i].s) = old;
            return;
        }
        for &(a, (position, yaw)) in boxes.iter().flatten() {
            let track = self.next_track();
            let z = town.ground.height(position);
            let actor = &mut self.actors[a];
            (actor.track, actor.position, actor.yaw, actor.z, actor.velocity) = (track, position, yaw, z, Vec2::zeros());
        }
        self.claims.retain(|c| c.driver != i);
        let driver = &mut self.drivers[i];
        (driver.speed, driver.waiting, driver.stuck, driver.wish) = (0.0, 0.0, 0.0, None);
    }
}

/// What a driver has to mind.
struct Ahead {
    gap: f32,
    speed: f32,
    who: Option<usize>,
}

/// +1 if the kerb is to the left of the lane, -1 if it is to the right.
fn kerb_side(roads: &Roads, lane: usize) -> f32 {
    let (point, direction) = roads.lanes[lane].path.at(0.5 * roads.lanes[lane].path.length());
    let nearest = roads
        .streets
        .iter()
        .flat_map(|s| s.center.points())
        .min_by(|a, b| (*a - point).norm_squared().total_cmp(&(*b - point).norm_squared()));
    nearest.map_or(-1.0, |middle| if (middle - point).dot(&left_of(direction)) > 0.0 { -1.0 } else { 1.0 })
}
