//! How connections and sessions end: DISCONNECT, takeover, silence, expiry, and the wills that follow.

use ringmq_codec::{Disconnect, Frame, QoS, ReasonCode, Version, encode_disconnect};
use ringmq_storage::{Log, MessageView, Record};
use ringmq_turn::{ConnId, ShardSet};

use crate::conn::{Ack, Conn, Flow, Phase};
use crate::deliver::{Publication, Retained, drop_copy};
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::mesh::{Done, Moved};
use crate::outgoing::{Flight, Progress, Queued};
use crate::publish::Sender;
use crate::route::RouteRef;
use crate::session::{SessionKey, Subscription, Will};
use crate::shared::{Census, Presence};
use crate::timers::{Timer, expires_at_ms};
use crate::to_groups::Scope;
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// What becomes of the will when a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WillFate {
    /// The client said goodbye: it is dropped. [MQTT-3.14.4-3]
    Dropped,
    /// It is published, after its delay. [MQTT-3.1.2-8]
    Due,
}

impl<L: Log> Engine<L> {
    pub(crate) fn on_disconnect(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let disconnect = Disconnect::decode(sender.version, packet)?;
        let session = self.sessions.get_mut(sender.session);
        if let Some(expiry_s) = disconnect.session_expiry_s {
            if session.expiry_s == 0 && expiry_s > 0 {
                return Err(Violation::SessionExpiryRaised);
            }
            session.expiry_s = expiry_s.min(self.limits.session_expiry_s_max);
        }
        let fate = match disconnect.reason {
            ReasonCode::Success => WillFate::Dropped,
            _ => WillFate::Due,
        };
        self.detach(sender.conn, sender.session, fate, io);
        self.close(sender.conn, io);
        Ok(Flow::Gone)
    }

    /// Ends a connection for a fault of its peer, with the reason where the peer understands one.
    /// [MQTT-4.13.2-1]
    pub(crate) fn refuse(&mut self, id: ConnId, violation: Violation, io: &mut EngineIo) {
        self.traffic.violations += 1;
        self.disconnect(id, violation.reason(), Some(&violation.to_string()), io);
    }

    /// Ends a connection from this side.
    pub(crate) fn disconnect(
        &mut self,
        id: ConnId,
        reason: ReasonCode,
        why: Option<&str>,
        io: &mut EngineIo,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (phase, version, explains) = (conn.phase, conn.version, conn.problem_information);
        if let Phase::Connected(session) = phase {
            if version == Version::V5 {
                let most = self.sessions.get(session).packet_bytes_max;
                let why = why.filter(|why| explains && why.len() + 16 < most as usize);
                encode_disconnect(reason, why, io.outbox(id).tail());
            }
            self.detach(id, session, WillFate::Due, io);
        }
        self.close(id, io);
    }

    /// Forgets a connection and has the driver close it.
    pub(crate) fn close(&mut self, id: ConnId, io: &mut EngineIo) {
        if self.forget_conn(id).is_some() {
            io.close(id);
        }
    }

    /// Forgets a connection.
    pub(crate) fn forget_conn(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(id)?;
        self.traffic.partial_bytes -= conn.carry.len() as u64;
        if let Some(timer) = conn.timer {
            self.wheel.cancel(timer);
        }
        for (ack, _) in &conn.acks.waiting {
            if let Ack::SubAck { replays, .. } = ack {
                replays.iter().for_each(|replay| self.replays.remove(*replay));
            }
        }
        Some(conn)
    }

    /// The peer is gone.
    pub(crate) fn on_closed(&mut self, id: ConnId, io: &mut EngineIo) {
        let Some(conn) = self.forget_conn(id) else { return };
        if let Phase::Connected(session) = conn.phase {
            self.detach(id, session, WillFate::Due, io);
        }
    }

    /// Another connection takes a session over. [MQTT-3.1.4-3]
    pub(crate) fn take_over(&mut self, session: SessionSlot, clean_start: bool, io: &mut EngineIo) {
        let Some(id) = self.sessions.get(session).conn else { return };
        if self.conns.get_mut(id).is_some_and(|conn| conn.version == Version::V5) {
            encode_disconnect(ReasonCode::SessionTakenOver, None, io.outbox(id).tail());
        }
        let resumes = !clean_start && self.sessions.get(session).expiry_s > 0;
        if resumes && self.sessions.get(session).will.as_ref().is_some_and(|will| will.delay_s > 0) {
            // The new connection comes before the delay has passed. [MQTT-3.1.3-9]
            self.drop_will(session);
        }
        self.detach(id, session, WillFate::Due, io);
        self.close(id, io);
    }

