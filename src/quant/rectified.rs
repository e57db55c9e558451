//! Rounding again with an eye to what is cut off behind a layer: by ReLU below zero, by the next layers' range above.
//!
//! An output below zero may be anything below zero. Second moments cannot see that, so this needs the windows themselves. It is the
//! coordinate descent of [`super::rounding`], with
//!
//! ```text
//! sum over windows of (cut(y) - cut(s q v + b))^2
//! ```
//!
//! in place of the squared error of `y`; AdaRound's gradient descent goes down on the same (Nagel et al. 2020, eq. 25, there with
//! ReLU alone).

use super::products::product;
use super::rounding::Rounded;
use crate::engine::float::{add_scaled, clipped_change, cut};
use crate::graph::Weight;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};
use rayon::prelude::*;

/// Passes over a row's weights, which the moments have put in order before.
const SWEEPS: usize = 2;
/// Newton's steps towards a bias, and the share of windows that must show something for it to be sought.
const BIAS_STEPS: usize = 8;
const LEAST_SHOWN: f64 = 0.01;

/// All windows of a site, as the quantized network fills them.
pub struct Seen(Columns);

/// What a layer should give in these windows.
pub struct Goal {
    /// The float network's outputs before ReLU, a row for each of the layer's.
    outputs: Columns,
    /// What the layer adds to each row.
    bias: Array1<f32>,
    /// What is left of an output lies between these.
    bounds: [f32; 2],
}

/// Samples that come in parts, one beside the other.
struct Columns {
    /// `[length, samples]`; empty before the first part.
    values: Array2<f32>,
    samples: usize,
    filled: usize,
}

impl Columns {
    fn new(samples: usize) -> Self {
        Self { values: Array2::zeros((0, 0)), samples, filled: 0 }
    }

    /// Adds `[samples, length]`.
    fn add(&mut self, part: &ArrayView2<'_, f32>) {
        if self.values.is_empty() {
            self.values = Array2::zeros((part.ncols(), self.samples));
        }
        let end = self.filled + part.nrows();
        self.values.slice_axis_mut(Axis(1), (self.filled..end).into()).assign(&part.t());
        self.filled = end;
    }
}

impl Seen {
    /// There will be so many.
    pub fn new(samples: usize) -> Self {
        Self(Columns::new(samples))
    }

    /// Adds windows `[samples, window]`.
    pub fn add(&mut self, windows: &ArrayView2<'_, f32>) {
        self.0.add(windows);
    }
}

impl Goal {
    /// For so many samples, of which nothing is known yet.
    pub fn new(bias: Array1<f32>, bounds: [f32; 2], samples: usize) -> Self {
        Self { outputs: Columns::new(samples), bias, bounds }
    }

    /// Adds outputs `[samples, rows]`, without bias.
    pub fn add(&mut self, outputs: &ArrayView2<'_, f32>) {
        self.outputs.add(&(outputs + &self.bias).view());
    }
}

