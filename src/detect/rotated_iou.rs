//! Overlap of rotated rectangles as the public detectors compute it in their non-maximum suppression.
//!
//! Boxes near the threshold stay or go by the last bits, so each kernel keeps its original's single precision, order of
//! operations and tolerances. Both take the corners of the intersection (crossings of edges, corners of one rectangle in the
//! other), order them around, and add up triangles; they differ in every detail of how. For the exact overlap see
//! [`crate::geometry::bev_iou`].

use super::elementary::{atan2, sin_cos};

/// A rectangle seen from above, in the convention of the kernel that it is given to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BevBox {
    /// x, y, metres.
    pub center: [f32; 2],
    /// Along the heading, across it, metres.
    pub size: [f32; 2],
    /// Radians, counter-clockwise from x.
    pub yaw: f32,
}

/// A kernel, holding one box with all that does not depend on the other.
pub(super) trait OverlapKernel {
    fn prepare(b: &BevBox) -> Self;

    /// Intersection over union. Not a number where a box is not finite.
    fn iou(&self, other: &Self) -> f32;

    /// Whether a box with this overlap is a duplicate.
    fn suppresses(iou: f32, threshold: f32) -> bool;
}

type Point = [f32; 2];

/// At most sixteen crossings of four edges with four, and eight corners.
const MAX_POINTS: usize = 24;

/// A list of points that needs no allocation.
struct Points {
    points: [Point; MAX_POINTS],
    len: usize,
}

impl Points {
    fn new() -> Self {
        Self { points: [[0.0; 2]; MAX_POINTS], len: 0 }
    }

    fn push(&mut self, p: Point) {
        self.points[self.len] = p;
        self.len += 1;
    }

