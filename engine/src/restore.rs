//! From what the log held to sessions, subscriptions, queues, retained messages and wills, at the start.
//!
//! A shard tells the others of its subscriptions and then that it has [`ShardMessage::Recovered`]. Until
//! all of them have, it takes nothing from clients or the program and lets no timer fire: a message that
//! was acknowledged before everybody's subscriptions were known could miss a session.

use bytes::Bytes;
use ringmq_codec::{Version, check_filter};
use ringmq_storage::{
    Log, LogOffset, QueueNumber, Record, Recovered, RecoveredMessage, RecoveredSession,
    RecoveredSubscription, RecoveredWill, SegmentId,
};

use crate::deliver::qos_from;
use crate::ids::SessionSlot;
use crate::mesh::ShardMessage;
use crate::outgoing::{IdsRef, Queued};
use crate::retain::topic_of;
use crate::session::{NewSession, Subscription, Taken, Will};
use crate::shared::Presence;
use crate::subscribe::subscription_bytes;
use crate::timers::Timer;
use crate::tree::{Subscriber, SubscriberOptions};
use crate::{Engine, EngineIo};

impl<L: Log> Engine<L> {
    /// Takes over what the log held, and tells the other shards.
    pub(crate) fn restore(&mut self, recovered: Recovered, io: &mut EngineIo) {
        for at in recovered.retained {
            self.restore_retained(at);
        }
        for publication in recovered.came {
            self.came.insert(publication, SegmentId::default());
        }
        for session in recovered.sessions {
            if let Some(older) = self.sessions.find(&session.client_id) {
                // Its end was under way.
                self.sessions.disown(older);
                self.sessions.get_mut(older).expiry_s = 0;
            }
            self.restore_session(session, io);
        }
        for id in self.router.groups.ids() {
            self.tell_census(id, io);
        }
        let unfinished = self.unfinished();
        self.claims.extend(&unfinished);
        for shard in self.mesh.others.iter() {
            io.message(shard, ShardMessage::Recovered(unfinished.clone()));
        }
        self.recovering.remove(self.config.shard);
        if self.recovering.is_empty() {
            self.open(io);
        }
    }

    /// Every shard knows what every other recovered: life begins.
    pub(crate) fn open(&mut self, io: &mut EngineIo) {
        self.forget_unclaimed();
        for index in 0..self.sessions.slots_len() {
            let Some(session) = self.sessions.at(index) else { continue };
            if session.conn.is_none() && session.local.is_none() && session.expiry_s == 0 {
                // It would have ended with its connection, and that with the process; or its time ran out
                // while nobody was there.
                self.end_session(SessionSlot(index as u32), io);
            }
        }
        for command in std::mem::take(&mut self.commands) {
            self.on_command(command, io);
        }
    }

    fn restore_retained(&mut self, at: LogOffset) {
        let view = self.log.message(at);
        self.retained_bytes += view.charged_bytes() as u64;
        let topic = topic_of(&view).to_owned();
        if let Some(before) = self.retained.set(&topic, at) {
            self.forget_retained(before);
        }
    }

    fn restore_session(&mut self, recovered: RecoveredSession, io: &mut EngineIo) {
        let slot = self.sessions.create(&NewSession {
            client_id: &recovered.client_id,
            version: Version::V5,
            expiry_s: recovered.expiry_s,
            inflight_max: self.limits.inflight_messages_max,
            local: None,
            record: Some(recovered.record),
        });
        let closed_at_ms = recovered.closed_at_ms.unwrap_or(io.now.wall_ms);
        let session = self.sessions.get_mut(slot);
        session.persistent = true;
        session.told_in = Some(recovered.told_in);
        session.closed_at_ms = closed_at_ms;
        session.will = recovered.will.map(|will| Box::new(will_from(will)));
        session.taken.extend(recovered.taken.iter().map(|(packet_id, publication)| {
            (*packet_id, publication.map_or(Taken::Here, Taken::Unfinished))
        }));
        let bytes = 64 + session.client_id.len() as u32;
        session.state_bytes = bytes;
        self.state_bytes += u64::from(bytes);
        if recovered.closed_at_ms.is_none() {
            let (record, expiry_s) = (recovered.record, recovered.expiry_s);
            let closed = Record::SessionClosed { session: record, expiry_s, at_ms: closed_at_ms };
            self.log.append(closed);
        }
        for subscription in &recovered.subscriptions {
            self.restore_subscription(slot, subscription, io);
        }
        self.restore_messages(slot, recovered.messages, recovered.next);
        self.schedule_session(slot, io);
        self.log.end_unit();
    }

