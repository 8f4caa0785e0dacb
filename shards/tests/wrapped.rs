//! TLS and WebSocket between sockets and cores, with far ends that we did not write.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::sorter::start_sorter;
use common::wrapped::{Certificate, Kind, Messages, Stream, Trickle, echo, tcp};
use common::{Echo, PATIENCE, pattern, start_echo};
use ringmq_shards::{ListenerConfig, Runtime, RuntimeConfig, ShutdownReport, start};
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, Core, Io, ListenerId, ShardId, SyncFailure, SyncTicket, TransportFault,
    TurnedAway,
};
use tungstenite::Message;

/// Ends a runtime whose clients are gone; nothing may be left.
fn end<C: Core>(runtime: Runtime<C>) {
    while runtime.handle().connections() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(runtime.shutdown(PATIENCE).unwrap(), ShutdownReport::default());
}

#[test]
fn bytes_come_back_through_all_layers() {
    let certificate = Certificate::new();
    for kind in Kind::ALL {
        for shards in [1, 3] {
            let runtime = start_echo(certificate.config(kind, shards));
            let addr = runtime.addresses()[0];
            let mut clients: Vec<_> = (0..6).map(|_| certificate.wrap(kind, tcp(addr))).collect();
            for client in &mut clients {
                for size in [1, 2, 125, 126, 4_000, 70_000] {
                    echo(&mut **client, &pattern(size));
                }
            }
            // One goes without a word, the others as they should.
            for client in &mut clients[1..] {
                client.say_goodbye();
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "{kind:?}: the broker says goodbye too");
            }
            drop(clients);
            end(runtime);
        }
    }
}

#[test]
fn unix_sockets_have_layers_too() {
    let certificate = Certificate::new();
    let path = std::env::temp_dir().join(format!("ringmq-layers-{}", std::process::id()));
    for kind in Kind::ALL {
        let unix = ListenerConfig::unix(&path);
        let listener = ListenerConfig { address: unix.address, ..certificate.listener(kind) };
        let runtime = start_echo(RuntimeConfig { listeners: vec![listener], ..certificate.config(kind, 2) });
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echo(&mut *certificate.wrap(kind, stream), &pattern(10_000));
        end(runtime);
    }
}

#[test]
fn bytes_that_come_one_by_one_come_back() {
    let certificate = Certificate::new();
    for kind in Kind::WRAPPED {
        let runtime = start_echo(certificate.config(kind, 1));
        // The whole handshake, too.
        let mut client = certificate.wrap(kind, Trickle(tcp(runtime.addresses()[0])));
        for byte in 0..50 {
            echo(&mut *client, &[byte]);
        }
        drop(client);
        end(runtime);
    }
}

#[test]
fn a_connection_moves_with_its_layers_and_what_races_behind() {
    let certificate = Certificate::new();
    for kind in Kind::WRAPPED {
        let runtime = start_sorter(certificate.config(kind, 4));
        let addr = runtime.addresses()[0];
        let mut clients: Vec<_> = (0..16).map(|_| certificate.wrap(kind, tcp(addr))).collect();
        let bytes: Vec<u8> = pattern(2_000).iter().map(|byte| byte & 0x7f).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&[number as u8 % 4]).unwrap();
            for piece in bytes.chunks(7) {
                client.write_all(piece).unwrap();
                client.flush().unwrap();
            }
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut back = vec![0; 2_001];
            client.read_exact(&mut back).unwrap();
            assert_eq!(usize::from(back[0]), number % 4);
            assert!(back[1..] == bytes, "{kind:?}: bytes were lost or mixed up");
        }
        // Around and around, while something is received.
        let client = &mut clients[1];
        for lap in 0..100u32 {
            client.write_all(&[0xff]).unwrap();
            client.flush().unwrap();
            let mut shard = [0];
            client.read_exact(&mut shard).unwrap();
            assert_eq!(u32::from(shard[0]), (lap + 2) % 4, "{kind:?}: lap {lap}");
            echo(&mut **client, b"abc");
        }
        drop(clients);
        end(runtime);
    }
}

