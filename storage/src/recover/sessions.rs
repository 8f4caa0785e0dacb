//! What is known of sessions and retained messages while the log is read.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

use crate::recover::queue::{Entry, HasMore, Queue};
use crate::recover::valid::ValidMessages;
use crate::recover::views::Views;
use crate::recover::walk::Visit;
use crate::{
    LogOffset, PublicationRecord, QueueNumber, QueuedMessage, Record, SessionRecord, SubscriptionIds,
};

/// A session as far as the log was read. What is long is read again at the end, from where it was told.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) record: SessionRecord,
    /// The record that began it.
    pub(super) begun_at: Option<LogOffset>,
    pub(super) has_ended: bool,
    pub(super) expiry_s: u32,
    pub(super) closed_at_ms: Option<u64>,
    pub(super) next: QueueNumber,
    pub(super) will_at: Option<LogOffset>,
    pub(super) queue: Queue,
}

/// A subscription of a session that may have begun anew since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) session: u32,
    pub(super) told_at: LogOffset,
    hash: u64,
}

#[derive(Clone, Copy, Debug)]
struct RetainedMessage {
    hash: u64,
    at: LogOffset,
}

/// Takes in one record after the other.
pub(super) struct State<'v, 'a> {
    pub(super) views: &'v Views<'a>,
    hint: &'v dyn Fn(usize),
    pub(super) messages: ValidMessages,
    hasher: DefaultHashBuilder,
    by_record: HashMap<SessionRecord, u32>,
    pub(super) sessions: Vec<Session>,
    pub(super) subscriptions: HashTable<Subscription>,
    /// By session and packet id.
    pub(super) taken: HashMap<(u32, u16), (LogOffset, Option<PublicationRecord>)>,
    retained: HashTable<RetainedMessage>,
    /// Records of retained messages that are not in the log.
    pub(super) retained_lost: usize,
    pub(super) came: HashSet<PublicationRecord>,
}

impl<'v, 'a> State<'v, 'a> {
    /// `hint` is told the index of a segment that is read soon.
    pub(super) fn new(views: &'v Views<'a>, hint: &'v dyn Fn(usize)) -> Self {
        Self {
            views,
            hint,
            messages: ValidMessages::new(views),
            hasher: DefaultHashBuilder::default(),
            by_record: HashMap::new(),
            sessions: Vec::new(),
            subscriptions: HashTable::new(),
            taken: HashMap::new(),
            retained: HashTable::new(),
            retained_lost: 0,
            came: HashSet::new(),
        }
    }

    /// The retained messages, in the order of the log.
    pub(super) fn take_retained(&mut self) -> Vec<LogOffset> {
        let mut all: Vec<_> = std::mem::take(&mut self.retained).into_iter().map(|kept| kept.at).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn session(&self, record: SessionRecord) -> Option<&Session> {
        self.by_record.get(&record).map(|&index| &self.sessions[index as usize])
    }

    /// A session that lives or may turn out to: made at the first mention.
    #[inline]
    fn mention(&mut self, record: SessionRecord) -> Option<&mut Session> {
        let sessions = &mut self.sessions;
        let index = *self.by_record.entry(record).or_insert_with(|| {
            sessions.push(Session {
                record,
                begun_at: None,
                has_ended: false,
                expiry_s: 0,
                closed_at_ms: None,
                next: QueueNumber(0),
                will_at: None,
                queue: Queue::default(),
            });
            sessions.len() as u32 - 1
        });
        Some(&mut sessions[index as usize]).filter(|session| !session.has_ended)
    }

    /// A session that was told of.
    fn begun(&mut self, record: SessionRecord) -> Option<(u32, &mut Session)> {
        let index = *self.by_record.get(&record)?;
        let session = &mut self.sessions[index as usize];
        (session.begun_at.is_some() && !session.has_ended).then_some((index, session))
    }

    /// A session is told anew. Its subscriptions and packet ids of before are void since they were told
    /// before it began.
    fn begin(&mut self, at: LogOffset, record: SessionRecord) -> Option<&mut Session> {
        let session = self.mention(record)?;
        session.begun_at = Some(at);
        session.will_at = None;
        session.queue.forget_received();
        Some(session)
    }

    fn end(&mut self, record: SessionRecord) {
        if let Some(session) = self.mention(record) {
            session.has_ended = true;
            session.queue = Queue::default();
        }
    }

    fn subscribe(&mut self, at: LogOffset, record: SessionRecord, filter: &str) {
        let Some((session, _)) = self.begun(record) else { return };
        let hash = self.hasher.hash_one((session, filter));
        let told = Subscription { session, told_at: at, hash };
        match self.find_subscription(session, filter, hash) {
            Some(known) => *known = told,
            None => {
                self.subscriptions.insert_unique(hash, told, |known| known.hash);
            }
        }
    }

    fn unsubscribe(&mut self, record: SessionRecord, filter: &str) {
        let Some((session, _)) = self.begun(record) else { return };
        let (hash, views) = (self.hasher.hash_one((session, filter)), self.views);
        let found = self.subscriptions.find_entry(hash, |known| {
            known.session == session && known.hash == hash && filter_at(views, known.told_at) == filter
        });
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    fn find_subscription(&mut self, session: u32, filter: &str, hash: u64) -> Option<&mut Subscription> {
        let views = self.views;
        self.subscriptions.find_mut(hash, |known| {
            known.session == session && known.hash == hash && filter_at(views, known.told_at) == filter
        })
    }

    #[inline]
    fn enqueue(&mut self, at: LogOffset, record: SessionRecord, queued: &QueuedMessage<'_>) {
        let is_there = self.messages.is_valid(self.views, queued.message);
        let Some(session) = self.mention(record) else { return };
        let has_more = !matches!(queued.ids, SubscriptionIds::Encoded([])) || queued.group.is_some();
        let has_more = if has_more { HasMore::Yes } else { HasMore::No };
        let entry = Entry::queued(queued.number, queued.message, queued.queued_as).told(at, has_more);
        session.queue.put(if is_there { entry } else { entry.lost() });
        session.next = session.next.max(queued.number.plus(1));
    }

    fn retain(&mut self, message: LogOffset) {
        if !self.messages.is_valid(self.views, message) {
            // One that another message took the place of went with the segments that were compacted, and this
            // may lie behind those.
            let is_compacted = self.views.all().first().is_none_or(|first| message.segment() < first.id);
            self.retained_lost += usize::from(!is_compacted);
            return;
        }
        let views = self.views;
        let topic = views.message(message).topic;
        let hash = self.hasher.hash_one(topic);
        let kept = RetainedMessage { hash, at: message };
        let is_same = |known: &RetainedMessage| known.hash == hash && views.message(known.at).topic == topic;
        match self.retained.find_mut(hash, is_same) {
            Some(known) => *known = kept,
            None => {
                self.retained.insert_unique(hash, kept, |known| known.hash);
            }
        }
    }

    fn clear_retained(&mut self, topic: &[u8]) {
        let (hash, views) = (self.hasher.hash_one(topic), self.views);
        let found = self
            .retained
            .find_entry(hash, |known| known.hash == hash && views.message(known.at).topic == topic);
        if let Ok(entry) = found {
            entry.remove();
        }
    }
}

fn filter_at<'a>(views: &Views<'a>, at: LogOffset) -> &'a str {
    match views.record(at) {
        Record::Subscribed { filter, .. } => filter,
        other => unreachable!("no subscription lies at {at:?} but {other:?}"),
    }
}

