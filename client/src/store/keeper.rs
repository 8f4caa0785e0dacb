//! One session's way into its store.
//!
//! Publications are put there by whoever publishes. Those that come while one is put wait, and are then put
//! together by one of those who wait: so they share a sync of a disk, or the way to another machine and back.
//! What the core posts is carried out by the store's thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::threads::{Errand, Line};
use super::{Number, SessionStore, StoreChange, StoreError};
use crate::error::Error;
use crate::link::{Mailbox, Publication, Request, SessionId, SessionShared, StoreLink};
use crate::slot::Slot;

/// The most publications that are put together.
const PUT_MESSAGES_MAX: usize = 1_024;

/// What becomes of a publication that waits to be put.
#[derive(Clone, Debug)]
enum Fate {
    Done(Result<(), Error>),
    /// Who waits for it is to put what waits.
    Lead,
}

/// Whom to tell.
#[derive(Debug)]
enum Teller {
    /// A thread waits.
    Thread(Arc<Slot<Fate>>),
    /// Nobody does, or a task.
    Later(Arc<SessionShared>, Arc<Slot<Result<(), Error>>>),
    /// Who puts it is who published it.
    Itself,
}

#[derive(Debug)]
struct Waiting {
    publication: Publication,
    teller: Teller,
}

/// Publications that wait to be put.
#[derive(Debug, Default)]
struct Putting {
    waiting: VecDeque<Waiting>,
    /// Somebody puts, or was asked to.
    is_led: bool,
}

/// What the core posted.
#[derive(Debug, Default)]
struct Posted {
    changes: Vec<StoreChange>,
    count: u64,
}

/// What is left to be done at the end.
#[derive(Clone, Debug)]
enum Ending {
    Close,
    Erase,
}

/// A session that has a store.
#[derive(Debug)]
pub(crate) struct Keeper {
    id: SessionId,
    name: Arc<str>,
    mailbox: Arc<Mailbox>,
    line: Arc<Line>,
    /// None once it is closed, which waits for calls that are under way.
    store: RwLock<Option<Box<dyn SessionStore>>>,
    posted: Mutex<Posted>,
    putting: Mutex<Putting>,
    /// Numbers from which on something may have been kept by a call that failed, and how many: for who leads.
    doubtful: Mutex<Option<(Number, u64)>>,
    ending: Mutex<Option<Ending>>,
    ended: (Mutex<Option<Result<(), Error>>>, Condvar),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What our locks guard is whole after each statement, so a panic of a holder spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store may be the program's: that it panics must not stop others who wait for it.
fn guarded(name: &str, call: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said =
            said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("nothing said");
        let store = format!("the store of session {name:?}");
        Err(StoreError::Failed {
            store,
            detail: format!("it panicked ({said}), which is a fault of its code"),
        })
    })
}

impl Keeper {
    pub fn new(
        (id, name): (SessionId, Arc<str>),
        mailbox: Arc<Mailbox>,
        line: Arc<Line>,
        store: Box<dyn SessionStore>,
    ) -> Self {
        Self {
            id,
            name,
            mailbox,
            line,
            store: RwLock::new(Some(store)),
            posted: Mutex::default(),
            putting: Mutex::default(),
            doubtful: Mutex::default(),
            ending: Mutex::default(),
            ended: (Mutex::default(), Condvar::new()),
        }
    }

