//! What the node knows of its own state, as `/diagnostics` tells it.

use crate::detect::{Clipped, Drift};
use crate::ros::msg::diagnostic_msgs::{DiagnosticArray, DiagnosticStatus, KeyValue};
use crate::ros::msg::std_msgs::Header;
use crate::ros::transport::SubscriptionStatus;
use crate::sensor::Stamp;
use std::collections::VecDeque;
use std::time::Instant;

/// Frames over which times are judged: 100 s at 10 Hz.
const WINDOW: usize = 1000;
/// An input that is silent for longer is worth a warning, seconds.
const SILENT_S: f64 = 1.0;

/// A greater share of clipped activations is worth a warning. Methods here clip far less of what they were shown.
const MAX_CLIPPED: f64 = 0.01;

/// A cloud whose traits are further from calibration's than so many deviations is worth a warning.
const MAX_DRIFT: f32 = 5.0;

/// Counts since the start, and times of the last frames.
pub(super) struct Health {
    /// Clouds that gave boxes.
    pub answered: u64,
    /// Clouds that a newer one overtook after they had been taken from the transport.
    pub passed_over: u64,
    /// Clouds that could not be used.
    pub skipped: u64,
    /// Clouds that came while the node was not active.
    pub unwanted: u64,
    /// Clouds that waited for their transform in vain.
    pub in_vain: u64,
    /// Frames with fewer sweeps than wanted, and why the last one had.
    pub fewer_sweeps: u64,
    pub last_left_out: Option<String>,
    /// Messages that could not be sent.
    pub unsent: u64,
    /// What became of the last wish to load a model, if nothing good.
    pub load_failure: Option<String>,
    /// By layer, of the first frame since the last report: activations at the end of their range.
    pub clipped: Option<Vec<(String, Clipped)>>,
    /// Of the same frame: its traits beside those of calibration, farthest off first.
    pub drift: Vec<Drift>,
    last_skip: Option<String>,
    last_unsent: Option<String>,
    last_cloud: Option<Instant>,
    times: VecDeque<Times>,
    reported: Reported,
}

/// Of a frame, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From the start of its work to its boxes' publication.
    pub processing: f64,
    /// From the measurement to the answer, where the clocks agree.
    pub latency: Option<f64>,
    /// What the node takes beside the detector: reading the cloud, merging sweeps, publishing all there is.
    pub overhead: f64,
}

/// The counts at the last report.
struct Reported {
    at: Instant,
    answered: u64,
    skipped: u64,
    fewer_sweeps: u64,
    unsent: u64,
}