/// What follows the first byte at once meets the layers while the connection is on its way.
#[test]
fn a_goodbye_and_a_fault_move_along() {
    let certificate = Certificate::new();
    let runtime = start_sorter(certificate.config(Kind::WebSocket, 2));
    // A Close frame and a text frame, with masks of zeros.
    let table: [&[u8]; 2] = [&[0x88, 0x80, 0, 0, 0, 0], &[0x81, 0x81, 0, 0, 0, 0, b'x']];
    for number in 0..40 {
        let mut client = Messages::over(tcp(runtime.addresses()[0]));
        let shard = number as u8 / 2 % 2;
        let wire = client.socket.get_mut();
        // In one segment. From then on the peer is silent: the end must come without its doing.
        wire.write_all(&[&[0x82, 0x81, 0, 0, 0, 0, shard], table[number % 2]].concat()).unwrap();
        let mut rest = Vec::new();
        wire.read_to_end(&mut rest).unwrap();
        let close = rest.iter().position(|&byte| byte == 0x88);
        assert!(close.is_some(), "the last word is a Close frame: {rest:?}");
    }
    end(runtime);
}

/// What the core under test tells.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Opened { over_limit: bool },
    TurnedAway(ListenerId, TurnedAway),
    Received(usize),
    Drained { backlog: usize },
    Closed(CloseReason),
}

enum Command {
    Send(Vec<u8>),
    Pause,
    Resume,
    Close,
}

/// Obeys, and tells what happens to the connection opened last.
#[derive(Default)]
struct Puppet {
    conn: Option<ConnId>,
}

type Answers = Io<(), Event>;

impl Core for Puppet {
    type Message = ();
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, conn: ConnId, info: &ConnInfo, io: &mut Answers) {
        self.conn = Some(conn);
        io.event(Event::Opened { over_limit: info.over_limit });
        if info.over_limit {
            io.outbox(conn).put(b"full");
            io.close(conn);
        }
    }

    fn turned_away(&mut self, listener: ListenerId, why: TurnedAway, io: &mut Answers) {
        io.event(Event::TurnedAway(listener, why));
    }

    fn received(&mut self, _: ConnId, bytes: &[u8], io: &mut Answers) {
        io.event(Event::Received(bytes.len()));
    }

    fn drained(&mut self, conn: ConnId, io: &mut Answers) {
        io.event(Event::Drained { backlog: io.backlog_bytes(conn) });
    }

    fn closed(&mut self, _: ConnId, reason: CloseReason, io: &mut Answers) {
        self.conn = None;
        io.event(Event::Closed(reason));
    }

    fn command(&mut self, command: Command, io: &mut Answers) {
        match command {
            Command::Send(bytes) => io.outbox(self.conn.unwrap()).put(&bytes),
            Command::Pause => io.pause(self.conn.unwrap()),
            Command::Resume => io.resume(self.conn.unwrap()),
            Command::Close => io.close(self.conn.take().unwrap()),
        }
    }

    fn message(&mut self, _: ShardId, (): (), _: &mut Answers) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Answers) {}
    fn turn_over(&mut self, _: &mut Answers) {}
    fn shutdown(&mut self, _: &mut Answers) {}
}

struct Stage {
    certificate: Certificate,
    kind: Kind,
    runtime: Runtime<Puppet>,
    events: Receiver<Event>,
}