    fn restore_subscription(
        &mut self,
        slot: SessionSlot,
        subscription: &RecoveredSubscription,
        io: &mut EngineIo,
    ) {
        let RecoveredSubscription { filter, options, subscription_id } = subscription;
        let Ok(checked) = check_filter(filter) else { return };
        let mut packed = SubscriberOptions::new((options & 0b11).min(2));
        if options & 1 << 2 != 0 {
            packed = packed.with_no_local();
        }
        if options & 1 << 3 != 0 {
            packed = packed.with_retain_as_published();
        }
        let subscriber = Subscriber { session: slot, options: packed, subscription_id: *subscription_id };
        if checked.share.is_none() {
            self.subscribe_filter(filter, subscriber, io);
        } else {
            self.rejoin_group(filter, checked.filter, subscriber);
        }
        let bytes = subscription_bytes(filter);
        self.sessions.get_mut(slot).state_bytes += bytes;
        self.state_bytes += u64::from(bytes);
    }

    /// Enters a member whose client is away. The other shards are told once all are known.
    fn rejoin_group(&mut self, key: &str, filter: &str, subscriber: Subscriber) {
        let id = self.router.group(key, filter);
        let group = self.router.groups.get_mut(id).expect("the group was just found or made");
        if group.join(subscriber).is_none() {
            group.set_online(subscriber.session, Presence::Away);
            self.traffic.subscriptions += 1;
            self.sessions.get_mut(subscriber.session).subscriptions.push(Subscription::Group(id));
        }
    }

    fn restore_messages(&mut self, slot: SessionSlot, messages: Vec<RecoveredMessage>, next: QueueNumber) {
        let sent = messages.iter().rposition(|message| message.message.is_none()).map_or(0, |last| last + 1);
        let session = self.sessions.get_mut(slot);
        let first = messages.first().map_or(next, |first| first.number);
        session.out.begin_at(first, messages.len() - sent);
        let most = usize::from(self.limits.inflight_messages_max);
        for (index, recovered) in messages.into_iter().enumerate() {
            while session.out.next() < recovered.number {
                session.out.restore_gap();
            }
            self.ledger.copies += 1;
            self.ledger.queued += 1;
            let Some(at) = recovered.message else {
                session.out.restore_received();
                continue;
            };
            let (ids, group) = recovered.more.map_or_else(Default::default, |more| *more);
            let ids = match *ids {
                [] => IdsRef::NONE,
                [one] => IdsRef::one(one),
                [..] => session.keep_ids(IdsRef::listed(0), &[ids]),
            };
            let group = group.and_then(|key| self.router.groups.find(&key));
            let qos = qos_from(recovered.queued_as.qos);
            let mut entry = Queued::new(at, qos, recovered.queued_as.retain).with(group, ids);
            if index < most.max(sent) {
                // It may have been sent, since nothing is written of that. [MQTT-3.3.1-1]
                entry = entry.repeated();
            }
            if index < sent {
                session.out.restore_sent(entry);
            } else {
                session.out.push(entry, self.log.message(at).charged_bytes() as u64);
            }
        }
        while session.out.next() < next {
            session.out.restore_gap();
        }
        if self.syncs && session.out.queue_len() > 0 {
            // The last process may have been killed before they were.
            session.gate.next = Some((self.log.appended(), session.out.next()));
            self.gated.push(session.key);
        }
    }

    /// Sets the timers of a session whose client is away, or has it end at once.
    fn schedule_session(&mut self, slot: SessionSlot, io: &EngineIo) {
        let session = self.sessions.get(slot);
        let (key, expiry_s) = (session.key, session.expiry_s);
        let away_ms = io.now.wall_ms.saturating_sub(session.closed_at_ms);
        if expiry_s != u32::MAX && away_ms >= u64::from(expiry_s) * 1000 {
            // A timer that is due fires a little later, and its client may be the first to connect.
            self.sessions.get_mut(slot).expiry_s = 0;
            return;
        }
        let due = |after_s: u32| io.now.mono_ms + (u64::from(after_s) * 1000).saturating_sub(away_ms);
        let delay_s = session.will.as_ref().map(|will| will.delay_s.min(expiry_s));
        let expiry = (expiry_s != u32::MAX && expiry_s > 0)
            .then(|| self.wheel.schedule(due(expiry_s), Timer::SessionExpiry(key)));
        let will = delay_s.filter(|_| expiry_s > 0);
        let will = will.map(|delay_s| self.wheel.schedule(due(delay_s), Timer::WillDelay(key)));
        let session = self.sessions.get_mut(slot);
        session.expiry_timer = expiry;
        session.will_timer = will;
    }
}

fn will_from(will: RecoveredWill) -> Will {
    Will {
        topic: will.topic,
        payload: Bytes::from(will.payload),
        properties: will.properties,
        qos: qos_from(will.qos),
        retain: will.retain,
        delay_s: will.delay_s,
        message_expiry_s: will.message_expiry_s,
    }
}
