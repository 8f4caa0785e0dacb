//! What a session still owes its client: messages in flight under packet ids, and messages that wait.

use std::collections::VecDeque;

use ringmq_codec::{PacketId, QoS};
use ringmq_storage::{LogOffset, QueueNumber};

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
const REPEATED_BIT: u64 = 1 << (LogOffset::BITS + 3);
const GONE_BIT: u64 = 1 << (LogOffset::BITS + 4);
const OFFSET_MASK: u64 = (1 << LogOffset::BITS) - 1;

impl Queued {
    /// The place of a message that is not there any more.
    pub(crate) const GONE: Self = Self { packed: GONE_BIT, group: 0, ids: IdsRef::NONE };

    pub(crate) fn is_gone(self) -> bool {
        self.packed & GONE_BIT != 0
    }

    /// The same, perhaps sent before the process was started.
    pub(crate) fn repeated(self) -> Self {
        Self { packed: self.packed | REPEATED_BIT, ..self }
    }

    pub(crate) fn is_repeated(self) -> bool {
        self.packed & REPEATED_BIT != 0
    }

    /// The same, with its message elsewhere in the log.
    pub(crate) fn moved(self, message: LogOffset) -> Self {
        Self { packed: self.packed & !OFFSET_MASK | message.get(), ..self }
    }

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
    /// It ended, but an older one has not; or its place was empty.
    Done,
}

/// A message in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) progress: Progress,
    /// What to send again after a reconnect. A session that ends with its connection keeps none.
    pub(crate) again: Option<Queued>,
}

/// Packet ids run from 1 to 65,535.
const PACKET_IDS: u64 = 65_535;
/// Places between the oldest message in flight and the newest, so that no packet id is in use twice. A
/// client that leaves one message unacknowledged gets so many others meanwhile, and no more.
const WINDOW_SPAN_MAX: usize = PACKET_IDS as usize;

/// The messages in flight, and those that wait behind them, in places that are numbered without gaps.
///
/// The packet id of a message follows from its number, so that a message which is sent once more after the
/// process was killed goes under the id that its client knows, although nothing was written when it was
/// sent. [MQTT-4.4.0-1]
#[derive(Debug)]
pub(crate) struct Outgoing {
    flights: VecDeque<Flight>,
    /// The number of the first of `flights`, or without any of `queue`.
    first: QueueNumber,
    /// Empty places between `flights` and `queue`; none where there are no flights.
    gap: usize,
    unacked: u32,
    /// The most that may be unacknowledged: ours and the client's bound. [MQTT-3.3.4-9]
    limit: u32,
    /// Flights of earlier connections that this one has no room for yet, the next one last.
    to_resend: Vec<PacketId>,
    queue: VecDeque<Queued>,
    pub(crate) queue_bytes: u64,
}

/// A flight that ended, or went on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landed {
    pub(crate) number: QueueNumber,
    pub(crate) flight: Flight,
}

