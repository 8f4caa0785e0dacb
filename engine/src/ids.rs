//! Identifiers of what one shard's engine owns. None of them means anything on another shard.

/// A session of this shard, by its slot in the session table. A slot is used again after its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionSlot(pub u32);

impl SessionSlot {
    /// The slot as an index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A topic filter that this shard's [`TopicTree`](crate::tree::TopicTree) knows, interned there.
///
/// It stays valid while the filter has a subscriber, an interested shard or a group, and is used again after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub(crate) u32);

impl FilterId {
    /// The filter's number as an index, dense from 0.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A shared subscription of this shard, by its slot in the table of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The slot as an index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
