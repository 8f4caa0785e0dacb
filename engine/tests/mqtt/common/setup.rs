//! What a broker is made from, and in how many shapes a transcript is played.

use ringmq_engine::{Engine, EngineConfig, Limits};
use ringmq_sim::{Crash, Network, World};
use ringmq_storage::{Level, MemoryLog};
use ringmq_turn::ShardId;

use super::Broker;
use super::log::{Disks, Storage, TestLog};

/// All shards of a broker have the same. With it, the ids that transcripts like best are of different shards:
/// a and w, b and p of two, and each of its own of four.
const SEED: u64 = 0x9c65_06c4_3b6e_dda3;

/// A broker to be made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) network: Network,
    pub(crate) shards: &'static [usize],
    pub(crate) sys_interval_ms: u64,
    pub(crate) storage: Storage,
    /// What acknowledgements promise.
    pub(crate) level: Level,
    /// What they promise on the first listeners, where that is something else.
    pub(crate) levels: Vec<Level>,
    /// How the broker ends where a transcript says that it is killed.
    pub(crate) killed_by: Crash,
    /// How many bytes of what a client sends arrive at once.
    pub(crate) piece_bytes: usize,
    pub(crate) seed: u64,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            network: Network::calm(),
            shards: &[1, 2, 4],
            sys_interval_ms: 0,
            storage: Storage::Memory,
            level: Level::Written,
            levels: Vec::new(),
            killed_by: Crash::Kill,
            piece_bytes: usize::MAX,
            seed: 0,
        }
    }

    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Self::new();
        change(&mut setup.limits);
        setup
    }

    pub(crate) fn shards(self, shards: &'static [usize]) -> Self {
        Self { shards, ..self }
    }

    /// Its sessions outlive it.
    pub(crate) fn on_disk(self) -> Self {
        self.on_disk_of(u64::MAX)
    }

    /// Likewise, and each shard keeps no more than so many bytes.
    pub(crate) fn on_disk_of(self, bytes_max: u64) -> Self {
        Self { storage: Storage::Disk { bytes_max }, ..self }
    }

    /// Acknowledgements wait for syncs.
    pub(crate) fn synced(self) -> Self {
        Self { level: Level::Synced, ..self.on_disk() }
    }

    #[track_caller]
    pub(crate) fn check(&self, transcript: &str) {
        for &shards in self.shards {
            for shape in self.shapes() {
                let mut broker = shape.start(shards);
                broker.play(transcript);
                broker.finish();
            }
            if self.storage == Storage::Memory && self.fits_on_disk() {
                // What it ends with is still there for the next process, and can be cleared up by that.
                let mut broker = self.clone().on_disk().start(shards);
                broker.play(transcript);
                broker.die(Crash::Kill, 0);
                broker.finish();
            }
        }
    }

    /// The same broker in pieces of several sizes, with hardly any room between the shards, and on a disk.
    fn shapes(&self) -> Vec<Self> {
        let pieces = [usize::MAX, 1, 7].map(|piece_bytes| Self { piece_bytes, ..self.clone() });
        let network = Network { lane_room_messages: 1, ..self.network.clone() };
        let mut shapes = Vec::from(pieces);
        shapes.push(Self { network, ..self.clone() });
        if self.storage != Storage::Memory && self.level == Level::Written {
            // Where acknowledgements wait for syncs, power loss is as a kill.
            shapes.push(Self { killed_by: Crash::PowerLoss, ..self.clone().synced() });
        }
        shapes
    }

    /// Whether its bounds leave it to the disk how much is kept.
    fn fits_on_disk(&self) -> bool {
        self.limits.memory_bytes_max == Limits::default().memory_bytes_max
    }

    pub(crate) fn start(&self, shards: usize) -> Broker {
        let disks = match self.storage {
            Storage::Memory => None,
            Storage::Disk { bytes_max } => Some(Disks::new(self.seed + shards as u64, bytes_max)),
        };
        let world = self.world(shards, disks.as_ref(), 1);
        Broker::new(self.clone(), world, disks)
    }

    /// One process of the broker, which finds what the last one left. Starts are counted.
    pub(super) fn world(&self, shards: usize, disks: Option<&Disks>, epoch: u32) -> World<Engine<TestLog>> {
        World::new(self.seed + shards as u64, shards, self.network.clone(), |shard, seed| {
            let config = self.config(shard, shards, epoch);
            match disks {
                None => Engine::with_log(config, TestLog::Memory(MemoryLog::new())),
                Some(disks) => {
                    let (log, recovered) = disks.open(shard, seed);
                    Engine::recover(config, log, recovered)
                }
            }
        })
    }

    fn config(&self, shard: ShardId, shards: usize, epoch: u32) -> EngineConfig {
        EngineConfig {
            limits: self.limits.clone(),
            sys_interval_ms: self.sys_interval_ms,
            durability: self.levels.clone(),
            durability_default: self.level,
            epoch,
            ..EngineConfig::new(shard, shards, SEED)
        }
    }
}
