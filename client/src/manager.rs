//! All sessions of a program, under their names.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::builder::{Plan, SessionBuilder};
use crate::delivery::Delivery;
use crate::dispatch::{Pool, Worker};
use crate::error::Error;
use crate::events::{Bus, Event, EventKind, Events};
use crate::far_ends::FarEnds;
use crate::gate::Gate;
use crate::hooks::Hooks;
use crate::inbox::Inbox;
use crate::link::{Begin, Mailbox, Outgoing, Request, SessionId, SessionMetrics, SessionShared, Target};
use crate::message::{Message, Received};
use crate::metrics::{Counts, Exporter, Exposition, ManagerMetrics, Meter, export_manager, export_session};
use crate::options::Commons;
use crate::routes::{HandlerTarget, Listener, ListenerTarget, Route, RouteOptions, Routes, Scope};
use crate::session::{Session, SessionInner, State};
use crate::status::Status;
use crate::store::Stores;
use crate::threads::Driver;
use crate::tls::Tls;

/// How often certificate files that are watched are looked at.
const WATCH: Duration = Duration::from_secs(5);
/// How long a manager that is dropped waits for its sessions to say goodbye.
const DROP_GRACE: Duration = Duration::from_secs(5);
/// How long a session with a store waits for the one of its name that was removed to let go of it.
const STORE_WAIT: Duration = Duration::from_secs(30);

/// How many sessions are where.
#[derive(Debug, Default)]
struct Tally {
    // Their changes may come in another order than they happened, so a count can be below 0 in between.
    sessions: isize,
    ready: isize,
    failed: isize,
    failure: Option<Arc<str>>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Sessions {
    by_name: HashMap<Arc<str>, Session>,
    /// Names that are being added.
    adding: HashSet<Arc<str>>,
    is_over: bool,
}

/// What all handles of a manager share.
pub(crate) struct Inner {
    pub driver: Arc<dyn Driver>,
    pub bus: Arc<Bus>,
    pub pool: Arc<Pool>,
    pub routes: Arc<Routes>,
    far_ends: FarEnds,
    stores: Stores,
    commons: Mutex<Commons>,
    sessions: RwLock<Sessions>,
    /// Removed, and not yet gone.
    leaving: Gate<HashMap<SessionId, Session>>,
    tally: Gate<Tally>,
    next_id: AtomicU32,
    exporters: Mutex<Vec<Weak<dyn Exporter>>>,
    /// What sessions that are gone had counted.
    retired: Mutex<Counts>,
    meter: Mutex<Meter>,
}

/// Ends everything when the last handle is dropped.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown(DROP_GRACE) {
            tracing::error!(%error, "stopped after a failure");
        }
    }
}

/// Runs any number of named sessions on I/O threads of its own. Clones are the same manager; when the last one is
/// dropped it shuts down.
///
/// Every method may be called from any thread, and from within handlers of messages and events. A handler that
/// keeps a clone keeps the manager alive until [`Manager::shutdown`]; one that keeps a [`WeakManager`] does not.
#[derive(Clone)]
pub struct Manager {
    inner: Arc<Inner>,
    owner: Arc<Owner>,
}

/// A [`Manager`] that does not keep it alive.
#[derive(Clone)]
pub struct WeakManager(Weak<Owner>);

impl WeakManager {
    /// The manager, while somebody has it.
    pub fn upgrade(&self) -> Option<Manager> {
        self.0.upgrade().map(|owner| Manager { inner: Arc::clone(&owner.0), owner })
    }
}

impl fmt::Debug for WeakManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakManager")
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("sessions", &self.inner.read().by_name.len()).finish()
    }
}

