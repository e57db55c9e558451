//! What the nodes' log says, and where.

use tracing::Level;

/// In ROS' words; `LOGGER:=LEVEL` counts as `LEVEL`.
pub fn start_log(level: Option<&str>) -> anyhow::Result<()> {
    let level = level.map(|l| l.rsplit_once(":=").map_or(l, |(_, level)| level));
    let level = match level.unwrap_or("info").to_ascii_lowercase().as_str() {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "error" | "fatal" => Level::ERROR,
        other => anyhow::bail!("--log-level {other}: expected debug, info, warn, error or fatal"),
    };
    // No colours: launch and journals keep the text.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    Ok(())
}
