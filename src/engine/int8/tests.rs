//! Whole networks: every instruction set against portable code, sparse against dense, integers against fake quantization.

use super::cpu::{every_kernel, no_thread_holds_tiles};
use super::*;
use crate::engine::Isa;
use crate::engine::float::{FloatEngine, Inputs};
use crate::graph::{Activation, Dim, Granularity, Graph, GraphBuilder, NodeId, Op, Params, PillarIndex, Scheme, Weight, fold_graph};
use crate::random::Rng;
use ndarray::{ArrayD, Axis};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a random network is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Form {
    pub seed: u64,
    /// Pillars along y and x; multiples of 8.
    pub canvas: [usize; 2],
    /// Channels of pillars, blocks, deblocks, heads.
    pub widths: [usize; 4],
    /// Layers that stay float: a block's convolution, a head's last.
    pub float: [bool; 2],
    pub residual: bool,
    pub signed: bool,
}

impl Form {
    /// And pillars of several points.
    fn has_two_pfn_layers(&self) -> bool {
        self.seed % 2 == 1
    }
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, relu: bool) -> Op {
    Op::Conv2d { inputs, outputs, kernel, stride, padding: kernel / 2, bias: true, relu }
}

/// A small CenterPoint: three blocks, deblocks of every kind into one concatenation, heads of two convolutions.
fn network(form: &Form) -> Graph {
    let Form { canvas: [height, width], widths: [pillar, block, deblock, head], residual, signed, .. } = *form;
    let mut b = GraphBuilder::new();
    let points = b.input("points", vec![Dim::Points, Dim::Fixed(5)]);
    let pillars = b.pillar_index("pillars");
    let x = b.add("pfn", Op::Linear { inputs: 5, outputs: pillar, bias: true, relu: !signed }, &[points]);
    let mut most = b.add("pfn.max", Op::PillarMax, &[x, pillars]);
    if form.has_two_pfn_layers() {
        let x = b.add("pfn.concat", Op::PillarConcat, &[x, most, pillars]);
        let x = b.add("pfn2", Op::Linear { inputs: 2 * pillar, outputs: pillar, bias: false, relu: !signed }, &[x]);
        most = b.add("pfn2.max", Op::PillarMax, &[x, pillars]);
    }
    let mut x = b.add("scatter", Op::PillarScatter { height, width }, &[most, pillars]);
    let mut ups: Vec<NodeId> = vec![];
    for i in 0..3 {
        let inputs = b.channels(x);
        x = b.add(format!("block{i}.0"), conv(inputs, block, 3, 2, true), &[x]);
        let y = b.add(format!("block{i}.1"), conv(block, block, 3, 1, !signed), &[x]);
        x = if residual { b.add(format!("block{i}.add"), Op::Add, &[x, y]) } else { y };
        let up = match i {
            0 => Op::Conv2d { inputs: block, outputs: deblock, kernel: 2, stride: 2, padding: 0, bias: true, relu: true },
            1 => conv(block, deblock, 1, 1, true),
            _ => Op::ConvTranspose2d { inputs: block, outputs: deblock, stride: 2, bias: true, relu: true },
        };
        ups.push(b.add(format!("up{i}"), up, &[x]));
    }
    let x = b.add("concat", Op::Concat, &ups);
    let shared = b.add("shared", conv(3 * deblock, head, 3, 1, true), &[x]);
    for (i, outputs) in [1, 2, 3].into_iter().enumerate() {
        let y = b.add(format!("head{i}.0"), conv(head, head, 3, 1, true), &[shared]);
        let y = b.add(format!("head{i}.1"), conv(head, outputs, 3, 1, false), &[y]);
        b.output(format!("head{i}"), y);
    }
    b.finish().expect("shapes fit")
}

pub(in crate::engine) struct Setup {
    pub graph: Graph,
    pub params: Params,
    pub scheme: Scheme,
}

