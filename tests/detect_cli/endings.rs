//! How a run ends that somebody or something cuts short.

use crate::support::{TOPIC, Workbench, scene, tiny_model};
#[cfg(unix)]
use crate::support::{mind_signals, send_signal};
use crate::{broken_cloud, json_lines, messages, stderr, write_bag};
use lidar_ptq::ros::point_cloud::encode_cloud;
use ndarray_npy::NpzReader;
use std::fs::{self, File};
#[cfg(unix)]
use std::io::Read;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

/// Frames of a run that takes far longer than any test waits for.
const LONG: usize = 250;

/// Starts a run far longer than any test waits for; returns it with its first line.
fn long_run(bench: &Workbench) -> (Child, BufReader<ChildStdout>, String) {
    bench.write_bag("drive.mcap", LONG);
    let mut command = bench.command("drive.mcap --json - -o boxes.mcap --png pictures --dump maps.npz --threads 1");
    #[cfg(unix)]
    mind_signals(&mut command);
    let mut child = command.spawn().expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    (child, lines, first)
}

/// Waits for the early end of a long run. Its files are complete and agree; returns how many frames they hold.
fn frames_of_ended_run(bench: &Workbench, child: Child) -> usize {
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    let frames = messages(&bench.path("boxes.mcap")).len() / 3;
    let pictures = fs::read_dir(bench.path("pictures")).expect("made").count();
    let arrays = NpzReader::new(File::open(bench.path("maps.npz")).expect("written")).expect("an archive").len();
    assert!((1..LONG).contains(&frames), "{frames}");
    assert_eq!((pictures, arrays), (frames, frames * tiny_model(1).graph().outputs.len()));
    assert_eq!(bench.listing(), ["boxes.mcap", "drive.mcap", "maps.npz", "model.safetensors", "pictures"]);
    frames
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_complete_files() {
    for signal in ["INT", "TERM", "HUP"] {
        let bench = Workbench::new();
        let (child, mut lines, mut text) = long_run(&bench);
        send_signal(&child, signal);
        lines.read_to_string(&mut text).expect("text");
        assert_eq!(json_lines(&text).len(), frames_of_ended_run(&bench, child), "{signal}");
    }
}

/// `nohup lidar_ptq ... &`: a signal that whoever started the program wants ignored.
#[cfg(target_os = "linux")]
#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", LONG);
    let detect = format!("{} detect model.safetensors drive.mcap --json - --threads 1", env!("CARGO_BIN_EXE_lidar_ptq"));
    let mut command = Command::new("sh");
    command.current_dir(bench.folder()).args(["-c", &format!("trap '' HUP; exec {detect}")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("a line").expect("text");
    send_signal(&child, "HUP");
    // Far more frames than were on their way.
    assert_eq!(lines.by_ref().take(20).count(), 20);
    send_signal(&child, "TERM");
    assert!(lines.count() < LONG - 21);
    assert!(stderr(&child.wait_with_output().expect("it ends")).contains("interrupted"));
}

/// A terminal that is closed takes the standard error with it; what is written must not suffer from that.
#[test]
fn a_run_whose_messages_nobody_takes_is_complete() {
    let bench = Workbench::new();
    let clouds = [encode_cloud(&scene(0)), broken_cloud(1), encode_cloud(&scene(2))];
    write_bag(&bench.path("drive.mcap"), clouds.into_iter().map(|c| (TOPIC, c)));
    let mut child = bench.command("drive.mcap -o boxes.mcap").spawn().expect("the program runs");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(messages(&bench.path("boxes.mcap")).len(), 6);
}

/// `lidar_ptq detect ... --json - | head -1`
#[test]
fn a_reader_that_leaves_ends_the_run() {
    let bench = Workbench::new();
    let (child, lines, first) = long_run(&bench);
    assert_eq!(json_lines(&first).len(), 1);
    drop(lines);
    frames_of_ended_run(&bench, child);
}
