//! AdaRound's variables (Nagel et al. 2020): how far each weight is rounded up, learnt as a number between 0 and 1 that is pushed
//! to either end.

use crate::graph::{Granularity, Weight};
use ndarray::{ArrayD, Axis, Zip};

/// The rectified sigmoid reaches beyond 0 and 1 by a tenth, so that its clamped values get there.
const ZETA: f32 = 1.1;
const GAMMA: f32 = -0.1;

/// A layer's weight, each element between the integer below it and the one above.
#[derive(Clone, Debug)]
pub struct SoftWeight {
    bits: u8,
    output_axis: usize,
    scales: Vec<f32>,
    /// The integer below.
    floor: ArrayD<f32>,
    fraction: ArrayD<f32>,
}

impl SoftWeight {
    /// Of a float weight on the grid of a quantized one.
    pub fn new(weight: &ArrayD<f32>, grid: &Weight, output_axis: usize) -> Self {
        let scales: Vec<f32> = (0..weight.len_of(Axis(output_axis))).map(|c| grid.scale(c)).collect();
        let mut exact = weight.clone();
        exact.axis_iter_mut(Axis(output_axis)).zip(&scales).for_each(|(mut part, scale)| part.mapv_inplace(|w| w / scale));
        let floor = exact.mapv(f32::floor);
        let fraction = exact - &floor;
        Self { bits: grid.bits, output_axis, scales, floor, fraction }
    }

    /// Variables at which the weight is what it was in float.
    pub fn start(&self) -> ArrayD<f32> {
        self.fraction.mapv(|f| -((ZETA - GAMMA) / (f - GAMMA) - 1.0).ln())
    }

    /// The weight at these variables.
    pub fn values(&self, variables: &ArrayD<f32>) -> ArrayD<f32> {
        let limit = f32::from(Weight::limit(self.bits));
        let mut values = self.floor.clone();
        Zip::from(&mut values).and(variables).par_for_each(|w, &v| *w = (*w + rectified(v)).clamp(-limit, limit));
        self.times_scales(values)
    }

    /// From the gradient of the weight to that of the variables.
    pub fn gradient(&self, variables: &ArrayD<f32>, weight_gradient: &ArrayD<f32>) -> ArrayD<f32> {
        let limit = f32::from(Weight::limit(self.bits));
        let mut gradient = self.times_scales(weight_gradient.clone());
        Zip::from(&mut gradient).and(variables).and(&self.floor).par_for_each(|g, &v, &floor| {
            let exact = floor + rectified(v);
            *g *= if exact > -limit && exact < limit { slope(v) } else { 0.0 };
        });
        gradient
    }

    /// The integers that the variables have chosen.
    pub fn harden(&self, variables: &ArrayD<f32>) -> Weight {
        let limit = f32::from(Weight::limit(self.bits));
        let mut integers = ArrayD::zeros(self.floor.raw_dim());
        Zip::from(&mut integers).and(variables).and(&self.floor).for_each(|q, &v, &floor| {
            *q = (floor + f32::from(u8::from(v >= 0.0))).clamp(-limit, limit) as i8;
        });
        Weight { bits: self.bits, granularity: Granularity::PerChannel, scales: self.scales.clone(), integers }
    }

    fn times_scales(&self, mut values: ArrayD<f32>) -> ArrayD<f32> {
        values.axis_iter_mut(Axis(self.output_axis)).zip(&self.scales).for_each(|(mut part, &scale)| part *= scale);
        values
    }
}

/// Adds to `gradient` that of `weight * sum(1 - |2 h - 1|^beta)`, which is least where every `h` is 0 or 1.
pub fn add_regularizer(variables: &ArrayD<f32>, weight: f32, beta: f32, gradient: &mut ArrayD<f32>) {
    Zip::from(gradient).and(variables).par_for_each(|g, &v| {
        let side = 2.0 * rectified(v) - 1.0;
        *g -= weight * beta * side.abs().powf(beta - 1.0) * side.signum() * 2.0 * slope(v);
    });
}

