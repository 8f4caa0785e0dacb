//! Connections that cores open.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::{PATIENCE, config, connect, pattern, start_echo};
use ringmq_shards::{Peer, Runtime, RuntimeConfig, ShutdownReport, start};
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, ConnectFailure, ConnectFailureKind, ConnectTicket, Core, Io, PeerId,
    ShardId, SyncFailure, SyncTicket,
};

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Connected(u64, Option<SocketAddr>),
    Failed(u64, ConnectFailure),
    Received(u64, Vec<u8>),
    Closed(u64, CloseReason),
}

enum Command {
    Connect(u64, PeerId),
    GiveUp(u64),
    /// Both within one turn.
    ConnectAndGiveUp(u64, PeerId),
    Send(u64, Vec<u8>),
    Close(u64),
}

/// Opens connections as it is told, and tells what comes of them.
#[derive(Default)]
struct Dialler {
    conns: HashMap<u64, ConnId>,
    tickets: HashMap<ConnId, u64>,
}

type Answers = Io<(), Event>;

impl Core for Dialler {
    type Message = ();
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, _: ConnId, _: &ConnInfo, _: &mut Answers) {}

    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        remote: Option<SocketAddr>,
        io: &mut Answers,
    ) {
        self.conns.insert(ticket.0, conn);
        self.tickets.insert(conn, ticket.0);
        io.event(Event::Connected(ticket.0, remote));
    }

    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, io: &mut Answers) {
        io.event(Event::Failed(ticket.0, failure));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Answers) {
        if let Some(ticket) = self.tickets.get(&conn) {
            io.event(Event::Received(*ticket, bytes.to_vec()));
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut Answers) {
        if let Some(ticket) = self.tickets.remove(&conn) {
            self.conns.remove(&ticket);
            io.event(Event::Closed(ticket, reason));
        }
    }

    fn command(&mut self, command: Command, io: &mut Answers) {
        match command {
            Command::Connect(ticket, peer) => io.connect(ConnectTicket(ticket), peer),
            Command::GiveUp(ticket) => io.cancel_connect(ConnectTicket(ticket)),
            Command::ConnectAndGiveUp(ticket, peer) => {
                io.connect(ConnectTicket(ticket), peer);
                io.cancel_connect(ConnectTicket(ticket));
            }
            Command::Send(ticket, bytes) => io.outbox(self.conns[&ticket]).put(&bytes),
            Command::Close(ticket) => {
                let conn = self.conns.remove(&ticket).unwrap();
                self.tickets.remove(&conn);
                io.close(conn);
            }
        }
    }

    fn drained(&mut self, _: ConnId, _: &mut Answers) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Answers) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Answers) {}
    fn turn_over(&mut self, _: &mut Answers) {}
    fn shutdown(&mut self, _: &mut Answers) {}
}

struct Stage {
    runtime: Runtime<Dialler>,
    events: Receiver<Event>,
}

impl Stage {
    fn new(config: RuntimeConfig) -> Self {
        let (tell, events) = mpsc::channel();
        let runtime = start(config, |_| Dialler::default(), move |_, event| drop(tell.send(event))).unwrap();
        Self { runtime, events }
    }

    fn peer(&self, peer: Peer) -> PeerId {
        self.runtime.handle().add_peer(peer)
    }

