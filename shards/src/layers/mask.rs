//! The mask on everything that a WebSocket client sends (RFC 6455, 5.3).

use std::hash::{BuildHasher, RandomState};

/// Four bytes that are laid over the payload again and again.
pub(super) type Mask = [u8; 4];

/// Bytes that are masked at once.
const BLOCK_BYTES: usize = 16;

/// Lays the mask over bytes, and gives the mask for those that follow them.
pub(super) fn apply(mask: Mask, bytes: &mut [u8]) -> Mask {
    let mut pattern = [0; BLOCK_BYTES];
    for (at, byte) in pattern.iter_mut().enumerate() {
        *byte = mask[at % 4];
    }
    let mut blocks = bytes.chunks_exact_mut(BLOCK_BYTES);
    for block in &mut blocks {
        for (byte, with) in block.iter_mut().zip(pattern) {
            *byte ^= with;
        }
    }
    let rest = blocks.into_remainder();
    for (byte, with) in rest.iter_mut().zip(pattern) {
        *byte ^= with;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

/// Masks that those who choose the payload cannot foresee.
#[derive(Debug)]
pub(super) struct Masks {
    seed: RandomState,
    made: u64,
}

impl Masks {
    pub fn new() -> Self {
        Self { seed: RandomState::new(), made: 0 }
    }

    pub fn next(&mut self) -> Mask {
        self.made += 1;
        let [a, b, c, d, ..] = self.seed.hash_one(self.made).to_ne_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_goes_on_where_it_stopped() {
        let mask = [1, 2, 4, 8];
        let whole: Vec<u8> = (0..100).map(|at| mask[at % 4]).collect();
        for first in 0..=whole.len() {
            let mut bytes = vec![0; whole.len()];
            let next = apply(mask, &mut bytes[..first]);
            apply(next, &mut bytes[first..]);
            assert_eq!(bytes, whole, "cut after {first}");
        }
    }

    #[test]
    fn masks_differ() {
        let mut masks = Masks::new();
        let made: std::collections::HashSet<Mask> = (0..1000).map(|_| masks.next()).collect();
        assert!(made.len() > 990, "{} of 1000", made.len());
        assert_ne!(Masks::new().next(), Masks::new().next());
    }
}
