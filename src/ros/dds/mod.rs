//! Plain DDS: a node of the ROS 2 graph without ROS installed, in Rust alone.
//!
//! Names, types, QoS and bytes are those of ROS 2's own middlewares (`rmw_cyclonedds_cpp`, `rmw_fastrtps_cpp`), so their nodes
//! and tools see this one as any other. There is no shared memory: a cloud goes through UDP, also on one host.

mod first_answers;
mod graph;
mod names;
mod qos;
mod raw;
mod receiver;
mod service;

use self::first_answers::FirstAnswers;
use self::graph::Graph;
use self::raw::{Payload, RawWriter};
use self::receiver::Receiver;
use super::background::Background;
use super::inbox::Inbox;
use super::interface::Interface;
use super::transport::{Publication, Received, RequestId, SubscriptionStatus, Transport, TransportError, declared, system_now};
use crate::sensor::Stamp;
use rustdds::dds::result::WriteError;
use rustdds::{DomainParticipant, DomainParticipantBuilder, QosPolicies, RTPSEntity, Timestamp, TopicKind, WriteOptionsBuilder};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a new caller is known by now.
const ANSWER_PERIOD: Duration = Duration::from_millis(10);

/// Which part of a network to take part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DdsOptions {
    /// `ROS_DOMAIN_ID`, 0 to 232.
    pub domain: u16,
    /// Speak to nodes of this computer only.
    pub localhost_only: bool,
    /// Bytes of an identifier in what nodes tell of themselves: 24 up to ROS 2 Humble, 16 since Iron.
    pub gid_bytes: usize,
}

impl Default for DdsOptions {
    fn default() -> Self {
        Self { domain: 0, localhost_only: false, gid_bytes: 16 }
    }
}

impl DdsOptions {
    /// As ROS 2 reads its environment: `ROS_DOMAIN_ID`, `ROS_LOCALHOST_ONLY`, `ROS_AUTOMATIC_DISCOVERY_RANGE`, `ROS_DISTRO`.
    ///
    /// # Errors
    /// A domain that is none.
    pub fn from_env() -> Result<Self, TransportError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, TransportError> {
        let domain = match get("ROS_DOMAIN_ID").filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => match text.parse::<u16>() {
                Ok(domain @ 0..=232) => domain,
                _ => return Err(failed("ROS_DOMAIN_ID", format!("`{text}` is no number from 0 to 232"))),
            },
        };
        let is_local = get("ROS_LOCALHOST_ONLY").is_some_and(|v| v == "1")
            || get("ROS_AUTOMATIC_DISCOVERY_RANGE").is_some_and(|v| v.eq_ignore_ascii_case("LOCALHOST"));
        let is_old = get("ROS_DISTRO").is_some_and(|d| ["foxy", "galactic", "humble"].contains(&d.as_str()));
        Ok(Self { domain, localhost_only: is_local, gid_bytes: if is_old { 24 } else { 16 } })
    }
}

/// A node on DDS.
pub struct DdsTransport {
    /// First, so that it has ended when the rest goes.
    _receiver: Background,
    inbox: Arc<Inbox>,
    /// By topic.
    publishers: HashMap<String, RawWriter>,
    /// By service.
    answers: HashMap<String, RawWriter>,
    first_answers: FirstAnswers,
    participant: DomainParticipant,
    /// By the service of another node.
    calls: HashMap<String, RawWriter>,
}