    fn tell(&self, mut command: Command) {
        while let Err(full) = self.runtime.handle().command(ShardId::new(0), command) {
            command = full.0;
        }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Opens a connection that works.
    fn dial(&self, ticket: u64, peer: Peer) -> Option<SocketAddr> {
        self.tell(Command::Connect(ticket, self.peer(peer)));
        match self.event() {
            Event::Connected(connected, remote) if connected == ticket => remote,
            other => panic!("{other:?}"),
        }
    }

    /// Tries to open one that does not.
    fn failure(&self, ticket: u64, peer: PeerId) -> ConnectFailure {
        self.tell(Command::Connect(ticket, peer));
        match self.event() {
            Event::Failed(failed, failure) if failed == ticket => failure,
            other => panic!("{other:?}"),
        }
    }

    /// Sends, and expects the same back.
    fn echo(&self, ticket: u64, bytes: &[u8]) {
        self.tell(Command::Send(ticket, bytes.to_vec()));
        let mut back = Vec::new();
        while back.len() < bytes.len() {
            match self.event() {
                Event::Received(from, piece) if from == ticket => back.extend(piece),
                other => panic!("{other:?}"),
            }
        }
        assert!(back == bytes, "bytes were lost or mixed up");
    }

    /// Ends it; nothing may be left.
    fn end(self) {
        while self.runtime.handle().connections() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(self.runtime.shutdown(PATIENCE).unwrap(), ShutdownReport::default());
        assert_eq!(self.events.try_iter().count(), 0, "nothing more is told");
    }
}

/// Without listeners, and not pinned: a client inside of another program.
fn stage() -> Stage {
    Stage::new(RuntimeConfig { listeners: Vec::new(), pinned: false, ..config(1) })
}

fn at(addr: SocketAddr) -> Peer {
    Peer::tcp(addr.ip().to_string(), addr.port())
}

#[test]
fn an_outbound_connection_carries_bytes_both_ways_and_ends_either_way() {
    let server = start_echo(config(2));
    let addr = server.addresses()[0];
    let stage = stage();
    for ticket in [0, 1] {
        assert_eq!(stage.dial(ticket, at(addr)), Some(addr));
        stage.echo(ticket, b"hello");
        stage.echo(ticket, &pattern(3 << 20));
    }
    assert_eq!((stage.runtime.handle().connections(), server.handle().connections()), (2, 2));
    stage.tell(Command::Close(0));
    server.shutdown(Duration::ZERO).unwrap();
    assert!(matches!(stage.event(), Event::Closed(1, _)));
    stage.end();
}

#[test]
fn a_name_is_looked_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let stage = stage();
    for ticket in 0..3 {
        // Whether or not it has an address of IPv6 too, where nobody listens.
        assert_eq!(stage.dial(ticket, Peer::tcp("localhost", addr.port())), Some(addr));
        drop(listener.accept().unwrap());
        assert_eq!(stage.event(), Event::Closed(ticket, CloseReason::PeerClosed));
    }
    stage.end();
}

#[test]
fn a_failure_has_its_kind_and_says_what_to_do() {
    use ConnectFailureKind::{Refused, Unreachable, Unresolved};
    let stage = stage();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let removed = stage.peer(at(free));
    assert!(stage.runtime.handle().remove_peer(removed));
    let nowhere = std::env::temp_dir().join(format!("ringmq-nobody-{}", std::process::id()));
    let file = std::env::temp_dir().join(format!("ringmq-file-{}", std::process::id()));
    std::fs::write(&file, b"not a socket").unwrap();
    let foreign = Peer { sources: vec![Ipv4Addr::new(192, 0, 2, 1).into()], ..at(free) };
    let table = [
        (removed, Unresolved, "not registered"),
        (stage.peer(Peer::tcp("no-such-host.invalid", 1883)), Unresolved, "no-such-host.invalid"),
        (stage.peer(at(free)), Refused, "check that the far end runs"),
        (stage.peer(foreign), Unreachable, "from 192.0.2.1"),
        (stage.peer(Peer::unix(&nowhere)), Refused, "ringmq-nobody"),
        (stage.peer(Peer::unix(&file)), Refused, "ringmq-file"),
    ];
    for (ticket, (peer, kind, text)) in table.into_iter().enumerate() {
        let failure = stage.failure(ticket as u64, peer);
        assert_eq!(failure.kind, kind, "{}", failure.detail);
        assert!(failure.detail.contains(text), "{}", failure.detail);
    }
    std::fs::remove_file(file).unwrap();
    stage.end();
}

#[test]
fn a_far_end_can_be_replaced() {
    let listeners = [0; 2].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [old, new] = [0, 1].map(|which: usize| listeners[which].local_addr().unwrap());
    let stage = stage();
    let peer = stage.peer(at(old));
    for (ticket, addr) in [(0, old), (1, new)] {
        assert!(stage.runtime.handle().replace_peer(peer, at(addr)));
        stage.tell(Command::Connect(ticket, peer));
        assert_eq!(stage.event(), Event::Connected(ticket, Some(addr)));
        drop(listeners[ticket as usize].accept().unwrap());
        assert_eq!(stage.event(), Event::Closed(ticket, CloseReason::PeerClosed));
    }
    stage.end();
}

