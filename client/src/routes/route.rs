//! Routes and listeners, as the program holds them.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use super::{RouteId, Routes};
use crate::dispatch::Worker;
use crate::error::Error;
use crate::inbox::{Inbox, RecvError};
use crate::link::{Overflow, SessionShared, Target};
use crate::message::Received;

/// A handler, as the core sees it.
#[derive(Debug)]
pub(crate) struct HandlerTarget(pub Arc<Worker<Received>>);

impl Target for HandlerTarget {
    fn overflow(&self) -> Overflow {
        self.0.inbox.overflow()
    }

    fn room(&self) -> usize {
        self.0.inbox.room()
    }

    fn put(&self, messages: &mut Vec<Received>) {
        self.0.put(messages);
    }

    fn wait_for_room(&self, session: &Arc<SessionShared>) -> bool {
        self.0.inbox.wait_for_room(Arc::clone(session))
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn end(&self) {
        self.0.end();
    }
}

/// A listener, as the core sees it.
#[derive(Debug)]
pub(crate) struct ListenerTarget(pub Inbox<Received>);

impl Target for ListenerTarget {
    fn overflow(&self) -> Overflow {
        self.0.overflow()
    }

    fn room(&self) -> usize {
        self.0.room()
    }

    fn put(&self, messages: &mut Vec<Received>) {
        self.0.put(messages);
    }

    fn wait_for_room(&self, session: &Arc<SessionShared>) -> bool {
        self.0.wait_for_room(Arc::clone(session))
    }

    fn stop(&self) {
        self.0.discard();
    }

    fn end(&self) {
        self.0.close();
    }
}

/// Where a route's messages go.
#[derive(Debug)]
enum Consumer {
    Handler(Arc<Worker<Received>>),
    Listener(Arc<ListenerTarget>),
    /// Something of this crate's that counts for itself.
    Other,
}

/// A route. Dropping it stops it; [`Route::detach`] lets it live as long as its session, or the manager.
#[must_use = "a route stops when it is dropped: keep it, or detach() it"]
pub struct Route {
    routes: Arc<Routes>,
    id: RouteId,
    filter: Arc<str>,
    consumer: Consumer,
    is_detached: bool,
}

impl Route {
    pub(crate) fn handler(
        routes: &Arc<Routes>,
        id: RouteId,
        (filter, worker): (&str, Arc<Worker<Received>>),
    ) -> Self {
        Self::new(routes, id, filter, Consumer::Handler(worker))
    }

    /// One whose target is none of this module's.
    pub(crate) fn other(routes: &Arc<Routes>, id: RouteId, filter: &str) -> Self {
        Self::new(routes, id, filter, Consumer::Other)
    }

    fn new(routes: &Arc<Routes>, id: RouteId, filter: &str, consumer: Consumer) -> Self {
        Self { routes: Arc::clone(routes), id, filter: Arc::from(filter), consumer, is_detached: false }
    }

    /// The topic filter.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Waits until the brokers of all its sessions have acknowledged the subscription: what is published there
    /// from then on comes.
    ///
    /// # Errors
    /// [`Error::Refused`] as soon as one of them refused, [`Error::TimedOut`] when one has not answered in time, since
    /// there is no connection to it perhaps.
    pub fn wait_subscribed(&self, timeout: Duration) -> Result<(), Error> {
        self.routes.wait_subscribed(self.id, timeout)
    }

    /// The same for a task of any runtime, which waits until there are answers or it is dropped.
    pub async fn subscribed(&self) -> Result<(), Error> {
        let mut waiting = Waiting { routes: &self.routes, key: None };
        poll_fn(|context| waiting.poll(self.id, context)).await
    }

