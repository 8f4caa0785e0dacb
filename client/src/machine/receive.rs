//! How bytes become packets, and who deals with each.

use ringmq_codec::{
    Ack, Decoded, Disconnect, Frame, Packet, PacketType, Publish, ReasonCode, SubAck, UnsubAck, frame,
};

use super::limits::CARRY_AHEAD_BYTES_MAX;
use super::{Breach, End, Fault, Machine, Phase, Sink, Words, breach};

impl<T> Machine<T> {
    /// Bytes came, in order. An error is the end of the connection: the rest of them means nothing.
    pub fn received<S: Sink<Delivery = T>>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), End> {
        debug_assert_ne!(self.phase, Phase::Down, "bytes come from an open connection");
        self.clock.heard(sink.now_ms());
        if !self.carry.is_empty() {
            match self.complete_carry(bytes, sink)? {
                Some(rest) => bytes = rest,
                None => return Ok(()),
            }
        }
        let used = self.take_packets(bytes, sink)?;
        let rest = &bytes[used..];
        if !rest.is_empty() {
            self.carry = rest.to_vec();
        }
        Ok(())
    }

    /// Adds to the carried packet just what it lacks; the rest of the bytes once it was dealt with.
    fn complete_carry<'a, S: Sink<Delivery = T>>(
        &mut self,
        mut bytes: &'a [u8],
        sink: &mut S,
    ) -> Result<Option<&'a [u8]>, End> {
        let packet_bytes_max = self.options.packet_bytes_max;
        while let Ok(Decoded::Incomplete { need }) = frame(&self.carry, packet_bytes_max) {
            if bytes.is_empty() {
                return Ok(None);
            }
            let lacking = need - self.carry.len();
            let (more, rest) = bytes.split_at(lacking.min(bytes.len()));
            if self.carry.capacity() < need {
                let ahead = more.len().max(self.carry.len()).max(CARRY_AHEAD_BYTES_MAX);
                self.carry.reserve(lacking.min(ahead));
            }
            self.carry.extend_from_slice(more);
            bytes = rest;
        }
        let carry = std::mem::take(&mut self.carry);
        let used = self.take_packets(&carry, sink)?;
        debug_assert_eq!(used, carry.len(), "it was filled up to the end of its packet");
        Ok(Some(bytes))
    }

    /// Deals with complete packets; how many bytes they are.
    fn take_packets<S: Sink<Delivery = T>>(&mut self, bytes: &[u8], sink: &mut S) -> Result<usize, End> {
        let packet_bytes_max = self.options.packet_bytes_max;
        let mut used = 0;
        loop {
            let outcome = match frame(&bytes[used..], packet_bytes_max) {
                Ok(Decoded::Complete(packet)) => {
                    used += packet.total;
                    self.packet(&packet, sink)
                }
                Ok(Decoded::Incomplete { .. }) => return Ok(used),
                Err(error) => breach(error.reason(), format!("{error}")),
            };
            match outcome {
                Ok(()) => {}
                Err(Fault::End(end)) => return Err(end),
                Err(Fault::Breach(breach)) => return Err(self.punish(breach, sink)),
            }
        }
    }

    /// Tells the server what it did wrong. [MQTT-4.13.1-1]
    fn punish<S: Sink<Delivery = T>>(&mut self, breach: Breach, sink: &mut S) -> End {
        let Breach(reason, what) = breach;
        self.say_disconnect(reason, sink);
        End::Protocol(what)
    }

    /// Says DISCONNECT, where the server can hear it: before CONNACK, and in MQTT 3 with an error, there is
    /// nothing to say.
    pub fn say_disconnect<S: Sink<Delivery = T>>(&mut self, reason: ReasonCode, sink: &mut S) {
        let version = self.version();
        if self.phase == Phase::Up && (version.is_v5() || !reason.is_error()) {
            let disconnect = Disconnect::new(reason);
            // The shortest form: it fits, or nothing does.
            let max = self.server.packet_bytes_max;
            self.write(sink, |out| _ = disconnect.encode_within(version, max, out));
        }
    }

    fn packet<S: Sink<Delivery = T>>(&mut self, frame: &Frame<'_>, sink: &mut S) -> Result<(), Fault> {
        let version = self.version();
        let kind = frame.packet_type().map_err(malformed)?;
        if self.phase == Phase::Opened {
            return self.first_packet(kind, frame, sink);
        }
        match kind {
            PacketType::Publish => {
                let publish = Publish::decode(version, frame).map_err(malformed)?;
                self.on_publish(&publish, sink)
            }
            PacketType::PubAck => self.on_puback(&Ack::decode(version, frame).map_err(malformed)?, sink),
            PacketType::PubRec => self.on_pubrec(&Ack::decode(version, frame).map_err(malformed)?, sink),
            PacketType::PubRel => self.on_pubrel(&Ack::decode(version, frame).map_err(malformed)?, sink),
            PacketType::PubComp => self.on_pubcomp(&Ack::decode(version, frame).map_err(malformed)?, sink),
            PacketType::SubAck => self.on_suback(&SubAck::decode(version, frame).map_err(malformed)?, sink),
            PacketType::UnsubAck => {
                self.on_unsuback(&UnsubAck::decode(version, frame).map_err(malformed)?, sink)
            }
            PacketType::PingResp => {
                Packet::decode(version, frame).map_err(malformed)?;
                self.clock.ponged();
                Ok(())
            }
            PacketType::Auth => self.on_auth(frame, sink),
            PacketType::Disconnect if version.is_v5() => {
                let disconnect = Disconnect::decode(version, frame).map_err(malformed)?;
                Err(self.disconnected(&disconnect).into())
            }
            PacketType::ConnAck => breach(ReasonCode::ProtocolError, "CONNACK came twice"),
            PacketType::Connect
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            | PacketType::Disconnect => {
                breach(ReasonCode::ProtocolError, format!("{kind:?} came, which only a client sends"))
            }
        }
    }

    fn first_packet<S: Sink<Delivery = T>>(
        &mut self,
        kind: PacketType,
        frame: &Frame<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let version = self.version();
        match kind {
            PacketType::ConnAck => self.on_connack(frame, sink),
            PacketType::Auth => self.on_auth(frame, sink),
            PacketType::Disconnect if version.is_v5() => {
                let disconnect = Disconnect::decode(version, frame).map_err(malformed)?;
                Err(self.disconnected(&disconnect).into())
            }
            PacketType::Connect
            | PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect => {
                breach(ReasonCode::ProtocolError, format!("{kind:?} came before CONNACK"))
            }
        }
    }

    fn disconnected(&self, disconnect: &Disconnect<'_>) -> End {
        End::Disconnected(Words {
            reason: disconnect.reason,
            said: disconnect.reason_string.map(Box::from),
            server_reference: disconnect.server_reference.map(Box::from),
        })
    }
}

/// A packet that makes no sense.
pub(super) fn malformed(error: ringmq_codec::DecodeError) -> Fault {
    Fault::Breach(Breach(error.reason(), format!("{error}").into()))
}
