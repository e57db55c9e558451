//! The losses of a run, step by step, as a CSV file that outlives a stop.

use super::trainer::StepReport;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    pub step: usize,
    pub lr: f64,
    pub gradient_norm: f64,
    /// Of each task: heat-map loss and location loss.
    pub tasks: Vec<[f64; 2]>,
}

impl LogEntry {
    pub fn loss(&self) -> f64 {
        self.tasks.iter().flatten().sum()
    }

    fn parse(line: &str) -> Option<Self> {
        let (step, rest) = line.split_once(',')?;
        let numbers: Vec<f64> = rest.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        let (&[lr, gradient_norm], tasks) = numbers.split_first_chunk()?;
        Some(Self { step: step.parse().ok()?, lr, gradient_norm, tasks: tasks.as_chunks().0.to_vec() })
    }
}

impl From<&StepReport> for LogEntry {
    fn from(report: &StepReport) -> Self {
        let StepReport { step, lr, gradient_norm, ref tasks } = *report;
        Self { step, lr, gradient_norm, tasks: tasks.iter().map(|t| [t.heatmap, t.location]).collect() }
    }
}

/// An open log.
#[derive(Debug)]
pub struct LossLog {
    file: File,
    entries: Vec<LogEntry>,
}

impl LossLog {
    /// Opens the log of a run that is at `step`: what an earlier run wrote of this step and later ones is dropped, since it will
    /// be computed again. At step 0 the log is new.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(path: &Path, step: usize) -> io::Result<Self> {
        let old = match std::fs::read_to_string(path) {
            Ok(text) if step > 0 => text,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => String::new(),
        };
        let entries: Vec<LogEntry> = old.lines().filter_map(LogEntry::parse).filter(|e| e.step < step).collect();
        let header = entries.first().map(header);
        let kept: String = header.into_iter().chain(entries.iter().map(line)).collect();
        let beside = path.with_extension("new");
        std::fs::write(&beside, kept)?;
        std::fs::rename(&beside, path)?;
        Ok(Self { file: OpenOptions::new().append(true).open(path)?, entries })
    }

    /// # Errors
    /// A file that cannot be written.
    pub fn push(&mut self, entry: LogEntry) -> io::Result<()> {
        if self.entries.is_empty() {
            self.file.write_all(header(&entry).as_bytes())?;
        }
        self.file.write_all(line(&entry).as_bytes())?;
        self.entries.push(entry);
        Ok(())
    }

    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }
}

fn header(entry: &LogEntry) -> String {
    let columns: String = (0..entry.tasks.len()).map(|t| format!(",task{t}.heatmap,task{t}.location")).collect();
    format!("step,lr,gradient_norm{columns}\n")
}

fn line(entry: &LogEntry) -> String {
    let tasks: String = entry.tasks.iter().map(|[h, l]| format!(",{h:.5},{l:.5}")).collect();
    format!("{},{:.3e},{:.3}{tasks}\n", entry.step, entry.lr, entry.gradient_norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: usize) -> LogEntry {
        LogEntry { step, lr: 0.001, gradient_norm: 2.5, tasks: vec![[1.5, 0.5], [step as f64, 0.25]] }
    }

    #[test]
    fn going_on_from_a_stored_state_leaves_no_step_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut log = LossLog::open(&path, 0).unwrap();
        (0..5).for_each(|step| log.push(entry(step)).unwrap());
        drop(log);
        let mut log = LossLog::open(&path, 3).unwrap();
        assert_eq!(log.entries(), [entry(0), entry(1), entry(2)]);
        log.push(entry(3)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<&str> = text.lines().map(|l| l.split(',').next().unwrap()).collect();
        assert_eq!(steps, ["step", "0", "1", "2", "3"]);
        assert_eq!(text.lines().next().unwrap().split(',').count(), text.lines().last().unwrap().split(',').count());
        assert_eq!(LossLog::open(&path, 0).unwrap().entries(), []);
    }
}
