//! What rounding needs to know of a layer's windows: second moments.

use super::products::add_product;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Sums over sampled windows of the quantized network's input, for all layers that read it through the same windows.
#[derive(Clone, Debug)]
pub struct InputMoments {
    /// Sum of `v v^T`.
    second: Array2<f32>,
    /// Sum of `v`.
    first: Array1<f64>,
    samples: usize,
}

/// Sums over the same windows of what a layer of the float network yields, before ReLU and without its bias.
#[derive(Clone, Debug)]
pub struct OutputMoments {
    /// Sum of `y v^T`, `[rows, window]`.
    cross: Array2<f32>,
    /// Sums of `y` and of its square, by row.
    first: Array1<f64>,
    second: Array1<f64>,
}

impl InputMoments {
    pub fn new(window: usize) -> Self {
        Self { second: Array2::zeros((window, window)), first: Array1::zeros(window), samples: 0 }
    }

    /// Adds windows `[samples, window]`.
    pub fn add(&mut self, windows: &ArrayView2<'_, f32>) {
        add_product(&windows.t(), windows, &mut self.second);
        windows.outer_iter().for_each(|v| self.first.zip_mut_with(&v, |sum, &x| *sum += f64::from(x)));
        self.samples += windows.nrows();
    }
}

impl OutputMoments {
    pub fn new(rows: usize, window: usize) -> Self {
        Self { cross: Array2::zeros((rows, window)), first: Array1::zeros(rows), second: Array1::zeros(rows) }
    }

    /// Adds outputs `[samples, rows]` for windows `[samples, window]`.
    pub fn add(&mut self, outputs: &ArrayView2<'_, f32>, windows: &ArrayView2<'_, f32>) {
        add_product(&outputs.t(), windows, &mut self.cross);
        for y in outputs.outer_iter() {
            self.first.zip_mut_with(&y, |sum, &y| *sum += f64::from(y));
            self.second.zip_mut_with(&y, |sum, &y| *sum += f64::from(y) * f64::from(y));
        }
    }
}

/// The least-squares problem of a layer: covariances where a bias can take up means, plain moments where it cannot.
pub struct Problem {
    /// `A`, damped.
    pub quadratic: Array2<f32>,
    /// Rows of `c`, damped towards the float weight.
    pub linear: Array2<f32>,
    /// Of the outputs: what an output of zero would lose.
    pub energy: Array1<f64>,
    /// Means of the window and of the outputs; zeros without a bias.
    pub window_mean: Array1<f64>,
    pub output_mean: Array1<f64>,
    /// What was added to the diagonal of `A`.
    pub damping: f64,
}

impl Problem {
    /// `damping` is a share of the mean of the diagonal.
    pub fn new(inputs: &InputMoments, outputs: &OutputMoments, weight: &ArrayView2<'_, f32>, has_bias: bool, damping: f64) -> Self {
        let n = inputs.samples.max(1) as f64;
        let keep = if has_bias { 1.0 / n } else { 0.0 };
        let window_mean = &inputs.first * keep;
        let output_mean = &outputs.first * keep;
        let centered = |sums: &Array2<f32>, left: ArrayView1<'_, f64>| {
            let mut moments = sums.clone();
            for (mut row, &l) in moments.axis_iter_mut(Axis(0)).zip(&left) {
                row.zip_mut_with(&window_mean, |m, &w| *m = (f64::from(*m) / n - l * w) as f32);
            }
            moments
        };
        let mut quadratic = centered(&inputs.second, window_mean.view());
        let mut linear = centered(&outputs.cross, output_mean.view());
        let diagonal = quadratic.diag().iter().map(|&d| f64::from(d)).sum::<f64>() / quadratic.nrows().max(1) as f64;
        let damping = diagonal * damping;
        quadratic.diag_mut().mapv_inplace(|d| d + damping as f32);
        linear.scaled_add(damping as f32, weight);
        let energy = &outputs.second / n - &output_mean * &output_mean;
        Self { quadratic, linear, energy, window_mean, output_mean, damping }
    }
}
