//! The one way in which a shard hashes: fast, and seeded so that peers cannot aim at buckets.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::{FixedState, FoldHasher};
use ringmq_turn::ShardId;

/// Hashes the same on every shard that was given the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashing {
    seed: u64,
}

impl Hashing {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The hash of some bytes.
    #[inline]
    pub(crate) fn of(self, bytes: &[u8]) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// The shard that owns a client id, or the retained message of a topic.
    pub(crate) fn owner(self, name: &str, shards: usize) -> ShardId {
        // The high half, since tables use the low one: sessions of a shard would crowd its buckets.
        ShardId::new((self.of(name.as_bytes()) >> 32) as usize % shards)
    }
}

/// The shard, of `shards`, that owns a client id or a topic's retained message in a broker with this seed.
pub fn owner(seed: u64, name: &str, shards: usize) -> usize {
    Hashing::new(seed).owner(name, shards).index()
}

impl BuildHasher for Hashing {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        FixedState::with_seed(self.seed).build_hasher()
    }
}
