//! Single layers of every shape on the emulator, against portable code: the same bytes.

use super::engine::CudaEngine;
use crate::engine::Isa;
use crate::engine::float::Inputs;
use crate::engine::int8::Int8Engine;
use crate::engine::int8::tests::{Form, few_bits, frame, outputs, random_params, scheme_of};
use crate::graph::{Dim, GraphBuilder, Op, fold_graph};
use proptest::prelude::*;

/// What stands between an input that is a canvas of pillars, and an output.
#[derive(Clone, Copy, Debug)]
enum Layer {
    Conv {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Kernel equals stride.
    Transposed {
        stride: usize,
    },
    /// A convolution, and what it adds to its input.
    Residual,
    /// Of two branches, one of them as wide as half of the canvas and brought back.
    Concat,
    /// So many pairs of convolutions of the same input, each with its own output: the second ones read where no pixel's multiple of 16 is.
    Heads {
        count: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Case {
    layer: Layer,
    canvas: [usize; 2],
    inputs: usize,
    outputs: usize,
    relu: bool,
    signed: bool,
    four_bits: bool,
    dense: bool,
    pillars: usize,
    spread: bool,
    seed: u64,
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, padding: usize, relu: bool) -> Op {
    Op::Conv2d { inputs, outputs, kernel, stride, padding, bias: true, relu }
}

fn is_the_same(case: Case, arch: u32, order: u64) -> Result<(), TestCaseError> {
    let Case { canvas: [height, width], inputs, outputs: channels, relu, .. } = case;
    let mut b = GraphBuilder::new();
    let points = b.input("points", vec![Dim::Points, Dim::Fixed(5)]);
    let pillars = b.pillar_index("pillars");
    let x = b.add("pfn", Op::Linear { inputs: 5, outputs: inputs, bias: true, relu: !case.signed }, &[points]);
    let x = b.add("pfn.max", Op::PillarMax, &[x, pillars]);
    let x = b.add("scatter", Op::PillarScatter { height, width }, &[x, pillars]);
    let mut ends = Vec::new();
    match case.layer {
        Layer::Conv { kernel, stride, padding } => ends.push(b.add("conv", conv(inputs, channels, kernel, stride, padding, relu), &[x])),
        Layer::Transposed { stride } => {
            ends.push(b.add("conv", Op::ConvTranspose2d { inputs, outputs: channels, stride, bias: true, relu }, &[x]));
        }
        Layer::Residual => {
            let y = b.add("conv", conv(inputs, inputs, 3, 1, 1, relu), &[x]);
            ends.push(b.add("sum", Op::Add, &[x, y]));
        }
        Layer::Concat => {
            let y = b.add("conv", conv(inputs, channels, 3, 2, 1, true), &[x]);
            let up = b.add("up", Op::ConvTranspose2d { inputs: channels, outputs: 7, stride: 2, bias: true, relu: true }, &[y]);
            let same = b.add("same", conv(inputs, 5, 1, 1, 0, true), &[x]);
            ends.push(b.add("concat", Op::Concat, &[up, same]));
        }
        Layer::Heads { count } => {
            for i in 0..count {
                let y = b.add(format!("head{i}.0"), conv(inputs, 3 + 2 * i, 3, 1, 1, relu), &[x]);
                ends.push(b.add(format!("head{i}.1"), conv(3 + 2 * i, 1 + i, 3, 1, 1, false), &[y]));
            }
        }
    }
    for (i, &end) in ends.iter().enumerate() {
        // Bytes are read by a layer of their own; what leaves the graph is floats.
        let width = b.channels(end);
        let end = if matches!(case.layer, Layer::Heads { .. }) { end } else { b.add("last", conv(width, 3, 1, 1, 0, false), &[end]) };
        b.output(format!("out{i}"), end);
    }
    let graph = fold_graph(&b.finish().expect("shapes fit"));

    let form = Form { seed: case.seed, canvas: case.canvas, widths: [inputs; 4], float: [false; 2], residual: false, signed: case.signed };
    let params = random_params(&graph, case.seed);
    let mut scheme = scheme_of(&graph, &params, &frame(&form, 60, true), &[], case.signed);
    if case.four_bits {
        few_bits(&mut scheme);
    }
    let lowered = |isa| Int8Engine::new(&graph, &params, &scheme, isa).expect("lowers");
    let mut portable = lowered(Isa::Portable);
    portable.set_dense(true);
    let Some(mut engine) = CudaEngine::emulated(lowered(Isa::Portable), arch, order) else { return Ok(()) };
    engine.set_dense(case.dense).expect("fits");
    let frames: [Inputs<f32>; 2] = [frame(&form, 9, !case.spread), frame(&form, case.pillars, case.spread)];
    for inputs in frames {
        portable.run(&inputs).expect("runs");
        engine.run(&inputs).expect("runs");
        prop_assert_eq!(engine.fault(), None);
        let found: std::collections::BTreeMap<_, _> = engine.outputs().map(|(role, value)| (role.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(found, outputs(&portable));
    }
    Ok(())
}

fn layers() -> impl Strategy<Value = Layer> {
    prop_oneof![
        4 => (1usize..4, 1usize..4, 0usize..3).prop_map(|(kernel, stride, padding)| Layer::Conv { kernel, stride, padding: padding.min(kernel - 1) }),
        2 => (1usize..5).prop_map(|stride| Layer::Transposed { stride }),
        1 => Just(Layer::Residual),
        1 => Just(Layer::Concat),
        2 => (1usize..5).prop_map(|count| Layer::Heads { count }),
    ]
}

/// Channels around the sizes of chunks and tiles.
fn widths() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..20, 30usize..35, 62usize..68, Just(128)]
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (layers(), (2usize..9, 2usize..9), widths(), widths());
    let pillars = prop_oneof![Just(0usize), 1usize..30, Just(10_000)];
    (shape, any::<[bool; 5]>(), pillars, any::<u64>()).prop_map(|((layer, (h, w), inputs, outputs), flags, pillars, seed)| {
        let [relu, signed, four_bits, dense, spread] = flags;
        Case { layer, canvas: [2 * h, 2 * w], inputs, outputs, relu, signed, four_bits, dense, pillars, spread, seed }
    })
}

macro_rules! layers_on {
    ($($name:ident: $arch:expr;)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 8, ..Default::default() })]
            #[test]
            fn $name(case in cases(), order in 0u64..6) {
                is_the_same(case, $arch, order)?;
            }
        }
    )*};
}

layers_on! {
    single_layers_by_dot_products: 610;
    single_layers_by_small_matrix_products: 750;
    single_layers_by_large_matrix_products: 800;
}
