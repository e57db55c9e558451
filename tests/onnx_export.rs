//! ONNX files: what is in them, read back with a reader of its own; and what ONNX Runtime and OpenVINO make of them, beside our
//! integer engine.
//!
//! The runtimes are the Python packages `onnxruntime` and `openvino` of `PYTHON` (default `python3`). What is absent is said, and
//! the test passes without it.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::detect::{Detection, FloatNetwork, HeadMaps, Int8Network, Model, Network, PillarInput, Pillarizer, decode};
use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::FloatEngine;
use lidar_ptq::graph::onnx::OnnxDialect;
use lidar_ptq::graph::{Activation, Provenance, fold_batch_norm};
use lidar_ptq::quant::{Frames, Policy, max_min};
use lidar_ptq::sensor::assemble;
use lidar_ptq::sensor::files::{list_cloud_files, read_cloud};
use lidar_ptq::train::initial_params;
use ndarray::{Array3, Array4, ArrayD, Ix4};
use ndarray_npy::{NpzReader, NpzWriter};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{save_tiny_model, scene, tiny_config, tiny_model};

fn pillars(model: &Model, frame: usize) -> PillarInput {
    let cloud = scene(frame);
    let points = assemble(&cloud, &model.config().points).expect("fields");
    Pillarizer::new(model.config()).expect("valid").pillarize(points.view()).expect("pillars")
}

fn quantized(model: &Model, inputs: &[PillarInput], policy: &Policy) -> Model {
    let mut frames = Frames::new(model.graph(), model.params()).expect("fits");
    for input in inputs {
        frames.observe(&input.to_inputs()).expect("runs");
    }
    let quantization = max_min(&frames, policy, Vec::new()).expect("frames");
    let (_, params) = fold_batch_norm(model.graph(), model.params());
    model.quantize(quantization, params).expect("fits")
}

/// One layer float, one of few bits: the forms that need more than a pair of operators.
fn mixed_policy() -> Policy {
    Policy {
        float: vec!["neck.blocks.1.4".into(), "bbox_head.tasks.0.hm.3".into()],
        exceptions: vec![("neck.blocks.0.1".into(), "W4A6".parse().expect("bits"))],
        ..Policy::default()
    }
}

mod read {
    //! Just enough of protocol buffers to look into a file.

    use std::collections::BTreeMap;

    /// Values of each field of a message, in order.
    #[derive(Default, Debug)]
    pub struct Message(BTreeMap<u64, Vec<Value>>);

    #[derive(Debug)]
    enum Value {
        Number(u64),
        Bytes(Vec<u8>),
    }

    impl Message {
        pub fn parse(mut bytes: &[u8]) -> Self {
            let mut message = Self::default();
            while !bytes.is_empty() {
                let key = varint(&mut bytes);
                let value = match key & 7 {
                    0 => Value::Number(varint(&mut bytes)),
                    2 => {
                        let length = varint(&mut bytes) as usize;
                        Value::Bytes(take(&mut bytes, length).to_vec())
                    }
                    5 => Value::Bytes(take(&mut bytes, 4).to_vec()),
                    other => panic!("wire type {other}"),
                };
                message.0.entry(key >> 3).or_default().push(value);
            }
            message
        }

        fn all(&self, field: u64) -> impl Iterator<Item = &Value> {
            self.0.get(&field).into_iter().flatten()
        }

        pub fn numbers(&self, field: u64) -> Vec<i64> {
            self.all(field).map(|v| if let Value::Number(n) = v { *n as i64 } else { panic!("field {field} is no number") }).collect()
        }

        pub fn bytes(&self, field: u64) -> Vec<&[u8]> {
            self.all(field).map(|v| if let Value::Bytes(b) = v { b.as_slice() } else { panic!("field {field} is no text") }).collect()
        }

        pub fn texts(&self, field: u64) -> Vec<String> {
            self.bytes(field).into_iter().map(|b| String::from_utf8(b.to_vec()).expect("text")).collect()
        }

        pub fn text(&self, field: u64) -> String {
            self.texts(field).pop().unwrap_or_default()
        }

        pub fn messages(&self, field: u64) -> Vec<Message> {
            self.bytes(field).into_iter().map(Message::parse).collect()
        }
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        unreachable!()
    }

    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (first, rest) = bytes.split_at(count);
        *bytes = rest;
        first
    }
}