    fn as_mut_slice(&mut self) -> &mut [Point] {
        &mut self.points[..self.len]
    }
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

fn cross(a: Point, b: Point) -> f32 {
    a[0] * b[1] - a[1] * b[0]
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

/// Edge `i` of a closed outline.
fn edge(corners: &[Point; 4], i: usize) -> [Point; 2] {
    [corners[i], corners[(i + 1) % 4]]
}

/// `iou3d_nms` of det3d and OpenPCDet.
pub(super) struct Iou3d {
    center: Point,
    half: Point,
    cos: f32,
    sin: f32,
    corners: [Point; 4],
    area: f32,
}

impl Iou3d {
    /// Corners up to this far outside the other box count as inside, metres.
    const MARGIN: f32 = 1e-2;
    const EPS: f32 = 1e-8;

    /// Whether a point is in the box or in its margin.
    fn holds(&self, p: Point) -> bool {
        let [dx, dy] = minus(p, self.center);
        let along = dx * self.cos + dy * self.sin;
        let across = dx * -self.sin + dy * self.cos;
        along.abs() < self.half[0] + Self::MARGIN && across.abs() < self.half[1] + Self::MARGIN
    }

    /// Where two segments cross in their interiors.
    fn crossing([p0, p1]: [Point; 2], [q0, q1]: [Point; 2]) -> Option<Point> {
        let apart = |i: usize| p0[i].min(p1[i]) > q0[i].max(q1[i]) || q0[i].min(q1[i]) > p0[i].max(p1[i]);
        if apart(0) || apart(1) {
            return None;
        }
        let turn = |a: Point, b: Point, origin: Point| {
            let (a, b) = (minus(a, origin), minus(b, origin));
            a[0] * b[1] - b[0] * a[1]
        };
        let (s1, s2) = (turn(q0, p1, p0), turn(p1, q1, p0));
        let (s3, s4) = (turn(p0, q1, q0), turn(q1, p1, q0));
        if !(s1 * s2 > 0.0 && s3 * s4 > 0.0) {
            return None;
        }
        let s5 = turn(q1, p1, p0);
        if (s5 - s1).abs() > Self::EPS {
            return Some([0, 1].map(|i| (s5 * q0[i] - s1 * q1[i]) / (s5 - s1)));
        }
        // Almost parallel: as the intersection of the lines a x + b y + c = 0.
        let line = |from: Point, to: Point| (from[1] - to[1], to[0] - from[0], from[0] * to[1] - to[0] * from[1]);
        let ((a0, b0, c0), (a1, b1, c1)) = (line(p0, p1), line(q0, q1));
        let determinant = a0 * b1 - a1 * b0;
        Some([(b0 * c1 - b1 * c0) / determinant, (a1 * c0 - a0 * c1) / determinant])
    }

    fn overlap(&self, other: &Self) -> f32 {
        let mut outline = Points::new();
        for i in 0..4 {
            for j in 0..4 {
                if let Some(p) = Self::crossing(edge(&self.corners, i), edge(&other.corners, j)) {
                    outline.push(p);
                }
            }
        }
        for k in 0..4 {
            if self.holds(other.corners[k]) {
                outline.push(other.corners[k]);
            }
            if other.holds(self.corners[k]) {
                outline.push(self.corners[k]);
            }
        }
        let outline = outline.as_mut_slice();
        let Some(&first) = outline.first() else { return 0.0 };

        let sum = outline.iter().skip(1).fold(first, |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        let middle = sum.map(|s| s / outline.len() as f32);
        sort_by_angle(outline, middle);
        let twice = outline.windows(2).fold(0.0, |area, pair| area + cross(minus(pair[0], outline[0]), minus(pair[1], outline[0])));
        f32::abs(twice) / 2.0
    }
}

/// Stable, ascending.
fn sort_by_angle(points: &mut [Point], middle: Point) {
    let mut angles = [0f32; MAX_POINTS];
    for (angle, p) in angles.iter_mut().zip(points.iter()) {
        *angle = atan2(p[1] - middle[1], p[0] - middle[0]);
    }
    for i in 1..points.len() {
        let mut j = i;
        while j > 0 && angles[j - 1] > angles[j] {
            angles.swap(j - 1, j);
            points.swap(j - 1, j);
            j -= 1;
        }
    }
}

impl OverlapKernel for Iou3d {
    fn prepare(b: &BevBox) -> Self {
        let (sin, cos) = sin_cos(b.yaw);
        let [cx, cy] = b.center;
        let half = b.size.map(|s| s / 2.0);
        let [x1, x2] = [cx - half[0], cx + half[0]];
        let [y1, y2] = [cy - half[1], cy + half[1]];
        let corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]].map(|p| {
            let [dx, dy] = minus(p, b.center);
            [dx * cos + dy * -sin + cx, dx * sin + dy * cos + cy]
        });
        Self { center: b.center, half, cos, sin, corners, area: b.size[0] * b.size[1] }
    }

    fn iou(&self, other: &Self) -> f32 {
        let overlap = self.overlap(other);
        overlap / (self.area + other.area - overlap).max(Self::EPS)
    }

    fn suppresses(iou: f32, threshold: f32) -> bool {
        iou > threshold
    }
}

/// `box_iou_rotated` of mmcv, as mmdet3d's `nms_bev` calls it.
pub(super) struct Mmcv {
    center: Point,
    size: Point,
    half_cos: f32,
    half_sin: f32,
    area: f32,
}

impl Mmcv {
    const MIN_AREA: f64 = 1e-14;
    const MIN_DETERMINANT: f64 = 1e-14;
    /// Below this cross product two directions count as one.
    const SAME_DIRECTION: f64 = 1e-6;
    /// Below this squared distance two points count as one.
    const SAME_POINT: f64 = 1e-8;

    /// Corners relative to `origin`, which is a double: the sum of the centres is rounded to f32, its half is not.
    fn corners(&self, origin: [f64; 2]) -> [Point; 4] {
        let [x, y] = [0, 1].map(|i| (f64::from(self.center[i]) - origin[i]) as f32);
        let ([w, h], sin, cos) = (self.size, self.half_sin, self.half_cos);
        let first = [x - sin * h - cos * w, y + cos * h - sin * w];
        let second = [x + sin * h - cos * w, y - cos * h - sin * w];
        let opposite = |p: Point| [2.0 * x - p[0], 2.0 * y - p[1]];
        [first, second, opposite(first), opposite(second)]
    }

