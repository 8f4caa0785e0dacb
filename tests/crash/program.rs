//! The real program, as a process that can be killed.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::DEADLINE;

/// A directory of this test run, gone when its value is.
pub struct Directory(PathBuf);

impl Directory {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringmq-crash-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // For somebody to look at.
            return eprintln!("kept: {}", self.0.display());
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address that stays free while a broker restarts: below the ports that the kernel gives to connections.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// How to start a broker.
#[derive(Clone)]
pub struct Setup {
    pub address: SocketAddr,
    pub directory: PathBuf,
    pub shards: usize,
    /// More arguments.
    pub more: Vec<String>,
}

impl Setup {
    pub fn new(directory: &Path, shards: usize) -> Self {
        let (address, directory) = (free_address(), directory.to_owned());
        Self { address, directory, shards, more: Vec::new() }
    }

    /// With another argument.
    pub fn with(mut self, argument: impl Into<String>) -> Self {
        self.more.push(argument.into());
        self
    }

    /// RINGMQ_CRASH_PROGRAM names another program to compare with, which takes the same arguments.
    fn command(&self) -> Command {
        let program = std::env::var("RINGMQ_CRASH_PROGRAM");
        let mut command = Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_ringmq")));
        command.args(["--listen", &self.address.to_string(), "--shards", &self.shards.to_string()]);
        command.arg("--data-dir").arg(&self.directory).args(&self.more);
        command.args(["--log-format", "json"]).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, which it should come to by itself: its exit status and log.
    pub fn run(&self) -> (ExitStatus, String) {
        let mut program = Program::spawn(self);
        let status = program.child.wait().unwrap();
        (status, program.rest_of_log())
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Program {
        let mut program = Program::spawn(self);
        program.wait_for("\"message\":\"ready\"");
        program
    }
}

/// A running broker; killed when its value is dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    /// What it has said so far, as far as anybody looked.
    log: String,
}

impl Program {
    /// Starts one, and waits for nothing.
    pub fn spawn(setup: &Setup) -> Self {
        let mut child = setup.command().spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        // A pipe that nobody reads would stop the broker once it is full.
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, lines, reader: Some(reader), log: String::new() }
    }

    /// Waits for a line that says `text`.
    pub fn wait_for(&mut self, text: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(DEADLINE) else {
                panic!("it ended, or does not say {text:?}:\n{}", self.log);
            };
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    /// Its log so far.
    pub fn log(&mut self) -> &str {
        while let Ok(line) = self.lines.recv_timeout(Duration::ZERO) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        &self.log
    }

    fn rest_of_log(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log().to_owned()
    }

    /// Kills it: SIGKILL. What it said.
    pub fn kill(mut self) -> String {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended by itself, {status}:\n{}", self.rest_of_log());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let log = self.rest_of_log();
        assert!(!log.contains("\"ERROR\""), "it was in trouble already:\n{log}");
        log
    }

    /// Stops it in good order: SIGTERM. What it said.
    pub fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let log = self.rest_of_log();
        assert!(status.success(), "{status}:\n{log}");
        log
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the program said:\n{}", self.rest_of_log());
        }
    }
}
