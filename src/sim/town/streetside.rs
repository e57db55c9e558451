//! What stands between a street's middle and the outer edge of its pavements.

use super::path::{Vec2, left_of};
use super::roads::Street;
use super::{Site, Style, props};
use crate::random::Rng;
use crate::sim::bodies::{self, Body, Gait, Person};
use std::f32::consts::{PI, TAU};

/// A place beside a street.
struct Spot {
    position: Vec2,
    /// Along the street.
    axis: Vec2,
    /// Away from the middle.
    outward: Vec2,
}

impl Spot {
    fn new(street: &Street, side: usize, s: f32, offset: f32) -> Self {
        let (point, axis) = street.center.at(s);
        let outward = Street::sign(side) * left_of(axis);
        Self { position: point + offset * outward, axis, outward }
    }

    fn yaw(&self) -> f32 {
        self.axis.y.atan2(self.axis.x)
    }

    /// An axis along the street such that `+y` points away from it.
    fn facing(&self) -> Vec2 {
        Vec2::new(self.outward.y, -self.outward.x)
    }
}

/// Everything from the parking lane to the outer edge of the pavement on one side.
pub(super) fn kerbside(site: &mut Site, street: &Street, side: usize, style: &Style, rng: &mut Rng) {
    let [from, to] = [street.clear[0] + 6.0, street.clear[1] - 6.0];
    if to - from < 20.0 {
        return;
    }
    if street.parking[side] > 0.0 {
        if !street.closed && rng.chance(0.4) {
            road_works(site, street, side, rng.range(from, to - 16.0), rng);
        }
        park_along(site, street, side, style, rng);
    }
    if rng.chance(0.35) {
        bus_stop(site, street, side, rng.range(from, to - 12.0), rng);
    }
    furniture(site, street, side, style, rng);
    bystanders(site, street, side, rng);
}

fn park_along(site: &mut Site, street: &Street, side: usize, style: &Style, rng: &mut Rng) {
    let offset = street.half_width(side) - 0.5 * street.parking[side];
    // Mostly with the traffic of their side of the road.
    let heading = if side == 1 { 0.0 } else { PI };
    let mut s = street.clear[0] + 5.0;
    while s < street.clear[1] - 6.0 {
        if !rng.chance(style.parked) {
            s += rng.range(5.0, 8.0);
            continue;
        }
        if rng.chance(0.09) {
            s += motorcycle_row(site, street, side, s, offset, rng);
            continue;
        }
        let body = if rng.chance(0.86) { bodies::car(rng) } else { bodies::truck(rng) };
        let [length, width, _] = body.size;
        if width > street.parking[side] + 0.35 {
            continue;
        }
        let spot = Spot::new(street, side, s + 0.5 * length, offset + rng.range(-0.12, 0.12));
        let turned = if rng.chance(0.1) { PI } else { 0.0 };
        site.stand(body, spot.position, spot.yaw() + heading + turned + rng.around(0.0, 0.02), 0.1);
        s += length + rng.range(0.6, 1.8);
    }
}

/// Motorcycles side by side, across the parking lane; returns the length that they take.
fn motorcycle_row(site: &mut Site, street: &Street, side: usize, s: f32, offset: f32, rng: &mut Rng) -> f32 {
    let count = 2 + rng.index(4);
    for i in 0..count {
        let spot = Spot::new(street, side, s + 0.6 + 1.05 * i as f32, offset + rng.range(-0.05, 0.05));
        let yaw = spot.yaw() + 0.5 * PI + rng.around(0.0, 0.12) + if rng.chance(0.2) { PI } else { 0.0 };
        site.stand(bodies::motorcycle(rng, false), spot.position, yaw, 0.03);
    }
    1.05 * count as f32 + 1.0
}

