//! What the tests of real sockets share: a core made of closures' worth of behaviour, and a runtime.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test binary uses all of it")]

pub mod dialler;
pub mod sorter;
pub mod wrapped;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use ringmq_shards::{ListenerConfig, Runtime, RuntimeConfig, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ShardId, SyncFailure, SyncTicket};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One listener on a port that the kernel chooses.
pub fn config(shards: usize) -> RuntimeConfig {
    RuntimeConfig {
        shards: Some(shards),
        listeners: vec![ListenerConfig::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
        ..RuntimeConfig::default()
    }
}

/// A client that fails rather than hangs.
pub fn connect<C: Core>(runtime: &Runtime<C>) -> TcpStream {
    let client = TcpStream::connect(runtime.addresses()[0]).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

pub fn read(client: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

/// Writes, and expects the same back.
pub fn echo(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    assert_eq!(read(client, bytes.len()), bytes);
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect()
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Answers every byte with itself.
#[derive(Default)]
pub struct Echo;

impl Core for Echo {
    type Message = ();
    type Command = ();
    type Event = ();

    fn opened(&mut self, _: ConnId, _: &ConnInfo, _: &mut Io<(), ()>) {}

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), ()>) {
        io.outbox(conn).put(bytes);
    }

    fn drained(&mut self, _: ConnId, _: &mut Io<(), ()>) {}
    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<(), ()>) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Io<(), ()>) {}
    fn command(&mut self, (): (), _: &mut Io<(), ()>) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Io<(), ()>) {}
    fn turn_over(&mut self, _: &mut Io<(), ()>) {}
    fn shutdown(&mut self, _: &mut Io<(), ()>) {}
}

pub fn start_echo(config: RuntimeConfig) -> Runtime<Echo> {
    start(config, |_| Echo, |_, ()| {}).unwrap()
}
