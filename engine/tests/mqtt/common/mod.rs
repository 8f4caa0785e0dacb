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
//! ledger delivered=1 offline=2       the sums over all shards
//! traffic retained=1                 likewise
//! # a remark
//! ```
//!
//! A client is sent nothing but what the transcript says: the order of what one client gets counts, the
//! order between clients does not. The notation of packets is that of `encode.rs` and `render.rs`.

mod encode;
mod render;

use std::collections::BTreeSet;
use std::fmt::Write;

use ringmq_codec::{Decoded, Version, frame};
use ringmq_engine::{DropReason, Engine, EngineConfig, Ledger, Limits, Traffic};
use ringmq_sim::{ClientId, Network, World};
use ringmq_turn::ConnInfo;

/// Plays a transcript to brokers of one, two and four shards, which get the bytes whole, one by one, in
/// pieces of seven, and with hardly any room between the shards. Afterwards every message is accounted for, and nothing is left once all are gone.
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

/// All shards of a broker have the same.
const SEED: u64 = 7;

/// A broker to be made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) network: Network,
    pub(crate) shards: &'static [usize],
    pub(crate) sys_interval_ms: u64,
    /// How many bytes of what a client sends arrive at once.
    pub(crate) piece_bytes: usize,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            network: Network::calm(),
            shards: &[1, 2, 4],
            sys_interval_ms: 0,
            piece_bytes: usize::MAX,
        }
    }

    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Self::new();
        change(&mut setup.limits);
        setup
    }

    pub(crate) fn shards(self, shards: &'static [usize]) -> Self {
        Self { shards, ..self }
    }

    #[track_caller]
    pub(crate) fn check(&self, transcript: &str) {
        for &shards in self.shards {
            for piece_bytes in [usize::MAX, 1, 7] {
                let setup = Self { piece_bytes, ..self.clone() };
                let mut broker = setup.start(shards);
                broker.play(transcript);
                broker.finish();
            }
            let network = Network { lane_room_messages: 1, ..self.network.clone() };
            let mut broker = Self { network, ..self.clone() }.start(shards);
            broker.play(transcript);
            broker.finish();
        }
    }

    pub(crate) fn start(&self, shards: usize) -> Broker {
        let world = World::new(shards as u64, shards, self.network.clone(), |shard, _| {
            Engine::new(EngineConfig {
                limits: self.limits.clone(),
                sys_interval_ms: self.sys_interval_ms,
                ..EngineConfig::new(shard, shards, SEED)
            })
        });
        Broker {
            world,
            peers: Vec::new(),
            setup: self.clone(),
            client_ids: BTreeSet::new(),
            retained: BTreeSet::new(),
            played: String::new(),
        }
    }
}

/// A broker, and those who talk to it.
pub(crate) struct Broker {
    pub(crate) world: World<Engine>,
    peers: Vec<Peer>,
    setup: Setup,
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
                "with {} shards{}:\n{}{action}\n  expected:\n{}  got:\n{}",
                self.world.shard_count(),
                match self.setup.piece_bytes {
                    usize::MAX => String::new(),
                    bytes => format!(", in pieces of {bytes}"),
                },
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
            self.pass(time);
        } else if let Some(figures) = action.strip_prefix("ledger ") {
            self.check_figures(figures);
        } else if let Some(figures) = action.strip_prefix("traffic ") {
            self.check_figures(figures);
        } else if action == "shutdown" {
            self.world.shut_down();
        } else {
            let (name, what) = action.split_once(' ').expect("a name, and what it does");
            match what.split_once(' ') {
                Some(("<", packet)) => self.send(name, packet),
                Some(("<<", packet)) => return self.keep_back(name, packet),
                _ => self.act_as(name, what),
            }
        }
        self.world.run_until_idle();
    }

    fn pass(&mut self, time: &str) {
        let digits = time.trim_end_matches(char::is_alphabetic);
        let unit_ms = match &time[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            unit => panic!("{unit} is no unit of time"),
        };
        self.world.advance_ms(digits.parse::<u64>().expect("an amount of time") * unit_ms);
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
            "message_bytes" => traffic.message_bytes,
            "partial_bytes" => traffic.partial_bytes,
            _ => {
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

impl Peer {
    /// What the lines of its packets begin with.
    fn prefix(&self) -> String {
        format!("{} > ", self.name)
    }
}
