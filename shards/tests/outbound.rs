//! Connections that cores open.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use common::dialler::{Command, Event, Stage, at, stage};
use common::wrapped::{Certificate, Kind};
use common::{PATIENCE, config, connect, pattern, start_echo};
use ringmq_shards::{ListenerConfig, Peer, PeerAddress, RuntimeConfig, ShutdownReport};
use ringmq_turn::{CloseReason, ConnectFailureKind, TransportFault};

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
fn a_unix_socket_whose_queue_is_full_holds_nobody_else_up() {
    let path = std::env::temp_dir().join(format!("ringmq-outbound-full-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(&path).unwrap();
    let listener = unix();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let filling: Vec<_> = (0..4)
        .map(|_| {
            let socket = unix();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let stage = stage();
    let peer = stage.peer(Peer::unix(&path));
    stage.tell(Command::Connect(0, peer));
    stage.tell(Command::Connect(1, peer));
    stage.tell(Command::GiveUp(0));
    let server = start_echo(config(1));
    assert!(stage.dial(2, at(server.addresses()[0])).is_some());
    stage.echo(2, b"hello");
    stage.tell(Command::Close(2));
    // The one that was not given up has its turn once the queue moves.
    listener.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    while !matches!(stage.events.try_recv(), Ok(Event::Connected(1, None))) {
        accepted.extend(listener.accept());
    }
    drop((accepted, listener, filling));
    assert!(matches!(stage.event(), Event::Closed(1, _)));
    stage.end();
    std::fs::remove_file(&path).unwrap();
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

#[test]
fn an_outbound_connection_goes_through_its_layers() {
    let certificate = Certificate::new();
    for kind in Kind::ALL {
        let server = start_echo(certificate.config(kind, 2));
        let addr = server.addresses()[0];
        let stage = stage();
        for ticket in 0..3 {
            assert_eq!(stage.dial(ticket, certificate.peer(kind, addr.port())), Some(addr), "{kind:?}");
            stage.echo(ticket, b"hello");
            stage.echo(ticket, &pattern(3 << 20));
        }
        stage.tell(Command::Close(0));
        stage.tell(Command::Close(1));
        while server.handle().connections() > 1 {
            std::thread::yield_now();
        }
        server.shutdown(Duration::ZERO).unwrap();
        assert!(matches!(stage.event(), Event::Closed(2, _)));
        stage.end();
    }
}

#[test]
fn a_unix_socket_is_connected_to_through_layers() {
    let certificate = Certificate::new();
    let path = std::env::temp_dir().join(format!("ringmq-outbound-layers-{}", std::process::id()));
    for kind in Kind::WRAPPED {
        let address = ListenerConfig::unix(&path).address;
        let listener = ListenerConfig { address, ..certificate.listener(kind) };
        let server = start_echo(RuntimeConfig { listeners: vec![listener], ..config(2) });
        let stage = stage();
        let peer = Peer { address: PeerAddress::Unix(path.clone()), ..certificate.peer(kind, 0) };
        assert_eq!(stage.dial(0, peer), None);
        stage.echo(0, &pattern(100_000));
        stage.tell(Command::Close(0));
        stage.end();
        server.shutdown(PATIENCE).unwrap();
    }
}

#[test]
fn a_stranger_is_not_connected_to() {
    let (ours, strangers) = (Certificate::new(), Certificate::new());
    for kind in [Kind::Tls, Kind::WebSocketOverTls] {
        let server = start_echo(strangers.config(kind, 1));
        let stage = stage();
        let peer = stage.peer(ours.peer(kind, server.addresses()[0].port()));
        for ticket in 0..3 {
            let failure = stage.failure(ticket, peer);
            assert_eq!(failure.kind, ConnectFailureKind::Transport(TransportFault::Certificate));
            assert!(failure.detail.starts_with("cannot connect to localhost:"), "{}", failure.detail);
        }
        stage.end();
        while server.handle().connections() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_far_end_that_answers_something_else_is_named() {
    let certificate = Certificate::new();
    for kind in Kind::WRAPPED {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stage = stage();
        let peer = stage.peer(certificate.peer(kind, listener.local_addr().unwrap().port()));
        let (not_spoken, answer) = match kind {
            Kind::Tls | Kind::WebSocketOverTls => (TransportFault::NotTls, "220 mail.example ready\r\n"),
            Kind::WebSocket | Kind::Plain => (TransportFault::NotWebSocket, "HTTP/1.1 404 Not Found\r\n\r\n"),
        };
        let table = [(answer, ConnectFailureKind::Transport(not_spoken)), ("", ConnectFailureKind::Closed)];
        for (ticket, (answer, expected)) in table.into_iter().enumerate() {
            stage.tell(Command::Connect(ticket as u64, peer));
            let (mut far, _) = listener.accept().unwrap();
            let mut some = [0; 16];
            far.read_exact(&mut some).unwrap();
            far.write_all(answer.as_bytes()).unwrap();
            drop(far);
            match stage.event() {
                Event::Failed(failed, failure) => {
                    assert_eq!((failed, failure.kind), (ticket as u64, expected), "{}", failure.detail);
                    println!("{kind:?}: {}", failure.detail);
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        }
        stage.end();
    }
}

#[test]
fn a_handshake_that_hangs_can_be_given_up() {
    let certificate = Certificate::new();
    for kind in Kind::WRAPPED {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stage = stage();
        let peer = stage.peer(certificate.peer(kind, listener.local_addr().unwrap().port()));
        for ticket in 0..20 {
            stage.tell(Command::Connect(ticket, peer));
            let (mut far, _) = listener.accept().unwrap();
            far.read_exact(&mut [0; 16]).unwrap();
            assert_eq!(stage.runtime.handle().connections(), 1);
            stage.tell(Command::GiveUp(ticket));
            // The far end finds it closed, or reset under what it had not read.
            let mut rest = Vec::new();
            let _ = far.read_to_end(&mut rest);
        }
        // One more hangs when all ends.
        stage.tell(Command::Connect(99, peer));
        let (mut far, _) = listener.accept().unwrap();
        far.read_exact(&mut [0; 16]).unwrap();
        assert_eq!(stage.runtime.shutdown(PATIENCE).unwrap(), ShutdownReport::default());
        assert_eq!(stage.events.try_iter().count(), 0, "{kind:?}");
    }
}
