//! The command line: subcommands, exit status (0; 1 on failure; 2 on wrong usage), messages on stderr, data on stdout.

mod bench;
mod calibrate;
mod cubin;
mod deadline;
mod detect;
mod eval;
mod export;
mod import;
mod info;
mod interrupt;
mod ladder;
#[path = "../nodes/memory.rs"]
mod memory;
mod options;
mod quantize_args;
mod sim;
mod train;

use clap::{Parser, Subcommand};
use lidar_ptq::node::describe;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use tracing::Level;

/// 3D perception that fits on a robot's own computer.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Say more: -v for progress, -vv for details.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Import(import::Args),
    Calibrate(Box<calibrate::Args>),
    Cubin(cubin::Args),
    Detect(Box<detect::Args>),
    Eval(Box<eval::Args>),
    Bench(bench::Args),
    Export(export::Args),
    Info(info::Args),
    Ladder(Box<ladder::Args>),
    Sim(sim::Args),
    Train(train::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = [Level::WARN, Level::INFO, Level::DEBUG][usize::from(cli.verbose.min(2))];
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    log.with_ansi(is_colored()).log_internal_errors(false).init();
    let done = match cli.command {
        Command::Import(args) => import::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Cubin(args) => cubin::run(&args),
        Command::Detect(args) => detect::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Ladder(args) => ladder::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Train(args) => train::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}\n", describe(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// Whether messages go to someone who sees colors (`NO_COLOR`: no-color.org).
fn is_colored() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes to stdout. A reader that has gone (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes to stderr. A terminal that has gone is no reason to fail, or to leave unfinished what is on its way.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
