//! The training loop.

use super::augment::AugmentConfig;
use super::loss::{LossConfig, TaskLoss, task_loss};
use super::optimizer::{Adam, AdamConfig, OneCycle};
use super::paste::{ObjectIndex, PasteConfig};
use super::targets::{Targets, TrainingBox, targets};
use super::window::WindowConfig;
use crate::detect::{ConfigError, DetectorConfig, PillarError, PillarInput, Pillarizer};
use crate::engine::float::{BatchStatistics, EngineError, Inputs, Norm, Processor, Tape};
use crate::graph::{Graph, NodeId, Op, Params};
use crate::random::Rng;
use ndarray::{Array2, ArrayD, ArrayView4, Ix4};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    pub seed: u64,
    pub steps: usize,
    pub batch: usize,
    pub adam: AdamConfig,
    pub loss: LossConfig,
    pub augment: AugmentConfig,
    pub paste: PasteConfig,
    /// Train on parts of frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 1000,
            batch: 4,
            adam: AdamConfig::default(),
            loss: LossConfig::default(),
            augment: AugmentConfig::default(),
            paste: PasteConfig::default(),
            window: None,
        }
    }
}

/// Why a frame cannot be had, as its source puts it.
pub type ExampleError = Box<dyn std::error::Error + Send + Sync>;

/// A labelled frame, ready for the network: `points` are `[points, channels]` as [`DetectorConfig::points`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub points: Array2<f32>,
    pub boxes: Vec<TrainingBox>,
}

/// Where labelled frames come from: a folder, a bag, a simulator.
pub trait ExampleSource: Sync {
    /// Frames in an epoch.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A frame; the same for the same `index`.
    ///
    /// # Errors
    /// The frame cannot be read.
    fn example(&self, index: usize) -> Result<Example, ExampleError>;

    /// The labels of a frame without its points. To be overridden where that is cheaper.
    ///
    /// # Errors
    /// The labels cannot be read.
    fn boxes(&self, index: usize) -> Result<Vec<TrainingBox>, ExampleError> {
        Ok(self.example(index)?.boxes)
    }
}

/// A frame whose points have `columns` columns.
pub(super) fn example_of(source: &dyn ExampleSource, index: usize, columns: usize) -> Result<Example, ExampleError> {
    let example = source.example(index)?;
    let found = example.points.ncols();
    if found == columns { Ok(example) } else { Err(format!("expected points of {columns} columns, found {found}").into()) }
}

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("there is nothing to train on: the source holds no frame")]
    NoExamples,
    #[error("`batch` and `steps` must be at least 1, found {batch} and {steps}")]
    Nothing { batch: usize, steps: usize },
    #[error("frame {index}")]
    Example { index: usize, source: ExampleError },
    #[error(transparent)]
    Pillars(#[from] PillarError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("`window.size`")]
    Window(#[source] ConfigError),
    #[error("the loss is not finite at step {step}; lower `adam.lr`")]
    Diverged { step: usize },
    #[error("the stored state is of another network: parameter `{0}` is missing or has another shape")]
    State(String),
}

/// Everything that must be kept to go on later as if nothing had happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub step: usize,
    pub params: Params,
    optimizer: Adam,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    pub step: usize,
    pub lr: f64,
    pub gradient_norm: f64,
    pub tasks: Vec<TaskLoss>,
}

impl StepReport {
    pub fn loss(&self) -> f64 {
        self.tasks.iter().map(|t| t.heatmap + t.location).sum()
    }
}

pub struct Trainer<'a> {
    detector: &'a DetectorConfig,
    graph: &'a Graph,
    processor: Processor,
    /// The same network on a window.
    window_graph: Option<Graph>,
    config: TrainConfig,
    cycle: OneCycle,
    progress: Progress,
    objects: Option<ObjectIndex>,
    /// The batch of a step to come, made while the step before it was computed.
    ahead: Option<(usize, Batch)>,
}

type Batch = Result<(Vec<Sample>, PillarInput), TrainError>;

/// What the network should say of a frame: its boxes after augmentation, and the grid that its maps cover.
struct Sample {
    boxes: Vec<TrainingBox>,
    detector: DetectorConfig,
}

impl<'a> Trainer<'a> {
    /// From given parameters, at step 0.
    ///
    /// # Errors
    /// A configuration without steps, or a window that the network cannot run on.
    pub fn new(detector: &'a DetectorConfig, graph: &'a Graph, params: Params, config: TrainConfig) -> Result<Self, TrainError> {
        if config.batch == 0 || config.steps == 0 {
            return Err(TrainError::Nothing { batch: config.batch, steps: config.steps });
        }
        let cycle = OneCycle::new(config.adam.clone(), config.steps);
        let window_graph = config.window.map(|w| w.detector(detector).graph()).transpose().map_err(TrainError::Window)?;
        let progress = Progress { step: 0, params, optimizer: Adam::new() };
        Ok(Self { detector, graph, processor: Processor::cpu(), window_graph, config, cycle, progress, objects: None, ahead: None })
    }

