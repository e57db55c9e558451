//! Rounding weights so that a layer's output changes least, not the weights.
//!
//! The squared error of a layer's output depends on its input only through second moments: with the windows `x` of the float
//! network and `v` of the quantized one, weighted as the positions matter,
//!
//! ```text
//! E (w x - s q v)^2 = s^2 q A q - 2 s c q + const,    A = E v v^T,  c = w E x v^T
//! ```
//!
//! so a layer is rounded without its maps, over all samples at once, and without a gradient descent. As in AdaRound (Nagel et
//! al. 2020) each weight becomes one of the two integers around it; which, coordinate descent decides. (Any integer would do as well, but
//! fits the frames that were seen better and all others worse.) Given the integers, the scale of a row with which its output varies as
//! it should is known in closed form, and the two take turns.

use super::moments::Problem;
use crate::graph::Weight;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

/// Passes over a row's weights for one scale.
const MAX_SWEEPS: usize = 16;
/// How often a row's scale is fitted to its integers. A scale moves by a few hundredths; later turns change nothing.
const SCALE_TURNS: usize = 3;

/// The rounding of one layer.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// `[rows, window]`.
    pub integers: Array2<i8>,
    /// Of each output channel.
    pub scales: Vec<f32>,
    /// Squared error of the outputs as a share of their variance: of rounding to nearest, and of this.
    pub nearest_error: f64,
    pub error: f64,
}

/// Rounds `weight` `[rows, window]` to integers of so many bits, starting with `scales`, one for each output channel, of which
/// each has the same number of rows.
pub fn round(weight: &ArrayView2<'_, f32>, scales: &[f32], bits: u8, problem: &Problem) -> Rounded {
    let limit = f64::from(Weight::limit(bits));
    let per_channel = (weight.nrows() / scales.len().max(1)).max(1);
    let channels: Vec<Channel> = (0..scales.len())
        .into_par_iter()
        .map(|c| {
            let rows = (c * per_channel..(c + 1) * per_channel).map(|r| Row::new(r, weight.row(r), f64::from(scales[c]), limit, problem));
            let mut channel = Channel { scale: f64::from(scales[c]), rows: rows.collect() };
            channel.improve(limit, problem);
            channel
        })
        .collect();
    let energy = problem.energy.sum().max(f64::MIN_POSITIVE);
    let rows: Vec<&Row> = channels.iter().flat_map(|c| &c.rows).collect();
    Rounded {
        integers: Array2::from_shape_fn(weight.raw_dim(), |(r, k)| rows[r].integers[k] as i8),
        scales: channels.iter().map(|c| c.scale as f32).collect(),
        nearest_error: rows.iter().map(|r| r.nearest_error).sum::<f64>() / energy,
        error: channels.iter().map(|c| c.error(problem)).sum::<f64>() / energy,
    }
}

/// Rows that share a scale.
struct Channel {
    scale: f64,
    rows: Vec<Row>,
}

struct Row {
    index: usize,
    weight: Vec<f64>,
    integers: Vec<f64>,
    /// `A q`, kept up to date.
    product: Vec<f64>,
    nearest_error: f64,
}

impl Channel {
    fn improve(&mut self, limit: f64, problem: &Problem) {
        for turn in 0..SCALE_TURNS {
            let scale = self.scale;
            let changed: usize = self.rows.iter_mut().map(|row| row.descend(scale, limit, problem)).sum();
            if turn + 1 < SCALE_TURNS && !self.fit_scale(problem) || turn > 0 && changed == 0 {
                break;
            }
        }
    }

    /// The scale with which the output varies as the float network's does; false if it stays.
    ///
    /// The one with the least squared error would be smaller: least squares draw a noisy signal towards its mean, and layer behind layer
    /// that becomes scores that are too low.
    fn fit_scale(&mut self, problem: &Problem) -> bool {
        let energy: f64 = self.rows.iter().map(|row| problem.energy[row.index]).sum();
        let quadratic: f64 = self.rows.iter().map(|row| row.square(problem)).sum();
        let best = (energy / quadratic).sqrt();
        // A row without a signal keeps what its weights say.
        if !(best.is_finite() && best > 0.5 * self.scale && best < 2.0 * self.scale) {
            return false;
        }
        let moved = (best / self.scale - 1.0).abs() > 1e-4;
        self.scale = best;
        moved
    }

