//! The launch files, run on stand-ins for ROS' packages: what they name must exist, and every argument must have its help.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a launch file does; `None`, with a word of it, without Python.
fn run(file: &str) -> Option<Value> {
    let python = std::env::var_os("LIDAR_PTQ_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.arg(Path::new(ROOT).join("tests/launch/check.py")).arg(Path::new(ROOT).join("launch").join(file));
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        println!("skipped: no python3 here; name one in LIDAR_PTQ_PYTHON");
        return None;
    };
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("text")).collect()
}

/// Names of a parameter file, also of those that it only explains.
fn parameter_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join("config").join(name)).expect("a file")
}

#[test]
fn launch_files_name_what_exists() {
    for (file, parameters) in
        [("detect.launch.py", Some("detect.param.yaml")), ("calibrate.launch.py", Some("calibrate.param.yaml")), ("replay.launch.py", None)]
    {
        let Some(launch) = run(file) else { return };
        assert!(launch["doc"].as_str().is_some_and(|d| d.contains(&format!("ros2 launch lidar_ptq {file}"))), "{file}: {launch}");
        let arguments = launch["arguments"].as_object().expect("arguments");
        for (name, help) in arguments {
            assert!(help.as_str().is_some_and(|h| h.len() > 10 && h.ends_with('.')), "{file}: {name} has no help");
        }
        for used in strings(&launch["used"]) {
            assert!(arguments.contains_key(used), "{file}: {used} is not declared");
        }
        for name in arguments.keys() {
            assert!(strings(&launch["used"]).contains(&name.as_str()), "{file}: {name} is declared and has no effect");
        }
        for executable in strings(&launch["executables"]) {
            let path = Path::new(ROOT).join("src/bin").join(format!("{executable}.rs"));
            assert!(path.exists(), "{file}: {executable}");
        }
        for path in strings(&launch["paths"]).into_iter().filter(|p| !p.starts_with("lib/")) {
            assert!(Path::new(ROOT).join(path).exists(), "{file}: {path}");
        }
        if let Some(parameters) = parameters {
            let text = parameter_file(parameters);
            for name in strings(&launch["parameters"]) {
                assert!(text.contains(&format!("    {name}: ")) || name == "use_sim_time", "{file}: {name}");
            }
            assert_eq!(strings(&launch["remapped"]), ["~/input/pointcloud", "~/input/odometry"], "{file}");
        }
    }
}
