//! What a session still owes its client: messages in flight under packet ids, and messages that wait.

use std::collections::VecDeque;

use ringmq_codec::{PacketId, QoS};
use ringmq_storage::LogOffset;

use crate::ids::GroupId;

/// Subscription identifiers of one delivery, in four bytes: none, one, or an index into a session's
/// list of combinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdsRef(u32);

const IDS_LISTED: u32 = 1 << 31;

impl IdsRef {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn one(id: u32) -> Self {
        debug_assert!(id < IDS_LISTED, "subscription identifiers have 28 bits");
        Self(id)
    }

    pub(crate) fn listed(index: usize) -> Self {
        Self(IDS_LISTED | index as u32)
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The identifiers, given the lists that an index would point into.
    pub(crate) fn resolve<'a>(&'a self, lists: &'a [Box<[u32]>]) -> &'a [u32] {
        match self.0 {
            0 => &[],
            listed if listed & IDS_LISTED != 0 => &lists[(listed & !IDS_LISTED) as usize],
            _ => std::slice::from_ref(&self.0),
        }
    }
}

/// How a message goes to a client: everything but the message and its packet id. With the message's
/// offset, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    /// The offset in the low 56 bits, then QoS (2 bits) and the RETAIN flag.
    packed: u64,
    /// The shared group it was assigned through, plus one; 0 for none.
    group: u32,
    pub(crate) ids: IdsRef,
}

const QOS_SHIFT: u32 = LogOffset::BITS;
const RETAIN_BIT: u64 = 1 << (LogOffset::BITS + 2);
const OFFSET_MASK: u64 = (1 << LogOffset::BITS) - 1;

impl Queued {
    pub(crate) fn new(message: LogOffset, qos: QoS, retain: bool) -> Self {
        let retain = if retain { RETAIN_BIT } else { 0 };
        Self { packed: message.get() | (qos as u64) << QOS_SHIFT | retain, group: 0, ids: IdsRef::NONE }
    }

    pub(crate) fn with(self, group: Option<GroupId>, ids: IdsRef) -> Self {
        Self { group: group.map_or(0, |group| group.0 + 1), ids, ..self }
    }

    pub(crate) fn message(self) -> LogOffset {
        LogOffset::new(self.packed & OFFSET_MASK)
    }

    pub(crate) fn qos(self) -> QoS {
        if self.packed >> QOS_SHIFT & 0b11 == QoS::ExactlyOnce as u64 {
            QoS::ExactlyOnce
        } else {
            QoS::AtLeastOnce
        }
    }

    pub(crate) fn retain(self) -> bool {
        self.packed & RETAIN_BIT != 0
    }

    pub(crate) fn group(self) -> Option<GroupId> {
        self.group.checked_sub(1).map(GroupId)
    }
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// PUBLISH was sent at QoS 1.
    AwaitsPubAck,
    /// PUBLISH was sent at QoS 2.
    AwaitsPubRec,
    /// PUBREL was sent.
    AwaitsPubComp,
    /// It ended, but an older one has not; or its packet id was skipped.
    Done,
}

/// A message in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) progress: Progress,
    /// What to send again after a reconnect. A session that ends with its connection keeps none.
    pub(crate) again: Option<Queued>,
}

/// How many packet ids lie between the oldest flight and the newest before the oldest is put aside.
const WINDOW_SPAN_MAX: usize = 32_768;
/// Packet ids run from 1 to 65,535.
const PACKET_IDS: usize = 65_535;

/// The messages in flight, by packet id, and those that wait behind them.
///
/// Ids are given in sequence, so the flight of an id is found by subtraction. One that stays while
/// 32,768 younger ones come and go is put aside, and its id skipped when its turn comes round.
#[derive(Debug)]
pub(crate) struct Outgoing {
    flights: VecDeque<Flight>,
    /// Packet id of the first of `flights`, less one.
    first: u16,
    unacked: u32,
    /// The most that may be unacknowledged: ours and the client's bound. [MQTT-3.3.4-9]
    limit: u32,
    aside: Vec<(PacketId, Flight)>,
    /// Flights of earlier connections that this one has no room for yet, the next one last.
    to_resend: Vec<PacketId>,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: u64,
}