/// The life of a manager, and its sessions.
impl Manager {
    pub(crate) fn with_driver(driver: Arc<dyn Driver>, handler_threads_max: usize) -> Result<Self, Error> {
        let bus = Arc::new(Bus::default());
        let inner = Arc::new(Inner {
            routes: Arc::new(Routes::new(Arc::clone(&bus))),
            bus,
            pool: Pool::new(handler_threads_max),
            far_ends: FarEnds::new(Arc::clone(&driver)),
            driver,
            stores: Stores::default(),
            commons: Mutex::default(),
            sessions: RwLock::default(),
            leaving: Gate::new(HashMap::new()),
            tally: Gate::new(Tally::default()),
            next_id: AtomicU32::new(0),
            exporters: Mutex::default(),
            retired: Mutex::default(),
            meter: Mutex::new(Meter::new(Instant::now())),
        });
        let (driver, weak) = (Arc::clone(&inner.driver), Arc::downgrade(&inner));
        let watch = move || watch(&*driver, &weak);
        if let Err(error) = std::thread::Builder::new().name("ringmq-watch".to_owned()).spawn(watch) {
            // Nobody would hear of a failure.
            let _ = inner.driver.stop(Duration::ZERO);
            return Err(Error::Runtime(format!("a thread cannot start: {error}")));
        }
        Ok(Self { owner: Arc::new(Owner(Arc::clone(&inner))), inner })
    }

    /// One that does not keep the manager alive.
    pub fn weak(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.owner))
    }

    /// Adds a session, which connects at once; this does not wait for it. Without a broker that answers it is tried
    /// again and again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense, [`Error::NameTaken`], [`Error::Tls`] for certificate files
    /// and [`Error::Store`] for a store that cannot be used.
    pub fn add(&self, builder: SessionBuilder) -> Result<Session, Error> {
        self.inner.add(builder.plan()?)
    }

    /// Removes a session: it disconnects, and its routes end. What waits to be sent is given up, or stays in its
    /// store. The name is free at once.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.inner.remove(name)
    }

    /// Removes a session, and has its store forget it.
    pub fn erase(&self, name: &str) -> Result<(), Error> {
        self.session(name)?.0.is_erased.store(true, Ordering::SeqCst);
        self.inner.remove(name)
    }

    /// The session of this name.
    pub fn get(&self, name: &str) -> Option<Session> {
        self.inner.read().by_name.get(name).cloned()
    }

    fn session(&self, name: &str) -> Result<Session, Error> {
        self.get(name).ok_or_else(|| Error::NoSession(name.to_owned()))
    }

    /// All sessions, in the order of their names.
    pub fn list(&self) -> Vec<Session> {
        self.inner.list()
    }

    /// Where the session of this name is.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.get(name).map(|session| session.status())
    }

    /// Where all sessions are, in the order of their names.
    pub fn statuses(&self) -> Vec<(Arc<str>, Status)> {
        self.list().iter().map(|session| (Arc::clone(session.shared_name()), session.status())).collect()
    }

    /// As [`Session::wait`].
    pub fn wait(&self, name: &str, timeout: Duration) -> Result<(), Error> {
        self.session(name)?.wait(timeout)
    }

    /// Waits until every session is connected and has its subscriptions.
    ///
    /// # Errors
    /// [`Error::NotReady`] when time ran out; why a session was given up, as soon as one is.
    pub fn wait_all(&self, timeout: Duration) -> Result<(), Error> {
        match self.inner.tally.wait(timeout, Tally::verdict) {
            Some(verdict) => self.inner.judge(verdict),
            None => {
                let late = self.list().into_iter().find(|session| session.status() != Status::Ready);
                Err(late
                    .map_or(Error::NotReady { after: timeout, last: None }, |late| late.not_ready(timeout)))
            }
        }
    }

    /// As [`Session::ready`].
    pub async fn ready(&self, name: &str) -> Result<(), Error> {
        self.session(name)?.ready().await
    }

    /// The same as [`Manager::wait_all`] for a task of any runtime, whose timers it uses to give up.
    pub fn all_ready(&self) -> AllReady {
        AllReady { inner: Arc::clone(&self.inner), key: None }
    }

    /// Shuts down: sessions disconnect, handlers handle what came, and threads end, all within the grace. A handler
    /// that is not done by then is left to itself.
    ///
    /// # Errors
    /// [`Error::Runtime`]: an I/O thread had failed, or failed now.
    pub fn shutdown(&self, grace: Duration) -> Result<(), Error> {
        self.inner.shutdown(grace)
    }
}

/// Messages.
impl Manager {
    /// As [`Session::publish`].
    pub fn publish_to(&self, name: &str, message: Message) -> Result<Delivery, Error> {
        self.session(name)?.publish(message)
    }

