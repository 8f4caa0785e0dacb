//! What the shards of one runtime and the threads around them share.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::CachePadded;
use ringmq_turn::{PeerId, ShardId};

use crate::bell::Bell;
use crate::error::{Full, ShardFailure};
use crate::peer::{Peer, Peers};
use crate::resolver::{Query, Resolved, Resolver};

/// What all shards are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Serve.
    Running = 0,
    /// Say goodbye, until the deadline.
    Stopping = 1,
}

/// One shard, as others see it.
pub(crate) struct OtherShard<Command> {
    pub bell: Bell,
    pub commands: ArrayQueue<Command>,
    /// Addresses that it asked for; no more than it opens connections.
    pub resolved: SegQueue<Resolved>,
    /// While stopping: it has nothing left to do.
    pub quiet: AtomicBool,
}

/// The end of a runtime, as the thread that owns it waits for it.
#[derive(Default)]
struct End {
    failure: Option<ShardFailure>,
    deadline: Option<Instant>,
}

/// Everything shared.
pub(crate) struct Shared<Command> {
    pub shards: Box<[CachePadded<OtherShard<Command>>]>,
    /// Whom cores may connect to.
    pub peers: Peers,
    resolver: Arc<Resolver>,
    /// Sockets open over all shards, those between shards included.
    pub connections: CachePadded<AtomicUsize>,
    phase: AtomicU8,
    end: Mutex<End>,
    ended: Condvar,
}

impl<Command> Shared<Command> {
    pub fn new(shards: usize, commands_max: usize) -> std::io::Result<Self> {
        let shard = || -> std::io::Result<_> {
            Ok(CachePadded::new(OtherShard {
                bell: Bell::new()?,
                commands: ArrayQueue::new(commands_max),
                resolved: SegQueue::new(),
                quiet: AtomicBool::new(false),
            }))
        };
        Ok(Self {
            shards: (0..shards).map(|_| shard()).collect::<Result<_, _>>()?,
            peers: Peers::default(),
            resolver: Arc::default(),
            connections: CachePadded::new(AtomicUsize::new(0)),
            phase: AtomicU8::new(Phase::Running as u8),
            end: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    pub fn shard(&self, shard: ShardId) -> &OtherShard<Command> {
        &self.shards[shard.index()]
    }

    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    pub fn wake_all(&self) {
        for shard in &self.shards {
            shard.bell.ring_if_parked();
        }
    }

    /// Notes that sockets were closed.
    pub fn forget_connections(&self, count: usize) {
        self.connections.fetch_sub(count, Ordering::Relaxed);
    }

    /// While stopping: says whether a shard has nothing left to do, and wakes the others over it.
    pub fn set_quiet(&self, shard: ShardId, quiet: bool) {
        if self.shard(shard).quiet.swap(quiet, Ordering::AcqRel) != quiet && quiet {
            self.wake_all();
        }
    }

    /// While stopping: whether nothing is left to do anywhere.
    pub fn all_quiet(&self) -> bool {
        self.connections.load(Ordering::Relaxed) == 0
            && self.shards.iter().all(|shard| shard.quiet.load(Ordering::Acquire))
    }

    // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all shards after `grace` at the latest.
    pub fn stop(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        {
            let mut end = self.end();
            end.deadline = Some(end.deadline.map_or(deadline, |set| set.min(deadline)));
        }
        self.ended.notify_all();
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
        self.resolver.end();
        self.wake_all();
    }

    /// When shards that are stopping must have stopped.
    pub fn deadline(&self) -> Option<Instant> {
        self.end().deadline
    }

    /// Notes that a shard failed, and stops the others.
    pub fn fail(&self, failure: ShardFailure, grace: Duration) {
        tracing::error!(shard = %failure.shard, message = %failure.message, "a shard failed; stopping all");
        self.end().failure.get_or_insert(failure);
        self.ended.notify_all();
        self.stop(grace);
    }

    pub fn failure(&self) -> Option<ShardFailure> {
        self.end().failure.clone()
    }

    /// Waits for a shard to fail.
    pub fn wait_failure(&self, timeout: Duration) -> Option<ShardFailure> {
        let (end, _) = self
            .ended
            .wait_timeout_while(self.end(), timeout, |end| end.failure.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        end.failure.clone()
    }

    /// Waits for [`Shared::stop`]; whether it was called.
    fn wait_stop(&self, timeout: Duration) -> bool {
        let (end, _) = self
            .ended
            .wait_timeout_while(self.end(), timeout, |end| end.deadline.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        end.deadline.is_some()
    }
}

impl<Command: Send + 'static> Shared<Command> {
    /// Has a name looked up; its shard is woken for the answer.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn resolve(self: &Arc<Self>, query: Query) -> std::io::Result<()> {
        let shared = Arc::downgrade(self);
        self.resolver.ask(query, move |shard, resolved| {
            // Without a runtime, nobody waits for it.
            if let Some(shared) = shared.upgrade() {
                shared.shard(shard).resolved.push(resolved);
                shared.shard(shard).bell.ring_if_parked();
            }
        })
    }
}

/// Reaches the shards of a runtime from any thread.
pub struct Handle<Command> {
    shared: Arc<Shared<Command>>,
}

impl<Command> Clone for Handle<Command> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Command: Send> Handle<Command> {
    pub(crate) fn new(shared: Arc<Shared<Command>>) -> Self {
        Self { shared }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shared.shards.len()
    }

    /// Connections that are open over all shards.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Hands a command to a shard's core. It comes back in the error when
    /// [`crate::RuntimeConfig::commands_max`] of them wait already, or the runtime is stopping.
    pub fn command(&self, shard: ShardId, command: Command) -> Result<(), Full<Command>> {
        if self.shared.phase() == Phase::Stopping {
            return Err(Full(command));
        }
        let shard = self.shared.shard(shard);
        shard.commands.push(command).map_err(Full)?;
        shard.bell.ring_if_parked();
        Ok(())
    }

    /// Waits until the shards are told to stop, by [`crate::Runtime::shutdown`] or because one failed, for
    /// `timeout` at most; whether they are.
    pub fn wait_stop(&self, timeout: Duration) -> bool {
        self.shared.wait_stop(timeout)
    }

    /// What happened to a shard that failed.
    pub fn failure(&self) -> Option<ShardFailure> {
        self.shared.failure()
    }

    /// Makes a far end known to all cores, for [`ringmq_turn::Io::connect`].
    pub fn add_peer(&self, peer: Peer) -> PeerId {
        self.shared.peers.add(peer)
    }

    /// Puts another far end in the place of a known one, for connections opened from then on. False when
    /// it was removed.
    pub fn replace_peer(&self, id: PeerId, peer: Peer) -> bool {
        self.shared.peers.replace(id, peer)
    }

    /// Forgets a far end: connections to it cannot be opened any more, and open ones stay. False when it
    /// was removed already.
    pub fn remove_peer(&self, id: PeerId) -> bool {
        self.shared.peers.remove(id)
    }
}
