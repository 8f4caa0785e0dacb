//! What a broker's sessions are kept in: memory, or segments on a disk that outlives its process.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringmq_sim::{Crash, Rng, SimDisk};
use ringmq_storage::{
    Compaction, Damage, Level, Log, LogError, LogFigures, LogOffset, LogOptions, MemoryLog, MessageView,
    Record, Recovered, SegmentId, SegmentLog, open_log,
};
use ringmq_turn::{ShardId, SyncFailure, SyncRequest, SyncTicket};

#[path = "../../../../storage/tests/crash/disk.rs"]
mod disk;

use disk::{SharedDisk, TestDisk};

/// Where the sessions of a broker are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    Memory,
    /// On a disk, where a shard's log takes no more than so many bytes.
    Disk {
        bytes_max: u64,
    },
}

/// Small ones, to be filled and compacted in a transcript. A message still fits into one.
const SEGMENT_BYTES: usize = 64 * 1024;

/// The log of one shard.
pub(crate) enum TestLog {
    Memory(MemoryLog),
    Segments(Box<SegmentLog<TestDisk>>),
}

/// One broker's disk, with a folder for each shard.
pub(crate) struct Disks {
    disk: SharedDisk,
    bytes_max: u64,
    last_crash: Crash,
}

impl Disks {
    pub(crate) fn new(seed: u64, bytes_max: u64) -> Self {
        let disk = Rc::new(RefCell::new(SimDisk::new(Rng::new(seed))));
        Self { disk, bytes_max, last_crash: Crash::Kill }
    }

    /// Opens the log of a shard, or begins it.
    pub(crate) fn open(&self, shard: ShardId, seed: u64) -> (TestLog, Recovered) {
        let disk = TestDisk::new(&self.disk, &format!("{shard}/"), Rng::new(seed));
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, bytes_max: self.bytes_max };
        let (log, recovered) = open_log(disk, options).expect("there is room for one more segment");
        assert_eq!(recovered.losses, [""; 0], "nothing is lost");
        let left_by_crash = |damage: &Damage| match self.last_crash {
            Crash::Kill => false,
            // Of a segment that nothing was written to yet, it leaves what it likes.
            Crash::PowerLoss => damage.torn_tail || damage.seems == "the header of the segment",
        };
        assert!(recovered.damage.iter().all(left_by_crash), "nothing is damaged: {:?}", recovered.damage);
        (TestLog::Segments(Box::new(log)), recovered)
    }

    /// The program that wrote there is gone.
    pub(crate) fn crash(&mut self, crash: Crash) {
        self.disk.borrow_mut().crash(crash);
        self.last_crash = crash;
    }

    /// From now on there is no room for more files, or there is again.
    pub(crate) fn set_room(&self, room: Room) {
        let mut disk = self.disk.borrow_mut();
        let bytes = if room == Room::Plenty { u64::MAX } else { disk.used_bytes() };
        disk.set_capacity_bytes(bytes);
    }
}

/// What is left of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    None,
    Plenty,
}

macro_rules! either {
    ($self:ident, $log:ident => $call:expr) => {
        match $self {
            Self::Memory($log) => $call,
            Self::Segments($log) => $call,
        }
    };
}

impl Log for TestLog {
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError> {
        either!(self, log => log.keep(message))
    }

    fn message(&self, at: LogOffset) -> MessageView<'_> {
        either!(self, log => log.message(at))
    }

    fn retain(&mut self, at: LogOffset) {
        either!(self, log => log.retain(at));
    }

    fn release(&mut self, at: LogOffset) {
        either!(self, log => log.release(at));
    }

    fn append(&mut self, record: Record<'_>) {
        either!(self, log => log.append(record));
    }

    fn end_unit(&mut self) {
        either!(self, log => log.end_unit());
    }

    fn turn_over(&mut self) {
        either!(self, log => log.turn_over());
    }

    fn wants_turn(&self) -> bool {
        either!(self, log => log.wants_turn())
    }

    fn appended(&self) -> u64 {
        either!(self, log => log.appended())
    }

    fn reached(&self, level: Level) -> u64 {
        either!(self, log => log.reached(level))
    }

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
