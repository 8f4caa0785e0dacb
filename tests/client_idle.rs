//! What an idle session takes of the program's memory. Alone in its file: it counts what is allocated in its process,
//! so the broker is one that keeps nothing.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use ringmq::client::{Manager, SessionBuilder};

const DEADLINE: Duration = Duration::from_secs(60);
/// Both ends of each connection are ours, and many systems allow 1,024 open files.
const SESSIONS: usize = 440;
/// Tables that are half full, and lists of the turn in which all connected, included. What the allocator adds is
/// not: 10,000 sessions have to take less than 3 KiB each with it.
const SESSION_BYTES_MAX: isize = 2_112;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, that is from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Accepts so many connections, whatever they say.
fn accept(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        assert!(head[0] == 0x10 && head[1] < 0x80, "a short CONNECT");
        stream.read_exact(&mut [0; 0x80][..usize::from(head[1])]).unwrap();
        stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
        streams.push(stream);
    }
    streams
}

#[test]
fn an_idle_session_takes_little_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("mqtt://{}", listener.local_addr().unwrap());
    let broker = std::thread::spawn(move || [1, SESSIONS].map(|count| accept(&listener, count)));
    let manager = Manager::new().unwrap();
    manager.add(SessionBuilder::quick("idle-first", &address)).unwrap().wait(DEADLINE).unwrap();
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for n in 0..SESSIONS {
        manager.add(SessionBuilder::quick(format!("idle-{n}"), &address)).unwrap();
    }
    manager.wait_all(DEADLINE).unwrap();
    let streams = broker.join().unwrap();
    let each = (LIVE_BYTES.load(Ordering::Relaxed) - before) / SESSIONS as isize;
    println!("{each} bytes for each session");
    assert!(each <= SESSION_BYTES_MAX, "{each} bytes for each session");
    // Sooner than goodbyes, which nobody answers.
    drop(streams);
    manager.shutdown(DEADLINE).unwrap();
}
