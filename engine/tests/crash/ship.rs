//! A broker that crashes and starts again, while its clients remember.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use ringmq_engine::EngineConfig;
use ringmq_sim::{Crash, Network, Rng, SimDisk, World};
use ringmq_storage::{Damage, Level, LogOptions, open_log};
use ringmq_turn::ShardId;

use crate::Shard;
use crate::disk::{SharedDisk, TestDisk};
use crate::log::{Acks, Fuel, Killed, TestLog};
use crate::peer::Broker;
use crate::rig::{Rig, Setup};

/// What a ship is made for.
#[derive(Clone, Copy, Debug)]
pub struct Voyage {
    /// What acknowledgements promise.
    pub level: Level,
    /// How its processes end.
    pub crashes: &'static [Crash],
    pub acks: Acks,
}

/// What survives a kill.
pub const WRITTEN: Voyage = Voyage { level: Level::Written, crashes: &[Crash::Kill], acks: Acks::Right };
/// What survives power loss.
pub const SYNCED: Voyage = Voyage {
    level: Level::Synced,
    crashes: &[Crash::PowerLoss, Crash::PowerLoss, Crash::Kill],
    acks: Acks::Right,
};

/// A broker, its disk and its clients.
pub struct Ship {
    pub rig: Rig,
    pub voyage: Voyage,
    seed: u64,
    setup: Setup,
    options: LogOptions,
    disk: SharedDisk,
    fuel: Fuel,
    epoch: u32,
    /// The last start found no damage.
    whole: bool,
}

const ENDLESS: u64 = u64::MAX;

impl Ship {
    /// A broker on an empty disk, as rough as the seed says.
    pub fn new(seed: u64, voyage: Voyage) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9));
        let setup = Setup::rough(&mut rng);
        let setup = Setup { shards: 1 + rng.below(4), ..setup };
        Self::with(seed, voyage, setup)
    }

    pub fn with(seed: u64, voyage: Voyage, setup: Setup) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9) ^ 1);
        let segment_bytes = *rng.pick(&[16 * 1024, 16 * 1024, 128 * 1024]);
        let options = LogOptions { segment_bytes, bytes_max: u64::MAX };
        let disk = Rc::new(RefCell::new(SimDisk::new(rng.fork())));
        let fuel = Rc::new(Cell::new(ENDLESS));
        let rig = Rig::of(no_broker(), seed);
        let mut ship = Self { rig, voyage, seed, setup, options, disk, fuel, epoch: 0, whole: true };
        ship.launch(0);
        ship
    }

    /// Lets something happen, in which the process may be killed; whether it was.
    fn act(&mut self, something: impl FnOnce(&mut Rig)) -> bool {
        match catch_unwind(AssertUnwindSafe(|| something(&mut self.rig))) {
            Ok(()) => false,
            Err(end) if end.is::<Killed>() => true,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The process is killed after some calls of its logs, if it lives so long.
    pub fn fuel(&mut self) {
        let calls_max = *self.rig.rng.pick(&[50, 500, 5000]);
        self.fuel.set(self.rig.rng.below(calls_max) as u64);
    }

    /// Something happens again and again, until the process is killed in the middle of it or has lived for
    /// that many rounds.
    pub fn live(&mut self, rounds: usize, mut something: impl FnMut(&mut Rig)) {
        self.fuel();
        for _ in 0..rounds {
            if self.act(&mut something) {
                return;
            }
            if self.rig.rng.chance(0.02) {
                self.hurt();
            } else if self.rig.rng.chance(0.1) {
                self.repair();
            }
        }
    }

    /// All settles, without a crash.
    pub fn settle(&mut self) {
        self.fuel.set(ENDLESS);
        self.repair();
        self.rig.settle();
    }

    /// The syncs of some shards fail from now on.
    fn hurt(&mut self) {
        let shard = ShardId::new(self.rig.rng.below(self.setup.shards));
        self.rig.world.fail_syncs(shard, Some(5));
    }

    /// No sync fails any more.
    fn repair(&mut self) {
        for shard in self.rig.world.shard_ids() {
            self.rig.world.fail_syncs(shard, None);
        }
    }

    /// The process ends in one of its ways, and the next one begins so much later.
    ///
    /// Its clients lose their connections; what they have not looked at yet stays in their inboxes.
    pub fn crash(&mut self, away_ms: u64) {
        let crash = *self.rig.rng.pick(self.voyage.crashes);
        if self.rig.rng.chance(0.7) {
            // What was sent to them may still reach them.
            self.rig.poll();
        }
        for peer in &mut self.rig.peers {
            peer.lose_link();
            peer.lenient |= crash == Crash::PowerLoss;
        }
        self.rig.abandoned.clear();
        let wall_ms = self.rig.world.now().wall_ms;
        let world = std::mem::replace(&mut self.rig.world, no_broker());
        drop(world.into_cores());
        self.disk.borrow_mut().crash(crash);
        let damage = self.launch(wall_ms + away_ms);
        // What a power loss damaged is there until it is compacted.
        let was_whole = std::mem::replace(&mut self.whole, damage.is_empty());
        let new = crash == Crash::Kill && was_whole && !self.whole;
        assert!(!new, "a kill damages nothing: {damage:?}");
    }

    /// A process begins at this time by the wall clock, or later. What it found damaged.
    fn launch(&mut self, wall_ms: u64) -> Vec<Damage> {
        self.fuel.set(ENDLESS);
        self.epoch += 1;
        let mut damage = Vec::new();
        let mut network = self.setup.network.clone();
        network.sync_delay_ms = 0..=*self.rig.rng.pick(&[1, 8, 40]);
        let world_seed = self.seed ^ u64::from(self.epoch - 1) << 32;
        let shards = self.setup.shards;
        let (setup, disk, fuel) = (&self.setup, &self.disk, &self.fuel);
        let (options, voyage, epoch, seed) = (self.options, self.voyage, self.epoch, self.seed);
        let rng = &mut self.rig.rng;
        let world = World::new(world_seed, shards, network, |shard, _| {
            let folder = TestDisk::new(disk, &format!("{shard}-"), rng.fork());
            let (log, recovered) = open_log(folder, options).expect("the disk can be read");
            damage.extend(recovered.damage.iter().filter(|damage| !damage.torn_tail).cloned());
            let config =
                EngineConfig { epoch, durability_default: voyage.level, ..setup.config(shard, seed) };
            Shard::recover(config, TestLog::new(log, fuel, voyage.acks), recovered)
        });
        self.rig.world = world;
        let passed_ms = wall_ms.saturating_sub(self.rig.world.now().wall_ms);
        self.rig.world.jump_wall_ms(passed_ms as i64);
        damage
    }
}

/// Stands where a broker will be.
fn no_broker() -> Broker {
    let disk = Rc::new(RefCell::new(SimDisk::new(Rng::new(0))));
    let options = LogOptions { segment_bytes: 4096, bytes_max: u64::MAX };
    World::new(0, 1, Network::calm(), |shard, _| {
        let (log, _) = open_log(TestDisk::new(&disk, "", Rng::new(0)), options).expect("it is empty");
        let log = TestLog::new(log, &Rc::new(Cell::new(ENDLESS)), Acks::Right);
        Shard::with_log(EngineConfig::new(shard, 1, 0), log)
    })
}
