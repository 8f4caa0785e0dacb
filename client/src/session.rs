//! One session, as the program holds it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringmq_codec::{QoS, REMAINING_LENGTH_MAX, check_name};

use crate::delivery::Delivery;
use crate::error::{ConnectError, Error};
use crate::far_ends::Lease;
use crate::gate::Gate;
use crate::link::{Answer, Publication, Request, SessionId, SessionShared, Target};
use crate::manager::Inner;
use crate::message::{Message, Received};
use crate::metrics::{Counts, Exporter, Meter, Metrics, time};
use crate::request::Requester;
use crate::routes::{Listener, Route, RouteOptions, Scope};
use crate::slot::Slot;
use crate::status::Status;
use crate::tls::Tls;

/// A message that was not accepted, and why. Boxed: it is rare, and large.
pub(crate) type Returned = Box<(Message, Error)>;

/// Where a session is, and what last went wrong with it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub status: Status,
    pub last_error: Option<Box<Error>>,
}

impl State {
    /// Whether who waits for the session has waited enough: it is ready, or will never be.
    fn verdict(&self) -> Option<Result<(), Error>> {
        match self.status {
            Status::Ready => Some(Ok(())),
            Status::Failed => Some(Err(self.last_error.as_deref().cloned().unwrap_or(Error::Gone))),
            Status::Removed => Some(Err(Error::Gone)),
            Status::Idle
            | Status::Connecting
            | Status::Connected
            | Status::Waiting
            | Status::Disconnected => None,
        }
    }

    /// Why a connection is missing, as far as is known.
    fn connect_error(&self) -> Option<Box<ConnectError>> {
        match self.last_error.as_deref() {
            Some(Error::Connect(error)) => Some(Box::new(error.clone())),
            Some(_) | None => None,
        }
    }
}

/// What all handles of one session share.
pub(crate) struct SessionInner {
    pub shared: Arc<SessionShared>,
    pub state: Gate<State>,
    pub manager: Arc<Inner>,
    pub tls: Option<Arc<Tls>>,
    pub lease: Mutex<Lease>,
    /// Its store is to forget it.
    pub is_erased: AtomicBool,
    /// What it used is given back.
    pub is_finished: AtomicBool,
    pub added: Instant,
    /// Made at the first request.
    pub requester: OnceLock<Box<Requester>>,
    /// Made when somebody looks.
    pub meter: Mutex<Option<Box<Meter>>>,
}

/// A session of a [`crate::Manager`]; clones are the same one. It goes on without its handles, until it is removed.
///
/// Every method may be called from any thread, and from within handlers.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<SessionInner>);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.name()).field("status", &self.status()).finish()
    }
}

/// Where it is.
impl Session {
    pub(crate) fn id(&self) -> SessionId {
        self.0.shared.id
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.0.shared.options.name
    }

    pub(crate) fn shared(&self) -> &Arc<SessionShared> {
        &self.0.shared
    }

    /// The name that it was added under.
    pub fn name(&self) -> &str {
        self.shared_name()
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.0.state.look(|state| state.status)
    }

    /// What last went wrong with its connection, or the runtime.
    pub fn last_error(&self) -> Option<Error> {
        self.0.state.look(|state| state.last_error.as_deref().cloned())
    }

    /// How many messages wait to be sent.
    pub fn waiting(&self) -> usize {
        self.0.shared.held()
    }

    /// What was counted.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.0.shared.metrics;
        let counts = Counts::read(counters);
        let mut meter = self.0.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = meter.get_or_insert_with(|| Box::new(Meter::new(self.0.added)));
        Metrics {
            counts,
            rates: meter.look(Instant::now(), counts.messages(), counts.bytes()),
            status: self.status(),
            subscriptions: counters.subscriptions.load(Ordering::Relaxed),
            waiting: self.waiting(),
            last_message: time(counters.last_message_ms.load(Ordering::Relaxed)),
            last_error: time(counters.last_error_ms.load(Ordering::Relaxed)),
        }
    }

    /// Waits until the session is connected and all its subscriptions are made.
    ///
    /// # Errors
    /// [`Error::NotReady`] when time ran out, with what last went wrong; what it was given up for, as soon as it
    /// is; [`Error::Gone`] when it is removed.
    pub fn wait(&self, timeout: Duration) -> Result<(), Error> {
        match self.0.state.wait(timeout, State::verdict) {
            Some(verdict) => verdict.map_err(|error| self.explain(error)),
            None => Err(self.not_ready(timeout)),
        }
    }

    pub(crate) fn not_ready(&self, after: Duration) -> Error {
        Error::NotReady { after, last: self.0.state.look(State::connect_error) }
    }

    /// The same for a task of any runtime, whose timers it uses to give up: dropping it leaves nothing behind.
    pub fn ready(&self) -> SessionReady {
        SessionReady { session: self.clone(), key: None }
    }

    /// Why the session is gone.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match error {
            Error::Gone => self.0.manager.why_gone(),
            error => error,
        }
    }

    /// Changes the status; what it was, if it was another. One that was removed stays so.
    pub(crate) fn set_status(&self, to: Status, error: Option<Error>) -> Option<Status> {
        self.0.state.change(|state| {
            if state.status == Status::Removed {
                return None;
            }
            if let Some(error) = error {
                state.last_error = Some(Box::new(error));
            }
            let from = std::mem::replace(&mut state.status, to);
            (from != to).then_some(from)
        })
    }
}

