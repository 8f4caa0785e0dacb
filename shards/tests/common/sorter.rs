//! A core that hands connections over.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test binary uses all of it")]

use std::time::Duration;

use ringmq_shards::{Runtime, RuntimeConfig, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, HandOver, Io, ShardId, SyncFailure, SyncTicket};

/// Hands every connection to the shard that its first byte names, which answers with its own number and
/// then with what follows. A further byte 0xff moves it on to the next shard.
pub struct Sorter {
    me: ShardId,
    shards: usize,
    fresh: Vec<bool>,
}

impl Core for Sorter {
    type Message = ();
    type Command = ();
    type Event = ();

    fn opened(&mut self, conn: ConnId, info: &ConnInfo, _: &mut Io<(), ()>) {
        assert!(!info.over_limit);
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

pub fn start_sorter(config: RuntimeConfig) -> Runtime<Sorter> {
    let shards = config.shards.unwrap();
    start(config, move |me| Sorter { me, shards, fresh: Vec::new() }, |_, ()| {}).unwrap()
}
