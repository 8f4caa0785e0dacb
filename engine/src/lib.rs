//! One shard of the broker as a deterministic state machine.
//!
//! [`Engine`] is a [`Core`]: connections, sessions, subscriptions and retained messages of one shard,
//! told what happens and answering into an [`Io`]. It owns all its state, shares nothing and waits for
//! nothing; other shards are reached by [`ShardMessage`]s alone.
//!
//! invariant: no clock, no socket, no thread, no lock and no randomness in here but what is handed in.
#![forbid(unsafe_code)]

mod acknowledge;
mod acks;
mod carried;
mod command;
mod commit;
mod compaction;
mod config;
mod conn;
mod connect;
mod deliver;
mod encodings;
mod ended;
mod exactly_once;
mod hash;
pub mod ids;
mod ledger;
mod lifecycle;
mod local;
mod mesh;
mod outgoing;
mod publish;
mod pump;
mod replay;
mod restore;
mod retain;
pub mod retained;
mod route;
mod run;
mod session;
mod shared;
mod subscribe;
mod sys;
mod telling;
mod timers;
mod to_groups;
pub mod tree;
mod violation;

pub use carried::CarriedMessage;
pub use command::{Command, Event, LocalMessage, RequestId, SubscriberId};
pub use config::{EngineConfig, Limits, OverflowPolicy};
pub use ended::TransportEnds;
pub use hash::owner;
pub use ledger::{DropReason, Ledger, Traffic};
pub use mesh::{ReplayId, ShardMessage, WaitId};
pub use route::Interest;
pub use run::CarriedRun;
pub use shared::Census;

use std::time::Duration;

use hashbrown::HashMap;
use ringmq_codec::{Frame, PacketType, ReasonCode, encode_pingresp};
use ringmq_storage::{Level, Log, LogOffset, MemoryLog, PublicationRecord, Recovered};
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, Core, Io, ListenerId, ShardId, ShardSet, SyncFailure, SyncTicket,
    TurnedAway, Wheel,
};

use crate::compaction::Walk;
use crate::conn::{Conns, Flow, Held, Input, Phase};
use crate::deliver::{Completions, Publication, Retained};
use crate::encodings::Encodings;
use crate::exactly_once::{Came, Part};
use crate::hash::Hashing;
use crate::ids::SessionSlot;
use crate::mesh::{Done, Mesh};
use crate::publish::Sender;
use crate::replay::{Chunk, Replays};
use crate::retained::RetainedStore;
use crate::route::{RouteRef, Router};
use crate::session::{Numbering, SessionKey, Sessions};
use crate::sys::Figures;
use crate::timers::Timer;
use crate::to_groups::Scope;
use crate::violation::Violation;

/// What an engine answers into.
pub type EngineIo = Io<ShardMessage, Event>;

/// Timers that fire in one turn; the rest fire in the next ones.
const TIMERS_PER_TURN_MAX: usize = 1024;

/// One shard of the broker.
#[derive(Debug)]
pub struct Engine<L: Log = MemoryLog> {
    config: EngineConfig,
    limits: Limits,
    hashing: Hashing,
    random: u64,
    conns: Conns,
    sessions: Sessions,
    locals: HashMap<SubscriberId, SessionSlot, Hashing>,
    router: Router,
    retained: RetainedStore<LogOffset>,
    retained_bytes: u64,
    replays: Replays,
    mesh: Mesh,
    log: L,
    wheel: Wheel<Timer>,
    ledger: Ledger,
    traffic: Traffic,
    figures: Figures,
    started: bool,
    /// What the log held, until the first turn.
    recovered: Option<Box<Recovered>>,
    /// The shards that have not said yet what they recovered, this one among them.
    recovering: ShardSet,
    /// What the program asked for meanwhile.
    commands: Vec<Command>,
    stopping: bool,
    /// Whether any acknowledgement waits for a sync.
    syncs: bool,
    /// Sessions whose QoS 2 messages wait for one.
    gated: Vec<SessionKey>,
    /// QoS 2 publications that came from other shards and may come again.
    came: Came,
    /// Those that the shards said may come again, while they start.
    claims: Vec<PublicationRecord>,
    /// The shards whose log is full, and whether this one's was when they were told.
    full_shards: ShardSet,
    told_full: bool,
    /// Copies that there was no room for.
    refused_copies: u64,
    /// Bytes that it would take to tell all sessions anew.
    state_bytes: u64,
    walk: Option<Walk>,
    completions: Completions,
    /// Connections that are held because a lane was full.
    blocked: Vec<ConnId>,
    /// Sessions whose connection was found slow and has not drained since.
    slow_sessions: u32,
    /// Connections to end because their session's queue overflowed.
    overflowed: Vec<ConnId>,
    encodings: Encodings,
    due: Vec<Timer>,
    over: Vec<Done>,
    properties_scratch: Vec<u8>,
    alias_scratch: Vec<u8>,
    replay_scratch: Vec<LogOffset>,
}

