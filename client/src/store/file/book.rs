//! What is kept of all sessions, and the log that it is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hashbrown::HashMap;
use ringmq_codec::{PacketId, SubscriptionOptions, Version};
use ringmq_storage::{
    Directory, Log, LogError, LogFigures, LogOffset, MessageView, QueueNumber, QueuedAs, QueuedMessage,
    Record, RecoveredSession, SegmentId, SegmentLog, SessionRecord, SubscriptionIds,
};
use ringmq_turn::SyncRequest;

use super::compaction::Walk;
use crate::message::Message;
use crate::store::encoding::{Fields, expires_at_ms};
use crate::store::{Number, Restored, StoreChange, Wanted};

/// What a session, and each thing of it, takes in the log beside its own bytes, about.
const STATE_BYTES: usize = 64;
/// A session's name is as long as MQTT's strings at most, since the log has it as a client id.
pub(super) const NAME_BYTES_MAX: usize = 65_535;

/// A publication that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Whole.
    Queued(LogOffset, QueuedAs),
    /// PUBREC came.
    Received,
}

/// A session as it is kept.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: Box<str>,
    pub(super) publications: BTreeMap<Number, Entry>,
    pub(super) next: u64,
    pub(super) taken: BTreeSet<PacketId>,
    pub(super) subscriptions: Vec<Wanted>,
    /// The oldest segment in which something is said of it, its messages aside.
    pub(super) told_in: SegmentId,
    /// Bytes that it takes to tell it anew, its messages aside, about.
    pub(super) state_bytes: usize,
    pub(super) is_open: bool,
    /// It was open before.
    pub(super) resumes: bool,
}

/// All sessions, and their log.
pub(super) struct Book {
    pub(super) log: SegmentLog<Directory>,
    pub(super) sessions: BTreeMap<SessionRecord, Session>,
    by_name: HashMap<Box<str>, SessionRecord>,
    epoch: u32,
    made: u64,
    /// Of all sessions.
    pub(super) state_bytes: usize,
    pub(super) walk: Option<Walk>,
    /// Syncs that nobody carries out yet.
    pub(super) to_sync: Vec<SyncRequest>,
    pub(super) is_syncing: bool,
    pub(super) syncs_failed: u64,
    /// The log has use for another turn.
    pub(super) wants_turn: bool,
    pub(super) is_over: bool,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Session {
    fn new(name: Box<str>, told_in: SegmentId) -> Self {
        Self {
            state_bytes: STATE_BYTES + name.len(),
            name,
            publications: BTreeMap::new(),
            next: 0,
            taken: BTreeSet::new(),
            subscriptions: Vec::new(),
            told_in,
            is_open: false,
            resumes: false,
        }
    }

    fn recovered(found: RecoveredSession) -> Self {
        let entry = |message: Option<LogOffset>, queued_as| match message {
            Some(at) => Entry::Queued(at, queued_as),
            None => Entry::Received,
        };
        let publications =
            found.messages.iter().map(|one| (Number(one.number.0), entry(one.message, one.queued_as)));
        let subscriptions = found.subscriptions.iter().filter_map(|one| {
            // What we did not write is left out.
            let options = SubscriptionOptions::decode(Version::V5, one.options).ok()?;
            let subscription_id = one.subscription_id;
            Some(Wanted { filter: one.filter.as_ref().into(), options, subscription_id })
        });
        let subscriptions: Vec<Wanted> = subscriptions.collect();
        let told: usize = subscriptions.iter().map(subscription_bytes).sum();
        Self {
            state_bytes: STATE_BYTES + found.client_id.len() + told,
            publications: publications.collect(),
            next: found.next.0,
            taken: found.taken.iter().filter_map(|(id, _)| PacketId::new(*id)).collect(),
            subscriptions,
            resumes: true,
            ..Self::new(found.client_id, found.told_in)
        }
    }
}

impl Book {
    pub(super) fn new(log: SegmentLog<Directory>, epoch: u32, found: Vec<RecoveredSession>) -> Self {
        let mut book = Self {
            log,
            sessions: BTreeMap::new(),
            by_name: HashMap::new(),
            epoch,
            made: 0,
            state_bytes: 0,
            walk: None,
            to_sync: Vec::new(),
            is_syncing: false,
            syncs_failed: 0,
            wants_turn: true,
            is_over: false,
        };
        for session in found {
            let record = session.record;
            let session = Session::recovered(session);
            if let Some(older) = book.by_name.insert(session.name.clone(), record) {
                book.remove(older);
            }
            book.state_bytes += session.state_bytes;
            book.sessions.insert(record, session);
        }
        book.log.end_unit();
        book
    }

