//! A real Redis server, for a test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::scratch::Scratch;

/// A server on a port of its own, which ends with this.
pub struct RedisServer {
    port: u16,
    extra: Vec<String>,
    scratch: Scratch,
    running: Option<(Child, BufReader<ChildStdout>)>,
}

impl RedisServer {
    /// Starts one that keeps its data over a stop, with more options if any.
    pub fn start(extra: &[&str]) -> Self {
        let scratch = Scratch::new("redis");
        std::fs::create_dir_all(&scratch.0).unwrap();
        // Free just now; whoever takes it first makes the test fail, not pass.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let extra = extra.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { port, extra, scratch, running: None };
        server.start_again();
        server
    }

    pub fn start_again(&mut self) {
        let started = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "no"])
            .arg("--dir")
            .arg(&self.scratch.0)
            .args(&self.extra)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.unwrap_or_else(|error| {
            panic!("redis-server cannot be started ({error}): install it, with 'apt-get install redis-server' say")
        });
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut all = String::new();
        loop {
            let before = all.len();
            let bytes = said.read_line(&mut all).unwrap();
            assert!(bytes > 0, "redis-server ended: {all}");
            if all[before..].contains("Ready to accept connections") {
                break;
            }
        }
        self.running = Some((child, said));
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection to look into it.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.address()).unwrap().get_connection().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