/// What may be asked of it.
impl Session {
    fn post(&self, request: Request) {
        self.0.shared.mailbox.post(request);
    }

    /// Connects now, whatever the backoff says; also after [`Session::disconnect`], or after it was given up.
    pub fn connect(&self) {
        self.post(Request::Connect(self.id()));
    }

    /// Disconnects, and stays so until [`Session::connect`]. Messages that are published meanwhile wait.
    pub fn disconnect(&self) {
        self.post(Request::Disconnect(self.id()));
    }

    /// Authenticates anew on the open connection, by the method that the session was given (MQTT 5).
    pub fn reauthenticate(&self) -> Result<Delivery, Error> {
        if self.0.shared.options.authenticator.is_none() {
            return Err(Error::Invalid {
                what: "a reauthentication of session",
                given: self.name().to_owned(),
                remedy: "give its builder an authenticator()".to_owned(),
            });
        }
        let (answer, slot) = Answer::new();
        self.post(Request::Reauthenticate(self.id(), answer));
        Ok(Delivery::new(self, slot))
    }

    /// Reads the TLS files anew, and if they are good has all sessions with the same TLS options connect anew.
    ///
    /// # Errors
    /// [`Error::Tls`] says what is wrong with the files; all stays as it was then.
    pub fn reload_tls(&self) -> Result<(), Error> {
        let Some(tls) = &self.0.tls else {
            return Err(Error::Invalid {
                what: "a TLS reload of session",
                given: self.name().to_owned(),
                remedy: "it has no mqtts:// or wss:// address".to_owned(),
            });
        };
        self.0.manager.reload(tls)
    }

    /// Has a function called with each message of this session whose topic matches, in order, on a thread of the
    /// manager's pool.
    pub fn handle(
        &self,
        filter: impl Into<RouteOptions>,
        handler: impl FnMut(Received) + Send + 'static,
    ) -> Result<Route, Error> {
        let scope = Scope::Session(self.id());
        self.0.manager.handle((scope, self.shared_name()), filter.into(), Box::new(handler))
    }

    /// Has each message of this session whose topic matches wait for the program.
    pub fn listen(&self, filter: impl Into<RouteOptions>) -> Result<Listener, Error> {
        self.0.manager.listen(Scope::Session(self.id()), filter.into())
    }

    /// Has something else export its numbers with the manager's, as long as it lives.
    pub(crate) fn add_exporter(&self, exporter: Weak<dyn Exporter>) {
        self.0.manager.add_exporter(exporter);
    }

    /// Whether both are of one manager.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.manager, &other.0.manager)
    }

    /// Puts something of this crate's behind a filter.
    pub(crate) fn route(&self, options: &RouteOptions, target: Arc<dyn Target>) -> Result<Route, Error> {
        self.0.manager.route(Scope::Session(self.id()), options, target)
    }
}

/// Publishing.
impl Session {
    /// Publishes a message. Messages that are published by one thread keep their order. Waits for room up to the
    /// write timeout while there is a connection, and for the store where there is one.
    ///
    /// # Errors
    /// Nothing was accepted: [`Error::Full`], when there was no room in time, or offline at once;
    /// [`Error::TooLarge`]; [`Error::Invalid`] for the topic; [`Error::Store`]; [`Error::Gone`].
    pub fn publish(&self, message: Message) -> Result<Delivery, Error> {
        self.check(&message)?;
        let wait = |deadline| self.0.shared.wait_for_room(deadline);
        let deadline = Instant::now() + Duration::from_millis(self.0.shared.options.write_timeout_ms);
        if self.is_stored(&message) {
            return self.publish_stored(&message, || wait(deadline));
        }
        let (answer, slot) = Answer::new();
        self.queue(message, Some(answer), || wait(deadline))?;
        Ok(Delivery::new(self, slot))
    }

    /// Publishes a message, and does not care what becomes of it: cheaper than [`Session::publish`].
    pub fn send(&self, message: Message) -> Result<(), Error> {
        if self.is_stored(&message) {
            return self.publish(message).map(drop);
        }
        self.check(&message)?;
        let timeout = Duration::from_millis(self.0.shared.options.write_timeout_ms);
        self.queue(message, None, || self.0.shared.wait_for_room(Instant::now() + timeout))
    }

