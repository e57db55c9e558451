//! Where messages wait between the thread that receives them and the one that works: bounded, the newest wins.

use super::transport::{Received, SubscriptionStatus};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A queue over all subscriptions, in order of arrival.
pub struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    /// With the number of its subscription; requests have none.
    queue: VecDeque<(Option<usize>, Received)>,
    topics: Vec<Topic>,
    requests: usize,
}

struct Topic {
    keep: usize,
    waiting: usize,
    status: SubscriptionStatus,
}

/// Requests that wait at most; more are refused, and their callers time out.
const MAX_REQUESTS: usize = 100;

impl Inbox {
    /// `topics`: name, and how many of its messages wait at most.
    pub fn new(topics: impl Iterator<Item = (String, usize)>) -> Self {
        let topic = |(topic, keep): (String, usize)| Topic {
            keep: keep.max(1),
            waiting: 0,
            status: SubscriptionStatus { topic, ..SubscriptionStatus::default() },
        };
        let state = State { queue: VecDeque::new(), topics: topics.map(topic).collect(), requests: 0 };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// A message of a subscription; the oldest of the same makes room for it.
    pub fn push(&self, subscription: usize, what: Received) {
        let mut state = self.lock();
        let State { queue, topics, .. } = &mut *state;
        let topic = &mut topics[subscription];
        topic.status.received += 1;
        if topic.waiting == topic.keep
            && let Some(oldest) = queue.iter().position(|(of, _)| *of == Some(subscription))
        {
            queue.remove(oldest);
            topic.waiting -= 1;
            topic.status.replaced += 1;
        }
        topic.waiting += 1;
        queue.push_back((Some(subscription), what));
        self.arrived.notify_one();
    }

    pub fn push_request(&self, request: Received) {
        let mut state = self.lock();
        if state.requests < MAX_REQUESTS {
            state.requests += 1;
            state.queue.push_back((None, request));
            self.arrived.notify_one();
        }
    }

    /// Changes what is told of a subscription.
    pub fn update(&self, subscription: usize, change: impl FnOnce(&mut SubscriptionStatus)) {
        change(&mut self.lock().topics[subscription].status);
    }

    pub fn status(&self) -> Vec<SubscriptionStatus> {
        self.lock().topics.iter().map(|t| t.status.clone()).collect()
    }

    /// The oldest that waits, or the next that comes within the time.
    pub fn take(&self, wait: Duration) -> Option<Received> {
        let until = Instant::now().checked_add(wait);
        let mut state = self.lock();
        loop {
            if let Some((of, what)) = state.queue.pop_front() {
                match of {
                    Some(of) => state.topics[of].waiting -= 1,
                    None => state.requests -= 1,
                }
                return Some(what);
            }
            let left = until.map_or(wait, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No panic can happen with the lock held that would leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros::bag::RawMessage;
    use crate::ros::transport::{Request, RequestId};
    use crate::sensor::Stamp;

    fn message(topic: &str, stamp: i64) -> Received {
        Received::Message(RawMessage { topic: topic.into(), type_name: "".into(), stamp: Stamp(stamp), data: vec![] })
    }

    fn take_all(inbox: &Inbox) -> Vec<(String, i64)> {
        let next = || match inbox.take(Duration::ZERO)? {
            Received::Message(m) => Some((m.topic.to_string(), m.stamp.0)),
            _ => Some((String::new(), 0)),
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_newest_of_a_topic_stay_in_their_order_and_the_others_are_counted() {
        let inbox = Inbox::new([("points".to_owned(), 1), ("tf".to_owned(), 3)].into_iter());
        for stamp in 0..5 {
            inbox.push(0, message("points", stamp));
            inbox.push(1, message("tf", stamp));
        }
        let expected = [("tf", 2), ("tf", 3), ("points", 4), ("tf", 4)].map(|(t, s)| (t.to_owned(), s));
        assert_eq!(take_all(&inbox), expected);
        let counts: Vec<_> = inbox.status().into_iter().map(|s| (s.received, s.replaced)).collect();
        assert_eq!(counts, [(5, 4), (5, 2)]);
        inbox.push(0, message("points", 9));
        assert_eq!(take_all(&inbox), [("points".to_owned(), 9)]);
    }

    #[test]
    fn requests_do_not_pile_up_without_end() {
        let inbox = Inbox::new(std::iter::empty());
        let id = RequestId { caller: [0; 16], sequence: 0 };
        for _ in 0..1000 {
            inbox.push_request(Received::Request(Request { service: "s".into(), id, data: vec![] }));
        }
        assert_eq!(take_all(&inbox).len(), MAX_REQUESTS);
        inbox.push_request(Received::Request(Request { service: "s".into(), id, data: vec![] }));
        assert_eq!(take_all(&inbox).len(), 1);
    }

    #[test]
    fn a_message_from_another_thread_ends_the_wait() {
        let inbox = Inbox::new([("points".to_owned(), 1)].into_iter());
        std::thread::scope(|s| {
            s.spawn(|| inbox.push(0, message("points", 7)));
            assert!(matches!(inbox.take(Duration::MAX), Some(Received::Message(m)) if m.stamp.0 == 7));
        });
        assert!(inbox.take(Duration::ZERO).is_none());
    }
}
