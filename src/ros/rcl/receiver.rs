//! The thread that takes what the middleware has received, at once, so that nothing is overwritten unseen.

use super::error::{OK, check, take_message};
use super::node::{Entity, Node, c_string};
use super::qos;
use super::service::{Caller, Server};
use super::types::{Buffer, MessageType};
use crate::ros::bag::RawMessage;
use crate::ros::cdr::ENCAPSULATION_BYTES;
use crate::ros::inbox::Inbox;
use crate::ros::interface::{Reliability, Subscription};
use crate::ros::sequences::Sequences;
use crate::ros::transport::{Received, TransportError, system_now};
use r2r_rcl::{
    RCL_RET_SUBSCRIPTION_TAKE_FAILED, RCL_RET_TIMEOUT, rcl_get_publishers_info_by_topic, rcl_get_zero_initialized_subscription,
    rcl_get_zero_initialized_wait_set, rcl_ret_t, rcl_subscription_fini, rcl_subscription_get_default_options, rcl_subscription_init,
    rcl_subscription_t, rcl_take_serialized_message, rcl_wait, rcl_wait_set_add_client, rcl_wait_set_add_service,
    rcl_wait_set_add_subscription, rcl_wait_set_clear, rcl_wait_set_fini, rcl_wait_set_init, rcl_wait_set_t, rcutils_get_default_allocator,
    rmw_get_zero_initialized_message_info, rmw_get_zero_initialized_topic_endpoint_info_array, rmw_topic_endpoint_info_array_fini,
};
use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the thread looks whether it shall end.
const STOP_PERIOD: Duration = Duration::from_millis(50);
/// How often it looks what publishers offer.
const GRAPH_PERIOD: Duration = Duration::from_millis(200);
/// Messages that are taken of one topic before the others have their turn.
const MAX_AT_ONCE: usize = 32;

pub(super) struct Receiver {
    node: Arc<Node>,
    channels: Vec<Channel>,
    servers: Vec<Arc<Server>>,
    callers: Vec<Arc<Caller>>,
    wait_set: WaitSet,
    inbox: Arc<Inbox>,
}

/// A subscription.
struct Channel {
    /// In the interface.
    number: usize,
    wanted: Subscription,
    topic: Arc<str>,
    type_name: Arc<str>,
    reliable: bool,
    message: MessageType,
    entity: Entity<rcl_subscription_t>,
    /// By the publisher's identifier.
    sequences: Sequences<Vec<u8>>,
    buffer: Buffer,
}

impl Receiver {
    pub(super) fn new(
        node: &Arc<Node>,
        subscriptions: &[Subscription],
        servers: &HashMap<String, Arc<Server>>,
        callers: &HashMap<String, Arc<Caller>>,
        inbox: Arc<Inbox>,
    ) -> Result<Self, TransportError> {
        let open = |(number, wanted): (usize, &Subscription)| {
            let channel = Channel::open(node, number, wanted.clone())?;
            inbox.update(number, |status| status.reliable = channel.reliable);
            Ok(channel)
        };
        let channels = subscriptions.iter().enumerate().map(open).collect::<Result<Vec<_>, TransportError>>()?;
        let (servers, callers): (Vec<_>, Vec<_>) = (servers.values().cloned().collect(), callers.values().cloned().collect());
        let wait_set = WaitSet::new(node, [channels.len(), callers.len(), servers.len()])?;
        Ok(Self { node: node.clone(), channels, servers, callers, wait_set, inbox })
    }

