//! A log that keeps its messages in memory.

use std::time::Duration;

use bytes::Bytes;
use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

use crate::{Compaction, Level, Log, LogError, LogFigures, LogOffset, MessageView, Record, SegmentId};

/// From this size up a payload is kept where it can be shared by reference.
const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;

/// A message in its slot.
#[derive(Debug)]
struct Kept {
    references: u32,
    topic_bytes: u16,
    qos: u8,
    properties_bytes: u32,
    expires_at_ms: u64,
    /// Topic, properties and, unless shared, payload.
    bytes: Box<[u8]>,
    shared: Option<Box<Bytes>>,
}

/// What a slot costs beside the bytes of its message.
const SLOT_BYTES: usize = size_of::<Slot>() + 16;

#[derive(Debug)]
enum Slot {
    Free { next: u32 },
    Used(Kept),
}

const NO_SLOT: u32 = u32::MAX;

/// A [`Log`] in memory: messages live until their last reference goes, other records are only counted,
/// since nothing outlives the process that could read them back.
#[derive(Debug)]
pub struct MemoryLog {
    slots: Vec<Slot>,
    free: u32,
    appended: u64,
    held_bytes: u64,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: NO_SLOT, appended: 0, held_bytes: 0 }
    }

    fn place_message(&mut self, view: &MessageView<'_>) -> LogOffset {
        let large = view.payload.len() >= SHARED_PAYLOAD_BYTES_MIN;
        let shared = large.then(|| match view.shared_payload {
            Some(payload) => payload.clone(),
            None => Bytes::copy_from_slice(view.payload),
        });
        let copied = if shared.is_some() { &[][..] } else { view.payload };
        let mut bytes = Vec::with_capacity(view.topic.len() + view.properties.len() + copied.len());
        bytes.extend_from_slice(view.topic);
        bytes.extend_from_slice(view.properties);
        bytes.extend_from_slice(copied);
        let kept = Kept {
            references: 1,
            topic_bytes: view.topic.len() as u16,
            qos: view.qos,
            properties_bytes: view.properties.len() as u32,
            expires_at_ms: view.expires_at_ms,
            bytes: bytes.into_boxed_slice(),
            shared: shared.map(Box::new),
        };
        self.held_bytes += kept.held_bytes();
        let index = self.place(Slot::Used(kept));
        LogOffset::new(u64::from(index))
    }

    fn place(&mut self, slot: Slot) -> u32 {
        if self.free == NO_SLOT {
            self.slots.push(slot);
            return self.slots.len() as u32 - 1;
        }
        let index = self.free;
        match std::mem::replace(&mut self.slots[index as usize], slot) {
            Slot::Free { next } => self.free = next,
            Slot::Used(_) => unreachable!("the free list holds free slots only"),
        }
        index
    }

    fn used(&mut self, at: LogOffset) -> &mut Kept {
        match &mut self.slots[at.get() as usize] {
            Slot::Used(kept) => kept,
            Slot::Free { .. } => panic!("message {} is used without a reference", at.get()),
        }
    }
}

impl Kept {
    fn held_bytes(&self) -> u64 {
        (SLOT_BYTES + self.bytes.len() + self.shared.as_ref().map_or(0, |payload| payload.len())) as u64
    }
}

impl Log for MemoryLog {
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError> {
        self.appended += 1;
        Ok(self.place_message(message))
    }

    fn message(&self, at: LogOffset) -> MessageView<'_> {
        let Slot::Used(kept) = &self.slots[at.get() as usize] else {
            panic!("message {} is used without a reference", at.get());
        };
        let (topic, rest) = kept.bytes.split_at(usize::from(kept.topic_bytes));
        let (properties, copied) = rest.split_at(kept.properties_bytes as usize);
        MessageView {
            topic,
            properties,
            payload: kept.shared.as_ref().map_or(copied, |payload| payload),
            shared_payload: kept.shared.as_deref(),
            qos: kept.qos,
            expires_at_ms: kept.expires_at_ms,
        }
    }

    fn retain(&mut self, at: LogOffset) {
        self.used(at).references += 1;
    }

    fn release(&mut self, at: LogOffset) {
        let kept = self.used(at);
        kept.references -= 1;
        if kept.references > 0 {
            return;
        }
        let freed = kept.held_bytes();
        self.held_bytes -= freed;
        self.slots[at.get() as usize] = Slot::Free { next: self.free };
        self.free = at.get() as u32;
    }

    fn append(&mut self, _record: Record<'_>) {
        self.appended += 1;
    }

    fn end_unit(&mut self) {}

    fn turn_over(&mut self) {}

    fn wants_turn(&self) -> bool {
        false
    }

    fn appended(&self) -> u64 {
        self.appended
    }

    fn reached(&self, _level: Level) -> u64 {
        self.appended
    }

    fn is_full(&self) -> bool {
        false
    }

    fn want_synced(&mut self) {}

    fn sync(&mut self) -> Option<SyncRequest> {
        None
    }

    fn synced(&mut self, ticket: SyncTicket, _outcome: Result<Duration, SyncFailure>) {
        unreachable!("a log in memory asks for no sync, got {ticket:?}");
    }

    fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    fn head(&self) -> SegmentId {
        SegmentId::default()
    }

    fn compaction(&mut self, _state_bytes: u64) -> Option<Compaction> {
        None
    }

    fn relocate(&mut self, at: LogOffset) -> LogOffset {
        unreachable!("a log in memory compacts nothing, but {at:?} is to move");
    }

    fn compacted(&mut self) {}

    fn figures(&self) -> LogFigures {
        LogFigures { live_bytes: self.held_bytes, ..LogFigures::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(topic: &'a str, payload: &'a [u8]) -> MessageView<'a> {
        MessageView {
            topic: topic.as_bytes(),
            properties: b"pp",
            payload,
            shared_payload: None,
            qos: 1,
            expires_at_ms: 7,
        }
    }

    #[test]
    fn a_message_is_read_back_until_its_last_reference_goes() {
        let mut log = MemoryLog::new();
        let at = log.keep(&view("a/b", b"hello")).unwrap();
        log.retain(at);
        log.release(at);
        let read = log.message(at);
        assert_eq!((read.topic, read.properties, read.payload), (&b"a/b"[..], &b"pp"[..], &b"hello"[..]));
        assert_eq!((read.qos, read.expires_at_ms), (1, 7));
        log.release(at);
        assert_eq!(log.held_bytes(), 0);
        let again = log.keep(&view("c", b"x")).unwrap();
        assert_eq!(again, at, "a free slot is used again");
    }

    #[test]
    fn a_large_shared_payload_is_not_copied() {
        let mut log = MemoryLog::new();
        let payload = Bytes::from(vec![7; SHARED_PAYLOAD_BYTES_MIN]);
        let shared = MessageView { shared_payload: Some(&payload), ..view("t", &payload) };
        let at = log.keep(&shared).unwrap();
        assert_eq!(log.message(at).payload.as_ptr(), payload.as_ptr());
    }

    #[test]
    #[should_panic(expected = "without a reference")]
    fn a_released_message_cannot_be_read() {
        let mut log = MemoryLog::new();
        let at = log.keep(&view("a", b"")).unwrap();
        log.release(at);
        log.message(at);
    }
}
