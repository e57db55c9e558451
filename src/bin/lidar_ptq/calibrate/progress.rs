//! How far a calibration is, and how long its phases took.

use indicatif::{ProgressBar, ProgressStyle};
use lidar_ptq::node::Phase;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::Write;
use std::time::Instant;

/// A bar for people, or lines for a program; and a clock.
pub struct Progress {
    /// `None`: lines.
    bar: Option<ProgressBar>,
    clock: RefCell<Clock>,
}

struct Clock {
    last: Instant,
    phases: Vec<Phase>,
}

impl Progress {
    /// # Errors
    /// None that is known: the bar's template is right.
    pub fn new(json: bool) -> anyhow::Result<Self> {
        let bar = if json {
            None
        } else {
            let bar = ProgressBar::new(1);
            bar.set_style(ProgressStyle::with_template("{bar:30} {msg} {pos}/{len}  {eta} left")?);
            Some(bar)
        };
        Ok(Self { bar, clock: RefCell::new(Clock { last: Instant::now(), phases: Vec::new() }) })
    }

    /// A step of a stage is done.
    pub fn tell(&self, stage: &str, done: usize, of: usize) {
        self.mark(stage);
        match &self.bar {
            Some(bar) => {
                if done == 1 {
                    bar.reset();
                    bar.set_length(of as u64);
                    bar.set_message(stage.to_owned());
                }
                bar.set_position(done as u64);
            }
            None => print_line(&json!({"stage": stage, "done": done, "of": of})),
        }
    }

    /// The time since the last mark was this phase's.
    pub fn mark(&self, phase: &str) {
        let Clock { last, phases } = &mut *self.clock.borrow_mut();
        let now = Instant::now();
        let seconds = (now - std::mem::replace(last, now)).as_secs_f64();
        match phases.iter_mut().find(|p| p.name == phase) {
            Some(phase) => phase.seconds += seconds,
            None => phases.push(Phase { name: phase.to_owned(), seconds }),
        }
    }

    /// Until now, in the order in which they began.
    pub fn phases(&self) -> Vec<Phase> {
        self.clock.borrow().phases.clone()
    }

    pub fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    pub fn report(&self, report: &Value) {
        if self.bar.is_none() {
            print_line(&json!({"report": report}));
        }
    }
}

/// Who has stopped listening misses nothing that matters.
fn print_line(line: &Value) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