/// Moves integers of `rounded`, which have so many bits, to their other neighbours while that makes the error less. `bias` is of each
/// row, and moves so that the mean of what is left stays the float layer's. Errors in `rounded` become those of what is left;
/// `nearest` is what the layer's weight was before.
pub fn refine(
    weight: &ArrayView2<'_, f32>,
    (nearest, bits): (&ArrayView2<'_, f32>, u8),
    rounded: &mut Rounded,
    bias: &mut [f32],
    (seen, goal): (&Seen, &Goal),
) {
    let limit = f32::from(Weight::limit(bits));
    let per_channel = (weight.nrows() / rounded.scales.len().max(1)).max(1);
    let scale = |r: usize| rounded.scales[r / per_channel];
    let windows = seen.0.values.view();
    let wanted = goal.outputs.values.mapv(|y| cut(y, goal.bounds));
    let nearest_error = {
        let mut found = product(nearest, &windows);
        let rows: Vec<_> = found.outer_iter_mut().zip(wanted.outer_iter()).zip(&*bias).collect();
        let losses = rows.into_par_iter().map(|((found, wanted), &bias)| {
            let mut row = Outputs::new(found, &wanted, bias, goal.bounds);
            row.fit_bias();
            row.loss()
        });
        losses.collect::<Vec<f64>>()
    };
    let values = Array2::from_shape_fn(weight.raw_dim(), |(r, k)| f32::from(rounded.integers[[r, k]]) * scale(r));
    let mut found = product(&values.view(), &windows);
    let rows = found.outer_iter_mut().zip(wanted.outer_iter()).zip(rounded.integers.outer_iter_mut()).zip(bias);
    let mut rows: Vec<Row> = rows
        .enumerate()
        .map(|(r, (((found, wanted), integers), bias))| {
            let outputs = Outputs::new(found, &wanted, *bias, goal.bounds);
            Row { outputs, weight: weight.row(r), integers, scale: rounded.scales[r / per_channel], limit, bias }
        })
        .collect();
    rows.par_chunks_mut(ROWS).for_each(|rows| descend(rows, &windows));
    let [energy, error] = rows.iter().fold([0.0; 2], |[a, b], row| [a + row.outputs.energy(), b + row.outputs.loss()]);
    let energy = energy.max(f64::MIN_POSITIVE);
    (rounded.nearest_error, rounded.error) = (nearest_error.iter().sum::<f64>() / energy, error / energy);
}

/// Rows that take turns at a weight: what it meets is read from memory once for all of them, and their outputs fit the cache.
const ROWS: usize = 4;

fn descend(rows: &mut [Row<'_>], windows: &ArrayView2<'_, f32>) {
    rows.iter_mut().for_each(|row| *row.bias += row.outputs.fit_bias());
    for _ in 0..SWEEPS {
        let mut moves = 0;
        for (k, values) in windows.outer_iter().enumerate() {
            let values = values.to_slice().unwrap_or_default();
            moves += rows.iter_mut().filter_map(|row| row.improve(k, values).then_some(())).count();
        }
        if moves == 0 {
            break;
        }
    }
    rows.iter_mut().for_each(|row| *row.bias += row.outputs.fit_bias());
}

/// A row of a layer's weight.
struct Row<'a> {
    outputs: Outputs<'a>,
    weight: ArrayView1<'a, f32>,
    integers: ArrayViewMut1<'a, i8>,
    scale: f32,
    limit: f32,
    bias: &'a mut f32,
}

impl Row<'_> {
    /// Moves a weight, which meets these values, if that makes the error less; says whether it did.
    fn improve(&mut self, k: usize, values: &[f32]) -> bool {
        for step in [-1.0, 1.0] {
            let next = f32::from(self.integers[k]) + step;
            let around = (next - self.weight[k] / self.scale).abs() < 1.0 && next.abs() <= self.limit;
            let by = step * self.scale;
            let Outputs { bounds, wanted, found } = &mut self.outputs;
            if around && clipped_change(found, wanted, values, by, *bounds) < 0.0 {
                add_scaled(found, values, by);
                self.integers[k] = next as i8;
                return true;
            }
        }
        false
    }
}

/// Outputs of a row.
struct Outputs<'a> {
    bounds: [f32; 2],
    /// What should be left of them.
    wanted: &'a [f32],
    /// What the quantized layer yields, before anything is cut off.
    found: &'a mut [f32],
}

impl<'a> Outputs<'a> {
    /// `found` has no bias yet.
    fn new(found: ArrayViewMut1<'a, f32>, wanted: &ArrayView1<'a, f32>, bias: f32, bounds: [f32; 2]) -> Self {
        let found = found.into_slice().expect("a row of a matrix in standard layout");
        found.iter_mut().for_each(|p| *p += bias);
        Self { bounds, wanted: wanted.to_slice().expect("a row of a matrix in standard layout"), found }
    }

    /// Moves all outputs so that the mean of what is left is as wanted; returns by how much.
    fn fit_bias(&mut self) -> f32 {
        let [low, high] = self.bounds;
        let mean = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64;
        let wanted = mean(self.wanted);
        let mut moved = 0f32;
        for _ in 0..BIAS_STEPS {
            let left: Vec<f32> = self.found.iter().map(|&p| cut(p, [low, high])).collect();
            let shown = left.iter().filter(|x| low < **x && **x < high).count() as f64 / left.len().max(1) as f64;
            if shown < LEAST_SHOWN {
                break;
            }
            let by = ((wanted - mean(&left)) / shown) as f32;
            self.found.iter_mut().for_each(|p| *p += by);
            moved += by;
        }
        moved
    }

    /// Squared error.
    fn loss(&self) -> f64 {
        self.found.iter().zip(self.wanted).map(|(&p, y)| f64::from(cut(p, self.bounds) - y).powi(2)).sum()
    }

