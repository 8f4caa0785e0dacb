//! A forwarder, as the program holds it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::builder::{ForwarderBuilder, Plan};
use super::intake::Intake;
use super::settings::{DropReason, FailReason, ForwarderStats};
use super::worker::{Outlet, Worker};
use crate::delivery::Delivery;
use crate::error::Error;
use crate::link::{Outcome, Target};
use crate::message::Message;
use crate::metrics::{Exporter, Exposition, Kind};
use crate::routes::Route;
use crate::session::{Returned, Session};

/// A target session.
pub(super) struct Onward(pub Session);

impl Outlet for Onward {
    type Pending = Delivery;

    fn is_open(&self) -> bool {
        self.0.status().is_connected()
    }

    fn send(&self, message: Message) -> Result<Delivery, Returned> {
        self.0.publish_or_return(message)
    }

    fn poll(&self, pending: &mut Delivery, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(pending).poll(context)
    }
}

enum Phase {
    /// With what was left under way.
    Stopped(Box<Worker<Onward>>),
    Running(JoinHandle<Box<Worker<Onward>>>, Vec<Route>),
    /// Its thread panicked, which is a fault of ours.
    Broken,
}

/// Carries messages from source sessions to target sessions.
///
/// A QoS 1 or 2 message is acknowledged to the source's broker when every target's broker has acknowledged it: what is
/// under way when the program dies comes again. While a target has no connection, messages wait in the buffer, and
/// what happens when it is full is the policy's to say.
///
/// Dropping it stops it at once; see [`Forwarder::stop`].
pub struct Forwarder {
    plan: Plan,
    shared: Arc<Shared>,
    phase: Mutex<Phase>,
}

/// What metrics see.
pub(super) struct Shared {
    pub name: Arc<str>,
    pub targets: Vec<Session>,
    pub intake: Arc<Intake>,
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Forwarder");
        debug.field("name", &self.shared.name).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Describes a forwarder of this name, which its metrics carry.
    pub fn builder(name: &str) -> ForwarderBuilder {
        ForwarderBuilder::new(name)
    }

