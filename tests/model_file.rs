//! The model file: what is written is read, and everything else is refused by name.

use lidar_ptq::detect::{DetectorConfig, Grid, Model, Nms, Preset};
use lidar_ptq::graph::{MANIFEST_KEY, Params, Precision, Provenance};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;

/// A detector of a few hundred parameters on an 8 x 8 grid.
fn small_config() -> DetectorConfig {
    let mut config = Preset::find("nuscenes_pillar_det3d").expect("a preset").config().expect("valid");
    config.grid = Grid { min: [-4.0, -4.0, -2.0], max: [4.0, 4.0, 2.0], voxel: [1.0, 1.0, 4.0] };
    config.network.encoder.layers = vec![2, 2];
    config.network.rpn.layers = vec![0, 0, 0];
    config.network.rpn.filters = vec![1, 1, 2];
    config.network.rpn.upsample_filters = vec![1, 1, 1];
    config.network.head.shared_channels = 1;
    config.network.head.branch_channels = 1;
    config.network.head.tasks.truncate(1);
    config
}

/// Values that f16 cannot hold, different in every element.
fn params(config: &DetectorConfig) -> Params {
    let mut n = 0;
    let specs = config.graph().expect("valid").params();
    let mut tensor = |shape: &[usize]| {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            n += 1;
            1.0 + n as f32 * 1e-4
        })
    };
    Params(specs.iter().map(|spec| (spec.name.clone(), tensor(&spec.shape))).collect())
}

fn small_model() -> Model {
    let provenance = Provenance { source: "a.pth".into(), code_base: "det3d".into(), dropped: vec!["meta".into()], ..Default::default() };
    Model::new(small_config(), params(&small_config()), provenance).expect("valid")
}

#[test]
fn what_is_saved_is_loaded() {
    let model = small_model();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model.save(&path, Precision::F32).expect("saved");
    assert_eq!(Model::load(&path).expect("loaded"), model);
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1, "no temporary file stays");
}