    fn error(&self, problem: &Problem) -> f64 {
        self.rows.iter().map(|row| row.error(self.scale, problem)).sum()
    }
}

impl Row {
    fn new(index: usize, weight: ArrayView1<'_, f32>, scale: f64, limit: f64, problem: &Problem) -> Self {
        let weight: Vec<f64> = weight.iter().map(|&w| f64::from(w)).collect();
        let integers: Vec<f64> = weight.iter().map(|w| (w / scale).round_ties_even().clamp(-limit, limit)).collect();
        let mut product = vec![0.0; weight.len()];
        for (&q, column) in integers.iter().zip(problem.quadratic.outer_iter()).filter(|(q, _)| **q != 0.0) {
            product.iter_mut().zip(column).for_each(|(p, &a)| *p += q * f64::from(a));
        }
        let mut row = Self { index, weight, integers, product, nearest_error: 0.0 };
        row.nearest_error = row.error(scale, problem);
        row
    }

    /// Moves single weights to their other integer while that makes the error less; returns how many moves it made.
    fn descend(&mut self, scale: f64, limit: f64, problem: &Problem) -> usize {
        let linear = problem.linear.row(self.index);
        let mut moves = 0;
        for _ in 0..MAX_SWEEPS {
            let before = moves;
            for k in 0..self.integers.len() {
                let q = self.integers[k];
                let exact = self.weight[k] / scale;
                let diagonal = f64::from(problem.quadratic[[k, k]]);
                let slope = scale * self.product[k] - f64::from(linear[k]);
                // One step towards less error, if it is one of the two integers around the weight.
                let step = if slope > 0.0 { -1.0 } else { 1.0 };
                let next = q + step;
                let around = (next - exact).abs() < 1.0 && next.abs() <= limit;
                if around && 2.0 * step * slope + scale * diagonal < 0.0 {
                    self.integers[k] = next;
                    self.product.iter_mut().zip(problem.quadratic.row(k)).for_each(|(p, &a)| *p += step * f64::from(a));
                    moves += 1;
                }
            }
            if moves == before {
                break;
            }
        }
        moves
    }

    /// `q A q`, undamped.
    fn square(&self, problem: &Problem) -> f64 {
        self.integers.iter().zip(&self.product).map(|(q, p)| q * (p - problem.damping * q)).sum()
    }

    /// Of the undamped problem.
    fn error(&self, scale: f64, problem: &Problem) -> f64 {
        let linear = problem.linear.row(self.index);
        let mut sum = problem.energy[self.index];
        for (k, &q) in self.integers.iter().enumerate() {
            let c = f64::from(linear[k]) - problem.damping * self.weight[k];
            sum += scale * q * (scale * (self.product[k] - problem.damping * q) - 2.0 * c);
        }
        sum.max(0.0)
    }
}

