//! Choices that a seed makes.

/// A generator that repeats itself from its seed: splitmix64.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The seed of this run: RINGMQ_SEED, or one from the clock. It is printed.
    pub fn seeded(what: &str) -> Self {
        let seed = std::env::var("RINGMQ_SEED").ok().map(|text| text.parse().unwrap());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        });
        eprintln!("{what}: RINGMQ_SEED={seed}");
        Self(seed)
    }

    /// A generator of its own for a part, from a number.
    pub fn part(&self, number: u64) -> Self {
        Self(self.0 ^ number.wrapping_add(1).wrapping_mul(0xA24B_AED4_963E_E407))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something with this chance in a thousand happens.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