/// Random weights, and a scheme whose ranges come from a run.
pub(in crate::engine) fn setup(form: &Form, inputs: &Inputs<f32>) -> Setup {
    let graph = fold_graph(&network(form));
    let params = random_params(&graph, form.seed);
    let floats: Vec<&str> = [("block1.1", form.float[0]), ("head1.1", form.float[1])].iter().filter(|f| f.1).map(|f| f.0).collect();
    let scheme = scheme_of(&graph, &params, inputs, &floats, form.signed);
    Setup { graph, params, scheme }
}

/// Weights of a folded graph.
pub(crate) fn random_params(graph: &Graph, seed: u64) -> Params {
    let mut rng = Rng::new(seed, "weights");
    let mut params = Params::default();
    for spec in graph.params() {
        let fan: usize = spec.shape.iter().skip(1).product();
        let reach = if spec.shape.len() == 1 { 0.3 } else { (6.0 / fan as f32).sqrt() };
        params.0.insert(spec.name, ArrayD::from_shape_fn(spec.shape, |_| rng.range(-reach, reach)));
    }
    params
}

/// Eight bits for all layers but the pillar network and `floats`, by what a run's values reach.
pub(crate) fn scheme_of(graph: &Graph, params: &Params, inputs: &Inputs<f32>, floats: &[&str], is_signed: bool) -> Scheme {
    let mut ranges: BTreeMap<String, f32> = BTreeMap::new();
    let mut engine = FloatEngine::new(graph, params).expect("fits");
    engine
        .run_observing(inputs, &mut |node, value| {
            ranges.insert(node.name.clone(), value.iter().fold(1e-3, |m, x| x.abs().max(m)));
        })
        .expect("runs");
    let mut scheme = Scheme::default();
    for node in &graph.nodes {
        if node.op.is_layer() {
            if matches!(node.op, Op::Linear { .. }) || floats.contains(&node.name.as_str()) {
                scheme.float.insert(node.name.clone(), "test".into());
                continue;
            }
            let weight = &params.0[&format!("{}.weight", node.name)];
            let axis = node.op.output_axis();
            let scales = weight.axis_iter(Axis(axis)).map(|w| w.iter().fold(1e-6f32, |m, x| m.max(x.abs())) / 127.0).collect();
            let weight = Weight::round_to_nearest(weight, axis, 8, Granularity::PerChannel, scales);
            scheme.weights.insert(node.name.clone(), weight);
        }
    }
    let is_output = |id: NodeId| graph.outputs.iter().any(|o| o.node == id);
    for (id, node) in graph.nodes.iter().enumerate().filter(|(id, n)| n.shape.len() == 4 && !is_output(*id)) {
        let concat = graph.nodes.iter().position(|n| n.op == Op::Concat && n.inputs.contains(&id));
        let of = concat.unwrap_or(id);
        let signed = is_signed && !graph.nodes[of].op.has_relu() && graph.nodes[of].op != Op::Concat;
        let name = &graph.nodes[of].name;
        // A zero point where nothing is symmetric, to test those too.
        let zero_point = if is_signed && name == "shared" { 3 } else { 0 };
        let scale = ranges[name] / if signed { 127.0 } else { 255.0 };
        scheme.activations.insert(node.name.clone(), Activation { bits: 8, signed, scale, zero_point });
    }
    scheme.check(graph).expect("made for this graph");
    scheme
}

/// Weights of four bits instead of eight: integers cut down, scales as they are.
pub(super) fn few_bits(scheme: &mut Scheme) {
    for weight in scheme.weights.values_mut() {
        weight.integers.mapv_inplace(|w| w / 16);
        weight.bits = 4;
    }
}

