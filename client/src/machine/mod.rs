//! One session's side of MQTT 3.1, 3.1.1 and 5, without I/O.
//!
//! A [`Machine`] is told what happened (a connection opened or ended, bytes came, time passed) and what to do
//! (publish, subscribe), and answers through a [`Sink`]: bytes for the connection, messages, outcomes. It
//! outlives its connections, and what MQTT calls the session's state is in it. The same calls at the same times
//! give the same answers.
//!
//! - `connect` is CONNECT, CONNACK and authentication, `receive` how bytes become packets.
//! - `publish` sends publications, in flight in a `window`; `deliver` takes those of the server, which are
//!   `incoming` until they are done.
//! - `ask` sends what `subscriptions` are to change, `alive` watches the clock.
//!
//! invariant: an idle session owns no buffer, queue or table beyond its subscriptions.

mod aliases;
mod alive;
mod ask;
mod connect;
mod deliver;
pub(crate) mod fuzzing;
mod incoming;
mod limits;
mod publish;
mod receive;
mod subscriptions;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringmq_codec::{ConnAck, PacketId, Publish, QoS, ReasonCode, Version};
use ringmq_turn::Outbox;

use crate::auth::{AuthError, Exchange};
use crate::error::Error;
use crate::link::{Outcome, Publication, Restored, StoreChange};
use crate::message::Message;
use crate::options::SessionOptions;
use aliases::{AliasesIn, AliasesOut};
use alive::Clock;
use incoming::Incoming;
use subscriptions::Subscriptions;
use window::{Stage, Window};

/// Where a machine's answers go.
pub trait Sink {
    /// Who is told of an outcome.
    type Delivery;

    /// The driver's monotonic clock.
    fn now_ms(&self) -> u64;

    /// The open connection's outbox.
    fn out(&mut self) -> &mut Outbox;

    /// Bytes that the server has not taken yet.
    fn backlog_bytes(&self) -> usize;

    /// No publication is sent above this backlog, until [`Machine::drained`].
    fn backlog_high_bytes(&self) -> usize;

    /// The server accepted the connection.
    fn connected(&mut self, connack: &ConnAck<'_>);

    /// For the first time on this connection, every subscription is answered.
    fn ready(&mut self);

    /// A message came.
    fn message(&mut self, message: &Arrival<'_>) -> Take;

    /// A PUBLISH of so many bytes was sent, for the first time or again.
    fn sent(&mut self, bytes: usize);

    /// A publication waits no longer: it was sent for the first time, or failed before.
    fn left_queue(&mut self);

    /// What became of a publication or a request.
    fn settled(&mut self, delivery: Self::Delivery, outcome: Outcome);

    /// The server said in words why it refused something.
    fn explained(&mut self, reason: ReasonCode, said: &str) {
        let _ = (reason, said);
    }

    /// Tells the session's store, and answers the change's number; none without a store.
    fn store(&mut self, change: StoreChange) -> Option<u64>;
}

/// A message of the server.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Valid, also where an alias stood for it.
    pub topic: &'a str,
    /// The packet.
    pub publish: &'a Publish<'a>,
    /// The session's connection, counted from 1.
    pub connection: u32,
}

/// When a message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// At once.
    Now,
    /// With [`Machine::acknowledge`]. When the connection ends before, a message that is kept will be dealt with
    /// all the same, and does not come again at QoS 2; another does.
    Later {
        /// It survives the connection.
        is_kept: bool,
    },
}

/// Why the machine ends its connection. What there was to say to the server is in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// CONNACK refused.
    Refused(Words),
    /// The server said DISCONNECT.
    Disconnected(Words),
    /// Nothing came after a PINGREQ.
    Unresponsive {
        /// For so long.
        after: Duration,
    },
    /// The server took no bytes.
    WriteTimedOut {
        /// For so long.
        after: Duration,
    },
    /// The server broke the protocol.
    Protocol(Box<str>),
    /// The server, or we, could not be authenticated.
    Auth(AuthError),
}

/// What the server said of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The reason code.
    pub reason: ReasonCode,
    /// The Reason String.
    pub said: Option<Box<str>>,
    /// Another server that it named.
    pub server_reference: Option<Box<str>>,
}