    /// Publishes a message by every session, as [`Session::try_publish`] does: one without room holds up no other.
    pub fn publish_all(&self, message: Message) -> Vec<(Arc<str>, Result<Delivery, Error>)> {
        let publish =
            |session: Session| (Arc::clone(session.shared_name()), session.try_publish(message.clone()));
        self.list().into_iter().map(publish).collect()
    }

    /// Has a function called with each message of any session whose topic matches, in order, on a thread of the
    /// manager's pool. It counts for sessions that are added later too.
    pub fn handle(
        &self,
        filter: impl Into<RouteOptions>,
        handler: impl FnMut(Received) + Send + 'static,
    ) -> Result<Route, Error> {
        self.inner.handle((Scope::All, &Arc::from("")), filter.into(), Box::new(handler))
    }

    /// As [`Session::handle`].
    pub fn handle_to(
        &self,
        name: &str,
        filter: impl Into<RouteOptions>,
        handler: impl FnMut(Received) + Send + 'static,
    ) -> Result<Route, Error> {
        self.session(name)?.handle(filter, handler)
    }

    /// Has each message of any session whose topic matches wait for the program.
    pub fn listen(&self, filter: impl Into<RouteOptions>) -> Result<Listener, Error> {
        self.inner.listen(Scope::All, filter.into())
    }

    /// As [`Session::listen`].
    pub fn listen_to(&self, name: &str, filter: impl Into<RouteOptions>) -> Result<Listener, Error> {
        self.session(name)?.listen(filter)
    }
}

/// What happens, and what was counted.
impl Manager {
    /// What happens from now on, to read.
    pub fn events(&self) -> Events {
        self.inner.bus.subscribe()
    }

    /// Has a function called with each event from now on, in order, on a thread of the pool, as long as the manager
    /// lives.
    pub fn on_event(&self, handler: impl FnMut(Event) + Send + 'static) {
        self.inner.bus.handle(&self.inner.pool, Box::new(handler));
    }

    /// Counts over all sessions.
    pub fn metrics(&self) -> ManagerMetrics {
        self.inner.metrics(&self.list())
    }

    /// All counts in Prometheus's text format (`text/plain; version=0.0.4`).
    pub fn prometheus(&self) -> String {
        let mut out = Exposition::default();
        let sessions = self.list();
        export_manager(&mut out, &self.inner.metrics(&sessions));
        for session in &sessions {
            export_session(&mut out, &session.0.shared.options, &session.metrics());
        }
        for exporter in self.inner.exporters() {
            exporter.export(&mut out);
        }
        out.finish()
    }

    #[cfg(test)]
    pub(crate) fn routes(&self) -> &Arc<Routes> {
        &self.inner.routes
    }
}

impl Tally {
    fn verdict(&self) -> Option<Verdict> {
        match &self.failure {
            Some(failure) => Some(Verdict::Runtime(Arc::clone(failure))),
            None if self.is_over => Some(Verdict::Over),
            None if self.failed > 0 => Some(Verdict::SomeFailed),
            None => (self.ready == self.sessions).then_some(Verdict::Ready),
        }
    }

    fn count(&mut self, status: Status, by: isize) {
        match status {
            Status::Ready => self.ready += by,
            Status::Failed => self.failed += by,
            Status::Removed => self.sessions -= by,
            Status::Idle
            | Status::Connecting
            | Status::Connected
            | Status::Waiting
            | Status::Disconnected => {}
        }
    }
}