    /// A session's connection drained, or is gone.
    pub(crate) fn not_slow(&mut self, slot: SessionSlot) {
        if std::mem::take(&mut self.sessions.get_mut(slot).slow) {
            self.slow_sessions -= 1;
        }
    }

    /// Parts a session from its connection: the session waits for its client, or ends.
    fn detach(&mut self, id: ConnId, slot: SessionSlot, fate: WillFate, io: &mut EngineIo) {
        self.traffic.clients_connected -= 1;
        let session = self.sessions.get_mut(slot);
        debug_assert_eq!(session.conn, Some(id), "a connection parts from its own session");
        session.conn = None;
        session.aliases = None;
        self.not_slow(slot);
        if fate == WillFate::Dropped {
            self.drop_will(slot);
        }
        let session = self.sessions.get_mut(slot);
        let (key, expiry_s, record) = (session.key, session.expiry_s, session.record);
        if session.told_in.is_some() {
            self.log.append(Record::SessionClosed { session: record, expiry_s, at_ms: io.now.wall_ms });
        }
        if self.stopping {
            // Its end and its will are for the next start, if there is one. [MQTT-3.1.2-8]
            session.will = None;
            session.told_in = None;
        }
        if expiry_s == 0 {
            self.end_session(slot, io);
            return;
        }
        session.closed_at_ms = io.now.wall_ms;
        let delay_s = session.will.as_ref().map(|will| will.delay_s.min(expiry_s));
        if expiry_s != u32::MAX {
            let due = io.now.mono_ms + u64::from(expiry_s) * 1000;
            let timer = self.wheel.schedule(due, Timer::SessionExpiry(key));
            self.sessions.get_mut(slot).expiry_timer = Some(timer);
        }
        // Before the will goes out, lest it is given to this member of a group.
        self.set_presence(slot, Presence::Away, io);
        match delay_s {
            Some(0) => self.send_will(key, io),
            Some(delay_s) => {
                let due = io.now.mono_ms + u64::from(delay_s) * 1000;
                let timer = self.wheel.schedule(due, Timer::WillDelay(key));
                self.sessions.get_mut(slot).will_timer = Some(timer);
            }
            None => {}
        }
        self.redispatch_queue(slot, io);
    }

    /// Ends a session: its will is published, its subscriptions go, and what it still owed is dropped
    /// or, for a shared group, given to other members. [MQTT-3.1.2-23], [MQTT-4.8.2-5]
    pub(crate) fn end_session(&mut self, slot: SessionSlot, io: &mut EngineIo) {
        self.cancel_session_timers(slot);
        let subscriptions = std::mem::take(&mut self.sessions.get_mut(slot).subscriptions);
        for subscription in subscriptions {
            self.drop_subscription(slot, subscription, io);
        }
        let session = self.sessions.get_mut(slot);
        let (flights, queue) = session.out.clear();
        let mut moved = ShardSet::EMPTY;
        for landed in flights {
            self.ledger.queued -= 1;
            moved.union(&self.end_flight(slot, landed.flight, io));
        }
        for (_, entry) in queue {
            self.ledger.queued -= 1;
            moved.union(&self.give_up(slot, Some(entry), io));
        }
        moved.union(&self.publish_will(slot, io));
        let session = self.sessions.get_mut(slot);
        let taken: Vec<_> = session.taken.drain().map(|(_, taken)| taken).collect();
        for taken in taken {
            self.forget_publication(taken, io);
        }
        let session = self.sessions.remove(slot);
        self.state_bytes -= u64::from(session.state_bytes);
        if session.told_in.is_some() {
            // What moved to other shards has to be there before it is gone here.
            let done = Done::Ended(session.record);
            if let Some(done) = self.mesh.wait_accepted(&moved, self.config.strictest(), None, done) {
                self.finish(done, io);
            }
        }
    }

