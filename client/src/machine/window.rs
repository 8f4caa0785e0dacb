//! The QoS 1 and 2 publications in flight.

use std::collections::VecDeque;

use ringmq_codec::PacketId;

use crate::link::{Number, PUBLICATION_IDS, Publication};

/// How far a publication in flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// PUBLISH was sent, or is to be sent again on this connection.
    Publish,
    /// PUBREC came, and PUBREL waits for the store.
    Storing,
    /// PUBREL was sent, or is to be sent again on this connection.
    Release,
    /// It ended, but an older one has not; or its place was empty.
    Done,
}

/// A publication in flight.
#[derive(Debug)]
pub(super) struct Flight<T> {
    pub stage: Stage,
    /// Its PUBLISH may have been sent on an earlier connection that the server remembers.
    pub is_repeat: bool,
    /// It counts against the server's Receive Maximum.
    is_open: bool,
    /// Absent where it is done.
    pub publication: Option<Publication<T>>,
}

/// Publications in flight in places that are numbered without gaps, so that their packet ids follow from their
/// numbers and are found without a search.
#[derive(Debug)]
pub(super) struct Window<T> {
    flights: VecDeque<Flight<T>>,
    /// The number of the first of `flights`.
    first: u64,
    /// Those before this index were sent on this connection.
    cursor: usize,
    /// How many count against the limit.
    open: u32,
    /// The most that may be open: ours and the server's bound. [MQTT-3.3.4-9]
    limit: u32,
}

/// Numbers in flight are fewer apart than this, so that no packet id is in use twice. [MQTT-2.2.1-3]
const SPAN_MAX: u64 = PUBLICATION_IDS as u64;

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { flights: VecDeque::new(), first: 0, cursor: 0, open: 0, limit: 0 }
    }
}

impl<T> Window<T> {
    /// Whether every flight of earlier connections was sent again.
    pub fn is_all_sent(&self) -> bool {
        self.cursor == self.flights.len()
    }

    /// Whether a publication with this number may be sent for the first time.
    pub fn has_room(&self, number: Number) -> bool {
        debug_assert!(self.is_all_sent(), "what was sent before comes first");
        self.open < self.limit && self.spans(number)
    }

    /// Whether the number is near enough to all in flight.
    pub fn spans(&self, number: Number) -> bool {
        self.flights.is_empty() || number.0.checked_sub(self.first).is_some_and(|apart| apart < SPAN_MAX)
    }

    /// Whether the limit lets another PUBLISH out.
    pub fn has_quota(&self) -> bool {
        self.open < self.limit
    }

    /// A publication was sent for the first time.
    pub fn launch(&mut self, number: Number, publication: Publication<T>) {
        debug_assert!(self.is_all_sent(), "what was sent before comes first");
        self.place(number, Stage::Publish, publication);
        let flight = self.flights.back_mut().expect("it was just placed");
        flight.is_open = true;
        self.open += 1;
        self.cursor = self.flights.len();
    }

    /// Enters a publication of an earlier run, in order.
    pub fn restore(&mut self, number: Number, stage: Stage, publication: Publication<T>) {
        self.place(number, stage, publication);
    }

    fn place(&mut self, number: Number, stage: Stage, publication: Publication<T>) {
        if self.flights.is_empty() {
            (self.first, self.cursor) = (number.0, 0);
        }
        let at = number.0.checked_sub(self.first).expect("numbers only grow");
        assert!(at < SPAN_MAX && at >= self.flights.len() as u64, "a number is used once, within the span");
        while (self.flights.len() as u64) < at {
            self.flights.push_back(Flight {
                stage: Stage::Done,
                is_repeat: false,
                is_open: false,
                publication: None,
            });
        }
        self.flights.push_back(Flight {
            stage,
            is_repeat: true,
            is_open: false,
            publication: Some(publication),
        });
    }

    /// The place of the flight under an id, unless it is done.
    pub fn find(&self, id: PacketId) -> Option<usize> {
        let (id, first) = (u64::from(id.get()) - 1, self.first % SPAN_MAX);
        let at = if id >= first { id - first } else { id + SPAN_MAX - first };
        let flight = self.flights.get(at as usize)?;
        (flight.stage != Stage::Done).then_some(at as usize)
    }

    /// The place of the flight with a number, unless it is done.
    pub fn find_number(&self, number: Number) -> Option<usize> {
        let at = number.0.checked_sub(self.first)? as usize;
        (self.flights.get(at)?.stage != Stage::Done).then_some(at)
    }

    pub fn at(&mut self, at: usize) -> &mut Flight<T> {
        &mut self.flights[at]
    }

