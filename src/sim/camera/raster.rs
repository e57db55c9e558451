//! Which part of the scene each pixel shows, and how near it is.
//!
//! Flat faces are filled as polygons, rows at a time: their nearness is linear in the pixel. Curved solids and leaves are met
//! ray by ray with the very function that the lidar uses.

use super::leaves;
use super::view::View;
use crate::sim::solid::{Look, Part, Solid, Span, Surface, Vec3};
use rayon::prelude::*;

/// Rows that are worked on at a time.
pub(super) const BAND: usize = 20;

/// What a pixel shows if not a [`Primitive`].
pub(super) const NOTHING: u32 = u32::MAX;
/// The ground at the level of the pavement, the road, and the face of a kerb.
pub(super) const LEVEL: u32 = u32::MAX - 1;
pub(super) const ROAD: u32 = u32::MAX - 2;
pub(super) const KERB_FACE: u32 = u32::MAX - 3;

/// A face of a flat solid or a whole curved one, where it may be seen.
pub(super) struct Primitive {
    pub part: u32,
    /// No pixel of it is nearer.
    nearest: f32,
    columns: [u16; 2],
    rows: [u16; 2],
    pub shape: Shape,
}

pub(super) enum Shape {
    Face {
        /// In town axes.
        normal: Vec3,
        plane: [f32; 3],
        corners: [[f32; 2]; 5],
        count: u8,
    },
    Curved,
}

/// What is to be drawn, by bands of rows.
pub(super) struct DrawList {
    pub primitives: Vec<Primitive>,
    bands: Vec<Vec<u32>>,
}

/// What is seen in a band of rows: nearness (0 or less for the sky) and what it is, row by row.
pub(super) struct Layer {
    pub near: Vec<f32>,
    pub what: Vec<u32>,
}

impl Layer {
    pub fn new(pixels: usize) -> Self {
        Self { near: vec![0.0; pixels], what: vec![NOTHING; pixels] }
    }
}

/// Whether light comes through the whole of a surface: it is drawn over what is behind it.
pub(super) fn is_see_through(surface: &Surface) -> bool {
    matches!(surface.look, Look::Glass | Look::Mesh)
}

impl DrawList {
    pub fn new(view: &View, parts: &[Part]) -> Self {
        let primitives: Vec<Primitive> = parts
            .par_iter()
            .enumerate()
            .with_min_len(256)
            .flat_map_iter(|(i, part)| {
                let mut found = Vec::new();
                collect(view, i as u32, part, &mut found);
                found
            })
            .collect();
        let mut bands = vec![Vec::new(); view.size[1].div_ceil(BAND)];
        for (i, p) in primitives.iter().enumerate() {
            for band in &mut bands[p.rows[0] as usize / BAND..=(p.rows[1] as usize - 1) / BAND] {
                band.push(i as u32);
            }
        }
        // Near ones first, so that what they hide costs little.
        for band in &mut bands {
            band.sort_unstable_by(|&a, &b| primitives[b as usize].nearest.total_cmp(&primitives[a as usize].nearest).then(a.cmp(&b)));
        }
        Self { primitives, bands }
    }

    /// Draws a band: what is solid into one layer, and what is seen through, where nothing solid is before it, into another.
    pub fn draw(&self, view: &View, parts: &[Part], band: usize, solid: &mut Layer, mut see_through: Option<&mut Layer>) {
        for &i in &self.bands[band] {
            let primitive = &self.primitives[i as usize];
            let part = &parts[primitive.part as usize];
            if !is_see_through(&part.surface) {
                primitive.draw(view, part, i, band, solid);
            } else if let Some(layer) = see_through.as_deref_mut() {
                primitive.draw(view, part, i, band, layer);
            }
        }
        if let Some(layer) = see_through {
            for ((near, what), limit) in layer.near.iter_mut().zip(&mut layer.what).zip(&solid.near) {
                if *near <= *limit {
                    (*near, *what) = (0.0, NOTHING);
                }
            }
        }
    }
}

/// Corners of each face of a block, counter-clockwise from outside; 0 to 3 go round the bottom, 4 to 7 the top.
const FACES: [[usize; 4]; 6] = [[3, 2, 1, 0], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]];

