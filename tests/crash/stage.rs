//! What all clients of a test share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where the broker is, and whether it still is.
pub struct Stage {
    pub address: SocketAddr,
    over: AtomicBool,
    clock: AtomicU64,
}

impl Stage {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, over: AtomicBool::new(false), clock: AtomicU64::new(0) }
    }

    /// A time later than every one before, on any thread.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether the broker was killed, or is about to be.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::SeqCst);
    }

    /// Runs one connection after the other until the broker is killed.
    pub fn while_up(&self, mut connection: impl FnMut(&Self) -> std::io::Result<()>) {
        while !self.is_over() {
            if connection(self).is_err() {
                // A broker that is being killed refuses for a moment before the test knows.
                std::thread::yield_now();
            }
        }
    }
}
