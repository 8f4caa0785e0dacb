//! CONNECT: whose session it is, on which shard, and what the client is told. MQTT 5 section 3.1.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use ringmq_codec::{
    ConnAck, ConnAckProperties, Connect, DecodeError, Frame, PacketType, ReasonCode, Version, check_name,
    encode_connack, forwardable,
};
use ringmq_storage::{Level, Log};
use ringmq_turn::{ConnId, HandOver};

use crate::conn::{Flow, Input, Phase};
use crate::ids::SessionSlot;
use crate::route::is_reserved;
use crate::session::{AliasesOut, NewSession, Will};
use crate::shared::Presence;
use crate::timers::Timer;
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// Characters of a generated client id, and how many there are.
const ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
const ID_CHARACTERS: usize = 20;

/// A session for a new connection.
struct Joined {
    session: SessionSlot,
    /// Whether it had been there before. [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    present: bool,
}

/// How the body of an MQTT 5 CONNECT begins: its protocol name and version.
const V5_CONNECT: &[u8] = b"\0\x04MQTT\x05";

/// Who chose a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientIdBy {
    Client,
    Server,
}

impl<L: Log> Engine<L> {
    /// The first packet of a connection, which must be CONNECT. [MQTT-3.1.0-1]
    pub(crate) fn first_packet(
        &mut self,
        id: ConnId,
        packet: &Frame<'_>,
        input: Input<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        if packet.packet_type() != Ok(PacketType::Connect) {
            return Err(Violation::NotConnected);
        }
        let connect = match Connect::decode(packet) {
            Ok(connect) => connect,
            Err(error) => return Ok(self.refuse_undecoded(id, packet, error, io)),
        };
        let conn = self.conns.get_mut(id).expect("a packet comes from an open connection");
        conn.version = connect.version;
        if conn.info.over_limit {
            return Ok(self.refuse_connect(id, ReasonCode::QuotaExceeded, io));
        }
        if let Some(reason) = self.objection(&connect) {
            return Ok(self.refuse_connect(id, reason, io));
        }
        if connect.client_id.is_empty() {
            let assigned = self.generate_client_id();
            let connect = Connect { client_id: &assigned, ..connect };
            return Ok(self.accept(id, &connect, ClientIdBy::Server, io).unwrap_or(Flow::Used(packet.total)));
        }
        let owner = self.hashing.owner(connect.client_id, self.config.shards);
        if owner != self.config.shard {
            self.forget_conn(id);
            io.hand_over(HandOver { conn: id, to: owner, unread: input.rest.to_vec() });
            return Ok(Flow::Gone);
        }
        Ok(self.accept(id, &connect, ClientIdBy::Client, io).unwrap_or(Flow::Used(packet.total)))
    }

