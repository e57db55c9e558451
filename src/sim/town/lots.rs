//! What is built on the plots along a street: houses, car parks, depots, parks, building sites.

use super::ground::Rectangle;
use super::path::{Vec2, left_of};
use super::roads::Street;
use super::streetside::{person, worker};
use super::{Paving, Site, Style, props};
use crate::random::Rng;
use crate::sim::bodies;
use std::f32::consts::{PI, TAU};

#[derive(Clone, Copy)]
enum Use {
    Block,
    House,
    CarPark,
    Depot,
    Park,
    BuildingSite,
    Plaza,
}

const USES: [Use; 7] = [Use::Block, Use::House, Use::CarPark, Use::Depot, Use::Park, Use::BuildingSite, Use::Plaza];

/// A plot beside the pavement. Its x runs along the street and its y away from it.
struct Plot {
    area: Rectangle,
}

impl Plot {
    /// From the middle of the front edge: `along` the street and `in_` from the pavement.
    fn at(&self, along: f32, in_: f32) -> Vec2 {
        self.area.center + along * self.area.axis + (in_ - self.area.half.y) * left_of(self.area.axis)
    }

    fn width(&self) -> f32 {
        2.0 * self.area.half.x
    }

    fn depth(&self) -> f32 {
        2.0 * self.area.half.y
    }

    /// Heading along the street.
    fn yaw(&self) -> f32 {
        self.area.axis.y.atan2(self.area.axis.x)
    }
}

/// Fills one side of a street with plots, as far as the ground is open.
pub(super) fn build(site: &mut Site, street: &Street, side: usize, style: &Style, rng: &mut Rng) {
    let mut s = street.clear[0] - 3.0;
    while s < street.clear[1] - 3.0 {
        let kind = USES[rng.weighted(&style.lots)];
        let (width, depth) = match kind {
            Use::Block => (rng.range(9.0, 26.0), rng.range(9.0, 16.0)),
            Use::House => (rng.range(12.0, 20.0), rng.range(14.0, 20.0)),
            Use::CarPark => (rng.range(16.0, 34.0), [11.5, 17.0, 28.0][rng.index(3)]),
            Use::Depot => (rng.range(26.0, 42.0), rng.range(22.0, 32.0)),
            Use::Park => (rng.range(14.0, 34.0), rng.range(14.0, 26.0)),
            Use::BuildingSite => (rng.range(18.0, 34.0), rng.range(16.0, 26.0)),
            Use::Plaza => (rng.range(14.0, 30.0), rng.range(15.0, 24.0)),
        };
        let (point, direction) = street.center.at(s + 0.5 * width);
        let outward = Street::sign(side) * left_of(direction);
        // So that left of the axis is away from the street.
        let axis = Vec2::new(outward.y, -outward.x);
        let center = point + (street.frontage(side) + 0.4 + 0.5 * depth) * outward;
        let plot = Plot { area: Rectangle { center, axis, half: Vec2::new(0.5 * width, 0.5 * depth) } };
        if !site.ground.all(&plot.area, |p| p == Paving::Open) {
            s += 1.0;
            continue;
        }
        match kind {
            Use::Block => block(site, &plot, style, rng),
            Use::House => house(site, &plot, rng),
            Use::CarPark => car_park(site, &plot, rng),
            Use::Depot => depot(site, &plot, rng),
            Use::Park => park(site, &plot, rng),
            Use::BuildingSite => building_site(site, &plot, rng),
            Use::Plaza => plaza(site, &plot, style, rng),
        }
        s += width + if rng.chance(0.3) { rng.range(1.0, 6.0) } else { 0.1 };
    }
}

/// A building that fills `length` by `depth` of the plot, its front `in_` from the pavement.
fn raise(site: &mut Site, plot: &Plot, along: f32, in_: f32, size: [f32; 3], rng: &mut Rng) {
    let [length, depth, height] = size;
    let center = plot.at(along, in_ + 0.5 * depth);
    let parts = props::building(length, depth, height, rng);
    site.place(parts, center, plot.area.axis, [0.5 * length, 0.5 * depth]);
}

/// A front along the pavement, open at the entrances.
fn enclose(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    let gate = rng.range(5.0, 8.0).min(0.5 * plot.width());
    let gate_at = rng.range(-0.5, 0.5) * (plot.width() - gate);
    let kind = rng.index(4);
    let ends = [(-0.5 * plot.width(), gate_at - 0.5 * gate), (gate_at + 0.5 * gate, 0.5 * plot.width())];
    for (from, to) in ends {
        let length = to - from;
        if length < 1.0 {
            continue;
        }
        let parts = match kind {
            0 => props::fence(length, rng.range(1.2, 2.2), rng),
            1 => props::hedge(length, rng.range(0.7, 1.6), rng),
            2 => props::wall(length, rng.range(0.6, 1.8), rng),
            _ => continue,
        };
        site.place(parts, plot.at(0.5 * (from + to), 0.4), plot.area.axis, [0.5 * length, 0.3]);
    }
}

