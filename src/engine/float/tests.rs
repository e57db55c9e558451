//! Operations against their definitions, gradients against central differences in f64.

use super::*;
use crate::graph::{Graph, GraphBuilder, NodeId, Op};
use ndarray::{Array4, ArrayD};
use proptest::prelude::*;

/// A small reproducible stream of numbers in -1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn array<T: Real>(&mut self, shape: &[usize]) -> ArrayD<T> {
        ArrayD::from_shape_fn(shape, |_| T::from_f64(self.next()))
    }
}

pub type Parameters<T> = BTreeMap<String, ArrayD<T>>;

/// Random parameters; running variances are positive.
pub fn parameters<T: Real>(graph: &Graph, numbers: &mut Numbers) -> Parameters<T> {
    let value = |name: &str, shape: &[usize], numbers: &mut Numbers| {
        let a: ArrayD<T> = numbers.array(shape);
        if name.ends_with("running_var") { a.mapv(|x| x * x + T::from_f64(0.5)) } else { a }
    };
    graph.params().into_iter().map(|s| (s.name.clone(), value(&s.name, &s.shape, numbers))).collect()
}

pub fn one_layer(op: Op, height: usize, width: usize, channels: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", vec![Dim::Batch, Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(channels)]);
    let y = b.add("layer", op, &[x]);
    b.output("y", y);
    b.finish().unwrap()
}

/// Convolution straight from its definition, zero padding, NHWC.
fn naive_conv(x: &ArrayD<f64>, w: &ArrayD<f64>, bias: Option<&ArrayD<f64>>, stride: usize, padding: usize) -> ArrayD<f64> {
    let [n, h, wd, c] = [0, 1, 2, 3].map(|i| x.shape()[i]);
    let [o, k] = [w.shape()[0], w.shape()[2]];
    let out = |s: usize| (s + 2 * padding - k) / stride + 1;
    Array4::from_shape_fn((n, out(h), out(wd), o), |(n, y, xo, o)| {
        let mut sum = bias.map_or(0.0, |b| b[[o]]);
        for ky in 0..k {
            for kx in 0..k {
                let (iy, ix) = ((y * stride + ky).wrapping_sub(padding), (xo * stride + kx).wrapping_sub(padding));
                if iy < h && ix < wd {
                    for c in 0..c {
                        sum += x[[n, iy, ix, c]] * w[[o, c, ky, kx]];
                    }
                }
            }
        }
        sum
    })
    .into_dyn()
}

fn assert_close(got: &ArrayD<f64>, want: &ArrayD<f64>, tolerance: f64) {
    assert_eq!(got.shape(), want.shape());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "element {i}: {g} instead of {w}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolution_is_its_definition(seed in 0u64..1000, n in 1usize..3, h in 1usize..20, w in 1usize..20, c in 1usize..9, o in 1usize..40, k in 1usize..6, stride in 1usize..4, padding in 0usize..3, bias: bool) {
        prop_assume!(h + 2 * padding >= k && w + 2 * padding >= k);
        let graph = one_layer(Op::Conv2d { inputs: c, outputs: o, kernel: k, stride, padding, bias, relu: false }, h, w, c);
        let mut numbers = Numbers(seed);
        let params = parameters::<f64>(&graph, &mut numbers);
        let inputs = Inputs::default().with_dense("x", numbers.array(&[n, h, w, c]));
        let tape = forward(&graph, &params, &inputs, Norm::Running).unwrap();
        let want = naive_conv(&inputs.dense["x"], &params["layer.weight"], params.get("layer.bias"), stride, padding);
        assert_close(tape.output("y").unwrap(), &want, 1e-12);
    }

    #[test]
    fn gradients_of_layers_are_central_differences(seed in 0u64..1000, n in 1usize..3, h in 1usize..9, w in 1usize..9, c in 1usize..7, o in 1usize..9, k in 1usize..5, stride in 1usize..4, padding in 0usize..3, transposed: bool, relu: bool) {
        prop_assume!(h + 2 * padding >= k && w + 2 * padding >= k);
        let op = if transposed {
            Op::ConvTranspose2d { inputs: c, outputs: o, stride, bias: true, relu }
        } else {
            Op::Conv2d { inputs: c, outputs: o, kernel: k, stride, padding, bias: true, relu }
        };
        let graph = one_layer(op, h, w, c);
        let mut numbers = Numbers(seed);
        let params = parameters::<f64>(&graph, &mut numbers);
        let inputs = Inputs::default().with_dense("x", numbers.array(&[n, h, w, c]));
        check_gradients(&graph, &params, &inputs, Norm::Running, &mut numbers);
    }
}

