//! `/rosout`: a node's log as messages, where ROS' tools look for it.

use super::interface::{Interface, Publisher};
use super::msg::rcl_interfaces::Log;
use super::names::{NameError, NodeName};
use super::transport::{Publication, Received, RequestId, SubscriptionStatus, Transport, TransportError, system_now};
use crate::sensor::Stamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, Layer};

/// Lines for those who come later, and for how long, as of any ROS node (`rcl_qos_profile_rosout_default`). No more wait to be sent.
const KEPT: usize = 1000;
const LIFESPAN: Duration = Duration::from_secs(10);

/// A layer of `tracing` that keeps a node's log until the node's transport ([`Rosout::open`]) takes it along. Clones share what they keep.
#[derive(Clone)]
pub struct Rosout {
    topic: String,
    /// ROS' name of a node's logger: `front.lidar_ptq` for `/front/lidar_ptq`.
    logger: String,
    lines: Arc<Mutex<VecDeque<Log>>>,
}

impl Rosout {
    /// # Errors
    /// A rule for another name that ROS does not allow.
    pub fn new(node: &NodeName, remaps: &[(String, String)]) -> Result<Self, NameError> {
        let topic = node.resolve_remapped("/rosout", remaps)?;
        let logger = node.to_string().trim_start_matches('/').replace('/', ".");
        Ok(Self { topic, logger, lines: Arc::default() })
    }

    /// Opens a node's transport so that the log goes along: what was logged before, and from then on whenever the node receives. A line
    /// that cannot be sent is left out: to log that would be another line.
    ///
    /// # Errors
    /// As `open`.
    pub fn open(
        self,
        mut interface: Interface,
        open: impl FnOnce(&Interface) -> Result<Box<dyn Transport>, TransportError>,
    ) -> Result<Box<dyn Transport>, TransportError> {
        interface.publishers.push(Publisher { kept: KEPT, lifespan: Some(LIFESPAN), ..Publisher::new::<Log>(self.topic.clone()) });
        Ok(Box::new(WithLog { inner: open(&interface)?, rosout: self }))
    }

    fn push(&self, level: Level, fields: impl RecordFields, file: Option<&str>, module: &str, line: Option<u32>) {
        let mut text = String::new();
        // A value that cannot be formatted leaves a shorter line.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), fields);
        let log = Log {
            stamp: system_now(),
            level: ros_level(level),
            name: self.logger.clone(),
            text,
            file: file.unwrap_or_default().to_owned(),
            function: module.to_owned(),
            line: line.unwrap_or_default(),
        };
        let mut lines = self.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(log);
    }

    fn take(&self) -> VecDeque<Log> {
        std::mem::take(&mut *self.lock())
    }

    /// No panic can happen with the lock held that would leave a line half written.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Log>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Rosout {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let origin = event.metadata();
        // Rust tells the module, not the function.
        self.push(*origin.level(), event, origin.file(), origin.target(), origin.line());
    }
}

fn ros_level(level: Level) -> u8 {
    match level {
        Level::ERROR => Log::ERROR,
        Level::WARN => Log::WARN,
        Level::INFO => Log::INFO,
        _ => Log::DEBUG,
    }
}

/// A node's transport that carries its log, too.
struct WithLog {
    inner: Box<dyn Transport>,
    rosout: Rosout,
}

impl WithLog {
    fn send(&mut self) {
        for line in self.rosout.take() {
            let _ = self.inner.publish(&self.rosout.topic, line.stamp, &line);
        }
    }
}

impl Transport for WithLog {
    fn receive(&mut self, wait: Duration) -> Result<Received, TransportError> {
        self.send();
        self.inner.receive(wait)
    }

    fn publish_raw(&mut self, publication: Publication) -> Result<(), TransportError> {
        self.inner.publish_raw(publication)
    }

    fn reply(&mut self, service: &str, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        self.inner.reply(service, to, data)
    }

    fn call(&mut self, service: &str, data: &[u8]) -> Result<i64, TransportError> {
        self.inner.call(service, data)
    }

    fn now(&self) -> Stamp {
        self.inner.now()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.inner.subscriptions()
    }
}

impl Drop for WithLog {
    fn drop(&mut self) {
        self.send();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn rosout(namespace: &str) -> Rosout {
        Rosout::new(&NodeName::new(namespace, "detect").unwrap(), &[]).unwrap()
    }

    #[test]
    fn a_line_holds_what_ros_wants_to_know() {
        let rosout = rosout("/robot/front");
        let start = system_now();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(rosout.clone()), || {
            tracing::warn!(frames = 3, "late");
            tracing::debug!("details");
        });
        let lines = rosout.take();
        assert_eq!(lines.iter().map(|l| l.level).collect::<Vec<_>>(), [30, 10]);
        let line = &lines[0];
        assert_eq!((line.name.as_str(), line.text.as_str()), ("robot.front.detect", "late frames=3"));
        assert_eq!((line.file.as_str(), line.function.as_str()), (file!(), module_path!()));
        assert!(line.line > 0 && (start..=system_now()).contains(&line.stamp));
        assert!(rosout.take().is_empty(), "each line is taken once");
    }

    #[test]
    fn the_newest_lines_wait_for_a_transport_that_is_not_open_yet() {
        let rosout = rosout("");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(rosout.clone()), || {
            (0..KEPT + 5).for_each(|number| tracing::info!("line {number}"));
        });
        let lines = rosout.take();
        assert_eq!((lines.len(), lines[0].text.as_str(), lines[0].name.as_str()), (KEPT, "line 5", "detect"));
    }

    #[test]
    fn the_topic_can_have_another_name() {
        let node = NodeName::new("", "detect").unwrap();
        let rules = [("/rosout".to_owned(), "/quiet".to_owned())];
        assert_eq!(Rosout::new(&node, &rules).unwrap().topic, "/quiet");
        assert_eq!(Rosout::new(&node, &[]).unwrap().topic, "/rosout");
    }
}
