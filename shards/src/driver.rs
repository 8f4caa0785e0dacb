//! One shard's turn loop: what arrived goes to the core, what it answered goes out.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_turn::{
    ConnId, Core, Dial, HandOver, Io, ListenerId, ReadSwitch, ShardId, SyncFailure, SyncRequest,
};

use crate::accept::Accepting;
use crate::config::{GATHERED_COMPLETIONS, RuntimeConfig};
use crate::conn::Conns;
use crate::dial::Dials;
use crate::listen::Listener;
use crate::mesh::{Envelope, Mesh};
use crate::ring::{Completion, Operation, Ring, Settled};
use crate::shard::Left;
use crate::shared::{Phase, Shared};
use crate::sys;

/// What a shard does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another turn: there is work.
    Turn,
    /// Sleep until there is work.
    Sleep,
    /// End: the runtime is stopping, and all is said or the time is over.
    End,
}

/// Tells other threads what a core has to say.
pub(crate) type OnEvent<E> = Arc<dyn Fn(ShardId, E) + Send + Sync>;

/// What a driver is made of.
pub(crate) struct Parts<C: Core> {
    pub me: ShardId,
    pub core: C,
    pub ring: Ring,
    pub mesh: Mesh<C::Message>,
    pub shared: Arc<Shared<C::Command>>,
    pub on_event: OnEvent<C::Event>,
    pub listeners: Vec<Listener>,
    pub config: Arc<RuntimeConfig>,
}

/// Lists that are filled and emptied every turn, kept for their memory.
#[derive(Default)]
pub(crate) struct Lists {
    pub completions: Vec<Completion>,
    pub settled: Vec<Settled>,
    pub dirty: Vec<ConnId>,
    pub closes: Vec<ConnId>,
    pub reads: Vec<ReadSwitch>,
    pub syncs: Vec<SyncRequest>,
    pub dials: Vec<Dial>,
    pub slots: Vec<ConnId>,
    /// What layers made of received bytes.
    pub plain: Vec<u8>,
}

/// The driver of one shard.
pub(crate) struct Driver<C: Core> {
    pub(crate) me: ShardId,
    pub(crate) core: C,
    pub(crate) io: Io<C::Message, C::Event>,
    // Dropped before the connections, so that no request outlives its socket by much.
    pub(crate) ring: Ring,
    pub(crate) conns: Conns,
    /// Connections that are being opened.
    pub(crate) dials: Dials,
    pub(crate) mesh: Mesh<C::Message>,
    pub(crate) shared: Arc<Shared<C::Command>>,
    pub(crate) config: Arc<RuntimeConfig>,
    pub(crate) lists: Lists,
    pub(crate) listeners: Vec<Accepting>,
    /// Accepted, not yet opened.
    pub(crate) accepted: VecDeque<(OwnedFd, ListenerId)>,
    /// To be received from again.
    pub(crate) arming: Vec<ConnId>,
    /// Sent to the end; the outbox may have filled meanwhile.
    pub(crate) ready: Vec<ConnId>,
    /// Their backlog was high and is low now: to be reported.
    pub(crate) drained: Vec<ConnId>,
    /// Closed by either side: to be ended once written out.
    pub(crate) finishing: Vec<ConnId>,
    /// Failed while nothing was received: to be reported.
    pub(crate) failed: Vec<ConnId>,
    /// On their way to other shards.
    pub(crate) moving: Vec<HandOver>,
    /// When accepted connections must have shaken hands, soonest first; some may have.
    pub(crate) greeting: VecDeque<(u64, ConnId)>,
    /// When closing connections are cut, soonest first.
    pub(crate) lingering: VecDeque<(u64, ConnId)>,
    on_event: OnEvent<C::Event>,
    /// When it last woke up, if it gathers.
    woke_at: Option<Instant>,
    events: Vec<C::Event>,
    syncs: Vec<Option<(SyncRequest, Instant)>>,
    syncs_free: Vec<usize>,
    stopping: bool,
    /// While stopping: when it must be over.
    deadline: Option<Instant>,
}

