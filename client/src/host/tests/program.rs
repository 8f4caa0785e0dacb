//! The program's side, as the tests play it: targets, a watcher and a store that write down what they get.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ringmq_codec::matches;

use crate::link::{
    Outcome, Overflow, Request, Router, SessionShared, StoreChange, StoreLink, Target, Watcher,
};
use crate::message::Received;
use crate::slot::Slot;
use crate::status::Happening;

/// What happened to a session, in order.
#[derive(Debug, Default)]
pub(in crate::host) struct Diary(pub Mutex<Vec<String>>);

impl Diary {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Watcher for Diary {
    fn happened(&self, _session: &Arc<SessionShared>, happening: Happening) {
        let line = match happening {
            Happening::Connecting { address } => format!("connecting {address}"),
            Happening::Connected { address, session_present } => {
                format!("connected {address}{}", if session_present { " present" } else { "" })
            }
            Happening::Ready => "ready".into(),
            Happening::Lost { why, retry } => match retry {
                Some(retry) => format!("lost: {why}; try {} in {} ms", retry.attempt, retry.delay_ms),
                None => format!("lost: {why}; given up"),
            },
            Happening::Disconnected => "disconnected".into(),
            Happening::Removed => "removed".into(),
        };
        self.0.lock().unwrap().push(line);
    }

    fn needs_credentials(&self, _session: &Arc<SessionShared>) {
        self.0.lock().unwrap().push("needs credentials".into());
    }

    fn store_failed(&self, _session: &Arc<SessionShared>, why: &str) {
        self.0.lock().unwrap().push(format!("store failed: {why}"));
    }
}

/// A target that keeps what it is given until it is taken.
#[derive(Debug)]
pub(in crate::host) struct Inbox {
    pub filter: String,
    pub overflow: Overflow,
    pub acknowledges: bool,
    pub capacity: usize,
    pub messages: Mutex<Vec<Received>>,
    pub waiting: Mutex<Vec<Arc<SessionShared>>>,
}

impl Inbox {
    pub fn new(filter: &str, overflow: Overflow, capacity: usize) -> Self {
        Self {
            filter: filter.into(),
            overflow,
            acknowledges: false,
            capacity,
            messages: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Takes the oldest message.
    pub fn take(&self) -> Option<Received> {
        let mut messages = self.messages.lock().unwrap();
        if messages.is_empty() {
            return None;
        }
        let mut received = messages.remove(0);
        drop(messages);
        received.taken();
        for session in self.waiting.lock().unwrap().drain(..) {
            session.mailbox.post(Request::RoomAgain(session.id));
        }
        Some(received)
    }
}

impl Target for Inbox {
    fn overflow(&self) -> Overflow {
        self.overflow
    }

    fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.messages.lock().unwrap().len())
    }

    fn put(&self, messages: &mut Vec<Received>) {
        let mut kept = self.messages.lock().unwrap();
        for message in messages.drain(..) {
            let is_full = kept.len() >= self.capacity;
            match self.overflow {
                Overflow::Withhold if is_full && message.ack.is_none() => {}
                Overflow::DropNewest if is_full => {}
                Overflow::DropOldest if is_full => {
                    kept.remove(0);
                    kept.push(message);
                }
                Overflow::Withhold | Overflow::Pause | Overflow::DropNewest | Overflow::DropOldest => {
                    kept.push(message);
                }
            }
        }
    }

    fn wait_for_room(&self, session: &Arc<SessionShared>) -> bool {
        if self.room() > 0 {
            return false;
        }
        self.waiting.lock().unwrap().push(session.clone());
        true
    }
}

/// The routes of a test.
#[derive(Debug, Default)]
pub(in crate::host) struct Inboxes {
    pub inboxes: Mutex<Vec<Arc<Inbox>>>,
    version: AtomicU64,
}

impl Inboxes {
    pub fn add(&self, inbox: Inbox) -> Arc<Inbox> {
        let inbox = Arc::new(inbox);
        self.inboxes.lock().unwrap().push(inbox.clone());
        self.version.fetch_add(1, Ordering::Relaxed);
        inbox
    }
}

impl Router for Inboxes {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn targets(&self, topic: &str) -> Vec<Arc<dyn Target>> {
        let inboxes = self.inboxes.lock().unwrap();
        let matching = inboxes.iter().filter(|inbox| matches(&inbox.filter, topic));
        matching.map(|inbox| inbox.clone() as Arc<dyn Target>).collect()
    }
}

/// A store that writes down what it is told, and answers when the test says so.
#[derive(Debug, Default)]
pub(in crate::host) struct Tape(Mutex<(u64, Vec<StoreChange>)>);

impl Tape {
    pub fn take(&self) -> Vec<StoreChange> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.0.lock().unwrap().0
    }
}

impl StoreLink for Tape {
    fn post(&self, change: StoreChange) -> u64 {
        let mut tape = self.0.lock().unwrap();
        tape.0 += 1;
        tape.1.push(change);
        tape.0
    }
}

/// An outcome in a word.
pub(in crate::host) fn outcome_line(slot: &Slot<Outcome>) -> Option<String> {
    Some(match slot.get()? {
        Ok(reason) => format!("{reason}"),
        Err(error) => format!("{error}"),
    })
}
