//! Finding the segments of an MCAP file, from its summary or by a scan.

use super::chunk::read_chunk;
use super::record::{self, ChunkIndex, HEADER_BYTES, MESSAGE_HEADER_BYTES, Message, Statistics, op};
use super::{Channels, MAX_CHUNK_BYTES, Segment, SegmentKind, read_at, to_stamp};
use crate::ros::bag::report::ProblemKind;
use crate::sensor::Stamp;
use mcap::MAGIC;
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::ops::ControlFlow;

/// Content of a footer: where the summary and the summary offsets start, checksum.
const FOOTER_BYTES: u64 = 8 + 8 + 4;
/// Indices of millions of chunks fit in.
const MAX_SUMMARY_BYTES: u64 = 256 << 20;
/// A run of messages outside chunks is divided at this size, so that it can be read at once.
const RUN_BYTES: u64 = 4 << 20;

pub(super) struct Index {
    pub segments: Vec<Segment>,
    pub channels: Channels,
    /// Log time of the first and last message.
    pub time_range: Option<(Stamp, Stamp)>,
}

/// Why a file has to be scanned.
pub(super) enum NoIndex {
    /// It was written without, or not to its end; that is no damage of the summary.
    Absent,
    Damaged(String),
}

impl From<io::Error> for NoIndex {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Segments, channels and message counts from the summary, if it covers all messages.
pub(super) fn from_summary(file: &mut File, length: u64) -> Result<Index, NoIndex> {
    let damaged = |reason: &str| NoIndex::Damaged(reason.to_owned());
    let tail_bytes = HEADER_BYTES + FOOTER_BYTES + MAGIC.len() as u64;
    let footer_offset = length.checked_sub(tail_bytes).ok_or(NoIndex::Absent)?;
    let tail = read_at(file, footer_offset, tail_bytes)?;
    if !tail.ends_with(MAGIC) || tail[0] != op::FOOTER {
        return Err(NoIndex::Absent);
    }
    let start = record::summary_start(&tail[HEADER_BYTES as usize..]).ok_or(NoIndex::Absent)?;
    if start == 0 {
        return Err(NoIndex::Absent);
    }
    let summary_bytes = length.checked_sub(start).filter(|n| (tail_bytes..=MAX_SUMMARY_BYTES).contains(n));
    let summary = read_at(file, start, summary_bytes.ok_or_else(|| damaged("its place is outside the file"))?)?;

    let mut channels = Channels::default();
    let mut chunks = Vec::new();
    let mut statistics = None;
    for_each_summary_record(&summary, |opcode, content| {
        match opcode {
            op::SCHEMA | op::CHANNEL => channels.describe(opcode, content)?,
            op::CHUNK_INDEX => chunks.push(ChunkIndex::parse(content).ok_or("not a valid chunk index")?),
            op::STATISTICS => statistics = Some(Statistics::parse(content).ok_or("not valid statistics")?),
            _ => {}
        }
        Ok(())
    })
    .map_err(NoIndex::Damaged)?;

    let statistics = statistics.ok_or(NoIndex::Absent)?;
    for (id, count) in &statistics.channel_message_counts {
        channels.by_id.get_mut(id).ok_or(NoIndex::Absent)?.messages = *count;
    }
    // Optional parts that the writer left out: then only a scan tells what is in the file.
    let counted = channels.by_id.values().fold(0u64, |sum, c| sum.saturating_add(c.messages));
    if chunks.len() as u64 != u64::from(statistics.chunk_count) || counted != statistics.message_count {
        return Err(NoIndex::Absent);
    }
    chunks.sort_by_key(|c| c.chunk_start_offset);
    check_coverage(&mut BufReader::new(file), &chunks, start)?;
    let time_range = (to_stamp(statistics.message_start_time), to_stamp(statistics.message_end_time));
    let segments = chunks.iter().map(segment_of_index).collect();
    Ok(Index { segments, channels, time_range: (statistics.message_count > 0).then_some(time_range) })
}

/// Lets `mcap` verify the checksum and split the records of a summary (with footer and magic), none of which it interprets.
fn for_each_summary_record(summary: &[u8], mut record: impl FnMut(u8, &[u8]) -> Result<(), &'static str>) -> Result<(), String> {
    let options = LinearReaderOptions::default()
        .with_skip_start_magic(true)
        .with_emit_chunks(true)
        .with_validate_summary_section_crc(true)
        .with_record_length_limit(summary.len());
    let mut reader = LinearReader::new_with_options(options);
    // The checksum counts from the end of the data section: from a data end record, here one without a checksum of its own.
    let data_end = [&[op::DATA_END][..], &4u64.to_le_bytes(), &[0; 4]].concat();
    let mut input = [&data_end[..], summary];
    while let Some(event) = reader.next_event() {
        match event.map_err(|e| e.to_string())? {
            LinearReadEvent::Record { opcode, data } => record(opcode, data)?,
            LinearReadEvent::ReadRequest(wanted) => {
                let part = input.iter_mut().find(|part| !part.is_empty()).ok_or("it ends inside a record")?;
                let (given, rest) = part.split_at(wanted.min(part.len()));
                reader.insert(given.len()).copy_from_slice(given);
                reader.notify_read(given.len());
                *part = rest;
            }
        }
    }
    Ok(())
}

/// Whether all messages are in indexed chunks: looks at what lies between these, which is usually next to nothing.
fn check_coverage(file: &mut BufReader<&mut File>, chunks: &[ChunkIndex], summary_start: u64) -> Result<(), NoIndex> {
    let damaged = |c: &ChunkIndex| NoIndex::Damaged(format!("the index has a chunk at byte {} where none can be", c.chunk_start_offset));
    let mut position = MAGIC.len() as u64;
    for chunk in chunks {
        check_gap(file, position, chunk.chunk_start_offset)?;
        let fits = chunk.chunk_start_offset >= position && chunk.chunk_length > HEADER_BYTES;
        let end = chunk.chunk_start_offset.checked_add(chunk.chunk_length).and_then(|end| end.checked_add(chunk.message_index_length));
        position = end.filter(|&end| fits && end <= summary_start).ok_or_else(|| damaged(chunk))?;
    }
    check_gap(file, position, summary_start)
}

fn check_gap(file: &mut BufReader<&mut File>, start: u64, end: u64) -> Result<(), NoIndex> {
    let mut covered = true;
    let cut = walk(file, start, end, |_, header| {
        covered &= !matches!(header.opcode, op::CHUNK | op::MESSAGE);
        Ok(if covered { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    match cut {
        Some(offset) => Err(NoIndex::Damaged(format!("what is not indexed before byte {end} is no record at byte {offset}"))),
        None if covered => Ok(()),
        None => Err(NoIndex::Absent),
    }
}

fn segment_of_index(chunk: &ChunkIndex) -> Segment {
    Segment {
        kind: SegmentKind::Chunk,
        offset: chunk.chunk_start_offset + HEADER_BYTES,
        length: chunk.chunk_length - HEADER_BYTES,
        start: to_stamp(chunk.message_start_time),
        end: to_stamp(chunk.message_end_time),
        channels: (!chunk.channels.is_empty()).then(|| chunk.channels.clone()),
    }
}

/// Segments, channels and message counts from reading all of the file.
pub(super) fn scan(file: &mut File, length: u64, add: &mut dyn FnMut(ProblemKind)) -> io::Result<Index> {
    let mut scan = Scan { segments: Vec::new(), channels: Channels::default(), problems: Vec::new() };
    let mut ended = false;
    let walked = walk(&mut BufReader::new(file), MAGIC.len() as u64, length, |file, header| {
        match header.opcode {
            op::DATA_END | op::FOOTER => {
                ended = true;
                return Ok(ControlFlow::Break(()));
            }
            op::CHUNK => scan.chunk(file, header)?,
            op::MESSAGE => scan.message(file, header)?,
            op::SCHEMA | op::CHANNEL => scan.description(file, header)?,
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    scan.problems.into_iter().for_each(&mut *add);
    match walked {
        Some(offset) => add(ProblemKind::Truncated { offset }),
        None if !ended => add(ProblemKind::NoEnd { offset: length }),
        None => {}
    }
    let ranges = scan.segments.iter().map(|s| (s.start, s.end));
    let time_range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    Ok(Index { segments: scan.segments, channels: scan.channels, time_range })
}

/// A record's place, from its opcode on.
struct RecordHeader {
    opcode: u8,
    /// Of the content.
    offset: u64,
    /// Of the content, as far as it is there.
    length: u64,
    /// The file ends inside the content.
    cut: bool,
}

/// Visits the headers of the records from `start` to `end`. Returns where a record begins that is not there in full.
fn walk<R: Read + Seek>(
    file: &mut BufReader<R>,
    start: u64,
    end: u64,
    mut visit: impl FnMut(&mut BufReader<R>, &RecordHeader) -> io::Result<ControlFlow<()>>,
) -> io::Result<Option<u64>> {
    let mut position = start;
    while position < end {
        let Some(room) = (end - position).checked_sub(HEADER_BYTES) else { return Ok(Some(position)) };
        let mut bytes = [0; HEADER_BYTES as usize];
        seek(file, position)?;
        file.read_exact(&mut bytes)?;
        let [opcode, length @ ..] = bytes;
        let length = u64::from_le_bytes(length);
        let header = RecordHeader { opcode, offset: position + HEADER_BYTES, length: length.min(room), cut: length > room };
        if visit(file, &header)?.is_break() {
            return Ok(None);
        }
        if header.cut {
            return Ok(Some(position));
        }
        position = header.offset + header.length;
    }
    Ok(None)
}

/// Like `Seek::seek`, but keeps what is buffered where that is enough.
fn seek<R: Read + Seek>(file: &mut BufReader<R>, position: u64) -> io::Result<()> {
    let here = file.stream_position()?;
    file.seek_relative(position.wrapping_sub(here) as i64)
}

struct Scan {
    segments: Vec<Segment>,
    channels: Channels,
    problems: Vec<ProblemKind>,
}

impl Scan {
    fn chunk<R: Read + Seek>(&mut self, file: &mut BufReader<R>, header: &RecordHeader) -> io::Result<()> {
        if header.length > MAX_CHUNK_BYTES {
            let reason = format!("{} bytes are more than the {MAX_CHUNK_BYTES} that are read", header.length);
            self.problems.push(ProblemKind::Chunk { offset: header.offset, reason });
            return Ok(());
        }
        let content = read_at(file, header.offset, header.length)?;
        let mut times: Option<(Stamp, Stamp)> = None;
        let mut present = Vec::new();
        let mut bad_description = None;
        let result = read_chunk(&content, header.cut, |opcode, content| {
            if let Err(reason) = self.channels.describe(opcode, content) {
                bad_description = Some((opcode, reason));
            }
            if let Some(message) = (opcode == op::MESSAGE).then(|| Message::parse(content)).flatten() {
                let stamp = to_stamp(message.log_time);
                times = Some(times.map_or((stamp, stamp), |(start, end)| (start.min(stamp), end.max(stamp))));
                present.push(message.channel_id);
                count(&mut self.channels, message.channel_id);
            }
        });
        if let Some((opcode, reason)) = bad_description {
            self.problems.push(ProblemKind::Record { offset: header.offset, opcode, reason: reason.to_owned() });
        }
        if let Err(reason) = result {
            self.problems.push(ProblemKind::Chunk { offset: header.offset, reason });
        }
        present.sort_unstable();
        present.dedup();
        if let Some((start, end)) = times {
            let kind = if header.cut { SegmentKind::CutChunk } else { SegmentKind::Chunk };
            self.segments.push(Segment { kind, offset: header.offset, length: header.length, start, end, channels: Some(present) });
        }
        Ok(())
    }

    fn message<R: Read + Seek>(&mut self, file: &mut BufReader<R>, header: &RecordHeader) -> io::Result<()> {
        if header.cut {
            return Ok(());
        }
        seek(file, header.offset)?;
        let mut bytes = Vec::with_capacity(MESSAGE_HEADER_BYTES);
        file.take(header.length.min(MESSAGE_HEADER_BYTES as u64)).read_to_end(&mut bytes)?;
        let Some(message) = Message::parse(&bytes) else {
            self.problems.push(ProblemKind::Record {
                offset: header.offset,
                opcode: header.opcode,
                reason: "not a valid message".to_owned(),
            });
            return Ok(());
        };
        count(&mut self.channels, message.channel_id);
        let stamp = to_stamp(message.log_time);
        let (start, end) = (header.offset - HEADER_BYTES, header.offset + header.length);
        let run = self.segments.last_mut().filter(|s| s.kind == SegmentKind::Run && end - s.offset <= RUN_BYTES);
        if let Some(run) = run {
            // Other records may lie between the run's end and this one; they are part of it then, and passed over.
            run.length = end - run.offset;
            run.start = run.start.min(stamp);
            run.end = run.end.max(stamp);
            if let Some(channels) = run.channels.as_mut().filter(|ids| !ids.contains(&message.channel_id)) {
                channels.push(message.channel_id);
            }
        } else {
            let channels = Some(vec![message.channel_id]);
            self.segments.push(Segment { kind: SegmentKind::Run, offset: start, length: end - start, start: stamp, end: stamp, channels });
        }
        Ok(())
    }

    fn description<R: Read + Seek>(&mut self, file: &mut BufReader<R>, header: &RecordHeader) -> io::Result<()> {
        if header.cut {
            return Ok(());
        }
        let content = read_at(file, header.offset, header.length)?;
        if let Err(reason) = self.channels.describe(header.opcode, &content) {
            self.problems.push(ProblemKind::Record { offset: header.offset, opcode: header.opcode, reason: reason.to_owned() });
        }
        Ok(())
    }
}

/// Messages of channels that nobody describes are reported when they are read.
fn count(channels: &mut Channels, id: u16) {
    if let Some(channel) = channels.by_id.get_mut(&id) {
        channel.messages += 1;
    }
}