/// A file taken apart, by the field numbers of `onnx.proto`.
struct Onnx {
    /// Operator, inputs, output.
    nodes: Vec<(String, Vec<String>, String)>,
    /// Type, dimensions and bytes of each constant.
    constants: BTreeMap<String, (i64, Vec<i64>, Vec<u8>)>,
    /// Names and dimensions; -1 for one that is not fixed.
    inputs: Vec<(String, Vec<i64>)>,
    outputs: Vec<(String, Vec<i64>)>,
    properties: Vec<(String, String)>,
}

impl Onnx {
    fn parse(bytes: &[u8]) -> Self {
        let model = read::Message::parse(bytes);
        assert_eq!((model.numbers(1), model.messages(8)[0].numbers(2)), (vec![7], vec![13]), "IR version, opset");
        let graph = model.messages(7).pop().expect("a graph");
        let values = |field| {
            let value = |v: read::Message| {
                let tensor = v.messages(2)[0].messages(1).pop().expect("a tensor");
                let sides = tensor.messages(2)[0].messages(1);
                (v.text(1), sides.iter().map(|s| s.numbers(1).first().copied().unwrap_or(-1)).collect())
            };
            graph.messages(field).into_iter().map(value).collect()
        };
        let constant = |t: read::Message| (t.text(8), (t.numbers(2)[0], t.numbers(1), t.bytes(9)[0].to_vec()));
        Self {
            nodes: graph.messages(1).into_iter().map(|n| (n.text(4), n.texts(1), n.text(2))).collect(),
            constants: graph.messages(5).into_iter().map(constant).collect(),
            inputs: values(11),
            outputs: values(12),
            properties: model.messages(14).into_iter().map(|p| (p.text(1), p.text(2))).collect(),
        }
    }

    fn count(&self, operator: &str) -> usize {
        self.nodes.iter().filter(|n| n.0 == operator).count()
    }

    /// Every value is made once, before it is read.
    fn check_order(&self) {
        let mut made: Vec<&str> = self.inputs.iter().map(|i| i.0.as_str()).chain(self.constants.keys().map(String::as_str)).collect();
        for (operator, inputs, output) in &self.nodes {
            inputs.iter().for_each(|i| assert!(made.contains(&i.as_str()), "{operator} {output} reads {i}"));
            assert!(!made.contains(&output.as_str()), "{output} twice");
            made.push(output);
        }
        self.outputs.iter().for_each(|o| assert!(made.contains(&o.0.as_str()), "{}", o.0));
    }
}

const F32: i64 = 1;
const U8: i64 = 2;
const I8: i64 = 3;

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
}

#[test]
fn a_quantized_file_holds_the_scheme() {
    let model = quantized(&tiny_model(1), &[pillars(&tiny_model(1), 0)], &mixed_policy());
    let scheme = &model.quantization().expect("quantized").scheme;
    let onnx = Onnx::parse(&model.to_onnx(OnnxDialect::Exact).expect("exported"));
    onnx.check_order();
    assert_eq!(onnx.inputs, [("canvas".to_owned(), vec![1, 8, 64, 64])]);
    let roles: Vec<&str> = model.graph().outputs.iter().map(|o| o.role.as_str()).collect();
    assert_eq!(onnx.outputs.iter().map(|o| o.0.as_str()).collect::<Vec<_>>(), roles);
    let (_, heatmap) = onnx.outputs.iter().find(|o| o.0 == "task0.heatmap").expect("there");
    assert_eq!(heatmap[..2], [1, model.config().network.head.tasks[0].classes.len() as i64]);
    let (key, config) = &onnx.properties[0];
    assert_eq!((key.as_str(), serde_json::from_str(config).ok().as_ref()), ("lidar_ptq.config", Some(model.config())));

    for (layer, weight) in &scheme.weights {
        let (kind, shape, bytes) = &onnx.constants[&format!("{layer}.weight/integers")];
        assert_eq!((*kind, shape.iter().map(|&n| n as usize).collect::<Vec<_>>()), (I8, weight.integers.shape().to_vec()), "{layer}");
        assert!(bytes.iter().map(|&b| b as i8).eq(weight.integers.iter().copied()), "{layer}");
        let (kind, _, scales) = &onnx.constants[&format!("{layer}.weight/scale")];
        assert_eq!((*kind, f32s(scales)), (F32, weight.scales.clone()), "{layer}");
        assert_eq!(onnx.constants[&format!("{layer}.bias")].0, F32, "{layer}");
    }
    for (node, Activation { signed, scale, .. }) in &scheme.activations {
        let name = if node == "scatter" { "canvas" } else { node };
        assert_eq!(f32s(&onnx.constants[&format!("{name}/scale")].2), [*scale], "{node}");
        assert_eq!(onnx.constants[&format!("{name}/zero")].0, if *signed { I8 } else { U8 }, "{node}");
    }
    assert_eq!(onnx.count("QuantizeLinear"), scheme.activations.len());
    assert_eq!(onnx.count("DequantizeLinear"), scheme.activations.len() + scheme.weights.len());
    let few_bits = scheme.activations.values().filter(|a| a.bits < 8).count();
    assert!(few_bits > 0 && onnx.count("Clip") == few_bits);
    let float = scheme.float.keys().filter(|l| l.starts_with("neck") || l.starts_with("bbox")).collect::<Vec<_>>();
    assert_eq!(float.len(), 2, "{float:?}");
    float.iter().for_each(|layer| assert_eq!(onnx.constants[&format!("{layer}.weight")].0, F32));

    let onnx = Onnx::parse(&model.to_onnx(OnnxDialect::Tensorrt).expect("exported"));
    onnx.check_order();
    assert!(onnx.constants.values().all(|c| c.0 != U8));
    // 255 steps of a byte without a sign are 127 of one with.
    let unsigned = scheme.activations.iter().find(|(n, a)| !a.signed && a.bits == 8 && *n != "scatter").expect("after ReLU");
    let scale = f32s(&onnx.constants[&format!("{}/scale", unsigned.0)].2)[0];
    assert!((scale * 127.0 / (unsigned.1.scale * 255.0) - 1.0).abs() < 1e-6);
}

