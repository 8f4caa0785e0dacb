//! Connections that cores open.

mod toys;

use std::collections::{BTreeMap, BTreeSet};

use ringmq_sim::{ClientId, Dialled, Network, Rng, World, for_each_seed};
use ringmq_turn::*;
use toys::{Run, Toy, ToyIo, shard};

/// A command below this opens a connection with that ticket to the peer of that number, one above gives
/// it up.
const GIVE_UP: u64 = 1000;

/// Opens connections, greets with the ticket, and echoes.
#[derive(Default)]
struct Dialler {
    answers: Vec<(u64, Result<(), ConnectFailureKind>)>,
    ended: Vec<CloseReason>,
}

impl Toy for Dialler {
    fn connected(&mut self, ticket: ConnectTicket, conn: ConnId, io: &mut ToyIo) {
        self.answers.push((ticket.0, Ok(())));
        io.outbox(conn).put(&[ticket.0 as u8]);
    }

    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, _: &mut ToyIo) {
        self.answers.push((ticket.0, Err(failure.kind)));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        io.outbox(conn).put(bytes);
    }

    fn closed(&mut self, _: ConnId, reason: CloseReason, _: &mut ToyIo) {
        self.ended.push(reason);
    }

    fn command(&mut self, command: u64, io: &mut ToyIo) {
        if command < GIVE_UP {
            io.connect(ConnectTicket(command), PeerId(command as u32));
        } else if !self.answers.iter().any(|(ticket, _)| *ticket == command - GIVE_UP) {
            io.cancel_connect(ConnectTicket(command - GIVE_UP));
        }
    }
}

fn refused() -> ConnectFailure {
    ConnectFailure { kind: ConnectFailureKind::Refused, detail: "nobody is at home".into() }
}

fn world(seed: u64, network: Network) -> World<Run<Dialler>> {
    World::new(seed, 2, network, |_, _| Run(Dialler::default()))
}

/// Has shard 0 open a connection, and takes it.
fn dial(world: &mut World<Run<Dialler>>, ticket: u64) -> Dialled {
    world.command(shard(0), ticket);
    world.run_until_idle();
    let dials = world.take_dials(shard(0));
    assert_eq!(dials.len(), 1);
    assert_eq!((dials[0].ticket, dials[0].peer), (ConnectTicket(ticket), PeerId(ticket as u32)));
    dials[0]
}

#[test]
fn an_accepted_dial_is_a_client_like_any() {
    for_each_seed("an_accepted_dial_is_a_client", 30, |seed| {
        for network in [Network::calm(), Network::rough()] {
            let mut world = world(seed, network);
            let dialled = dial(&mut world, 7);
            assert!(world.take_dials(shard(0)).is_empty() && world.take_dials(shard(1)).is_empty());
            assert!(world.is_dialling(dialled));
            let far = world.accept_dial(dialled);
            // What it says before the core knows of it waits.
            world.send(far, b"welcome");
            world.run_until_idle();
            assert_eq!(world.take_received(far), b"\x07welcome");
            assert_eq!(world.shard_of(far), Some(shard(0)));
            assert!(!world.is_dialling(dialled));
            world.hang_up(far);
            world.run_until_idle();
            assert!(!world.is_connected(far));
            let core = &world.core(shard(0)).0;
            assert_eq!(
                (&core.answers[..], &core.ended[..]),
                (&[(7, Ok(()))][..], &[CloseReason::PeerClosed][..])
            );
        }
    });
}

#[test]
fn a_refusal_is_told_once_and_its_ticket_is_free_again() {
    for_each_seed("a_refusal_is_told_once", 30, |seed| {
        let mut world = world(seed, Network::rough());
        for _ in 0..2 {
            let dialled = dial(&mut world, 3);
            world.refuse_dial(dialled, refused());
            world.run_until_idle();
            assert!(!world.is_dialling(dialled));
        }
        let told = (3, Err(ConnectFailureKind::Refused));
        assert_eq!(world.core(shard(0)).0.answers, [told, told]);
    });
}

#[test]
fn a_dial_that_is_given_up_is_not_answered() {
    #[derive(Clone, Copy, PartialEq)]
    enum Then {
        Nothing,
        Accept,
        Refuse,
    }
    use Then::{Accept, Nothing, Refuse};
    for (before, after) in
        [(Nothing, Nothing), (Nothing, Accept), (Nothing, Refuse), (Accept, Nothing), (Refuse, Nothing)]
    {
        for_each_seed("a_dial_that_is_given_up", 20, |seed| {
            // The answer is slow, so that it is still on its way.
            let slow = Network { client_delay_ms: 100..=200, ..Network::rough() };
            let mut world = world(seed, slow);
            let dialled = dial(&mut world, 1);
            let mut far = None;
            match before {
                Nothing => {}
                Accept => far = Some(world.accept_dial(dialled)),
                Refuse => world.refuse_dial(dialled, refused()),
            }
            world.command(shard(0), GIVE_UP + 1);
            world.run_for_ms(50);
            assert!(!world.is_dialling(dialled));
            match after {
                Nothing => {}
                Accept => far = Some(world.accept_dial(dialled)),
                Refuse => world.refuse_dial(dialled, refused()),
            }
            world.run_until_idle();
            assert!(far.is_none_or(|far| world.is_closed(far)), "the far end finds it closed");
            assert_eq!(world.core(shard(0)).0.answers, []);
        });
    }
}