impl Outgoing {
    pub(crate) fn new(limit: u16) -> Self {
        Self {
            flights: VecDeque::new(),
            first: QueueNumber::default(),
            gap: 0,
            unacked: 0,
            limit: u32::from(limit),
            to_resend: Vec::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    /// The number of the next message.
    pub(crate) fn next(&self) -> QueueNumber {
        self.queue_first().plus(self.queue.len())
    }

    /// The number of the first message that waits.
    fn queue_first(&self) -> QueueNumber {
        self.first.plus(self.flights.len() + self.gap)
    }

    /// The number of the oldest message that is not done.
    pub(crate) fn first(&self) -> QueueNumber {
        self.first
    }

    /// Gives an empty queue the number of its next message, and room for so many.
    pub(crate) fn begin_at(&mut self, next: QueueNumber, room: usize) {
        debug_assert!(self.flights.is_empty() && self.queue.is_empty(), "numbers of messages do not change");
        self.first = next;
        self.queue.reserve_exact(room);
    }

    /// How many messages wait.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Puts a message behind those that wait.
    pub(crate) fn push(&mut self, entry: Queued, charged_bytes: u64) {
        self.queue.push_back(entry);
        self.queue_bytes += charged_bytes;
    }

    /// The message that waits longest. What is gone is passed over.
    pub(crate) fn front(&mut self) -> Option<Queued> {
        loop {
            let entry = *self.queue.front()?;
            if !entry.is_gone() {
                return Some(entry);
            }
            self.drop_front();
        }
    }

    /// Drops the message that waits longest, and answers its number.
    pub(crate) fn drop_front(&mut self) -> QueueNumber {
        let number = self.queue_first();
        self.queue.pop_front().expect("only what waits is dropped");
        self.gap += 1;
        self.drop_done();
        number
    }

    /// Takes the message that waits longest for [`Outgoing::launch`].
    pub(crate) fn take_front(&mut self, charged_bytes: u64) {
        self.queue.pop_front().expect("only what waits is taken");
        self.queue_bytes -= charged_bytes;
    }

    /// The messages that wait, by index, with the number of the first.
    pub(crate) fn waiting(&self) -> (QueueNumber, &VecDeque<Queued>) {
        (self.queue_first(), &self.queue)
    }

    /// Takes a message that waits out, from any place; its place stays.
    pub(crate) fn vacate(&mut self, index: usize, charged_bytes: u64) {
        self.queue[index] = Queued::GONE;
        self.queue_bytes -= charged_bytes;
    }

    /// The message with a number, unless it is gone or need not be sent again.
    pub(crate) fn entry_mut(&mut self, number: QueueNumber) -> Option<&mut Queued> {
        if let Some(waiting) = number.since(self.queue_first()) {
            return self.queue.get_mut(waiting).filter(|entry| !entry.is_gone());
        }
        self.flights.get_mut(number.since(self.first)?)?.again.as_mut()
    }

    /// Enters a message whose client has it, but for PUBCOMP. For recovery, in order.
    pub(crate) fn restore_received(&mut self) {
        debug_assert!(self.queue.is_empty(), "what was received was sent before what waits");
        self.fill_gap();
        self.flights.push_back(Flight { progress: Progress::AwaitsPubComp, again: None });
        self.unacked += 1;
    }

    /// Enters a message that may have been sent. For recovery, in order.
    pub(crate) fn restore_sent(&mut self, entry: Queued) {
        debug_assert!(self.queue.is_empty(), "what was sent was sent before what waits");
        self.fill_gap();
        let progress = match entry.qos() {
            QoS::ExactlyOnce => Progress::AwaitsPubRec,
            QoS::AtLeastOnce | QoS::AtMostOnce => Progress::AwaitsPubAck,
        };
        self.flights.push_back(Flight { progress, again: Some(entry) });
        self.unacked += 1;
    }

    /// Leaves a place empty. For recovery, in order.
    pub(crate) fn restore_gap(&mut self) {
        if self.queue.is_empty() {
            self.gap += 1;
            self.drop_done();
        } else {
            self.queue.push_back(Queued::GONE);
        }
    }

    /// Takes the bound of a new connection.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = u32::from(limit);
    }

    /// Whether another message may be sent now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.unacked < self.limit
            && self.to_resend.is_empty()
            && self.flights.len() + self.gap < WINDOW_SPAN_MAX
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
        packet_id(self.first.plus(index))
    }

    /// Starts a flight under an id that no other uses. [MQTT-2.2.1-3]
    pub(crate) fn launch(&mut self, progress: Progress, again: Option<Queued>) -> PacketId {
        debug_assert!(self.flights.len() + self.gap <= WINDOW_SPAN_MAX, "there was room");
        if self.gap > 0 {
            self.fill_gap();
        }
        let id = self.id_at(self.flights.len());
        self.flights.push_back(Flight { progress, again });
        self.unacked += 1;
        id
    }