    fn overlap(&self, other: &Self) -> f32 {
        let origin = [0, 1].map(|i| f64::from(self.center[i] + other.center[i]) / 2.0);
        let (a, b) = (self.corners(origin), other.corners(origin));
        let mut points = Points::new();
        push_crossings(&a, &b, &mut points);
        push_contained(&a, &b, &mut points);
        push_contained(&b, &a, &mut points);
        if points.len <= 2 {
            return 0.0;
        }
        let hull = convex_hull(points.as_mut_slice());
        if hull.len() <= 2 {
            return 0.0;
        }
        let twice = hull[1..].windows(2).fold(0.0, |area, pair| area + cross(minus(pair[0], hull[0]), minus(pair[1], hull[0])).abs());
        twice / 2.0
    }
}

/// Crossings of the edges, ends included.
fn push_crossings(a: &[Point; 4], b: &[Point; 4], points: &mut Points) {
    let along = |[from, to]: [Point; 2]| minus(to, from);
    for i in 0..4 {
        for j in 0..4 {
            let (va, vb) = (along(edge(a, i)), along(edge(b, j)));
            let determinant = cross(vb, va);
            if f64::from(determinant.abs()) <= Mmcv::MIN_DETERMINANT {
                continue;
            }
            let between = minus(b[j], a[i]);
            let (ta, tb) = (cross(vb, between) / determinant, cross(va, between) / determinant);
            if (0.0..=1.0).contains(&ta) && (0.0..=1.0).contains(&tb) {
                points.push([a[i][0] + va[0] * ta, a[i][1] + va[1] * ta]);
            }
        }
    }
}

/// Corners of `a` in `b`, its border included.
fn push_contained(a: &[Point; 4], b: &[Point; 4], points: &mut Points) {
    let (ab, da) = (minus(b[1], b[0]), minus(b[0], b[3]));
    let (ab_ab, da_da) = (dot(ab, ab), dot(da, da));
    for &p in a {
        let from_corner = minus(p, b[0]);
        let (on_ab, on_ad) = (dot(from_corner, ab), -dot(from_corner, da));
        if on_ab >= 0.0 && on_ad >= 0.0 && on_ab <= ab_ab && on_ad <= da_da {
            points.push(p);
        }
    }
}

/// Convex hull by Graham's scan, relative to its lowest point. Reorders `points`, which has at least one.
fn convex_hull(points: &mut [Point]) -> &[Point] {
    let is_lower = |a: Point, b: Point| a[1] < b[1] || (a[1] == b[1] && a[0] < b[0]);
    let lowest = (1..points.len()).fold(0, |lowest, i| if is_lower(points[i], points[lowest]) { i } else { lowest });
    let start = points[lowest];
    for p in points.iter_mut() {
        *p = minus(*p, start);
    }
    points.swap(0, lowest);
    sort_by_direction(&mut points[1..]);

    let Some(second) = points.iter().skip(1).position(|p| f64::from(dot(*p, *p)) > Mmcv::SAME_POINT) else {
        return &points[..1];
    };
    points[1] = points[second + 1];
    let mut len = 2;
    for i in second + 2..points.len() {
        while len > 1 && cross(minus(points[i], points[len - 2]), minus(points[len - 1], points[len - 2])) >= 0.0 {
            len -= 1;
        }
        points[len] = points[i];
        len += 1;
    }
    &points[..len]
}

/// Counter-clockwise, nearer first where the direction is the same.
///
/// "Same direction" has a tolerance and so is no equivalence: the result depends on the algorithm, and the standard library's
/// sort may panic. This is an insertion sort that looks at the first element first, as libstdc++'s does for up to 16.
fn sort_by_direction(points: &mut [Point]) {
    let before = |a: Point, b: Point| {
        let turn = a[0] * b[1] - b[0] * a[1];
        if f64::from(turn.abs()) < Mmcv::SAME_DIRECTION { dot(a, a) < dot(b, b) } else { turn > 0.0 }
    };
    for i in 1..points.len() {
        let p = points[i];
        let place = if before(p, points[0]) { 0 } else { (1..i).rev().find(|&j| !before(p, points[j])).map_or(1, |j| j + 1) };
        points[place..=i].rotate_right(1);
    }
}

impl OverlapKernel for Mmcv {
    fn prepare(b: &BevBox) -> Self {
        // mmdet3d hands boxes over by two opposite corners and works out centre and size again; the rounding is kept.
        let low: Point = std::array::from_fn(|i| b.center[i] - b.size[i] / 2.0);
        let high: Point = std::array::from_fn(|i| b.center[i] + b.size[i] / 2.0);
        let size = minus(high, low);
        let (sin, cos) = sin_cos(b.yaw);
        Self {
            center: std::array::from_fn(|i| (low[i] + high[i]) / 2.0),
            size,
            half_cos: cos * 0.5,
            half_sin: sin * 0.5,
            area: size[0] * size[1],
        }
    }

    fn iou(&self, other: &Self) -> f32 {
        if f64::from(self.area) < Self::MIN_AREA || f64::from(other.area) < Self::MIN_AREA {
            return 0.0;
        }
        let overlap = self.overlap(other);
        overlap / (self.area + other.area - overlap)
    }

    fn suppresses(iou: f32, threshold: f32) -> bool {
        iou >= threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{self, Box3};
    use proptest::prelude::*;
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};

    fn flat(x: f32, y: f32, along: f32, across: f32, yaw: f32) -> BevBox {
        BevBox { center: [x, y], size: [along, across], yaw }
    }

