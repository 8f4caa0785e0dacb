//! What layers cost: frames of 64 bytes come back from a core that echoes, over plain TCP, TLS, WebSocket and
//! both, and the CPU time of its shard is divided by the frames.
//!
//! `cargo run --release --example wrapped_cost [frames a round...]`; a round is one write of the client, and
//! the next follows when it is back.
#![allow(clippy::unwrap_used, reason = "a measurement fails where it stands")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::wrapped::{Certificate, Kind, Stream, tcp};
use common::{pattern, start_echo};

const FRAME_BYTES: usize = 64;
const SPAN: Duration = Duration::from_millis(300);
const SPANS: usize = 7;

/// CPU time that the shard has used.
fn cpu_ns() -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        if std::fs::read_to_string(path.join("comm")).unwrap().starts_with("shard-0") {
            let stat = std::fs::read_to_string(path.join("schedstat")).unwrap();
            return stat.split(' ').next().unwrap().parse().unwrap();
        }
    }
    panic!("no shard runs")
}

/// CPU nanoseconds a frame: the median of several spans.
fn measure(client: &mut dyn Stream, frames: usize) -> f64 {
    let sent = pattern(frames * FRAME_BYTES);
    let mut back = vec![0; sent.len()];
    let mut spans: Vec<f64> = (0..=SPANS)
        .map(|_| {
            let (before, start, mut count) = (cpu_ns(), Instant::now(), 0);
            while start.elapsed() < SPAN {
                client.write_all(&sent).unwrap();
                client.flush().unwrap();
                client.read_exact(&mut back).unwrap();
                count += frames;
            }
            (cpu_ns() - before) as f64 / count as f64
        })
        .skip(1)
        .collect();
    assert!(back == sent);
    spans.sort_by(f64::total_cmp);
    spans[SPANS / 2]
}

fn main() {
    let mut rounds: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    if rounds.is_empty() {
        rounds = vec![1, 16, 256, 4096];
    }
    let certificate = Certificate::new();
    println!("{:>18} {:>8} {:>12} {:>8}", "layers", "frames", "shard ns", "ratio");
    let mut plain = Vec::new();
    for kind in Kind::ALL {
        let runtime = start_echo(certificate.config(kind, 1));
        let mut client = certificate.wrap(kind, tcp(runtime.addresses()[0]));
        for (at, &frames) in rounds.iter().enumerate() {
            let ns = measure(&mut *client, frames);
            if kind == Kind::Plain {
                plain.push(ns);
            }
            println!("{:>18} {frames:>8} {ns:>12.1} {:>8.2}", format!("{kind:?}"), ns / plain[at]);
        }
        drop(client);
        runtime.shutdown(Duration::from_secs(5)).unwrap();
    }
}
