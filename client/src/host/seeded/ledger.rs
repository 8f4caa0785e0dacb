//! A store that outlives its process, and keeps what it was told late or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use ringmq_codec::PacketId;
use ringmq_sim::Rng;

use crate::link::{Number, Restored, StoreChange, StoreLink};
use crate::message::Message;

#[derive(Debug, Default)]
struct Kept {
    /// What is durable: publications with whether PUBREC came, and the rest.
    publications: BTreeMap<u64, (Message, bool)>,
    next: u64,
    taken: BTreeSet<PacketId>,
    /// What was posted and is not durable, with the number of the first.
    waiting: Vec<StoreChange>,
    done: u64,
    may_fail: bool,
    fails: bool,
    runs: u32,
}

impl Kept {
    fn apply(&mut self, change: StoreChange) {
        match change {
            StoreChange::Completed(number) => _ = self.publications.remove(&number.0),
            StoreChange::Released(number) => {
                // It may be told twice.
                if let Some((_, is_released)) = self.publications.get_mut(&number.0) {
                    *is_released = true;
                }
            }
            StoreChange::Taken(id) => _ = self.taken.insert(id),
            StoreChange::Given(id) => _ = self.taken.remove(&id),
            StoreChange::Forgotten => self.taken.clear(),
            StoreChange::Subscribed(_) | StoreChange::Unsubscribed(_) => {}
        }
    }

    fn apply_some(&mut self, count: usize) {
        let changes: Vec<_> = self.waiting.drain(..count).collect();
        self.done += changes.len() as u64;
        changes.into_iter().for_each(|change| self.apply(change));
    }
}

/// What a session's store holds.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Kept>);

impl Ledger {
    /// A publication is durable before it is queued.
    pub fn put(&self, number: Number, message: Message) {
        let mut kept = self.0.lock().unwrap();
        kept.next = number.0 + 1;
        kept.may_fail = true;
        kept.publications.insert(number.0, (message, false));
    }

    /// What the next process finds: of what was not durable, any beginning.
    pub fn restore(&self, rng: &mut Rng) -> Restored {
        let mut kept = self.0.lock().unwrap();
        let count = rng.below(kept.waiting.len() + 1);
        kept.apply_some(count);
        kept.waiting.clear();
        (kept.done, kept.runs) = (0, kept.runs + 1);
        let publications = kept.publications.iter();
        Restored {
            publications: publications
                .map(|(number, (message, is_released))| (Number(*number), message.clone(), *is_released))
                .collect(),
            next: kept.next,
            taken: kept.taken.iter().copied().collect(),
            subscriptions: Vec::new(),
            resumes: kept.runs > 1,
        }
    }

    /// Does some of its work; what it answers.
    pub fn work(&self, rng: &mut Rng) -> Option<Result<u64, Arc<str>>> {
        let mut kept = self.0.lock().unwrap();
        if kept.may_fail && rng.chance(0.01) {
            kept.fails = !kept.fails;
            if kept.fails {
                return Some(Err("it fails".into()));
            }
        }
        if kept.fails || kept.waiting.is_empty() || rng.chance(0.5) {
            return None;
        }
        let count = 1 + rng.below(kept.waiting.len());
        kept.apply_some(count);
        Some(Ok(kept.done))
    }

    /// It fails no more until something is published.
    pub fn heal(&self) {
        let mut kept = self.0.lock().unwrap();
        (kept.may_fail, kept.fails) = (false, false);
    }
}

impl StoreLink for Ledger {
    fn post(&self, change: StoreChange) -> u64 {
        let mut kept = self.0.lock().unwrap();
        kept.waiting.push(change);
        kept.done + kept.waiting.len() as u64
    }
}
