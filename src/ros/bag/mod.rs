//! Recorded bags: rosbag2 folders and single files, MCAP and SQLite, compressed or not.
//!
//! ```no_run
//! use lidar_ptq::ros::bag::{BagReader, Selection};
//! let mut bag = BagReader::open("drive".as_ref())?;
//! bag.select(Selection::topics(["/points"]));
//! for message in &mut bag {
//!     println!("{} {} {} bytes", message.stamp.as_secs_f64(), message.topic, message.data.len());
//! }
//! for problem in bag.report().problems() {
//!     eprintln!("{problem}");
//! }
//! # Ok::<(), lidar_ptq::ros::bag::BagError>(())
//! ```

mod mcap;
mod metadata;
mod report;
mod sqlite;
mod unpack;
mod writer;

pub use report::{BagError, Problem, ProblemKind, Report};
pub use writer::{BagWriter, ChunkCompression};

use crate::sensor::Stamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// A message as it was recorded: CDR with encapsulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    pub topic: Arc<str>,
    /// Such as `sensor_msgs/msg/PointCloud2`; empty if the bag does not tell.
    pub type_name: Arc<str>,
    /// When it was recorded (log time). The time of measurement is in the message's own header.
    pub stamp: Stamp,
    pub data: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Arc<str>,
    pub type_name: Arc<str>,
    /// Messages, as the bag's own statistics say where it has them.
    pub count: u64,
}

/// Which messages to read. The default is all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    topics: Option<HashSet<String>>,
    start: Option<Stamp>,
    end: Option<Stamp>,
}

