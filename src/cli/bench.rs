//! `ringmq bench`: measures a broker.

pub mod args;
mod options;
mod output;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringmq_loadgen::live::Live;
use ringmq_loadgen::report::{Report, compare, text};
use ringmq_loadgen::{Asked, RunError, Scenario, file, run as run_scenario};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{EXIT_FAILED, EXIT_FINE, EXIT_INTERRUPTED, EXIT_USAGE};
use args::{BenchArgs, BenchCommand, OutputArgs};
use options::options;
use output::Output;

/// The run could not begin, or what it found could not be written.
const EXIT_BROKEN: u8 = 3;

/// Runs what was asked for.
pub fn run(args: &BenchArgs) -> u8 {
    let outcome = match &args.command {
        BenchCommand::Compare { base, others, json } => return compare_files(base, others, json.as_deref()),
        BenchCommand::Run { example: true, .. } => {
            print!("{}", file::EXAMPLE);
            return EXIT_FINE;
        }
        command => scenario(command),
    };
    match outcome {
        Ok((scenario, output)) => measure(scenario, output),
        Err(fault) => {
            eprintln!("error: {fault}");
            EXIT_USAGE
        }
    }
}

/// What is to be run, and where it is to be written.
fn scenario(command: &BenchCommand) -> Result<(Scenario, &OutputArgs), String> {
    use BenchCommand as Command;
    Ok(match command {
        Command::Pairs { pairs, messages, common } => {
            (options(common, Some(messages))?.pairs(*pairs)?, &common.output)
        }
        Command::FanOut { publishers, subscribers, messages, common } => {
            (options(common, Some(messages))?.fan_out(*publishers, *subscribers)?, &common.output)
        }
        Command::FanIn { publishers, subscribers, messages, common } => {
            (options(common, Some(messages))?.fan_in(*publishers, *subscribers)?, &common.output)
        }
        Command::Shared { publishers, members, messages, common } => {
            (options(common, Some(messages))?.shared(*publishers, *members)?, &common.output)
        }
        Command::Connect(crowd) => {
            let options = options(&crowd.common, None)?;
            (options.connect_storm("connect", crowd.clients, crowd.hold), &crowd.common.output)
        }
        Command::Idle(crowd) => {
            let options = options(&crowd.common, None)?;
            (options.connect_storm("idle", crowd.clients, crowd.hold), &crowd.common.output)
        }
        Command::Churn { clients, duration, common } => {
            (options(common, None)?.churn(*clients, *duration), &common.output)
        }
        Command::Subscribe { clients, filters, wildcards, publishers, messages, common } => {
            let options = options(common, Some(messages))?;
            (options.subscribe_many(*clients, *filters, *wildcards, *publishers)?, &common.output)
        }
        Command::Retained { topics, publishers, subscribers, messages, common } => {
            let options = options(common, Some(messages))?;
            (options.retained(*topics, *publishers, *subscribers)?, &common.output)
        }
        Command::Offline { clients, publishers, command, messages, common } => {
            let options = options(common, Some(messages))?;
            let count = messages.messages.unwrap_or(OFFLINE_MESSAGES);
            (options.offline(count, *clients, *publishers, command.clone())?, &common.output)
        }
        Command::Ping { clients, duration, warm_up, common } => {
            let mut options = options(common, None)?;
            options.warm_up = *warm_up;
            (options.ping(*clients, *duration), &common.output)
        }
        Command::Run { file, address, output, .. } => {
            let path = file.as_deref().ok_or("name a scenario file")?;
            (read_scenario(path, address.as_deref())?, output)
        }
        Command::Compare { .. } => unreachable!("it is dealt with before"),
    })
}

/// Messages that `offline` sends where nothing else is said.
const OFFLINE_MESSAGES: u64 = 100_000;

fn read_scenario(path: &Path, address: Option<&str>) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read {}: {error}; `ringmq bench run --example` prints a file", path.display())
    })?;
    let name =
        path.file_stem().map_or_else(|| "scenario".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut scenario = file::parse(&text, &name).map_err(|fault| format!("{}: {fault}", path.display()))?;
    if let Some(address) = address {
        address.clone_into(&mut scenario.target.address);
    }
    Ok(scenario)
}

/// The first signal ends the run, the second the program.
fn watch_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED.into(), Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn measure(scenario: Scenario, args: &OutputArgs) -> u8 {
    let stop = match watch_signals() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("error: cannot watch signals: {error}");
            return EXIT_BROKEN;
        }
    };
    let live = Live::new(std::io::stderr(), std::io::stderr().is_terminal());
    let mut output = match Output::open(args, live) {
        Ok(output) => output,
        Err(fault) => {
            eprintln!("error: {fault}");
            return EXIT_BROKEN;
        }
    };
    let words: Vec<String> = std::env::args().skip(1).map(hide_password()).collect();
    let words = format!("ringmq {}", words.join(" "));
    let outcome = run_scenario(scenario, Asked { words: &words, stop: &stop }, &mut output);
    output.finish();
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return if matches!(error, RunError::Usage(_)) { EXIT_USAGE } else { EXIT_BROKEN };
        }
    };
    print!("{}", text::summary(&report));
    if let Err(fault) = output.write(args, &report) {
        eprintln!("error: {fault}");
        return EXIT_BROKEN;
    }
    // Which of the two it was, a signal or the end, does not matter any more.
    stop.store(true, Ordering::Relaxed);
    if report.is_fine() { EXIT_FINE } else { EXIT_FAILED }
}

/// A password does not belong into a report.
fn hide_password() -> impl FnMut(String) -> String {
    let mut is_next = false;
    move |word| {
        let is_secret = std::mem::replace(&mut is_next, word == "-P" || word == "--password");
        match word.split_once('=') {
            _ if is_secret => "***".to_owned(),
            Some(("--password", _)) => "--password=***".to_owned(),
            Some(_) | None if word.starts_with("-P") && word.len() > 2 => "-P***".to_owned(),
            Some(_) | None => word,
        }
    }
}

fn compare_files(base: &Path, others: &[std::path::PathBuf], json: Option<&Path>) -> u8 {
    let read = |path: &Path| -> Result<Report, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Report::from_json(&text).map_err(|fault| format!("{}: {fault}", path.display()))
    };
    let reports: Result<Vec<_>, String> = std::iter::once(base)
        .chain(others.iter().map(|path| &**path))
        .map(|path| Ok((path.display().to_string(), read(path)?)))
        .collect();
    let table = match reports {
        Ok(reports) => compare::compare(&reports),
        Err(fault) => {
            eprintln!("error: {fault}");
            return EXIT_USAGE;
        }
    };
    print!("{}", table.to_text());
    if let Some(path) = json
        && let Err(error) = std::fs::write(path, table.to_json())
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return EXIT_BROKEN;
    }
    EXIT_FINE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_repeated() {
        let words =
            ["-u", "me", "-P", "secret", "--password=secret", "-Psecret", "--password", "secret", "x"];
        let hidden: Vec<String> = words.into_iter().map(str::to_owned).map(hide_password()).collect();
        assert_eq!(hidden, ["-u", "me", "-P", "***", "--password=***", "-P***", "--password", "***", "x"]);
    }
}
