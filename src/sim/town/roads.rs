//! The road network: junctions on a skewed grid, bent streets between them, lanes, the curves that join lanes across a
//! junction, and the pavements and crossings that people use.

use super::path::{Path, Vec2, left_of};
use crate::random::Rng;

/// A street from junction `ends[0]` to `ends[1]`. "Left" and "right" are those of somebody who goes that way.
pub(crate) struct Street {
    pub ends: [usize; 2],
    pub center: Path,
    /// From where to where (arc length of `center`) it is clear of its junctions.
    pub clear: [f32; 2],
    /// In each direction.
    pub lanes: usize,
    pub lane_width: f32,
    /// Width of a raised strip in the middle, or 0.
    pub median: f32,
    /// Width of the parking lane on the left and on the right, or 0.
    pub parking: [f32; 2],
    /// Width of the strip between kerb and pavement where trees and lamps stand.
    pub verge: f32,
    pub pavement: f32,
    /// Under reconstruction: no traffic.
    pub closed: bool,
    /// m/s.
    pub limit: f32,
}

impl Street {
    /// From the middle to the kerb; `side` 0 is left, 1 right.
    pub fn half_width(&self, side: usize) -> f32 {
        0.5 * self.median + self.lanes as f32 * self.lane_width + self.parking[side]
    }

    /// From the middle to the outer edge of the pavement.
    pub fn frontage(&self, side: usize) -> f32 {
        self.half_width(side) + self.verge + self.pavement
    }

    /// +1 for the left side, -1 for the right one.
    pub fn sign(side: usize) -> f32 {
        if side == 0 { 1.0 } else { -1.0 }
    }
}

/// One lane, or one curve across a junction.
pub(crate) struct Lane {
    pub path: Path,
    pub limit: f32,
    /// The lanes that one may go on to.
    pub next: Vec<usize>,
    pub kind: LaneKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LaneKind {
    Street {
        /// Next to the kerb.
        outer: bool,
    },
    Junction {
        node: usize,
        from: usize,
        /// The change of heading, radians.
        turn: f32,
    },
}

/// A stretch that people walk along.
pub(crate) struct Walk {
    pub path: Path,
    /// Room on either side of the middle, metres.
    pub room: f32,
    pub crossing: bool,
    /// Walks that share the start, and the end.
    pub next: [Vec<usize>; 2],
}

pub(crate) struct Roads {
    pub nodes: Vec<Vec2>,
    pub streets: Vec<Street>,
    pub lanes: Vec<Lane>,
    pub walks: Vec<Walk>,
    /// How near two junction curves come to each other; `None` if they never meet or belong to different junctions.
    conflicts: std::collections::HashMap<(usize, usize), f32>,
}

/// Curves across a junction that keep this far apart never meet, whatever drives on them.
const CONFLICT_REACH: f32 = 5.5;
/// A sharper turn than this leads back into the street one came from, radians.
const U_TURN: f32 = 2.4;

impl Roads {
    pub fn new(rng: &mut Rng) -> Self {
        // Traffic keeps right in most of the world.
        let hand = if rng.chance(0.25) { -1.0 } else { 1.0 };
        let (columns, rows) = (3 + rng.index(2), 3 + rng.index(2));
        let nodes = skewed_grid(columns, rows, rng);
        let mut streets = streets(&nodes, columns, rows, rng);
        clear_junctions(&nodes, &mut streets);
        let mut roads = Self { nodes, streets, lanes: Vec::new(), walks: Vec::new(), conflicts: Default::default() };
        roads.lay_lanes(hand);
        roads.lay_walks();
        roads
    }

    /// How near two junction curves come to each other.
    pub fn gap(&self, a: usize, b: usize) -> f32 {
        self.conflicts.get(&(a.min(b), a.max(b))).copied().unwrap_or(f32::INFINITY)
    }

