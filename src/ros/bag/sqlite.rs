//! Reading one rosbag2 SQLite file, in time order and in parts.
//!
//! Messages are visited page by page of their (time, id) order, so memory stays bounded without a long-lived statement.

use super::report::{BagError, Problem, ProblemKind, Report};
use super::unpack::{MAX_MESSAGE_BYTES, copy_start};
use super::{BagFile, RawMessage, Selection, TopicInfo};
use crate::sensor::Stamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// Ids fetched at once; the messages themselves are fetched one by one.
const PAGE_ROWS: i64 = 512;

pub(super) struct SqliteFile {
    /// As errors call it.
    name: PathBuf,
    connection: Connection,
    topics: BTreeMap<i64, Topic>,
    time_range: TimeRange,
    /// Where the time order is read from: rosbag2's table with its index on the time, or a temporary copy of times and ids.
    order_table: &'static str,
    selection: Selection,
    page: VecDeque<Row>,
    /// Time and id of the last row fetched.
    position: (i64, i64),
    finished: bool,
    /// Of a file that ends inside a page: a copy without that page, which must outlive the connection.
    _whole_pages: Option<TempPath>,
}

/// First and last time; `None` without messages.
type TimeRange = Option<(Stamp, Stamp)>;

struct Topic {
    name: Arc<str>,
    type_name: Arc<str>,
    is_cdr: bool,
    messages: u64,
}

struct Row {
    timestamp: i64,
    id: i64,
    topic_id: i64,
}

impl SqliteFile {
    /// `path` is where the bytes are, `name` what errors call the file.
    pub fn open(path: &Path, name: &Path, report: &mut Report) -> Result<Self, BagError> {
        let fail = |source| BagError::Sqlite { path: name.to_owned(), source };
        let mut add = |kind| report.add(Problem { file: name.to_owned(), kind });
        let fail_io = |source| BagError::Io { path: name.to_owned(), source };
        let cut = find_cut(path).map_err(fail_io)?;
        let mut whole_pages = None;
        if let Some(cut) = &cut {
            add(ProblemKind::Database { reason: format!("the file has {} of its {} bytes", cut.length, cut.expected) });
            if cut.whole_pages < cut.length {
                // SQLite would take what is missing of the last page for zeros, and give messages with zeros in them.
                whole_pages = Some(copy_start(path, cut.whole_pages).map_err(fail_io)?.into_temp_path());
            }
        }
        let connection = connect(whole_pages.as_deref().unwrap_or(path), cut.is_some()).map_err(fail)?;
        for table in ["topics", "messages"] {
            let exists = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
            if connection.query_row(exists, [table], |row| row.get::<_, i64>(0)).map_err(fail)? == 0 {
                return Err(BagError::NotRosbag { path: name.to_owned(), table });
            }
        }
        let mut topics = read_topics(&connection).map_err(fail)?;
        for topic in topics.values().filter(|t| !t.is_cdr) {
            add(ProblemKind::Encoding { topic: topic.name.to_string(), encoding: "another than cdr".to_owned() });
        }
        let mut order_table = "messages";
        let time_range = match count_by_index(&connection, &mut topics) {
            Ok(Some(time_range)) => time_range,
            no_index => {
                order_table = "temp.message_order";
                let copied = copy_order(&connection, order_table).map_err(fail)?;
                for error in no_index.err().into_iter().chain(copied.err()) {
                    add(ProblemKind::Database { reason: error.to_string() });
                }
                count_messages(&connection, order_table, &mut topics).map_err(fail)?
            }
        };
        Ok(Self {
            name: name.to_owned(),
            connection,
            topics,
            time_range,
            order_table,
            selection: Selection::all(),
            page: VecDeque::new(),
            position: (i64::MIN, i64::MIN),
            finished: false,
            _whole_pages: whole_pages,
        })
    }

