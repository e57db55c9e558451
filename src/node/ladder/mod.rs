//! Quantization methods beside each other: the float model and everything that was made of it look at the same frames.
//!
//! A [`Ladder`] runs all models over labelled or unlabelled recordings; a [`LadderReport`] says what each lost. Quantized models run on the
//! engine on which they will run on the robot.

mod page;
mod panel;
mod report;

pub use panel::{Contender, Noise};
pub use report::{LadderReport, RangeFigures, ReportOptions, Row};

use super::evaluator::{Evaluator, LabelledCloud, LabelledEvent, Labels};
use super::motion::MotionTracker;
use super::perception::Perception;
use super::summary::Summary;
use crate::detect::{Detector, DetectorConfig, FloatNetwork, Model};
use crate::eval::agreement::{Agreement, AgreementRules};
use crate::eval::nuscenes::{DetectionMetric, Evaluation};
use crate::eval::{EvalFrame, RANGE_BINS};
use panel::{Look, Looks, Panel};
use std::sync::{Arc, Mutex, PoisonError};

/// A float model and contenders on their way through recordings.
pub struct Ladder {
    evaluator: Evaluator,
    looks: Arc<Mutex<Looks>>,
    standings: Vec<Standing>,
    /// Whether the recording that is running has labels. Of one without, every frame counts, and only agreement is told.
    labelled: bool,
}

/// What a contender did so far.
#[derive(Clone, Debug)]
pub struct Standing {
    pub method: String,
    pub bits: String,
    /// Which of several calibrations, from 0.
    pub draw: usize,
    /// Against ground truth.
    pub evaluation: Evaluation,
    /// With the float model.
    pub agreement: Agreement,
    /// Of the heat maps where the float model sees something, by range ([`RANGE_BINS`]).
    pub noise: [Noise; RANGE_BINS.len()],
}

/// What came out for everyone.
#[derive(Clone, Debug)]
pub struct LadderOutcome {
    pub float: Evaluation,
    pub standings: Vec<Standing>,
    pub summary: Summary,
}

impl Ladder {
    /// `config` is the float model's, with changes of how clouds are read. One frame in `every_s` seconds is judged.
    ///
    /// # Errors
    /// A model or a configuration that contradicts itself.
    pub fn new(
        model: &Model,
        config: DetectorConfig,
        motion: MotionTracker,
        every_s: f64,
        contenders: Vec<Contender>,
    ) -> anyhow::Result<Self> {
        let config = judging(config);
        let metric = DetectionMetric::for_classes(&config.classes());
        let rules = AgreementRules::for_classes(metric.classes.clone());
        let standing = |c: &Contender| Standing {
            method: c.method.clone(),
            bits: c.bits.clone(),
            draw: c.draw,
            evaluation: Evaluation::new(metric.clone()),
            agreement: Agreement::new(rules.clone()),
            noise: Default::default(),
        };
        let standings = contenders.iter().map(standing).collect();
        let looks = Arc::new(Mutex::new(Looks::new()));
        let panel = Panel::new(FloatNetwork::new(model)?, config.clone(), contenders, looks.clone());
        let perception = Perception::new(Detector::new(config, Box::new(panel))?, motion);
        Ok(Self { evaluator: Evaluator::new(perception, every_s), looks, standings, labelled: true })
    }

    /// # Errors
    /// As [`LadderOutcome`] has all frames for everyone: a frame that the contenders did not see, which would be a defect here.
    pub fn on_event(&mut self, event: LabelledEvent) -> anyhow::Result<()> {
        if let LabelledEvent::Start { labelled, .. } = event {
            self.labelled = labelled;
        }
        self.evaluator.on_event(if self.labelled { event } else { unlabelled(event) });
        take_looks(&self.looks, &self.evaluator.outcome().evaluation, &mut self.standings)
    }

    /// Frames judged so far.
    pub fn frames(&self) -> usize {
        self.evaluator.outcome().evaluation.frames().len()
    }

    /// # Errors
    /// As [`Ladder::on_event`].
    pub fn finish(self) -> anyhow::Result<LadderOutcome> {
        let Self { evaluator, looks, mut standings, .. } = self;
        let outcome = evaluator.finish();
        take_looks(&looks, &outcome.evaluation, &mut standings)?;
        Ok(LadderOutcome { float: outcome.evaluation, standings, summary: outcome.summary })
    }
}

/// Hands each contender what it found in the frames that were judged since.
fn take_looks(looks: &Mutex<Looks>, float: &Evaluation, standings: &mut [Standing]) -> anyhow::Result<()> {
    let seen = standings.first().map_or(usize::MAX, |s| s.evaluation.frames().len());
    let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
    for (frame, _) in float.frames().iter().skip(seen) {
        // A frame whose labels could not be used was looked at, but not judged.
        let look = std::iter::from_fn(|| looks.pop_front()).find(|look| look.float == frame.predictions);
        let Look { contenders, .. } = look.ok_or_else(|| anyhow::anyhow!("{}: the contenders did not see this frame", frame.source))?;
        for (standing, (boxes, noise)) in standings.iter_mut().zip(contenders) {
            standing.agreement.add(frame.ego, &boxes, &frame.predictions);
            standing.noise.iter_mut().zip(noise).for_each(|(sum, noise)| *sum += noise);
            standing.evaluation.add(EvalFrame { predictions: boxes, ..frame.clone() });
        }
    }
    Ok(())
}

/// Every cloud counts as labelled, with nothing there.
fn unlabelled(event: LabelledEvent) -> LabelledEvent {
    match event {
        LabelledEvent::Cloud(cloud) => {
            let labels = Labels { frame_id: cloud.input.cloud.frame_id.clone(), boxes: Vec::new() };
            LabelledEvent::Cloud(Box::new(LabelledCloud { input: cloud.input, labels: Some(labels) }))
        }
        other => other,
    }
}

/// With low scores let through, as calibration judges.
fn judging(config: DetectorConfig) -> DetectorConfig {
    DetectorConfig { decode: super::calibrate::judging(&config), ..config }
}
