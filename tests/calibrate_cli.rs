//! From a float model and a bag to boxes in integers, from the outside.

mod support;

use lidar_ptq::detect::{Detector, FloatNetwork, Int8Network, Model, Network, Pillarizer, network};
use lidar_ptq::engine::Isa;
use lidar_ptq::graph::{MANIFEST_KEY, Precision};
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::sensor::assemble;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::{TOPIC, save_tiny_model, scene};

fn lidar_ptq(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    command.current_dir(folder).args(arguments.split_whitespace()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A folder with the tiny model and a bag of six frames.
fn workbench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    save_tiny_model(&folder.path().join("model.safetensors"));
    let mut bag = BagWriter::create(&folder.path().join("drive.mcap")).expect("created");
    for frame in 0..6 {
        let cloud = scene(frame);
        bag.write(TOPIC, cloud.stamp, &encode_cloud(&cloud)).expect("written");
    }
    bag.finish().expect("complete");
    folder
}

#[test]
fn calibrate_info_detect_bench() {
    let folder = workbench();
    let at = folder.path();
    let output = lidar_ptq(at, "calibrate model.safetensors --bag drive.mcap --method max-min -o small.safetensors --frames 3");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("works on points"), "{}", text(&output.stderr));
    let again = lidar_ptq(at, "calibrate model.safetensors --bag drive.mcap -o small.safetensors");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    let twice = lidar_ptq(at, "calibrate small.safetensors --bag drive.mcap");
    assert!(text(&twice.stderr).contains("quantized already"), "{}", text(&twice.stderr));

    let info = lidar_ptq(at, "info small.safetensors --json");
    let info: Value = serde_json::from_str(text(&info.stdout)).expect("one JSON object");
    let quantization = &info["manifest"]["quantization"];
    assert_eq!((&quantization["calibration"]["method"], &quantization["calibration"]["frames"]), (&"max-min".into(), &3.into()));
    assert_eq!(quantization["calibration"]["inputs"][0], "drive.mcap");
    // The newest, for what it tells of the frames; programs that do not know it must say so by the version.
    assert!(quantization["calibration"]["traits"].as_object().is_some_and(|traits| !traits.is_empty()));
    assert_eq!(info["manifest"]["version"], 3);
    let table = lidar_ptq(at, "info small.safetensors");
    assert!(text(&table.stdout).contains("int8 in"), "{}", text(&table.stdout));

    let lines = |model: &str| -> Vec<Value> {
        let output = lidar_ptq(at, &format!("detect {model} drive.mcap --json -"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
    };
    let (float, integer) = (lines("model.safetensors"), lines("small.safetensors"));
    let count = |frames: &[Value]| frames.iter().map(|f| f["boxes"].as_array().expect("boxes").len()).sum::<usize>() as f64;
    assert_eq!((float.len(), integer.len()), (6, 6));
    // Random weights put many scores near the threshold.
    assert!((count(&integer) / count(&float) - 1.0).abs() < 0.2, "{} and {}", count(&integer), count(&float));

    let bench = lidar_ptq(at, "bench small.safetensors drive.mcap --threads 1 --frames 3 --json -");
    assert_eq!(bench.status.code(), Some(0), "{}", text(&bench.stderr));
    let bench: Value = serde_json::from_str(text(&bench.stdout)).expect("one JSON object");
    for stage in ["read", "sweep", "voxelize", "network", "decode"] {
        assert!(bench["stages"][stage]["p50_ms"].is_f64() && bench["stages"][stage]["p99_ms"].is_f64(), "{stage}: {bench}");
    }
    assert_eq!((&bench["threads"], &bench["engine"]), (&1.into(), &"int8".into()));
    assert!(bench["isa"].is_string() && bench["layers"].as_array().is_some_and(|l| l.iter().any(|l| l["kind"] == "int8")));
}

/// Boxes do not depend on whether the raw outputs are computed everywhere, nor on the frames before.
#[test]
fn what_nobody_reads_changes_no_box() {
    let folder = workbench();
    let output = lidar_ptq(folder.path(), "calibrate model.safetensors --bag drive.mcap --method max-min -o small.safetensors --frames 3");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let model = Model::load(&folder.path().join("small.safetensors")).expect("just written");
    let isa = Isa::choose().expect("known");
    let detector = || Detector::new(model.config().clone(), network(&model, isa).expect("runs")).expect("fits");
    let (mut sparse, mut whole) = (detector(), detector());
    for frame in 0..6 {
        let cloud = scene(frame);
        let points = assemble(&cloud, &model.config().points).expect("has the fields");
        sparse.count_clipped(frame == 3);
        whole.count_clipped(frame == 3);
        let found = sparse.detect(points.view()).expect("runs").boxes;
        assert!(!found.is_empty());
        let mut maps = 0;
        let expected = whole.detect_inspecting(points.view(), &mut |m| maps = m.iter().count()).expect("runs").boxes;
        assert_eq!(found, expected, "frame {frame}");
        assert!(maps >= 6, "{maps}");
        // What is computed everywhere is counted everywhere, the rest where it is computed.
        let counts = |detector: &Detector| detector.clipped().into_iter().collect::<BTreeMap<_, _>>();
        let (some, all) = (counts(&sparse), counts(&whole));
        assert_eq!(all.is_empty(), frame != 3);
        for (layer, count) in &all {
            let own = some.get(layer).copied().unwrap_or_default();
            let is_deferred = layer.contains("tasks") && !layer.contains("hm");
            assert!(
                if is_deferred { own.of < count.of && own.clipped <= count.clipped } else { own == *count },
                "{layer}: {own:?} {count:?}"
            );
        }
    }
}

/// Killed in the middle, a calibration leaves no model, and what it has done is enough to end at the same bytes.
#[test]
fn a_killed_calibration_goes_on_to_the_same_file() {
    let folder = workbench();
    let at = folder.path();
    let recipe = "calibrate model.safetensors --bag drive.mcap --recipe paper --steps 60 --batch 1 --bits W4A8 --frames 4 --held-out 0";
    let whole = lidar_ptq(at, &format!("{recipe} -o whole.safetensors"));
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));

    let arguments = format!("{recipe} -o killed.safetensors");
    let mut child = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"))
        .current_dir(at)
        .args(arguments.split_whitespace())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let (state, model) = (at.join("killed.safetensors.partial"), at.join("killed.safetensors"));
    while !state.exists() && child.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    if state.exists() {
        assert!(!model.exists());
    }
    let again = lidar_ptq(at, &format!("{arguments} --force"));
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(&model).expect("there"), std::fs::read(at.join("whole.safetensors")).expect("there"));
    let left = std::fs::read_dir(at).expect("a folder").filter_map(|f| f.ok()?.file_name().into_string().ok());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(left, ["drive.mcap", "killed.safetensors", "model.safetensors", "whole.safetensors"]);
}