    /// One message under way to a session that ends; the caller has taken it off the ledger's queue. Answers
    /// where it was sent, if to other shards.
    fn end_flight(&mut self, slot: SessionSlot, flight: Flight, io: &mut EngineIo) -> ShardSet {
        match flight.progress {
            Progress::AwaitsPubAck => return self.give_up(slot, flight.again, io),
            // Its client may have it, so nobody else gets it. [MQTT-4.8.2-5]
            Progress::AwaitsPubRec => {
                drop_copy(self.sessions.get_mut(slot), &mut self.ledger, DropReason::SessionEnded);
                if let Some(entry) = flight.again {
                    self.log.release(entry.message());
                }
            }
            // Its client has it.
            Progress::AwaitsPubComp => self.ledger.delivered += 1,
            Progress::Done => unreachable!("what is done is not in flight"),
        }
        ShardSet::EMPTY
    }

    /// One message of a session that ends: to another member of its group, or dropped. Takes its
    /// reference; the caller has taken it off the ledger's queue. Answers where it was sent.
    fn give_up(&mut self, slot: SessionSlot, entry: Option<Queued>, io: &mut EngineIo) -> ShardSet {
        let mut moved = ShardSet::EMPTY;
        if let Some(entry) = entry
            && let Some(group) = entry.group()
            && let Some(shards) = self.redispatch(entry, group, io)
        {
            self.ledger.copies -= 1;
            moved = shards;
        } else {
            drop_copy(self.sessions.get_mut(slot), &mut self.ledger, DropReason::SessionEnded);
        }
        if let Some(entry) = entry {
            self.log.release(entry.message());
        }
        moved
    }

    /// Gives a message to another member of its group. The shard that it was sent to for that, if any; `None`
    /// when there is no member to take it, or it must not.
    fn redispatch(
        &mut self,
        entry: Queued,
        group: crate::ids::GroupId,
        io: &mut EngineIo,
    ) -> Option<ShardSet> {
        if entry.is_repeated() && entry.qos() == QoS::ExactlyOnce {
            // Its client may have it since before the start, and wait for PUBREL. [MQTT-4.8.2-5]
            return None;
        }
        let known = self.router.groups.get(group)?;
        if known.census_everywhere() == Census::default() {
            return None;
        }
        let key = known.key.clone();
        let view = self.log.message(entry.message());
        let qos = crate::deliver::qos_from(view.qos);
        let copy = crate::carried::CarriedMessage::new(&view, qos, false);
        let publication =
            Publication { view: copy.view(), qos, retain: Retained::No, publisher: None, number: None };
        Some(self.give_to_group(&key, &publication, Scope::AllShards, io))
    }

    /// Gives what waits for a client that went away to other members of the shared groups it came
    /// through, if any is connected.
    fn redispatch_queue(&mut self, slot: SessionSlot, io: &mut EngineIo) {
        let session = self.sessions.get_mut(slot);
        if !session.subscriptions.iter().any(|held| matches!(held, Subscription::Group(_))) {
            return;
        }
        let (first, waiting) = session.out.waiting();
        // What is given to this very session meanwhile stands behind what it had.
        for index in 0..waiting.len() {
            let session = self.sessions.get_mut(slot);
            let entry = session.out.waiting().1[index];
            // What its client may have at QoS 2 is its own. [MQTT-4.8.2-4]
            let may_be_there = entry.is_repeated() && entry.qos() == QoS::ExactlyOnce;
            let goes = entry.group().filter(|group| {
                let known = self.router.groups.get(*group);
                !may_be_there && known.is_some_and(|group| group.census_everywhere().online > 0)
            });
            let Some(shards) = goes.and_then(|group| self.redispatch(entry, group, io)) else { continue };
            self.ledger.queued -= 1;
            self.ledger.copies -= 1;
            let charged_bytes = self.log.message(entry.message()).charged_bytes() as u64;
            let session = self.sessions.get_mut(slot);
            session.out.vacate(index, charged_bytes);
            let (session, logged) = (session.record, session.persistent);
            let moved = Moved { session, number: first.plus(index), message: entry.message(), logged };
            let level = self.config.strictest();
            if let Some(done) = self.mesh.wait_accepted(&shards, level, None, Done::Moved(moved)) {
                self.finish(done, io);
            }
        }
    }

    /// A message is with another member of its group: it leaves the queue that it was in.
    pub(crate) fn on_moved(&mut self, moved: &Moved) {
        if moved.logged {
            self.log.append(Record::Completed { session: moved.session, number: moved.number, count: 1 });
        }
        self.log.release(moved.message);
    }

    /// Drops a session's will unpublished.
    fn drop_will(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        if session.will.take().is_some() && session.told_in.is_some() {
            self.log.append(Record::WillGone { session: session.record });
        }
    }

