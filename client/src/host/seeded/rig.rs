//! A host under the simulated driver, wired to brokers under another: what one core's far ends send, the other's
//! receive.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ringmq_codec::{QoS, ReasonCode, SubscriptionOptions};
use ringmq_engine::{Engine, EngineConfig, Limits};
use ringmq_sim::{ClientId, Network, Rng, START, World};
use ringmq_turn::{ConnectFailure, ConnectFailureKind, PeerId, ShardId};

use super::super::tests::program::{Diary, Inbox, Inboxes};
use super::super::{Host, Look};
use super::ledger::Ledger;
use crate::error::Error;
use crate::link::{
    Answer, Begin, Mailbox, Outcome, Publication, Request, SessionId, SessionMetrics, SessionShared,
    StoreLink, Wanted,
};
use crate::message::{Message, Received};
use crate::options::SessionOptions;
use crate::slot::Slot;

/// Tells a publication from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub session: u32,
    pub number: u32,
}

impl Key {
    fn encode(self, padding: usize) -> Vec<u8> {
        let mut payload = self.session.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.resize(payload.len() + padding, 0x5A);
        payload
    }

    fn decode(payload: &[u8]) -> Self {
        let (session, rest) = payload.split_first_chunk().unwrap();
        let (number, _) = rest.split_first_chunk().unwrap();
        Self { session: u32::from_be_bytes(*session), number: u32::from_be_bytes(*number) }
    }
}

/// What a program published.
pub(super) struct Published {
    pub key: Key,
    pub topic: &'static str,
    pub qos: QoS,
    pub outcome: Arc<Slot<Outcome>>,
}

/// One session, as its program sees it.
pub(super) struct Program {
    pub side: usize,
    pub store: Option<Arc<Ledger>>,
    pub shared: Arc<SessionShared>,
    pub diary: Arc<Diary>,
    pub story: Vec<String>,
    pub inboxes: Arc<Inboxes>,
    pub published: Vec<Published>,
    /// What arrived, in order, repetitions included.
    pub arrived: Vec<(Key, Received)>,
    pub asked: Vec<(String, Arc<Slot<Outcome>>)>,
}

/// A connection between a side's world and the broker's.
struct Wire {
    side: usize,
    /// The far end of the host's connection, and that of the broker's.
    near: ClientId,
    far: ClientId,
    near_ended: bool,
    far_ended: bool,
}

/// A process with sessions.
struct Side {
    hosts: World<Host>,
    mailbox: Arc<Mailbox>,
    rang: Arc<AtomicBool>,
}

impl Side {
    fn new(seed: u64, network: &Network) -> Self {
        let rang = Arc::new(AtomicBool::new(false));
        let bell = rang.clone();
        let mailbox = Arc::new(Mailbox::new(Box::new(move || bell.store(true, Ordering::Relaxed))));
        let hosts = World::new(seed, 1, network.clone(), |_, seed| Host::new(mailbox.clone(), seed));
        Self { hosts, mailbox, rang }
    }
}

/// Processes with sessions, and the broker.
pub(super) struct Rig {
    sides: Vec<Side>,
    pub brokers: World<Engine>,
    pub rng: Rng,
    pub programs: Vec<Program>,
    wires: Vec<Wire>,
    /// Nobody listens.
    pub is_down: bool,
    limits: Limits,
    network: Network,
    shards: usize,
    starts: u64,
    seed: u64,
}

const HOST: usize = 0;