#[test]
fn sensitive_layers_become_finer_and_the_report_says_so() {
    let folder = workbench();
    let at = folder.path();
    let arguments = "calibrate model.safetensors --bag drive.mcap -o q.safetensors --method max-min --bits W4A8 --frames 3 --held-out 2 --promote 2 --sensitivity --accept-disagreement --json report.json";
    let output = lidar_ptq(at, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(at.join("report.json")).expect("there")).expect("JSON");
    let layers = report["layers"].as_array().expect("layers");
    let bits = |layer: &Value| layer["weight_bits"].as_u64().expect("bits");
    assert_eq!(layers.iter().filter(|l| bits(l) == 8).count(), 2, "{report}");
    assert!(layers.iter().all(|l| l["output_snr_db"].is_f64() && l["sensitivity"]["alone"]["loss"].is_f64()));
    assert_eq!(report["calibration"]["recordings_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(report["agreement"]["frames"], 2);
    let model = Model::load(&at.join("q.safetensors")).expect("loaded");
    let scheme = &model.quantization().expect("quantized").scheme;
    for layer in layers {
        assert_eq!(u64::from(scheme.weights[layer["layer"].as_str().expect("a name")].bits), bits(layer));
    }
    // No more bytes than there are already: nothing becomes finer.
    let arguments = "calibrate model.safetensors --bag drive.mcap -o b.safetensors --method max-min --bits W4A8 --frames 3 --held-out 2 --budget-bytes 1 --accept-disagreement";
    assert_eq!(lidar_ptq(at, arguments).status.code(), Some(0));
    let model = Model::load(&at.join("b.safetensors")).expect("loaded");
    assert!(model.quantization().expect("quantized").scheme.weights.values().all(|w| w.bits == 4));
}

/// Without a limit every layer that gains becomes finer; with none of the time there is, no layer does; and the report says what was measured.
#[test]
fn layers_become_finer_within_a_time() {
    let folder = workbench();
    let at = folder.path();
    let run = |budget: &str| -> (Value, Vec<u8>) {
        let arguments = format!(
            "calibrate model.safetensors --bag drive.mcap -o q.safetensors --force --method max-min --bits W4A4 --frames 3 --held-out 2 \
             --accept-disagreement --sensitivity --json report.json --budget-ms {budget} --budget-threads 1"
        );
        let output = lidar_ptq(at, &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let report = serde_json::from_str(&std::fs::read_to_string(at.join("report.json")).expect("there")).expect("JSON");
        let model = Model::load(&at.join("q.safetensors")).expect("loaded");
        (report, model.quantization().expect("quantized").scheme.weights.values().map(|w| w.bits).collect())
    };
    let (report, bits) = run("10000");
    let budget = &report["time_budget"];
    let gaining = budget["added_ms"].as_object().expect("times").len();
    assert!(gaining > 0 && budget["before_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{budget}");
    assert_eq!(bits.iter().filter(|b| **b == 8).count(), gaining, "{budget}");
    assert_eq!(budget["finer"].as_array().map(Vec::len), Some(gaining));
    assert_eq!(budget["threads"], 1);
    let (report, bits) = run("1e-6");
    assert!(bits.iter().all(|b| *b == 4), "{report}");
    assert_eq!(report["time_budget"]["after_ms"], report["time_budget"]["before_ms"]);
}

/// One file of HTML with everything in it, also of a model that was refused.
#[test]
fn the_report_is_one_page() {
    let folder = workbench();
    let at = folder.path();
    let recipe = "calibrate model.safetensors --bag drive.mcap -o q.safetensors --bits W4A8 --frames 3 --held-out 2 --sensitivity --seed 7";
    let output = lidar_ptq(at, &format!("{recipe} --accept-disagreement --report report.html --json report.json"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(at.join("report.html")).expect("there");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(at.join("report.json")).expect("there")).expect("JSON");
    for outside in ["<script", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let calibration = &report["calibration"];
    for digest in ["frames_sha256", "recordings_sha256"] {
        assert!(page.contains(calibration[digest].as_str().expect("a digest")), "{digest}");
    }
    for layer in report["layers"].as_array().expect("layers") {
        let snr = layer["output_snr_db"].as_f64().expect("a number");
        assert!(page.contains(&format!("{}: SNR, dB {snr:.1}", layer["layer"].as_str().expect("a name"))), "{layer}");
        assert!(page.contains(&format!(">{}</text>", layer["weight_bytes"])), "{layer}");
    }
    let phases = report["phases"].as_array().expect("phases");
    for phase in ["frames looked at", "frames observed", "weighing", "rounding", "sensitivity of layers", "judging"] {
        assert!(phases.iter().any(|p| p["name"] == phase) && page.contains(&format!(">{phase}</text>")), "{phase}: {phases:?}");
    }
    let seconds = |value: &Value| value.as_f64().expect("seconds");
    assert!((phases.iter().map(|p| seconds(&p["seconds"])).sum::<f64>() - seconds(&report["seconds"])).abs() < 1e-9);
    assert!(page.contains("score bias") && page.contains("40+ m") && page.contains("recall &gt; 0.1") && page.contains("recall &gt; 0.3"));
    assert!(page.contains("<dt>Seed</dt><dd>7</dd>") && page.contains("Peak memory"));

    let refused = lidar_ptq(at, &format!("{recipe} --force --least-agreement 1.1 --report refused.html"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(std::fs::read_to_string(at.join("refused.html")).expect("there").contains("Refused: only "));
}

/// A disk that fills up while frames are observed ends the calibration and names the place, rather than skip every frame. A bound on the
/// size of files stands for it.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_calibration() {
    let folder = workbench();
    std::fs::create_dir(folder.path().join("small")).expect("created");
    let command = format!(
        "trap '' XFSZ; ulimit -f 1; exec '{}' calibrate model.safetensors --bag drive.mcap --frames 3 -o small/q.safetensors",
        env!("CARGO_BIN_EXE_lidar_ptq")
    );
    let output = Command::new("sh").current_dir(folder.path()).args(["-c", &command]).output().expect("a shell");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: the scratch file in small: ") && !said.contains("no frame could be used"), "{said}");
}

/// What a float network and its quantized form say of a frame differs by what quantization costs, and by nothing between the
/// integer engine and fake quantization.
#[test]
fn layers_stay_float_by_name_and_four_bits_are_packed() {
    let folder = workbench();
    let at = folder.path();
    let arguments = "calibrate model.safetensors --bag drive.mcap -o q.safetensors --bits W4A8 --method max-min --accept-disagreement --float bbox_head.shared_conv.0 --frames 2";
    let output = lidar_ptq(at, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let wrong = lidar_ptq(at, "calibrate model.safetensors --bag drive.mcap -o w.safetensors --float nonsense");
    assert!(text(&wrong.stderr).contains("nonsense") && text(&wrong.stderr).contains("bbox_head.shared_conv.0"));

    let model = Model::load(&at.join("q.safetensors")).expect("loaded");
    assert!(model.quantization().is_some_and(|q| q.scheme.float.contains_key("bbox_head.shared_conv.0")));
    let config = model.config().clone();
    let cloud = scene(1);
    let points = assemble(&cloud, &config.points).expect("fields");
    let pillars = Pillarizer::new(&config).expect("valid").pillarize(points.view()).expect("pillars");
    let fake = FloatNetwork::fake_quantized(&model).expect("fits").run(&pillars).expect("runs");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let maps = Int8Network::new(&model, isa).expect("lowers").run(&pillars).expect("runs");
        for ((role, got), (_, want)) in maps.iter().zip(fake.iter()) {
            assert_eq!(got, want, "{role} {isa}");
        }
    }
}

#[test]
fn what_is_saved_quantized_is_loaded_and_damage_is_named() {
    let folder = workbench();
    let at = folder.path();
    for bits in [8, 4] {
        let output = lidar_ptq(
            at,
            &format!(
                "calibrate model.safetensors --bag drive.mcap -o q.safetensors --force --frames 1 --method max-min --accept-disagreement --bits W{bits}A8"
            ),
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let model = Model::load(&at.join("q.safetensors")).expect("loaded");
        let bytes = model.to_bytes(Precision::F32).expect("written");
        assert_eq!(Model::from_bytes(&bytes).expect("read"), model);

        let file = SafeTensors::deserialize(&bytes).expect("valid");
        let weight = file.tensor("bbox_head.shared_conv.0.weight").expect("there");
        let elements = 24 * 8 * 9;
        let (dtype, len) = if bits == 8 { (Dtype::I8, elements) } else { (Dtype::U8, elements / 2) };
        assert_eq!((weight.dtype(), weight.data().len()), (dtype, len));

        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("valid");
        let rewritten = |drop: &str, change: fn(&mut Value)| {
            let mut metadata = metadata.metadata().clone().expect("metadata");
            let mut manifest: Value = serde_json::from_str(&metadata[MANIFEST_KEY]).expect("JSON");
            change(&mut manifest);
            metadata.insert(MANIFEST_KEY.into(), manifest.to_string());
            let tensors: Vec<_> = file.tensors().into_iter().filter(|(name, _)| name != drop).collect();
            let bytes = safetensors::serialize(tensors, Some(metadata)).expect("written");
            Model::from_bytes(&bytes).expect_err("damaged").to_string()
        };
        let error = rewritten("bbox_head.shared_conv.0.weight_scale", |_| {});
        assert!(error.contains("`bbox_head.shared_conv.0.weight_scale`"), "{error}");
        let error = rewritten("bbox_head.shared_conv.0.weight", |_| {});
        assert!(error.contains("`bbox_head.shared_conv.0.weight`: expected integers"), "{error}");
        let error = rewritten("", |m| m["quantization"]["activations"]["scatter"]["scale"] = (-1.0).into());
        assert!(error.contains("`scatter`: `scale`: expected a positive number"), "{error}");
        let error = rewritten("", |m| m["quantization"]["float"] = serde_json::json!({}));
        assert!(error.contains("says nothing of layer"), "{error}");
        let error = rewritten("", |m| drop(m.as_object_mut().map(|m| m.remove("quantization"))));
        assert!(error.contains("expected floats"), "{error}");
    }
}
