//! Twenty minutes at 10 Hz, as one command that is run by hand:
//!
//! `cargo test --release --test dds soak -- --ignored --nocapture`
//!
//! Variables: `SOAK_MINUTES` (20), `SOAK_POINTS` (120000), `SOAK_MODEL` (the tiny model of the other tests).

use crate::fixture::{Bench, Node};
use std::str::FromStr;
use std::time::{Duration, Instant};

const RATE: usize = 10;
/// By then as many clouds as ever have been on their way at once.
const SETTLED: Duration = Duration::from_secs(120);

fn variable<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[ignore = "takes twenty minutes; times mean something on an idle machine only"]
#[test]
fn soak() {
    let (minutes, points) = (variable("SOAK_MINUTES", 20.0), variable("SOAK_POINTS", 120_000));
    let bench = Bench::new();
    if let Some(model) = std::env::var_os("SOAK_MODEL") {
        std::fs::copy(model, bench.path("model.safetensors")).expect("a model");
    }
    let mut clouds = bench.clouds(points, RATE);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let (start, mut sent, mut early, mut later) = (Instant::now(), 0, 0, 0);
    println!("minutes  MB  frames/s  processing p50, p99  latency p50, p99  overhead p50 (ms)  dropped  lost");
    while start.elapsed().as_secs_f64() < 60.0 * minutes {
        let answers = peer.play_now(&mut clouds);
        sent += clouds.len();
        let bytes = node.resident_bytes().unwrap_or(0);
        let most = if start.elapsed() < SETTLED { &mut early } else { &mut later };
        *most = bytes.max(*most);
        if sent % (RATE * 10) == 0 {
            let [rate, p50, p99] = ["rate_hz", "processing_p50_ms", "processing_p99_ms"].map(|key| answers.time(key));
            let [latency, late] = ["pipeline_latency_p50_ms", "pipeline_latency_p99_ms"].map(|key| answers.time(key));
            let overhead = answers.time("node_overhead_p50_ms");
            let (elapsed, dropped, lost) =
                (start.elapsed().as_secs_f64() / 60.0, answers.input("dropped_for_newer"), answers.input("lost_on_the_way"));
            println!(
                "{elapsed:7.1}  {:5.1}  {rate:4.1}  {p50:6.2} {p99:6.2}  {latency:6.2} {late:6.2}  {overhead:5.2}  {dropped}  {lost}",
                bytes as f64 / 1e6
            );
        }
    }
    node.stop("INT");
    println!("memory: {:.1} MB at most in the first two minutes, {:.1} MB since", early as f64 / 1e6, later as f64 / 1e6);
    // Clouds on their way come and go; a leak of one a minute would be more.
    assert!(later < early + early / 10 + (8 << 20), "memory is not flat: {early} and {later} bytes");
}
