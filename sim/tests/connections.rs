//! Bytes, pauses, hand-overs and ends of connections.

mod toys;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use ringmq_sim::{ClientId, Network, Rng, World, for_each_seed};
use ringmq_turn::*;
use toys::{Run, Toy, ToyIo, shard};

struct Echo;

impl Toy for Echo {
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        io.outbox(conn).put(first);
        io.outbox(conn).put_shared(Bytes::copy_from_slice(rest));
    }

    fn shutdown(&mut self, io: &mut ToyIo) {
        io.event(7);
    }
}

/// A client and what it sent.
type Sent = (ClientId, Vec<u8>);

/// Clients send random bytes to echoing shards; the world, and what they sent.
fn echo_run(seed: u64, network: Network) -> (World<Run<Echo>>, Vec<Sent>) {
    let mut rng = Rng::new(seed);
    let mut world = World::new(seed, 3, network, |_, _| Run(Echo));
    let mut clients: Vec<_> = (0..10).map(|_| (world.connect(None), Vec::new())).collect();
    for _ in 0..100 {
        let at = rng.below(clients.len());
        let count = rng.below(200);
        let bytes = rng.bytes(count);
        world.send(clients[at].0, &bytes);
        clients[at].1.extend_from_slice(&bytes);
        for _ in 0..rng.below(5) {
            world.step();
        }
    }
    world.run_until_idle();
    (world, clients)
}

#[test]
fn an_echo_is_whole_and_in_order() {
    for_each_seed("an_echo_is_whole", 30, |seed| {
        for network in [Network::calm(), Network::rough()] {
            let (world, clients) = echo_run(seed, network);
            for (client, sent) in clients {
                assert_eq!(world.received(client), sent);
            }
        }
    });
}

#[test]
fn a_seed_is_a_trace() {
    let mut hashes = HashSet::new();
    for_each_seed("a_seed_is_a_trace", 10, |seed| {
        let (once, _) = echo_run(seed, Network::rough());
        let (again, _) = echo_run(seed, Network::rough());
        assert_eq!((once.trace_hash(), once.steps()), (again.trace_hash(), again.steps()));
    });
    for seed in 0..10 {
        hashes.insert(echo_run(seed, Network::rough()).0.trace_hash());
    }
    assert_eq!(hashes.len(), 10, "other seeds run otherwise");
}

#[test]
fn a_calm_network_takes_no_time_and_keeps_sends_apart() {
    struct Sizes;
    impl Toy for Sizes {
        fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
            io.outbox(conn).put(format!("{} ", bytes.len()).as_bytes());
        }
    }
    let mut world = World::new(1, 1, Network::calm(), |_, _| Run(Sizes));
    let client = world.connect(None);
    let start_ms = world.now_ms();
    for size in [3, 1, 20_000] {
        world.send(client, &vec![0; size]);
    }
    world.run_until_idle();
    assert_eq!(world.take_received(client), b"3 1 16384 3616 ");
    assert_eq!(world.received(client), b"");
    assert_eq!(world.now_ms(), start_ms);
}

#[test]
fn a_shutdown_reaches_every_shard_once() {
    let mut world = World::new(1, 3, Network::rough(), |_, _| Run(Echo));
    world.shut_down();
    world.run_until_idle();
    for id in world.shard_ids() {
        assert_eq!(world.take_events(id), [7]);
    }
}

/// Follows the route that each connection begins with, a shard a byte, and echoes what comes after.
struct Router {
    me: ShardId,
    routes: HashMap<ConnId, Vec<u8>>,
}

const ROUTE_END: u8 = 0xff;

impl Toy for Router {
    fn opened(&mut self, conn: ConnId, _: &mut ToyIo) {
        assert!(self.routes.insert(conn, Vec::new()).is_none(), "{conn:?} is new");
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        let read = self.routes.get_mut(&conn).expect("handed-over connections are not heard of again");
        if read.first() == Some(&ROUTE_END) {
            io.outbox(conn).put(bytes);
            return;
        }
        read.extend_from_slice(bytes);
        // A hop goes on only once the byte after it is here, so that several bytes are unread.
        if read[0] == ROUTE_END {
            io.outbox(conn).put(&read[1..]);
        } else if read.len() > 1 {
            let to = shard(usize::from(read[0]));
            assert_ne!(to, self.me);
            let unread = read[1..].to_vec();
            self.routes.remove(&conn);
            io.hand_over(HandOver { conn, to, unread });
        }
    }
}

