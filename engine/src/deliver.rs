//! From a message and a session to bytes in an outbox, or an entry in a queue.

use ringmq_codec::{PublishHeader, QoS};
use ringmq_storage::{
    Log, LogError, LogOffset, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record, SessionRecord,
    SubscriptionIds,
};
use ringmq_turn::ConnId;

use crate::EngineIo;
use crate::config::{Limits, OverflowPolicy};
use crate::encodings::{Encodings, Kind, put};
use crate::exactly_once::Numbered;
use crate::ids::{GroupId, SessionSlot};
use crate::ledger::{DropReason, Ledger, Traffic};
use crate::local;
use crate::outgoing::{Progress, Queued};
use crate::pump::send;
use crate::route::Target;
use crate::run::Run;
use crate::session::{Session, SessionKey, Sessions};
use crate::shared::Groups;
use crate::tree::SubscriberOptions;

/// A message on its way to its subscribers, wherever it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) view: MessageView<'a>,
    pub(crate) qos: QoS,
    /// The RETAIN flag that a subscriber with Retain As Published sees, and all see on a replay.
    pub(crate) retain: Retained,
    /// The session that published it, if that is one of this shard. For No Local.
    pub(crate) publisher: Option<SessionSlot>,
    /// Its number, if other shards must not take it twice.
    pub(crate) number: Option<Numbered>,
}

/// Where the RETAIN flag of a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    /// A live message that was published without it.
    No,
    /// A live message that was published with it: only Retain As Published lets it through.
    /// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    AsPublished,
    /// A retained message replayed to a new subscription. [MQTT-3.3.1-8] of 3.1.1
    Replayed,
}

/// Everything that a delivery touches, borrowed from the engine for one message.
pub(crate) struct Delivery<'e, L: Log> {
    pub(crate) sessions: &'e mut Sessions,
    pub(crate) log: &'e mut L,
    pub(crate) ledger: &'e mut Ledger,
    pub(crate) traffic: &'e mut Traffic,
    pub(crate) encodings: &'e mut Encodings,
    pub(crate) limits: &'e Limits,
    /// How many sessions have a connection that was found slow.
    pub(crate) slow_sessions: &'e mut u32,
    /// Clients to disconnect because their queue overflowed.
    pub(crate) overflowed: &'e mut Vec<ConnId>,
    pub(crate) completions: &'e mut Completions,
    /// The keys of shared groups, for the log.
    pub(crate) groups: &'e Groups,
    /// Sessions whose QoS 2 messages wait for a sync; none where nothing has to.
    pub(crate) gated: Option<&'e mut Vec<SessionKey>>,
    /// Copies for which there was no room in memory or in the log.
    pub(crate) refused: &'e mut u64,
    /// The message's place in the log, once it is there. Its first reference is still to be given out.
    pub(crate) kept: Kept,
    pub(crate) io: &'e mut EngineIo,
}

/// Clients that do not read hold no more than this part of a shard's memory: one in four bytes.
const SLOW_PART: u64 = 4;

/// Whether the message that is being delivered is in the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Kept {
    /// Not yet.
    #[default]
    No,
    /// It is, and every reference has an owner.
    At(LogOffset),
}

