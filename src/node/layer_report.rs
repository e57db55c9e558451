//! What quantization does to each layer, on frames that calibration has not seen; and which layers deserve more bits.

use super::calibrate::{HeldOut, JudgeError, compare, judging};
use crate::detect::{DetectorConfig, HeadMaps, Model, NetworkError, decode};
use crate::engine::float::FloatEngine;
use crate::engine::int8::Grid;
use crate::eval::agreement::Agreement;
use crate::graph::{Graph, Params, Scheme};
use crate::quant::{Bits, CalibrationError, CenterTask, Labels, Outputs, Policy, Quantized, Task};
use ndarray::ArrayD;
use serde::Serialize;
use std::collections::BTreeMap;

/// A layer of a quantized network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerFigures {
    pub layer: String,
    /// Of its weight and of what it reads.
    pub weight_bits: u8,
    pub activation_bits: u8,
    /// Of its weight in a model file.
    pub weight_bytes: usize,
    /// Its output in the quantized network against that in the float one, decibels.
    pub output_snr_db: f64,
    /// Share of the float values that it reads that lie beyond the grid's ends.
    pub clipped_share: f64,
    pub sensitivity: Option<Sensitivity>,
}

/// How much depends on a layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The network in which only this layer is quantized.
    pub alone: Cost,
    /// The network in which only this layer is float, less the whole quantized network: negative where the layer does harm.
    pub spared: Cost,
}

/// What a network's boxes and scores cost against the float network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The task's loss with the float network's scores as labels, mean over frames.
    pub loss: f64,
    /// One minus the harmonic mean of recall and precision of the float network's boxes at the lowest threshold.
    pub disagreement: f64,
}

impl std::ops::Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { loss: self.loss - other.loss, disagreement: self.disagreement - other.disagreement }
    }
}

/// The float network beside its quantized form, and frames to judge by.
pub struct Layers<'a> {
    config: DetectorConfig,
    task: CenterTask,
    graph: &'a Graph,
    quantized: &'a Quantized,
    held_out: &'a [HeldOut],
    teachers: Vec<Outputs>,
}

impl<'a> Layers<'a> {
    /// `graph` is the folded network that was quantized.
    ///
    /// # Errors
    /// Frames that do not fit the network.
    pub fn new(model: &Model, graph: &'a Graph, quantized: &'a Quantized, held_out: &'a [HeldOut]) -> Result<Self, CalibrationError> {
        let mut engine = FloatEngine::new(graph, &quantized.float)?;
        let teachers = held_out.iter().map(|frame| engine.run(&frame.pillars.to_inputs())).collect::<Result<_, _>>()?;
        let config = DetectorConfig { decode: judging(model.config()), ..model.config().clone() };
        Ok(Self { task: CenterTask::new(model.config()), config, graph, quantized, held_out, teachers })
    }

    /// Of every integer layer, in the order in which they run; without sensitivities.
    ///
    /// # Errors
    /// As [`Layers::new`].
    pub fn figures(&self) -> Result<Vec<LayerFigures>, CalibrationError> {
        let scheme = &self.quantized.quantization.scheme;
        let mut exact = FloatEngine::new(self.graph, &self.quantized.float)?;
        let mut fake = FloatEngine::with_scheme(self.graph, &self.quantized.params, scheme)?;
        // Of each node: signal and noise; of each value on a grid: clipped and all.
        let mut powers: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        let mut clipped: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for frame in self.held_out {
            let inputs = frame.pillars.to_inputs();
            let mut values: BTreeMap<String, ArrayD<f32>> = BTreeMap::new();
            exact.run_observing(&inputs, &mut |node, value| {
                if let Some(&activation) = scheme.activations.get(&node.name) {
                    let (grid, counts) = (Grid::from(activation), clipped.entry(node.name.clone()).or_default());
                    let [low, high] = [grid.low, grid.high].map(|byte| grid.value(byte));
                    // Half a step beyond the end is still rounded to it.
                    let half = 0.5 * grid.scale;
                    counts[0] += value.iter().filter(|x| **x < low - half || **x > high + half).count();
                    counts[1] += value.len();
                }
                if scheme.is_integer(&node.name) {
                    values.insert(node.name.clone(), value.clone());
                }
            })?;
            fake.run_observing(&inputs, &mut |node, value| {
                if let Some(exact) = values.remove(&node.name) {
                    let power = powers.entry(node.name.clone()).or_default();
                    for (&x, &y) in exact.iter().zip(value) {
                        power[0] += f64::from(x) * f64::from(x);
                        power[1] += f64::from(y - x) * f64::from(y - x);
                    }
                }
            })?;
        }
        let figures = self.graph.nodes.iter().filter_map(|node| {
            let weight = scheme.weights.get(&node.name)?;
            let input = &self.graph.nodes[*node.inputs.first()?].name;
            let [signal, noise] = powers.get(&node.name).copied().unwrap_or_default();
            let [beyond, all] = clipped.get(input).copied().unwrap_or_default();
            Some(LayerFigures {
                layer: node.name.clone(),
                weight_bits: weight.bits,
                activation_bits: scheme.activations.get(input)?.bits,
                weight_bytes: bytes(weight.integers.len(), weight.bits),
                output_snr_db: 10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10(),
                clipped_share: beyond as f64 / all.max(1) as f64,
                sensitivity: None,
            })
        });
        Ok(figures.collect())
    }