#[test]
fn a_connection_is_handed_from_shard_to_shard_and_loses_nothing() {
    for_each_seed("a_connection_is_handed", 100, |seed| {
        let network = if seed % 4 == 0 { Network::calm() } else { Network::rough() };
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, 4, network, |me, _| Run(Router { me, routes: HashMap::new() }));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut at = rng.below(4);
                let client = world.connect(Some(shard(at)));
                let mut sent = Vec::new();
                for _ in 0..rng.below(6) {
                    at = (at + 1 + rng.below(3)) % 4;
                    sent.push(at as u8);
                }
                sent.push(ROUTE_END);
                let count = 1 + rng.below(300);
                let payload = rng.bytes(count);
                sent.extend_from_slice(&payload);
                for piece in sent.chunks(1 + rng.below(40)) {
                    world.send(client, piece);
                    world.step();
                }
                (client, at, payload)
            })
            .collect();
        world.run_until_idle();
        for (client, at, payload) in clients {
            assert_eq!(world.received(client), payload);
            assert_eq!(world.shard_of(client), Some(shard(at)));
        }
        let open: usize = world.shard_ids().map(|id| world.open_count(id)).sum();
        assert_eq!(open, 8);
    });
}

/// Pauses at every arrival, and resumes some milliseconds later.
#[derive(Default)]
struct Pauser {
    resume_at_ms: Option<(u64, ConnId)>,
    got: Vec<u8>,
    overran: bool,
}

impl Toy for Pauser {
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        self.got.extend_from_slice(bytes);
        self.overran |= self.resume_at_ms.is_some();
        self.resume_at_ms = Some((io.now.mono_ms + 3, conn));
        io.pause(conn);
    }

    fn turn_over(&mut self, io: &mut ToyIo) {
        if let Some((_, conn)) = self.resume_at_ms.take_if(|(at_ms, _)| *at_ms <= io.now.mono_ms) {
            io.resume(conn);
        }
        io.wake_at_ms = self.resume_at_ms.map(|(at_ms, _)| at_ms);
    }
}

#[test]
fn what_comes_during_a_pause_waits() {
    let mut overran = 0;
    for seed in 0..50 {
        let network = if seed % 2 == 0 { Network::calm() } else { Network::rough() };
        let calm = seed % 2 == 0;
        let mut world = World::new(seed, 1, network, |_, _| Run(Pauser::default()));
        let client = world.connect(None);
        let sent = Rng::new(seed).bytes(200);
        for piece in sent.chunks(10) {
            world.send(client, piece);
        }
        world.run_until_idle();
        if calm {
            assert_eq!(world.core(shard(0)).0.got, sent[..10], "the rest waits for the resume");
            assert!(world.is_paused(client));
            world.run_for_ms(3);
            assert_eq!(world.core(shard(0)).0.got, sent[..20]);
        }
        world.run_for_ms(10_000);
        assert_eq!(world.core(shard(0)).0.got, sent);
        assert!(!(calm && world.core(shard(0)).0.overran), "a calm pause is sharp");
        overran += u32::from(world.core(shard(0)).0.overran);
    }
    assert!(overran > 0, "a rough pause overruns now and then");
}

/// Writes as many bytes as it is commanded to every connection.
#[derive(Default)]
struct Writer {
    conns: Vec<ConnId>,
    drained: usize,
    ended: Vec<CloseReason>,
    turned_away: Vec<(ListenerId, TurnedAway)>,
}

impl Toy for Writer {
    fn opened(&mut self, conn: ConnId, _: &mut ToyIo) {
        self.conns.push(conn);
    }

    fn command(&mut self, count: u64, io: &mut ToyIo) {
        for &conn in &self.conns {
            io.outbox(conn).put(&vec![b'x'; count as usize]);
        }
    }

    fn drained(&mut self, conn: ConnId, io: &mut ToyIo) {
        assert!(io.backlog_bytes(conn) < io.backlog_low_bytes);
        self.drained += 1;
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, _: &mut ToyIo) {
        self.conns.retain(|&open| open != conn);
        self.ended.push(reason);
    }

    fn turned_away(&mut self, listener: ListenerId, why: TurnedAway, _: &mut ToyIo) {
        self.turned_away.push((listener, why));
    }
}

#[test]
fn a_stalled_client_builds_a_backlog_and_is_reported_when_it_drains() {
    for_each_seed("a_stalled_client", 40, |seed| {
        let marks = Network { backlog_high_bytes: 1000, backlog_low_bytes: 400, ..Network::rough() };
        let mut world = World::new(seed, 1, marks, |_, _| Run(Writer::default()));
        let client = world.connect(None);
        world.run_until_idle();
        world.stall(client, true);
        for (total, drained) in [(600, 0), (1200, 0), (1800, 1)] {
            world.command(shard(0), 600);
            world.run_until_idle();
            assert_eq!(world.backlog_bytes(client), total, "stalled, before {drained} drains");
        }
        assert_eq!((world.received(client), world.core(shard(0)).0.drained), (&b""[..], 0));
        world.stall(client, false);
        world.run_until_idle();
        assert_eq!((world.received(client).len(), world.backlog_bytes(client)), (1800, 0));
        assert_eq!(world.core(shard(0)).0.drained, 1);
        world.stall(client, true);
        world.command(shard(0), 1000);
        world.run_until_idle();
        world.stall(client, false);
        world.run_until_idle();
        assert_eq!(world.core(shard(0)).0.drained, 1, "it was never above the high mark again");
    });
}

