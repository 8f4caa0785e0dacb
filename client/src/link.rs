//! What the program's handles and the I/O threads share.
//!
//! Requests go to an I/O thread through its [`Mailbox`]; messages to publish through the session's
//! [`Outgoing`], so that a thousand of them are one request. Answers settle [`Slot`]s, messages go to the
//! [`Target`]s that the session's [`Router`] names, and what happens to a session is told to its [`Watcher`].
//! None of these may block or run the program's code: an I/O thread calls them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ringmq_codec::{PacketId, QoS, ReasonCode};
use ringmq_turn::PeerId;

use crate::auth::{AuthError, Credentials};
use crate::error::Error;
use crate::message::{Message, Received};
use crate::options::SessionOptions;
use crate::slot::Slot;
use crate::status::Happening;
pub(crate) use crate::store::{Number, PUBLICATION_IDS, Restored, StoreChange, Wanted};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What our locks guard is whole after each statement, so a panic of a holder spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an answer is given: the other end of a [`Slot`] that is waited for. Dropped without an answer, wherever
/// that happens, it says that the session is gone, so that nobody waits for ever.
#[derive(Debug)]
pub struct Answer(Option<Arc<Slot<Outcome>>>);

impl Answer {
    /// Both ends.
    pub(crate) fn new() -> (Self, Arc<Slot<Outcome>>) {
        let slot = Arc::new(Slot::default());
        (Self(Some(Arc::clone(&slot))), slot)
    }

    /// Gives the answer.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(slot) = self.0.take() {
            slot.settle(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.settle(Err(Error::Gone));
        }
    }
}

/// A session, numbered by its manager; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub u32);

/// What becomes of a publication: the broker's reason code once it is acknowledged (Success at QoS 0 once it
/// was written), or why it failed.
pub type Outcome = Result<ReasonCode, Error>;

/// Who is told what becomes of a publication; absent where nobody asked.
pub type Delivery = Option<Answer>;

/// A message on its way to the broker.
#[derive(Debug)]
pub struct Publication<T = Delivery> {
    /// What is published.
    pub message: Message,
    /// Present at QoS 1 and 2.
    pub number: Option<Number>,
    /// When its Message Expiry Interval began, on the driver's monotonic clock; 0: when the core takes it.
    pub since_ms: u64,
    /// Told what becomes of it.
    pub delivery: T,
}

/// What an I/O thread is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run a session; it connects at once.
    Add(Arc<SessionShared>, Box<Begin>),
    /// End a session: DISCONNECT, then [`Happening::Removed`].
    Remove(SessionId),
    /// Its [`Outgoing`] has publications.
    Publications(SessionId),
    /// Have this subscription from now on, and after every reconnect; the answer is SUBACK's reason code. While
    /// there is no connection it waits for the next.
    Subscribe(SessionId, Wanted, Answer),
    /// Have it no longer. Without a connection the answer is Success at once.
    Unsubscribe(SessionId, Arc<str>, Answer),
    /// A received message is dealt with.
    Acknowledge(SessionId, Acknowledgement),
    /// A [`Target`] that was full has room: read on.
    RoomAgain(SessionId),
    /// Connect now, whatever the backoff says; also after [`Request::Disconnect`].
    Connect(SessionId),
    /// Disconnect and stay so.
    Disconnect(SessionId),
    /// End the connection (with a DISCONNECT) and open a new one, since certificates changed say.
    Reconnect(SessionId),
    /// Authenticate anew on the open connection (MQTT 5 section 4.12.1).
    Reauthenticate(SessionId, Answer),
    /// What [`Watcher::needs_credentials`] asked for.
    Credentials(SessionId, Result<Credentials, AuthError>),
    /// The store has all changes up to this one, or failed.
    Stored(SessionId, Result<u64, Arc<str>>),
}

/// Which received message an acknowledgement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The session's connection that it came over, counted from 1. Another one knows nothing of it.
    pub connection: u32,
    /// The message's.
    pub packet_id: PacketId,
}

