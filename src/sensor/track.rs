//! One pose over time: samples with stamps, and what lies between them.

use super::Stamp;
use crate::geometry::Pose;
use std::collections::VecDeque;

/// The poses of one frame in another over the last seconds, in order of time.
///
/// Between samples: linear shift, spherical turn, unless they are too far apart in time to tell the way between them. A little
/// beyond the last sample (transforms arrive later than the clouds that they belong to) or before the first: the motion of
/// as long a stretch inside the history goes on; if the history is shorter than that, the end sample holds.
#[derive(Clone, Debug)]
pub struct PoseTrack {
    samples: VecDeque<(Stamp, Pose)>,
    history: i64,
    extrapolation: i64,
    max_gap: i64,
}

/// Samples further apart than this, seconds, are not interpolated between. A car that turns sharply in a town (12 m/s,
/// 0.4 rad/s) leaves the straight line between poses 0.4 s apart by 0.1 m, half a pillar, and by four times that in twice the time.
pub const MAX_GAP_S: f64 = 0.4;
/// Poses at both ends of a gap that differ by less are those of a thing that stands still (a mount that is published on
/// `/tf` once a second, say), and hold in between: metres and radians.
const STANDS_STILL: (f64, f64) = (1e-3, 1e-4);

/// A stamp too far outside the samples.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TrackError {
    #[error("no pose has arrived yet")]
    Empty,
    #[error("wanted {gap_s:.3} s before the oldest pose ({oldest_s:.3} s); at most {limit_s:.3} s are extrapolated")]
    TooEarly { gap_s: f64, oldest_s: f64, limit_s: f64 },
    #[error("wanted {gap_s:.3} s after the newest pose ({newest_s:.3} s); at most {limit_s:.3} s are extrapolated")]
    TooLate { gap_s: f64, newest_s: f64, limit_s: f64 },
    #[error("poses {gap_s:.3} s apart (the earlier at {before_s:.3} s); at most {limit_s:.3} s are interpolated")]
    Gap { gap_s: f64, before_s: f64, limit_s: f64 },
}

impl PoseTrack {
    /// Keeps `history_s` seconds before the newest sample and answers up to `extrapolation_s` seconds outside of them, and
    /// between samples up to [`MAX_GAP_S`] apart.
    pub fn new(history_s: f64, extrapolation_s: f64) -> Self {
        let [history, extrapolation, max_gap] = [history_s, extrapolation_s, MAX_GAP_S].map(nanoseconds);
        Self { samples: VecDeque::new(), history, extrapolation, max_gap }
    }

    /// Answers between samples up to `max_gap_s` seconds apart.
    pub fn with_max_gap(self, max_gap_s: f64) -> Self {
        Self { max_gap: nanoseconds(max_gap_s), ..self }
    }

    /// Adds a sample; one of the same stamp is replaced. Samples may arrive out of order within the history. One older than
    /// that means that the clock has jumped back (a bag starts again): all samples are then dropped but this, and the
    /// result is true.
    pub fn push(&mut self, stamp: Stamp, pose: Pose) -> bool {
        let jumped_back = self.samples.back().is_some_and(|(newest, _)| newest.0.saturating_sub(stamp.0) > self.history);
        if jumped_back {
            self.samples.clear();
        }
        let position = self.samples.partition_point(|(s, _)| *s < stamp);
        match self.samples.get_mut(position) {
            Some(sample) if sample.0 == stamp => sample.1 = pose,
            _ => self.samples.insert(position, (stamp, pose)),
        }
        while let (Some((oldest, _)), Some((newest, _))) = (self.samples.front(), self.samples.back())
            && newest.0.saturating_sub(oldest.0) > self.history
        {
            self.samples.pop_front();
        }
        jumped_back
    }

    /// The stamp of the newest sample.
    pub fn newest(&self) -> Option<Stamp> {
        self.samples.back().map(|(stamp, _)| *stamp)
    }

