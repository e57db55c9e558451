//! Methods at work on a small network whose maps are mostly background.

use super::*;
use crate::engine::float::{FloatEngine, Inputs, Processor};
use crate::graph::{Dim, Graph, GraphBuilder, Op, Params};
use crate::random::Rng;
use ndarray::ArrayD;

/// A task to which every output number matters alike.
struct Even;

impl Task for Even {
    fn importance(&self, teacher: &Outputs) -> Outputs {
        teacher.iter().map(|(role, map)| (role.clone(), ArrayD::ones(map.raw_dim()))).collect()
    }

    /// Half the squared error.
    fn loss(&self, _: Labels, teacher: &Outputs, outputs: &Outputs) -> Result<(f64, Outputs), CalibrationError> {
        let gradients: Outputs = outputs.iter().map(|(role, map)| (role.clone(), map - &teacher[role])).collect();
        Ok((gradients.values().flatten().map(|&g| 0.5 * f64::from(g) * f64::from(g)).sum(), gradients))
    }
}

const SIZE: usize = 12;

fn network() -> (Graph, Params) {
    let conv = |inputs, outputs, kernel, relu| Op::Conv2d { inputs, outputs, kernel, stride: 1, padding: kernel / 2, bias: true, relu };
    let mut b = GraphBuilder::new();
    let mut x = b.input("canvas", vec![Dim::Batch, Dim::Fixed(SIZE), Dim::Fixed(SIZE), Dim::Fixed(4)]);
    for (name, op) in
        [("one", conv(4, 12, 3, true)), ("two", conv(12, 12, 3, true)), ("three", conv(12, 12, 3, true)), ("four", conv(12, 3, 1, false))]
    {
        x = b.add(name, op, &[x]);
    }
    b.output("y", x);
    let graph = b.finish().expect("a graph");
    let mut rng = Rng::new(4, "network");
    let mut params = Params::default();
    for spec in graph.params() {
        let reach = if spec.shape.len() > 1 { (6.0 / spec.shape[1..].iter().product::<usize>() as f32).sqrt() } else { 0.1 };
        params.0.insert(spec.name, ArrayD::from_shape_simple_fn(spec.shape, || rng.range(-reach, reach)));
    }
    (graph, params)
}

/// One cell of eight holds something.
fn frame(seed: u64) -> Inputs<f32> {
    let mut rng = Rng::new(seed, "frame");
    let mut canvas = ArrayD::zeros(vec![1, SIZE, SIZE, 4]);
    for mut cell in canvas.lanes_mut(ndarray::Axis(3)) {
        if rng.chance(0.125) {
            cell.mapv_inplace(|_| rng.range(0.0, 2.0));
        }
    }
    Inputs::default().with_dense("canvas", canvas)
}

fn frames() -> Frames {
    frames_on(Processor::cpu(), 24)
}

fn frames_on(processor: Processor, count: u64) -> Frames {
    let (graph, params) = network();
    let mut frames = Frames::new(&graph, &params).and_then(|frames| frames.on(processor)).expect("fits");
    for seed in 0..count {
        frames.observe(&frame(seed)).expect("runs");
    }
    frames
}

fn quantized(frames: &Frames, method: &str, bits: &str) -> Quantized {
    let policy = Policy { bits: bits.parse().expect("bits"), ..Policy::default() };
    let method = Method::find(method).expect("a method");
    quantize(frames, &method, &policy, (&Even, EFFORT), vec!["frames".into()], &mut |_, _, _| true).expect("quantizes")
}

/// Enough for so small a network.
const EFFORT: Effort = Effort { windows: 96, iterations: Some(150), batch: Some(2), window: None, seed: 1 };

/// Squared error of the outputs on frames that calibration has not seen, as a share of their energy.
fn error(frames: &Frames, quantized: &Quantized) -> f64 {
    let mut exact = FloatEngine::new(frames.graph(), frames.params()).expect("fits");
    let mut fake = FloatEngine::with_scheme(frames.graph(), &quantized.params, &quantized.quantization.scheme).expect("fits");
    let (mut lost, mut energy) = (0.0, 0.0);
    for seed in 100..120 {
        let (x, y) = (exact.run(&frame(seed)).expect("runs"), fake.run(&frame(seed)).expect("runs"));
        for (x, y) in x["y"].iter().zip(&y["y"]) {
            lost += f64::from((x - y) * (x - y));
            energy += f64::from(x * x);
        }
    }
    lost / energy
}

#[test]
fn adaptive_rounding_loses_less_than_rounding_to_nearest_on_unseen_frames() {
    let frames = frames();
    // At eight bits what is lost is in the activations of so small a network: nothing may get worse.
    for (bits, share) in [("W8A8", 1.05), ("W4A8", 0.5), ("W3A8", 0.5)] {
        let nearest = error(&frames, &quantized(&frames, "max-min", bits));
        for method in ["adaptive", "lidar-ptq"] {
            let adaptive = error(&frames, &quantized(&frames, method, bits));
            assert!(adaptive < share * nearest, "{bits} {method}: {adaptive}, to nearest {nearest}");
        }
    }
}

