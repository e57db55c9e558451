//! Reading one MCAP file, in time order and in parts.
//!
//! The file is a list of segments: chunks, and runs of messages outside chunks. Their places and times come from the
//! summary's index, or, where there is none that covers the file, from one scan of all of it.

mod chunk;
mod index;
mod record;

use super::report::{BagError, Problem, ProblemKind, Report};
use super::{BagFile, RawMessage, Selection, TopicInfo};
use crate::sensor::Stamp;
use chunk::{MAX_CHUNK_BYTES, read_chunk};
use record::{Message, Records, op};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Messages that wait because segments overlap in time take no more memory than this.
const MAX_PENDING_BYTES: usize = 1 << 30;

pub(super) struct McapFile {
    /// As errors call it.
    name: PathBuf,
    file: File,
    channels: Channels,
    /// Sorted by time of their first message.
    segments: Vec<Segment>,
    time_range: Option<(Stamp, Stamp)>,
    selection: Selection,
    next_segment: usize,
    pending: BinaryHeap<Reverse<Pending>>,
    pending_bytes: usize,
}

/// Part of the file with messages in it.
#[derive(Clone, Debug)]
struct Segment {
    kind: SegmentKind,
    /// Of the chunk's content or of the first record, bytes from the start of the file.
    offset: u64,
    length: u64,
    /// Log time of the first and last message.
    start: Stamp,
    end: Stamp,
    /// Channels with messages in it; `None` if not known.
    channels: Option<Vec<u16>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentKind {
    Chunk,
    /// A chunk inside which the file ends.
    CutChunk,
    /// Messages outside chunks.
    Run,
}

/// A message read and waiting for its turn; ordered by time, then by place in the file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    stamp: Stamp,
    segment_offset: u64,
    place: usize,
    channel: u16,
    data: Vec<u8>,
}

impl Pending {
    /// Memory that it takes. Many messages without data are many of these.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.data.len()
    }
}

/// The channels of a file, by their id.
#[derive(Default)]
struct Channels {
    schema_names: HashMap<u16, Arc<str>>,
    by_id: BTreeMap<u16, ChannelInfo>,
}

struct ChannelInfo {
    topic: Arc<str>,
    schema_id: u16,
    encoding: String,
    messages: u64,
}

impl Channels {
    /// Takes note of a schema or channel record; says what is wrong with it. The first description of an id holds.
    fn describe(&mut self, opcode: u8, content: &[u8]) -> Result<(), &'static str> {
        if opcode == op::SCHEMA {
            let schema = record::Schema::parse(content).ok_or("not a valid schema")?;
            self.schema_names.entry(schema.id).or_insert_with(|| schema.name.into());
        } else if opcode == op::CHANNEL {
            let channel = record::Channel::parse(content).ok_or("not a valid channel")?;
            let known = self.by_id.entry(channel.id).or_insert_with(|| ChannelInfo {
                topic: channel.topic.as_str().into(),
                schema_id: channel.schema_id,
                encoding: channel.message_encoding,
                messages: 0,
            });
            if *known.topic != channel.topic {
                return Err("a second channel with an id already taken");
            }
        }
        Ok(())
    }

    fn type_name(&self, channel: &ChannelInfo) -> Arc<str> {
        self.schema_names.get(&channel.schema_id).cloned().unwrap_or_default()
    }
}

impl McapFile {
    /// `path` is where the bytes are, `name` what errors call the file.
    pub fn open(path: &Path, name: &Path, report: &mut Report) -> Result<Self, BagError> {
        let fail = |source| BagError::Io { path: name.to_owned(), source };
        let mut file = File::open(path).map_err(fail)?;
        let length = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let mut add = |kind| report.add(Problem { file: name.to_owned(), kind });
        let mut index = match index::from_summary(&mut file, length) {
            Ok(index) => index,
            Err(no_index) => {
                if let index::NoIndex::Damaged(reason) = no_index {
                    add(ProblemKind::Summary { reason });
                }
                index::scan(&mut file, length, &mut add).map_err(fail)?
            }
        };
        for channel in index.channels.by_id.values().filter(|c| c.encoding != "cdr") {
            add(ProblemKind::Encoding { topic: channel.topic.to_string(), encoding: channel.encoding.clone() });
        }
        index.segments.sort_by_key(|s| (s.start, s.offset));
        Ok(Self {
            name: name.to_owned(),
            file,
            channels: index.channels,
            segments: index.segments,
            time_range: index.time_range,
            selection: Selection::all(),
            next_segment: 0,
            pending: BinaryHeap::new(),
            pending_bytes: 0,
        })
    }

