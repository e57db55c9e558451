//! The public code bases' checkpoints become models, by their keys and shapes alone.

use lidar_ptq::detect::{DetectorConfig, Imported, PRESETS, Preset, import, import_file};
use lidar_ptq::graph::{Dim, Graph, Op, Params, fold_batch_norm, layer_costs};
use lidar_ptq::networks::centerpoint::Dialect;
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::PathBuf;

fn config(preset: &str) -> DetectorConfig {
    Preset::find(preset).expect("a preset").config().unwrap_or_else(|error| panic!("{error}"))
}

fn graph(preset: &str) -> Graph {
    config(preset).graph().unwrap_or_else(|error| panic!("{preset}: {error}"))
}

/// Totals of parameters and running statistics, counted in the original modules.
#[test]
fn parameter_totals_of_the_originals() {
    for (preset, total) in [
        ("nuscenes_pillar_det3d", 5_999_814),
        ("nuscenes_pillar_openpcdet", 5_999_846),
        ("nuscenes_pillar_mmdet3d", 5_993_606),
        ("nuscenes_pillar_mmdet3d_circle", 5_993_606),
        ("waymo_pillar_det3d", 5_230_859),
    ] {
        assert_eq!(layer_costs(&graph(preset)).iter().map(|l| l.parameters).sum::<u64>(), total, "{preset}");
    }
}

/// Keys read in the originals' module definitions.
#[test]
fn node_names_are_the_checkpoints_keys() {
    for (preset, names) in [
        (
            "nuscenes_pillar_det3d",
            ["reader.pfn_layers.1.norm", "neck.blocks.2.16", "neck.blocks.2.17", "neck.deblocks.0.0", "bbox_head.tasks.5.reg.3"],
        ),
        (
            "waymo_pillar_openpcdet",
            [
                "vfe.pfn_layers.0.linear",
                "backbone_2d.blocks.0.1",
                "backbone_2d.blocks.0.11",
                "backbone_2d.deblocks.2.1",
                "dense_head.heads_list.0.center_z.0.1",
            ],
        ),
        (
            "nuscenes_pillar_mmdet3d",
            [
                "pts_voxel_encoder.pfn_layers.0.norm",
                "pts_backbone.blocks.1.15",
                "pts_backbone.blocks.1.16",
                "pts_bbox_head.shared_conv.bn",
                "pts_bbox_head.task_heads.3.heatmap.1",
            ],
        ),
    ] {
        let graph = graph(preset);
        for name in names {
            let node = graph.node(name).unwrap_or_else(|| panic!("{preset}: no node {name}"));
            assert!(!graph.nodes[node].op.params(name).is_empty(), "{preset}: {name} has parameters");
        }
    }
}

#[test]
fn head_maps_have_their_networks_size() {
    for preset in PRESETS {
        let graph = graph(preset.name);
        let config = preset.config().expect("valid");
        let (family, _) = preset.name.split_once('_').expect("family_network");
        let sizes = HashMap::from([("nuscenes", [128, 128]), ("waymo", [468, 468]), ("edge", [160, 160]), ("kitti", [124, 108])]);
        let [height, width] = sizes[family];
        for (t, task) in config.network.head.tasks.iter().enumerate() {
            for (role, channels) in [("heatmap", task.classes.len()), ("offset", 2), ("height", 1), ("size", 3), ("rotation", 2)] {
                let node = graph.output(&format!("task{t}.{role}")).unwrap_or_else(|| panic!("{}: task{t}.{role}", preset.name));
                let shape = [Dim::Batch, Dim::Fixed(height), Dim::Fixed(width), Dim::Fixed(channels)];
                assert_eq!(graph.nodes[node].shape, shape, "{}: task{t}.{role}", preset.name);
            }
        }
        assert_eq!(graph.output("task0.velocity").is_some(), !["waymo", "kitti"].contains(&family));
    }
}

/// Constants that differ between a network's parts: 1e-3 and 0.01 in encoder and backbone, PyTorch's own in the head.
#[test]
fn batch_norm_constants() {
    for preset in PRESETS {
        for node in graph(preset.name).nodes {
            if let Op::BatchNorm { eps, momentum, .. } = node.op {
                let expected = if node.name.contains("_head.") { (1e-5, 0.1) } else { (1e-3, 0.01) };
                assert_eq!((eps, momentum), expected, "{}: {}", preset.name, node.name);
            }
        }
    }
}

