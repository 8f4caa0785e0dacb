//! A `Core` of which a test writes only what it needs.
#![allow(dead_code)]

use std::time::Duration;

use ringmq_turn::*;

/// Words that a toy exchanges: messages, commands and events are all numbers.
pub type ToyIo = Io<u64, u64>;

/// A core whose calls do nothing unless it says otherwise.
pub trait Toy {
    fn opened(&mut self, _conn: ConnId, _io: &mut ToyIo) {}
    fn connected(&mut self, _ticket: ConnectTicket, _conn: ConnId, _io: &mut ToyIo) {}
    fn connect_failed(&mut self, _ticket: ConnectTicket, _failure: ConnectFailure, _io: &mut ToyIo) {}
    fn received(&mut self, _conn: ConnId, _bytes: &[u8], _io: &mut ToyIo) {}
    fn drained(&mut self, _conn: ConnId, _io: &mut ToyIo) {}
    fn closed(&mut self, _conn: ConnId, _reason: CloseReason, _io: &mut ToyIo) {}
    fn turned_away(&mut self, _listener: ListenerId, _why: TurnedAway, _io: &mut ToyIo) {}
    fn message(&mut self, _from: ShardId, _message: u64, _io: &mut ToyIo) {}
    fn command(&mut self, _command: u64, _io: &mut ToyIo) {}
    fn synced(&mut self, _ticket: SyncTicket, _outcome: Result<Duration, SyncFailure>, _io: &mut ToyIo) {}
    fn turn_over(&mut self, _io: &mut ToyIo) {}
    fn shutdown(&mut self, _io: &mut ToyIo) {}
}

/// Makes a core of a toy.
pub struct Run<T>(pub T);

impl<T: Toy> Core for Run<T> {
    type Message = u64;
    type Command = u64;
    type Event = u64;

    fn opened(&mut self, conn: ConnId, _: &ConnInfo, io: &mut ToyIo) {
        self.0.opened(conn, io);
    }
    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        remote: Option<std::net::SocketAddr>,
        io: &mut ToyIo,
    ) {
        assert!(remote.is_some(), "a far end has an address");
        self.0.connected(ticket, conn, io);
    }
    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, io: &mut ToyIo) {
        self.0.connect_failed(ticket, failure, io);
    }
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        assert!(!bytes.is_empty(), "a driver hands in bytes");
        self.0.received(conn, bytes, io);
    }
    fn drained(&mut self, conn: ConnId, io: &mut ToyIo) {
        self.0.drained(conn, io);
    }
    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut ToyIo) {
        self.0.closed(conn, reason, io);
    }
    fn turned_away(&mut self, listener: ListenerId, why: TurnedAway, io: &mut ToyIo) {
        self.0.turned_away(listener, why, io);
    }
    fn message(&mut self, from: ShardId, message: u64, io: &mut ToyIo) {
        self.0.message(from, message, io);
    }
    fn command(&mut self, command: u64, io: &mut ToyIo) {
        self.0.command(command, io);
    }
    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>, io: &mut ToyIo) {
        self.0.synced(ticket, outcome, io);
    }
    fn turn_over(&mut self, io: &mut ToyIo) {
        self.0.turn_over(io);
    }
    fn shutdown(&mut self, io: &mut ToyIo) {
        self.0.shutdown(io);
    }
}

/// The shard numbered so.
pub fn shard(index: usize) -> ShardId {
    ShardId::new(index)
}