    fn drop_done(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.progress == Progress::Done) {
            self.flights.pop_front();
            self.first = self.first.plus(1);
        }
        if self.flights.is_empty() {
            self.first = self.first.plus(self.gap);
            self.gap = 0;
        }
    }

    fn fill_gap(&mut self) {
        let done = Flight { progress: Progress::Done, again: None };
        self.flights.extend(std::iter::repeat_n(done, std::mem::take(&mut self.gap)));
    }

    fn index_of(&self, id: PacketId) -> usize {
        let (id, first) = (u64::from(id.get()) - 1, self.first.0 % PACKET_IDS);
        if id >= first { (id - first) as usize } else { (id + PACKET_IDS - first) as usize }
    }

    /// The flight under an id, unless it is done.
    pub(crate) fn flight(&mut self, id: PacketId) -> Option<&mut Flight> {
        let index = self.index_of(id);
        self.flights.get_mut(index).filter(|flight| flight.progress != Progress::Done)
    }

    /// Ends the flight under an id when it has come as far as `expected`.
    #[inline]
    pub(crate) fn land(&mut self, id: PacketId, expected: Progress) -> Option<Landed> {
        let index = self.index_of(id);
        let flight = self.flights.get_mut(index).filter(|flight| flight.progress == expected)?;
        let landed = Landed { number: self.first.plus(index), flight: *flight };
        // Its message is given back, and must not be copied any more.
        *flight = Flight { progress: Progress::Done, again: None };
        self.unacked -= 1;
        self.drop_done();
        self.cancel_resend(id);
        Some(landed)
    }

    /// The client received the QoS 2 message under an id: PUBCOMP is awaited, and its entry is done with.
    pub(crate) fn receive(&mut self, id: PacketId) -> Option<Landed> {
        let index = self.index_of(id);
        let flight =
            self.flights.get_mut(index).filter(|flight| flight.progress == Progress::AwaitsPubRec)?;
        let landed = Landed { number: self.first.plus(index), flight: *flight };
        *flight = Flight { progress: Progress::AwaitsPubComp, again: None };
        self.cancel_resend(id);
        Some(landed)
    }

    /// The flights that are not done, oldest first, with their ids.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (PacketId, Flight)> + '_ {
        let window = (0..self.flights.len()).map(|index| (self.id_at(index), self.flights[index]));
        window.filter(|(_, flight)| flight.progress != Progress::Done)
    }

    /// The numbers of the messages whose PUBCOMP is awaited.
    pub(crate) fn received(&self) -> impl Iterator<Item = QueueNumber> + '_ {
        let flights = self.flights.iter().enumerate();
        flights
            .filter(|(_, flight)| flight.progress == Progress::AwaitsPubComp)
            .map(|(index, _)| self.first.plus(index))
    }

    /// Takes everything out: the flights that are not done, then what waits, with their numbers.
    pub(crate) fn clear(&mut self) -> (Vec<Landed>, Vec<(QueueNumber, Queued)>) {
        let (first, queued, next) = (self.first, self.queue_first(), self.next());
        let flights = std::mem::take(&mut self.flights).into_iter().enumerate();
        let flights = flights.map(|(index, flight)| Landed { number: first.plus(index), flight });
        let flights = flights.filter(|landed| landed.flight.progress != Progress::Done).collect();
        let queue = std::mem::take(&mut self.queue).into_iter().enumerate();
        let queue = queue.map(|(index, entry)| (queued.plus(index), entry));
        let queue: Vec<_> = queue.filter(|(_, entry)| !entry.is_gone()).collect();
        *self = Self { first: next, ..Self::new(self.limit as u16) };
        (flights, queue)
    }
}

/// The packet id of a message by its number.
pub(crate) fn packet_id(number: QueueNumber) -> PacketId {
    PacketId::new((number.0 % PACKET_IDS) as u16 + 1).expect("one more than something is not zero")
}

#[cfg(test)]
mod tests;
