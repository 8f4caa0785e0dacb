//! Writing anew what lies in the oldest segments of the log, a slice at the end of each turn.
//!
//! A walk over all sessions, retained messages and notes of publications that came. Whatever is added
//! behind the walk's back lies at the head of the log, so one walk is enough.

use ringmq_storage::{Compaction, Log, PublicationRecord, QueueNumber, SegmentId};

use crate::Engine;
use crate::deliver::log_queued;
use crate::ids::SessionSlot;
use crate::retain::topic_of;

/// What a look at something that need not be moved counts for, in bytes of the slice.
const LOOK_BYTES: usize = 8;
/// What moving something counts for beside its own bytes.
const MOVE_BYTES: usize = 64;

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// At a session by slot, and at its messages from this number on, once it was told itself.
    Session(usize, Option<QueueNumber>),
    /// At a retained message by its place in the store.
    Retained(usize),
    /// At the publications that came from other shards.
    Came,
    /// At the end.
    #[default]
    Over,
}

/// A walk.
#[derive(Debug)]
pub(crate) struct Walk {
    before: SegmentId,
    stage: Stage,
    /// What is left of the current slice.
    bytes: usize,
}

impl Walk {
    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl<L: Log> Engine<L> {
    /// Does a slice of what there is to compact. Whether there is more.
    pub(crate) fn compact(&mut self) -> bool {
        let state_bytes = self.state_bytes + self.ledger.queued * 40 + self.retained.len() as u64 * 24;
        let Some(Compaction { before, bytes }) = self.log.compaction(state_bytes) else { return false };
        let mut walk = match self.walk.take() {
            Some(walk) if walk.before == before => Walk { bytes, ..walk },
            Some(_) | None => Walk { before, stage: Stage::Session(0, None), bytes },
        };
        while walk.bytes > 0 && walk.stage != Stage::Over {
            walk.stage = match walk.stage {
                Stage::Session(index, at) => self.walk_session(index, at, &mut walk),
                Stage::Retained(at) => self.walk_retained(at, &mut walk),
                Stage::Came => self.walk_came(&mut walk),
                Stage::Over => Stage::Over,
            };
            self.log.end_unit();
        }
        if walk.stage == Stage::Over {
            self.log.compacted();
            return false;
        }
        self.walk = Some(walk);
        true
    }

    fn walk_session(&mut self, index: usize, at: Option<QueueNumber>, walk: &mut Walk) -> Stage {
        walk.spend(LOOK_BYTES);
        let next = Stage::Session(index + 1, None);
        let Some(session) = self.sessions.at(index) else {
            return if index < self.sessions.slots_len() { next } else { Stage::Retained(0) };
        };
        let slot = SessionSlot(index as u32);
        let from = match at {
            Some(at) => at.max(session.out.first()),
            None => {
                let (first, told_in) = (session.out.first(), session.told_in);
                if told_in.is_some_and(|told_in| told_in < walk.before) {
                    walk.spend(MOVE_BYTES + session.state_bytes as usize);
                    self.tell(slot);
                }
                first
            }
        };
        match self.walk_messages(slot, from, walk) {
            Some(at) => Stage::Session(index, Some(at)),
            None => next,
        }
    }

    /// Moves messages of a session until the slice is spent; then the number to go on from.
    fn walk_messages(
        &mut self,
        slot: SessionSlot,
        from: QueueNumber,
        walk: &mut Walk,
    ) -> Option<QueueNumber> {
        let mut number = from;
        let end = self.sessions.get(slot).out.next();
        while number < end {
            if walk.bytes == 0 {
                return Some(number);
            }
            walk.spend(LOOK_BYTES);
            let session = self.sessions.get_mut(slot);
            if let Some(entry) = session.out.entry_mut(number)
                && entry.message().segment() < walk.before
            {
                let at = entry.message();
                walk.spend(MOVE_BYTES + self.log.message(at).charged_bytes());
                let moved = entry.moved(self.log.relocate(at));
                *entry = moved;
                if session.persistent {
                    log_queued(session, number, moved, (&mut self.log, &self.router.groups));
                }
            }
            number = number.plus(1);
        }
        None
    }

    fn walk_retained(&mut self, at: usize, walk: &mut Walk) -> Stage {
        walk.spend(LOOK_BYTES);
        let Some(value) = self.retained.value_at_mut(at) else {
            return if at < self.retained.slots_len() { Stage::Retained(at + 1) } else { Stage::Came };
        };
        if value.segment() < walk.before {
            walk.spend(MOVE_BYTES + self.log.message(*value).charged_bytes());
            let moved = self.log.relocate(*value);
            *value = moved;
            let topic = topic_of(&self.log.message(moved)).to_owned();
            self.tell_retained(moved, &topic);
        }
        Stage::Retained(at + 1)
    }

    /// There are few of them: as many as QoS 2 publications are under way between shards.
    fn walk_came(&mut self, walk: &mut Walk) -> Stage {
        let old = self.came.iter().filter(|(_, told_in)| **told_in < walk.before);
        let old: Vec<PublicationRecord> = old.map(|(publication, _)| *publication).collect();
        for publication in old {
            walk.spend(MOVE_BYTES);
            self.tell_came(publication);
        }
        Stage::Over
    }
}
