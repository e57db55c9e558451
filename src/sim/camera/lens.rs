//! From clean pixels to those of a camera: edges softened as optics do, darker corners, and the noise of a sensor.

use crate::random::mix;
use rayon::prelude::*;

/// Darkening at the corners, as a share.
const VIGNETTE: f32 = 0.16;
/// One standard deviation of the noise, in steps of the eight bits, in the dark and in the light.
const NOISE: [f32; 2] = [2.0, 1.3];
/// Steps of brightness that make an edge.
const EDGE: i32 = 10;
/// How far along an edge it is smoothed, pixels.
const REACH: f32 = 6.0;

/// Three bytes a pixel in and out.
pub(super) fn expose(clean: &[u8], [width, height]: [usize; 2], seed: u64) -> Vec<u8> {
    let mut seen = vec![0u8; clean.len()];
    let picture = Picture { clean, size: [width, height] };
    let center = [0.5 * width as f32, 0.5 * height as f32];
    let corner = 1.0 / (center[0] * center[0] + center[1] * center[1]);
    seen.par_chunks_mut(3 * width).enumerate().with_min_len(16).for_each(|(row, out)| {
        let noise = mix(seed ^ (row as u64) << 20);
        let dy = row as f32 - center[1];
        for (column, pixel) in out.chunks_exact_mut(3).enumerate() {
            let dx = column as f32 - center[0];
            let light = 1.0 - VIGNETTE * (dx * dx + dy * dy) * corner;
            let mut bits = mix(noise ^ column as u64);
            for (value, color) in pixel.iter_mut().zip(picture.smoothed(column, row)) {
                let color = color * light;
                // The sum of two bytes is triangular, with a deviation of 104.
                let triangle = (bits & 255) as f32 + (bits >> 8 & 255) as f32 - 255.0;
                bits >>= 16;
                let strength = NOISE[0] + (NOISE[1] - NOISE[0]) * color * (1.0 / 255.0);
                *value = (color + triangle * strength * (1.0 / 104.0) + 0.5) as u8;
            }
        }
    });
    seen
}

struct Picture<'a> {
    clean: &'a [u8],
    size: [usize; 2],
}

impl Picture<'_> {
    #[inline]
    fn at(&self, column: usize, row: usize) -> [i32; 3] {
        let i = 3 * (row * self.size[0] + column);
        [self.clean[i], self.clean[i + 1], self.clean[i + 2]].map(i32::from)
    }

    fn brightness([r, g, b]: [i32; 3]) -> i32 {
        (r + 2 * g + b) >> 2
    }

    fn between(&self, x: f32, y: f32) -> [f32; 3] {
        let (x, y) = (x.clamp(0.0, (self.size[0] - 1) as f32), y.clamp(0.0, (self.size[1] - 1) as f32));
        let (i, j) = (x as i32 as usize, y as i32 as usize);
        let (u, v) = (x - i as f32, y - j as f32);
        let (right, below) = ((i + 1).min(self.size[0] - 1), (j + 1).min(self.size[1] - 1));
        let (a, b, c, d) = (self.at(i, j), self.at(right, j), self.at(i, below), self.at(right, below));
        [0, 1, 2].map(|k| {
            let [a, b, c, d] = [a[k], b[k], c[k], d[k]].map(|v| v as f32);
            (a + u * (b - a)) * (1.0 - v) + (c + u * (d - c)) * v
        })
    }

    /// Where brightness jumps, the mean along the edge instead of the pixel, after T. Lottes' FXAA (2009).
    fn smoothed(&self, column: usize, row: usize) -> [f32; 3] {
        let own = self.at(column, row);
        if column == 0 || row == 0 || column + 1 >= self.size[0] || row + 1 >= self.size[1] {
            return own.map(|v| v as f32);
        }
        let luma = |dx: usize, dy: usize| Self::brightness(self.at(column + dx - 1, row + dy - 1));
        let middle = Self::brightness(own);
        let cross = [luma(1, 0), luma(0, 1), luma(2, 1), luma(1, 2)];
        let low = cross.iter().fold(middle, |m, &v| m.min(v));
        let high = cross.iter().fold(middle, |m, &v| m.max(v));
        if high - low < EDGE.max(high >> 3) {
            return own.map(|v| v as f32);
        }
        let [nw, ne, sw, se] = [luma(0, 0), luma(2, 0), luma(0, 2), luma(2, 2)];
        let (x, y) = ((sw + se - nw - ne) as f32, (nw + sw - ne - se) as f32);
        let reduce = ((nw + ne + sw + se) as f32 * (0.25 / 8.0)).max(2.0);
        let scale = 1.0 / (x.abs().min(y.abs()) + reduce);
        let (x, y) = ((x * scale).clamp(-REACH, REACH), (y * scale).clamp(-REACH, REACH));
        let tap = |t: f32| self.between(column as f32 + t * x, row as f32 + t * y);
        let (a, b) = (tap(-1.0 / 6.0), tap(1.0 / 6.0));
        let near = [0, 1, 2].map(|k| 0.5 * (a[k] + b[k]));
        let (c, d) = (tap(-0.5), tap(0.5));
        let far = [0, 1, 2].map(|k| 0.5 * near[k] + 0.25 * (c[k] + d[k]));
        let brightness = 0.25 * (far[0] + 2.0 * far[1] + far[2]);
        if brightness < low as f32 || brightness > high as f32 { near } else { far }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_of_the_given_strength_and_the_mean_stays() {
        let clean = vec![100u8; 3 * 200 * 100];
        let seen = expose(&clean, [200, 100], 4);
        // Around the middle, where the corners' darkness does not reach.
        let middle: Vec<f32> = (40..60)
            .flat_map(|y| (80..120).flat_map(move |x| (0..3).map(move |k| 3 * (y * 200 + x) + k)))
            .map(|i| f32::from(seen[i]))
            .collect();
        let mean = middle.iter().sum::<f32>() / middle.len() as f32;
        let deviation = (middle.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / middle.len() as f32).sqrt();
        assert!((mean - 99.5).abs() < 1.0 && (deviation - 1.75).abs() < 0.25, "{mean} {deviation}");
        assert!(seen == expose(&clean, [200, 100], 4) && seen != expose(&clean, [200, 100], 5));
    }

    #[test]
    fn a_slanted_edge_gets_steps_between() {
        let size = [64, 64];
        let clean: Vec<u8> = (0..64 * 64).flat_map(|i| [if (i % 64) > 20 + (i / 64) / 4 { 220 } else { 30 }; 3]).collect();
        let picture = Picture { clean: &clean, size };
        let between = (8..56).filter(|&row| (10..50).any(|column| (50.0..200.0).contains(&picture.smoothed(column, row)[0]))).count();
        assert!(between > 30, "{between}");
        assert_eq!(picture.smoothed(5, 30), [30.0; 3]);
    }
}
