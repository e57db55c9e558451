//! Where frames come from on a command line: bags, cloud files, folders of either.

use crate::ros::bag::{BagError, BagReader, RawMessage, Selection};
use crate::ros::msg::RosMessage;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::sensor_msgs::{PointCloud2, PointCloud2Ref};
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::ros::point_cloud::{decode_cloud, decode_field};
use crate::sensor::files::{CloudFileError, list_cloud_files, parse_cloud, stamp_from_name};
use crate::sensor::{PointCloud, PointTime, Stamp, TIME};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct InputOptions {
    /// The topic of the clouds; needed where a bag has several.
    pub topic: Option<String>,
    /// Names of the columns of raw files.
    pub columns: Option<Vec<String>>,
    /// What the points' own times mean, where `time` is among the wanted fields.
    pub time: PointTime,
    /// Seconds after a bag's first message from which, and until which, frames are taken.
    pub from_s: f64,
    pub until_s: Option<f64>,
    /// Topics of bags whose messages are handed on as they are, where they exist.
    pub pass_on: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{}: no such file or folder", .0.display())]
    Missing(PathBuf),
    #[error(transparent)]
    Bag(#[from] BagError),
    #[error(transparent)]
    File(#[from] CloudFileError),
    #[error("{}: a folder without bags (.mcap, .db3) and without clouds (.bin, .pcd, .npy)", .0.display())]
    EmptyFolder(PathBuf),
    #[error("{}: no topic carries {} in CDR; its topics are: {topics}", path.display(), PointCloud2::TYPE)]
    NoCloudTopic { path: PathBuf, topics: String },
    #[error("{}: several topics carry clouds ({topics}); choose one with --topic", path.display())]
    SeveralCloudTopics { path: PathBuf, topics: String },
    #[error("{}: topic {topic} carries no {}; topics that do: {topics}", path.display(), PointCloud2::TYPE)]
    WrongTopic { path: PathBuf, topic: String, topics: String },
}

/// What happens next on the input side.
#[derive(Debug)]
pub enum Event {
    /// A recording starts; what was known of the motion before does not hold here.
    Start { source: String },
    /// A transform or odometry message of a bag, or one of a topic that is handed on.
    Motion(RawMessage),
    /// A cloud, or why there is none in its place.
    Frame(Box<Result<OpenFrame, UnusableFrame>>),
}

/// A cloud that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {reason}")]
pub struct UnusableFrame {
    /// File, or bag and topic.
    pub source_name: String,
    pub reason: String,
}

/// A cloud as it came in.
#[derive(Clone, Debug)]
pub struct OpenFrame {
    /// File, or bag and topic.
    pub source: String,
    /// Shared, since it may be what the detector is given, and is large.
    pub cloud: Arc<PointCloud>,
    /// Points dropped because they were not finite.
    pub dropped: usize,
    /// The message itself, if it was one.
    pub message: Option<RawMessage>,
    /// Whether clouds before and after belong to the same drive.
    pub in_sequence: bool,
    /// The least and the greatest lag by the points' own times, seconds; `None` if they have none.
    pub own_lags: Option<[f32; 2]>,
}

impl OpenFrame {
    /// When the cloud came in, in the recording's time.
    pub fn arrived(&self) -> Stamp {
        self.message.as_ref().map_or(self.cloud.stamp, |m| m.stamp)
    }
}

/// Files and bags, one after the other.
pub struct Inputs {
    recordings: VecDeque<Recording>,
    take: CloudReader,
    /// Cloud files so far, over all inputs.
    files_read: usize,
    /// Clouds of the present recording so far.
    clouds: usize,
    started: bool,
    problems: Vec<String>,
}

/// What to take from clouds.
pub(super) struct CloudReader {
    /// Besides x, y, z.
    fields: Vec<String>,
    /// Names of the columns of raw files.
    columns: Option<Vec<String>>,
    /// What to make of points' own times; `None` if nobody wants them.
    time: Option<PointTime>,
}

enum Recording {
    /// `latched`: static transforms recorded before the time from which the bag is read.
    Bag {
        path: PathBuf,
        reader: Box<BagReader>,
        topic: String,
        latched: VecDeque<RawMessage>,
    },
    Files {
        folder: PathBuf,
        files: VecDeque<PathBuf>,
    },
}

/// Transforms that hold from the moment of their recording on.
const STATIC_TRANSFORMS: &str = "/tf_static";
/// A robot has some tens of them; this bounds the memory that a strange bag can take.
const MAX_LATCHED: usize = 10_000;

/// Seconds between cloud files whose names hold no time.
const FILE_PERIOD_S: f64 = 0.1;

impl Inputs {
    /// Opens every input, so that a wrong path is reported before any work is done.
    ///
    /// # Errors
    /// A path that is neither a bag, nor a cloud, nor a folder of such, or a bag in which the cloud topic is not clear.
    pub fn open(paths: &[PathBuf], wanted: Vec<String>, options: InputOptions) -> Result<Self, InputError> {
        let recordings = paths.iter().map(|p| open_recording(p, &options)).collect::<Result<_, _>>()?;
        let take = CloudReader::new(wanted, options.columns, options.time);
        Ok(Self { recordings, take, files_read: 0, clouds: 0, started: false, problems: Vec::new() })
    }

    /// Bags of which one was recorded while the other was, in pairs.
    pub fn overlaps(&self) -> Vec<(&Path, &Path)> {
        let bags: Vec<_> = self.recordings.iter().filter_map(Recording::time_range).collect();
        let later = |i: usize| bags.iter().skip(i + 1);
        let pairs = bags.iter().enumerate().flat_map(|(i, a)| later(i).map(move |b| (a, b)));
        pairs.filter(|((_, a), (_, b))| a.0 <= b.1 && b.0 <= a.1).map(|((a, _), (b, _))| (*a, *b)).collect()
    }

    /// Frames still to come, where that is known: files, and messages of whole bags.
    pub fn expected_frames(&self) -> u64 {
        let frames = |r: &Recording| match r {
            Recording::Files { files, .. } => files.len() as u64,
            Recording::Bag { reader, topic, .. } => reader.topics().iter().find(|t| *t.name == **topic).map_or(0, |t| t.count),
        };
        self.recordings.iter().map(frames).sum()
    }

    /// Of each recording that has not begun, whether it is a bag with this topic of this type.
    pub(super) fn carry(&self, topic: &str, type_name: &str) -> Vec<bool> {
        let carries = |r: &Recording| match r {
            Recording::Bag { reader, .. } => reader.topics().iter().any(|t| *t.name == *topic && *t.type_name == *type_name),
            Recording::Files { .. } => false,
        };
        self.recordings.iter().map(carries).collect()
    }

    /// Parts of bags that could not be read, so far.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn next_of_bag(reader: &mut BagReader, path: &Path, topic: &str, take: &CloudReader) -> Option<Event> {
        let message = reader.next()?;
        if *message.topic != *topic {
            return Some(Event::Motion(message));
        }
        let source = format!("{}:{topic}", path.display());
        Some(Event::Frame(Box::new(take.open(source, message))))
    }

    fn next_of_files(files: &mut VecDeque<PathBuf>, read_before: &mut usize, take: &CloudReader) -> Option<Event> {
        let path = files.pop_front()?;
        let at = *read_before;
        *read_before += 1;
        let stamp = stamp_from_name(&path).unwrap_or_else(|| Stamp::from_secs_f64(at as f64 * FILE_PERIOD_S));
        let source = path.display().to_string();
        let frame = match take.of_file(&path, stamp) {
            Ok((cloud, dropped, own_lags)) => {
                Ok(OpenFrame { source, cloud: cloud.into(), dropped, message: None, in_sequence: false, own_lags })
            }
            Err(reason) => Err(UnusableFrame { source_name: source, reason }),
        };
        Some(Event::Frame(Box::new(frame)))
    }
}

/// A cloud, the points of it that were dropped, and the range of its points' own lags.
type Taken = (PointCloud, usize, Option<[f32; 2]>);

impl CloudReader {
    pub(super) fn new(wanted: Vec<String>, columns: Option<Vec<String>>, time: PointTime) -> Self {
        let own_name = |field: String| if field == TIME { time.field.clone() } else { Some(field) };
        let wants_time = wanted.iter().any(|field| field == TIME);
        let fields = wanted.into_iter().filter_map(own_name).collect();
        Self { fields, columns, time: wants_time.then_some(time) }
    }

    /// A message as a frame of a sequence.
    pub(super) fn open(&self, source: String, message: RawMessage) -> Result<OpenFrame, UnusableFrame> {
        match self.of_message(&message) {
            Ok((cloud, dropped, own_lags)) => {
                Ok(OpenFrame { source, cloud: cloud.into(), dropped, message: Some(message), in_sequence: true, own_lags })
            }
            Err(reason) => Err(UnusableFrame { source_name: source, reason }),
        }
    }

    fn of_message(&self, message: &RawMessage) -> Result<Taken, String> {
        let view = PointCloud2Ref::view(&message.data).map_err(|e| e.to_string())?;
        let fields: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        let (mut cloud, report) = decode_cloud(&view, &fields).map_err(|e| e.to_string())?;
        let Some(time) = &self.time else { return Ok((cloud, report.dropped, None)) };
        let exact = time.field.as_ref().map(|field| decode_field(&view, field)).transpose().map_err(|e| e.to_string())?.flatten();
        let own_lags = time.apply(&mut cloud, exact.as_deref(), &report.present).map_err(|e| e.to_string())?;
        Ok((cloud, report.dropped, own_lags))
    }

    fn of_file(&self, path: &Path, stamp: Stamp) -> Result<Taken, String> {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let parsed = parse_cloud(path, &bytes, self.columns.as_deref()).map_err(|e| match e {
            CloudFileError::Format { source, .. } => source.to_string(),
            other => other.to_string(),
        })?;
        let mut cloud = PointCloud { stamp, ..parsed.cloud };
        let present = cloud.fields.clone();
        let own_lags = self.time.as_ref().map(|time| time.apply(&mut cloud, None, &present)).transpose().map_err(|e| e.to_string())?;
        Ok((cloud, parsed.dropped_non_finite, own_lags.flatten()))
    }
}

impl Recording {
    /// When a bag was recorded.
    fn time_range(&self) -> Option<(&Path, (Stamp, Stamp))> {
        match self {
            Recording::Bag { path, reader, .. } => Some((path, reader.time_range()?)),
            Recording::Files { .. } => None,
        }
    }
}

impl Iterator for Inputs {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let recording = self.recordings.front_mut()?;
            if !self.started {
                self.started = true;
                let path = match recording {
                    Recording::Bag { path, .. } => path,
                    Recording::Files { folder, .. } => folder,
                };
                return Some(Event::Start { source: path.display().to_string() });
            }
            let event = match recording {
                Recording::Bag { reader, path, topic, latched } => match latched.pop_front() {
                    Some(message) => Some(Event::Motion(message)),
                    None => Self::next_of_bag(reader, path, topic, &self.take),
                },
                Recording::Files { files, .. } => Self::next_of_files(files, &mut self.files_read, &self.take),
            };
            if event.is_some() {
                self.clouds += usize::from(matches!(event, Some(Event::Frame(_))));
                return event;
            }
            if let Some(Recording::Bag { reader, path, topic, .. }) = self.recordings.pop_front() {
                if std::mem::take(&mut self.clouds) == 0 {
                    self.problems.push(no_clouds(&reader, &path, &topic));
                }
                let report = reader.report();
                self.problems.extend(report.problems().iter().map(ToString::to_string));
                if report.more() > 0 {
                    self.problems.push(format!("... and {} more", report.more()));
                }
            }
            self.started = false;
        }
    }
}

