//! Which messages go where in the program, and which subscriptions that takes.
//!
//! A subscription of a session lasts as long as any route wants it: the first makes it, one that asks for more
//! makes it anew, the last ends it. Routes over all sessions count for each of them, also for those that are added
//! later.

mod matcher;
mod options;
mod route;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use ringmq_codec::check_filter;

pub use self::options::RouteOptions;
pub(crate) use self::route::{HandlerTarget, ListenerTarget};
pub use self::route::{Listener, Messages, Route};

use self::matcher::{Leaf, Matcher};
use crate::error::Error;
use crate::events::{Bus, EventKind};
use crate::gate::Gate;
use crate::link::{Answer, Outcome, Request, Router, SessionId, SessionShared, Target, Wanted};
use crate::slot::Slot;

/// A route, numbered; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteId(u64);

/// Whose messages a route gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Session(SessionId),
}

/// Targets, with the routes that lead there.
type TargetList = Vec<(RouteId, Arc<dyn Target>)>;

/// The targets of the routes with one filter.
#[derive(Debug, Default)]
struct Targets {
    all: TargetList,
    by_session: HashMap<SessionId, TargetList>,
}

impl Leaf for Targets {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_session.is_empty()
    }
}

impl Targets {
    fn add(&mut self, id: RouteId, scope: Scope, target: Arc<dyn Target>) {
        match scope {
            Scope::All => self.all.push((id, target)),
            Scope::Session(session) => self.by_session.entry(session).or_default().push((id, target)),
        }
    }

    fn remove(&mut self, id: RouteId, scope: Scope) {
        match scope {
            Scope::All => self.all.retain(|(other, _)| *other != id),
            Scope::Session(session) => {
                if let Some(routes) = self.by_session.get_mut(&session) {
                    routes.retain(|(other, _)| *other != id);
                    if routes.is_empty() {
                        self.by_session.remove(&session);
                    }
                }
            }
        }
    }
}

struct Entry {
    scope: Scope,
    wanted: Wanted,
    target: Arc<dyn Target>,
}

/// A route without subscriptions, which still gets messages.
pub(crate) struct Retired {
    id: RouteId,
    scope: Scope,
    filter: Arc<str>,
    target: Arc<dyn Target>,
}

/// The routes with one filter, as subscriptions see them.
#[derive(Default)]
struct Filter {
    all: Vec<RouteId>,
    by_session: HashMap<SessionId, Vec<RouteId>>,
    /// Subscriptions that were asked for and not answered, so many for each session.
    pending: HashMap<SessionId, u32>,
    /// What the broker said where it refused the last.
    refused: HashMap<SessionId, Error>,
}

/// Everything that changes.
#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, Arc<SessionShared>>,
    routes: HashMap<RouteId, Entry>,
    filters: HashMap<Arc<str>, Filter>,
    next_route: u64,
    is_ended: bool,
}

/// All routes of a manager.
pub(crate) struct Routes {
    table: Gate<Table>,
    matcher: RwLock<Matcher<Targets>>,
    version: AtomicU64,
    bus: Arc<Bus>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("routes", &self.table.look(|table| table.routes.len())).finish()
    }
}

/// A subscription that was asked for: it is told when the answer comes.
struct Asked {
    routes: Weak<Routes>,
    session: Arc<SessionShared>,
    filter: Arc<str>,
    slot: Arc<Slot<Outcome>>,
}

impl Asked {
    fn watch(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        if let Poll::Ready(outcome) = self.slot.poll(&Context::from_waker(&waker))
            && let Some(routes) = self.routes.upgrade()
        {
            routes.answered(&self.session, &self.filter, outcome);
        }
    }
}

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.watch();
    }
}

