//! Connections and messages that cross from shard to shard.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use common::sorter::start_sorter;
use common::{PATIENCE, config, connect, pattern, read};
use ringmq_shards::{RuntimeConfig, ShutdownReport, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ShardId, SyncFailure, SyncTicket};

#[test]
fn a_connection_moves_with_what_was_read_and_what_races_behind() {
    let runtime = start_sorter(config(4));
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
    let runtime = start_sorter(config(3));
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
    let runtime = start_sorter(config(2));
    let mut clients: Vec<_> = (0..10).map(|_| connect(&runtime)).collect();
    clients[9].write_all(&[1, b'x']).unwrap();
    assert_eq!(read(&mut clients[9], 2), [1, b'x']);
    runtime.shutdown(Duration::ZERO).unwrap();
    assert_eq!(clients[0].read(&mut [0]).unwrap_or(0), 0);
}
