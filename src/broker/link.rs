//! Requests to shards, and the way of their answers and deliveries back to the program.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringmq_engine::{Command, Event, RequestId, SubscriberId};
use ringmq_shards::{Full, Handle};
use ringmq_turn::{SHARDS_MAX, ShardId};

use super::inbox::Inbox;
use super::ticket::{Slot, Ticket};

/// How long a request waits for room among a shard's commands before it is given up.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How often it looks for room, should no answer announce it.
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// Where the events of all shards go.
pub(super) struct Routes {
    shards: Box<[ShardRoutes]>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct ShardRoutes {
    table: Mutex<Table>,
    /// A request was answered, so that the shard has room for another.
    answered: Condvar,
}

#[derive(Default)]
struct Table {
    requests: HashMap<u64, Arc<Slot>>,
    inboxes: HashMap<u64, Arc<Inbox>>,
}

impl ShardRoutes {
    fn table(&self) -> MutexGuard<'_, Table> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    pub fn new() -> Self {
        let shards = (0..SHARDS_MAX).map(|_| ShardRoutes::default()).collect();
        Self { shards, stopped: AtomicBool::new(false) }
    }

    /// Passes an event on; called by the shard's thread, so it never waits for the program.
    pub fn event(&self, shard: ShardId, event: Event) {
        let routes = &self.shards[shard.index()];
        match event {
            Event::Published { request, reason } | Event::Subscribed { request, reason } => {
                let slot = routes.table().requests.remove(&request.0);
                routes.answered.notify_all();
                if let Some(slot) = slot {
                    slot.answer(reason);
                }
            }
            Event::Delivery { subscriber, message } => {
                let inbox = routes.table().inboxes.get(&subscriber.0).cloned();
                if let Some(inbox) = inbox {
                    inbox.put(message);
                }
            }
        }
    }

    /// Tells everyone who waits that nothing will come any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for routes in &self.shards {
            let Table { requests, inboxes } = std::mem::take(&mut *routes.table());
            routes.answered.notify_all();
            requests.values().for_each(|slot| slot.stop());
            inboxes.values().for_each(|inbox| inbox.stop());
        }
    }
}

/// Why a request did not get to its shard. It comes back.
pub(super) enum Unsent {
    /// The shard has too many commands waiting.
    Busy(Command),
    /// The broker has stopped.
    Stopped,
}

/// Reaches the shards.
pub(super) struct Link {
    pub routes: Arc<Routes>,
    handle: Handle<Command>,
    next_id: AtomicU64,
    next_shard: AtomicU64,
}

impl Link {
    pub fn new(routes: Arc<Routes>, handle: Handle<Command>) -> Self {
        Self { routes, handle, next_id: AtomicU64::new(1), next_shard: AtomicU64::new(0) }
    }

    pub fn shards(&self) -> usize {
        self.handle.shards()
    }

    pub fn connections(&self) -> usize {
        self.handle.connections()
    }

    /// A number that no request or subscriber had before.
    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The shards in turn, to spread publishers and subscribers.
    pub fn a_shard(&self) -> ShardId {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        ShardId::new((turn % self.shards() as u64) as usize)
    }

    /// Sends a request if the shard has room for it now.
    pub fn try_request(
        &self,
        shard: ShardId,
        make: impl FnOnce(RequestId) -> Command,
    ) -> Result<Ticket, Unsent> {
        let id = self.id();
        let slot = Arc::new(Slot::default());
        let routes = &self.routes.shards[shard.index()];
        // Before the command, whose answer may come at once.
        routes.table().requests.insert(id, Arc::clone(&slot));
        let sent = self.handle.command(shard, make(RequestId(id)));
        // Looked at after the insertion, so that either `stop` finds the slot or this sees the stop.
        let stopped = self.routes.stopped.load(Ordering::SeqCst);
        if sent.is_err() || stopped {
            routes.table().requests.remove(&id);
        }
        match sent {
            _ if stopped => Err(Unsent::Stopped),
            Ok(()) => Ok(Ticket { slot }),
            Err(Full(command)) => Err(Unsent::Busy(command)),
        }
    }

    /// Waits for room as long as the shard answers others, up to a limit.
    pub fn wait_for_room(&self, shard: ShardId, since: Instant) -> bool {
        let routes = &self.routes.shards[shard.index()];
        let waited = routes.answered.wait_timeout(routes.table(), ROOM_LOOK);
        drop(waited);
        since.elapsed() < ROOM_WAIT
    }

    /// Opens the way for a new subscriber on a shard.
    pub fn join(&self, shard: ShardId, inbox: Arc<Inbox>) -> SubscriberId {
        let id = self.id();
        self.routes.shards[shard.index()].table().inboxes.insert(id, inbox);
        SubscriberId(id)
    }

    /// Ends a subscriber: what is still on its way to it is dropped.
    pub fn leave(&self, shard: ShardId, subscriber: SubscriberId) {
        self.routes.shards[shard.index()].table().inboxes.remove(&subscriber.0);
        let since = Instant::now();
        while self.handle.command(shard, Command::Leave { subscriber }).is_err() {
            if self.routes.stopped.load(Ordering::SeqCst) || !self.wait_for_room(shard, since) {
                return;
            }
        }
    }
}
