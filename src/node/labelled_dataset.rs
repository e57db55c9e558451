//! Public data sets as labelled recordings, as evaluation wants them.

use super::evaluator::{LabelledCloud, LabelledEvent, Labels};
use super::input::{OpenFrame, UnusableFrame};
use super::simulated::{BASE, mounted_at};
use crate::dataset::{Dataset, DatasetError, LabelledFrame, LabelledObject};
use crate::eval::TruthBox;
use crate::ros::bag::RawMessage;
use crate::ros::msg::RosMessage;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::sensor::SweepsConfig;
use std::collections::VecDeque;

/// The frames of a data set in their order, each with its sweeps merged already: a scene of nuScenes is a recording, of KITTI
/// every frame.
pub struct LabelledDataset {
    dataset: Dataset,
    sweeps: SweepsConfig,
    /// The model's.
    classes: Vec<String>,
    next: usize,
    recording: Option<String>,
    queue: VecDeque<LabelledEvent>,
}

impl LabelledDataset {
    /// For a model with these sweeps and classes; classes are found by name, in upper or lower case.
    pub fn new(dataset: Dataset, sweeps: SweepsConfig, classes: Vec<String>) -> Self {
        Self { dataset, sweeps, classes, next: 0, recording: None, queue: VecDeque::new() }
    }

    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn enqueue(&mut self, index: usize) -> Result<(), DatasetError> {
        let frame = self.dataset.frame(index, &self.sweeps)?;
        let source = self.dataset.recording(index).to_owned();
        if self.recording.as_ref() != Some(&source) {
            self.queue.push_back(LabelledEvent::Start { source: source.clone(), labelled: true });
            self.queue.extend(mounting(&frame).map(LabelledEvent::Motion));
            self.recording = Some(source.clone());
        }
        let boxes = frame.objects.iter().filter_map(|object| self.truth(object)).collect();
        let labels = Some(Labels { frame_id: frame.cloud.frame_id.clone(), boxes });
        let input = OpenFrame { source, cloud: frame.cloud.into(), dropped: 0, message: None, in_sequence: false, own_lags: None };
        self.queue.push_back(LabelledEvent::Cloud(Box::new(LabelledCloud { input, labels })));
        Ok(())
    }

    fn truth(&self, object: &LabelledObject) -> Option<TruthBox> {
        let label = self.classes.iter().position(|class| class.eq_ignore_ascii_case(&object.class))?;
        // nuScenes' metric counts objects that either sensor saw.
        let points = object.points.map(|points| points.saturating_add(object.radar_points.unwrap_or(0)));
        Some(TruthBox { bbox: object.bbox, label, points })
    }
}

/// Where the lidar stands on the vehicle: ranges are measured from the vehicle.
fn mounting(frame: &LabelledFrame) -> Option<RawMessage> {
    let (cloud, ego) = (&frame.cloud, frame.ego?);
    let transforms = mounted_at(BASE, &cloud.frame_id, cloud.stamp, &ego.ego_from_lidar);
    Some(RawMessage { topic: "/tf_static".into(), type_name: TFMessage::TYPE.into(), stamp: cloud.stamp, data: transforms.encode() })
}

impl Iterator for LabelledDataset {
    type Item = LabelledEvent;

    fn next(&mut self) -> Option<LabelledEvent> {
        while self.queue.is_empty() && self.next < self.dataset.len() {
            let index = self.next;
            self.next += 1;
            if let Err(error) = self.enqueue(index) {
                let source_name = self.dataset.recording(index).to_owned();
                self.queue.push_back(LabelledEvent::Failed(UnusableFrame { source_name, reason: error.to_string() }));
            }
        }
        self.queue.pop_front()
    }
}
