//! Random numbers that depend on a seed and nothing else: a stream for building the world, and a hash for what happens to
//! a single ray, so that the order in which threads work cannot matter.

/// SplitMix64 (Steele, Lea, Flood 2014): its state is a counter, its output a mix of that counter.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Streams of the same seed with different names do not share numbers.
    pub fn new(seed: u64, stream: &str) -> Self {
        Self(stream.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte))))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        unit(self.next_u64())
    }

    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// In `0..count`; `count` must not be 0.
    pub fn index(&mut self, count: usize) -> usize {
        (self.next_u64() % count as u64) as usize
    }

    /// An index drawn with these weights.
    pub fn weighted(&mut self, weights: &[f32]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f32>();
        for (i, w) in weights.iter().enumerate() {
            left -= w;
            if left < 0.0 {
                return i;
            }
        }
        weights.len() - 1
    }

    /// Normal, cut off at two standard deviations.
    pub fn around(&mut self, mean: f32, deviation: f32) -> f32 {
        mean + deviation * normal(self.next_u64()).clamp(-2.0, 2.0)
    }

    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }
}

/// A well-mixed function of its argument (SplitMix64's finaliser).
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The upper bits as a number in `[0, 1)`.
pub(crate) fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
}

/// Standard normal from one word (Box-Muller on its two halves).
pub(crate) fn normal(bits: u64) -> f32 {
    let u = ((bits >> 32) as f32 + 1.0) * (1.0 / 4_294_967_808.0);
    let v = (bits & 0xffff_ffff) as f32 * (1.0 / 4_294_967_296.0);
    (-2.0 * u.ln()).max(0.0).sqrt() * (std::f32::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_draws() {
        let mut rng = Rng::new(7, "test");
        let n = 200_000;
        let (mut mean, mut square, mut uniform) = (0.0f64, 0.0f64, 0.0f64);
        for _ in 0..n {
            let x = f64::from(normal(rng.next_u64()));
            mean += x;
            square += x * x;
            uniform += f64::from(rng.unit());
        }
        let n = f64::from(n);
        assert!((mean / n).abs() < 0.01 && (square / n - 1.0).abs() < 0.02 && (uniform / n - 0.5).abs() < 0.005);
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, stream| Rng::new(seed, stream).next_u64();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert!(draw(1, "a") != draw(1, "b") && draw(1, "a") != draw(2, "a"));
    }
}
