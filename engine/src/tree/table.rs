//! A flat hash table of ids: eight bytes a bucket, one cache line a look-up.

/// Marks a bucket that holds nothing. Its hash is the greatest, so that a search ends there by itself.
const VACANT: Bucket = Bucket { hash: u32::MAX, id: u32::MAX };

/// The fewest buckets of a table that holds anything, as a power of two.
const BITS_MIN: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    hash: u32,
    id: u32,
}

/// Ids found by a 32-bit hash and a comparison that the caller makes where the keys are.
///
/// Linear probing over buckets that lie in the order of their hashes, home being a hash's upper bits. A search
/// that fails therefore ends as early as one that succeeds, and growing is one pass from front to back. A run
/// that reaches the end flows into some spare buckets instead of wrapping.
///
/// Bound: 2^32 - 1 ids. At most four fifths full, at least an eighth full beyond eight buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdTable {
    buckets: Vec<Bucket>,
    len: usize,
    bits: u32,
}

impl IdTable {
    /// How many ids it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// The id with this hash that `same` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = usable(hash);
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets.get(at)?;
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

    /// The only id with this hash, unseen; or that which `same` recognises, when there are several.
    #[inline]
    pub(crate) fn guess(&self, hash: u32, same: impl FnMut(u32) -> bool) -> Option<u32> {
        let wanted = usable(hash);
        let mut at = self.home(wanted);
        while self.buckets.get(at)?.hash < wanted {
            at += 1;
        }
        let bucket = self.buckets[at];
        if bucket.hash > wanted {
            return None;
        }
        if self.buckets.get(at + 1).is_some_and(|next| next.hash == wanted) {
            return self.find(hash, same);
        }
        Some(bucket.id)
    }

    /// Adds an id that is not in it.
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        if (self.len + 1) * 5 > self.capacity() * 4 {
            self.resize((self.bits + 1).max(BITS_MIN));
        }
        let hash = usable(hash);
        let mut at = self.home(hash);
        while self.buckets.get(at).is_some_and(|bucket| bucket.hash <= hash) {
            at += 1;
        }
        let mut end = at;
        while self.buckets.get(end).is_some_and(|bucket| *bucket != VACANT) {
            end += 1;
        }
        if end == self.buckets.len() {
            self.buckets.reserve_exact(1);
            self.buckets.push(VACANT);
        }
        self.buckets.copy_within(at..end, at + 1);
        self.buckets[at] = Bucket { hash, id };
        self.len += 1;
    }

    /// Takes an id out that was added with this hash.
    ///
    /// # Panics
    /// When it is not in the table.
    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let at = self.position(hash, id);
        let mut end = at + 1;
        while let Some(bucket) = self.buckets.get(end) {
            if *bucket == VACANT || self.home(bucket.hash) == end {
                break;
            }
            end += 1;
        }
        self.buckets.copy_within(at + 1..end, at);
        self.buckets[end - 1] = VACANT;
        self.len -= 1;
        if self.bits > BITS_MIN && self.len * 8 < self.capacity() {
            self.resize(self.bits - 1);
        }
    }

    /// Puts `new` in the place of `old`, which was added with this hash.
    ///
    /// # Panics
    /// When `old` is not in the table.
    pub(crate) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let at = self.position(hash, old);
        self.buckets[at].id = new;
    }

    fn position(&self, hash: u32, id: u32) -> usize {
        let wanted = Bucket { hash: usable(hash), id };
        let home = self.home(wanted.hash);
        let run = self.buckets[home.min(self.buckets.len())..].iter();
        let ahead = run.take_while(|bucket| bucket.hash <= wanted.hash).position(|bucket| *bucket == wanted);
        home + ahead.expect("an id is taken out with the hash it was added with")
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (u64::from(hash) << self.bits >> 32) as usize
    }

    fn capacity(&self) -> usize {
        if self.buckets.is_empty() { 0 } else { 1 << self.bits }
    }

    fn resize(&mut self, bits: u32) {
        let count = 1usize << bits;
        let spare = count / 64 + 8;
        let old = std::mem::replace(&mut self.buckets, vec![VACANT; count + spare]);
        self.bits = bits;
        let mut free = 0;
        for bucket in old.into_iter().filter(|bucket| *bucket != VACANT) {
            let at = self.home(bucket.hash).max(free);
            if at == self.buckets.len() {
                self.buckets.push(VACANT);
            }
            self.buckets[at] = bucket;
            free = at + 1;
        }
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
        let mut last = 0;
        for (at, bucket) in table.buckets.iter().enumerate().filter(|(_, bucket)| **bucket != VACANT) {
            assert!(bucket.hash >= last && table.home(bucket.hash) <= at);
            let home = table.home(bucket.hash);
            assert!(table.buckets[home..at].iter().all(|before| *before != VACANT), "a gap before {at}");
            last = bucket.hash;
        }
        assert_eq!(table.buckets.iter().filter(|bucket| **bucket != VACANT).count(), table.len());
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
        assert!(table.memory_bytes() < most / 100);
        assert!((0..10).all(|id| table.find(hash(id), |found| found == id).is_some()));
    }

    #[test]
    fn replacing_keeps_the_place() {
        let mut table = IdTable::default();
        table.insert(5, 1);
        table.replace(5, 1, 2);
        assert_eq!(table.find(5, |_| true), Some(2));
    }
}