    /// Judges the network with only this layer quantized, and with only this layer float, for each of the layers. `progress` hears of each,
    /// and may say no.
    ///
    /// # Errors
    /// As [`Layers::new`]; [`CalibrationError::Stopped`] if `progress` said no.
    pub fn sensitivities(&self, figures: &mut [LayerFigures], progress: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), JudgeError> {
        let Quantized { quantization, params, .. } = self.quantized;
        let scheme = &quantization.scheme;
        let whole = self.cost(params, scheme)?;
        let total = figures.len();
        for (number, layer) in figures.iter_mut().enumerate() {
            let name = &layer.layer;
            let alone = self.cost(&self.mixed(|other| other == name), &self.only(name))?;
            let mut spared = scheme.clone();
            spared.weights.remove(name);
            let spared = self.cost(&self.mixed(|other| other != name), &spared)?;
            layer.sensitivity = Some(Sensitivity { alone, spared: spared - whole });
            if !progress(number + 1, total) {
                return Err(CalibrationError::Stopped.into());
            }
        }
        Ok(())
    }

    /// The scheme of one layer and what it reads.
    fn only(&self, layer: &str) -> Scheme {
        let scheme = &self.quantized.quantization.scheme;
        let mut part = Scheme::default();
        part.weights.extend(scheme.weights.get(layer).map(|w| (layer.to_owned(), w.clone())));
        let inputs = self.graph.node(layer).map(|id| self.graph.nodes[id].inputs.clone()).unwrap_or_default();
        for input in inputs.into_iter().map(|id| &self.graph.nodes[id].name) {
            part.activations.extend(scheme.activations.get(input).map(|&a| (input.clone(), a)));
        }
        part
    }

    /// The quantized network's parameters for some layers, the float network's for the others.
    fn mixed(&self, is_quantized: impl Fn(&str) -> bool) -> Params {
        let mut params = self.quantized.float.clone();
        for (name, value) in &self.quantized.params.0 {
            if name.rsplit_once('.').is_some_and(|(layer, _)| is_quantized(layer)) {
                params.0.insert(name.clone(), value.clone());
            }
        }
        params
    }

    fn cost(&self, params: &Params, scheme: &Scheme) -> Result<Cost, JudgeError> {
        let mut engine = FloatEngine::with_scheme(self.graph, params, scheme).map_err(CalibrationError::from)?;
        let mut agreement = Agreement::new(super::calibrate::rules(&self.config));
        let mut loss = 0.0;
        for (frame, teacher) in self.held_out.iter().zip(&self.teachers) {
            let outputs = engine.run(&frame.pillars.to_inputs()).map_err(CalibrationError::from)?;
            loss += self.task.loss(Labels::Soft, teacher, &outputs)?.0;
            let maps = HeadMaps::from_outputs(outputs).map_err(|e: NetworkError| JudgeError::Network(e))?;
            compare(&mut agreement, &decode(&self.config, &maps)?.detections, &frame.teacher);
        }
        Ok(Cost { loss: loss / self.held_out.len().max(1) as f64, disagreement: disagreement(&agreement) })
    }
}

/// At the lowest threshold, where there are most boxes.
fn disagreement(agreement: &Agreement) -> f64 {
    let overall = agreement.overall();
    let Some((recall, precision)) = overall.thresholds.first().and_then(|at| Some((at.recall?, at.precision.unwrap_or(0.0)))) else {
        return 0.0;
    };
    1.0 - 2.0 * recall * precision / (recall + precision).max(f64::MIN_POSITIVE)
}

/// Of a weight's integers in a model file, or of its floats for 32 bits.
fn bytes(count: usize, bits: u8) -> usize {
    match bits {
        0..=4 => count.div_ceil(2),
        5..=8 => count,
        _ => 4 * count,
    }
}

/// How many layers may become finer.
#[derive(Clone, Debug, PartialEq)]
pub enum Promotion {
    /// So many, those first that gain most.
    Layers(usize),
    /// As long as the weights of all layers together take no more bytes, those first that gain most for a byte.
    Bytes(usize),
    /// As long as the network takes no more milliseconds, those first that gain most for one; and what each layer adds, by name. A layer of
    /// which that is not known stays.
    Time { left_ms: f64, added_ms: BTreeMap<String, f64> },
}

/// Layers that gain so much for a thousandth of a millisecond are all alike: no clock tells them apart.
const LEAST_MS: f64 = 1e-3;