    pub fn number_at(&self, at: usize) -> Number {
        Number(self.first + at as u64)
    }

    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Ends the flight at a place that is not done.
    pub fn finish(&mut self, at: usize) -> Publication<T> {
        let flight = &mut self.flights[at];
        assert_ne!(flight.stage, Stage::Done, "a flight ends once");
        flight.stage = Stage::Done;
        self.open -= u32::from(std::mem::take(&mut flight.is_open));
        let publication = flight.publication.take().expect("only what is done has none");
        while self.flights.front().is_some_and(|flight| flight.stage == Stage::Done) {
            self.flights.pop_front();
            self.first += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        publication
    }

    /// A new connection: nothing was sent on it yet. What the server holds for us counts from the beginning.
    pub fn begin(&mut self, limit: u16) {
        self.limit = u32::from(limit);
        self.cursor = 0;
        self.open = 0;
        for flight in &mut self.flights {
            flight.is_open = matches!(flight.stage, Stage::Storing | Stage::Release);
            self.open += u32::from(flight.is_open);
        }
        self.pass_sent();
    }

    /// The server remembers nothing: what is in flight will be new to it.
    pub fn forget_repeats(&mut self) {
        self.flights.iter_mut().for_each(|flight| flight.is_repeat = false);
    }

    /// The place of the next flight to send again, whether or not the limit lets it.
    pub fn next_again(&mut self) -> Option<usize> {
        self.pass_sent();
        (self.cursor < self.flights.len()).then_some(self.cursor)
    }

    /// The flight of [`Window::next_again`] was sent.
    pub fn sent_again(&mut self) {
        let flight = &mut self.flights[self.cursor];
        debug_assert!(flight.stage == Stage::Publish && !flight.is_open, "it was not sent yet");
        flight.is_repeat = true;
        flight.is_open = true;
        self.open += 1;
        self.cursor += 1;
        self.pass_sent();
    }

    /// PUBRELs go by themselves.
    fn pass_sent(&mut self) {
        while self.flights.get(self.cursor).is_some_and(|flight| flight.stage != Stage::Publish) {
            self.cursor += 1;
        }
    }

    /// How many are not done.
    pub fn in_flight(&self) -> usize {
        self.flights.iter().filter(|flight| flight.stage != Stage::Done).count()
    }

    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.flights.capacity()
    }

    /// Gives memory back, if nothing is in flight.
    pub fn shrink(&mut self) {
        if self.flights.is_empty() {
            self.flights = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn publication() -> Publication<()> {
        Publication { message: Message::new("t", ""), number: None, since_ms: 0, delivery: () }
    }

    fn window(limit: u16) -> Window<()> {
        let mut window = Window::default();
        window.begin(limit);
        window
    }

    #[test]
    fn ids_in_flight_never_collide() {
        let mut window = window(u16::MAX);
        let last = SPAN_MAX * 3 + 17;
        window.launch(Number(last), publication());
        assert!(window.has_room(Number(last + SPAN_MAX - 1)));
        assert!(!window.has_room(Number(last + SPAN_MAX)), "its id is the first one's");
        let first = window.find(Number(last).packet_id()).expect("it is in flight");
        window.finish(first);
        assert!(window.len() == 0 && window.has_room(Number(last + SPAN_MAX)));
    }

    #[test]
    fn flights_end_in_any_order_and_leave_gaps() {
        let mut window = window(3);
        for number in [5, 6, 9] {
            assert!(window.has_room(Number(number)));
            window.launch(Number(number), publication());
        }
        assert!(!window.has_room(Number(10)), "three are open");
        assert_eq!(window.find(Number(7).packet_id()), None, "an empty place");
        for number in [6, 5] {
            let at = window.find(Number(number).packet_id()).expect("it is in flight");
            assert_eq!(window.number_at(at), Number(number));
            window.finish(at);
        }
        assert_eq!((window.len(), window.in_flight()), (1, 1), "the gap went with what was before it");
        assert_eq!(window.find(Number(5).packet_id()), None);
    }

    #[test]
    fn what_was_released_is_not_published_again() {
        let mut window = window(10);
        for number in 0..4 {
            window.launch(Number(number), publication());
        }
        window.at(1).stage = Stage::Release;
        window.begin(2);
        let mut again = Vec::new();
        while let Some(at) = window.next_again().filter(|_| window.has_quota()) {
            again.push(window.number_at(at).0);
            window.sent_again();
        }
        assert_eq!(again, [0], "the released one holds a place of the two");
        let at = window.find(Number(1).packet_id()).expect("it is in flight");
        window.finish(at);
        assert_eq!(window.next_again().map(|at| window.number_at(at)), Some(Number(2)));
    }
}