impl Stage {
    fn new(kind: Kind, change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        let certificate = Certificate::new();
        let mut config = certificate.config(kind, 1);
        change(&mut config);
        let (tell, events) = mpsc::channel();
        let runtime =
            start(config, |_| Puppet::default(), move |_, event| tell.send(event).unwrap()).unwrap();
        Self { certificate, kind, runtime, events }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    fn tell(&self, command: Command) {
        self.runtime.handle().command(ShardId::new(0), command).unwrap_or_else(|_| panic!("full"));
    }

    fn wire(&self) -> TcpStream {
        tcp(self.runtime.addresses()[0])
    }

    fn client(&self) -> Box<dyn Stream> {
        let mut client = self.certificate.wrap(self.kind, self.wire());
        // TLS shakes hands when it has to.
        client.flush().unwrap();
        assert_eq!(self.event(), Event::Opened { over_limit: false }, "{:?}", self.kind);
        client
    }

    fn end(self) {
        end(self.runtime);
        assert_eq!(self.events.try_iter().next(), None, "{:?}: nothing more is told", self.kind);
    }
}

/// Reads everything, a little at a time.
fn read_slowly(client: &mut dyn Stream, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let mut piece = [0; 8 * 1024];
        let wanted = piece.len().min(len - bytes.len());
        let count = client.read(&mut piece[..wanted]).unwrap();
        assert!(count > 0, "ended after {} bytes", bytes.len());
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}

#[test]
fn a_slow_reader_gets_everything_and_drained_is_told_once() {
    for kind in Kind::WRAPPED {
        let stage = Stage::new(kind, |_| {});
        let mut client = stage.client();
        let bytes = pattern(24 << 20);
        stage.tell(Command::Send(bytes.clone()));
        assert!(read_slowly(&mut *client, bytes.len()) == bytes, "{kind:?}: bytes were lost or mixed up");
        assert!(matches!(stage.event(), Event::Drained { backlog } if backlog < 64 * 1024));
        stage.tell(Command::Send(b"end".to_vec()));
        assert_eq!(read_slowly(&mut *client, 3), b"end");
        drop(client);
        assert_eq!(stage.event(), Event::Closed(CloseReason::PeerClosed), "{kind:?}");
        stage.end();
    }
}

#[test]
fn a_closed_connection_is_written_out_and_said_goodbye_to() {
    for kind in Kind::WRAPPED {
        for len in [5, 20 << 20] {
            let stage = Stage::new(kind, |_| {});
            let mut client = stage.client();
            let bytes = pattern(len);
            stage.tell(Command::Send(bytes.clone()));
            stage.tell(Command::Close);
            assert!(read_slowly(&mut *client, len) == bytes);
            // Without a goodbye, the layers would call this an error.
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{kind:?}");
            drop(client);
            while stage.runtime.handle().connections() > 0 {
                std::thread::yield_now();
            }
            drop(stage);
        }
    }
}

#[test]
fn a_paused_connection_holds_its_peer_back() {
    for kind in Kind::WRAPPED {
        let stage = Stage::new(kind, |_| {});
        let mut client = stage.client();
        client.write_all(b"one").unwrap();
        client.flush().unwrap();
        assert_eq!(stage.event(), Event::Received(3));
        stage.tell(Command::Pause);
        stage.tell(Command::Send(b"paused".to_vec()));
        assert_eq!(read_slowly(&mut *client, 6), b"paused");
        let len = 16 << 20;
        let writing = std::thread::spawn(move || {
            client.write_all(&pattern(len)).unwrap();
            client.flush().unwrap();
            client
        });
        stage.tell(Command::Resume);
        let mut received = 0;
        while received < len {
            match stage.event() {
                Event::Received(count) => received += count,
                other => panic!("{kind:?}: {other:?}"),
            }
        }
        drop(writing.join().unwrap());
        assert_eq!(stage.event(), Event::Closed(CloseReason::PeerClosed));
        stage.end();
    }
}

#[test]
fn who_says_nothing_is_turned_away_in_time() {
    for kind in Kind::WRAPPED {
        let stage = Stage::new(kind, |config| config.handshake_timeout_ms = 50);
        let mut mute = [stage.wire(), stage.wire()];
        mute[1].write_all(if kind.is_tls() { b"\x16\x03\x01" } else { b"GET / HT" }).unwrap();
        for _ in 0..2 {
            assert_eq!(stage.event(), Event::TurnedAway(ListenerId(0), TurnedAway::TimedOut), "{kind:?}");
        }
        for mut client in mute {
            assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        }
        // Those who opened in time stay.
        let mut client = stage.client();
        stage.tell(Command::Send(b"hello".to_vec()));
        assert_eq!(read_slowly(&mut *client, 5), b"hello");
        drop(client);
        assert_eq!(stage.event(), Event::Closed(CloseReason::PeerClosed));
        stage.end();
    }
}

#[test]
fn who_goes_amid_the_handshake_is_turned_away() {
    for kind in Kind::WRAPPED {
        let stage = Stage::new(kind, |_| {});
        let start = if kind.is_tls() { &b"\x16\x03\x01\x02\x00\x01"[..] } else { b"GET / HTTP/1.1\r\nHo" };
        for len in 0..=start.len() {
            for reset in [false, true] {
                let mut client = stage.wire();
                client.write_all(&start[..len]).unwrap();
                if reset {
                    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop(client);
                assert_eq!(stage.event(), Event::TurnedAway(ListenerId(0), TurnedAway::Gone), "{kind:?}");
            }
        }
        stage.end();
    }
}

#[test]
fn who_speaks_something_else_is_told_so() {
    let mqtt: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
    let http: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let table = [
        (Kind::Tls, mqtt, TransportFault::NotTls, ""),
        (Kind::Tls, http, TransportFault::NotTls, ""),
        (Kind::WebSocketOverTls, http, TransportFault::NotTls, "HTTP/1.1 400"),
        (Kind::WebSocket, mqtt, TransportFault::NotWebSocket, ""),
        (Kind::WebSocket, http, TransportFault::NotWebSocket, "HTTP/1.1 4"),
    ];
    for (kind, said, fault, answer) in table {
        let stage = Stage::new(kind, |_| {});
        let mut client = stage.wire();
        client.write_all(said).unwrap();
        assert_eq!(stage.event(), Event::TurnedAway(ListenerId(0), TurnedAway::Fault(fault)), "{kind:?}");
        let mut told = Vec::new();
        client.read_to_end(&mut told).unwrap();
        assert!(told.starts_with(answer.as_bytes()), "{kind:?}: {:?}", String::from_utf8_lossy(&told));
        drop(client);
        stage.end();
    }
}

#[test]
fn a_fault_after_the_handshake_closes_the_connection() {
    // A text frame, in words and on the wire.
    let stage = Stage::new(Kind::WebSocket, |_| {});
    let mut client = Messages::over(stage.wire());
    assert_eq!(stage.event(), Event::Opened { over_limit: false });
    client.write_all(b"before").unwrap();
    client.flush().unwrap();
    client.socket.send(Message::Text("words".into())).unwrap();
    assert_eq!(stage.event(), Event::Received(6));
    assert_eq!(stage.event(), Event::Closed(CloseReason::Transport(TransportFault::FrameText)));
    assert!(matches!(client.socket.read().unwrap(), Message::Close(Some(_))), "the peer is told why");
    drop(client);
    stage.end();
    // A record that is none.
    let stage = Stage::new(Kind::Tls, |_| {});
    let mut client = stage.certificate.tls(stage.wire());
    client.write_all(b"before").unwrap();
    client.flush().unwrap();
    assert_eq!(stage.event(), Event::Opened { over_limit: false });
    assert_eq!(stage.event(), Event::Received(6));
    client.sock.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
    client.sock.write_all(&[7; 20]).unwrap();
    assert_eq!(stage.event(), Event::Closed(CloseReason::Transport(TransportFault::TlsRecord)));
    assert!(client.read(&mut [0]).unwrap_err().to_string().contains("BadRecordMac"), "the peer is told why");
    drop(client);
    stage.end();
}

#[test]
fn a_ping_is_answered() {
    for kind in [Kind::WebSocket, Kind::WebSocketOverTls] {
        let certificate = Certificate::new();
        let runtime = start_echo(certificate.config(kind, 2));
        let addr = runtime.addresses()[0];
        let mut plain;
        let mut tls;
        let socket: &mut dyn FnMut(Message) -> Message = if kind.is_tls() {
            tls = Messages::over(certificate.tls(tcp(addr)));
            &mut |message| {
                tls.socket.send(message).unwrap();
                tls.socket.read().unwrap()
            }
        } else {
            plain = Messages::over(tcp(addr));
            &mut |message| {
                plain.socket.send(message).unwrap();
                plain.socket.read().unwrap()
            }
        };
        for round in 0..20u8 {
            let payload = vec![round; 5];
            assert_eq!(socket(Message::Ping(payload.clone().into())), Message::Pong(payload.into()));
            assert_eq!(socket(Message::Binary(vec![round].into())), Message::Binary(vec![round].into()));
        }
        runtime.shutdown(Duration::ZERO).unwrap();
    }
}

#[test]
fn connections_beyond_the_limit_are_told_through_their_layers() {
    for kind in Kind::WRAPPED {
        let stage = Stage::new(kind, |config| config.connections_max = 1);
        let kept = stage.client();
        let mut second = stage.certificate.wrap(kind, stage.wire());
        let mut words = [0; 4];
        second.read_exact(&mut words).unwrap();
        assert_eq!(&words, b"full");
        assert_eq!(stage.event(), Event::Opened { over_limit: true });
        drop((second, kept));
        drop(stage);
    }
}

#[test]
fn a_shutdown_does_not_wait_for_handshakes() {
    let certificate = Certificate::new();
    for kind in Kind::WRAPPED {
        let runtime = start_echo(certificate.config(kind, 2));
        let waiting: Vec<_> = (0..10).map(|_| tcp(runtime.addresses()[0])).collect();
        while runtime.handle().connections() < 10 {
            std::thread::yield_now();
        }
        let report = runtime.shutdown(PATIENCE).unwrap();
        assert_eq!(report, ShutdownReport::default(), "{kind:?}");
        for client in waiting {
            assert_eq!((&client).read(&mut [0]).unwrap_or(0), 0);
        }
    }
}

#[test]
fn a_peer_that_closes_its_side_still_gets_its_answer() {
    let certificate = Certificate::new();
    let runtime: Runtime<Echo> = start_echo(certificate.config(Kind::Tls, 2));
    for len in [1, 100, 100_000] {
        let mut client = certificate.tls(tcp(runtime.addresses()[0]));
        let bytes = pattern(len);
        client.write_all(&bytes).unwrap();
        client.say_goodbye();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }
    end(runtime);
}
