//! PUBACK, PUBREC, PUBREL and PUBCOMP from a client. MQTT 5 sections 3.4 to 3.7 and 4.3.

use ringmq_codec::{Ack, Frame, PacketId, ReasonCode, Version, encode_pubcomp, encode_pubrel};
use ringmq_storage::{Log, Record};

use crate::conn::Flow;
use crate::deliver::drop_copy;
use crate::ledger::DropReason;
use crate::outgoing::{Flight, Progress};
use crate::publish::Sender;
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
        let ack = Ack::decode(sender.version, packet)?;
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
        let ack = Ack::decode(sender.version, packet)?;
        let session = self.sessions.get_mut(sender.session);
        if ack.reason.is_error() {
            if let Some(flight) = session.out.land(ack.packet_id, Progress::AwaitsPubRec) {
                self.ledger.queued -= 1;
                drop_copy(session, &mut self.ledger, DropReason::Refused);
                self.release(flight);
                self.log_progress(sender, ack.packet_id, Progress::Done);
                self.pump(sender, io);
            }
            return Ok(Flow::Used(packet.total));
        }
        let known = match session.out.flight(ack.packet_id) {
            Some(flight) if flight.progress == Progress::AwaitsPubRec => {
                flight.progress = Progress::AwaitsPubComp;
                // Its message is never sent again, so it need not be kept.
                let released = flight.again.take();
                let persistent = session.persistent;
                session.out.cancel_resend(ack.packet_id);
                if let Some(entry) = released {
                    self.log.release(entry.message());
                }
                if persistent {
                    self.log_progress(sender, ack.packet_id, Progress::AwaitsPubComp);
                }
                true
            }
            Some(flight) => flight.progress == Progress::AwaitsPubComp,
            None => false,
        };
        let reason = if known || sender.version != Version::V5 {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        encode_pubrel(sender.version, ack.packet_id, reason, io.outbox(sender.conn).tail());
        Ok(Flow::Used(packet.total))
    }

    /// The sender of a QoS 2 message releases its packet id.
    pub(crate) fn on_pubrel(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = Ack::decode(sender.version, packet)?;
        let session = self.sessions.get_mut(sender.session);
        let known = session.taken.remove(&ack.packet_id.get());
        session.taken_before = session.taken_before.saturating_sub(usize::from(known));
        if known && session.persistent {
            let released = Record::Released { session: session.record, packet_id: ack.packet_id.get() };
            let _ = self.log.append(released);
        }
        let reason = if known || sender.version != Version::V5 {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        encode_pubcomp(sender.version, ack.packet_id, reason, io.outbox(sender.conn).tail());
        Ok(Flow::Used(packet.total))
    }

    /// The receiver of a QoS 2 message forgot its packet id.
    pub(crate) fn on_pubcomp(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let ack = Ack::decode(sender.version, packet)?;
        self.land(sender, ack.packet_id, Progress::AwaitsPubComp, io);
        Ok(Flow::Used(packet.total))
    }

    fn land(&mut self, sender: Sender, packet_id: PacketId, expected: Progress, io: &mut EngineIo) {
        let session = self.sessions.get_mut(sender.session);
        let Some(flight) = session.out.land(packet_id, expected) else { return };
        let (persistent, waits) = (session.persistent, session.out.has_waiting());
        self.ledger.queued -= 1;
        self.ledger.delivered += 1;
        self.release(flight);
        if persistent {
            self.log_progress(sender, packet_id, Progress::Done);
        }
        if waits {
            self.pump(sender, io);
        }
    }

    fn release(&mut self, flight: Flight) {
        if let Some(entry) = flight.again {
            self.log.release(entry.message());
        }
    }

    fn log_progress(&mut self, sender: Sender, packet_id: PacketId, progress: Progress) {
        let session = self.sessions.get(sender.session);
        if !session.persistent {
            return;
        }
        let (session, packet_id) = (session.record, packet_id.get());
        let record = match progress {
            Progress::AwaitsPubComp => Record::Received { session, packet_id },
            Progress::Done => Record::Completed { session, packet_id },
            Progress::AwaitsPubAck | Progress::AwaitsPubRec => return,
        };
        let _ = self.log.append(record);
    }

    fn pump(&mut self, sender: Sender, io: &mut EngineIo) {
        let (_, mut delivery) = self.delivery(io);
        delivery.pump(sender.session);
    }
}
