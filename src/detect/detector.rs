//! The whole method, from points to boxes.

use super::{
    CloudTraits, DecodeConfig, DecodeError, Detection, DetectorConfig, FloatNetwork, HeadMaps, Int8Network, Model, PillarError,
    PillarInput, PillarReport, Pillarizer, cloud_traits,
    decode::{self, DecodeOutput},
    peaks::Peaks,
    pillars::MAX_ROWS,
};
use crate::engine::{Isa, int8};
use ndarray::ArrayView2;
use std::time::{Duration, Instant};

pub use crate::engine::int8::{Clipped, StepReport as LayerTime};

/// Something that runs the network between pillars and head maps: a float engine, an integer one, a GPU.
pub trait Network: Send {
    /// Head maps of the single sample in `input`, under the roles that the graph's outputs have.
    ///
    /// # Errors
    /// Whatever the engine reports; it is passed on as [`DetectError::Network`].
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError>;

    /// As [`Network::run`] for who reads regressed values at few cells only: `choose` is shown the heat maps and names each task's
    /// cells, `y * width + x`. The other maps need to be right at these cells only.
    ///
    /// # Errors
    /// As [`Network::run`].
    fn run_at_cells(&mut self, input: &PillarInput, _choose: &mut ChooseCells<'_>) -> Result<HeadMaps, NetworkError> {
        self.run(input)
    }

    /// From points, `[points, channels]`, to boxes, for a network whose device does the steps before and behind it as well. The result is what
    /// the stages would give. `None`: it does not, or not this time.
    fn detect(&mut self, _config: &DetectorConfig, _points: ArrayView2<'_, f32>) -> Option<WholeFrame> {
        None
    }

    /// Takes back maps that nobody needs any more; a network may write the next ones into them.
    fn recycle(&mut self, _maps: HeadMaps) {}

    /// Whether to count, from the next run on, how many activations stand at the end of their range.
    fn count_clipped(&mut self, _count: bool) {}

    /// Of the last run, by layer; empty where nothing was counted, or has no range.
    fn clipped(&self) -> Vec<(String, Clipped)> {
        Vec::new()
    }

    /// Whether layers are to run by themselves, from the next run on, where they cannot be timed otherwise.
    ///
    /// # Errors
    /// The engine cannot; what it runs next is right all the same.
    fn time_layers(&mut self, _by_layer: bool) -> Result<(), NetworkError> {
        Ok(())
    }

    /// What the last run was made of, for benchmarks.
    fn layers(&self) -> Vec<LayerTime> {
        Vec::new()
    }
}

/// What [`Network::detect`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeFrame {
    pub pillars: PillarReport,
    pub decoded: DecodeOutput,
}

/// The engine that belongs to a model: integers if it is quantized, floats if not.
///
/// # Errors
/// A model that the engine refuses.
pub fn network(model: &Model, isa: Isa) -> Result<Box<dyn Network>, NetworkError> {
    Ok(if model.quantization().is_some() { Box::new(Int8Network::new(model, isa)?) } else { Box::new(FloatNetwork::new(model)?) })
}

/// The instruction set whose kernels [`network`] runs a model with where this one is chosen.
pub fn isa_in_use(model: &Model, isa: Isa) -> Isa {
    if model.quantization().is_some() { int8::isa_in_use(isa).unwrap_or(isa) } else { isa.float() }
}

/// From heat maps to the cells of each task whose regressed values will be read.
pub type ChooseCells<'a> = dyn FnMut(&HeadMaps) -> Vec<Vec<usize>> + 'a;

pub type NetworkError = Box<dyn std::error::Error + Send + Sync>;

/// Finds objects in point clouds. Frames are independent of each other.
pub struct Detector {
    config: DetectorConfig,
    pillarizer: Pillarizer,
    network: Box<dyn Network>,
    /// Of the last cloud, if they are to be kept.
    traits: Option<CloudTraits>,
}

/// What was found in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Detections {
    /// Best score first.
    pub boxes: Vec<Detection>,
    pub times: StageTimes,
    pub pillars: PillarReport,
    /// Boxes that passed the thresholds but had a number that is not finite; they are not among `boxes`.
    pub non_finite_boxes: usize,
}

