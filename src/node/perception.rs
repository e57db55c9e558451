//! From a cloud as it arrives to boxes: gather sweeps, assemble features, detect.

use super::input::OpenFrame;
use super::motion::MotionTracker;
use crate::detect::{DecodeConfig, DetectError, Detections, Detector, HeadMaps};
use crate::ros::bag::RawMessage;
use crate::sensor::{FeatureError, PointCloud, SweepBuffer, SweepReport, assemble};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sweeps further apart than this are not merged, seconds.
const MAX_SWEEP_GAP_S: f64 = 1.0;

/// A detector with its memory of the last sweeps and of the motion between them.
pub struct Perception {
    detector: Detector,
    motion: MotionTracker,
    sweeps: SweepBuffer,
}

/// What became of a cloud.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The merged cloud, in the newest sweep's frame: the cloud itself where one sweep is all there is to merge.
    pub cloud: Arc<PointCloud>,
    pub detections: Detections,
    pub sweeps: SweepReport,
    /// Time to merge sweeps and assemble features.
    pub sweep_time: Duration,
}

/// Why a cloud gave no boxes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Detect(#[from] DetectError),
}

impl Perception {
    pub fn new(detector: Detector, motion: MotionTracker) -> Self {
        let sweeps = SweepBuffer::new(detector.config().points.sweeps.clone(), MAX_SWEEP_GAP_S);
        Self { detector, motion, sweeps }
    }

    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    pub fn motion(&self) -> &MotionTracker {
        &self.motion
    }

    /// Another model takes over; what is known of the motion stays, sweeps are gathered anew.
    pub fn replace_detector(&mut self, detector: Detector) {
        self.sweeps = SweepBuffer::new(detector.config().points.sweeps.clone(), MAX_SWEEP_GAP_S);
        self.detector = detector;
    }

    /// Whether to look closer, from the next cloud on: how many activations stand at the end of their range, and what the cloud is
    /// like.
    pub fn look_closer(&mut self, closer: bool) {
        self.detector.count_clipped(closer);
        self.detector.keep_traits(closer);
    }

    /// Other settings of the decoder; sweeps and motion stay.
    ///
    /// # Errors
    /// Settings that contradict the rest of the model's configuration.
    pub fn set_decode(&mut self, settings: DecodeConfig) -> Result<(), DetectError> {
        self.detector.set_decode(settings)
    }

    /// Another recording starts.
    pub fn reset(&mut self) {
        self.motion.reset();
        self.sweeps = SweepBuffer::new(self.detector.config().points.sweeps.clone(), MAX_SWEEP_GAP_S);
    }

    /// A transform or odometry message.
    pub fn on_motion(&mut self, message: &RawMessage) {
        self.motion.on_message(message);
    }

    /// A cloud in which nothing is to be found: later ones may still need its points.
    pub fn pass_over(&mut self, frame: &OpenFrame) {
        if frame.in_sequence {
            self.sweeps.pass_over(&frame.cloud);
        }
    }

    /// How long before a cloud's time the poses end that merging its sweeps needs, seconds; `None` if it needs no more of them.
    pub fn missing_motion_s(&self, frame: &OpenFrame) -> Option<f64> {
        let merges = frame.in_sequence && self.detector.config().points.sweeps.count > 1;
        merges.then(|| self.motion.missing_s(&frame.cloud.frame_id, frame.cloud.stamp))?
    }

    /// A cloud. `inspect` sees the network's raw outputs, which then must all be computed.
    ///
    /// # Errors
    /// A cloud without a field that the model wants, or a detector that fails. The next cloud may do better.
    pub fn on_cloud(&mut self, frame: &OpenFrame, inspect: Option<&mut dyn FnMut(&HeadMaps)>) -> Result<Frame, FrameError> {
        let start = Instant::now();
        let wanted = self.detector.config().points.sweeps.count.max(1);
        let (cloud, sweeps) = if frame.in_sequence && wanted > 1 {
            let (cloud, sweeps) = self.sweeps.merge(&frame.cloud, &self.motion);
            (Arc::new(cloud), sweeps)
        } else {
            // A file stands for itself; what was merged into it, its own time column tells.
            (frame.cloud.clone(), SweepReport { merged: 1, wanted, ..SweepReport::default() })
        };
        let points = assemble(&cloud, &self.detector.config().points)?;
        let sweep_time = start.elapsed();
        let detections = match inspect {
            Some(inspect) => self.detector.detect_inspecting(points.view(), inspect)?,
            None => self.detector.detect(points.view())?,
        };
        Ok(Frame { cloud, detections, sweeps, sweep_time })
    }
}
