//! Layers with a weight matrix on a device: the passes that the CPU makes, as launches of `float_layers.cu`.

use super::blocks;
use super::memory::{Accelerator, Array};
use super::norm::Summand;
use crate::engine::cuda::{Args, DeviceError, Memory, turns};
use crate::engine::float::correlate::{BAND_COLUMNS, BAND_ROWS, Filter, Pass};
use crate::engine::float::ops::linear::{BIAS_ROWS, Layer, Slide};

/// As in `float_layers.cu`: threads of a block, chunks of a sum, and what a block computes.
const THREADS: usize = 128;
const DEPTH: usize = 16;
const POSITIONS: usize = 128;
const CHANNELS: usize = 64;
const OUTPUTS: usize = 64;
const FEW_OUTPUTS: usize = 8;

impl Accelerator {
    /// A layer's result. `bias` is one of a channel, if there is one.
    pub fn layer(&self, layer: &Layer, input: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array, DeviceError> {
        let output = self.room(&layer.output_shape(&input.shape))?;
        let ([samples, h, w], [_, oh, ow]) = (layer.extent(&input.shape), layer.extent(&output.shape));
        for (pass, filter) in layer.forward_passes([h, w], [oh, ow]).iter().zip(&layer.forward_filters()) {
            self.correlate((input, samples), (weight, filter), bias, layer.relu, pass, &output)?;
        }
        Ok(output)
    }

    /// Gradient with respect to the input, of this shape, from that of the result before ReLU.
    pub fn input_gradient(&self, layer: &Layer, weight: &Array, gradient: &Array, shape: &[usize]) -> Result<Array, DeviceError> {
        let ([samples, h, w], [_, oh, ow]) = (layer.extent(shape), layer.extent(&gradient.shape));
        let passes = layer.backward_passes([h, w], [oh, ow]);
        let reached: usize = passes.iter().map(|(pass, _)| pass.output[0] * pass.output[1]).sum();
        let to = if reached == h * w { self.room(shape)? } else { self.zeros(shape)? };
        for (pass, filter) in &passes {
            self.correlate((gradient, samples), (weight, filter), None, false, pass, &to)?;
        }
        Ok(to)
    }

    /// One pass over all samples of `input`, into its places of `output`.
    fn correlate(
        &self,
        (input, samples): (&Array, usize),
        (weight, filter): (&Array, &Filter),
        bias: Option<&Array>,
        relu: bool,
        pass: &Pass,
        output: &Array,
    ) -> Result<(), DeviceError> {
        let Filter { outputs, taps: [taps_y, taps_x], channels, first, strides: [of_output, of_y, of_x, of_channel] } = *filter;
        let positions = samples * pass.output[0] * pass.output[1];
        if positions * outputs == 0 {
            return Ok(());
        }
        let weights = taps_y * taps_x * channels * outputs;
        let packed = self.room(&[weights])?;
        let places = [first as isize, of_y, of_x, of_channel, of_output].map(|n| n as usize);
        let args = Args::new(&[weight.memory(), packed.memory()]).words(&[taps_y, taps_x, channels, outputs]).words(&places);
        self.launch(&turns("pack_weights", weights, args))?;

        let few = outputs <= FEW_OUTPUTS;
        let tile = if few { FEW_OUTPUTS } else { OUTPUTS };
        let kernel = format!("correlate_{POSITIONS}x{tile}{}", if channels % DEPTH == 0 { "" } else { "_any" });
        let memory = [input.memory(), packed.memory(), bias.map_or(Memory::NULL, Array::memory), output.memory()];
        let args = Args::new(&memory)
            .words(&[samples, pass.input[0], pass.input[1], channels, taps_y, taps_x, pass.step])
            .words(&pass.origin.map(|n| n as usize))
            .words(&[pass.output[0], pass.output[1], outputs, output.len() / samples, pass.base, pass.row_stride, pass.column_stride])
            .words(&[usize::from(relu)]);
        let grid = [positions.div_ceil(POSITIONS), outputs.div_ceil(tile), 1];
        self.launch(&blocks(&kernel, THREADS, grid, args)?)
    }

    /// Gradient with respect to the weight, from that of the result before ReLU.
    pub fn weight_gradient(&self, layer: &Layer, input: &Array, gradient: &Array) -> Result<Array, DeviceError> {
        let slide = layer.slide(&input.shape, &gradient.shape);
        let Slide { samples, image: [image_height, image_width], windows: [height, width], channels, outputs, taps, step, padding, .. } =
            slide;
        let (image, windows) = if slide.backwards { (gradient, input) } else { (input, gradient) };
        if samples * image_height * image_width * height * width == 0 {
            return self.zeros(&layer.weight_shape());
        }
        let (bands_y, bands_x) = (height.div_ceil(BAND_ROWS), width.div_ceil(BAND_COLUMNS));
        let bands = bands_y * bands_x;
        let size = taps * taps * channels * outputs;
        let parts = self.words(vec![samples * bands, size], samples * bands * size)?;
        let (kernel, tile) = match (outputs <= FEW_OUTPUTS, channels % 4 == 0 && outputs % 4 == 0) {
            (true, _) => ("weight_gradient_64x8_any", FEW_OUTPUTS),
            (false, true) => ("weight_gradient_64x64", OUTPUTS),
            (false, false) => ("weight_gradient_64x64_any", OUTPUTS),
        };
        let channel_tiles = channels.div_ceil(CHANNELS);
        let args = Args::new(&[image.memory(), windows.memory(), parts.memory()])
            .words(&[image_height, image_width, channels, height, width, outputs, taps, step, padding, channel_tiles])
            .words(&[BAND_ROWS, BAND_COLUMNS, bands_x, bands]);
        let grid = [taps * taps * channel_tiles, outputs.div_ceil(tile), samples * bands];
        self.launch(&blocks(kernel, THREADS, grid, args)?)?;
        self.sum_parts(&parts, [taps * taps, channels, outputs], &layer.weight_shape())
    }

    /// Sum over all positions: the gradient of a bias.
    pub fn bias_gradient(&self, gradient: &Array) -> Result<Array, DeviceError> {
        let channels = gradient.width();
        let parts = self.sum_rows(Summand::Floats(gradient), BIAS_ROWS)?;
        self.sum_parts(&parts, [1, 1, channels], &[channels])
    }

    /// `[parts, taps, channels, outputs]` added up, one after the other, as `[outputs, channels, taps]`, which is `shape`.
    fn sum_parts(&self, parts: &Array, sizes: [usize; 3], shape: &[usize]) -> Result<Array, DeviceError> {
        let sum = self.room(shape)?;
        let args = Args::new(&[parts.memory(), sum.memory()]).words(&[parts.shape[0]]).words(&sizes);
        self.launch(&turns("sum_parts", sizes.iter().product(), args))?;
        Ok(sum)
    }
}
