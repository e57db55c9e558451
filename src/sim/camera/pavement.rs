//! What the ground looks like: asphalt and what is painted on it, kerb stones, slabs, grass, soil.

use super::coat::{bricks, color};
use super::light::{Finish, mix};
use super::noise::{clouds, hash, speckle, split, unit};
use crate::sim::solid::Vec3;
use crate::sim::town::{KerbMap, PaintKind, Paving, Stroke, Town, Vec2};

pub(super) struct Pavement {
    pub kerbs: KerbMap,
    strokes: Vec<Stroke>,
    /// Which strokes touch a square of [`SQUARE`] metres, row by row from the ground's low corner.
    squares: Vec<Vec<u32>>,
    low: Vec2,
    columns: usize,
    asphalt: Vec3,
    slabs: Vec3,
    grass: [Vec3; 2],
    middle: Vec3,
}

const SQUARE: f32 = 2.0;
/// Width of a kerb stone, metres.
const STONE: f32 = 0.16;

impl Pavement {
    pub fn new(town: &Town, seed: u64) -> Self {
        let (low, cell, [columns, rows], _) = town.ground.cells();
        let [columns, rows] = [columns, rows].map(|n| (n as f32 * cell / SQUARE) as usize + 1);
        let mut squares = vec![Vec::new(); columns * rows];
        let square = |v: f32, count: usize| ((v / SQUARE).max(0.0) as usize).min(count - 1);
        for (i, stroke) in town.paint.iter().enumerate() {
            // Worn edges and the width of a pixel reach a little farther.
            let reach = stroke.half_width + 0.3;
            let from = stroke.ends[0].inf(&stroke.ends[1]).add_scalar(-reach) - low;
            let to = stroke.ends[0].sup(&stroke.ends[1]).add_scalar(reach) - low;
            for row in square(from.y, rows)..=square(to.y, rows) {
                for column in square(from.x, columns)..=square(to.x, columns) {
                    squares[row * columns + column].push(i as u32);
                }
            }
        }
        let choose = |salt: i32, count: u32| (hash(seed as i32, (seed >> 32) as i32, salt) % count) as usize;
        let white = Vec3::repeat(0.62);
        Self {
            kerbs: KerbMap::new(&town.ground),
            strokes: town.paint.clone(),
            squares,
            low,
            columns,
            asphalt: [color([98, 98, 100]), color([84, 86, 90]), color([112, 110, 106])][choose(1, 3)],
            slabs: [color([150, 146, 140]), color([164, 156, 144]), color([136, 136, 138])][choose(2, 3)],
            grass: [[color([84, 104, 46]), color([118, 120, 62])], [color([70, 98, 44]), color([96, 116, 54])]][choose(3, 2)],
            middle: [white, white, color([226, 170, 40])][choose(4, 3)],
        }
    }

    /// The ground at a place: `raised` as the ray met it, `paving` by the ground's cells.
    pub fn finish(&self, p: Vec2, raised: bool, paving: Paving, pixel: f32) -> Finish {
        let kerb = self.kerbs.at(p);
        Finish::matt(if raised { self.raised(p, kerb, paving, pixel) } else { self.road(p, kerb, pixel) })
    }

    pub fn kerb_face(&self, p: Vec2) -> Finish {
        Finish::matt(self.stone(p))
    }

    fn stone(&self, p: Vec2) -> Vec3 {
        Vec3::new(0.34, 0.33, 0.32) * (1.0 + 0.2 * clouds(5.0 * p.x, 5.0 * p.y) + 0.1 * speckle(1.1 * p.x, 1.1 * p.y))
    }

    fn raised(&self, p: Vec2, kerb: f32, paving: Paving, pixel: f32) -> Vec3 {
        if kerb < STONE {
            return self.stone(p);
        }
        let near = (1.0 - 8.0 * pixel).max(0.0);
        let grain = 0.10 * near * speckle(60.0 * p.x, 60.0 * p.y);
        let spots = 0.5 * clouds(1.3 * p.x, 1.3 * p.y) + 0.5 * clouds(9.0 * p.x, 9.0 * p.y) * near;
        match paving {
            Paving::Grass | Paving::Open => {
                let tuft = clouds(6.0 * p.x + 3.0, 6.0 * p.y);
                let blade = 0.3 * near * speckle(45.0 * p.x, 45.0 * p.y);
                mix(self.grass[0], self.grass[1], (0.5 + 0.8 * spots).clamp(0.0, 1.0)) * (0.85 + 0.35 * tuft + blade)
            }
            Paving::Dirt => mix(color([130, 106, 80]), color([104, 86, 66]), (0.5 + spots).clamp(0.0, 1.0)) * (1.0 + 2.0 * grain),
            Paving::Yard => self.asphalt * (1.25 + 0.25 * spots + grain),
            // Cells of the road that the smoothed kerb has passed by count as pavement.
            Paving::Pavement | Paving::Built | Paving::Road | Paving::Marking => {
                bricks(self.slabs, self.slabs * 0.55, p.x, p.y, [0.9, 0.6], pixel) * (1.0 + 0.16 * spots + grain)
            }
        }
    }

