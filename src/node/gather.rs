//! Frames out of a recording, as calibration and its judge want them: every cloud goes the way that it goes on the robot, and the float
//! network sees those that were chosen.

use super::calibrate::{HeldOut, judging};
use super::evaluator::LabelledEvent;
use super::frame_choice::Choice;
use super::input::OpenFrame;
use super::labelled_frame::scored;
use super::motion::MotionTracker;
use super::perception::{FrameError, Perception};
use super::waiting::{Arrived, Waiting};
use crate::detect::{
    CloudTraits, DetectError, Detector, DetectorConfig, FloatNetwork, HeadMaps, Model, Network, NetworkError, PillarInput, cloud_traits,
    decode, spreads,
};
use crate::engine::float::Processor;
use crate::graph::Spread;
use crate::quant::{CalibrationError, Frames};
use crate::sensor::Stamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was read for one choice of frames.
pub struct Gathered {
    /// To calibrate with.
    pub frames: Frames,
    /// To judge with: between the others, not among them.
    pub held_out: Vec<HeldOut>,
    /// What the frames to calibrate with are like.
    pub traits: BTreeMap<String, Spread>,
}

/// Clouds that could not be used, by reason.
pub type Unusable = BTreeMap<String, usize>;

/// Reads the frames of several choices in one pass; a [`Gathered`] for each. `on_frame` hears of each frame, and may end the reading by
/// returning false. The float network runs on
/// `processor`; scratch files lie in the directory `scratch`.
///
/// # Errors
/// A model that does not fit its graph; scratch files that cannot be written, such as on a full disk. A frame that cannot be used is none.
pub fn gather(
    (model, config): (&Model, DetectorConfig),
    motion: MotionTracker,
    events: impl Iterator<Item = LabelledEvent>,
    choices: &[Choice],
    (processor, scratch): (&Processor, &Path),
    on_frame: &mut dyn FnMut() -> bool,
) -> anyhow::Result<(Vec<Gathered>, Unusable)> {
    let set = |_: &Choice| -> anyhow::Result<Set> {
        let frames = Frames::with_scratch(model.graph(), model.params(), scratch)?.on(processor.clone())?;
        Ok(Set { frames, held_out: Vec::new(), traits: Vec::new() })
    };
    let config_to_judge = DetectorConfig { decode: judging(&config), ..config.clone() };
    let sets = choices.iter().map(set).collect::<Result<_, _>>()?;
    let shared = Arc::new(Mutex::new(Shared { sets, config: config_to_judge, next: Vec::new() }));
    let network = Recorder { float: FloatNetwork::new(model)?, shared: shared.clone() };
    let perception = Perception::new(Detector::new(config, Box::new(network))?, motion);
    let mut reading = Reading { perception, choices, shared: &shared, waiting: Waiting::default(), unusable: BTreeMap::new(), on_frame };
    reading.run(events)?;
    let Reading { perception, unusable, .. } = reading;
    drop(perception);
    let shared = Arc::into_inner(shared).ok_or_else(|| anyhow::anyhow!("the detector still holds its frames"))?;
    let sets = shared.into_inner().unwrap_or_else(PoisonError::into_inner).sets;
    let gathered = sets.into_iter().map(|Set { frames, held_out, traits }| Gathered { frames, held_out, traits: spreads(&traits) });
    Ok((gathered.collect(), unusable))
}

/// The network of a detector, whose inputs go to whoever wants them.
struct Recorder {
    float: FloatNetwork,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    sets: Vec<Set>,
    /// Lets low scores through.
    config: DetectorConfig,
    /// For whom the next frame is, by position, and what for.
    next: Vec<(usize, Purpose)>,
}

struct Set {
    frames: Frames,
    held_out: Vec<HeldOut>,
    traits: Vec<CloudTraits>,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Calibrate,
    Judge,
}

