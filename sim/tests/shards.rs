//! Lanes, timers, syncs, commands and the clock.

mod toys;

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use ringmq_sim::{Network, Rng, START, World, for_each_seed};
use ringmq_turn::*;
use toys::{Run, Toy, ToyIo, shard};

/// Sends numbers to the next shard when commanded, and holds back what has no room.
struct Talker {
    to: ShardId,
    minds_room: bool,
    held: VecDeque<u64>,
    held_max: usize,
    heard: Vec<u64>,
}

impl Talker {
    fn flush(&mut self, io: &mut ToyIo) {
        while !(self.minds_room && io.full_lanes().contains(self.to))
            && let Some(number) = self.held.pop_front()
        {
            io.message(self.to, number);
        }
        self.held_max = self.held_max.max(self.held.len());
    }
}

impl Toy for Talker {
    fn message(&mut self, _: ShardId, message: u64, _: &mut ToyIo) {
        self.heard.push(message);
    }

    fn command(&mut self, count: u64, io: &mut ToyIo) {
        self.held.extend(0..count);
        self.flush(io);
    }

    fn turn_over(&mut self, io: &mut ToyIo) {
        self.flush(io);
    }
}

fn talkers(seed: u64, network: Network, minds_room: bool) -> World<Run<Talker>> {
    World::new(seed, 3, network, |me, _| {
        let to = shard((me.index() + 1) % 3);
        Run(Talker { to, minds_room, held: VecDeque::new(), held_max: 0, heard: Vec::new() })
    })
}

#[test]
fn a_lane_with_little_room_keeps_order_and_loses_nothing() {
    for_each_seed("a_lane_with_little_room", 60, |seed| {
        let base = if seed % 2 == 0 { Network::calm() } else { Network::rough() };
        let network = Network { lane_room_messages: 1 + seed as usize % 3, ..base };
        let minds_room = seed % 5 != 0;
        let mut world = talkers(seed, network, minds_room);
        for id in world.shard_ids() {
            world.command(id, 100);
        }
        world.run_until_idle();
        for id in world.shard_ids() {
            assert_eq!(world.core(id).0.heard, (0..100).collect::<Vec<_>>());
            assert_eq!(world.core(id).0.held_max > 0, minds_room, "what has no room is held back");
            assert_eq!(world.lane_messages(id, shard((id.index() + 1) % 3)), 0);
        }
    });
}

/// Answers a message by the next lower number, down to 0.
#[derive(Default)]
struct PingPong {
    last: Option<u64>,
}

impl Toy for PingPong {
    fn command(&mut self, count: u64, io: &mut ToyIo) {
        io.message(shard(1), count);
    }

    fn message(&mut self, from: ShardId, message: u64, io: &mut ToyIo) {
        self.last = Some(message);
        if message > 0 {
            io.message(from, message - 1);
        }
    }
}

#[test]
fn messages_go_to_and_fro() {
    for_each_seed("messages_go_to_and_fro", 20, |seed| {
        let network = Network { lane_room_messages: 1, ..Network::rough() };
        let mut world = World::new(seed, 2, network, |_, _| Run(PingPong::default()));
        world.command(shard(0), 101);
        world.run_until_idle();
        assert_eq!((world.core(shard(0)).0.last, world.core(shard(1)).0.last), (Some(0), Some(1)));
        assert!(world.now_ms() > START.mono_ms, "rough lanes take time");
    });
}

/// Fires so many milliseconds after a command, and tells when.
#[derive(Default)]
struct Timers {
    due_ms: Vec<u64>,
    turns: u64,
}

impl Toy for Timers {
    fn command(&mut self, after_ms: u64, io: &mut ToyIo) {
        self.due_ms.push(io.now.mono_ms + after_ms);
    }

    fn turn_over(&mut self, io: &mut ToyIo) {
        self.turns += 1;
        let now_ms = io.now.mono_ms;
        for _ in self.due_ms.extract_if(.., |due_ms| *due_ms <= now_ms) {
            io.event(now_ms - START.mono_ms);
        }
        io.wake_at_ms = self.due_ms.iter().min().copied();
    }
}

#[test]
fn timers_fire_on_time_and_only_as_time_passes() {
    let mut world = World::new(1, 2, Network::calm(), |_, _| Run(Timers::default()));
    for after_ms in [500, 20, 0, 500, 501] {
        world.command(shard(1), after_ms);
    }
    world.run_until_idle();
    assert_eq!(world.take_events(shard(1)), [0]);
    assert_eq!(world.wake_at_ms(shard(1)), Some(START.mono_ms + 20));
    world.run_for_ms(500);
    assert_eq!(world.take_events(shard(1)), [20, 500, 500]);
    assert_eq!(world.now_ms(), START.mono_ms + 500);
    world.freeze_ms(1000);
    assert!(world.take_events(shard(1)).is_empty(), "nothing runs in a freeze");
    world.run_until_idle();
    assert_eq!(world.take_events(shard(1)), [1500]);
    world.advance_ms(1_000_000);
    assert_eq!((world.core(shard(0)).0.turns, world.core(shard(1)).0.turns), (1, 4));
}