    /// Puts what waits, some of it, and lets the next one lead. What became of the publication of who leads.
    fn lead(self: &Arc<Self>, session: &SessionShared) -> Result<(), Error> {
        let batch: Vec<Waiting> = {
            let mut putting = lock(&self.putting);
            let count = putting.waiting.len().min(PUT_MESSAGES_MAX);
            putting.waiting.drain(..count).collect()
        };
        let (mut publications, tellers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.publication, waiting.teller)).unzip();
        let outcomes = self.put_all(session, &mut publications);
        assert_eq!(outcomes.len(), tellers.len(), "each publication has one outcome");
        let mut own = Ok(());
        for (teller, outcome) in tellers.into_iter().zip(outcomes) {
            match teller {
                Teller::Thread(slot) => slot.settle(Fate::Done(outcome)),
                Teller::Later(_, slot) => slot.settle(outcome),
                Teller::Itself => own = outcome,
            }
        }
        self.pass_lead_on();
        own
    }

    fn pass_lead_on(self: &Arc<Self>) {
        let mut putting = lock(&self.putting);
        match putting.waiting.front_mut() {
            None => putting.is_led = false,
            Some(Waiting { teller, .. }) => match std::mem::replace(teller, Teller::Itself) {
                Teller::Thread(slot) => {
                    drop(putting);
                    slot.settle(Fate::Lead);
                }
                Teller::Later(session, slot) => {
                    *teller = Teller::Later(Arc::clone(&session), slot);
                    drop(putting);
                    self.put_by_thread(&session);
                }
                Teller::Itself => unreachable!("who publishes leads, or waits"),
            },
        }
    }

    /// Puts publications, together or, if that fails, one by one, and queues those that are kept.
    fn put_all(
        &self,
        session: &SessionShared,
        publications: &mut Vec<Publication>,
    ) -> Vec<Result<(), Error>> {
        let count = publications.len();
        match self.put_some(session, publications) {
            // One of them may be what is wrong. Without a store to be reached it is not.
            Err(Error::Store(
                StoreError::Full { .. } | StoreError::TooLarge { .. } | StoreError::Failed { .. },
            )) if count > 1 => {
                let each = std::mem::take(publications).into_iter();
                each.map(|publication| self.put_some(session, &mut vec![publication])).collect()
            }
            outcome => vec![outcome; count],
        }
        .into_iter()
        .inspect(|outcome| {
            if outcome.is_err() {
                session.release(1);
            }
        })
        .collect()
    }

    /// Puts publications and queues them, all or none.
    fn put_some(&self, session: &SessionShared, publications: &mut Vec<Publication>) -> Result<(), Error> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let store = store.as_deref().ok_or(Error::Gone)?;
        let first = session.next_number();
        self.clear_doubtful(store)?;
        let mut entries = Vec::with_capacity(publications.len());
        for (publication, number) in publications.iter_mut().zip(first.0..) {
            publication.number = Some(Number(number));
            entries.push((Number(number), publication.message.clone()));
        }
        let outcome = guarded(&self.name, || store.put(&entries)).map_err(Error::Store);
        let outcome = outcome.and_then(|()| session.queue_stored(publications));
        if outcome.is_err() {
            *lock(&self.doubtful) = Some((first, entries.len() as u64));
        }
        outcome
    }

    /// Takes back what a call that failed may have kept: its numbers go to others.
    fn clear_doubtful(&self, store: &dyn SessionStore) -> Result<(), StoreError> {
        let Some((first, count)) = *lock(&self.doubtful) else { return Ok(()) };
        let numbers = (first.0..first.0 + count).map(Number);
        let void: Vec<_> = numbers.map(StoreChange::Completed).collect();
        guarded(&self.name, || store.apply(&void))?;
        *lock(&self.doubtful) = None;
        Ok(())
    }

    /// Carries out what was posted, on the store's thread. After a failure it is to be tried again.
    pub fn carry_out(&self) -> Result<(), StoreError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = store.as_deref() else { return Ok(()) };
        let (mut changes, count) = {
            let mut posted = lock(&self.posted);
            (std::mem::take(&mut posted.changes), posted.count)
        };
        if changes.is_empty() {
            return Ok(());
        }
        match guarded(&self.name, || store.apply(&changes)) {
            Ok(()) => {
                self.mailbox.post(Request::Stored(self.id, Ok(count)));
                Ok(())
            }
            Err(error) => {
                let mut posted = lock(&self.posted);
                changes.append(&mut posted.changes);
                posted.changes = changes;
                drop(posted);
                self.mailbox.post(Request::Stored(self.id, Err(Arc::from(error.to_string()))));
                Err(error)
            }
        }
    }

    fn put_by_thread(self: &Arc<Self>, session: &Arc<SessionShared>) {
        if !self.line.add(Errand::Put(Arc::clone(self), Arc::clone(session))) {
            self.put_waiting(session);
        }
    }

    /// Puts what waits, on the store's thread.
    pub fn put_waiting(self: &Arc<Self>, session: &SessionShared) {
        let own = self.lead(session);
        debug_assert!(own.is_ok(), "the store's thread publishes nothing of its own");
    }

    /// Ends it, if that was asked for, on the store's thread. Whether it has ended.
    pub fn end(&self) -> bool {
        let Some(ending) = lock(&self.ending).take() else { return false };
        let mut held = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let store = held.take();
        drop(held);
        let outcome = match (ending, &store) {
            (Ending::Close, store) => {
                if let Some(error) = store.as_deref().and_then(|store| self.clear_doubtful(store).err()) {
                    tracing::warn!("session {}: {error}", self.name);
                }
                let left = lock(&self.posted).changes.len();
                if left > 0 {
                    // Nothing that was promised rests on them: the broker is asked again.
                    tracing::warn!(
                        "session {}: {left} changes could not be stored before its end",
                        self.name
                    );
                }
                Ok(())
            }
            (Ending::Erase, Some(store)) => guarded(&self.name, || store.remove()).map_err(Error::Store),
            (Ending::Erase, None) => Err(Error::Gone),
        };
        drop(store);
        *lock(&self.ended.0) = Some(outcome);
        self.ended.1.notify_all();
        true
    }

    fn end_with(&self, ending: Ending, errand: Errand) -> Result<(), Error> {
        *lock(&self.ending) = Some(ending);
        if !self.line.add(errand) {
            self.end();
        }
        let ended = lock(&self.ended.0);
        let ended = self.ended.1.wait_while(ended, |ended| ended.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(Ok(()))
    }

    /// Waits for what this thread published, and leads if it is asked to.
    fn wait(self: &Arc<Self>, session: &SessionShared, slot: &Slot<Fate>) -> Result<(), Error> {
        // Whoever leads settles it: a store's calls end.
        loop {
            match slot.wait(Duration::from_secs(3600)) {
                Some(Fate::Done(outcome)) => return outcome,
                Some(Fate::Lead) => return self.lead(session),
                None => {}
            }
        }
    }
}

