//! A hash table of ids: eight bytes a bucket, one cache line a look-up, and no long pause when it grows.

/// Marks a bucket that holds nothing. Its hash is the greatest, so that a search ends there by itself.
const VACANT: Bucket = Bucket { hash: u32::MAX, id: u32::MAX };

/// The fewest buckets of a segment that holds anything, as a power of two.
const BITS_MIN: u32 = 3;

/// The most buckets of a segment, as a power of two: what an insertion moves at worst, some 30 us of work.
const BITS_MAX: u32 = 12;

/// How many leading bits of a hash choose a segment at most; beyond that segments grow.
const DEPTH_MAX: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    hash: u32,
    id: u32,
}

/// Ids found by a 32-bit hash and a comparison that the caller makes where the keys are.
///
/// Extendible hashing: the leading bits of a hash choose a segment through a directory, and a segment that is full
/// splits in two. Bound: 2^32 - 1 ids. Segments shrink with what they hold, and go with the last id.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdTable {
    /// Segment numbers, as many as `1 << depth`; nothing while there is one segment.
    directory: Vec<u32>,
    segments: Vec<Segment>,
    depth: u32,
    len: usize,
}

impl IdTable {
    /// How many ids it holds.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        let buckets: usize = self.segments.iter().map(|segment| segment.buckets.capacity()).sum();
        let tables =
            self.directory.capacity() * size_of::<u32>() + self.segments.capacity() * size_of::<Segment>();
        tables + buckets * size_of::<Bucket>()
    }

    /// The id with this hash that `same` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u32, same: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = usable(hash);
        self.segments.get(self.segment(hash))?.find(hash, same)
    }

    /// Adds an id that is not in it.
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        let hash = usable(hash);
        if self.segments.is_empty() {
            self.segments.push(Segment::new(BITS_MIN, 0));
        }
        loop {
            let at = self.segment(hash);
            let segment = &mut self.segments[at];
            if !segment.is_full() {
                break segment.insert(Bucket { hash, id });
            }
            if segment.bits < BITS_MAX || segment.depth >= DEPTH_MAX {
                segment.resize(segment.bits + 1);
            } else {
                self.split(at);
            }
        }
        self.len += 1;
    }

    /// Takes an id out that was added with this hash.
    ///
    /// # Panics
    /// When it is not in the table.
    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let hash = usable(hash);
        let at = self.segment(hash);
        self.segments[at].remove(Bucket { hash, id });
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Puts `new` in the place of `old`, which was added with this hash.
    ///
    /// # Panics
    /// When `old` is not in the table.
    pub(crate) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let hash = usable(hash);
        let at = self.segment(hash);
        self.segments[at].replace(Bucket { hash, id: old }, new);
    }

    #[inline]
    fn segment(&self, hash: u32) -> usize {
        let place = (u64::from(hash) << self.depth >> 32) as usize;
        self.directory.get(place).map_or(0, |segment| *segment as usize)
    }

    /// Divides a segment in two by the next bit of the hashes.
    fn split(&mut self, at: usize) {
        let depth = self.segments[at].depth + 1;
        if depth > self.depth {
            let halves = |segment: &u32| [*segment, *segment];
            let grown: Vec<u32> = self.directory.iter().flat_map(halves).collect();
            self.directory = if grown.is_empty() { vec![0, 0] } else { grown };
            self.depth = depth;
        }
        let bit = 1 << (u32::BITS - depth);
        let old = std::mem::replace(&mut self.segments[at], Segment::new(BITS_MAX, depth));
        let (low, high): (Vec<Bucket>, Vec<Bucket>) = old.live().partition(|bucket| bucket.hash & bit == 0);
        let first = low.first().or(high.first()).map_or(0, |bucket| bucket.hash);
        let added = self.segments.len() as u32;
        self.segments.push(Segment::new(BITS_MAX, depth));
        self.segments[at].fill(low);
        self.segments[added as usize].fill(high);
        // The directory's entries for hashes that agree with these in their first `depth` bits, the last one set.
        let prefix = (u64::from(first) << depth >> 32) as usize | 1;
        let entries = 1 << (self.depth - depth);
        self.directory[prefix * entries..(prefix + 1) * entries].fill(added);
    }
}