/// Share of the variables that stand between 0 and 1.
pub fn undecided(variables: &ArrayD<f32>) -> f64 {
    let count = variables.iter().filter(|v| (0.01..0.99).contains(&rectified(**v))).count();
    count as f64 / variables.len().max(1) as f64
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

fn rectified(v: f32) -> f32 {
    (sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
}

/// Of [`rectified`]; 0 where it is clamped.
fn slope(v: f32) -> f32 {
    let s = sigmoid(v);
    let h = s * (ZETA - GAMMA) + GAMMA;
    if h > 0.0 && h < 1.0 { s * (1.0 - s) * (ZETA - GAMMA) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr1, arr2};

    fn soft() -> (SoftWeight, ArrayD<f32>) {
        let weight = arr2(&[[0.3f32, -0.26, 0.05], [3.4, 9.0, -1.0]]).into_dyn();
        let grid = Weight::round_to_nearest(&weight, 0, 4, Granularity::PerChannel, vec![0.1, 1.0]);
        (SoftWeight::new(&weight, &grid, 0), weight)
    }

    /// Starts at the float weight, except what lies beyond the grid; a variable of 0 is half way up; the sign decides.
    #[test]
    fn from_float_to_integers() {
        let (soft, weight) = soft();
        let start = soft.start();
        for (i, (found, w)) in soft.values(&start).iter().zip(&weight).enumerate() {
            assert!((found - w.min(7.0)).abs() < 1e-5, "{i}: {found} {w}");
        }
        let nearest = soft.harden(&start).integers;
        assert_eq!(nearest.iter().copied().collect::<Vec<_>>()[..2], [3, -3]);
        assert_eq!(soft.values(&ArrayD::zeros(start.raw_dim()))[[1, 0]], 3.5);
        assert_eq!(
            soft.harden(&ArrayD::from_elem(start.raw_dim(), 3.0)).integers.iter().copied().collect::<Vec<_>>()[1..],
            [-2, 1, 4, 7, 0]
        );
    }

    #[test]
    fn gradients_are_central_differences() {
        let (soft, _) = soft();
        let variables = arr2(&[[0.3f32, -1.0, 1.5], [0.2, 0.0, -0.7]]).into_dyn();
        let out = arr2(&[[1.0f32, 2.0, -3.0], [0.5, 4.0, 1.0]]).into_dyn();
        let found = soft.gradient(&variables, &out);
        let loss = |v: &ArrayD<f32>| f64::from((soft.values(v) * &out).sum());
        let penalty = |v: &ArrayD<f32>| v.iter().map(|&v| 0.5 * (1.0 - f64::from((2.0 * rectified(v) - 1.0).abs()).powi(3))).sum::<f64>();
        let mut regularizer = ArrayD::zeros(variables.raw_dim());
        add_regularizer(&variables, 0.5, 3.0, &mut regularizer);
        let slopes = |f: &dyn Fn(&ArrayD<f32>) -> f64, at: usize| {
            let shifted = |by: f32| {
                let mut v = variables.clone();
                v.as_slice_mut().expect("dense")[at] += by;
                f(&v)
            };
            (shifted(1e-2) - shifted(-1e-2)) / 2e-2
        };
        for at in 0..6 {
            let (expected, got) = (slopes(&loss, at), f64::from(found.as_slice().expect("dense")[at]));
            assert!((expected - got).abs() < 1e-3, "{at}: {got} {expected}");
            let (expected, got) = (slopes(&penalty, at), f64::from(regularizer.as_slice().expect("dense")[at]));
            assert!((expected - got).abs() < 1e-3, "{at}: {got} {expected}");
        }
    }

    #[test]
    fn decided_means_at_an_end() {
        assert_eq!(undecided(&arr1(&[0.0f32, 4.0, -4.0, 0.5]).into_dyn()), 0.5);
    }
}