    pub(super) fn figures(&self) -> LogFigures {
        self.log.figures()
    }

    /// The session of a name, made if there is none.
    pub(super) fn find_or_make(&mut self, name: &str) -> SessionRecord {
        if let Some(record) = self.by_name.get(name) {
            return *record;
        }
        let record = SessionRecord::new(self.epoch, 0, self.made);
        self.made += 1;
        self.by_name.insert(Box::from(name), record);
        let session = Session::new(Box::from(name), self.log.head());
        self.state_bytes += session.state_bytes;
        self.sessions.insert(record, session);
        self.tell(record);
        record
    }

    /// Tells all of a session but its messages: what was told before is void.
    pub(super) fn tell(&mut self, record: SessionRecord) {
        let head = self.log.head();
        let Some(session) = self.sessions.get_mut(&record) else { return };
        session.told_in = head;
        self.log.append(Record::SessionBegins {
            session: record,
            client_id: &session.name,
            expiry_s: u32::MAX,
            closed_at_ms: 0,
            next: QueueNumber(session.next),
        });
        for wanted in &session.subscriptions {
            self.log.append(subscribed(record, wanted));
        }
        for id in &session.taken {
            self.log.append(Record::Taken { session: record, packet_id: id.get(), publication: None });
        }
        let received = session.publications.iter().filter(|(_, entry)| **entry == Entry::Received);
        for (number, _) in received {
            self.log.append(Record::Received { session: record, number: QueueNumber(number.0) });
        }
    }

    /// Ends a session, and all that it had.
    pub(super) fn remove(&mut self, record: SessionRecord) {
        self.log.append(Record::SessionEnded { session: record });
        let Some(session) = self.sessions.remove(&record) else { return };
        self.state_bytes -= session.state_bytes;
        for entry in session.publications.into_values() {
            self.release(entry);
        }
        if self.by_name.get(&session.name) == Some(&record) {
            self.by_name.remove(&session.name);
        }
    }

    fn release(&mut self, entry: Entry) {
        match entry {
            Entry::Queued(at, _) => self.log.release(at),
            Entry::Received => {}
        }
    }

    /// All that is kept of a session. None if a message is not what was written, which checksums rule out.
    pub(super) fn restored(&self, record: SessionRecord, now_ms: u64) -> Option<Restored> {
        let Some(session) = self.sessions.get(&record) else { return Some(Restored::default()) };
        let mut publications = Vec::with_capacity(session.publications.len());
        for (number, entry) in &session.publications {
            publications.push(match *entry {
                Entry::Queued(at, queued_as) => {
                    let view = self.log.message(at);
                    let fields = Fields {
                        topic: view.topic,
                        properties: view.properties,
                        payload: view.payload,
                        qos: queued_as.qos,
                        retain: queued_as.retain,
                        expires_at_ms: view.expires_at_ms,
                    };
                    (*number, fields.message(now_ms)?, false)
                }
                Entry::Received => (*number, Message::default(), true),
            });
        }
        Some(Restored {
            publications,
            next: session.next,
            taken: session.taken.iter().copied().collect(),
            subscriptions: session.subscriptions.clone(),
            resumes: session.resumes,
        })
    }

