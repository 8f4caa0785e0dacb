//! The threads that run the program's handlers.
//!
//! One handler's items are handled in order, by one thread at a time. A handler that blocks holds up itself and
//! one thread; when what waits gets no turn, another thread is started, up to a bound.
//!
//! invariant: no lock of ours is held while the program's code runs.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::inbox::{Inbox, Item};

/// Threads that are started at need before anything else is tried: as many as there are CPUs, but two at
/// least.
const THREADS_MIN: usize = 2;
/// While handlers make progress, there are at most so many threads for each of those.
const THREADS_PER_CPU: usize = 4;
/// Threads for handlers, unless the program says otherwise.
pub(crate) const HANDLER_THREADS_MAX: usize = 256;
/// How long what waits must have had no turn before another thread is started.
const STALL: Duration = Duration::from_millis(5);
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);
/// Items that a handler gets before others have their turn.
const BATCH_ITEMS_MAX: usize = 256;

/// Something to run on a thread of the pool.
pub(crate) trait Job: Send + Sync {
    fn run(self: Arc<Self>, pool: &Arc<Pool>);
}

/// Something to run once.
struct Once<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Job for Once<F> {
    fn run(self: Arc<Self>, _: &Arc<Pool>) {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work();
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Arc<dyn Job>>,
    threads: usize,
    idle: usize,
    /// Jobs that were begun, ever.
    begun: u64,
    /// A thread watches whether what waits gets its turn.
    is_watched: bool,
    is_closed: bool,
}

/// The pool.
pub(crate) struct Pool {
    threads_max: usize,
    cpus: usize,
    idle_time: Duration,
    state: Mutex<State>,
    /// There is work, or there is to be none any more.
    work: Condvar,
    /// A thread has nothing to do.
    rest: Condvar,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Pool").field("threads", &state.threads).field("jobs", &state.jobs.len()).finish()
    }
}

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    pub fn new(threads_max: usize) -> Arc<Self> {
        Self::with_idle_time(threads_max, IDLE)
    }

    fn with_idle_time(threads_max: usize, idle_time: Duration) -> Arc<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from).max(THREADS_MIN);
        Arc::new(Self {
            threads_max: threads_max.max(1),
            cpus: cpus.min(threads_max.max(1)),
            idle_time,
            state: Mutex::default(),
            work: Condvar::new(),
            rest: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job as soon as there is a thread for it. Called by I/O threads too.
    pub fn submit(self: &Arc<Self>, job: Arc<dyn Job>) {
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return;
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            self.work.notify_one();
        } else if state.threads < self.cpus {
            self.start_thread(&mut state);
        } else if !state.is_watched && state.threads < self.threads_max {
            state.is_watched = true;
            drop(state);
            let pool = Arc::clone(self);
            self.spawn("ringmq-pool", move || pool.watch(), |state| state.is_watched = false);
        }
    }

    /// Whether jobs wait for a thread.
    fn has_jobs(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    /// Runs something once.
    pub fn run(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        self.submit(Arc::new(Once(Mutex::new(Some(work)))));
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static, undo: impl FnOnce(&mut State)) {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for handlers: they wait for those that there are");
            undo(&mut self.lock());
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) {
        let pool = Arc::clone(self);
        let spawned =
            std::thread::Builder::new().name("ringmq-handler".to_owned()).spawn(move || pool.work());
        match spawned {
            Ok(_) => state.threads += 1,
            Err(error) => {
                tracing::error!(%error, "no thread for handlers: they wait for those that there are")
            }
        }
    }

    /// Starts threads while what waits gets no turn.
    fn watch(self: Arc<Self>) {
        let mut begun = self.lock().begun;
        loop {
            std::thread::sleep(STALL);
            let mut state = self.lock();
            if state.jobs.is_empty() || state.threads >= self.threads_max || state.is_closed {
                state.is_watched = false;
                return;
            }
            let wanted = if state.begun == begun {
                state.jobs.len().min(self.threads_max - state.threads)
            } else {
                usize::from(state.threads < self.cpus * THREADS_PER_CPU)
            };
            for _ in 0..wanted {
                self.start_thread(&mut state);
            }
            begun = state.begun;
        }
    }

    /// What a thread does.
    fn work(self: Arc<Self>) {
        IS_OURS.set(true);
        while let Some(job) = self.next() {
            let run = catch_unwind(AssertUnwindSafe(|| job.run(&self)));
            if let Err(panic) = run {
                // A handler's own are caught where they are counted.
                tracing::error!(message = panic_message(panic.as_ref()), "a handler's thread failed");
            }
        }
    }

    fn next(&self) -> Option<Arc<dyn Job>> {
        let mut state = self.lock();
        let mut is_late = false;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.begun += 1;
                return Some(job);
            }
            if state.is_closed || is_late {
                state.threads -= 1;
                self.rest.notify_all();
                return None;
            }
            state.idle += 1;
            self.rest.notify_all();
            let (again, waited) =
                self.work.wait_timeout(state, self.idle_time).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            is_late = waited.timed_out();
        }
    }

    /// Waits until nothing runs and nothing waits, but for the job that this is called from; whether that came
    /// about.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let own = usize::from(IS_OURS.get());
        let mut state = self.lock();
        loop {
            if state.jobs.is_empty() && state.threads - state.idle <= own {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self.rest.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the threads as they have nothing to do; what waits is dropped.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        self.work.notify_all();
        // Outside the lock: it may be the last of the program's closures.
        drop(dropped);
    }

    #[cfg(test)]
    fn threads(&self) -> usize {
        self.lock().threads
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

type Call<T> = Box<dyn FnMut(T) + Send>;
type Report = Box<dyn Fn(&str) + Send + Sync>;

/// A handler of the program's, with what waits for it.
pub(crate) struct Worker<T: Item> {
    pub inbox: Inbox<T>,
    pool: Arc<Pool>,
    /// Taken out while it runs.
    call: Mutex<Option<Call<T>>>,
    /// Told what a panic of it said.
    report: Report,
    panics: AtomicU64,
    is_stopped: AtomicBool,
}

impl<T: Item> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("waiting", &self.inbox.len()).field("panics", &self.panics()).finish()
    }
}

