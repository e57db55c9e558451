//! Clouds that come before their transform wait for it, and what comes behind them waits too, so that the order stays.
//!
//! On a robot the pose of a cloud's time is published after the cloud: continuing the motion by the last poses would put the
//! sweeps where the robot would be if it neither braked nor turned.

use crate::ros::bag::RawMessage;
use crate::sensor::Stamp;
use std::collections::VecDeque;

/// How long a cloud waits, in the recording's time. Longer than localization usually takes, short enough for a robot to act on.
pub const MAX_WAIT_S: f64 = 0.5;
/// Clouds that wait at most; this bounds the memory. At 20 Hz ten come in the time-out.
pub const MAX_WAITING_CLOUDS: usize = 16;
/// Messages behind a waiting cloud at most, for a recording whose clock stands still.
const MAX_WAITING_MESSAGES: usize = 10_000;

/// What arrived, in its order.
pub enum Arrived<C> {
    /// A transform or odometry message that is known to the motion tracker already.
    Motion(RawMessage),
    Cloud(C),
}

/// A queue of what has arrived and has not gone on.
pub struct Waiting<C> {
    /// With its time of arrival, in the recording's time.
    queue: VecDeque<(Stamp, Arrived<C>)>,
    clouds: usize,
}

/// What goes on.
pub struct Released<C> {
    pub what: Arrived<C>,
    /// A cloud that goes on without the transform that it waited for.
    pub in_vain: bool,
}

impl<C> Default for Waiting<C> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), clouds: 0 }
    }
}

impl<C> Waiting<C> {
    pub fn push(&mut self, at: Stamp, what: Arrived<C>) {
        self.clouds += usize::from(matches!(what, Arrived::Cloud(_)));
        self.queue.push_back((at, what));
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The first in the queue, unless it is a cloud that has reason to wait.
    ///
    /// `missing_s`: how long before a cloud's time the poses end that it needs, see [`super::MotionTracker::missing_s`].
    /// `now`: the recording's time, or `None` if nothing more will come. A cloud whose poses end longer ago than it could
    /// wait does not wait: their source has gone silent, or its clock is another.
    pub fn next(&mut self, now: Option<Stamp>, missing_s: impl Fn(&C) -> Option<f64>) -> Option<Released<C>> {
        let mut in_vain = false;
        if let (arrived, Arrived::Cloud(cloud)) = self.queue.front()?
            && let Some(missing_s) = missing_s(cloud)
        {
            let waited_s = now.map_or(f64::INFINITY, |now| now.seconds_since(*arrived));
            let is_full = self.clouds > MAX_WAITING_CLOUDS || self.queue.len() > MAX_WAITING_MESSAGES;
            if missing_s <= MAX_WAIT_S && waited_s < MAX_WAIT_S && !is_full {
                return None;
            }
            in_vain = true;
        }
        let (_, what) = self.queue.pop_front()?;
        self.clouds -= usize::from(matches!(what, Arrived::Cloud(_)));
        Some(Released { what, in_vain })
    }
}

/// What to say of a cloud that has waited in vain.
pub fn in_vain_note() -> String {
    format!("no transform or odometry of a cloud's time came within {MAX_WAIT_S} s of it, or before the recording's end")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Queue = Waiting<Stamp>;

    fn push_cloud(waiting: &mut Queue, s: f64) {
        let stamp = Stamp::from_secs_f64(s);
        waiting.push(stamp, Arrived::Cloud(stamp));
    }

    fn push_motion(waiting: &mut Queue, s: f64) {
        let stamp = Stamp::from_secs_f64(s);
        waiting.push(stamp, Arrived::Motion(RawMessage { topic: "/tf".into(), type_name: "".into(), stamp, data: vec![] }));
    }

    /// Everything that goes on at a time, with poses known until then: its stamp in tenths of seconds, and whether it waited in vain.
    fn released(waiting: &mut Queue, now_s: Option<f64>, known_s: f64) -> Vec<(i64, bool)> {
        let missing = |cloud: &Stamp| Some(cloud.as_secs_f64() - known_s).filter(|s| *s > 1e-9);
        let next = || waiting.next(now_s.map(Stamp::from_secs_f64), missing);
        let stamp = |what: &Arrived<Stamp>| match what {
            Arrived::Motion(message) => message.stamp,
            Arrived::Cloud(cloud) => *cloud,
        };
        std::iter::from_fn(next).map(|r| (stamp(&r.what).0 / 100_000_000, r.in_vain)).collect()
    }

    #[test]
    fn a_cloud_goes_on_when_its_pose_has_come_and_what_is_behind_it_not_before() {
        let mut waiting = Waiting::default();
        push_cloud(&mut waiting, 1.0);
        push_motion(&mut waiting, 1.1);
        push_cloud(&mut waiting, 1.1);
        push_motion(&mut waiting, 1.2);
        assert_eq!(released(&mut waiting, Some(1.2), 0.9), []);
        assert_eq!(released(&mut waiting, Some(1.2), 1.0), [(10, false), (11, false)]);
        assert_eq!(released(&mut waiting, Some(1.2), 1.1), [(11, false), (12, false)]);
    }

    #[test]
    fn the_wait_ends_after_its_time_and_at_the_end() {
        let mut waiting = Waiting::default();
        [1.0, 1.3].into_iter().for_each(|s| push_cloud(&mut waiting, s));
        assert_eq!(released(&mut waiting, Some(1.4), 0.9), []);
        assert_eq!(released(&mut waiting, Some(1.5), 0.9), [(10, true)]);
        assert_eq!(released(&mut waiting, None, 0.9), [(13, true)]);
    }

    #[test]
    fn a_source_that_is_long_silent_is_not_waited_for() {
        let mut waiting = Waiting::default();
        push_cloud(&mut waiting, 9.0);
        assert_eq!(released(&mut waiting, Some(9.0), 1.0), [(90, true)]);
    }

    #[test]
    fn memory_is_bounded_where_the_clock_stands_still() {
        let mut waiting = Waiting::default();
        (0..100).for_each(|_| push_cloud(&mut waiting, 1.0));
        assert_eq!(released(&mut waiting, Some(1.0), 0.9).len(), 100 - MAX_WAITING_CLOUDS);
        assert_eq!(released(&mut waiting, None, 0.9).len(), MAX_WAITING_CLOUDS);
        push_cloud(&mut waiting, 1.0);
        (0..2 * MAX_WAITING_MESSAGES).for_each(|_| push_motion(&mut waiting, 1.0));
        assert_eq!(released(&mut waiting, Some(1.0), 0.9).len(), 2 * MAX_WAITING_MESSAGES + 1);
    }
}