impl Rig {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        let network = Network {
            client_delay_ms: 0..=*rng.pick(&[0, 5]),
            backlog_high_bytes: *rng.pick(&[600, 256 * 1024]),
            backlog_low_bytes: 300,
            ..Network::rough()
        };
        let limits = Limits {
            receive_maximum: *rng.pick(&[1, 3, 20, 1024]),
            inflight_messages_max: *rng.pick(&[1, 2, 10, 1024]),
            ..Limits::default()
        };
        let shards = 1 + rng.below(3);
        let sides = vec![Side::new(seed, &network), Side::new(seed + 1, &network)];
        let brokers = broker(seed, shards, &network, &limits);
        Self {
            sides,
            brokers,
            rng,
            programs: Vec::new(),
            wires: Vec::new(),
            is_down: false,
            limits,
            network,
            shards,
            starts: 0,
            seed,
        }
    }

    /// Adds a session with its routes to a side.
    pub fn add(
        &mut self,
        side: usize,
        options: SessionOptions,
        inboxes: Vec<Inbox>,
        store: Option<Arc<Ledger>>,
    ) -> usize {
        let routes = Arc::new(Inboxes::default());
        inboxes.into_iter().for_each(|inbox| drop(routes.add(inbox)));
        let id = self.programs.len() as u32;
        let (shared, diary) = self.begin((side, id), Arc::new(options), &routes, store.as_ref());
        self.programs.push(Program {
            side,
            store,
            shared,
            diary,
            story: Vec::new(),
            inboxes: routes,
            published: Vec::new(),
            arrived: Vec::new(),
            asked: Vec::new(),
        });
        self.programs.len() - 1
    }

    /// Begins a session in a process, with what its store kept.
    fn begin(
        &mut self,
        (side, id): (usize, u32),
        options: Arc<SessionOptions>,
        routes: &Arc<Inboxes>,
        store: Option<&Arc<Ledger>>,
    ) -> (Arc<SessionShared>, Arc<Diary>) {
        let diary = Arc::new(Diary::default());
        let peers = (0..options.addresses.len() as u32).map(PeerId).collect();
        let restored = store.map(|store| store.restore(&mut self.rng)).unwrap_or_default();
        let mailbox = &self.sides[side].mailbox;
        let shared = Arc::new(SessionShared {
            id: SessionId(id),
            options,
            mailbox: mailbox.clone(),
            outgoing: Default::default(),
            router: routes.clone(),
            watcher: diary.clone(),
            store: store.map(|store| store.clone() as Arc<dyn StoreLink>),
            metrics: SessionMetrics::default(),
            broker_packet_bytes_max: Default::default(),
            response_information: Default::default(),
        });
        shared.set_next_number(restored.next);
        mailbox.post(Request::Add(shared.clone(), Box::new(Begin { peers, restored, ..Begin::default() })));
        (shared, diary)
    }

    /// A process is killed, and begins again with what its stores kept.
    pub fn crash(&mut self, side: usize) {
        let now_ms = self.sides[side].hosts.now_ms();
        let seed = self.rng.next_u64();
        for wire in self.wires.iter_mut().filter(|wire| wire.side == side) {
            if !std::mem::replace(&mut wire.far_ended, true) {
                self.brokers.cut(wire.far);
            }
        }
        self.wires.retain(|wire| wire.side != side);
        self.sides[side] = Side::new(seed, &self.network);
        self.sides[side].hosts.freeze_ms(now_ms - START.mono_ms);
        for at in 0..self.programs.len() {
            if self.programs[at].side == side {
                let program = &self.programs[at];
                program.check_story();
                let (options, routes) = (program.shared.options.clone(), program.inboxes.clone());
                let store = program.store.clone();
                program.shared.abandon();
                let (shared, diary) = self.begin((side, at as u32), options, &routes, store.as_ref());
                let program = &mut self.programs[at];
                (program.shared, program.diary) = (shared, diary);
                program.story.clear();
            }
        }
    }

    /// Stores carry out some of what they were told, and say so; or fail.
    fn keep(&mut self) {
        for program in &self.programs {
            let Some(store) = &program.store else { continue };
            let answer = store.work(&mut self.rng);
            if let Some(answer) = answer {
                program.shared.mailbox.post(Request::Stored(program.shared.id, answer));
            }
        }
    }

    pub fn request(&self, at: usize, request: fn(SessionId) -> Request) {
        let shared = &self.programs[at].shared;
        shared.mailbox.post(request(shared.id));
    }

    pub fn subscribe(&mut self, at: usize, filter: &str, qos: QoS) {
        let program = &mut self.programs[at];
        let (answer, slot) = Answer::new();
        let options = SubscriptionOptions::new(qos);
        let wanted = Wanted { filter: filter.into(), options, subscription_id: 0 };
        program.shared.mailbox.post(Request::Subscribe(program.shared.id, wanted, answer));
        program.asked.push((filter.to_owned(), slot));
    }

    /// Publishes, if there is room.
    pub fn publish(&mut self, at: usize, topic: &'static str, qos: QoS) {
        let padding = *self.rng.pick(&[0, 0, 10, 100, 5000]);
        let program = &mut self.programs[at];
        let key = Key { session: at as u32, number: program.published.len() as u32 };
        let message = Message::new(topic, Bytes::from(key.encode(padding))).qos(qos);
        let (answer, outcome) = Answer::new();
        let kept = program.store.as_ref().filter(|_| qos != QoS::AtMostOnce);
        let number = program.shared.next_number();
        let copy = message.clone();
        let publication = Publication { message, number: None, since_ms: 0, delivery: Some(answer) };
        match program.shared.publish(publication) {
            Ok(()) if kept.is_some() => {
                kept.expect("it was just looked at").put(number, copy);
                program.published.push(Published { key, topic, qos, outcome });
            }
            Ok(()) => program.published.push(Published { key, topic, qos, outcome }),
            Err((_, Error::Full { .. })) => {}
            Err((_, error)) => panic!("{error}"),
        }
    }

    /// The broker's process ends, and another begins that knows nothing.
    pub fn restart_broker(&mut self) {
        let now_ms = self.brokers.now_ms();
        self.starts += 1;
        self.brokers = broker(self.seed + self.starts * 1000, self.shards, &self.network, &self.limits);
        self.brokers.freeze_ms(now_ms - self.brokers.now_ms());
        for wire in self.wires.drain(..) {
            if !wire.near_ended {
                self.sides[wire.side].hosts.cut(wire.near);
            }
        }
    }

    /// Something unkind happens to a connection.
    pub fn harm(&mut self) {
        if self.wires.is_empty() {
            return;
        }
        let at = self.rng.below(self.wires.len());
        let (choice, wire) = (self.rng.below(6), &mut self.wires[at]);
        let hosts = &mut self.sides[wire.side].hosts;
        match choice {
            0..3 => {
                if !wire.near_ended {
                    hosts.cut(wire.near);
                }
                if !wire.far_ended {
                    self.brokers.cut(wire.far);
                }
                (wire.near_ended, wire.far_ended) = (true, true);
            }
            3 => hosts.stall(wire.near, true),
            4 => self.brokers.stall(wire.far, true),
            _ => {
                hosts.stall(wire.near, false);
                self.brokers.stall(wire.far, false);
            }
        }
    }

    pub fn unstall(&mut self) {
        for wire in &self.wires {
            self.sides[wire.side].hosts.stall(wire.near, false);
            self.brokers.stall(wire.far, false);
        }
    }

    /// A little time passes for everybody.
    pub fn pass(&mut self, ms: u64) {
        self.keep();
        for side in &mut self.sides {
            if side.rang.swap(false, Ordering::Relaxed) {
                side.hosts.command(ShardId::new(HOST), Look);
            }
            side.hosts.run_for_ms(ms);
        }
        self.brokers.run_for_ms(ms);
        self.carry();
        for program in &mut self.programs {
            program.story.extend(program.diary.take());
        }
    }

    /// Carries what was sent from the one world to the other.
    fn carry(&mut self) {
        let Self { sides, brokers, wires, rng, .. } = self;
        for (side, Side { hosts, .. }) in sides.iter_mut().enumerate() {
            for dial in hosts.take_dials(ShardId::new(HOST)) {
                if self.is_down || rng.chance(0.1) {
                    let kind = ConnectFailureKind::Refused;
                    hosts.refuse_dial(dial, ConnectFailure { kind, detail: "refused".into() });
                    continue;
                }
                let (near, far) = (hosts.accept_dial(dial), brokers.connect(None));
                wires.push(Wire { side, near, far, near_ended: false, far_ended: false });
            }
        }
        for wire in wires.iter_mut() {
            let hosts = &mut sides[wire.side].hosts;
            let to_broker = hosts.take_received(wire.near);
            if !wire.far_ended && !to_broker.is_empty() {
                brokers.send(wire.far, &to_broker);
            }
            let to_host = brokers.take_received(wire.far);
            if !wire.near_ended && !to_host.is_empty() {
                hosts.send(wire.near, &to_host);
            }
            if !wire.near_ended && hosts.is_closed(wire.near) {
                wire.near_ended = true;
                if !std::mem::replace(&mut wire.far_ended, true) {
                    brokers.hang_up(wire.far);
                }
            }
            if !wire.far_ended && brokers.is_closed(wire.far) {
                wire.far_ended = true;
                if !std::mem::replace(&mut wire.near_ended, true) {
                    hosts.hang_up(wire.near);
                }
            }
        }
        wires.retain(|wire| !(wire.near_ended && wire.far_ended));
    }

    /// Programs take some of what their routes hold.
    pub fn take(&mut self, most: usize) {
        for program in &mut self.programs {
            let inboxes: Vec<_> = program.inboxes.inboxes.lock().unwrap().clone();
            for inbox in inboxes {
                for _ in 0..most {
                    let Some(mut received) = inbox.take() else { break };
                    received.ack();
                    program.arrived.push((Key::decode(&received.payload), received));
                }
            }
        }
    }

    /// Lets everything come to rest: all are connected, and nothing is under way.
    pub fn settle(&mut self) {
        self.is_down = false;
        self.programs.iter().filter_map(|program| program.store.as_ref()).for_each(|store| store.heal());
        for _ in 0..20_000 {
            self.unstall();
            self.pass(10);
            self.take(usize::MAX);
            let is_settled = self.programs.iter().all(|program| {
                program.is_ready()
                    && program.published.iter().all(|published| published.outcome.get().is_some())
                    && program.asked.iter().all(|(_, slot)| slot.get().is_some())
            });
            if is_settled {
                break;
            }
        }
        // Let what is still on its way to subscribers arrive.
        let mut quiet_rounds = 0;
        while quiet_rounds < 200 {
            let before: usize = self.programs.iter().map(|program| program.arrived.len()).sum();
            self.pass(10);
            self.take(usize::MAX);
            let after: usize = self.programs.iter().map(|program| program.arrived.len()).sum();
            quiet_rounds = if after > before { 0 } else { quiet_rounds + 1 };
        }
        for (at, program) in self.programs.iter().enumerate() {
            assert!(program.is_ready(), "session {at} is not ready: {:?}", program.story);
            for published in &program.published {
                assert!(published.outcome.get().is_some(), "{:?} was not settled", published.key);
            }
        }
    }

    /// Removes every session; nothing is left of them.
    pub fn finish(mut self) {
        for program in &self.programs {
            program.shared.mailbox.post(Request::Remove(program.shared.id));
        }
        for _ in 0..100 {
            self.pass(10);
        }
        for Side { hosts, .. } in &self.sides {
            let host = hosts.core(ShardId::new(HOST));
            assert_eq!(host.len(), 0);
            assert!(host.wheel.is_empty() && host.by_id.is_empty());
            assert!(host.by_conn.iter().all(Option::is_none));
            assert_eq!(hosts.open_count(ShardId::new(HOST)), 0);
        }
        for program in &self.programs {
            assert_eq!(program.shared.held(), 0, "{:?}", program.shared.id);
            program.check_story();
            assert_eq!(program.story.last().map(String::as_str), Some("removed"));
        }
    }
}