/// A piece of the table, for hashes that agree in their first `depth` bits.
///
/// Linear probing over buckets that lie in the order of their hashes, home being a hash's next bits. A search that
/// fails therefore ends as early as one that succeeds, and growing is one pass from front to back. A run that reaches
/// the end flows into some spare buckets instead of wrapping. At most four fifths full.
#[derive(Clone, Debug)]
struct Segment {
    buckets: Vec<Bucket>,
    len: u32,
    bits: u32,
    depth: u32,
}

impl Segment {
    fn new(bits: u32, depth: u32) -> Self {
        let count = 1usize << bits;
        Self { buckets: vec![VACANT; count + count / 64 + 8], len: 0, bits, depth }
    }

    fn is_full(&self) -> bool {
        u64::from(self.len + 1) * 5 > 4 << self.bits
    }

    fn live(self) -> impl Iterator<Item = Bucket> {
        self.buckets.into_iter().filter(|bucket| *bucket != VACANT)
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        // What is left behind the bits that choose the segment, then as many bits as there are buckets.
        (u64::from(hash << self.depth) << self.bits >> 32) as usize
    }

    #[inline]
    fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
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

    fn insert(&mut self, bucket: Bucket) {
        let mut at = self.home(bucket.hash);
        while self.buckets.get(at).is_some_and(|before| before.hash <= bucket.hash) {
            at += 1;
        }
        let mut end = at;
        while self.buckets.get(end).is_some_and(|behind| *behind != VACANT) {
            end += 1;
        }
        if end == self.buckets.len() {
            self.buckets.push(VACANT);
        }
        self.buckets.copy_within(at..end, at + 1);
        self.buckets[at] = bucket;
        self.len += 1;
    }

    fn remove(&mut self, bucket: Bucket) {
        let at = self.position(bucket);
        let mut end = at + 1;
        while self.buckets.get(end).is_some_and(|behind| *behind != VACANT && self.home(behind.hash) < end) {
            end += 1;
        }
        self.buckets.copy_within(at + 1..end, at);
        self.buckets[end - 1] = VACANT;
        self.len -= 1;
        if self.bits > BITS_MIN && u64::from(self.len) * 8 < 1 << self.bits {
            self.resize(self.bits - 1);
        }
    }

    fn replace(&mut self, old: Bucket, id: u32) {
        let at = self.position(old);
        self.buckets[at].id = id;
    }

    fn position(&self, wanted: Bucket) -> usize {
        let home = self.home(wanted.hash).min(self.buckets.len());
        let run = self.buckets[home..].iter().take_while(|bucket| bucket.hash <= wanted.hash);
        let ahead = run.into_iter().position(|bucket| *bucket == wanted);
        home + ahead.expect("an id is taken out with the hash it was added with")
    }

    fn resize(&mut self, bits: u32) {
        let old = std::mem::replace(self, Self::new(bits, self.depth));
        self.fill(old.live());
    }

    /// Puts buckets into a segment without any, which come in the order of their hashes.
    fn fill(&mut self, buckets: impl IntoIterator<Item = Bucket>) {
        let mut free = 0;
        for bucket in buckets {
            let at = self.home(bucket.hash).max(free);
            if at == self.buckets.len() {
                self.buckets.push(VACANT);
            }
            self.buckets[at] = bucket;
            free = at + 1;
            self.len += 1;
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
        for segment in &table.segments {
            let live = |at: &usize| segment.buckets[*at] != VACANT;
            let mut last = 0;
            for at in (0..segment.buckets.len()).filter(live) {
                let bucket = segment.buckets[at];
                let home = segment.home(bucket.hash);
                assert!(bucket.hash >= last && home <= at);
                assert!((home..at).all(|before| live(&before)), "a gap before {at}");
                last = bucket.hash;
            }
            assert_eq!((0..segment.buckets.len()).filter(live).count(), segment.len as usize);
        }
        assert_eq!(table.segments.iter().map(|segment| segment.len as usize).sum::<usize>(), table.len());
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
    fn equal_hashes_beyond_a_segment_are_still_found() {
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
