//! How the magnitudes of a value spread.

use rayon::prelude::*;

/// Bins between zero and the greatest magnitude.
pub const BINS: usize = 8192;

/// Counts of magnitudes. The range is fixed beforehand, by a pass over the same frames: bins that grow would blur what
/// entropy looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    reach: f32,
    /// Values that are exactly zero.
    pub zeros: u64,
    /// The others: bin `i` holds magnitudes from `i` to `i + 1` times [`Histogram::width`].
    pub counts: Vec<u64>,
}

/// Values that one thread counts before the counts are added up.
const PIECE: usize = 1 << 18;

impl Histogram {
    /// For magnitudes up to `reach`.
    pub fn new(reach: f32) -> Self {
        Self { reach: reach.max(f32::MIN_POSITIVE), zeros: 0, counts: vec![0; BINS] }
    }

    pub fn reach(&self) -> f32 {
        self.reach
    }

    /// Of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.reach) / BINS as f64
    }

    /// Values that are not zero.
    pub fn non_zeros(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Counts values. Those beyond the range, if frames changed, go to the last bin.
    pub fn observe(&mut self, values: &[f32]) {
        let pieces: Vec<Self> = values.par_chunks(PIECE).map(|piece| self.of(piece.iter().copied())).collect();
        pieces.iter().for_each(|piece| self.add(piece));
    }

    /// Counts the rows of `channels` values for which `wanted` holds.
    pub fn observe_rows(&mut self, values: &[f32], channels: usize, wanted: &[bool]) {
        let rows = (PIECE / channels.max(1)).max(1);
        let pieces = values.par_chunks(rows * channels.max(1)).zip(wanted.par_chunks(rows));
        let pieces: Vec<Self> = pieces
            .map(|(values, wanted)| {
                let rows = values.chunks(channels.max(1)).zip(wanted).filter(|(_, wanted)| **wanted);
                self.of(rows.flat_map(|(row, _)| row.iter().copied()))
            })
            .collect();
        pieces.iter().for_each(|piece| self.add(piece));
    }

    fn of(&self, values: impl Iterator<Item = f32>) -> Self {
        let mut piece = Self::new(self.reach);
        let scale = BINS as f32 / self.reach;
        for x in values {
            if x == 0.0 {
                piece.zeros += 1;
            } else {
                piece.counts[((x.abs() * scale) as usize).min(BINS - 1)] += 1;
            }
        }
        piece
    }

    fn add(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, n)| *sum += n);
    }

    /// Fewer bins over the same range; `bins` must divide `BINS`.
    pub fn coarse(&self, bins: usize) -> Vec<f64> {
        self.counts.chunks(BINS / bins).map(|c| c.iter().sum::<u64>() as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let mut h = Histogram::new(2.0);
        h.observe(&[0.0, 2.0, -1.0, 1e-9, 5.0, -0.0]);
        assert_eq!((h.zeros, h.non_zeros()), (2, 4));
        assert_eq!((h.counts[0], h.counts[BINS / 2], h.counts[BINS - 1]), (1, 1, 2));
        assert_eq!(h.coarse(2), [1.0, 3.0]);
        let mut some = Histogram::new(2.0);
        some.observe_rows(&[1.0, 0.0, 2.0, 2.0, 0.0, 1.0], 2, &[true, false, true]);
        assert_eq!((some.zeros, some.counts[BINS / 2], some.non_zeros()), (2, 2, 2));
    }
}