/// The layers that `promotion` lets become finer, those first that are worth most. A layer gains what the network in which it is float
/// loses less.
///
/// Layers without a sensitivity, and those that gain nothing, stay.
pub fn promoted<'f>(figures: &'f [LayerFigures], promotion: &Promotion) -> Vec<&'f LayerFigures> {
    let added_bytes = |layer: &LayerFigures| {
        // A byte holds eight bits, or two of four; floats four times as many as bytes.
        let elements = if layer.weight_bits <= 4 { 2 * layer.weight_bytes } else { layer.weight_bytes };
        (bytes(elements, if is_finest(layer) { 32 } else { 8 }) - layer.weight_bytes) as f64
    };
    let (mut left, least) = match promotion {
        Promotion::Layers(count) => (*count as f64, 1.0),
        Promotion::Bytes(most) => (most.saturating_sub(figures.iter().map(|l| l.weight_bytes).sum()) as f64, 1.0),
        Promotion::Time { left_ms, .. } => (*left_ms, LEAST_MS),
    };
    let price = |layer: &LayerFigures| match promotion {
        Promotion::Layers(_) => 1.0,
        Promotion::Bytes(_) => added_bytes(layer),
        Promotion::Time { added_ms, .. } => added_ms.get(&layer.layer).copied().unwrap_or(f64::INFINITY),
    };
    let worth = |layer: &LayerFigures| layer.gain() / price(layer).max(least);
    let mut candidates: Vec<&LayerFigures> = figures.iter().filter(|layer| layer.gain() > 0.0).collect();
    candidates.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    candidates.retain(|layer| {
        let fits = price(layer) <= left;
        left -= if fits { price(layer) } else { 0.0 };
        fits
    });
    candidates
}

/// A policy in which these layers are finer: 8 bits if they have fewer, float if not.
pub fn finer<'f>(policy: &Policy, layers: impl IntoIterator<Item = &'f LayerFigures>) -> Policy {
    let mut policy = policy.clone();
    for layer in layers {
        if is_finest(layer) {
            policy.float.push(layer.layer.clone());
        } else {
            policy.exceptions.push((layer.layer.clone(), Bits::W8A8));
        }
    }
    policy
}

/// Of integers.
fn is_finest(layer: &LayerFigures) -> bool {
    layer.weight_bits == 8 && layer.activation_bits == 8
}

impl LayerFigures {
    /// How much less the network loses in which this layer is float.
    pub fn gain(&self) -> f64 {
        self.sensitivity.map_or(0.0, |s| -s.spared.loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, weight_bits: u8, weight_bytes: usize, gain: f64) -> LayerFigures {
        let sensitivity = Sensitivity { alone: Cost::default(), spared: Cost { loss: -gain, disagreement: 0.0 } };
        LayerFigures {
            layer: name.into(),
            weight_bits,
            activation_bits: 8,
            weight_bytes,
            output_snr_db: 20.0,
            clipped_share: 0.0,
            sensitivity: Some(sensitivity),
        }
    }

    #[test]
    fn layers_that_gain_most_become_finer_within_the_budget() {
        let layers =
            [layer("a", 4, 100, 5.0), layer("b", 4, 10, 2.0), layer("c", 8, 10, 3.0), layer("d", 4, 50, -1.0), layer("e", 4, 40, 1.0)];
        let names = |promotion| {
            let policy = finer(&Policy::default(), promoted(&layers, &promotion));
            let finer: Vec<String> = policy.exceptions.iter().map(|(name, bits)| format!("{name}={bits}")).collect();
            (finer.join(" "), policy.float.join(" "))
        };
        assert_eq!(names(Promotion::Layers(0)), (String::new(), String::new()));
        assert_eq!(names(Promotion::Layers(2)), ("a=W8A8".into(), "c".into()));
        assert_eq!(names(Promotion::Layers(9)), ("a=W8A8 b=W8A8 e=W8A8".into(), "c".into()));
        // For a byte: b gains 0.2, c (30 bytes more as floats) 0.1, a 0.05, e 0.025. There are 210 bytes already.
        assert_eq!(names(Promotion::Bytes(210)), (String::new(), String::new()));
        assert_eq!(names(Promotion::Bytes(250)), ("b=W8A8".into(), "c".into()));
        assert_eq!(names(Promotion::Bytes(290)), ("b=W8A8 e=W8A8".into(), "c".into()));
        assert_eq!(names(Promotion::Bytes(350)), ("b=W8A8 a=W8A8".into(), "c".into()));
        // For a millisecond: e gains as much as one can tell, c 3, a 2.5; of b nothing is known.
        let times = |left_ms: f64| {
            let added_ms = [("a", 2.0), ("c", 1.0), ("d", 0.0), ("e", 0.0)].map(|(name, ms)| (name.to_owned(), ms)).into();
            Promotion::Time { left_ms, added_ms }
        };
        assert_eq!(names(times(-1.0)), (String::new(), String::new()));
        assert_eq!(names(times(0.5)), ("e=W8A8".into(), String::new()));
        assert_eq!(names(times(2.5)), ("e=W8A8".into(), "c".into()));
        assert_eq!(names(times(3.0)), ("e=W8A8 a=W8A8".into(), "c".into()));
    }
}
