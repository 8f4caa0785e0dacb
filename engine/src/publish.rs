//! PUBLISH from a client, and the way of every message to those who subscribed. MQTT 5 section 3.3.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{Frame, Publish, QoS, ReasonCode, Version, forwardable};
use ringmq_storage::{Log, MessageView, PublicationRecord};
use ringmq_turn::{ConnId, ShardSet};

use crate::conn::{Ack, Flow, Held, Input, Readiness};
use crate::deliver::{Delivery, Kept, Publication, Retained};
use crate::exactly_once::{Again, carried_number, went_to_groups};
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::mesh::{CarriedMessage, Done, SHARED_PAYLOAD_BYTES_MIN, ShardMessage};
use crate::route::{RouteRef, TopicRefused};
use crate::run::{PLAIN_PUBLISH, Run};
use crate::session::Taken;
use crate::timers::expires_at_ms;
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// Where a message went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Routed {
    /// The shards whose acceptance an acknowledgement waits for.
    pub(crate) shards: ShardSet,
    /// Whether anybody is to have it.
    pub(crate) matched: bool,
    /// Whether a group's member on another shard is to have it.
    pub(crate) groups_elsewhere: bool,
    /// Whether somebody on this shard does not get it for want of room.
    pub(crate) refused: bool,
    /// Whether this shard's log has something of it.
    pub(crate) wrote: bool,
    /// Its number, if it has one.
    pub(crate) number: Option<PublicationRecord>,
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awaited {
    /// Shards that have to accept all that was sent to them.
    pub(crate) shards: ShardSet,
    /// The record that this shard's log has to have as safe as the listener's level says.
    pub(crate) logged: Option<u64>,
}

/// A connected client that sent a packet.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) conn: ConnId,
    pub(crate) session: SessionSlot,
    pub(crate) version: Version,
}

impl Routed {
    fn add(&mut self, other: &Self) {
        self.shards.union(&other.shards);
        self.matched |= other.matched;
        self.groups_elsewhere |= other.groups_elsewhere;
    }
}

impl From<TopicRefused> for Violation {
    fn from(refused: TopicRefused) -> Self {
        match refused {
            TopicRefused::Invalid(error) => Self::Malformed(error),
            TopicRefused::Levels => Self::TopicLevels,
        }
    }
}

impl<L: Log> Engine<L> {
    /// A PUBLISH packet, or the run of them that it starts.
    #[inline]
    pub(crate) fn on_publish(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        input: Input<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        if packet.first == PLAIN_PUBLISH {
            let v5 = sender.version == Version::V5;
            if let Some(run) = Run::at_start_of(input.rest, v5, self.limits.packet_bytes_max) {
                return self.on_run(sender, &run, io);
            }
        }
        self.on_single_publish(sender, packet, input, io)
    }

    fn on_run(&mut self, sender: Sender, run: &Run<'_>, io: &mut EngineIo) -> Result<Flow, Violation> {
        let route = self.route_for(sender.conn, run.topic)?;
        let found = self.router.get(route);
        let grouped = !found.groups.is_empty();
        let full = io.full_lanes();
        if !full.is_empty() && (grouped || found.remote.intersects(full)) {
            return Ok(Flow::Hold(Held::Lanes));
        }
        self.traffic.publishes_received += run.count;
        self.ledger.received += run.count;
        if found.reserved {
            self.ledger.copies += run.count;
            self.ledger.drop_copies(DropReason::ReservedTopic, run.count);
            return Ok(Flow::Used(run.packets.len()));
        }
        let remote = found.remote;
        if !remote.is_empty() {
            let carried = Arc::new(run.carried());
            for shard in remote.iter() {
                self.mesh.count_sent(shard);
                io.message(shard, ShardMessage::Run(Arc::clone(&carried)));
            }
        }
        let matched = self.deliver_run(route, run, Some(sender.session), io) || !remote.is_empty();
        if grouped {
            self.run_to_groups(route, run, matched, io);
        } else if !matched {
            self.ledger.copies += run.count;
            self.ledger.drop_copies(DropReason::NoSubscriber, run.count);
        }
        Ok(Flow::Used(run.packets.len()))
    }

