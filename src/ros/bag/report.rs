//! What is wrong with a bag: errors that end the reading, and problems that only cost a part of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a bag cannot be read or written at all.
#[derive(Debug, thiserror::Error)]
pub enum BagError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is empty; expected a bag (MCAP, SQLite, or a zstd file of either)", path.display())]
    EmptyFile { path: PathBuf },
    #[error("{}: neither MCAP nor SQLite nor a zstd file of either; it starts with {start:02x?}", path.display())]
    UnknownFormat { path: PathBuf, start: Vec<u8> },
    #[error("{}: no bag files (.mcap, .db3, or these with .zstd) in this folder", path.display())]
    EmptyFolder { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{}: not a rosbag2 database: it has no table `{table}`", path.display())]
    NotRosbag { path: PathBuf, table: &'static str },
    #[error("{}: compressed with `{format}`, only zstd is known; decompress it with `ros2 bag convert`", path.display())]
    Compression { path: PathBuf, format: String },
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: mcap::McapError },
    #[error("{}: topic {topic} is {is} and cannot also be {wanted}", path.display())]
    TopicType { path: PathBuf, topic: String, is: String, wanted: String },
}

/// A part of a bag that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.kind)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    #[error("the file ends inside the record at byte {offset}; what comes before it was read")]
    Truncated { offset: u64 },
    #[error("the file ends at byte {offset} without an end record; it may be incomplete")]
    NoEnd { offset: u64 },
    #[error("record 0x{opcode:02x} at byte {offset}: {reason}")]
    Record { offset: u64, opcode: u8, reason: String },
    #[error("chunk at byte {offset}: {reason}")]
    Chunk { offset: u64, reason: String },
    #[error("the summary is not usable ({reason}); the whole file was scanned instead")]
    Summary { reason: String },
    #[error("messages of channel {channel}, which is not described, were skipped")]
    UnknownChannel { channel: u16 },
    #[error("topic {topic} is encoded as `{encoding}`, not cdr, and was skipped")]
    Encoding { topic: String, encoding: String },
    #[error("messages are not in time order")]
    OutOfOrder,
    #[error("a message of {topic} at {stamp_ns} ns: {reason}")]
    Message { topic: String, stamp_ns: i64, reason: String },
    #[error("the database is damaged: {reason}")]
    Database { reason: String },
    #[error("the compressed file is damaged: {reason}; what comes before was read")]
    Decompression { reason: String },
    #[error("listed in metadata.yaml and not opened: {reason}")]
    Unopened { reason: String },
    #[error("metadata.yaml was ignored: {reason}")]
    Metadata { reason: String },
    #[error("reading failed: {reason}")]
    Io { reason: String },
}

/// All that could not be read, so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    more: u64,
}

impl Report {
    /// A damaged bag can have as many problems as bytes; the first of them say enough.
    const MAX_PROBLEMS: usize = 100;

    /// Without repetitions, in the order in which they were met.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Problems beyond those kept.
    pub fn more(&self) -> u64 {
        self.more
    }

    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() == Self::MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        tracing::warn!(file = %problem.file.display(), problem = %problem.kind, "bag not read completely");
        self.problems.push(problem);
    }
}
