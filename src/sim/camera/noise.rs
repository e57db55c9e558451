//! Irregularity that stays where it is: functions of place and nothing else.

use std::sync::OnceLock;

/// A well-mixed hash of three integers.
#[inline]
pub(super) fn hash(x: i32, y: i32, z: i32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x8da6_b343) ^ (y as u32).wrapping_mul(0xd816_3841) ^ (z as u32).wrapping_mul(0xcb1a_b31f);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    h ^ (h >> 15)
}

/// In `[0, 1)`.
#[inline]
pub(super) fn unit(h: u32) -> f32 {
    (h >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// The largest integer not above `x`, and the rest. (Without it, `floor` is a call on plain x86-64.)
#[inline]
pub(super) fn split(x: f32) -> (i32, f32) {
    let i = x as i32 - i32::from(x < 0.0);
    (i, x - i as f32)
}

/// Random values at whole coordinates, smooth between them, in `[0, 1)`.
pub(super) fn lumps(x: f32, y: f32, z: f32) -> f32 {
    let ((i, u), (j, v), (k, w)) = (split(x), split(y), split(z));
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v, w) = (ease(u), ease(v), ease(w));
    let at = |a, b, c| unit(hash(i + a, j + b, k + c));
    let along = |b, c| at(0, b, c) * (1.0 - u) + at(1, b, c) * u;
    let across = |c| along(0, c) * (1.0 - v) + along(1, c) * v;
    across(0) * (1.0 - w) + across(1) * w
}

const SIDE: usize = 256;

/// A square of clouds, detail at every scale from the whole side down, that repeats itself; about -1 to 1, deviation about 0.35.
fn table() -> &'static [f32; SIDE * SIDE] {
    static TABLE: OnceLock<Box<[f32; SIDE * SIDE]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut sum = Box::new([0.0f32; SIDE * SIDE]);
        for octave in 2..7 {
            let cells = 1i32 << octave;
            let amplitude = 1.4 / (1 << (octave - 2)) as f32;
            let step = cells as f32 / SIDE as f32;
            for (i, value) in sum.iter_mut().enumerate() {
                let ((x, u), (y, v)) = (split((i % SIDE) as f32 * step), split((i / SIDE) as f32 * step));
                let at = |a: i32, b: i32| unit(hash((x + a) % cells, (y + b) % cells, octave)) - 0.5;
                let ease = |t: f32| t * t * (3.0 - 2.0 * t);
                let (u, v) = (ease(u), ease(v));
                *value += amplitude * ((at(0, 0) * (1.0 - u) + at(1, 0) * u) * (1.0 - v) + (at(0, 1) * (1.0 - u) + at(1, 1) * u) * v);
            }
        }
        sum
    })
}

/// Clouds of detail; one unit is the finest of it, and 256 units repeat.
#[inline]
pub(super) fn clouds(x: f32, y: f32) -> f32 {
    let table = table();
    let ((i, u), (j, v)) = (split(x), split(y));
    let wrap = |k: i32| k as usize & (SIDE - 1);
    let (i0, i1, j0, j1) = (wrap(i), wrap(i + 1), wrap(j) * SIDE, wrap(j + 1) * SIDE);
    let (a, b, c, d) = (table[j0 + i0], table[j0 + i1], table[j1 + i0], table[j1 + i1]);
    (a + u * (b - a)) * (1.0 - v) + (c + u * (d - c)) * v
}

/// A random value for each cell of a grid, in `[-1, 1)`.
#[inline]
pub(super) fn speckle(x: f32, y: f32) -> f32 {
    2.0 * unit(hash(split(x).0, split(y).0, 7)) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_range_smooth_and_even() {
        let (mut low, mut high, mut mean) = (f32::INFINITY, f32::NEG_INFINITY, 0.0);
        for i in 0..20_000 {
            let (x, y) = (0.173 * i as f32 - 900.0, 0.091 * i as f32);
            let value = clouds(x, y);
            (low, high, mean) = (low.min(value), high.max(value), mean + value / 20_000.0);
            assert!((clouds(x + 0.01, y) - value).abs() < 0.05 && (clouds(x + 256.0, y) - value).abs() < 1e-3);
            assert!((0.0..1.0).contains(&lumps(x, y, 3.3)) && (lumps(x + 0.01, y, 3.3) - lumps(x, y, 3.3)).abs() < 0.05);
        }
        assert!(low > -1.6 && high < 1.6 && high - low > 1.2 && mean.abs() < 0.15, "{low} {high} {mean}");
        assert_eq!((split(-0.25), split(2.5)), ((-1, 0.75), (2, 0.5)));
    }
}
