//! The kernels themselves, on the emulator, against portable code: whole networks, byte for byte.

use super::emulator::Emulator;
use super::engine::CudaEngine;
use super::program::ProgramOptions;
use crate::engine::Isa;
use crate::engine::int8::Int8Engine;
use crate::engine::int8::tests::{Form, Setup, forms, frame, outputs, setup};
use crate::graph::Scheme;
use ndarray::ArrayD;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Weights of four bits instead of eight: integers cut down, scales as they are.
fn few_bits(scheme: &mut Scheme) {
    for weight in scheme.weights.values_mut() {
        weight.integers.mapv_inplace(|w| w / 16);
        weight.bits = 4;
    }
}

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

/// How a case is run.
#[derive(Clone, Copy, Debug)]
struct Run {
    arch: u32,
    dense: bool,
    four_bits: bool,
    /// Of the order in which threads run.
    order: u64,
}

/// One network, one frame, after another one.
fn is_the_same(form: &Form, pillars: usize, spread: bool, run: Run) -> Result<(), TestCaseError> {
    let Some(device) = Emulator::start(run.arch, run.order) else { return Ok(()) };
    let inputs = frame(form, pillars, spread);
    let mut setup = setup(form, &frame(form, 60, true));
    if run.four_bits {
        few_bits(&mut setup.scheme);
    }
    let mut portable = lowered(&setup, Isa::Portable);
    portable.set_dense(true);
    portable.run(&inputs).expect("runs");
    let cpu = lowered(&setup, Isa::choose().expect("known"));
    let options = ProgramOptions { dense: run.dense, ..Default::default() };
    let mut engine = CudaEngine::new(cpu, Box::new(device), options).map_err(|(_, e)| e).expect("fits");
    for other in [frame(form, 25, !spread), inputs] {
        engine.run(&other).expect("runs");
    }
    prop_assert_eq!(engine.fault(), None);
    prop_assert_eq!(results(&engine), outputs(&portable));
    Ok(())
}

/// The same on each architecture whose kernels differ.
macro_rules! whole_networks {
    ($($name:ident: $arch:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 4, ..Default::default() })]
            $(
                #[test]
                fn $name((form, pillars, spread) in forms(), dense: bool, four_bits: bool, order in 0u64..6) {
                    let form = Form { canvas: form.canvas.map(|c| c.min(24)), ..form };
                    is_the_same(&form, pillars, spread, Run { arch: $arch, dense, four_bits, order })?;
                }
            )*
        }
    };
}

whole_networks! {
    whole_networks_by_dot_products: 610;
    whole_networks_by_small_matrix_products: 750;
    whole_networks_by_large_matrix_products: 800;
}

#[test]
fn a_device_that_is_lost_is_followed_by_the_cpu_within_the_frame() {
    let form = small_form();
    let setup = setup(&form, &frame(&form, 60, true));
    let mut portable = lowered(&setup, Isa::Portable);
    for lasts in [1, 2, 4] {
        let Some(mut device) = Emulator::start(800, 0) else { return };
        device.lasts = Some(lasts);
        let mut engine =
            CudaEngine::new(lowered(&setup, Isa::Portable), Box::new(device), ProgramOptions::default()).map_err(|(_, e)| e).expect("fits");
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
fn more_pillars_than_ever_and_steps_by_themselves() {
    let form = small_form();
    let setup = setup(&form, &frame(&form, 60, true));
    let mut portable = lowered(&setup, Isa::Portable);
    let Some(device) = Emulator::start(800, 1) else { return };
    let options = ProgramOptions { capacity: 8, ..Default::default() };
    let mut engine = CudaEngine::new(lowered(&setup, Isa::Portable), Box::new(device), options).map_err(|(_, e)| e).expect("fits");
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