impl Outgoing {
    pub(crate) fn new(limit: u16) -> Self {
        Self {
            flights: VecDeque::new(),
            first: 0,
            unacked: 0,
            limit: u32::from(limit),
            aside: Vec::new(),
            to_resend: Vec::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    /// Takes the bound of a new connection.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = u32::from(limit);
    }

    /// Whether another message may be sent now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.unacked < self.limit && self.to_resend.is_empty()
    }

    /// Whether anything waits for room.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.to_resend.is_empty()
    }

    /// Has every message in flight wait to be sent again, but those that were received.
    pub(crate) fn plan_resends(&mut self) {
        let mut ids: Vec<_> = self
            .in_flight()
            .filter(|(_, flight)| flight.progress != Progress::AwaitsPubComp)
            .map(|(id, _)| id)
            .collect();
        ids.reverse();
        self.to_resend = ids;
    }

    /// The next flight to send again, if there is one and room for it.
    pub(crate) fn next_resend(&mut self) -> Option<(PacketId, Flight)> {
        let open = self.unacked - self.to_resend.len() as u32;
        let id = self.to_resend.pop_if(|_| open < self.limit)?;
        let flight = *self.flight(id).expect("what waits to be sent again is in flight");
        Some((id, flight))
    }

    /// The client answered for a message: it need not be sent again.
    #[inline]
    pub(crate) fn cancel_resend(&mut self, id: PacketId) {
        if !self.to_resend.is_empty() {
            self.to_resend.retain(|waiting| *waiting != id);
        }
    }

    /// How many flights are not done.
    pub(crate) fn unacked(&self) -> u32 {
        self.unacked
    }

    fn id_at(&self, index: usize) -> PacketId {
        let id = (usize::from(self.first) + index) % PACKET_IDS + 1;
        PacketId::new(id as u16).expect("an id modulo 65,535, plus one, is not zero")
    }

    /// Starts a flight under an id that no other uses. [MQTT-2.2.1-3]
    pub(crate) fn launch(&mut self, progress: Progress, again: Option<Queued>) -> PacketId {
        if self.flights.len() >= WINDOW_SPAN_MAX {
            self.put_oldest_aside();
        }
        let mut id = self.id_at(self.flights.len());
        while !self.aside.is_empty() && self.aside.iter().any(|(taken, _)| *taken == id) {
            self.flights.push_back(Flight { progress: Progress::Done, again: None });
            id = self.id_at(self.flights.len());
        }
        self.flights.push_back(Flight { progress, again });
        self.unacked += 1;
        id
    }

    fn put_oldest_aside(&mut self) {
        let id = self.id_at(0);
        let oldest = self.flights.pop_front().expect("a window at its span is not empty");
        debug_assert_ne!(oldest.progress, Progress::Done, "done flights leave the front at once");
        self.aside.push((id, oldest));
        self.first = (self.first + 1) % PACKET_IDS as u16;
        self.drop_done();
    }

    fn drop_done(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.progress == Progress::Done) {
            self.flights.pop_front();
            self.first = (self.first + 1) % PACKET_IDS as u16;
        }
    }

    fn index_of(&self, id: PacketId) -> usize {
        (usize::from(id.get()) - 1 + PACKET_IDS - usize::from(self.first)) % PACKET_IDS
    }

    /// The flight under an id, unless it is done.
    pub(crate) fn flight(&mut self, id: PacketId) -> Option<&mut Flight> {
        let index = self.index_of(id);
        if index < self.flights.len() && self.flights[index].progress != Progress::Done {
            return self.flights.get_mut(index);
        }
        self.aside.iter_mut().find(|(taken, _)| *taken == id).map(|(_, flight)| flight)
    }

    /// Ends the flight under an id when it has come as far as `expected`.
    #[inline]
    pub(crate) fn land(&mut self, id: PacketId, expected: Progress) -> Option<Flight> {
        let index = self.index_of(id);
        if let Some(flight) = self.flights.get_mut(index)
            && flight.progress != Progress::Done
        {
            if flight.progress != expected {
                return None;
            }
            let landed = *flight;
            flight.progress = Progress::Done;
            self.unacked -= 1;
            self.drop_done();
            self.cancel_resend(id);
            return Some(landed);
        }
        let at = self.aside.iter().position(|(taken, flight)| *taken == id && flight.progress == expected)?;
        self.unacked -= 1;
        self.cancel_resend(id);
        Some(self.aside.swap_remove(at).1)
    }

    /// The flights that are not done, oldest first, with their ids.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (PacketId, Flight)> + '_ {
        let window = (0..self.flights.len()).map(|index| (self.id_at(index), self.flights[index]));
        self.aside.iter().copied().chain(window).filter(|(_, flight)| flight.progress != Progress::Done)
    }

    /// Takes everything out: the flights that are not done, then what waits.
    pub(crate) fn clear(&mut self) -> (Vec<Flight>, VecDeque<Queued>) {
        let flights = self.in_flight().map(|(_, flight)| flight).collect();
        self.flights = VecDeque::new();
        self.aside = Vec::new();
        self.to_resend = Vec::new();
        self.unacked = 0;
        self.queue_bytes = 0;
        (flights, std::mem::take(&mut self.queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    #[test]
    fn ids_start_at_one_and_wrap_past_zero() {
        let mut out = Outgoing::new(10);
        for n in (1..=65_535).chain(1..=3) {
            assert_eq!(out.launch(Progress::AwaitsPubAck, None), id(n));
            assert!(out.land(id(n), Progress::AwaitsPubAck).is_some());
        }
        assert_eq!(out.unacked(), 0);
    }

    #[test]
    fn acks_in_any_order_free_their_flights() {
        let mut out = Outgoing::new(3);
        for _ in 0..3 {
            out.launch(Progress::AwaitsPubAck, None);
        }
        assert!(!out.has_room());
        assert!(out.land(id(2), Progress::AwaitsPubAck).is_some());
        assert!(out.land(id(2), Progress::AwaitsPubAck).is_none(), "a second ack finds nothing");
        assert!(out.land(id(1), Progress::AwaitsPubComp).is_none(), "the wrong ack ends nothing");
        assert!(out.has_room());
        assert_eq!(out.in_flight().map(|(id, _)| id.get()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn flights_go_again_in_order_and_within_the_new_bound() {
        let mut out = Outgoing::new(10);
        for progress in [Progress::AwaitsPubAck, Progress::AwaitsPubComp, Progress::AwaitsPubAck] {
            out.launch(progress, None);
        }
        out.launch(Progress::AwaitsPubAck, None);
        out.set_limit(2);
        out.plan_resends();
        assert_eq!(out.next_resend().map(|(id, _)| id), Some(id(1)));
        assert!(out.next_resend().is_none(), "the released one takes room too");
        assert!(out.land(id(3), Progress::AwaitsPubAck).is_some(), "a late answer spares the repetition");
        assert!(out.land(id(1), Progress::AwaitsPubAck).is_some());
        assert!(!out.has_room() && out.has_waiting(), "old messages go before new ones");
        assert_eq!(out.next_resend().map(|(id, _)| id), Some(id(4)));
        assert!(out.land(id(2), Progress::AwaitsPubComp).is_some());
        assert!(out.has_room());
    }

    #[test]
    fn an_id_that_is_never_acknowledged_is_never_used_twice() {
        let mut out = Outgoing::new(1000);
        let stuck = out.launch(Progress::AwaitsPubRec, None);
        for _ in 0..200_000 {
            let next = out.launch(Progress::AwaitsPubAck, None);
            assert_ne!(next, stuck);
            assert!(out.land(next, Progress::AwaitsPubAck).is_some());
        }
        assert_eq!(out.in_flight().count(), 1);
        assert!(out.land(stuck, Progress::AwaitsPubRec).is_some());
        assert_eq!(out.unacked(), 0);
    }

    #[test]
    fn a_queue_entry_takes_sixteen_bytes_and_gives_back_what_it_holds() {
        assert_eq!(size_of::<Queued>(), 16);
        let entry = Queued::new(LogOffset::new(OFFSET_MASK), QoS::ExactlyOnce, true)
            .with(Some(GroupId(7)), IdsRef::one(9));
        assert_eq!(entry.message().get(), OFFSET_MASK);
        assert_eq!((entry.qos(), entry.retain(), entry.group()), (QoS::ExactlyOnce, true, Some(GroupId(7))));
        assert_eq!(entry.ids.resolve(&[]), [9]);
    }
}
