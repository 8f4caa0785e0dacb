//! What servers and programs see of a session, as transcripts.
//!
//! ```text
//! add                          the session is added; `accept` and `refuse` answer its dial
//! < CONNACK present            the server sends
//! publish t q1 = one           the program publishes (p1, p2 ...), subscribes (s1 ...), unsubscribes (u1 ...)
//! cut | hangs up               the connection ends
//! +10s | +16ms                 time passes (seconds up to the next tick of the timers)
//! connect | disconnect | reconnect | remove | reauthenticate | shutdown
//! credentials user pass | credentials fail
//! stored | stored 3 | store fails
//! take a | ack a               the program takes the oldest message of the route a/#; and acknowledges it
//! stalls | drains              the server takes no bytes; takes them all
//!   > CONNECT v5 id=s clean    what the server gets for it
//!   = connected 0              what happens to the session, becomes of p1, or arrives in a route
//! ```
//!
//! Everything is listed: happenings first, then packets, then answers, messages and what the store is told.

mod connect;
mod deliver;
mod notation;
pub(super) mod program;
mod publish;
mod session;
mod subscribe;

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, RetainHandling, SubscriptionOptions, Version};
use ringmq_turn::{
    CloseReason, ConnId, ConnectFailure, ConnectFailureKind, ConnectTicket, Core, Dial, Io, Now, PeerId,
    ReadSwitch,
};

use super::{Host, HostIo, Look};
use crate::auth::{AuthError, Credentials};
use crate::link::{
    Answer, Begin, Mailbox, Outcome, Overflow, Publication, Request, Restored, SessionId, SessionMetrics,
    SessionShared, StoreChange, StoreLink,
};
use crate::message::{Message, MessageProperties, Received};
use crate::options::{Backoff, SessionOptions};
use crate::slot::Slot;
use notation::{encode, qos, render_all, repeated};
use program::{Diary, Inbox, Inboxes, Tape, outcome_line};

/// A session to be tried out.
pub(super) struct Setup {
    pub options: SessionOptions,
    pub restored: Restored,
    pub has_store: bool,
    pub inboxes: Vec<Inbox>,
}

impl Setup {
    pub fn new(change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut options = SessionOptions::new("s".into(), vec!["mqtt://one".into()]);
        options.backoff = Backoff { jitter: false, ..Backoff::default() };
        change(&mut options);
        Self { options, restored: Restored::default(), has_store: false, inboxes: Vec::new() }
    }

    pub fn route(mut self, inbox: Inbox) -> Self {
        self.inboxes.push(inbox);
        self
    }

    pub fn stored(mut self, restored: Restored) -> Self {
        self.has_store = true;
        self.restored = restored;
        self
    }

    /// The session, for a test that looks at it.
    fn stage(self) -> Stage {
        let stage = Stage::new(self.options, self.restored, self.has_store, usize::MAX);
        self.inboxes.into_iter().for_each(|inbox| drop(stage.inboxes.add(inbox)));
        stage
    }

    /// Plays a transcript, with a server whose bytes come whole, and then one by one.
    #[track_caller]
    pub fn check(self, transcript: &str) {
        let Self { options, restored, has_store, inboxes } = self;
        for piece in [usize::MAX, 1] {
            let again = Restored {
                publications: restored.publications.clone(),
                next: restored.next,
                taken: restored.taken.clone(),
                subscriptions: restored.subscriptions.clone(),
                resumes: restored.resumes,
            };
            let mut stage = Stage::new(options.clone(), again, has_store, piece);
            for inbox in &inboxes {
                let copy = Inbox::new(&inbox.filter, inbox.overflow, inbox.capacity);
                stage.inboxes.add(Inbox { acknowledges: inbox.acknowledges, ..copy });
            }
            stage.play(transcript);
            stage.finish();
        }
    }
}

/// A session with the defaults, at one address.
#[track_caller]
pub(super) fn check(transcript: &str) {
    Setup::new(|_| {}).check(transcript);
}

