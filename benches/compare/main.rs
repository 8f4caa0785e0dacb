//! Compares Ringmq with other brokers, and with the floor: each on one CPU, the load on another, in turns.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "a program, which nobody links")]

mod brokers;
mod floor;
mod sample;
mod suite;
mod table;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ringmq_loadgen::report::{Report, kernel};

use brokers::{Broker, Found, Peer, Start, spawn_on};
use suite::{Length, ROWS, Row};
use table::{Comparison, Line};

/// How much longer than asked for a run of the load may take, before it counts as failed.
const RUN_EXTRA: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const QUICK: Duration = Duration::from_secs(2);

const EXIT_CODES: &str = "\
Exit codes:
  0    every run worked
  1    some did not, or a broker lost messages: the table says which
  2    the command line is wrong
  3    the reports could not be written
  130  SIGINT or SIGTERM ended it early; the table has what there is

Brokers: ringmq, the floor (it answers by rote and passes the same bytes on), mosquitto and rumqttd where they are in
PATH or named by RINGMQ_MOSQUITTO and RINGMQ_RUMQTTD, and each --peer.";

/// Compare brokers: CPU time a message, throughput, latency and memory, each broker on one CPU.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = EXIT_CODES)]
struct Cli {
    /// The ringmq program, both broker and load [default: the one next to this program]
    #[arg(long, value_name = "PATH")]
    ringmq: Option<PathBuf>,
    /// Another broker; may be repeated. COMMAND is run by a shell, and is to listen at PORT of 127.0.0.1
    #[arg(long = "peer", value_name = "NAME=COMMAND:PORT")]
    peers: Vec<Peer>,
    /// Leave out this broker; may be repeated
    #[arg(long = "skip", value_name = "NAME")]
    skipped: Vec<String>,
    /// Only rows with this in their names; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// How long a row is measured, a quarter of it as a warm-up before
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    repeats: u64,
    /// 2 s a row, once
    #[arg(long, conflicts_with_all = ["seconds", "repeats"])]
    quick: bool,
    /// The brokers' CPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    broker_cpu: usize,
    /// The load's CPU
    #[arg(long, value_name = "N", default_value_t = 1)]
    load_cpu: usize,
    /// Write the table as Markdown to this file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Name the rows, and leave
    #[arg(long)]
    list: bool,
    #[arg(long, hide = true, value_name = "PORT")]
    serve_floor: Option<u16>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(port) = cli.serve_floor {
        let Err(error) = floor::serve(port);
        eprintln!("error: cannot serve at port {port}: {error}");
        return ExitCode::from(3);
    }
    if cli.list {
        for row in ROWS.iter().filter(|row| row.is_wanted(&cli.only)) {
            let works: Vec<&str> = row.figures.iter().map(|figure| figure.work).collect();
            println!("{:<60} {}", row.name(), works.join("; "));
        }
        return ExitCode::SUCCESS;
    }
    match compare(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::from(2)
        }
    }
}

/// What all runs have in common.
struct Suite {
    ringmq: PathBuf,
    folder: PathBuf,
    length: Duration,
    repeats: usize,
    broker_cpu: usize,
    load_cpu: usize,
    stop: Arc<AtomicBool>,
}

fn compare(cli: &Cli) -> Result<u8, String> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.is_wanted(&cli.only)).collect();
    if rows.is_empty() {
        return Err("no row has such a name: --list names them".to_owned());
    }
    let (suite, found) = prepare(cli)?;
    let (lines, mut left_out) = suite.run(&rows, &found.brokers);
    let _ = std::fs::remove_dir_all(&suite.folder);
    left_out.splice(..0, found.missing);
    let comparison = Comparison {
        format: "ringmq-compare",
        version: table::VERSION,
        kernel: kernel(),
        cpu: cpu_model(),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        broker_cpu: suite.broker_cpu,
        load_cpu: suite.load_cpu,
        seconds: suite.length.as_secs_f64(),
        repeats: suite.repeats,
        brokers: found.brokers.iter().map(|broker| (broker.name.clone(), broker.version.clone())).collect(),
        left_out,
        lines,
    };
    print!("{}", comparison.to_markdown());
    let files = [(&cli.markdown, comparison.to_markdown()), (&cli.json, comparison.to_json())];
    for (path, text) in files.into_iter().filter_map(|(path, text)| Some((path.as_ref()?, text))) {
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("error: cannot write {}: {error}", path.display());
            return Ok(3);
        }
    }
    if suite.is_stopped() {
        return Ok(130);
    }
    let is_fine = comparison.lines.iter().all(|line| line.fault.is_none() && !line.median.is_wrong);
    Ok(u8::from(!is_fine))
}