/// Part of the parking lane dug up behind barriers and cones.
fn road_works(site: &mut Site, street: &Street, side: usize, s: f32, rng: &mut Rng) {
    let inner = street.half_width(side) - street.parking[side] + 0.35;
    let length = rng.range(12.0, 24.0).min(street.clear[1] - 6.0 - s);
    let middle = street.half_width(side) - 0.35 * street.parking[side] + 0.3;
    if rng.chance(0.75) {
        let spot = Spot::new(street, side, s + 0.5 * length, middle + 0.5);
        let machine = if rng.chance(0.7) { bodies::construction_vehicle(rng) } else { bodies::truck(rng) };
        // It must not reach over the barriers into the lane.
        if 0.5 * machine.size[1] < middle + 0.5 - inner - 0.3 {
            site.stand(machine, spot.position, spot.yaw() + rng.around(0.0, 0.05), 0.2);
        }
    }
    let barriers = rng.chance(0.7);
    let mut t = 2.0;
    while t < length - 2.0 {
        let spot = Spot::new(street, side, s + t, inner);
        if barriers {
            let body = bodies::barrier(rng);
            t += body.size[1] + rng.range(0.05, 0.4);
            site.stand(body, spot.position, spot.yaw() + 0.5 * PI + rng.around(0.0, 0.03), 0.0);
        } else {
            site.stand(bodies::traffic_cone(rng), spot.position, rng.range(0.0, TAU), 0.05);
            t += rng.range(1.5, 3.0);
        }
    }
    // A taper of cones at either end.
    for (start, sign) in [(0.0, 1.0), (length, -1.0)] {
        for i in 0..4 {
            let share = i as f32 / 4.0;
            let spot = Spot::new(
                street,
                side,
                s + start - sign * (1.2 + 1.4 * (1.0 - share)),
                street.half_width(side) - 0.4 - share * (street.parking[side] - 0.8),
            );
            site.stand(bodies::traffic_cone(rng), spot.position, rng.range(0.0, TAU), 0.05);
        }
    }
    for _ in 0..1 + rng.index(3) {
        let spot = Spot::new(street, side, s + rng.range(1.0, length - 1.0), middle + rng.range(0.0, 1.5));
        site.stand(worker(rng), spot.position, rng.range(0.0, TAU), 0.1);
    }
    let spot = Spot::new(street, side, s + rng.range(3.0, length - 3.0), middle + 0.4);
    site.place(props::heap(rng), spot.position, spot.axis, [1.2, 0.7]);
}

/// A street without traffic: barriers across its ends, machines and cones between.
pub(super) fn closed_street(site: &mut Site, street: &Street, rng: &mut Rng) {
    let [from, to] = street.clear;
    for s in [from + 1.5, to - 1.5] {
        let mut left = -street.half_width(1) + 1.5;
        while left < street.half_width(0) - 1.3 {
            let spot = Spot::new(street, 0, s, left);
            let body = bodies::barrier(rng);
            left += body.size[1] + rng.range(0.05, 0.5);
            site.stand(body, spot.position, spot.yaw() + rng.around(0.0, 0.04), 0.0);
        }
        for _ in 0..5 {
            let spot = Spot::new(street, 0, s + rng.range(-1.8, 1.8), rng.range(-street.half_width(1), street.half_width(0)));
            site.stand(bodies::traffic_cone(rng), spot.position, rng.range(0.0, TAU), 0.1);
        }
    }
    let mut s = from + 7.0;
    while s < to - 7.0 {
        let across = rng.range(-0.6, 0.6) * street.half_width(0).min(street.half_width(1));
        let spot = Spot::new(street, 0, s, across);
        let yaw = spot.yaw() + rng.range(-0.6, 0.6) + if rng.chance(0.5) { PI } else { 0.0 };
        match rng.weighted(&[0.4, 0.15, 0.15, 0.15, 0.15]) {
            0 => {
                site.stand(bodies::construction_vehicle(rng), spot.position, yaw, 0.2);
            }
            1 => {
                site.stand(bodies::truck(rng), spot.position, yaw, 0.2);
            }
            2 => {
                site.place(props::heap(rng), spot.position, spot.axis, [2.0, 1.6]);
            }
            3 => {
                site.place(props::material(rng), spot.position, spot.axis, [2.3, 1.3]);
            }
            _ => {
                for i in 0..6 {
                    let spot = Spot::new(street, 0, s + 1.6 * i as f32, across + 0.1 * i as f32);
                    site.stand(bodies::traffic_cone(rng), spot.position, rng.range(0.0, TAU), 0.1);
                }
            }
        }
        let helper = Spot::new(street, 0, s + rng.range(-3.0, 3.0), across + rng.range(-3.0, 3.0));
        site.stand(worker(rng), helper.position, rng.range(0.0, TAU), 0.15);
        s += rng.range(6.0, 11.0);
    }
}

/// Trees, barriers or bushes on the raised strip in the middle.
pub(super) fn median(site: &mut Site, street: &Street, rng: &mut Rng) {
    if street.median == 0.0 || street.closed {
        return;
    }
    let kind = rng.index(3);
    let mut s = street.clear[0] + 4.0;
    while s < street.clear[1] - 4.0 {
        let spot = Spot::new(street, 0, s, 0.0);
        s += match kind {
            0 => {
                let body = bodies::barrier(rng);
                let step = body.size[1] + rng.range(0.03, 0.3);
                site.stand(body, spot.position, spot.yaw() + 0.5 * PI + rng.around(0.0, 0.02), 0.0);
                step
            }
            1 => {
                site.place(props::tree(rng), spot.position, spot.axis, [0.4, 0.4]);
                rng.range(7.0, 12.0)
            }
            _ => {
                site.place(props::bush(rng), spot.position, spot.axis, [0.5, 0.5]);
                rng.range(2.5, 6.0)
            }
        };
    }
}