impl<C: Core> Driver<C> {
    pub fn new(parts: Parts<C>) -> Self {
        let mut io = Io::new(parts.shared.shards.len());
        io.now = sys::now();
        io.backlog_high_bytes = parts.config.backlog_high_bytes;
        io.backlog_low_bytes = parts.config.backlog_low_bytes;
        let mut ring = parts.ring;
        ring.await_bell(parts.shared.shard(parts.me).bell.raw_fd());
        Self {
            me: parts.me,
            core: parts.core,
            io,
            ring,
            conns: Conns::default(),
            dials: Dials::new(),
            mesh: parts.mesh,
            shared: parts.shared,
            config: parts.config,
            lists: Lists::default(),
            listeners: parts.listeners.into_iter().map(Accepting::new).collect(),
            accepted: VecDeque::new(),
            arming: Vec::new(),
            ready: Vec::new(),
            drained: Vec::new(),
            finishing: Vec::new(),
            failed: Vec::new(),
            moving: Vec::new(),
            greeting: VecDeque::new(),
            lingering: VecDeque::new(),
            on_event: parts.on_event,
            woke_at: None,
            events: Vec::new(),
            syncs: Vec::new(),
            syncs_free: Vec::new(),
            stopping: false,
            deadline: None,
        }
    }

    /// One turn.
    pub fn turn(&mut self) -> Next {
        self.io.now = sys::now();
        self.mesh.tell_room(&mut self.io);
        self.complete();
        self.open_accepted();
        self.report_failed();
        self.turn_away_late();
        self.take_resolved();
        self.report_failed_dials();
        self.take_lanes();
        self.take_commands();
        if !self.stopping && self.shared.phase() == Phase::Stopping {
            self.stop();
        }
        self.core.turn_over(&mut self.io);
        self.note_endings();
        self.cut_overdue();
        self.write_out();
        self.next()
    }

    fn complete(&mut self) {
        let mut completions = std::mem::take(&mut self.lists.completions);
        self.ring.completions(&mut completions);
        // Sends first: while the core is called, backlogs only grow, so that one which it sees above the
        // high mark still is at the end of the turn, and it is told when it has drained.
        if self.ring.has_sends() {
            for completion in &completions {
                if let Operation::Send { index } = completion.operation() {
                    self.sent(index, completion.result);
                }
            }
        }
        self.report_drained();
        for completion in completions.drain(..) {
            match completion.operation() {
                Operation::Receive { conn } => self.received(conn, &completion),
                Operation::Send { .. } => {}
                Operation::NotCancelled { conn } => self.cancel_again(conn),
                Operation::Accept { listener } => self.accepted(listener, &completion),
                Operation::Sync { index } => self.synced(index, completion.result),
                Operation::Connect { index } => self.connect_completed(index, completion.result),
                Operation::Bell => self.heard_bell(),
            }
        }
        self.lists.completions = completions;
    }

    fn take_lanes(&mut self) {
        for source in 0..self.mesh.sources() {
            let (from, count) = self.mesh.arrived(source);
            for _ in 0..count {
                match self.mesh.take(source) {
                    Some(Envelope::Core(message)) => self.core.message(from, message, &mut self.io),
                    Some(Envelope::Connection(moved)) => self.open_moved(*moved),
                    None => break,
                }
            }
        }
        self.note_endings();
    }

    fn take_commands(&mut self) {
        let shared = Arc::clone(&self.shared);
        let commands = &shared.shard(self.me).commands;
        if commands.is_empty() {
            return;
        }
        // No more than wait now, so that a busy thread does not hold the turn up.
        for _ in 0..commands.len() {
            let Some(command) = commands.pop() else { break };
            if !self.stopping {
                self.core.command(command, &mut self.io);
            }
        }
        self.note_endings();
    }

    fn synced(&mut self, index: usize, result: i32) {
        let (request, since) = self.syncs[index].take().expect("a sync completes once");
        self.syncs_free.push(index);
        let outcome = if result < 0 { Err(SyncFailure { errno: -result }) } else { Ok(since.elapsed()) };
        self.core.synced(request.ticket, outcome, &mut self.io);
        self.note_endings();
    }

    fn submit_syncs(&mut self) {
        let mut requests = std::mem::take(&mut self.lists.syncs);
        self.io.take_syncs(&mut requests);
        for request in requests.drain(..) {
            let index = self.syncs_free.pop().unwrap_or_else(|| {
                self.syncs.push(None);
                self.syncs.len() - 1
            });
            self.ring.sync(request.file.as_raw_fd(), index);
            self.syncs[index] = Some((request, Instant::now()));
        }
        self.lists.syncs = requests;
    }

    fn tell_events(&mut self) {
        self.io.take_events(&mut self.events);
        for event in self.events.drain(..) {
            (self.on_event)(self.me, event);
        }
    }

    fn write_out(&mut self) {
        self.switch_reads();
        self.note_dials();
        self.send_dirty();
        self.move_away();
        self.arm();
        self.submit_syncs();
        self.mesh.publish(&mut self.io, &self.shared);
        self.tell_events();
        self.ring.enter();
        self.settle();
        self.finish();
    }

