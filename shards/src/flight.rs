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
    /// Where these are not the core's bytes themselves: what they stand for.
    pub wrapped: Option<Wrapped>,
}

/// The core's bytes that a wrapped flight stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrapped {
    /// How many.
    pub plain_bytes: usize,
    /// How many of them were reported as sent.
    pub reported: usize,
}

impl Flight {
    /// The kernel took so many bytes: how many of the core's bytes were sent by that.
    #[inline]
    pub fn took(&mut self, count: usize) -> usize {
        self.done += count;
        match &mut self.wrapped {
            None => count,
            Some(wrapped) => {
                // In proportion, so that a long flight is seen to move.
                let (done, all) = (self.done as u128, self.bytes.len() as u128);
                let sent = (wrapped.plain_bytes as u128 * done / all) as usize;
                sent - std::mem::replace(&mut wrapped.reported, sent)
            }
        }
    }

    /// How many of the core's bytes have not been reported as sent.
    pub fn owed(&self) -> usize {
        self.wrapped.map_or_else(|| self.left(), |wrapped| wrapped.plain_bytes - wrapped.reported)
    }

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
            wrapped: None,
        }
    }

    #[test]
    fn a_wrapped_flight_reports_each_plain_byte_once() {
        for plain_bytes in [0, 1, 5, 6, 1000] {
            for step in 1..=6 {
                let wrapped = Some(Wrapped { plain_bytes, reported: 0 });
                let mut flight = Flight { shared: Vec::new(), wrapped, ..flight(0) };
                let mut reported = 0;
                while flight.left() > 0 {
                    assert_eq!(reported + flight.owed(), plain_bytes);
                    reported += flight.took(step.min(flight.left()));
                }
                assert_eq!((reported, flight.owed()), (plain_bytes, 0));
            }
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
