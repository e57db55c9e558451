//! Calibration on the robot: frames out of a recording, a method, and a look at frames that it has not seen.

use super::frame_choice::Choice;
use super::input::{Event, Inputs};
use super::labelled_frame::scored;
use super::motion::MotionTracker;
use super::perception::Perception;
use crate::detect::{
    CloudTraits, DecodeError, Detection, Detector, DetectorConfig, FloatNetwork, HeadMaps, Model, Network, NetworkError, PillarInput,
    cloud_traits, decode, network, spreads,
};
use crate::engine::Isa;
use crate::engine::float::Processor;
use crate::eval::ScoredBox;
use crate::eval::agreement::{Agreement, AgreementRules};
use crate::eval::nuscenes::DetectionMetric;
use crate::graph::Spread;
use crate::quant::{CalibrationError, Frames};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What was read from a recording.
pub struct Gathered {
    /// To calibrate with.
    pub frames: Frames,
    /// To judge with: between the others, not among them.
    pub held_out: Vec<HeldOut>,
    /// What the frames to calibrate with are like.
    pub traits: BTreeMap<String, Spread>,
    /// Clouds that could not be used, by reason.
    pub skipped: BTreeMap<String, usize>,
}

/// A frame that calibration has not seen, and what the float model makes of it.
pub struct HeldOut {
    pub pillars: PillarInput,
    pub teacher: Vec<ScoredBox>,
}

/// How many frames are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub frames: usize,
    pub held_out: usize,
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

/// The network of a detector, whose inputs go to whoever wants them.
struct Recorder {
    float: FloatNetwork,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    frames: Frames,
    held_out: Vec<HeldOut>,
    traits: Vec<CloudTraits>,
    config: DetectorConfig,
    /// The next frame is for judging.
    judge_next: bool,
}

impl Network for Recorder {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.judge_next {
            let traits = cloud_traits(&shared.config, input);
            shared.traits.push(traits);
            return HeadMaps::from_outputs(shared.frames.observe(&input.to_inputs())?);
        }
        let maps = self.float.run(input)?;
        let teacher = scored(&decode(&shared.config, &maps)?.detections);
        shared.held_out.push(HeldOut { pillars: input.clone(), teacher });
        Ok(maps)
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Calibrate,
    Judge,
}

/// Reads the frames that were chosen. `on_frame` hears of each, and may end the reading by returning false. The float network runs on
/// `processor`; scratch files lie in the directory `scratch`.
///
/// # Errors
/// A model that does not fit its graph.
pub fn gather_chosen(
    (model, config): (&Model, DetectorConfig),
    motion: MotionTracker,
    mut inputs: Inputs,
    choice: &Choice,
    (processor, scratch): (&Processor, &Path),
    on_frame: &mut dyn FnMut() -> bool,
) -> anyhow::Result<Gathered> {
    let purpose = |number: usize| {
        let calibrate = choice.calibrate.contains(&number).then_some(Purpose::Calibrate);
        calibrate.or(choice.held_out.contains(&number).then_some(Purpose::Judge))
    };
    let total = choice.calibrate.len() + choice.held_out.len();
    let judged = DetectorConfig { decode: judging(&config), ..config.clone() };
    let frames = Frames::with_scratch(model.graph(), model.params(), scratch)?.on(processor.clone())?;
    let shared = Arc::new(Mutex::new(Shared { frames, held_out: Vec::new(), traits: Vec::new(), config: judged, judge_next: false }));
    let network = Recorder { float: FloatNetwork::new(model)?, shared: shared.clone() };
    let mut perception = Perception::new(Detector::new(config, Box::new(network))?, motion);

    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let (mut number, mut used) = (0usize, 0usize);
    while used < total {
        let Some(event) = inputs.next() else { break };
        match event {
            Event::Start { .. } => perception.reset(),
            Event::Motion(message) => perception.on_motion(&message),
            Event::Frame(frame) => {
                let purpose = purpose(number);
                number += 1;
                let reason = match (*frame, purpose) {
                    (Err(unusable), _) => unusable.reason,
                    (Ok(frame), None) => {
                        perception.pass_over(&frame);
                        continue;
                    }
                    (Ok(frame), Some(purpose)) => {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).judge_next = purpose == Purpose::Judge;
                        match perception.on_cloud(&frame, None) {
                            Err(error) => format!("{:#}", anyhow::Error::from(error)),
                            Ok(_) => {
                                used += 1;
                                if on_frame() {
                                    continue;
                                }
                                break;
                            }
                        }
                    }
                };
                *skipped.entry(reason).or_default() += 1;
            }
        }
    }
    drop(perception);
    let shared = Arc::into_inner(shared).ok_or_else(|| anyhow::anyhow!("the detector still holds its frames"))?;
    let Shared { frames, held_out, traits, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Gathered { frames, held_out, traits: spreads(&traits), skipped })
}

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
