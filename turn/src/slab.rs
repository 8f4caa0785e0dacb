//! Tables that grow without moving what they hold.

use std::ops::{Index, IndexMut};

/// Items in one allocation. A larger table is many of them, so that growing never copies the whole.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// Ends a free list, and stands for "none" in links between items.
pub const NONE: u32 = u32::MAX;

/// An array that grows a chunk at a time. Bound: 2^32 - 1 items.
#[derive(Clone, Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunks<T> {
    /// An empty array.
    pub fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Whether it holds no item.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many items it holds.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Adds an item and answers its index.
    pub fn push(&mut self, item: T) -> u32 {
        let index = u32::try_from(self.len()).ok().filter(|index| *index != NONE);
        let index = index.expect("tables are limited to far fewer than 2^32 items");
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(item),
            None => self.chunks.push(vec![item]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
        index
    }

    /// Drops every item and the memory.
    pub fn clear(&mut self) {
        self.chunks = Vec::new();
    }

    /// The item at `index`, if the array reaches so far.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get((index >> CHUNK_BITS) as usize)?.get(index as usize % CHUNK)
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut((index >> CHUNK_BITS) as usize)?.get_mut(index as usize % CHUNK)
    }

    /// Bytes on the heap, what the items themselves point to left out.
    pub fn memory_bytes(&self) -> usize {
        let items: usize = self.chunks.iter().map(Vec::capacity).sum();
        items * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

#[derive(Clone, Debug)]
enum Slot<T> {
    Live(T),
    /// The next free slot, or [`NONE`].
    Free(u32),
}

/// Items in numbered slots; a slot that was freed last is used again first.
///
/// Slots are kept for reuse until the last item goes.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    slots: Chunks<Slot<T>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self { slots: Chunks::new(), free: NONE, len: 0 }
    }

    /// Whether it holds no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many items it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts an item into a free slot and answers its number.
    pub fn insert(&mut self, item: T) -> u32 {
        self.len += 1;
        let Some(slot) = self.slots.get_mut(self.free) else {
            return self.slots.push(Slot::Live(item));
        };
        let id = self.free;
        match std::mem::replace(slot, Slot::Live(item)) {
            Slot::Free(next) => self.free = next,
            Slot::Live(_) => unreachable!("the free list leads to free slots"),
        }
        id
    }

    /// Takes an item out.
    ///
    /// # Panics
    /// When the slot is free.
    pub fn remove(&mut self, id: u32) -> T {
        let Slot::Live(item) = std::mem::replace(&mut self.slots[id], Slot::Free(self.free)) else {
            panic!("slot {id} is freed twice");
        };
        self.free = id;
        self.len -= 1;
        if self.len == 0 {
            self.slots.clear();
            self.free = NONE;
        }
        item
    }

    /// The item in this slot, if there is one.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&T> {
        match self.slots.get(id) {
            Some(Slot::Live(item)) => Some(item),
            Some(Slot::Free(_)) | None => None,
        }
    }

    /// The item in this slot, to change it, if there is one.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.slots.get_mut(id) {
            Some(Slot::Live(item)) => Some(item),
            Some(Slot::Free(_)) | None => None,
        }
    }

    /// How many slots there are, in use or free.
    pub fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes on the heap, what the items themselves point to left out.
    pub fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: u32) -> &T {
        match &self.slots[id] {
            Slot::Live(item) => item,
            Slot::Free(_) => panic!("slot {id} is free"),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        match &mut self.slots[id] {
            Slot::Live(item) => item,
            Slot::Free(_) => panic!("slot {id} is free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..3_000).map(|item| slab.insert(item)).collect();
        assert_eq!(ids, (0..3_000).collect::<Vec<_>>());
        assert_eq!((slab.remove(7), slab.remove(2_500)), (7, 2_500));
        assert_eq!((slab.get(7), slab.get(8)), (None, Some(&8)));
        assert_eq!((slab.insert(1), slab.insert(2), slab.insert(3)), (2_500, 7, 3_000));
        assert_eq!(slab.len(), 3_001);
    }

    #[test]
    fn an_empty_slab_holds_no_memory_for_items() {
        let mut slab = Slab::new();
        for id in 0..5_000 {
            assert_eq!(slab.insert([0u64; 8]), id);
        }
        for id in 0..5_000 {
            slab.remove(id);
        }
        assert_eq!((slab.len(), slab.memory_bytes()), (0, 0));
        assert_eq!(slab.insert([1; 8]), 0);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn freeing_twice_is_our_fault() {
        let mut slab = Slab::new();
        slab.insert(1);
        slab.insert(2);
        slab.remove(0);
        slab.remove(0);
    }
}
