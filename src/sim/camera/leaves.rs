//! Where a camera sees a leaf. The lidar draws the depth of the first leaf anew for each beam; a camera's neighbouring pixels
//! must agree, so here the same law is driven by noise that stays in its place.

use super::noise::{hash, lumps, split, unit};
use crate::sim::solid::{Span, Vec3};

/// Edge of a leaf and of a clump of leaves, metres.
const LEAF: f32 = 0.09;
const CLUMP: f32 = 0.42;

/// Distance of the first leaf in a cloud of `density` leaves a metre, if there is one. Origin and direction in the part's axes.
pub(super) fn meet(density: f32, span: &Span, origin: &Vec3, direction: &Vec3) -> Option<f32> {
    let near = span.near.max(0.1);
    if near >= span.far {
        return None;
    }
    let p = origin + near * direction;
    let cell = |v: f32| split(v * (1.0 / LEAF)).0;
    let fine = unit(hash(cell(p.x), cell(p.y), cell(p.z)));
    let coarse = lumps(p.x * (1.0 / CLUMP), p.y * (1.0 / CLUMP), p.z * (1.0 / CLUMP));
    // Between 0 and 1, most of it from the clumps.
    let share = (0.5 * fine + 1.7 * (coarse - 0.5) + 0.3).clamp(0.0, 0.99);
    let depth = -fast_ln(1.0 - share) / (0.95 * density);
    (near + depth < span.far).then_some(near + depth)
}

/// Natural logarithm to within 0.01, for positive normal numbers.
fn fast_ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    std::f32::consts::LN_2 * (exponent + (m - 1.0) * (5.0 - m) * (1.0 / 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_near() {
        for i in 1..2000 {
            let x = 0.001 * i as f32;
            assert!((fast_ln(x) - x.ln()).abs() < 0.012, "{x}");
        }
    }

    #[test]
    fn thick_crowns_are_dense_and_thin_rims_are_not() {
        let share = |depth: f32| {
            let seen = (0..4000).filter(|&i| {
                let origin = Vec3::new(0.0, 0.071 * (i % 64) as f32, 0.093 * (i / 64) as f32);
                meet(1.5, &Span { near: 5.0, far: 5.0 + depth, normal: Vec3::x() }, &origin, &Vec3::x()).is_some()
            });
            seen.count() as f32 / 4000.0
        };
        assert!(share(3.0) > 0.85 && share(0.05) < 0.35, "{} {}", share(3.0), share(0.05));
    }
}