fn prepare(cli: &Cli) -> Result<(Suite, Found), String> {
    let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let ringmq = cli.ringmq.clone().unwrap_or_else(|| this.with_file_name("ringmq"));
    if !ringmq.is_file() {
        return Err(format!(
            "{} does not exist: build it with `cargo build --release`, or name it with --ringmq",
            ringmq.display()
        ));
    }
    if cli.broker_cpu == cli.load_cpu {
        return Err("broker and load need a CPU each: give different --broker-cpu and --load-cpu".to_owned());
    }
    let mut found = brokers::find(&ringmq, &this, &cli.peers);
    for name in &cli.skipped {
        let before = found.brokers.len();
        found.brokers.retain(|broker| broker.name != *name);
        if found.brokers.len() < before {
            found.missing.push(format!("{name} is left out, as asked"));
        }
    }
    for words in &found.missing {
        eprintln!("note: {words}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
    }
    let folder = std::env::temp_dir().join(format!("ringmq-compare-{}", std::process::id()));
    let (length, repeats) =
        if cli.quick { (QUICK, 1) } else { (Duration::from_secs(cli.seconds), cli.repeats as usize) };
    let suite =
        Suite { ringmq, folder, length, repeats, broker_cpu: cli.broker_cpu, load_cpu: cli.load_cpu, stop };
    Ok((suite, found))
}

impl Suite {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// All rows; the lines of the table, and what was left out.
    fn run(&self, rows: &[&Row], brokers: &[Broker]) -> (Vec<Line>, Vec<String>) {
        let (mut all, mut left_out) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            let able: Vec<&Broker> =
                brokers.iter().filter(|broker| row.has_floor || !broker.is_floor()).collect();
            // Each figure has a line for each broker.
            let mut lines: Vec<Line> = row
                .figures
                .iter()
                .flat_map(|figure| able.iter().map(|it| Line::new(figure.work, &it.name, figure.budget)))
                .collect();
            // In turns, so that what else the machine does meets all of them.
            for _ in 0..self.repeats {
                for (number, broker) in able.iter().enumerate() {
                    if self.is_stopped() {
                        left_out.push(format!("ended early, in `{}`", row.name()));
                        table::finish(&mut lines);
                        all.extend(lines);
                        return (all, left_out);
                    }
                    eprintln!("{}/{} {}: {}", at + 1, rows.len(), row.name(), broker.name);
                    let mine = lines.iter_mut().skip(number).step_by(able.len());
                    self.measure(row, broker, mine);
                }
            }
            table::finish(&mut lines);
            all.extend(lines);
        }
        (all, left_out)
    }

    /// One run against a new process of the broker.
    fn measure<'a>(&self, row: &Row, broker: &Broker, lines: impl Iterator<Item = &'a mut Line>) {
        let start = Start { cpu: self.broker_cpu, is_v5: row.is_v5, folder: &self.folder };
        let report = broker.start(&start).and_then(|running| self.load(row, running.port));
        for (line, figure) in lines.zip(row.figures) {
            match report.clone().and_then(|report| sample::read(&report, figure)) {
                Ok(sample) => line.samples.push(sample),
                Err(_) if self.is_stopped() => {}
                Err(fault) => {
                    eprintln!("  failed: {fault}");
                    line.fault = Some(fault);
                }
            }
        }
    }

    /// Runs the load.
    fn load(&self, row: &Row, port: u16) -> Result<Report, String> {
        let json = self.folder.join("report.json");
        let said = self.folder.join("load.log");
        let _ = std::fs::remove_file(&json);
        let mut command = Command::new(&self.ringmq);
        command.arg("bench").args(row.args).arg("--address").arg(format!("mqtt://127.0.0.1:{port}"));
        command.args(["--cpus", &self.load_cpu.to_string(), "--quiet", "--json"]).arg(&json);
        if row.length == Length::Time {
            let (length, warm_up) = (self.length.as_millis(), self.length.as_millis() / 4);
            command.arg("--duration").arg(format!("{length}ms"));
            command.arg("--warm-up").arg(format!("{warm_up}ms"));
        }
        let file = std::fs::File::create(&said).map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = spawn_on(self.load_cpu, &mut command)
            .map_err(|error| format!("cannot start the load: {error}"))?;
        let until = Instant::now() + self.length + RUN_EXTRA;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if self.is_stopped() || Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the load did not end in {} s", (self.length + RUN_EXTRA).as_secs()));
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        let text = std::fs::read_to_string(&json).map_err(|_| {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            format!("the load ended with {status}: {}", said.lines().last().unwrap_or("it said nothing"))
        })?;
        Report::from_json(&text)
    }
}

/// The CPU's name, as the kernel tells it.
fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|rest| rest.split_once(':')).map_or("unknown CPU", |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["compare", "--quick", "--peer", "a=b:1", "--only", "pairs"]).unwrap();
        assert!(cli.quick && cli.peers.len() == 1);
        assert!(Cli::try_parse_from(["compare", "--quick", "--repeats", "2"]).is_err());
    }

    #[test]
    fn mistakes_are_answered_with_the_remedy() {
        let fault = |words: &[&str]| {
            compare(&Cli::try_parse_from([&["compare"], words].concat()).unwrap()).unwrap_err()
        };
        assert!(fault(&["--only", "nothing"]).contains("--list"));
        assert!(fault(&["--ringmq", "/nowhere"]).contains("cargo build --release"));
        assert!(fault(&["--ringmq", "/bin/sh", "--load-cpu", "0"]).contains("--load-cpu"));
    }
}