/// A breach of the protocol, and what MQTT 5 says of it.
struct Breach(ReasonCode, Box<str>);

/// Why a packet ends the connection.
enum Fault {
    Breach(Breach),
    End(End),
}

impl From<End> for Fault {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Breach> for Fault {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

fn breach<T>(reason: ReasonCode, what: impl Into<Box<str>>) -> Result<T, Fault> {
    Err(Fault::Breach(Breach(reason, what.into())))
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// CONNECT was sent.
    Opened,
    /// CONNACK accepted it.
    Up,
}

/// What the server said in CONNACK of what it takes.
#[derive(Clone, Copy, Debug)]
struct Server {
    packet_bytes_max: u32,
    receive_maximum: u16,
    qos_max: QoS,
    has_retain: bool,
    has_wildcards: bool,
    has_shared: bool,
    has_subscription_ids: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            packet_bytes_max: limits::PACKET_BYTES_MAX,
            receive_maximum: u16::MAX,
            qos_max: QoS::ExactlyOnce,
            has_retain: true,
            has_wildcards: true,
            has_shared: true,
            has_subscription_ids: true,
        }
    }
}

/// An authentication under way, and who asked for it once the connection was open.
#[derive(Debug)]
struct Authenticating<T> {
    exchange: Box<dyn Exchange>,
    asker: Option<T>,
}

/// One session. `T` is told what becomes of its publications and requests.
pub struct Machine<T> {
    options: Arc<SessionOptions>,
    phase: Phase,
    /// Whether [`Sink::ready`] was called on this connection.
    is_ready: bool,
    /// The driver does not read the connection.
    is_paused: bool,
    /// The server may know the session.
    resumes: bool,
    /// Connections so far.
    connection: u32,
    server: Server,
    /// The server chose it.
    assigned_id: Option<Box<str>>,
    clock: Clock,
    /// Publications that wait, in order.
    queue: VecDeque<Publication<T>>,
    /// So many at the front of the queue are of an earlier run, and known to nobody.
    queue_restored: u32,
    window: Window<T>,
    /// Changes of the store that PUBRELs wait for, with the publications' numbers.
    storing: VecDeque<(u64, crate::link::Number)>,
    incoming: Incoming,
    subscriptions: Subscriptions<T>,
    aliases_out: Option<Box<AliasesOut>>,
    aliases_in: Option<Box<AliasesIn>>,
    authenticating: Option<Box<Authenticating<T>>>,
    /// The start of a packet.
    carry: Vec<u8>,
}

impl<T> fmt::Debug for Machine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("name", &self.options.name)
            .field("phase", &self.phase)
            .field("queue", &self.queue.len())
            .field("flights", &self.window.len())
            .finish_non_exhaustive()
    }
}

/// Making one, and looking at it.
impl<T: Default> Machine<T> {
    /// A session that has no connection yet.
    pub fn new(options: Arc<SessionOptions>, restored: Restored) -> Self {
        let mut machine = Self {
            options,
            phase: Phase::Down,
            is_ready: false,
            is_paused: false,
            resumes: restored.resumes,
            connection: 0,
            server: Server::default(),
            assigned_id: None,
            clock: Clock::default(),
            queue: VecDeque::new(),
            queue_restored: 0,
            window: Window::default(),
            storing: VecDeque::new(),
            incoming: Incoming::default(),
            subscriptions: Subscriptions::default(),
            aliases_out: None,
            aliases_in: None,
            authenticating: None,
            carry: Vec::new(),
        };
        for id in restored.taken {
            machine.incoming.restore(id);
        }
        for wanted in restored.subscriptions {
            machine.subscriptions.restore(wanted);
        }
        for (number, mut message, is_released) in restored.publications {
            if is_released {
                // A store need not keep more of it.
                message = Message { qos: QoS::ExactlyOnce, ..Message::default() };
            }
            let publication =
                Publication { message, number: Some(number), since_ms: 0, delivery: T::default() };
            // Those beyond were not sent yet: there was no id for them.
            if machine.queue.is_empty() && machine.window.spans(number) {
                let stage = if is_released { Stage::Release } else { Stage::Publish };
                machine.window.restore(number, stage, publication);
            } else {
                machine.queue.push_back(publication);
                machine.queue_restored += 1;
            }
        }
        machine
    }
}

