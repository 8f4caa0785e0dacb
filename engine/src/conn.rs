//! The connections of one shard, and how their bytes become packets.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use ringmq_codec::{
    DecodeError, Decoded, PacketId, ReasonCode, ReasonCodes, SubAck, UnsubAck, UserProperties, Version, frame,
};
use ringmq_storage::{Level, Log};
use ringmq_turn::{ConnId, ConnInfo, make_room_for};

use crate::ids::SessionSlot;
use crate::mesh::ReplayId;
use crate::route::RouteRef;
use crate::violation::Violation;
use crate::{Engine, EngineIo};
use ringmq_turn::TimerId;

/// An acknowledgement that may have to wait.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "the packets' names")]
pub(crate) enum Ack {
    PubAck(PacketId, ReasonCode),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId, ReasonCode),
    PubComp(PacketId, ReasonCode),
    SubAck { id: PacketId, reasons: Vec<ReasonCode>, replays: Vec<ReplayId> },
    UnsubAck(PacketId, Vec<ReasonCode>),
}

/// Acknowledgements that wait for other shards or for the log, in the order of their requests.
/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pub(crate) first: u64,
    pub(crate) waiting: VecDeque<(Ack, Readiness)>,
}

/// Whether an acknowledgement may go once those before it are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Waits,
}

/// Why received bytes are kept instead of being processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// They are processed.
    No,
    /// A lane that a publication has to go through is full, or the shards are still telling each other what
    /// they recovered.
    Lanes,
    /// The client does not read what it is sent, or too many acknowledgements wait.
    Backlog,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No CONNECT yet.
    Opened,
    /// CONNECT was accepted.
    Connected(SessionSlot),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) phase: Phase,
    pub(crate) version: Version,
    pub(crate) held: Held,
    pub(crate) route: RouteRef,
    pub(crate) last_heard_ms: u64,
    /// One and a half times the Keep Alive; 0 for none.
    pub(crate) silence_max_ms: u64,
    pub(crate) timer: Option<TimerId>,
    /// The start of a packet, or all that came while the connection was held.
    pub(crate) carry: BytesMut,
    pub(crate) acks: Acks,
    /// Topics by alias. [MQTT-3.3.2-10]
    pub(crate) aliases: Option<Box<HashMap<u16, Box<[u8]>>>>,
    pub(crate) problem_information: bool,
    /// What acknowledgements wait for, by its listener.
    pub(crate) level: Level,
    pub(crate) info: ConnInfo,
}

/// The connections by slot.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<Option<Conn>>,
    /// Buffers for the next partial packets.
    spare: Vec<BytesMut>,
}

/// Buffers for partial packets that are kept for the next ones.
const SPARE_CARRIES_MAX: usize = 256;
/// Larger ones are given back to the allocator.
const SPARE_CARRY_BYTES_MAX: usize = 64 * 1024;
/// The most that a partial packet's buffer grows ahead of the bytes that came.
const CARRY_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// Acknowledgements that may wait before the connection is not read any more.
const ACKS_WAITING_MAX: usize = 8192;

impl Conns {
    pub(crate) fn insert(&mut self, id: ConnId, info: ConnInfo, level: Level, now_ms: u64) {
        if self.slots.len() <= id.index() {
            make_room_for(&mut self.slots, id.index());
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some(Conn {
            id,
            phase: Phase::Opened,
            version: Version::V311,
            held: Held::No,
            route: RouteRef::default(),
            last_heard_ms: now_ms,
            silence_max_ms: 0,
            timer: None,
            carry: BytesMut::new(),
            acks: Acks::default(),
            aliases: None,
            problem_information: true,
            level,
            info,
        });
    }

    /// The connection of an id, if it is still open.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(id.index())?.as_mut().filter(|conn| conn.id == id)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get_mut(id)?;
        self.slots[id.index()].take()
    }

