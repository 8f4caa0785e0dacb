//! What a publisher is told: that its message was taken, by whom it had to be, or why not. MQTT 5 sections
//! 3.4 and 3.5.

use ringmq_codec::{Publish, QoS, ReasonCode, Version};
use ringmq_storage::Log;
use ringmq_turn::ShardSet;

use crate::conn::{Ack, Flow, Readiness};
use crate::ledger::DropReason;
use crate::mesh::Done;
use crate::publish::{Routed, Sender};
use crate::route::RouteRef;
use crate::session::Taken;
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awaited {
    /// Shards that have to accept all that was sent to them.
    pub(crate) shards: ShardSet,
    /// The record that this shard's log has to have as safe as the listener's level says.
    pub(crate) logged: Option<u64>,
}

impl<L: Log> Engine<L> {
    /// Drops a message to a topic of the broker's own. MQTT 5 section 4.7.2
    pub(crate) fn refuse_reserved(&mut self, sender: Sender, publish: &Publish<'_>, io: &mut EngineIo) {
        self.ledger.received += 1;
        self.ledger.copies += 1;
        self.ledger.drop_copy(DropReason::ReservedTopic);
        let Some(packet_id) = publish.packet_id else { return };
        let reason = ReasonCode::NotAuthorized;
        let ack = match publish.qos {
            QoS::ExactlyOnce if sender.version != Version::V5 => {
                // Before MQTT 5 there is no refusal: the exchange runs its course.
                self.sessions.get_mut(sender.session).taken.insert(packet_id.get(), Taken::Here);
                Ack::PubRec(packet_id, reason)
            }
            QoS::ExactlyOnce => Ack::PubRec(packet_id, reason),
            QoS::AtLeastOnce | QoS::AtMostOnce => Ack::PubAck(packet_id, reason),
        };
        self.acknowledge(sender, ack, &Awaited::default(), io);
    }

    /// Acknowledges a QoS 1 or 2 message once everybody has it. [MQTT-4.3.2-4], [MQTT-4.3.3-8]
    pub(crate) fn taken(
        &mut self,
        sender: Sender,
        publish: &Publish<'_>,
        mut routed: Routed,
        io: &mut EngineIo,
    ) {
        let Some(packet_id) = publish.packet_id else { return };
        let reason = match &routed {
            Routed { refused: true, .. } => ReasonCode::QuotaExceeded,
            Routed { matched: true, .. } => ReasonCode::Success,
            Routed { .. } => ReasonCode::NoMatchingSubscribers,
        };
        let ack = if publish.qos == QoS::ExactlyOnce {
            if !reason.is_error() {
                self.note_taken(sender, packet_id.get(), &mut routed);
            }
            Ack::PubRec(packet_id, reason)
        } else {
            Ack::PubAck(packet_id, reason)
        };
        let logged = routed.wrote.then(|| self.log.appended());
        self.acknowledge(sender, ack, &Awaited { shards: routed.shards, logged }, io);
    }

    /// Whether a QoS 1 or 2 message has to be refused since a log that may have to take it is full.
    pub(crate) fn is_full_for(&self, route: RouteRef, publish: &Publish<'_>) -> bool {
        if self.log.is_full() {
            return true;
        }
        if self.full_shards.is_empty() {
            return false;
        }
        let found = self.router.get(route);
        publish.retain || !found.groups.is_empty() || found.remote.intersects(&self.full_shards)
    }

    /// Refuses a QoS 1 or 2 message for want of space. Before MQTT 5 the only refusal is to close: the
    /// client was not acknowledged to, and repeats.
    pub(crate) fn refuse_full(
        &mut self,
        sender: Sender,
        publish: &Publish<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        self.ledger.received += 1;
        self.ledger.copies += 1;
        self.ledger.drop_copy(DropReason::StorageFull);
        if sender.version != Version::V5 {
            return Err(Violation::StorageFull);
        }
        let packet_id = publish.packet_id.expect("QoS 1 and 2 have a packet id");
        let reason = ReasonCode::QuotaExceeded;
        let ack = match publish.qos {
            QoS::ExactlyOnce => Ack::PubRec(packet_id, reason),
            QoS::AtLeastOnce | QoS::AtMostOnce => Ack::PubAck(packet_id, reason),
        };
        self.acknowledge(sender, ack, &Awaited::default(), io);
        Ok(Flow::Used(0))
    }

    /// Sends an acknowledgement when the log and other shards have what it waits for, in order.
    pub(crate) fn acknowledge(&mut self, sender: Sender, ack: Ack, awaited: &Awaited, io: &mut EngineIo) {
        let conn = self.conns.get_mut(sender.conn).expect("a packet comes from an open connection");
        let level = conn.level;
        let log = awaited.logged.filter(|number| self.log.reached(level) < *number);
        let idle = conn.acks.waiting.is_empty();
        if awaited.shards.is_empty() && log.is_none() && idle {
            return self.send_ack(sender.conn, ack, io);
        }
        let number = conn.acks.first + conn.acks.waiting.len() as u64;
        let done = Done::Ack { conn: sender.conn, number };
        match self.mesh.wait_accepted(&awaited.shards, level, log, done) {
            Some(_) if idle => self.send_ack(sender.conn, ack, io),
            Some(_) => {
                self.queue_ack(sender.conn, ack, Readiness::Ready);
            }
            None => {
                self.queue_ack(sender.conn, ack, Readiness::Waits);
            }
        }
    }

    pub(crate) fn check_receive_maximum(&mut self, sender: Sender, qos: QoS) -> Result<(), Violation> {
        if qos == QoS::AtMostOnce || sender.version != Version::V5 {
            return Ok(());
        }
        let conn = self.conns.get_mut(sender.conn).expect("a packet comes from an open connection");
        let session = self.sessions.get(sender.session);
        let taken = session.taken.len() - session.taken_before;
        let most = usize::from(self.limits.receive_maximum);
        if taken + conn.acks.waiting.len() < most {
            return Ok(()); // Also if all that wait were PUBACKs.
        }
        let pubacks = conn.acks.waiting.iter().filter(|(ack, _)| matches!(ack, Ack::PubAck(..))).count();
        if taken + pubacks >= most {
            return Err(Violation::ReceiveMaximumExceeded);
        }
        Ok(())
    }
}
