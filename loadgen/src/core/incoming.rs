//! How bytes become packets, and who deals with each.

use ringmq_codec::{
    Ack, Decoded, Frame, PacketType, REMAINING_LENGTH_MAX, ReasonCode, Version, encode_pubcomp,
    encode_pubrel, frame,
};

use super::client::{Coming, NONE};
use super::subscriber::{Delivery, Hearing};
use super::{Load, LoadIo};
use crate::measure::Kind;
use ringmq_client::parts::End;

/// The largest packet that there can be.
const PACKET_BYTES_MAX: u32 = REMAINING_LENGTH_MAX + 5;
/// Bytes of a PUBLISH from which its payload is not gathered.
const SKIP_BYTES_MIN: usize = 4096;

fn broken(what: &str) -> End {
    End::Protocol(what.into())
}

impl Load {
    /// Bytes came for a client.
    pub(super) fn bytes_came(&mut self, at: u32, bytes: &[u8], io: &mut LoadIo) {
        let taken = self.take_bytes(at, bytes, io);
        let mut gathering = std::mem::take(&mut self.gathering);
        gathering.finish(&mut self.sample);
        for arrived in gathering.out.drain(..) {
            self.arrived(arrived);
        }
        self.gathering = gathering;
        if let Err(end) = taken {
            self.answers.clear();
            return self.end(at, &end, io);
        }
        if !self.answers.is_empty() {
            if let Some(conn) = self.clients[at as usize].up() {
                io.outbox(conn).put(&self.answers);
            }
            self.answers.clear();
        }
    }

    fn take_bytes(&mut self, at: u32, mut bytes: &[u8], io: &mut LoadIo) -> Result<(), End> {
        let client = &mut self.clients[at as usize];
        if let Some(coming) = &mut client.coming {
            let skipped = coming.bytes.min(bytes.len());
            coming.bytes -= skipped;
            bytes = &bytes[skipped..];
            if coming.bytes > 0 {
                return Ok(());
            }
            let delivery = coming.delivery;
            client.coming = None;
            self.deliver(at, &delivery);
        }
        if !self.clients[at as usize].carry.is_empty() {
            let mut carry = std::mem::take(&mut self.clients[at as usize].carry);
            let was = carry.len();
            while let Decoded::Incomplete { need } = self.split(&carry)? {
                if bytes.is_empty() || self.is_long_enough(at, &carry) {
                    break;
                }
                // A little more than it lacks does no harm: what is over is taken out again.
                let lacking = (need - carry.len()).min(SKIP_BYTES_MIN).min(bytes.len());
                carry.extend_from_slice(&bytes[..lacking]);
                bytes = &bytes[lacking..];
            }
            debug_assert!(carry.len() > was || bytes.is_empty());
            let used = self.take_packets(at, &carry, io)?;
            if self.clients[at as usize].conn().is_none() {
                return Ok(());
            }
            if used < carry.len() {
                carry.drain(..used);
                self.clients[at as usize].carry = carry;
                return Ok(());
            }
            if self.clients[at as usize].coming.is_some() {
                return self.take_bytes(at, bytes, io);
            }
        }
        let used = self.take_packets(at, bytes, io)?;
        let client = &mut self.clients[at as usize];
        if used < bytes.len() && client.conn().is_some() {
            client.carry = bytes[used..].to_vec();
        }
        Ok(())
    }

