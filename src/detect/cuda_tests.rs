//! Whole frames on the emulator of a GPU against the stages on the CPU: the same pillars, the same boxes, to the bit.

use super::cuda::CudaNetwork;
use super::cuda_frame::{rules, whole_frame};
use super::test_support::{self, CodeBase};
use super::*;
use crate::engine::Isa;
use crate::engine::cuda::Gpu;
use crate::engine::int8::Int8Engine;
use crate::engine::int8::cuda::{CudaEngine, FrameResult};
use crate::engine::int8::tests::{random_params, scheme_of};
use crate::graph::{Params, Scheme, fold_graph};
use crate::networks::centerpoint::{BranchRole, Upsample};
use crate::random::Rng;
use ndarray::{Array2, Array3};

/// A code base's network made small: so many pillars along x and y, head maps of half of that.
fn small(code_base: CodeBase, cells: [usize; 2]) -> DetectorConfig {
    let mut config = test_support::config(code_base);
    for (axis, count) in cells.into_iter().enumerate() {
        // Bounds that are no multiples of anything.
        config.grid.min[axis] = -2.3;
        config.grid.max[axis] = -2.3 + count as f32 * config.grid.voxel[axis];
    }
    let network = &mut config.network;
    network.encoder.layers.iter_mut().for_each(|width| *width = 8);
    network.rpn.layers = vec![1, 0, 0];
    network.rpn.filters = vec![8; 3];
    network.rpn.upsample = vec![Upsample::Same, Upsample::Transposed(2), Upsample::Transposed(4)];
    network.rpn.upsample_filters = vec![4; 3];
    network.head.shared_channels = 8;
    network.head.branch_channels = 4;
    network.head.branches.iter_mut().for_each(|b| b.channels = None);
    config.network.head.tasks.truncate(3);
    config.decode.out_size_factor = 2;
    config
}

/// A network with random weights, in integers.
struct Quantized {
    config: DetectorConfig,
    params: Params,
    scheme: Scheme,
}

impl Quantized {
    fn new(config: DetectorConfig, calibration: &Array2<f32>) -> Self {
        let graph = fold_graph(&config.graph().expect("fits"));
        let params = random_params(&graph, 5);
        let inputs = Pillarizer::new(&config).unwrap().pillarize(calibration.view()).unwrap().to_inputs();
        let scheme = scheme_of(&graph, &params, &inputs, &[], false);
        Self { config, params, scheme }
    }

    fn engine(&self) -> Int8Engine {
        let graph = fold_graph(&self.config.graph().expect("fits"));
        Int8Engine::new(&graph, &self.params, &self.scheme, Isa::Portable).expect("lowers")
    }
}

struct Portable(Int8Engine);

impl Network for Portable {
    fn run(&mut self, input: &PillarInput) -> Result<HeadMaps, NetworkError> {
        self.0.run(&input.to_inputs())?;
        HeadMaps::from_outputs(self.0.outputs().map(|(role, map)| (role.to_owned(), map.as_standard_layout().into_owned())))
    }
}

/// Points of a simple scene: a ground that thins out, and things on it. Some are outside, some on edges.
fn cloud(config: &DetectorConfig, points: usize, seed: u64) -> Array2<f32> {
    let mut rng = Rng::new(seed, "cloud");
    let Grid { min, max, voxel } = config.grid;
    let mut points = Array2::from_shape_fn((points, config.points.features.len()), |_| rng.range(0.0, 1.0));
    for mut point in points.rows_mut() {
        let [x, y] = [0, 1].map(|axis| {
            let spread = rng.range(-0.2, 1.2);
            min[axis] + (max[axis] - min[axis]) * if rng.range(0.0, 1.0) < 0.5 { spread } else { 0.3 + 0.1 * spread }
        });
        let on_edge = |v: f32, axis: usize| min[axis] + ((v - min[axis]) / voxel[axis]).round() * voxel[axis];
        (point[0], point[1]) = if rng.range(0.0, 1.0) < 0.2 { (on_edge(x, 0), on_edge(y, 1)) } else { (x, y) };
        point[2] = if rng.range(0.0, 1.0) < 0.05 { 9.0 } else { rng.range(-2.0, 1.0) };
    }
    points
}

/// Clouds in which something is at its limit.
fn clouds(config: &DetectorConfig) -> Vec<(&'static str, Array2<f32>)> {
    let channels = config.points.features.len();
    let Grid { min, voxel, .. } = config.grid;
    let heap = |count: usize, seed: u64| {
        let mut rng = Rng::new(seed, "heap");
        Array2::from_shape_fn(
            (count, channels),
            |(_, c)| if c < 2 { min[c] + voxel[c] * rng.range(3.0, 4.0) } else { rng.range(-1.0, 1.0) },
        )
    };
    let mut odd = cloud(config, 500, 3);
    for (i, value) in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, -0.0, f32::MIN_POSITIVE].into_iter().cycle().enumerate().take(300)
    {
        odd[[i, i % channels]] = value;
    }
    vec![
        ("many", cloud(config, 3000, 1)),
        ("none", Array2::zeros((0, channels))),
        ("one", heap(1, 1)),
        ("all in one pillar", heap(2100, 2)),
        ("odd numbers", odd),
        ("all odd", Array2::from_elem((40, channels), f32::NAN)),
        ("few", cloud(config, 70, 4)),
    ]
}