impl Selection {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn topics<S: Into<String>>(topics: impl IntoIterator<Item = S>) -> Self {
        Self { topics: Some(topics.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Only messages logged at `start` or later.
    pub fn from(self, start: Stamp) -> Self {
        Self { start: Some(start), ..self }
    }

    /// Only messages logged before `end`.
    pub fn until(self, end: Stamp) -> Self {
        Self { end: Some(end), ..self }
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    fn has_time(&self, stamp: Stamp) -> bool {
        self.overlaps(stamp, stamp)
    }

    /// Whether any time in `first..=last` is selected.
    fn overlaps(&self, first: Stamp, last: Stamp) -> bool {
        self.start.is_none_or(|start| last >= start) && self.end.is_none_or(|end| first < end)
    }
}

/// One storage file, giving its selected messages in time order.
trait BagFile: Send {
    fn topics(&self) -> Vec<TopicInfo>;

    /// First and last log time; `None` without messages.
    fn time_range(&self) -> Option<(Stamp, Stamp)>;

    /// Starts over with another selection.
    fn select(&mut self, selection: &Selection);

    fn next_message(&mut self, report: &mut Report) -> Option<RawMessage>;
}

/// Reads a bag in time order of recording, over all of its files.
///
/// Memory: the compressed and decompressed bytes of one chunk for each file whose time has come, and the selected messages
/// of chunks that overlap in time, at most a gigabyte a file (beyond that they come out of order, and the report says so).
/// The index takes about 100 bytes a chunk. Files compressed as a whole are decompressed to `TMPDIR`.
pub struct BagReader {
    sources: Vec<Source>,
    /// A lower bound of each unfinished file's next time, earliest first.
    queue: BinaryHeap<Reverse<(Stamp, usize)>>,
    last: Option<Stamp>,
    report: Report,
}

struct Source {
    path: PathBuf,
    file: Box<dyn BagFile>,
    /// Read and waiting for its turn.
    head: Option<RawMessage>,
    /// Keeps the decompressed file alive. After `file`, so that it is closed first.
    _unpacked: Option<TempPath>,
}

impl BagReader {
    /// Opens a rosbag2 folder, a `.mcap`, a `.db3`, or one of these compressed with zstd; what a file is, its first bytes tell.
    ///
    /// # Errors
    /// If nothing of it can be opened. Damage that leaves something readable is in `report` instead.
    pub fn open(path: &Path) -> Result<Self, BagError> {
        let mut report = Report::default();
        let sources = if path.is_dir() { open_folder(path, &mut report)? } else { vec![open_file(path, &mut report)?] };
        let mut bag = Self { sources, queue: BinaryHeap::new(), last: None, report };
        bag.select(Selection::all());
        Ok(bag)
    }

    /// All topics of the bag whose messages are CDR, by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        let mut topics: BTreeMap<Arc<str>, TopicInfo> = BTreeMap::new();
        for topic in self.sources.iter().flat_map(|s| s.file.topics()) {
            match topics.get_mut(&topic.name) {
                Some(known) => known.count = known.count.saturating_add(topic.count),
                None => _ = topics.insert(topic.name.clone(), topic),
            }
        }
        topics.into_values().collect()
    }

    /// First and last log time; `None` without messages.
    pub fn time_range(&self) -> Option<(Stamp, Stamp)> {
        let ranges = self.sources.iter().filter_map(|s| s.file.time_range());
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Starts over: the iterator gives the selected messages from their first on.
    pub fn select(&mut self, selection: Selection) {
        self.queue.clear();
        self.last = None;
        for (i, source) in self.sources.iter_mut().enumerate() {
            source.head = None;
            source.file.select(&selection);
            if let Some((first, last)) = source.file.time_range()
                && selection.overlaps(first, last)
            {
                self.queue.push(Reverse((first.max(selection.start.unwrap_or(first)), i)));
            }
        }
    }

    /// What could not be read so far; complete when the iterator has ended.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl Iterator for BagReader {
    type Item = RawMessage;

    fn next(&mut self) -> Option<RawMessage> {
        while let Some(Reverse((time, i))) = self.queue.pop() {
            let source = &mut self.sources[i];
            let Some(mut message) = source.head.take() else {
                // Only its lower bound was known. Now its next message is, and may have to wait for other files.
                source.head = source.file.next_message(&mut self.report);
                self.queue.extend(source.head.as_ref().map(|m| Reverse((m.stamp, i))));
                continue;
            };
            self.queue.push(Reverse((time, i)));
            if self.last.is_some_and(|last| message.stamp < last) {
                self.report.add(Problem { file: source.path.clone(), kind: ProblemKind::OutOfOrder });
            }
            self.last = Some(message.stamp);
            match unpack::unpack_message(message.data) {
                Ok(data) => {
                    message.data = data;
                    return Some(message);
                }
                Err(reason) => {
                    let kind = ProblemKind::Message { topic: message.topic.to_string(), stamp_ns: message.stamp.0, reason };
                    self.report.add(Problem { file: source.path.clone(), kind });
                }
            }
        }
        None
    }
}

fn open_folder(folder: &Path, report: &mut Report) -> Result<Vec<Source>, BagError> {
    let mut sources = Vec::new();
    let mut first_error = None;
    for path in metadata::bag_files(folder, report)? {
        match open_file(&path, report) {
            Ok(source) => sources.push(source),
            Err(error) => {
                report.add(Problem { file: path, kind: ProblemKind::Unopened { reason: error.to_string() } });
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if sources.is_empty() => Err(error),
        _ => Ok(sources),
    }
}

fn open_file(path: &Path, report: &mut Report) -> Result<Source, BagError> {
    let start = first_bytes(path)?;
    if !start.starts_with(&unpack::ZSTD_MAGIC) {
        let file = open_storage(path, path, &start, report)?;
        return Ok(Source { path: path.to_owned(), file, head: None, _unpacked: None });
    }
    let (unpacked, damage) = unpack::unpack_file(path)?;
    if let Some(reason) = damage {
        report.add(Problem { file: path.to_owned(), kind: ProblemKind::Decompression { reason } });
    }
    let unpacked = unpacked.into_temp_path();
    let file = open_storage(&unpacked, path, &first_bytes(&unpacked)?, report)?;
    Ok(Source { path: path.to_owned(), file, head: None, _unpacked: Some(unpacked) })
}

/// `path` is where the bytes are, `name` what errors call the file.
fn open_storage(path: &Path, name: &Path, start: &[u8], report: &mut Report) -> Result<Box<dyn BagFile>, BagError> {
    if start.starts_with(::mcap::MAGIC) {
        Ok(Box::new(mcap::McapFile::open(path, name, report)?))
    } else if start.starts_with(sqlite::MAGIC) {
        Ok(Box::new(sqlite::SqliteFile::open(path, name, report)?))
    } else if start.is_empty() {
        Err(BagError::EmptyFile { path: name.to_owned() })
    } else {
        Err(BagError::UnknownFormat { path: name.to_owned(), start: start.to_vec() })
    }
}

fn first_bytes(path: &Path) -> Result<Vec<u8>, BagError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|f| f.take(sqlite::MAGIC.len() as u64).read_to_end(&mut start));
    read.map_err(|source| BagError::Io { path: path.to_owned(), source })?;
    Ok(start)
}
