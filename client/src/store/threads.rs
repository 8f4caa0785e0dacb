//! The threads that carry out what sessions tell their stores: one for each store.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keeper::{Keeper, KeeperLink};
use super::{Restored, Store};
use crate::error::Error;
use crate::link::{Mailbox, SessionId, SessionShared, StoreLink};

/// How long after a failure changes are tried again, at first; twice as long after each further one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Something for a store's thread to do.
#[derive(Debug)]
pub(super) enum Errand {
    /// A session posted changes, or is to end.
    CarryOut(Arc<Keeper>),
    /// Publications wait that nobody puts.
    Put(Arc<Keeper>, Arc<SessionShared>),
}

#[derive(Debug, Default)]
struct Errands {
    list: Vec<Errand>,
    is_over: bool,
}

/// Where errands wait for the thread.
#[derive(Debug, Default)]
pub(super) struct Line {
    errands: Mutex<Errands>,
    changed: Condvar,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Errands> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread will do it: not when it has ended, with its manager.
    pub fn add(&self, errand: Errand) -> bool {
        let mut errands = self.lock();
        if errands.is_over {
            return false;
        }
        errands.list.push(errand);
        let is_first = errands.list.len() == 1;
        drop(errands);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    /// Ends the thread once nothing is left to do.
    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }

    /// Moves what there is into `list`, waiting for something until then; whether the thread goes on.
    fn take(&self, list: &mut Vec<Errand>, until: Option<Instant>) -> bool {
        let mut errands = self.lock();
        loop {
            if !errands.list.is_empty() || errands.is_over {
                std::mem::swap(&mut errands.list, list);
                return !list.is_empty() || !errands.is_over;
            }
            errands = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(errands).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return true,
                Some(left) => {
                    let waited = self.changed.wait_timeout(errands, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Changes that failed, to be tried again.
#[derive(Debug)]
struct Retry {
    at: Instant,
    keeper: Arc<Keeper>,
    delay: Duration,
}

/// What a store's thread works with.
struct Worker {
    store: Weak<dyn Store>,
    refresh_at: Option<Instant>,
    retries: Vec<Retry>,
}

impl Worker {
    fn run(mut self, line: &Line) {
        let mut list = Vec::new();
        while line.take(&mut list, self.next_due()) {
            for errand in list.drain(..) {
                match errand {
                    Errand::CarryOut(keeper) => self.carry_out(keeper, RETRY_FIRST),
                    Errand::Put(keeper, session) => keeper.put_waiting(&session),
                }
            }
            self.retry(Instant::now());
            self.refresh(Instant::now());
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.retries.iter().map(|retry| retry.at).chain(self.refresh_at).min()
    }

    fn carry_out(&mut self, keeper: Arc<Keeper>, delay: Duration) {
        let outcome = keeper.carry_out();
        let has_ended = keeper.end();
        let is_known = self.retries.iter().any(|retry| Arc::ptr_eq(&retry.keeper, &keeper));
        if outcome.is_err() && !has_ended && !is_known {
            self.retries.push(Retry { at: Instant::now() + delay, keeper, delay });
        }
    }

    fn retry(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|retry| retry.at <= now);
        self.retries = later;
        let due: Vec<Retry> = due;
        for Retry { keeper, delay, .. } in due {
            self.carry_out(keeper, (delay * 2).min(RETRY_MAX));
        }
    }

    fn refresh(&mut self, now: Instant) {
        let Some(store) = self.refresh_at.filter(|at| *at <= now).and_then(|_| self.store.upgrade()) else {
            return;
        };
        let refreshed = store.refresh();
        if let Err(error) = &refreshed {
            tracing::warn!("{error}");
        }
        let every =
            store.refresh_every().map(|every| if refreshed.is_ok() { every } else { every.min(RETRY_MAX) });
        self.refresh_at = every.map(|every| Instant::now() + every);
    }
}

/// A store with its thread.
#[derive(Debug)]
struct Served {
    store: Weak<dyn Store>,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.line.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a store's thread failed");
        }
    }
}

/// The stores that a manager's sessions use.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    all: Mutex<Vec<Served>>,
}

impl Stores {
    /// Opens a session's store, and reads what it kept.
    pub fn open(
        &self,
        store: &Arc<dyn Store>,
        name: &Arc<str>,
        id: SessionId,
        mailbox: Arc<Mailbox>,
    ) -> Result<(Arc<dyn StoreLink>, Restored), Error> {
        let line = self.line_of(store)?;
        let opened = store.open(name)?;
        let restored = opened.restore()?;
        let keeper = Keeper::new((id, Arc::clone(name)), mailbox, line, opened);
        Ok((Arc::new(KeeperLink(Arc::new(keeper))), restored))
    }

    /// The line to a store's thread, which is started if there is none.
    fn line_of(&self, store: &Arc<dyn Store>) -> Result<Arc<Line>, Error> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|served| served.store.strong_count() > 0);
        let is_it = |served: &&Served| std::ptr::addr_eq(served.store.as_ptr(), Arc::as_ptr(store));
        if let Some(served) = all.iter().find(is_it) {
            return Ok(Arc::clone(&served.line));
        }
        let line = Arc::new(Line::default());
        let refresh_at = store.refresh_every().map(|every| Instant::now() + every);
        let worker = Worker { store: Arc::downgrade(store), refresh_at, retries: Vec::new() };
        let for_thread = Arc::clone(&line);
        let thread =
            std::thread::Builder::new().name("store".to_owned()).spawn(move || worker.run(&for_thread));
        let thread =
            thread.map_err(|error| Error::Runtime(format!("a store's thread cannot start: {error}")))?;
        all.push(Served { store: Arc::downgrade(store), line: Arc::clone(&line), thread: Some(thread) });
        Ok(line)
    }
}
