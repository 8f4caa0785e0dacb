//! Conversations with the broker as transcripts: what clients send, and all that they get for it.
//!
//! ```text
//! a < CONNECT v5 id=a clean          a sends; a new connection if there is none of that name
//! a > CONNACK                        and gets this, which may stand anywhere before the next step
//! a << PUBLISH t q1 #1 = one         kept back, to go out in one write with what a sends next
//! a < PUBLISH t q1 #2 = two
//! a > closed                         the broker closed the connection
//! a cut | a hangs up | a stalls | a reads
//! +1500ms | +10s                     time passes
//! shutdown                           the broker stops
//! killed | killed 10s                its process is lost with all connections; the next one begins, at once
//!                                    or later, with what is on the disk
//! power lost | power lost 10s        likewise, but of what was not synced anything may be lost
//! a misbehaves frame_text            a transport ends its connection for this fault
//! turned away timed_out              a transport ends one that the broker has not heard of
//! syncs fail | syncs work            what the disk is asked to sync
//! the disk is full | has room        no more segments can be made, or they can again
//! ledger delivered=1 offline=2       the sums over all shards, since the last start
//! traffic retained=1                 likewise
//! # a remark
//! ```
//!
//! A client is sent nothing but what the transcript says: the order of what one client gets counts, the
//! order between clients does not. The notation of packets is that of `encode.rs` and `render.rs`.

mod encode;
mod log;
mod render;
mod setup;

use std::collections::BTreeSet;
use std::fmt::Write;

use ringmq_codec::{Decoded, Version, frame};
use ringmq_engine::{DropReason, Engine, Ledger, Traffic, TransportEnds};
use ringmq_sim::{ClientId, Crash, START, World};
use ringmq_storage::{Log, LogFigures};
use ringmq_turn::{ConnInfo, ListenerId, ShardId, TurnedAway};

use log::{Disks, Room, TestLog};

pub(crate) use setup::Setup;

/// Plays a transcript to brokers of one, two and four shards, which get the bytes whole, one by one, in
/// pieces of seven, and with hardly any room between the shards, and which keep what they have in memory or
/// on a disk. Afterwards every message is accounted for, and nothing is left once all are gone.
#[track_caller]
pub(crate) fn check(transcript: &str) {
    Setup::new().check(transcript);
}

/// The same for MQTT 3.1, 3.1.1 and 5 in place of `{v}`; `{ok}` is an UNSUBACK's, of MQTT 5 only.
#[track_caller]
pub(crate) fn in_every_version(transcript: &str) {
    for version in ["v31", "v311", "v5"] {
        let ok = if version == "v5" { " ok" } else { "" };
        check(&transcript.replace("{v}", version).replace("{ok}", ok));
    }
}

/// A broker, and those who talk to it.
pub(crate) struct Broker {
    pub(crate) world: World<Engine<TestLog>>,
    disks: Option<Disks>,
    /// How many processes of it there were.
    starts: u32,
    peers: Vec<Peer>,
    pub(crate) setup: Setup,
    /// Client ids and topics to clear up in the end.
    client_ids: BTreeSet<String>,
    retained: BTreeSet<String>,
    /// The transcript so far.
    played: String,
}

/// One end of a connection.
struct Peer {
    name: String,
    client: ClientId,
    version: Version,
    kept_back: Vec<u8>,
    /// Received, and not a whole packet yet.
    rest: Vec<u8>,
    saw_close: bool,
}

/// What happens next.
struct Step<'t> {
    action: &'t str,
    expected: Vec<&'t str>,
}

fn steps(transcript: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in transcript.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().nth(1) {
            Some(">") => steps.last_mut().expect("something happens first").expected.push(line),
            _ => steps.push(Step { action: line, expected: Vec::new() }),
        }
    }
    steps
}

impl Broker {
    fn new(setup: Setup, world: World<Engine<TestLog>>, disks: Option<Disks>) -> Self {
        Self {
            world,
            disks,
            starts: 1,
            peers: Vec::new(),
            setup,
            client_ids: BTreeSet::new(),
            retained: BTreeSet::new(),
            played: String::new(),
        }
    }

