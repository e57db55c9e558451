//! A program that was asked to stop ends within some seconds, whatever it is in the middle of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the flag is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Watches a flag that signals set. If the work has not ended `grace` after that, the program does, with exit status 1: the rounding of
/// one deep layer takes longer than whoever stops a service waits.
///
/// Dropped, it watches no more.
pub struct Deadline {
    /// Whether the work is over. Held while something is written that should not be broken off.
    over: Arc<Mutex<bool>>,
}

impl Deadline {
    /// `message` is what is said in the end, in the form of an error.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn watch(stop: &Arc<AtomicBool>, grace: Duration, message: &'static str) -> std::io::Result<Self> {
        let over = Arc::new(Mutex::new(false));
        let (stop, watched) = (stop.clone(), over.clone());
        std::thread::Builder::new().name("deadline".into()).spawn(move || {
            let mut asked: Option<Instant> = None;
            loop {
                std::thread::sleep(POLL);
                let over = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if *over {
                    return;
                }
                if stop.load(Ordering::SeqCst) && asked.get_or_insert_with(Instant::now).elapsed() >= grace {
                    crate::say(&format!("error: {message}\n"));
                    std::process::exit(1);
                }
            }
        })?;
        Ok(Self { over })
    }

    /// The program does not end while this is held.
    pub fn hold(&self) -> MutexGuard<'_, bool> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        *self.hold() = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set in the program that is ended: this test, started once more.
    const CHILD: &str = "LIDAR_PTQ_TEST_DEADLINE";

    #[test]
    fn work_that_hears_nothing_is_ended_but_not_while_it_writes() {
        if std::env::var_os(CHILD).is_some() {
            let stop = Arc::new(AtomicBool::new(false));
            let ended = Deadline::watch(&stop, Duration::ZERO, "never said").expect("a thread");
            let deadline = Deadline::watch(&stop, Duration::from_millis(100), "the work was long").expect("a thread");
            drop(ended);
            {
                let _writing = deadline.hold();
                stop.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(500));
                crate::say("written\n");
            }
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        let this = std::env::current_exe().expect("a program");
        let started = Instant::now();
        let name = "deadline::tests::work_that_hears_nothing_is_ended_but_not_while_it_writes";
        let output = Command::new(this).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("written\nerror: the work was long\n") && !text.contains("never said"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
