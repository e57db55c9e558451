//! Labelled frames judged on their way through the detector, at the thresholds that it runs with.

use super::replay::{FrameRecord, FrameSink};
use crate::detect::DecodeConfig;
use crate::eval::nuscenes::{DetectionMetric, Evaluation, detections_table, short_summary};

/// Takes in every frame that comes with labels.
pub struct JudgeSink {
    evaluation: Evaluation,
}

impl JudgeSink {
    pub fn new(classes: &[String]) -> Self {
        Self { evaluation: Evaluation::new(DetectionMetric::for_classes(classes)) }
    }

    /// A short table and what it means; `None` if no frame was labelled.
    pub fn report(&self, decode: &DecodeConfig) -> Option<String> {
        let frames = self.evaluation.frames().len();
        if frames == 0 {
            return None;
        }
        let of_classes = decode.class_thresholds.iter().map(|(class, score)| format!(", {class} {score}")).collect::<String>();
        Some(format!(
            "against the ground truth of {frames} frames, boxes above {}{of_classes}\n{}\n{}\n\
             recall and precision at these thresholds; they cut AP off, `lidar_ptq eval` gives the full figures\n",
            decode.score_threshold,
            detections_table(&self.evaluation),
            short_summary(&self.evaluation.metrics()),
        ))
    }
}

impl FrameSink for JudgeSink {
    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        if let Some(frame) = record.labelled {
            self.evaluation.add(frame.clone());
        }
        Ok(())
    }
}
