//! The program as a user runs it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use ringmq_loadgen::process::{self, Listener};
use ringmq_loadgen::report::Report;

const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

/// A broker in a process of its own; killed when its value is dropped.
pub struct Serving {
    pub child: Child,
    pub address: SocketAddr,
}

impl Serving {
    pub fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0"])
    }

    fn start_with(args: &[&str]) -> Self {
        let mut child = Command::new(RINGMQ)
            .args(["--shards", "1", "--log-format", "json"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().unwrap().contains("\"ready\"")).unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let address = line["fields"]["addresses"].as_str().unwrap();
        let address = address.trim_matches(['[', ']']).rsplit('/').next().unwrap().parse().unwrap();
        // Its later lines must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

fn bench(args: &[&str]) -> Output {
    Command::new(RINGMQ).arg("bench").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn temp(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringmq-bench-{}-{name}", std::process::id()))
}

#[test]
fn a_run_writes_its_reports_and_they_compare() {
    let serving = Serving::start();
    let address = format!("mqtt://{}", serving.address);
    let paths = ["json", "html", "csv", "hdr"].map(|kind| temp(&format!("run.{kind}")));
    let [json, html, csv, hdr] = paths.each_ref().map(|path| path.to_str().unwrap());
    let output = bench(&[
        "pairs",
        "--pairs",
        "3",
        "-n",
        "2000",
        "-q",
        "1",
        "-a",
        &address,
        "--interval",
        "50ms",
        "--json",
        json,
        "--html",
        html,
        "--csv",
        csv,
        "--hdr",
        hdr,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("Result: fine.") && said.contains("0 lost") && said.contains("broker: ringmq"),
        "{said}"
    );
    assert!(!text(&output.stderr).contains('\x1b'), "plain lines where it is no terminal");
    let report = Report::from_json(&std::fs::read_to_string(json).unwrap()).unwrap();
    let phase = report.main_phase().unwrap();
    assert_eq!((phase.counts.sent, report.messages.received), (2000, 2000));
    assert!(
        phase.broker.as_ref().is_some_and(|broker| broker.resident_bytes > 0),
        "its process is found by the port"
    );
    assert!(std::fs::read_to_string(html).unwrap().starts_with("<!doctype html>"));
    assert!(std::fs::read_to_string(csv).unwrap().lines().count() > 1);
    assert!(std::fs::read_to_string(hdr).unwrap().contains("Tag=latency"));
    let compared = bench(&["compare", json, json]);
    assert_eq!(compared.status.code(), Some(0));
    assert!(text(&compared.stdout).contains("x 1.00  same"), "{}", text(&compared.stdout));
    for path in paths {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn mistakes_are_answered_with_the_fix() {
    let file = temp("bad.toml");
    std::fs::write(&file, "nmae = \"x\"\n").unwrap();
    let table: [(&[&str], i32, &str); 9] = [
        (&["pairs", "-a", "127.0.0.1"], 2, "mqtt://127.0.0.1"),
        (&["pairs", "-a", "mqtt://127.0.0.1:1"], 1, "no connection to mqtt://127.0.0.1:1 came about"),
        (&["pairs", "--size", "4"], 2, "write a size of 8 or more"),
        (&["pairs", "--size", "x"], 2, "16-1024"),
        (&["pairs", "--rate", "5", "--window", "7"], 2, "cannot be used with"),
        (&["pairs", "-d", "1s", "--warm-up", "2s"], 2, "write a longer duration"),
        (&["idle", "--clients", "3000000"], 2, "the limit on open files is the bound"),
        (&["run", file.to_str().unwrap()], 2, "line 1"),
        (&["compare", file.to_str().unwrap(), file.to_str().unwrap()], 2, "name a file that --json wrote"),
    ];
    for (args, code, expected) in table {
        let output = bench(args);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn an_interrupted_run_still_reports() {
    let serving = Serving::start();
    let address = format!("mqtt://{}", serving.address);
    let mut child = Command::new(RINGMQ)
        .args(["bench", "pairs", "--pairs", "2", "-d", "1h", "--interval", "20ms", "-a", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // It has measured something.
    let measured = |line: &String| line.contains("received") && !line.contains("(warm-up)");
    assert!(lines.any(|line| measured(&line.unwrap())));
    signal(child.id(), "INT");
    std::thread::spawn(move || lines.for_each(drop));
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("ended early") && said.contains("0 lost") && said.contains("latency"), "{said}");
}

/// Has messages queued for clients that are away, kills the broker, starts another, and lets the clients come back.
/// Copies lost that were acknowledged, copies received, and the exit code.
fn kill_in_between(more: &str) -> (u64, u64, i32) {
    // The port is free again once the first broker is dead.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let args: Vec<&str> = ["--listen", &address].into_iter().chain(more.split_whitespace()).collect();
    let serving = Serving::start_with(&args);
    let pid = serving.child.id();
    let command = format!(
        "kill -s KILL {pid}; {RINGMQ} serve --shards 1 --listen {address} {more} >/dev/null 2>&1 </dev/null &"
    );
    let json = temp(&format!("kill-{port}.json"));
    let to = format!("mqtt://{address}");
    let json_text = json.to_str().unwrap();
    let output = bench(&[
        "offline",
        "-n",
        "2000",
        "--command",
        &command,
        "-a",
        &to,
        "--drain",
        "1s",
        "--json",
        json_text,
    ]);
    let second = process::find_listener(Listener { port: Some(port), path: None });
    if let Some(second) = second {
        signal(second, "KILL");
    }
    let report = Report::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    assert_eq!(report.messages.sent, 2000, "{}", text(&output.stdout));
    (report.messages.lost_acknowledged, report.messages.received, output.status.code().unwrap())
}

#[test]
fn acknowledged_messages_that_a_kill_lost_are_counted() {
    let folder = temp("data");
    let with_log = kill_in_between(&format!("--data-dir {}", folder.display()));
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(with_log, (0, 2000, 0));
    // Without a log the next broker knows nothing.
    assert_eq!(kill_in_between(""), (2000, 0, 1));
}

#[test]
fn the_example_is_printed() {
    let output = bench(&["run", "--example"]);
    assert_eq!(text(&output.stdout), ringmq_loadgen::file::EXAMPLE);
}
