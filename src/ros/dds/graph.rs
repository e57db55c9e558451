//! How other nodes learn which DDS endpoints make up this node (`ros2 node list`, `ros2 node info`).

use super::qos;
use super::raw::{Payload, RawWriter};
use crate::ros::cdr::{Cdr, CdrWriter, Endian};
use crate::ros::names::NodeName;
use rustdds::{DomainParticipant, GUID, Publisher, RTPSEntity, TopicKind};

const TOPIC: &str = "ros_discovery_info";
const TYPE: &str = "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_";

/// Tells of one node in one participant.
pub(super) struct Graph {
    writer: RawWriter,
    participant: GUID,
    node: NodeName,
    gid_bytes: usize,
}

impl Graph {
    /// `gid_bytes`: 24 up to Humble, 16 since Iron.
    pub(super) fn new(participant: &DomainParticipant, publisher: &Publisher, node: NodeName, gid_bytes: usize) -> Result<Self, String> {
        let topic = participant.create_topic(TOPIC.into(), TYPE.into(), &qos::graph(), TopicKind::NoKey).map_err(|e| e.to_string())?;
        let writer = publisher.create_datawriter_no_key(&topic, Some(qos::graph())).map_err(|e| e.to_string())?;
        Ok(Self { writer, participant: participant.guid(), node, gid_bytes })
    }

    pub(super) fn announce(&self, readers: &[GUID], writers: &[GUID]) {
        let mut message = CdrWriter::new(Endian::Little);
        self.gid(self.participant, &mut message);
        1u32.write(&mut message);
        self.node.namespace().to_owned().write(&mut message);
        self.node.base().to_owned().write(&mut message);
        for gids in [readers, writers] {
            (gids.len() as u32).write(&mut message);
            gids.iter().for_each(|gid| self.gid(*gid, &mut message));
        }
        self.send(message);
    }

    /// The node goes.
    pub(super) fn withdraw(&self) {
        let mut message = CdrWriter::new(Endian::Little);
        self.gid(self.participant, &mut message);
        0u32.write(&mut message);
        self.send(message);
    }

    fn gid(&self, gid: GUID, message: &mut CdrWriter) {
        let mut bytes = gid.to_bytes().to_vec();
        bytes.resize(self.gid_bytes, 0);
        bytes.iter().for_each(|b| b.write(message));
    }

    fn send(&self, message: CdrWriter) {
        let bytes = message.finish();
        if let Err(error) = self.writer.write(Payload::of_message(&bytes), None) {
            tracing::debug!(%error, "the node could not be announced");
        }
    }
}