/// A bag whose topic is there and gave nothing, in words for the user.
fn no_clouds(reader: &BagReader, path: &Path, topic: &str) -> String {
    let count = reader.topics().iter().find(|t| *t.name == *topic).map_or(0, |t| t.count);
    let lasts = reader.time_range().map_or(0.0, |(first, last)| last.seconds_since(first));
    format!(
        "{}: no cloud of {topic} was read; the bag lasts {lasts:.1} s and counts {count} of them in all (see --from, --until, --topic)",
        path.display()
    )
}

fn open_recording(path: &Path, options: &InputOptions) -> Result<Recording, InputError> {
    if !path.exists() {
        return Err(InputError::Missing(path.to_owned()));
    }
    if path.is_dir() {
        return match BagReader::open(path) {
            Ok(reader) => open_bag(path, reader, options),
            Err(BagError::EmptyFolder { .. }) => {
                let files: VecDeque<PathBuf> = list_cloud_files(path)?.into();
                if files.is_empty() {
                    return Err(InputError::EmptyFolder(path.to_owned()));
                }
                Ok(Recording::Files { folder: path.to_owned(), files })
            }
            Err(error) => Err(error.into()),
        };
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    if matches!(extension.as_str(), "bin" | "pcd" | "npy") {
        return Ok(Recording::Files { folder: path.to_owned(), files: [path.to_owned()].into() });
    }
    open_bag(path, BagReader::open(path)?, options)
}

/// Chooses the cloud topic, and selects it with everything that tells of motion.
fn open_bag(path: &Path, mut reader: BagReader, options: &InputOptions) -> Result<Recording, InputError> {
    let all = reader.topics();
    let of_type = |wanted: &str| all.iter().filter(|t| *t.type_name == *wanted).map(|t| t.name.to_string()).collect::<Vec<_>>();
    let clouds = of_type(PointCloud2::TYPE);
    let path = path.to_owned();
    let topic = match (&options.topic, clouds.as_slice()) {
        (Some(topic), _) if clouds.contains(topic) => topic.clone(),
        (Some(topic), _) => return Err(InputError::WrongTopic { path, topic: topic.clone(), topics: clouds.join(", ") }),
        (None, [only]) => only.clone(),
        (None, []) => {
            let topics = all.iter().map(|t| format!("{} ({})", t.name, t.type_name)).collect::<Vec<_>>().join(", ");
            let topics = if topics.is_empty() { "none, the bag is empty".into() } else { topics };
            return Err(InputError::NoCloudTopic { path, topics });
        }
        (None, _) => return Err(InputError::SeveralCloudTopics { path, topics: clouds.join(", ") }),
    };
    let mut latched = VecDeque::new();
    let motion = [TFMessage::TYPE, Odometry::TYPE].into_iter().flat_map(of_type);
    let passed_on = options.pass_on.iter().filter(|wanted| all.iter().any(|t| *t.name == ***wanted)).cloned();
    let mut selection = Selection::topics(motion.chain([topic.clone()]).chain(passed_on));
    if let Some((first, _)) = reader.time_range() {
        let at = |seconds: f64| Stamp(first.0.saturating_add(Stamp::from_secs_f64(seconds).0));
        if options.from_s > 0.0 {
            let from = at(options.from_s);
            reader.select(Selection::topics([STATIC_TRANSFORMS]).until(from));
            latched.extend(reader.by_ref().take(MAX_LATCHED));
            selection = selection.from(from);
        }
        if let Some(until) = options.until_s {
            selection = selection.until(at(until));
        }
    }
    reader.select(selection);
    Ok(Recording::Bag { path, reader: Box::new(reader), topic, latched })
}
