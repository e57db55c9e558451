//! Integer inference, defined to the bit. Every engine and fake quantization give what the functions here give.
//!
//! * An integer is held as one byte: itself if it is unsigned, plus 128 if it is signed ([`Grid`]). Padding is the byte that
//!   stands for 0.0.
//! * A layer accumulates `acc = sum of (q - zero point) * w` in i32. With bytes that is `start[c] + sum of byte * w`, where
//!   `start[c] = -zero * sum of w`: i32 arithmetic is exact, so the two are the same.
//! * `y = fma(acc as f32, multiplier[c], bias[c])`, clamped, rounded half to even, plus the zero byte ([`Requantize`]). The
//!   clamp's bounds are whole numbers, so clamping before rounding is clamping after it. ReLU is the clamp's lower bound.
//! * A layer whose output is not quantized yields `y` itself.

use crate::graph::{Activation, Op, Weight};
use ndarray::Axis;

/// What the bytes of a value stand for: `value = scale * (byte - zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub scale: f32,
    /// The byte that stands for 0.0.
    pub zero: u8,
    /// Least and greatest byte.
    pub low: u8,
    pub high: u8,
}

impl From<Activation> for Grid {
    fn from(activation: Activation) -> Self {
        let offset = if activation.signed { 128 } else { 0 };
        let byte = |q: i32| (q + offset) as u8;
        Self {
            scale: activation.scale,
            zero: byte(activation.zero_point),
            low: byte(activation.lowest()),
            high: byte(activation.highest()),
        }
    }
}

impl Grid {
    /// Rounds onto the grid.
    pub fn quantizer(&self) -> Quantizer {
        let inverse = (1.0 / f64::from(self.scale)) as f32;
        Quantizer { inverse, clamp: self.clamp(false) }
    }

    /// The number that a byte stands for.
    #[inline]
    pub fn value(&self, byte: u8) -> f32 {
        f32::from(i16::from(byte) - i16::from(self.zero)) * self.scale
    }

    /// The bounds of the grid, from 0 on upwards if a ReLU stands before it.
    pub fn clamp(&self, relu: bool) -> Clamp {
        let zero = f32::from(self.zero);
        let low = f32::from(self.low) - zero;
        Clamp { low: if relu { low.max(0.0) } else { low }, high: f32::from(self.high) - zero, zero: i32::from(self.zero) }
    }
}

/// The end of every quantization: clamp, round half to even, shift to the zero byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Whole numbers.
    pub low: f32,
    pub high: f32,
    pub zero: i32,
}

impl Clamp {
    #[inline(always)]
    pub fn byte(&self, y: f32) -> u8 {
        (y.max(self.low).min(self.high).round_ties_even() as i32 + self.zero) as u8
    }
}

/// Floats onto a grid.
#[derive(Clone, Copy, Debug)]
pub struct Quantizer {
    inverse: f32,
    clamp: Clamp,
}

impl Quantizer {
    #[inline(always)]
    pub fn byte(&self, x: f32) -> u8 {
        self.clamp.byte(x * self.inverse)
    }

    /// The factor, and what follows it.
    pub fn parts(&self) -> (f32, Clamp) {
        (self.inverse, self.clamp)
    }
}

/// From a layer's accumulators to its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Requantize {
    /// By output channel.
    pub multiplier: Vec<f32>,
    pub bias: Vec<f32>,
    pub finish: Finish,
}

/// What a layer yields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finish {
    /// Integers.
    Bytes(Clamp),
    /// Floats, at least `low`: 0 after ReLU.
    Floats { low: f32 },
}

impl Requantize {
    /// Of a layer with this weight and bias, from integers on `input` to integers on `output` or to floats. Products are formed
    /// in f64 and rounded once.
    pub fn new(op: &Op, weight: &Weight, bias: Option<&[f32]>, input: &Grid, output: Option<&Grid>) -> Self {
        let (outputs, relu) = (weight.integers.len_of(Axis(op.output_axis())), op.has_relu());
        let step = output.map_or(1.0, |grid| f64::from(grid.scale));
        Self {
            multiplier: (0..outputs).map(|c| (f64::from(input.scale) * f64::from(weight.scale(c)) / step) as f32).collect(),
            bias: (0..outputs).map(|c| (bias.map_or(0.0, |b| f64::from(b[c])) / step) as f32).collect(),
            finish: match output {
                Some(grid) => Finish::Bytes(grid.clamp(relu)),
                None => Finish::Floats { low: if relu { 0.0 } else { f32::NEG_INFINITY } },
            },
        }
    }

    /// Before clamp and rounding.
    #[inline(always)]
    pub fn scaled(&self, acc: i32, channel: usize) -> f32 {
        (acc as f32).mul_add(self.multiplier[channel], self.bias[channel])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Granularity;
    use ndarray::ArrayD;

    const U8: Activation = Activation { bits: 8, signed: false, scale: 0.5, zero_point: 0 };
    const S8: Activation = Activation { bits: 8, signed: true, scale: 0.25, zero_point: 0 };

    #[test]
    fn grids_by_hand() {
        assert_eq!(Grid::from(U8), Grid { scale: 0.5, zero: 0, low: 0, high: 255 });
        assert_eq!(Grid::from(S8), Grid { scale: 0.25, zero: 128, low: 0, high: 255 });
        let shifted = Grid::from(Activation { bits: 4, signed: true, scale: 1.0, zero_point: -3 });
        assert_eq!(shifted, Grid { scale: 1.0, zero: 125, low: 120, high: 135 });
        assert_eq!((shifted.value(120), shifted.value(135)), (-5.0, 10.0));
    }

    #[test]
    fn halves_round_to_even_and_ends_saturate() {
        let unsigned = Grid::from(U8).quantizer();
        let bytes = [0.25, 0.75, 1.25, -3.0, 1e9, f32::NAN].map(|x| unsigned.byte(x));
        assert_eq!(bytes, [0, 2, 2, 0, 255, 0]);
        let signed = Grid::from(S8).quantizer();
        assert_eq!([-0.125, -0.375, -100.0, 100.0].map(|x| signed.byte(x)), [128, 126, 0, 255]);
        let relu = Grid::from(S8).clamp(true);
        assert_eq!([-5.0, 0.6, 500.0].map(|y| relu.byte(y)), [128, 129, 255]);
    }

    /// y = (s_x s_w acc + bias) / s_y.
    #[test]
    fn requantization_by_hand() {
        let weight =
            Weight { bits: 8, granularity: Granularity::PerChannel, scales: vec![0.5, 2.0], integers: ArrayD::zeros(vec![2, 1, 1, 1]) };
        let conv = |relu| Op::Conv2d { inputs: 1, outputs: 2, kernel: 1, stride: 1, padding: 0, bias: true, relu };
        let r = Requantize::new(&conv(true), &weight, Some(&[1.0, -1.0]), &U8.into(), Some(&S8.into()));
        assert_eq!((r.multiplier.as_slice(), r.bias.as_slice()), (&[1.0, 4.0][..], &[4.0, -4.0][..]));
        assert_eq!((r.scaled(10, 0), r.scaled(10, 1)), (14.0, 36.0));
        let float = Requantize::new(&conv(false), &weight, Some(&[1.0, -1.0]), &U8.into(), None);
        assert_eq!((float.scaled(10, 1), float.finish), (9.0, Finish::Floats { low: f32::NEG_INFINITY }));
    }
}
