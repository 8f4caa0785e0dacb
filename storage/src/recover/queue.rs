//! One session's queue while the log is read.

use std::collections::{BTreeMap, VecDeque};

use crate::{LogOffset, QueueNumber, QueuedAs};

/// Where a queued message stands. What rarely matters is read from the log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: QueueNumber,
    /// The message's offset, and above it the flags.
    packed: u64,
    /// The record that says so.
    pub(crate) told_at: LogOffset,
}

const QOS_SHIFT: u32 = LogOffset::BITS;
const RETAIN: u64 = 1 << (LogOffset::BITS + 2);
/// There are Subscription Identifiers or a group.
const MORE: u64 = 1 << (LogOffset::BITS + 3);
/// The client has it: there is no message any more.
const RECEIVED: u64 = 1 << (LogOffset::BITS + 4);
/// Its message is not in the log.
const LOST: u64 = 1 << (LogOffset::BITS + 5);

impl Entry {
    /// A message that waits, and whether more is said of it than fits here.
    pub(crate) fn queued(number: QueueNumber, message: LogOffset, queued_as: QueuedAs) -> Self {
        let qos = u64::from(queued_as.qos) << QOS_SHIFT;
        let retain = if queued_as.retain { RETAIN } else { 0 };
        Self { number, packed: message.get() | qos | retain, told_at: message }
    }

    pub(crate) fn told(mut self, at: LogOffset, has_more: HasMore) -> Self {
        self.told_at = at;
        if has_more == HasMore::Yes {
            self.packed |= MORE;
        }
        self
    }

    /// The same without its message.
    pub(crate) fn lost(mut self) -> Self {
        self.packed |= LOST;
        self
    }

    fn received(number: QueueNumber, at: LogOffset) -> Self {
        Self { number, packed: RECEIVED | 2 << QOS_SHIFT, told_at: at }
    }

    pub(crate) fn queued_as(self) -> QueuedAs {
        QueuedAs { qos: (self.packed >> QOS_SHIFT & 0b11) as u8, retain: self.packed & RETAIN != 0 }
    }

    /// The message, unless the client has it or it is lost.
    pub(crate) fn message(self) -> Option<LogOffset> {
        let gone = self.packed & (RECEIVED | LOST) != 0;
        (!gone).then(|| LogOffset::new(self.packed & ((1 << LogOffset::BITS) - 1)))
    }

    pub(crate) fn has_more(self) -> bool {
        self.packed & MORE != 0
    }

    pub(crate) fn is_lost(self) -> bool {
        self.packed & LOST != 0
    }

    fn is_received(self) -> bool {
        self.packed & RECEIVED != 0
    }
}

/// Whether a record of a queued message says more than an [`Entry`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HasMore {
    No,
    Yes,
}

/// A session's queue. Numbers mostly come in order and go in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By number.
    entries: VecDeque<Entry>,
    /// Numbers that were told behind larger ones: compaction does that.
    late: BTreeMap<QueueNumber, Entry>,
    /// How many wait for PUBCOMP only.
    received: usize,
}

impl Queue {
    /// A message joined, or lies elsewhere now.
    #[inline]
    pub(crate) fn put(&mut self, entry: Entry) {
        let is_late = !self.late.is_empty() && self.late.contains_key(&entry.number);
        if !is_late && self.entries.back().is_none_or(|last| last.number < entry.number) {
            self.entries.push_back(entry);
            return self.count_received(None, Some(entry));
        }
        let old = match self.find(entry.number) {
            Some(held) if entry.is_lost() && held.message().is_some() => return,
            Some(held) => Some(std::mem::replace(held, entry)),
            None => self.late.insert(entry.number, entry),
        };
        self.count_received(old, Some(entry));
    }

    /// The client received a message.
    pub(crate) fn receive(&mut self, number: QueueNumber, at: LogOffset) {
        self.put(Entry::received(number, at));
    }

    /// A message left.
    #[inline]
    pub(crate) fn complete(&mut self, number: QueueNumber) {
        let gone = match self.entries.front() {
            Some(first) if first.number == number => self.entries.pop_front(),
            _ => match self.place(number) {
                Some(index) => self.entries.remove(index),
                None => self.late.remove(&number),
            },
        };
        self.count_received(gone, None);
    }

    /// The marks that a client received messages are void.
    pub(crate) fn forget_received(&mut self) {
        if self.received > 0 {
            self.entries.retain(|entry| !entry.is_received());
            self.late.retain(|_, entry| !entry.is_received());
            self.received = 0;
        }
    }