impl Engine<MemoryLog> {
    /// A shard whose sessions live as long as the process.
    pub fn new(config: EngineConfig) -> Self {
        Self::with_log(config, MemoryLog::new())
    }
}

impl<L: Log> Engine<L> {
    /// A shard on a log.
    pub fn with_log(config: EngineConfig, mut log: L) -> Self {
        if config.syncs() {
            // From the first record on, so that each says what it rests on.
            log.want_synced();
        }
        let hashing = Hashing::new(config.seed);
        Self {
            limits: config.limits.clone(),
            hashing,
            random: config.seed ^ (config.shard.index() as u64) << 32,
            conns: Conns::default(),
            sessions: Sessions::new(
                hashing,
                Numbering { epoch: config.epoch, shard: config.shard.index(), count: 0 },
            ),
            locals: HashMap::with_hasher(hashing),
            router: Router::new(hashing, config.seed, config.limits.topic_levels_max),
            retained: RetainedStore::new(config.seed),
            retained_bytes: 0,
            replays: Replays::new(hashing),
            mesh: Mesh::new(config.shards, config.shard),
            log,
            wheel: Wheel::new(0),
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            figures: Figures::new(config.shards),
            started: false,
            recovered: None,
            recovering: ShardSet::EMPTY,
            commands: Vec::new(),
            stopping: false,
            syncs: config.syncs(),
            gated: Vec::new(),
            came: Came::with_hasher(hashing),
            claims: Vec::new(),
            full_shards: ShardSet::EMPTY,
            told_full: false,
            refused_copies: 0,
            state_bytes: 0,
            walk: None,
            completions: Completions::default(),
            blocked: Vec::new(),
            slow_sessions: 0,
            overflowed: Vec::new(),
            encodings: Encodings::default(),
            due: Vec::new(),
            over: Vec::new(),
            properties_scratch: Vec::new(),
            alias_scratch: Vec::new(),
            replay_scratch: Vec::new(),
            config,
        }
    }

    /// A shard that goes on where its log ended. All shards of a broker start so, or none.
    pub fn recover(config: EngineConfig, log: L, recovered: Recovered) -> Self {
        // Itself among them: the others may be done before its first turn is.
        let mut recovering = ShardSet::others(config.shards, config.shard);
        recovering.insert(config.shard);
        let recovered = Some(Box::new(recovered));
        Self { recovered, recovering, ..Self::with_log(config, log) }
    }