#[test]
fn a_float_file_is_float() {
    let model = tiny_model(1);
    let onnx = Onnx::parse(&model.to_onnx(OnnxDialect::Exact).expect("exported"));
    onnx.check_order();
    assert!(onnx.constants.values().all(|c| c.0 == F32));
    let operators: std::collections::BTreeSet<&str> = onnx.nodes.iter().map(|n| n.0.as_str()).collect();
    assert_eq!(operators.into_iter().collect::<Vec<_>>(), ["Concat", "Conv", "ConvTranspose", "Relu"]);
    let encoder = Onnx::parse(&model.encoder_to_onnx().expect("exported"));
    encoder.check_order();
    assert_eq!(encoder.outputs, [("pillar_features".to_owned(), vec![-1, 1, 8])]);
}

#[test]
fn the_command_writes_files_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    save_tiny_model(&folder.path().join("model.safetensors"));
    let lidar_ptq = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        command.current_dir(folder.path()).args(arguments.split_whitespace()).output().expect("the program runs")
    };
    let output = lidar_ptq("export model.safetensors --onnx net.onnx --encoder encoder.onnx");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("written");
    assert_eq!(read("net.onnx"), tiny_model(1).to_onnx(OnnxDialect::Exact).expect("exported"));
    assert_eq!(read("encoder.onnx"), tiny_model(1).encoder_to_onnx().expect("exported"));
    for wrong in ["--onnx model.safetensors", "--onnx a.onnx --encoder a.onnx", "--onnx nowhere/a.onnx"] {
        let output = lidar_ptq(&format!("export model.safetensors {wrong}"));
        assert_eq!(output.status.code(), Some(1), "{wrong}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 3, "no temporary file stays");
    assert!(Model::load(&folder.path().join("model.safetensors")).is_ok());
}

/// The Python that has a package, if there is one.
fn python_with(package: &str) -> Option<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import numpy, {package}")]).output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: {python} with the packages numpy and {package} is not there (set PYTHON)");
    }
    found.then_some(python)
}

/// What a runtime makes of a file.
fn run(python: &str, engine: &str, onnx: &[u8], input: &str, value: &ArrayD<f32>) -> BTreeMap<String, ArrayD<f32>> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("model.onnx"), onnx).expect("written");
    let mut inputs = NpzWriter::new(File::create(at("inputs.npz")).expect("created"));
    inputs.add_array(input, value).expect("written");
    inputs.finish().expect("complete");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/run.py");
    let command = |c: &mut Command| c.arg(&script).arg(engine).args(["model.onnx", "inputs.npz", "outputs.npz"].map(at)).output();
    let output = command(&mut Command::new(python)).expect("started");
    assert!(output.status.success(), "{engine}: {}", String::from_utf8_lossy(&output.stderr));
    let mut outputs = NpzReader::new(File::open(at("outputs.npz")).expect("there")).expect("npz");
    let names = outputs.names().expect("listed");
    names.into_iter().map(|n| (n.trim_end_matches(".npy").to_owned(), outputs.by_name(&n).expect("f32"))).collect()
}