    /// The pose at a time.
    pub fn at(&self, stamp: Stamp) -> Result<Pose, TrackError> {
        let (Some(&(first, first_pose)), Some(&(last, last_pose))) = (self.samples.front(), self.samples.back()) else {
            return Err(TrackError::Empty);
        };
        let limit_s = Stamp(self.extrapolation).as_secs_f64();
        if stamp > last {
            let gap = stamp.0.saturating_sub(last.0);
            if gap > self.extrapolation {
                return Err(TrackError::TooLate { gap_s: Stamp(gap).as_secs_f64(), newest_s: last.as_secs_f64(), limit_s });
            }
            return self.continued(last_pose, Stamp(last.0.saturating_sub(gap)));
        }
        if stamp < first {
            let gap = first.0.saturating_sub(stamp.0);
            if gap > self.extrapolation {
                return Err(TrackError::TooEarly { gap_s: Stamp(gap).as_secs_f64(), oldest_s: first.as_secs_f64(), limit_s });
            }
            return self.continued(first_pose, Stamp(first.0.saturating_add(gap)));
        }
        self.between(stamp).unwrap_or(Ok(last_pose))
    }

    /// From the end of the track as far outward as the mirrored stamp lies inward, with the same motion.
    fn continued(&self, end: Pose, mirrored: Stamp) -> Result<Pose, TrackError> {
        match self.between(mirrored) {
            Some(inward) => Ok(end.compose(&inward?.inverse().compose(&end))),
            None => Ok(end),
        }
    }

    /// `None` outside the samples.
    fn between(&self, stamp: Stamp) -> Option<Result<Pose, TrackError>> {
        let position = self.samples.partition_point(|(s, _)| *s < stamp);
        let (after, pose_after) = self.samples.get(position)?;
        if *after == stamp {
            return Some(Ok(*pose_after));
        }
        let (before, pose_before) = self.samples.get(position.checked_sub(1)?)?;
        let gap = after.0.saturating_sub(before.0);
        if gap > self.max_gap && !stands_still(pose_before, pose_after) {
            let [gap_s, limit_s] = [gap, self.max_gap].map(|g| Stamp(g).as_secs_f64());
            return Some(Err(TrackError::Gap { gap_s, before_s: before.as_secs_f64(), limit_s }));
        }
        let fraction = stamp.seconds_since(*before) / after.seconds_since(*before);
        Some(Ok(pose_before.interpolate(pose_after, fraction)))
    }
}

fn nanoseconds(seconds: f64) -> i64 {
    Stamp::from_secs_f64(seconds.max(0.0)).0
}

