//! PUBACK, PUBREC, PUBREL and PUBCOMP from a client. MQTT 5 sections 3.4 to 3.7 and 4.3.

use ringmq_codec::{Ack as AckPacket, Frame, PacketId, ReasonCode, Version};
use ringmq_storage::{Log, Record};
use ringmq_turn::ShardSet;

use crate::acknowledge::Awaited;
use crate::conn::{Ack, Flow};
use crate::deliver::drop_copy;
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::mesh::ShardMessage;
use crate::outgoing::{Flight, Landed, Progress};
use crate::publish::Sender;
use crate::session::Taken;
use crate::violation::Violation;
use crate::{Engine, EngineIo};

impl<L: Log> Engine<L> {
    /// The receiver of a QoS 1 message has it.
    pub(crate) fn on_puback(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = AckPacket::decode(sender.version, packet)?;
        self.land(sender, ack.packet_id, Progress::AwaitsPubAck, io);
        Ok(Flow::Used(packet.total))
    }

    /// The receiver of a QoS 2 message has it, or refused it.
    pub(crate) fn on_pubrec(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = AckPacket::decode(sender.version, packet)?;
        let session = self.sessions.get_mut(sender.session);
        if ack.reason.is_error() {
            if let Some(landed) = session.out.land(ack.packet_id, Progress::AwaitsPubRec) {
                self.ledger.queued -= 1;
                drop_copy(session, &mut self.ledger, DropReason::Refused);
                self.landed(sender.session, landed);
                self.pump(sender, io);
            }
            return Ok(Flow::Used(packet.total));
        }
        let received = session.out.receive(ack.packet_id);
        let known = received.is_some()
            || session
                .out
                .flight(ack.packet_id)
                .is_some_and(|flight| flight.progress == Progress::AwaitsPubComp);
        if let Some(Landed { number, flight }) = received {
            if session.persistent {
                self.log.append(Record::Received { session: session.record, number });
            }
            // Its message is never sent again, so it need not be kept.
            self.release(flight);
        }
        let reply = Ack::PubRel(ack.packet_id, known_or_not(known, sender.version));
        self.reply(sender, reply, received.is_some(), io);
        Ok(Flow::Used(packet.total))
    }

    /// The sender of a QoS 2 message releases its packet id.
    pub(crate) fn on_pubrel(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = AckPacket::decode(sender.version, packet)?;
        let session = self.sessions.get_mut(sender.session);
        let taken = session.taken.remove(&ack.packet_id.get());
        session.taken_before = session.taken_before.saturating_sub(usize::from(taken.is_some()));
        let persistent = session.persistent;
        if taken.is_some() && persistent {
            self.log.append(Record::Released { session: session.record, packet_id: ack.packet_id.get() });
        }
        if let Some(taken) = taken {
            self.forget_publication(taken, io);
        }
        let reply = Ack::PubComp(ack.packet_id, known_or_not(taken.is_some(), sender.version));
        // Also if it was released before: that may have been on the last connection, and wait for a sync still.
        self.reply(sender, reply, persistent, io);
        Ok(Flow::Used(packet.total))
    }

    /// Answers PUBREC or PUBREL. What that changed has to be as safe as the listener's level says first:
    /// the client may forget it once it has the answer.
    fn reply(&mut self, sender: Sender, reply: Ack, logged: bool, io: &mut EngineIo) {
        let appended = if logged { Some(self.log.appended()) } else { None };
        self.acknowledge(sender, reply, &Awaited { shards: ShardSet::EMPTY, logged: appended }, io);
    }

    /// Tells the shards that a publication went to that it will not come again.
    pub(crate) fn forget_publication(&mut self, taken: Taken, io: &mut EngineIo) {
        let (publication, shards) = match taken {
            Taken::Here => return,
            Taken::Spread(publication, shards) => (publication, shards),
            Taken::Unfinished(publication) => (publication, self.mesh.others),
        };
        for shard in shards.iter() {
            io.message(shard, ShardMessage::Went(publication));
        }
    }

    /// The receiver of a QoS 2 message forgot its packet id.
    pub(crate) fn on_pubcomp(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = AckPacket::decode(sender.version, packet)?;
        self.land(sender, ack.packet_id, Progress::AwaitsPubComp, io);
        Ok(Flow::Used(packet.total))
    }

    fn land(&mut self, sender: Sender, packet_id: PacketId, expected: Progress, io: &mut EngineIo) {
        let session = self.sessions.get_mut(sender.session);
        let Some(landed) = session.out.land(packet_id, expected) else { return };
        let waits = session.out.has_waiting();
        self.ledger.queued -= 1;
        self.ledger.delivered += 1;
        self.landed(sender.session, landed);
        if waits {
            self.pump(sender, io);
        }
    }

    /// A message left a session's queue.
    fn landed(&mut self, slot: SessionSlot, landed: Landed) {
        self.completions.add(self.sessions.get(slot), landed.number, &mut self.log);
        self.release(landed.flight);
    }

    fn release(&mut self, flight: Flight) {
        if let Some(entry) = flight.again {
            self.log.release(entry.message());
        }
    }

    fn pump(&mut self, sender: Sender, io: &mut EngineIo) {
        let (_, mut delivery) = self.delivery(io);
        delivery.pump(sender.session);
    }
}

/// The reason that PUBREL and PUBCOMP give. Before MQTT 5 there is none.
fn known_or_not(known: bool, version: Version) -> ReasonCode {
    if known || version != Version::V5 { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound }
}
