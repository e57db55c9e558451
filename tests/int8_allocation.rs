//! The integer engine allocates nothing while it runs: counted by the allocator of this process, which is why the test has a file of
//! its own.

use lidar_ptq::engine::Isa;
use lidar_ptq::engine::float::Inputs;
use lidar_ptq::engine::int8::Int8Engine;
use lidar_ptq::graph::{Dim, GraphBuilder, Op, Params, PillarIndex};
use lidar_ptq::quant::{Frames, Policy, max_min};
use ndarray::ArrayD;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything that a CenterPoint network has behind its pillar features: scatter, strides, a residual addition, upsampling, a
/// concatenation, a head of few outputs.
#[test]
fn a_frame_allocates_nothing() {
    const SIDE: usize = 64;
    let conv =
        |inputs, outputs, kernel, stride, relu| Op::Conv2d { inputs, outputs, kernel, stride, padding: kernel / 2, bias: true, relu };
    let mut b = GraphBuilder::new();
    let features = b.input("features", vec![Dim::Pillars, Dim::Fixed(16)]);
    let pillars = b.pillar_index("pillars");
    let x = b.add("scatter", Op::PillarScatter { height: SIDE, width: SIDE }, &[features, pillars]);
    let x = b.add("a", conv(16, 24, 3, 2, true), &[x]);
    let y = b.add("b", conv(24, 24, 3, 1, true), &[x]);
    let x = b.add("add", Op::Add, &[x, y]);
    let y = b.add("c", conv(24, 32, 3, 2, true), &[x]);
    let up = b.add("up", Op::ConvTranspose2d { inputs: 32, outputs: 24, stride: 2, bias: true, relu: true }, &[y]);
    let same = b.add("same", conv(24, 24, 1, 1, true), &[x]);
    let x = b.add("concat", Op::Concat, &[up, same]);
    let x = b.add("shared", conv(48, 64, 3, 1, true), &[x]);
    let y = b.add("head", conv(64, 2, 3, 1, false), &[x]);
    b.output("head", y);
    let graph = b.finish().expect("shapes fit");
    let mut n = 1u32;
    let mut number = || {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (n >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let params = Params(graph.params().into_iter().map(|s| (s.name, ArrayD::from_shape_simple_fn(s.shape, &mut number))).collect());
    let cells: Vec<[u32; 3]> = (0..600).map(|i| [0, i * 7 / SIDE as u32 % SIDE as u32, i * 7 % SIDE as u32]).collect();
    let index = PillarIndex { offsets: (0..=600).collect(), cells, batch: 1 };
    let features = ArrayD::from_shape_simple_fn(vec![600, 16], &mut number);
    let inputs = Inputs::default().with_dense("features", features).with_pillars("pillars", Arc::new(index));
    let mut frames = Frames::new(&graph, &params).expect("fits");
    frames.observe(&inputs).expect("runs");
    let scheme = max_min(&frames, &Policy::default(), Vec::new()).expect("one frame").scheme;

    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let mut engine = Int8Engine::new(&graph, &params, &scheme, Isa::choose().expect("known")).expect("lowers");
    let [first, later] = pool.install(|| {
        let mut count = |frames: usize| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..frames).for_each(|_| engine.run(&inputs).expect("runs"));
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        // Scratch of threads grows with what they meet; which thread meets what is chance.
        [count(200), count(100)]
    });
    assert!(later == 0, "{later} allocations in 100 frames, {first} in the 200 before");
}
