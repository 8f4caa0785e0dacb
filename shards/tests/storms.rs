//! Many connections at once and one after the other, and what is left of them.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Echo, config, connect, echo, start_echo};
use ringmq_shards::{ListenerConfig, RuntimeConfig, StartError, start};

#[test]
fn a_second_runtime_does_not_share_a_port_by_accident() {
    let first = start_echo(config(2));
    let addr: SocketAddr = first.addresses()[0];
    let second = RuntimeConfig { listeners: vec![ListenerConfig::tcp(addr)], ..config(1) };
    assert!(matches!(start(second.clone(), |_| Echo, |_, ()| {}), Err(StartError::Listen { .. })));
    let client = connect(&first);
    first.shutdown(Duration::ZERO).unwrap();
    drop(client);
    // The port is free at once, although connections to it were open a moment ago.
    let second = start_echo(second);
    echo(&mut connect(&second), b"hello");
}

#[test]
fn few_buffers_serve_many_connections() {
    let runtime = start_echo(RuntimeConfig { receive_buffers: 2, submission_entries: 4, ..config(1) });
    let mut clients: Vec<_> = (0..50).map(|_| connect(&runtime)).collect();
    let bytes = common::pattern(200_000);
    std::thread::scope(|scope| {
        for client in &mut clients {
            let bytes = &bytes;
            scope.spawn(move || {
                for piece in bytes.chunks(40_000) {
                    echo(client, piece);
                }
            });
        }
    });
}

#[test]
fn a_tiny_completion_queue_loses_nothing() {
    let small = RuntimeConfig { submission_entries: 2, completion_entries: 2, ..config(1) };
    let runtime = start_echo(small);
    let mut clients: Vec<_> = (0..100).map(|_| connect(&runtime)).collect();
    for round in 0..20u8 {
        for client in &mut clients {
            std::io::Write::write_all(client, &[round; 100]).unwrap();
        }
        for client in &mut clients {
            assert_eq!(common::read(client, 100), [round; 100]);
        }
    }
}
