//! How long to wait between tries, and the chance in it.

use crate::options::Backoff;

/// Chance from a seed: splitmix64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `max`.
    fn up_to(&mut self, max: u64) -> u64 {
        ((u128::from(self.next()) * (u128::from(max) + 1)) >> 64) as u64
    }
}

/// The longest wait after so many waits before it.
fn ceiling_ms(backoff: &Backoff, round: u32) -> u64 {
    let mut wait_ms = backoff.first_ms.min(backoff.max_ms);
    for _ in 0..round {
        let next_ms = (u128::from(wait_ms) * u128::from(backoff.factor_percent) / 100) as u64;
        if next_ms >= backoff.max_ms {
            return backoff.max_ms;
        }
        if next_ms <= wait_ms {
            return wait_ms;
        }
        wait_ms = next_ms;
    }
    wait_ms
}

/// How long to wait after so many waits before it.
pub(super) fn delay_ms(backoff: &Backoff, round: u32, chance: &mut Chance) -> u64 {
    let ceiling_ms = ceiling_ms(backoff, round);
    if backoff.jitter { chance.up_to(ceiling_ms) } else { ceiling_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let backoff = Backoff { jitter: false, ..Backoff::default() };
        let mut chance = Chance::new(1);
        let waits: Vec<_> = (0..13).map(|round| delay_ms(&backoff, round, &mut chance)).collect();
        let first = [2_000, 3_000, 4_500, 6_750, 10_125, 15_187];
        assert_eq!(waits[..6], first);
        assert_eq!(waits[11..], [120_000, 120_000]);
        assert_eq!(delay_ms(&backoff, u32::MAX, &mut chance), 120_000);
        let flat = Backoff { factor_percent: 100, ..backoff };
        assert_eq!(delay_ms(&flat, u32::MAX, &mut chance), 2_000, "it does not count them all");
    }

    #[test]
    fn jitter_takes_any_part_of_a_wait() {
        let backoff = Backoff { first_ms: 3, ..Backoff::default() };
        let mut chance = Chance::new(9);
        let mut seen = [0; 4];
        for _ in 0..4_000 {
            seen[delay_ms(&backoff, 0, &mut chance) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
    }
}