fn block(site: &mut Site, plot: &Plot, style: &Style, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Built);
    let setback = if rng.chance(0.5) { 0.0 } else { rng.range(0.3, 2.0) };
    let height = rng.range(5.0, style.tallest);
    raise(site, plot, 0.0, setback, [plot.width(), plot.depth() - setback, height], rng);
}

fn house(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Grass);
    enclose(site, plot, rng);
    let drive = if rng.chance(0.5) { 1.0 } else { -1.0 };
    let setback = rng.range(5.0, 7.0);
    let length = plot.width() - rng.range(3.6, 5.0);
    let along = -drive * 0.5 * (plot.width() - length - 0.4);
    raise(site, plot, along, setback, [length, plot.depth() - setback - 1.0, rng.range(3.2, 7.0)], rng);
    if rng.chance(0.6) {
        let car = bodies::car(rng);
        let at = plot.at(drive * (0.5 * plot.width() - 1.9), rng.range(3.2, 4.5));
        site.stand(car, at, plot.yaw() + rng.sign() * 0.5 * PI + rng.around(0.0, 0.04), 0.2);
    }
    for _ in 0..rng.index(4) {
        let at = plot.at(rng.range(-0.45, 0.45) * plot.width(), rng.range(1.2, setback - 0.5));
        let parts = if rng.chance(0.4) { props::tree(rng) } else { props::bush(rng) };
        site.place(parts, at, plot.area.axis, [0.6, 0.6]);
    }
}

fn car_park(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Yard);
    enclose(site, plot, rng);
    let occupied = rng.range(0.35, 0.85);
    // Bays of 2.6 by 5.4 m in rows with an aisle between every second pair.
    let rows: &[f32] = if plot.depth() < 12.0 {
        &[4.0]
    } else if plot.depth() < 20.0 {
        &[4.0, 14.0]
    } else {
        &[4.0, 14.0, 19.6]
    };
    for &row in rows {
        let bays = ((plot.width() - 1.0) / 2.6) as usize;
        for bay in 0..bays {
            if !rng.chance(occupied) {
                continue;
            }
            let body = if rng.chance(0.9) { bodies::car(rng) } else { bodies::truck(rng) };
            if body.size[0] > 6.2 {
                continue;
            }
            let along = (bay as f32 + 0.5 - 0.5 * bays as f32) * 2.6;
            let yaw = plot.yaw() + rng.sign() * 0.5 * PI + rng.around(0.0, 0.03);
            site.stand(body, plot.at(along + rng.around(0.0, 0.1), row + rng.around(0.0, 0.2)), yaw, 0.08);
        }
    }
    for _ in 0..rng.index(3) {
        let at = plot.at(rng.range(-0.45, 0.45) * plot.width(), rng.range(7.5, 10.0));
        site.stand(person(rng), at, rng.range(0.0, TAU), 0.1);
    }
}

/// Trailers and containers in a row, trucks, buses and cars beside them.
fn depot(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Yard);
    enclose(site, plot, rng);
    let goods = rng.chance(0.75);
    let occupied = rng.range(0.5, 0.9);
    let slant = rng.range(-0.3, 0.3);
    let mut along = -0.5 * plot.width() + 3.5;
    while along < 0.5 * plot.width() - 3.0 {
        if rng.chance(occupied) {
            let body = if goods {
                match rng.weighted(&[0.62, 0.16, 0.14, 0.08]) {
                    0 => bodies::trailer(rng),
                    1 => bodies::truck(rng),
                    2 => bodies::tractor(rng, false),
                    _ => bodies::construction_vehicle(rng),
                }
            } else {
                bodies::bus(rng)
            };
            let in_ = (2.5 + 0.55 * body.size[0]).max(rng.range(8.0, 10.0)).min(plot.depth() - 0.5 * body.size[0] - 1.0);
            let yaw = plot.yaw() + rng.sign() * 0.5 * PI + slant + rng.around(0.0, 0.03);
            site.stand(body, plot.at(along, in_), yaw, 0.2);
        }
        along += rng.range(3.7, 4.6);
    }
    // In front of the row, along the street, or at the back.
    for _ in 0..2 {
        let body = if rng.chance(0.4) { bodies::trailer(rng) } else { bodies::truck(rng) };
        let at = plot.at(rng.range(-0.35, 0.35) * plot.width(), plot.depth() - rng.range(2.5, 4.0));
        site.stand(body, at, plot.yaw() + rng.around(0.0, 0.04), 0.3);
    }
    raise(site, plot, 0.0, plot.depth() - 0.8, [0.8 * plot.width(), 0.8, rng.range(4.0, 8.0)], rng);
    for _ in 0..rng.index(3) {
        let at = plot.at(rng.range(-0.45, 0.45) * plot.width(), rng.range(1.0, 6.0));
        site.stand(worker(rng), at, rng.range(0.0, TAU), 0.1);
    }
}

