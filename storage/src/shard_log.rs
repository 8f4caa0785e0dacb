//! The log that a shard of the broker has.

use std::time::Duration;

use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

use crate::{
    Compaction, Directory, Level, Log, LogError, LogFigures, LogOffset, MemoryLog, MessageView, Record,
    SegmentId, SegmentLog,
};

/// A log in memory or on disk.
pub enum ShardLog {
    /// Sessions live as long as the process.
    Memory(MemoryLog),
    /// They outlive it.
    Segments(Box<SegmentLog<Directory>>),
}

macro_rules! either {
    ($self:ident, $log:ident => $call:expr) => {
        match $self {
            Self::Memory($log) => $call,
            Self::Segments($log) => $call,
        }
    };
}

impl Log for ShardLog {
    #[inline]
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError> {
        either!(self, log => log.keep(message))
    }

    #[inline]
    fn message(&self, at: LogOffset) -> MessageView<'_> {
        either!(self, log => log.message(at))
    }

    #[inline]
    fn retain(&mut self, at: LogOffset) {
        either!(self, log => log.retain(at));
    }

    #[inline]
    fn release(&mut self, at: LogOffset) {
        either!(self, log => log.release(at));
    }

    #[inline]
    fn append(&mut self, record: Record<'_>) {
        either!(self, log => log.append(record));
    }

    #[inline]
    fn end_unit(&mut self) {
        either!(self, log => log.end_unit());
    }

    fn turn_over(&mut self) {
        either!(self, log => log.turn_over());
    }

    fn wants_turn(&self) -> bool {
        either!(self, log => log.wants_turn())
    }

    #[inline]
    fn appended(&self) -> u64 {
        either!(self, log => log.appended())
    }

    #[inline]
    fn reached(&self, level: Level) -> u64 {
        either!(self, log => log.reached(level))
    }

    #[inline]
    fn is_full(&self) -> bool {
        either!(self, log => log.is_full())
    }

    fn want_synced(&mut self) {
        either!(self, log => log.want_synced());
    }

    fn sync(&mut self) -> Option<SyncRequest> {
        either!(self, log => log.sync())
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>) {
        either!(self, log => log.synced(ticket, outcome));
    }

    fn held_bytes(&self) -> u64 {
        either!(self, log => log.held_bytes())
    }

    fn head(&self) -> SegmentId {
        either!(self, log => log.head())
    }

    fn compaction(&mut self, state_bytes: u64) -> Option<Compaction> {
        either!(self, log => log.compaction(state_bytes))
    }

    fn relocate(&mut self, at: LogOffset) -> LogOffset {
        either!(self, log => log.relocate(at))
    }

    fn compacted(&mut self) {
        either!(self, log => log.compacted());
    }

    fn figures(&self) -> LogFigures {
        either!(self, log => log.figures())
    }
}