    /// How many messages were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        match &self.consumer {
            Consumer::Handler(worker) => worker.inbox.dropped(),
            Consumer::Listener(target) => target.0.dropped(),
            Consumer::Other => 0,
        }
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        match &self.consumer {
            Consumer::Handler(worker) => worker.inbox.len(),
            Consumer::Listener(target) => target.0.len(),
            Consumer::Other => 0,
        }
    }

    /// How often its handler panicked.
    pub fn panics(&self) -> u64 {
        match &self.consumer {
            Consumer::Handler(worker) => worker.panics(),
            Consumer::Listener(_) | Consumer::Other => 0,
        }
    }

    /// Stops it: what waits is dropped, and unless others want it, the subscription ends. A handler that runs is not
    /// interrupted.
    pub fn stop(self) {}

    /// Stops it, and waits until the brokers have ended the subscription where it ends.
    pub fn stop_and_wait(mut self, timeout: Duration) -> Result<(), Error> {
        self.is_detached = true;
        let deadline = Instant::now().checked_add(timeout);
        let (slots, retired) = self.routes.retire(self.id);
        let outcome = slots.into_iter().try_for_each(|slot| {
            let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
            match slot.wait(left) {
                Some(Ok(_) | Err(Error::Gone)) => Ok(()),
                Some(Err(error)) => Err(error),
                None => Err(Error::TimedOut(timeout)),
            }
        });
        // Only now: what the brokers sent before they saw the UNSUBSCRIBE would find nobody.
        if let Some(retired) = retired {
            self.routes.forget(&retired);
        }
        outcome
    }

    /// Lets it live as long as its session, or the manager where it is over all sessions.
    pub fn detach(mut self) {
        self.is_detached = true;
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if !self.is_detached {
            self.routes.remove(self.id);
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// A task that waits for answers; leaves nothing behind.
struct Waiting<'a> {
    routes: &'a Routes,
    key: Option<u64>,
}

impl Waiting<'_> {
    fn poll(&mut self, id: RouteId, context: &Context<'_>) -> std::task::Poll<Result<(), Error>> {
        self.routes.poll_subscribed(id, &mut self.key, context)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.routes.forget_waiter(self.key);
    }
}

/// A route whose messages the program takes when it likes. Dropping it stops it.
#[must_use = "a listener stops when it is dropped"]
#[derive(Debug)]
pub struct Listener {
    route: Route,
    target: Arc<ListenerTarget>,
}

impl Listener {
    pub(crate) fn new(
        routes: &Arc<Routes>,
        id: RouteId,
        (filter, target): (&str, Arc<ListenerTarget>),
    ) -> Self {
        let route = Route::new(routes, id, filter, Consumer::Listener(Arc::clone(&target)));
        Self { route, target }
    }

    /// Waits for the next message up to `timeout`.
    pub fn recv(&self, timeout: Duration) -> Result<Received, RecvError> {
        self.target.0.recv(Some(timeout))
    }

    /// The next message, if it is there.
    pub fn try_recv(&self) -> Result<Received, RecvError> {
        self.target.0.recv(Some(Duration::ZERO))
    }

    /// The next message, for a task of any runtime; none once there can be none any more. At most one task may wait
    /// at a time.
    pub async fn recv_async(&self) -> Option<Received> {
        poll_fn(|context| self.target.0.poll(context)).await
    }

    /// Moves what there is into `messages`, up to `max`, waiting for one if there is none. Cheaper than one by one.
    pub fn recv_many(
        &self,
        messages: &mut Vec<Received>,
        max: usize,
        timeout: Duration,
    ) -> Result<usize, RecvError> {
        let first = self.recv(timeout)?;
        messages.push(first);
        let mut batch = std::collections::VecDeque::new();
        self.target.0.take(&mut batch, max.saturating_sub(1));
        let count = 1 + batch.len();
        messages.extend(batch.into_iter().map(|mut message| {
            message.taken();
            message
        }));
        Ok(count)
    }

    /// All messages until there can be none any more, waiting for each.
    pub fn iter(&self) -> Messages<'_> {
        Messages { listener: self }
    }

    /// The route that it is, to ask and to wait.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// As [`Route::wait_subscribed`].
    pub fn wait_subscribed(&self, timeout: Duration) -> Result<(), Error> {
        self.route.wait_subscribed(timeout)
    }

    /// How many messages were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.route.dropped()
    }

    /// Stops it.
    pub fn stop(self) {}
}

impl<'a> IntoIterator for &'a Listener {
    type Item = Received;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

/// The messages of a [`Listener`].
#[derive(Debug)]
pub struct Messages<'a> {
    listener: &'a Listener,
}

impl Iterator for Messages<'_> {
    type Item = Received;

    fn next(&mut self) -> Option<Received> {
        self.listener.target.0.recv(None).ok()
    }
}