/// What a session starts with.
#[derive(Debug, Default)]
pub(crate) struct Begin {
    /// One for each address of the options, registered with the runtime.
    pub peers: Arc<[PeerId]>,
    /// What its store kept.
    pub restored: Restored,
    /// It is not to connect before [`Request::Connect`].
    pub is_paused: bool,
}

/// A session's store, as both sides reach it. Changes are carried out in order on another thread, which answers
/// with [`Request::Stored`]; after a failure it tries again by itself.
pub(crate) trait StoreLink: Send + Sync + fmt::Debug {
    /// For the core: hands over a change; its number, counted from 1. Takes no time.
    fn post(&self, change: StoreChange) -> u64;

    /// Puts a QoS 1 or 2 publication into the store and then queues it. May wait for the store, not for room.
    fn publish(&self, session: &Arc<SessionShared>, publication: Publication) -> Result<(), Error> {
        session.publish(publication).map_err(|(_, error)| error)
    }

    /// The same without waiting: the slot is told when it is stored and queued.
    fn publish_later(
        &self,
        session: &Arc<SessionShared>,
        publication: Publication,
        done: Arc<Slot<Result<(), Error>>>,
    ) {
        done.settle(self.publish(session, publication));
    }

    /// The session is gone: what was posted is carried out, then its name is free for another. May wait for the
    /// store.
    fn close(&self) {}

    /// Forgets all that is kept of the session, which is gone; in place of [`StoreLink::close`].
    fn erase(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<Request>,
    is_closed: bool,
}

/// Where requests for one I/O thread wait.
pub(crate) struct Mailbox {
    requests: Mutex<Requests>,
    /// Has the core look into it. Called when the first request comes.
    ring: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("requests", &lock(&self.requests).waiting.len()).finish()
    }
}

impl Mailbox {
    pub fn new(ring: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { requests: Mutex::default(), ring }
    }

    /// Leaves a request; after [`Mailbox::close`] it is dropped.
    pub fn post(&self, request: Request) {
        let mut requests = lock(&self.requests);
        if requests.is_closed {
            drop(requests);
            // Outside the lock: the drop answers who waits.
            drop(request);
            return;
        }
        requests.waiting.push(request);
        let is_first = requests.waiting.len() == 1;
        drop(requests);
        if is_first {
            (self.ring)();
        }
    }

    /// The I/O thread has ended: nothing is taken any more.
    pub fn close(&self) {
        let mut requests = lock(&self.requests);
        requests.is_closed = true;
        let dropped = std::mem::take(&mut requests.waiting);
        drop(requests);
        drop(dropped);
    }

    /// For the core: swaps what waits with `empty`.
    pub fn take(&self, empty: &mut Vec<Request>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut lock(&self.requests).waiting, empty);
    }
}

/// Publications that wait for the core, and the count of those that the session holds.
#[derive(Debug, Default)]
struct Queue {
    publications: Vec<Publication>,
    /// Accepted, and not yet written (QoS 0) or sent for the first time (QoS 1 and 2).
    held: usize,
    next: u64,
    is_connected: bool,
    is_gone: bool,
    /// The core knows that there is something.
    is_listed: bool,
    /// Threads that wait for room.
    waiting: u32,
    /// Tasks that do, and the key of the next.
    wakers: Vec<(u64, Waker)>,
    next_waker: u64,
}

/// The way of a session's publications to its core.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    room: Condvar,
}

/// Everything of a session that both sides know.
pub(crate) struct SessionShared {
    pub id: SessionId,
    pub options: Arc<SessionOptions>,
    pub mailbox: Arc<Mailbox>,
    pub outgoing: Outgoing,
    pub router: Arc<dyn Router>,
    pub watcher: Arc<dyn Watcher>,
    pub store: Option<Arc<dyn StoreLink>>,
    pub metrics: SessionMetrics,
    /// Largest packet that the broker accepts, as its last CONNACK said; set by the core.
    pub broker_packet_bytes_max: AtomicU32,
    /// Response Information of the last CONNACK that had some: what topics for answers begin with (MQTT 5 section
    /// 4.10). Set by the core.
    pub response_information: Mutex<Option<Arc<str>>>,
}

