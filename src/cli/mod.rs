//! The command line of `ringmq`.

mod args;
mod bench;
mod check;
mod doctor;
mod logging;
mod serve;
mod signals;
mod store;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Everything went well.
const EXIT_FINE: u8 = 0;
/// The broker could not run, or `doctor` or `store` found something.
const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// A second signal cut the way down short.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the command that the command line names.
pub fn run() -> ExitCode {
    // clap prints usage errors and leaves with 2, which is EXIT_USAGE.
    let cli = Cli::parse();
    let code = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Store(args)) => store::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::ConfigReference) => {
            print!("{}", ringmq::config::reference());
            EXIT_FINE
        }
    };
    ExitCode::from(code)
}
