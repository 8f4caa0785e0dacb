//! The log against a disk in memory.

mod commit;
mod compact;
mod disk;
mod full;
mod reference;
mod units;

use std::time::Duration;

use super::SegmentLog;
use crate::format::{BATCH_HEAD_BYTES, BatchHead, SEGMENT_HEADER_BYTES, decode, segment_header};
use crate::{
    Log, LogOffset, LogOptions, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record, SegmentId,
    SessionRecord, SubscriptionIds,
};
use disk::{DiskHandle, MemoryDisk};

const SEGMENT_BYTES: usize = 16 * 1024;
const OPTIONS: LogOptions = LogOptions { segment_bytes: SEGMENT_BYTES, bytes_max: u64::MAX };
const SESSION: SessionRecord = SessionRecord(5);

type TestLog = SegmentLog<MemoryDisk>;

fn new_log() -> (TestLog, DiskHandle) {
    let (disk, handle) = MemoryDisk::new();
    (SegmentLog::new(disk, OPTIONS).unwrap(), handle)
}

fn view(payload: &[u8]) -> MessageView<'_> {
    MessageView { topic: b"a/b", properties: b"", payload, shared_payload: None, qos: 1, expires_at_ms: 0 }
}

fn completed(number: u64) -> Record<'static> {
    Record::Completed { session: SESSION, number: QueueNumber(number), count: 1 }
}

fn queued(session: SessionRecord, number: u64, message: LogOffset) -> Record<'static> {
    let queued_as = QueuedAs { qos: 1, retain: false };
    let number = QueueNumber(number);
    let queued = QueuedMessage { number, message, queued_as, ids: SubscriptionIds::NONE, group: None };
    Record::Queued { session, queued }
}

/// A turn's end, with every sync done at once.
fn turn_over(log: &mut TestLog) {
    log.turn_over();
    while let Some(request) = log.sync() {
        log.synced(request.ticket, Ok(Duration::ZERO));
    }
}

/// Small random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a recovery would read after the process was killed now: the records of whole units, by where they
/// lie.
fn for_each_record(log: &TestLog, mut each: impl FnMut(u64, LogOffset, Record<'_>)) -> u64 {
    let mut next = None;
    let mut chain = Vec::new();
    let mut whole = 0;
    for (id, slot) in log.segments.iter() {
        let bytes: &[u8] = &slot.segment;
        assert_eq!(bytes[..SEGMENT_HEADER_BYTES], segment_header(id));
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some((head, body)) = BatchHead::decode(id, &bytes[at..]) {
            assert_eq!(head.first, next.unwrap_or(head.first), "numbers go on");
            at += BATCH_HEAD_BYTES;
            let (mut rest, mut place, mut number) = (body, at, head.first);
            while !rest.is_empty() {
                let (record, length) = decode(rest).unwrap();
                chain.push((number, LogOffset::at(id, place), record));
                (rest, place, number) = (&rest[length..], place + length, number + 1);
            }
            at += head.length;
            next = Some(number);
            if !head.continues {
                chain.drain(..).for_each(|(number, at, record)| each(number, at, record));
                whole = number;
            }
        }
    }
    whole
}