/// Wall-clock time of each stage. Where a device does the whole frame, all of it counts as the network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    pub voxelize: Duration,
    pub network: Duration,
    pub decode: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(transparent)]
    Pillars(#[from] PillarError),
    #[error("running the network failed")]
    Network(#[source] NetworkError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Detector {
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn new(config: DetectorConfig, network: Box<dyn Network>) -> Result<Self, DetectError> {
        decode::check(&config)?;
        let pillarizer = Pillarizer::new(&config)?;
        Ok(Self { config, pillarizer, network, traits: None })
    }

    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Other settings of the decoder, such as thresholds, hold from the next frame on.
    ///
    /// # Errors
    /// Settings that contradict the rest of the configuration; nothing has changed then.
    pub fn set_decode(&mut self, settings: DecodeConfig) -> Result<(), DetectError> {
        let config = DetectorConfig { decode: settings, ..self.config.clone() };
        decode::check(&config)?;
        self.config = config;
        Ok(())
    }

    /// See [`Network::count_clipped`].
    pub fn count_clipped(&mut self, count: bool) {
        self.network.count_clipped(count);
    }

    /// Whether to keep, from the next cloud on, what it is like.
    pub fn keep_traits(&mut self, keep: bool) {
        self.traits = keep.then(CloudTraits::new);
    }

    /// Of the last cloud; nothing where they were not kept.
    pub fn traits(&self) -> Option<&CloudTraits> {
        self.traits.as_ref()
    }

    /// See [`Network::clipped`].
    pub fn clipped(&self) -> Vec<(String, Clipped)> {
        self.network.clipped()
    }

    /// Boxes in the frame of the points, which are `[points, channels]` with the channels of
    /// [`PointsConfig::features`](super::PointsConfig::features), sweeps merged and intensity transformed.
    ///
    /// # Errors
    /// Points with other channels than the model's, or a network that fails.
    pub fn detect(&mut self, points: ArrayView2<'_, f32>) -> Result<Detections, DetectError> {
        let mut watch = Stopwatch(Instant::now());
        if let Some(WholeFrame { pillars, decoded }) = self.whole_frame(points) {
            let times = StageTimes { network: watch.lap(), ..Default::default() };
            return Ok(Detections { boxes: decoded.detections, times, pillars, non_finite_boxes: decoded.non_finite });
        }
        watch.lap();
        let pillars = self.pillarize(points)?;
        let voxelize = watch.lap();
        let (config, mut peaks, mut choosing) = (&self.config, None, Duration::ZERO);
        let mut choose = |heat: &HeadMaps| {
            let mut watch = Stopwatch(Instant::now());
            let found = peaks.insert(Peaks::of(config, heat));
            let cells = found.as_ref().map(Peaks::cells).unwrap_or_default();
            choosing = watch.lap();
            cells
        };
        let maps = self.network.run_at_cells(&pillars, &mut choose).map_err(DetectError::Network)?;
        let network = watch.lap().saturating_sub(choosing);
        let peaks = peaks.unwrap_or_else(|| Peaks::of(&self.config, &maps))?;
        // Finding peaks is a part of decoding, wherever it happens.
        let decode = watch.lap() + choosing;
        self.boxes(maps, &peaks, pillars.report, StageTimes { voxelize, network, decode })
    }

    /// As [`Detector::detect`]; `inspect` sees the network's raw outputs, for which all of them must be computed.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub fn detect_inspecting(
        &mut self,
        points: ArrayView2<'_, f32>,
        inspect: &mut dyn FnMut(&HeadMaps),
    ) -> Result<Detections, DetectError> {
        let mut watch = Stopwatch(Instant::now());
        let pillars = self.pillarize(points)?;
        let voxelize = watch.lap();
        let maps = self.network.run(&pillars).map_err(DetectError::Network)?;
        let network = watch.lap();
        inspect(&maps);
        watch.lap();
        let peaks = Peaks::of(&self.config, &maps)?;
        let decode = watch.lap();
        self.boxes(maps, &peaks, pillars.report, StageTimes { voxelize, network, decode })
    }

    /// On the network's device, if all that is wanted are boxes. What cannot be put into pillars is the stages' to refuse.
    fn whole_frame(&mut self, points: ArrayView2<'_, f32>) -> Option<WholeFrame> {
        let fits = points.ncols() == self.config.points.features.len() && points.nrows() <= MAX_ROWS;
        if fits && self.traits.is_none() { self.network.detect(&self.config, points) } else { None }
    }

    fn pillarize(&mut self, points: ArrayView2<'_, f32>) -> Result<PillarInput, PillarError> {
        let pillars = self.pillarizer.pillarize(points)?;
        if let Some(traits) = &mut self.traits {
            *traits = cloud_traits(&self.config, &pillars);
        }
        Ok(pillars)
    }

    /// `times` are those until here.
    fn boxes(&mut self, maps: HeadMaps, peaks: &Peaks, pillars: PillarReport, times: StageTimes) -> Result<Detections, DetectError> {
        let mut watch = Stopwatch(Instant::now());
        let decoded = decode::decode_peaks(&self.config, &maps, peaks)?;
        self.network.recycle(maps);
        let times = StageTimes { decode: times.decode + watch.lap(), ..times };
        Ok(Detections { boxes: decoded.detections, times, pillars, non_finite_boxes: decoded.non_finite })
    }
}

