//! Answers to callers that this node has not answered before.
//!
//! A caller knows of a service before the service knows of the caller: an answer that is sent at once may have nobody to go to, and
//! nothing asks for it again. So the first answer waits until the caller's reader is known, as in ROS 2's own middlewares.

use super::names;
use crate::ros::transport::RequestId;
use rustdds::DomainParticipant;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// From when a reader is known until this node's writer has it, too.
const SETTLE: Duration = Duration::from_millis(20);
/// A caller that is not known by then may have gone; the answer is sent anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// Callers that are remembered; beyond that, all are new again.
const MAX_MET: usize = 1000;
/// Answers that wait, at most; beyond that, the oldest goes out.
const MAX_WAITING: usize = 100;
/// Bytes of an identifier that are the process's, also where a caller has replaced the last eight.
const PROCESS_BYTES: usize = 8;

type Caller = (String, [u8; PROCESS_BYTES]);

#[derive(Default)]
pub(super) struct FirstAnswers {
    met: HashSet<Caller>,
    waiting: Vec<Answer>,
}

/// An answer on its way.
pub(super) struct Answer {
    pub service: String,
    pub to: RequestId,
    /// CDR with encapsulation.
    pub data: Vec<u8>,
    since: Instant,
    known_since: Option<Instant>,
}

impl FirstAnswers {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the answer can go out at once.
    pub fn has_met(&self, service: &str, to: RequestId) -> bool {
        self.met.contains(&(service.to_owned(), process(&to.caller)))
    }

    pub fn push(&mut self, service: &str, to: RequestId, data: &[u8]) {
        self.waiting.push(Answer { service: service.to_owned(), to, data: data.to_vec(), since: Instant::now(), known_since: None });
    }

    /// Those that can go out now.
    pub fn take_due(&mut self, participant: &DomainParticipant) -> Vec<Answer> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let readers = participant.discovered_readers();
        let known: HashSet<(String, [u8; PROCESS_BYTES])> = readers
            .iter()
            .map(|r| (r.subscription_topic_data.topic_name.clone(), process(&r.reader_proxy.remote_reader_guid.to_bytes())))
            .collect();
        let is_full = self.waiting.len() > MAX_WAITING;
        let (mut due, mut waiting) = (Vec::new(), Vec::new());
        for (at, mut answer) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            if known.contains(&(names::reply_topic(&answer.service), process(&answer.to.caller))) {
                answer.known_since.get_or_insert_with(Instant::now);
            }
            let is_settled = answer.known_since.is_some_and(|since| since.elapsed() >= SETTLE);
            if is_settled || answer.since.elapsed() >= PATIENCE || (is_full && at == 0) {
                if is_settled {
                    self.meet(&answer);
                }
                due.push(answer);
            } else {
                waiting.push(answer);
            }
        }
        self.waiting = waiting;
        due
    }

    fn meet(&mut self, answer: &Answer) {
        if self.met.len() >= MAX_MET {
            self.met.clear();
        }
        self.met.insert((answer.service.clone(), process(&answer.to.caller)));
    }
}

fn process(guid: &[u8; 16]) -> [u8; PROCESS_BYTES] {
    std::array::from_fn(|i| guid[i])
}
