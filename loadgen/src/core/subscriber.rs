//! What one client receives, and what it means.

use std::sync::Arc;

use ringmq_codec::{PacketId, QoS, ReasonCode, Version, encode_puback, encode_pubrec};

use super::messages::{Arrived, Lacking};
use crate::check::{Bag, Run, Seen, Stream};
use crate::measure::{Kind, Sample};
use crate::payload::{SHORT_STAMP_BYTES, Stamp, Tag};

/// What comes of one publisher.
#[derive(Debug)]
enum Check {
    Ordered(Stream),
    AnyOrder(Bag),
}

impl Check {
    fn see(&mut self, low: u32) -> Seen {
        match self {
            Self::Ordered(stream) => stream.see(low),
            Self::AnyOrder(bag) => bag.see(low),
        }
    }
}

/// All that is to come of some publishers, to one client or to several together.
#[derive(Debug)]
pub(crate) struct Checks {
    publishers: Arc<[u32]>,
    checks: Vec<Check>,
}

impl Checks {
    /// The publishers' numbers rise.
    pub fn new(publishers: Arc<[u32]>, is_ordered: impl Fn(u32) -> bool) -> Self {
        let checks = publishers.iter().map(|publisher| match is_ordered(*publisher) {
            true => Check::Ordered(Stream::default()),
            false => Check::AnyOrder(Bag::default()),
        });
        Self { checks: checks.collect(), publishers }
    }

    #[inline]
    fn find(&mut self, publisher: u32) -> Option<&mut Check> {
        // Most often the numbers have no gaps.
        let guess = publisher.wrapping_sub(*self.publishers.first()?) as usize;
        let at = match self.publishers.get(guess) {
            Some(found) if *found == publisher => guess,
            Some(_) | None => self.publishers.binary_search(&publisher).ok()?,
        };
        self.checks.get_mut(at)
    }

    /// What is missing of what the publishers sent.
    pub fn lacking(&self, group: usize, sent: &[u64], found: &mut Vec<Lacking>) {
        for (publisher, check) in self.publishers.iter().zip(&self.checks) {
            let sent = sent[*publisher as usize];
            let missing = match check {
                Check::Ordered(stream) => stream.missing(sent),
                Check::AnyOrder(bag) => bag.missing(sent),
            };
            if missing.count() > 0 {
                found.push(Lacking { group, publisher: *publisher, missing });
            }
        }
    }
}

/// Packet ids of QoS 2 messages that the broker has not released.
type Taken = Box<[u64; 1024]>;

/// A client that subscribes.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    pub group: usize,
    /// Its own; absent where its group is checked together, or nothing is expected.
    pub checks: Option<Checks>,
    taken: Option<Taken>,
}

impl Subscriber {
    pub fn new(group: usize, checks: Option<Checks>) -> Self {
        Self { group, checks, taken: None }
    }

    /// Notes a QoS 2 message; whether it is new.
    fn take(&mut self, id: PacketId) -> bool {
        let taken = self.taken.get_or_insert_with(|| Box::new([0; 1024]));
        let (word, bit) = (&mut taken[usize::from(id.get() / 64)], 1 << (id.get() % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// The broker released a QoS 2 message.
    pub fn release(&mut self, id: PacketId) {
        if let Some(taken) = &mut self.taken {
            taken[usize::from(id.get() / 64)] &= !(1 << (id.get() % 64));
        }
    }
}

/// A PUBLISH, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub qos: QoS,
    pub packet_id: Option<PacketId>,
    pub stamp: Option<Stamp>,
    pub payload_len: usize,
}

impl Delivery {
    /// Reads one from the first byte and what there is of the body, of which `lacking` bytes are to come. None: it is
    /// malformed, or too little of it is there.
    #[inline]
    pub fn read(version: Version, first: u8, body: &[u8], lacking: usize, tag: Tag) -> Option<Self> {
        let (topic_len, rest) = body.split_first_chunk::<2>()?;
        let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
        let (qos, packet_id) = match first >> 1 & 0b11 {
            0 => (QoS::AtMostOnce, None),
            1 | 2 => {
                let (id, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                let qos = if first & 0b100 != 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                (qos, Some(PacketId::new(u16::from_be_bytes(*id))?))
            }
            _ => return None,
        };
        if version.is_v5() {
            rest = skip_properties(rest)?;
        }
        if lacking > 0 && rest.len() < crate::payload::STAMP_BYTES {
            return None;
        }
        Some(Self { qos, packet_id, stamp: Stamp::read(tag, rest), payload_len: rest.len() + lacking })
    }
}

#[inline]
fn skip_properties(bytes: &[u8]) -> Option<&[u8]> {
    let (mut len, mut shift, mut at) = (0_usize, 0, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return bytes.get(at + len..);
        }
        if shift > 21 {
            return None;
        }
    }
}

/// What is gathered while a piece of bytes is gone through: runs of arrivals, and of equal times.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Of this publisher these came.
    arrived: Option<Arrived>,
    pub out: Vec<Arrived>,
    latency_ns: u64,
    latencies: u64,
    /// The stamp that all of `latencies` had.
    stamp_ns: u64,
}

impl Gathering {
    #[inline]
    fn note(&mut self, publisher: u32, run: Run) {
        match &mut self.arrived {
            Some(arrived) if arrived.publisher == publisher && arrived.run.to == run.from => {
                arrived.run.to = run.to;
            }
            Some(_) | None => {
                self.out.extend(self.arrived.replace(Arrived { publisher, run }));
            }
        }
    }

