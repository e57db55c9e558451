//! The kernels themselves, on the emulator, against portable code: whole networks, byte for byte.

use super::convolution::fused_addition;
use super::engine::CudaEngine;
use super::program::{Capacity, ProgramOptions};
use crate::engine::Isa;
use crate::engine::cuda::Device;
use crate::engine::cuda::Driver;
use crate::engine::cuda::Emulator;
use crate::engine::int8::tests::{Form, Setup, few_bits, forms, frame, outputs, setup};
use crate::engine::int8::{Clipped, Int8Engine};
use ndarray::ArrayD;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn results(engine: &CudaEngine) -> BTreeMap<String, ArrayD<f32>> {
    engine.outputs().map(|(role, value)| (role.to_owned(), value.to_owned())).collect()
}

/// A small network that every kernel is needed for.
fn small_form() -> Form {
    Form { seed: 3, canvas: [16, 24], widths: [6, 9, 5, 7], float: [true, false], residual: true, signed: true }
}

fn lowered(setup: &Setup, isa: Isa) -> Int8Engine {
    Int8Engine::new(&setup.graph, &setup.params, &setup.scheme, isa).expect("lowers")
}

/// A GPU, if there is one.
fn gpu() -> Option<Box<dyn Device>> {
    match Driver::open(0) {
        Ok(driver) => Some(Box::new(driver)),
        Err(error) => {
            println!("skipped: no GPU to run on ({error})");
            None
        }
    }
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
struct Run {
    dense: bool,
    four_bits: bool,
}

/// One network, one frame, after another one.
fn is_the_same(form: &Form, pillars: usize, spread: bool, run: Run, device: Option<Box<dyn Device>>) -> Result<(), TestCaseError> {
    let Some(device) = device else { return Ok(()) };
    let inputs = frame(form, pillars, spread);
    let mut setup = setup(form, &frame(form, 60, true));
    if run.four_bits {
        few_bits(&mut setup.scheme);
    }
    let mut portable = lowered(&setup, Isa::Portable);
    portable.set_dense(true);
    portable.run(&inputs).expect("runs");
    let cpu = lowered(&setup, Isa::choose().expect("known"));
    // Little room at first, so that frames outgrow it.
    let options = ProgramOptions { dense: run.dense, capacity: Capacity { points: 0, pillars: 64, rows: 64 }, ..Default::default() };
    let mut engine = CudaEngine::new(cpu, device, options).expect("fits");
    for other in [frame(form, 25, !spread), inputs] {
        engine.run(&other).expect("runs");
    }
    prop_assert_eq!(engine.fault(), None);
    prop_assert_eq!(results(&engine), outputs(&portable));
    Ok(())
}

/// The same on each architecture whose kernels differ, and on a GPU.
macro_rules! whole_networks {
    ($($name:ident: $cases:expr, $most:expr, $device:expr;)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: $cases, failure_persistence: None, max_shrink_iters: 4, ..Default::default() })]
            #[test]
            fn $name((form, pillars, spread) in forms(), dense: bool, four_bits: bool, order in 0u64..6) {
                let form = Form { canvas: form.canvas.map(|c| c.min($most)), ..form };
                is_the_same(&form, pillars, spread, Run { dense, four_bits }, $device(order))?;
            }
        }
    )*};
}

/// `order` is that of the threads.
fn emulated(arch: u32) -> impl Fn(u64) -> Option<Box<dyn Device>> {
    move |order| Some(Box::new(Emulator::start(arch, order)?))
}

whole_networks! {
    whole_networks_by_dot_products: 3, 24, emulated(610);
    whole_networks_by_small_matrix_products: 3, 24, emulated(750);
    whole_networks_by_large_matrix_products: 3, 24, emulated(800);
    whole_networks_on_a_gpu: 48, usize::MAX, |_| gpu();
}

#[test]
fn additions_happen_in_the_convolutions_before_them() {
    let form = small_form();
    let plan = lowered(&setup(&form, &frame(&form, 60, true)), Isa::Portable).plan;
    assert!((0..plan.steps.len()).any(|at| fused_addition(&plan, at).is_some()));
    for four_bits in [false, true] {
        is_the_same(&form, 40, true, Run { dense: true, four_bits }, emulated(800)(2)).expect("the same bytes");
    }
}