    /// The program stops: no more connections, and the core says goodbye.
    fn stop(&mut self) {
        self.stopping = true;
        self.stop_accepting();
        self.core.shutdown(&mut self.io);
        self.note_endings();
        self.stop_dialling();
        self.stop_greeting();
    }

    /// Whether the runtime is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn next(&mut self) -> Next {
        if self.stopping && self.is_over() {
            return Next::End;
        }
        let due = self.wake_at_ms().is_some_and(|at| at <= self.io.now.mono_ms);
        let work = due
            || self.ring.has_completions()
            || self.ring.has_requests()
            || !self.accepted.is_empty()
            || !self.failed.is_empty()
            || self.dials.have_failed()
            || !self.drained.is_empty()
            || !self.ready.is_empty();
        if work { Next::Turn } else { Next::Sleep }
    }

    /// While stopping: whether this shard may end. It may when all of them have nothing left, since
    /// until then one may still send it something.
    fn is_over(&mut self) -> bool {
        self.deadline = self.shared.deadline();
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return true;
        }
        let quiet = self.conns.len() == 0
            && self.dials.is_empty()
            && self.mesh.waiting() == 0
            && !self.mesh.has_incoming()
            && self.syncs_free.len() == self.syncs.len();
        self.shared.set_quiet(self.me, quiet);
        quiet && self.shared.all_quiet()
    }

    fn wake_at_ms(&self) -> Option<u64> {
        let stop = self.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            self.io.now.mono_ms + left.as_millis() as u64 + 1
        });
        let linger = self.lingering.front().map(|(at, _)| *at);
        let greeting = self.greeting.front().map(|(at, _)| *at);
        let accept = self.listeners.iter().filter_map(Accepting::rests_until_ms).min();
        [self.io.wake_at_ms, linger, greeting, accept, stop].into_iter().flatten().min()
    }

    /// Sleeps until there is something to do. The order matters: say so first, look last. What completes
    /// in the ring meanwhile ends the sleep before it begins.
    pub fn sleep(&mut self) {
        let shared = Arc::clone(&self.shared);
        let parking = shared.shard(self.me).bell.parking();
        parking.announce();
        if !self.has_company() && !self.mesh.wait_for_room(self.io.full_lanes()) {
            let left = |at: u64| Duration::from_millis(at.saturating_sub(self.io.now.mono_ms));
            let left = self.wake_at_ms().map(left);
            if let Some(gather) = self.gather_time() {
                self.ring.sleep(GATHERED_COMPLETIONS, Some(left.map_or(gather, |left| left.min(gather))));
            }
            if !self.ring.has_completions() {
                self.ring.sleep(1, left);
            }
        }
        parking.awake();
        if self.config.gather_us > 0 {
            self.woke_at = Some(Instant::now());
        }
    }

    /// How long to wait for more before the next turn, when the last wake-up was just now.
    fn gather_time(&self) -> Option<Duration> {
        let gather = Duration::from_micros(u64::from(self.config.gather_us));
        self.woke_at.filter(|woke_at| woke_at.elapsed() < gather).map(|_| gather)
    }

    /// Somebody rang: what they left is found in the lanes and queues.
    fn heard_bell(&mut self) {
        let bell = &self.shared.shard(self.me).bell;
        bell.silence();
        self.ring.await_bell(bell.raw_fd());
    }

    /// Looks for work without a turn.
    fn has_work(&mut self) -> bool {
        self.ring.enter();
        self.ring.has_completions() || self.has_company()
    }

    /// Whether another thread left something to do.
    fn has_company(&mut self) -> bool {
        self.mesh.has_incoming()
            || !self.shared.shard(self.me).commands.is_empty()
            || !self.shared.shard(self.me).resolved.is_empty()
            || (!self.stopping && self.shared.phase() == Phase::Stopping)
            || (self.stopping && self.is_over())
    }

    /// Looks for work for a while; false when there was none.
    pub fn spin(&mut self, time: Duration) -> bool {
        let since = Instant::now();
        while since.elapsed() < time {
            if self.has_work() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// How long to look for work before sleeping.
    pub fn spin_time(&self) -> Duration {
        Duration::from_micros(u64::from(self.config.spin_us))
    }

    /// Cuts what is left, and says how much that is.
    pub fn abandon(&mut self) -> Left {
        let left = self.conns.used();
        for conn in &left {
            self.conns.at(conn.slot).socket().cut();
        }
        Left { connections: left.len(), bytes: left.iter().map(|&conn| self.io.backlog_bytes(conn)).sum() }
    }
}

impl<C: Core> Drop for Driver<C> {
    fn drop(&mut self) {
        self.shared.forget_connections(self.conns.len());
    }
}
