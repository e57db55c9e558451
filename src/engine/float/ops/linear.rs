//! The layers with a weight matrix: convolution, transposed convolution, linear. All are passes of
//! [`correlate`](super::super::correlate).

use super::super::correlate::{Filter, Packed, Pass, correlate, correlate_weight_gradient};
use super::super::kernel::Real;
use crate::graph::Op;
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

/// What [`Op::Linear`], [`Op::Conv2d`] and [`Op::ConvTranspose2d`] have in common.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Layer {
    kind: Kind,
    inputs: usize,
    outputs: usize,
    pub relu: bool,
    pub bias: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Rows of any number of leading axes.
    Linear,
    Conv {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Kernel equals stride.
    Transposed {
        stride: usize,
    },
}

/// A window that slides over an image and meets a value of another image at each stop: where products are summed for a weight.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Slide {
    pub samples: usize,
    /// Height and width of the image, and of the stops.
    pub image: [usize; 2],
    pub windows: [usize; 2],
    /// Channels of both.
    pub channels: usize,
    pub outputs: usize,
    /// Of a side of the window.
    pub taps: usize,
    pub step: usize,
    pub padding: usize,
    /// A transposed convolution is a convolution read backwards: the image is its result, and the stops are its input.
    pub backwards: bool,
}

/// A layer's weights in the order of its forward passes: one entry a pass.
pub(in super::super) struct PackedLayer<T>(Vec<Packed<T>>);

impl<T: Real> PackedLayer<T> {
    /// `[input][output]`, of a linear layer.
    pub fn matrix(&self) -> Option<Vec<T>> {
        let [packed] = self.0.as_slice() else { return None };
        packed.matrix()
    }
}

impl Layer {
    /// `None` for an operation without a weight matrix.
    pub fn of(op: &Op) -> Option<Self> {
        Some(match *op {
            Op::Linear { inputs, outputs, bias, relu } => Self { kind: Kind::Linear, inputs, outputs, relu, bias },
            Op::Conv2d { inputs, outputs, kernel, stride, padding, bias, relu } => {
                Self { kind: Kind::Conv { kernel, stride, padding }, inputs, outputs, relu, bias }
            }
            Op::ConvTranspose2d { inputs, outputs, stride, bias, relu } => {
                Self { kind: Kind::Transposed { stride }, inputs, outputs, relu, bias }
            }
            _ => return None,
        })
    }

    /// The same layer, ending before its ReLU.
    pub fn without_relu(self) -> Self {
        Self { relu: false, ..self }
    }

    /// The weight in the order in which [`Layer::forward`] reads it.
    pub fn pack<T: Real>(&self, weight: &ArrayD<T>) -> PackedLayer<T> {
        PackedLayer(self.forward_filters().iter().map(|filter| Packed::new(T::kernels(), dense(weight), filter)).collect())
    }

    /// Shape of the result for an input of this shape.
    pub fn output_shape(&self, input: &[usize]) -> Vec<usize> {
        let mut shape = input.to_vec();
        let resize = |size: usize| match self.kind {
            Kind::Linear => size,
            Kind::Conv { kernel, stride, padding } => (size + 2 * padding - kernel) / stride + 1,
            Kind::Transposed { stride } => size * stride,
        };
        if let [_, h, w, _] = shape.as_mut_slice()
            && !matches!(self.kind, Kind::Linear)
        {
            (*h, *w) = (resize(*h), resize(*w));
        }
        if let Some(last) = shape.last_mut() {
            *last = self.outputs;
        }
        shape
    }

    /// Input `[..., inputs]` or `[batch, height, width, inputs]`; `out` of [`Layer::output_shape`] is overwritten.
    pub fn forward<T: Real>(&self, input: &ArrayD<T>, weights: &PackedLayer<T>, bias: Option<&[T]>, out: &mut ArrayD<T>) {
        let kernels = T::kernels();
        let ([n, h, w], [_, oh, ow]) = (self.extent(input.shape()), self.extent(out.shape()));
        let (per_input, per_output) = (h * w * self.inputs, oh * ow * self.outputs);
        let (input, out) = (dense(input), dense_mut(out));
        for sample in 0..n {
            let input = &input[sample * per_input..][..per_input];
            let out = &mut out[sample * per_output..][..per_output];
            for (pass, weights) in self.forward_passes([h, w], [oh, ow]).into_iter().zip(&weights.0) {
                correlate(kernels, input, weights, bias, self.relu, &pass, out);
            }
        }
    }

