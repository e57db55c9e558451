//! The thread that takes what DDS has received, at once, so that nothing is overwritten unseen.

use super::graph::Graph;
use super::raw::RawReader;
use super::{names, qos, service};
use crate::ros::bag::RawMessage;
use crate::ros::inbox::Inbox;
use crate::ros::interface::{Interface, Reliability, Subscription};
use crate::ros::sequences::Sequences;
use crate::ros::transport::{Received, Request, Response, TransportError, system_now};
use rustdds::dds::result::ReadError;
use rustdds::mio1::{Events, Interest, Poll, Token};
use rustdds::{DomainParticipant, GUID, QosPolicies, Subscriber, Topic, TopicKind};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the thread looks whether it shall end.
const STOP_PERIOD: Duration = Duration::from_millis(50);
/// How often it looks what publishers offer.
const GRAPH_PERIOD: Duration = Duration::from_millis(200);

pub(super) struct Receiver {
    participant: DomainParticipant,
    subscriber: Subscriber,
    subscriptions: Vec<Subscription>,
    channels: Vec<Channel>,
    poll: Poll,
    inbox: Arc<Inbox>,
    graph: Graph,
    writers: Vec<GUID>,
}

/// A reader and what it reads for.
struct Channel {
    what: Source,
    topic: Topic,
    reader: RawReader,
    sequences: Sequences<GUID>,
}

#[derive(Clone)]
enum Source {
    /// By its number in the interface.
    Subscription {
        number: usize,
        topic: Arc<str>,
        type_name: Arc<str>,
        reliable: bool,
    },
    Service {
        name: Arc<str>,
    },
    /// Answers to what this node has asked with this writer.
    Client {
        service: Arc<str>,
        writer: GUID,
    },
}

impl Receiver {
    /// `writers`: the node's, for those who ask what it is made of. `callers`: those that call others' services, by service.
    pub(super) fn new(
        participant: DomainParticipant,
        interface: &Interface,
        inbox: Arc<Inbox>,
        graph: Graph,
        writers: Vec<GUID>,
        callers: &HashMap<String, GUID>,
    ) -> Result<Self, TransportError> {
        let failed = |reason: String| super::failed("receiving", reason);
        let subscriber = participant.create_subscriber(&QosPolicies::qos_none()).map_err(|e| failed(e.to_string()))?;
        let poll = Poll::new().map_err(|e| failed(e.to_string()))?;
        let subscriptions = interface.subscriptions.clone();
        let mut receiver = Self { participant, subscriber, subscriptions, channels: Vec::new(), poll, inbox, graph, writers };
        for (number, s) in interface.subscriptions.iter().enumerate() {
            // Of publishers that are not known yet, the better is hoped for.
            let reliable = s.reliability != Reliability::BestEffort;
            let (topic, type_name) = (s.topic.as_str().into(), s.type_name.into());
            let what = Source::Subscription { number, topic, type_name, reliable };
            receiver.open(names::topic(&s.topic), names::type_name(s.type_name, ""), qos::reader(reliable, s.latched), what)?;
            receiver.inbox.update(number, |status| status.reliable = reliable);
        }
        for s in &interface.services {
            let what = Source::Service { name: s.name.as_str().into() };
            receiver.open(names::request_topic(&s.name), names::type_name(s.type_name, "_Request"), qos::service(), what)?;
        }
        for s in &interface.clients {
            let Some(writer) = callers.get(&s.name).copied() else { continue };
            let what = Source::Client { service: s.name.as_str().into(), writer };
            receiver.open(names::reply_topic(&s.name), names::type_name(s.type_name, "_Response"), qos::service(), what)?;
        }
        receiver.announce();
        Ok(receiver)
    }