    /// The log.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// What became of the messages so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The next number of a splitmix64 sequence.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One whole packet of a connection.
    #[inline]
    fn packet(
        &mut self,
        id: ConnId,
        packet: &Frame<'_>,
        input: Input<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        // What follows from one packet is one unit for the log.
        self.log.end_unit();
        let Some(conn) = self.conns.get_mut(id) else { return Ok(Flow::Gone) };
        let Phase::Connected(session) = conn.phase else {
            return self.first_packet(id, packet, input, io);
        };
        let sender = Sender { conn: id, session, version: conn.version };
        match packet.packet_type()? {
            PacketType::Publish => self.on_publish(sender, packet, input, io),
            PacketType::PubAck => self.on_puback(sender, packet, io),
            PacketType::PubRec => self.on_pubrec(sender, packet, io),
            PacketType::PubRel => self.on_pubrel(sender, packet, io),
            PacketType::PubComp => self.on_pubcomp(sender, packet, io),
            PacketType::Subscribe => self.on_subscribe(sender, packet, io),
            PacketType::Unsubscribe => self.on_unsubscribe(sender, packet, io),
            PacketType::PingReq => {
                ringmq_codec::Packet::decode(sender.version, packet)?;
                encode_pingresp(io.outbox(id).tail()); // [MQTT-3.12.4-1]
                Ok(Flow::Used(packet.total))
            }
            PacketType::Disconnect => self.on_disconnect(sender, packet, io),
            PacketType::Connect => Err(Violation::ConnectTwice),
            PacketType::Auth => {
                ringmq_codec::Packet::decode(sender.version, packet)?;
                Err(Violation::AuthUnexpected)
            }
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
                Err(Violation::NotForServers)
            }
        }
    }

    /// A message of another shard for this one's subscribers.
    fn on_carried(&mut self, message: &CarriedMessage, io: &mut EngineIo) {
        if !self.is_new(message, Part::Subscribers) {
            return;
        }
        let appended = self.log.appended();
        let publication = Publication {
            view: message.view(),
            qos: message.qos(),
            retain: if message.retain() { Retained::AsPublished } else { Retained::No },
            publisher: None,
            number: None,
        };
        let route = self.router.route(publication.view.topic, RouteRef::default());
        if !route.is_ok_and(|route| self.deliver_here(route, &publication, io)) {
            self.ledger.copies += 1;
            self.ledger.drop_copy(DropReason::NoSubscriber);
        }
        self.note_came(message, Part::Subscribers, appended);
    }

    fn on_carried_run(&mut self, carried: &CarriedRun, io: &mut EngineIo) {
        let run = carried.run();
        let route = self.router.route(run.topic, RouteRef::default());
        if !route.is_ok_and(|route| self.deliver_run(route, &run, None, io)) {
            self.ledger.copies += run.count;
            self.ledger.drop_copies(DropReason::NoSubscriber, run.count);
        }
    }

    fn on_carried_to_groups(
        &mut self,
        message: &CarriedMessage,
        groups: &[Box<str>],
        scope: Scope,
        io: &mut EngineIo,
    ) {
        if !self.is_new(message, Part::Groups) {
            return;
        }
        let appended = self.log.appended();
        let publication = Publication {
            view: message.view(),
            qos: message.qos(),
            retain: if message.retain() { Retained::AsPublished } else { Retained::No },
            publisher: None,
            // What is sent on from here may come back for another group.
            number: None,
        };
        let mut returned = ShardSet::EMPTY;
        for key in groups {
            returned.union(&self.give_to_group(key, &publication, scope, io));
        }
        // What is not all done here may have to come again: rather twice than not at all.
        if returned.is_empty() {
            self.note_came(message, Part::Groups, appended);
        }
    }

    /// A message for a group came back from another shard. Where it is sent next.
    fn on_returned(&mut self, message: &CarriedMessage, key: &str, hops: u8, io: &mut EngineIo) -> ShardSet {
        let publication = Publication {
            view: message.view(),
            qos: message.qos(),
            retain: if message.retain() { Retained::AsPublished } else { Retained::No },
            publisher: None,
            number: None,
        };
        self.give_to_group(key, &publication, Scope::Again { hops }, io)
    }

    fn on_message(&mut self, from: ShardId, message: ShardMessage, io: &mut EngineIo) {
        self.log.end_unit();
        match message {
            ShardMessage::Publish(message) => {
                self.mesh.count_received(from);
                self.note_live(from, &message);
                self.on_carried(&message, io);
            }
            ShardMessage::Run(run) => {
                self.mesh.count_received(from);
                self.on_carried_run(&run, io);
            }
            ShardMessage::ToGroups { message, groups, hops } => {
                self.mesh.count_received(from);
                self.on_carried_to_groups(&message, &groups, Scope::ThisShard { hops, from }, io);
            }
            ShardMessage::Returned { message, group, hops, number } => {
                let sent_to = self.on_returned(&message, &group, hops, io);
                let (level, appended) = (self.config.strictest(), self.log.appended());
                let log = (self.log.reached(level) < appended).then_some(appended);
                self.mesh.extend((from, number), &sent_to, log);
            }
            ShardMessage::Retain(message) => {
                self.mesh.count_received(from);
                self.store_retained(&message.view());
            }
            ShardMessage::Interest { filter, change } => self.router.set_interest(&filter, from, change),
            ShardMessage::Census { key, census } => self.on_census(from, &key, census),
            ShardMessage::Barrier(wait) => {
                if self.mesh.barrier_set(from, wait) {
                    io.message(from, ShardMessage::BarrierPassed(wait));
                }
            }
            ShardMessage::BarrierPassed(wait) => {
                if let Some(done) = self.mesh.arrive(wait) {
                    self.finish(done, io);
                }
            }
            ShardMessage::Accepted(level, count) => self.on_accepted(from, (level, count), io),
            ShardMessage::Went(publication) => self.on_went(publication),
            ShardMessage::Recovered(unfinished) => self.on_recovered(from, unfinished, io),
            ShardMessage::LogIsFull(true) => self.full_shards.insert(from),
            ShardMessage::LogIsFull(false) => self.full_shards.remove(from),
            ShardMessage::ReplayStart { replay, filter } => self.serve_replay(from, replay, filter, io),
            ShardMessage::ReplayNext(replay) => self.serve_next(from, replay, io),
            ShardMessage::ReplayStop(replay) => self.stop_serving(from, replay),
            ShardMessage::ReplayChunk { replay, messages, seen, more } => {
                self.take_chunk(from, replay, Chunk { messages: &messages, seen: &seen, more }, io);
            }
            ShardMessage::Figures(figures) => self.take_figures(from, *figures),
        }
    }

    fn on_census(&mut self, from: ShardId, key: &str, census: Census) {
        let parsed = ringmq_codec::check_filter(key);
        let filter = parsed.expect("a shard tells of groups whose key it checked").filter;
        self.router.set_census(key, filter, from, census);
    }

    fn on_accepted(&mut self, from: ShardId, report: (Level, u64), io: &mut EngineIo) {
        let mut over = std::mem::take(&mut self.over);
        self.mesh.accepted(from, report, &mut over);
        self.finish_all(over, io);
        if self.mesh.holds_barriers() {
            for (shard, wait) in self.mesh.barriers_passed() {
                io.message(shard, ShardMessage::BarrierPassed(wait));
            }
        }
    }

    fn finish_all(&mut self, mut over: Vec<Done>, io: &mut EngineIo) {
        for done in over.drain(..) {
            self.finish(done, io);
        }
        self.over = over;
    }

    fn fire_timers(&mut self, io: &mut EngineIo) -> bool {
        let mut due = std::mem::take(&mut self.due);
        let more = self.wheel.expire(io.now.mono_ms, TIMERS_PER_TURN_MAX, &mut due);
        for timer in due.drain(..) {
            self.log.end_unit();
            self.on_timer(timer, io);
        }
        self.due = due;
        more
    }
}

