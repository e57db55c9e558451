//! What each channel of a map took in all frames.

use ndarray::ArrayD;
use rayon::prelude::*;

/// Magnitudes of a node's channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels {
    /// Greatest magnitudes.
    reaches: Vec<f32>,
    /// Sums of squares.
    squares: Vec<f64>,
    /// Values of each channel.
    count: usize,
}

/// Rows that one thread looks at at a time: fixed, so that sums do not depend on how many threads there are.
const ROWS: usize = 4096;

impl Channels {
    /// Takes the values of a frame; channels are their last axis.
    pub fn observe(&mut self, values: &ArrayD<f32>) {
        let channels = values.shape().last().copied().unwrap_or(1).max(1);
        let flat = values.as_slice().unwrap_or_default();
        let parts: Vec<Self> = flat.par_chunks(ROWS * channels).map(|part| Self::of(part, channels)).collect();
        parts.into_iter().for_each(|part| self.add(part));
    }

    fn of(values: &[f32], channels: usize) -> Self {
        let (mut reaches, mut squares) = (vec![0f32; channels], vec![0f64; channels]);
        let mut sums = vec![0f32; channels];
        // Sums of a few rows fit an f32, and go into its vectors.
        for rows in values.chunks(64 * channels) {
            sums.fill(0.0);
            for row in rows.chunks_exact(channels) {
                for ((&x, reach), sum) in row.iter().zip(&mut reaches).zip(&mut sums) {
                    *reach = if x.abs() > *reach { x.abs() } else { *reach };
                    *sum += x * x;
                }
            }
            squares.iter_mut().zip(&sums).for_each(|(all, &sum)| *all += f64::from(sum));
        }
        Self { reaches, squares, count: values.len() / channels }
    }

    fn add(&mut self, other: Self) {
        if self.reaches.is_empty() {
            *self = other;
            return;
        }
        self.reaches.iter_mut().zip(other.reaches).for_each(|(reach, other)| *reach = reach.max(other));
        self.squares.iter_mut().zip(other.squares).for_each(|(sum, other)| *sum += other);
        self.count += other.count;
    }

    pub fn len(&self) -> usize {
        self.reaches.len()
    }

    /// False if a value was not finite, or so great that its square is not.
    pub fn is_finite(&self) -> bool {
        self.squares.iter().all(|sum| sum.is_finite())
    }

    /// The greatest magnitude of a channel.
    pub fn reach(&self, channel: usize) -> f32 {
        self.reaches[channel]
    }

    /// The mean of a channel's squares.
    pub fn power(&self, channel: usize) -> f64 {
        self.squares[channel] / self.count.max(1) as f64
    }

    /// The greatest magnitude of all, each channel multiplied by its factor; by one, where there is none.
    pub fn greatest(&self, factors: Option<&[f32]>) -> f32 {
        let factor = |c: usize| factors.map_or(1.0, |f| f[c]);
        (0..self.len()).map(|c| self.reach(c) * factor(c)).fold(0.0, f32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;
    use ndarray::Axis;

    #[test]
    fn by_hand_and_in_any_number_of_parts() {
        let mut rng = Rng::new(1, "channels");
        let rows = 2 * ROWS + 77;
        let all = ArrayD::from_shape_fn(vec![rows, 3], |i| rng.range(-1.0, 2.0) * [1.0, 0.0, 10.0][i[1]]);
        let mut channels = Channels::default();
        channels.observe(&all);
        channels.observe(&all);
        for c in 0..3 {
            let column = all.index_axis(Axis(1), c);
            let reach = column.iter().fold(0f32, |m, x| m.max(x.abs()));
            let power = column.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / rows as f64;
            assert_eq!(channels.reach(c), reach);
            assert!((channels.power(c) - power).abs() <= 1e-5 * power, "{c}");
        }
        assert_eq!(channels.greatest(Some(&[1.0, 1.0, 0.0])), channels.reach(0));
        assert!(channels.is_finite());
        channels.observe(&ArrayD::from_elem(vec![1, 3], f32::NAN));
        assert!(!channels.is_finite());
    }
}