/// Compares the gradient of a random linear functional of all outputs with central differences, at sampled coordinates of
/// every parameter and dense input.
fn check_gradients(graph: &Graph, params: &Parameters<f64>, inputs: &Inputs<f64>, norm: Norm, numbers: &mut Numbers) {
    let tape = forward(graph, params, inputs, norm).unwrap();
    let seeds: Vec<(NodeId, ArrayD<f64>)> =
        graph.outputs.iter().map(|o| (o.node, numbers.array(tape.value(o.node).unwrap().shape()))).collect();
    let dense: Vec<NodeId> = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].op == Op::Input).collect();
    let gradients = tape.backward(seeds.clone(), &|_| true, &dense);
    let loss = |params: &Parameters<f64>, inputs: &Inputs<f64>| -> f64 {
        let tape = forward(graph, params, inputs, norm).unwrap();
        seeds.iter().map(|(id, g)| (tape.value(*id).unwrap() * g).sum()).sum()
    };
    // Small enough that a ReLU or a maximum hardly ever switches in between, large enough for f64.
    let eps = 1e-6;
    let mut checked = 0;
    for spec in graph.params().into_iter().filter(|s| s.trainable) {
        let gradient = gradients.params.get(&spec.name).unwrap_or_else(|| panic!("no gradient for {}", spec.name));
        for _ in 0..4 {
            let at = ((numbers.next() + 1.0) / 2.0 * gradient.len() as f64) as usize % gradient.len();
            let moved = |d: f64| {
                let mut p = params.clone();
                p.get_mut(&spec.name).unwrap().as_slice_mut().unwrap()[at] += d;
                loss(&p, inputs)
            };
            let numeric = (moved(eps) - moved(-eps)) / (2.0 * eps);
            let got = gradient.as_slice().unwrap()[at];
            assert!((got - numeric).abs() < 1e-5 * (1.0 + numeric.abs()), "{}[{at}]: {got}, central difference {numeric}", spec.name);
            checked += 1;
        }
    }
    for id in dense {
        let name = &graph.nodes[id].name;
        let gradient = &gradients.nodes[&id];
        for _ in 0..6 {
            let at = ((numbers.next() + 1.0) / 2.0 * gradient.len() as f64) as usize % gradient.len();
            let moved = |d: f64| {
                let mut i = inputs.clone();
                i.dense.get_mut(name).unwrap().as_slice_mut().unwrap()[at] += d;
                loss(params, &i)
            };
            let numeric = (moved(eps) - moved(-eps)) / (2.0 * eps);
            let got = gradient.as_slice().unwrap()[at];
            assert!((got - numeric).abs() < 1e-5 * (1.0 + numeric.abs()), "input {name}[{at}]: {got}, central difference {numeric}");
            checked += 1;
        }
    }
    assert!(checked > 0);
}

/// Everything that CenterPoint-Pillar is made of, small.
pub fn small_pillar_network() -> Graph {
    let mut b = GraphBuilder::new();
    let points = b.input("points", vec![Dim::Points, Dim::Fixed(5)]);
    let index = b.pillar_index("pillars");
    let norm = |channels| Op::BatchNorm { channels, eps: 1e-3, momentum: 0.01 };
    let x = b.add("pfn0.linear", Op::Linear { inputs: 5, outputs: 6, bias: false, relu: false }, &[points]);
    let x = b.add("pfn0.norm", norm(6), &[x]);
    let x = b.add("pfn0.relu", Op::Relu, &[x]);
    let m = b.add("pfn0.max", Op::PillarMax, &[x, index]);
    let x = b.add("pfn0.concat", Op::PillarConcat, &[x, m, index]);
    let x = b.add("pfn1.linear", Op::Linear { inputs: 12, outputs: 8, bias: true, relu: true }, &[x]);
    let x = b.add("pfn1.max", Op::PillarMax, &[x, index]);
    let canvas = b.add("scatter", Op::PillarScatter { height: 8, width: 10 }, &[x, index]);
    let conv = |inputs, outputs, kernel, stride, padding| Op::Conv2d { inputs, outputs, kernel, stride, padding, bias: true, relu: true };
    let down = b.add("down", conv(8, 7, 3, 2, 1), &[canvas]);
    let down = b.add("down.norm", norm(7), &[down]);
    let same = b.add("same", conv(7, 7, 3, 1, 1), &[down]);
    let same = b.add("residual", Op::Add, &[same, down]);
    let up = b.add("up", Op::ConvTranspose2d { inputs: 7, outputs: 3, stride: 2, bias: true, relu: false }, &[same]);
    let lateral = b.add("lateral", conv(8, 4, 1, 1, 0), &[canvas]);
    let both = b.add("both", Op::Concat, &[up, lateral]);
    let out = b.add("out", Op::Conv2d { inputs: 7, outputs: 2, kernel: 3, stride: 1, padding: 1, bias: true, relu: false }, &[both]);
    b.output("heat", out);
    b.output("skip", same);
    b.finish().unwrap()
}

pub fn small_pillar_input<T: Real>(numbers: &mut Numbers) -> Inputs<T> {
    let index = PillarIndex { offsets: vec![0, 3, 4, 9, 11], cells: vec![[0, 0, 0], [0, 5, 9], [1, 7, 3], [1, 2, 2]], batch: 2 };
    Inputs::default().with_dense("points", numbers.array(&[11, 5])).with_pillars("pillars", Arc::new(index))
}

