//! A town: its ground, its roads, what stands along them, and the labelled objects that stand still.

mod ground;
mod kerb;
mod lots;
mod path;
mod props;
mod roads;
mod streetside;

use super::bodies::Body;
use super::solid::{Part, Vec3};
use crate::random::Rng;
use ground::Rectangle;

pub(crate) use ground::{Ground, KERB, Paving, Rectangle as Footprint};
pub(crate) use kerb::KerbMap;
pub(crate) use path::{Path, Vec2, left_of};
pub(crate) use roads::{LaneKind, Roads};

/// Room around the outermost junctions, metres.
const BORDER: f32 = 75.0;
/// Nothing stands nearer than this to the middle of a lane, metres.
const LANE_CLEARANCE: f32 = 1.25;

pub(crate) struct Town {
    pub ground: Ground,
    pub roads: Roads,
    /// What is painted on the roads, as it was before the ground's cells rounded it.
    pub paint: Vec<Stroke>,
    pub props: Vec<Prop>,
    pub standing: Vec<Standing>,
}

/// A straight piece of a painted line or stripe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stroke {
    pub ends: [Vec2; 2],
    pub half_width: f32,
    pub kind: PaintKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaintKind {
    /// Between the two directions.
    Middle,
    /// Between lanes of one direction.
    Lane,
    /// Between a lane and the parking lane.
    Parking,
    /// A stripe of a crossing.
    Zebra,
}

/// An unlabelled thing, its parts in town coordinates.
pub(crate) struct Prop {
    pub center: Vec3,
    pub radius: f32,
    pub parts: Vec<Part>,
}

/// A labelled object that does not move.
pub(crate) struct Standing {
    pub body: Body,
    pub position: Vec2,
    pub yaw: f32,
}

impl Town {
    pub fn new(seed: u64) -> Self {
        let roads = Roads::new(&mut Rng::new(seed, "roads"));
        let low = roads.nodes.iter().fold(Vec2::repeat(f32::INFINITY), |m, p| m.inf(p)).add_scalar(-BORDER);
        let high = roads.nodes.iter().fold(Vec2::repeat(f32::NEG_INFINITY), |m, p| m.sup(p)).add_scalar(BORDER);
        let mut ground = Ground::new(low, high, &mut Rng::new(seed, "hills"));
        let paint = pave_roads(&mut ground, &roads);
        let mut site = Site { ground, props: Vec::new(), standing: Vec::new(), taken: Vec::new() };
        let style = Style::draw(&mut Rng::new(seed, "style"));
        for (id, street) in roads.streets.iter().enumerate() {
            let mut rng = Rng::new(seed, &format!("street {id}"));
            if street.closed {
                streetside::closed_street(&mut site, street, &mut rng);
            }
            for side in 0..2 {
                streetside::kerbside(&mut site, street, side, &style, &mut rng);
            }
            streetside::median(&mut site, street, &mut rng);
        }
        for (id, street) in roads.streets.iter().enumerate() {
            let mut rng = Rng::new(seed, &format!("lots {id}"));
            for side in 0..2 {
                lots::build(&mut site, street, side, &style, &mut rng);
            }
        }
        let mut standing = site.standing;
        standing.retain(|s| !blocks_a_lane(s, &roads));
        Self { ground: site.ground, roads, paint, props: site.props, standing }
    }
}

/// Whether a car in the middle of a lane would touch it.
fn blocks_a_lane(object: &Standing, roads: &Roads) -> bool {
    let half = Vec2::new(0.5 * object.body.size[0], 0.5 * object.body.size[1]);
    let place = Rectangle { center: object.position, axis: Vec2::new(object.yaw.cos(), object.yaw.sin()), half };
    let reach = half.norm() + LANE_CLEARANCE;
    let touches = |p: &Vec2| (p - object.position).norm_squared() < reach * reach && place.distance(*p) < LANE_CLEARANCE;
    roads.lanes.iter().any(|lane| lane.path.points().iter().any(touches))
}

/// What tells one town from another.
struct Style {
    /// Share of parking places that are taken.
    parked: f32,
    /// Distance between street trees; infinite for none.
    trees: f32,
    tallest: f32,
    /// How often each kind of lot occurs.
    lots: [f32; 7],
}

impl Style {
    fn draw(rng: &mut Rng) -> Self {
        let center = rng.unit();
        let mut weight = |mean: f32| mean * rng.range(0.6, 1.4);
        let lots = [
            weight(0.34 + 0.2 * center),
            weight(0.2 * (1.0 - center)),
            weight(0.14),
            weight(0.26),
            weight(0.07),
            weight(0.13),
            weight(0.12),
        ];
        Self {
            parked: rng.range(0.5, 0.88),
            trees: if rng.chance(0.15) { f32::INFINITY } else { rng.range(8.0, 18.0) },
            tallest: 7.0 + 18.0 * center,
            lots,
        }
    }
}