    fn split<'a>(&self, bytes: &'a [u8]) -> Result<Decoded<Frame<'a>>, End> {
        frame(bytes, PACKET_BYTES_MAX).map_err(|error| broken(&error.to_string()))
    }

    /// Whether enough of a large PUBLISH is there to know what it says.
    fn is_long_enough(&self, at: u32, bytes: &[u8]) -> bool {
        bytes.len() >= 16 && self.start_of_large(at, bytes).is_some()
    }

    /// The start of a large PUBLISH of which the rest is to come.
    fn start_of_large(&self, at: u32, bytes: &[u8]) -> Option<Coming> {
        if bytes.first()? >> 4 != PacketType::Publish as u8 || self.clients[at as usize].up().is_none() {
            return None;
        }
        let Ok(Decoded::Incomplete { need }) = frame(bytes, PACKET_BYTES_MAX) else { return None };
        if need < SKIP_BYTES_MIN {
            return None;
        }
        let header = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0)? + 1;
        let lacking = need - bytes.len();
        let delivery = Delivery::read(self.version(at), bytes[0], &bytes[header..], lacking, self.plan.tag)?;
        Some(Coming { delivery, bytes: lacking })
    }

    fn version(&self, at: u32) -> Version {
        self.plan.scenario.groups[usize::from(self.clients[at as usize].group)].version
    }

    /// Deals with complete packets, and the start of a large one; how many bytes they are.
    fn take_packets(&mut self, at: u32, bytes: &[u8], io: &mut LoadIo) -> Result<usize, End> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            match self.split(rest)? {
                Decoded::Complete(packet) => {
                    used += packet.total;
                    self.packet(at, &packet, &rest[..packet.total], io)?;
                    if self.clients[at as usize].conn().is_none() {
                        return Ok(used);
                    }
                }
                Decoded::Incomplete { need } => {
                    if need >= SKIP_BYTES_MIN
                        && let Some(coming) = self.start_of_large(at, rest)
                    {
                        self.clients[at as usize].coming = Some(Box::new(coming));
                        used = bytes.len();
                    }
                    return Ok(used);
                }
            }
        }
        Ok(used)
    }

    #[inline]
    fn packet(&mut self, at: u32, packet: &Frame<'_>, bytes: &[u8], io: &mut LoadIo) -> Result<(), End> {
        let kind = packet.packet_type().map_err(|error| broken(&error.to_string()))?;
        let is_up = self.clients[at as usize].up().is_some();
        match kind {
            PacketType::Publish if is_up => {
                let delivery = Delivery::read(self.version(at), packet.first, packet.body, 0, self.plan.tag);
                self.deliver(at, &delivery.ok_or_else(|| broken("a PUBLISH makes no sense"))?);
                Ok(())
            }
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp if is_up => {
                let ack =
                    Ack::decode(self.version(at), packet).map_err(|error| broken(&error.to_string()))?;
                self.acknowledge(at, kind, &ack);
                Ok(())
            }
            PacketType::PingResp if is_up && self.clients[at as usize].is_pinging => {
                self.ponged(at, io);
                self.control(at, bytes, io)
            }
            PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::PingResp
            | PacketType::Connect
            | PacketType::ConnAck
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::Disconnect
            | PacketType::Auth => self.control(at, bytes, io),
        }
    }

    /// A packet for the session's machine.
    fn control(&mut self, at: u32, bytes: &[u8], io: &mut LoadIo) -> Result<(), End> {
        let (taken, outcomes) = self.with(at, io, |machine, link| machine.received(bytes, link));
        self.follow(at, outcomes, io);
        taken
    }

    #[inline]
    fn deliver(&mut self, at: u32, delivery: &Delivery) {
        let client = &self.clients[at as usize];
        let (subscriber, group) = (client.subscriber, usize::from(client.group));
        if subscriber == NONE {
            self.sample.counts.foreign += 1;
            return;
        }
        let version = self.plan.scenario.groups[group].version;
        Hearing {
            subscriber: &mut self.subscribers[subscriber as usize],
            together: self.together[group].as_mut(),
            gathering: &mut self.gathering,
            sample: &mut self.sample,
            now_ns: self.now_ns,
            measured_ns: (self.times.measured_ns, self.times.end_ns),
            version,
        }
        .hear(delivery, &mut self.answers);
    }

    fn acknowledge(&mut self, at: u32, kind: PacketType, ack: &Ack<'_>) {
        let version = self.version(at);
        let (publisher, subscriber) = {
            let client = &self.clients[at as usize];
            (client.publisher, client.subscriber)
        };
        if kind == PacketType::PubRel {
            if subscriber != NONE {
                self.subscribers[subscriber as usize].release(ack.packet_id);
            }
            return encode_pubcomp(version, ack.packet_id, ReasonCode::Success, &mut self.answers);
        }
        if publisher == NONE {
            return;
        }
        let it = &mut self.publishers[publisher as usize];
        let is_refused = ack.reason.is_error();
        if kind == PacketType::PubRec && !is_refused {
            // One that is not known is released all the same: the broker is to forget it.
            it.flights.release(ack.packet_id);
            return encode_pubrel(version, ack.packet_id, ReasonCode::Success, &mut self.answers);
        }
        let Some(flight) = it.flights.end(ack.packet_id) else { return };
        if is_refused {
            it.refused(flight.sequence);
            self.sample.counts.refused += 1;
            self.sample.trouble(&format!("publication: {}", ack.reason));
        } else if it.acknowledged(&flight, &mut self.sample)
            && flight.at_ns >= self.times.measured_ns
            && flight.at_ns < self.times.end_ns
        {
            self.sample.record(Kind::Acknowledge, self.now_ns.saturating_sub(flight.at_ns));
        }
        self.list(publisher);
    }
}
