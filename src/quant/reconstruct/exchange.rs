//! Which samples are held in memory.

use crate::random::Rng;

/// Bytes of samples that are held at a time. Of more, a part is held and exchanged, `EXCHANGES` times over all frames.
const RESIDENT: usize = 1 << 30;
const EXCHANGES: usize = 4;

/// Which frames' samples are held when.
pub struct Exchange {
    frames: usize,
    held: usize,
    iterations: usize,
    rounds: usize,
    next: usize,
    order: Vec<usize>,
}

impl Exchange {
    /// Of samples of so many `frames` with so many `bytes` each.
    pub fn new(frames: usize, bytes: usize, iterations: usize) -> Self {
        let held = (RESIDENT / bytes.max(1)).clamp(1, frames);
        let rounds = if held == frames { 1 } else { EXCHANGES * frames.div_ceil(held) };
        Self { frames, held, iterations, rounds: rounds.clamp(1, iterations.max(1)), next: 0, order: Vec::new() }
    }

    /// The frames to hold from this iteration on, if they change.
    pub fn due(&mut self, iteration: usize, rng: &mut Rng) -> Option<Vec<usize>> {
        if self.next == self.rounds || iteration < self.next * self.iterations / self.rounds {
            return None;
        }
        self.next += 1;
        if self.held == self.frames {
            return Some((0..self.frames).collect());
        }
        let mut chosen = Vec::with_capacity(self.held);
        while chosen.len() < self.held {
            if self.order.is_empty() {
                self.order = (0..self.frames).collect();
                (1..self.frames).rev().for_each(|i| self.order.swap(i, rng.index(i + 1)));
            }
            chosen.extend(self.order.pop());
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_held_for_the_same_time() {
        let mut rng = Rng::new(3, "exchange");
        let mut exchange = Exchange::new(10, RESIDENT / 4, 400);
        let rounds: Vec<Vec<usize>> = (0..400).filter_map(|i| exchange.due(i, &mut rng)).collect();
        assert_eq!((rounds.len(), rounds[0].len()), (12, 4));
        let mut counts = [0; 10];
        rounds.iter().flatten().for_each(|&f| counts[f] += 1);
        assert!(counts.iter().all(|n| (4..=5).contains(n)), "{counts:?}");
        let mut all = Exchange::new(10, 1, 400);
        assert_eq!((0..400).filter_map(|i| all.due(i, &mut rng)).collect::<Vec<_>>(), [(0..10).collect::<Vec<_>>()]);
    }
}
