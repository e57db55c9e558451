//! What an empty canvas looks like behind every layer: the same everywhere but near the borders.
//!
//! Along one axis, values of an empty input differ near both ends (windows reach into the padding) and repeat in between, with
//! a period that transposed convolutions stretch. [`Repeat`] follows this through the layers, [`Empty`] keeps one copy of each
//! distinct pixel.

/// Along one axis of `len` values, those in `from..to` repeat with `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    len: usize,
    from: usize,
    to: usize,
    period: usize,
    /// Whether all values are one, the one with which borders are padded.
    pads: bool,
}

impl Repeat {
    /// An axis of an empty canvas.
    pub fn canvas(len: usize) -> Self {
        Self { len, from: 0, to: len, period: 1, pads: true }
    }

    /// No value repeats.
    fn none(len: usize) -> Self {
        Self { len, from: 0, to: len, period: len.max(1), pads: false }
    }

    fn new(len: usize, from: usize, to: usize, period: usize) -> Self {
        let to = to.min(len);
        if from + period <= to { Self { len, from, to, period, pads: false } } else { Self::none(len) }
    }

    /// Behind a window that slides over the axis.
    pub fn through_window(self, taps: usize, stride: usize, padding: usize, outputs: usize) -> Self {
        if self.pads {
            return Self::new(outputs, 0, outputs, 1);
        }
        let from = (self.from + padding).div_ceil(stride);
        let to = (self.to + padding).checked_sub(taps).map_or(0, |last| last / stride + 1);
        Self::new(outputs, from, to, self.period / gcd(self.period, stride))
    }

    /// Behind a transposed convolution.
    pub fn stretched(self, stride: usize) -> Self {
        Self::new(self.len * stride, self.from * stride, self.to * stride, self.period * stride)
    }

    /// Of two values side by side, or of their sum.
    pub fn and(self, other: Self) -> Self {
        let period = self.period / gcd(self.period, other.period) * other.period;
        Self::new(self.len, self.from.max(other.from), self.to.min(other.to), period)
    }

    /// Distinct positions.
    pub fn distinct(self) -> usize {
        self.len - (self.to - self.from) + self.period
    }

    /// By position: the distinct one that stands for it.
    pub fn indices(self) -> impl Iterator<Item = u32> {
        (0..self.len).map(move |i| self.index(i) as u32)
    }

    /// The distinct position that stands for `i`.
    #[inline]
    fn index(self, i: usize) -> usize {
        if i < self.from {
            i
        } else if i < self.to {
            // Nearly always 1, which spares a division for each pixel.
            if self.period == 1 { self.from } else { self.from + (i - self.from) % self.period }
        } else {
            i - (self.to - self.from) + self.period
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Some channels of an image that an empty canvas yields.
#[derive(Clone, Debug, Default)]
pub(super) struct Empty<T> {
    table: Vec<T>,
    channels: usize,
}

impl<T: Copy> Empty<T> {
    /// From an image, `pixel(y, x)`.
    pub fn capture<'a>([rows, columns]: [Repeat; 2], channels: usize, pixel: impl Fn(usize, usize) -> &'a [T]) -> Self
    where
        T: 'a,
    {
        let of = |axis: Repeat| {
            let mut first = vec![0; axis.distinct()];
            (0..axis.len).rev().for_each(|i| first[axis.index(i)] = i);
            first
        };
        let (ys, xs) = (of(rows), of(columns));
        let table = ys.iter().flat_map(|&y| xs.iter().flat_map(|&x| pixel(y, x).to_vec()).collect::<Vec<T>>()).collect();
        Self { table, channels }
    }

    /// `[distinct row][distinct column][channel]`.
    pub fn table(&self) -> &[T] {
        &self.table
    }

    /// The channels at a pixel.
    #[inline]
    pub fn pixel(&self, [rows, columns]: [Repeat; 2], y: usize, x: usize) -> &[T] {
        &self.table[(rows.index(y) * columns.distinct() + columns.index(x)) * self.channels..][..self.channels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a window with different taps over a constant line with another padding, then stretched, then once more.
    #[test]
    fn equal_indices_mean_equal_values() {
        let conv = |line: &[i64], taps: &[i64], stride: usize, padding: usize, pad: i64| -> Vec<i64> {
            let at = |i: usize| i.checked_sub(padding).and_then(|i| line.get(i)).copied().unwrap_or(pad);
            let outputs = (line.len() + 2 * padding - taps.len()) / stride + 1;
            (0..outputs).map(|o| taps.iter().enumerate().map(|(t, w)| w * at(o * stride + t)).sum()).collect()
        };
        for (len, stride) in [(40, 1), (40, 2), (9, 2), (5, 1)] {
            let mut line = vec![0i64; len];
            let mut repeat = Repeat::canvas(len);
            // A bias makes the constant differ from the padding.
            line = conv(&line, &[1, 2, 3], 1, 1, 0).into_iter().map(|x| x + 7).collect();
            repeat = repeat.through_window(3, 1, 1, line.len());
            assert_eq!(repeat.distinct(), 1);
            for _ in 0..2 {
                line = conv(&line, &[3, 5, 7], stride, 1, 0);
                repeat = repeat.through_window(3, stride, 1, line.len());
                line = line.iter().flat_map(|&x| [x, 2 * x, -x]).collect();
                repeat = repeat.stretched(3);
                line = conv(&line, &[1, 10, 100], 1, 1, 0);
                repeat = repeat.through_window(3, 1, 1, line.len());
                for i in 0..line.len() {
                    for j in 0..line.len() {
                        assert!(repeat.index(i) != repeat.index(j) || line[i] == line[j], "{len} {stride}: {i} {j} {repeat:?}");
                    }
                }
                assert!(len != 40 || repeat.distinct() < line.len() / 2, "{repeat:?}");
            }
        }
    }
}
