//! The numbers that publishers give their messages.

use std::collections::HashMap;
use std::hash::Hash;

/// Publishers whose numbers are remembered; beyond that, missing messages are not counted for a while.
const MAX_PUBLISHERS: usize = 64;

/// The last message of each publisher of a topic, by its number.
#[derive(Debug)]
pub struct Sequences<K> {
    last: HashMap<K, i64>,
}

impl<K> Default for Sequences<K> {
    fn default() -> Self {
        Self { last: HashMap::new() }
    }
}

impl<K: Eq + Hash> Sequences<K> {
    /// How many of a publisher's messages are missing before this one; `None` if this one has been before.
    pub fn follow(&mut self, publisher: K, sequence: i64) -> Option<u64> {
        if let Some(last) = self.last.get_mut(&publisher) {
            let missing = sequence.saturating_sub(*last) - 1;
            *last = sequence.max(*last);
            return u64::try_from(missing).ok();
        }
        if self.last.len() >= MAX_PUBLISHERS {
            self.last.clear();
        }
        self.last.insert(publisher, sequence);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_by_publisher_and_what_has_been_before_is_told() {
        let mut sequences = Sequences::default();
        let told: Vec<_> = [("a", 7), ("a", 8), ("b", 1), ("a", 11), ("a", 11), ("a", 9), ("b", 2), ("a", 12)]
            .into_iter()
            .map(|(publisher, sequence)| sequences.follow(publisher, sequence))
            .collect();
        assert_eq!(told, [Some(0), Some(0), Some(0), Some(2), None, None, Some(0), Some(0)]);
    }

    #[test]
    fn publishers_that_come_and_go_take_no_memory_for_ever() {
        let mut sequences = Sequences::default();
        (0..10_000).for_each(|publisher| assert_eq!(sequences.follow(publisher, 5), Some(0)));
        assert!(sequences.last.len() <= MAX_PUBLISHERS);
    }
}
