//! The log that sessions and messages are kept in.
//!
//! A shard writes what its sessions must not forget as [`Record`]s into a [`Log`], and refers to
//! messages by the [`LogOffset`] that came back. [`MemoryLog`] keeps the messages in memory and nothing
//! else: its sessions live as long as the process.
//!
//! invariant: no runtime, no socket and no clock in here, and nothing of MQTT beyond the fields of a
//! record.
#![deny(unsafe_code)]

mod chores;
mod directory;
mod disk;
mod error;
mod format;
mod found;
mod inspect;
mod level;
mod manifest;
mod mapping;
mod memory;
mod reading;
mod record;
mod recover;
mod recovered;
mod reshard;
mod segment_log;
mod shard_log;
mod store;

pub use chores::{ChoreSender, Chores, chores};
pub use directory::{Directory, FileSegment};
pub use disk::{Disk, Segment};
pub use error::StoreError;
pub use format::{FormatError, decode, encode, encoded_len};
pub use found::LogOptions;
pub use inspect::{DumpFilter, Inspection, KindStats, LogCheck, LogStats, SegmentCheck, StoreUser};
pub use level::{LEVELS, Level};
pub use manifest::Manifest;
pub use memory::MemoryLog;
pub use record::{
    LogOffset, MessageView, PublicationRecord, QueueNumber, QueuedAs, QueuedMessage, Record,
    SEGMENT_BYTES_MAX, SegmentId, SessionRecord, SubscriptionIds, WillView,
};
pub use recover::open_log;
pub use recovered::{
    Damage, Recovered, RecoveredMessage, RecoveredMore, RecoveredSession, RecoveredSubscription,
    RecoveredWill,
};
pub use segment_log::SegmentLog;
pub use shard_log::ShardLog;
pub use store::{Owner, Resharded, Store, StoreOptions};

use std::time::Duration;

use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

/// Why a log refuses a message.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no room for the message.
    #[error("the log has no room for {bytes} more bytes; free space or raise its limit")]
    Full {
        /// The size of the message.
        bytes: usize,
    },
}

/// A compaction that is due or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// What lies in segments below this one is to be written anew.
    pub before: SegmentId,
    /// How many bytes to copy in this turn, about.
    pub bytes: usize,
}

/// One shard's log: owned by the shard, used from its thread only.
///
/// Messages are counted by reference. State is told as [`Record`]s, which never fail: what the disk has no
/// room for waits in memory, and [`Log::reached`] stays behind until it has.
pub trait Log {
    /// Appends a message with one reference, which [`Log::release`] gives back.
    ///
    /// # Errors
    /// [`LogError::Full`], with nothing appended.
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError>;

    /// The message at an offset to which a reference is held.
    fn message(&self, at: LogOffset) -> MessageView<'_>;

    /// Adds a reference to a message.
    fn retain(&mut self, at: LogOffset);

    /// Gives a reference back; without any, the message may go.
    fn release(&mut self, at: LogOffset);

    /// Appends a record that is not a message.
    fn append(&mut self, record: Record<'_>);

    /// What was appended since the last call belongs together: after a crash all of it is there, or none.
    fn end_unit(&mut self);

    /// The turn is over: what was appended is now as safe as [`Level::Written`] says, and files are made
    /// or removed as needed. Called at the end of every turn, before anything of it is sent.
    fn turn_over(&mut self);

    /// Whether it has use for another turn soon, even if nothing happens: to take or give back files.
    fn wants_turn(&self) -> bool;

    /// How many records have been appended, messages included.
    fn appended(&self) -> u64;

    /// How many of them have reached a level. An ack for what was appended as number `n` waits until this
    /// is at least `n`. As nothing is sent before [`Log::turn_over`], what that will write without fail
    /// counts as written already: all but what waits in memory for want of space.
    fn reached(&self, level: Level) -> u64;

    /// Whether QoS 1 and 2 publications have to be refused for want of space.
    fn is_full(&self) -> bool;

    /// Somebody waits for [`Level::Synced`] of all that was appended so far.
    fn want_synced(&mut self);

    /// What must be synced now. Asked after [`Log::turn_over`] until there is nothing.
    fn sync(&mut self) -> Option<SyncRequest>;

    /// The outcome of a sync, and how long it took.
    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>);

    /// Bytes of memory that the log holds, what the kernel caches of its files aside.
    fn held_bytes(&self) -> u64;

    /// The segment that is written to.
    fn head(&self) -> SegmentId;

    /// What there is to compact, if anything: decided anew when nothing is under way, from how many bytes
    /// of living records other than messages the shard would write, about.
    fn compaction(&mut self, state_bytes: u64) -> Option<Compaction>;

    /// Copies a message of a segment that is compacted and moves one reference over to the copy. All
    /// references to one message move to the same copy.
    fn relocate(&mut self, at: LogOffset) -> LogOffset;

    /// All that lay in the segments of the compaction was written anew. They go once that is synced and no
    /// reference is left.
    fn compacted(&mut self);

    /// Figures for operators.
    fn figures(&self) -> LogFigures;
}

/// What a log has done, and what it holds. All but the gauges only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogFigures {
    /// Bytes on disk now, spare segments included.
    pub disk_bytes: u64,
    /// Bytes of messages that are referred to now.
    pub live_bytes: u64,
    /// Bytes appended.
    pub appended_bytes: u64,
    /// Bytes copied by compaction.
    pub copied_bytes: u64,
    /// Group commits.
    pub commits: u64,
    /// Group commits that failed.
    pub commits_failed: u64,
    /// Whether it has no room now.
    pub full: bool,
    /// How long group commits took, in microseconds.
    pub commit_us: CommitTimes,
}

impl LogFigures {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        self.disk_bytes += other.disk_bytes;
        self.live_bytes += other.live_bytes;
        self.appended_bytes += other.appended_bytes;
        self.copied_bytes += other.copied_bytes;
        self.commits += other.commits;
        self.commits_failed += other.commits_failed;
        self.full |= other.full;
        self.commit_us.add(&other.commit_us);
    }
}

/// A histogram of group commits: how many took less than 2^n microseconds, and no less than half of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimes(pub [u64; 32]);

impl CommitTimes {
    /// Counts one.
    pub fn count(&mut self, took: Duration) {
        let micros = took.as_micros().min(u128::from(u32::MAX >> 1)) as u32;
        self.0[(u32::BITS - micros.leading_zeros()) as usize] += 1;
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// An upper bound, in microseconds, of the fastest `percent` of them; 0 if there was none.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let total: u64 = self.0.iter().sum();
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut sum = 0;
        for (power, count) in self.0.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return 1 << power;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_bound_what_was_counted() {
        let mut times = CommitTimes::default();
        assert_eq!(times.percentile_us(50), 0);
        for micros in [0, 1, 3, 200, 200, 200, 200, 200, 300, 5000] {
            times.count(Duration::from_micros(micros));
        }
        assert_eq!((times.percentile_us(50), times.percentile_us(90)), (256, 512));
        assert_eq!(times.percentile_us(100), 8192);
    }
}