    /// The ids of all open connections.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        self.slots.iter().flatten().map(|conn| conn.id).collect()
    }

    fn spare_carry(&mut self) -> BytesMut {
        self.spare.pop().unwrap_or_default()
    }

    fn recycle_carry(&mut self, mut carry: BytesMut) {
        carry.clear();
        if (1..=SPARE_CARRY_BYTES_MAX).contains(&carry.capacity()) && self.spare.len() < SPARE_CARRIES_MAX {
            self.spare.push(carry);
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// This many bytes are dealt with.
    Used(usize),
    /// It cannot be dealt with now; the connection is held.
    Hold(Held),
    /// The connection is not this engine's any more.
    Gone,
}

/// How the processing of an input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The rest is an incomplete packet that will have this many bytes.
    Needs(usize),
    /// The rest waits.
    Held(Held),
    Gone,
}

/// A packet's surroundings in the input.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// From the packet's first byte to the end of what came.
    pub(crate) rest: &'a [u8],
    /// The buffer that `rest` lies in, where parts of it can be shared.
    pub(crate) owner: Option<&'a Bytes>,
}

impl<L: Log> Engine<L> {
    /// Bytes of a connection: completes what was carried over, then processes in place.
    pub(crate) fn take_bytes(&mut self, id: ConnId, mut bytes: &[u8], io: &mut EngineIo) {
        self.traffic.bytes_received += bytes.len() as u64;
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.last_heard_ms = io.now.mono_ms;
        if conn.held != Held::No {
            conn.carry.extend_from_slice(bytes);
            self.traffic.partial_bytes += bytes.len() as u64;
            return;
        }
        if !conn.carry.is_empty() {
            match self.complete_carry(id, bytes, io) {
                Some(rest) => bytes = rest,
                None => return,
            }
        }
        if !bytes.is_empty() {
            let (used, end) = self.process(id, Input { rest: bytes, owner: None }, io);
            self.keep_rest(id, &bytes[used..], end, io);
        }
    }