    fn lay_lanes(&mut self, hand: f32) {
        // Lanes that arrive at and leave from each junction: (lane, index from the middle).
        let mut arriving = vec![Vec::new(); self.nodes.len()];
        let mut leaving = vec![Vec::new(); self.nodes.len()];
        for street in self.streets.iter().filter(|s| !s.closed) {
            for index in 0..street.lanes {
                let offset = 0.5 * street.median + (index as f32 + 0.5) * street.lane_width;
                let outer = index + 1 == street.lanes;
                for (forward, left) in [(true, -hand * offset), (false, hand * offset)] {
                    let path = street.center.beside(left, street.clear[0] + 1.5, street.clear[1] - 1.5);
                    let path = if forward { path } else { path.reversed() };
                    let id = self.lanes.len();
                    let [from, to] = if forward { street.ends } else { [street.ends[1], street.ends[0]] };
                    leaving[from].push((id, outer, index));
                    arriving[to].push((id, outer, index));
                    self.lanes.push(Lane { path, limit: street.limit, next: Vec::new(), kind: LaneKind::Street { outer } });
                }
            }
        }
        for node in 0..self.nodes.len() {
            let first = self.lanes.len();
            for &(from, from_outer, from_index) in &arriving[node] {
                let ways: Vec<(usize, f32, bool)> = leaving[node]
                    .iter()
                    .map(|&(to, to_outer, to_index)| {
                        let turn = self.turn(from, to);
                        // Turns to the kerb side from and to the outer lane, to the other side from and to the inner one.
                        let allowed = if turn.abs() < 0.6 {
                            from_index == to_index || (from_outer && to_outer)
                        } else if turn * hand < 0.0 {
                            from_outer && to_outer
                        } else {
                            from_index == 0 && to_index == 0
                        };
                        (to, turn, allowed && turn.abs() < U_TURN)
                    })
                    .collect();
                // A lane from which nothing is allowed goes wherever it has to turn least.
                let least = ways.iter().min_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).filter(|_| !ways.iter().any(|w| w.2));
                for &(to, turn, _) in ways.iter().filter(|w| w.2).chain(least) {
                    self.join(node, from, to, turn);
                }
            }
            for a in first..self.lanes.len() {
                for b in a + 1..self.lanes.len() {
                    let gap = nearest(&self.lanes[a].path, &self.lanes[b].path);
                    if gap < CONFLICT_REACH {
                        self.conflicts.insert((a, b), gap);
                    }
                }
            }
        }
    }

    /// The change of heading between the end of one lane and the start of another.
    fn turn(&self, from: usize, to: usize) -> f32 {
        let out = self.lanes[from].path.at(self.lanes[from].path.length()).1;
        let into = self.lanes[to].path.at(0.0).1;
        (out.x * into.y - out.y * into.x).atan2(out.dot(&into))
    }

    /// A curve across a junction.
    fn join(&mut self, node: usize, from: usize, to: usize, turn: f32) {
        let (a, out) = self.lanes[from].path.at(self.lanes[from].path.length());
        let (b, into) = self.lanes[to].path.at(0.0);
        let id = self.lanes.len();
        let limit = if turn.abs() > 0.5 { 4.8 } else { 0.8 * self.lanes[from].limit };
        let kind = LaneKind::Junction { node, from, turn };
        self.lanes.push(Lane { path: Path::bend(a, out, b, into), limit, next: vec![to], kind });
        self.lanes[from].next.push(id);
    }

