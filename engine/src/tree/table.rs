//! A flat hash table of ids: eight bytes a bucket, one cache line a look-up, and no pause when it grows.

/// The fewest buckets of a table that holds anything, as a power of two.
const BITS_MIN: u32 = 3;

/// Buckets that each change moves on while the table is between two sizes.
const MOVED_A_CHANGE: usize = 32;

/// Ids found by a 32-bit hash and a comparison that the caller makes where the keys are.
///
/// Between two sizes it consists of two tables: ids with hashes below `boundary` have moved to the new one,
/// and each change moves some more. Doubling at once would stop the shard for 12 ms at 840,000 ids.
///
/// Bound: 2^32 - 1 ids. Nearly always below four fifths full, and above an eighth.
#[derive(Clone, Debug)]
pub(crate) struct IdTable {
    buckets: Buckets,
    /// What has not moved yet; nothing most of the time.
    old: Buckets,
    /// The least hash that is in `old`, beyond all hashes most of the time.
    boundary: u64,
    len: usize,
}

impl Default for IdTable {
    fn default() -> Self {
        Self { buckets: Buckets::default(), old: Buckets::default(), boundary: u64::MAX, len: 0 }
    }
}

impl IdTable {
    /// How many ids it holds.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        (self.buckets.packed.capacity() + self.old.packed.capacity()) * size_of::<u64>()
    }

    /// The id with this hash that `same` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u32, same: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = usable(hash);
        let buckets = if u64::from(hash) < self.boundary { &self.buckets } else { &self.old };
        buckets.find(hash, same)
    }

    /// Adds an id that is not in it.
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        if (self.len + 1) * 5 > self.buckets.capacity() * 4 {
            self.begin_move((self.buckets.bits + 1).max(BITS_MIN));
        }
        self.go_on_moving(MOVED_A_CHANGE);
        let hash = usable(hash);
        self.buckets_of(hash).insert(Bucket { hash, id });
        self.len += 1;
    }

    /// Takes an id out that was added with this hash.
    ///
    /// # Panics
    /// When it is not in the table.
    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let hash = usable(hash);
        self.buckets_of(hash).remove(Bucket { hash, id });
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else if self.buckets.bits > BITS_MIN && self.len * 8 < self.buckets.capacity() {
            self.begin_move(self.buckets.bits - 1);
        }
        self.go_on_moving(MOVED_A_CHANGE);
    }

    /// Puts `new` in the place of `old`, which was added with this hash.
    ///
    /// # Panics
    /// When `old` is not in the table.
    pub(crate) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let hash = usable(hash);
        self.buckets_of(hash).replace(Bucket { hash, id: old }, new);
    }

    fn buckets_of(&mut self, hash: u32) -> &mut Buckets {
        if u64::from(hash) < self.boundary { &mut self.buckets } else { &mut self.old }
    }

    fn begin_move(&mut self, bits: u32) {
        self.go_on_moving(usize::MAX);
        self.old = std::mem::replace(&mut self.buckets, Buckets::new(bits));
        self.boundary = 0;
    }

    /// Moves what is in the next `count` buckets, and on to a vacant one, which no run of the old table
    /// crosses.
    fn go_on_moving(&mut self, count: usize) {
        if self.boundary == u64::MAX {
            return;
        }
        let first = self.old.home(self.boundary);
        for at in first.. {
            let Some(bucket) = self.old.get(at) else { break };
            if bucket != VACANT {
                self.buckets.insert(bucket);
                self.old.set(at, VACANT);
            } else if at - first >= count && at < self.old.capacity() {
                self.boundary = (at as u64) << (u32::BITS - self.old.bits);
                return;
            }
        }
        self.old = Buckets::default();
        self.boundary = u64::MAX;
    }
}

/// What a bucket holds; in memory it is packed, so that zeros stand for [`VACANT`] and a large table begins
/// as memory that nobody has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    hash: u32,
    id: u32,
}

/// Marks a bucket that holds nothing. Its hash is the greatest, so that a search ends there by itself.
const VACANT: Bucket = Bucket { hash: u32::MAX, id: u32::MAX };

/// Buckets in the order of their hashes, by linear probing; home is a hash's upper bits.
///
/// A search that fails ends as early as one that succeeds, and a table of another size is filled from front
/// to back. A run that reaches the end flows into some spare buckets instead of wrapping.
#[derive(Clone, Debug, Default)]
struct Buckets {
    packed: Vec<u64>,
    bits: u32,
}

impl Buckets {
    fn new(bits: u32) -> Self {
        let count = 1usize << bits;
        Self { packed: vec![0; count + count / 64 + 8], bits }
    }

    fn capacity(&self) -> usize {
        if self.packed.is_empty() { 0 } else { 1 << self.bits }
    }

    #[inline]
    fn get(&self, at: usize) -> Option<Bucket> {
        let both = !*self.packed.get(at)?;
        Some(Bucket { hash: (both >> 32) as u32, id: both as u32 })
    }

