//! A model judged on labelled recordings: every cloud goes the way that it goes on the robot, and some are looked at.

use super::input::{Event, OpenFrame, UnusableFrame};
use super::labelled_frame::{ego_in, scored, truth_in};
use super::perception::{Frame, Perception};
use super::replay::{count, skip};
use super::summary::Summary;
use super::waiting::{Arrived, Waiting, in_vain_note};
use crate::eval::agreement::{Agreement, AgreementRules};
use crate::eval::nuscenes::{DetectionMetric, Evaluation};
use crate::eval::report::{WorstFrames, WorstRules};
use crate::eval::{EvalFrame, ScoredBox, TruthBox};
use crate::ros::bag::RawMessage;
use crate::sensor::Stamp;

/// What happens next in a labelled recording.
#[derive(Clone, Debug)]
pub enum LabelledEvent {
    /// A recording starts. If it is not labelled, its frames can only be compared between models.
    Start {
        source: String,
        labelled: bool,
    },
    /// A transform or odometry message.
    Motion(RawMessage),
    Cloud(Box<LabelledCloud>),
    /// Why there is no cloud in this place.
    Failed(UnusableFrame),
}

/// An input of which nobody has labels.
impl From<Event> for LabelledEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Start { source } => Self::Start { source, labelled: false },
            Event::Motion(message) => Self::Motion(message),
            Event::Frame(frame) => match *frame {
                Ok(input) => Self::Cloud(Box::new(LabelledCloud { input, labels: None })),
                Err(reason) => Self::Failed(reason),
            },
        }
    }
}

/// A cloud, and what was there.
#[derive(Clone, Debug)]
pub struct LabelledCloud {
    pub input: OpenFrame,
    /// `None` for a moment that nobody labelled.
    pub labels: Option<Labels>,
}

/// Labelled objects of a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// If it is not the cloud's, the transforms must link the two.
    pub frame_id: String,
    /// Labels are positions in the model's list of classes. Points that are not counted yet are counted in the cloud.
    pub boxes: Vec<TruthBox>,
}

/// Runs a model over labelled recordings, and a second one beside it to compare with.
pub struct Evaluator {
    perception: Perception,
    against: Option<Teacher>,
    every_s: f64,
    recording: Recording,
    /// Clouds that came before their transform, as on the robot.
    waiting: Waiting<Box<LabelledCloud>>,
    outcome: EvalOutcome,
}

struct Teacher {
    perception: Perception,
    /// Position of each of its classes in the student's list.
    labels: Vec<Option<usize>>,
}

/// The recording that is running.
#[derive(Default)]
struct Recording {
    labelled: bool,
    start: Option<Stamp>,
    /// The last slot of time in which a frame was judged.
    slot: i64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct EvalOutcome {
    pub evaluation: Evaluation,
    /// With the second model.
    pub agreement: Option<Agreement>,
    /// If asked for.
    pub worst: Option<WorstFrames>,
    /// Of the frames that were judged.
    pub summary: Summary,
    /// Recordings seen.
    pub recordings: usize,
    /// Clouds seen, judged or not.
    pub clouds: u64,
}

/// Share of the time between judged frames by which a frame may come early: labelled moments jitter, and at 20 Hz the tenth
/// frame, which completes half a second, has the stamp 0.45 s.
const EARLY: f64 = 0.1;

impl Evaluator {
    /// At most one frame in `every_s` seconds is judged, the first after that time; with 0 every frame is.
    pub fn new(perception: Perception, every_s: f64) -> Self {
        let metric = DetectionMetric::for_classes(&perception.detector().config().classes());
        let outcome = EvalOutcome {
            evaluation: Evaluation::new(metric),
            agreement: None,
            worst: None,
            summary: Summary::default(),
            recordings: 0,
            clouds: 0,
        };
        Self { perception, against: None, every_s, recording: Recording::default(), waiting: Waiting::default(), outcome }
    }

    /// Compares with a second model, the teacher, whose classes are found by name.
    pub fn against(mut self, teacher: Perception) -> Self {
        let rules = AgreementRules::for_classes(self.outcome.evaluation.metric().classes.clone());
        let own = self.perception.detector().config().classes();
        let labels = teacher.detector().config().classes().iter().map(|class| own.iter().position(|c| c == class)).collect();
        self.against = Some(Teacher { perception: teacher, labels });
        self.outcome.agreement = Some(Agreement::new(rules));
        self
    }

    /// Keeps the clouds of the worst frames.
    pub fn keep_worst(mut self, rules: WorstRules) -> Self {
        self.outcome.worst = Some(WorstFrames::new(rules));
        self
    }

    /// What came out so far.
    pub fn outcome(&self) -> &EvalOutcome {
        &self.outcome
    }

    pub fn finish(mut self) -> EvalOutcome {
        self.release(None);
        self.outcome
    }

    pub fn on_event(&mut self, event: LabelledEvent) {
        match event {
            LabelledEvent::Start { source, labelled } => {
                self.release(None);
                tracing::info!(%source, labelled, "recording starts");
                self.perceptions().for_each(Perception::reset);
                self.recording = Recording { labelled, ..Recording::default() };
                self.outcome.recordings += 1;
            }
            LabelledEvent::Motion(message) => {
                self.perceptions().for_each(|p| p.on_motion(&message));
                self.release(Some(message.stamp));
            }
            LabelledEvent::Failed(UnusableFrame { source_name, reason }) => skip(&mut self.outcome.summary, &source_name, &reason),
            LabelledEvent::Cloud(cloud) => {
                let now = cloud.input.arrived();
                self.waiting.push(now, Arrived::Cloud(cloud));
                self.release(Some(now));
            }
        }
    }