struct Stopwatch(Instant);

impl Stopwatch {
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::test_support::{self, CodeBase};
    use crate::networks::centerpoint::BranchRole;
    use ndarray::{Array2, Array3, array};

    /// A network that sees a car in each pillar's cell.
    struct CarPerPillar(DetectorConfig);

    impl Network for CarPerPillar {
        fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
            if input.index.pillars() > 9 {
                return Err("too many cars".into());
            }
            let head = &self.0.network.head;
            let mut maps = HeadMaps::new();
            for (task, group) in head.tasks.iter().enumerate() {
                for branch in &head.branches {
                    let mut map = Array3::zeros((128, 128, branch.role.channels(group.classes.len())));
                    if branch.role == BranchRole::Heatmap {
                        map.fill(-9.0);
                        for &[_, y, x] in input.index.cells.iter().filter(|_| task == 0) {
                            map[[y as usize / 4, x as usize / 4, 0]] = 2.0;
                        }
                    }
                    maps.insert(format!("task{task}.{}", branch.role.name()), map);
                }
            }
            Ok(maps)
        }
    }

    fn detector() -> Detector {
        let config = test_support::config(CodeBase::OpenPcdet);
        Detector::new(config.clone(), Box::new(CarPerPillar(config))).unwrap()
    }

    #[test]
    fn boxes_stand_where_the_points_are() {
        let points = array![[10.1f32, -20.1, 0.0, 0.0, 0.0], [-30.1, 40.1, 0.0, 0.0, 0.0], [99.0, 0.0, 0.0, 0.0, 0.0]];
        let found = detector().detect(points.view()).unwrap();
        assert_eq!((found.pillars.points, found.pillars.kept, found.boxes.len()), (3, 2, 2));
        for (detection, point) in found.boxes.iter().zip([[10.1f32, -20.1], [-30.1, 40.1]]) {
            // Within the head cell of 0.8 m whose lower corner the box stands on.
            let [dx, dy] = [0, 1].map(|i| point[i] - detection.bbox.center[i]);
            assert!((0.0..0.8).contains(&dx) && (0.0..0.8).contains(&dy), "{detection:?}");
        }
    }

    #[test]
    fn a_frame_without_points_has_no_boxes() {
        assert!(detector().detect(Array2::zeros((0, 5)).view()).unwrap().boxes.is_empty());
    }

    #[test]
    fn errors_of_every_stage_come_out() {
        let error = detector().detect(Array2::zeros((3, 4)).view()).unwrap_err();
        assert!(matches!(error, DetectError::Pillars(PillarError::Channels { found: 4, expected: 5 })));
        let row = Array2::from_shape_fn((20, 5), |(i, j)| if j == 0 { i as f32 } else { 0.0 });
        assert!(matches!(detector().detect(row.view()), Err(DetectError::Network(_))));
        let mut config = test_support::config(CodeBase::OpenPcdet);
        config.decode.out_size_factor = 0;
        let network = Box::new(CarPerPillar(config.clone()));
        assert!(matches!(Detector::new(config, network), Err(DetectError::Decode(DecodeError::OutSizeFactor))));
    }
}
