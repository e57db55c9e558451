//! Signals to stop: the work ends after its current step, with complete files.

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Signals so soon after the first are the same one: `ros2 launch` without a terminal passes on what its whole process group got already.
const ECHO: Duration = Duration::from_millis(500);
/// How often it is looked whether the first has come.
const PERIOD: Duration = Duration::from_millis(100);

/// A flag that Ctrl-C (SIGINT), SIGTERM (a service that is stopped) and SIGHUP (a terminal that is closed) set. When it has been set for
/// a while, a signal ends the program at once, with the exit status 128 + its number.
///
/// SIGINT and SIGHUP that were ignored when the program started stay ignored. So `nohup` lets a training outlive its terminal, and a
/// shell without job control keeps the Ctrl-C that is meant for a script from what the script started with `&`. SIGTERM is
/// always heard: it is what stops a program that hears nothing else.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let (stop, is_impatient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if signal != SIGTERM && is_ignored(signal) {
            tracing::info!(signal, "is ignored, as it was where this program was started; SIGTERM stops it");
            continue;
        }
        flag::register_conditional_shutdown(signal, 128 + signal, is_impatient.clone()).context("cannot catch signals")?;
        flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    let stopped = stop.clone();
    let arm = move || {
        while !stopped.load(Ordering::SeqCst) {
            std::thread::sleep(PERIOD);
        }
        std::thread::sleep(ECHO);
        is_impatient.store(true, Ordering::SeqCst);
    };
    std::thread::Builder::new().name("signals".into()).spawn(arm).context("cannot start a thread")?;
    Ok(stop)
}

/// Asks the system where it tells without unsafe code (Linux); elsewhere no signal counts as ignored.
fn is_ignored(signal: i32) -> bool {
    let mask = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    mask().is_some_and(|ignored| ignored >> (signal - 1) & 1 == 1)
}