/// How soon a shard looks after its log that is full, not synced, or about to take or give back files.
const LOG_RETRY_MS: u64 = 25;

impl<L: Log> Core for Engine<L> {
    type Message = ShardMessage;
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, conn: ConnId, info: &ConnInfo, io: &mut EngineIo) {
        self.conns.insert(conn, *info, self.config.level(info.listener), io.now.mono_ms);
        let deadline = io.now.mono_ms + self.limits.connect_timeout_ms;
        let timer = self.wheel.schedule(deadline, Timer::ConnectDeadline(conn));
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.timer = Some(timer);
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut EngineIo) {
        self.take_bytes(conn, bytes, io);
    }

    fn drained(&mut self, id: ConnId, io: &mut EngineIo) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (phase, held) = (conn.phase, conn.held);
        if let Phase::Connected(session) = phase {
            self.not_slow(session);
            let (_, mut delivery) = self.delivery(io);
            delivery.pump(session);
        }
        if held == Held::Backlog {
            self.process_carry(id, io);
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut EngineIo) {
        self.on_gone(conn, reason, io);
    }

    fn turned_away(&mut self, listener: ListenerId, why: TurnedAway, _io: &mut EngineIo) {
        self.on_turned_away(listener, why);
    }

    fn message(&mut self, from: ShardId, message: ShardMessage, io: &mut EngineIo) {
        self.on_message(from, message, io);
    }

    fn command(&mut self, command: Command, io: &mut EngineIo) {
        self.log.end_unit();
        if self.recovering.is_empty() {
            self.on_command(command, io);
        } else {
            self.commands.push(command);
        }
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>, _io: &mut EngineIo) {
        self.log.synced(ticket, outcome);
    }

    fn turn_over(&mut self, io: &mut EngineIo) {
        if !self.started {
            self.started = true;
            self.start_figures(io);
            if let Some(recovered) = self.recovered.take() {
                self.restore(*recovered, io);
            }
        }
        self.log.end_unit();
        let more_timers = self.recovering.is_empty() && self.fire_timers(io);
        self.drop_overflowed(io);
        self.advance_replays(io);
        self.unblock(io);
        self.log_reached(io);
        let compacts = self.commit(io);
        debug_assert!(self.ledger.balances(), "every copy is accounted for: {:?}", self.ledger);
        let now = io.now.mono_ms;
        let again = more_timers
            || compacts
            || self.replays.is_due()
            || self.mesh.log_is_due(Level::Written, self.log.reached(Level::Written));
        let unsynced = self.syncs && self.log.reached(Level::Synced) < self.log.appended();
        let waits = self.told_full || unsynced || self.log.wants_turn();
        let retry = waits.then_some(now + LOG_RETRY_MS);
        let timers = if self.recovering.is_empty() { self.wheel.next_due_ms() } else { None };
        io.wake_at_ms = if again { Some(now) } else { timers.into_iter().chain(retry).min() };
    }

    fn shutdown(&mut self, io: &mut EngineIo) {
        self.stopping = true;
        self.log.want_synced();
        for id in self.conns.ids() {
            self.disconnect(id, ReasonCode::ServerShuttingDown, None, io);
        }
    }
}
