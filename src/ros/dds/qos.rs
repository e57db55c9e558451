//! Quality of service, as ROS 2's nodes ask and offer.

use crate::ros::interface::Publisher;
use rustdds::policy::{Durability, History, Lifespan, Reliability, ResourceLimits};
use rustdds::{Duration, QosPolicies, QosPolicyBuilder};

/// Samples that DDS itself keeps of a topic before they are taken, which is done at once. Clouds are large: this bounds the memory.
const READER_DEPTH: i32 = 8;
const READER_MAX_SAMPLES: i32 = 16;
/// Samples that wait at most for a subscriber's acknowledgement; beyond that, new samples are dropped, for all subscribers. A subscriber
/// that has gone without a word (out of wireless range, stopped in a debugger) is let go when its lease is over, 10 to 20 s later: until
/// then the others must get what they are sent, also at 20 Hz.
const WRITER_MAX_SAMPLES: i32 = 512;
const WRITER_DEPTH: i32 = 10;
/// How long a sample waits for a place among these. Nothing here may hold up the next frame.
const MAX_BLOCKING_MS: i64 = 5;

pub(super) fn reader(reliable: bool, latched: bool) -> QosPolicies {
    profile(reliable, latched, READER_DEPTH, READER_MAX_SAMPLES)
}

/// Requests and answers must not get lost, and are no clouds.
pub(super) fn service() -> QosPolicies {
    profile(true, false, 64, 64)
}

pub(super) fn writer(publisher: &Publisher) -> QosPolicies {
    let is_kept = publisher.kept > 0;
    let depth = if is_kept { i32::try_from(publisher.kept).unwrap_or(i32::MAX) } else { WRITER_DEPTH };
    let profile = profile(true, is_kept, depth, WRITER_MAX_SAMPLES.max(depth));
    match publisher.lifespan {
        Some(lifespan) => profile.modify_by(&QosPolicyBuilder::new().lifespan(Lifespan { duration: lifespan.into() }).build()),
        None => profile,
    }
}

/// Of the topic by which nodes make themselves known.
pub(super) fn graph() -> QosPolicies {
    profile(true, true, 1, 64)
}

fn profile(reliable: bool, latched: bool, depth: i32, max_samples: i32) -> QosPolicies {
    let reliability = if reliable {
        Reliability::Reliable { max_blocking_time: Duration::from_millis(MAX_BLOCKING_MS) }
    } else {
        Reliability::BestEffort
    };
    let durability = if latched { Durability::TransientLocal } else { Durability::Volatile };
    QosPolicyBuilder::new()
        .reliability(reliability)
        .durability(durability)
        .history(History::KeepLast { depth })
        .resource_limits(ResourceLimits { max_samples, max_instances: 1, max_samples_per_instance: max_samples })
        .build()
}