    /// Delivers a run to the sessions of this shard. Whether there was any.
    pub(crate) fn deliver_run(
        &mut self,
        route: RouteRef,
        run: &Run<'_>,
        publisher: Option<SessionSlot>,
        io: &mut EngineIo,
    ) -> bool {
        let (router, mut delivery) = self.delivery(io);
        let found = router.get(route);
        let mut special = false;
        for target in &found.targets {
            special |= !delivery.deliver_run(run, target, publisher);
        }
        if special {
            for view in run.messages() {
                let publication =
                    Publication { view, qos: QoS::AtMostOnce, retain: Retained::No, publisher, number: None };
                delivery.restart();
                for target in &found.targets {
                    if !delivery.takes_runs(run, target) {
                        delivery.deliver(&publication, target, &found.lists, None);
                    }
                }
            }
        }
        !found.targets.is_empty()
    }

    fn route_for(&mut self, conn: ConnId, topic: &[u8]) -> Result<RouteRef, Violation> {
        let conn = self.conns.get_mut(conn).expect("a packet comes from an open connection");
        let route = self.router.route(topic, conn.route)?;
        conn.route = route;
        Ok(route)
    }

    fn on_single_publish(
        &mut self,
        sender: Sender,
        packet: &Frame<'_>,
        input: Input<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let publish = Publish::decode(sender.version, packet)?;
        if publish.properties.has_subscription_ids {
            return Err(Violation::SubscriptionIdFromClient);
        }
        let mut alias_topic = std::mem::take(&mut self.alias_scratch);
        let topic = self.topic_of(sender.conn, &publish, &mut alias_topic)?;
        let flow = self.take_publish(sender, &Publish { topic, ..publish }, input, io);
        self.alias_scratch = alias_topic;
        flow.map(|flow| if flow == Flow::Used(0) { Flow::Used(packet.total) } else { flow })
    }

    /// The topic of a PUBLISH, by its alias if it has none. [MQTT-3.3.2-9], [MQTT-3.3.2-10]
    fn topic_of<'a>(
        &mut self,
        conn: ConnId,
        publish: &Publish<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Violation> {
        let Some(alias) = publish.properties.topic_alias else {
            if publish.topic.is_empty() {
                return Err(Violation::TopicMissing);
            }
            return Ok(publish.topic);
        };
        if alias > self.limits.topic_alias_maximum {
            return Err(Violation::TopicAliasInvalid);
        }
        let conn = self.conns.get_mut(conn).expect("a packet comes from an open connection");
        let aliases = conn.aliases.get_or_insert_default();
        if !publish.topic.is_empty() {
            ringmq_codec::check_name(publish.topic)?;
            aliases.insert(alias, publish.topic.into());
            return Ok(publish.topic);
        }
        let topic = aliases.get(&alias).ok_or(Violation::TopicAliasInvalid)?;
        scratch.clear();
        scratch.extend_from_slice(topic);
        Ok(scratch)
    }

