//! GPUs as the command line sees them: kernels that are compiled without one, and what happens where there is none.
//!
//! NVRTC is the Python package `nvidia-cuda-nvrtc-cu12` of `PYTHON` (default `python3`), or the system's. What is absent is said, and the
//! test passes without it.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::point_cloud::encode_cloud;
use std::process::{Command, Output};
use support::{TOPIC, Workbench, scene};

/// The architectures of the robots and computers that are named in `docs/gpu.md`.
const ARCHITECTURES: [&str; 6] = ["sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90"];

/// The folder of NVRTC's library in the Python package.
fn nvrtc_folder() -> Option<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let code = "import nvidia.cuda_nvrtc as n; print(list(n.__path__)[0] + '/lib')";
    let output = Command::new(python).args(["-c", code]).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn cubin(folder: &std::path::Path, arch: &str, nvrtc: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
    command.args(["cubin", "--report", "--arch", arch, "--out"]).arg(folder).env("LIDAR_PTQ_CACHE", folder);
    if let Some(nvrtc) = nvrtc {
        command.env("LD_LIBRARY_PATH", nvrtc);
    }
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn kernels_compile_for_every_architecture_without_spills() {
    let folder = tempfile::tempdir().expect("a folder");
    let nvrtc = nvrtc_folder();
    let first = cubin(folder.path(), ARCHITECTURES[0], nvrtc.as_deref());
    if !first.status.success() {
        let message = text(&first.stderr);
        assert!(message.contains("libnvrtc.so.12") && message.contains("lidar_ptq cubin --arch sm_75"), "{message}");
        println!("skipped: NVRTC is not there (pip install nvidia-cuda-nvrtc-cu12, or set PYTHON): the GPU's kernels were not compiled");
        return;
    }
    let rest = std::thread::scope(|scope| {
        let compile = |part: &'static [&str]| scope.spawn(|| cubin(folder.path(), &part.join(","), nvrtc.as_deref()));
        [&ARCHITECTURES[1..3], &ARCHITECTURES[3..]].map(compile).map(|thread| thread.join().expect("ends"))
    });
    let mut seen = 0;
    for output in std::iter::once(&first).chain(&rest) {
        assert!(output.status.success(), "{}", text(&output.stderr));
        for line in text(&output.stdout).lines().filter(|line| line.contains("sm_")) {
            let cells: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == '|').filter(|cell| !cell.is_empty()).collect();
            let [_, kernel, _, shared, spills, tensor] = cells[..] else { panic!("{line}") };
            assert_eq!(spills, "0", "{line}");
            assert!(shared.parse::<usize>().expect("a number") <= 48 << 10, "{line}");
            assert_eq!(kernel.starts_with("conv_"), tensor != "0", "{line}");
            seen += usize::from(kernel.starts_with("conv_"));
        }
    }
    assert_eq!(seen, 8 * ARCHITECTURES.len());
    for arch in ARCHITECTURES {
        let suffix = format!("-{arch}.cubin");
        let files = std::fs::read_dir(folder.path()).expect("there").map(|f| f.expect("readable").path());
        let files: Vec<_> = files.filter(|f| f.to_string_lossy().ends_with(&suffix)).collect();
        let [file] = &files[..] else { panic!("{arch}: {files:?}") };
        assert!(std::fs::read(file).expect("readable").starts_with(b"\x7fELF"), "{arch}");
    }
}

#[test]
fn architectures_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in ["sm_50", "orin", "sm_"] {
        let output = cubin(folder.path(), wrong, None);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(text(&output.stderr).contains("sm_61 or newer"), "{}", text(&output.stderr));
    }
}

/// Boxes are the same wherever the network runs; where no GPU can be used, that is said, and the CPU runs.
#[test]
fn asking_for_a_gpu_never_fails() {
    let bench = Workbench::new();
    let mut bag = BagWriter::create(&bench.path("drive.mcap")).expect("created");
    for frame in 0..3 {
        let cloud = scene(frame);
        bag.write(TOPIC, cloud.stamp, &encode_cloud(&cloud)).expect("written");
    }
    bag.finish().expect("complete");
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        let output = command.current_dir(bench.folder()).args(arguments.split_whitespace()).output().expect("the program runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        output
    };
    run("calibrate model.safetensors --bag drive.mcap --method max-min -o small.safetensors --frames 2");
    // What is calibrated does not depend on what was asked for.
    run("calibrate model.safetensors --bag drive.mcap --method lidar-ptq -o cpu.safetensors --frames 2 --device cpu");
    let other = run("calibrate model.safetensors --bag drive.mcap --method lidar-ptq -o other.safetensors --frames 2 --device cuda:63");
    assert!(text(&other.stderr).contains("the float network runs on the CPU"), "{}", text(&other.stderr));
    let file = |name: &str| std::fs::read(bench.path(name)).expect("written");
    assert!(file("cpu.safetensors") == file("other.safetensors"));
    let on = |device: &str| run(&format!("detect small.safetensors drive.mcap --json - --device {device}"));
    let cpu = on("cpu");
    assert!(cpu.stdout.len() > 1000 && !text(&cpu.stderr).contains("WARN"), "{}", text(&cpu.stderr));
    for device in ["auto", "cuda", "cuda:63"] {
        let output = on(device);
        // All but the times of the stages.
        let boxes = |output: &Output| -> Vec<serde_json::Value> {
            let lines = text(&output.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON"));
            lines.map(|frame: serde_json::Value| frame["boxes"].clone()).collect()
        };
        assert_eq!(boxes(&output), boxes(&cpu), "{device}");
        assert!(device != "cuda:63" || text(&output.stderr).contains("the network runs on the CPU"), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains('\u{1b}'), "colors in a pipe: {}", text(&output.stderr));
        assert!(device != "auto" || !text(&output.stderr).contains("WARN"), "{}", text(&output.stderr));
    }
    let float = run("detect model.safetensors drive.mcap --json - --device cuda");
    assert!(text(&float.stderr).contains("not quantized"), "{}", text(&float.stderr));
}
