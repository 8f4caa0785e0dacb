//! The clock of a run.

use std::time::Instant;

/// Nanoseconds since the run began; the same on all its threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Zero is now.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub fn now_ns(self) -> u64 {
        let elapsed = self.0.elapsed();
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }
}
