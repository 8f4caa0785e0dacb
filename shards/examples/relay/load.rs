//! The load: frames kept under way on every channel, from one busy thread.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

const FRAME_BYTES: usize = 64;

/// How many publish, how many receive, and how many frames are under way for each publisher.
pub struct Scenario {
    publishers: usize,
    subscribers: usize,
    window: usize,
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<usize> = text.split('-').filter_map(|part| part.parse().ok()).collect();
        let [publishers, subscribers, window] = numbers[..] else {
            return Err(format!("{text} is not publishers-subscribers-window"));
        };
        Ok(Self { publishers, subscribers, window })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.publishers, self.subscribers, self.window)
    }
}

/// Leaves the first CPU to the server.
pub fn avoid_first_cpu() {
    let mut set = affinity();
    // SAFETY: the indices are below CPU_SETSIZE.
    let first = (0..64).find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).unwrap();
    // SAFETY: as above.
    unsafe { libc::CPU_CLR(first, &mut set) };
    // SAFETY: the pointer is valid for a read of the size given. With one CPU it fails, and is not needed.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Pins the thread to the first CPU.
pub fn take_first_cpu() {
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
    stream.set_nonblocking(true).unwrap();
    stream
}

struct Load {
    publishers: Vec<(TcpStream, u64)>,
    subscribers: Vec<(TcpStream, u64)>,
    window_bytes: u64,
    buffer: Vec<u8>,
}

impl Load {
    /// One round over all connections. A publisher's window is what its own subscriber has received, or
    /// its share of what the only one has.
    fn round(&mut self) {
        let (publishers, subscribers) = (self.publishers.len(), self.subscribers.len());
        for at in 0..publishers {
            let received = match (publishers, subscribers) {
                (_, 1) => self.subscribers[0].1 / publishers as u64,
                (1, _) => self.subscribers.iter().map(|subscriber| subscriber.1).min().unwrap(),
                _ => self.subscribers[at % subscribers].1,
            };
            let (stream, sent) = &mut self.publishers[at];
            let room =
                (self.window_bytes + received).saturating_sub(*sent) as usize / FRAME_BYTES * FRAME_BYTES;
            if room > 0 {
                match stream.write(&self.buffer[..room.min(32 * 1024)]) {
                    Ok(count) => *sent += count as u64,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        }
        for (stream, received) in &mut self.subscribers {
            match stream.read(&mut self.buffer) {
                Ok(count) => *received += count as u64,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn received(&self) -> u64 {
        self.subscribers.iter().map(|subscriber| subscriber.1).sum()
    }
}

/// CPU nanoseconds of the server's thread for each frame delivered, and millions delivered in a second:
/// the medians of several spans.
pub fn measure(scenario: &Scenario, addr: SocketAddr, thread: &str) -> (f64, f64) {
    let channels = scenario.publishers.min(scenario.subscribers);
    let join = |role, count: usize| -> Vec<_> {
        (0..count).map(|at| (introduce(addr, role, at % channels), 0)).collect()
    };
    let mut load = Load {
        subscribers: join(b'S', scenario.subscribers),
        publishers: join(b'P', scenario.publishers),
        window_bytes: (scenario.window * FRAME_BYTES) as u64,
        buffer: vec![b'x'; 64 * 1024],
    };
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for span in 0..10 {
        let (cpu, received, since) = (cpu_ns(thread), load.received(), Instant::now());
        while since.elapsed() < Duration::from_millis(250) {
            for _ in 0..8 {
                load.round();
            }
        }
        let frames = (load.received() - received) as f64 / FRAME_BYTES as f64;
        if span > 0 {
            spans
                .push(((cpu_ns(thread) - cpu) as f64 / frames, frames / since.elapsed().as_secs_f64() / 1e6));
        }
    }
    let middle = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    (middle(spans.iter().map(|span| span.0).collect()), middle(spans.iter().map(|span| span.1).collect()))
}