fn broker(seed: u64, shards: usize, network: &Network, limits: &Limits) -> World<Engine> {
    World::new(seed, shards, network.clone(), |shard, _| {
        let config = EngineConfig::new(shard, shards, seed);
        Engine::new(EngineConfig { limits: limits.clone(), sys_interval_ms: 0, ..config })
    })
}

impl Program {
    fn is_ready(&self) -> bool {
        self.story.last().is_some_and(|last| last == "ready")
    }

    /// What happened is told in an order that makes sense, and once.
    pub fn check_story(&self) {
        let mut last = "";
        let (mut attempts, mut store_failed) = (0, false);
        for line in self.story.iter().filter(|line| !line.starts_with("store failed")) {
            let word = line.split([' ', ':']).next().unwrap();
            let is_sound = match word {
                "connecting" => matches!(last, "" | "lost" | "disconnected"),
                "connected" => last == "connecting",
                "ready" => last == "connected",
                "lost" => matches!(last, "connecting" | "connected" | "ready"),
                "disconnected" => last != "disconnected" && last != "removed",
                "removed" => last != "removed",
                other => panic!("nothing is called {other}"),
            };
            assert!(is_sound, "{line} after {last} in {:?}", self.story);
            match word {
                "connected" => attempts = 0,
                "lost" => {
                    attempts += 1;
                    // While a store fails, no connection counts as one that works.
                    let attempt = format!("; try {attempts} in");
                    store_failed |= line.contains("store failed");
                    let is_sound = line.contains(&attempt) || store_failed || line.contains("given up");
                    assert!(is_sound, "{line}: {attempts}");
                }
                _ => {}
            }
            last = word;
        }
    }

    /// How often each publication arrived.
    pub fn counts(&self) -> HashMap<Key, usize> {
        let mut counts = HashMap::new();
        self.arrived.iter().for_each(|(key, _)| *counts.entry(*key).or_default() += 1);
        counts
    }
}

/// Whether the outcome says that the broker has the message.
pub(super) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(ReasonCode::Success | ReasonCode::NoMatchingSubscribers))
}