impl Table {
    /// What the routes with a filter ask of a session.
    fn wanted(&self, filter: &str, session: SessionId) -> Option<Wanted> {
        let filter = self.filters.get(filter)?;
        let own = filter.by_session.get(&session).into_iter().flatten();
        let each = filter.all.iter().chain(own).map(|id| &self.routes[id].wanted);
        let mut each = each.cloned();
        let first = each.next()?;
        Some(each.fold(first, |one, other| options::join(&one, &other)))
    }

    /// The sessions that a scope covers.
    fn sessions_of(&self, scope: Scope) -> Vec<Arc<SessionShared>> {
        match scope {
            Scope::All => self.sessions.values().cloned().collect(),
            Scope::Session(id) => self.sessions.get(&id).cloned().into_iter().collect(),
        }
    }

    fn is_refused(&self, filter: &str, session: SessionId) -> bool {
        self.filters.get(filter).is_some_and(|filter| filter.refused.contains_key(&session))
    }
}

impl Routes {
    pub fn new(bus: Arc<Bus>) -> Self {
        Self {
            table: Gate::new(Table::default()),
            matcher: RwLock::default(),
            version: AtomicU64::new(1),
            bus,
        }
    }

    /// Changes what is kept under a filter, and voids what was answered about it.
    fn rematch(&self, filter: &str, change: impl FnOnce(&mut Targets)) {
        let inner = check_filter(filter).map_or(filter, |parts| parts.filter);
        self.matcher.write().unwrap_or_else(PoisonError::into_inner).change(inner, change);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Asks a session for a subscription; the requests of a table keep the order of its changes.
    fn subscribe(
        self: &Arc<Self>,
        table: &mut Table,
        session: &Arc<SessionShared>,
        wanted: Wanted,
    ) -> Arc<Asked> {
        let (answer, slot) = Answer::new();
        let filter = Arc::clone(&wanted.filter);
        if let Some(entry) = table.filters.get_mut(&filter) {
            *entry.pending.entry(session.id).or_default() += 1;
            entry.refused.remove(&session.id);
        }
        session.mailbox.post(Request::Subscribe(session.id, wanted, answer));
        Arc::new(Asked { routes: Arc::downgrade(self), session: Arc::clone(session), filter, slot })
    }

    /// Adds a route, which gets messages from now on and has subscriptions made where there are none.
    pub fn add(
        self: &Arc<Self>,
        scope: Scope,
        options: &RouteOptions,
        target: Arc<dyn Target>,
    ) -> Result<RouteId, Error> {
        options.check()?;
        let filter: Arc<str> = Arc::from(&*options.filter);
        let mut asked = Vec::new();
        let id = self.table.change(|table| {
            if table.is_ended {
                return Err(Error::Gone);
            }
            if let Scope::Session(session) = scope
                && !table.sessions.contains_key(&session)
            {
                return Err(Error::Gone);
            }
            let id = RouteId(table.next_route);
            table.next_route += 1;
            let sessions = table.sessions_of(scope);
            let before: Vec<_> = sessions.iter().map(|session| table.wanted(&filter, session.id)).collect();
            let wanted = options.wanted(Arc::clone(&filter));
            table.routes.insert(id, Entry { scope, wanted, target: Arc::clone(&target) });
            let entry = table.filters.entry(Arc::clone(&filter)).or_default();
            match scope {
                Scope::All => entry.all.push(id),
                Scope::Session(session) => entry.by_session.entry(session).or_default().push(id),
            }
            // Before the subscription: what it brings must find the way.
            self.rematch(&filter, |targets| targets.add(id, scope, target));
            for (session, before) in sessions.iter().zip(before) {
                let after = table.wanted(&filter, session.id);
                if (before != after || table.is_refused(&filter, session.id))
                    && let Some(wanted) = after
                {
                    asked.push(self.subscribe(table, session, wanted));
                }
            }
            Ok(id)
        })?;
        // Outside the lock, which an answer takes.
        asked.into_iter().for_each(Asked::watch);
        Ok(id)
    }

    /// Ends a route. What waits for it is dropped. The answers to the UNSUBSCRIBEs that this takes.
    pub fn remove(self: &Arc<Self>, id: RouteId) -> Vec<Arc<Slot<Outcome>>> {
        let (slots, retired) = self.retire(id);
        if let Some(retired) = retired {
            self.forget(&retired);
        }
        slots
    }

    /// Ends a route's subscriptions. It still gets what was on its way, until [`Routes::forget`].
    pub fn retire(self: &Arc<Self>, id: RouteId) -> (Vec<Arc<Slot<Outcome>>>, Option<Retired>) {
        let mut slots = Vec::new();
        let mut asked = Vec::new();
        let retired = self.table.change(|table| {
            let entry = table.routes.get(&id)?;
            let (scope, filter) = (entry.scope, Arc::clone(&entry.wanted.filter));
            let sessions = table.sessions_of(scope);
            let before: Vec<_> = sessions.iter().map(|session| table.wanted(&filter, session.id)).collect();
            let entry = table.forget(id)?;
            for (session, before) in sessions.iter().zip(before) {
                match table.wanted(&filter, session.id) {
                    None => {
                        let (answer, slot) = Answer::new();
                        slots.push(slot);
                        session.mailbox.post(Request::Unsubscribe(session.id, Arc::clone(&filter), answer));
                    }
                    Some(after) if before.as_ref() != Some(&after) => {
                        asked.push(self.subscribe(table, session, after));
                    }
                    Some(_) => {}
                }
            }
            Some(Retired { id, scope, filter, target: entry.target })
        });
        asked.into_iter().for_each(Asked::watch);
        (slots, retired)
    }

    /// Ends a route whose subscriptions were ended. What waits for it is dropped.
    pub fn forget(&self, retired: &Retired) {
        let Retired { id, scope, filter, target } = retired;
        self.rematch(filter, |targets| targets.remove(*id, *scope));
        target.stop();
    }

    /// A session is there: `begin` is posted before the subscriptions that routes over all sessions ask of it.
    pub fn add_session(self: &Arc<Self>, session: &Arc<SessionShared>, begin: Request) {
        let mut asked = Vec::new();
        self.table.change(|table| {
            session.mailbox.post(begin);
            table.sessions.insert(session.id, Arc::clone(session));
            let filters: Vec<Arc<str>> = table.filters.keys().cloned().collect();
            for filter in filters {
                if let Some(wanted) = table.wanted(&filter, session.id) {
                    asked.push(self.subscribe(table, session, wanted));
                }
            }
        });
        asked.into_iter().for_each(Asked::watch);
    }

    /// A session is on its way out: nothing more is asked of it.
    pub fn leave_session(&self, session: SessionId) {
        self.table.change(|table| table.sessions.remove(&session));
    }

    /// A session is gone, and the routes that were its own with it. Not on an I/O thread: it may drop the program's
    /// closures.
    pub fn remove_session(&self, session: SessionId) {
        let targets = self.table.change(|table| {
            table.sessions.remove(&session);
            let own = table.filters.values().filter_map(|filter| filter.by_session.get(&session));
            let own: Vec<RouteId> = own.flatten().copied().collect();
            let mut targets = Vec::new();
            for id in own {
                let Some(entry) = table.forget(id) else { continue };
                self.rematch(&entry.wanted.filter, |targets| targets.remove(id, entry.scope));
                targets.push(entry.target);
            }
            for filter in table.filters.values_mut() {
                filter.pending.remove(&session);
                filter.refused.remove(&session);
            }
            targets
        });
        targets.iter().for_each(|target| target.end());
    }

    /// There will be no more messages: what came is still handled.
    pub fn end(&self) {
        let entries = self.table.change(|table| {
            table.is_ended = true;
            table.sessions.clear();
            table.filters.clear();
            std::mem::take(&mut table.routes)
        });
        *self.matcher.write().unwrap_or_else(PoisonError::into_inner) = Matcher::default();
        self.version.fetch_add(1, Ordering::Release);
        entries.values().for_each(|entry| entry.target.end());
    }

    fn answered(&self, session: &Arc<SessionShared>, filter: &Arc<str>, outcome: Outcome) {
        let outcome = outcome
            .and_then(|reason| if reason.is_error() { Err(Error::Refused(reason)) } else { Ok(reason) });
        let is_known = self.table.change(|table| {
            if !table.sessions.contains_key(&session.id) {
                return false;
            }
            let Some(entry) = table.filters.get_mut(filter) else { return false };
            if let Some(pending) = entry.pending.get_mut(&session.id) {
                *pending -= 1;
                if *pending == 0 {
                    entry.pending.remove(&session.id);
                }
            }
            if let Err(error) = &outcome {
                entry.refused.insert(session.id, error.clone());
            }
            true
        });
        if let (true, Err(why)) = (is_known, outcome) {
            let filter = Arc::clone(filter);
            self.bus.tell(&session.options.name, EventKind::SubscribeFailed { filter, why });
        }
    }

    /// Whether a route's subscriptions are made: what was refused, or nothing while some are not answered.
    fn subscribed(table: &Table, id: RouteId) -> Option<Result<(), Error>> {
        let Some(entry) = table.routes.get(&id) else { return Some(Err(Error::Gone)) };
        let Some(filter) = table.filters.get(&entry.wanted.filter) else { return Some(Err(Error::Gone)) };
        let (is_pending, refused) = match entry.scope {
            Scope::All => (!filter.pending.is_empty(), filter.refused.values().next()),
            Scope::Session(id) => (filter.pending.contains_key(&id), filter.refused.get(&id)),
        };
        match refused {
            Some(error) => Some(Err(error.clone())),
            None if is_pending => None,
            None => Some(Ok(())),
        }
    }

    pub fn wait_subscribed(&self, id: RouteId, timeout: Duration) -> Result<(), Error> {
        let waited = self.table.wait(timeout, |table| Self::subscribed(table, id));
        waited.unwrap_or(Err(Error::TimedOut(timeout)))
    }

    pub fn poll_subscribed(
        &self,
        id: RouteId,
        key: &mut Option<u64>,
        context: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.table.poll(key, context, |table| Self::subscribed(table, id))
    }

    pub fn forget_waiter(&self, key: Option<u64>) {
        self.table.forget(key);
    }
}

impl Table {
    fn forget(&mut self, id: RouteId) -> Option<Entry> {
        let entry = self.routes.remove(&id)?;
        if let Some(filter) = self.filters.get_mut(&entry.wanted.filter) {
            match entry.scope {
                Scope::All => filter.all.retain(|other| *other != id),
                Scope::Session(session) => {
                    if let Some(routes) = filter.by_session.get_mut(&session) {
                        routes.retain(|other| *other != id);
                        if routes.is_empty() {
                            filter.by_session.remove(&session);
                        }
                    }
                }
            }
            if filter.all.is_empty() && filter.by_session.is_empty() {
                self.filters.remove(&entry.wanted.filter);
            }
        }
        Some(entry)
    }
}

/// One session's view of the routes.
#[derive(Debug)]
pub(crate) struct SessionRouter {
    pub session: SessionId,
    pub routes: Arc<Routes>,
}

impl Router for SessionRouter {
    fn version(&self) -> u64 {
        self.routes.version.load(Ordering::Acquire)
    }

    fn targets(&self, topic: &str) -> Vec<Arc<dyn Target>> {
        let matcher = self.routes.matcher.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        matcher.find(topic, &mut |targets| {
            let own = targets.by_session.get(&self.session).into_iter().flatten();
            found.extend(targets.all.iter().chain(own).map(|(_, target)| Arc::clone(target)));
        });
        found
    }
}

#[cfg(test)]
mod tests;
