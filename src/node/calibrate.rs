//! Calibration on the robot: frames out of a recording, a method, and a look at frames that it has not seen.

use super::input::{Event, Inputs};
use super::labelled_frame::scored;
use super::motion::MotionTracker;
use super::perception::Perception;
use crate::detect::{
    DecodeError, Detector, DetectorConfig, FloatNetwork, HeadMaps, Model, Network, NetworkError, PillarInput, decode, network,
};
use crate::engine::Isa;
use crate::eval::ScoredBox;
use crate::eval::agreement::{Agreement, AgreementRules};
use crate::eval::nuscenes::DetectionMetric;
use crate::quant::Frames;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What was read from a recording.
pub struct Gathered {
    /// To calibrate with.
    pub frames: Frames,
    /// To judge with: between the others, not among them.
    pub held_out: Vec<HeldOut>,
    /// Clouds that could not be used, by reason.
    pub skipped: BTreeMap<String, usize>,
}

/// A frame that calibration has not seen, and what the float model makes of it.
pub struct HeldOut {
    pub pillars: PillarInput,
    pub teacher: Vec<ScoredBox>,
}

/// How many frames are wanted, spread evenly over the recording.
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
    config: DetectorConfig,
    /// The next frame is for judging.
    judge_next: bool,
}

impl Network for Recorder {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.judge_next {
            return HeadMaps::from_outputs(shared.frames.observe(&input.to_inputs())?);
        }
        let maps = self.float.run(input)?;
        let teacher = scored(&decode(&shared.config, &maps)?.detections);
        shared.held_out.push(HeldOut { pillars: input.clone(), teacher });
        Ok(maps)
    }
}

/// Reads frames for calibration. `on_frame` hears of each that was used, and may end the reading by returning false.
///
/// # Errors
/// A model that does not fit its graph.
pub fn gather(
    model: &Model,
    config: DetectorConfig,
    motion: MotionTracker,
    mut inputs: Inputs,
    wanted: Wanted,
    on_frame: &mut dyn FnMut() -> bool,
) -> anyhow::Result<Gathered> {
    let judged = DetectorConfig { decode: judging(&config), ..config.clone() };
    let frames = Frames::new(model.graph(), model.params())?;
    let shared = Arc::new(Mutex::new(Shared { frames, held_out: Vec::new(), config: judged, judge_next: false }));
    let network = Recorder { float: FloatNetwork::new(model)?, shared: shared.clone() };
    let mut perception = Perception::new(Detector::new(config, Box::new(network))?, motion);

    let total = wanted.frames + wanted.held_out;
    let every = (inputs.expected_frames() as usize / total.max(1)).max(1);
    // Held-out frames are spread among the others.
    let judge_every = total.checked_div(wanted.held_out).map_or(usize::MAX, |every| every.max(2));
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let (mut met, mut used) = (0usize, 0usize);
    while used < total {
        let Some(event) = inputs.next() else { break };
        match event {
            Event::Start { .. } => perception.reset(),
            Event::Motion(message) => perception.on_motion(&message),
            Event::Frame(frame) => {
                met += 1;
                let reason = match *frame {
                    Err(unusable) => unusable.reason,
                    // The last of each stretch: sweeps have gathered by then.
                    Ok(frame) if !met.is_multiple_of(every) => {
                        perception.pass_over(&frame);
                        continue;
                    }
                    Ok(frame) => {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).judge_next = used % judge_every == judge_every - 1;
                        match perception.on_cloud(&frame, &mut |_| {}) {
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
    let Shared { frames, held_out, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Gathered { frames, held_out, skipped })
}

/// How the boxes of a quantized model agree with the float model's on frames that calibration has not seen.
///
/// # Errors
/// A model that the engine refuses, or that fails.
pub fn judge(model: &Model, held_out: &[HeldOut], isa: Isa) -> Result<Agreement, JudgeError> {
    let classes = DetectionMetric::for_classes(&model.config().classes()).classes;
    let mut agreement = Agreement::new(AgreementRules::for_classes(classes));
    let mut network = network(model, isa).map_err(JudgeError::Network)?;
    let config = DetectorConfig { decode: judging(model.config()), ..model.config().clone() };
    for frame in held_out {
        let maps = network.run(&frame.pillars).map_err(JudgeError::Network)?;
        agreement.add([0.0; 2], &scored(&decode(&config, &maps)?.detections), &frame.teacher);
    }
    Ok(agreement)
}

/// The decoder's settings, with low scores let through.
fn judging(config: &DetectorConfig) -> crate::detect::DecodeConfig {
    crate::detect::DecodeConfig { score_threshold: LEAST_SCORE, class_thresholds: BTreeMap::new(), ..config.decode.clone() }
}
