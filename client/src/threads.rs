//! The I/O threads, as the program's side reaches them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ringmq_shards::{Handle, Peer, Runtime, RuntimeConfig, start};
use ringmq_turn::{PeerId, SHARDS_MAX, ShardId};

use crate::dispatch::HANDLER_THREADS_MAX;
use crate::error::Error;
use crate::host::{Host, Look};
use crate::link::Mailbox;
use crate::manager::Manager;

/// What drives the sessions: the runtime with its hosts, or a test.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// One for each I/O thread.
    fn mailboxes(&self) -> &[Arc<Mailbox>];

    fn add_peer(&self, peer: Peer) -> PeerId;

    fn remove_peer(&self, peer: PeerId);

    /// Waits until the threads are told to stop, or one failed; whether that is so.
    fn wait_stop(&self, timeout: Duration) -> bool;

    /// What happened to a thread that failed.
    fn failure(&self) -> Option<String>;

    /// Stops the threads: sessions say goodbye, until the grace is over.
    fn stop(&self, grace: Duration) -> Result<(), String>;
}

/// What brokers send packet by packet is taken in several at a time, at rates where each would else wake the
/// I/O thread, for this much latency.
const GATHER_US: u32 = 50;
/// Connections that all sessions of a manager may have; the system's limit on open files comes first.
const CONNECTIONS_MAX: usize = 1_000_000;

/// The runtime, with a host on each of its threads.
struct IoThreads {
    mailboxes: Vec<Arc<Mailbox>>,
    handle: Handle<Look>,
    /// Taken by who stops it.
    runtime: Mutex<Option<Runtime<Host>>>,
}

impl fmt::Debug for IoThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoThreads").field("threads", &self.mailboxes.len()).finish()
    }
}

impl IoThreads {
    fn start(config: RuntimeConfig, threads: usize) -> Result<Self, Error> {
        // Mailboxes ring the threads, which look into the mailboxes: one of the two is there first.
        let reach: Arc<OnceLock<Handle<Look>>> = Arc::default();
        let mailbox = |index| {
            let reach = Arc::clone(&reach);
            let ring = move || {
                if let Some(handle) = reach.get() {
                    // When it is full it looks anyway, and when it stops nobody does any more.
                    let _ = handle.command(ShardId::new(index), Look);
                }
            };
            Arc::new(Mailbox::new(Box::new(ring)))
        };
        let mailboxes: Vec<Arc<Mailbox>> = (0..threads).map(mailbox).collect();
        let for_hosts = mailboxes.clone();
        let seeds = RandomState::new();
        let make_host = move |shard: ShardId| {
            Host::new(Arc::clone(&for_hosts[shard.index()]), seeds.hash_one(shard.index()))
        };
        let started = start(config, make_host, |_, ()| ());
        let runtime = started.map_err(|error| Error::Runtime(error.to_string()))?;
        let handle = runtime.handle();
        let _ = reach.set(handle.clone());
        Ok(Self { mailboxes, handle, runtime: Mutex::new(Some(runtime)) })
    }
}

impl Driver for IoThreads {
    fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    fn add_peer(&self, peer: Peer) -> PeerId {
        self.handle.add_peer(peer)
    }

    fn remove_peer(&self, peer: PeerId) {
        self.handle.remove_peer(peer);
    }

    fn wait_stop(&self, timeout: Duration) -> bool {
        self.handle.wait_stop(timeout)
    }

    fn failure(&self) -> Option<String> {
        self.handle.failure().map(|failure| failure.to_string())
    }

    fn stop(&self, grace: Duration) -> Result<(), String> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        match runtime.map(|runtime| runtime.shutdown(grace)) {
            Some(Err(failure)) => Err(failure.to_string()),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Describes a manager; made by [`Manager::builder`].
#[derive(Clone, Debug)]
pub struct ManagerBuilder {
    io_threads: usize,
    cpus: Vec<usize>,
    handler_threads_max: usize,
}

impl Manager {
    /// A manager with one I/O thread, and up to 256 for handlers.
    ///
    /// # Errors
    /// [`Error::Runtime`] says what the system refuses, and what to do about it.
    pub fn new() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A manager with options.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder { io_threads: 1, cpus: Vec::new(), handler_threads_max: HANDLER_THREADS_MAX }
    }
}

impl ManagerBuilder {
    /// How many I/O threads to run, 1 to 64. Sessions are spread over them as they are added. Default 1, which
    /// thousands of sessions need not fill.
    #[must_use]
    pub fn io_threads(mut self, threads: usize) -> Self {
        self.io_threads = threads;
        self
    }

    /// Pins the I/O threads to these CPUs, in turn. By default the system chooses.
    #[must_use]
    pub fn pin_to(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.cpus = cpus.into();
        self
    }

    /// How many threads handlers may have, at least 1: as many may block at a time before others wait. Threads are
    /// started at need. Default 256.
    #[must_use]
    pub fn handler_threads_max(mut self, threads: usize) -> Self {
        self.handler_threads_max = threads;
        self
    }

    /// Starts the threads.
    pub fn start(self) -> Result<Manager, Error> {
        let Self { io_threads, cpus, handler_threads_max } = self;
        let invalid = |what, given: usize, remedy: String| {
            Err(Error::Invalid { what, given: given.to_string(), remedy })
        };
        if !(1..=SHARDS_MAX).contains(&io_threads) {
            return invalid("io_threads", io_threads, format!("from 1 to {SHARDS_MAX}"));
        }
        if handler_threads_max == 0 {
            return invalid("handler_threads_max", handler_threads_max, "at least 1".to_owned());
        }
        let config = RuntimeConfig {
            shards: Some(io_threads),
            pinned: !cpus.is_empty(),
            cpus,
            connections_max: CONNECTIONS_MAX,
            gather_us: GATHER_US,
            ..RuntimeConfig::default()
        };
        Manager::with_driver(Arc::new(IoThreads::start(config, io_threads)?), handler_threads_max)
    }
}
