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

/// Frames skipped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub count: usize,
    /// The file, or bag and topic, of the first of them.
    pub first: String,
    /// Whether others came from elsewhere.
    pub elsewhere: bool,
}

/// Reasons that are told apart; a damaged recording can have as many as frames.
const MAX_REASONS: usize = 20;
const OTHER_REASONS: &str = "other reasons";

/// Counts and times of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub frames: usize,
    pub points: u64,
    /// Points that were not finite.
    pub points_dropped: u64,
    pub boxes_by_class: BTreeMap<String, usize>,
    /// Frames skipped, by reason.
    pub skipped: BTreeMap<String, Skipped>,
    /// Other things worth knowing, with how often they occurred.
    pub notes: BTreeMap<String, usize>,
    strange_lags: Option<StrangeLags>,
    times: BTreeMap<Stage, Vec<Duration>>,
}

/// Points' own times that are not those of a scan: seconds before the stamp, lowest and highest.
#[derive(Clone, Debug)]
struct StrangeLags {
    frames: usize,
    found: [f32; 2],
    usual: [f32; 2],
}

/// For rounding.
const LAG_TOLERANCE_S: f32 = 1e-3;

impl Summary {
    pub fn add_time(&mut self, stage: Stage, time: Duration) {
        self.times.entry(stage).or_default().push(time);
    }

    /// Counts a frame that was skipped; returns whether this is the first for its reason.
    pub fn skip(&mut self, source: &str, reason: &str) -> bool {
        let known = self.skipped_for(reason, source);
        known.count += 1;
        known.elsewhere |= known.first != source;
        known.count == 1
    }

    /// The entry of a reason, first met in `source`, or that of all other reasons.
    fn skipped_for(&mut self, reason: &str, source: &str) -> &mut Skipped {
        let is_told = self.skipped.len() < MAX_REASONS || self.skipped.contains_key(reason);
        let key = if is_told { reason } else { OTHER_REASONS };
        self.skipped.entry(key.to_owned()).or_insert_with(|| Skipped { count: 0, first: source.to_owned(), elsewhere: false })
    }

    pub fn frames_skipped(&self) -> usize {
        self.skipped.values().map(|s| s.count).sum()
    }

    /// A line for each reason to skip frames: how many, from where, why.
    pub fn skipped_lines(&self) -> impl Iterator<Item = String> {
        self.skipped.iter().map(|(reason, Skipped { count, first, elsewhere })| {
            format!("skipped {count}: {first}{}: {reason}", if *elsewhere { " and others" } else { "" })
        })
    }

    /// Notes points' own lags, lowest and highest, that are not within the usual ones.
    pub fn check_lags(&mut self, [low, high]: [f32; 2], usual: [f32; 2]) {
        if low >= usual[0] - LAG_TOLERANCE_S && high <= usual[1] + LAG_TOLERANCE_S {
            return;
        }
        let known = self.strange_lags.get_or_insert(StrangeLags { frames: 0, found: [low, high], usual });
        known.frames += 1;
        known.found = [low.min(known.found[0]), high.max(known.found[1])];
    }

    pub fn note(&mut self, what: impl Into<String>) {
        *self.notes.entry(what.into()).or_default() += 1;
    }

    /// What was skipped and noted, a sentence each.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().map(|(what, count)| format!("note, {count} times: {what}"));
        let lags = self.strange_lags.iter().map(|StrangeLags { frames, found: [low, high], usual }| {
            format!(
                "note, {frames} times: points' own times are {low:.4} to {high:.4} s before their cloud's stamp, {} to {} is usual: see \
                 --time-field, --time-unit, --time-reference",
                usual[0], usual[1]
            )
        });
        self.skipped_lines().chain(notes).chain(lags)
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
        add(&mut self.notes, other.notes);
        for (reason, theirs) in other.skipped {
            let known = self.skipped_for(&reason, &theirs.first);
            known.count += theirs.count;
            known.elsewhere |= theirs.elsewhere || known.first != theirs.first;
        }
        if let Some(StrangeLags { frames, found: [low, high], usual }) = other.strange_lags {
            let known = self.strange_lags.get_or_insert(StrangeLags { frames: 0, found: [low, high], usual });
            known.frames += frames;
            known.found = [low.min(known.found[0]), high.max(known.found[1])];
        }
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
    fn thousands_of_skipped_frames_are_a_few_lines() {
        let mut summary = Summary::default();
        for i in 0..3000 {
            assert_eq!(summary.skip(&format!("{i}.bin"), "too short"), i == 0);
        }
        summary.skip("drive.mcap:/points", "no `ring`");
        summary.skip("drive.mcap:/points", "no `ring`");
        let lines: Vec<String> = summary.skipped_lines().collect();
        assert_eq!(lines, ["skipped 2: drive.mcap:/points: no `ring`", "skipped 3000: 0.bin and others: too short"]);
        (0..1000).for_each(|i| _ = summary.skip("drive.mcap:/points", &format!("{i} bytes")));
        assert_eq!((summary.frames_skipped(), summary.skipped.len()), (4002, MAX_REASONS + 1));
    }

    #[test]
    fn strange_lags_are_told_once_with_all_they_reach() {
        let mut summary = Summary::default();
        summary.check_lags([-0.0005, 1.0], [0.0, 1.0]);
        assert_eq!(summary.remarks().count(), 0);
        // Negative times where positive ones are expected; nanoseconds taken for seconds.
        for found in [[-0.1, 0.0], [0.0, 1e8], [0.0, 0.1]] {
            summary.check_lags(found, [0.0, 1.0]);
        }
        let told: Vec<String> = summary.remarks().collect();
        assert!(told.len() == 1 && told[0].starts_with("note, 2 times") && told[0].contains("-0.1000 to 100000000.0000"), "{told:?}");
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut summary = Summary::default();
        (1..=200).rev().for_each(|ms| summary.add_time(Stage::Decode, Duration::from_millis(ms)));
        let s = summary.statistics(Stage::Decode);
        assert_eq!((s.p50_ms, s.p99_ms, s.total_ms), (100.0, 198.0, 20100.0));
        assert_eq!(summary.statistics(Stage::Read), StageStatistics::default());
    }
}