#[test]
fn a_device_that_is_lost_is_followed_by_the_cpu_within_the_frame() {
    let form = small_form();
    let setup = setup(&form, &frame(&form, 60, true));
    let mut portable = lowered(&setup, Isa::Portable);
    for lasts in [1, 2, 4] {
        let Some(mut device) = Emulator::start(800, 0) else { return };
        device.lasts = Some(lasts);
        let options = ProgramOptions { capacity: Capacity { points: 0, pillars: 100, rows: 300 }, ..Default::default() };
        let mut engine = CudaEngine::new(lowered(&setup, Isa::Portable), Box::new(device), options).expect("fits");
        for (i, pillars) in [30, 5, 70].into_iter().enumerate() {
            let inputs = frame(&form, pillars, i % 2 == 0);
            portable.run(&inputs).expect("runs");
            engine.run(&inputs).expect("the CPU takes over");
            assert_eq!(results(&engine), outputs(&portable), "frame {i}, lost after {lasts}");
        }
        assert!(engine.fault().is_some());
    }
}

#[test]
fn what_is_clipped_is_counted_as_on_the_cpu() {
    let form = small_form();
    let mut setup = setup(&form, &frame(&form, 60, true));
    // Ranges that are too narrow.
    setup.scheme.activations.values_mut().for_each(|a| a.scale *= 0.6);
    let inputs = frame(&form, 40, false);
    let mut portable = lowered(&setup, Isa::Portable);
    portable.count_clipped(true);
    portable.run(&inputs).expect("runs");
    // Behind a float layer every pixel is computed, so this one's addition is formed in it, and its own bytes are never there.
    let want: Vec<(&[String], Clipped)> = portable.clipped().filter(|(names, _)| *names != ["block2.1"]).collect();
    assert!(want.iter().any(|(_, clipped)| clipped.clipped > 0));
    let Some(device) = Emulator::start(800, 0) else { return };
    let options = ProgramOptions { capacity: Capacity { points: 0, pillars: 64, rows: 192 }, ..Default::default() };
    let mut engine = CudaEngine::new(lowered(&setup, Isa::Portable), Box::new(device), options).expect("fits");
    engine.count_clipped(true);
    for _ in 0..2 {
        engine.run(&inputs).expect("runs");
        assert_eq!(engine.clipped().collect::<Vec<_>>(), want);
        assert_eq!(results(&engine), outputs(&portable));
    }
    engine.count_clipped(false);
    engine.run(&inputs).expect("runs");
    assert_eq!((engine.clipped().count(), engine.fault()), (0, None));
}

#[test]
fn more_pillars_than_ever_and_steps_by_themselves() {
    let form = small_form();
    let setup = setup(&form, &frame(&form, 60, true));
    let mut portable = lowered(&setup, Isa::Portable);
    let Some(device) = Emulator::start(800, 1) else { return };
    let options = ProgramOptions { capacity: Capacity { points: 0, pillars: 8, rows: 8 }, ..Default::default() };
    let mut engine = CudaEngine::new(lowered(&setup, Isa::Portable), Box::new(device), options).expect("fits");
    for pillars in [5, 40, 8] {
        let inputs = frame(&form, pillars, true);
        portable.run(&inputs).expect("runs");
        engine.run(&inputs).expect("runs");
        assert_eq!(results(&engine), outputs(&portable), "{pillars} pillars");
        engine.time_steps(pillars == 40).expect("fits");
    }
    assert_eq!(engine.fault(), None);
    assert!(engine.steps().iter().any(|step| step.kernels == ["cuda"] && !step.elapsed.is_zero()));
}

/// A GPU's memory is planned once, and nothing of it is taken while frames run.
#[test]
fn ten_thousand_frames_on_a_gpu_take_no_memory() {
    let Some(device) = gpu() else { return };
    let form = small_form();
    let setup = setup(&form, &frame(&form, 60, true));
    let mut portable = lowered(&setup, Isa::Portable);
    let mut engine = CudaEngine::new(lowered(&setup, Isa::Portable), device, ProgramOptions::default()).expect("fits");
    let frames = [30, 0, 384].map(|pillars| frame(&form, pillars, true));
    let mut free = None;
    for i in 0..10_000 {
        engine.run(&frames[i % 3]).expect("runs");
        if i % 1000 < 3 {
            portable.run(&frames[i % 3]).expect("runs");
            assert_eq!(results(&engine), outputs(&portable), "frame {i}");
        }
        if i == 100 {
            free = Driver::free_memory();
        }
    }
    assert_eq!((engine.fault(), Driver::free_memory()), (None, free));
}
