//! QoS 1 and 2 messages that were sent and are not acknowledged.

use std::collections::VecDeque;

use ringmq_codec::PacketId;

use crate::check::Run;
use crate::scenario::WINDOW_MAX;

/// Packet ids are 1 to this; those above are the machine's.
const IDS: u16 = WINDOW_MAX as u16;
/// Stands for the sequence number of a message that has none.
pub(crate) const UNNUMBERED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    /// PUBREC came.
    Released,
    Done,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub sequence: u64,
    /// When it was to be sent.
    pub at_ns: u64,
    stage: Stage,
}

/// All of one publisher, by packet id. Ids are given in order, so they are found without a search.
#[derive(Debug)]
pub(crate) struct Flights {
    flights: VecDeque<Flight>,
    /// Of the first.
    first_id: u16,
}

impl Default for Flights {
    fn default() -> Self {
        Self { flights: VecDeque::new(), first_id: 1 }
    }
}

impl Flights {
    #[inline]
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// A message is sent: its packet id.
    #[inline]
    pub fn send(&mut self, sequence: u64, at_ns: u64) -> u16 {
        let place = self.flights.len() as u32;
        debug_assert!(place < u32::from(IDS), "no more than ids");
        self.flights.push_back(Flight { sequence, at_ns, stage: Stage::Sent });
        let id = u32::from(self.first_id) + place;
        (if id > u32::from(IDS) { id - u32::from(IDS) } else { id }) as u16
    }

    #[inline]
    fn find(&mut self, id: PacketId) -> Option<&mut Flight> {
        if id.get() > IDS {
            return None;
        }
        let place = i32::from(id.get()) - i32::from(self.first_id);
        let place = if place < 0 { place + i32::from(IDS) } else { place };
        self.flights.get_mut(place as usize).filter(|flight| flight.stage != Stage::Done)
    }

    /// The end of one: PUBACK or PUBCOMP, or a refusal.
    #[inline]
    pub fn end(&mut self, id: PacketId) -> Option<Flight> {
        let flight = self.find(id)?;
        flight.stage = Stage::Done;
        let ended = *flight;
        while self.flights.front().is_some_and(|flight| flight.stage == Stage::Done) {
            self.flights.pop_front();
            self.first_id = if self.first_id == IDS { 1 } else { self.first_id + 1 };
        }
        Some(ended)
    }

    /// PUBREC came; whether it belongs to one.
    #[inline]
    pub fn release(&mut self, id: PacketId) -> bool {
        self.find(id).is_some_and(|flight| {
            let was_sent = flight.stage == Stage::Sent;
            flight.stage = Stage::Released;
            was_sent
        })
    }

    /// Adds the messages that are not acknowledged.
    pub fn open(&self, found: &mut Vec<Run>) {
        let open = |flight: &&Flight| flight.stage != Stage::Done && flight.sequence != UNNUMBERED;
        for flight in self.flights.iter().filter(open) {
            match found.last_mut() {
                Some(run) if run.to == flight.sequence => run.to += 1,
                Some(_) | None => found.push(Run { from: flight.sequence, to: flight.sequence + 1 }),
            }
        }
    }

    /// The connection is gone: adds the messages that nobody will acknowledge any more.
    pub fn lose(&mut self, lost: &mut Vec<Run>) {
        self.open(lost);
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    #[test]
    fn ids_go_round_and_are_found() {
        let mut flights = Flights::default();
        for sequence in 0..u64::from(IDS) * 2 + 5 {
            let given = flights.send(sequence, sequence * 10);
            assert_eq!(u64::from(given), sequence % u64::from(IDS) + 1);
            if sequence > 0 {
                // The one before the last, so that there is always one in flight.
                let ended = flights.end(id(((sequence - 1) % u64::from(IDS)) as u16 + 1)).unwrap();
                assert_eq!((ended.sequence, ended.at_ns), (sequence - 1, (sequence - 1) * 10));
            }
        }
        assert_eq!(flights.len(), 1);
    }

    #[test]
    fn acknowledgements_come_once_and_in_any_order() {
        let mut flights = Flights::default();
        for sequence in 7..10 {
            flights.send(sequence, 0);
        }
        assert_eq!(flights.end(id(2)).map(|flight| flight.sequence), Some(8));
        assert!(
            flights.end(id(2)).is_none()
                && flights.end(id(4)).is_none()
                && flights.end(id(u16::MAX)).is_none()
        );
        assert!(flights.release(id(3)) && !flights.release(id(3)));
        let mut lost = Vec::new();
        flights.lose(&mut lost);
        assert_eq!(lost, [Run { from: 7, to: 8 }, Run { from: 9, to: 10 }]);
        assert_eq!(flights.send(10, 0), 1);
    }
}
