//! What the network and the disk will do, by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ringmq_turn::SyncTicket;

use crate::client::ClientId;

/// Something that falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Something of a client reaches its shard.
    Inbound(ClientId),
    /// Bytes reach a client.
    Send(ClientId),
    /// A message reaches the second shard from the first.
    Lane(usize, usize),
    /// A shard learns that a connection of this number, which it opens, was refused.
    Refused(usize),
    /// A shard's sync request is answered, with an error number where it failed.
    Sync(usize, SyncTicket, Option<i32>),
}

/// Things that fall due, the earliest first; of two at one time, the one that was put first.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64, Due)>>,
    put_count: u64,
}

impl Agenda {
    pub(crate) fn put(&mut self, due_ms: u64, due: Due) {
        self.put_count += 1;
        self.heap.push(Reverse((due_ms, self.put_count, due)));
    }

    /// When the next one falls due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    /// The next one, if it is due.
    pub(crate) fn take(&mut self, now_ms: u64) -> Option<Due> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((.., due))| due)
    }
}