/// The canvas of a frame, channels-first.
fn canvas(model: &Model, pillars: &PillarInput) -> ArrayD<f32> {
    let mut canvas = None;
    let mut engine = FloatEngine::new(model.graph(), model.params()).expect("fits");
    let mut observe = |node: &lidar_ptq::graph::Node, value: &ArrayD<f32>| {
        if node.name == "scatter" {
            canvas = Some(value.clone().permuted_axes(vec![0, 3, 1, 2]).as_standard_layout().into_owned());
        }
    };
    engine.run_observing(&pillars.to_inputs(), &mut observe).expect("runs");
    canvas.expect("a network with a canvas")
}

/// `[1, channels, height, width]` as head maps.
fn head_maps(outputs: BTreeMap<String, ArrayD<f32>>) -> HeadMaps {
    let last = |map: ArrayD<f32>| -> ArrayD<f32> {
        let map: Array4<f32> = map.into_dimensionality::<Ix4>().expect("a map");
        map.permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned().into_dyn()
    };
    HeadMaps::from_outputs(outputs.into_iter().map(|(role, map)| (role, last(map)))).expect("maps")
}

/// By role, what one integer of the last layer's input weighs in the output at most; a hundredth of the output's reach where that
/// layer is float.
fn steps(model: &Model, maps: &HeadMaps) -> BTreeMap<String, f32> {
    let scheme = &model.quantization().expect("quantized").scheme;
    let step = |(role, map): (&str, &Array3<f32>)| {
        let node = &model.graph().nodes[model.graph().output(role).expect("a role")];
        let weight = &model.params().0[&format!("{}.weight", node.name)];
        let reach = |values: &mut dyn Iterator<Item = &f32>| values.fold(0f32, |m, v| m.max(v.abs()));
        let input = scheme.activations.get(&model.graph().nodes[node.inputs[0]].name);
        (role.to_owned(), input.map_or_else(|| 0.01 * reach(&mut map.iter()), |a| a.scale * reach(&mut weight.iter())))
    };
    maps.iter().map(step).collect()
}

/// The share of `boxes` that stand among `others` with the same label: centre within 10 cm, score within 0.03.
fn found(boxes: &[Detection], others: &[Detection]) -> f64 {
    let same = |a: &Detection, b: &Detection| {
        let distance = (0..3).map(|i| (a.bbox.center[i] - b.bbox.center[i]).powi(2)).sum::<f32>().sqrt();
        a.label == b.label && distance < 0.1 && (a.score - b.score).abs() < 0.03
    };
    boxes.iter().filter(|a| others.iter().any(|b| same(a, b))).count() as f64 / boxes.len().max(1) as f64
}

/// Our head maps, and a runtime's.
fn both(python: &str, engine: &str, model: &Model, pillars: &PillarInput) -> [HeadMaps; 2] {
    let ours = Int8Network::new(model, Isa::choose().expect("known")).expect("lowers").run(pillars).expect("runs");
    let onnx = model.to_onnx(OnnxDialect::Exact).expect("exported");
    [ours, head_maps(run(python, engine, &onnx, "canvas", &canvas(model, pillars)))]
}

/// How far apart two head maps are, on average.
fn distance(a: &Array3<f32>, b: &Array3<f32>) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

/// Nearly all values of a head map are the same as ours (rounding may put an integer on the other side of a half here and there, which
/// other integers of later layers follow), none is more than `most` steps away, and boxes are the same.
fn expect_the_same(engine: &str, model: &Model, [ours, theirs]: &[HeadMaps; 2], most: f32) {
    let steps = steps(model, ours);
    for ((role, ours), (other, theirs)) in ours.iter().zip(theirs.iter()) {
        assert_eq!((role, ours.shape()), (other, theirs.shape()));
        let differences: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / steps[role]).collect();
        let far = differences.iter().filter(|d| **d > 0.01).count() as f64 / differences.len() as f64;
        let worst = differences.iter().fold(0f32, |m, d| m.max(*d));
        println!("{engine} {role}: {:.4} % differ by more than a hundredth of a step, at most by {worst:.4} steps", 100.0 * far);
        assert!(worst <= most && far <= 0.02, "{engine} {role}: {far} {worst}");
    }
    let found = found_again(engine, model, [ours, theirs]);
    assert!(found >= 0.99, "{engine}: {found}");
}