impl Network for Recorder {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let mut shared = lock(&self.shared);
        let Shared { sets, config, next } = &mut *shared;
        let mut maps = None;
        for &(number, purpose) in next.iter() {
            let set = &mut sets[number];
            match purpose {
                Purpose::Calibrate => {
                    let outputs = set.frames.observe(&input.to_inputs())?;
                    set.traits.push(cloud_traits(config, input));
                    maps = Some(HeadMaps::from_outputs(outputs)?);
                }
                Purpose::Judge => {
                    let own = self.float.run(input)?;
                    let teacher = scored(&decode(config, &own)?.detections);
                    set.held_out.push(HeldOut { pillars: input.clone(), teacher });
                    maps = Some(own);
                }
            }
        }
        maps.map_or_else(|| self.float.run(input), Ok)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pass over recordings.
struct Reading<'a> {
    perception: Perception,
    choices: &'a [Choice],
    shared: &'a Mutex<Shared>,
    /// Frames with their number, until the poses that they need have come.
    waiting: Waiting<(usize, OpenFrame)>,
    unusable: Unusable,
    on_frame: &'a mut dyn FnMut() -> bool,
}

impl Reading<'_> {
    fn run(&mut self, events: impl Iterator<Item = LabelledEvent>) -> Result<(), CalibrationError> {
        let last = self.choices.iter().flat_map(|c| c.calibrate.iter().chain(&c.held_out)).max().copied();
        let mut number = 0;
        for event in events {
            let goes_on = match event {
                LabelledEvent::Start { .. } => {
                    let goes_on = self.release(None)?;
                    self.perception.reset();
                    goes_on
                }
                LabelledEvent::Motion(message) => {
                    self.perception.on_motion(&message);
                    self.release(Some(message.stamp))?
                }
                LabelledEvent::Failed(unusable) => {
                    number += 1;
                    *self.unusable.entry(unusable.reason).or_default() += 1;
                    true
                }
                LabelledEvent::Cloud(cloud) => {
                    let now = cloud.input.arrived();
                    self.waiting.push(now, Arrived::Cloud((number, cloud.input)));
                    number += 1;
                    self.release(Some(now))?
                }
            };
            if !goes_on || (last.is_none_or(|last| number > last) && self.waiting.is_empty()) {
                return Ok(());
            }
        }
        self.release(None).map(drop)
    }

    /// Works on the frames that have no more reason to wait at the recording's time `now`; `None`: the recording has ended. False if it
    /// was told to stop.
    fn release(&mut self, now: Option<Stamp>) -> Result<bool, CalibrationError> {
        while let Some(released) = self.waiting.next(now, |(_, frame)| self.perception.missing_motion_s(frame)) {
            let Arrived::Cloud((number, frame)) = released.what else { continue };
            if !self.on_frame(number, &frame)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn on_frame(&mut self, number: usize, frame: &OpenFrame) -> Result<bool, CalibrationError> {
        let purpose = |choice: &Choice| {
            let calibrate = choice.calibrate.contains(&number).then_some(Purpose::Calibrate);
            calibrate.or(choice.held_out.contains(&number).then_some(Purpose::Judge))
        };
        let next: Vec<_> = self.choices.iter().enumerate().filter_map(|(set, choice)| Some((set, purpose(choice)?))).collect();
        if next.is_empty() {
            self.perception.pass_over(frame);
            return Ok(true);
        }
        lock(self.shared).next = next;
        match self.perception.on_cloud(frame, None) {
            Ok(_) => Ok((self.on_frame)()),
            Err(error) => {
                let error = scratch_failure(error)?;
                *self.unusable.entry(format!("{:#}", anyhow::Error::from(error))).or_default() += 1;
                Ok(true)
            }
        }
    }
}

/// A full disk is no property of a frame: no later one will do better.
fn scratch_failure(error: FrameError) -> Result<FrameError, CalibrationError> {
    let FrameError::Detect(DetectError::Network(source)) = error else { return Ok(error) };
    match source.downcast::<CalibrationError>() {
        Ok(own) if matches!(*own, CalibrationError::Scratch { .. }) => Err(*own),
        Ok(own) => Ok(FrameError::Detect(DetectError::Network(own))),
        Err(source) => Ok(FrameError::Detect(DetectError::Network(source))),
    }
}
