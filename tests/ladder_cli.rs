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
             --bits W4A8,last=W8A8 --resamples 20 --json -"
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
    // Fewer bits, more noise.
    let db = |row: usize| ladder["rows"][row]["heat_map_db"].as_f64().unwrap();
    assert!(db(0) > db(1) + 3.0, "{} {}", db(0), db(1));
}

#[test]
fn nobody_is_judged_on_drives_that_calibrated() {
    let arguments = ["ladder", MODEL, "--calibrate", "sim:1..9", "--judge", "sim:8..12"];
    let output = Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("share drives"));
}