    /// Publishes the will of a session that goes on, if it has one. The log forgets it once it is with all
    /// shards that it went to: killed before that, it is published again.
    fn send_will(&mut self, key: SessionKey, io: &mut EngineIo) {
        let shards = self.publish_will(key.slot, io);
        let done = Done::WillOut(key);
        if let Some(done) = self.mesh.wait_accepted(&shards, self.config.strictest(), None, done) {
            self.finish(done, io);
        }
    }

    /// A will was published. What the session was told of since then is of another one.
    pub(crate) fn on_will_out(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.alive(key)
            && session.conn.is_none()
            && session.will.is_none()
            && session.told_in.is_some()
        {
            self.log.append(Record::WillGone { session: session.record });
        }
    }

    /// Publishes a session's will, if it has one. Answers where it was sent, if to other shards; the log is to
    /// be told when they have it. [MQTT-3.1.2-10]
    fn publish_will(&mut self, slot: SessionSlot, io: &mut EngineIo) -> ShardSet {
        let Some(will) = self.sessions.get_mut(slot).will.take() else { return ShardSet::EMPTY };
        let Will { topic, payload, properties, qos, retain, message_expiry_s, .. } = *will;
        let Ok(route) = self.router.route(topic.as_bytes(), RouteRef::default()) else {
            return ShardSet::EMPTY;
        };
        let publication = Publication {
            view: MessageView {
                topic: topic.as_bytes(),
                properties: &properties,
                payload: &payload,
                shared_payload: Some(&payload),
                qos: qos as u8,
                expires_at_ms: expires_at_ms(message_expiry_s, io.now.wall_ms),
            },
            qos,
            retain: if retain { Retained::AsPublished } else { Retained::No },
            publisher: None,
            number: None,
        };
        self.publish(route, &publication, io).shards
    }

    pub(crate) fn cancel_session_timers(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        for timer in [session.expiry_timer.take(), session.will_timer.take()].into_iter().flatten() {
            self.wheel.cancel(timer);
        }
    }

    /// A session's client came or went: its shared groups are told, here and on the other shards.
    pub(crate) fn set_presence(&mut self, slot: SessionSlot, presence: Presence, io: &mut EngineIo) {
        let groups: Vec<_> = self
            .sessions
            .get(slot)
            .subscriptions
            .iter()
            .filter_map(|held| match held {
                Subscription::Group(id) => Some(*id),
                Subscription::Filter(_) => None,
            })
            .collect();
        for id in groups {
            if let Some(group) = self.router.groups.get_mut(id) {
                group.set_online(slot, presence);
            }
            self.tell_census(id, io);
        }
    }

    /// The time has come for something. False if there was nothing to it any more.
    pub(crate) fn on_timer(&mut self, timer: Timer, io: &mut EngineIo) {
        match timer {
            Timer::ConnectDeadline(id) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.timer = None;
                    self.traffic.violations += 1;
                    self.close(id, io);
                }
            }
            Timer::KeepAlive(id) => self.check_silence(id, io),
            Timer::SessionExpiry(key) => self.expire_session(key, io),
            Timer::WillDelay(key) => {
                if let Some(session) = self.sessions.alive(key) {
                    session.will_timer = None;
                    self.send_will(key, io);
                }
            }
            Timer::Figures => self.publish_figures(io),
        }
    }

    fn expire_session(&mut self, key: SessionKey, io: &mut EngineIo) {
        if let Some(session) = self.sessions.alive(key) {
            session.expiry_timer = None;
            self.end_session(key.slot, io);
        }
    }

    /// Closes a connection that was silent for one and a half times its Keep Alive. [MQTT-3.1.2-22]
    fn check_silence(&mut self, id: ConnId, io: &mut EngineIo) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.timer = None;
        let due = conn.last_heard_ms + conn.silence_max_ms;
        // A connection that we do not read cannot be heard.
        if due > io.now.mono_ms || conn.held != crate::conn::Held::No {
            let again = due.max(io.now.mono_ms + 1000);
            conn.timer = Some(self.wheel.schedule(again, Timer::KeepAlive(id)));
            return;
        }
        self.disconnect(id, ReasonCode::KeepAliveTimeout, None, io);
    }

    /// Disconnects clients whose queue overflowed, where the operator wants that.
    pub(crate) fn drop_overflowed(&mut self, io: &mut EngineIo) {
        for id in std::mem::take(&mut self.overflowed) {
            self.disconnect(id, ReasonCode::QuotaExceeded, Some("the queue is full"), io);
        }
    }
}
