//! Simulated drives as the messages that a robot would record, and as labelled recordings.

use super::evaluator::{LabelledCloud, LabelledEvent, Labels};
use super::input::OpenFrame;
use crate::eval::TruthBox;
use crate::geometry::Pose;
use crate::ros::bag::RawMessage;
use crate::ros::msg::RosMessage;
use crate::ros::msg::geometry_msgs::TransformStamped;
use crate::ros::msg::std_msgs::Header;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::sensor::Stamp;
use crate::sim::{SimConfig, SimFrame, Simulation};
use std::collections::VecDeque;
use std::ops::Range;

/// Stamps start here, a date on which no zero stamp can be mistaken for "the latest".
pub const START: Stamp = Stamp(1_700_000_000_000_000_000);
pub const BASE: &str = "base_link";
pub const ODOM: &str = "odom";

/// When a frame was, on the clock of the messages.
pub fn stamp_of(frame: &SimFrame) -> Stamp {
    Stamp(START.0 + frame.stamp.0)
}

/// `/tf_static`: where the lidar stands on the vehicle.
pub fn mounting(frame: &SimFrame) -> TFMessage {
    mounted_at(BASE, &frame.cloud.frame_id, stamp_of(frame), &frame.base_from_lidar)
}

/// `/tf`: where the vehicle is.
pub fn vehicle(frame: &SimFrame) -> TFMessage {
    mounted_at(ODOM, BASE, stamp_of(frame), &frame.odom_from_base)
}

/// The message that says where a frame is in its parent.
pub fn mounted_at(parent: &str, child: &str, stamp: Stamp, parent_from_child: &Pose) -> TFMessage {
    let header = Header { stamp, frame_id: parent.to_owned() };
    TFMessage { transforms: vec![TransformStamped { header, child_frame_id: child.to_owned(), transform: parent_from_child.into() }] }
}

/// Labelled drives of one seed after the other, simulated as they are asked for.
pub struct SimulatedDrives {
    seeds: Range<u64>,
    config: SimConfig,
    /// The model's.
    classes: Vec<String>,
    running: Option<(String, Simulation)>,
    queue: VecDeque<LabelledEvent>,
}

impl SimulatedDrives {
    /// All settings but the seed are taken from `config`.
    pub fn new(seeds: Range<u64>, config: SimConfig, classes: Vec<String>) -> Self {
        Self { seeds, config, classes, running: None, queue: VecDeque::new() }
    }

    /// Clouds of all drives that have not begun.
    pub fn expected_clouds(&self) -> u64 {
        let clouds = (self.config.seconds.max(0.0) * self.config.lidar.rate_hz()).round() as u64;
        (self.seeds.end - self.seeds.start) * clouds
    }

    fn enqueue(&mut self, source: &str, frame: SimFrame) {
        let stamp = stamp_of(&frame);
        if frame.stamp == Stamp(0) {
            self.queue.push_back(motion("/tf_static", stamp, &mounting(&frame)));
        }
        self.queue.push_back(motion("/tf", stamp, &vehicle(&frame)));
        let known = frame.truth.iter().filter_map(|t| {
            let label = self.classes.iter().position(|c| c == t.class.name())?;
            Some(TruthBox { bbox: t.bbox, label, points: Some(t.num_lidar_points) })
        });
        let labels = Labels { frame_id: frame.cloud.frame_id.clone(), boxes: known.collect() };
        let mut cloud = frame.cloud;
        cloud.stamp = stamp;
        let input =
            OpenFrame { source: source.to_owned(), cloud: cloud.into(), dropped: 0, message: None, in_sequence: true, own_lags: None };
        self.queue.push_back(LabelledEvent::Cloud(Box::new(LabelledCloud { input, labels: Some(labels) })));
    }
}

fn motion(topic: &str, stamp: Stamp, message: &TFMessage) -> LabelledEvent {
    LabelledEvent::Motion(RawMessage { topic: topic.into(), type_name: TFMessage::TYPE.into(), stamp, data: message.encode() })
}

impl Iterator for SimulatedDrives {
    type Item = LabelledEvent;

    fn next(&mut self) -> Option<LabelledEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if let Some((source, mut simulation)) = self.running.take() {
                if let Some(frame) = simulation.next() {
                    self.enqueue(&source, frame);
                    self.running = Some((source, simulation));
                }
                continue;
            }
            let seed = self.seeds.next()?;
            let source = format!("simulated drive {seed}");
            self.running = Some((source.clone(), Simulation::new(&SimConfig { seed, ..self.config })));
            return Some(LabelledEvent::Start { source, labelled: true });
        }
    }
}