/// Pillars in a corner of the canvas or spread over it.
pub(in crate::engine) fn frame(form: &Form, pillars: usize, spread: bool) -> Inputs<f32> {
    let [height, width] = form.canvas;
    let mut rng = Rng::new(form.seed, "frame");
    let [h, w] = if spread { [height, width] } else { [height.div_ceil(3), width.div_ceil(3)] };
    let mut cells = std::collections::BTreeSet::new();
    for _ in 0..pillars {
        cells.insert([0, rng.index(h) as u32, rng.index(w) as u32]);
    }
    let mut offsets = vec![0];
    for i in 0..cells.len() {
        offsets.push(offsets[i] + if form.has_two_pfn_layers() { 1 + rng.index(3) as u32 } else { 1 });
    }
    let index = PillarIndex { offsets, cells: cells.into_iter().collect(), batch: 1 };
    let points = ArrayD::from_shape_fn(vec![index.rows(), 5], |_| rng.range(-1.0, 1.0));
    Inputs::default().with_dense("points", points).with_pillars("pillars", Arc::new(index))
}

pub(super) fn outputs(engine: &Int8Engine) -> BTreeMap<String, ArrayD<f32>> {
    engine.outputs().map(|(role, value)| (role.to_owned(), value.as_standard_layout().into_owned())).collect()
}