#[test]
fn folding_leaves_no_batch_norm_and_no_relu() {
    for preset in PRESETS {
        let graph = graph(preset.name);
        let (folded, params) = fold_batch_norm(&graph, &ones(&graph));
        let left: Vec<&str> =
            folded.nodes.iter().filter(|n| matches!(n.op, Op::BatchNorm { .. } | Op::Relu)).map(|n| n.name.as_str()).collect();
        assert!(left.is_empty(), "{}: {left:?}", preset.name);
        params.check(&folded).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        assert_eq!(folded.outputs.len(), graph.outputs.len());
    }
}

#[test]
fn presets_are_named_as_their_files_and_valid() {
    for preset in PRESETS {
        let config = config(preset.name);
        config.validate().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        assert_eq!(config.name, preset.name);
        let few = ["waymo", "kitti"].iter().any(|family| preset.name.starts_with(family));
        assert_eq!(config.classes().len(), if few { 3 } else { 10 });
        // Networks of this project's own use det3d's module names.
        assert_eq!(config.network.dialect.name(), preset.name.split('_').nth(2).unwrap_or("det3d"));
    }
}

fn ones(graph: &Graph) -> Params {
    Params(graph.params().into_iter().map(|spec| (spec.name, ArrayD::ones(IxDyn(&spec.shape)))).collect())
}

/// A safetensors checkpoint of f16 ones with the names of a network, some changed.
fn checkpoint(graph: &Graph, change: impl Fn(&str, &mut Vec<usize>) -> Option<String>) -> Vec<u8> {
    let entries: Vec<(String, Vec<usize>, Vec<u8>)> = graph
        .params()
        .into_iter()
        .filter_map(|spec| {
            let mut shape = spec.shape;
            let name = change(&spec.name, &mut shape)?;
            let bytes = [0x00, 0x3c].repeat(shape.iter().product());
            Some((name, shape, bytes))
        })
        .collect();
    let view = |(name, shape, bytes): &'_ (String, Vec<usize>, Vec<u8>)| (name.clone(), Dtype::F16, shape.clone(), bytes.clone());
    let owned: Vec<_> = entries.iter().map(view).collect();
    let views = owned.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).expect("valid")));
    safetensors::serialize(views, None).expect("written")
}

/// Each preset's tensors lead back to it, or to the one before it that has the same tensors.
#[test]
fn presets_are_told_apart_by_their_tensors() {
    for preset in PRESETS {
        let bytes = checkpoint(&graph(preset.name), |name, _| Some(format!("module.{name}")));
        let Imported { model, alternatives } = import(&bytes, "x".into(), None).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        let found = model.config().name.as_str();
        assert!(found == preset.name || alternatives == [preset.name], "{}: {found}, {alternatives:?}", preset.name);
        assert!(model.params().0.values().all(|values| values.iter().all(|&v| v == 1.0)));
    }
}

#[test]
fn a_network_near_a_preset_is_told_how_to_be_described() {
    let bytes = checkpoint(&graph("nuscenes_pillar_det3d"), |name, shape| {
        if name.ends_with("tasks.1.hm.3.weight") || name.ends_with("tasks.1.hm.3.bias") {
            shape[0] = 3;
        }
        (name != "neck.blocks.0.2.bias").then(|| name.replace("tasks.5.vel.3.bias", "tasks.5.speed.3.bias"))
    });
    let error = import(&bytes, "x".into(), None).expect_err("no preset fits").to_string();
    for line in [
        "nearest is `nuscenes_pillar_det3d`",
        "missing: neck.blocks.0.2.bias",
        "missing: bbox_head.tasks.5.vel.3.bias",
        "bbox_head.tasks.1.hm.3.weight: expected [2, 64, 3, 3], found [3, 64, 3, 3]",
        "bbox_head.tasks.1.hm.3.bias: expected [2], found [3]",
        "not part of this network: bbox_head.tasks.5.speed.3.bias",
        "lidar_ptq import --print-config nuscenes_pillar_det3d",
    ] {
        assert!(error.contains(line), "expected `{line}` in `{error}`");
    }
    let differences = error.lines().filter(|l| l.starts_with("  ")).count();
    assert_eq!(differences, 5, "{error}");
}