    fn road(&self, p: Vec2, kerb: f32, pixel: f32) -> Vec3 {
        let near = (1.0 - 8.0 * pixel).max(0.0);
        let grain = 0.22 * near * speckle(70.0 * p.x, 70.0 * p.y);
        let wide = clouds(0.35 * p.x, 0.35 * p.y);
        let crack = clouds(1.7 * p.x + 40.0, 1.7 * p.y);
        let crack = if crack.abs() < 0.012 + 0.2 * pixel && wide > 0.1 { -0.35 * (1.0 - 20.0 * pixel).max(0.0) } else { 0.0 };
        // Mended places: rectangles of newer asphalt.
        let (cx, cy) = (split(p.x / 7.0), split(p.y / 9.0));
        let mended = unit(hash(cx.0, cy.0, 21)) < 0.16 && (0.2..0.75).contains(&cx.1) && (0.3..0.6).contains(&cy.1);
        let mut asphalt =
            self.asphalt * ((1.0 + 0.28 * wide + 0.10 * clouds(4.0 * p.x, 4.0 * p.y) + grain + crack) * if mended { 0.72 } else { 1.0 });
        if kerb > -0.35 {
            // Dust and leaves gather at the kerb.
            asphalt = mix(asphalt, color([118, 112, 100]), 0.5 * (1.0 + kerb / 0.35));
        }
        let q = (p - self.low) / SQUARE;
        if !(q.x >= 0.0 && q.y >= 0.0 && q.x < self.columns as f32) {
            return asphalt;
        }
        let Some(strokes) = self.squares.get(q.y as i32 as usize * self.columns + q.x as i32 as usize) else { return asphalt };
        let mut covered = (0.0f32, Vec3::zeros());
        for &i in strokes {
            let stroke = &self.strokes[i as usize];
            let share = coverage(stroke, p, pixel);
            if share > covered.0 {
                covered = (share, if stroke.kind == PaintKind::Middle { self.middle } else { Vec3::repeat(0.6) });
            }
        }
        let worn = (1.0 - 0.55 * (clouds(7.0 * p.x, 7.0 * p.y) + 0.4 * wide).max(0.0)).clamp(0.2, 1.0);
        mix(asphalt, covered.1, covered.0 * worn)
    }
}

/// Share of a pixel that a stroke with straight ends covers.
fn coverage(stroke: &Stroke, p: Vec2, pixel: f32) -> f32 {
    let [a, b] = stroke.ends;
    let along = b - a;
    let length = along.norm().max(1e-6);
    let axis = along / length;
    let d = p - a;
    let (s, t) = (d.dot(&axis), (axis.x * d.y - axis.y * d.x).abs());
    // Obliquely seen pixels are longer than wide; a little blur costs nothing.
    let edge = pixel.max(0.01);
    let across = ((stroke.half_width - t) / edge + 0.5).clamp(0.0, 1.0);
    across * ((s.min(length - s)) / edge + 1.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_covers_its_stroke() {
        let stroke = Stroke { ends: [Vec2::new(1.0, 1.0), Vec2::new(4.0, 5.0)], half_width: 0.1, kind: PaintKind::Lane };
        let at = |along: f32, across: f32| {
            let axis = Vec2::new(0.6, 0.8);
            coverage(&stroke, stroke.ends[0] + along * axis + across * Vec2::new(-axis.y, axis.x), 0.02)
        };
        assert_eq!([at(2.5, 0.0), at(2.5, 0.08), at(2.5, 0.12), at(-0.05, 0.0), at(5.05, 0.0)], [1.0, 1.0, 0.0, 0.0, 0.0]);
        assert!((at(2.5, 0.1) - 0.5).abs() < 1e-3);
    }
}
