//! What the runtime itself costs: a core that knows no protocol passes 64-byte frames on, and the CPU
//! time of its shard is divided by the frames delivered. A plain epoll loop does the same for comparison.
//!
//! `cargo run --release --example relay [scenario...]`; all of it on the first CPU. Scenarios are
//! `publishers-subscribers-frames`: `50-50-64` is 50 pairs with 64 frames a round each, `1-100-64` a
//! fan-out, `50-1-64` a fan-in.
#![allow(clippy::unwrap_used, reason = "a measurement fails where it stands")]

#[path = "relay/epoll.rs"]
mod epoll;
#[path = "relay/load.rs"]
mod load;

use std::net::{Ipv4Addr, SocketAddr};

use ringmq_shards::{ListenerConfig, RuntimeConfig, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ShardId, SyncFailure, SyncTicket};

/// Connections introduce themselves with `P` or `S` and a channel, and then publish to it or receive it.
#[derive(Clone, Copy)]
enum Role {
    New,
    Publisher(u8),
    Subscriber(u8),
}

struct Relay {
    roles: Vec<Role>,
    channels: Vec<Vec<ConnId>>,
}

impl Core for Relay {
    type Message = ();
    type Command = ();
    type Event = ();

    fn opened(&mut self, conn: ConnId, _: &ConnInfo, _: &mut Io<(), ()>) {
        self.roles.resize(self.roles.len().max(conn.index() + 1), Role::New);
        self.roles[conn.index()] = Role::New;
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), ()>) {
        match self.roles[conn.index()] {
            Role::Publisher(channel) => {
                for &subscriber in &self.channels[usize::from(channel)] {
                    io.outbox(subscriber).put(bytes);
                }
            }
            Role::Subscriber(_) => {}
            Role::New => {
                assert_eq!(bytes.len(), 2, "the load introduces itself and waits");
                self.roles[conn.index()] = match bytes[0] {
                    b'P' => Role::Publisher(bytes[1]),
                    _ => {
                        self.channels[usize::from(bytes[1])].push(conn);
                        Role::Subscriber(bytes[1])
                    }
                };
                io.outbox(conn).put(b"!");
            }
        }
    }

    fn closed(&mut self, conn: ConnId, _: CloseReason, _: &mut Io<(), ()>) {
        if let Role::Subscriber(channel) = self.roles[conn.index()] {
            self.channels[usize::from(channel)].retain(|&other| other != conn);
        }
    }

    fn drained(&mut self, _: ConnId, _: &mut Io<(), ()>) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Io<(), ()>) {}
    fn command(&mut self, (): (), _: &mut Io<(), ()>) {}
    fn synced(&mut self, _: SyncTicket, _: Result<std::time::Duration, SyncFailure>, _: &mut Io<(), ()>) {}
    fn turn_over(&mut self, _: &mut Io<(), ()>) {}
    fn shutdown(&mut self, _: &mut Io<(), ()>) {}
}

fn main() {
    let mut scenarios: Vec<load::Scenario> =
        std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    if scenarios.is_empty() {
        scenarios =
            ["1-1-1", "1-1-1024", "50-50-1", "50-50-16", "50-50-64", "50-50-256", "1-100-64", "50-1-16"]
                .map(|text| text.parse().unwrap())
                .into();
    }
    let config = RuntimeConfig {
        shards: Some(1),
        listeners: vec![ListenerConfig::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
        ..RuntimeConfig::default()
    };
    let make = |_| Relay { roles: Vec::new(), channels: vec![Vec::new(); 256] };
    let runtime = start(config, make, |_, ()| {}).unwrap();
    let epoll = epoll::start();
    load::share_cpu();
    load::go_first();
    println!("{:>14} {:>12} {:>12} {:>8}", "scenario", "shard ns", "epoll ns", "ratio");
    for scenario in scenarios {
        let shard_ns = load::measure(&scenario, runtime.addresses()[0], "shard-0");
        let epoll_ns = load::measure(&scenario, epoll, "epoll");
        println!(
            "{:>14} {shard_ns:>12.1} {epoll_ns:>12.1} {:>8.2}",
            scenario.to_string(),
            shard_ns / epoll_ns
        );
    }
}
