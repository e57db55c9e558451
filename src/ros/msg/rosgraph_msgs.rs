//! `rosgraph_msgs`.

use super::{cdr_struct, ros_message};
use crate::sensor::Stamp;

cdr_struct! {
    /// The time of a simulation or of a bag that is played.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Clock {
        pub clock: Stamp,
    }
}

ros_message! {
    Clock: "rosgraph_msgs" "Clock",
    "builtin_interfaces" "Time"
}