/// A session that has a store, as others reach it.
#[derive(Debug)]
pub(crate) struct KeeperLink(pub Arc<Keeper>);

impl StoreLink for KeeperLink {
    fn post(&self, change: StoreChange) -> u64 {
        let mut posted = lock(&self.0.posted);
        posted.changes.push(change);
        posted.count += 1;
        let (is_first, count) = (posted.changes.len() == 1, posted.count);
        drop(posted);
        if is_first {
            self.0.line.add(Errand::CarryOut(Arc::clone(&self.0)));
        }
        count
    }

    fn publish(&self, session: &Arc<SessionShared>, publication: Publication) -> Result<(), Error> {
        session.reserve()?;
        let mut putting = lock(&self.0.putting);
        if putting.is_led {
            let slot = Arc::default();
            putting.waiting.push_back(Waiting { publication, teller: Teller::Thread(Arc::clone(&slot)) });
            drop(putting);
            return self.0.wait(session, &slot);
        }
        putting.is_led = true;
        putting.waiting.push_back(Waiting { publication, teller: Teller::Itself });
        drop(putting);
        self.0.lead(session)
    }

    fn publish_later(
        &self,
        session: &Arc<SessionShared>,
        publication: Publication,
        done: Arc<Slot<Result<(), Error>>>,
    ) {
        if let Err(error) = session.reserve() {
            return done.settle(Err(error));
        }
        let mut putting = lock(&self.0.putting);
        let teller = Teller::Later(Arc::clone(session), done);
        putting.waiting.push_back(Waiting { publication, teller });
        if !std::mem::replace(&mut putting.is_led, true) {
            drop(putting);
            self.0.put_by_thread(session);
        }
    }

    fn close(&self) {
        if let Err(error) = self.0.end_with(Ending::Close, Errand::CarryOut(Arc::clone(&self.0))) {
            tracing::warn!("session {}: {error}", self.0.name);
        }
    }

    fn erase(&self) -> Result<(), Error> {
        self.0.end_with(Ending::Erase, Errand::CarryOut(Arc::clone(&self.0)))
    }
}