/// What others know and the report needs.
pub(super) struct Facts<'a> {
    pub node: &'a str,
    pub now: Stamp,
    /// As [`Lifecycle::label`](crate::ros::lifecycle::Lifecycle::label).
    pub state: &'static str,
    pub is_active: bool,
    pub model: Vec<(&'static str, String)>,
    pub input: SubscriptionStatus,
    /// Fields of the last cloud, as they were taken.
    pub fields: &'a str,
    pub motion: Vec<(&'static str, String)>,
    pub bad_motion: usize,
    pub max_processing_ms: f64,
}

impl Health {
    pub fn new() -> Self {
        let reported = Reported { at: Instant::now(), answered: 0, skipped: 0, fewer_sweeps: 0, unsent: 0 };
        Self {
            answered: 0,
            passed_over: 0,
            skipped: 0,
            unwanted: 0,
            in_vain: 0,
            fewer_sweeps: 0,
            last_left_out: None,
            unsent: 0,
            load_failure: None,
            clipped: None,
            drift: Vec::new(),
            last_skip: None,
            last_unsent: None,
            last_cloud: None,
            times: VecDeque::with_capacity(WINDOW),
            reported,
        }
    }

    pub fn cloud_came(&mut self) {
        self.last_cloud = Some(Instant::now());
    }

    pub fn skip(&mut self, reason: String) {
        self.skipped += 1;
        if self.last_skip.as_ref() == Some(&reason) {
            tracing::debug!(reason, "cloud skipped");
        } else {
            tracing::warn!(reason, "cloud skipped");
            self.last_skip = Some(reason);
        }
    }

    pub fn unsent(&mut self, reason: String) {
        self.unsent += 1;
        self.last_unsent = Some(reason);
    }

    pub fn answer(&mut self, times: Times) {
        self.answered += 1;
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(times);
    }

    pub fn is_due(&self, period_s: f64) -> bool {
        self.reported.at.elapsed().as_secs_f64() >= period_s
    }

    /// The report; rates and warnings are about the time since the last one.
    pub fn report(&mut self, facts: Facts) -> DiagnosticArray {
        let elapsed_s = self.reported.at.elapsed().as_secs_f64().max(1e-6);
        let rate_hz = (self.answered - self.reported.answered) as f64 / elapsed_s;
        let status =
            [lifecycle(&facts), self.input(&facts), self.times(&facts, rate_hz), self.motion(&facts), self.model(&facts), self.output()];
        let named = |(what, level, message, values): Status| DiagnosticStatus {
            level,
            name: format!("{}: {what}", facts.node.trim_start_matches('/')),
            message,
            hardware_id: facts.node.to_owned(),
            values: values.into_iter().map(|(key, value)| KeyValue { key: key.to_owned(), value }).collect(),
        };
        let status = status.into_iter().map(named).collect();
        self.reported = Reported {
            at: Instant::now(),
            answered: self.answered,
            skipped: self.skipped,
            fewer_sweeps: self.fewer_sweeps,
            unsent: self.unsent,
        };
        self.clipped = None;
        self.drift.clear();
        DiagnosticArray { header: Header { stamp: facts.now, frame_id: String::new() }, status }
    }

    fn input(&self, facts: &Facts) -> Status {
        let input = &facts.input;
        let silent_s = self.last_cloud.map(|at| at.elapsed().as_secs_f64());
        let (level, message) = match (silent_s, &self.last_skip) {
            (None, _) if input.unreadable > 0 => (DiagnosticStatus::WARN, format!("{}: messages that are no plain CDR", input.topic)),
            (None, _) => (DiagnosticStatus::WARN, format!("no cloud on {} yet, {} publishers", input.topic, input.publishers)),
            (Some(s), _) if s > SILENT_S => (DiagnosticStatus::WARN, format!("no cloud on {} for {s:.1} s", input.topic)),
            (_, Some(reason)) if self.skipped > self.reported.skipped => (DiagnosticStatus::WARN, format!("cloud skipped: {reason}")),
            _ => (DiagnosticStatus::OK, "clouds come in".to_owned()),
        };
        let values = vec![
            ("topic", input.topic.clone()),
            ("publishers", input.publishers.to_string()),
            ("reliability", if input.reliable { "reliable" } else { "best_effort" }.to_owned()),
            ("fields", facts.fields.to_owned()),
            ("received", input.received.to_string()),
            ("answered", self.answered.to_string()),
            ("dropped_for_newer", (input.replaced + self.passed_over).to_string()),
            ("skipped", self.skipped.to_string()),
            ("not_active", self.unwanted.to_string()),
            ("last_skip_reason", self.last_skip.clone().unwrap_or_default()),
            ("lost_on_the_way", input.lost.to_string()),
            ("unreadable", input.unreadable.to_string()),
        ];
        ("input", level, message, values)
    }

    fn times(&self, facts: &Facts, rate_hz: f64) -> Status {
        let processing: Vec<f64> = self.times.iter().map(|t| t.processing).collect();
        let overhead: Vec<f64> = self.times.iter().map(|t| t.overhead).collect();
        let latency: Vec<f64> = self.times.iter().filter_map(|t| t.latency).collect();
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&processing, share));
        let is_slow = p99.is_some_and(|p99| p99 > facts.max_processing_ms);
        let (level, message) = if is_slow {
            let message = format!("1 of 100 frames takes more than {:.1} ms, {} are allowed", p99.unwrap_or(0.0), facts.max_processing_ms);
            (DiagnosticStatus::WARN, message)
        } else {
            (DiagnosticStatus::OK, format!("{rate_hz:.1} frames/s"))
        };
        let ms = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.2}"));
        let values = vec![
            ("rate_hz", format!("{rate_hz:.2}")),
            ("processing_p50_ms", ms(p50)),
            ("processing_p99_ms", ms(p99)),
            ("node_overhead_p50_ms", ms(percentile(&overhead, 0.5))),
            ("pipeline_latency_p50_ms", ms(percentile(&latency, 0.5))),
            ("pipeline_latency_p99_ms", ms(percentile(&latency, 0.99))),
        ];
        ("times", level, message, values)
    }

    fn motion(&self, facts: &Facts) -> Status {
        let (level, message) = match &self.last_left_out {
            Some(reason) if self.fewer_sweeps > self.reported.fewer_sweeps => (DiagnosticStatus::WARN, reason.clone()),
            _ => (DiagnosticStatus::OK, "as far as it is needed".to_owned()),
        };
        let counts = [
            ("clouds_waited_in_vain", self.in_vain.to_string()),
            ("frames_with_fewer_sweeps", self.fewer_sweeps.to_string()),
            ("unusable_messages", facts.bad_motion.to_string()),
        ];
        ("motion", level, message, facts.motion.iter().cloned().chain(counts).collect())
    }

    fn model(&self, facts: &Facts) -> Status {
        let layers = self.clipped.as_deref().unwrap_or_default();
        let sum = layers.iter().fold(Clipped::default(), |sum, (_, c)| Clipped { clipped: sum.clipped + c.clipped, of: sum.of + c.of });
        let worst = layers.iter().max_by(|a, b| a.1.share().total_cmp(&b.1.share()));
        let (level, message) = match (&self.load_failure, worst) {
            (Some(reason), _) => (DiagnosticStatus::WARN, format!("the model was not replaced: {reason}")),
            (None, Some((layer, clipped))) if sum.share() > MAX_CLIPPED => {
                let [all, worst] = [sum, *clipped].map(|c| 100.0 * c.share());
                let message = format!(
                    "{all:.2} of 100 activations are clipped, {worst:.2} of {layer}: the clouds are unlike those of calibration; calibrate anew, \
                     or look at the intensity's scale"
                );
                (DiagnosticStatus::WARN, message)
            }
            (None, _) => match self.drift.first().filter(|d| d.deviations > MAX_DRIFT) {
                Some(d) => {
                    let message = format!(
                        "{} is {:.4}, calibration saw {:.4} ± {:.4}: the clouds are unlike those of calibration; calibrate anew, or look at the \
                         sensor's mounting, its range and its intensity's scale",
                        d.name, d.value, d.seen.mean, d.seen.deviation
                    );
                    (DiagnosticStatus::WARN, message)
                }
                None if facts.is_active => (DiagnosticStatus::OK, "running".to_owned()),
                None => (DiagnosticStatus::OK, "at rest".to_owned()),
            },
        };
        let mut values = facts.model.clone();
        if let Some((layer, clipped)) = worst {
            values.push(("clipped_share", format!("{:.5}", sum.share())));
            values.push(("clipped_most_in", layer.clone()));
            values.push(("clipped_most_share", format!("{:.5}", clipped.share())));
        }
        if let Some(worst) = self.drift.first() {
            let beside = |d: &Drift| format!("{} {:.4} ({:.4} ± {:.4})", d.name, d.value, d.seen.mean, d.seen.deviation);
            values.push(("drift_deviations", format!("{:.2}", worst.deviations)));
            values.push(("drift_most_in", worst.name.clone()));
            values.push(("traits", self.drift.iter().map(beside).collect::<Vec<_>>().join(", ")));
        }
        ("model", level, message, values)
    }

    fn output(&self) -> Status {
        let (level, message) = match &self.last_unsent {
            Some(reason) if self.unsent > self.reported.unsent => (DiagnosticStatus::WARN, reason.clone()),
            _ => (DiagnosticStatus::OK, "messages go out".to_owned()),
        };
        ("output", level, message, vec![("unsent", self.unsent.to_string())])
    }
}

fn lifecycle(facts: &Facts) -> Status {
    let (level, message) = match facts.is_active {
        true => (DiagnosticStatus::OK, facts.state.to_owned()),
        false => (DiagnosticStatus::WARN, format!("{}: clouds are not worked on", facts.state)),
    };
    ("lifecycle", level, message, vec![("state", facts.state.to_owned())])
}

/// What it is about, level, message, values.
type Status = (&'static str, u8, String, Vec<(&'static str, String)>);

/// By nearest rank.
fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}