#[test]
fn what_is_given_up_before_anybody_looked_is_not_shown() {
    let mut world = world(1, Network::calm());
    for command in [1, 2, GIVE_UP + 1] {
        world.command(shard(0), command);
    }
    world.run_until_idle();
    let shown: Vec<_> = world.take_dials(shard(0)).iter().map(|dialled| dialled.ticket.0).collect();
    assert_eq!(shown, [2]);
}

#[test]
fn a_shutdown_gives_up_what_is_being_opened() {
    let mut world = world(1, Network::calm());
    let dialled = dial(&mut world, 1);
    world.shut_down();
    world.run_until_idle();
    assert!(!world.is_dialling(dialled));
    let far = world.accept_dial(dialled);
    // Neither is more opened, nor is it a breach to ask, or to give up what the driver did already.
    world.command(shard(0), 2);
    world.command(shard(0), GIVE_UP + 1);
    world.run_until_idle();
    assert!(world.is_closed(far) && world.take_dials(shard(0)).is_empty());
    assert_eq!(world.core(shard(0)).0.answers, []);
}

#[test]
#[should_panic(expected = "is answered once")]
fn a_dial_is_answered_once() {
    let mut world = world(1, Network::calm());
    let dialled = dial(&mut world, 1);
    world.refuse_dial(dialled, refused());
    world.accept_dial(dialled);
}

/// What a test did with a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Accepted(ClientId),
    Refused,
}

/// Random dials, accepted, refused, given up, written to and cut: the world, and what was done.
fn storm(seed: u64) -> (World<Run<Dialler>>, BTreeMap<u64, Fate>, BTreeSet<u64>) {
    let mut rng = Rng::new(seed);
    let mut world = world(seed, Network::rough());
    let (mut fates, mut given_up, mut ringing) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for ticket in 0..60 {
        world.command(shard(0), ticket);
        for _ in 0..rng.below(6) {
            world.step();
        }
        ringing.extend(world.take_dials(shard(0)));
        if !ringing.is_empty() && rng.chance(0.8) {
            let dialled = ringing.swap_remove(rng.below(ringing.len()));
            let fate = if rng.chance(0.6) {
                let far = world.accept_dial(dialled);
                if world.is_connected(far) {
                    world.send(far, b"hello");
                    if rng.chance(0.2) {
                        world.cut(far);
                    }
                }
                Fate::Accepted(far)
            } else {
                world.refuse_dial(dialled, refused());
                Fate::Refused
            };
            fates.insert(dialled.ticket.0, fate);
        }
        if rng.chance(0.3) {
            let ticket = rng.below(ticket as usize + 1) as u64;
            if given_up.insert(ticket) {
                world.command(shard(0), GIVE_UP + ticket);
            }
        }
    }
    world.run_until_idle();
    (world, fates, given_up)
}

#[test]
fn every_dial_has_the_answer_that_it_was_given_or_was_given_up() {
    for_each_seed("every_dial_has_its_answer", 100, |seed| {
        let (world, fates, given_up) = storm(seed);
        let core = &world.core(shard(0)).0;
        let answers: BTreeMap<_, _> = core.answers.iter().copied().collect();
        assert_eq!(answers.len(), core.answers.len(), "none has two");
        for ticket in 0..60 {
            match (fates.get(&ticket), answers.get(&ticket)) {
                (Some(Fate::Accepted(_)), Some(Ok(()))) | (Some(Fate::Refused), Some(Err(_))) => {}
                (Some(Fate::Accepted(far)), None) => {
                    assert!(given_up.contains(&ticket) && world.is_closed(*far));
                }
                (Some(Fate::Refused), None) => assert!(given_up.contains(&ticket)),
                (None, answer) => assert_eq!(answer, None, "nobody answered {ticket}"),
                (fate, answer) => panic!("{ticket}: {fate:?} was told as {answer:?}"),
            }
            if let (Some(Fate::Accepted(far)), Some(Ok(()))) = (fates.get(&ticket), answers.get(&ticket))
                && world.is_connected(*far)
            {
                assert_eq!(world.received(*far), [&[ticket as u8], &b"hello"[..]].concat());
            }
        }
        let (again, ..) = storm(seed);
        assert_eq!(world.trace_hash(), again.trace_hash(), "a seed is a trace");
    });
}
