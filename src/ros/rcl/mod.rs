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
use super::inbox::Inbox;
use super::interface::{Interface, Publisher, Service};
use super::transport::{Publication, Received, RequestId, SubscriptionStatus, Transport, TransportError, system_now};
use crate::sensor::Stamp;
use r2r_rcl::{
    rcl_get_zero_initialized_publisher, rcl_publish_serialized_message, rcl_publisher_fini, rcl_publisher_get_default_options,
    rcl_publisher_init, rcl_publisher_t,
};
use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A node on `rcl`.
pub struct RclTransport {
    inbox: Arc<Inbox>,
    /// By topic.
    publishers: HashMap<String, Entity<rcl_publisher_t>>,
    /// By service.
    servers: HashMap<String, Arc<Server>>,
    /// By the service of another node.
    callers: HashMap<String, Arc<Caller>>,
    stop: Arc<AtomicBool>,
    receiver: Option<JoinHandle<()>>,
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
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("rcl receiver".into()).spawn(move || receiver.run(&stopped));
        let failed = |e: std::io::Error| TransportError::Rcl { what: "starting a thread".into(), reason: e.to_string() };
        Ok(Self { inbox, publishers, servers, callers, stop, receiver: Some(thread.map_err(failed)?) })
    }
}

impl Transport for RclTransport {
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError> {
        Ok(self.inbox.take(wait).unwrap_or(Received::Nothing))
    }

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        let topic = publication.topic;
        let Some(publisher) = self.publishers.get(topic) else { return Err(TransportError::NotDeclared { topic: topic.to_owned() }) };
        let message = serialized(publication.data);
        // SAFETY: the publisher is open; the bytes are only read, and outlive the call.
        check(unsafe { rcl_publish_serialized_message(publisher.as_ptr(), &raw const message, ptr::null_mut()) }, topic)
    }

    fn reply(&mut self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        match self.servers.get(service) {
            Some(server) => server.reply(to, data),
            None => Err(TransportError::NotDeclared { topic: service.to_owned() }),
        }
    }

    fn call(&mut self, service: &str, data: &[u8]) -> Result<i64, TransportError> {
        match self.callers.get(service) {
            Some(caller) => caller.call(data),
            None => Err(TransportError::NotDeclared { topic: service.to_owned() }),
        }
    }

    fn now(&self) -> Stamp {
        system_now()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.inbox.status()
    }
}

impl Drop for RclTransport {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
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
