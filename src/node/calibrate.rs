//! A quantized model beside its float one, on frames that calibration has not seen.

use super::labelled_frame::scored;
use crate::detect::{DecodeError, Detection, DetectorConfig, Model, NetworkError, PillarInput, decode, network};
use crate::engine::Isa;
use crate::eval::ScoredBox;
use crate::eval::agreement::{Agreement, AgreementRules};
use crate::eval::nuscenes::DetectionMetric;
use crate::quant::CalibrationError;
use std::collections::BTreeMap;

/// A frame that calibration has not seen, and what the float model makes of it.
pub struct HeldOut {
    pub pillars: PillarInput,
    pub teacher: Vec<ScoredBox>,
}

#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error("the quantized network failed")]
    Network(#[source] NetworkError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Quantization(#[from] CalibrationError),
}

/// Boxes below this score of the float model and of the quantized one are not compared.
const LEAST_SCORE: f32 = 0.05;

/// How the boxes of a quantized model agree with the float model's on frames that calibration has not seen.
///
/// # Errors
/// A model that the engine refuses, or that fails.
pub fn judge(model: &Model, held_out: &[HeldOut], isa: Isa) -> Result<Agreement, JudgeError> {
    let mut agreement = Agreement::new(rules(model.config()));
    let mut network = network(model, isa).map_err(JudgeError::Network)?;
    let config = DetectorConfig { decode: judging(model.config()), ..model.config().clone() };
    for frame in held_out {
        let maps = network.run(&frame.pillars).map_err(JudgeError::Network)?;
        compare(&mut agreement, &decode(&config, &maps)?.detections, &frame.teacher);
    }
    Ok(agreement)
}

/// What counts as agreement for a detector's classes.
pub(super) fn rules(config: &DetectorConfig) -> AgreementRules {
    AgreementRules::for_classes(DetectionMetric::for_classes(&config.classes()).classes)
}

/// Adds a frame, told from the sensor.
pub(super) fn compare(agreement: &mut Agreement, detections: &[Detection], teacher: &[ScoredBox]) {
    agreement.add([0.0; 2], &scored(detections), teacher);
}

/// The decoder's settings, with low scores let through.
pub(super) fn judging(config: &DetectorConfig) -> crate::detect::DecodeConfig {
    crate::detect::DecodeConfig { score_threshold: LEAST_SCORE, class_thresholds: BTreeMap::new(), ..config.decode.clone() }
}