    fn set(&mut self, at: usize, bucket: Bucket) {
        self.packed[at] = !(u64::from(bucket.hash) << 32 | u64::from(bucket.id));
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash << self.bits >> 32) as usize
    }

    #[inline]
    fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash.into());
        loop {
            let bucket = self.get(at)?;
            if bucket.hash >= hash {
                if bucket.hash > hash {
                    return None;
                }
                if same(bucket.id) {
                    return Some(bucket.id);
                }
            }
            at += 1;
        }
    }

    fn insert(&mut self, bucket: Bucket) {
        let mut at = self.home(bucket.hash.into());
        while self.get(at).is_some_and(|before| before.hash <= bucket.hash) {
            at += 1;
        }
        let mut end = at;
        while self.get(end).is_some_and(|behind| behind != VACANT) {
            end += 1;
        }
        if end == self.packed.len() {
            self.packed.push(0);
        }
        self.packed.copy_within(at..end, at + 1);
        self.set(at, bucket);
    }

    fn remove(&mut self, bucket: Bucket) {
        let at = self.position(bucket);
        let moves = |behind: Bucket, end| behind != VACANT && self.home(behind.hash.into()) < end;
        let mut end = at + 1;
        while self.get(end).is_some_and(|behind| moves(behind, end)) {
            end += 1;
        }
        self.packed.copy_within(at + 1..end, at);
        self.set(end - 1, VACANT);
    }

    fn replace(&mut self, old: Bucket, id: u32) {
        let at = self.position(old);
        self.set(at, Bucket { id, ..old });
    }

    fn position(&self, wanted: Bucket) -> usize {
        let run = (self.home(wanted.hash.into())..).map_while(|at| Some((at, self.get(at)?)));
        let mut run = run.take_while(|(_, bucket)| bucket.hash <= wanted.hash);
        let found = run.find(|(_, bucket)| *bucket == wanted);
        found.expect("an id is taken out with the hash it was added with").0
    }
}

#[inline]
fn usable(hash: u32) -> u32 {
    hash.min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_order(table: &IdTable) {
        let mut count = 0;
        for (buckets, hashes) in [(&table.buckets, 0..table.boundary), (&table.old, table.boundary..u64::MAX)]
        {
            let live = |at: &usize| buckets.get(*at) != Some(VACANT);
            let mut last = 0;
            for at in (0..buckets.packed.len()).filter(live) {
                let hash = buckets.get(at).unwrap().hash;
                let home = buckets.home(hash.into());
                assert!(hashes.contains(&hash.into()) && hash >= last && home <= at);
                assert!((home..at).all(|before| live(&before)), "a gap before {at}");
                last = hash;
                count += 1;
            }
        }
        assert_eq!(count, table.len());
    }

    /// Hashes that crowd: many equal ones, and many at the very end of the range.
    fn crowded(seed: u32) -> u32 {
        match seed % 3 {
            0 => u32::MAX - seed % 5,
            1 => (seed % 16) << 28,
            _ => seed.wrapping_mul(0x9e37_79b9),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_a_map(steps in prop::collection::vec((0..400u32, any::<bool>()), 0..1_500)) {
            let mut table = IdTable::default();
            let mut model = std::collections::BTreeMap::new();
            for (key, add) in steps {
                if add && !model.contains_key(&key) {
                    table.insert(crowded(key), key);
                    model.insert(key, ());
                } else if !add && model.remove(&key).is_some() {
                    table.remove(crowded(key), key);
                }
                prop_assert_eq!(table.len(), model.len());
                check_order(&table);
            }
            check_order(&table);
            for key in 0..400 {
                let found = table.find(crowded(key), |id| id == key);
                prop_assert_eq!(found, model.contains_key(&key).then_some(key));
            }
        }
    }

    #[test]
    fn shrinks_with_what_it_holds() {
        let mut table = IdTable::default();
        let hash = |id: u32| id.wrapping_mul(0x9e37_79b9);
        for id in 0..100_000 {
            table.insert(hash(id), id);
        }
        let most = table.memory_bytes();
        for id in 10..100_000 {
            table.remove(hash(id), id);
        }
        check_order(&table);
        assert!(table.memory_bytes() < most / 50, "{} of {most}", table.memory_bytes());
        assert!((0..10).all(|id| table.find(hash(id), |found| found == id).is_some()));
    }

    #[test]
    fn many_ids_are_all_found_and_all_go() {
        let mut table = IdTable::default();
        let hash = |id: u32| id.wrapping_mul(0x9e37_79b9) ^ 0xffff;
        for id in 0..300_000 {
            table.insert(hash(id), id);
        }
        check_order(&table);
        assert!(table.memory_bytes() < 300_000 * 21, "{}", table.memory_bytes());
        for id in (0..300_000).rev() {
            assert_eq!(table.find(hash(id), |found| found == id), Some(id));
            table.remove(hash(id), id);
            assert_eq!(table.find(hash(id), |found| found == id), None);
        }
        assert_eq!((table.len(), table.memory_bytes()), (0, 0));
    }

    #[test]
    fn equal_hashes_by_the_thousand_are_still_found() {
        let mut table = IdTable::default();
        for id in 0..5_000 {
            table.insert(77, id);
            table.insert(u32::MAX, 10_000 + id);
        }
        check_order(&table);
        assert_eq!(table.find(77, |id| id == 4_999), Some(4_999));
        assert_eq!(table.find(u32::MAX, |id| id == 14_999), Some(14_999));
    }

    #[test]
    fn replacing_keeps_the_place() {
        let mut table = IdTable::default();
        table.insert(5, 1);
        table.replace(5, 1, 2);
        assert_eq!(table.find(5, |_| true), Some(2));
    }
}