fn stands_still(a: &Pose, b: &Pose) -> bool {
    let Pose(moved) = a.inverse().compose(b);
    moved.translation.vector.norm() <= STANDS_STILL.0 && moved.rotation.angle() <= STANDS_STILL.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Stamp {
        Stamp::from_secs_f64(s)
    }

    /// A constant turn rate and speed: along a circle.
    fn on_circle(s: f64) -> Pose {
        let (radius, rate) = (20.0, 0.5);
        Pose::from_yaw([radius * (rate * s).sin(), radius * (1.0 - (rate * s).cos()), 0.0], rate * s)
    }

    fn distance(a: Pose, b: Pose) -> f64 {
        let gap = a.inverse().compose(&b);
        gap.0.translation.vector.norm() + gap.0.rotation.angle()
    }

    fn distance_m(a: Pose, b: Pose) -> f64 {
        a.inverse().compose(&b).0.translation.vector.norm()
    }

    #[test]
    fn constant_twist_is_met_between_and_beyond_samples() {
        let mut track = PoseTrack::new(10.0, 0.2);
        for i in 0..=10 {
            assert!(!track.push(seconds(100.0 + 0.1 * f64::from(i)), on_circle(0.1 * f64::from(i))));
        }
        for s in [0.0, 0.1, 0.537, 1.0] {
            assert!(distance(track.at(seconds(100.0 + s)).unwrap(), on_circle(s)) < 0.01, "{s}");
        }
        // On sample stamps the motion goes on exactly.
        for s in [-0.2, -0.1, 1.1, 1.2] {
            assert!(distance(track.at(seconds(100.0 + s)).unwrap(), on_circle(s)) < 1e-6, "{s}");
        }
        assert!(matches!(track.at(seconds(101.3)), Err(TrackError::TooLate { gap_s, .. }) if (gap_s - 0.3).abs() < 1e-6));
        assert!(matches!(track.at(seconds(99.7)), Err(TrackError::TooEarly { gap_s, .. }) if (gap_s - 0.3).abs() < 1e-6));
    }

    #[test]
    fn one_sample_holds_within_the_limit() {
        let mut track = PoseTrack::new(1.0, 0.2);
        assert_eq!(track.at(Stamp(0)), Err(TrackError::Empty));
        track.push(seconds(5.0), on_circle(1.0));
        assert_eq!(track.at(seconds(5.1)), Ok(on_circle(1.0)));
        assert!(track.at(seconds(5.3)).is_err());
    }

    /// Half the chord's height over the arc, from the circle's own equation: what a straight line between two of its points misses.
    fn sagitta(gap_s: f64) -> f64 {
        20.0 * (1.0 - (0.5 * gap_s / 2.0).cos())
    }

    #[test]
    fn a_gap_above_the_bound_is_an_error_and_one_below_costs_its_sagitta() {
        let samples = |gap_s: f64| {
            let mut track = PoseTrack::new(10.0, 0.2);
            for s in [0.0, 0.1, 0.2, 0.2 + gap_s, 0.3 + gap_s] {
                track.push(seconds(s), on_circle(s));
            }
            track
        };
        let within = samples(0.4);
        let off = distance_m(within.at(seconds(0.4)).unwrap(), on_circle(0.4));
        assert!((off - sagitta(0.4)).abs() < 1e-6, "{off}");

        let beyond = samples(0.8);
        let is_the_gap = |found: Result<Pose, TrackError>| match found {
            Err(TrackError::Gap { gap_s, before_s, limit_s }) => {
                [gap_s - 0.8, before_s - 0.2, limit_s - MAX_GAP_S].iter().all(|d| d.abs() < 1e-9)
            }
            _ => false,
        };
        for s in [0.21, 0.6, 0.99] {
            assert!(is_the_gap(beyond.at(seconds(s))), "{s}");
        }
        // The gap's ends are samples, and what is beyond the last one follows from the stretch behind the gap.
        for s in [0.1, 0.2, 1.0, 1.1, 1.2] {
            assert!(distance(beyond.at(seconds(s)).unwrap(), on_circle(s)) < 1e-6, "{s}");
        }
        // 0.15 s further would need the motion of a stretch that reaches into the gap.
        assert!(is_the_gap(beyond.at(seconds(1.25))));
        assert!(samples(0.8).with_max_gap(1.0).at(seconds(0.6)).is_ok());
    }

    #[test]
    fn what_stands_still_holds_across_any_gap() {
        let mut track = PoseTrack::new(10.0, 0.0);
        for s in [0.0, 1.0, 3.0] {
            track.push(seconds(s), on_circle(1.0));
        }
        assert!(distance(track.at(seconds(1.7)).unwrap(), on_circle(1.0)) < 1e-9);
    }

    #[test]
    fn history_is_bounded_order_does_not_matter_and_a_jump_back_starts_again() {
        let mut track = PoseTrack::new(1.0, 0.0);
        for s in [3.0, 3.4, 3.2, 3.4, 4.2] {
            assert!(!track.push(seconds(s), on_circle(s)));
        }
        assert_eq!(track.samples.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [3.2, 3.4, 4.2].map(seconds));
        assert!(track.push(seconds(1.0), on_circle(1.0)));
        assert_eq!(track.samples.len(), 1);
    }
}
