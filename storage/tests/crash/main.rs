//! A log on a disk that forgets what was not synced: histories of random units, ended by kills and power
//! losses, and what is there afterwards. `RINGMQ_SEEDS` says how many seeds each test runs.

mod compact;
mod disk;
mod facts;
mod store;
mod words;

use ringmq_sim::{Crash, Rng, for_each_seed};
use ringmq_storage::{Log, LogOptions};

use crate::store::{Acks, Ends, Store};

/// Processes that write one log, one after the other.
const LIVES_MAX: usize = 5;

fn options(rng: &mut Rng) -> LogOptions {
    let segment_bytes = *rng.pick(&[4096, 8192, 16 * 1024, 64 * 1024]);
    let bytes_max = *rng.pick(&[u64::MAX, u64::MAX, segment_bytes as u64 * 16]);
    LogOptions { segment_bytes, bytes_max }
}

/// The disk runs full now and then, and has space again later.
fn change_space(store: &mut Store) {
    if !store.rng.chance(0.02) {
        return;
    }
    let used = store.disk.borrow().used_bytes();
    let space = if store.rng.chance(0.5) { used } else { u64::MAX };
    store.disk.borrow_mut().set_capacity_bytes(space);
}

/// One process's life, to its end by itself or to where the fuel ends.
fn live(store: &mut Store, turns: usize) -> Result<(), Ends> {
    for _ in 0..turns {
        change_space(store);
        for _ in 0..store.rng.below(8) {
            store.say_anything()?;
        }
        store.end_unit()?;
        if store.rng.chance(0.3) {
            store.log.want_synced();
        }
        store.turn_over()?;
    }
    Ok(())
}

fn rest(store: &mut Store) {
    store.fuel = usize::MAX;
    store.disk.borrow_mut().set_capacity_bytes(u64::MAX);
    store.settle();
    store.check_bound();
}

/// Several lives of one log. What was lost that was promised.
fn history(seed: u64, acks: Acks, crashes: &[Crash]) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let options = options(&mut rng);
    let mut store = Store::new(rng.fork(), options, acks);
    for _ in 0..1 + rng.below(LIVES_MAX) {
        let fuel_max = *rng.pick(&[20, 200, 1000]);
        store.fuel = 1 + rng.below(fuel_max);
        if live(&mut store, 1 + rng.below(60)).is_ok() && rng.chance(0.5) {
            rest(&mut store);
        }
        store = store.crash(*rng.pick(crashes))?;
    }
    store.fuel = usize::MAX;
    if live(&mut store, 20).is_ok() {
        rest(&mut store);
    }
    Ok(())
}

fn check(seed: u64, crashes: &[Crash]) {
    if let Err(loss) = history(seed, Acks::Right, crashes) {
        panic!("{loss}");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    for_each_seed("a_kill_loses_nothing_that_was_written", 2000, |seed| check(seed, &[Crash::Kill]));
}

#[test]
fn a_power_loss_loses_nothing_that_was_synced() {
    for_each_seed("a_power_loss_loses_nothing_that_was_synced", 3000, |seed| {
        check(seed, &[Crash::PowerLoss]);
    });
}

#[test]
fn kills_and_power_losses_take_turns() {
    for_each_seed("kills_and_power_losses_take_turns", 2000, |seed| {
        check(seed, &[Crash::Kill, Crash::PowerLoss]);
    });
}

/// These tests can fail: where acknowledgements come too early, they find what is lost.
#[test]
fn early_acknowledgements_are_found_out() {
    for crash in [Crash::Kill, Crash::PowerLoss] {
        let lost = (1..=100).filter(|&seed| history(seed, Acks::Early, &[crash]).is_err());
        assert!(lost.count() > 20, "{crash:?}");
    }
}