    /// Until `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        let mut looked = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "ROS can no longer be waited for");
                return;
            }
            self.take_all();
            if looked.elapsed() >= GRAPH_PERIOD {
                looked = Instant::now();
                self.look_at_publishers();
            }
        }
    }

    /// For something to come, or some time.
    fn wait(&mut self) -> Result<(), TransportError> {
        let set = &raw mut self.wait_set.0;
        // SAFETY: the set has room for all of these, and they stay where they are and open while it is waited for.
        let code = unsafe {
            check(rcl_wait_set_clear(set), "waiting")?;
            for channel in &self.channels {
                check(rcl_wait_set_add_subscription(set, channel.entity.as_ptr(), ptr::null_mut()), &channel.topic)?;
            }
            for server in &self.servers {
                check(rcl_wait_set_add_service(set, server.as_ptr(), ptr::null_mut()), "waiting for requests")?;
            }
            for caller in &self.callers {
                check(rcl_wait_set_add_client(set, caller.as_ptr(), ptr::null_mut()), "waiting for answers")?;
            }
            rcl_wait(set, STOP_PERIOD.as_nanos() as i64)
        };
        if code == RCL_RET_TIMEOUT as rcl_ret_t {
            // It is no failure, but leaves a text.
            take_message();
            return Ok(());
        }
        check(code, "waiting")
    }

    /// Also where nothing is said to have come: looking costs little, and says so.
    fn take_all(&mut self) {
        for channel in &mut self.channels {
            channel.take_all(&self.inbox);
        }
        let requests = self.servers.iter().flat_map(|server| drain(|| server.take()));
        let answers = self.callers.iter().flat_map(|caller| drain(|| caller.take()));
        requests.chain(answers).for_each(|received| self.inbox.push_request(received));
    }

    /// Counts publishers, and takes up another reliability where that is left to them.
    fn look_at_publishers(&mut self) {
        for channel in &mut self.channels {
            let offers = match offers(&self.node, &channel.wanted) {
                Ok(offers) => offers,
                Err(error) => {
                    tracing::debug!(%error, "publishers are not known");
                    continue;
                }
            };
            self.inbox.update(channel.number, |status| status.publishers = offers.len());
            let reliable = if offers.is_empty() { channel.reliable } else { offers.iter().all(|offered| *offered) };
            if channel.wanted.reliability == Reliability::Auto && reliable != channel.reliable {
                match subscribe(&self.node, &channel.wanted, channel.message, reliable) {
                    Ok(entity) => {
                        tracing::info!(topic = %channel.topic, reliable, "subscribed as the publishers offer");
                        (channel.entity, channel.reliable) = (entity, reliable);
                        self.inbox.update(channel.number, |status| status.reliable = reliable);
                    }
                    Err(error) => tracing::warn!(%error, "cannot subscribe anew"),
                }
            }
        }
    }
}

impl Channel {
    fn open(node: &Arc<Node>, number: usize, wanted: Subscription) -> Result<Self, TransportError> {
        // Of publishers that are not known yet, the better is hoped for.
        let reliable = wanted.reliability != Reliability::BestEffort;
        let message = MessageType::find(wanted.type_name)?;
        Ok(Self {
            number,
            topic: wanted.topic.as_str().into(),
            type_name: wanted.type_name.into(),
            reliable,
            message,
            entity: subscribe(node, &wanted, message, reliable)?,
            wanted,
            sequences: Sequences::default(),
            buffer: Buffer::new(),
        })
    }

    fn take_all(&mut self, inbox: &Inbox) {
        for _ in 0..MAX_AT_ONCE {
            // SAFETY: the subscription is open; the buffer grows by its own allocator.
            let (code, info) = unsafe {
                let mut info = rmw_get_zero_initialized_message_info();
                let buffer = self.buffer.as_ptr();
                (rcl_take_serialized_message(self.entity.as_ptr(), buffer, &raw mut info, ptr::null_mut()), info)
            };
            if code != OK {
                if code != RCL_RET_SUBSCRIPTION_TAKE_FAILED as rcl_ret_t
                    && let Err(error) = check(code, &self.topic)
                {
                    tracing::warn!(%error, "a message could not be taken");
                }
                return;
            }
            // A middleware that does not number messages says so by a number that cannot be.
            if let Ok(sequence @ 1..) = i64::try_from(info.publication_sequence_number) {
                // A new subscription is given what the old one has had.
                let Some(missing) = self.sequences.follow(info.publisher_gid.data.to_vec(), sequence) else { continue };
                if missing > 0 {
                    inbox.update(self.number, |status| status.lost += missing);
                }
            }
            let data = self.buffer.bytes();
            if data.len() < ENCAPSULATION_BYTES || data[0] != 0 || data[1] > 1 {
                inbox.update(self.number, |status| status.unreadable += 1);
                continue;
            }
            let (topic, type_name) = (self.topic.clone(), self.type_name.clone());
            inbox.push(self.number, Received::Message(RawMessage { topic, type_name, stamp: system_now(), data: data.to_vec() }));
        }
    }
}