pub(super) fn forms() -> impl Strategy<Value = (Form, usize, bool)> {
    // Winograd's algorithm needs vectors that are full.
    let full = || (1usize..5).prop_map(|vectors| 16 * vectors);
    let widths =
        (1usize..20, prop_oneof![1usize..40, full()], prop_oneof![1usize..20, Just(16)], prop_oneof![1usize..24, 30usize..70, full()])
            .prop_map(|(a, b, c, d)| [a, b, c, d]);
    let form = (any::<u64>(), (1usize..8, 1usize..8), widths, any::<[bool; 2]>(), any::<bool>(), any::<bool>())
        .prop_map(|(seed, (h, w), widths, float, residual, signed)| Form { seed, canvas: [8 * h, 8 * w], widths, float, residual, signed });
    let pillars = prop_oneof![Just(0usize), 1usize..40, Just(10_000)];
    (form, pillars, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whole_networks_are_the_same_bytes_everywhere((form, pillars, spread) in forms(), four_bits: bool) {
        let inputs = frame(&form, pillars, spread);
        let Setup { graph, params, mut scheme } = setup(&form, &frame(&form, 60, true));
        if four_bits {
            few_bits(&mut scheme);
        }
        let mut portable = Int8Engine::new(&graph, &params, &scheme, Isa::Portable).expect("lowers");
        portable.set_dense(true);
        portable.run(&inputs).expect("runs");
        let want = outputs(&portable);
        for kernels in every_kernel() {
            let isa = kernels.isa();
            let mut engine = Int8Engine::with_kernels(&graph, &params, &scheme, kernels, &[]).expect("lowers");
            // Another frame before: nothing of it may stay.
            for other in [frame(&form, 25, !spread), inputs.clone()] {
                engine.run(&other).expect("runs");
            }
            prop_assert_eq!(&outputs(&engine), &want, "{}", isa);
            engine.set_dense(true);
            engine.run(&inputs).expect("runs");
            prop_assert_eq!(&outputs(&engine), &want, "{} dense", isa);
        }
        prop_assert!(no_thread_holds_tiles());
    }

    #[test]
    fn deferred_outputs_are_right_where_they_are_wanted(
        (form, pillars, spread) in forms(),
        wanted in prop::collection::vec(prop::collection::vec(0usize..300, 0..20), 2),
    ) {
        let inputs = frame(&form, pillars, spread);
        let Setup { graph, params, scheme } = setup(&form, &frame(&form, 60, true));
        let mut whole = Int8Engine::new(&graph, &params, &scheme, Isa::choose().expect("known")).expect("lowers");
        whole.run(&inputs).expect("runs");
        let want = outputs(&whole);
        let groups = [vec!["head1".to_owned()], vec!["head0".to_owned(), "head2".to_owned()]];
        for kernels in every_kernel() {
            let isa = kernels.isa();
            let mut engine = Int8Engine::with_kernels(&graph, &params, &scheme, kernels, &groups).expect("lowers");
            for other in [frame(&form, 25, !spread), inputs.clone()] {
                engine.run_first(&other).expect("runs");
                engine.run_deferred(&wanted);
            }
            prop_assert_eq!(engine.maps().filter(|m| m.group.is_none()).count(), usize::from(form.float[1]));
            for map in engine.maps() {
                let (of, channels) = (want[map.role].as_slice().expect("an array of its own"), map.dim[2]);
                for pixel in 0..map.dim[0] * map.dim[1] {
                    if map.group.is_none_or(|group| wanted[group].contains(&pixel)) {
                        prop_assert_eq!(map.pixel(pixel), &of[pixel * channels..][..channels], "{} {} {}", isa, map.role, pixel);
                    }
                }
            }
            engine.run(&inputs).expect("runs");
            prop_assert_eq!(&outputs(&engine), &want, "{}", isa);
        }
    }

    /// Fake quantization walks the graph by itself, with the float engine's kernels. Sums of these sizes are exact in f32, so it
    /// agrees to the bit wherever float and integer layers do not mix; a residual addition may be off by one step.
    #[test]
    fn fake_quantization_is_the_integer_engine((form, pillars, spread) in forms()) {
        let form = Form { float: [false; 2], residual: false, ..form };
        let inputs = frame(&form, pillars, spread);
        let Setup { graph, params, scheme } = setup(&form, &frame(&form, 60, true));
        let mut engine = Int8Engine::new(&graph, &params, &scheme, Isa::choose().expect("known")).expect("lowers");
        engine.run(&inputs).expect("runs");
        let fake = FloatEngine::with_scheme(&graph, &params, &scheme).expect("fits").run(&inputs).expect("runs");
        prop_assert_eq!(outputs(&engine), fake);
    }
}

#[test]
fn work_falls_with_occupancy() {
    let form = Form { seed: 5, canvas: [128, 128], widths: [8, 8, 8, 8], float: [false; 2], residual: false, signed: false };
    let Setup { graph, params, scheme } = setup(&form, &frame(&form, 600, true));
    let mut engine = Int8Engine::new(&graph, &params, &scheme, Isa::choose().expect("known")).expect("lowers");
    let mut share = |pillars: usize| {
        engine.run(&frame(&form, pillars, true)).expect("runs");
        let steps: Vec<_> = engine.steps().into_iter().filter(|s| s.macs > 0).collect();
        steps.iter().map(|s| s.computed * s.macs as f64).sum::<f64>() / steps.iter().map(|s| s.macs as f64).sum::<f64>()
    };
    let (none, one, full) = (share(0), share(1), share(100_000));
    assert_eq!((none, full), (0.0, 1.0));
    // A pillar in the middle: 68 cells around it can notice.
    assert!(one > 0.0 && one < 0.35, "{one}");
}

#[test]
fn what_reads_one_value_is_one_convolution() {
    let form = Form { seed: 1, canvas: [16, 16], widths: [8, 8, 8, 8], float: [false; 2], residual: false, signed: false };
    let Setup { graph, params, scheme } = setup(&form, &frame(&form, 30, true));
    let engine = Int8Engine::new(&graph, &params, &scheme, Isa::Portable).expect("lowers");
    let steps: Vec<Vec<String>> = engine.steps().into_iter().map(|s| s.nodes).collect();
    assert!(steps.contains(&vec!["head0.0".into(), "head1.0".into(), "head2.0".into()]), "{steps:?}");
    assert!(steps.contains(&vec!["head0.1".into(), "head1.1".into(), "head2.1".into()]), "{steps:?}");
    assert!(!steps.iter().flatten().any(|n| n == "concat"), "{steps:?}");
}

#[test]
fn several_samples_are_refused() {
    let form = Form { seed: 1, canvas: [8, 8], widths: [4, 4, 4, 4], float: [false; 2], residual: false, signed: false };
    let Setup { graph, params, scheme } = setup(&form, &frame(&form, 30, true));
    let mut engine = Int8Engine::new(&graph, &params, &scheme, Isa::Portable).expect("lowers");
    let mut inputs = frame(&form, 3, true);
    let mut index = (*inputs.pillars["pillars"]).clone();
    index.batch = 2;
    inputs = inputs.with_pillars("pillars", Arc::new(index.clone()));
    assert!(matches!(engine.run(&inputs), Err(Int8Error::Batch(2))));
    index.batch = 1;
    index.cells[0] = [0, 8, 0];
    inputs = inputs.with_pillars("pillars", Arc::new(index));
    assert!(matches!(engine.run(&inputs), Err(Int8Error::Engine(_))));
}

/// Sums that all but reach the limit of Winograd's algorithm, and sums beyond it, where it must not be used.
#[test]
fn the_greatest_sums_are_exact() {
    for (channels, in_tiles) in [(112, true), (128, false)] {
        let mut b = GraphBuilder::new();
        let features = b.input("features", vec![Dim::Pillars, Dim::Fixed(channels)]);
        let pillars = b.pillar_index("pillars");
        let x = b.add("scatter", Op::PillarScatter { height: 8, width: 12 }, &[features, pillars]);
        let x =
            b.add("conv", Op::Conv2d { inputs: channels, outputs: 24, kernel: 3, stride: 1, padding: 1, bias: false, relu: false }, &[x]);
        b.output("out", x);
        let graph = b.finish().expect("shapes fit");
        // All up, all down, and both; so many outputs that no layer of few is made of them.
        let sign = |i: usize| [1, -1, if i.is_multiple_of(2) { 1 } else { -1 }];
        let integers = ArrayD::from_shape_fn(vec![24, channels, 3, 3], |i| 127 * sign(i[1] + i[2] + i[3])[i[0] % 3]);
        let weight = Weight { bits: 8, granularity: Granularity::PerTensor, scales: vec![1.0], integers };
        let grid = Activation { bits: 8, signed: false, scale: 1.0, zero_point: 0 };
        let scheme = Scheme {
            weights: [("conv".to_owned(), weight)].into(),
            activations: [("scatter".to_owned(), grid)].into(),
            ..Scheme::default()
        };
        let params = Params([("conv.weight".to_owned(), ArrayD::zeros(vec![24, channels, 3, 3]))].into());
        let cells: Vec<[u32; 3]> = (0..96).map(|i| [0, i / 12, i % 12]).collect();
        let index = PillarIndex { offsets: (0..=96).collect(), cells, batch: 1 };
        let features = ArrayD::from_elem(vec![96, channels], 255.0);
        let inputs = Inputs::default().with_dense("features", features).with_pillars("pillars", Arc::new(index));
        for kernels in every_kernel() {
            let isa = kernels.isa();
            let mut engine = Int8Engine::with_kernels(&graph, &params, &scheme, kernels, &[]).expect("lowers");
            engine.run(&inputs).expect("runs");
            let (_, got) = engine.outputs().next().expect("one");
            let greatest = (9 * channels * 127 * 255) as f32;
            assert_eq!([got[[0, 4, 4, 0]], got[[0, 4, 4, 1]]], [greatest, -greatest], "{isa}");
            assert!(got[[0, 4, 4, 2]].abs() <= (channels * 127 * 255) as f32);
            let kernels = engine.steps().pop().expect("a convolution").kernels.join(" ");
            assert!(kernels.ends_with(&format!("_{isa}")), "{kernels}");
            let has_winograd = in_tiles && [Isa::Avx2, Isa::Avx512Vnni].contains(&isa);
            assert_eq!(kernels.contains("winograd"), has_winograd, "{isa}: {kernels}");
        }
    }
}
