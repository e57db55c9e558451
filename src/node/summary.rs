//! What a run did: times by stage, counts, and what was skipped and why.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A part of the work on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Read,
    Sweep,
    Voxelize,
    Network,
    Decode,
    Write,
}

impl Stage {
    pub const ALL: [Stage; 6] = [Stage::Read, Stage::Sweep, Stage::Voxelize, Stage::Network, Stage::Decode, Stage::Write];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Sweep => "sweep",
            Stage::Voxelize => "voxelize",
            Stage::Network => "network",
            Stage::Decode => "decode",
            Stage::Write => "write",
        }
    }
}

/// Order statistics of a stage, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageStatistics {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub total_ms: f64,
}

/// Counts and times of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub frames: usize,
    pub points: u64,
    /// Points that were not finite.
    pub points_dropped: u64,
    pub boxes_by_class: BTreeMap<String, usize>,
    /// Frames skipped, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Other things worth knowing, with how often they occurred.
    pub notes: BTreeMap<String, usize>,
    times: BTreeMap<Stage, Vec<Duration>>,
}

impl Summary {
    pub fn add_time(&mut self, stage: Stage, time: Duration) {
        self.times.entry(stage).or_default().push(time);
    }

    pub fn skip(&mut self, reason: impl Into<String>) {
        *self.skipped.entry(reason.into()).or_default() += 1;
    }

    pub fn note(&mut self, what: impl Into<String>) {
        *self.notes.entry(what.into()).or_default() += 1;
    }

    /// What was skipped and noted, a sentence each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let skipped = self.skipped.iter().map(|(reason, count)| format!("skipped {count}: {reason}"));
        skipped.chain(self.notes.iter().map(|(what, count)| format!("note, {count} times: {what}")))
    }

    /// Adds a run to this one.
    pub fn extend(&mut self, other: Summary) {
        let add = |to: &mut BTreeMap<String, usize>, from: BTreeMap<String, usize>| {
            from.into_iter().for_each(|(name, count)| *to.entry(name).or_default() += count);
        };
        self.frames += other.frames;
        self.points += other.points;
        self.points_dropped += other.points_dropped;
        add(&mut self.boxes_by_class, other.boxes_by_class);
        add(&mut self.skipped, other.skipped);
        add(&mut self.notes, other.notes);
        other.times.into_iter().for_each(|(stage, times)| self.times.entry(stage).or_default().extend(times));
    }

    pub fn boxes(&self) -> usize {
        self.boxes_by_class.values().sum()
    }

    /// Median and 99th percentile (nearest rank) of a stage; zeros if it never ran.
    pub fn statistics(&self, stage: Stage) -> StageStatistics {
        let mut times: Vec<Duration> = self.times.get(&stage).cloned().unwrap_or_default();
        times.sort_unstable();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let rank = |share: f64| {
            let at = (share * times.len() as f64).ceil() as usize;
            times.get(at.saturating_sub(1)).copied().map_or(0.0, ms)
        };
        StageStatistics { p50_ms: rank(0.5), p99_ms: rank(0.99), total_ms: ms(times.iter().sum()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut summary = Summary::default();
        (1..=200).rev().for_each(|ms| summary.add_time(Stage::Decode, Duration::from_millis(ms)));
        let s = summary.statistics(Stage::Decode);
        assert_eq!((s.p50_ms, s.p99_ms, s.total_ms), (100.0, 198.0, 20100.0));
        assert_eq!(summary.statistics(Stage::Read), StageStatistics::default());
    }
}