/// The ways of putting points into pillars, and the architectures and sizes with which each is tried.
fn voxelizations() -> [(CodeBase, Voxelization, u32, [usize; 2]); 4] {
    [
        (CodeBase::Det3d, Voxelization::Hard { max_points: 4, max_pillars: 300 }, 800, [32, 40]),
        // More cells than one block takes.
        (CodeBase::OpenPcdet, Voxelization::Dynamic { test_z: false }, 750, [64, 40]),
        (CodeBase::OpenPcdet, Voxelization::Dynamic { test_z: true }, 800, [16, 24]),
        (CodeBase::Mmdet3d, Voxelization::Hard { max_points: 1, max_pillars: 5000 }, 610, [40, 16]),
    ]
}

/// An engine for an architecture, in an order of threads.
type OnDevice = dyn Fn(Int8Engine, u32, u64) -> Option<CudaEngine>;

/// On a GPU, if there is one.
fn gpu(cpu: Int8Engine, _arch: u32, _order: u64) -> Option<CudaEngine> {
    let opened = Gpu::open(0).inspect_err(|error| println!("skipped: no GPU to run on ({error})"));
    Some(CudaEngine::on(opened.ok()?, cpu).expect("fits"))
}

#[test]
fn frames_are_the_same_from_points_to_boxes() {
    frames_are_the_same(&CudaEngine::emulated);
}

#[test]
fn frames_are_the_same_on_a_gpu() {
    frames_are_the_same(&gpu);
}

fn frames_are_the_same(on_device: &OnDevice) {
    for (order, (code_base, voxelization, arch, size)) in voxelizations().into_iter().enumerate() {
        let mut config = small(code_base, size);
        config.voxelization = voxelization;
        config.decode.score_threshold = 0.55;
        let quantized = Quantized::new(config.clone(), &cloud(&config, 2000, 2));
        let Some(gpu) = on_device(quantized.engine(), arch, order as u64) else { return };
        let mut on_cpu = Detector::new(config.clone(), Box::new(Portable(quantized.engine()))).unwrap();
        let mut on_gpu = CudaNetwork::of(gpu);
        for (name, points) in clouds(&config) {
            let expected = on_cpu.detect(points.view()).unwrap();
            let found = on_gpu.detect(&config, points.view()).expect("the device does whole frames");
            assert_eq!(found.pillars, expected.pillars, "{name} {voxelization:?}");
            let input = Pillarizer::new(&config).unwrap().pillarize(points.view()).unwrap();
            let (rows, offsets, cells) = on_gpu.engine().rows_of_last_frame();
            let bits = |values: &mut dyn Iterator<Item = &f32>| values.map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(offsets, input.index.offsets, "{name}");
            assert_eq!(cells, input.index.cells.iter().map(|&[_, y, x]| y * size[0] as u32 + x).collect::<Vec<_>>(), "{name}");
            assert!(bits(&mut rows.iter()) == bits(&mut input.features.iter()), "{name} {voxelization:?}: other rows");
            assert_eq!(found.decoded.detections, expected.boxes, "{name} {voxelization:?}");
            assert_eq!(found.decoded.non_finite, expected.non_finite_boxes, "{name}");
            assert!(name != "many" || expected.boxes.len() > 5, "{} boxes", expected.boxes.len());
        }
    }
}

/// Head maps that make decoding hard: scores and distances that are equal, boxes of every size, numbers that are none.
fn head_maps(config: &DetectorConfig, loud: f32, seed: u64) -> Vec<(String, Array3<f32>)> {
    let mut rng = Rng::new(seed, "maps");
    let [nx, ny, _] = config.grid.cells();
    let mut maps = Vec::new();
    for (task, group) in config.network.head.tasks.iter().enumerate() {
        for branch in &config.network.head.branches {
            let dim = (ny / 2, nx / 2, branch.role.channels(group.classes.len()));
            let map = Array3::from_shape_fn(dim, |_| match branch.role {
                BranchRole::Heatmap if rng.range(0.0, 1.0) > loud => -9.0,
                // Few values, of which the largest all have the score 1.
                BranchRole::Heatmap => [-1.0, 0.0, 0.5, 2.0, 30.0, 31.0, rng.range(-3.0, 3.0), f32::INFINITY][rng.index(8)],
                BranchRole::Offset => rng.range(0.0, 1.0),
                BranchRole::Size => rng.range(-1.0, 1.5),
                BranchRole::Rotation => [rng.range(-1.0, 1.0), 0.0, -0.0, 1.0][rng.index(4)],
                _ => rng.range(-2.0, 2.0),
            });
            maps.push((format!("task{task}.{}", branch.role.name()), map));
        }
    }
    for (_, map) in &mut maps {
        for _ in 0..20 {
            let at = [rng.index(map.dim().0), rng.index(map.dim().1), rng.index(map.dim().2)];
            map[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -0.0][rng.index(5)];
        }
    }
    maps
}

