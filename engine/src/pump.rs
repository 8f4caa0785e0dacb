//! What waits for a client goes out: from its queue, once more after a reconnect, and in forms of its own.

use ringmq_codec::{PacketId, PublishHeader, QoS};
use ringmq_storage::{Log, MessageView};

use ringmq_turn::ConnId;

use crate::EngineIo;
use crate::carried::SHARED_PAYLOAD_BYTES_MIN;
use crate::deliver::{Delivery, drop_copy, first_progress};
use crate::encodings::{Kind, share};
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::outgoing::{Progress, Queued};
use crate::session::Session;

impl<L: Log> Delivery<'_, L> {
    /// Sends what waits in a session's queue, as far as its window and its connection's backlog allow.
    pub(crate) fn pump(&mut self, slot: SessionSlot) {
        let session = self.sessions.get(slot);
        let Some(conn) = session.conn.filter(|_| session.gate.resend_at.is_none()) else { return };
        while self.resend_one(slot, conn) {}
        while self.pump_one(slot, conn) {}
    }

    /// Deals with the message that waits longest. False when there is none, or it has to wait.
    fn pump_one(&mut self, slot: SessionSlot, conn: ConnId) -> bool {
        let session = self.sessions.get_mut(slot);
        if !session.out.has_room() || self.io.backlog_bytes(conn) > self.io.backlog_high_bytes {
            return false;
        }
        let Some(entry) = session.out.front() else { return false };
        if self.gated.is_some()
            && session.persistent
            && entry.qos() == QoS::ExactlyOnce
            && session.out.waiting().0 >= session.gate.open_below
        {
            return false;
        }
        let at = entry.message();
        let view = self.log.message(at);
        let charged = view.charged_bytes() as u64;
        if view.expires_at_ms != 0 && view.expires_at_ms <= self.io.now.wall_ms {
            session.out.queue_bytes -= charged;
            let number = session.out.drop_front();
            self.log.release(at);
            self.completions.add(session, number, self.log);
            self.ledger.queued -= 1;
            self.ledger.expired += 1; // [MQTT-3.3.2-5]
            return true;
        }
        session.out.take_front(charged);
        let keep = session.persistent || entry.group().is_some();
        let packet_id = session.out.launch(first_progress(entry.qos()), keep.then_some(entry));
        if !send_entry(session, entry, SendAs { packet_id, dup: entry.is_repeated() }, &view, self.io) {
            self.drop_too_large(slot, packet_id, entry);
            return true;
        }
        self.traffic.publishes_sent += 1;
        if !keep {
            self.log.release(at);
        }
        true
    }

    /// Sends the next message of earlier connections again, unless the new one's bounds forbid it.
    fn resend_one(&mut self, slot: SessionSlot, conn: ConnId) -> bool {
        let session = self.sessions.get_mut(slot);
        if self.io.backlog_bytes(conn) > self.io.backlog_high_bytes {
            return false;
        }
        let Some((packet_id, flight)) = session.out.next_resend() else { return false };
        let entry = flight.again.expect("a session that can be resumed keeps its flights");
        let view = self.log.message(entry.message());
        if send_entry(session, entry, SendAs { packet_id, dup: true }, &view, self.io) {
            self.traffic.publishes_sent += 1;
        } else {
            self.drop_too_large(slot, packet_id, entry);
        }
        true
    }

    /// Drops a message that was launched but is larger than its client allows.
    fn drop_too_large(&mut self, slot: SessionSlot, packet_id: PacketId, entry: Queued) {
        let session = self.sessions.get_mut(slot);
        let progress = first_progress(entry.qos());
        let landed = session.out.land(packet_id, progress).expect("it was launched");
        self.completions.add(session, landed.number, self.log);
        drop_copy(session, self.ledger, DropReason::PacketTooLarge);
        self.ledger.queued -= 1;
        self.log.release(entry.message());
    }

    /// Sends what is in flight again: PUBRELs at once, messages as far as there is room, in the order of
    /// the first time. [MQTT-4.4.0-1], [MQTT-4.6.0-1]
    pub(crate) fn resend(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        let Some(conn) = session.conn else { return };
        session.out.plan_resends();
        for (packet_id, flight) in session.out.in_flight() {
            if flight.progress == Progress::AwaitsPubComp {
                let reason = ringmq_codec::ReasonCode::Success;
                ringmq_codec::encode_pubrel(session.version, packet_id, reason, self.io.outbox(conn).tail());
            }
        }
        self.pump(slot);
    }
}

/// What a queued message is sent with.
struct SendAs {
    packet_id: PacketId,
    dup: bool,
}

/// What the Topic Alias property adds to a packet: itself, and one more byte of either length.
const ALIAS_BYTES: usize = 3 + 1 + 1;

fn send_entry(
    session: &mut Session,
    entry: Queued,
    send_as: SendAs,
    view: &MessageView<'_>,
    io: &mut EngineIo,
) -> bool {
    let kind = Kind { v5: session.v5, qos: entry.qos(), retain: entry.retain() };
    let lists = std::mem::take(&mut session.id_lists);
    let header = PublishHeader {
        dup: send_as.dup,
        packet_id: Some(send_as.packet_id),
        subscription_ids: entry.ids.resolve(&lists),
        ..kind.header(view, io.now.wall_ms)
    };
    let sent = send(session, header, view, io);
    session.id_lists = lists;
    sent
}

/// Encodes one packet for one client, with a topic alias where it allows them. False, with nothing
/// sent, if the packet is larger than the client allows.
pub(crate) fn send(
    session: &mut Session,
    mut header: PublishHeader<'_>,
    view: &MessageView<'_>,
    io: &mut EngineIo,
) -> bool {
    let conn = session.conn.expect("only a connected session is sent to");
    if !session.v5 {
        header.subscription_ids = &[];
        header.message_expiry_s = None;
        header.properties = &[];
    }
    if header.encoded_len() > session.packet_bytes_max as usize {
        return false;
    }
    if let Some(aliases) = &mut session.aliases
        && header.encoded_len() + ALIAS_BYTES <= session.packet_bytes_max as usize
    {
        aliases.apply(&mut header);
    }
    let outbox = io.outbox(conn);
    header.encode(outbox.tail());
    if view.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
        outbox.put_shared(share(view));
    } else {
        outbox.put(view.payload);
    }
    true
}

impl crate::session::AliasesOut {
    /// Uses a known alias in place of the topic, or gives out the next one. [MQTT-3.3.2-7]
    fn apply(&mut self, header: &mut PublishHeader<'_>) {
        if let Some(known) = self.topics.iter().position(|topic| **topic == *header.topic) {
            header.topic_alias = Some(known as u16 + 1);
            header.topic = b"";
        } else if self.topics.len() < usize::from(self.count_max) {
            self.topics.push(header.topic.into());
            header.topic_alias = Some(self.topics.len() as u16);
        }
    }
}
