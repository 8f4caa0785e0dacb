//! What happens to sessions, as the program hears of it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use crate::dispatch::{Pool, Worker};
use crate::error::{ConnectError, Error};
use crate::inbox::{Inbox, Item, RecvError};
use crate::link::Overflow;
use crate::status::Status;

/// Events that wait for one subscriber. Beyond it the oldest are dropped and counted.
const EVENTS_MAX: usize = 16_384;

/// Something that happened to a session.
#[derive(Clone, Debug)]
pub struct Event {
    /// The session's name; empty for what concerns none.
    pub session: Arc<str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The session was added.
    Added,
    /// It was removed, and is gone.
    Removed,
    /// A connection is being opened.
    Connecting {
        /// The broker's address.
        address: Box<str>,
    },
    /// The broker accepted the connection.
    Connected {
        /// The broker's address.
        address: Box<str>,
        /// It still knew the session.
        session_present: bool,
    },
    /// Every subscription is made.
    Ready,
    /// The connection ended, or did not come about.
    Disconnected {
        /// Why; none when the program wanted it.
        why: Option<ConnectError>,
    },
    /// It is tried again.
    Reconnecting {
        /// For which time, since the last connection that worked.
        attempt: u32,
        /// How long from now.
        delay: Duration,
    },
    /// The session's status changed.
    StateChanged {
        /// What it was.
        from: Status,
        /// What it is.
        to: Status,
    },
    /// The broker refused a subscription; its routes get nothing.
    SubscribeFailed {
        /// The filter.
        filter: Arc<str>,
        /// What the broker said.
        why: Error,
    },
    /// The session's store failed.
    StoreFailed {
        /// What it said.
        why: String,
    },
    /// Changed certificate files are not used: something is wrong with them.
    CertificatesRefused {
        /// What.
        why: Error,
    },
    /// Changed certificate files are used from now on; the session connects anew.
    CertificatesReloaded,
    /// A handler of the program's panicked. It goes on with the next message.
    HandlerPanicked {
        /// Its filter; empty for a handler of events.
        filter: Arc<str>,
        /// What the panic said.
        message: String,
    },
    /// An I/O thread failed. Every session has.
    RuntimeFailed {
        /// What it said.
        message: String,
    },
}

impl Item for Event {
    type Waiter = ();

    fn dropped(self) {}

    fn is_kept(&self) -> bool {
        false
    }

    fn room_again((): ()) {}
}

#[derive(Clone, Debug)]
enum Subscriber {
    Queue(Weak<Inbox<Event>>),
    Handler(Arc<Worker<Event>>),
}

/// All who want to hear of events.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    subscribers: RwLock<Vec<Subscriber>>,
}

impl Bus {
    /// Tells everybody. Called by I/O threads too.
    pub fn tell(&self, session: &Arc<str>, kind: EventKind) {
        self.tell_those(session, kind, |_| true);
    }

    fn tell_those(&self, session: &Arc<str>, kind: EventKind, whom: fn(&Subscriber) -> bool) {
        let told: Vec<Subscriber> = {
            let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
            subscribers.iter().filter(|subscriber| whom(subscriber)).cloned().collect()
        };
        // Outside the lock: it wakes who reads events, which runs code of others.
        for subscriber in told {
            let event = Event { session: Arc::clone(session), kind: kind.clone() };
            match subscriber {
                Subscriber::Queue(inbox) => {
                    if let Some(inbox) = inbox.upgrade() {
                        inbox.put(&mut vec![event]);
                    }
                }
                Subscriber::Handler(worker) => worker.put(&mut vec![event]),
            }
        }
    }

    fn add(&self, subscriber: Subscriber) {
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| match subscriber {
            Subscriber::Queue(inbox) => inbox.strong_count() > 0,
            Subscriber::Handler(_) => true,
        });
        subscribers.push(subscriber);
    }

    pub fn subscribe(&self) -> Events {
        let inbox = Arc::new(Inbox::new(EVENTS_MAX, Overflow::DropOldest));
        self.add(Subscriber::Queue(Arc::downgrade(&inbox)));
        Events { inbox }
    }

    pub fn handle(self: &Arc<Self>, pool: &Arc<Pool>, call: Box<dyn FnMut(Event) + Send>) {
        let bus = Arc::downgrade(self);
        let report = move |said: &str| {
            if let Some(bus) = bus.upgrade() {
                let (filter, message) = (Arc::from(""), said.to_owned());
                // Not told to handlers: one that panics at each event would hear of that for ever.
                tracing::error!(message, "a handler of events panicked");
                let kind = EventKind::HandlerPanicked { filter, message };
                bus.tell_those(&Arc::from(""), kind, |whom| matches!(whom, Subscriber::Queue(_)));
            }
        };
        let inbox = Inbox::new(EVENTS_MAX, Overflow::DropOldest);
        self.add(Subscriber::Handler(Arc::new(Worker::new(inbox, pool, call, Box::new(report)))));
    }

    /// There are no more events. What was told can still be read, and is still handled.
    pub fn end(&self) {
        let subscribers =
            std::mem::take(&mut *self.subscribers.write().unwrap_or_else(PoisonError::into_inner));
        for subscriber in subscribers {
            match subscriber {
                Subscriber::Queue(inbox) => {
                    if let Some(inbox) = inbox.upgrade() {
                        inbox.close();
                    }
                }
                Subscriber::Handler(worker) => worker.end(),
            }
        }
    }
}

/// Events from when this was asked for, in the order in which they happened. Of 16,384 that wait the oldest is
/// dropped for the next.
pub struct Events {
    inbox: Arc<Inbox<Event>>,
}

impl Events {
    /// Waits for the next event.
    pub fn recv(&self, timeout: Duration) -> Result<Event, RecvError> {
        self.inbox.recv(Some(timeout))
    }

    /// The next event, if it is there.
    pub fn try_recv(&self) -> Result<Event, RecvError> {
        self.inbox.recv(Some(Duration::ZERO))
    }

    /// The next event, for a task of any runtime; none once the manager has shut down. At most one task may wait
    /// at a time.
    pub async fn recv_async(&self) -> Option<Event> {
        std::future::poll_fn(|context| self.inbox.poll(context)).await
    }

    /// How many were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Waits for the next event, until the manager has shut down.
    fn next(&mut self) -> Option<Event> {
        self.inbox.recv(None).ok()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.inbox.len()).finish()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.inbox.discard();
    }
}