impl fmt::Debug for SessionShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionShared").field("id", &self.id).field("name", &self.options.name).finish()
    }
}

/// The program's side.
impl SessionShared {
    fn room(&self, queue: &Queue) -> usize {
        let options = &self.options;
        let max = if queue.is_connected { options.queue_messages_max } else { options.offline_messages_max };
        max.saturating_sub(queue.held)
    }

    /// Numbers go on from here: from what was restored, before anything is published.
    pub fn set_next_number(&self, next: u64) {
        lock(&self.outgoing.queue).next = next;
    }

    /// Queues a publication, or gives it back: there is no room, or the session is gone. One at QoS 1 or 2
    /// without a number gets the next.
    #[expect(clippy::result_large_err, reason = "the publication comes back, to be tried again")]
    pub fn publish(&self, mut publication: Publication) -> Result<(), (Publication, Error)> {
        let mut queue = lock(&self.outgoing.queue);
        if queue.is_gone {
            return Err((publication, Error::Gone));
        }
        if self.room(&queue) == 0 {
            let held = queue.held;
            return Err((publication, Error::Full { held }));
        }
        if publication.number.is_none() && publication.message.qos != QoS::AtMostOnce {
            publication.number = Some(Number(queue.next));
            queue.next += 1;
        }
        queue.held += 1;
        queue.publications.push(publication);
        let is_news = !std::mem::replace(&mut queue.is_listed, true);
        drop(queue);
        if is_news {
            self.mailbox.post(Request::Publications(self.id));
        }
        Ok(())
    }

    /// Counts a publication as held, which is to be put into the store first: [`SessionShared::queue_stored`] or
    /// [`SessionShared::release`] is to follow.
    pub fn reserve(&self) -> Result<(), Error> {
        let mut queue = lock(&self.outgoing.queue);
        if queue.is_gone {
            return Err(Error::Gone);
        }
        if self.room(&queue) == 0 {
            return Err(Error::Full { held: queue.held });
        }
        queue.held += 1;
        Ok(())
    }

    /// The number that the next QoS 1 or 2 publication is to get. It stays the same until one is queued.
    pub fn next_number(&self) -> Number {
        Number(lock(&self.outgoing.queue).next)
    }

    /// Queues publications for which room was reserved, numbered from [`SessionShared::next_number`] on.
    pub fn queue_stored(&self, publications: &mut Vec<Publication>) -> Result<(), Error> {
        let mut queue = lock(&self.outgoing.queue);
        if queue.is_gone {
            return Err(Error::Gone);
        }
        for publication in &*publications {
            assert_eq!(publication.number, Some(Number(queue.next)), "numbers follow each other");
            queue.next += 1;
        }
        queue.publications.append(publications);
        let is_news = !std::mem::replace(&mut queue.is_listed, true);
        drop(queue);
        if is_news {
            self.mailbox.post(Request::Publications(self.id));
        }
        Ok(())
    }