    fn is_selected(&self, segment: &Segment) -> bool {
        let has_channel = |id: &u16| {
            let channel = self.channels.by_id.get(id);
            channel.is_none_or(|c| self.selection.has_topic(&c.topic))
        };
        self.selection.overlaps(segment.start, segment.end) && segment.channels.as_ref().is_none_or(|ids| ids.iter().any(has_channel))
    }

    /// Reads the selected messages of a segment into `pending`.
    fn load(&mut self, segment: &Segment, report: &mut Report) {
        let mut add = |kind| report.add(Problem { file: self.name.clone(), kind });
        let content = match read_at(&mut self.file, segment.offset, segment.length) {
            Ok(content) => content,
            Err(error) => return add(ProblemKind::Io { reason: error.to_string() }),
        };
        let mut place = 0;
        let mut unknown = Vec::new();
        let mut record = |opcode: u8, content: &[u8]| {
            place += 1;
            // Descriptions that do not fit have been reported when the file was opened, unless its summary lacks them.
            let _ = self.channels.describe(opcode, content);
            let Some(message) = (opcode == op::MESSAGE).then(|| Message::parse(content)).flatten() else { return };
            let Some(channel) = self.channels.by_id.get(&message.channel_id) else { return unknown.push(message.channel_id) };
            let stamp = to_stamp(message.log_time);
            if channel.encoding == "cdr" && self.selection.has_topic(&channel.topic) && self.selection.has_time(stamp) {
                let (channel, data) = (message.channel_id, message.data.to_vec());
                let message = Pending { stamp, segment_offset: segment.offset, place, channel, data };
                self.pending_bytes += message.bytes();
                self.pending.push(Reverse(message));
            }
        };
        let result = match segment.kind {
            SegmentKind::Run => {
                Records(&content).for_each(|(opcode, content)| record(opcode, content));
                Ok(())
            }
            SegmentKind::Chunk => read_chunk(&content, false, record),
            SegmentKind::CutChunk => read_chunk(&content, true, record),
        };
        if let Err(reason) = result {
            add(ProblemKind::Chunk { offset: segment.offset, reason });
        }
        unknown.dedup();
        unknown.into_iter().for_each(|channel| add(ProblemKind::UnknownChannel { channel }));
    }
}

impl BagFile for McapFile {
    fn topics(&self) -> Vec<TopicInfo> {
        let cdr = self.channels.by_id.values().filter(|c| c.encoding == "cdr");
        cdr.map(|c| TopicInfo { name: c.topic.clone(), type_name: self.channels.type_name(c), count: c.messages }).collect()
    }

    fn time_range(&self) -> Option<(Stamp, Stamp)> {
        self.time_range
    }

    fn select(&mut self, selection: &Selection) {
        self.selection = selection.clone();
        self.next_segment = 0;
        self.pending.clear();
        self.pending_bytes = 0;
    }

    fn next_message(&mut self, report: &mut Report) -> Option<RawMessage> {
        // A message's turn has come when no segment that is still to be read can hold an earlier one.
        while let Some(segment) = self.segments.get(self.next_segment) {
            let earliest = self.pending.peek().map(|Reverse(p)| p.stamp);
            if earliest.is_some_and(|stamp| stamp < segment.start || self.pending_bytes > MAX_PENDING_BYTES) {
                break;
            }
            self.next_segment += 1;
            if self.is_selected(segment) {
                let segment = segment.clone();
                self.load(&segment, report);
            }
        }
        let Reverse(message) = self.pending.pop()?;
        self.pending_bytes -= message.bytes();
        let channel = self.channels.by_id.get(&message.channel)?;
        let type_name = self.channels.type_name(channel);
        Some(RawMessage { topic: channel.topic.clone(), type_name, stamp: message.stamp, data: message.data })
    }
}

/// Log times beyond the year 2262 are clamped to it.
fn to_stamp(log_time: u64) -> Stamp {
    Stamp(i64::try_from(log_time).unwrap_or(i64::MAX))
}

/// `length` bytes that the caller knows to be within the file; refused above `MAX_CHUNK_BYTES`.
fn read_at(file: &mut (impl Read + Seek), offset: u64, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_CHUNK_BYTES {
        return Err(io::Error::other(format!(
            "a record of {length} bytes at byte {offset} is larger than the {MAX_CHUNK_BYTES} that are read"
        )));
    }
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