    /// Until `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(64);
        let mut looked = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            if let Err(error) = self.poll.poll(&mut events, Some(STOP_PERIOD))
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "DDS can no longer be waited for");
                return;
            }
            for event in &events {
                if let Some(channel) = self.channels.get_mut(event.token().0) {
                    channel.take_all(&self.inbox);
                }
            }
            if looked.elapsed() >= GRAPH_PERIOD {
                looked = Instant::now();
                self.look_at_publishers();
            }
        }
        self.graph.withdraw();
    }

    fn open(&mut self, topic: String, type_name: String, qos: QosPolicies, what: Source) -> Result<(), TransportError> {
        let failed = |reason: String| super::failed(&topic, reason);
        let dds = self.participant.create_topic(topic.clone(), type_name, &qos, TopicKind::NoKey).map_err(|e| failed(e.to_string()))?;
        let mut reader = self.subscriber.create_simple_datareader_no_key(&dds, Some(qos)).map_err(|e| failed(e.to_string()))?;
        let token = Token(self.channels.len());
        self.poll.registry().register(&mut reader, token, Interest::READABLE).map_err(|e| failed(e.to_string()))?;
        self.channels.push(Channel { what, topic: dds, reader, sequences: Sequences::default() });
        Ok(())
    }

    /// Counts publishers, and takes up another reliability where that is left to them.
    fn look_at_publishers(&mut self) {
        let known = self.participant.discovered_writers();
        let mut changed = false;
        for at in 0..self.channels.len() {
            let Source::Subscription { number, reliable, .. } = self.channels[at].what else { continue };
            let subscription = &self.subscriptions[number];
            let (topic, type_name) = (names::topic(&subscription.topic), names::type_name(subscription.type_name, ""));
            let of_topic = known.iter().map(|w| &w.publication_topic_data).filter(|w| w.topic_name == topic && w.type_name == type_name);
            let offers: Vec<bool> =
                of_topic.map(|w| matches!(w.reliability, Some(rustdds::policy::Reliability::Reliable { .. }))).collect();
            self.inbox.update(number, |status| status.publishers = offers.len());
            let wanted = if offers.is_empty() { reliable } else { offers.iter().all(|offered| *offered) };
            if subscription.reliability == Reliability::Auto && wanted != reliable {
                changed |= self.reopen(at, wanted);
            }
        }
        if changed {
            self.announce();
        }
    }

    /// Another reader of the same topic; whether it could be opened.
    fn reopen(&mut self, at: usize, wanted: bool) -> bool {
        let channel = &mut self.channels[at];
        let Source::Subscription { number, topic, reliable, .. } = &mut channel.what else { return false };
        let qos = qos::reader(wanted, self.subscriptions[*number].latched);
        let opened = self.subscriber.create_simple_datareader_no_key(&channel.topic, Some(qos)).map_err(|e| e.to_string());
        let registered = opened.and_then(|mut reader| {
            self.poll.registry().register(&mut reader, Token(at), Interest::READABLE).map_err(|e| e.to_string())?;
            Ok(reader)
        });
        let mut reader = match registered {
            Ok(reader) => reader,
            Err(error) => {
                tracing::warn!(%topic, error, "cannot subscribe anew");
                return false;
            }
        };
        tracing::info!(%topic, reliable = wanted, "subscribed as the publishers offer");
        *reliable = wanted;
        self.inbox.update(*number, |status| status.reliable = wanted);
        std::mem::swap(&mut channel.reader, &mut reader);
        if let Err(error) = self.poll.registry().deregister(&mut reader) {
            tracing::debug!(%error, "the old reader was not known");
        }
        true
    }

    fn announce(&self) {
        let readers: Vec<GUID> = self.channels.iter().map(|c| c.reader.guid()).collect();
        self.graph.announce(&readers, &self.writers);
    }
}

impl Channel {
    fn take_all(&mut self, inbox: &Inbox) {
        self.reader.drain_read_notifications();
        loop {
            let sample = match self.reader.try_take_one() {
                Ok(Some(sample)) => sample,
                Ok(None) => return,
                Err(ReadError::Deserialization { .. }) => {
                    if let Source::Subscription { number, .. } = self.what {
                        inbox.update(number, |status| status.unreadable += 1);
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a message could not be taken");
                    return;
                }
            };
            let (writer, sequence) = (sample.writer_guid, sample.sequence_number);
            // A new reader of the topic is given what the old one has had.
            let Some(missing) = self.sequences.follow(writer, sequence.into()) else { continue };
            match &self.what {
                Source::Subscription { number, topic, type_name, .. } => {
                    if missing > 0 {
                        inbox.update(*number, |status| status.lost += missing);
                    }
                    let (topic, type_name) = (topic.clone(), type_name.clone());
                    let data = sample.into_value();
                    inbox.push(*number, Received::Message(RawMessage { topic, type_name, stamp: system_now(), data }));
                }
                Source::Client { service, writer: caller } => {
                    // Answers to others come in here, too.
                    if let Some(question) = sample.related_sample_identity().filter(|q| q.writer_guid == *caller) {
                        let (call, service) = (question.sequence_number.into(), service.clone());
                        inbox.push_request(Received::Response(Response { service, call, data: sample.into_value() }));
                    }
                }
                Source::Service { name } => {
                    let related = sample.related_sample_identity();
                    match service::question(sample.into_value(), writer, sequence, related) {
                        Some((id, data)) => inbox.push_request(Received::Request(Request { service: name.clone(), id, data })),
                        None => tracing::warn!(service = %name, "a request without its header was ignored"),
                    }
                }
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for channel in &mut self.channels {
            let _ = self.poll.registry().deregister(&mut channel.reader);
        }
    }
}
