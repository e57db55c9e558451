//! Quality of service, as ROS 2's nodes ask and offer.

use crate::ros::interface::Publisher;
use r2r_rcl::rmw_qos_durability_policy_e::{RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL, RMW_QOS_POLICY_DURABILITY_VOLATILE};
use r2r_rcl::rmw_qos_history_policy_e::RMW_QOS_POLICY_HISTORY_KEEP_LAST;
use r2r_rcl::rmw_qos_reliability_policy_e::{RMW_QOS_POLICY_RELIABILITY_BEST_EFFORT, RMW_QOS_POLICY_RELIABILITY_RELIABLE};
use r2r_rcl::{rcl_client_get_default_options, rmw_qos_profile_t, rmw_time_s};

/// Messages that the middleware keeps of a topic before they are taken, which is done at once. Clouds are large: this bounds the memory.
const READER_DEPTH: usize = 8;
const WRITER_DEPTH: usize = 10;

pub(super) fn reader(reliable: bool, latched: bool) -> rmw_qos_profile_t {
    profile(reliable, latched, READER_DEPTH)
}

pub(super) fn writer(publisher: &Publisher) -> rmw_qos_profile_t {
    let is_kept = publisher.kept > 0;
    let profile = profile(true, is_kept, if is_kept { publisher.kept } else { WRITER_DEPTH });
    match publisher.lifespan {
        Some(lifespan) => {
            rmw_qos_profile_t { lifespan: rmw_time_s { sec: lifespan.as_secs(), nsec: lifespan.subsec_nanos().into() }, ..profile }
        }
        None => profile,
    }
}

pub(super) fn is_reliable(profile: &rmw_qos_profile_t) -> bool {
    profile.reliability == RMW_QOS_POLICY_RELIABILITY_RELIABLE
}

fn profile(reliable: bool, latched: bool, depth: usize) -> rmw_qos_profile_t {
    // SAFETY: the function gives plain values: those of services, which ask for nothing beyond what is set here.
    let services = unsafe { rcl_client_get_default_options() }.qos;
    rmw_qos_profile_t {
        history: RMW_QOS_POLICY_HISTORY_KEEP_LAST,
        depth,
        reliability: if reliable { RMW_QOS_POLICY_RELIABILITY_RELIABLE } else { RMW_QOS_POLICY_RELIABILITY_BEST_EFFORT },
        durability: if latched { RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL } else { RMW_QOS_POLICY_DURABILITY_VOLATILE },
        ..services
    }
}