fn bus_stop(site: &mut Site, street: &Street, side: usize, s: f32, rng: &mut Rng) {
    let spot = Spot::new(street, side, s, street.frontage(side) - 0.9);
    if !site.place(props::bus_shelter(), spot.position, spot.facing(), [2.3, 0.8]) {
        return;
    }
    for _ in 0..1 + rng.index(5) {
        let waiting = Spot::new(
            street,
            side,
            s + rng.range(-3.0, 3.0),
            street.half_width(side) + rng.range(0.4, street.frontage(side) - street.half_width(side) - 0.4),
        );
        site.stand(person(rng), waiting.position, rng.range(0.0, TAU), 0.05);
    }
    if street.parking[side] > 0.0 && rng.chance(0.5) {
        let body = bodies::bus(rng);
        let spot = Spot::new(street, side, s, street.half_width(side) - 0.5 * body.size[1] - 0.15);
        let lane = street.half_width(side) - street.parking[side];
        // A bus is wider than the parking lane; it may reach as far as half a metre into the next one.
        if street.half_width(side) - body.size[1] > lane - 0.75 {
            site.stand(body, spot.position, spot.yaw() + if side == 1 { 0.0 } else { PI }, 0.3);
        }
    }
}

/// Trees, lamps, signs and small things on the verge; bicycle racks on the pavement.
fn furniture(site: &mut Site, street: &Street, side: usize, style: &Style, rng: &mut Rng) {
    let verge = street.half_width(side) + 0.5 * street.verge;
    let [from, to] = [street.clear[0] + 2.0, street.clear[1] - 2.0];
    let along = |site: &mut Site, spacing: f32, rng: &mut Rng, make: &dyn Fn(&mut Rng) -> Vec<crate::sim::solid::Part>, half: f32| {
        let mut s = from + rng.range(0.0, spacing.min(30.0));
        while s < to {
            let spot = Spot::new(street, side, s, verge);
            site.place(make(rng), spot.position, spot.facing(), [half, half]);
            s += spacing * rng.range(0.8, 1.2);
        }
    };
    along(site, rng.range(24.0, 34.0), rng, &props::lamp, 0.2);
    if street.verge > 0.7 && rng.chance(0.7) {
        along(site, style.trees, rng, &props::tree, 0.4);
    }
    along(site, rng.range(18.0, 45.0), rng, &props::sign, 0.15);
    along(site, rng.range(9.0, 30.0), rng, &props::clutter, 0.35);
    for s in [from - 1.0, to + 1.0] {
        let spot = Spot::new(street, side, s, street.half_width(side) + 0.45);
        if rng.chance(0.6) {
            site.place(props::traffic_light(rng), spot.position, spot.facing(), [0.2, 0.2]);
        }
    }
    let racks = [0, 0, 1, 1, 2][rng.index(5)];
    for _ in 0..racks {
        let s = rng.range(from + 2.0, to - 8.0);
        let two_wheelers = rng.chance(0.75);
        for i in 0..2 + rng.index(5) {
            let spot = Spot::new(street, side, s + 0.8 * i as f32, street.frontage(side) - 0.95);
            let yaw = spot.yaw() + 0.5 * PI + rng.around(0.0, 0.1);
            let body = if two_wheelers { bodies::bicycle(rng, false) } else { bodies::motorcycle(rng, false) };
            if site.stand(body, spot.position, yaw, 0.0) && rng.chance(0.15) {
                break;
            }
        }
    }
}

/// People who stand about, alone or talking.
fn bystanders(site: &mut Site, street: &Street, side: usize, rng: &mut Rng) {
    for _ in 0..rng.index(4) {
        let s = rng.range(street.clear[0], street.clear[1]);
        let offset = street.frontage(side) - rng.range(0.4, 0.9);
        for i in 0..1 + rng.index(4) {
            let spot = Spot::new(street, side, s + 0.9 * i as f32 + rng.range(-0.1, 0.1), offset + rng.range(-0.2, 0.2));
            site.stand(person(rng), spot.position, rng.range(0.0, TAU), 0.02);
        }
    }
}

pub(super) fn person(rng: &mut Rng) -> Body {
    bodies::pedestrian(&Person::draw(rng), Gait::Standing)
}

pub(super) fn worker(rng: &mut Rng) -> Body {
    bodies::pedestrian(&Person::worker(rng), Gait::Standing)
}