/// A host with one session, and all around it.
struct Stage {
    host: Host,
    io: HostIo,
    mailbox: Arc<Mailbox>,
    shared: Arc<SessionShared>,
    begin: Option<Box<Begin>>,
    diary: Arc<Diary>,
    inboxes: Arc<Inboxes>,
    tape: Option<Arc<Tape>>,
    piece: usize,
    conn: Option<ConnId>,
    conns: u32,
    dial: Option<ConnectTicket>,
    /// From the session, and not a whole packet yet.
    came: Vec<u8>,
    stalled: bool,
    held: bool,
    answers: Vec<(String, Arc<Slot<Outcome>>)>,
    counts: [usize; 4],
    taken: Vec<(String, Received)>,
    played: String,
}

const START_MS: u64 = 1_000_000;

impl Stage {
    fn new(options: SessionOptions, restored: Restored, has_store: bool, piece: usize) -> Self {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| {})));
        let (diary, inboxes) = (Arc::new(Diary::default()), Arc::new(Inboxes::default()));
        let tape = has_store.then(|| Arc::new(Tape::default()));
        let peers = (0..options.addresses.len() as u32).map(PeerId).collect();
        let next = restored.next;
        let shared = Arc::new(SessionShared {
            id: SessionId(7),
            options: Arc::new(options),
            mailbox: mailbox.clone(),
            outgoing: Default::default(),
            router: inboxes.clone(),
            watcher: diary.clone(),
            store: tape.clone().map(|tape| tape as Arc<dyn StoreLink>),
            metrics: SessionMetrics::default(),
            broker_packet_bytes_max: Default::default(),
            response_information: Default::default(),
        });
        shared.set_next_number(next);
        let mut io = Io::new(1);
        io.now = Now { mono_ms: START_MS, wall_ms: 1_750_000_000_000 };
        Self {
            host: Host::new(mailbox.clone(), 1),
            io,
            mailbox,
            shared,
            begin: Some(Box::new(Begin { peers, restored, is_paused: false })),
            diary,
            inboxes,
            tape,
            piece,
            conn: None,
            conns: 0,
            dial: None,
            came: Vec::new(),
            stalled: false,
            held: false,
            answers: Vec::new(),
            counts: [0; 4],
            taken: Vec::new(),
            played: String::new(),
        }
    }

    fn version(&self) -> Version {
        self.shared.options.version
    }

    #[track_caller]
    fn play(&mut self, transcript: &str) {
        let mut lines = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        while let Some(action) = lines.next() {
            if action.starts_with('#') {
                continue;
            }
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with("> ") || line.starts_with("= ")) {
                expected.push(line);
            }
            let got = self.act(action);
            let shown = |list: &[&str]| list.iter().fold(String::new(), |all, line| all + "  " + line + "\n");
            let got: Vec<_> = got.iter().map(String::as_str).collect();
            assert!(
                got == expected,
                "in pieces of {}:\n{}{action}\nexpected:\n{}got:\n{}",
                self.piece,
                self.played,
                shown(&expected),
                shown(&got)
            );
            self.played += &format!("{action}\n{}", shown(&got));
        }
    }

    /// Nothing is left of it once it is removed.
    #[track_caller]
    fn finish(&mut self) {
        self.act("remove");
        assert_eq!(self.host.len(), 0, "after\n{}", self.played);
        assert!(self.answers.iter().all(|(_, slot)| slot.get().is_some()), "after\n{}", self.played);
        assert_eq!(self.shared.held(), 0, "after\n{}", self.played);
        assert!(self.host.wheel.is_empty() && self.host.by_id.is_empty());
        assert!(self.host.by_conn.iter().all(Option::is_none));
    }

    fn act(&mut self, action: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        let words: Vec<&str> = rest.split(" = ").next().unwrap().split_whitespace().collect();
        let id = self.shared.id;
        match verb {
            "add" => {
                let begin = self.begin.take().expect("it is added once");
                self.mailbox.post(Request::Add(self.shared.clone(), begin));
            }
            "accept" => self.accept(),
            "refuse" => {
                let kind = ConnectFailureKind::Refused;
                let failure = ConnectFailure { kind, detail: "nobody listens there".into() };
                let ticket = self.dial.take().expect("it dials");
                self.host.connect_failed(ticket, failure, &mut self.io);
            }
            "<" => {
                let bytes = encode(self.version(), rest);
                let conn = self.conn.expect("it is connected");
                for piece in bytes.chunks(self.piece) {
                    // A core that closed is told nothing more.
                    if self.host.slot_of(conn).is_some() {
                        self.host.received(conn, piece, &mut self.io);
                    }
                }
            }
            "cut" => {
                let conn = self.conn.take().expect("it is connected");
                self.host.closed(conn, CloseReason::Broken, &mut self.io);
            }
            "publish" => self.publish(&words, rest),
            "subscribe" => {
                let (answer, slot) = Answer::new();
                self.mailbox.post(Request::Subscribe(id, wanted(&words), answer));
                self.note("s", 1, slot);
            }
            "unsubscribe" => {
                let (answer, slot) = Answer::new();
                self.mailbox.post(Request::Unsubscribe(id, words[0].into(), answer));
                self.note("u", 2, slot);
            }
            "reauthenticate" => {
                let (answer, slot) = Answer::new();
                self.mailbox.post(Request::Reauthenticate(id, answer));
                self.note("a", 3, slot);
            }
            "connect" => self.mailbox.post(Request::Connect(id)),
            "disconnect" => self.mailbox.post(Request::Disconnect(id)),
            "reconnect" => self.mailbox.post(Request::Reconnect(id)),
            "remove" => self.mailbox.post(Request::Remove(id)),
            "shutdown" => self.host.shutdown(&mut self.io),
            "credentials" if words[0] == "fail" => {
                self.mailbox.post(Request::Credentials(id, Err(AuthError("no token".into()))));
            }
            "credentials" => {
                let password = words.get(1).map(|password| Bytes::copy_from_slice(password.as_bytes()));
                let credentials = Credentials { user: Some(words[0].into()), password };
                self.mailbox.post(Request::Credentials(id, Ok(credentials)));
            }
            "stored" => {
                let last = self.tape.as_ref().expect("it has a store").last();
                let up_to = words.first().map_or(last, |word| word.parse().unwrap());
                self.mailbox.post(Request::Stored(id, Ok(up_to)));
            }
            "store" => self.mailbox.post(Request::Stored(id, Err("disk full".into()))),
            "take" | "ack" => self.take(words[0], verb == "ack", &mut lines),
            "stalls" => self.stalled = true,
            "drains" => self.stalled = false,
            time if time.starts_with('+') => {
                // Timers are up to a tick late.
                let end_ms = self.io.now.mono_ms + milliseconds(time);
                self.pass_to(if time.ends_with("ms") { end_ms } else { end_ms.next_multiple_of(16) });
            }
            _ => panic!("nobody can do this: {action}"),
        }
        self.turn();
        self.collect(lines)
    }

    fn note(&mut self, prefix: &str, kind: usize, slot: Arc<Slot<Outcome>>) {
        self.counts[kind] += 1;
        self.answers.push((format!("{prefix}{}", self.counts[kind]), slot));
    }

    fn publish(&mut self, words: &[&str], rest: &str) {
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let payload = rest.split_once(" = ").map_or("", |(_, payload)| payload);
        let mut message = Message::new(words[0], repeated(payload)).qos(qos(words));
        message.retain = words.contains(&"retain");
        message.message_expiry_s = value("expiry").map(|seconds| seconds.parse().unwrap());
        let properties = MessageProperties {
            payload_is_text: words.contains(&"text"),
            content_type: value("ct").map(str::to_owned),
            response_topic: value("rt").map(Into::into),
            correlation_data: value("cd").map(|data| Bytes::copy_from_slice(data.as_bytes())),
            user: value("prop").and_then(|prop| prop.split_once(':')).map(own).into_iter().collect(),
        };
        if properties != MessageProperties::default() {
            message = message.properties(properties);
        }
        let (answer, slot) = Answer::new();
        self.note("p", 0, slot);
        let publication = Publication { message, number: None, since_ms: 0, delivery: Some(answer) };
        if let Err((publication, error)) = self.shared.publish(publication) {
            publication.delivery.expect("it has one").settle(Err(error));
        }
    }

    fn take(&mut self, route: &str, acks: bool, lines: &mut Vec<String>) {
        let inboxes = self.inboxes.inboxes.lock().unwrap();
        let inbox =
            inboxes.iter().find(|inbox| inbox.filter.starts_with(route)).expect("a route of that name");
        let mut received = inbox.take().expect("it has a message");
        drop(inboxes);
        if acks {
            received.ack();
        }
        lines.push(format!("= {route} gives {}", String::from_utf8_lossy(&received.payload)));
        self.taken.push((route.into(), received));
    }

    fn accept(&mut self) {
        self.conns += 1;
        let conn = ConnId { slot: self.conns % 2, generation: self.conns };
        self.io.open(conn);
        self.came.clear();
        (self.stalled, self.held) = (false, false);
        self.conn = Some(conn);
        let ticket = self.dial.take().expect("it dials");
        self.host.connected(ticket, conn, None, &mut self.io);
    }

    /// Time passes, and the host has its turns when it wants them.
    fn pass_to(&mut self, end_ms: u64) {
        while let Some(at_ms) = self.io.wake_at_ms.filter(|at_ms| *at_ms <= end_ms) {
            self.io.now.mono_ms = self.io.now.mono_ms.max(at_ms);
            self.turn();
        }
        self.io.now.mono_ms = end_ms;
    }

    /// One turn of the host, and what its driver does after it.
    fn turn(&mut self) {
        self.host.command(Look, &mut self.io);
        self.host.turn_over(&mut self.io);
        let mut dials = Vec::new();
        self.io.take_dials(&mut dials);
        for dial in dials {
            match dial {
                Dial::Start(ticket, peer) => {
                    assert_eq!(self.dial.replace(ticket), None, "one dial at a time");
                    self.diary.0.lock().unwrap().push(format!("dials {}", peer.0));
                }
                Dial::Cancel(ticket) => {
                    assert_eq!(self.dial.take(), Some(ticket), "it gives up what it dials");
                    self.diary.0.lock().unwrap().push("gives up dialing".into());
                }
            }
        }
        self.write_out();
    }

    fn write_out(&mut self) {
        let Some(conn) = self.conn else { return };
        self.held |= self.io.backlog_bytes(conn) > self.io.backlog_high_bytes;
        if self.stalled {
            return;
        }
        self.move_bytes(conn);
        if std::mem::take(&mut self.held) {
            self.host.drained(conn, &mut self.io);
            self.host.turn_over(&mut self.io);
            self.write_out();
        }
    }

    fn move_bytes(&mut self, conn: ConnId) {
        self.io.take_dirty(&mut Vec::new());
        let (copied, shared) = self.io.peek(conn).take(Vec::new(), Vec::new());
        let before = self.came.len();
        let mut at = 0;
        for piece in shared {
            self.came.extend_from_slice(&copied[at..piece.after]);
            self.came.extend_from_slice(&piece.bytes);
            at = piece.after;
        }
        self.came.extend_from_slice(&copied[at..]);
        let count = self.came.len() - before;
        self.io.peek(conn).sent(count);
    }

    fn collect(&mut self, told: Vec<String>) -> Vec<String> {
        let mut lines: Vec<String> = self.diary.take().into_iter().map(|line| format!("= {line}")).collect();
        let version = self.version();
        let mut closes = Vec::new();
        self.io.take_closes(&mut closes);
        if let Some(conn) = self.conn.filter(|conn| closes.contains(conn)) {
            self.move_bytes(conn);
            self.conn = None;
        }
        lines.extend(render_all(version, &mut self.came).into_iter().map(|line| format!("> {line}")));
        lines.extend(closes.iter().map(|_| "> closed".to_owned()));
        let mut reads = Vec::new();
        self.io.take_reads(&mut reads);
        lines.extend(reads.iter().map(|read| match read {
            ReadSwitch::Pause(_) => "= paused".to_owned(),
            ReadSwitch::Resume(_) => "= resumed".to_owned(),
        }));
        self.answers.retain(|(name, slot)| match outcome_line(slot) {
            Some(outcome) => {
                lines.push(format!("= {name}: {outcome}"));
                false
            }
            None => true,
        });
        lines.extend(told);
        let inboxes = self.inboxes.inboxes.lock().unwrap();
        for inbox in inboxes.iter().filter(|inbox| inbox.overflow == Overflow::DropNewest) {
            // Those are taken at once.
            for received in inbox.messages.lock().unwrap().drain(..) {
                lines.push(format!("= {} {}", inbox.filter, message_line(&received)));
            }
        }
        drop(inboxes);
        for change in self.tape.iter().flat_map(|tape| tape.take()) {
            lines.push(format!("= stores {}", change_line(&change)));
        }
        lines
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn milliseconds(time: &str) -> u64 {
    let time = time.strip_prefix('+').expect("+10s or +10ms");
    match time.strip_suffix("ms") {
        Some(number) => number.parse().unwrap(),
        None => time.strip_suffix('s').expect("+10s").parse::<u64>().unwrap() * 1000,
    }
}

fn wanted(words: &[&str]) -> crate::link::Wanted {
    let sub = words.iter().find_map(|word| word.strip_prefix("sub="));
    crate::link::Wanted {
        filter: words[0].into(),
        options: SubscriptionOptions {
            qos: qos(words),
            no_local: words.contains(&"nl"),
            retain_as_published: words.contains(&"rap"),
            retain_handling: if words.contains(&"rh2") {
                RetainHandling::DoNotSend
            } else {
                RetainHandling::SendAtSubscribe
            },
        },
        subscription_id: sub.map_or(0, |id| id.parse().unwrap()),
    }
}

fn message_line(received: &Received) -> String {
    let message = &received.message;
    let mut line = format!("gets {}", message.topic);
    if message.qos != QoS::AtMostOnce {
        line += &format!(" q{}", message.qos as u8);
    }
    line += if received.dup { " dup" } else { "" };
    line += if message.retain { " retain" } else { "" };
    if let Some(seconds) = message.message_expiry_s {
        line += &format!(" expiry={seconds}");
    }
    for id in &received.subscription_ids {
        line += &format!(" sub={id}");
    }
    if let Some(properties) = &message.properties {
        let MessageProperties { payload_is_text, content_type, response_topic, correlation_data, user } =
            &**properties;
        line += if *payload_is_text { " text" } else { "" };
        line += &content_type.as_ref().map_or(String::new(), |it| format!(" ct={it}"));
        line += &response_topic.as_ref().map_or(String::new(), |it| format!(" rt={it}"));
        line += &correlation_data
            .as_ref()
            .map_or(String::new(), |it| format!(" cd={}", String::from_utf8_lossy(it)));
        user.iter().for_each(|(name, value)| line += &format!(" prop={name}:{value}"));
    }
    line + " = " + &String::from_utf8_lossy(&message.payload)
}

fn change_line(change: &StoreChange) -> String {
    match change {
        StoreChange::Completed(number) => format!("completed {}", number.0),
        StoreChange::Released(number) => format!("released {}", number.0),
        StoreChange::Taken(id) => format!("taken {id}"),
        StoreChange::Given(id) => format!("given {id}"),
        StoreChange::Forgotten => "forgotten".into(),
        StoreChange::Subscribed(wanted) => format!("subscribed {}", wanted.filter),
        StoreChange::Unsubscribed(filter) => format!("unsubscribed {filter}"),
    }
}