#[test]
fn a_rough_clock_passes_no_timer_by() {
    for_each_seed("a_rough_clock", 20, |seed| {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, 4, Network::rough(), |_, _| Run(Timers::default()));
        for _ in 0..100 {
            world.command(shard(rng.below(4)), rng.below(1000) as u64);
        }
        world.run_for_ms(1100);
        assert_eq!(world.now_ms(), START.mono_ms + 1100);
        let fired: usize = (0..4).map(|at| world.take_events(shard(at)).len()).sum();
        assert_eq!(fired, 100);
    });
}

#[test]
fn a_timer_fires_on_the_way_to_what_the_network_brings() {
    let network = Network { client_delay_ms: 10..=10, ..Network::calm() };
    let mut world = World::new(1, 1, network, |_, _| Run(Timers::default()));
    world.command(shard(0), 3);
    world.command(shard(0), 30);
    world.connect(None);
    world.run_until_idle();
    assert_eq!(world.take_events(shard(0)), [3]);
    assert_eq!(world.now_ms(), START.mono_ms + 10);
}

#[test]
fn the_wall_clock_jumps_alone() {
    let mut world = World::new(1, 1, Network::calm(), |_, _| Run(Timers::default()));
    world.run_for_ms(10);
    world.jump_wall_ms(-3_600_000);
    let now = Now { mono_ms: START.mono_ms + 10, wall_ms: START.wall_ms + 10 - 3_600_000 };
    assert_eq!(world.now(), now);
}

/// Wants a turn after every turn.
struct Restless;

impl Toy for Restless {
    fn turn_over(&mut self, io: &mut ToyIo) {
        io.wake_at_ms = Some(io.now.mono_ms);
    }
}

#[test]
#[should_panic(expected = "seed 9: the cores are restless")]
fn a_core_that_never_rests_is_found() {
    let network = Network { steps_max: 10_000, ..Network::calm() };
    World::new(9, 1, network, |_, _| Run(Restless)).run_until_idle();
}

/// Asks at once for another turn until its message is answered.
#[derive(Default)]
struct Impatient {
    waits: bool,
}

impl Toy for Impatient {
    fn command(&mut self, _: u64, io: &mut ToyIo) {
        self.waits = true;
        io.message(shard(1), 1);
    }

    fn message(&mut self, from: ShardId, message: u64, io: &mut ToyIo) {
        self.waits = false;
        if message == 1 {
            io.message(from, 0);
        }
    }

    fn turn_over(&mut self, io: &mut ToyIo) {
        io.wake_at_ms = self.waits.then_some(io.now.mono_ms);
    }
}

#[test]
fn a_core_that_spins_does_not_stop_the_clock() {
    let network = Network { lane_delay_ms: 5..=5, ..Network::calm() };
    let mut world = World::new(1, 2, network, |_, _| Run(Impatient::default()));
    world.command(shard(0), 0);
    world.run_until_idle();
    assert!(!world.core(shard(0)).0.waits);
    assert_eq!(world.now_ms(), START.mono_ms + 10);
}

/// Makes a file durable for each command, and tells which are: failures by their error number.
struct Syncer {
    file: Arc<File>,
}

impl Toy for Syncer {
    fn command(&mut self, ticket: u64, io: &mut ToyIo) {
        io.sync(SyncRequest { ticket: SyncTicket(ticket), file: Arc::clone(&self.file) });
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>, io: &mut ToyIo) {
        io.event(outcome.map_or_else(|failure| failure.errno as u64, |_| ticket.0));
    }
}

#[test]
fn every_sync_is_answered() {
    let mut overtook = false;
    for seed in 0..20 {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let mut world = World::new(seed, 2, Network::rough(), |_, _| Run(Syncer { file: Arc::clone(&file) }));
        for ticket in 100..110 {
            world.command(shard(1), ticket);
        }
        world.run_until_idle();
        let mut answers = world.take_events(shard(1));
        overtook |= !answers.is_sorted();
        answers.sort_unstable();
        assert_eq!(answers, (100..110).collect::<Vec<_>>());
        world.fail_syncs(shard(1), Some(28));
        world.command(shard(1), 110);
        world.run_until_idle();
        assert_eq!(world.take_events(shard(1)), [28]);
    }
    assert!(overtook, "syncs overtake each other now and then");
}

#[test]
fn cores_outlive_their_world() {
    let mut world = talkers(1, Network::calm(), true);
    world.core_mut(shard(0)).0.held.push_back(5);
    world.run_until_idle();
    let cores = world.into_cores();
    assert_eq!(cores[1].0.heard, [5]);
}