#[test]
fn gradients_of_a_whole_network_are_central_differences() {
    let graph = small_pillar_network();
    for (seed, norm) in [(1, Norm::Running), (2, Norm::Batch), (3, Norm::Batch)] {
        let mut numbers = Numbers(seed);
        let params = parameters::<f64>(&graph, &mut numbers);
        let inputs = small_pillar_input(&mut numbers);
        check_gradients(&graph, &params, &inputs, norm, &mut numbers);
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_shorten_the_way_back() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(5);
    let params = parameters::<f64>(&graph, &mut numbers);
    let inputs = small_pillar_input(&mut numbers);
    let tape = forward(&graph, &params, &inputs, Norm::Running).unwrap();
    let out = graph.output("heat").unwrap();
    let seed = numbers.array::<f64>(tape.value(out).unwrap().shape());
    let all = tape.backward([(out, seed.clone())], &|_| true, &[]);
    let some = tape.backward([(out, seed)], &|name| name.starts_with("up."), &[]);
    assert_eq!(some.params.keys().collect::<Vec<_>>(), ["up.bias", "up.weight"]);
    assert_eq!(some.params["up.weight"], all.params["up.weight"]);
}

#[test]
fn inference_with_folded_norms_is_the_forward_pass() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(7);
    let wide = parameters::<f64>(&graph, &mut numbers);
    let inputs = small_pillar_input::<f64>(&mut numbers);
    let want = forward(&graph, &wide, &inputs, Norm::Running).unwrap();
    let narrow = |a: &ArrayD<f64>| a.mapv(|x| x as f32);
    let params = crate::graph::Params(wide.iter().map(|(k, v)| (k.clone(), narrow(v))).collect());
    let mut engine = FloatEngine::new(&graph, &params).unwrap();
    let inputs = Inputs { dense: inputs.dense.iter().map(|(k, v)| (k.clone(), narrow(v))).collect(), pillars: inputs.pillars.clone() };
    // The second run meets recycled buffers.
    for _ in 0..2 {
        let got = engine.run(&inputs).unwrap();
        for role in ["heat", "skip"] {
            assert_close(&got[role].mapv(f64::from), want.output(role).unwrap(), 1e-5);
        }
    }
}

#[test]
fn a_frame_without_points_runs() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(9);
    let wide = parameters::<f32>(&graph, &mut numbers);
    let empty = PillarIndex { offsets: vec![0], cells: vec![], batch: 1 };
    let inputs = Inputs::default().with_dense("points", ArrayD::zeros(vec![0, 5])).with_pillars("pillars", Arc::new(empty));
    let tape = forward(&graph, &wide, &inputs, Norm::Running).unwrap();
    let got = FloatEngine::new(&graph, &crate::graph::Params(wide.clone())).unwrap().run(&inputs).unwrap();
    // Away from the border nothing tells one cell from another.
    let heat = tape.output("heat").unwrap();
    assert_eq!(heat.shape(), [1, 8, 10, 2]);
    for channel in 0..2 {
        assert_eq!(heat[[0, 4, 4, channel]], heat[[0, 4, 6, channel]]);
        assert!((got["heat"][[0, 4, 4, channel]] - heat[[0, 4, 4, channel]]).abs() < 1e-4);
    }
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let graph = one_layer(Op::Conv2d { inputs: 16, outputs: 24, kernel: 3, stride: 1, padding: 1, bias: true, relu: true }, 40, 33, 16);
    let mut numbers = Numbers(11);
    let params = parameters::<f32>(&graph, &mut numbers);
    let inputs = Inputs::default().with_dense("x", numbers.array(&[2, 40, 33, 16]));
    let run = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let tape = forward(&graph, &params, &inputs, Norm::Running).unwrap();
            let y = tape.output("y").unwrap().clone();
            let grads = tape.backward([(graph.output("y").unwrap(), y.clone())], &|_| true, &[0]);
            (y, grads.params, grads.nodes)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let graph = small_pillar_network();
    let mut numbers = Numbers(1);
    let params = parameters::<f32>(&graph, &mut numbers);
    let good = small_pillar_input::<f32>(&mut numbers);
    let error = |inputs: &Inputs<f32>| forward(&graph, &params, inputs, Norm::Running).err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(error(&good), "");
    assert!(error(&Inputs::default()).contains("`pillars` is missing"));
    let mut bad = good.clone();
    bad.dense.insert("points".into(), numbers.array(&[10, 5]));
    assert!(error(&bad).contains("`points`: expected shape"), "{}", error(&bad));
    let mut index = (*good.pillars["pillars"]).clone();
    index.cells[1] = [0, 8, 0];
    let bad = good.clone().with_pillars("pillars", Arc::new(index.clone()));
    assert!(error(&bad).contains("[0, 8, 0] lies outside"), "{}", error(&bad));
    index.cells[1] = [0, 7, 0];
    index.offsets[1] = 0;
    let bad = good.with_pillars("pillars", Arc::new(index));
    assert!(error(&bad).contains("pillar 0 has no points"), "{}", error(&bad));
}
