//! One pose over time: samples with stamps, and what lies between them.

use super::Stamp;
use crate::geometry::Pose;
use std::collections::VecDeque;

/// The poses of one frame in another over the last seconds, in order of time.
///
/// Between samples: linear shift, spherical turn. A little beyond the last sample (transforms arrive later than the
/// clouds that they belong to) or before the first: the motion of as long a stretch inside the history goes on; if the
/// history is shorter than that, the end sample holds.
#[derive(Clone, Debug)]
pub struct PoseTrack {
    samples: VecDeque<(Stamp, Pose)>,
    history: i64,
    extrapolation: i64,
}

/// A stamp too far outside the samples.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TrackError {
    #[error("no pose has arrived yet")]
    Empty,
    #[error("wanted {gap_s:.3} s before the oldest pose ({oldest_s:.3} s); at most {limit_s:.3} s are extrapolated")]
    TooEarly { gap_s: f64, oldest_s: f64, limit_s: f64 },
    #[error("wanted {gap_s:.3} s after the newest pose ({newest_s:.3} s); at most {limit_s:.3} s are extrapolated")]
    TooLate { gap_s: f64, newest_s: f64, limit_s: f64 },
}

impl PoseTrack {
    /// Keeps `history_s` seconds before the newest sample and answers up to `extrapolation_s` seconds outside of them.
    pub fn new(history_s: f64, extrapolation_s: f64) -> Self {
        let nanoseconds = |seconds: f64| Stamp::from_secs_f64(seconds.max(0.0)).0;
        Self { samples: VecDeque::new(), history: nanoseconds(history_s), extrapolation: nanoseconds(extrapolation_s) }
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
            return Ok(self.continued(last_pose, Stamp(last.0.saturating_sub(gap))));
        }
        if stamp < first {
            let gap = first.0.saturating_sub(stamp.0);
            if gap > self.extrapolation {
                return Err(TrackError::TooEarly { gap_s: Stamp(gap).as_secs_f64(), oldest_s: first.as_secs_f64(), limit_s });
            }
            return Ok(self.continued(first_pose, Stamp(first.0.saturating_add(gap))));
        }
        Ok(self.between(stamp).unwrap_or(last_pose))
    }

    /// From the end of the track as far outward as the mirrored stamp lies inward, with the same motion.
    fn continued(&self, end: Pose, mirrored: Stamp) -> Pose {
        match self.between(mirrored) {
            Some(inward) => end.compose(&inward.inverse().compose(&end)),
            None => end,
        }
    }

    /// `None` outside the samples.
    fn between(&self, stamp: Stamp) -> Option<Pose> {
        let position = self.samples.partition_point(|(s, _)| *s < stamp);
        let (after, pose_after) = self.samples.get(position)?;
        if *after == stamp {
            return Some(*pose_after);
        }
        let (before, pose_before) = self.samples.get(position.checked_sub(1)?)?;
        let fraction = stamp.seconds_since(*before) / after.seconds_since(*before);
        Some(pose_before.interpolate(pose_after, fraction))
    }
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
