//! Identifiers and times that cores and drivers exchange.

use std::fmt;

/// The most shards that one process runs.
pub const SHARDS_MAX: usize = 128;

/// One shard: a core, its executor and its CPU. Numbered from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard numbered `index`.
    ///
    /// # Panics
    /// When `index` is not below [`SHARDS_MAX`].
    pub fn new(index: usize) -> Self {
        assert!(index < SHARDS_MAX, "shard {index} is beyond the {SHARDS_MAX} that a process runs");
        Self(index as u16)
    }

    /// Its number, below [`SHARDS_MAX`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of shards, as a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// No shard.
    pub const EMPTY: Self = Self([0; SHARDS_MAX / 64]);

    /// Every shard below `count` but `me`.
    pub fn others(count: usize, me: ShardId) -> Self {
        let mut set = Self::EMPTY;
        for index in (0..count).filter(|&index| index != me.index()) {
            set.insert(ShardId::new(index));
        }
        set
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        self.0[shard.index() / 64] |= 1 << (shard.index() % 64);
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: ShardId) {
        self.0[shard.index() / 64] &= !(1 << (shard.index() % 64));
    }

    /// Whether the shard is in it.
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0[shard.index() / 64] & (1 << (shard.index() % 64)) != 0
    }

    /// Whether it holds no shard.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; SHARDS_MAX / 64]
    }

    /// How many shards it holds.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds every shard of `other`.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// Whether the two have a shard in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    /// Its shards, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + use<> {
        let words = self.0;
        (0..words.len()).flat_map(move |at| {
            let mut word = words[at];
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    ShardId::new(at * 64 + bit)
                })
            })
        })
    }
}

/// One connection of one shard: a slot in the driver's table, and a generation that tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Index into the driver's table, dense from 0 and used again after a close.
    pub slot: u32,
    /// Differs between any two connections that used the slot.
    pub generation: u32,
}

impl ConnId {
    /// The slot as an index.
    #[inline]
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

/// A configured listener, by its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// A far end that connections are opened to, by its registration with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub u32);

/// A request to open a connection, numbered by the core that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectTicket(pub u64);

/// A request to make bytes durable, numbered by the core that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncTicket(pub u64);

/// The time, read once a turn by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that only goes forward; its zero means nothing.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the wall clock, which may jump.
    pub wall_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_set_holds_what_was_put_in() {
        let mut set = ShardSet::EMPTY;
        for index in [0, 63, 64, 127] {
            set.insert(ShardId::new(index));
        }
        set.remove(ShardId::new(63));
        assert_eq!(set.iter().map(ShardId::index).collect::<Vec<_>>(), [0, 64, 127]);
        assert_eq!(set.len(), 3);
        assert!(set.contains(ShardId::new(64)) && !set.contains(ShardId::new(63)));
    }

    #[test]
    fn others_leaves_only_me_out() {
        let set = ShardSet::others(4, ShardId::new(2));
        assert_eq!(set.iter().map(ShardId::index).collect::<Vec<_>>(), [0, 1, 3]);
        assert!(ShardSet::others(1, ShardId::new(0)).is_empty());
    }
}
