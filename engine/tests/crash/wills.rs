//! Wills and the expiry of sessions outlive the broker, by the wall clock.

use ringmq_codec::{QoS, Version};
use ringmq_sim::{Network, Rng, for_each_seed};

use crate::peer::{Habits, Key, Message, WillPlan};
use crate::rig::Setup;
use crate::ship::{SYNCED, Ship, Voyage, WRITTEN};

/// Everything takes its time in the network, and clients whose connection went with the broker count as gone
/// from its next start on.
const SLACK_MS: u64 = 2000;
const WATCHER: usize = 0;

/// A client with a will, and what becomes of it.
#[derive(Debug)]
struct Case {
    at: usize,
    key: Key,
    delay_s: u32,
    expiry_s: u32,
    /// When its connection ended before the broker did, by the wall clock.
    gone_ms: Option<u64>,
    /// It comes back this long after the broker's next start.
    back_s: Option<u64>,
}

impl Case {
    fn new(rng: &mut Rng, number: u32) -> (Habits, Self) {
        let key = Key { publisher: u16::MAX, number };
        let (delay_s, expiry_s) = (*rng.pick(&[0, 5, 20]), *rng.pick(&[10, 1000, u32::MAX]));
        let message = Message {
            key,
            topic: format!("wills/{number}"),
            // At QoS 1 it may come once more, if the broker did not hear of PUBACK.
            qos: QoS::ExactlyOnce,
            retain: false,
            padding: 0,
            empty: false,
            expiry_s: None,
        };
        let will = Some(WillPlan { message, delay_s });
        let version = Version::V5;
        let habits = Habits { will, expiry_s, forgettable: true, ..Habits::persistent(version) };
        let back_s = *rng.pick(&[None, None, Some(1), Some(8)]);
        (habits, Self { at: 0, key, delay_s, expiry_s, gone_ms: None, back_s })
    }

    /// How long the will waits once its client is gone.
    fn wait_ms(&self) -> u64 {
        u64::from(self.delay_s.min(self.expiry_s)) * 1000
    }
}

fn pass(ship: &mut Ship, ms: u64) {
    let end_ms = ship.rig.world.now_ms() + ms;
    while ship.rig.world.now_ms() < end_ms {
        let left_ms = end_ms - ship.rig.world.now_ms();
        ship.rig.world.run_for_ms(left_ms.min(50));
        ship.rig.poll();
    }
}

fn die(seed: u64, voyage: Voyage) {
    let mut rng = Rng::new(seed);
    let setup = Setup::rough(&mut rng);
    let network = Network { lane_delay_ms: 0..=4, lane_room_messages: 8, ..setup.network };
    let mut ship = Ship::with(seed, voyage, Setup { network, shards: 1 + rng.below(4), ..setup });
    let watcher = Habits { lazy: false, ..Habits::persistent(Version::V311) };
    assert_eq!(ship.rig.add("watcher", watcher), WATCHER);
    ship.settle();
    ship.rig.subscribe(WATCHER, "wills/#", QoS::ExactlyOnce);
    ship.settle();
    let mut cases = Vec::new();
    for number in 0..6 {
        let (habits, mut case) = Case::new(&mut rng, number);
        case.at = ship.rig.add("mortal", habits);
        cases.push(case);
    }
    ship.settle();
    for case in &mut cases {
        if rng.chance(0.5) {
            ship.rig.peers[case.at].cut(&mut ship.rig.world);
            case.gone_ms = Some(ship.rig.world.now().wall_ms);
        }
    }
    // The watcher acknowledges all that comes, so that nothing comes twice.
    let before_ms = rng.range(50..=3000);
    pass(&mut ship, before_ms);
    let early: Vec<bool> = cases.iter().map(|case| came(&ship, case) > 0).collect();
    let crash_ms = ship.rig.world.now().wall_ms;
    let away_ms = *rng.pick(&[0, 500, 7000, 100_000]);
    ship.crash(away_ms);
    let start_ms = ship.rig.world.now().wall_ms;
    assert_eq!(start_ms, crash_ms + away_ms);
    ship.rig.connect(WATCHER);
    for second in 0..40 {
        pass(&mut ship, 1000);
        for case in cases.iter().filter(|case| case.back_s == Some(second)) {
            let peer = &mut ship.rig.peers[case.at];
            peer.habits.will = None;
            peer.connect(&mut ship.rig.world, None);
        }
    }
    for (case, early) in cases.iter().zip(early) {
        check(&ship, case, (start_ms, early));
    }
}

fn came(ship: &Ship, case: &Case) -> usize {
    ship.rig.peers[WATCHER].inbox.iter().filter(|arrival| arrival.key == Some(case.key)).count()
}

fn check(ship: &Ship, case: &Case, (start_ms, early): (u64, bool)) {
    let due_ms = case.gone_ms.unwrap_or(start_ms) + case.wait_ms();
    let count = came(ship, case);
    let back_ms = case.back_s.map(|back_s| start_ms + (back_s + 1) * 1000);
    let about = || format!("it came {count} times, due at {due_ms}, the start was at {start_ms}: {case:?}");
    match back_ms {
        Some(back_ms) if !early && due_ms > back_ms + SLACK_MS => assert_eq!(count, 0, "{}", about()),
        Some(back_ms) if !early && due_ms + SLACK_MS > back_ms => assert!(count <= 2, "{}", about()),
        // Another shard may have had it when its own ended before it knew.
        Some(_) | None => assert!((1..=ship.rig.world.shard_count().min(2)).contains(&count), "{}", about()),
    }
}

#[test]
fn come_after_kills() {
    for_each_seed("wills::come_after_kills", 100, |seed| die(seed, WRITTEN));
}

#[test]
fn come_after_power_losses() {
    for_each_seed("wills::come_after_power_losses", 100, |seed| die(seed, SYNCED));
}