    pub(super) fn new(plan: Plan) -> Self {
        let intake = Arc::new(Intake::new(plan.buffer_messages_max, plan.overflow));
        let outlets = plan.targets.iter().cloned().map(Onward).collect();
        let worker = Worker::new(Arc::new(plan.way.clone()), Arc::clone(&intake), outlets, plan.window);
        let shared = Arc::new(Shared { name: Arc::clone(&plan.name), targets: plan.targets.clone(), intake });
        plan.export(&shared);
        Self { plan, shared, phase: Mutex::new(Phase::Stopped(Box::new(worker))) }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Subscribes at the sources and begins, or begins again after [`Forwarder::stop`]; one that runs goes on. Does not
    /// wait for connections.
    pub fn start(&self) -> Result<(), Error> {
        let mut phase = self.lock();
        let mut worker = match std::mem::replace(&mut *phase, Phase::Broken) {
            Phase::Stopped(worker) => worker,
            Phase::Running(thread, routes) => {
                *phase = Phase::Running(thread, routes);
                return Ok(());
            }
            Phase::Broken => return Err(Error::Runtime("the forwarder's thread has failed".into())),
        };
        self.shared.intake.set_stop(None);
        let routes = match self.subscribe() {
            Ok(routes) => routes,
            Err(error) => {
                *phase = Phase::Stopped(worker);
                return Err(error);
            }
        };
        let name = format!("forward-{}", self.shared.name);
        let run = move || {
            worker.run();
            worker
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread =
            thread.map_err(|error| Error::Runtime(format!("no thread for the forwarder: {error}")))?;
        *phase = Phase::Running(thread, routes);
        Ok(())
    }

    fn subscribe(&self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for source in &self.plan.sources {
            for options in &source.routes {
                let target = Arc::clone(&self.shared.intake) as Arc<dyn Target>;
                routes.push(source.session.route(options, target)?);
            }
        }
        Ok(routes)
    }

    /// Waits until the sources' brokers have acknowledged the subscriptions: what is published there from then on is
    /// forwarded.
    pub fn wait_subscribed(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        match &*self.lock() {
            Phase::Running(_, routes) => routes.iter().try_for_each(|route| {
                let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
                route.wait_subscribed(left)
            }),
            Phase::Stopped(_) | Phase::Broken => Err(Error::Gone),
        }
    }

    /// Whether it was started and not stopped.
    pub fn is_running(&self) -> bool {
        match &*self.lock() {
            Phase::Running(thread, _) => !thread.is_finished(),
            Phase::Stopped(_) | Phase::Broken => false,
        }
    }

    /// Unsubscribes at the sources and waits up to `grace` until everything that was received has gone its way. What
    /// has not by then waits for the next [`Forwarder::start`]; a QoS 1 or 2 message among it is not acknowledged, so
    /// that the source's broker sends it again, should the program end before.
    pub fn stop(&self, grace: Duration) -> ForwarderStats {
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or(now);
        let mut phase = self.lock();
        match std::mem::replace(&mut *phase, Phase::Broken) {
            Phase::Running(thread, routes) => {
                for route in routes {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if let Err(error) = route.stop_and_wait(left) {
                        tracing::debug!(forwarder = &*self.shared.name, %error, "a source did not unsubscribe");
                    }
                }
                self.shared.intake.set_stop(Some(deadline));
                *phase = Self::end(thread);
            }
            stopped @ (Phase::Stopped(_) | Phase::Broken) => *phase = stopped,
        }
        drop(phase);
        self.stats()
    }

    /// Waits for the thread, unless it is the one that asks.
    fn end(thread: JoinHandle<Box<Worker<Onward>>>) -> Phase {
        if thread.thread().id() == std::thread::current().id() {
            return Phase::Broken;
        }
        match thread.join() {
            Ok(worker) => Phase::Stopped(worker),
            Err(_) => Phase::Broken,
        }
    }

    /// What became of the messages so far.
    pub fn stats(&self) -> ForwarderStats {
        self.shared.intake.stats()
    }

    /// Whether every target session has a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut *self.lock(), Phase::Broken);
        if let Phase::Running(thread, routes) = phase {
            drop(routes);
            self.shared.intake.set_stop(Some(Instant::now()));
            Self::end(thread);
        }
    }
}

impl Shared {
    pub fn is_connected(&self) -> bool {
        self.targets.iter().all(|target| target.status().is_connected())
    }
}

impl Plan {
    /// Has every manager export the forwarder's numbers.
    fn export(&self, shared: &Arc<Shared>) {
        let mut told: Vec<&Session> = Vec::new();
        for session in self.sources.iter().map(|source| &source.session).chain(&self.targets) {
            if !told.iter().any(|other| other.is_beside(session)) {
                let weak = Arc::downgrade(shared);
                session.add_exporter(weak);
                told.push(session);
            }
        }
    }
}

impl Exporter for Shared {
    fn export(&self, out: &mut Exposition) {
        const PREFIX: &str = "mqtt_forwarder_";
        let stats = self.intake.stats();
        let name = ("forwarder", &*self.name);
        let plain = [
            ("messages_received_total", "Messages from the sources", Kind::Counter, stats.received),
            ("messages_sent_total", "Messages that every target has", Kind::Counter, stats.sent),
            ("buffer", "Messages that wait in the buffer", Kind::Gauge, stats.buffered),
            ("in_flight", "Messages on their way to the targets", Kind::Gauge, stats.under_way),
            (
                "connected",
                "Whether every target has a connection",
                Kind::Gauge,
                u64::from(self.is_connected()),
            ),
        ];
        for (family, help, kind, value) in plain {
            out.sample((PREFIX, family, help, kind), &[name], value as f64);
        }
        for reason in DropReason::ALL {
            let family = (PREFIX, "messages_dropped_total", "Messages that were dropped", Kind::Counter);
            out.sample(family, &[name, ("reason", reason.label())], stats.dropped_for(*reason) as f64);
        }
        for reason in FailReason::ALL {
            let family = (PREFIX, "messages_failed_total", "Messages that failed", Kind::Counter);
            out.sample(family, &[name, ("reason", reason.label())], stats.failed_for(*reason) as f64);
        }
    }
}