fn collect(view: &View, index: u32, part: &Part, found: &mut Vec<Primitive>) {
    let center = view.in_axes(&part.center);
    if !view.may_see(&center, part.half.norm()) {
        return;
    }
    let [x, y, z] = part.half.into();
    let ([left, right], back) = match part.solid {
        Solid::Prismoid { top_x, top_y } => (top_x, top_y),
        _ => ([-x, x], y),
    };
    let local =
        [[-x, -y, -z], [x, -y, -z], [x, y, -z], [-x, y, -z], [left, -back, z], [right, -back, z], [right, back, z], [left, back, z]];
    let turn = view.rotation * part.rotation;
    let corners = local.map(|c| center + turn * Vec3::from(c));
    let flat = matches!(part.solid, Solid::Cuboid | Solid::Prismoid { .. }) && part.surface.density == 0.0;
    if !flat {
        let before = corners.iter().all(|c| c.z > view.near());
        let projected = corners.map(|c| view.project(&c));
        let all = [[0, view.size[0] as u16], [0, view.size[1] as u16]];
        let Some([columns, rows]) = (if before { bounds(view, &projected) } else { Some(all) }) else { return };
        let nearest = if before { projected.iter().map(|p| p[2]).fold(f32::NEG_INFINITY, f32::max) } else { f32::INFINITY };
        found.push(Primitive { part: index, nearest, columns, rows, shape: Shape::Curved });
        return;
    }
    for face in FACES {
        let [a, b, c, d] = face.map(|i| corners[i]);
        // From the diagonals: a side of a ridge may have no length.
        let normal = (c - a).cross(&(d - b));
        let length = normal.norm();
        if length < 1e-9 {
            continue;
        }
        let normal = normal / length;
        if !view.faces(&normal, &a) {
            continue;
        }
        let (mut clipped, mut count) = ([Vec3::zeros(); 5], 0);
        for (p, q) in [(a, b), (b, c), (c, d), (d, a)] {
            let (u, v) = (p.z - view.near(), q.z - view.near());
            if u >= 0.0 {
                clipped[count] = p;
                count += 1;
            }
            if (u >= 0.0) != (v >= 0.0) {
                clipped[count] = p + u / (u - v) * (q - p);
                count += 1;
            }
        }
        if count < 3 {
            continue;
        }
        let projected = clipped.map(|p| view.project(&p));
        let Some([columns, rows]) = bounds(view, &projected[..count]) else { continue };
        let nearest = projected[..count].iter().map(|p| p[2]).fold(f32::NEG_INFINITY, f32::max);
        let shape = Shape::Face {
            normal: view.rotation.tr_mul(&normal),
            plane: view.plane(&normal, &a),
            corners: projected.map(|p| [p[0], p[1]]),
            count: count as u8,
        };
        found.push(Primitive { part: index, nearest, columns, rows, shape });
    }
}

/// The pixels whose centres are between the points; `None` if there are none in the picture.
fn bounds(view: &View, points: &[[f32; 3]]) -> Option<[[u16; 2]; 2]> {
    let range = |k: usize| {
        let low = points.iter().map(|p| p[k]).fold(f32::INFINITY, f32::min);
        let high = points.iter().map(|p| p[k]).fold(f32::NEG_INFINITY, f32::max);
        let limit = view.size[k] as f32;
        let range = [low, high].map(|v| (v + 0.5).clamp(0.0, limit) as u16);
        (range[0] < range[1]).then_some(range)
    };
    Some([range(0)?, range(1)?])
}