impl<T: Item + 'static> Worker<T> {
    pub fn new(inbox: Inbox<T>, pool: &Arc<Pool>, call: Call<T>, report: Report) -> Self {
        Self {
            inbox,
            pool: Arc::clone(pool),
            call: Mutex::new(Some(call)),
            report,
            panics: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        }
    }

    fn call(&self) -> MutexGuard<'_, Option<Call<T>>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the handler, unless it runs.
    fn drop_call(&self) {
        let call = self.call().take();
        // Outside the lock: what the closure holds may run code of the program's.
        drop(call);
    }

    /// Takes items in for the handler.
    pub fn put(self: &Arc<Self>, items: &mut Vec<T>) {
        if self.inbox.put(items) {
            self.pool.submit(Arc::clone(self) as Arc<dyn Job>);
        }
    }

    /// Ends it: what waits is dropped, and the handler too once it does not run any more.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.inbox.discard();
        self.drop_call();
    }

    /// Ends it when what waits is handled.
    pub fn end(&self) {
        self.inbox.close();
        if self.inbox.len() == 0 {
            self.drop_call();
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn handle(&self, call: &mut Call<T>, mut item: T) {
        item.taken();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(item))) {
            self.panics.fetch_add(1, Ordering::Relaxed);
            (self.report)(panic_message(panic.as_ref()));
        }
    }
}

impl<T: Item> Worker<T> {
    /// How often the handler panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl<T: Item + 'static> Job for Worker<T> {
    fn run(self: Arc<Self>, pool: &Arc<Pool>) {
        let mut batch = VecDeque::new();
        loop {
            // None: it was stopped.
            let Some(mut call) = self.call().take() else { return };
            self.inbox.take(&mut batch, BATCH_ITEMS_MAX);
            for item in batch.drain(..) {
                if self.is_stopped() { item.dropped() } else { self.handle(&mut call, item) }
            }
            // Before the claim is given up: who claims next must find it.
            *self.call() = Some(call);
            if self.is_stopped() {
                return self.drop_call();
            }
            if !self.inbox.go_on() {
                if self.inbox.is_closed() {
                    self.drop_call();
                }
                return;
            }
            if pool.has_jobs() {
                return pool.submit(self);
            }
        }
    }
}

#[cfg(test)]
mod tests;
