//! Frames for several calibrations out of one pass over a recording.

use super::judging;
use crate::detect::{Detector, DetectorConfig, FloatNetwork, HeadMaps, Model, Network, NetworkError, PillarInput};
use crate::node::evaluator::{Evaluator, LabelledCloud, LabelledEvent, Labels};
use crate::node::motion::MotionTracker;
use crate::node::perception::Perception;
use crate::quant::Frames;
use crate::random::Rng;
use std::sync::{Arc, Mutex, PoisonError};

/// How frames are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawOptions {
    /// Calibrations, each with frames of its own drawing.
    pub draws: usize,
    /// Frames of each.
    pub frames: usize,
    /// Frames among which they are drawn.
    pub among: usize,
    /// At most one frame in this many seconds is among them.
    pub every_s: f64,
    pub seed: u64,
}

/// Runs the float model over a recording, whose labels nobody looks at, and gives each calibration its frames. `on_frame` hears how
/// many have been looked at, and may end it by returning false.
///
/// # Errors
/// A model that does not fit its graph; a draw for which no frame was left.
pub fn draw_frames(
    model: &Model,
    config: DetectorConfig,
    motion: MotionTracker,
    events: impl Iterator<Item = LabelledEvent>,
    options: DrawOptions,
    on_frame: &mut dyn FnMut(usize) -> bool,
) -> anyhow::Result<Vec<Frames>> {
    let draw = |draw: usize| -> anyhow::Result<_> {
        let choice = Choice {
            rng: Rng::new(options.seed, &format!("calibration frames {draw}")),
            wanted: options.frames,
            left: options.among.max(options.frames),
        };
        Ok((choice, Frames::new(model.graph(), model.params())?))
    };
    let draws = Arc::new(Mutex::new((0..options.draws).map(draw).collect::<Result<Vec<_>, _>>()?));
    let network = Drawing { float: FloatNetwork::new(model)?, draws: draws.clone() };
    let perception = Perception::new(Detector::new(judging(config), Box::new(network))?, motion);
    let mut evaluator = Evaluator::new(perception, options.every_s);
    for event in events {
        evaluator.on_event(unlabelled(event));
        if !on_frame(evaluator.outcome().evaluation.frames().len()) {
            break;
        }
    }
    let outcome = evaluator.finish();
    let draws = Arc::into_inner(draws).ok_or_else(|| anyhow::anyhow!("the detector still holds its frames"))?;
    let draws = draws.into_inner().unwrap_or_else(PoisonError::into_inner);
    let frames: Vec<Frames> = draws.into_iter().map(|(_, frames)| frames).collect();
    if frames.iter().any(Frames::is_empty) {
        let reasons: String = outcome.summary.skipped.keys().map(|reason| format!("\n  {reason}")).collect();
        anyhow::bail!("a calibration got no frame: {} clouds, {} of them usable{reasons}", outcome.clouds, outcome.summary.frames);
    }
    Ok(frames)
}

/// Every cloud counts as labelled, with nothing there.
pub(super) fn unlabelled(event: LabelledEvent) -> LabelledEvent {
    match event {
        LabelledEvent::Cloud(cloud) => {
            let labels = Labels { frame_id: cloud.input.cloud.frame_id.clone(), boxes: Vec::new() };
            LabelledEvent::Cloud(Box::new(LabelledCloud { input: cloud.input, labels: Some(labels) }))
        }
        other => other,
    }
}

/// The float network, whose inputs some calibrations take.
struct Drawing {
    float: FloatNetwork,
    draws: Arc<Mutex<Vec<(Choice, Frames)>>>,
}

impl Network for Drawing {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let mut outputs = None;
        for (choice, frames) in self.draws.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if choice.takes_next() {
                outputs = Some(frames.observe(&input.to_inputs())?);
            }
        }
        match outputs {
            Some(outputs) => HeadMaps::from_outputs(outputs),
            None => self.float.run(input),
        }
    }
}

/// Draws so many of so many as they come by, each choice as likely as the other (Knuth's algorithm S).
struct Choice {
    rng: Rng,
    wanted: usize,
    left: usize,
}

impl Choice {
    fn takes_next(&mut self) -> bool {
        let takes = self.rng.unit() * (self.left as f32) < self.wanted as f32;
        self.left = self.left.saturating_sub(1);
        self.wanted -= usize::from(takes && self.wanted > 0);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_as_wanted_are_drawn_and_evenly() {
        let mut taken = [0; 50];
        for seed in 0..2000 {
            let mut choice = Choice { rng: Rng::new(seed, "test"), wanted: 20, left: 50 };
            let picks: Vec<usize> = (0..50).filter(|_| choice.takes_next()).collect();
            assert_eq!(picks.len(), 20);
            picks.into_iter().for_each(|i| taken[i] += 1);
            // Nothing is taken of what comes beyond.
            assert!(!choice.takes_next());
        }
        // 800 each, with a standard deviation of 22.
        assert!(taken.iter().all(|&n| (690..910).contains(&n)), "{taken:?}");
    }
}
