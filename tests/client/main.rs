//! The client against a broker in this process, over sockets.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../crash/program.rs"]
#[allow(dead_code, reason = "the crash tests use all of it")]
mod program;
#[path = "../../client/tests/stores/redis_server.rs"]
#[allow(dead_code, reason = "the tests of stores use all of it")]
mod redis_server;
#[path = "../../client/tests/stores/scratch.rs"]
mod scratch;

mod many;
mod messages;
mod outages;
#[path = "../pki/mod.rs"]
mod pki;
mod stores;
mod transports;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ringmq::Broker;
use ringmq::client::{Backoff, Manager, SessionBuilder};

/// Named so by what the crash tests share.
mod client {
    use std::time::Duration;

    /// A deadline, not a pace: everything comes far sooner.
    pub const DEADLINE: Duration = Duration::from_secs(60);
}

use client::DEADLINE;

fn broker() -> Broker {
    broker_at("127.0.0.1:0".parse().unwrap())
}

fn broker_at(address: SocketAddr) -> Broker {
    Broker::builder().listen(address).shards(1).start().unwrap()
}

/// Where nobody listens, yet.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A session that is quick to try again.
fn session(name: &str, address: SocketAddr) -> SessionBuilder {
    let backoff = Backoff { first_ms: 10, max_ms: 100, factor_percent: 150, jitter: true };
    SessionBuilder::quick(name, format!("mqtt://{address}")).backoff(backoff)
}

/// A broker, and a manager with one session that is ready.
fn ready(name: &str) -> (Broker, Manager) {
    let broker = broker();
    let manager = Manager::new().unwrap();
    manager.add(session(name, broker.addresses()[0])).unwrap().wait(DEADLINE).unwrap();
    (broker, manager)
}

/// Runs a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(DEADLINE),
        }
    }
}

/// Waits for what is counted at the end of a turn.
fn until(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came about");
        std::thread::yield_now();
    }
}