    /// Squared distance of what is wanted from its mean.
    fn energy(&self) -> f64 {
        let n = self.wanted.len().max(1) as f64;
        let [first, second] = self.wanted.iter().fold([0.0; 2], |[a, b], &y| [a + f64::from(y), b + f64::from(y) * f64::from(y)]);
        second - first * first / n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::moments::{InputMoments, OutputMoments, Problem};
    use crate::quant::rounding::round;
    use crate::random::Rng;

    const ROWS: usize = 3;
    const WINDOW: usize = 8;
    const BITS: u8 = 4;

    /// Windows in two parts, a layer of them whose outputs are often below zero, and its moments.
    struct Case {
        weight: Array2<f32>,
        windows: Array2<f32>,
        seen: Seen,
        goal: Goal,
        problem: Problem,
    }

    fn case(bounds: [f32; 2]) -> Case {
        let mut rng = Rng::new(7, "rectified");
        let weight = Array2::from_shape_simple_fn((ROWS, WINDOW), || rng.range(-1.0, 1.0));
        let windows = Array2::from_shape_simple_fn((300, WINDOW), || rng.range(-1.0, 1.5));
        let outputs = windows.dot(&weight.t());
        let (mut seen, mut goal) = (Seen::new(windows.nrows()), Goal::new(Array1::zeros(ROWS), bounds, windows.nrows()));
        let (mut inputs, mut moments) = (InputMoments::new(WINDOW), OutputMoments::new(ROWS, WINDOW));
        for part in [0..200, 200..300] {
            let part = windows.slice_axis(Axis(0), part.into());
            seen.add(&part);
            inputs.add(&part);
        }
        moments.add(&outputs.view(), &windows.view());
        goal.add(&outputs.view());
        let problem = Problem::new(&inputs, &moments, &weight.view(), true, 0.0);
        Case { weight, windows, seen, goal, problem }
    }

    fn start(case: &Case) -> Rounded {
        round(&case.weight.view(), &[1.0 / 7.0; ROWS], BITS, &case.problem)
    }

    /// The error of what is left, window by window, with the bias that keeps its mean, found by bisection.
    fn error(case: &Case, row: usize, integers: &[i8], scale: f32) -> f64 {
        let [low, high] = case.goal.bounds;
        let values: Array1<f32> = integers.iter().map(|&q| f32::from(q) * scale).collect();
        let outputs = case.windows.dot(&values);
        let wanted: Vec<f32> = case.goal.outputs.values.row(row).iter().map(|y| y.clamp(low, high)).collect();
        let left = |bias: f32| outputs.iter().map(|y| (y + bias).clamp(low, high)).collect::<Vec<f32>>();
        let [mut below, mut above] = [-10.0, 10.0];
        for _ in 0..40 {
            let bias = (below + above) / 2.0;
            if left(bias).iter().sum::<f32>() < wanted.iter().sum() { below = bias } else { above = bias }
        }
        left(below).iter().zip(&wanted).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    }

    #[test]
    fn finds_nearly_the_best_behind_what_is_cut_off() {
        let mut gained = 0;
        for bounds in [[0.0, f32::INFINITY], [0.0, 1.0], [-0.7, 0.7]] {
            let case = case(bounds);
            let (blind, mut rounded) = (start(&case), start(&case));
            let mut bias = [0.0; ROWS];
            let nearest = case.weight.mapv(|w| (w * 7.0).round() / 7.0);
            refine(&case.weight.view(), (&nearest.view(), BITS), &mut rounded, &mut bias, (&case.seen, &case.goal));
            let (mut total, mut of_nearest, mut of_blind, mut of_best) = (0.0, 0.0, 0.0, 0.0);
            for row in 0..ROWS {
                let scale = rounded.scales[row];
                let of = |integers: &[i8]| error(&case, row, integers, scale);
                let floor: Vec<i8> = case.weight.row(row).iter().map(|w| (w / scale).floor() as i8).collect();
                let all = (0..1u32 << WINDOW).map(|bits| {
                    let q: Vec<i8> = floor.iter().enumerate().map(|(k, f)| (f + (bits >> k & 1) as i8).clamp(-7, 7)).collect();
                    of(&q)
                });
                of_best += all.fold(f64::INFINITY, f64::min);
                total += of(&rounded.integers.row(row).to_vec());
                of_blind += of(&blind.integers.row(row).to_vec());
                let nearest: Vec<i8> = case.weight.row(row).iter().map(|w| (w * 7.0).round() as i8).collect();
                of_nearest += error(&case, row, &nearest, 1.0 / 7.0);
            }
            gained += usize::from(total < of_blind);
            assert!(total <= of_blind && total < 2.0 * of_best, "{bounds:?}: {total}, blind {of_blind}, best {of_best}");
            // What is reported is that, as a share of what there is.
            let [low, high] = bounds;
            let energy: f64 =
                case.goal.outputs.values.outer_iter().map(|row| f64::from(row.mapv(|y| y.clamp(low, high)).var(0.0)) * 300.0).sum();
            for (reported, expected) in [(rounded.error, total), (rounded.nearest_error, of_nearest)] {
                assert!((reported - expected / energy).abs() < 0.02 * expected / energy, "{bounds:?}: {reported} {}", expected / energy);
            }
        }
        assert!(gained >= 2, "moments alone did as well");
    }

    /// A row that never shows anything keeps its bias; its integers may be anything.
    #[test]
    fn silent_rows_stay_silent() {
        let case = case([0.0, f32::INFINITY]);
        let mut rounded = start(&case);
        let mut goal = Goal::new(Array1::from_elem(ROWS, -100.0), case.goal.bounds, case.windows.nrows());
        goal.add(&case.goal.outputs.values.t());
        let mut bias = [-100.0; ROWS];
        refine(&case.weight.view(), (&case.weight.view(), BITS), &mut rounded, &mut bias, (&case.seen, &goal));
        assert_eq!((bias, rounded.error), ([-100.0; ROWS], 0.0));
    }
}
