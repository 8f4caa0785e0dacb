//! A rig whose broker begins with nothing, and forgets all in the end.

use ringmq_sim::{Rng, World};

use crate::Shard;
use crate::rig::{Rig, Setup};

impl Rig {
    pub fn new(seed: u64, setup: &Setup) -> Self {
        let network = setup.network.clone();
        let world = World::new(seed, setup.shards, network, |shard, _| Shard::new(setup.config(shard, seed)));
        Self::of(world, seed)
    }

    /// A rig on a rough network, all of it drawn from the seed.
    pub fn rough(seed: u64) -> Self {
        let setup = Setup::rough(&mut Rng::new(seed.wrapping_mul(0x9E37_79B9)));
        Self::new(seed, &setup)
    }
}
