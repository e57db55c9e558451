//! Exact overlap of boxes, in double precision.
//!
//! For evaluation and as the reference that faster kernels are tested against. The kernels of the public detectors, with their
//! margins and their single precision, are in [`crate::detect`].

use super::Box3;

/// Area that two boxes share seen from above, square metres. Zero if a number is not finite or a side is not positive.
pub fn bev_intersection(a: &Box3, b: &Box3) -> f64 {
    if !has_footprint(a) || !has_footprint(b) {
        return 0.0;
    }
    // In the axes of `a` only four half planes parallel to the axes are left to clip by, and no precision is lost far from
    // the origin.
    let [half_length, half_width] = [0, 1].map(|i| f64::from(a.size[i]) / 2.0);
    Polygon::footprint_in(a, b)
        .clip(0, half_length, 1.0)
        .clip(0, half_length, -1.0)
        .clip(1, half_width, 1.0)
        .clip(1, half_width, -1.0)
        .area()
}

/// Intersection over union seen from above, in `[0, 1]`. Zero where the intersection is.
pub fn bev_iou(a: &Box3, b: &Box3) -> f64 {
    over_union(bev_intersection(a, b), bev_area(a), bev_area(b))
}

/// Intersection over union of the volumes, in `[0, 1]`. Zero where the footprints do not meet or a height is not positive.
pub fn iou_3d(a: &Box3, b: &Box3) -> f64 {
    if ![a, b].iter().all(|x| x.size[2] > 0.0 && x.size[2].is_finite() && x.center[2].is_finite()) {
        return 0.0;
    }
    let volume = |x: &Box3| bev_area(x) * f64::from(x.size[2]);
    let [(a_low, a_high), (b_low, b_high)] = [a, b].map(|x| {
        let (z, half) = (f64::from(x.center[2]), f64::from(x.size[2]) / 2.0);
        (z - half, z + half)
    });
    let shared_height = (a_high.min(b_high) - a_low.max(b_low)).max(0.0);
    over_union(bev_intersection(a, b) * shared_height, volume(a), volume(b))
}

fn over_union(intersection: f64, a: f64, b: f64) -> f64 {
    if intersection > 0.0 { (intersection / (a + b - intersection)).min(1.0) } else { 0.0 }
}

fn bev_area(b: &Box3) -> f64 {
    f64::from(b.size[0]) * f64::from(b.size[1])
}

fn has_footprint(b: &Box3) -> bool {
    let [l, w, _] = b.size;
    l > 0.0 && w > 0.0 && [l, w, b.center[0], b.center[1], b.yaw].iter().all(|v| v.is_finite())
}

/// A convex polygon with its vertices counter-clockwise. A rectangle clipped by four lines has at most eight.
#[derive(Clone, Copy)]
struct Polygon {
    vertices: [[f64; 2]; 8],
    len: usize,
}

impl Polygon {
    const EMPTY: Self = Self { vertices: [[0.0; 2]; 8], len: 0 };

    /// The corners of `b`, in the axes of `frame` and from its centre.
    fn footprint_in(frame: &Box3, b: &Box3) -> Self {
        let (frame_sin, frame_cos) = f64::from(frame.yaw).sin_cos();
        let (sin, cos) = (f64::from(b.yaw) - f64::from(frame.yaw)).sin_cos();
        let [dx, dy] = [0, 1].map(|i| f64::from(b.center[i]) - f64::from(frame.center[i]));
        let center = [dx * frame_cos + dy * frame_sin, dy * frame_cos - dx * frame_sin];
        let [half_l, half_w] = [0, 1].map(|i| f64::from(b.size[i]) / 2.0);
        let mut polygon = Self::EMPTY;
        for [along, across] in [[half_l, half_w], [-half_l, half_w], [-half_l, -half_w], [half_l, -half_w]] {
            polygon.push([center[0] + along * cos - across * sin, center[1] + along * sin + across * cos]);
        }
        polygon
    }

