//! Records what a calibration needs: clouds, and what tells of the motion between them.

use crate::ros::bag::{BagError, BagWriter};
use crate::ros::interface::{Interface, Reliability, Subscription};
use crate::ros::msg::RosMessage;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::sensor_msgs::PointCloud2;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::ros::names::NodeName;
use crate::ros::transport::{Received, Transport, TransportError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Joins the graph with an interface.
pub type Open = Arc<dyn Fn(&Interface) -> Result<Box<dyn Transport>, TransportError> + Send + Sync>;

/// Clouds that wait at most while the disk is slow.
const KEEP_CLOUDS: usize = 32;
const KEEP_MOTION: usize = 2000;
const MAX_STATIC: usize = 1000;

/// What is recorded, resolved.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    pub cloud: String,
    pub odometry: String,
    pub transforms: String,
    pub static_transforms: String,
}

#[derive(Clone, Debug)]
pub(super) struct RecordOptions {
    pub path: PathBuf,
    pub seconds: f64,
    /// The recording ends early when its messages take more.
    pub max_bytes: u64,
    pub reliability: Reliability,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub clouds: u64,
    /// Clouds that came and were not written, since the disk is too slow, or did not come.
    pub lost: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Bag(#[from] BagError),
    #[error("{topic}: no cloud came in {seconds:.0} s, from {publishers} publishers; remap ~/input/pointcloud to the topic of the clouds")]
    NoCloud { topic: String, seconds: f64, publishers: usize },
    #[error("cancelled; the recording was not kept")]
    Cancelled,
    #[error("the recording ended unexpectedly")]
    Panicked,
}

/// A recording on a thread of its own, as a node of its own: clouds are only sent for while they are wanted.
pub(super) struct Recorder {
    stop: Arc<AtomicBool>,
    clouds: Arc<AtomicU64>,
    since: Instant,
    pub seconds: f64,
    thread: Option<JoinHandle<Result<Recorded, RecordError>>>,
}

impl Recorder {
    pub fn start(open: Open, node: NodeName, topics: Topics, options: RecordOptions) -> std::io::Result<Self> {
        let (stop, clouds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, seconds) = (stop.clone(), clouds.clone(), options.seconds);
        let work = move || {
            let mut transport = open(&interface(node, &topics, options.reliability))?;
            record(&mut *transport, &topics, &options, &stopped, &counted)
        };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(work)?;
        Ok(Self { stop, clouds, since: Instant::now(), seconds, thread: Some(thread) })
    }

    pub fn cancel(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn clouds(&self) -> u64 {
        self.clouds.load(Ordering::SeqCst)
    }

    pub fn elapsed_s(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// What came of it; `None` while it goes on.
    pub fn poll(&mut self) -> Option<Result<Recorded, RecordError>> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(thread.join().unwrap_or(Err(RecordError::Panicked)))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn interface(node: NodeName, topics: &Topics, reliability: Reliability) -> Interface {
    let fixed = Subscription::new::<TFMessage>(topics.static_transforms.clone(), Reliability::Reliable, MAX_STATIC);
    Interface {
        node,
        subscriptions: vec![
            Subscription::new::<PointCloud2>(topics.cloud.clone(), reliability, KEEP_CLOUDS),
            Subscription::new::<Odometry>(topics.odometry.clone(), Reliability::Auto, KEEP_MOTION),
            Subscription::new::<TFMessage>(topics.transforms.clone(), Reliability::Auto, KEEP_MOTION),
            Subscription { latched: true, ..fixed },
        ],
        publishers: Vec::new(),
        services: Vec::new(),
        clients: Vec::new(),
    }
}

/// Until the time is over, counted from the first cloud; the bag is in its place only then.
fn record(
    transport: &mut dyn Transport,
    topics: &Topics,
    options: &RecordOptions,
    stop: &AtomicBool,
    clouds: &AtomicU64,
) -> Result<Recorded, RecordError> {
    let mut bag = BagWriter::create(&options.path)?;
    let (mut since, mut bytes) = (Instant::now(), 0u64);
    while since.elapsed().as_secs_f64() < options.seconds && bytes < options.max_bytes {
        if stop.load(Ordering::SeqCst) {
            return Err(RecordError::Cancelled);
        }
        let message = match transport.receive(Duration::from_millis(100))? {
            Received::Message(message) => message,
            Received::End => break,
            Received::Nothing | Received::Request(_) | Received::Response(_) => continue,
        };
        let definition = definition(&message.topic, topics);
        bag.write_raw(&message.topic, &message.type_name, definition, message.stamp, &message.data)?;
        bytes += message.data.len() as u64;
        if *message.topic == *topics.cloud && clouds.fetch_add(1, Ordering::SeqCst) == 0 {
            since = Instant::now();
        }
    }
    let status = transport.subscriptions().into_iter().find(|s| s.topic == topics.cloud).unwrap_or_default();
    let recorded = Recorded { clouds: clouds.load(Ordering::SeqCst), lost: status.lost + status.replaced };
    if recorded.clouds == 0 {
        return Err(RecordError::NoCloud { topic: topics.cloud.clone(), seconds: options.seconds, publishers: status.publishers });
    }
    bag.finish()?;
    Ok(recorded)
}

fn definition(topic: &str, topics: &Topics) -> &'static str {
    if topic == topics.cloud {
        PointCloud2::DEFINITION
    } else if topic == topics.odometry {
        Odometry::DEFINITION
    } else {
        TFMessage::DEFINITION
    }
}

/// Of a recording that starts now, unlike any before.
pub(super) fn recording_path(folder: &Path, stamp_s: i64) -> PathBuf {
    folder.join(format!("calibration_{stamp_s}.mcap"))
}