#[test]
fn a_core_learns_how_its_connections_end() {
    for_each_seed("a_core_learns", 40, |seed| {
        let mut world = World::new(seed, 1, Network::rough(), |_, _| Run(Writer::default()));
        let (hangs_up, is_cut) = (world.connect(None), world.connect(None));
        world.run_until_idle();
        world.hang_up(hangs_up);
        world.run_until_idle();
        world.stall(is_cut, true);
        world.command(shard(0), 50);
        world.run_until_idle();
        world.cut(is_cut);
        world.run_until_idle();
        assert_eq!(world.core(shard(0)).0.ended, [CloseReason::PeerClosed, CloseReason::Broken]);
        assert!(!world.is_connected(hangs_up) && !world.is_connected(is_cut));
        assert!(!world.is_closed(hangs_up) && !world.is_closed(is_cut), "the core closed neither");
        assert_eq!((world.received(is_cut), world.open_count(shard(0))), (&b""[..], 0));
    });
}

#[test]
fn a_core_learns_what_its_transport_ended() {
    let fault = TransportFault::FrameTooLarge;
    for_each_seed("a_core_learns_what", 40, |seed| {
        let mut world = World::new(seed, 1, Network::rough(), |_, _| Run(Writer::default()));
        world.turn_away(shard(0), ListenerId(3), TurnedAway::TimedOut);
        let client = world.connect(None);
        world.send(client, b"bytes");
        world.misbehave(client, fault);
        world.run_until_idle();
        let core = &world.core(shard(0)).0;
        assert_eq!(core.turned_away, [(ListenerId(3), TurnedAway::TimedOut)]);
        assert_eq!(core.ended, [CloseReason::Transport(fault)]);
        assert!(!world.is_connected(client));
    });
}

/// Keeps what one connection sent, and how it ended.
#[derive(Default)]
struct Keeper {
    got: Vec<u8>,
    end: Option<CloseReason>,
}

impl Toy for Keeper {
    fn received(&mut self, _: ConnId, bytes: &[u8], _: &mut ToyIo) {
        assert_eq!(self.end, None, "nothing comes after the end");
        self.got.extend_from_slice(bytes);
    }

    fn closed(&mut self, _: ConnId, reason: CloseReason, _: &mut ToyIo) {
        assert_eq!(self.end.replace(reason), None, "a connection ends once");
    }
}

#[test]
fn what_was_sent_before_the_end_arrives_but_a_cut_may_lose_the_rest() {
    let mut lost = 0;
    for seed in 0..60 {
        let cuts = seed % 2 == 0;
        let mut world = World::new(seed, 1, Network::rough(), |_, _| Run(Keeper::default()));
        let client = world.connect(None);
        let sent = Rng::new(seed).bytes(100);
        for piece in sent.chunks(9) {
            world.send(client, piece);
            world.step();
        }
        if cuts {
            world.cut(client)
        } else {
            world.hang_up(client)
        }
        world.run_until_idle();
        let keeper = &world.core(shard(0)).0;
        if cuts {
            assert!(sent.starts_with(&keeper.got), "seed {seed}: a cut loses no bytes in the middle");
            assert_eq!(keeper.end, Some(CloseReason::Broken));
            lost += usize::from(keeper.got.len() < sent.len());
        } else {
            assert_eq!((&keeper.got, keeper.end), (&sent, Some(CloseReason::PeerClosed)), "seed {seed}");
        }
    }
    assert!(lost > 0, "a cut loses bytes now and then");
}

/// Says goodbye at the first arrival. No id comes twice.
#[derive(Default)]
struct Closer {
    seen: HashSet<ConnId>,
    slots_max: u32,
}

impl Toy for Closer {
    fn opened(&mut self, conn: ConnId, _: &mut ToyIo) {
        assert!(self.seen.insert(conn), "{conn:?} came twice");
        self.slots_max = self.slots_max.max(conn.slot + 1);
    }

    fn received(&mut self, conn: ConnId, _: &[u8], io: &mut ToyIo) {
        io.outbox(conn).put(b"so long");
        io.close(conn);
    }

    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut ToyIo) {
        panic!("it is not told of what it closed itself");
    }
}

#[test]
fn a_close_comes_after_the_last_bytes_and_frees_the_slot() {
    for_each_seed("a_close_comes_after", 40, |seed| {
        let mut world = World::new(seed, 1, Network::rough(), |_, _| Run(Closer::default()));
        for _ in 0..20 {
            let client = world.connect(None);
            world.stall(client, true);
            world.send(client, b"hello, and more than one arrival's worth");
            world.run_until_idle();
            assert!(!world.is_closed(client), "it has not read the goodbye");
            world.stall(client, false);
            world.run_until_idle();
            assert!(world.is_closed(client));
            assert_eq!(world.received(client), b"so long");
            world.send(client, b"is lost");
        }
        assert_eq!(world.core(shard(0)).0.slots_max, 1, "the slot is used again");
    });
}
