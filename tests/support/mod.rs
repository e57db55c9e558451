//! A detector small enough to run in a test, and something for it to look at.

use lidar_ptq::detect::{DetectorConfig, Grid, Model};
use lidar_ptq::graph::{Params, Precision, Provenance};
use lidar_ptq::sensor::{PointCloud, Stamp};
use lidar_ptq::train::initial_params;
use ndarray::{Array2, ArrayD, arr1};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The topic of every bag's clouds here.
pub const TOPIC: &str = "/lidar/points";
/// Not a round number of seconds: stamps must survive to the nanosecond.
pub const START: Stamp = Stamp(1_700_000_000_123_456_789);
/// From one frame to the next, nanoseconds.
pub const PERIOD: i64 = 100_000_000;

/// The edge configuration on 0.8 m pillars with a few channels, merging `sweeps` sweeps.
pub fn tiny_config(sweeps: usize) -> DetectorConfig {
    let mut config = DetectorConfig::load("edge_pillar").expect("a preset");
    config.name = "tiny".into();
    config.points.sweeps.count = sweeps;
    config.points.sweeps.ego_box = [0.0; 2];
    config.grid = Grid { min: [-25.6, -25.6, -4.0], max: [25.6, 25.6, 4.0], voxel: [0.8, 0.8, 8.0] };
    config.network.encoder.layers = vec![8];
    config.network.rpn.layers = vec![1, 1, 1];
    config.network.rpn.filters = vec![8, 8, 8];
    config.network.rpn.upsample_filters = vec![8, 8, 8];
    config.network.head.shared_channels = 8;
    config.network.head.branch_channels = 8;
    config
}

/// Random weights, of which heat maps see a few things and sizes are those of cars.
pub fn tiny_model(sweeps: usize) -> Model {
    let config = tiny_config(sweeps);
    let graph = config.graph().expect("valid");
    let mut params = initial_params(&graph, 7);
    for output in &graph.outputs {
        let node = &graph.nodes[output.node].name;
        if output.role.ends_with(".heatmap") {
            param(&mut params, node, "bias").fill(-7.0);
        } else if output.role.ends_with(".size") {
            *param(&mut params, node, "weight") *= 0.05;
            param(&mut params, node, "bias").assign(&arr1(&[4.4f32, 1.9, 1.6].map(f32::ln)).into_dyn());
        }
    }
    Model::new(config, params, Provenance::default()).expect("they fit")
}

fn param<'p>(params: &'p mut Params, node: &str, kind: &str) -> &'p mut ArrayD<f32> {
    params.0.get_mut(&format!("{node}.{kind}")).expect("an output is a convolution with bias")
}

pub fn save_tiny_model(path: &Path) {
    tiny_model(1).save(path, Precision::F32).expect("written");
}

/// A folder with the model, in which the program runs, so that paths on its command line are short and relative.
#[allow(dead_code)] // for the tests of the command line
pub struct Workbench(tempfile::TempDir);

#[allow(dead_code)] // for the tests of the command line
impl Workbench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        save_tiny_model(&folder.path().join("model.safetensors"));
        Self(folder)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `lidar_ptq detect model.safetensors ...`
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        command.current_dir(self.folder()).args(["detect", "model.safetensors"]).args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("the program runs")
    }
}

/// Ground and a few blocks that stand elsewhere in each frame: x, y, z, and whole numbers up to 255 as intensity.
pub fn scene(frame: usize) -> PointCloud {
    let mut rows: Vec<[f32; 4]> = Vec::new();
    for i in 0..1200 {
        let (angle, range) = (i as f32 * 2.399_963, 2.0 + 22.0 * (i as f32 / 1200.0).sqrt());
        rows.push([range * angle.cos(), range * angle.sin(), -1.8, (i % 40) as f32]);
    }
    for block in 0..6 {
        let angle = block as f32 + 0.21 * frame as f32;
        let (x, y) = ((6.0 + 2.5 * block as f32) * angle.cos(), (6.0 + 2.5 * block as f32) * angle.sin());
        for i in 0..60 {
            let [a, b, c] = [i % 5, (i / 5) % 4, i / 20].map(|k| k as f32);
            rows.push([x + 0.6 * a, y + 0.4 * b, -1.5 + 0.6 * c, 40.0 * block as f32 + c]);
        }
    }
    let fields = ["x", "y", "z", "intensity"].map(str::to_owned).to_vec();
    let data = Array2::from_shape_vec((rows.len(), 4), rows.concat()).expect("four values a row");
    PointCloud { stamp: Stamp(START.0 + PERIOD * frame as i64), frame_id: "velodyne".into(), fields, data }
}

/// `signal` is a name as `kill` takes it, such as TERM.
#[cfg(unix)]
#[allow(dead_code)] // for the tests that stop something
pub fn send_signal(child: &std::process::Child, signal: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// Lets the program meet signals as from a terminal: started in the background of a script, tests inherit an ignored interrupt,
/// which the program would honour.
#[cfg(unix)]
#[allow(dead_code)] // for the tests that stop something
pub fn mind_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: `signal` may be called between fork and exec, and the closure does nothing else.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}
