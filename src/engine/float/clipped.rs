//! Sums over outputs of which only what lies between two bounds is left.

use super::kernel::{Real, vectorized};

/// Sums that run beside each other, for the compiler to add to at once: the same for every instruction set.
const PARTS: usize = 32;

/// What `sum over i of (cut(found[i]) - wanted[i])^2` becomes more by, if `by * values[i]` is added to each `found[i]`.
///
/// `wanted` lies between the bounds, and all slices are of one length.
pub fn clipped_change<T: Real>(found: &[T], wanted: &[T], values: &[T], by: T, bounds: [T; 2]) -> T {
    let mut sum = T::zero();
    change(found, wanted, values, by, bounds, &mut sum);
    sum
}

vectorized! {
    fn change<T>(found: &[T], wanted: &[T], values: &[T], by: T, bounds: [T; 2], sum: &mut T) {
        let mut parts = [T::zero(); PARTS];
        let (found, found_rest) = found.as_chunks::<PARTS>();
        let (wanted, wanted_rest) = wanted.as_chunks::<PARTS>();
        let (values, values_rest) = values.as_chunks::<PARTS>();
        for ((p, y), v) in found.iter().zip(wanted).zip(values) {
            for i in 0..PARTS {
                parts[i] += change_of(p[i], y[i], by * v[i], bounds);
            }
        }
        let rest = found_rest.iter().zip(wanted_rest).zip(values_rest).map(|((&p, &y), &v)| change_of(p, y, by * v, bounds));
        *sum = parts.into_iter().chain(rest).sum();
    }
}

vectorized! {
    /// `found[i] += by * values[i]`.
    pub fn add_scaled<T>(found: &mut [T], values: &[T], by: T) {
        for (p, &v) in found.iter_mut().zip(values) {
            *p += by * v;
        }
    }
}

#[inline(always)]
fn change_of<T: Real>(found: T, wanted: T, more: T, bounds: [T; 2]) -> T {
    let (before, after) = (cut(found, bounds) - wanted, cut(found + more, bounds) - wanted);
    (after - before) * (after + before)
}

/// What is left of an output. Unlike `clamp` and `max`, two instructions.
#[inline(always)]
pub fn cut<T: Real>(x: T, [low, high]: [T; 2]) -> T {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    #[test]
    fn changes_are_differences_of_losses() {
        let mut rng = Rng::new(5, "clipped");
        for (n, bounds) in [(0, [0.0, 1.0]), (31, [0.0, f64::INFINITY]), (32, [0.0, 0.5]), (1000, [-0.7, 0.7])] {
            let mut random = || -> Vec<f64> { (0..n).map(|_| f64::from(rng.range(-1.0, 1.0))).collect() };
            let (mut found, wanted, values) = (random(), random(), random());
            let wanted: Vec<f64> = wanted.into_iter().map(|y| cut(y, bounds)).collect();
            let loss = |found: &[f64]| -> f64 { found.iter().zip(&wanted).map(|(p, y)| (p.clamp(bounds[0], bounds[1]) - y).powi(2)).sum() };
            let change = clipped_change(&found, &wanted, &values, 0.3, bounds);
            let before = loss(&found);
            add_scaled(&mut found, &values, 0.3);
            assert!((loss(&found) - before - change).abs() < 1e-9, "{n} {bounds:?}");
        }
    }
}
