//! `lidar_ptq ladder` says of a method what `calibrate` and `eval` say of the model that it makes.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/edge_pillar.safetensors");
const DRIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/drive.mcap");

/// What the program writes to stdout and stderr; it must succeed.
fn lidar_ptq(folder: &Path, arguments: &str) -> [String; 2] {
    let output = Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).current_dir(folder).args(arguments.split_whitespace()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text[1]);
    text
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_row_of_a_method_is_what_its_model_reaches() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // More frames than there are, so that both calibrations see all of them.
    let [out, tables] = lidar_ptq(
        at,
        &format!(
            "ladder {MODEL} --calibrate {DRIVE} --judge {DRIVE} --until 0.55 --every 0 --frames 100 --draws 1 --method max-min --bits W8A8 \
             --bits W4A8,last=W8A8 --resamples 20 --json - --report ladder.html"
        ),
    );
    assert!(tables.contains("max-min") && tables.contains("in float: reader.pfn_layers.0.linear"), "{tables}");
    let ladder = json(&out);
    assert_eq!(ladder["rows"].as_array().unwrap().len(), 2);

    for (row, bits) in [(0, "--bits W8A8"), (1, "--bits W4A8 --bits last=W8A8")] {
        let frames = ladder["frames"].as_u64().unwrap();
        lidar_ptq(
            at,
            &format!(
                "calibrate {MODEL} --bag {DRIVE} --until 0.55 --frames {frames} --held-out 0 --method max-min {bits} -o small.safetensors --force"
            ),
        );
        let eval = |rest: &str| {
            let [out, _] = lidar_ptq(at, &format!("eval {rest} {DRIVE} --until 0.55 --every 0 --json -"));
            json(&out)
        };
        let (float, small) = (eval(MODEL), eval(&format!("small.safetensors --against {MODEL}")));
        assert_eq!(small["frames"], frames);
        let row = &ladder["rows"][row];
        assert_eq!(row["agreement"], small["agreement"]["all"]);
        // Of present classes: the mean over all ten is a constant share of it.
        let ap = |of: &Value| of["mAP"].as_f64().unwrap();
        let (got, want) = (row["ap_difference"]["value"].as_f64().unwrap(), ap(&small) - ap(&float));
        let present = ladder["float"]["ap"].as_f64().unwrap() / ap(&float);
        assert!((got - want * present).abs() < 1e-9, "{got} {want} {present}");
        let nds = |of: &Value| of["NDS"].as_f64().unwrap();
        assert!((row["nds_difference"]["value"].as_f64().unwrap() - (nds(&small) - nds(&float))).abs() < 1e-9);
        assert!(row["heat_map_db"].as_f64().unwrap() > 3.0, "{row}");
        assert!(row["ap_difference"]["standard_error"].as_f64().unwrap() > 0.0);
    }
    // The same by range: what lies in all ranges together is all there is.
    for row in ladder["rows"].as_array().unwrap() {
        let ranges = row["by_range"].as_array().unwrap();
        let ends: Vec<_> = ranges.iter().map(|r| (r["from_m"].as_f64(), r["to_m"].as_f64())).collect();
        assert_eq!(ends, [(Some(0.0), Some(20.0)), (Some(20.0), Some(40.0)), (Some(40.0), None)]);
        for (k, at) in row["agreement"]["thresholds"].as_array().unwrap().iter().enumerate() {
            for boxes in ["teacher_boxes", "student_boxes"] {
                let parts = ranges.iter().map(|r| r["agreement"]["thresholds"][k][boxes].as_u64().unwrap());
                assert_eq!(parts.sum::<u64>(), at[boxes].as_u64().unwrap());
            }
        }
        assert!(ranges.iter().any(|r| r["ap_difference"]["standard_error"].as_f64().unwrap() > 0.0));
        assert!(ranges.iter().all(|r| r["agreement"]["score_bias"].is_f64() && r["heat_map_db"].is_f64()), "{row}");
    }
    let page = std::fs::read_to_string(at.join("ladder.html")).unwrap();
    let value = ladder["rows"][0]["ap_difference"]["value"].as_f64().unwrap();
    let error = ladder["rows"][0]["ap_difference"]["standard_error"].as_f64().unwrap();
    assert!(page.contains(&format!("W8A8 max-min: mAP - float {:+.2} ± {:.2}", 100.0 * value, 100.0 * error)));
    assert!(page.contains("W4A8,last=W8A8 max-min, 40+ m") && !page.contains("<script") && !page.contains("src="));

    // Fewer bits, more noise.
    let db = |row: usize| ladder["rows"][row]["heat_map_db"].as_f64().unwrap();
    assert!(db(0) > db(1) + 3.0, "{} {}", db(0), db(1));
}

/// Each draw is the choice of `calibrate` with the next seed, so a ladder of one draw is one of that seed.
#[test]
fn draws_are_choices_of_frames_by_seed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let common = format!(
        "ladder {MODEL} --calibrate sim:1..3 --judge {DRIVE} --until 0.3 --every 0 --seconds 3 --frames 4 --method max-min --resamples 2 --json -"
    );
    let db = |rest: &str| json(&lidar_ptq(at, &format!("{common} {rest}"))[0])["rows"][0]["heat_map_db"].as_f64().unwrap();
    let (first, second) = (db("--draws 1 --seed 5"), db("--draws 1 --seed 6"));
    assert_eq!(db("--draws 1 --seed 5"), first);
    assert!(first != second);
    // The noise of both draws together lies between.
    let both = db("--draws 2 --seed 5");
    assert!(both >= first.min(second) && both <= first.max(second), "{first} {second} {both}");
}

#[test]
fn nobody_is_judged_on_drives_that_calibrated() {
    let arguments = ["ladder", MODEL, "--calibrate", "sim:1..9", "--judge", "sim:8..12"];
    let output = Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("share drives"));
}