/// The share of boxes that are found again, the lower of both ways.
fn found_again(engine: &str, model: &Model, maps: [&HeadMaps; 2]) -> f64 {
    let [ours, theirs] = maps.map(|maps| decode(model.config(), maps).expect("complete").detections);
    let found = found(&ours, &theirs).min(found(&theirs, &ours));
    println!("{engine}: {} boxes, {} of ours, {found:.4} found again", theirs.len(), ours.len());
    assert!(!ours.is_empty());
    found
}

#[test]
fn runtimes_give_the_same() {
    for engine in ["onnxruntime", "openvino"] {
        let Some(python) = python_with(engine) else { continue };
        for policy in [Policy::default(), mixed_policy()] {
            let model = tiny_model(1);
            let model = quantized(&model, &[pillars(&model, 0), pillars(&model, 1)], &policy);
            expect_the_same(engine, &model, &both(&python, engine, &model, &pillars(&model, 3)), 1.0);
        }
    }
}

/// The bundled model on a real sweep. ONNX Runtime rounds biases. Where nothing was seen, a map is one constant for each channel; one
/// that crosses a half moves the whole map, and layers behind it meet other halves. So its integers are others, but must stand for
/// the float network as well as ours do.
#[test]
fn runtimes_give_the_same_on_a_real_sweep() {
    let shared = std::env::var_os("LIDAR_PTQ_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let sweeps = shared.join("data/nuscenes_demo");
    if !sweeps.exists() {
        eprintln!("skipped: {} is not there (set LIDAR_PTQ_SHARED)", sweeps.display());
        return;
    }
    let engines = ["onnxruntime", "openvino"].map(|engine| (engine, python_with(engine)));
    if engines.iter().all(|(_, python)| python.is_none()) {
        return;
    }
    let model = Model::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/edge_pillar.safetensors")).expect("loaded");
    let cloud = read_cloud(&list_cloud_files(&sweeps).expect("listed")[0], None).expect("a sweep");
    let points = assemble(&cloud, &model.config().points).expect("fields");
    let pillars = Pillarizer::new(model.config()).expect("valid").pillarize(points.view()).expect("pillars");
    let float = FloatNetwork::new(&model).expect("fits").run(&pillars).expect("runs");
    let model = quantized(&model, std::slice::from_ref(&pillars), &Policy::default());
    for (engine, python) in engines {
        let Some(python) = python else { continue };
        let maps = both(&python, engine, &model, &pillars);
        if engine == "openvino" {
            expect_the_same(engine, &model, &maps, 8.0);
            continue;
        }
        let [ours, theirs] = &maps;
        for ((role, ours), ((_, theirs), (_, float))) in ours.iter().zip(theirs.iter().zip(float.iter())) {
            let ratio = distance(theirs, float) / distance(ours, float);
            println!("{engine} {role}: {ratio:.3} times as far from the float network as ours");
            assert!(ratio < 1.3, "{engine} {role}: {ratio}");
        }
        found_again(engine, &model, [ours, theirs]);
        found_again("float", &model, [ours, &float]);
    }
}

/// Two layers, so that points get their pillar's maximum back. Slots without a point repeat the last one.
#[test]
fn the_encoder_gives_the_canvas() {
    let Some(python) = python_with("onnxruntime") else { return };
    let mut config = tiny_config(1);
    config.network.encoder.layers = vec![12, 8];
    let params = initial_params(&config.graph().expect("valid"), 3);
    let model = Model::new(config, params, Provenance::default()).expect("they fit");
    let pillars = pillars(&model, 0);
    let (offsets, cells) = (&pillars.index.offsets, &pillars.index.cells);
    let slots = offsets.windows(2).map(|o| o[1] - o[0]).max().expect("pillars") as usize;
    let points = ArrayD::from_shape_fn(vec![cells.len(), slots, pillars.features.ncols()], |i| {
        pillars.features[[(offsets[i[0]] as usize + i[1]).min(offsets[i[0] + 1] as usize - 1), i[2]]]
    });
    let features = &run(&python, "onnxruntime", &model.encoder_to_onnx().expect("exported"), "points", &points)["pillar_features"];
    let canvas = canvas(&model, &pillars);
    assert_eq!(features.shape(), [cells.len(), 1, 8]);
    for (p, &[_, y, x]) in cells.iter().enumerate() {
        for c in 0..8 {
            let (theirs, ours) = (features[[p, 0, c]], canvas[[0, c, y as usize, x as usize]]);
            assert!((theirs - ours).abs() <= 1e-4 * (1.0 + ours.abs()), "pillar {p}: {theirs} and {ours}");
        }
    }
}
