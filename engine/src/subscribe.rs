//! SUBSCRIBE and UNSUBSCRIBE, and what the other shards are told of them. MQTT 5 sections 3.8 to 3.11.

use ringmq_codec::{
    Frame, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe, check_filter,
};
use ringmq_storage::{Level, Log, Record};
use ringmq_turn::ShardSet;

use crate::acknowledge::Awaited;
use crate::conn::{Ack, Flow, Readiness};
use crate::ids::{GroupId, SessionSlot};
use crate::mesh::{Done, ReplayId, ShardMessage, WaitId};
use crate::publish::Sender;
use crate::replay::Replay;
use crate::route::{Interest, Target};
use crate::session::Subscription;
use crate::tree::{Subscriber, SubscriberOptions};
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// One subscription that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) filter: &'a str,
    pub(crate) options: SubscriptionOptions,
    /// The Subscription Identifier; 0 for none.
    pub(crate) id: u32,
}

/// The result of a subscription.
pub(crate) struct Granted {
    pub(crate) reason: ReasonCode,
    /// What it entails, to begin once it is acknowledged.
    pub(crate) replay: Option<ReplayId>,
}

impl Granted {
    fn refused(reason: ReasonCode) -> Self {
        Self { reason, replay: None }
    }
}

impl<L: Log> Engine<L> {
    pub(crate) fn on_subscribe(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let subscribe = Subscribe::decode(sender.version, packet)?;
        let id = subscribe.subscription_id.unwrap_or(0);
        let (mut reasons, mut replays) = (Vec::new(), Vec::new());
        for wanted in subscribe.filters {
            let wanted = Wanted { filter: wanted.filter, options: wanted.options, id };
            let granted = self.subscribe(sender.session, &wanted, io);
            reasons.push(granted.reason);
            replays.extend(granted.replay);
        }
        let ack = Ack::SubAck { id: subscribe.packet_id, reasons, replays };
        let level = self.conns.get_mut(sender.conn).map_or(Level::Memory, |conn| conn.level);
        let persistent = self.sessions.get(sender.session).persistent;
        let record = Some(self.log.appended()).filter(|last| persistent && self.log.reached(level) < *last);
        if self.mesh.others.is_empty() && record.is_none() {
            // Also before acknowledgements that wait: only those of publications have an order to keep.
            self.send_ack(sender.conn, ack, io);
            return Ok(Flow::Used(packet.total));
        }
        let number = self.queue_ack(sender.conn, ack, Readiness::Waits);
        let wait = self.mesh.begin_barrier(level, record, Done::Ack { conn: sender.conn, number });
        self.set_barrier(wait, io);
        Ok(Flow::Used(packet.total))
    }

    /// Asks every other shard to confirm all that it was told.
    pub(crate) fn set_barrier(&mut self, wait: WaitId, io: &mut EngineIo) {
        for shard in self.mesh.others.iter() {
            io.message(shard, ShardMessage::Barrier(wait));
        }
    }

    /// Makes or replaces one subscription of a session.
    pub(crate) fn subscribe(
        &mut self,
        session: SessionSlot,
        wanted: &Wanted<'_>,
        io: &mut EngineIo,
    ) -> Granted {
        let filter = match check_filter(wanted.filter) {
            Ok(filter) => filter,
            Err(error) => return Granted::refused(error.reason()),
        };
        if self.router.check_levels(filter.filter).is_err() {
            return Granted::refused(ReasonCode::TopicFilterInvalid);
        }
        if self.config.refused_filters.iter().any(|refused| *refused == *wanted.filter) {
            return Granted::refused(ReasonCode::UnspecifiedError);
        }
        let held = &self.sessions.get(session).subscriptions;
        if held.len() >= self.limits.subscriptions_max as usize
            && !self.known(wanted.filter).is_some_and(|known| held.contains(&known))
        {
            return Granted::refused(ReasonCode::QuotaExceeded);
        }
        let subscriber =
            Subscriber { session, options: options_of(&wanted.options), subscription_id: wanted.id };
        let is_new = if filter.share.is_some() {
            self.join_group(wanted.filter, filter.filter, subscriber, io)
        } else {
            self.subscribe_filter(wanted.filter, subscriber, io)
        };
        let target = self.sessions.get_mut(session);
        let bytes = subscription_bytes(wanted.filter);
        if is_new {
            target.state_bytes += bytes;
            self.state_bytes += u64::from(bytes);
        }
        if target.told_in.is_some() {
            let record = Record::Subscribed {
                session: target.record,
                filter: wanted.filter,
                options: wanted.options.encode(ringmq_codec::Version::V5),
                subscription_id: wanted.id,
            };
            self.log.append(record);
        }
        let wants_retained = match wanted.options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendAtSubscribeIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        let key = target.key;
        let replay = (wants_retained && filter.share.is_none())
            .then(|| self.plan_replay(Replay::new(key, Target::of(&subscriber), wanted.filter)));
        Granted { reason: granted(wanted.options.qos), replay }
    }