    /// Waits until there is room, or there is a connection no more to make some; whether there is room.
    pub fn wait_for_room(&self, deadline: Instant) -> bool {
        let mut queue = lock(&self.outgoing.queue);
        loop {
            if queue.is_gone || self.room(&queue) > 0 {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !queue.is_connected || left == Duration::ZERO {
                return false;
            }
            queue.waiting += 1;
            let (again, _) =
                self.outgoing.room.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            queue = again;
            queue.waiting -= 1;
        }
    }

    /// The same for a task, which keeps `key` between calls and gives it to [`SessionShared::forget_waiter`]
    /// at the end.
    pub fn poll_room(&self, key: &mut Option<u64>, context: &Context<'_>) -> Poll<bool> {
        let mut queue = lock(&self.outgoing.queue);
        let has_room = queue.is_gone || self.room(&queue) > 0;
        if has_room || !queue.is_connected {
            return Poll::Ready(has_room);
        }
        let key = *key.get_or_insert_with(|| {
            queue.next_waker += 1;
            queue.next_waker
        });
        queue.wakers.retain(|(other, _)| *other != key);
        queue.wakers.push((key, context.waker().clone()));
        Poll::Pending
    }

    /// A task waits no longer.
    pub fn forget_waiter(&self, key: Option<u64>) {
        if let Some(key) = key {
            lock(&self.outgoing.queue).wakers.retain(|(other, _)| *other != key);
        }
    }

    /// Its I/O thread has ended: what waits is dropped, and nothing more is accepted.
    pub fn abandon(&self) {
        self.set_gone();
        let dropped = std::mem::take(&mut lock(&self.outgoing.queue).publications);
        // Outside the lock: the drop answers who waits.
        drop(dropped);
    }

    /// How many messages wait to be sent.
    pub fn held(&self) -> usize {
        lock(&self.outgoing.queue).held
    }
}

/// The core's side.
impl SessionShared {
    /// Swaps the publications that wait with `empty`.
    pub fn take_publications(&self, empty: &mut Vec<Publication>) {
        debug_assert!(empty.is_empty());
        let mut queue = lock(&self.outgoing.queue);
        queue.is_listed = false;
        std::mem::swap(&mut queue.publications, empty);
    }

    /// The session is idle: gives memory back.
    pub fn shrink(&self) {
        let mut queue = lock(&self.outgoing.queue);
        if queue.publications.is_empty() {
            queue.publications = Vec::new();
        }
    }

    /// So many of the publications that were taken are written, sent for the first time, or failed. Once a turn
    /// and session: it wakes those who wait for room.
    pub fn release(&self, count: usize) {
        if count > 0 {
            self.change(|queue| queue.held -= count);
        }
    }

    /// The session has a connection, or has none any more.
    pub fn set_connected(&self, is_connected: bool) {
        self.change(|queue| queue.is_connected = is_connected);
    }

    /// The last Response Information.
    pub fn response_information(&self) -> Option<Arc<str>> {
        lock(&self.response_information).clone()
    }

    /// CONNACK came with Response Information.
    pub fn set_response_information(&self, information: &str) {
        let mut known = lock(&self.response_information);
        if known.as_deref() != Some(information) {
            *known = Some(information.into());
        }
    }

    /// No publication is accepted any more.
    pub fn set_gone(&self) {
        self.change(|queue| queue.is_gone = true);
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = lock(&self.outgoing.queue);
        change(&mut queue);
        let waiting = queue.waiting;
        let wakers = std::mem::take(&mut queue.wakers);
        drop(queue);
        if waiting > 0 {
            self.outgoing.room.notify_all();
        }
        // Outside the lock: a waker runs code of others.
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Counts of one session; only its core adds.
#[derive(Debug, Default)]
pub(crate) struct SessionMetrics {
    /// PUBLISH packets written, repetitions included, and their bytes.
    pub messages_sent: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub messages_received: AtomicU64,
    pub bytes_received: AtomicU64,
    /// Connections that failed or were lost, and publications and subscriptions that were refused.
    pub errors: AtomicU64,
    pub reconnects: AtomicU64,
    /// Wall clock, milliseconds since 1970; 0 for never.
    pub last_message_ms: AtomicU64,
    pub last_error_ms: AtomicU64,
    /// Subscriptions that the broker acknowledged.
    pub subscriptions: AtomicU32,
}

/// Names the targets of a session's messages.
pub(crate) trait Router: Send + Sync + fmt::Debug {
    /// Changes whenever an answer of [`Router::targets`] may; what it answered may be kept until then. Cheap: an
    /// atomic load.
    fn version(&self) -> u64;

    /// Where messages of this topic go; none: they are counted and dropped.
    fn targets(&self, topic: &str) -> Vec<Arc<dyn Target>>;
}

/// What becomes of messages that a [`Target`] has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// QoS 1 and 2 messages are kept, but not acknowledged before they were taken, so that the session's Receive
    /// Maximum slows the broker; QoS 0 messages are dropped and counted.
    #[default]
    Withhold,
    /// The new message is dropped and counted.
    DropNewest,
    /// The oldest message is dropped and counted, the new one takes its place.
    DropOldest,
    /// Nothing is dropped: the session's connection is not read until there is room, which holds up everything
    /// that the session would receive.
    Pause,
}

/// A route of the program's that takes messages.
pub(crate) trait Target: Send + Sync + fmt::Debug {
    /// The policy; fixed for its life.
    fn overflow(&self) -> Overflow;

