//! How a shard sleeps and how others wake it.
//!
//! A shard that is about to sleep says so, and then looks once more for work. Whoever gives it work
//! does so first, and then looks whether it sleeps. A fence on both sides lets one of the two notice.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

#[cfg(ringmq_loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(ringmq_loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::sys;

/// Whether a shard sleeps.
pub(crate) struct Parking(AtomicBool);

impl Parking {
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Says that the shard is about to sleep. It must look for work once more before it does.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the shard is awake.
    pub fn awake(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the shard must be woken, by the caller and no one else. The caller has given it work,
    /// and issued a `SeqCst` fence since.
    #[inline]
    pub fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Wakes one shard: an eventfd that its ring polls.
pub(crate) struct Bell {
    parking: Parking,
    eventfd: File,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        Ok(Self { parking: Parking::new(), eventfd: File::from(sys::eventfd()?) })
    }

    /// The flag of the shard that sleeps.
    pub fn parking(&self) -> &Parking {
        &self.parking
    }

    /// The eventfd, to poll.
    pub fn raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Takes back what was rung, once the eventfd is readable.
    pub fn silence(&self) {
        // It is readable, and nobody else reads it; if not, the next ring is heard all the same.
        let _ = (&self.eventfd).read(&mut [0; size_of::<u64>()]);
    }

    /// Wakes the shard if it sleeps. The caller has issued a `SeqCst` fence since it gave it work.
    #[inline]
    pub fn ring_after_fence(&self) {
        if self.parking.take() {
            self.ring();
        }
    }

    /// Wakes the shard if it sleeps.
    pub fn ring_if_parked(&self) {
        fence(Ordering::SeqCst);
        self.ring_after_fence();
    }

    #[cold]
    fn ring(&self) {
        // An eventfd refuses a write only when its counter is full, and then the shard wakes anyway.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }
}

#[cfg(all(test, ringmq_loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn work_given_to_a_shard_that_falls_asleep_is_noticed() {
        loom::model(|| {
            let shared = Arc::new((Parking::new(), AtomicBool::new(false)));
            let giver = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.store(true, Ordering::Release);
                    fence(Ordering::SeqCst);
                    shared.0.take()
                })
            };
            shared.0.announce();
            let seen = shared.1.load(Ordering::Acquire);
            let woken = giver.join().unwrap();
            assert!(seen || woken, "the shard would sleep on its work");
        });
    }
}
