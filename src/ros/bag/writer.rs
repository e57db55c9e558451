//! Writing a bag: one MCAP file as rosbag2's own MCAP storage writes it.

use super::report::BagError;
use crate::ros::msg::RosMessage;
use crate::sensor::Stamp;
use mcap::records::MessageHeader;
use mcap::{Compression, WriteOptions, Writer};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkCompression {
    None,
    #[default]
    Zstd,
}

/// Writes messages to a temporary file beside the target, which `finish` renames; dropped before that, nothing remains.
pub struct BagWriter {
    path: PathBuf,
    writer: Writer<BufWriter<NamedTempFile>>,
    channels: HashMap<String, Channel>,
}

struct Channel {
    id: u16,
    type_name: String,
    messages: u32,
}

impl BagWriter {
    /// A bag of zstd-compressed chunks at `path`, replacing what is there when it is finished.
    pub fn create(path: &Path) -> Result<Self, BagError> {
        Self::create_with(path, ChunkCompression::default())
    }

    pub fn create_with(path: &Path, compression: ChunkCompression) -> Result<Self, BagError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut options = tempfile::Builder::new();
        // Readable as any other new file; without this only by the owner.
        options.prefix(".lidar_ptq-").suffix(".mcap.tmp").permissions(fs::Permissions::from_mode(0o666));
        let file = options.tempfile_in(folder).map_err(|source| BagError::Io { path: path.to_owned(), source })?;
        let writer = WriteOptions::new()
            .profile("ros2")
            .library(concat!("lidar_ptq ", env!("CARGO_PKG_VERSION")))
            .compression(match compression {
                ChunkCompression::None => None,
                ChunkCompression::Zstd => Some(Compression::Zstd),
            })
            .compression_threads(0)
            .create(BufWriter::new(file))
            .map_err(|source| BagError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), writer, channels: HashMap::new() })
    }

    /// Appends a message with `stamp` as its log time. The topic is made at its first message.
    pub fn write<M: RosMessage>(&mut self, topic: &str, stamp: Stamp, message: &M) -> Result<(), BagError> {
        self.write_raw(topic, M::TYPE, M::DEFINITION, stamp, &message.encode())
    }

    /// Appends a message that is already CDR; `definition` as in `RosMessage::DEFINITION`, empty if not known.
    pub fn write_raw(&mut self, topic: &str, type_name: &str, definition: &str, stamp: Stamp, data: &[u8]) -> Result<(), BagError> {
        if !self.channels.contains_key(topic) {
            let channel = self.add_channel(topic, type_name, definition).map_err(|source| self.write_error(source))?;
            self.channels.insert(topic.to_owned(), channel);
        }
        let Some(channel) = self.channels.get_mut(topic).filter(|c| c.type_name == type_name) else {
            let is = self.channels.get(topic).map(|c| c.type_name.clone()).unwrap_or_default();
            return Err(BagError::TopicType { path: self.path.clone(), topic: topic.to_owned(), is, wanted: type_name.to_owned() });
        };
        channel.messages = channel.messages.wrapping_add(1);
        // MCAP counts from the epoch; a simulation may start before it, at 0 is then the closest.
        let log_time = u64::try_from(stamp.0).unwrap_or(0);
        let header = MessageHeader { channel_id: channel.id, sequence: channel.messages, log_time, publish_time: log_time };
        self.writer.write_to_known_channel(&header, data).map_err(|source| self.write_error(source))
    }

    /// Writes index and statistics and puts the file in its place.
    pub fn finish(mut self) -> Result<(), BagError> {
        self.writer.finish().map_err(|source| self.write_error(source))?;
        let fail = |source| BagError::Io { path: self.path.clone(), source };
        let file = self.writer.into_inner().into_inner().map_err(|e| fail(e.into_error()))?;
        file.as_file().sync_all().map_err(fail)?;
        file.persist(&self.path).map_err(|e| fail(e.error))?;
        Ok(())
    }

    fn add_channel(&mut self, topic: &str, type_name: &str, definition: &str) -> mcap::McapResult<Channel> {
        let schema = self.writer.add_schema(type_name, "ros2msg", definition.as_bytes())?;
        let metadata = BTreeMap::from([("offered_qos_profiles".to_owned(), offered_qos_profiles(topic))]);
        let id = self.writer.add_channel(schema, topic, "cdr", &metadata)?;
        Ok(Channel { id, type_name: type_name.to_owned(), messages: 0 })
    }

    fn write_error(&self, source: mcap::McapError) -> BagError {
        BagError::Write { path: self.path.clone(), source }
    }
}

/// What `ros2 bag play` publishes the topic with, in rosbag2's YAML with the numbers of `rmw/types.h`: keep last 10, reliable,
/// and transient local (1) for static transforms, which late joiners must get, volatile (2) for all else.
/// The durations are rmw's infinite one.
fn offered_qos_profiles(topic: &str) -> String {
    let durability = if topic.ends_with("/tf_static") { 1 } else { 2 };
    let infinite = "    sec: 9223372036\n    nsec: 854775807\n";
    format!(
        "- history: 1\n  depth: 10\n  reliability: 1\n  durability: {durability}\n  deadline:\n{infinite}  lifespan:\n{infinite}  \
         liveliness: 1\n  liveliness_lease_duration:\n{infinite}  avoid_ros_namespace_conventions: false"
    )
}
