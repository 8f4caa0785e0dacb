//! Waits, routes, events and publications that come and go leave nothing behind. Alone in its file: it counts what
//! is allocated in its process.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::pin;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use ringmq::client::{Manager, Message, SessionBuilder};
use ringmq::{Broker, QoS};

const DEADLINE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 10_000;
/// What tables may have grown by in the meantime.
const SLACK_BYTES: isize = 64 * 1024;

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

/// Everything that a program may begin and give up.
fn round(manager: &Manager) {
    let context = &mut Context::from_waker(Waker::noop());
    let away = manager.get("away").unwrap();
    assert!(away.wait(Duration::ZERO).is_err());
    assert!(manager.wait_all(Duration::ZERO).is_err());
    assert!(pin!(away.ready()).as_mut().poll(context).is_pending());
    assert!(pin!(manager.all_ready()).as_mut().poll(context).is_pending());
    let here = manager.get("here").unwrap();
    here.wait(DEADLINE).unwrap();
    let events = manager.events();
    let route = manager.handle_to("here", "a/+/#", |_| ()).unwrap();
    let listener = manager.listen_to("here", "b").unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    here.publish(Message::new("b", "x").qos(QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
    assert_eq!(listener.recv(DEADLINE).unwrap().payload, "x");
    assert!(pin!(listener.recv_async()).as_mut().poll(context).is_pending());
    drop((events, route));
}

use std::future::Future;

#[test]
fn ten_thousand_rounds_leave_memory_flat() {
    let broker = Broker::builder().listen("127.0.0.1:0".parse().unwrap()).shards(1).start().unwrap();
    let manager = Manager::new().unwrap();
    let address = format!("mqtt://{}", broker.addresses()[0]);
    manager.add(SessionBuilder::quick("here", address)).unwrap().wait(DEADLINE).unwrap();
    manager.add(SessionBuilder::quick("away", "unix:/nowhere").paused()).unwrap();
    for _ in 0..ROUNDS / 10 {
        round(&manager);
    }
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        round(&manager);
    }
    let grown = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(grown < SLACK_BYTES, "{grown} bytes more after {ROUNDS} rounds");
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}
