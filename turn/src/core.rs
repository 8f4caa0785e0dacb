//! The trait that a shard's logic implements.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{ConnId, ConnectTicket, Io, ListenerId, ShardId, SyncTicket};

/// What a driver knows of a connection when it opens.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo {
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The peer's address; absent for transports without one.
    pub remote: Option<SocketAddr>,
    /// More connections are open than the configuration allows: say so to the peer and close.
    pub over_limit: bool,
}

/// Why a driver reports a connection as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed its side.
    PeerClosed,
    /// The network failed: reset, timed out, or unreachable.
    Broken,
    /// The peer broke the rules of a layer below the core's bytes.
    Transport(TransportFault),
}

/// What a peer did wrong below the core's bytes. The driver ended the connection, and told the peer in the
/// layer's own words where it has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportFault {
    /// What should have been TLS is something else.
    NotTls,
    /// The TLS handshake failed: no version, cipher or name in common, or an alert from the peer.
    TlsHandshake,
    /// The certificate that had to be shown is missing, or not trusted, or out of date.
    Certificate,
    /// A TLS record made no sense after the handshake.
    TlsRecord,
    /// What should have been a WebSocket upgrade is something else, or was refused.
    NotWebSocket,
    /// The upgrade offered or chose no subprotocol of MQTT.
    Subprotocol,
    /// A WebSocket frame, or message, of more bytes than allowed.
    FrameTooLarge,
    /// A WebSocket text frame, where only binary ones may carry bytes.
    FrameText,
    /// Any other breach of the WebSocket protocol.
    WebSocketFrame,
}

/// Why an accepted connection was ended before the core was told that it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// Its handshakes were not over in time.
    TimedOut,
    /// The peer went away amid a handshake.
    Gone,
    /// The peer broke the rules of a layer.
    Fault(TransportFault),
}

/// Why a connection could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// What kind of failure.
    pub kind: ConnectFailureKind,
    /// What exactly went wrong, for people.
    pub detail: Box<str>,
}

/// The kinds of [`ConnectFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectFailureKind {
    /// The name of the far end has no address.
    Unresolved,
    /// Nobody listens there.
    Refused,
    /// The network does not lead there, or failed on the way.
    Unreachable,
    /// The connection ended before its layers were ready.
    Closed,
    /// This machine has no descriptors, ports or memory left for one more.
    Exhausted,
    /// A layer failed.
    Transport(TransportFault),
}

/// Why bytes could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncFailure {
    /// The operating system's error number.
    pub errno: i32,
}

/// One shard's logic.
///
/// A driver calls it from one thread, in turns, and never while a call is under way. Every method may
/// write to any connection, message any shard, and so on, through `io`.
pub trait Core {
    /// What cores of one program send each other.
    type Message: Send + 'static;
    /// What other threads ask of a core.
    type Command: Send + 'static;
    /// What a core tells other threads.
    type Event: Send + 'static;

    /// A connection is open, accepted here or handed over by another shard.
    fn opened(&mut self, conn: ConnId, info: &ConnInfo, io: &mut Io<Self::Message, Self::Event>);

    /// A connection that [`Io::connect`] asked for is open and ready for bytes. Cores that open none need
    /// not implement it.
    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        remote: Option<SocketAddr>,
        io: &mut Io<Self::Message, Self::Event>,
    ) {
        let _ = (ticket, conn, remote, io);
        unreachable!("a core that opens connections implements this");
    }

    /// A connection that [`Io::connect`] asked for could not be opened.
    fn connect_failed(
        &mut self,
        ticket: ConnectTicket,
        failure: ConnectFailure,
        io: &mut Io<Self::Message, Self::Event>,
    ) {
        let _ = (ticket, failure, io);
        unreachable!("a core that opens connections implements this");
    }

    /// An accepted connection was ended before it opened: for the core to count.
    fn turned_away(
        &mut self,
        listener: ListenerId,
        why: TurnedAway,
        io: &mut Io<Self::Message, Self::Event>,
    ) {
        let _ = (listener, why, io);
    }

    /// Bytes arrived, in order. The core consumes or keeps all of them, also on a paused connection:
    /// what the driver had already received when the pause came still arrives.
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<Self::Message, Self::Event>);

    /// The backlog of a connection fell below [`Io::backlog_low_bytes`] after it had been above
    /// [`Io::backlog_high_bytes`] when a turn was over and nothing of it was written yet. So a core that
    /// holds something back because a backlog is high always hears of its end.
    fn drained(&mut self, conn: ConnId, io: &mut Io<Self::Message, Self::Event>);

    /// A connection is gone by the peer's doing. Not called after the core itself closed it or handed
    /// it over.
    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut Io<Self::Message, Self::Event>);

    /// A message from another shard. Messages of one shard arrive in the order of their sending.
    fn message(&mut self, from: ShardId, message: Self::Message, io: &mut Io<Self::Message, Self::Event>);

    /// Another thread of the program asks for something.
    fn command(&mut self, command: Self::Command, io: &mut Io<Self::Message, Self::Event>);

    /// What [`Io::sync`] asked for under this ticket is durable, after so long, or failed.
    fn synced(
        &mut self,
        ticket: SyncTicket,
        outcome: Result<Duration, SyncFailure>,
        io: &mut Io<Self::Message, Self::Event>,
    );

    /// The turn is over: all that had arrived was handed in. Runs due timers and leaves the time of the
    /// next one in [`Io::wake_at_ms`]. Called at least once before the driver sleeps.
    fn turn_over(&mut self, io: &mut Io<Self::Message, Self::Event>);

    /// The program is stopping: say goodbye to every connection and close it. What is being opened is
    /// given up by the driver, without an answer, and more is not.
    fn shutdown(&mut self, io: &mut Io<Self::Message, Self::Event>);
}