    fn fetch_page(&mut self) -> rusqlite::Result<()> {
        let selected = self.topics.iter().filter(|(_, t)| t.is_cdr && self.selection.has_topic(&t.name));
        let mut ids = String::new();
        for (id, _) in selected {
            let _ = write!(ids, "{}{id}", if ids.is_empty() { "" } else { "," });
        }
        let (start, end) = (self.selection.start.map_or(i64::MIN, |s| s.0), self.selection.end.map(|s| s.0));
        let sql = format!(
            "SELECT timestamp, id, topic_id FROM {} \
             WHERE (timestamp, id) > (?1, ?2) AND timestamp >= ?3 AND (timestamp < ?4 OR ?4 IS NULL) AND topic_id IN ({ids}) \
             ORDER BY timestamp, id LIMIT {PAGE_ROWS}",
            self.order_table
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.position.0, self.position.1, start, end])?;
        while let Some(row) = rows.next()? {
            let row = Row { timestamp: row.get(0)?, id: row.get(1)?, topic_id: row.get(2)? };
            if (row.timestamp, row.id) <= self.position {
                // The next page would begin before this one, and reading never end.
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                return Err(rusqlite::Error::SqliteFailure(code, Some("the index on the time is not in order".to_owned())));
            }
            self.position = (row.timestamp, row.id);
            self.page.push_back(row);
        }
        Ok(())
    }

    fn fetch_data(&self, id: i64) -> Result<Vec<u8>, String> {
        let mut length = self.connection.prepare_cached("SELECT length(data) FROM messages WHERE id = ?1").map_err(|e| e.to_string())?;
        let length: Option<i64> = length.query_row([id], |row| row.get(0)).map_err(|e| e.to_string())?;
        match length {
            None => return Err("it has no data".to_owned()),
            Some(n) if n > MAX_MESSAGE_BYTES as i64 => return Err(format!("{n} bytes, more than the {MAX_MESSAGE_BYTES} that are read")),
            Some(_) => {}
        }
        let mut data = self.connection.prepare_cached("SELECT data FROM messages WHERE id = ?1").map_err(|e| e.to_string())?;
        data.query_row([id], |row| row.get(0)).map_err(|e| e.to_string())
    }
}

impl BagFile for SqliteFile {
    fn topics(&self) -> Vec<TopicInfo> {
        let cdr = self.topics.values().filter(|t| t.is_cdr);
        cdr.map(|t| TopicInfo { name: t.name.clone(), type_name: t.type_name.clone(), count: t.messages }).collect()
    }

    fn time_range(&self) -> Option<(Stamp, Stamp)> {
        self.time_range
    }

    fn select(&mut self, selection: &Selection) {
        self.selection = selection.clone();
        self.page.clear();
        self.position = (i64::MIN, i64::MIN);
        self.finished = false;
    }

    fn next_message(&mut self, report: &mut Report) -> Option<RawMessage> {
        loop {
            if self.page.is_empty() && !self.finished {
                let fetched = self.fetch_page();
                self.finished = self.page.len() < PAGE_ROWS as usize;
                if let Err(error) = fetched {
                    report.add(Problem { file: self.name.clone(), kind: ProblemKind::Database { reason: error.to_string() } });
                }
            }
            let row = self.page.pop_front()?;
            let topic = self.topics.get(&row.topic_id)?;
            match self.fetch_data(row.id) {
                Ok(data) => {
                    let (topic, type_name) = (topic.name.clone(), topic.type_name.clone());
                    return Some(RawMessage { topic, type_name, stamp: Stamp(row.timestamp), data });
                }
                Err(reason) => {
                    let kind = ProblemKind::Message { topic: topic.name.to_string(), stamp_ns: row.timestamp, reason };
                    report.add(Problem { file: self.name.clone(), kind });
                }
            }
        }
    }
}

/// A file that is shorter than its header says.
struct Cut {
    length: u64,
    /// Of `length`, those in pages that are there in full.
    whole_pages: u64,
    expected: u64,
}