    /// Plays a transcript.
    #[track_caller]
    pub(crate) fn play(&mut self, transcript: &str) {
        for Step { action, mut expected } in steps(transcript) {
            self.act(action);
            let got = self.take_lines();
            expected.sort_by_key(|line| self.peers.iter().position(|peer| line.starts_with(&peer.prefix())));
            let lines =
                |list: &[&str]| list.iter().fold(String::new(), |all, line| all + "    " + line + "\n");
            let got: Vec<_> = got.iter().map(String::as_str).collect();
            assert!(
                got == expected,
                "with {} shards{}, {:?}:\n{}{action}\n  expected:\n{}  got:\n{}",
                self.world.shard_count(),
                match self.setup.piece_bytes {
                    usize::MAX => String::new(),
                    bytes => format!(", in pieces of {bytes}"),
                },
                (self.setup.storage, self.setup.level),
                self.played,
                lines(&expected),
                lines(&got),
            );
            self.played.push_str(action);
            self.played.push('\n');
            self.played.push_str(&lines(&got));
        }
    }

    /// Everything that clients get for an action, for tests that cannot say it beforehand.
    pub(crate) fn answers(&mut self, action: &str) -> Vec<String> {
        self.act(action);
        self.take_lines()
    }

    fn act(&mut self, action: &str) {
        if let Some(time) = action.strip_prefix('+') {
            self.world.advance_ms(milliseconds(time));
        } else if let Some(figures) = action.strip_prefix("ledger ") {
            self.check_figures(figures);
        } else if let Some(figures) = action.strip_prefix("traffic ") {
            self.check_figures(figures);
        } else if let Some(down) = action.strip_prefix("killed") {
            self.die(self.setup.killed_by, milliseconds(down));
        } else if let Some(down) = action.strip_prefix("power lost") {
            self.die(Crash::PowerLoss, milliseconds(down));
        } else if let Some(why) = action.strip_prefix("turned away ") {
            // Whichever shard it happens to: the last.
            let shard = ShardId::new(self.world.shard_count() - 1);
            self.world.turn_away(shard, ListenerId(0), reason(why));
        } else if !self.act_for_all(action) {
            let (name, what) = action.split_once(' ').expect("a name, and what it does");
            match what.split_once(' ') {
                Some(("<", packet)) => self.send(name, packet),
                Some(("<<", packet)) => return self.keep_back(name, packet),
                Some(("misbehaves", how)) => match reason(how) {
                    TurnedAway::Fault(fault) => self.world.misbehave(self.client(name), fault),
                    TurnedAway::TimedOut | TurnedAway::Gone => panic!("{how} is no fault"),
                },
                _ => self.act_as(name, what),
            }
        }
        self.world.run_until_idle();
    }

    /// What happens to the broker as a whole. False if it is none of that.
    fn act_for_all(&mut self, action: &str) -> bool {
        let disks = self.disks.as_ref();
        match action {
            "shutdown" => self.world.shut_down(),
            "syncs fail" | "syncs work" => {
                const EIO: i32 = 5;
                let errno = (action == "syncs fail").then_some(EIO);
                self.world.shard_ids().for_each(|shard| self.world.fail_syncs(shard, errno));
            }
            "the disk is full" => disks.expect("there is one").set_room(Room::None),
            "the disk has room" => disks.expect("there is one").set_room(Room::Plenty),
            _ => return false,
        }
        true
    }

    /// A client sends a packet, and the process ends after so many steps. What clients got by then, and whether
    /// everything had come to rest before.
    pub(crate) fn die_after(&mut self, steps: usize, (name, packet): (&str, &str)) -> (Vec<String>, bool) {
        self.send(name, packet);
        let rested = (0..steps).any(|_| !self.world.step());
        let lines = self.take_lines();
        write!(self.played, "{name} < {packet}\n    killed after {steps} steps: {lines:?}\n").unwrap();
        self.die(self.setup.killed_by, 0);
        (lines, rested)
    }

    /// The process ends without a word; the next one begins so much later.
    pub(crate) fn die(&mut self, crash: Crash, down_ms: u64) {
        let now = self.world.now();
        let shards = self.world.shard_count();
        // They give what they wrote back to the disk when they go.
        let nowhere = self.setup.world(1, None, 0);
        drop(std::mem::replace(&mut self.world, nowhere).into_cores());
        let disks = self.disks.as_mut().expect("only what is on a disk outlives a process");
        disks.crash(crash);
        self.starts += 1;
        self.world = self.setup.world(shards, self.disks.as_ref(), self.starts);
        self.world.jump_wall_ms((now.wall_ms + down_ms - START.wall_ms) as i64);
        self.peers.clear();
        self.world.run_until_idle();
    }