    /// A PUBLISH with its topic resolved. `Used(0)` stands for the whole packet.
    fn take_publish(
        &mut self,
        sender: Sender,
        publish: &Publish<'_>,
        input: Input<'_>,
        io: &mut EngineIo,
    ) -> Result<Flow, Violation> {
        let again = self.take_again(sender, publish, io);
        if again == Again::Acknowledged {
            return Ok(Flow::Used(0));
        }
        if again == Again::New {
            self.check_receive_maximum(sender, publish.qos)?;
        }
        let route = self.route_for(sender.conn, publish.topic)?;
        if self.is_blocked(route, publish, io) {
            return Ok(Flow::Hold(Held::Lanes));
        }
        self.traffic.publishes_received += 1;
        if self.router.get(route).reserved {
            self.refuse_reserved(sender, publish, io);
            return Ok(Flow::Used(0));
        }
        if publish.qos > QoS::AtMostOnce && self.is_full_for(route, publish) {
            return self.refuse_full(sender, publish, io);
        }
        let mut properties = std::mem::take(&mut self.properties_scratch);
        properties.clear();
        forwardable(publish.properties.raw, &mut properties);
        let shared = input
            .owner
            .filter(|_| publish.payload.len() >= SHARED_PAYLOAD_BYTES_MIN)
            .map(|owner| owner.slice_ref(publish.payload));
        let publication = Publication {
            view: MessageView {
                topic: publish.topic,
                properties: &properties,
                payload: publish.payload,
                shared_payload: shared.as_ref(),
                qos: publish.qos as u8,
                expires_at_ms: expires_at_ms(publish.properties.message_expiry_s, io.now.wall_ms),
            },
            qos: publish.qos,
            retain: if publish.retain { Retained::AsPublished } else { Retained::No },
            publisher: Some(sender.session),
            number: self.number_for(sender, publish.qos, again),
        };
        let (appended, refused) = (self.log.appended(), self.refused_copies);
        let mut routed = match again {
            Again::Unfinished(kept) => self.spread_elsewhere(route, &publication, went_to_groups(kept), io),
            Again::New | Again::Acknowledged => self.publish(route, &publication, io),
        };
        routed.refused = self.refused_copies > refused;
        routed.wrote = self.log.appended() > appended;
        routed.number = publication.number;
        self.properties_scratch = properties;
        if routed.refused && publish.qos > QoS::AtMostOnce && sender.version != Version::V5 {
            return Err(Violation::StorageFull);
        }
        self.taken(sender, publish, routed, io);
        Ok(Flow::Used(0))
    }