    /// Gradient with respect to the input, from the gradient with respect to the result *before* ReLU.
    pub fn input_gradient<T: Real>(&self, weight: &ArrayD<T>, out_grad: &ArrayD<T>, input_shape: &[usize]) -> ArrayD<T> {
        let kernels = T::kernels();
        let ([n, h, w], [_, oh, ow]) = (self.extent(input_shape), self.extent(out_grad.shape()));
        let mut grad = ArrayD::zeros(input_shape);
        let (per_input, per_output) = (h * w * self.inputs, oh * ow * self.outputs);
        let passes = self.backward_passes([h, w], [oh, ow]);
        let passes: Vec<_> = passes.iter().map(|(pass, filter)| (pass, Packed::new(kernels, dense(weight), filter))).collect();
        let (grad_data, out_grad) = (dense_mut(&mut grad), dense(out_grad));
        for sample in 0..n {
            let from = &out_grad[sample * per_output..][..per_output];
            let to = &mut grad_data[sample * per_input..][..per_input];
            for (pass, weights) in &passes {
                correlate(kernels, from, weights, None, false, pass, to);
            }
        }
        grad
    }

    /// Gradient with respect to the weight, in the weight's own layout.
    pub fn weight_gradient<T: Real>(&self, input: &ArrayD<T>, out_grad: &ArrayD<T>) -> ArrayD<T> {
        let kernels = T::kernels();
        let slide = self.slide(input.shape(), out_grad.shape());
        let Slide { samples, image: image_hw, windows: window_hw, channels, outputs, taps, step, padding, .. } = slide;
        let (image, window) = if slide.backwards { (dense(out_grad), dense(input)) } else { (dense(input), dense(out_grad)) };
        let pass = Pass { step, origin: [-(padding as isize); 2], output: window_hw, ..Pass::dense(image_hw, window_hw, outputs) };
        let mut grad = vec![T::zero(); taps * taps * channels * outputs];
        let (per_image, per_window) = (image_hw[0] * image_hw[1] * channels, window_hw[0] * window_hw[1] * outputs);
        for sample in 0..samples {
            let image = &image[sample * per_image..][..per_image];
            let window = &window[sample * per_window..][..per_window];
            correlate_weight_gradient(kernels, image, window, [taps; 2], &pass, &mut grad);
        }
        let grad = ArrayD::from_shape_vec(vec![taps, taps, channels, outputs], grad).expect("taps x taps x channels x outputs");
        // [y, x, image channel, window channel] to PyTorch's [window, image, y, x]; both layouts of weight are that.
        let grad = grad.permuted_axes(vec![3, 2, 0, 1]).as_standard_layout().into_owned();
        grad.into_shape_with_order(self.weight_shape()).expect("a linear layer has one tap")
    }

    /// Shape of the layer's weight.
    pub fn weight_shape(&self) -> Vec<usize> {
        let (i, o) = (self.inputs, self.outputs);
        match self.kind {
            Kind::Linear => vec![o, i],
            Kind::Conv { kernel, .. } => vec![o, i, kernel, kernel],
            Kind::Transposed { stride } => vec![i, o, stride, stride],
        }
    }

    /// How a layer's weight gradient comes about, for an input and a result of these shapes.
    pub fn slide(&self, input: &[usize], output: &[usize]) -> Slide {
        let ([samples, h, w], [_, oh, ow]) = (self.extent(input), self.extent(output));
        let (taps, step, padding) = match self.kind {
            Kind::Linear => (1, 1, 0),
            Kind::Conv { kernel, stride, padding } => (kernel, stride, padding),
            Kind::Transposed { stride } => (stride, stride, 0),
        };
        let slide = Slide {
            samples,
            image: [h, w],
            windows: [oh, ow],
            channels: self.inputs,
            outputs: self.outputs,
            taps,
            step,
            padding,
            backwards: false,
        };
        match self.kind {
            Kind::Linear | Kind::Conv { .. } => slide,
            Kind::Transposed { .. } => {
                Slide { image: [oh, ow], windows: [h, w], channels: self.outputs, outputs: self.inputs, backwards: true, ..slide }
            }
        }
    }

    /// Samples, height and width; a linear layer sees one row of many columns.
    pub fn extent(&self, shape: &[usize]) -> [usize; 3] {
        match (self.kind, shape) {
            (Kind::Conv { .. } | Kind::Transposed { .. }, &[n, h, w, _]) => [n, h, w],
            _ => [1, 1, shape.iter().rev().skip(1).product()],
        }
    }

    /// The passes over the input that give the result, which all of them together fill.
    pub fn forward_passes(&self, input: [usize; 2], output: [usize; 2]) -> Vec<Pass> {
        let dense = Pass::dense(input, output, self.outputs);
        match self.kind {
            Kind::Linear => vec![dense],
            Kind::Conv { stride, padding, .. } => vec![Pass { step: stride, origin: [-(padding as isize); 2], ..dense }],
            Kind::Transposed { stride } => phases(stride)
                .map(|[py, px]| Pass {
                    output: input,
                    base: py * dense.row_stride + px * dense.column_stride,
                    row_stride: dense.row_stride * stride,
                    column_stride: dense.column_stride * stride,
                    ..dense
                })
                .collect(),
        }
    }

    /// What each of [`Layer::forward_passes`] reads of the weight.
    pub fn forward_filters(&self) -> Vec<Filter> {
        let whole = self.filter();
        match self.kind {
            Kind::Linear | Kind::Conv { .. } => vec![whole],
            Kind::Transposed { stride } => {
                phases(stride).map(|[py, px]| Filter { taps: [1, 1], first: py * stride + px, ..whole }).collect()
            }
        }
    }