impl DdsTransport {
    /// Joins the network. Others take some tenths of a second to notice.
    ///
    /// # Errors
    /// No network, or no free port.
    pub fn open(options: DdsOptions, interface: &Interface) -> Result<Self, TransportError> {
        let mut builder = DomainParticipantBuilder::new(options.domain);
        if options.localhost_only {
            builder = builder.with_only_networks([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        let participant = builder.build().map_err(|e| failed("joining the network", e.to_string()))?;
        let publisher = participant.create_publisher(&QosPolicies::qos_none()).map_err(|e| failed("publishing", e.to_string()))?;
        let writer = |topic: String, type_name: String, qos: QosPolicies| {
            let dds = participant.create_topic(topic.clone(), type_name, &qos, TopicKind::NoKey);
            let dds = dds.map_err(|e| failed(&topic, e.to_string()))?;
            publisher.create_datawriter_no_key(&dds, Some(qos)).map_err(|e| failed(&topic, e.to_string()))
        };
        let mut publishers: HashMap<String, RawWriter> = HashMap::new();
        for p in &interface.publishers {
            publishers.insert(p.topic.clone(), writer(names::topic(&p.topic), names::type_name(p.type_name, ""), qos::writer(p))?);
        }
        let mut answers: HashMap<String, RawWriter> = HashMap::new();
        for s in &interface.services {
            answers
                .insert(s.name.clone(), writer(names::reply_topic(&s.name), names::type_name(s.type_name, "_Response"), qos::service())?);
        }
        let mut calls: HashMap<String, RawWriter> = HashMap::new();
        for s in &interface.clients {
            calls.insert(s.name.clone(), writer(names::request_topic(&s.name), names::type_name(s.type_name, "_Request"), qos::service())?);
        }
        let inbox = Arc::new(Inbox::new(interface.subscriptions.iter().map(|s| (s.topic.clone(), s.keep))));
        let graph = Graph::new(&participant, &publisher, interface.node.clone(), options.gid_bytes)
            .map_err(|e| failed("announcing the node", e))?;
        let writers = publishers.values().chain(answers.values()).chain(calls.values()).map(RTPSEntity::guid).collect();
        let callers = calls.iter().map(|(service, writer)| (service.clone(), writer.guid())).collect();
        let receiver = Receiver::new(participant.clone(), interface, inbox.clone(), graph, writers, &callers)?;
        let receiver = Background::start("dds receiver", move |stop| receiver.run(stop));
        let receiver = receiver.map_err(|e| failed("starting a thread", e.to_string()))?;
        Ok(Self { _receiver: receiver, inbox, publishers, answers, first_answers: FirstAnswers::default(), participant, calls })
    }
}

impl DdsTransport {
    fn send_answer(&self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        let writer = declared(&self.answers, service)?;
        let (payload, question) = service::answer(to, data);
        let options = WriteOptionsBuilder::new().source_timestamp(Timestamp::now()).related_sample_identity(question).build();
        writer.write_with_options(payload, options).map(|_| ()).map_err(|e| write_error(service, e))
    }
}

impl Transport for DdsTransport {
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError> {
        let mut left = wait;
        loop {
            for answer in self.first_answers.take_due(&self.participant) {
                if let Err(error) = self.send_answer(&answer.service, answer.to, &answer.data) {
                    tracing::warn!(service = answer.service, %error, "an answer was not sent");
                }
            }
            let part = if self.first_answers.is_empty() { left } else { left.min(ANSWER_PERIOD) };
            left = left.saturating_sub(part);
            match self.inbox.take(part) {
                Some(received) => return Ok(received),
                None if left.is_zero() => return Ok(Received::Nothing),
                None => {}
            }
        }
    }

    /// Messages are little-endian, as `RosMessage::encode` gives them.
    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        let topic = publication.topic;
        let writer = declared(&self.publishers, topic)?;
        writer.write(Payload::of_message(publication.data), Some(Timestamp::now())).map_err(|e| write_error(topic, e))
    }

    fn reply(&mut self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        if self.first_answers.has_met(service, to) {
            return self.send_answer(service, to, data);
        }
        self.first_answers.push(service, to, data);
        Ok(())
    }

    /// In the way of Fast DDS, which a server of this crate understands; nodes on `rmw_cyclonedds_cpp` do not.
    fn call(&mut self, service: &str, data: &[u8]) -> Result<i64, TransportError> {
        let writer = declared(&self.calls, service)?;
        let options = WriteOptionsBuilder::new().source_timestamp(Timestamp::now()).build();
        let sent = writer.write_with_options(Payload::of_message(data), options).map_err(|e| write_error(service, e))?;
        Ok(sent.sequence_number.into())
    }

    fn now(&self) -> Stamp {
        system_now()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.inbox.status()
    }
}

fn write_error(topic: &str, error: WriteError<Payload>) -> TransportError {
    match error {
        WriteError::WouldBlock { .. } => TransportError::Full { topic: topic.to_owned() },
        other => failed(topic, other.to_string()),
    }
}

fn failed(what: impl Into<String>, reason: String) -> TransportError {
    TransportError::Dds { what: what.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_ros_does() {
        let read = |variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            DdsOptions::from_variables(get)
        };
        assert_eq!(read(&[]).unwrap(), DdsOptions::default());
        let humble = read(&[("ROS_DOMAIN_ID", "42"), ("ROS_LOCALHOST_ONLY", "1"), ("ROS_DISTRO", "humble")]).unwrap();
        assert_eq!(humble, DdsOptions { domain: 42, localhost_only: true, gid_bytes: 24 });
        let jazzy = read(&[("ROS_DOMAIN_ID", ""), ("ROS_AUTOMATIC_DISCOVERY_RANGE", "localhost"), ("ROS_DISTRO", "jazzy")]).unwrap();
        assert_eq!(jazzy, DdsOptions { domain: 0, localhost_only: true, gid_bytes: 16 });
        for wrong in ["-1", "233", "one"] {
            assert!(read(&[("ROS_DOMAIN_ID", wrong)]).unwrap_err().to_string().contains(wrong));
        }
    }
}