    /// Works on the clouds that have no more reason to wait at the recording's time `now`; `None`: the recording has ended.
    fn release(&mut self, now: Option<Stamp>) {
        while let Some(released) = self.waiting.next(now, |cloud| missing_motion_s(&self.perception, self.against.as_ref(), &cloud.input)) {
            if released.in_vain {
                self.outcome.summary.note(in_vain_note());
            }
            if let Arrived::Cloud(cloud) = released.what {
                self.on_cloud(*cloud);
            }
        }
    }

    fn on_cloud(&mut self, cloud: LabelledCloud) {
        self.outcome.clouds += 1;
        let of_use = cloud.labels.is_some() || (self.against.is_some() && !self.recording.labelled);
        if !of_use || !self.recording.is_due(cloud.input.cloud.stamp, self.every_s) {
            self.perceptions().for_each(|p| p.pass_over(&cloud.input));
            return;
        }
        let source = cloud.input.source.clone();
        if let Err(reason) = self.judge(cloud) {
            skip(&mut self.outcome.summary, &source, &reason);
        }
    }

    fn perceptions(&mut self) -> impl Iterator<Item = &mut Perception> {
        std::iter::once(&mut self.perception).chain(self.against.as_mut().map(|t| &mut t.perception))
    }

    fn judge(&mut self, LabelledCloud { input, labels }: LabelledCloud) -> Result<(), String> {
        let frame = self.perception.on_cloud(&input, None);
        // Before any error ends this frame, so that the teacher has seen every cloud too.
        let teacher = self.against.as_mut().map(|t| t.perception.on_cloud(&input, None).map(|frame| t.boxes(&frame)));
        let frame = frame.map_err(|e| e.to_string())?;
        let teacher = teacher.transpose().map_err(|e| format!("the second model: {e}"))?;

        let cloud = &input.cloud;
        let truth = labels.map(|labels| truth_in(&self.perception, cloud, labels)).transpose()?;
        let ego = ego_in(&self.perception, cloud, &mut self.outcome.summary);
        count(&input, &frame, &self.perception, &mut self.outcome.summary);
        self.outcome.summary.frames += 1;
        let predictions = scored(&frame.detections.boxes);
        if let (Some(agreement), Some(teacher)) = (&mut self.outcome.agreement, teacher) {
            agreement.add(ego, &predictions, &teacher);
        }
        if let Some(truth) = truth {
            let time_s = self.recording.start.map_or(0.0, |start| cloud.stamp.seconds_since(start));
            self.outcome.evaluation.add(EvalFrame { source: input.source, time_s, ego, predictions, truth });
            if let Some(worst) = &mut self.outcome.worst {
                worst.offer_last(&self.outcome.evaluation, &frame.cloud);
            }
        }
        Ok(())
    }
}

impl Recording {
    /// Whether a frame of this time is to be judged; if so, its slot is taken.
    fn is_due(&mut self, stamp: Stamp, every_s: f64) -> bool {
        let start = *self.start.get_or_insert(stamp);
        if every_s <= 0.0 {
            return true;
        }
        let slot = (stamp.seconds_since(start) / every_s + EARLY + 1e-6).floor() as i64;
        let due = slot > self.slot;
        self.slot = self.slot.max(slot);
        due
    }
}

impl Teacher {
    /// Its boxes of classes that the student has too.
    fn boxes(&self, frame: &Frame) -> Vec<ScoredBox> {
        let known = |d: ScoredBox| self.labels.get(d.label).copied().flatten().map(|label| ScoredBox { label, ..d });
        scored(&frame.detections.boxes).into_iter().filter_map(known).collect()
    }
}

/// Of both models the one that misses more.
fn missing_motion_s(student: &Perception, teacher: Option<&Teacher>, input: &OpenFrame) -> Option<f64> {
    let perceptions = std::iter::once(student).chain(teacher.map(|t| &t.perception));
    perceptions.filter_map(|p| p.missing_motion_s(input)).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(stamps: impl IntoIterator<Item = f64>, every_s: f64) -> Vec<usize> {
        let mut recording = Recording::default();
        let due = stamps.into_iter().map(|s| recording.is_due(Stamp::from_secs_f64(1e9 + s), every_s));
        due.enumerate().filter(|(_, due)| *due).map(|(i, _)| i).collect()
    }

    #[test]
    fn one_frame_in_each_half_second_from_the_first_complete_one_on() {
        let at_20_hz = || (0..40).map(|i| 0.05 * f64::from(i));
        assert_eq!(judged(at_20_hz(), 0.5), [9, 19, 29, 39]);
        assert_eq!(judged(at_20_hz(), 0.0).len(), 40);
        // Labelled moments that come twice a second, not quite regularly: all but the first, which has no past.
        let jitter = [0.0, 0.47, 1.03, 1.48, 2.0, 2.46, 3.04];
        assert_eq!(judged(jitter, 0.5), [1, 2, 3, 4, 5, 6]);
        // A gap takes nothing from what follows.
        assert_eq!(judged([0.0, 0.5, 7.3, 7.4, 8.0], 0.5), [1, 2, 4]);
    }
}
