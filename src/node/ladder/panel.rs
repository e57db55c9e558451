//! A network that is many: the float one speaks, the others are listened to.

use crate::detect::{DetectorConfig, FloatNetwork, HeadMaps, Model, Network, NetworkError, PillarInput, decode, network};
use crate::engine::Isa;
use crate::eval::{RANGE_BINS, ScoredBox};
use crate::node::labelled_frame::scored;
use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};

/// A quantized model that takes part.
pub struct Contender {
    pub method: String,
    pub bits: String,
    pub draw: usize,
    network: Box<dyn Network>,
}

/// Signal and noise of a heat map's logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    pub signal: f64,
    pub noise: f64,
}

/// What everyone made of a frame.
pub(super) struct Look {
    pub float: Vec<ScoredBox>,
    pub contenders: Vec<(Vec<ScoredBox>, [Noise; RANGE_BINS.len()])>,
}

pub(super) type Looks = VecDeque<Look>;

pub(super) struct Panel {
    float: FloatNetwork,
    config: DetectorConfig,
    contenders: Vec<Contender>,
    looks: Arc<Mutex<Looks>>,
}

/// The logit of a score of 0.1: where the float model sees something.
const FOREGROUND: f32 = -2.197_224_6;

impl Contender {
    /// # Errors
    /// A model that the engine refuses.
    pub fn new((bits, method, draw): (&str, &str, usize), model: &Model, isa: Isa) -> Result<Self, NetworkError> {
        Ok(Self { method: method.to_owned(), bits: bits.to_owned(), draw, network: network(model, isa)? })
    }
}

impl Panel {
    pub fn new(float: FloatNetwork, config: DetectorConfig, contenders: Vec<Contender>, looks: Arc<Mutex<Looks>>) -> Self {
        Self { float, config, contenders, looks }
    }
}

impl Network for Panel {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        let maps = self.float.run(input)?;
        let float = scored(&decode(&self.config, &maps)?.detections);
        let mut contenders = Vec::with_capacity(self.contenders.len());
        for contender in &mut self.contenders {
            let theirs = contender.network.run(input)?;
            let boxes = scored(&decode(&self.config, &theirs)?.detections);
            contenders.push((boxes, heat_map_noise(&self.config, &maps, &theirs)));
        }
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).push_back(Look { float, contenders });
        Ok(maps)
    }
}

/// By range, over the values of heat maps that mean a score above 0.1 to the float model.
fn heat_map_noise(config: &DetectorConfig, float: &HeadMaps, other: &HeadMaps) -> [Noise; RANGE_BINS.len()] {
    let mut sums = [Noise::default(); RANGE_BINS.len()];
    let cell_m = [0, 1].map(|axis| config.grid.voxel[axis] * config.decode.out_size_factor as f32);
    let centre = |axis: usize, index: usize| config.grid.min[axis] + (index as f32 + 0.5) * cell_m[axis];
    for ((role, float), (_, other)) in float.iter().zip(other.iter()) {
        if !role.ends_with(".heatmap") || float.dim() != other.dim() {
            continue;
        }
        for (((y, x, _), &want), &got) in float.indexed_iter().zip(other).filter(|((_, want), _)| **want > FOREGROUND) {
            let range = f64::from(centre(0, x).hypot(centre(1, y)));
            if let Some(bin) = RANGE_BINS.iter().position(|r| r.contains(&range)) {
                sums[bin] += Noise { signal: f64::from(want).powi(2), noise: f64::from(want - got).powi(2) };
            }
        }
    }
    sums
}

impl Noise {
    /// Of signal to noise; infinite without noise, `None` without a signal.
    pub fn decibels(self) -> Option<f64> {
        (self.signal > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

impl AddAssign for Noise {
    fn add_assign(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }
}
