//! Connections and messages that cross from shard to shard.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, config, connect, pattern, read};
use ringmq_shards::{RuntimeConfig, ShutdownReport, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, HandOver, Io, ShardId, SyncFailure, SyncTicket};

/// Hands every connection to the shard that its first byte names, which answers with its own number and
/// then with what follows. A further byte 0xff moves it on to the next shard.
struct Sorter {
    me: ShardId,
    shards: usize,
    fresh: Vec<bool>,
}

impl Core for Sorter {
    type Message = ();
    type Command = ();
    type Event = ();

    fn opened(&mut self, conn: ConnId, info: &ConnInfo, _: &mut Io<(), ()>) {
        assert!(info.remote.is_some() && !info.over_limit);
        self.fresh.resize(self.fresh.len().max(conn.index() + 1), false);
        self.fresh[conn.index()] = true;
    }

    fn received(&mut self, conn: ConnId, mut bytes: &[u8], io: &mut Io<(), ()>) {
        if std::mem::take(&mut self.fresh[conn.index()]) {
            let to = usize::from(bytes[0]) % self.shards;
            if to != self.me.index() {
                io.hand_over(HandOver { conn, to: ShardId::new(to), unread: bytes.to_vec() });
                return;
            }
            io.outbox(conn).put(&[to as u8]);
            bytes = &bytes[1..];
        }
        match bytes.iter().position(|&byte| byte == 0xff) {
            None => io.outbox(conn).put(bytes),
            Some(at) => {
                assert_eq!(at, 0, "the test waits for its answers before it moves on");
                let next = (self.me.index() + 1) % self.shards;
                let mut unread = vec![next as u8];
                unread.extend_from_slice(&bytes[1..]);
                io.hand_over(HandOver { conn, to: ShardId::new(next), unread });
            }
        }
    }

    fn drained(&mut self, _: ConnId, _: &mut Io<(), ()>) {}
    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<(), ()>) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Io<(), ()>) {}
    fn command(&mut self, (): (), _: &mut Io<(), ()>) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Io<(), ()>) {}
    fn turn_over(&mut self, _: &mut Io<(), ()>) {}
    fn shutdown(&mut self, _: &mut Io<(), ()>) {}
}

fn sorter(shards: usize) -> ringmq_shards::Runtime<Sorter> {
    start(config(shards), move |me| Sorter { me, shards, fresh: Vec::new() }, |_, ()| {}).unwrap()
}

#[test]
fn a_connection_moves_with_what_was_read_and_what_races_behind() {
    let runtime = sorter(4);
    let mut clients: Vec<_> = (0..64).map(|_| connect(&runtime)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&[number as u8 % 4]).unwrap();
        for piece in pattern(2_000).iter().map(|byte| byte & 0x7f).collect::<Vec<_>>().chunks(3) {
            client.write_all(piece).unwrap();
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let back = read(client, 2_001);
        assert_eq!(usize::from(back[0]), number % 4);
        assert!(back[1..].iter().copied().eq(pattern(2_000).iter().map(|byte| byte & 0x7f)));
    }
    drop(clients);
    assert_eq!(runtime.shutdown(Duration::from_secs(5)).unwrap(), ShutdownReport::default());
}

#[test]
fn a_connection_that_is_being_received_from_moves_too() {
    let runtime = sorter(3);
    let mut client = connect(&runtime);
    client.write_all(&[1]).unwrap();
    for lap in 0..300u32 {
        assert_eq!(read(&mut client, 1)[0], ((lap + 1) % 3) as u8, "lap {lap}");
        client.write_all(b"abc").unwrap();
        assert_eq!(read(&mut client, 3), b"abc");
        client.write_all(&[0xff]).unwrap();
    }
}

/// Shard 0 sends numbers to shard 1 as fast as lanes take them, and shard 1 sends each back. Shard 0
/// tells the world when all came home.
struct Counter {
    me: ShardId,
    count: u64,
    sent: u64,
    seen: u64,
    held: VecDeque<u64>,
    polite: bool,
}

impl Counter {
    fn pump(&mut self, io: &mut Io<u64, u64>) {
        let peer = ShardId::new(1);
        while self.sent < self.count && !(self.polite && io.full_lanes().contains(peer)) {
            io.message(peer, self.sent);
            self.sent += 1;
        }
    }
}

impl Core for Counter {
    type Message = u64;
    type Command = u64;
    type Event = u64;

    fn opened(&mut self, _: ConnId, _: &ConnInfo, _: &mut Io<u64, u64>) {}
    fn received(&mut self, _: ConnId, _: &[u8], _: &mut Io<u64, u64>) {}
    fn drained(&mut self, _: ConnId, _: &mut Io<u64, u64>) {}
    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<u64, u64>) {}

    fn message(&mut self, from: ShardId, message: u64, io: &mut Io<u64, u64>) {
        assert_eq!(message, self.seen, "messages of a shard arrive in order");
        self.seen += 1;
        if self.me.index() == 1 {
            if self.polite && (io.full_lanes().contains(from) || !self.held.is_empty()) {
                self.held.push_back(message);
            } else {
                io.message(from, message);
            }
        } else if self.seen == self.count {
            io.event(self.seen);
        }
    }

    fn command(&mut self, count: u64, _: &mut Io<u64, u64>) {
        (self.count, self.sent, self.seen) = (self.seen + count, self.seen, self.seen);
    }

    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Io<u64, u64>) {}

    fn turn_over(&mut self, io: &mut Io<u64, u64>) {
        if self.me.index() == 0 {
            self.pump(io);
        }
        while !io.full_lanes().contains(ShardId::new(0))
            && let Some(message) = self.held.pop_front()
        {
            io.message(ShardId::new(0), message);
        }
    }

    fn shutdown(&mut self, _: &mut Io<u64, u64>) {}
}

fn count_through(lane_messages_max: usize, polite: bool, rounds: &[u64]) {
    let (done, ended) = mpsc::channel();
    let config = RuntimeConfig { lane_messages_max, ..config(2) };
    let runtime = start(
        config,
        move |me| Counter { me, count: 0, sent: 0, seen: 0, held: VecDeque::new(), polite },
        move |_, seen| done.send(seen).unwrap(),
    )
    .unwrap();
    let mut total = 0;
    for &count in rounds {
        total += count;
        runtime.handle().command(ShardId::new(0), count).unwrap();
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), total);
    }
    assert_eq!(runtime.shutdown(Duration::from_secs(5)).unwrap(), ShutdownReport::default());
}

#[test]
fn a_million_messages_cross_a_tiny_lane_in_order() {
    count_through(16, true, &[1_000_000]);
    count_through(4096, true, &[1_000_000]);
}

#[test]
fn messages_beyond_the_lane_wait_for_room_and_none_is_lost() {
    count_through(16, false, &[1_000_000]);
}

#[test]
fn sleeping_shards_are_woken_for_every_message() {
    count_through(2, true, &[1; 3_000]);
    count_through(1, false, &[3; 1_000]);
}

#[test]
fn a_client_that_says_nothing_stays_where_it_is() {
    let runtime = sorter(2);
    let mut clients: Vec<_> = (0..10).map(|_| connect(&runtime)).collect();
    clients[9].write_all(&[1, b'x']).unwrap();
    assert_eq!(read(&mut clients[9], 2), [1, b'x']);
    runtime.shutdown(Duration::ZERO).unwrap();
    assert_eq!(clients[0].read(&mut [0]).unwrap_or(0), 0);
}
