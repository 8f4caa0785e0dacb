//! Descriptors that a runtime leaves behind: none. Alone in its file, since the tests of a file share
//! their process's descriptors.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use common::dialler;
use common::wrapped::{Certificate, Kind};
use common::{Echo, config, connect, descriptors, echo, start_echo};
use ringmq_shards::{ListenerConfig, Runtime, RuntimeConfig, StartError, start};

fn until_no_connection_is_left(runtime: &Runtime<Echo>) {
    while runtime.handle().connections() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn no_descriptor_leaks() {
    let before = descriptors();
    let runtime = start_echo(config(2));
    // Executors open what they need on first use.
    echo(&mut connect(&runtime), b"first");
    until_no_connection_is_left(&runtime);
    let running = descriptors();
    for _ in 0..10 {
        let mut clients: Vec<_> = (0..100).map(|_| connect(&runtime)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            if number % 2 == 0 {
                echo(client, b"hello");
            } else if number % 3 == 0 {
                socket2::SockRef::from(&*client).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    until_no_connection_is_left(&runtime);
    assert_eq!(descriptors(), running, "connections leave nothing behind");
    wrapped_and_outbound_connections_leave_nothing();
    let open: Vec<_> = (0..20).map(|_| connect(&runtime)).collect();
    runtime.shutdown(Duration::ZERO).unwrap();
    drop(open);
    starts_that_fail_leave_nothing();
    // glommio 0.9 keeps an eventfd of each executor that ever ran.
    let executors = 2 + 3 + 2;
    assert!(descriptors() <= before + executors, "a runtime leaves nothing behind");
}

fn wrapped_and_outbound_connections_leave_nothing() {
    let certificate = Certificate::new();
    let server = start_echo(certificate.config(Kind::WebSocketOverTls, 1));
    let port = server.addresses()[0].port();
    let stage = dialler::stage();
    let peers = [certificate.peer(Kind::WebSocketOverTls, port), certificate.peer(Kind::WebSocket, port)];
    let [peer, wrong] = peers.map(|peer| stage.peer(peer));
    let round = |round: u64| {
        for ticket in round..round + 20 {
            stage.tell(dialler::Command::Connect(ticket, peer));
            assert!(matches!(stage.event(), dialler::Event::Connected(..)));
            stage.tell(dialler::Command::Close(ticket));
            stage.tell(dialler::Command::ConnectAndGiveUp(ticket, peer));
            stage.failure(ticket, wrong);
            drop(TcpStream::connect(server.addresses()[0]).unwrap());
        }
        while stage.runtime.handle().connections() + server.handle().connections() > 0 {
            std::thread::yield_now();
        }
        descriptors()
    };
    // Whatever is opened on first use is open then.
    let before = round(0);
    assert_eq!(round(100), before, "layers and connects leave nothing behind");
    stage.end();
}

fn starts_that_fail_leave_nothing() {
    // The second of two listeners is taken, by a socket that shares its port with no one.
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut taken = config(2);
    taken.listeners.push(ListenerConfig::tcp(holder.local_addr().unwrap()));
    let error = start(taken, |_| Echo, |_, ()| {}).err().unwrap();
    let port = holder.local_addr().unwrap().port();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    // One of the cores panics.
    let error = start(
        config(3),
        |me| {
            assert!(me.index() != 1, "no core today");
            Echo
        },
        |_, ()| {},
    );
    let error = error.err().unwrap();
    assert!(matches!(&error, StartError::Failed(failure) if failure.shard.index() == 1), "{error}");
    assert!(error.to_string().contains("no core today"), "{error}");
    // Settings that make no sense.
    let error = start(RuntimeConfig { cpus: vec![4096], ..config(1) }, |_| Echo, |_, ()| {});
    assert!(matches!(error.err().unwrap(), StartError::Config(_)));
    let error = start(RuntimeConfig { receive_buffers: 3, ..config(1) }, |_| Echo, |_, ()| {});
    assert!(matches!(error.err().unwrap(), StartError::Config(_)));
}