impl<T> Machine<T> {
    /// The same session under a Client Identifier of its own, so that many can share their options.
    #[must_use]
    pub fn with_client_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.assigned_id = Some(id.into());
        self
    }

    /// What was restored has lived until now.
    pub fn begin_at(&mut self, now_ms: u64) {
        for at in 0..self.window.len() {
            if let Some(publication) = &mut self.window.at(at).publication {
                publication.since_ms = now_ms;
            }
        }
        for at in 0..self.queue.len() {
            let publication = &mut self.queue[at];
            publication.since_ms = now_ms;
            let message_expiry_s = publication.message.message_expiry_s;
            self.note_expiry(now_ms, message_expiry_s);
        }
    }

    fn version(&self) -> Version {
        self.options.version
    }

    /// Whether the server has accepted the connection.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// How many subscriptions the server has granted.
    pub fn granted(&self) -> u32 {
        self.subscriptions.granted()
    }

    /// Publications whose outcome was not told.
    pub fn unsettled(&self) -> usize {
        self.queue.len() + self.window.in_flight()
    }

    /// Items that its buffers, queues and tables have room for, its subscriptions left out.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        let Self { queue, storing, carry, window, incoming, .. } = self;
        queue.capacity() + storing.capacity() + carry.capacity() + window.room() + incoming.room()
    }

    /// The driver stopped reading the connection, or reads it again.
    pub fn set_paused<S: Sink<Delivery = T>>(&mut self, is_paused: bool, sink: &S) {
        if std::mem::replace(&mut self.is_paused, is_paused) && !is_paused {
            // What came meanwhile was not seen.
            self.clock.heard(sink.now_ms());
        }
    }

    /// Whether the connection is not read.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The store has everything up to a change.
    pub fn stored<S: Sink<Delivery = T>>(&mut self, up_to: u64, sink: &mut S) {
        self.release_stored(up_to, sink);
        self.acknowledge_stored(up_to, sink);
    }

    /// The store failed: what it was told since it last answered may be lost.
    pub fn store_failed(&mut self) {
        self.incoming.store_failed();
        self.storing.clear();
    }

    /// The connection is gone. What was under way waits for the next one.
    pub fn ended<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        self.phase = Phase::Down;
        self.is_ready = false;
        self.is_paused = false;
        self.carry = Vec::new();
        self.aliases_in = None;
        self.aliases_out = None;
        self.clock.end();
        self.incoming.end();
        if let Some(asker) = self.authenticating.take().and_then(|authenticating| authenticating.asker) {
            sink.settled(asker, Err(Error::Connect(crate::error::ConnectError::Lost)));
        }
        // Without a connection a subscription ends at once.
        for asker in self.subscriptions.end() {
            sink.settled(asker, Ok(ReasonCode::Success));
        }
    }

    /// The session is gone: everybody who waits is told. What its store kept stays there.
    pub fn gone<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        self.ended(sink);
        for asker in self.subscriptions.take_askers() {
            sink.settled(asker, Err(Error::Gone));
        }
        while let Some(at) = (0..self.window.len()).find(|at| self.window.at(*at).stage != Stage::Done) {
            let publication = self.window.finish(at);
            sink.settled(publication.delivery, Err(Error::Gone));
        }
        while let Some(publication) = self.pop_queue(sink) {
            sink.settled(publication.delivery, Err(Error::Gone));
        }
    }

    /// Gives memory back that an idle session does not need.
    fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.storing.is_empty() {
            self.storing = VecDeque::new();
        }
        self.window.shrink();
        self.incoming.shrink();
    }
}

/// Passes on why the server refused something, if it said so.
fn explain<S: Sink>(reason: ReasonCode, said: Option<&str>, sink: &mut S) {
    if let Some(said) = said
        && reason.is_error()
    {
        sink.explained(reason, said);
    }
}

/// A packet id of a publication's number, whose message is at QoS 1 or 2.
fn id_of<T>(publication: &Publication<T>) -> PacketId {
    publication.number.expect("QoS 1 and 2 are numbered").packet_id()
}

/// Many of them are idle.
const _: () = assert!(size_of::<Machine<usize>>() <= 384);