    /// Adds to the carried packet just what it lacks; the rest of the bytes once it was dealt with.
    fn complete_carry<'a>(&mut self, id: ConnId, mut bytes: &'a [u8], io: &mut EngineIo) -> Option<&'a [u8]> {
        let packet_bytes_max = self.packet_bytes_max(id);
        let memory_bytes_max = self.limits.memory_bytes_max;
        let conn = self.conns.get_mut(id)?;
        while let Ok(Decoded::Incomplete { need }) = frame(&conn.carry, packet_bytes_max) {
            if bytes.is_empty() {
                return None;
            }
            if need > CARRY_AHEAD_BYTES_MAX
                && self.log.held_bytes() + self.traffic.partial_bytes > memory_bytes_max
            {
                self.refuse(id, Violation::MemoryFull, io);
                return None;
            }
            let lacking = need - conn.carry.len();
            let (more, rest) = bytes.split_at(lacking.min(bytes.len()));
            if conn.carry.capacity() < need {
                conn.carry.reserve(lacking.min(more.len().max(conn.carry.len()).max(CARRY_AHEAD_BYTES_MAX)));
            }
            conn.carry.extend_from_slice(more);
            self.traffic.partial_bytes += more.len() as u64;
            bytes = rest;
        }
        if conn.phase == Phase::Opened {
            // Goes along with the CONNECT when that is handed over to another shard.
            conn.carry.extend_from_slice(bytes);
            self.traffic.partial_bytes += bytes.len() as u64;
            bytes = &[];
        }
        self.process_carry(id, io);
        let conn = self.conns.get_mut(id)?;
        if conn.held != Held::No {
            conn.carry.extend_from_slice(bytes);
            self.traffic.partial_bytes += bytes.len() as u64;
            return None;
        }
        Some(bytes)
    }

    /// Processes what was carried over or held back.
    pub(crate) fn process_carry(&mut self, id: ConnId, io: &mut EngineIo) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let carry = std::mem::take(&mut conn.carry);
        self.traffic.partial_bytes -= carry.len() as u64;
        if carry.len() < crate::carried::SHARED_PAYLOAD_BYTES_MIN {
            let (used, end) = self.process(id, Input { rest: &carry, owner: None }, io);
            self.keep_rest(id, &carry[used..], end, io);
            self.conns.recycle_carry(carry);
        } else {
            let owner = carry.freeze();
            let (used, end) = self.process(id, Input { rest: &owner, owner: Some(&owner) }, io);
            self.keep_rest(id, &owner[used..], end, io);
        }
    }

    fn keep_rest(&mut self, id: ConnId, rest: &[u8], end: End, io: &mut EngineIo) {
        if end == End::Gone {
            return;
        }
        let held_before = self.conns.get_mut(id).map_or(Held::No, |conn| conn.held);
        let mut carry = if rest.is_empty() { BytesMut::new() } else { self.conns.spare_carry() };
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let End::Needs(need) = end
            && !rest.is_empty()
        {
            carry.reserve(need.min(rest.len().max(CARRY_AHEAD_BYTES_MAX)));
        }
        carry.extend_from_slice(rest);
        self.traffic.partial_bytes += carry.len() as u64;
        conn.carry = carry;
        conn.held = match end {
            End::Held(held) => held,
            End::Needs(_) | End::Gone => Held::No,
        };
        match (held_before, conn.held) {
            (Held::No, Held::No) => {}
            (_, Held::No) => io.resume(id),
            (Held::No, _) => io.pause(id),
            (_, _) => {}
        }
        if conn.held == Held::Lanes {
            self.blocked.push(id);
        }
    }

    /// Processes complete packets until there is none, or one has to wait.
    fn process(&mut self, id: ConnId, input: Input<'_>, io: &mut EngineIo) -> (usize, End) {
        let packet_bytes_max = self.packet_bytes_max(id);
        let mut used = 0;
        loop {
            if !self.recovering.is_empty() {
                return (used, End::Held(Held::Lanes));
            }
            if self.is_backed_up(id, io) {
                return (used, End::Held(Held::Backlog));
            }
            let rest = Input { rest: &input.rest[used..], ..input };
            let outcome = match frame(rest.rest, packet_bytes_max) {
                Ok(Decoded::Complete(packet)) => self.packet(id, &packet, rest, io),
                Ok(Decoded::Incomplete { need }) => return (used, End::Needs(need)),
                Err(error) => Err(Violation::Malformed(error)),
            };
            match outcome {
                Ok(Flow::Used(bytes)) => used += bytes,
                Ok(Flow::Hold(held)) => return (used, End::Held(held)),
                Ok(Flow::Gone) => return (used, End::Gone),
                Err(violation) => {
                    self.refuse(id, violation, io);
                    return (used, End::Gone);
                }
            }
        }
    }

    fn is_backed_up(&mut self, id: ConnId, io: &EngineIo) -> bool {
        let waiting = self.conns.get_mut(id).map_or(0, |conn| conn.acks.waiting.len());
        // Not below the mark beyond which the driver says that a backlog drained.
        let most = self.limits.outbox_bytes_max.max(io.backlog_high_bytes);
        waiting > ACKS_WAITING_MAX || io.backlog_bytes(id) > most
    }

    /// Before CONNECT, when nothing is known of a peer, less is taken from it.
    fn packet_bytes_max(&mut self, id: ConnId) -> u32 {
        const CONNECT_BYTES_MAX: u32 = 256 * 1024;
        match self.conns.get_mut(id).map(|conn| conn.phase) {
            Some(Phase::Connected(_)) => self.limits.packet_bytes_max,
            Some(Phase::Opened) | None => self.limits.packet_bytes_max.min(CONNECT_BYTES_MAX),
        }
    }

    /// Tries connections again whose lanes were full.
    pub(crate) fn unblock(&mut self, io: &mut EngineIo) {
        if self.blocked.is_empty()
            || !self.recovering.is_empty()
            || io.full_lanes() == &self.mesh.others && !self.mesh.others.is_empty()
        {
            return;
        }
        for id in std::mem::take(&mut self.blocked) {
            self.process_carry(id, io);
        }
    }

    /// Puts an acknowledgement behind those that wait; its number is for [`crate::mesh::Done::Ack`].
    pub(crate) fn queue_ack(&mut self, id: ConnId, ack: Ack, readiness: Readiness) -> u64 {
        let conn = self.conns.get_mut(id).expect("only an open connection is acknowledged to");
        conn.acks.waiting.push_back((ack, readiness));
        conn.acks.first + conn.acks.waiting.len() as u64 - 1
    }

    /// The acknowledgement with this number is ready: sends it, and those behind it that were.
    pub(crate) fn ack_ready(&mut self, id: ConnId, number: u64, io: &mut EngineIo) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let index = (number - conn.acks.first) as usize;
        conn.acks.waiting[index].1 = Readiness::Ready;
        self.send_ready_acks(id, io);
    }

    /// Sends the acknowledgements that nothing stands before.
    pub(crate) fn send_ready_acks(&mut self, id: ConnId, io: &mut EngineIo) {
        while let Some(conn) = self.conns.get_mut(id) {
            if !matches!(conn.acks.waiting.front(), Some((_, Readiness::Ready))) {
                break;
            }
            let (ack, _) = conn.acks.waiting.pop_front().expect("the front was just looked at");
            conn.acks.first += 1;
            self.send_ack(id, ack, io);
        }
        if self
            .conns
            .get_mut(id)
            .is_some_and(|conn| conn.held == Held::Backlog && conn.acks.waiting.len() <= ACKS_WAITING_MAX / 2)
        {
            self.process_carry(id, io);
        }
    }

    /// Sends an acknowledgement now.
    pub(crate) fn send_ack(&mut self, id: ConnId, ack: Ack, io: &mut EngineIo) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let version = conn.version;
        let Phase::Connected(session) = conn.phase else { return };
        let out = io.outbox(id).tail();
        match ack {
            Ack::PubAck(packet_id, reason) => ringmq_codec::encode_puback(version, packet_id, reason, out),
            Ack::PubRec(packet_id, reason) => ringmq_codec::encode_pubrec(version, packet_id, reason, out),
            Ack::PubRel(packet_id, reason) => ringmq_codec::encode_pubrel(version, packet_id, reason, out),
            Ack::PubComp(packet_id, reason) => ringmq_codec::encode_pubcomp(version, packet_id, reason, out),
            Ack::UnsubAck(packet_id, reasons) => {
                let (user, reasons) = (UserProperties::EMPTY, ReasonCodes::from(&reasons[..]));
                let unsuback = UnsubAck { packet_id, reason_string: None, user, reasons };
                if !unsuback.encode_within(version, self.sessions.get(session).packet_bytes_max, out) {
                    // There is no shorter answer. [MQTT-3.1.2-24]
                    self.disconnect(id, ReasonCode::PacketTooLarge, None, io);
                }
            }
            Ack::SubAck { id: packet_id, reasons, replays } => {
                let (user, reasons) = (UserProperties::EMPTY, ReasonCodes::from(&reasons[..]));
                let suback = SubAck { packet_id, reason_string: None, user, reasons };
                if !suback.encode_within(version, self.sessions.get(session).packet_bytes_max, out) {
                    // There is no shorter answer. [MQTT-3.1.2-24]
                    replays.iter().for_each(|replay| self.replays.remove(*replay));
                    return self.disconnect(id, ReasonCode::PacketTooLarge, None, io);
                }
                for replay in replays {
                    self.start_replay(replay, io);
                }
            }
        }
    }
}

/// A peer's error in a packet, as the engine sees it.
impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}
