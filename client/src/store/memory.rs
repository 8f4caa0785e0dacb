//! A store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use ringmq_codec::PacketId;

use super::encoding::{expires_at_ms, left_s, wall_ms};
use super::{Number, Restored, SessionStore, Store, StoreChange, StoreError, Wanted};
use crate::message::Message;

/// What a [`Memory`] may hold, of all its sessions together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBounds {
    /// Messages. Default 100,000.
    pub messages_max: usize,
    /// Bytes of their topics, properties and payloads. Default 64 MiB.
    pub bytes_max: usize,
}

impl Default for MemoryBounds {
    fn default() -> Self {
        Self { messages_max: 100_000, bytes_max: 64 << 20 }
    }
}

/// A publication that is kept, and when its life ends; none once PUBREC came.
type Kept = Option<(Message, u64)>;

/// A session as it is kept.
#[derive(Debug, Default)]
struct Session {
    publications: BTreeMap<Number, Kept>,
    next: u64,
    taken: BTreeSet<PacketId>,
    subscriptions: Vec<Wanted>,
    is_open: bool,
    was_open: bool,
}

#[derive(Debug, Default)]
struct Sessions {
    by_name: HashMap<Box<str>, Session>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    bounds: MemoryBounds,
    sessions: Mutex<Sessions>,
}

/// A store that lives as long as the program holds it: a session that is removed and added again goes on where
/// it was.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryBounds::default())
    }
}

impl Memory {
    /// An empty store.
    pub fn new(bounds: MemoryBounds) -> Self {
        Self { shared: Arc::new(Shared { bounds, sessions: Mutex::default() }) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message is charged with.
fn charged_bytes(message: &Message) -> usize {
    let properties = message.properties.as_ref().map_or(0, |properties| {
        let user = properties.user.iter().map(|(name, value)| name.len() + value.len());
        properties.content_type.as_ref().map_or(0, String::len)
            + properties.response_topic.as_ref().map_or(0, |topic| topic.len())
            + properties.correlation_data.as_ref().map_or(0, |data| data.len())
            + user.sum::<usize>()
    });
    message.topic.len() + message.payload.len() + properties
}

const STORE: &str = "the store in memory";

impl Sessions {
    /// Accounts for a message that is not kept any more.
    fn forget(&mut self, kept: Kept) {
        if let Some((message, _)) = kept {
            self.messages -= 1;
            self.bytes -= charged_bytes(&message);
        }
    }

    fn carry_out(&mut self, name: &str, change: &StoreChange) {
        let Some(session) = self.by_name.get_mut(name) else { return };
        match change {
            StoreChange::Completed(number) => {
                let gone = session.publications.remove(number).flatten();
                self.forget(gone);
            }
            StoreChange::Released(number) => {
                let gone = session.publications.get_mut(number).and_then(Option::take);
                self.forget(gone);
            }
            StoreChange::Taken(id) => {
                session.taken.insert(*id);
            }
            StoreChange::Given(id) => {
                session.taken.remove(id);
            }
            StoreChange::Forgotten => session.taken.clear(),
            StoreChange::Subscribed(wanted) => {
                session.subscriptions.retain(|had| had.filter != wanted.filter);
                session.subscriptions.push(wanted.clone());
            }
            StoreChange::Unsubscribed(filter) => session.subscriptions.retain(|had| had.filter != *filter),
        }
    }
}

impl Store for Memory {
    fn open(&self, session: &str) -> Result<Box<dyn SessionStore>, StoreError> {
        let mut sessions = self.shared.lock();
        let kept = sessions.by_name.entry_ref(session).or_default();
        if std::mem::replace(&mut kept.is_open, true) {
            return Err(StoreError::InUse { store: STORE.to_owned(), session: session.to_owned() });
        }
        drop(sessions);
        Ok(Box::new(MemorySession { name: Box::from(session), shared: Arc::clone(&self.shared) }))
    }
}

#[derive(Debug)]
struct MemorySession {
    name: Box<str>,
    shared: Arc<Shared>,
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        if let Some(session) = self.shared.lock().by_name.get_mut(&self.name) {
            session.is_open = false;
        }
    }
}

impl SessionStore for MemorySession {
    fn restore(&self) -> Result<Restored, StoreError> {
        let mut sessions = self.shared.lock();
        let session = sessions.by_name.entry_ref(&*self.name).or_default();
        let now_ms = wall_ms();
        let one = |(number, kept): (&Number, &Kept)| match kept {
            Some((message, expires_at_ms)) => {
                let message_expiry_s = left_s(*expires_at_ms, now_ms);
                (*number, Message { message_expiry_s, ..message.clone() }, false)
            }
            None => (*number, Message::default(), true),
        };
        Ok(Restored {
            publications: session.publications.iter().map(one).collect(),
            next: session.next,
            taken: session.taken.iter().copied().collect(),
            subscriptions: session.subscriptions.clone(),
            resumes: std::mem::replace(&mut session.was_open, true),
        })
    }

    fn put(&self, publications: &[(Number, Message)]) -> Result<(), StoreError> {
        let MemoryBounds { messages_max, bytes_max } = self.shared.bounds;
        let bytes: usize = publications.iter().map(|(_, message)| charged_bytes(message)).sum();
        let now_ms = wall_ms();
        let mut sessions = self.shared.lock();
        let (more_messages, more_bytes) = (sessions.messages + publications.len(), sessions.bytes + bytes);
        if more_messages > messages_max || more_bytes > bytes_max {
            let holds = format!("{} messages of {} bytes", sessions.messages, sessions.bytes);
            return Err(StoreError::Full { store: STORE.to_owned(), holds });
        }
        for (number, message) in publications {
            let session = sessions.by_name.entry_ref(&*self.name).or_default();
            session.next = session.next.max(number.0 + 1);
            let replaced = session
                .publications
                .insert(*number, Some((message.clone(), expires_at_ms(message, now_ms))))
                .flatten();
            sessions.forget(replaced);
        }
        (sessions.messages, sessions.bytes) =
            (sessions.messages + publications.len(), sessions.bytes + bytes);
        Ok(())
    }

    fn apply(&self, changes: &[StoreChange]) -> Result<(), StoreError> {
        let mut sessions = self.shared.lock();
        for change in changes {
            sessions.carry_out(&self.name, change);
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), StoreError> {
        let mut sessions = self.shared.lock();
        if let Some(session) = sessions.by_name.remove(&self.name) {
            for kept in session.publications.into_values() {
                sessions.forget(kept);
            }
        }
        Ok(())
    }
}
