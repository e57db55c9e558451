//! Exponential, sine, cosine and arctangent of decoding, defined to the bit.
//!
//! Which boxes are found depends on scores' and overlaps' last bits, and the system's functions differ from machine to machine and
//! from CPUs to GPUs. These are sums and products of doubles in one order, rounded once to a float, so they are the same everywhere;
//! `engine/cuda/kernels/elementary.cuh` has the same operations. Their doubles are good to about 1e-14, so nearly all results are
//! the correctly rounded ones.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, LOG2_E, PI};

/// Angles beyond this have no sine here: no heading is so far around.
const LARGEST_ANGLE: f64 = 1e6;
/// ln 2 and pi/2 in two parts, the first of which has so few digits that its multiples here are exact.
const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
const HALF_PI: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];
const ATAN_HALF: f64 = 0.463_647_609_000_806_1;

/// A polynomial, from the highest coefficient down.
fn horner(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

pub(super) fn exp(x: f32) -> f32 {
    if x.is_nan() || x > 89.0 {
        return x + f32::INFINITY;
    }
    if x < -104.0 {
        return 0.0;
    }
    let x = f64::from(x);
    let n = (x * LOG2_E + 0.5).floor();
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let series = [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let two_to_n = f64::from_bits(((1023 + n as i64) as u64) << 52);
    (horner(r, &series) * two_to_n) as f32
}

/// Sine and cosine; not numbers beyond [`LARGEST_ANGLE`].
pub(super) fn sin_cos(x: f32) -> (f32, f32) {
    let x = f64::from(x);
    if !(-LARGEST_ANGLE..=LARGEST_ANGLE).contains(&x) {
        return (f32::NAN, f32::NAN);
    }
    let n = (x * FRAC_2_PI + 0.5).floor();
    let r = (x - n * HALF_PI[0]) - n * HALF_PI[1];
    let square = r * r;
    let sin_series = [
        -1.0 / 1_307_674_368_000.0,
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5_040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
        1.0,
    ];
    let cos_series = [
        1.0 / 20_922_789_888_000.0,
        -1.0 / 87_178_291_200.0,
        1.0 / 479_001_600.0,
        -1.0 / 3_628_800.0,
        1.0 / 40_320.0,
        -1.0 / 720.0,
        1.0 / 24.0,
        -0.5,
        1.0,
    ];
    let (sin, cos) = (horner(square, &sin_series) * r, horner(square, &cos_series));
    let (sin, cos) = match n as i64 & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    };
    (sin as f32, cos as f32)
}

/// The angle of the point (x, y), in every case as C's `atan2`.
pub(super) fn atan2(y: f32, x: f32) -> f32 {
    if x.is_nan() || y.is_nan() {
        return f32::NAN;
    }
    let (wide, high) = (f64::from(x.abs()), f64::from(y.abs()));
    let (short, long) = if high > wide { (wide, high) } else { (high, wide) };
    let ratio = match long {
        0.0 => 0.0,
        _ if short == f64::INFINITY => 1.0,
        _ => short / long,
    };
    // atan a = atan c + atan((a - c) / (1 + a c))
    let (center, start) = match ratio {
        r if r < 0.25 => (0.0, 0.0),
        r if r < 0.75 => (0.5, ATAN_HALF),
        _ => (1.0, FRAC_PI_4),
    };
    let t = (ratio - center) / (1.0 + ratio * center);
    let series = [1.0 / 21.0, -1.0 / 19.0, 1.0 / 17.0, -1.0 / 15.0, 1.0 / 13.0, -1.0 / 11.0, 1.0 / 9.0, -1.0 / 7.0, 0.2, -1.0 / 3.0, 1.0];
    let mut angle = start + horner(t * t, &series) * t;
    if high > wide {
        angle = FRAC_PI_2 - angle;
    }
    if x.is_sign_negative() {
        angle = PI - angle;
    }
    (angle as f32).copysign(y)
}

/// The length of (x, y): squares of floats are exact as doubles, and cannot overflow.
pub(super) fn hypot(x: f32, y: f32) -> f32 {
    let (x, y) = (f64::from(x), f64::from(y));
    (x * x + y * y).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    /// Ulps between two floats of one sign.
    fn apart(a: f32, b: f32) -> u32 {
        if a == b || (a.is_nan() && b.is_nan()) { 0 } else { a.to_bits().abs_diff(b.to_bits()) }
    }

    /// Against the system's functions of doubles, rounded once.
    #[test]
    fn they_are_the_correctly_rounded_ones_but_for_hairlines() {
        let mut rng = Rng::new(1, "elementary");
        let (mut cases, mut wrong) = (0, 0);
        let mut judge = |found: f32, exact: f64, what: &str| {
            let off = apart(found, exact as f32);
            assert!(off <= 1, "{what}: {found:e}, expected {exact:e}");
            (cases, wrong) = (cases + 1, wrong + off);
        };
        for _ in 0..200_000 {
            let x = rng.range(-104.0, 89.0);
            judge(exp(x), f64::from(x).exp(), "exp");
            let x = rng.range(-1.0, 1.0) * rng.range(-5.0, 5.0).exp();
            judge(exp(x), f64::from(x).exp(), "exp");
            let (sin, cos) = sin_cos(x);
            judge(sin, f64::from(x).sin(), "sin");
            judge(cos, f64::from(x).cos(), "cos");
            let y = rng.range(-1.0, 1.0) * rng.range(-5.0, 5.0).exp();
            judge(atan2(y, x), f64::from(y).atan2(f64::from(x)), "atan2");
            judge(hypot(y, x), f64::from(y).hypot(f64::from(x)), "hypot");
        }
        assert!(wrong < 5, "{wrong} of {cases}");
    }

    #[test]
    fn special_numbers() {
        let special =
            [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45, 88.9, -103.9, 1e6];
        for x in special {
            assert_eq!(apart(exp(x), f64::from(x).exp() as f32), 0, "exp {x}");
            for y in special {
                let exact = f64::from(y).atan2(f64::from(x)) as f32;
                assert!(apart(atan2(y, x), exact) <= 1 && atan2(y, x).is_sign_negative() == exact.is_sign_negative(), "atan2 {y} {x}");
            }
        }
        let (sin, cos) = sin_cos(1e6);
        assert_eq!((sin, cos), (1e6f64.sin() as f32, 1e6f64.cos() as f32));
        assert!(sin_cos(f32::INFINITY).0.is_nan() && sin_cos(1.1e6).1.is_nan());
        assert_eq!(sin_cos(-0.0).0.to_bits(), (-0f32).to_bits());
    }
}