    /// Whether it acknowledges messages itself, when they have arrived where it sends them. Then each of its QoS 1
    /// and 2 messages comes with a token that is not automatic, whatever [`Target::room`] and the session's
    /// `manual_acks` say.
    fn acknowledges(&self) -> bool {
        false
    }

    /// How many messages fit. The core holds back the acknowledgement (with a token) of those beyond under
    /// [`Overflow::Withhold`].
    fn room(&self) -> usize;

    /// Takes all of these, in order, or drops some by the policy; leaves the list empty. Once a turn.
    fn put(&self, messages: &mut Vec<Received>);

    /// Under [`Overflow::Pause`]: post [`Request::RoomAgain`] for this session when there is room again; false
    /// when there is already.
    fn wait_for_room(&self, session: &Arc<SessionShared>) -> bool;

    /// The program wants no more of it.
    fn stop(&self) {}

    /// Nothing will come any more: its session is gone, or the manager shut down.
    fn end(&self) {}
}

/// Hears what happens to sessions.
pub(crate) trait Watcher: Send + Sync + fmt::Debug {
    fn happened(&self, session: &Arc<SessionShared>, happening: Happening);

    /// A session with a [`crate::CredentialsProvider`] is about to connect: [`Request::Credentials`] is to follow.
    fn needs_credentials(&self, session: &Arc<SessionShared>);

    /// A session's store failed.
    fn store_failed(&self, session: &Arc<SessionShared>, why: &str);
}

/// An acknowledgement that is owed to the broker, by so many routes.
struct Owed {
    session: Arc<SessionShared>,
    acknowledgement: Acknowledgement,
    routes: AtomicU32,
}

/// One route's part of an acknowledgement.
pub(crate) struct AckToken {
    owed: Arc<Owed>,
    /// Acknowledged by being taken from the route, or dropped with it, not by the program.
    is_automatic: bool,
    is_used: AtomicBool,
}

impl fmt::Debug for AckToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.owed.acknowledgement, f)
    }
}

impl AckToken {
    /// One for each route; whether each is automatic.
    pub fn for_routes(
        session: &Arc<SessionShared>,
        acknowledgement: Acknowledgement,
        are_automatic: &[bool],
    ) -> impl Iterator<Item = Arc<Self>> + use<> {
        let routes = AtomicU32::new(are_automatic.len() as u32);
        let owed = Arc::new(Owed { session: Arc::clone(session), acknowledgement, routes });
        let are_automatic: Vec<bool> = are_automatic.to_vec();
        are_automatic.into_iter().map(move |is_automatic| {
            Arc::new(Self { owed: Arc::clone(&owed), is_automatic, is_used: AtomicBool::new(false) })
        })
    }

    /// Its route is done. Only the first time counts.
    pub fn used(&self) {
        if self.is_used.swap(true, Ordering::AcqRel) {
            return;
        }
        let Owed { session, acknowledgement, routes } = &*self.owed;
        if routes.fetch_sub(1, Ordering::AcqRel) == 1 {
            session.mailbox.post(Request::Acknowledge(session.id, *acknowledgement));
        }
    }

    pub fn is_automatic(&self) -> bool {
        self.is_automatic
    }
}

/// A message that is dropped with its route holds up no others.
impl Drop for AckToken {
    fn drop(&mut self) {
        if self.is_automatic {
            self.used();
        }
    }
}

impl Received {
    /// The message leaves its route for the program.
    pub(crate) fn taken(&mut self) {
        if self.ack.as_ref().is_some_and(|token| token.is_automatic()) {
            self.ack();
        }
    }
}
