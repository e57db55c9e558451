//! What carries messages: a bag or a ROS graph. All carry the same bytes, so what runs on one runs on the others.

use super::bag::{BagError, BagReader, BagWriter, RawMessage};
use super::msg::RosMessage;
use crate::sensor::Stamp;
#[cfg(any(feature = "dds", feature = "ros2"))]
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Bag(#[from] BagError),
    /// The message was dropped; the next may go out.
    #[error("{topic}: a subscriber takes messages more slowly than they come, one was dropped")]
    Full { topic: String },
    #[error("{topic}: nobody declared that this node publishes or calls it")]
    NotDeclared { topic: String },
    #[error("DDS, {what}: {reason}")]
    Dds { what: String, reason: String },
    #[error("ROS, {what}: {reason}")]
    Rcl { what: String, reason: String },
    #[error("{type_name}: its library cannot be used ({reason}); is its package installed, and its workspace's setup sourced?")]
    NoType { type_name: String, reason: String },
}

/// What stands under a topic or service that this node declared.
#[cfg(any(feature = "dds", feature = "ros2"))]
pub(super) fn declared<'m, T>(all: &'m HashMap<String, T>, topic: &str) -> Result<&'m T, TransportError> {
    all.get(topic).ok_or_else(|| TransportError::NotDeclared { topic: topic.to_owned() })
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    pub topic: &'a str,
    pub type_name: &'a str,
    /// As `RosMessage::DEFINITION`.
    pub definition: &'a str,
    pub stamp: Stamp,
    /// CDR with encapsulation.
    pub data: &'a [u8],
}

/// A call of a service of this node.
#[derive(Clone, Debug)]
pub struct Request {
    pub service: Arc<str>,
    /// Tells the transport where the answer belongs.
    pub id: RequestId,
    /// CDR with encapsulation.
    pub data: Vec<u8>,
}

/// Who called a service, and their number of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// DDS' globally unique identifier of the caller.
    pub caller: [u8; 16],
    pub sequence: i64,
}

/// What a service of another node has answered.
#[derive(Clone, Debug)]
pub struct Response {
    pub service: Arc<str>,
    /// As [`Transport::call`] gave it.
    pub call: i64,
    /// CDR with encapsulation.
    pub data: Vec<u8>,
}

/// What a transport has to say.
#[derive(Clone, Debug)]
pub enum Received {
    Message(RawMessage),
    Request(Request),
    Response(Response),
    /// Nothing came in the time given.
    Nothing,
    /// Nothing will come any more.
    End,
}

/// How a subscription fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStatus {
    pub topic: String,
    /// Publishers that are known.
    pub publishers: usize,
    /// Whether lost packets are asked for again.
    pub reliable: bool,
    /// Messages that came in.
    pub received: u64,
    /// Of these, dropped because newer ones came before they were taken.
    pub replaced: u64,
    /// Messages that were sent and never came in, as far as their numbers tell.
    pub lost: u64,
    /// Messages that were no plain CDR.
    pub unreadable: u64,
}

/// A source and sink of messages.
pub trait Transport {
    /// The next message or request. `wait`: how long to wait for one; zero takes only what has arrived already, and a bag's
    /// messages arrive when they are waited for.
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError>;

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError>;

    /// Answers a request; `data` is CDR with encapsulation.
    fn reply(&mut self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError>;

    /// Calls a service of another node; `data` is CDR with encapsulation. The call's number is that of the answer, which may never come.
    fn call(&mut self, service: &str, data: &[u8]) -> Result<i64, TransportError>;

    /// The time by which arriving messages are stamped.
    fn now(&self) -> Stamp;

    /// One entry a subscription; empty where there is nothing to tell.
    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        Vec::new()
    }
}

impl dyn Transport + '_ {
    pub fn publish<M: RosMessage>(&mut self, topic: &str, stamp: Stamp, message: &M) -> Result<(), TransportError> {
        let data = message.encode();
        self.publish_raw(Publication { topic, type_name: M::TYPE, definition: M::DEFINITION, stamp, data: &data })
    }
}

/// The computer's time.
pub(super) fn system_now() -> Stamp {
    use std::time::{SystemTime, UNIX_EPOCH};
    // The time since 1970 fits for another two centuries.
    Stamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64))
}

/// Receives from one bag and, if it has one, publishes to another; without, publications are dropped.
pub struct BagTransport {
    source: BagReader,
    sink: Option<BagWriter>,
    now: Stamp,
}

impl BagTransport {
    pub fn new(source: BagReader, sink: Option<BagWriter>) -> Self {
        Self { source, sink, now: Stamp::default() }
    }

    /// Completes the bag that was published to, and returns the source with its report.
    pub fn finish(self) -> Result<BagReader, TransportError> {
        if let Some(sink) = self.sink {
            sink.finish()?;
        }
        Ok(self.source)
    }
}

impl Transport for BagTransport {
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError> {
        if wait.is_zero() {
            return Ok(Received::Nothing);
        }
        Ok(self.source.next().map_or(Received::End, |message| {
            self.now = message.stamp;
            Received::Message(message)
        }))
    }

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        let Publication { topic, type_name, definition, stamp, data } = publication;
        match &mut self.sink {
            Some(sink) => Ok(sink.write_raw(topic, type_name, definition, stamp, data)?),
            None => Ok(()),
        }
    }

    /// Bags hold no requests, so there is nobody to answer.
    fn reply(&mut self, _service: &str, _to: RequestId, _data: &[u8]) -> Result<(), TransportError> {
        Ok(())
    }

    /// Nor to be called.
    fn call(&mut self, service: &str, _data: &[u8]) -> Result<i64, TransportError> {
        Err(TransportError::NotDeclared { topic: service.to_owned() })
    }

    fn now(&self) -> Stamp {
        self.now
    }
}