/// Reads the header (<https://sqlite.org/fileformat2.html>, 1.3).
fn find_cut(path: &Path) -> io::Result<Option<Cut>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 100];
    if length < header.len() as u64 {
        return Ok(Some(Cut { length, whole_pages: length, expected: header.len() as u64 }));
    }
    file.read_exact(&mut header)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65536,
        n => u64::from(n.max(1)),
    };
    // The number of pages holds only if it was written with the last change.
    let pages = if number(24) == number(92) { u64::from(number(28)) } else { 0 };
    let expected = pages * page_bytes;
    Ok((length < expected).then_some(Cut { length, whole_pages: length - length % page_bytes, expected }))
}

/// Read-only. A folder that cannot be written has no place for SQLite's lock and journal files, so there the file is taken as immutable.
///
/// `cut`: the file is known to be too short, and what is there is read nevertheless.
fn connect(path: &Path, cut: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let open = |options: &str| {
        let connection = Connection::open_with_flags(format!("file:{}?mode=ro{options}", uri_path(path)), flags)?;
        if cut {
            // SQLite's own way around its refusal of short files; nothing is written, the file is open for reading only.
            connection.execute_batch("PRAGMA writable_schema = ON")?;
        }
        // Nothing in the file's schema may call functions; a damaged page is an error, not a guess.
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(connection)
    };
    open("").or_else(|_: rusqlite::Error| open("&immutable=1"))
}

/// A path as in an URI: `?`, `#` and `%` would end or change it.
fn uri_path(path: &Path) -> String {
    let mut uri = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            _ => _ = write!(uri, "%{byte:02x}"),
        }
    }
    uri
}

fn read_topics(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, Topic>> {
    let mut statement = connection.prepare("SELECT id, name, type, serialization_format FROM topics")?;
    let rows = statement.query_map([], |row| {
        let (name, type_name, format): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get(0)?, Topic { name: name.into(), type_name: type_name.into(), is_cdr: format == "cdr", messages: 0 }))
    })?;
    rows.collect()
}

/// As `count_messages`, if `messages` has an index that starts with the time. rosbag2 makes one, other writers may not.
fn count_by_index(connection: &Connection, topics: &mut BTreeMap<i64, Topic>) -> rusqlite::Result<Option<TimeRange>> {
    let sql = "SELECT 1 FROM pragma_index_list('messages') AS list, pragma_index_info(list.name) AS info \
               WHERE list.partial = 0 AND info.seqno = 0 AND info.name = 'timestamp'";
    if connection.query_row(sql, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    // Goes through the index once, so that damage in it is met here, where there is another way.
    connection.query_row("SELECT count(*) FROM messages WHERE timestamp >= ?1", [i64::MIN], |_| Ok(()))?;
    count_messages(connection, "messages", topics).map(Some)
}

/// Makes `table`, a temporary one, of the times and ids of all messages up to the first that cannot be read.
/// The inner result is what stopped it.
fn copy_order(connection: &Connection, table: &str) -> rusqlite::Result<rusqlite::Result<()>> {
    connection.execute_batch(&format!(
        "CREATE TABLE {table} (timestamp INTEGER, id INTEGER, topic_id INTEGER, PRIMARY KEY (timestamp, id)) WITHOUT ROWID"
    ))?;
    let copy = || {
        let mut insert = connection.prepare(&format!("INSERT INTO {table} VALUES (?1, ?2, ?3)"))?;
        let mut select = connection.prepare("SELECT timestamp, id, topic_id FROM messages ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            insert.execute(params![row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?])?;
        }
        Ok(())
    };
    Ok(copy())
}

/// Sets the topics' counts and returns the first and last time.
fn count_messages(connection: &Connection, table: &str, topics: &mut BTreeMap<i64, Topic>) -> rusqlite::Result<TimeRange> {
    let mut statement =
        connection.prepare(&format!("SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM {table} GROUP BY topic_id"))?;
    let mut rows = statement.query([])?;
    let mut range: TimeRange = None;
    while let Some(row) = rows.next()? {
        let (topic_id, count, first, last) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, Stamp(row.get(2)?), Stamp(row.get(3)?));
        if let Some(topic) = topics.get_mut(&topic_id) {
            topic.messages = count.unsigned_abs();
            range = Some(range.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
        }
    }
    Ok(range)
}