#[test]
fn sources_are_used_in_turn() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sources: Vec<IpAddr> = (2..5).map(|last| Ipv4Addr::new(127, 0, 0, last).into()).collect();
    let stage = stage();
    let peer = stage.peer(Peer { sources: sources.clone(), ..Peer::tcp("127.0.0.1", port) });
    let mut accepted = Vec::new();
    for ticket in 0..6 {
        stage.tell(Command::Connect(ticket, peer));
        assert!(matches!(stage.event(), Event::Connected(..)));
        let (socket, remote) = listener.accept().unwrap();
        assert_eq!(remote.ip(), sources[ticket as usize % 3]);
        accepted.push(socket);
    }
    drop(accepted);
    for _ in 0..6 {
        assert!(matches!(stage.event(), Event::Closed(_, CloseReason::PeerClosed)));
    }
    stage.end();
}

#[test]
fn a_unix_socket_is_connected_to() {
    let path = std::env::temp_dir().join(format!("ringmq-outbound-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let stage = stage();
    assert_eq!(stage.dial(5, Peer::unix(&path)), None);
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    stage.tell(Command::Send(5, b"hello".to_vec()));
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).unwrap();
    far.write_all(&bytes).unwrap();
    assert_eq!(stage.event(), Event::Received(5, b"hello".to_vec()));
    drop(far);
    assert_eq!(stage.event(), Event::Closed(5, CloseReason::PeerClosed));
    std::fs::remove_file(path).unwrap();
    stage.end();
}

/// A listener whose queue is full, so that connects to it hang, and what fills it.
fn deaf() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let filling = (0..4)
        .map(|_| {
            let socket = socket();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    (listener, filling, address.as_socket().unwrap())
}

#[test]
fn what_is_given_up_is_not_answered() {
    let (_listener, _filling, full) = deaf();
    let server = start_echo(config(1));
    let stage = stage();
    let peers = [at(full), at(server.addresses()[0]), Peer::tcp("no-such-host.invalid", 1883)]
        .map(|it| stage.peer(it));
    for round in 0..50 {
        for (number, &peer) in peers.iter().enumerate() {
            stage.tell(Command::ConnectAndGiveUp(round * 10 + number as u64, peer));
        }
        // This one hangs until it is given up, a turn later or more.
        stage.tell(Command::Connect(round * 10 + 3, peers[0]));
        assert_eq!(stage.dial(round * 10 + 4, at(server.addresses()[0])), Some(server.addresses()[0]));
        stage.tell(Command::GiveUp(round * 10 + 3));
        stage.tell(Command::Close(round * 10 + 4));
    }
    stage.end();
}

#[test]
fn a_shutdown_does_not_wait_for_what_is_being_opened() {
    let (_listener, _filling, full) = deaf();
    let stage = stage();
    let peers = [stage.peer(at(full)), stage.peer(Peer::tcp("no-such-host.invalid", 1883))];
    for (ticket, peer) in peers.into_iter().enumerate() {
        stage.tell(Command::Connect(ticket as u64, peer));
    }
    let report = stage.runtime.shutdown(PATIENCE).unwrap();
    assert_eq!(report, ShutdownReport::default());
    assert!(stage.events.try_iter().all(|event| matches!(event, Event::Failed(1, _))));
}

#[test]
fn a_storm_of_connects_through_small_rings_leaves_nothing() {
    let server = start_echo(config(2));
    let addr = server.addresses()[0];
    let small = RuntimeConfig { submission_entries: 4, completion_entries: 8, ..config(1) };
    let stage = Stage::new(RuntimeConfig { listeners: Vec::new(), ..small });
    let peer = stage.peer(at(addr));
    for round in 0..5 {
        for ticket in 0..300 {
            stage.tell(Command::Connect(round * 1000 + ticket, peer));
        }
        let mut connected: Vec<_> = (0..300)
            .map(|_| match stage.event() {
                Event::Connected(ticket, _) => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        connected.sort_unstable();
        assert!(connected.iter().copied().eq(round * 1000..round * 1000 + 300));
        assert_eq!(stage.runtime.handle().connections(), 300);
        for ticket in connected {
            stage.tell(Command::Close(ticket));
        }
        while stage.runtime.handle().connections() > 0 {
            std::thread::yield_now();
        }
    }
    stage.end();
}

#[test]
fn a_shard_serves_and_connects_to_itself() {
    let stage = Stage::new(config(1));
    let addr = stage.runtime.addresses()[0];
    assert_eq!(stage.dial(1, at(addr)), Some(addr));
    let client = connect(&stage.runtime);
    // Both ends of the first, and the client.
    while stage.runtime.handle().connections() < 3 {
        std::thread::yield_now();
    }
    drop(client);
    stage.tell(Command::Close(1));
    stage.end();
}