    /// The part where `side * coordinate <= limit` (Sutherland-Hodgman, one line).
    fn clip(&self, axis: usize, limit: f64, side: f64) -> Self {
        let mut kept = Self::EMPTY;
        for i in 0..self.len {
            let (from, to) = (self.vertices[i], self.vertices[(i + 1) % self.len]);
            let (from_excess, to_excess) = (side * from[axis] - limit, side * to[axis] - limit);
            if from_excess <= 0.0 {
                kept.push(from);
            }
            if (from_excess <= 0.0) != (to_excess <= 0.0) {
                let t = from_excess / (from_excess - to_excess);
                let mut crossing = [from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1])];
                crossing[axis] = side * limit;
                kept.push(crossing);
            }
        }
        kept
    }

    /// Vertices beyond eight can only be rounding's repetitions of one point; they are left out.
    fn push(&mut self, vertex: [f64; 2]) {
        if let Some(slot) = self.vertices.get_mut(self.len) {
            *slot = vertex;
            self.len += 1;
        }
    }

    fn area(&self) -> f64 {
        let twice: f64 = (1..self.len.saturating_sub(1))
            .map(|i| {
                let [o, p, q] = [self.vertices[0], self.vertices[i], self.vertices[i + 1]];
                (p[0] - o[0]) * (q[1] - o[1]) - (p[1] - o[1]) * (q[0] - o[0])
            })
            .sum();
        (twice / 2.0).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};

    fn flat(x: f32, y: f32, l: f32, w: f32, yaw: f32) -> Box3 {
        Box3 { center: [x, y, 0.0], size: [l, w, 1.0], yaw, velocity: [0.0; 2] }
    }

    #[test]
    fn closed_forms() {
        let unit = flat(0.0, 0.0, 2.0, 2.0, 0.0);
        assert!((bev_intersection(&unit, &flat(1.0, 0.5, 2.0, 2.0, 0.0)) - 1.5).abs() < 1e-12);
        assert!((bev_iou(&unit, &unit) - 1.0).abs() < 1e-12);
        assert_eq!(bev_intersection(&unit, &flat(2.5, 0.0, 2.0, 2.0, 0.0)), 0.0);
        // Squares of side 2, one turned by 45 degrees: a regular octagon, 8 (sqrt 2 - 1).
        let octagon = 8.0 * (2f64.sqrt() - 1.0);
        assert!((bev_intersection(&unit, &flat(0.0, 0.0, 2.0, 2.0, FRAC_PI_4)) - octagon).abs() < 1e-6);
        // A cross: the bars share their middle.
        assert!((bev_intersection(&flat(0.0, 0.0, 10.0, 1.0, 0.0), &flat(3.0, 0.0, 8.0, 1.0, FRAC_PI_2)) - 1.0).abs() < 1e-6);
        // One inside the other.
        assert!((bev_intersection(&flat(5.0, 5.0, 10.0, 10.0, 0.3), &flat(5.0, 5.5, 1.0, 2.0, 1.1)) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn volumes_share_height_too() {
        let a = flat(0.0, 0.0, 2.0, 2.0, 0.0);
        let b = Box3 { center: [0.0, 0.0, 0.5], ..a };
        assert!((iou_3d(&a, &b) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(iou_3d(&a, &Box3 { center: [0.0, 0.0, 1.0], ..a }), 0.0);
    }

    #[test]
    fn senseless_boxes_share_nothing() {
        let good = flat(0.0, 0.0, 2.0, 2.0, 0.0);
        for bad in [
            flat(f32::NAN, 0.0, 1.0, 1.0, 0.0),
            flat(0.0, 0.0, f32::INFINITY, 1.0, 0.0),
            flat(0.0, 0.0, -1.0, 1.0, 0.0),
            flat(0.0, 0.0, 1.0, 0.0, 0.0),
            flat(0.0, 0.0, 1.0, 1.0, f32::NAN),
        ] {
            assert_eq!((bev_iou(&good, &bad), bev_iou(&bad, &good), iou_3d(&good, &bad)), (0.0, 0.0, 0.0), "{bad:?}");
        }
        for bad in [
            Box3 { center: [0.0, 0.0, f32::NAN], ..good },
            Box3 { size: [2.0, 2.0, f32::NAN], ..good },
            Box3 { size: [2.0, 2.0, -1.0], ..good },
            Box3 { size: [2.0, 2.0, f32::INFINITY], ..good },
        ] {
            assert_eq!((bev_iou(&good, &bad), iou_3d(&good, &bad), iou_3d(&bad, &good)), (1.0, 0.0, 0.0), "{bad:?}");
        }
    }

    fn any_box() -> impl Strategy<Value = Box3> {
        (-4f32..4.0, -4f32..4.0, 0.05f32..8.0, 0.05f32..4.0, -7f32..7.0).prop_map(|(x, y, l, w, yaw)| flat(x, y, l, w, yaw))
    }

    proptest! {
        #[test]
        fn overlap_is_symmetric_and_bounded(a in any_box(), b in any_box()) {
            let shared = bev_intersection(&a, &b);
            prop_assert!((shared - bev_intersection(&b, &a)).abs() < 1e-9);
            prop_assert!(shared >= 0.0 && shared <= bev_area(&a).min(bev_area(&b)) + 1e-9);
        }

        /// What the box shares with two halves of the other adds up to what it shares with the whole.
        #[test]
        fn overlap_is_additive(a in any_box(), b in any_box()) {
            let quarter = f64::from(b.size[0]) / 4.0;
            let half = |side: f64| {
                let (sin, cos) = f64::from(b.yaw).sin_cos();
                let center = [f64::from(b.center[0]) + side * quarter * cos, f64::from(b.center[1]) + side * quarter * sin];
                flat(center[0] as f32, center[1] as f32, b.size[0] / 2.0, b.size[1], b.yaw)
            };
            let parts = bev_intersection(&a, &half(1.0)) + bev_intersection(&a, &half(-1.0));
            prop_assert!((parts - bev_intersection(&a, &b)).abs() < 1e-4);
        }

        /// Turning and shifting both boxes together changes nothing (beyond the rounding of the moved boxes to f32).
        #[test]
        fn overlap_does_not_depend_on_the_frame(a in any_box(), b in any_box(), turn in -PI..PI, dx in -20f32..20.0) {
            let moved = |x: &Box3| {
                let (sin, cos) = turn.sin_cos();
                let [px, py, _] = x.center;
                flat(px * cos - py * sin + dx, px * sin + py * cos - dx, x.size[0], x.size[1], x.yaw + turn)
            };
            prop_assert!((bev_intersection(&a, &b) - bev_intersection(&moved(&a), &moved(&b))).abs() < 2e-4);
        }

        /// area(A) + area(B) = area(A or B) + area(A and B), the union counted by sampling.
        #[test]
        fn areas_are_conserved(a in any_box(), b in any_box()) {
            const STEPS: usize = 160;
            let cell = 20.0 / STEPS as f32;
            let union = (0..STEPS * STEPS)
                .filter(|i| {
                    let point = [-10.0 + (0.5 + (i % STEPS) as f32) * cell, -10.0 + (0.5 + (i / STEPS) as f32) * cell, 0.0];
                    a.contains(point) || b.contains(point)
                })
                .count() as f64 * f64::from(cell * cell);
            let expected = bev_area(&a) + bev_area(&b) - bev_intersection(&a, &b);
            let perimeter = f64::from(2.0 * (a.size[0] + a.size[1] + b.size[0] + b.size[1]));
            prop_assert!((union - expected).abs() < 0.02 + perimeter * f64::from(cell) / 2.0, "{union} {expected}");
        }
    }
}