#[test]
fn a_configuration_of_the_users_own() {
    let mut own = config("nuscenes_pillar_det3d");
    own.network.head.tasks.truncate(1);
    own.network.head.tasks[0].classes = vec!["forklift".into(), "pallet".into()];
    let bytes = checkpoint(&own.graph().expect("valid"), |name, _| Some(name.to_owned()));
    assert!(import(&bytes, "x".into(), None).is_err());
    let imported = import(&bytes, "x".into(), Some(own)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(imported.model.config().classes(), ["forklift", "pallet"]);
    let error = import(&bytes, "x".into(), Some(config("nuscenes_pillar_mmdet3d"))).expect_err("another code base").to_string();
    assert!(error.contains("keys are those of det3d") && error.contains("network.dialect: mmdet3d"), "{error}");
}

/// Folder and name of a checkpoint made by an original code base, its preset, its SHA-256 (`expected.json`), the sum of three
/// of its tensors, and a sum over all of them; read with PyTorch 2.15.0 and summed in f64:
/// `sum((k % 13 + 1) * dot(arange(n) % 97 + 1, tensor_k))`, k counting the sorted float keys.
type Golden = (&'static str, &'static str, &'static str, [(&'static str, f64); 3], f64);

const GOLDEN: [Golden; 3] = [
    (
        "A_det3d_pillar/det3d_nusc_pp_random.pth",
        "nuscenes_pillar_det3d",
        "b875dff45f8d7379dadb8c19c99fecbeb52dc78d4d4a92c13c442326c2590181",
        [
            ("reader.pfn_layers.0.linear.weight", -2.9775690669193864),
            ("neck.deblocks.2.0.weight", -16.941204587785705),
            ("bbox_head.tasks.5.hm.3.bias", -5.218059301376343),
        ],
        2828710.278403571,
    ),
    (
        "B_openpcdet_pillar/openpcdet_nusc_dyn_pp_random.pth",
        "nuscenes_pillar_openpcdet",
        "a4e5b595e25943b290ce31e4236403278fa9104a6842f58cd4585224c6e327c1",
        [
            ("vfe.pfn_layers.0.linear.weight", -11.014122694730759),
            ("backbone_2d.deblocks.2.0.weight", 35.574869834174706),
            ("dense_head.heads_list.5.hm.1.bias", -7.083972930908203),
        ],
        2797253.3176262225,
    ),
    (
        "C_mmdet3d_pillar02/mmdet3d_pillar02_random.pth",
        "nuscenes_pillar_mmdet3d",
        "57301cd693d42c011f0baaa929fbc45601861644c2dd9c4663d54edc27b194d7",
        [
            ("pts_voxel_encoder.pfn_layers.0.norm.weight", 64.74572378396988),
            ("pts_neck.deblocks.2.0.weight", -45.99850285053253),
            ("pts_bbox_head.task_heads.5.heatmap.1.bias", -6.0073206424713135),
        ],
        2890537.6883694096,
    ),
];

#[test]
fn checkpoints_of_the_originals() {
    for (file, preset, sha256, sums, total) in GOLDEN {
        let Some(path) = shared(&format!("golden/{file}")) else { continue };
        let imported = import_file(&path, None).unwrap_or_else(|error| panic!("{file}: {error}"));
        let model = imported.model;
        assert_eq!(model.config().name, preset);
        assert_eq!(model.provenance().sha256, sha256);
        assert_eq!(
            Some(model.provenance().code_base.as_str()),
            Dialect::recognize(model.params().0.keys().map(String::as_str)).map(|d| d.name())
        );
        for (name, expected) in sums {
            let sum: f64 = model.params().0[name].iter().map(|&v| f64::from(v)).sum();
            assert!((sum - expected).abs() <= 1e-9, "{name}: {sum}, expected {expected}");
        }
        let dot = |values: &ArrayD<f32>| values.iter().enumerate().map(|(i, &v)| (i % 97 + 1) as f64 * f64::from(v)).sum::<f64>();
        let found: f64 = model.params().0.values().enumerate().map(|(k, values)| (k % 13 + 1) as f64 * dot(values)).sum();
        assert!((found - total).abs() <= 1e-11 * 1e7, "{file}: {found}, expected {total}");
    }
}

/// A file of the shared data, or `None` with a note where it is absent.
fn shared(path: &str) -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let found = std::env::var_os("LIDAR_PTQ_SHARED").map_or_else(default, PathBuf::from).join(path);
    if !found.exists() {
        eprintln!("skipped: {} is not there", found.display());
        return None;
    }
    Some(found)
}