    /// All of it, by number.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        let mut all = Vec::from(self.entries);
        if !self.late.is_empty() {
            all.extend(self.late.into_values());
            // Two runs that are sorted each, which a stable sort merges.
            all.sort_by_key(|entry| entry.number);
        }
        all.into_iter()
    }

    /// How many messages are not in the log.
    pub(crate) fn lost(&self) -> usize {
        self.entries.iter().chain(self.late.values()).filter(|entry| entry.is_lost()).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.late.len()
    }

    fn place(&self, number: QueueNumber) -> Option<usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.number).ok()
    }

    fn find(&mut self, number: QueueNumber) -> Option<&mut Entry> {
        match self.place(number) {
            Some(index) => self.entries.get_mut(index),
            None => self.late.get_mut(&number),
        }
    }

    fn count_received(&mut self, old: Option<Entry>, new: Option<Entry>) {
        self.received += usize::from(new.is_some_and(Entry::is_received));
        self.received -= usize::from(old.is_some_and(Entry::is_received));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentId;

    fn at(place: usize) -> LogOffset {
        LogOffset::at(SegmentId(1), place)
    }

    fn entry(number: u64) -> Entry {
        let queued_as = QueuedAs { qos: 1, retain: true };
        Entry::queued(QueueNumber(number), at(number as usize * 8), queued_as).told(at(8), HasMore::No)
    }

    /// Numbers with a mark behind those without message.
    fn text(queue: Queue) -> String {
        let one = |entry: Entry| {
            let mark = if entry.message().is_some() { "" } else { "r" };
            format!("{}{mark}", entry.number.0)
        };
        queue.into_entries().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn entries_come_out_by_number_however_they_came() {
        let mut queue = Queue::default();
        for number in [5, 6, 9, 1, 2, 7, 3] {
            queue.put(entry(number));
        }
        queue.put(entry(6));
        queue.receive(QueueNumber(2), at(0));
        queue.receive(QueueNumber(10), at(0));
        queue.complete(QueueNumber(5));
        queue.complete(QueueNumber(1));
        queue.complete(QueueNumber(4));
        queue.complete(QueueNumber(9));
        assert_eq!(queue.len(), 5);
        assert_eq!(text(queue), "2r 3 6 7 10r");
    }

    #[test]
    fn a_late_number_stays_one_entry_when_all_behind_it_are_gone() {
        let mut queue = Queue::default();
        for number in [5, 2, 3] {
            queue.put(entry(number));
        }
        queue.complete(QueueNumber(5));
        queue.put(entry(3));
        queue.put(entry(4));
        queue.complete(QueueNumber(2));
        assert_eq!(text(queue), "3 4");
    }

    #[test]
    fn marks_of_received_messages_can_be_forgotten() {
        let mut queue = Queue::default();
        for number in [5, 6, 2, 3] {
            queue.put(entry(number));
        }
        queue.receive(QueueNumber(5), at(0));
        queue.receive(QueueNumber(3), at(0));
        queue.receive(QueueNumber(8), at(0));
        queue.complete(QueueNumber(8));
        queue.forget_received();
        assert_eq!(queue.received, 0);
        assert_eq!(text(queue), "2 6");
    }

    #[test]
    fn a_message_that_is_lost_elsewhere_stays_where_it_is() {
        let mut queue = Queue::default();
        queue.put(entry(1));
        queue.put(entry(1).lost());
        queue.put(entry(2).lost());
        queue.put(entry(2));
        queue.put(entry(3).lost());
        assert_eq!(text(queue), "1 2 3r");
    }

    #[test]
    fn an_entry_packs_what_it_was_told() {
        let offset = LogOffset::at(SegmentId((1 << 30) - 1), crate::SEGMENT_BYTES_MAX - 8);
        for (qos, retain) in [(1, false), (2, true)] {
            let queued_as = QueuedAs { qos, retain };
            let entry = Entry::queued(QueueNumber(u64::MAX), offset, queued_as).told(at(8), HasMore::Yes);
            assert_eq!((entry.message(), entry.queued_as()), (Some(offset), queued_as));
            assert!(entry.has_more() && !entry.is_lost() && entry.lost().is_lost());
            assert_eq!(entry.lost().message(), None);
        }
        assert_eq!(size_of::<Entry>(), 24);
    }
}
