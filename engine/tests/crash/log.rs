//! The log of a shard on a simulated disk, which may end in the middle of a turn.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::{
    Compaction, Level, Log, LogError, LogFigures, LogOffset, MessageView, Record, SegmentId, SegmentLog,
};
use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

use crate::disk::TestDisk;

/// When the log says that it has reached a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When it has.
    Right,
    /// Sooner, so that the test has to find a loss: what is still to be written counts as written, and what
    /// is written as synced.
    Early,
}

/// The process was killed in the middle of a turn.
#[derive(Debug)]
pub struct Killed;

/// How many more calls the logs of a broker take before its process is killed.
pub type Fuel = Rc<Cell<u64>>;

/// A log that can end at any call.
pub struct TestLog {
    inner: SegmentLog<TestDisk>,
    fuel: Fuel,
    acks: Acks,
    /// Ends of turns that are still to be left out.
    late: u32,
}

impl TestLog {
    pub fn new(inner: SegmentLog<TestDisk>, fuel: &Fuel, acks: Acks) -> Self {
        Self { inner, fuel: Rc::clone(fuel), acks, late: 0 }
    }

    fn burn(&self) {
        match self.fuel.get().checked_sub(1) {
            Some(left) => self.fuel.set(left),
            // Unlike a panic, it is nobody's fault, and is not reported.
            None => resume_unwind(Box::new(Killed)),
        }
    }
}

impl Log for TestLog {
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError> {
        self.burn();
        self.inner.keep(message)
    }

    fn message(&self, at: LogOffset) -> MessageView<'_> {
        self.inner.message(at)
    }

    fn retain(&mut self, at: LogOffset) {
        self.inner.retain(at);
    }

    fn release(&mut self, at: LogOffset) {
        self.inner.release(at);
    }

    fn append(&mut self, record: Record<'_>) {
        self.burn();
        self.inner.append(record);
    }

    fn end_unit(&mut self) {
        self.inner.end_unit();
    }

    fn turn_over(&mut self) {
        self.burn();
        if self.acks == Acks::Early && self.late < 3 {
            self.late += 1;
        } else {
            self.late = 0;
            self.inner.turn_over();
        }
        self.burn();
    }

    fn wants_turn(&self) -> bool {
        self.inner.wants_turn()
    }

    fn appended(&self) -> u64 {
        self.inner.appended()
    }

    fn reached(&self, level: Level) -> u64 {
        let level = match (self.acks, level) {
            (Acks::Right, level) => level,
            (Acks::Early, Level::Memory | Level::Written) => Level::Memory,
            (Acks::Early, Level::Synced) => Level::Written,
        };
        self.inner.reached(level)
    }

    fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    fn want_synced(&mut self) {
        self.inner.want_synced();
    }

    fn sync(&mut self) -> Option<SyncRequest> {
        self.inner.sync()
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>) {
        self.inner.synced(ticket, outcome);
    }

    fn held_bytes(&self) -> u64 {
        self.inner.held_bytes()
    }

    fn head(&self) -> SegmentId {
        self.inner.head()
    }

    fn compaction(&mut self, state_bytes: u64) -> Option<Compaction> {
        self.inner.compaction(state_bytes)
    }

    fn relocate(&mut self, at: LogOffset) -> LogOffset {
        self.burn();
        self.inner.relocate(at)
    }

    fn compacted(&mut self) {
        self.inner.compacted();
    }

    fn figures(&self) -> LogFigures {
        self.inner.figures()
    }
}
