//! What carries messages: a bag, later a ROS graph. All carry the same bytes, so what runs on one runs on the others.

use super::bag::{BagError, BagReader, BagWriter, RawMessage};
use super::msg::RosMessage;
use crate::sensor::Stamp;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Bag(#[from] BagError),
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

/// A source and sink of messages.
pub trait Transport {
    /// The next message, or `None` when there will be no more.
    fn receive(&mut self) -> Result<Option<RawMessage>, TransportError>;

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError>;
}

impl dyn Transport + '_ {
    pub fn publish<M: RosMessage>(&mut self, topic: &str, stamp: Stamp, message: &M) -> Result<(), TransportError> {
        let data = message.encode();
        self.publish_raw(Publication { topic, type_name: M::TYPE, definition: M::DEFINITION, stamp, data: &data })
    }
}

/// Receives from one bag and, if it has one, publishes to another; without, publications are dropped.
pub struct BagTransport {
    source: BagReader,
    sink: Option<BagWriter>,
}

impl BagTransport {
    pub fn new(source: BagReader, sink: Option<BagWriter>) -> Self {
        Self { source, sink }
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
    fn receive(&mut self) -> Result<Option<RawMessage>, TransportError> {
        Ok(self.source.next())
    }

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        let Publication { topic, type_name, definition, stamp, data } = publication;
        match &mut self.sink {
            Some(sink) => Ok(sink.write_raw(topic, type_name, definition, stamp, data)?),
            None => Ok(()),
        }
    }
}
