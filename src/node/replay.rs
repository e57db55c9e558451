//! The detector node without a network: inputs are read as fast as they can be worked on, in order, none dropped.

use super::evaluator::{LabelledCloud, LabelledEvent, Labels};
use super::input::{OpenFrame, UnusableFrame};
use super::labelled_frame::{ego_in, scored, truth_in};
use super::motion::{MotionSource, is_gap};
use super::perception::{Frame, Perception};
use super::summary::{Stage, Summary};
use super::waiting::{Arrived, Released, Waiting, in_vain_note};
use crate::detect::HeadMaps;
use crate::eval::EvalFrame;
use crate::ros::bag::RawMessage;
use crate::sensor::{LeftOut, Reset, Stamp};
use std::time::{Duration, Instant};

/// A frame with its boxes, on its way out.
pub struct FrameRecord<'a> {
    /// Frames before this one.
    pub index: usize,
    pub input: &'a OpenFrame,
    pub frame: &'a Frame,
    /// The network's raw outputs, by role.
    pub maps: Option<&'a HeadMaps>,
    /// The boxes beside the labelled objects, if somebody labelled this moment.
    pub labelled: Option<&'a EvalFrame>,
}

/// Something that takes results: a bag, a file of lines, pictures.
pub trait FrameSink {
    /// Whether [`FrameRecord::maps`] is needed.
    fn wants_maps(&self) -> bool {
        false
    }

    /// A message of the input bag that is not a cloud.
    ///
    /// # Errors
    /// What went wrong in writing it; the run ends.
    fn on_motion(&mut self, _message: &RawMessage) -> anyhow::Result<()> {
        Ok(())
    }

    /// # Errors
    /// What went wrong in writing it; the run ends.
    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()>;
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("writing results failed after {frames} frames")]
    Sink { frames: usize, source: anyhow::Error },
}

/// Runs until the inputs end, `max_frames` are done, or `go_on` says no after a frame.
///
/// A frame that fails is skipped and counted. A cloud whose sweeps need a pose that has not come waits for it (as
/// told in `waiting.rs`), and so does all behind it. Returns what was done.
///
/// # Errors
/// A sink that fails.
pub fn replay(
    inputs: &mut dyn Iterator<Item = LabelledEvent>,
    perception: &mut Perception,
    sinks: &mut [&mut dyn FrameSink],
    max_frames: usize,
    go_on: &mut dyn FnMut(&Summary) -> bool,
) -> Result<Summary, ReplayError> {
    let wants_maps = sinks.iter().any(|s| s.wants_maps());
    let mut run = Run {
        perception,
        sinks,
        max_frames,
        go_on,
        wants_maps,
        summary: Summary::default(),
        waiting: Waiting::default(),
        first_labelled: None,
        ended: false,
    };
    while !run.is_done() {
        let start = Instant::now();
        let event = inputs.next();
        let read = start.elapsed();
        match event {
            None => {
                run.release(None)?;
                break;
            }
            Some(LabelledEvent::Start { source, labelled }) => {
                run.release(None)?;
                tracing::info!(%source, labelled, "recording starts");
                run.perception.reset();
                run.first_labelled = None;
            }
            Some(LabelledEvent::Motion(message)) => {
                let now = message.stamp;
                run.perception.on_motion(&message);
                run.waiting.push(now, Arrived::Motion(message));
                run.release(Some(now))?;
            }
            Some(LabelledEvent::Failed(UnusableFrame { source_name, reason })) => {
                skip(&mut run.summary, &source_name, &reason);
                run.ended = !(run.go_on)(&run.summary);
            }
            Some(LabelledEvent::Cloud(cloud)) => {
                let now = cloud.input.arrived();
                run.waiting.push(now, Arrived::Cloud((cloud, read)));
                run.release(Some(now))?;
            }
        }
    }
    let mut summary = run.summary;
    let bad = perception.motion().bad_messages();
    if bad > 0 {
        summary.notes.insert("transform or odometry messages that could not be used".into(), bad);
    }
    Ok(summary)
}

/// A replay on its way.
struct Run<'a, 's> {
    perception: &'a mut Perception,
    sinks: &'a mut [&'s mut dyn FrameSink],
    max_frames: usize,
    go_on: &'a mut dyn FnMut(&Summary) -> bool,
    wants_maps: bool,
    summary: Summary,
    /// Clouds, and what it took to read them.
    waiting: Waiting<(Box<LabelledCloud>, Duration)>,
    /// When the recording's first labelled cloud was.
    first_labelled: Option<Stamp>,
    /// `go_on` has said no.
    ended: bool,
}

impl Run<'_, '_> {
    fn is_done(&self) -> bool {
        self.ended || self.summary.frames >= self.max_frames
    }

    /// Works on what has no more reason to wait at the recording's time `now`; `None`: the recording has ended.
    fn release(&mut self, now: Option<Stamp>) -> Result<(), ReplayError> {
        while !self.is_done()
            && let Some(Released { what, in_vain }) = self.waiting.next(now, |(cloud, _)| self.perception.missing_motion_s(&cloud.input))
        {
            match what {
                Arrived::Motion(message) => write(self.sinks, self.summary.frames, |s| s.on_motion(&message))?,
                Arrived::Cloud((cloud, read)) => {
                    if in_vain {
                        self.summary.note(in_vain_note());
                    }
                    self.summary.add_time(Stage::Read, read);
                    self.process(*cloud)?;
                    self.ended = !(self.go_on)(&self.summary);
                }
            }
        }
        Ok(())
    }