    /// Keeps publications, all or none. Their properties come as they are on the wire.
    pub(super) fn put(
        &mut self,
        record: SessionRecord,
        (publications, properties): (&[(Number, Message)], &[Vec<u8>]),
        now_ms: u64,
    ) -> Result<(), LogError> {
        debug_assert_eq!(publications.len(), properties.len());
        let mut kept = Vec::with_capacity(publications.len());
        for ((_, message), properties) in publications.iter().zip(properties) {
            let view = MessageView {
                topic: message.topic.as_bytes(),
                properties,
                payload: &message.payload,
                shared_payload: Some(&message.payload),
                qos: message.qos as u8,
                expires_at_ms: expires_at_ms(message, now_ms),
            };
            match self.log.keep(&view) {
                Ok(at) => kept.push(at),
                Err(full) => {
                    for at in kept {
                        self.log.release(at);
                    }
                    return Err(full);
                }
            }
        }
        for ((number, message), at) in publications.iter().zip(kept) {
            let queued_as = QueuedAs { qos: message.qos as u8, retain: message.retain };
            self.log.append(queued(record, *number, (at, queued_as)));
            let Some(session) = self.sessions.get_mut(&record) else { continue };
            session.next = session.next.max(number.0 + 1);
            if let Some(replaced) = session.publications.insert(*number, Entry::Queued(at, queued_as)) {
                self.release(replaced);
            }
        }
        Ok(())
    }

    /// Carries out a change, unless it was already.
    pub(super) fn carry_out(&mut self, record: SessionRecord, change: &StoreChange) {
        let Some(session) = self.sessions.get_mut(&record) else { return };
        match change {
            StoreChange::Completed(number) => {
                let Some(entry) = session.publications.remove(number) else { return };
                self.release(entry);
                let number = QueueNumber(number.0);
                self.log.append(Record::Completed { session: record, number, count: 1 });
            }
            StoreChange::Released(number) => {
                let Some(entry) = session.publications.get_mut(number) else { return };
                if *entry == Entry::Received {
                    return;
                }
                let whole = std::mem::replace(entry, Entry::Received);
                self.release(whole);
                self.log.append(Record::Received { session: record, number: QueueNumber(number.0) });
            }
            StoreChange::Taken(id) => {
                if session.taken.insert(*id) {
                    self.log.append(Record::Taken {
                        session: record,
                        packet_id: id.get(),
                        publication: None,
                    });
                }
            }
            StoreChange::Given(id) => {
                if session.taken.remove(id) {
                    self.log.append(Record::Released { session: record, packet_id: id.get() });
                }
            }
            StoreChange::Forgotten => {
                for id in std::mem::take(&mut session.taken) {
                    self.log.append(Record::Released { session: record, packet_id: id.get() });
                }
            }
            StoreChange::Subscribed(wanted) => {
                match session.subscriptions.iter_mut().find(|had| had.filter == wanted.filter) {
                    Some(had) if had == wanted => return,
                    Some(had) => had.clone_from(wanted),
                    None => {
                        session.subscriptions.push(wanted.clone());
                        session.state_bytes += subscription_bytes(wanted);
                        self.state_bytes += subscription_bytes(wanted);
                    }
                }
                self.log.append(subscribed(record, wanted));
            }
            StoreChange::Unsubscribed(filter) => {
                let place = session.subscriptions.iter().position(|had| had.filter == *filter);
                if let Some(place) = place {
                    let bytes = subscription_bytes(&session.subscriptions.remove(place));
                    session.state_bytes -= bytes;
                    self.state_bytes -= bytes;
                    self.log.append(Record::Unsubscribed { session: record, filter });
                }
            }
        }
    }

    /// The end of what belongs together: it is written, and the log tends its files.
    pub(super) fn turn_over(&mut self) {
        self.log.end_unit();
        let compacts = self.compact();
        self.log.turn_over();
        self.ask_for_syncs();
        self.wants_turn = compacts || self.log.wants_turn() || self.log.is_full();
    }

    pub(super) fn ask_for_syncs(&mut self) {
        while let Some(request) = self.log.sync() {
            self.to_sync.push(request);
        }
    }
}

fn subscription_bytes(wanted: &Wanted) -> usize {
    STATE_BYTES + wanted.filter.len()
}

fn subscribed(session: SessionRecord, wanted: &Wanted) -> Record<'_> {
    let options = wanted.options.encode(Version::V5);
    Record::Subscribed { session, filter: &wanted.filter, options, subscription_id: wanted.subscription_id }
}

/// A message's place in its session's queue.
pub(super) fn queued(
    session: SessionRecord,
    number: Number,
    (message, queued_as): (LogOffset, QueuedAs),
) -> Record<'static> {
    let number = QueueNumber(number.0);
    Record::Queued {
        session,
        queued: QueuedMessage { number, message, queued_as, ids: SubscriptionIds::NONE, group: None },
    }
}
