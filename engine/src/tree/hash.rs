//! A keyed hash of texts: two multiplications for a topic level, and no collisions that a client can aim at.

/// Three secret words, expanded from the seed that the engine is handed.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    a: u64,
    b: u64,
    c: u64,
}

impl Keys {
    /// Keys that follow from `seed` alone, so that a simulated run replays.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self { a: splitmix(&mut state), b: splitmix(&mut state), c: splitmix(&mut state) }
    }

    /// The hash of a topic, a filter or one of their levels.
    #[inline]
    pub(crate) fn text(&self, bytes: &[u8]) -> u64 {
        let length = bytes.len() as u64;
        match bytes {
            [] => self.c,
            [first, .., last] if bytes.len() < 4 => {
                let middle = bytes[bytes.len() / 2];
                let word = u64::from(*first) | u64::from(*last) << 8 | u64::from(middle) << 16;
                self.short(word, 0, length)
            }
            [only] => self.short(u64::from(*only), 0, length),
            _ if bytes.len() < 8 => self.short(first_4(bytes), last_4(bytes), length),
            _ if bytes.len() <= 16 => self.short(first_8(bytes), last_8(bytes), length),
            _ => self.long(bytes),
        }
    }

    /// The hash of an edge: a level below a parent.
    #[inline]
    pub(crate) fn edge(&self, parent: u32, level_hash: u64) -> u32 {
        high(fold(level_hash ^ self.b, u64::from(parent) ^ self.c))
    }

    /// The hash of a number of our own.
    #[inline]
    pub(crate) fn number(&self, number: u32) -> u32 {
        high(fold(u64::from(number) ^ self.a, self.b))
    }

    #[inline]
    fn short(&self, x: u64, y: u64, length: u64) -> u64 {
        fold(fold(x ^ self.a, y ^ self.b), self.c ^ length)
    }

    fn long(&self, bytes: &[u8]) -> u64 {
        let (blocks, _) = bytes.as_chunks::<16>();
        let mut state = self.c;
        for block in blocks {
            state = fold(first_8(block) ^ state, last_8(block) ^ self.b);
        }
        let tail = &bytes[bytes.len() - 16..];
        let all = fold(first_8(tail) ^ state, last_8(tail) ^ self.b);
        // The length meets a state that nobody can foresee: next to the text it could be made up for.
        fold(all, self.a ^ bytes.len() as u64)
    }
}

/// The upper half of a hash, for tables whose buckets keep 32 bits of it.
#[inline]
pub(crate) fn high(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn first_8(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[inline]
fn last_8(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[inline]
fn first_4(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)))
}

#[inline]
fn last_4(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |chunk| u64::from(u32::from_le_bytes(*chunk)))
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_length_hashes_and_every_byte_counts() {
        let keys = Keys::new(1);
        let mut seen = HashSet::new();
        for length in 0..70 {
            let text = "x".repeat(length);
            assert!(seen.insert(keys.text(text.as_bytes())), "length {length}");
            for at in 0..length {
                let mut other = text.clone().into_bytes();
                other[at] = b'y';
                assert!(seen.insert(keys.text(&other)), "length {length}, byte {at}");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(Keys::new(7).text(b"a/b"), Keys::new(7).text(b"a/b"));
        assert_ne!(Keys::new(7).text(b"a/b"), Keys::new(8).text(b"a/b"));
        assert_ne!(Keys::new(7).edge(1, 2), Keys::new(8).edge(1, 2));
    }

    #[test]
    fn the_upper_bits_are_spread_evenly() {
        let keys = Keys::new(3);
        let mut counts = [0u32; 256];
        for number in 0..256_000u32 {
            counts[(high(keys.text(format!("device/{number}").as_bytes())) >> 24) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
    }
}