/// What must be added to each row's bias so that the mean of its output stays, given the values that its integers stand for.
pub fn bias_shift(values: &ArrayView2<'_, f32>, problem: &Problem) -> Vec<f32> {
    let mean = |row: ArrayView1<'_, f32>| row.iter().zip(&problem.window_mean).map(|(&w, m)| f64::from(w) * m).sum::<f64>();
    values.outer_iter().zip(&problem.output_mean).map(|(row, y)| (y - mean(row)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::moments::{InputMoments, OutputMoments};
    use crate::random::Rng;

    struct Case {
        weight: Array2<f32>,
        windows: Array2<f32>,
        outputs: Array2<f32>,
    }

    /// Correlated windows that are not centred, seen exactly.
    fn case(rows: usize, window: usize, samples: usize) -> Case {
        let mut rng = Rng::new(11, "rounding");
        let weight = Array2::from_shape_simple_fn((rows, window), || rng.range(-1.0, 1.0));
        let mix = Array2::from_shape_simple_fn((window, window), || rng.range(-1.0, 1.0));
        let hidden = Array2::from_shape_simple_fn((samples, window), || rng.range(0.0, 1.0));
        let windows = hidden.dot(&mix);
        let outputs = windows.dot(&weight.t());
        Case { weight, windows, outputs }
    }

    fn problem(case: &Case, damping: f64) -> Problem {
        let mut inputs = InputMoments::new(case.windows.ncols());
        let mut outputs = OutputMoments::new(case.weight.nrows(), case.windows.ncols());
        inputs.add(&case.windows.view());
        outputs.add(&case.outputs.view(), &case.windows.view());
        Problem::new(&inputs, &outputs, &case.weight.view(), true, damping)
    }

    /// Variance of the outputs' error, computed sample by sample.
    fn variance(case: &Case, integers: &[i8], scale: f32, row: usize) -> f64 {
        let errors: Vec<f64> = (0..case.windows.nrows())
            .map(|i| {
                let sum: f64 =
                    integers.iter().zip(case.windows.row(i)).map(|(&q, &v)| f64::from(q) * f64::from(scale) * f64::from(v)).sum();
                f64::from(case.outputs[[i, row]]) - sum
            })
            .collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        errors.iter().map(|e| (e - mean) * (e - mean)).sum::<f64>() / errors.len() as f64
    }

    /// Against trying out all roundings of a small layer at its final scale.
    #[test]
    fn finds_nearly_the_best_of_all_roundings() {
        let case = case(4, 9, 200);
        let problem = problem(&case, 0.0);
        let rounded = round(&case.weight.view(), &[1.0 / 7.0; 4], 4, &problem);
        let mut total = 0.0;
        for row in 0..4 {
            let scale = rounded.scales[row];
            let found = variance(&case, rounded.integers.row(row).as_slice().expect("dense"), scale, row);
            total += found;
            let floor: Vec<i8> = case.weight.row(row).iter().map(|w| (w / scale).floor() as i8).collect();
            let all = (0..1u32 << 9).map(|bits| {
                let q: Vec<i8> = floor.iter().enumerate().map(|(k, f)| f + (bits >> k & 1) as i8).collect();
                variance(&case, &q, scale, row)
            });
            let best = all.fold(f64::INFINITY, f64::min);
            let nearest: Vec<i8> = case.weight.row(row).iter().map(|w| (w * 7.0).round() as i8).collect();
            let nearest = variance(&case, &nearest, 1.0 / 7.0, row);
            assert!(found <= nearest && found < 3.0 * best.max(1e-9), "row {row}: {found}, best {best}, nearest {nearest}");
        }
        let energy: f64 = problem.energy.sum();
        assert!((rounded.error - total / energy).abs() < 1e-4 * (1.0 + total / energy), "{} {}", rounded.error, total / energy);
        assert!(rounded.error < 0.9 * rounded.nearest_error, "{} {}", rounded.error, rounded.nearest_error);
    }

    /// However coarse the integers and however noisy the windows, the outputs vary as they should; the least squares would not.
    #[test]
    fn outputs_do_not_shrink() {
        let mut case = case(3, 8, 4000);
        let mut rng = Rng::new(5, "noise");
        case.windows.mapv_inplace(|v| v + rng.range(-1.0, 1.0));
        let problem = problem(&case, 0.0);
        let rounded = round(&case.weight.view(), &[1.0 / 3.0; 3], 3, &problem);
        for row in 0..3 {
            let values: Vec<f64> = rounded.integers.row(row).iter().map(|&q| f64::from(q) * f64::from(rounded.scales[row])).collect();
            let outputs: Vec<f64> =
                case.windows.outer_iter().map(|v| v.iter().zip(&values).map(|(&v, w)| f64::from(v) * w).sum()).collect();
            let variance = |of: &[f64]| {
                let mean = of.iter().sum::<f64>() / of.len() as f64;
                of.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / of.len() as f64
            };
            let exact: Vec<f64> = case.outputs.column(row).iter().map(|&y| f64::from(y)).collect();
            let (found, expected) = (variance(&outputs), variance(&exact));
            // The scale is fitted before the last changes of integers.
            assert!((found / expected - 1.0).abs() < 0.05, "row {row}: {found}, float {expected}");
        }
    }

    #[test]
    fn biases_take_up_means() {
        let case = case(2, 6, 100);
        let problem = problem(&case, 0.0);
        let values = case.weight.mapv(|w| (w * 3.0).round() / 3.0);
        let shift = bias_shift(&values.view(), &problem);
        let outputs = case.windows.dot(&values.t());
        for row in 0..2 {
            let error: f32 = (0..100).map(|i| case.outputs[[i, row]] - outputs[[i, row]] - shift[row]).sum::<f32>() / 100.0;
            assert!(error.abs() < 1e-4, "{error}");
        }
    }
}
