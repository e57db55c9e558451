//! ROS 2's own client library, `rcl`: a node over whatever middleware ROS is set to (`RMW_IMPLEMENTATION`).
//!
//! Stands on `r2r_rcl`, the part of `r2r` that binds `rcl`. What `r2r` builds on it is not used: its services and actions want every
//! type compiled in, when ROS has it; its queues drop the newest message; its context is one for the process.

mod error;
mod node;
mod qos;
mod receiver;
mod service;
mod types;

use self::error::check;
use self::node::{Entity, Node, c_string};
use self::receiver::Receiver;
use self::service::{Caller, Server};
use self::types::{MessageType, serialized};
use super::background::Background;
use super::inbox::Inbox;
use super::interface::{Interface, Publisher, Service};
use super::transport::{Publication, Received, RequestId, SubscriptionStatus, Transport, TransportError, declared, system_now};
use crate::sensor::Stamp;
use r2r_rcl::{
    rcl_get_zero_initialized_publisher, rcl_publish_serialized_message, rcl_publisher_fini, rcl_publisher_get_default_options,
    rcl_publisher_init, rcl_publisher_t,
};
use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// A node on `rcl`.
pub struct RclTransport {
    /// First, so that it has ended when the rest goes.
    _receiver: Background,
    inbox: Arc<Inbox>,
    /// By topic.
    publishers: HashMap<String, Entity<rcl_publisher_t>>,
    /// By service.
    servers: HashMap<String, Arc<Server>>,
    /// By the service of another node.
    callers: HashMap<String, Arc<Caller>>,
}

impl RclTransport {
    /// Joins the graph, where ROS' environment variables say.
    ///
    /// # Errors
    /// A type whose package is not installed; a middleware that is not, or that finds no network.
    pub fn open(interface: &Interface) -> Result<Self, TransportError> {
        let node = Node::open(&interface.node)?;
        let publishers = interface.publishers.iter().map(|p| Ok((p.topic.clone(), publisher(&node, p)?)));
        let publishers = publishers.collect::<Result<_, TransportError>>()?;
        let server = |s: &Service| Ok((s.name.clone(), Arc::new(Server::open(&node, s)?)));
        let servers = interface.services.iter().map(server).collect::<Result<_, TransportError>>()?;
        let caller = |s: &Service| Ok((s.name.clone(), Arc::new(Caller::open(&node, s)?)));
        let callers = interface.clients.iter().map(caller).collect::<Result<_, TransportError>>()?;
        let inbox = Arc::new(Inbox::new(interface.subscriptions.iter().map(|s| (s.topic.clone(), s.keep))));
        let receiver = Receiver::new(&node, &interface.subscriptions, &servers, &callers, inbox.clone())?;
        let receiver = Background::start("rcl receiver", move |stop| receiver.run(stop));
        let failed = |e: std::io::Error| TransportError::Rcl { what: "starting a thread".into(), reason: e.to_string() };
        Ok(Self { _receiver: receiver.map_err(failed)?, inbox, publishers, servers, callers })
    }
}

impl Transport for RclTransport {
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError> {
        Ok(self.inbox.take(wait).unwrap_or(Received::Nothing))
    }

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        let topic = publication.topic;
        let publisher = declared(&self.publishers, topic)?;
        let message = serialized(publication.data);
        // SAFETY: the publisher is open; the bytes are only read, and outlive the call.
        check(unsafe { rcl_publish_serialized_message(publisher.as_ptr(), &raw const message, ptr::null_mut()) }, topic)
    }

    fn reply(&mut self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        declared(&self.servers, service)?.reply(to, data)
    }

    fn call(&mut self, service: &str, data: &[u8]) -> Result<i64, TransportError> {
        declared(&self.callers, service)?.call(data)
    }

    fn now(&self) -> Stamp {
        system_now()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.inbox.status()
    }
}

fn publisher(node: &Arc<Node>, publisher: &Publisher) -> Result<Entity<rcl_publisher_t>, TransportError> {
    let (message, topic) = (MessageType::find(publisher.type_name)?, c_string(&publisher.topic));
    // SAFETY: node, type and name are valid, and the publisher is zero-initialised.
    unsafe {
        let mut options = rcl_publisher_get_default_options();
        options.qos = qos::writer(publisher);
        let init = |entity, node| rcl_publisher_init(entity, node, message.as_ptr(), topic.as_ptr(), &raw const options);
        Entity::open(node, &publisher.topic, rcl_get_zero_initialized_publisher(), init, rcl_publisher_fini)
    }
}
