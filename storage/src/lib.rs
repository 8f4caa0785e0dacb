//! The log that sessions and messages are kept in.
//!
//! A shard writes what its sessions must not forget as [`Record`]s into a [`Log`], and refers to
//! messages by the [`LogOffset`] that came back. [`MemoryLog`] keeps the messages in memory and nothing
//! else: its sessions live as long as the process.
//!
//! invariant: no runtime, no socket and no clock in here, and nothing of MQTT beyond the fields of a
//! record.
#![forbid(unsafe_code)]

mod memory;
mod record;

pub use memory::MemoryLog;
pub use record::{LogOffset, MessageView, QueuedAs, Record, SessionRecord};

use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

/// Why a log refuses an append.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no room for the record.
    #[error("the log has no room for {bytes} more bytes; free space or raise its limit")]
    Full {
        /// The size of the record.
        bytes: usize,
    },
}

/// One shard's log: owned by the shard, used from its thread only.
pub trait Log {
    /// Appends a record. A [`Record::Message`] starts with one reference, which
    /// [`Log::release`] gives back.
    ///
    /// # Errors
    /// [`LogError::Full`], with nothing appended.
    fn append(&mut self, record: Record<'_>) -> Result<LogOffset, LogError>;

    /// The message at an offset to which a reference is held.
    fn message(&self, at: LogOffset) -> MessageView<'_>;

    /// Adds a reference to a message.
    fn retain(&mut self, at: LogOffset);

    /// Gives a reference back; without any, the message may go.
    fn release(&mut self, at: LogOffset);

    /// How many records have been appended.
    fn appended(&self) -> u64;

    /// How many of them are kept at the level that acknowledgements promise. An ack for what was
    /// appended as number `n` waits until this is at least `n`.
    fn accepted(&self) -> u64;

    /// What must be synced for [`Log::accepted`] to catch up, when nothing is under way. Asked once a
    /// turn.
    fn sync(&mut self) -> Option<SyncRequest>;

    /// The outcome of a sync.
    fn synced(&mut self, ticket: SyncTicket, outcome: Result<(), SyncFailure>);

    /// Bytes of memory that the log holds.
    fn held_bytes(&self) -> u64;
}