#[test]
fn half_precision_rounds_kernels_and_keeps_vectors() {
    let model = small_model();
    let bytes = model.to_bytes(Precision::F16).expect("written");
    let read = Model::from_bytes(&bytes).expect("read");
    for (name, values) in &model.params().0 {
        let found = &read.params().0[name];
        if values.ndim() == 1 {
            assert_eq!(found, values, "{name}");
        } else {
            // Values lie in 1..2, where f16 has steps of 2^-10.
            assert!(found.iter().zip(values).all(|(a, b)| (a - b).abs() <= 0.5f32.powi(11)), "{name}");
            assert_ne!(found, values, "{name}");
        }
    }
    let mut large = model.params().clone();
    large.0.get_mut("neck.blocks.0.1.weight").expect("a kernel").fill(70_000.0);
    let large = Model::new(small_config(), large, Provenance::default()).expect("valid");
    let error = large.to_bytes(Precision::F16).expect_err("beyond f16").to_string();
    assert!(error.contains("neck.blocks.0.1.weight") && error.contains("70000"), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_all_listed() {
    let mut params = small_model().params().clone();
    params.0.remove("reader.pfn_layers.0.norm.bias");
    params.0.insert("neck.blocks.0.1.weight".into(), ArrayD::zeros(IxDyn(&[3, 3])));
    params.0.insert("stranger".into(), ArrayD::zeros(IxDyn(&[1])));
    let error = Model::new(small_config(), params, Provenance::default()).expect_err("unfit").to_string();
    for line in ["missing: reader.pfn_layers.0.norm.bias", "neck.blocks.0.1.weight: expected [1, 2, 3, 3], found [3, 3]", "stranger"] {
        assert!(error.contains(line), "expected `{line}` in `{error}`");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let mut params = small_model().params().clone();
    params.0.get_mut("neck.blocks.0.2.running_var").expect("a statistic").fill(f32::NAN);
    let error = Model::new(small_config(), params, Provenance::default()).expect_err("not finite").to_string();
    assert!(error.contains("neck.blocks.0.2.running_var"), "{error}");
}

/// The file of a small model with its manifest changed, or without one.
fn with_manifest(change: impl FnOnce(serde_json::Value) -> Option<serde_json::Value>) -> Vec<u8> {
    let bytes = small_model().to_bytes(Precision::F32).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("valid");
    let manifest = serde_json::from_str(&metadata.metadata().as_ref().expect("metadata")[MANIFEST_KEY]).expect("json");
    let metadata = change(manifest).map(|manifest| HashMap::from([(MANIFEST_KEY.to_owned(), manifest.to_string())]));
    safetensors::serialize(file.tensors(), metadata).expect("written")
}

#[test]
fn manifests_are_refused_by_field() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 6] = [
        ("`version`: this program reads 1 to 3, found 4; use a newer", |m| m["version"] = 4.into()),
        ("`format`: expected `lidar_ptq`, found `other`", |m| m["format"] = "other".into()),
        ("missing field `grid`", |m| drop(m["config"].as_object_mut().map(|c| c.remove("grid")))),
        ("unknown field `scheme`", |m| m["scheme"] = 1.into()),
        ("`grid.voxel`", |m| m["config"]["grid"]["voxel"][0] = (-0.5).into()),
        ("`network.rpn.strides`", |m| m["config"]["grid"]["voxel"][0] = 0.8.into()),
    ];
    for (expected, change) in changes {
        let bytes = with_manifest(|mut manifest| {
            change(&mut manifest);
            Some(manifest)
        });
        let error = Model::from_bytes(&bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "expected `{expected}` in `{error}`");
    }
    let error = Model::from_bytes(&with_manifest(|_| None)).expect_err("no manifest").to_string();
    assert!(error.contains("no `manifest`") && error.contains("import"), "{error}");
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let bytes = small_model().to_bytes(Precision::F32).expect("written");
    for length in [0, 4, 100, bytes.len() - 1] {
        let error = Model::from_bytes(&bytes[..length]).expect_err("truncated").to_string();
        assert!(error.contains("truncated"), "{length}: {error}");
    }
    let mut huge_header = bytes.clone();
    huge_header[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(Model::from_bytes(&huge_header).is_err());
    assert!(Model::from_bytes(b"PK\x03\x04").is_err());
}

#[test]
fn integer_tensors_are_refused_by_name() {
    let bytes = small_model().to_bytes(Precision::F32).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("valid");
    let mut tensors = file.tensors();
    tensors.push(("counter".into(), TensorView::new(Dtype::I64, vec![1], &[0; 8]).expect("valid")));
    let bytes = safetensors::serialize(tensors, metadata.metadata().clone()).expect("written");
    let error = Model::from_bytes(&bytes).expect_err("an integer").to_string();
    assert!(error.contains("`counter`: expected floats, found a i64 tensor"), "{error}");
}

#[test]
fn configurations_that_contradict_themselves_are_refused_by_field() {
    type Change = fn(&mut DetectorConfig);
    let changes: [(&str, Change); 18] = [
        ("points.features", |c| c.points.features = vec!["intensity".into(), "x".into(), "y".into()]),
        ("points.features", |c| c.points.features.push("x".into())),
        ("points.intensity.clip", |c| c.points.intensity.clip = Some([1.0, 0.0])),
        ("points.time.field", |c| c.points.time.field = Some("x".into())),
        ("points.sweeps.count", |c| c.points.sweeps.count = 0),
        ("grid.voxel", |c| c.grid.voxel[2] = 2.0),
        ("grid.max", |c| c.grid.max[0] = f32::INFINITY),
        ("grid", |c| c.grid.voxel[0] = 1e-30),
        ("network.encoder.layers", |c| c.network.encoder.layers = vec![3, 2]),
        ("network.encoder.center_offsets", |c| c.network.encoder.center_offsets = usize::MAX),
        ("network.rpn.strides", |c| c.network.rpn.strides.truncate(2)),
        ("network.rpn.upsample", |c| c.network.rpn.upsample.reverse()),
        ("network.rpn.filters", |c| c.network.rpn.filters[0] = usize::MAX),
        ("network.head.tasks.classes", |c| c.network.head.tasks = vec![c.network.head.tasks[0].clone(); 2]),
        ("network.head.branches", |c| c.network.head.branches.truncate(5)),
        ("decode.out_size_factor", |c| c.decode.out_size_factor = 8),
        ("decode.class_thresholds", |c| c.decode.class_thresholds.extend([("bicycle".into(), 0.5)])),
        ("decode.nms.circle.min_radius", |c| c.decode.nms = Nms::Circle { post: 83, min_radius: vec![1.0; 6] }),
    ];
    small_config().validate().expect("valid before the change");
    for (field, change) in changes {
        let mut config = small_config();
        change(&mut config);
        let error = config.validate().expect_err(field).to_string();
        assert!(error.starts_with(&format!("`{field}`")), "expected `{field}` in `{error}`");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Model::from_bytes(&bytes).is_err());
    }

    /// Numbers and names of the header are changed into others; a model that is still read must be one.
    #[test]
    fn mutated_files_do_no_harm(edits in prop::collection::vec((any::<prop::sample::Index>(), prop::char::range(' ', '~')), 1..4)) {
        let mut bytes = small_model().to_bytes(Precision::F32).expect("written");
        let header = 8 + usize::from(bytes[0]) + 256 * usize::from(bytes[1]);
        for (at, value) in edits {
            bytes[8 + at.index(header - 8)] = value as u8;
        }
        if let Ok(model) = Model::from_bytes(&bytes) {
            prop_assert!(model.params().check(model.graph()).is_ok());
        }
    }
}