    fn act_as(&mut self, name: &str, what: &str) {
        let client = self.client(name);
        match what {
            "cut" => self.world.cut(client),
            "hangs up" => self.world.hang_up(client),
            "stalls" => self.world.stall(client, true),
            "reads" => self.world.stall(client, false),
            _ => panic!("nobody can do this: {name} {what}"),
        }
    }

    /// The connection of this name.
    pub(crate) fn client(&self, name: &str) -> ClientId {
        let peer = self.peers.iter().find(|peer| peer.name == name);
        peer.unwrap_or_else(|| panic!("{name} has not connected")).client
    }

    /// The peer of this name, with a new connection if it has none.
    fn open(&mut self, name: &str) -> usize {
        let at = self.peers.iter().position(|peer| peer.name == name);
        if let Some(at) = at
            && self.world.is_connected(self.peers[at].client)
        {
            return at;
        }
        let client = self.world.connect(None);
        self.enter(name, client)
    }

    /// Opens a connection of which the core is told something else than usually.
    pub(crate) fn open_as(&mut self, name: &str, info: ConnInfo) {
        let client = self.world.connect_as(None, info);
        self.enter(name, client);
    }

    fn enter(&mut self, name: &str, client: ClientId) -> usize {
        let peer = Peer {
            name: name.into(),
            client,
            version: Version::V5,
            kept_back: Vec::new(),
            rest: Vec::new(),
            saw_close: false,
        };
        if let Some(at) = self.peers.iter().position(|peer| peer.name == name) {
            self.peers[at] = peer;
            return at;
        }
        self.peers.push(peer);
        self.peers.len() - 1
    }

    fn keep_back(&mut self, name: &str, packet: &str) {
        let at = self.open(name);
        self.note(at, packet);
        let peer = &mut self.peers[at];
        peer.kept_back.extend_from_slice(&encode::encode(peer.version, packet));
    }

    fn send(&mut self, name: &str, packet: &str) {
        self.keep_back(name, packet);
        let peer = self.peers.iter_mut().find(|peer| peer.name == name).unwrap();
        let bytes = std::mem::take(&mut peer.kept_back);
        let client = peer.client;
        self.send_bytes(client, &bytes);
    }

    /// Sends bytes, in pieces.
    pub(crate) fn send_bytes(&mut self, client: ClientId, bytes: &[u8]) {
        for piece in bytes.chunks(self.setup.piece_bytes) {
            self.world.send(client, piece);
        }
    }

    /// Remembers what a packet tells of its connection and leaves behind at the broker.
    fn note(&mut self, at: usize, packet: &str) {
        let (name, words) = packet.split_once(' ').unwrap_or((packet, ""));
        let mut words = words.split(" = ").next().unwrap_or("").split_whitespace();
        if matches!(name, "CONNECT" | "hex" | "packet") {
            for word in words {
                if let Some(version) = encode::version_of(word) {
                    self.peers[at].version = version;
                } else if let Some(id) = word.strip_prefix("id=") {
                    self.client_ids.insert(id.into());
                } else if let Some(will) = word.strip_prefix("will=") {
                    self.retained.extend(will.split(':').next().map(str::to_owned));
                }
            }
        } else if name == "PUBLISH" {
            let topic = words.next().unwrap_or("-");
            if topic != "-" && !topic.contains(['#', '+']) && words.any(|word| word == "retain") {
                self.retained.insert(topic.into());
            }
        }
    }