/// What has come, up to a failure or a bound.
fn drain(mut take: impl FnMut() -> Result<Option<Received>, TransportError>) -> Vec<Received> {
    let mut next = || {
        take().unwrap_or_else(|error| {
            tracing::warn!(%error, "a request or an answer could not be taken");
            None
        })
    };
    std::iter::from_fn(&mut next).take(MAX_AT_ONCE).collect()
}

fn subscribe(
    node: &Arc<Node>,
    wanted: &Subscription,
    message: MessageType,
    reliable: bool,
) -> Result<Entity<rcl_subscription_t>, TransportError> {
    let topic = c_string(&wanted.topic);
    // SAFETY: node, type and name are valid, and the subscription is zero-initialised.
    unsafe {
        let mut options = rcl_subscription_get_default_options();
        options.qos = qos::reader(reliable, wanted.latched);
        let init = |entity, node| rcl_subscription_init(entity, node, message.as_ptr(), topic.as_ptr(), &raw const options);
        Entity::open(node, &wanted.topic, rcl_get_zero_initialized_subscription(), init, rcl_subscription_fini)
    }
}

/// For each publisher of the topic and type, whether it is reliable.
fn offers(node: &Node, wanted: &Subscription) -> Result<Vec<bool>, TransportError> {
    let topic = c_string(&wanted.topic);
    // SAFETY: the array is zero-initialised, is read while it holds, with as many entries as it says, and freed by the allocator that
    // it was made by.
    unsafe {
        let mut allocator = rcutils_get_default_allocator();
        let mut infos = rmw_get_zero_initialized_topic_endpoint_info_array();
        let code = rcl_get_publishers_info_by_topic(node.as_ptr(), &raw mut allocator, topic.as_ptr(), false, &raw mut infos);
        check(code, &wanted.topic)?;
        let entries = if infos.size == 0 { &[] } else { std::slice::from_raw_parts(infos.info_array, infos.size) };
        let of_type = entries.iter().filter(|e| CStr::from_ptr(e.topic_type).to_bytes() == wanted.type_name.as_bytes());
        let offers = of_type.map(|e| qos::is_reliable(&e.qos_profile)).collect();
        check(rmw_topic_endpoint_info_array_fini(&raw mut infos, &raw mut allocator), &wanted.topic)?;
        Ok(offers)
    }
}

/// What `rcl` waits for.
struct WaitSet(rcl_wait_set_t);

// SAFETY: it is used by one thread at a time.
unsafe impl Send for WaitSet {}

impl WaitSet {
    /// Room for so many subscriptions, clients and services.
    fn new(node: &Node, [subscriptions, clients, services]: [usize; 3]) -> Result<Self, TransportError> {
        // SAFETY: the set is zero-initialised, and the context is open.
        unsafe {
            let mut set = Self(rcl_get_zero_initialized_wait_set());
            let allocator = rcutils_get_default_allocator();
            let code = rcl_wait_set_init(&raw mut set.0, subscriptions, 0, 0, clients, services, 0, node.context(), allocator);
            check(code, "waiting")?;
            Ok(set)
        }
    }
}

impl Drop for WaitSet {
    fn drop(&mut self) {
        // SAFETY: ours alone; one that was not initialised is left as it is.
        unsafe { rcl_wait_set_fini(&raw mut self.0) };
    }
}