    /// Publishes a message if there is room for it, and never waits. With a store, the delivery tells whether it was
    /// stored.
    pub fn try_publish(&self, message: Message) -> Result<Delivery, Error> {
        self.check(&message)?;
        let (answer, slot) = Answer::new();
        let delivery = Delivery::new(self, slot);
        if let Some(store) = self.0.shared.store.as_ref().filter(|_| message.qos != QoS::AtMostOnce) {
            if !self.0.shared.wait_for_room(Instant::now()) {
                return Err(Error::Full { held: self.waiting() });
            }
            let done = Arc::new(Slot::default());
            store.publish_later(&self.0.shared, publication(message, Some(answer)), Arc::clone(&done));
            // What is known already is told at once.
            if let Some(Err(error)) = done.get() {
                return Err(self.explain(error));
            }
            return Ok(delivery.after_store(done));
        }
        self.queue(message, Some(answer), || false)?;
        Ok(delivery)
    }

    /// As [`Session::try_publish`], but that a message which is not accepted comes back.
    pub(crate) fn publish_or_return(&self, message: Message) -> Result<Delivery, Returned> {
        if let Err(error) = self.check(&message) {
            return Err(Box::new((message, error)));
        }
        let (answer, slot) = Answer::new();
        let delivery = Delivery::new(self, slot);
        if let Some(store) = self.0.shared.store.as_ref().filter(|_| message.qos != QoS::AtMostOnce) {
            if !self.0.shared.wait_for_room(Instant::now()) {
                return Err(Box::new((message, Error::Full { held: self.waiting() })));
            }
            let done = Arc::new(Slot::default());
            store.publish_later(&self.0.shared, publication(message, Some(answer)), Arc::clone(&done));
            return Ok(delivery.after_store(done));
        }
        match self.0.shared.publish(publication(message, Some(answer))) {
            Ok(()) => Ok(delivery),
            Err((publication, error)) => Err(Box::new((publication.message, self.explain(error)))),
        }
    }

    /// Publishes a message from a task of any runtime: as [`Session::publish`], but that it waits for room without
    /// holding up its thread, and until it is dropped.
    pub async fn publish_async(&self, message: Message) -> Result<Delivery, Error> {
        loop {
            match self.try_publish(message.clone()) {
                Err(Error::Full { held }) => {
                    if !self.room().await {
                        return Err(Error::Full { held });
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits for room, or for there being no connection to make some.
    async fn room(&self) -> bool {
        struct Waiting<'a>(&'a SessionShared, Option<u64>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.forget_waiter(self.1);
            }
        }
        let mut waiting = Waiting(&self.0.shared, None);
        poll_fn(|context| waiting.0.poll_room(&mut waiting.1, context)).await
    }

    fn is_stored(&self, message: &Message) -> bool {
        message.qos != QoS::AtMostOnce && self.0.shared.store.is_some()
    }

    fn publish_stored(&self, message: &Message, mut wait: impl FnMut() -> bool) -> Result<Delivery, Error> {
        let store = self.0.shared.store.as_ref().expect("it was just seen");
        loop {
            let (answer, slot) = Answer::new();
            match store.publish(&self.0.shared, publication(message.clone(), Some(answer))) {
                Ok(()) => return Ok(Delivery::new(self, slot)),
                Err(Error::Full { .. }) if wait() => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn queue(
        &self,
        message: Message,
        answer: Option<Answer>,
        mut wait: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let mut publication = publication(message, answer);
        loop {
            match self.0.shared.publish(publication) {
                Ok(()) => return Ok(()),
                Err((again, Error::Full { .. })) if wait() => publication = again,
                Err((_, error)) => return Err(self.explain(error)),
            }
        }
    }

    /// Looks for faults that the broker would end the connection for.
    fn check(&self, message: &Message) -> Result<(), Error> {
        if let Err(fault) = check_name(message.topic.as_bytes()) {
            return Err(Error::Invalid {
                what: "the topic",
                given: message.topic.to_string(),
                remedy: fault.to_string(),
            });
        }
        let shared = &self.0.shared;
        let theirs = shared.broker_packet_bytes_max.load(Ordering::Relaxed);
        let bytes_max = theirs.min(shared.options.packet_bytes_max).min(REMAINING_LENGTH_MAX) as usize;
        let bytes = message.packet_bytes(shared.options.version);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }
}

fn publication(message: Message, delivery: Option<Answer>) -> Publication {
    Publication { message, number: None, since_ms: 0, delivery }
}

/// The session is ready, or will never be; made by [`Session::ready`].
#[derive(Debug)]
#[must_use = "it waits when it is awaited"]
pub struct SessionReady {
    session: Session,
    key: Option<u64>,
}

impl Future for SessionReady {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let verdict = this.session.0.state.poll(&mut this.key, context, State::verdict);
        verdict.map_err(|error| this.session.explain(error))
    }
}

impl Drop for SessionReady {
    fn drop(&mut self) {
        self.session.0.state.forget(self.key);
    }
}