    /// The whole weight, as the result sees it.
    fn filter(&self) -> Filter {
        let (i, o) = (self.inputs, self.outputs);
        let (side, outputs, channels) = match self.kind {
            Kind::Linear => (1, i, 1),
            Kind::Conv { kernel, .. } => (kernel, i * kernel * kernel, kernel * kernel),
            Kind::Transposed { stride } => (stride, stride * stride, o * stride * stride),
        };
        let strides = [outputs, side, 1, channels].map(|n| n as isize);
        Filter { outputs: o, taps: [side; 2], channels: i, first: 0, strides }
    }

    /// The passes over the gradient of the result that give the gradient of the input, with what they read of the weight. Inputs that no
    /// pass reaches have no gradient.
    ///
    /// Against a convolution of stride s, inputs of each phase modulo s see their own subset of the taps, in reverse order.
    pub fn backward_passes(&self, input: [usize; 2], output: [usize; 2]) -> Vec<(Pass, Filter)> {
        let dense = Pass::dense(output, input, self.inputs);
        let forwards = self.filter();
        let [of_output, of_y, of_x, of_channel] = forwards.strides;
        let whole = Filter { outputs: self.inputs, channels: self.outputs, strides: [of_channel, of_y, of_x, of_output], ..forwards };
        match self.kind {
            Kind::Linear => vec![(dense, whole)],
            Kind::Transposed { stride } => vec![(Pass { step: stride, ..dense }, whole)],
            Kind::Conv { kernel, stride, padding } => phases(stride)
                .filter_map(|phase| {
                    // Input y = phase + s m meets tap k where (y + padding - k) is a multiple of s: k = first + s j, at
                    // output (phase + padding - first) / s + m - j.
                    let axis = |p: usize| {
                        let first = (p + padding) % stride;
                        let taps = if first < kernel { (kernel - first).div_ceil(stride) } else { 0 };
                        let last_output = ((p + padding - first) / stride) as isize;
                        (first, taps, last_output - taps as isize + 1)
                    };
                    let ((fy, ty, oy), (fx, tx, ox)) = (axis(phase[0]), axis(phase[1]));
                    let count = [0, 1].map(|a| (input[a] + stride - 1).saturating_sub(phase[a]) / stride);
                    if ty == 0 || tx == 0 || count.contains(&0) {
                        return None; // no tap ever sees these inputs; their gradient stays zero
                    }
                    let last = [fy + stride * (ty - 1), fx + stride * (tx - 1)];
                    let filter = Filter {
                        taps: [ty, tx],
                        first: last[0] * kernel + last[1],
                        strides: [of_channel, -of_y * stride as isize, -of_x * stride as isize, of_output],
                        ..whole
                    };
                    let pass = Pass {
                        origin: [oy, ox],
                        output: count,
                        base: phase[0] * dense.row_stride + phase[1] * dense.column_stride,
                        row_stride: dense.row_stride * stride,
                        column_stride: dense.column_stride * stride,
                        ..dense
                    };
                    Some((pass, filter))
                })
                .collect(),
        }
    }
}

impl Pass {
    /// A window of one tap over every pixel; the result is dense.
    fn dense(input: [usize; 2], output: [usize; 2], channels: usize) -> Self {
        Self { input, step: 1, origin: [0; 2], output, base: 0, row_stride: output[1] * channels, column_stride: channels }
    }
}

/// Rows that are summed in one chain for the gradient of a bias.
pub(in super::super) const BIAS_ROWS: usize = 4096;

/// Sum over all positions: the gradient of a bias.
pub(in super::super) fn bias_gradient<T: Real>(out_grad: &ArrayD<T>) -> ArrayD<T> {
    let channels = out_grad.len_of(Axis(out_grad.ndim() - 1));
    // Fixed pieces, summed in order: the same bits for every thread count.
    let sums: Vec<Vec<T>> = dense(out_grad)
        .par_chunks(channels.max(1) * BIAS_ROWS)
        .map(|piece| {
            let mut sum = vec![T::zero(); channels];
            for row in piece.chunks_exact(channels) {
                for (s, &g) in sum.iter_mut().zip(row) {
                    *s += g;
                }
            }
            sum
        })
        .collect();
    let mut total = vec![T::zero(); channels];
    for sum in sums {
        for (t, s) in total.iter_mut().zip(sum) {
            *t += s;
        }
    }
    ArrayD::from_shape_vec(vec![channels], total).expect("one sum a channel")
}

fn phases(stride: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..stride).flat_map(move |y| (0..stride).map(move |x| [y, x]))
}

/// All arrays inside the engine are in standard layout.
pub(in super::super) fn dense<T>(array: &ArrayD<T>) -> &[T] {
    array.as_slice().expect("engine arrays are in standard layout")
}

pub(in super::super) fn dense_mut<T>(array: &mut ArrayD<T>) -> &mut [T] {
    array.as_slice_mut().expect("engine arrays are in standard layout")
}