    #[inline]
    fn time(&mut self, at_ns: u64, now_ns: u64, sample: &mut Sample) {
        if at_ns != self.stamp_ns || self.latencies == 0 {
            self.flush_times(sample);
            (self.stamp_ns, self.latency_ns) = (at_ns, now_ns.saturating_sub(at_ns));
        }
        self.latencies += 1;
    }

    #[inline]
    fn flush_times(&mut self, sample: &mut Sample) {
        if self.latencies > 0 {
            sample.record_many(Kind::Latency, self.latency_ns, self.latencies);
            self.latencies = 0;
        }
    }

    /// The piece is over.
    pub fn finish(&mut self, sample: &mut Sample) {
        self.flush_times(sample);
        self.out.extend(self.arrived.take());
    }
}

/// The surroundings of a delivery.
pub(crate) struct Hearing<'a> {
    pub subscriber: &'a mut Subscriber,
    /// Of the group, where it is checked together.
    pub together: Option<&'a mut Checks>,
    pub gathering: &'a mut Gathering,
    pub sample: &'a mut Sample,
    pub now_ns: u64,
    /// Messages with stamps from these on, and before those, count for latency.
    pub measured_ns: (u64, u64),
    pub version: Version,
}

impl Hearing<'_> {
    /// A message came. Appends what there is to answer.
    #[inline]
    pub fn hear(&mut self, delivery: &Delivery, answers: &mut Vec<u8>) {
        if let Some(id) = delivery.packet_id
            && !self.answer(delivery.qos, id, answers)
        {
            return;
        }
        let counts = &mut self.sample.counts;
        counts.received += 1;
        counts.received_bytes += delivery.payload_len as u64;
        let Some(stamp) = delivery.stamp else {
            // What is too short to say anything may well be ours.
            counts.foreign += u64::from(delivery.payload_len >= SHORT_STAMP_BYTES);
            return;
        };
        if let Some(at_ns) = stamp.at_ns
            && at_ns >= self.measured_ns.0
            && at_ns < self.measured_ns.1
        {
            self.gathering.time(at_ns, self.now_ns, self.sample);
        }
        self.check(stamp, delivery.qos);
    }

    /// Whether the message is one that was not delivered before.
    fn answer(&mut self, qos: QoS, id: PacketId, answers: &mut Vec<u8>) -> bool {
        match qos {
            QoS::AtMostOnce => true,
            QoS::AtLeastOnce => {
                encode_puback(self.version, id, ReasonCode::Success, answers);
                true
            }
            QoS::ExactlyOnce => {
                encode_pubrec(self.version, id, ReasonCode::Success, answers);
                self.subscriber.take(id)
            }
        }
    }

    #[inline]
    fn check(&mut self, stamp: Stamp, qos: QoS) {
        let (checks, is_together) = match (&mut self.subscriber.checks, &mut self.together) {
            (Some(checks), _) => (checks, false),
            (None, Some(checks)) => (&mut **checks, true),
            (None, None) => return,
        };
        let Some(check) = checks.find(stamp.publisher) else {
            self.sample.counts.foreign += 1;
            return;
        };
        match check.see(stamp.sequence) {
            Seen::New(sequence) => {
                self.gathering.note(stamp.publisher, Run { from: sequence, to: sequence + 1 });
            }
            Seen::Ahead(gap) => {
                // What is missing is not waited for: a window would be full for ever.
                self.gathering.note(stamp.publisher, Run { from: gap.from, to: gap.to + 1 });
            }
            // Several clients together have no order.
            Seen::Late(_) => self.sample.counts.reordered += u64::from(!is_together),
            Seen::Again(_) => {
                self.sample.counts.duplicates += 1;
                match qos {
                    QoS::AtMostOnce => self.sample.counts.duplicates_qos0 += 1,
                    QoS::AtLeastOnce => {}
                    QoS::ExactlyOnce => self.sample.counts.duplicates_qos2 += 1,
                }
            }
            Seen::Foreign => self.sample.counts.foreign += 1,
        }
    }
}

#[cfg(test)]
mod tests;
