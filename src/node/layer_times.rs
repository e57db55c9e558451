//! How long a network takes on this machine, layer by layer, and which layers can become finer within a time.

use super::calibrate::{HeldOut, JudgeError};
use super::layer_report::{LayerFigures, Promotion, finer, promoted};
use crate::detect::{LayerTime, Model, NetworkError, network, peak_cells};
use crate::engine::Isa;
use crate::quant::{CalibrationError, Frames, Policy, max_min};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;
use std::collections::BTreeMap;

/// Runs before any is counted, and those that are counted, over frames in turn.
const WARM_UP: usize = 2;
const RUNS: usize = 15;

/// Times networks on the engine that will run them, as `lidar_ptq bench` does: by layer, medians over frames.
///
/// Time depends on bits, not on what the integers are: networks are quantized by the simplest method.
pub struct LayerClock<'a> {
    model: &'a Model,
    frames: &'a Frames,
    held_out: &'a [HeldOut],
    isa: Isa,
    pool: ThreadPool,
}

/// What was measured, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeBudget {
    pub budget_ms: f64,
    /// With which it was measured.
    pub threads: usize,
    /// Of the network before layers became finer, and after.
    pub before_ms: f64,
    pub after_ms: f64,
    /// By how much the network takes longer if a layer becomes finer, of those that would gain by it.
    pub added_ms: BTreeMap<String, f64>,
    /// The layers that became finer.
    pub finer: Vec<String>,
}

impl<'a> LayerClock<'a> {
    /// # Errors
    /// The system has no threads for it; no frames.
    pub fn new(model: &'a Model, (frames, held_out): (&'a Frames, &'a [HeldOut]), isa: Isa, threads: usize) -> Result<Self, JudgeError> {
        if held_out.is_empty() {
            return Err(CalibrationError::NoFrames.into());
        }
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| JudgeError::Network(Box::new(e)))?;
        Ok(Self { model, frames, held_out, isa, pool })
    }

    /// Finds the layers that can become finer such that the network takes no longer than `budget_ms`, those first that gain most for the
    /// time that they add. Each is timed by itself, then all together: if they take too long, those go that were worth least.
    ///
    /// `progress` hears of each network that is timed, and may say no.
    ///
    /// # Errors
    /// A model that the engine refuses; [`CalibrationError::Stopped`] if `progress` said no.
    pub fn promote(
        &self,
        policy: &Policy,
        figures: &[LayerFigures],
        budget_ms: f64,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<(Policy, TimeBudget), JudgeError> {
        let gaining: Vec<&LayerFigures> = figures.iter().filter(|layer| layer.gain() > 0.0).collect();
        let before = self.steps(policy)?;
        let before_ms = total(&before);
        let mut added_ms = BTreeMap::new();
        for (number, layer) in gaining.iter().enumerate() {
            let after = self.steps(&finer(policy, [*layer]))?;
            added_ms.insert(layer.layer.clone(), added(&before, &after));
            if !progress(number + 1, gaining.len()) {
                return Err(CalibrationError::Stopped.into());
            }
        }
        let promotion = Promotion::Time { left_ms: budget_ms - before_ms, added_ms: added_ms.clone() };
        let mut chosen = promoted(figures, &promotion);
        let (policy, after_ms) = loop {
            let next = finer(policy, chosen.iter().copied());
            let after_ms = if chosen.is_empty() { before_ms } else { total(&self.steps(&next)?) };
            if after_ms <= budget_ms || chosen.pop().is_none() {
                break (next, after_ms);
            }
        };
        let finer = chosen.iter().map(|layer| layer.layer.clone()).collect();
        Ok((policy, TimeBudget { budget_ms, threads: self.pool.current_num_threads(), before_ms, after_ms, added_ms, finer }))
    }

    /// What the network takes, milliseconds by step.
    fn steps(&self, policy: &Policy) -> Result<BTreeMap<StepName, f64>, JudgeError> {
        let quantization = max_min(self.frames, policy, Vec::new())?;
        let model = self.model.quantize(quantization, self.frames.params().clone()).map_err(|e| JudgeError::Network(Box::new(e)))?;
        let runs = self.pool.install(|| -> Result<Vec<Vec<LayerTime>>, NetworkError> {
            let mut network = network(&model, self.isa)?;
            let mut runs = Vec::with_capacity(RUNS);
            for (run, frame) in self.held_out.iter().cycle().take(WARM_UP + RUNS).enumerate() {
                let maps = network.run_at_cells(&frame.pillars, &mut |maps| peak_cells(model.config(), maps).unwrap_or_default())?;
                network.recycle(maps);
                if run >= WARM_UP {
                    runs.push(network.layers());
                }
            }
            Ok(runs)
        });
        Ok(medians(&runs.map_err(JudgeError::Network)?))
    }
}

/// Layers, what they run in, and by which kernels: steps of the same name do the same work.
type StepName = (Vec<String>, &'static str, Vec<String>);

fn medians(runs: &[Vec<LayerTime>]) -> BTreeMap<StepName, f64> {
    let mut times: BTreeMap<StepName, Vec<f64>> = BTreeMap::new();
    for step in runs.iter().flatten() {
        let name = (step.nodes.clone(), step.kind, step.kernels.clone());
        times.entry(name).or_default().push(1e3 * step.elapsed.as_secs_f64());
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    times.into_iter().map(|(name, values)| (name, median(values))).collect()
}

fn total(steps: &BTreeMap<StepName, f64>) -> f64 {
    steps.values().sum()
}

/// Steps that are the same in both cost nothing: what their times differ by is chance.
fn added(before: &BTreeMap<StepName, f64>, after: &BTreeMap<StepName, f64>) -> f64 {
    let only = |of: &BTreeMap<StepName, f64>, other: &BTreeMap<StepName, f64>| -> f64 {
        of.iter().filter(|(name, _)| !other.contains_key(*name)).map(|(_, ms)| ms).sum()
    };
    (only(after, before) - only(before, after)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn step(node: &str, kernel: &str, ms: f64) -> LayerTime {
        LayerTime {
            nodes: vec![node.into()],
            kind: "int8",
            kernels: vec![kernel.into()],
            macs: 1,
            computed: 1.0,
            elapsed: Duration::from_secs_f64(1e-3 * ms),
        }
    }

    #[test]
    fn a_layer_adds_what_its_own_steps_take_longer() {
        let runs = |a: f64, b: f64, kernel: &str, extra: Option<f64>| {
            // The median of three, whatever the odd one out.
            let run = |odd: f64| {
                let mut run = vec![step("a", "i8", a * odd), step("b", kernel, b * odd)];
                run.extend(extra.map(|ms| step("to float", "", ms)));
                run
            };
            medians(&[run(1.0), run(9.0), run(1.0)])
        };
        let (before, after) = (runs(2.0, 3.0, "i4", None), runs(2.7, 3.5, "f32", Some(0.25)));
        assert!((total(&before) - 5.0).abs() < 1e-6 && (total(&after) - 6.45).abs() < 1e-6);
        assert!((added(&before, &after) - 0.75).abs() < 1e-6);
        // The same kernels for other bits: no time at all, whatever the clock says.
        assert_eq!(added(&before, &runs(2.2, 9.0, "i4", None)), 0.0);
        // Faster is not worth more than free.
        assert_eq!(added(&after, &before), 0.0);
    }
}