impl<L: Log> Delivery<'_, L> {
    /// Delivers to one session, with the options of its subscription.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        publication: &Publication<'_>,
        target: &Target,
        lists: &[Box<[u32]>],
        group: Option<GroupId>,
    ) {
        if target.options.no_local() && publication.publisher == Some(target.session) {
            return; // [MQTT-3.8.3-3]
        }
        self.ledger.copies += 1;
        let qos = publication.qos.min(qos_of(target.options));
        let retain = match publication.retain {
            Retained::No => false,
            Retained::AsPublished => target.options.retain_as_published(),
            Retained::Replayed => true,
        };
        let session = self.sessions.get_mut(target.session);
        if let Some(subscriber) = session.local {
            local::deliver(subscriber, publication, Kind { v5: true, qos, retain }, self.io);
            self.ledger.delivered += 1;
            return;
        }
        let Some(conn) = session.conn else {
            return self.deliver_away(publication, target, Away { lists, group, qos, retain });
        };
        let kind = Kind { v5: session.v5, qos, retain };
        let plain = (target.ids.is_none() || !session.v5) && session.aliases.is_none();
        if qos == QoS::AtMostOnce {
            if plain {
                self.send_unacked(publication, conn, kind, target.session);
            } else {
                self.send_special_unacked(publication, target, lists, kind);
            }
            return;
        }
        let busy = !session.out.has_room()
            || session.out.queue_len() > 0
            || self.io.backlog_bytes(conn) > self.io.backlog_high_bytes
            || session.gate.resend_at.is_some()
            || (qos == QoS::ExactlyOnce && session.persistent && self.gated.is_some());
        let keeping = Keeping { lists, group, kind };
        if busy {
            return self.enqueue(publication, target, keeping);
        }
        let keep = session.persistent || group.is_some();
        self.send_acked(publication, target, keeping, Sending { conn, plain, keep });
    }

    /// QoS 1 or 2, at once; kept in the log if it may have to be sent again.
    fn send_acked(
        &mut self,
        publication: &Publication<'_>,
        target: &Target,
        keeping: Keeping<'_>,
        sending: Sending,
    ) {
        let again = if sending.keep {
            let Some(entry) = self.keep(publication, target, keeping) else { return };
            Some(entry)
        } else {
            None
        };
        let Keeping { lists, kind, .. } = keeping;
        let progress = first_progress(kind.qos);
        let session = self.sessions.get_mut(target.session);
        let packet_id = session.out.launch(progress, again);
        let sent = if sending.plain {
            let form = self.encodings.form(&publication.view, kind, self.io.now.wall_ms);
            let fits = form.len() <= session.packet_bytes_max as usize;
            if fits {
                put(form, packet_id, sending.conn, self.io);
            }
            fits
        } else {
            let header = PublishHeader {
                packet_id: Some(packet_id),
                subscription_ids: target.ids.resolve(lists),
                ..kind.header(&publication.view, self.io.now.wall_ms)
            };
            send(session, header, &publication.view, self.io)
        };
        if sent {
            self.ledger.queued += 1;
            self.traffic.publishes_sent += 1;
            return;
        }
        let landed = session.out.land(packet_id, progress).expect("it was just launched");
        self.completions.add(session, landed.number, self.log);
        drop_copy(session, self.ledger, DropReason::PacketTooLarge);
        if let Some(entry) = again {
            self.log.release(entry.message());
        }
    }

    /// Forgets the last message, before the first delivery of the next one.
    pub(crate) fn restart(&mut self) {
        self.encodings.restart();
        self.kept = Kept::No;
    }

    /// Whether a session gets the packets of a run just as they are.
    #[inline]
    pub(crate) fn takes_runs(&self, run: &Run<'_>, target: &Target) -> bool {
        let session = self.sessions.get(target.session);
        session.conn.is_some()
            && session.v5 == run.v5
            && (target.ids.is_none() || !session.v5)
            && session.aliases.is_none()
            && run.longest <= session.packet_bytes_max as usize
    }

    /// Delivers a run to one session. False if it has to be delivered message by message.
    #[inline]
    pub(crate) fn deliver_run(
        &mut self,
        run: &Run<'_>,
        target: &Target,
        publisher: Option<SessionSlot>,
    ) -> bool {
        if !self.takes_runs(run, target) {
            return false;
        }
        if target.options.no_local() && publisher == Some(target.session) {
            return true; // [MQTT-3.8.3-3]
        }
        self.ledger.copies += run.count;
        let session = self.sessions.get_mut(target.session);
        let conn = session.conn.expect("it was just seen");
        let backlog = self.io.backlog_bytes(conn);
        if backlog + run.packets.len() > self.unquestioned_bytes()
            && self.is_too_slow(target.session, backlog, run.packets.len())
        {
            let session = self.sessions.get_mut(target.session);
            session.dropped += run.count;
            self.ledger.drop_copies(DropReason::SlowConsumer, run.count);
            return true;
        }
        self.io.outbox(conn).put(run.packets);
        self.ledger.delivered += run.count;
        self.traffic.publishes_sent += run.count;
        true
    }

    /// QoS 0 in a form that others get too.
    #[inline]
    fn send_unacked(&mut self, publication: &Publication<'_>, conn: ConnId, kind: Kind, slot: SessionSlot) {
        let form = self.encodings.form(&publication.view, kind, self.io.now.wall_ms);
        let session = self.sessions.get_mut(slot);
        if form.len() > session.packet_bytes_max as usize {
            return drop_copy(session, self.ledger, DropReason::PacketTooLarge);
        }
        let backlog = self.io.backlog_bytes(conn);
        if backlog + form.len() > self.limits.outbox_bytes_max.min(self.io.backlog_high_bytes) {
            let bytes = form.len();
            if self.is_too_slow(slot, backlog, bytes) {
                let session = self.sessions.get_mut(slot);
                return drop_copy(session, self.ledger, DropReason::SlowConsumer);
            }
        }
        let form = self.encodings.form(&publication.view, kind, self.io.now.wall_ms);
        let outbox = self.io.outbox(conn);
        outbox.put(form.head);
        if let Some(payload) = form.shared {
            outbox.put_shared(payload.clone());
        }
        self.ledger.delivered += 1;
        self.traffic.publishes_sent += 1;
    }

    /// QoS 0 with subscription identifiers or a topic alias, which no other receiver shares.
    fn send_special_unacked(
        &mut self,
        publication: &Publication<'_>,
        target: &Target,
        lists: &[Box<[u32]>],
        kind: Kind,
    ) {
        let conn = self.sessions.get(target.session).conn.expect("only a connected session is sent to");
        let backlog = self.io.backlog_bytes(conn);
        let bytes = publication.view.charged_bytes();
        if backlog + bytes > self.unquestioned_bytes() && self.is_too_slow(target.session, backlog, bytes) {
            let session = self.sessions.get_mut(target.session);
            return drop_copy(session, self.ledger, DropReason::SlowConsumer);
        }
        let session = self.sessions.get_mut(target.session);
        let header = PublishHeader {
            subscription_ids: target.ids.resolve(lists),
            ..kind.header(&publication.view, self.io.now.wall_ms)
        };
        if send(session, header, &publication.view, self.io) {
            self.ledger.delivered += 1;
            self.traffic.publishes_sent += 1;
        } else {
            drop_copy(session, self.ledger, DropReason::PacketTooLarge);
        }
    }

    /// Up to this backlog a client may always be sent QoS 0.
    #[inline]
    fn unquestioned_bytes(&self) -> usize {
        self.limits.outbox_bytes_max.min(self.io.backlog_high_bytes)
    }

    /// Whether a client whose backlog is high has had all that it may hold unread: its own bound, or its
    /// part of what all slow clients together may hold.
    #[cold]
    fn is_too_slow(&mut self, slot: SessionSlot, backlog: usize, bytes: usize) -> bool {
        let session = self.sessions.get_mut(slot);
        if !session.slow {
            session.slow = true;
            *self.slow_sessions += 1;
        }
        let part = self.limits.memory_bytes_max / SLOW_PART / u64::from(*self.slow_sessions);
        let part = usize::try_from(part).unwrap_or(usize::MAX).max(self.io.backlog_high_bytes);
        backlog > 0 && backlog + bytes > self.limits.outbox_bytes_max.min(part)
    }

    /// To a session whose client is away: QoS 1 and 2 wait for it.
    fn deliver_away(&mut self, publication: &Publication<'_>, target: &Target, away: Away<'_>) {
        if away.qos == QoS::AtMostOnce {
            let session = self.sessions.get_mut(target.session);
            return drop_copy(session, self.ledger, DropReason::Offline);
        }
        let kind = Kind { v5: true, qos: away.qos, retain: away.retain };
        self.enqueue(publication, target, Keeping { lists: away.lists, group: away.group, kind });
    }

    /// QoS 1 or 2, behind what waits already.
    fn enqueue(&mut self, publication: &Publication<'_>, target: &Target, keeping: Keeping<'_>) {
        let charged = publication.view.charged_bytes() as u64;
        if !self.make_room(target.session, charged) {
            return;
        }
        let Some(entry) = self.keep(publication, target, keeping) else { return };
        self.ledger.queued += 1;
        let session = self.sessions.get_mut(target.session);
        session.out.push(entry, charged);
        if keeping.kind.qos == QoS::ExactlyOnce
            && session.persistent
            && let Some(gated) = &mut self.gated
            && session.gate.next.is_none()
        {
            if !session.gate.waits() {
                gated.push(session.key);
            }
            session.gate.next = Some((self.log.appended(), session.out.next()));
        }
    }

    /// Puts the message into the log for a session. `None` when there is no room for it, which is then
    /// counted.
    fn keep(
        &mut self,
        publication: &Publication<'_>,
        target: &Target,
        keeping: Keeping<'_>,
    ) -> Option<Queued> {
        let Keeping { lists, group, kind } = keeping;
        let kept = self.reference(&publication.view);
        let session = self.sessions.get_mut(target.session);
        let Ok(message) = kept else {
            *self.refused += 1;
            drop_copy(session, self.ledger, DropReason::MemoryFull);
            return None;
        };
        let ids = session.keep_ids(target.ids, lists);
        let entry = Queued::new(message, kind.qos, kind.retain).with(group, ids);
        if session.persistent {
            log_queued(session, session.out.next(), entry, (&mut *self.log, self.groups));
        }
        Some(entry)
    }

    /// A reference to the message in the log, where it is put once.
    pub(crate) fn reference(&mut self, view: &MessageView<'_>) -> Result<LogOffset, LogError> {
        if let Kept::At(at) = self.kept {
            self.log.retain(at);
            return Ok(at);
        }
        if self.log.held_bytes() > self.limits.memory_bytes_max {
            return Err(LogError::Full { bytes: view.charged_bytes() });
        }
        let at = self.log.keep(view)?;
        self.kept = Kept::At(at);
        Ok(at)
    }

    /// Makes room for another entry in a queue by the operator's policy. False when the new one has to
    /// go, which is then counted.
    fn make_room(&mut self, slot: SessionSlot, bytes: u64) -> bool {
        let session = self.sessions.get_mut(slot);
        let full = |session: &Session| {
            session.out.queue_len() >= self.limits.queue_messages_max as usize
                || session.out.queue_bytes + bytes > self.limits.queue_bytes_max
        };
        if !full(session) {
            return true;
        }
        match self.limits.overflow {
            OverflowPolicy::DropOldest => {
                while full(session) {
                    let Some(oldest) = session.out.front() else { break };
                    session.out.queue_bytes -= self.log.message(oldest.message()).charged_bytes() as u64;
                    let number = session.out.drop_front();
                    self.completions.add(session, number, self.log);
                    self.log.release(oldest.message());
                    self.ledger.queued -= 1;
                    drop_copy(session, self.ledger, DropReason::QueueFull);
                }
                if full(session) {
                    drop_copy(session, self.ledger, DropReason::QueueFull);
                    return false;
                }
                true
            }
            OverflowPolicy::Disconnect => {
                self.overflowed.extend(session.conn);
                drop_copy(session, self.ledger, DropReason::QueueFull);
                false
            }
            OverflowPolicy::DropNewest => {
                drop_copy(session, self.ledger, DropReason::QueueFull);
                false
            }
        }
    }
}