impl Primitive {
    fn draw(&self, view: &View, part: &Part, id: u32, band: usize, layer: &mut Layer) {
        let width = view.size[0];
        let first = band * BAND;
        let rows = (self.rows[0] as usize).max(first)..(self.rows[1] as usize).min(first + BAND);
        for row in rows {
            let start = (row - first) * width;
            let near = &mut layer.near[start..start + width];
            let what = &mut layer.what[start..start + width];
            let y = row as f32 + 0.5;
            match &self.shape {
                Shape::Face { plane: [a, b, c], corners, count, .. } => {
                    let Some([from, to]) = span_of_row(&corners[..*count as usize], y, width) else { continue };
                    let at_start = a * (from as f32 + 0.5) + b * y + c;
                    let pixels = near[from..to].iter_mut().zip(&mut what[from..to]);
                    for (k, (near, what)) in pixels.enumerate() {
                        let here = at_start + a * k as f32;
                        let nearer = here > *near;
                        *near = if nearer { here } else { *near };
                        *what = if nearer { id } else { *what };
                    }
                }
                Shape::Curved => {
                    let into = part.rotation.transpose();
                    for column in self.columns[0] as usize..self.columns[1] as usize {
                        if near[column] >= self.nearest {
                            continue;
                        }
                        let ray = view.ray(column as f32 + 0.5, y);
                        let origin = into * (ray.origin - part.center);
                        let direction = into * ray.direction;
                        let Some(span) = part.solid.span(&part.half, &origin, &direction) else { continue };
                        if let Some(distance) = meet(part, &span, &origin, &direction) {
                            let here = view.nearness(&ray, distance);
                            if here > near[column] {
                                (near[column], what[column]) = (here, id);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The pixels of a row that a convex polygon covers.
fn span_of_row(corners: &[[f32; 2]], y: f32, width: usize) -> Option<[usize; 2]> {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let mut p = corners[corners.len() - 1];
    for &q in corners {
        if (p[1] <= y) != (q[1] <= y) {
            let x = p[0] + (y - p[1]) * (q[0] - p[0]) / (q[1] - p[1]);
            (low, high) = (low.min(x), high.max(x));
        }
        p = q;
    }
    let pixel = |x: f32| (x + 0.5).clamp(0.0, width as f32) as i32 as usize;
    (low < high).then(|| [pixel(low), pixel(high)]).filter(|[from, to]| from < to)
}

/// How far along the ray a curved solid or a leaf is met.
fn meet(part: &Part, span: &Span, origin: &Vec3, direction: &Vec3) -> Option<f32> {
    if part.surface.density > 0.0 {
        return leaves::meet(part.surface.density, span, origin, direction);
    }
    if span.near <= 0.0 {
        return None;
    }
    if part.surface.look == Look::Spokes {
        let p = origin + span.near * direction;
        let (radius, angle) = (p.x.hypot(p.y) / part.half.x, p.y.atan2(p.x));
        let spoke = ((angle * (10.0 / std::f32::consts::PI)).sin().abs() * radius) < 0.16;
        return (!(0.1..0.88).contains(&radius) || spoke).then_some(span.near);
    }
    Some(span.near)
}

#[cfg(test)]
mod tests {
    use super::super::view::Lens;
    use super::*;
    use crate::random::Rng;

    #[test]
    fn filled_faces_are_where_rays_meet_them() {
        let mut rng = Rng::new(3, "raster");
        let parts: Vec<Part> = (0..60)
            .map(|i| {
                let at = [rng.range(4.0, 30.0), rng.range(-12.0, 12.0), rng.range(-4.0, 4.0)];
                let [l, w, h] = [rng.range(0.3, 4.0), rng.range(0.3, 4.0), rng.range(0.3, 4.0)];
                let part = match i % 3 {
                    0 => Part::cuboid(at, [l, w, h], Surface::DARK),
                    1 => Part::ellipsoid(at, [l, w, h], Surface::DARK),
                    _ => Part {
                        center: at.into(),
                        ..Part::prismoid([-0.5 * l, 0.5 * l], 0.5 * w, [0.0, h], [-0.3 * l, 0.1 * l], 0.2 * w, Surface::DARK)
                    },
                };
                let turn = nalgebra::Rotation3::from_euler_angles(rng.range(-0.5, 0.5), 0.2, rng.range(-3.0, 3.0));
                Part { rotation: *turn.matrix() * part.rotation, ..part }
            })
            .collect();
        // Optical axes that look along the town's x.
        let rotation = crate::sim::solid::Mat3::new(0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0);
        let pinhole = Lens::Pinhole { focal: [150.0, 150.0], center: [100.0, 70.0] };
        for lens in [pinhole, Lens::Parallel { pixels_per_metre: 9.0, depth: 100.0 }] {
            let view = View { origin: Vec3::zeros(), rotation, lens, size: [200, 140] };
            let list = DrawList::new(&view, &parts);
            let (mut same, mut differ) = (0, 0);
            for band in 0..7 {
                let mut layer = Layer::new(200 * BAND);
                list.draw(&view, &parts, band, &mut layer, None);
                for pixel in 0..200 * BAND {
                    let ray = view.ray((pixel % 200) as f32 + 0.5, (band * BAND + pixel / 200) as f32 + 0.5);
                    let hits = parts.iter().enumerate().filter_map(|(i, part)| {
                        let into = part.rotation.transpose();
                        let span = part.solid.span(&part.half, &(into * (ray.origin - part.center)), &(into * ray.direction))?;
                        (span.near > 0.0).then_some((span.near, i as u32))
                    });
                    let nearest = hits.min_by(|a, b| a.0.total_cmp(&b.0));
                    let drawn = list.primitives.get(layer.what[pixel] as usize).map(|p| p.part);
                    let agree = drawn == nearest.map(|n| n.1)
                        && nearest.is_none_or(|(distance, _)| (view.distance(&ray, layer.near[pixel]) - distance).abs() < 0.01);
                    *(if agree { &mut same } else { &mut differ }) += 1;
                }
            }
            // Rays that graze an edge may fall on either side of it.
            assert!(differ < same / 2000, "{differ} of {same}");
        }
    }
}