/// What there is to say to who waits for all sessions.
enum Verdict {
    Ready,
    SomeFailed,
    Over,
    Runtime(Arc<str>),
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, Sessions> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sessions> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Vec<Session> {
        let mut all: Vec<Session> = self.read().by_name.values().cloned().collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Why something is gone: the manager shut down, or an I/O thread failed.
    pub fn why_gone(&self) -> Error {
        let failure = self.tally.look(|tally| tally.failure.clone());
        match failure.map(|failure| failure.to_string()).or_else(|| self.driver.failure()) {
            Some(failure) => Error::Runtime(failure),
            None => Error::Gone,
        }
    }

    fn judge(&self, verdict: Verdict) -> Result<(), Error> {
        match verdict {
            Verdict::Ready => Ok(()),
            Verdict::Over => Err(Error::Gone),
            Verdict::Runtime(failure) => Err(Error::Runtime(failure.to_string())),
            Verdict::SomeFailed => {
                let failed = self.list().into_iter().find(|session| session.status() == Status::Failed);
                Err(failed.and_then(|session| session.last_error()).unwrap_or(Error::Gone))
            }
        }
    }

    fn add(self: &Arc<Self>, plan: Plan) -> Result<Session, Error> {
        let name = Arc::clone(&plan.options.name);
        if self.tally.look(|tally| tally.failure.is_some()) {
            return Err(self.why_gone());
        }
        {
            let mut sessions = self.write();
            if sessions.is_over {
                return Err(self.why_gone());
            }
            if sessions.by_name.contains_key(&name) || !sessions.adding.insert(Arc::clone(&name)) {
                return Err(Error::NameTaken(name.to_string()));
            }
        }
        // Without the lock: files are read, and a store asked.
        let made = self.make(plan);
        let mut sessions = self.write();
        sessions.adding.remove(&name);
        let (session, begin) = made?;
        if sessions.is_over {
            drop(sessions);
            self.let_go(&session);
            return Err(self.why_gone());
        }
        sessions.by_name.insert(name, session.clone());
        drop(sessions);
        self.tally.change(|tally| tally.sessions += 1);
        self.bus.tell(session.shared_name(), EventKind::Added);
        self.routes
            .add_session(session.shared(), Request::Add(Arc::clone(session.shared()), Box::new(begin)));
        Ok(session)
    }

    /// Makes a session, and what its core begins with.
    fn make(self: &Arc<Self>, plan: Plan) -> Result<(Session, Begin), Error> {
        let Plan { mut options, addresses, tls, sources, is_paused } = plan;
        self.commons.lock().unwrap_or_else(PoisonError::into_inner).share(&mut options);
        let id = SessionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let mailboxes = self.driver.mailboxes();
        let mailbox: Arc<Mailbox> = Arc::clone(&mailboxes[id.0 as usize % mailboxes.len()]);
        let mut begin = Begin { is_paused, ..Begin::default() };
        let mut lease = self.far_ends.lease(&addresses, &tls, &sources)?;
        begin.peers = Arc::clone(&lease.peers);
        let mut store = None;
        if let Some(kept) = &options.store {
            let opened = self
                .wait_for_store(&options.name)
                .and_then(|()| self.stores.open(kept, &options.name, id, Arc::clone(&mailbox)));
            match opened {
                Ok((link, restored)) => (store, begin.restored) = (Some(link), restored),
                Err(error) => {
                    self.far_ends.release(&mut lease);
                    return Err(error);
                }
            }
        }
        let next = begin.restored.next;
        let inner = Arc::new_cyclic(|weak| {
            let hooks = Arc::new(Hooks::new(id, weak.clone(), &self.routes));
            let shared = SessionShared {
                id,
                options: Arc::new(options),
                mailbox,
                outgoing: Outgoing::default(),
                router: Arc::clone(&hooks) as _,
                watcher: hooks,
                store,
                metrics: SessionMetrics::default(),
                broker_packet_bytes_max: AtomicU32::new(u32::MAX),
                response_information: Mutex::default(),
            };
            SessionInner {
                shared: Arc::new(shared),
                state: Gate::new(State::default()),
                manager: Arc::clone(self),
                tls: lease.tls.clone(),
                lease: Mutex::new(lease),
                is_erased: AtomicBool::new(false),
                is_finished: AtomicBool::new(false),
                added: Instant::now(),
                requester: OnceLock::new(),
                meter: Mutex::default(),
            }
        });
        inner.shared.set_next_number(next);
        Ok((Session(inner), begin))
    }

    /// Waits until no session that was removed holds the store's part of this name.
    fn wait_for_store(&self, name: &str) -> Result<(), Error> {
        let is_free = |leaving: &HashMap<SessionId, Session>| {
            let holds = |session: &Session| session.name() == name && session.0.shared.store.is_some();
            (!leaving.values().any(holds)).then_some(())
        };
        self.leaving.wait(STORE_WAIT, is_free).ok_or(Error::TimedOut(STORE_WAIT))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let session = self.write().by_name.remove(name);
        let session = session.ok_or_else(|| Error::NoSession(name.to_owned()))?;
        self.leaving.change(|leaving| leaving.insert(session.id(), session.clone()));
        session.0.shared.set_gone();
        self.set_status(&session, Status::Removed, None);
        self.routes.leave_session(session.id());
        session.0.shared.mailbox.post(Request::Remove(session.id()));
        Ok(())
    }

    /// A session that was removed is gone from its core. Not on an I/O thread.
    pub fn finish(&self, session: &Session) {
        if !session.0.is_finished.swap(true, Ordering::SeqCst) {
            self.let_go(session);
            self.bus.tell(session.shared_name(), EventKind::Removed);
        }
        self.leaving.change(|leaving| leaving.remove(&session.id()));
    }

    /// Gives back what a session uses.
    fn let_go(&self, session: &Session) {
        let shared = &session.0.shared;
        shared.abandon();
        self.routes.remove_session(session.id());
        self.far_ends.release(&mut session.0.lease.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(store) = &shared.store {
            if session.0.is_erased.load(Ordering::SeqCst) {
                if let Err(error) = store.erase() {
                    self.bus.tell(session.shared_name(), EventKind::StoreFailed { why: error.to_string() });
                }
            } else {
                store.close();
            }
        }
        let counts = Counts::read(&shared.metrics);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).add(&counts);
    }

    /// A session's status changes; tells of it.
    pub fn set_status(&self, session: &Session, to: Status, error: Option<Error>) {
        if let Some(from) = session.set_status(to, error) {
            self.tally.change(|tally| {
                tally.count(from, -1);
                tally.count(to, 1);
            });
            self.bus.tell(session.shared_name(), EventKind::StateChanged { from, to });
        }
    }

    /// Reads TLS files anew, and has those who use them connect anew.
    pub fn reload(&self, tls: &Arc<Tls>) -> Result<(), Error> {
        self.far_ends.reload(tls)?;
        for session in self.list() {
            if session.0.tls.as_ref().is_some_and(|own| Arc::ptr_eq(own, tls)) {
                session.0.shared.mailbox.post(Request::Reconnect(session.id()));
                self.bus.tell(session.shared_name(), EventKind::CertificatesReloaded);
            }
        }
        Ok(())
    }

    /// Looks after certificate files that are watched.
    fn watch_files(&self) {
        for tls in self.far_ends.changed() {
            if let Err(why) = self.reload(&tls) {
                for session in self.list() {
                    if session.0.tls.as_ref().is_some_and(|own| Arc::ptr_eq(own, &tls)) {
                        let why = why.clone();
                        self.bus.tell(session.shared_name(), EventKind::CertificatesRefused { why });
                    }
                }
            }
        }
    }

    pub fn handle(
        self: &Arc<Self>,
        (scope, session): (Scope, &Arc<str>),
        options: RouteOptions,
        call: Box<dyn FnMut(Received) + Send>,
    ) -> Result<Route, Error> {
        let (bus, session) = (Arc::downgrade(&self.bus), Arc::clone(session));
        let filter: Arc<str> = Arc::from(&*options.filter);
        let report = move |said: &str| {
            if let Some(bus) = bus.upgrade() {
                let (filter, message) = (Arc::clone(&filter), said.to_owned());
                bus.tell(&session, EventKind::HandlerPanicked { filter, message });
            }
        };
        let inbox = Inbox::new(options.capacity, options.overflow);
        let worker = Arc::new(Worker::new(inbox, &self.pool, call, Box::new(report)));
        let target = Arc::new(HandlerTarget(Arc::clone(&worker)));
        let id = self.add_route(scope, &options, target)?;
        Ok(Route::handler(&self.routes, id, (&options.filter, worker)))
    }

    pub fn listen(self: &Arc<Self>, scope: Scope, options: RouteOptions) -> Result<Listener, Error> {
        let target = Arc::new(ListenerTarget(Inbox::new(options.capacity, options.overflow)));
        let id = self.add_route(scope, &options, Arc::clone(&target) as _)?;
        Ok(Listener::new(&self.routes, id, (&options.filter, target)))
    }

    pub fn route(
        self: &Arc<Self>,
        scope: Scope,
        options: &RouteOptions,
        target: Arc<dyn Target>,
    ) -> Result<Route, Error> {
        let id = self.add_route(scope, options, target)?;
        Ok(Route::other(&self.routes, id, &options.filter))
    }

    fn add_route(
        &self,
        scope: Scope,
        options: &RouteOptions,
        target: Arc<dyn Target>,
    ) -> Result<crate::routes::RouteId, Error> {
        self.routes.add(scope, options, target).map_err(|error| match error {
            Error::Gone => self.why_gone(),
            error => error,
        })
    }

    pub fn add_exporter(&self, exporter: Weak<dyn Exporter>) {
        let mut exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone leave room, scraped or not.
        exporters.retain(|exporter| exporter.strong_count() > 0);
        exporters.push(exporter);
    }

    fn exporters(&self) -> Vec<Arc<dyn Exporter>> {
        let mut exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        exporters.retain(|exporter| exporter.strong_count() > 0);
        exporters.iter().filter_map(Weak::upgrade).collect()
    }

    fn metrics(&self, sessions: &[Session]) -> ManagerMetrics {
        let counts = *self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics = ManagerMetrics { counts, sessions: sessions.len(), ..ManagerMetrics::default() };
        for session in sessions {
            let counters = &session.0.shared.metrics;
            metrics.counts.add(&Counts::read(counters));
            metrics.subscriptions += u64::from(counters.subscriptions.load(Ordering::Relaxed));
            let status = session.status();
            metrics.connected += usize::from(status.is_connected());
            metrics.ready += usize::from(status == Status::Ready);
        }
        let counts = &metrics.counts;
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.rates = meter.look(Instant::now(), counts.messages(), counts.bytes());
        metrics
    }

    /// An I/O thread failed, and all have stopped: whoever waits for anything hears of it.
    fn fail(&self, failure: &str) {
        self.tally.change(|tally| tally.failure = Some(Arc::from(failure)));
        for session in self.list() {
            self.set_status(&session, Status::Failed, Some(Error::Runtime(failure.to_owned())));
            session.0.shared.abandon();
        }
        self.driver.mailboxes().iter().for_each(|mailbox| mailbox.close());
        let leaving = self.leaving.look(|leaving| leaving.values().cloned().collect::<Vec<_>>());
        leaving.iter().for_each(|session| self.finish(session));
        self.routes.end();
        self.bus.tell(&Arc::from(""), EventKind::RuntimeFailed { message: failure.to_owned() });
    }

    fn shutdown(&self, grace: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + grace;
        let mut sessions: Vec<Session> = {
            let mut sessions = self.write();
            if std::mem::replace(&mut sessions.is_over, true) {
                return Ok(());
            }
            sessions.by_name.drain().map(|(_, session)| session).collect()
        };
        let stopped = self.driver.stop(grace);
        self.driver.mailboxes().iter().for_each(|mailbox| mailbox.close());
        let leaving = self.leaving.change(std::mem::take);
        sessions.extend(leaving.into_values());
        for session in &sessions {
            self.set_status(session, Status::Removed, None);
            self.finish(session);
        }
        self.tally.change(|tally| tally.is_over = true);
        self.routes.end();
        let are_done = self.pool.wait_idle(deadline);
        self.bus.end();
        if !(self.pool.wait_idle(deadline) && are_done) {
            tracing::warn!("handlers are not done within the grace of the shutdown");
        }
        self.pool.close();
        stopped.map_err(Error::Runtime)
    }
}

/// Looks after the I/O threads and certificate files.
fn watch(driver: &dyn Driver, manager: &Weak<Inner>) {
    loop {
        let has_stopped = driver.wait_stop(WATCH);
        let Some(manager) = manager.upgrade() else { return };
        if has_stopped {
            if let Some(failure) = driver.failure() {
                manager.fail(&failure);
            }
            return;
        }
        manager.watch_files();
    }
}

/// Every session is ready, or one never will be; made by [`Manager::all_ready`].
#[must_use = "it waits when it is awaited"]
pub struct AllReady {
    inner: Arc<Inner>,
    key: Option<u64>,
}

impl Future for AllReady {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.inner.tally.poll(&mut this.key, context, Tally::verdict) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(verdict) => Poll::Ready(this.inner.judge(verdict)),
        }
    }
}

impl Drop for AllReady {
    fn drop(&mut self) {
        self.inner.tally.forget(self.key);
    }
}

impl fmt::Debug for AllReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllReady")
    }
}

#[cfg(test)]
mod tests;
