//! What a node takes and offers, declared before its transport is opened.

use super::msg::RosMessage;
use super::names::NodeName;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whether lost packets are asked for again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reliability {
    Reliable,
    BestEffort,
    /// As the publishers offer: reliable if all of them are.
    #[default]
    Auto,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    /// Resolved.
    pub topic: String,
    /// Such as `sensor_msgs/msg/PointCloud2`.
    pub type_name: &'static str,
    pub reliability: Reliability,
    /// Whether the last messages are wanted that were sent before (`transient_local`).
    pub latched: bool,
    /// Messages that wait at most until they are taken; a newer one takes the place of the oldest.
    pub keep: usize,
}

#[derive(Clone, Debug)]
pub struct Publisher {
    /// Resolved.
    pub topic: String,
    pub type_name: &'static str,
    /// How many of the last messages are for those, too, who come later (`transient_local`); none: `volatile`.
    pub kept: usize,
    /// How long a message is of use to anybody; nothing: for ever.
    pub lifespan: Option<Duration>,
}

/// A service that the node offers, or calls.
#[derive(Clone, Debug)]
pub struct Service {
    /// Resolved.
    pub name: String,
    /// Such as `std_srvs/srv/Trigger`.
    pub type_name: &'static str,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub node: NodeName,
    pub subscriptions: Vec<Subscription>,
    pub publishers: Vec<Publisher>,
    pub services: Vec<Service>,
    /// Services of others, to be called.
    pub clients: Vec<Service>,
}

impl Subscription {
    pub fn new<M: RosMessage>(topic: String, reliability: Reliability, keep: usize) -> Self {
        Self { topic, type_name: M::TYPE, reliability, latched: false, keep }
    }
}

impl Publisher {
    pub fn new<M: RosMessage>(topic: String) -> Self {
        Self { topic, type_name: M::TYPE, kept: 0, lifespan: None }
    }
}