#[test]
fn boxes_are_the_same_whatever_the_maps_hold() {
    boxes_are_the_same(&CudaEngine::emulated);
}

#[test]
fn boxes_are_the_same_on_a_gpu() {
    boxes_are_the_same(&gpu);
}

fn boxes_are_the_same(on_device: &OnDevice) {
    let rotated = |pre, kernel| Nms::Rotated { pre, post: 40, threshold: 0.2, kernel };
    let min_radius = vec![4.0, 0.0, 0.3];
    let suppressions = [
        rotated(60, RotatedKernel::Iou3d),
        rotated(1000, RotatedKernel::Iou3d),
        rotated(70, RotatedKernel::Mmcv),
        Nms::Rotated { pre: 50, post: 100, threshold: 0.0, kernel: RotatedKernel::Mmcv },
        Nms::Circle { post: 25, min_radius },
    ];
    for (code_base, candidates) in
        CodeBase::ALL.into_iter().zip([Candidates::BestClassPerCell, Candidates::TopK { count: 100 }, Candidates::TopK { count: 2000 }])
    {
        let mut config = small(code_base, [96, 64]);
        config.decode.candidates = candidates;
        config.decode.class_thresholds.insert("bus".into(), 0.6);
        let quantized = Quantized::new(config.clone(), &cloud(&config, 300, 2));
        let Some(mut gpu) = on_device(quantized.engine(), 800, 2) else { return };
        for (i, nms) in suppressions.iter().enumerate() {
            config.decode.nms = nms.clone();
            assert!(gpu.set_frame(rules(&config)).expect("fits"));
            for (loud, seed) in [(if i == 0 { 0.0 } else { 0.03 }, 1), (if i % 2 == 0 { 1.0 } else { 0.3 }, 2)] {
                let maps = head_maps(&config, loud, seed + 10 * i as u64);
                let found = gpu.boxes_of(maps.iter().map(|(role, map)| (role.as_str(), map.as_slice().expect("standard"))));
                let found = whole_frame(&config, 0, &FrameResult { tasks: found, ..Default::default() }).decoded;
                let mut on_cpu = HeadMaps::new();
                maps.into_iter().for_each(|(role, map)| on_cpu.insert(role, map));
                let expected = decode(&config, &on_cpu).unwrap();
                assert!(found == expected, "{code_base:?} {nms:?} {loud}: {found:?}, expected {expected:?}");
                assert!(loud < 1.0 || expected.detections.len() > 60);
            }
        }
    }
}

/// What the device does not do, the stages do.
#[test]
fn what_a_device_cannot_do_is_left_to_the_stages() {
    let mut config = small(CodeBase::OpenPcdet, [32, 32]);
    let points = cloud(&config, 400, 1);
    let quantized = Quantized::new(config.clone(), &points);
    let Some(gpu) = CudaEngine::emulated(quantized.engine(), 800, 0) else { return };
    let mut on_gpu = CudaNetwork::of(gpu);
    let found = on_gpu.detect(&config, points.view()).expect("whole frames");
    on_gpu.count_clipped(true);
    assert_eq!(on_gpu.detect(&config, points.view()), None);
    on_gpu.count_clipped(false);
    on_gpu.time_layers(true).unwrap();
    assert_eq!(on_gpu.detect(&config, points.view()), None);
    on_gpu.time_layers(false).unwrap();
    assert_eq!(on_gpu.detect(&config, points.view()).as_ref(), Some(&found));
    // More boxes than a block should look for.
    let Nms::Rotated { post, .. } = &mut config.decode.nms else { panic!("rotated") };
    let usual = std::mem::replace(post, 1_000_000);
    assert_eq!(on_gpu.detect(&config, points.view()), None);
    let mut stages = Detector::new(config, Box::new(on_gpu)).unwrap().detect(points.view()).unwrap();
    stages.boxes.truncate(usual);
    assert_eq!(stages.boxes[..10], found.decoded.detections[..10], "both ways give the same best boxes");
}

/// A device that is lost in mid-run: the same frame comes from the CPU, and so do all that follow.
#[test]
fn a_frame_of_a_device_that_is_lost_is_the_cpus() {
    let config = small(CodeBase::Det3d, [16, 16]);
    let points = cloud(&config, 300, 1);
    let quantized = Quantized::new(config.clone(), &points);
    let expected = Detector::new(config.clone(), Box::new(Portable(quantized.engine()))).unwrap().detect(points.view()).unwrap();
    // A setting-up, then a frame, and nothing more.
    for lasts in [1, 2] {
        let Some(gpu) = CudaEngine::emulated_for(quantized.engine(), lasts) else { return };
        let mut detector = Detector::new(config.clone(), Box::new(CudaNetwork::of(gpu))).unwrap();
        for _ in 0..3 {
            assert_eq!(detector.detect(points.view()).unwrap().boxes, expected.boxes, "lost after {lasts}");
        }
    }
}