    fn process(&mut self, LabelledCloud { input, labels }: LabelledCloud) -> Result<(), ReplayError> {
        let mut maps = None;
        let mut keep = |m: &HeadMaps| maps = Some(m.clone());
        let keep = self.wants_maps.then_some(&mut keep as &mut dyn FnMut(&HeadMaps));
        let frame = match self.perception.on_cloud(&input, keep) {
            Ok(frame) => frame,
            Err(reason) => {
                skip(&mut self.summary, &input.source, &reason.to_string());
                return Ok(());
            }
        };
        count(&input, &frame, self.perception, &mut self.summary);
        let labelled = labels.and_then(|labels| self.labelled(&input, &frame, labels));

        let start = Instant::now();
        let record =
            FrameRecord { index: self.summary.frames, input: &input, frame: &frame, maps: maps.as_ref(), labelled: labelled.as_ref() };
        write(self.sinks, self.summary.frames, |s| s.on_frame(&record))?;
        self.summary.add_time(Stage::Write, start.elapsed());
        self.summary.frames += 1;
        Ok(())
    }

    /// `None`, and a note, if the labels cannot be placed: the boxes are good all the same.
    fn labelled(&mut self, input: &OpenFrame, frame: &Frame, labels: Labels) -> Option<EvalFrame> {
        let cloud = &input.cloud;
        let truth = truth_in(self.perception, cloud, labels).map_err(|reason| self.summary.note(reason)).ok()?;
        let first = *self.first_labelled.get_or_insert(cloud.stamp);
        let ego = ego_in(self.perception, cloud, &mut self.summary);
        let (source, time_s) = (input.source.clone(), cloud.stamp.seconds_since(first));
        Some(EvalFrame { source, time_s, ego, predictions: scored(&frame.detections.boxes), truth })
    }
}

/// Times, points and boxes of a frame, and what is worth knowing about it.
pub(super) fn count(input: &OpenFrame, frame: &Frame, perception: &Perception, summary: &mut Summary) {
    let times = frame.detections.times;
    for (stage, time) in [
        (Stage::Sweep, frame.sweep_time),
        (Stage::Voxelize, times.voxelize),
        (Stage::Network, times.network),
        (Stage::Decode, times.decode),
    ] {
        summary.add_time(stage, time);
    }
    summary.points += frame.cloud.len() as u64;
    summary.points_dropped += (input.dropped + frame.detections.pillars.non_finite) as u64;
    let classes = perception.detector().config().classes();
    for detection in &frame.detections.boxes {
        *summary.boxes_by_class.entry(classes[detection.label].clone()).or_default() += 1;
    }
    if let Some(own_lags) = input.own_lags {
        summary.check_lags(own_lags, perception.detector().config().points.time.usual_lags());
    }
    note(input, frame, perception, summary);
}

/// Says why the first time; the closing lines count the others.
pub(super) fn skip(summary: &mut Summary, source: &str, reason: &str) {
    if summary.skip(source, reason) {
        tracing::warn!(source, reason, "frame skipped");
    } else {
        tracing::debug!(source, reason, "frame skipped");
    }
}

/// Everything that made this frame less than it could have been.
fn note(input: &OpenFrame, frame: &Frame, perception: &Perception, summary: &mut Summary) {
    let sweeps = &frame.sweeps;
    if let Some(reset) = sweeps.reset {
        let kind = match reset {
            Reset::Backwards { .. } => "time went backwards; sweeps gathered anew",
            Reset::Gap { .. } => "gap between clouds; sweeps gathered anew",
        };
        summary.note(kind);
    }
    if sweeps.wanted > 1 && !input.in_sequence {
        summary.note(format!("single cloud instead of {} sweeps: files carry no ego motion", sweeps.wanted));
    } else if let Some(reason) = sweeps.left_out.first() {
        match reason {
            LeftOut::NoMotion { reason, .. } if is_gap(reason) => {
                let limit_s = perception.motion().limits().max_gap_s;
                summary.note(format!(
                    "sweeps left out: transforms or odometry pause for more than {limit_s} s (--max-pose-gap) around their time"
                ));
            }
            LeftOut::NoMotion { .. } => summary.note("sweeps left out: the motion since them is not known"),
            LeftOut::NoField { field, .. } => summary.note(format!("sweeps left out: they have no field `{field}`")),
        }
    } else if sweeps.merged < sweeps.wanted {
        summary.note(format!("fewer than {} sweeps: the recording has only begun", sweeps.wanted));
    }
    if sweeps.wanted > 1 && input.in_sequence {
        match perception.motion().source(&frame.cloud.frame_id, frame.cloud.stamp) {
            MotionSource::Transforms(fixed) => summary.note(format!("ego motion from transforms through `{fixed}`")),
            MotionSource::Odometry { body, mounted: true } => summary.note(format!("ego motion from odometry of `{body}`")),
            MotionSource::Odometry { body, mounted: false } => {
                summary.note(format!(
                    "ego motion from odometry of `{body}`, the lidar taken to stand at its origin: /tf_static does not say where"
                ));
            }
            MotionSource::None => summary.note("no ego motion: no usable /tf, no odometry"),
        }
    }
    let pillars = &frame.detections.pillars;
    if pillars.dropped_by_max_pillars > 0 {
        summary.note("more pillars than the model takes; the farthest in point order were left out");
    }
    if frame.detections.non_finite_boxes > 0 {
        summary.note("boxes with numbers that are not finite were left out");
    }
}

fn write(
    sinks: &mut [&mut dyn FrameSink],
    frames: usize,
    mut f: impl FnMut(&mut dyn FrameSink) -> anyhow::Result<()>,
) -> Result<(), ReplayError> {
    sinks.iter_mut().try_for_each(|s| f(*s)).map_err(|source| ReplayError::Sink { frames, source })
}