fn park(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Grass);
    if rng.chance(0.5) {
        enclose(site, plot, rng);
    }
    let area = plot.width() * plot.depth();
    for _ in 0..(area / 45.0) as usize {
        let at = plot.at(rng.range(-0.48, 0.48) * plot.width(), rng.range(1.5, plot.depth() - 0.5));
        let parts = match rng.index(5) {
            0 | 1 => props::tree(rng),
            2 | 3 => props::bush(rng),
            _ => props::clutter(rng),
        };
        site.place(parts, at, plot.area.axis, [0.7, 0.7]);
    }
    for _ in 0..rng.index(5) {
        let at = plot.at(rng.range(-0.45, 0.45) * plot.width(), rng.range(1.0, 0.8 * plot.depth()));
        site.stand(person(rng), at, rng.range(0.0, TAU), 0.1);
    }
}

fn building_site(site: &mut Site, plot: &Plot, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Dirt);
    match rng.index(3) {
        0 => {
            site.place(props::fence(plot.width(), 2.0, rng), plot.at(0.0, 0.4), plot.area.axis, [0.5 * plot.width(), 0.3]);
        }
        _ => {
            let mut along = -0.5 * plot.width() + 1.4;
            while along < 0.5 * plot.width() - 1.4 {
                let body = bodies::barrier(rng);
                let step = body.size[1] + rng.range(0.04, 0.5);
                if rng.chance(0.9) {
                    site.stand(body, plot.at(along, 0.5), plot.yaw() + 0.5 * PI + rng.around(0.0, 0.04), 0.0);
                }
                along += step;
            }
        }
    }
    let inside = |rng: &mut Rng| plot.at(rng.range(-0.42, 0.42) * plot.width(), rng.range(3.5, 0.8 * plot.depth()));
    for _ in 0..1 + rng.index(3) {
        let at = inside(rng);
        site.stand(bodies::construction_vehicle(rng), at, rng.range(0.0, TAU), 0.4);
    }
    if rng.chance(0.4) {
        let at = inside(rng);
        site.stand(bodies::truck(rng), at, rng.range(0.0, TAU), 0.3);
    }
    for _ in 0..3 {
        let at = inside(rng);
        if rng.chance(0.5) {
            site.place(props::heap(rng), at, plot.area.axis, [2.0, 1.6]);
        } else {
            site.place(props::material(rng), at, plot.area.axis, [2.3, 1.3]);
        }
    }
    for _ in 0..2 + rng.index(4) {
        let at = inside(rng);
        site.stand(worker(rng), at, rng.range(0.0, TAU), 0.1);
    }
    for _ in 0..rng.index(8) {
        let at = plot.at(rng.range(-0.48, 0.48) * plot.width(), rng.range(1.2, 3.0));
        site.stand(bodies::traffic_cone(rng), at, rng.range(0.0, TAU), 0.1);
    }
    raise(site, plot, 0.0, plot.depth() - 3.0, [0.7 * plot.width(), 3.0, rng.range(3.0, 12.0)], rng);
}

/// An open square in front of a building: racks, planters, groups of people.
fn plaza(site: &mut Site, plot: &Plot, style: &Style, rng: &mut Rng) {
    site.ground.pave_rectangle(&plot.area, Paving::Pavement);
    let setback = rng.range(5.0, 9.0);
    raise(site, plot, 0.0, setback, [plot.width(), plot.depth() - setback, rng.range(5.0, style.tallest)], rng);
    let mut along = -0.45 * plot.width();
    while along < 0.45 * plot.width() {
        let at = plot.at(along, 0.6);
        site.place(props::clutter(rng), at, plot.area.axis, [0.4, 0.3]);
        along += rng.range(2.0, 7.0);
    }
    let racks = rng.index(3);
    for _ in 0..racks {
        let start = rng.range(-0.45, 0.2) * plot.width();
        let in_ = rng.range(2.0, setback - 1.2);
        let powered = rng.chance(0.45);
        for i in 0..2 + rng.index(6) {
            let body = if powered { bodies::motorcycle(rng, false) } else { bodies::bicycle(rng, false) };
            let gap = if powered { 1.05 } else { 0.8 };
            let at = plot.at(start + gap * i as f32, in_);
            site.stand(body, at, plot.yaw() + 0.5 * PI + rng.around(0.0, 0.15), 0.0);
        }
    }
    for _ in 0..rng.index(5) {
        let (along, in_) = (rng.range(-0.45, 0.45) * plot.width(), rng.range(1.2, setback - 0.8));
        for i in 0..1 + rng.index(3) {
            let at = plot.at(along + 0.85 * i as f32, in_ + rng.range(-0.2, 0.2));
            site.stand(person(rng), at, rng.range(0.0, TAU), 0.02);
        }
    }
}