    fn iou<K: OverlapKernel>(a: &BevBox, b: &BevBox) -> f64 {
        K::prepare(a).iou(&K::prepare(b)).into()
    }

    fn exact(a: &BevBox, b: &BevBox) -> f64 {
        let box3 = |b: &BevBox| Box3 {
            center: [b.center[0], b.center[1], 0.0],
            size: [b.size[0], b.size[1], 1.0],
            yaw: b.yaw,
            velocity: [0.0; 2],
        };
        geometry::bev_iou(&box3(a), &box3(b))
    }

    #[test]
    fn closed_forms() {
        let octagon = 8.0 * (2f64.sqrt() - 1.0);
        let square = flat(10.0, -20.0, 2.0, 2.0, 0.0);
        let cases = [
            (square, square, 1.0),
            (square, flat(11.0, -20.0, 2.0, 2.0, 0.0), 2.0 / 6.0),
            (square, flat(11.0, -20.0, 2.0, 2.0, FRAC_PI_2), 2.0 / 6.0),
            (square, flat(10.0, -20.0, 2.0, 2.0, FRAC_PI_4), octagon / (8.0 - octagon)),
            (square, flat(10.0, -20.0, 1.0, 0.5, 0.3), 0.125),
            (square, flat(13.0, -20.0, 2.0, 2.0, 0.0), 0.0),
        ];
        for (a, b, expected) in cases {
            assert!((iou::<Iou3d>(&a, &b) - expected).abs() < 1e-5, "iou3d {a:?} {b:?} {}", iou::<Iou3d>(&a, &b));
            assert!((iou::<Mmcv>(&a, &b) - expected).abs() < 1e-5, "mmcv {a:?} {b:?} {}", iou::<Mmcv>(&a, &b));
        }
    }

    /// A box 5 mm beside another: the exact overlap is none, the margin takes the corners in.
    #[test]
    fn only_iou3d_has_a_margin() {
        let (a, b) = (flat(0.0, 0.0, 2.0, 2.0, 0.0), flat(2.005, 0.0, 2.0, 2.0, 0.0));
        assert_eq!(iou::<Mmcv>(&a, &b), 0.0);
        assert!((iou::<Iou3d>(&a, &b) - 0.005 * 2.0 / 8.0).abs() < 1e-4);
    }

    #[test]
    fn thresholds_are_open_and_closed() {
        assert!(!Iou3d::suppresses(0.2, 0.2) && Mmcv::suppresses(0.2, 0.2));
        assert!(!Iou3d::suppresses(f32::NAN, 0.2) && !Mmcv::suppresses(f32::NAN, 0.2));
    }

    fn any_box() -> impl Strategy<Value = BevBox> {
        (-4f32..4.0, -4f32..4.0, 0.3f32..8.0, 0.3f32..4.0, -7f32..7.0).prop_map(|(x, y, l, w, yaw)| flat(x, y, l, w, yaw))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// f32 against exact clipping. mmcv's tolerances in the scan cost up to 1e-3.
        #[test]
        fn mmcv_is_close_to_exact(a in any_box(), b in any_box()) {
            prop_assert!((iou::<Mmcv>(&a, &b) - exact(&a, &b)).abs() < 1e-3);
        }

        /// The margin lets the outline reach 1 cm over an edge (1.4 cm over a corner) of the smaller box, so areas differ by at
        /// most that times the shorter perimeter, and the quotient by twice that over the larger area.
        #[test]
        fn iou3d_is_exact_up_to_its_margin(a in any_box(), b in any_box()) {
            let area = |x: &BevBox| f64::from(x.size[0]) * f64::from(x.size[1]);
            let perimeter = |x: &BevBox| 2.0 * f64::from(x.size[0] + x.size[1]);
            let tolerance = 2.0 * 0.0142 * perimeter(&a).min(perimeter(&b)) / area(&a).max(area(&b)) + 1e-4;
            let difference = (iou::<Iou3d>(&a, &b) - exact(&a, &b)).abs();
            prop_assert!(difference < tolerance, "{} > {}", difference, tolerance);
        }

        #[test]
        fn any_numbers_go_through(bits in prop::array::uniform10(any::<u32>())) {
            let v = bits.map(f32::from_bits);
            let (a, b) = (flat(v[0], v[1], v[2], v[3], v[4]), flat(v[5], v[6], v[7], v[8], v[9]));
            iou::<Iou3d>(&a, &b);
            iou::<Mmcv>(&a, &b);
        }
    }
}