    /// Why a well-formed CONNECT is refused.
    fn objection(&self, connect: &Connect<'_>) -> Option<ReasonCode> {
        if connect.properties.authentication_method.is_some() {
            return Some(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        if connect.client_id.is_empty() && connect.version != Version::V5 && !connect.clean_start {
            return Some(ReasonCode::ClientIdentifierNotValid); // [MQTT-3.1.3-8] of 3.1.1
        }
        if let Some(will) = &connect.will
            && (check_name(will.topic.as_bytes()).is_err() || self.router.check_levels(will.topic).is_err())
        {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if connect.will.as_ref().is_some_and(|will| is_reserved(will.topic.as_bytes())) {
            return Some(ReasonCode::NotAuthorized);
        }
        let known = self.sessions.find(connect.client_id).is_some();
        (!known && self.sessions.len() >= self.limits.sessions_max as usize)
            .then_some(ReasonCode::QuotaExceeded)
    }

    /// A client id that this shard owns. [MQTT-3.1.3-6]
    fn generate_client_id(&mut self) -> String {
        loop {
            let mut id = String::from("auto-");
            let mut bits = (u128::from(self.random()) << 64) | u128::from(self.random());
            for _ in 0..ID_CHARACTERS {
                id.push(char::from(ID_ALPHABET[(bits & 31) as usize]));
                bits >>= 5;
            }
            if self.hashing.owner(&id, self.config.shards) == self.config.shard {
                return id;
            }
        }
    }

    /// A CONNECT that cannot be read: the reason where the client would understand it. [MQTT-3.1.4-1]
    fn refuse_undecoded(
        &mut self,
        id: ConnId,
        packet: &Frame<'_>,
        error: DecodeError,
        io: &mut EngineIo,
    ) -> Flow {
        let conn = self.conns.get_mut(id).expect("a packet comes from an open connection");
        if let DecodeError::UnsupportedProtocolVersion { level, name_known: true } = error {
            // A later version's client understands the form of MQTT 5. [MQTT-3.1.2-2]
            conn.version = if level > 5 { Version::V5 } else { Version::V311 };
            return self.refuse_connect(id, error.reason(), io);
        }
        if error == DecodeError::ClientIdEmpty {
            return self.refuse_connect(id, error.reason(), io);
        }
        if packet.body.starts_with(V5_CONNECT) {
            conn.version = Version::V5;
            return self.refuse_connect(id, error.reason(), io);
        }
        self.traffic.violations += 1;
        self.close(id, io);
        Flow::Gone
    }

    /// Answers CONNECT with a refusal and closes. [MQTT-3.1.4-2], [MQTT-3.2.2-7]
    fn refuse_connect(&mut self, id: ConnId, reason: ReasonCode, io: &mut EngineIo) -> Flow {
        self.traffic.violations += 1;
        let conn = self.conns.get_mut(id).expect("a packet comes from an open connection");
        encode_connack(conn.version, &ConnAck::new(reason), io.outbox(id).tail());
        self.close(id, io);
        Flow::Gone
    }

    /// Answers CONNECT with a session. What else becomes of the connection if its client takes no answer.
    fn accept(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        chosen: ClientIdBy,
        io: &mut EngineIo,
    ) -> Option<Flow> {
        let assigned = (chosen == ClientIdBy::Server).then_some(connect.client_id);
        let mut connack = ConnAck::new(ReasonCode::Success);
        connack.properties = self.connack_properties(connect, assigned);
        if let Some(most) = connect.properties.packet_bytes_max
            && !connack.encode_within(connect.version, most.get(), &mut Vec::new())
        {
            return Some(self.refuse_connect(id, ReasonCode::PacketTooLarge, io)); // [MQTT-3.1.2-24]
        }
        let joined = self.join_session(connect, io);
        self.attach(id, joined.session, connect, io);
        self.traffic.connects += 1;
        self.traffic.clients_connected += 1;
        connack.session_present = joined.present;
        encode_connack(connect.version, &connack, io.outbox(id).tail());
        if joined.present {
            self.set_presence(joined.session, Presence::Online, io);
            self.resume_sending(joined.session, io);
        }
        None
    }

    /// Sends what is in flight again, once it is as safe as the PUBRELs among it say.
    fn resume_sending(&mut self, slot: SessionSlot, io: &mut EngineIo) {
        let (appended, synced) = (self.log.appended(), self.log.reached(Level::Synced));
        let session = self.sessions.get_mut(slot);
        let waits = session.gate.waits();
        session.gate.resend_at = None;
        if self.syncs && session.persistent && synced < appended && session.out.received().next().is_some() {
            session.gate.resend_at = Some(appended);
            if !waits {
                self.gated.push(session.key);
            }
            return;
        }
        let (_, mut delivery) = self.delivery(io);
        delivery.resend(slot);
    }

    /// Finds or makes the client's session, and ends whatever connection it had. [MQTT-3.1.4-3],
    /// [MQTT-3.1.2-4] to [MQTT-3.1.2-6]
    fn join_session(&mut self, connect: &Connect<'_>, io: &mut EngineIo) -> Joined {
        let expiry_s = self.granted_expiry_s(connect);
        if let Some(session) = self.sessions.find(connect.client_id) {
            let key = self.sessions.get(session).key;
            if self.sessions.get(session).conn.is_some() {
                self.take_over(session, connect.clean_start, io);
            }
            if self.sessions.alive(key).is_some() {
                if !connect.clean_start {
                    self.cancel_session_timers(session);
                    // A will that is due at a later time is not published any more. [MQTT-3.1.3-9]
                    return Joined { session, present: true };
                }
                self.end_session(session, io);
            }
        }
        let session = self.sessions.create(&NewSession {
            client_id: connect.client_id,
            version: connect.version,
            expiry_s,
            inflight_max: self.limits.inflight_messages_max,
            local: None,
            record: None,
        });
        Joined { session, present: false }
    }

    /// The Session Expiry Interval that a client gets. Before MQTT 5 a session without Clean Session
    /// never expires by the protocol.
    fn granted_expiry_s(&self, connect: &Connect<'_>) -> u32 {
        let asked = match (connect.version, connect.clean_start) {
            (Version::V5, _) => connect.properties.session_expiry_s,
            (Version::V31 | Version::V311, true) => 0,
            (Version::V31 | Version::V311, false) => u32::MAX,
        };
        asked.min(self.limits.session_expiry_s_max)
    }

    /// Ties a connection to its session.
    fn attach(&mut self, id: ConnId, slot: SessionSlot, connect: &Connect<'_>, io: &mut EngineIo) {
        let expiry_s = self.granted_expiry_s(connect);
        let keep_alive_s = self.granted_keep_alive_s(connect);
        let inflight_max = connect.properties.receive_maximum.get().min(self.limits.inflight_messages_max);
        let aliases_max = connect.properties.topic_alias_maximum.min(self.limits.topic_alias_out_max);
        let will = connect.will.as_ref().map(|will| {
            let mut properties = Vec::new();
            forwardable(will.properties, &mut properties);
            Box::new(Will {
                topic: will.topic.into(),
                payload: Bytes::copy_from_slice(will.payload),
                properties: properties.into(),
                qos: will.qos,
                retain: will.retain,
                delay_s: will.delay_s,
                message_expiry_s: will.message_expiry_s,
            })
        });
        let session = self.sessions.get_mut(slot);
        session.conn = Some(id);
        session.version = connect.version;
        session.v5 = connect.version == Version::V5;
        session.expiry_s = expiry_s;
        session.persistent |= expiry_s > 0;
        session.closed_at_ms = 0;
        session.packet_bytes_max = connect.properties.packet_bytes_max.map_or(u32::MAX, NonZeroU32::get);
        session.out.set_limit(inflight_max);
        session.aliases =
            (aliases_max > 0).then(|| Box::new(AliasesOut { topics: Vec::new(), count_max: aliases_max }));
        session.will = will;
        session.taken_before = session.taken.len();
        if session.persistent || session.will.is_some() {
            self.tell_opened(slot);
        }
        let conn = self.conns.get_mut(id).expect("a packet comes from an open connection");
        conn.phase = Phase::Connected(slot);
        conn.problem_information = connect.properties.request_problem_information;
        conn.silence_max_ms = u64::from(keep_alive_s) * 1500;
        if let Some(deadline) = conn.timer.take() {
            self.wheel.cancel(deadline);
        }
        if keep_alive_s > 0 {
            let due = io.now.mono_ms + conn.silence_max_ms;
            conn.timer = Some(self.wheel.schedule(due, Timer::KeepAlive(id)));
        }
    }

    /// The Keep Alive in force: ours where we may impose one. [MQTT-3.1.2-21]
    fn granted_keep_alive_s(&self, connect: &Connect<'_>) -> u16 {
        let (asked, most) = (connect.keep_alive_s, self.limits.keep_alive_s_max);
        if most == 0 || connect.version != Version::V5 || (1..=most).contains(&asked) { asked } else { most }
    }

    /// What CONNACK says of the limits, and the client id if the server chose it. [MQTT-3.1.3-7]
    fn connack_properties<'a>(
        &self,
        connect: &Connect<'a>,
        assigned: Option<&'a str>,
    ) -> ConnAckProperties<'a> {
        let limits = &self.limits;
        let keep_alive_s = self.granted_keep_alive_s(connect);
        let expiry_s = self.granted_expiry_s(connect);
        ConnAckProperties {
            session_expiry_s: (expiry_s != connect.properties.session_expiry_s).then_some(expiry_s),
            receive_maximum: NonZeroU16::new(limits.receive_maximum).filter(|most| most.get() < u16::MAX),
            packet_bytes_max: NonZeroU32::new(limits.packet_bytes_max),
            assigned_client_id: assigned,
            topic_alias_maximum: Some(limits.topic_alias_maximum).filter(|most| *most > 0),
            server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            ..ConnAckProperties::default()
        }
    }
}