    fn lay_walks(&mut self) {
        // Corners of the pavement: for each street, end and side.
        let corner = |street: usize, end: usize, side: usize| 4 * street + 2 * end + side;
        let mut touching: Vec<Vec<(usize, usize)>> = vec![Vec::new(); 4 * self.streets.len()];
        let mut walks: Vec<Walk> = Vec::new();
        let mut add = |path: Path, room: f32, crossing: bool, corners: [usize; 2], walks: &mut Vec<Walk>| {
            for (end, corner) in corners.into_iter().enumerate() {
                touching[corner].push((walks.len(), end));
            }
            walks.push(Walk { path, room, crossing, next: [Vec::new(), Vec::new()] });
        };
        for (id, street) in self.streets.iter().enumerate() {
            let inner = [street.clear[0] - 2.2, street.clear[1] + 2.2];
            let offset = |side: usize| Street::sign(side) * (street.half_width(side) + street.verge + 0.5 * street.pavement);
            for side in 0..2 {
                let path = street.center.beside(offset(side), inner[0], inner[1]);
                add(path, 0.5 * street.pavement - 0.45, false, [corner(id, 0, side), corner(id, 1, side)], &mut walks);
            }
            for (end, s) in inner.into_iter().enumerate() {
                let (point, direction) = street.center.at(s);
                let ends = [0, 1].map(|side| point + offset(side) * left_of(direction));
                add(Path::through(&ends), 1.0, true, [corner(id, end, 0), corner(id, end, 1)], &mut walks);
            }
        }
        for node in 0..self.nodes.len() {
            // The streets at this junction, counter-clockwise, with the direction away from it.
            let mut around: Vec<(f32, usize, usize)> = Vec::new();
            for (id, street) in self.streets.iter().enumerate() {
                for end in 0..2 {
                    if street.ends[end] == node {
                        let away = self.outward(id, end).1;
                        around.push((away.y.atan2(away.x), id, end));
                    }
                }
            }
            around.sort_by(|a, b| a.0.total_cmp(&b.0));
            for k in 0..around.len() {
                let (_, a, a_end) = around[k];
                let (_, b, b_end) = around[(k + 1) % around.len()];
                // Seen outward, the corner is on the left of the one and on the right of the other.
                let (a_side, b_side) = (a_end, 1 - b_end);
                let (a_from, a_out) = self.pavement_end(a, a_end, a_side);
                let (b_from, b_out) = self.pavement_end(b, b_end, b_side);
                let mut way = vec![a_from];
                let cross = a_out.x * b_out.y - a_out.y * b_out.x;
                if cross.abs() > 0.3 {
                    // Where the two pavements' middle lines meet.
                    let between = b_from - a_from;
                    way.push(a_from + (between.x * b_out.y - between.y * b_out.x) / cross * a_out);
                }
                way.push(b_from);
                add(Path::through(&way), 0.5, false, [corner(a, a_end, a_side), corner(b, b_end, b_side)], &mut walks);
            }
        }
        for meeting in &touching {
            for &(walk, end) in meeting {
                walks[walk].next[end] = meeting.iter().map(|m| m.0).filter(|&other| other != walk).collect();
            }
        }
        self.walks = walks;
    }

    /// Where a street's clear part ends, and the direction away from its junction.
    fn outward(&self, street: usize, end: usize) -> (Vec2, Vec2) {
        let street = &self.streets[street];
        let (point, direction) = street.center.at(street.clear[end]);
        (point, if end == 0 { direction } else { -direction })
    }

    /// The end of a pavement's middle line, and the direction away from the junction.
    fn pavement_end(&self, id: usize, end: usize, side: usize) -> (Vec2, Vec2) {
        let street = &self.streets[id];
        let s = if end == 0 { street.clear[0] - 2.2 } else { street.clear[1] + 2.2 };
        let (point, direction) = street.center.at(s);
        let offset = Street::sign(side) * (street.half_width(side) + street.verge + 0.5 * street.pavement);
        (point + offset * left_of(direction), self.outward(id, end).1)
    }
}

fn skewed_grid(columns: usize, rows: usize, rng: &mut Rng) -> Vec<Vec2> {
    let mut ticks = |count: usize| {
        let mut at = 0.0;
        (0..count)
            .map(|_| {
                at += rng.range(85.0, 135.0);
                at
            })
            .collect::<Vec<f32>>()
    };
    let (xs, ys) = (ticks(columns), ticks(rows));
    let mut nodes = Vec::new();
    for y in &ys {
        for x in &xs {
            nodes.push(Vec2::new(x + rng.range(-10.0, 10.0), y + rng.range(-10.0, 10.0)));
        }
    }
    nodes
}