/// A delivery that goes by way of the log.
#[derive(Clone, Copy)]
struct Keeping<'a> {
    lists: &'a [Box<[u32]>],
    group: Option<GroupId>,
    kind: Kind,
}

/// A delivery that goes out at once.
#[derive(Clone, Copy)]
struct Sending {
    conn: ConnId,
    /// In a form that others get too.
    plain: bool,
    /// It may have to be sent again.
    keep: bool,
}

/// A delivery to a session whose client is away.
struct Away<'a> {
    lists: &'a [Box<[u32]>],
    group: Option<GroupId>,
    qos: QoS,
    retain: bool,
}

/// The QoS that a subscription was granted.
#[inline]
pub(crate) fn qos_of(options: SubscriberOptions) -> QoS {
    qos_from(options.qos())
}

/// A QoS that was checked before.
#[inline]
pub(crate) fn qos_from(bits: u8) -> QoS {
    match bits {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// What a flight at this QoS waits for first.
pub(crate) fn first_progress(qos: QoS) -> Progress {
    match qos {
        QoS::ExactlyOnce => Progress::AwaitsPubRec,
        QoS::AtLeastOnce | QoS::AtMostOnce => Progress::AwaitsPubAck,
    }
}

/// Messages that left a session's queue one behind the other, for one record. Told to the log before the turn
/// is over.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    session: SessionRecord,
    number: QueueNumber,
    count: u16,
}

impl Completions {
    /// A message left a session's queue.
    #[inline]
    pub(crate) fn add<L: Log>(&mut self, session: &Session, number: QueueNumber, log: &mut L) {
        if !session.persistent {
            return;
        }
        let next = self.number.plus(usize::from(self.count));
        if (self.session, next) == (session.record, number) && (1..u16::MAX).contains(&self.count) {
            self.count += 1;
            return;
        }
        self.tell(log);
        *self = Self { session: session.record, number, count: 1 };
    }

    /// Tells the log of what is not told yet.
    pub(crate) fn tell<L: Log>(&mut self, log: &mut L) {
        if self.count > 0 {
            let Self { session, number, count } = std::mem::take(self);
            log.append(Record::Completed { session, number, count });
        }
    }
}

/// Tells the log of a message in a session's queue.
#[inline]
pub(crate) fn log_queued<L: Log>(
    session: &Session,
    number: QueueNumber,
    entry: Queued,
    (log, groups): (&mut L, &Groups),
) {
    let queued = QueuedMessage {
        number,
        message: entry.message(),
        queued_as: QueuedAs { qos: entry.qos() as u8, retain: entry.retain() },
        ids: SubscriptionIds::Numbers(entry.ids.resolve(&session.id_lists)),
        group: entry.group().and_then(|id| groups.get(id)).map(|group| &*group.key),
    };
    log.append(Record::Queued { session: session.record, queued });
}

/// Counts a copy as dropped, for the session and for the reason.
pub(crate) fn drop_copy(session: &mut Session, ledger: &mut Ledger, reason: DropReason) {
    session.dropped += 1;
    ledger.drop_copy(reason);
}
