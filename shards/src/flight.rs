//! Bytes of one connection on their way to the kernel.

use ringmq_turn::{ConnId, SharedPiece};

/// What was taken out of an outbox and is being sent. Its memory stays where it is until then.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Whose bytes.
    pub conn: ConnId,
    /// The copied bytes.
    pub bytes: Vec<u8>,
    /// What stands between them.
    pub shared: Vec<SharedPiece>,
    /// How many of all its bytes the kernel has taken.
    pub done: usize,
}

impl Flight {
    /// Bytes that the kernel has not taken.
    pub fn left(&self) -> usize {
        let shared: usize = self.shared.iter().map(|piece| piece.bytes.len()).sum();
        self.bytes.len() + shared - self.done
    }

    /// The pieces of memory that hold what is left, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut copied = 0;
        let between = self.shared.iter().flat_map(move |piece| {
            let from = std::mem::replace(&mut copied, piece.after);
            [&self.bytes[from..piece.after], &piece.bytes[..]]
        });
        let last = self.shared.last().map_or(0, |piece| piece.after);
        let mut skip = self.done;
        between.chain([&self.bytes[last..]]).filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            (skipped < piece.len()).then(|| &piece[skipped..])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn flight(done: usize) -> Flight {
        let piece = |after, bytes: &'static [u8]| SharedPiece { after, bytes: Bytes::from_static(bytes) };
        Flight {
            conn: ConnId { slot: 0, generation: 1 },
            bytes: b"abcdef".to_vec(),
            shared: vec![piece(0, b"01"), piece(2, b"23"), piece(2, b""), piece(6, b"45")],
            done,
        }
    }

    #[test]
    fn pieces_hold_exactly_what_is_left() {
        let whole = b"01ab23cdef45";
        for done in 0..=whole.len() {
            let flight = flight(done);
            assert_eq!(flight.pieces().collect::<Vec<_>>().concat(), &whole[done..], "{done} bytes done");
            assert!(flight.pieces().all(|piece| !piece.is_empty()));
            assert_eq!(flight.left(), whole.len() - done);
        }
    }

    #[test]
    fn copied_bytes_alone_are_one_piece() {
        let flight = Flight { shared: Vec::new(), ..flight(2) };
        assert_eq!(flight.pieces().collect::<Vec<_>>(), [b"cdef"]);
    }
}