    /// Where the network runs. The results do not depend on it.
    pub fn on(self, processor: Processor) -> Self {
        Self { processor, ..self }
    }

    /// Goes on from a stored state.
    ///
    /// # Errors
    /// A state that does not fit the network.
    pub fn resume(&mut self, progress: Progress) -> Result<(), TrainError> {
        for spec in self.graph.params() {
            let fits = |value: Option<&ArrayD<f32>>, needed: bool| value.map_or(!needed, |v| v.shape() == spec.shape);
            let Adam { first, second, .. } = &progress.optimizer;
            if !fits(progress.params.0.get(&spec.name), true) || ![first, second].iter().all(|m| fits(m.get(&spec.name), false)) {
                return Err(TrainError::State(spec.name));
            }
        }
        self.progress = progress;
        Ok(())
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn is_done(&self) -> bool {
        self.progress.step >= self.config.steps
    }

    /// One step on the next batch. The batch after it is made meanwhile; `source` must stay the same.
    ///
    /// # Errors
    /// A frame that cannot be read, or a loss that is no longer finite.
    pub fn step(&mut self, source: &dyn ExampleSource) -> Result<StepReport, TrainError> {
        let step = self.progress.step;
        if source.is_empty() {
            return Err(TrainError::NoExamples);
        }
        if self.objects.is_none() {
            let classes = self.detector.classes();
            let index = ObjectIndex::new(&self.config.paste, &classes, source);
            self.objects = Some(index.map_err(|(index, source)| TrainError::Example { index, source })?);
        }
        let batch = match self.ahead.take() {
            Some((at, batch)) if at == step => batch,
            _ => self.batch(source, step),
        };
        let (samples, pillars) = batch?;
        let (computed, ahead) = rayon::join(
            || self.gradients(step, &samples, pillars),
            || (step + 1 < self.config.steps).then(|| (step + 1, self.batch(source, step + 1))),
        );
        self.ahead = ahead;
        let (tasks, mut gradients, statistics) = computed?;

        let (lr, momentum) = self.cycle.at(step);
        let params = &mut self.progress.params.0;
        let gradient_norm = self.progress.optimizer.step(&self.config.adam, (lr, momentum), params, &mut gradients);
        for node in &self.graph.nodes {
            if let (Op::BatchNorm { momentum, .. }, Some(met)) = (&node.op, statistics.get(&node.name)) {
                for (suffix, met) in [("running_mean", &met.mean), ("running_var", &met.var)] {
                    if let Some(running) = params.get_mut(&format!("{}.{suffix}", node.name)) {
                        let keep = 1.0 - momentum;
                        running.iter_mut().zip(met).for_each(|(r, m)| *r = (keep * f64::from(*r) + momentum * m) as f32);
                    }
                }
            }
        }
        self.progress.step += 1;
        let report = StepReport { step, lr, gradient_norm, tasks };
        if report.loss().is_finite() && gradient_norm.is_finite() { Ok(report) } else { Err(TrainError::Diverged { step }) }
    }

    /// Losses, gradients of the parameters, and what the batch norms met.
    #[allow(clippy::type_complexity)] // three maps that are used up at once
    fn gradients(
        &self,
        step: usize,
        samples: &[Sample],
        pillars: PillarInput,
    ) -> Result<(Vec<TaskLoss>, BTreeMap<String, ArrayD<f32>>, BTreeMap<String, BatchStatistics>), TrainError> {
        let inputs = network_inputs(pillars);
        let graph = self.window_graph.as_ref().filter(|_| self.window(step).is_some()).unwrap_or(self.graph);
        let tape = self.processor.forward(graph, &self.progress.params.0, &inputs, Norm::Batch)?;
        let (tasks, seeds) = self.losses(&tape, samples);
        Ok((tasks, tape.backward(seeds, &|_| true, &[]).params, tape.batch_statistics()))
    }

    fn window(&self, step: usize) -> Option<WindowConfig> {
        self.config.window.filter(|w| (step as f64) < w.until * self.config.steps as f64)
    }

    /// The frames of a step. Depends on seed and step alone.
    fn batch(&self, source: &dyn ExampleSource, step: usize) -> Batch {
        let first = step * self.config.batch;
        let features = &self.detector.points.features;
        let time = features.iter().position(|f| f == "time");
        let paste = self.objects.as_ref().filter(|_| (step as f64) < self.config.paste.until * self.config.steps as f64);
        let window = self.window(step);
        let samples = (first..first + self.config.batch)
            .into_par_iter()
            .map(|draw| {
                let index = self.shuffled(draw, source.len());
                let mut example = example_of(source, index, features.len()).map_err(|source| TrainError::Example { index, source })?;
                if let Some(objects) = paste {
                    let mut rng = Rng::new(self.config.seed.wrapping_add(draw as u64), "paste");
                    let done = objects.paste(&self.config.paste, &mut rng, source, time, &mut example);
                    done.map_err(|(index, source)| TrainError::Example { index, source })?;
                }
                let Example { mut points, mut boxes } = example;
                let mut rng = Rng::new(self.config.seed.wrapping_add(draw as u64), "augment");
                self.config.augment.apply(&mut rng, &mut points, &mut boxes);
                let mut detector = self.detector.clone();
                if let Some(window) = window {
                    detector.grid = window.draw(&mut rng, &detector.grid, &boxes);
                }
                let pillars = Pillarizer::new(&detector)?.pillarize(points.view())?;
                Ok((Sample { boxes, detector }, pillars))
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        let (samples, pillars): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        Ok((samples, PillarInput::batch(&pillars)?))
    }

    /// The frame of the `draw`th draw: every epoch is a permutation of its own.
    fn shuffled(&self, draw: usize, len: usize) -> usize {
        let (epoch, position) = (draw / len, draw % len);
        let mut rng = Rng::new(self.config.seed.wrapping_add(epoch as u64), "shuffle");
        let mut order: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            order.swap(i, rng.index(i + 1));
        }
        order[position]
    }

    /// The loss of each task, and the gradients with respect to the graph's outputs.
    fn losses(&self, tape: &Tape<'_, f32>, samples: &[Sample]) -> (Vec<TaskLoss>, Vec<(NodeId, ArrayD<f32>)>) {
        let head = &self.detector.network.head;
        let output = |task: usize, role: &str| -> Option<(NodeId, ArrayView4<'_, f32>)> {
            let id = self.graph.output(&format!("task{task}.{role}"))?;
            Some((id, tape.value(id)?.view().into_dimensionality::<Ix4>().ok()?))
        };
        let map = output(0, head.branches[0].role.name()).map_or([0, 0], |(_, v)| [v.dim().1, v.dim().2]);
        let targets: Vec<Targets> = samples.par_iter().map(|s| targets(&s.detector, map, &s.boxes)).collect();
        let (mut losses, mut seeds) = (Vec::new(), Vec::new());
        for task in 0..head.tasks.len() {
            let (ids, views): (Vec<_>, Vec<_>) = head.branches.iter().filter_map(|b| output(task, b.role.name())).unzip();
            let (loss, grads) = task_loss(head, &self.config.loss, task, &targets, &views);
            losses.push(loss);
            seeds.extend(ids.into_iter().zip(grads.into_iter().map(|g| g.into_dyn())));
        }
        (losses, seeds)
    }
}

fn network_inputs(pillars: PillarInput) -> Inputs<f32> {
    Inputs::default().with_dense("points", pillars.features.into_dyn()).with_pillars("pillars", Arc::new(pillars.index))
}

/// The numbers of a [`Progress`], for a file's header.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    pub step: usize,
    first_decay: f64,
    second_decay: f64,
}

impl Progress {
    /// As named tensors and numbers, for a file: parameters under their own names, the optimiser's moments behind prefixes.
    pub fn to_tensors(&self) -> (TrainState, Params) {
        let Adam { first, second, first_decay, second_decay } = &self.optimizer;
        let mut tensors = self.params.clone();
        for (prefix, moments) in [(FIRST, first), (SECOND, second)] {
            tensors.0.extend(moments.iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
        }
        (TrainState { step: self.step, first_decay: *first_decay, second_decay: *second_decay }, tensors)
    }

    /// The inverse of [`Progress::to_tensors`]. Whether it fits a network, [`Trainer::resume`] checks.
    pub fn from_tensors(state: TrainState, tensors: Params) -> Self {
        let mut optimizer = Adam { first_decay: state.first_decay, second_decay: state.second_decay, ..Adam::new() };
        let mut params = Params::default();
        for (name, value) in tensors.0 {
            if let Some(name) = name.strip_prefix(FIRST) {
                optimizer.first.insert(name.to_owned(), value);
            } else if let Some(name) = name.strip_prefix(SECOND) {
                optimizer.second.insert(name.to_owned(), value);
            } else {
                params.0.insert(name, value);
            }
        }
        Self { step: state.step, params, optimizer }
    }
}

const FIRST: &str = "optimizer.first.";
const SECOND: &str = "optimizer.second.";