fn pave_roads(ground: &mut Ground, roads: &Roads) -> Vec<Stroke> {
    let strip = |ground: &mut Ground, path: &Path, half_width: f32, paving: Paving| {
        for pair in path.points().windows(2) {
            ground.pave_strip(pair[0], pair[1], half_width, paving, |old| old != Paving::Road);
        }
    };
    // From the outside in: pavement, verge, carriageway, then what is raised or painted on it.
    for street in &roads.streets {
        for side in 0..2 {
            let sign = roads::Street::sign(side);
            let verge = street.half_width(side) + 0.5 * street.verge;
            let all = street.center.beside(sign * 0.5 * street.frontage(side), 0.0, street.center.length());
            strip(ground, &all, 0.5 * street.frontage(side) + 0.1, Paving::Pavement);
            if street.verge > 0.8 {
                let grass = street.center.beside(sign * verge, street.clear[0] + 2.0, street.clear[1] - 2.0);
                strip(ground, &grass, 0.5 * street.verge, Paving::Grass);
            }
        }
    }
    for walk in &roads.walks {
        strip(ground, &walk.path, 1.6, Paving::Pavement);
    }
    for street in &roads.streets {
        let [left, right] = [0, 1].map(|side| street.half_width(side));
        let road = street.center.beside(0.5 * (left - right), 0.0, street.center.length());
        strip(ground, &road, 0.5 * (left + right), Paving::Road);
    }
    for lane in &roads.lanes {
        if matches!(lane.kind, LaneKind::Junction { .. }) {
            strip(ground, &lane.path, 2.3, Paving::Road);
        }
    }
    roads.streets.iter().flat_map(|street| paint_street(ground, street)).collect()
}

/// Lane lines, crossings and the median. The strokes are the painted ones.
fn paint_street(ground: &mut Ground, street: &roads::Street) -> Vec<Stroke> {
    /// Points of a path (half a metre apart) that one straight stroke stands for.
    const POINTS: usize = 4;
    let mut strokes = Vec::new();
    let [from, to] = [street.clear[0] + 1.0, street.clear[1] - 1.0];
    let mut line = |left: f32, dash: f32, gap: f32, half_width: f32, kind: Option<PaintKind>| {
        let paving = if kind.is_some() { Paving::Marking } else { Paving::Grass };
        let mut s = from;
        while s < to {
            let piece = street.center.beside(left, s, (s + dash).min(to));
            for pair in piece.points().windows(2) {
                ground.pave_strip(pair[0], pair[1], half_width, paving, |_| true);
            }
            let points = piece.points();
            for i in (0..points.len() - 1).step_by(POINTS) {
                let ends = [points[i], points[(i + POINTS).min(points.len() - 1)]];
                strokes.extend(kind.map(|kind| Stroke { ends, half_width, kind }));
            }
            s += dash + gap;
        }
    };
    if street.median > 0.0 {
        line(0.0, to - from, 1.0, 0.5 * street.median - 0.15, None);
    } else {
        line(0.0, 3.0, 3.0, 0.11, Some(PaintKind::Middle));
    }
    for sign in [-1.0, 1.0] {
        for lane in 1..street.lanes {
            line(sign * (0.5 * street.median + lane as f32 * street.lane_width), 2.0, 4.0, 0.11, Some(PaintKind::Lane));
        }
    }
    for (side, sign) in [1.0, -1.0].into_iter().enumerate() {
        if street.parking[side] > 0.0 {
            line(sign * (street.half_width(side) - street.parking[side]), to - from, 1.0, 0.1, Some(PaintKind::Parking));
        }
    }
    for s in [street.clear[0] - 2.2, street.clear[1] + 2.2] {
        let (point, direction) = street.center.at(s);
        let mut left = 0.4 - street.half_width(1);
        while left < street.half_width(0) {
            let middle = point + left * left_of(direction);
            let ends = [middle - 1.3 * direction, middle + 1.3 * direction];
            ground.pave_strip(ends[0], ends[1], 0.22, Paving::Marking, |_| true);
            strokes.push(Stroke { ends, half_width: 0.22, kind: PaintKind::Zebra });
            left += 1.1;
        }
    }
    strokes
}

/// A town under construction: what has been built, and which ground that takes.
struct Site {
    ground: Ground,
    props: Vec<Prop>,
    standing: Vec<Standing>,
    taken: Vec<Rectangle>,
}

impl Site {
    fn is_free(&self, place: &Rectangle) -> bool {
        let reach = place.half.norm();
        !self.taken.iter().any(|t| (t.center - place.center).norm_squared() < (reach + t.half.norm()).powi(2) && t.overlaps(place))
    }

    /// Stands a labelled object there unless something is in the way; keeps `margin` metres around it clear.
    fn stand(&mut self, body: Body, position: Vec2, yaw: f32, margin: f32) -> bool {
        let half = Vec2::new(0.5 * body.size[0], 0.5 * body.size[1]);
        let place = Rectangle { center: position, axis: Vec2::new(yaw.cos(), yaw.sin()), half: half.add_scalar(margin) };
        let free = self.is_free(&place);
        if free {
            self.taken.push(place);
            self.standing.push(Standing { body, position, yaw });
        }
        free
    }

    /// Stands an unlabelled thing there unless something is in the way of its foot, `half` along and across.
    fn place(&mut self, parts: Vec<Part>, position: Vec2, axis: Vec2, half: [f32; 2]) -> bool {
        let place = Rectangle { center: position, axis, half: half.into() };
        let free = self.is_free(&place);
        if free {
            self.taken.push(place);
            self.add(parts, position, axis);
        }
        free
    }

    fn add(&mut self, parts: Vec<Part>, position: Vec2, axis: Vec2) {
        let foot = Vec3::new(position.x, position.y, self.ground.height(position));
        let parts: Vec<Part> = parts.iter().map(|p| p.placed(foot, axis.y.atan2(axis.x))).collect();
        let radius = parts.iter().map(|p| (p.center - foot).norm() + p.half.norm()).fold(0.0, f32::max);
        self.props.push(Prop { center: foot, radius, parts });
    }
}