    /// What the clients got, in their order.
    fn take_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            peer.rest.extend(self.world.take_received(peer.client));
            let mut used = 0;
            while let Ok(Decoded::Complete(packet)) = frame(&peer.rest[used..], u32::MAX) {
                used += packet.total;
                let line = render::render(peer.version, &packet, &self.setup.limits);
                lines.push(format!("{}{line}", peer.prefix()));
            }
            peer.rest.drain(..used);
            if self.world.is_closed(peer.client) && !peer.saw_close {
                peer.saw_close = true;
                lines.push(format!("{}closed", peer.prefix()));
                assert!(peer.rest.is_empty(), "{} got a part of a packet", peer.name);
            }
        }
        lines
    }

    /// The counters of all shards together, every one of which balances.
    pub(crate) fn figures(&self) -> (Ledger, Traffic) {
        let mut sums = (Ledger::default(), Traffic::default());
        for shard in self.world.shard_ids() {
            let (ledger, traffic) = self.world.core(shard).figures();
            assert!(ledger.balances(), "shard {shard} lost track of a message: {ledger:?}");
            sums.0.add(&ledger);
            sums.1.add(&traffic);
        }
        sums
    }

    /// What the logs of all shards have done since the last start.
    pub(crate) fn log_figures(&self) -> LogFigures {
        let mut sum = LogFigures::default();
        for shard in self.world.shard_ids() {
            sum.add(&self.world.core(shard).log().figures());
        }
        sum
    }

    fn figure(&self, name: &str) -> u64 {
        let (ledger, traffic) = self.figures();
        match name {
            "received" => ledger.received,
            "copies" => ledger.copies,
            "delivered" => ledger.delivered,
            "queued" => ledger.queued,
            "expired" => ledger.expired,
            "dropped" => ledger.dropped_total(),
            "violations" => traffic.violations,
            "sessions" => traffic.sessions,
            "subscriptions" => traffic.subscriptions,
            "retained" => traffic.retained,
            "clients" => traffic.clients_connected,
            // Of a log on a disk, only a part is in memory.
            "message_bytes" => self.log_figures().live_bytes,
            "partial_bytes" => traffic.partial_bytes,
            _ => {
                if let Some((_, count)) = traffic.transport_ends.all().find(|(reason, _)| *reason == name) {
                    return count;
                }
                let reason = DropReason::ALL.into_iter().find(|reason| reason.name() == name);
                ledger.dropped(reason.unwrap_or_else(|| panic!("no figure is called {name}")))
            }
        }
    }

    fn check_figures(&self, figures: &str) {
        let mut now = String::new();
        for (name, _) in figures.split_whitespace().filter_map(|figure| figure.split_once('=')) {
            write!(now, "{name}={} ", self.figure(name)).unwrap();
        }
        assert_eq!(now.trim_end(), figures, "after:\n{}{:?}", self.played, self.figures());
    }

    /// Everybody goes, all sessions end and all retained messages are cleared: nothing is left then, and
    /// every message is accounted for.
    pub(crate) fn finish(mut self) {
        for at in 0..self.peers.len() {
            if self.world.is_connected(self.peers[at].client) {
                self.world.stall(self.peers[at].client, false);
                self.world.cut(self.peers[at].client);
            }
        }
        self.world.run_until_idle();
        for id in std::mem::take(&mut self.client_ids) {
            self.visit(&format!("CONNECT v5 clean id={id}"), &[]);
        }
        let retained: Vec<_> = std::mem::take(&mut self.retained).into_iter().collect();
        let clear: Vec<_> = retained.iter().map(|topic| format!("PUBLISH {topic} retain")).collect();
        self.visit("CONNECT v5 clean id=cleaner", &clear);
        self.check_empty();
        if self.disks.is_some() {
            self.die(Crash::Kill, 0);
            self.played.push_str("killed\n");
            self.check_empty();
        }
    }

    fn check_empty(&self) {
        for name in
            ["queued", "clients", "sessions", "subscriptions", "retained", "partial_bytes", "message_bytes"]
        {
            assert_eq!(self.figure(name), 0, "{name} at the end of:\n{}{:?}", self.played, self.figures());
        }
    }

    /// A client comes, says something and goes.
    fn visit(&mut self, connect: &str, packets: &[String]) {
        let client = self.world.connect(None);
        self.world.send(client, &encode::encode(Version::V5, connect));
        self.world.run_until_idle();
        for packet in packets {
            self.world.send(client, &encode::encode(Version::V5, packet));
        }
        self.world.send(client, &encode::encode(Version::V5, "DISCONNECT"));
        self.world.run_until_idle();
    }
}

/// Why a transport ended a connection, by its name.
fn reason(name: &str) -> TurnedAway {
    let named = TransportEnds::REASONS.into_iter().find(|(_, known)| *known == name);
    named.unwrap_or_else(|| panic!("no transport ends a connection for {name}")).0
}

/// `1500ms` or `10s`; nothing is no time.
fn milliseconds(time: &str) -> u64 {
    let time = time.trim();
    if time.is_empty() {
        return 0;
    }
    let digits = time.trim_end_matches(char::is_alphabetic);
    let unit_ms = match &time[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        unit => panic!("{unit} is no unit of time"),
    };
    digits.parse::<u64>().expect("an amount of time") * unit_ms
}

impl Peer {
    /// What the lines of its packets begin with.
    fn prefix(&self) -> String {
        format!("{} > ", self.name)
    }
}