impl<'a> Visit<'a> for State<'_, 'a> {
    fn segment(&mut self, index: usize) {
        (self.hint)(index);
    }

    #[inline]
    fn record(&mut self, at: LogOffset, _number: u64, record: Record<'a>) {
        match record {
            Record::Message(_) => self.messages.add(self.views, at),
            Record::Queued { session, queued } => self.enqueue(at, session, &queued),
            Record::Completed { session, number, count } => {
                if let Some(session) = self.mention(session) {
                    for index in 0..usize::from(count) {
                        session.queue.complete(number.plus(index));
                    }
                    session.next = session.next.max(number.plus(usize::from(count)));
                }
            }
            Record::Received { session, number } => {
                if let Some(session) = self.mention(session) {
                    session.queue.receive(number, at);
                    session.next = session.next.max(number.plus(1));
                }
            }
            Record::SessionBegins { session, expiry_s, closed_at_ms, next, .. } => {
                if let Some(session) = self.begin(at, session) {
                    session.expiry_s = expiry_s;
                    session.closed_at_ms = (closed_at_ms > 0).then_some(closed_at_ms);
                    session.next = session.next.max(next);
                }
            }
            Record::SessionResumed { session, expiry_s } => {
                if let Some((_, session)) = self.begun(session) {
                    (session.expiry_s, session.closed_at_ms, session.will_at) = (expiry_s, None, None);
                }
            }
            Record::SessionClosed { session, expiry_s, at_ms } => {
                if let Some((_, session)) = self.begun(session) {
                    (session.expiry_s, session.closed_at_ms) = (expiry_s, Some(at_ms));
                }
            }
            Record::SessionEnded { session } => self.end(session),
            Record::Will { session, .. } => {
                if let Some((_, session)) = self.begun(session) {
                    session.will_at = Some(at);
                }
            }
            Record::WillGone { session } => {
                if let Some((_, session)) = self.begun(session) {
                    session.will_at = None;
                }
            }
            Record::Subscribed { session, filter, .. } => self.subscribe(at, session, filter),
            Record::Unsubscribed { session, filter } => self.unsubscribe(session, filter),
            Record::Taken { session, packet_id, publication } => {
                if let Some((index, _)) = self.begun(session) {
                    self.taken.insert((index, packet_id), (at, publication));
                }
            }
            Record::Released { session, packet_id } => {
                if let Some((index, _)) = self.begun(session) {
                    self.taken.remove(&(index, packet_id));
                }
            }
            Record::Came { publication } => {
                self.came.insert(publication);
            }
            Record::Went { publication } => {
                self.came.remove(&publication);
            }
            Record::Retained { message } => self.retain(message),
            Record::RetainedCleared { topic } => self.clear_retained(topic.as_bytes()),
        }
    }
}