    pub(crate) fn subscribe_filter(
        &mut self,
        filter: &str,
        subscriber: Subscriber,
        io: &mut EngineIo,
    ) -> bool {
        let made = self.router.tree.subscribe(filter, subscriber);
        self.router.changed(filter);
        if made.first_local {
            self.tell_interest(filter, Interest::Gained, io);
        }
        let is_new = made.replaced.is_none();
        if is_new {
            self.traffic.subscriptions += 1;
            self.sessions.get_mut(subscriber.session).subscriptions.push(Subscription::Filter(made.id));
        }
        is_new
    }

    pub(crate) fn join_group(
        &mut self,
        key: &str,
        filter: &str,
        subscriber: Subscriber,
        io: &mut EngineIo,
    ) -> bool {
        let id = self.router.group(key, filter);
        let group = self.router.groups.get_mut(id).expect("the group was just found or made");
        let is_new = group.join(subscriber).is_none();
        if is_new {
            self.traffic.subscriptions += 1;
            self.sessions.get_mut(subscriber.session).subscriptions.push(Subscription::Group(id));
            self.tell_census(id, io);
        }
        is_new
    }

    fn tell_interest(&self, filter: &str, change: Interest, io: &mut EngineIo) {
        for shard in self.mesh.others.iter() {
            io.message(shard, ShardMessage::Interest { filter: filter.into(), change });
        }
    }

    /// Tells the other shards how many members of a group are here.
    pub(crate) fn tell_census(&self, id: GroupId, io: &mut EngineIo) {
        let Some(group) = self.router.groups.get(id) else { return };
        for shard in self.mesh.others.iter() {
            let census = ShardMessage::Census { key: group.key.clone(), census: group.census() };
            io.message(shard, census);
        }
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let unsubscribe = Unsubscribe::decode(sender.version, packet)?;
        let mut reasons = Vec::new();
        for filter in unsubscribe.filters {
            reasons.push(self.unsubscribe(sender.session, filter, io));
        }
        let ack = Ack::UnsubAck(unsubscribe.packet_id, reasons);
        let level = self.conns.get_mut(sender.conn).map_or(Level::Memory, |conn| conn.level);
        let persistent = self.sessions.get(sender.session).persistent;
        match Some(self.log.appended()).filter(|last| persistent && self.log.reached(level) < *last) {
            None => self.send_ack(sender.conn, ack, io),
            logged => self.acknowledge(sender, ack, &Awaited { shards: ShardSet::EMPTY, logged }, io),
        }
        let open = self.conns.get_mut(sender.conn).is_some();
        Ok(if open { Flow::Used(packet.total) } else { Flow::Gone })
    }

    /// What a filter is known as, if anybody subscribed to it.
    fn known(&self, filter: &str) -> Option<Subscription> {
        match self.router.groups.find(filter) {
            Some(group) => Some(Subscription::Group(group)),
            None => self.router.tree.find(filter).map(Subscription::Filter),
        }
    }

    /// Ends one subscription of a session. Filters are compared byte for byte. [MQTT-3.10.4-1]
    pub(crate) fn unsubscribe(
        &mut self,
        session: SessionSlot,
        filter: &str,
        io: &mut EngineIo,
    ) -> ReasonCode {
        if let Err(error) = check_filter(filter) {
            return error.reason();
        }
        let subscription = self.known(filter);
        let held = &mut self.sessions.get_mut(session).subscriptions;
        let at = subscription.and_then(|wanted| held.iter().position(|held| *held == wanted));
        let Some(at) = at else { return ReasonCode::NoSubscriptionExisted };
        let subscription = held.swap_remove(at);
        self.drop_subscription(session, subscription, io);
        let session = self.sessions.get_mut(session);
        session.state_bytes -= subscription_bytes(filter);
        self.state_bytes -= u64::from(subscription_bytes(filter));
        if session.told_in.is_some() {
            self.log.append(Record::Unsubscribed { session: session.record, filter });
        }
        ReasonCode::Success
    }

    /// Takes a session out of a filter or group; the session's own list is the caller's to mend.
    pub(crate) fn drop_subscription(
        &mut self,
        session: SessionSlot,
        subscription: Subscription,
        io: &mut EngineIo,
    ) {
        self.traffic.subscriptions -= 1;
        match subscription {
            Subscription::Filter(id) => {
                let filter: Box<str> = self.router.tree.text(id).into();
                let gone = self.router.tree.unsubscribe(id, session);
                self.router.changed(&filter);
                if gone.last_local {
                    self.tell_interest(&filter, Interest::Lost, io);
                }
            }
            Subscription::Group(id) => {
                if let Some(group) = self.router.groups.get_mut(id) {
                    group.leave(session);
                }
                self.tell_census(id, io);
                self.router.drop_empty_group(id);
            }
        }
    }
}

/// What a subscription takes in the log, about.
pub(crate) fn subscription_bytes(filter: &str) -> u32 {
    24 + filter.len() as u32
}

pub(crate) fn options_of(options: &SubscriptionOptions) -> SubscriberOptions {
    let mut packed = SubscriberOptions::new(options.qos as u8);
    if options.no_local {
        packed = packed.with_no_local();
    }
    if options.retain_as_published {
        packed = packed.with_retain_as_published();
    }
    packed
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
