//! The load, in rounds: every publisher sends, then every subscriber receives. It shares the server's CPU
//! and goes first, so that the server always finds a whole round, whatever else the machine does.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

const FRAME_BYTES: usize = 64;

/// How many publish, how many receive, and how many frames a publisher sends in a round.
pub struct Scenario {
    publishers: usize,
    subscribers: usize,
    frames: usize,
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<usize> = text.split('-').filter_map(|part| part.parse().ok()).collect();
        let [publishers, subscribers, frames] = numbers[..] else {
            return Err(format!("{text} is not publishers-subscribers-frames"));
        };
        Ok(Self { publishers, subscribers, frames })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.publishers, self.subscribers, self.frames)
    }
}

/// Pins the thread to the first CPU.
pub fn share_cpu() {
    let mut set = affinity();
    // SAFETY: the indices are below CPU_SETSIZE.
    let first = (0..64).find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).unwrap();
    // SAFETY: a cpu_set_t is plain words, for which zeros are a value.
    set = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(first, &mut set) };
    // SAFETY: the pointer is valid for a read of the size given.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Runs the thread before all others of its CPU: the server gets it when the load waits. Without the right
/// to it, figures depend on what else runs.
pub fn go_first() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is valid for a read of a sched_param.
    let code = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if code != 0 {
        eprintln!("no real-time priority for the load: expect noise");
    }
}

fn affinity() -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is plain words, for which zeros are a value.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for a write of the size given.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    set
}

/// CPU time that the thread of this name has used.
fn cpu_ns(thread: &str) -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap();
        if name.starts_with(thread) {
            let stat = std::fs::read_to_string(path.join("schedstat")).unwrap();
            return stat.split(' ').next().unwrap().parse().unwrap();
        }
    }
    panic!("no thread {thread}")
}

fn introduce(addr: SocketAddr, role: u8, channel: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[role, channel as u8]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

struct Load {
    publishers: Vec<TcpStream>,
    subscribers: Vec<TcpStream>,
    /// What a publisher sends in one round.
    round_bytes: usize,
    /// What a subscriber receives in one round.
    share_bytes: usize,
    buffer: Vec<u8>,
}

impl Load {
    /// Writes a round, and leaves the server alone until it should have passed all of it on.
    fn round(&mut self) {
        for publisher in &mut self.publishers {
            publisher.write_all(&self.buffer[..self.round_bytes]).unwrap();
        }
        let frames = self.subscribers.len() * self.share_bytes / FRAME_BYTES;
        std::thread::sleep(Duration::from_micros(300) + Duration::from_nanos(200) * frames as u32);
        for subscriber in &mut self.subscribers {
            subscriber.read_exact(&mut self.buffer[..self.share_bytes]).unwrap();
        }
    }
}

/// CPU nanoseconds of the server's thread for each frame delivered: the median of several spans.
pub fn measure(scenario: &Scenario, addr: SocketAddr, thread: &str) -> f64 {
    let channels = scenario.publishers.min(scenario.subscribers);
    let round_bytes = scenario.frames * FRAME_BYTES;
    let share_bytes = round_bytes * scenario.publishers / channels;
    let join = |role, count: usize| -> Vec<_> {
        (0..count).map(|at| introduce(addr, role, at % channels)).collect()
    };
    let subscribers = join(b'S', scenario.subscribers);
    let buffer = vec![b'x'; round_bytes.max(share_bytes)];
    let publishers = join(b'P', scenario.publishers);
    let mut load = Load { subscribers, publishers, round_bytes, share_bytes, buffer };
    let round_frames = share_bytes / FRAME_BYTES * scenario.subscribers;
    let rounds = (100_000 / round_frames).clamp(20, 2_000);
    let mut spans: Vec<f64> = (0..9)
        .map(|_| {
            let before = cpu_ns(thread);
            for _ in 0..rounds {
                load.round();
            }
            (cpu_ns(thread) - before) as f64 / (rounds * round_frames) as f64
        })
        .collect();
    spans.sort_by(f64::total_cmp);
    spans[spans.len() / 2]
}