/// Histograms counted on the way are those of a run of their own.
#[test]
fn ranges_are_the_same_whoever_counts() {
    let (own, on_the_way) = (frames(), frames());
    let steps = |frames: &Frames, method: &str| {
        let scheme = quantized(frames, method, "W4A4").quantization.scheme;
        scheme.activations.into_iter().map(|(name, activation)| (name, activation.scale)).collect::<Vec<_>>()
    };
    let (expected, found) = (steps(&own, "grid"), steps(&on_the_way, "adaptive-task"));
    assert_eq!(expected.len(), 4);
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert!((expected - found).abs() <= 1e-5 * expected, "{name}: {found}, expected {expected}");
    }
    assert!(expected != steps(&own, "max-min"), "nothing was clipped");
}

/// Each of the published compositions, on frames that it has not seen.
#[test]
fn learnt_rounding_loses_less_than_rounding_to_nearest_on_unseen_frames() {
    let frames = frames();
    let nearest = error(&frames, &quantized(&frames, "grid", "W4A8"));
    for method in ["adaround", "brecq", "qdrop", "pd-quant", "paper", "paper-hard"] {
        let found = quantized(&frames, method, "W4A8");
        let learnt = error(&frames, &found);
        assert!(learnt < 0.7 * nearest, "{method}: {learnt}, to nearest {nearest}");
        assert_eq!(found.rounding.len(), if method == "adaround" { 4 } else { 1 }, "{method}: {:?}", found.rounding);
    }
}

/// At few bits of activations the observers' steps are not the best: to learn them gains something.
#[test]
fn learnt_steps_gain_over_observed_ones() {
    let frames = frames();
    let paper = Method::find("paper").expect("a method");
    let Rounding::Learnt(recipe) = paper.rounding else { panic!("{paper:?}") };
    let fixed = Method { rounding: Rounding::Learnt(Reconstruction { steps: Steps::Observed, ..recipe }), ..paper };
    let quantized = |method: &Method| {
        let policy = Policy { bits: "W8A3".parse().expect("bits"), ..Policy::default() };
        quantize(&frames, method, &policy, (&Even, EFFORT), vec![], &mut |_, _, _| true).expect("quantizes")
    };
    let (observed, learnt) = (quantized(&fixed), quantized(&paper));
    let [before, after] = [&observed, &learnt].map(|q| error(&frames, q));
    assert!(after < 0.99 * before, "{after}, observed {before}");
    let steps = |q: &Quantized| q.quantization.scheme.activations.values().map(|a| a.scale).collect::<Vec<_>>();
    assert!(steps(&observed).iter().zip(steps(&learnt)).all(|(o, l)| *o != l));
}

/// Keeps what is done in memory, and counts.
#[derive(Default)]
struct Memory {
    kept: Option<Partial>,
    saved: usize,
}

impl Store for Memory {
    fn load(&mut self) -> Result<Option<Partial>, CalibrationError> {
        Ok(self.kept.clone())
    }

    fn save(&mut self, partial: &Partial) -> Result<(), CalibrationError> {
        self.saved += 1;
        self.kept = Some(partial.clone());
        Ok(())
    }
}

/// Stopped again and again, each time a little later, and started anew.
#[test]
fn a_calibration_that_is_stopped_goes_on_to_the_same_bits() {
    let frames = frames();
    for method in ["lidar-ptq", "adaround", "brecq", "paper"] {
        let whole = quantized(&frames, method, "W4A8");
        let (mut store, mut patience, mut starts) = (Memory::default(), 40, 0);
        let policy = Policy { bits: "W4A8".parse().expect("bits"), ..Policy::default() };
        let again = loop {
            let mut heard = 0;
            let mut progress = |_: &str, _, _| {
                heard += 1;
                heard < patience
            };
            let method = Method::find(method).expect("a method");
            match quantize_resuming(&frames, &method, &policy, (&Even, EFFORT), vec!["frames".into()], &mut store, &mut progress) {
                Err(CalibrationError::Stopped) => (patience, starts) = (patience + 71, starts + 1),
                done => break done.expect("quantizes"),
            }
        };
        assert!(starts > 1, "{method}");
        assert_eq!(again.quantization, whole.quantization, "{method}");
        assert_eq!((again.params, again.rounding), (whole.params, whole.rounding), "{method}");
        // Nothing that was done is done again.
        assert_eq!(Some(store.saved), store.kept.map(|kept| kept.done), "{method}");
    }
}

