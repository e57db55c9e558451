//! The calibration itself: `lidar_ptq calibrate` as a process of low priority and bounded memory. What happens to it does not
//! happen to the node, and when the node ends, so does it.

use super::params::CalibrateParams;
use crate::sensor::{TimeReference, TimeUnit};
use serde::Serialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The last lines of what it complains of.
const KEEP_LINES: usize = 20;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct JobPlan {
    pub model: PathBuf,
    pub bag: PathBuf,
    pub output: PathBuf,
    /// Topic of the clouds in the bag.
    pub topic: Option<String>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub stage: String,
    pub done: u32,
    pub of: u32,
}

/// What came out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct JobReport {
    pub model: String,
    /// The lower of recall and precision, if there were frames to judge with and boxes in them.
    pub agreement: Option<f64>,
    pub text: String,
}

enum Line {
    Step(Step),
    Report(JobReport),
}

pub(super) struct Job {
    child: Child,
    lines: Receiver<Line>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    report: Option<JobReport>,
    max_memory_mb: i64,
}

impl Job {
    /// `program` is `lidar_ptq`.
    pub fn start(program: &Path, plan: &JobPlan, params: &CalibrateParams) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg("calibrate")
            .arg(&plan.model)
            .arg("--bag")
            .arg(&plan.bag)
            .arg("-o")
            .arg(&plan.output)
            .args(["--force", "--progress-json"]);
        command.args(arguments(params));
        if let Some(topic) = plan.topic.as_ref() {
            command.args(["--topic", topic]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        restrain(&mut command, params);
        let mut child = command.spawn()?;
        if cfg!(target_os = "linux") {
            // Sessions share the processor evenly whatever the niceness inside, where the kernel groups them; without that, there is no such file.
            let _ = std::fs::write(format!("/proc/{}/autogroup", child.id()), params.nice.to_string());
        }
        let (sender, lines) = channel();
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = complaints.clone();
        let readers = [
            child.stdout.take().map(|stdout| {
                read_lines(stdout, move |line| {
                    if let Some(line) = parse(&line) {
                        let _ = sender.send(line);
                    }
                })
            }),
            child.stderr.take().map(|stderr| {
                read_lines(stderr, move |line| {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(line);
                    if kept.len() > KEEP_LINES {
                        kept.pop_front();
                    }
                })
            }),
        ];
        let readers = readers.into_iter().flatten().collect::<io::Result<_>>()?;
        Ok(Self { child, lines, complaints, readers, report: None, max_memory_mb: params.max_memory_mb })
    }

    /// The last step told of since the last time, and what came out if it has ended.
    pub fn poll(&mut self) -> (Option<Step>, Option<Result<JobReport, String>>) {
        let ended = match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status),
            Err(error) => return (None, Some(Err(format!("the calibration cannot be watched: {error}")))),
        };
        if ended.is_some() {
            // All that it wrote is there when the readers have ended.
            self.readers.drain(..).for_each(|reader| _ = reader.join());
        }
        let mut last = None;
        for line in self.lines.try_iter() {
            match line {
                Line::Step(step) => last = Some(step),
                Line::Report(report) => self.report = Some(report),
            }
        }
        let outcome = ended.map(|status| match self.report.take().filter(|_| status.success()) {
            Some(report) => Ok(report),
            None => Err(self.complaint(status)),
        });
        (last, outcome)
    }

    fn complaint(&self, status: ExitStatus) -> String {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let error = complaints.iter().rev().find(|line| line.starts_with("error: ")).or_else(|| complaints.back());
        let error = error.map_or("", |line| line.trim_start_matches("error: "));
        match status.signal() {
            Some(signal) => format!(
                "the calibration was ended by signal {signal}; its bound on memory, max_memory_mb, is {} MB: {error}",
                self.max_memory_mb
            ),
            None => error.to_owned(),
        }
    }
}

impl Drop for Job {
    /// What it writes is in its place whole or not at all.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(params: &CalibrateParams) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // In one word, so that a value with a dash in front is none of its own.
            arguments.push(format!("--{name}={value}"));
        }
    };
    let tuning = &params.tuning;
    option("method", Some(params.method.clone()));
    option("frames", Some(params.frames.to_string()));
    option("held-out", Some(params.held_out.to_string()));
    option("least-agreement", Some(params.least_agreement.to_string()));
    option("threads", Some(params.threads.to_string()));
    option("fixed-frame", params.fixed_frame.clone());
    option("max-pose-gap", Some(params.max_pose_gap_s.to_string()));
    option("intensity-field", tuning.intensity_field.clone());
    option("intensity-scale", tuning.intensity_scale.map(|v| v.to_string()));
    option("intensity-constant", tuning.intensity_constant.map(|v| v.to_string()));
    option("time-field", tuning.time_field.clone());
    option("time-unit", tuning.time_unit.map(|unit: TimeUnit| word(&unit)));
    option("time-reference", tuning.time_reference.map(|reference: TimeReference| word(&reference)));
    arguments
}

/// A variant by its name in a configuration.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A session of its own, which a terminal's Ctrl-C does not reach; niceness; a bound on memory; an end with the node's.
fn restrain(command: &mut Command, params: &CalibrateParams) {
    let nice = params.nice as libc::c_int;
    let bytes = (params.max_memory_mb as libc::rlim_t).saturating_mul(1 << 20);
    // SAFETY: all of these may be called between fork and exec, and the closure does nothing else; the structure lives through its call.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
            let bound = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            if libc::setrlimit(libc::RLIMIT_DATA, &bound) != 0 {
                return Err(io::Error::last_os_error());
            }
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

fn read_lines(from: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) -> io::Result<JoinHandle<()>> {
    let read = move || BufReader::new(from).lines().map_while(Result::ok).for_each(&mut take);
    std::thread::Builder::new().name("calibration".into()).spawn(read)
}

fn parse(line: &str) -> Option<Line> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
    match &line["report"] {
        Value::Null => Some(Line::Step(Step { stage: text(&line["stage"]), done: number(&line["done"]), of: number(&line["of"]) })),
        report => Some(Line::Report(JobReport {
            model: text(&report["model"]),
            agreement: report["agreement"].as_f64(),
            text: text(&report["text"]),
        })),
    }
}
