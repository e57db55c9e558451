//! Parts that watch a value and say which range is worth representing.

/// A range of values; low is at most 0, high at least 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    pub low: f32,
    pub high: f32,
}

/// Sees every value of one node in every frame.
pub trait Observer: Send {
    fn observe(&mut self, values: &[f32]);
    fn range(&self) -> Range;
}

/// The least and the greatest value seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxMin(Range);

impl Observer for MaxMin {
    fn observe(&mut self, values: &[f32]) {
        for &x in values {
            self.0.low = self.0.low.min(x);
            self.0.high = self.0.high.max(x);
        }
    }

    fn range(&self) -> Range {
        self.0
    }
}

impl Range {
    /// Scale of integers of this many bits, symmetric around 0 if they are signed, from 0 on if not. Positive also where
    /// nothing was seen.
    pub fn scale(&self, bits: u8, signed: bool) -> f32 {
        let levels = if signed { (1u32 << (bits - 1)) - 1 } else { (1 << bits) - 1 } as f32;
        let reach = if signed { self.high.max(-self.low) } else { self.high };
        if reach > 0.0 { (reach / levels).max(f32::MIN_POSITIVE) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_min_over_frames() {
        let mut observer = MaxMin::default();
        observer.observe(&[0.5, 2.55]);
        assert_eq!(observer.range(), Range { low: 0.0, high: 2.55 });
        observer.observe(&[-5.08, 1.0]);
        assert_eq!(observer.range(), Range { low: -5.08, high: 2.55 });
        assert_eq!((observer.range().scale(8, true), observer.range().scale(8, false)), (5.08 / 127.0, 2.55 / 255.0));
        assert_eq!((Range::default().scale(8, true), Range { low: 0.0, high: 3.0 }.scale(2, false)), (1.0, 1.0));
    }
}