/// The same through a file; another calibration's is not taken, and what is no state is not overwritten.
#[test]
fn a_state_file_is_taken_by_the_same_calibration_only() {
    let frames = frames();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.partial");
    let (method, policy) =
        (Method::find("adaround").expect("a method"), Policy { bits: Bits { weight: 4, activation: 8 }, ..Policy::default() });
    let store = |effort: Effort| StateFile::new(&path, &frames, &method, &policy, effort, "model");
    let run = |patience: usize| {
        let mut heard = 0;
        let mut progress = |_: &str, _, _| {
            heard += 1;
            heard < patience
        };
        quantize_resuming(&frames, &method, &policy, (&Even, EFFORT), vec!["frames".into()], &mut store(EFFORT), &mut progress)
    };
    assert!(matches!(run(400), Err(CalibrationError::Stopped)));
    assert_eq!(store(EFFORT).load().expect("reads").map(|p| p.done), Some(2));
    assert!(store(Effort { seed: 2, ..EFFORT }).load().expect("reads").is_none());
    let (again, whole) = (run(usize::MAX).expect("quantizes"), quantized(&frames, "adaround", "W4A8"));
    assert_eq!((again.quantization, again.params), (whole.quantization, whole.params));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").filter_map(|f| Some(f.ok()?.file_name())).collect();
    assert_eq!(left, ["model.partial"]);
    store(EFFORT).remove().expect("removes");
    store(EFFORT).remove().expect("nothing to remove");
    std::fs::write(&path, "my notes").expect("writes");
    assert!(store(EFFORT).load().is_err_and(|e| e.to_string().contains("model.partial")));
}

#[test]
fn every_method_yields_a_scheme_that_fits_and_says_where_it_comes_from() {
    let frames = frames();
    for method in METHODS {
        let Quantized { quantization, params, .. } = quantized(&frames, method.name, "W8A8");
        quantization.scheme.check(frames.graph()).expect("fits");
        params.check(frames.graph()).expect("fits");
        assert_eq!((quantization.calibration.method.as_str(), quantization.calibration.frames), (method.name, 24));
    }
    // The same frames, seed and method: the same scheme.
    let again = || quantized(&frames, "lidar-ptq", "W4A8").quantization;
    assert_eq!(again(), again());
}

/// All that calibration asks of the float network: forwards with its values, backwards, with fake quantization and with roundings.
fn calibrations_are_the_cpus_on(processor: &Processor, methods: &[&str]) {
    let calibrated = |processor: &Processor, method: &str| {
        let effort = Effort { iterations: Some(6), ..EFFORT };
        let policy = Policy { bits: "W4A4".parse().expect("bits"), ..Policy::default() };
        let method = Method::find(method).expect("a method");
        let frames = frames_on(processor.clone(), 3);
        let Quantized { quantization, params, rounding, .. } =
            quantize(&frames, &method, &policy, (&Even, effort), vec![], &mut |_, _, _| true).expect("quantizes");
        (quantization, params, rounding)
    };
    for method in methods {
        assert_eq!(calibrated(processor, method), calibrated(&Processor::cpu(), method), "{method}");
        assert!(processor.has_device(), "{method} ran on the CPU");
    }
}

#[test]
fn calibrations_are_the_same_on_the_emulator() {
    if let Some(processor) = Processor::emulated() {
        calibrations_are_the_cpus_on(&processor, &["grid", "lidar-ptq", "brecq", "qdrop"]);
    }
}

#[test]
fn calibrations_are_the_same_on_a_gpu() {
    if let Some(processor) = Processor::gpu() {
        calibrations_are_the_cpus_on(&processor, &METHODS.map(|method| method.name));
    }
}

#[test]
fn bits_by_layer() {
    let frames = frames();
    let bits = |text: &str| text.parse::<Bits>().expect("bits");
    let exceptions = vec![("t*".into(), bits("w2a5")), ("first".into(), bits("W8A8")), ("last".into(), bits("W7A6"))];
    let policy = Policy { float: vec!["two".into()], bits: bits("W4A4"), exceptions };
    let scheme = max_min(&frames, &policy, vec![]).expect("fits").scheme;
    let weights: Vec<_> = scheme.weights.iter().map(|(name, w)| (name.as_str(), w.bits)).collect();
    assert_eq!(weights, [("four", 7), ("one", 8), ("three", 2)]);
    let activations: Vec<_> = scheme.activations.iter().map(|(name, a)| (name.as_str(), a.bits)).collect();
    assert_eq!(activations, [("canvas", 8), ("three", 6), ("two", 5)]);
    assert_eq!(scheme.float.keys().collect::<Vec<_>>(), ["two"]);
    let wrong = Policy { float: vec!["five".into()], ..Policy::default() };
    assert!(max_min(&frames, &wrong, vec![]).expect_err("refused").to_string().contains("one, two, three, four"));
    assert!("A8W8".parse::<Bits>().is_err() && "W8A8x".parse::<Bits>().is_err());
}

#[test]
fn values_that_are_not_finite_are_named() {
    let (graph, mut params) = network();
    params.0.get_mut("two.bias").expect("there")[[0]] = f32::NAN;
    let mut frames = Frames::new(&graph, &params).expect("fits");
    frames.observe(&frame(1)).expect("runs");
    let error = max_min(&frames, &Policy::default(), vec![]).expect_err("refused").to_string();
    assert!(error.contains("`two`"), "{error}");
}