fn streets(nodes: &[Vec2], columns: usize, rows: usize, rng: &mut Rng) -> Vec<Street> {
    let mut pairs = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let node = row * columns + column;
            let border = |along: usize, count: usize| along == 0 || along + 1 == count;
            if column + 1 < columns {
                pairs.push(([node, node + 1], border(row, rows)));
            }
            if row + 1 < rows {
                pairs.push(([node, node + columns], border(column, columns)));
            }
        }
    }
    // The ring around the town stays open, so that every junction has a way on.
    let inner: Vec<usize> = (0..pairs.len()).filter(|&i| !pairs[i].1).collect();
    let closed = inner[rng.index(inner.len())];
    // Width belongs to a whole row or column of streets in a real town; here each street has its own.
    pairs
        .iter()
        .enumerate()
        .map(|(id, &(ends, _))| {
            let [a, b] = ends.map(|n| nodes[n]);
            let bulge = rng.range(-7.0, 7.0);
            let side = left_of((b - a).normalize());
            let points: Vec<Vec2> = (0..=40)
                .map(|i| {
                    let t = i as f32 / 40.0;
                    a.lerp(&b, t) + bulge * (std::f32::consts::PI * t).sin() * side
                })
                .collect();
            let lanes = if rng.chance(0.35) { 2 } else { 1 };
            let center = Path::through(&points);
            Street {
                ends,
                clear: [0.0, center.length()],
                center,
                lanes,
                lane_width: rng.range(3.2, 3.7),
                median: if rng.chance(if lanes == 2 { 0.5 } else { 0.12 }) { rng.range(1.2, 2.6) } else { 0.0 },
                parking: [0, 1].map(|_| if rng.chance(0.6) { rng.range(2.2, 2.5) } else { 0.0 }),
                verge: if rng.chance(0.6) { rng.range(0.9, 2.0) } else { 0.5 },
                pavement: rng.range(1.9, 4.0),
                closed: id == closed,
                limit: if lanes == 2 { rng.range(10.0, 14.5) } else { rng.range(7.5, 11.5) },
            }
        })
        .collect()
}

/// Ends each street where the widest street at its junction begins, with room for the corners.
fn clear_junctions(nodes: &[Vec2], streets: &mut [Street]) {
    let mut radius = vec![0.0f32; nodes.len()];
    for street in streets.iter() {
        for node in street.ends {
            radius[node] = radius[node].max(1.15 * street.half_width(0).max(street.half_width(1)) + 5.5);
        }
    }
    for street in streets {
        street.clear = [radius[street.ends[0]], street.center.length() - radius[street.ends[1]]];
    }
}

fn nearest(a: &Path, b: &Path) -> f32 {
    let square = a.points().iter().flat_map(|p| b.points().iter().map(move |q| (p - q).norm_squared())).fold(f32::INFINITY, f32::min);
    square.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_goes_on_and_joins_without_a_jump() {
        for seed in 0..20 {
            let roads = Roads::new(&mut Rng::new(seed, "roads"));
            for lane in &roads.lanes {
                assert!(!lane.next.is_empty(), "seed {seed}: a lane ends at nothing");
                let end = lane.path.at(lane.path.length()).0;
                for &next in &lane.next {
                    assert!((roads.lanes[next].path.at(0.0).0 - end).norm() < 0.05);
                }
            }
            assert!(roads.walks.iter().all(|w| w.next.iter().all(|n| !n.is_empty())));
        }
    }

    #[test]
    fn opposite_straight_lanes_do_not_conflict_and_crossing_ones_do() {
        let roads = Roads::new(&mut Rng::new(3, "roads"));
        let junction = |l: &Lane| if let LaneKind::Junction { node, from, turn } = l.kind { Some((node, from, turn)) } else { None };
        let (mut crossing, mut clear) = (0, 0);
        for (a, lane) in roads.lanes.iter().enumerate() {
            for (b, other) in roads.lanes.iter().enumerate().skip(a + 1) {
                let (Some(x), Some(y)) = (junction(lane), junction(other)) else { continue };
                if x.0 != y.0 || x.2.abs() > 0.3 || y.2.abs() > 0.3 {
                    continue;
                }
                let turned = lane.path.at(0.0).1.dot(&other.path.at(0.0).1);
                if turned.abs() < 0.5 {
                    crossing += 1;
                    assert!(roads.gap(a, b) < 0.5);
                } else if turned < -0.9 {
                    clear += 1;
                    assert!(roads.gap(a, b) > 2.4);
                }
            }
        }
        assert!(crossing > 0 && clear > 0);
    }
}