    /// Drops a message to a topic of the broker's own. MQTT 5 section 4.7.2
    fn refuse_reserved(&mut self, sender: Sender, publish: &Publish<'_>, io: &mut EngineIo) {
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

    /// The number of a publication that may concern other shards and must not be taken twice.
    fn number_for(&mut self, sender: Sender, qos: QoS, again: Again) -> Option<PublicationRecord> {
        match again {
            Again::Unfinished(kept) => Some(carried_number(kept)),
            Again::New | Again::Acknowledged => {
                let numbered = qos == QoS::ExactlyOnce
                    && !self.mesh.others.is_empty()
                    && self.sessions.get(sender.session).persistent;
                numbered.then(|| self.sessions.number_publication())
            }
        }
    }

    /// Acknowledges a QoS 1 or 2 message once everybody has it. [MQTT-4.3.2-4], [MQTT-4.3.3-8]
    fn taken(&mut self, sender: Sender, publish: &Publish<'_>, mut routed: Routed, io: &mut EngineIo) {
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
    fn is_full_for(&self, route: RouteRef, publish: &Publish<'_>) -> bool {
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
    fn refuse_full(
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

    fn check_receive_maximum(&mut self, sender: Sender, qos: QoS) -> Result<(), Violation> {
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

    /// Whether a message would have to go through a lane that is full.
    fn is_blocked(&self, route: RouteRef, publish: &Publish<'_>, io: &EngineIo) -> bool {
        let full = io.full_lanes();
        if full.is_empty() {
            return false;
        }
        let found = self.router.get(route);
        publish.retain || !found.groups.is_empty() || found.remote.intersects(full)
    }

    /// Sends a message to everybody who is to have it, on every shard, and stores it if it is retained.
    pub(crate) fn publish(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        io: &mut EngineIo,
    ) -> Routed {
        self.ledger.received += 1;
        let routed = self.spread(route, publication, io);
        if !routed.matched {
            self.ledger.copies += 1;
            self.ledger.drop_copy(DropReason::NoSubscriber);
        }
        routed
    }

    /// The same for a message that is not in the ledger as received, nor as dropped if nobody wants it.
    pub(crate) fn spread(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        io: &mut EngineIo,
    ) -> Routed {
        let mut carried = None;
        let mut routed = Routed::default();
        if publication.retain == Retained::AsPublished {
            routed.shards.union(&self.retain(publication, &mut carried, io));
        }
        let remote = self.send_to_interested(route, publication, &mut carried, io);
        routed.shards.union(&remote);
        routed.matched = self.deliver_here(route, publication, io) || !remote.is_empty();
        if !self.router.get(route).groups.is_empty() {
            routed.add(&self.give_to_groups(route, publication, &mut carried, io));
        }
        routed
    }

    /// Sends a message to the other shards once more, which know by its number whether they have it. This
    /// shard does.
    fn spread_elsewhere(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        groups_elsewhere: bool,
        io: &mut EngineIo,
    ) -> Routed {
        let mut carried = None;
        let mut routed = Routed { matched: true, ..Routed::default() };
        if publication.retain == Retained::AsPublished && !self.owns_retained(&publication.view) {
            routed.shards.union(&self.retain(publication, &mut carried, io));
        }
        routed.shards.union(&self.send_to_interested(route, publication, &mut carried, io));
        if groups_elsewhere {
            routed.add(&self.give_to_groups(route, publication, &mut carried, io));
        }
        routed
    }

    /// Sends a message to every other shard that has an interest in its topic.
    fn send_to_interested(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        carried: &mut Option<Arc<CarriedMessage>>,
        io: &mut EngineIo,
    ) -> ShardSet {
        let remote = self.router.get(route).remote;
        for shard in remote.iter() {
            self.mesh.count_sent(shard);
            io.message(shard, ShardMessage::Publish(carry(publication, carried)));
        }
        remote
    }

    /// Delivers to the sessions of this shard. Whether there was any.
    pub(crate) fn deliver_here(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        io: &mut EngineIo,
    ) -> bool {
        let (router, mut delivery) = self.delivery(io);
        let found = router.get(route);
        delivery.restart();
        for target in &found.targets {
            delivery.deliver(publication, target, &found.lists, None);
        }
        !found.targets.is_empty()
    }

    /// Everything that a delivery touches, and the routes beside it.
    pub(crate) fn delivery<'e>(
        &'e mut self,
        io: &'e mut EngineIo,
    ) -> (&'e crate::route::Router, Delivery<'e, L>) {
        let delivery = Delivery {
            sessions: &mut self.sessions,
            log: &mut self.log,
            ledger: &mut self.ledger,
            traffic: &mut self.traffic,
            encodings: &mut self.encodings,
            limits: &self.limits,
            slow_sessions: &mut self.slow_sessions,
            overflowed: &mut self.overflowed,
            groups: &self.router.groups,
            gated: self.syncs.then_some(&mut self.gated),
            refused: &mut self.refused_copies,
            kept: Kept::No,
            io,
        };
        (&self.router, delivery)
    }
}

/// The message in the form that travels between shards, made once.
pub(crate) fn carry(
    publication: &Publication<'_>,
    carried: &mut Option<Arc<CarriedMessage>>,
) -> Arc<CarriedMessage> {
    Arc::clone(carried.get_or_insert_with(|| Arc::new(carriable(publication))))
}

/// The message in the form that travels between shards.
pub(crate) fn carriable(publication: &Publication<'_>) -> CarriedMessage {
    let retain = publication.retain != Retained::No;
    let view = &publication.view;
    let number = publication.number;
    let shared = match view.shared_payload {
        None if view.payload.len() >= SHARED_PAYLOAD_BYTES_MIN => Some(Bytes::copy_from_slice(view.payload)),
        known => known.cloned(),
    };
    let view = MessageView { shared_payload: shared.as_ref(), ..*view };
    CarriedMessage::new(&view, publication.qos, retain).with_publication(number)
}
