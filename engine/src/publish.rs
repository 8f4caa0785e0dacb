//! PUBLISH from a client, and the way of every message to those who subscribed. MQTT 5 section 3.3.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{Frame, Publish, QoS, Version, forwardable};
use ringmq_storage::{Log, MessageView};
use ringmq_turn::{ConnId, ShardSet};

use crate::carried::{CarriedMessage, SHARED_PAYLOAD_BYTES_MIN};
use crate::conn::{Flow, Held, Input};
use crate::deliver::{Delivery, Kept, Publication, Retained};
use crate::exactly_once::{Again, Numbered, carried_number, went_to_groups};
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::mesh::ShardMessage;
use crate::route::{RouteRef, TopicRefused};
use crate::run::{PLAIN_PUBLISH, Run};
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
    pub(crate) number: Option<Numbered>,
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

    /// The number of a publication that may concern other shards and must not be taken twice.
    fn number_for(&mut self, sender: Sender, qos: QoS, again: Again) -> Option<Numbered> {
        match again {
            Again::Unfinished(kept) => Numbered::new(carried_number(kept)),
            Again::New | Again::Acknowledged => {
                let numbered = qos == QoS::ExactlyOnce
                    && !self.mesh.others.is_empty()
                    && self.sessions.get(sender.session).persistent;
                let number = numbered.then(|| self.sessions.number_publication());
                number.and_then(Numbered::new)
            }
        }
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
            // A shard that has it for one of several groups may not have it for another.
            let is_one = self.router.get(route).groups.len() == 1;
            let number = publication.number.filter(|_| is_one);
            routed.add(&self.give_to_groups(route, &Publication { number, ..*publication }, &mut None, io));
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
            completions: &mut self.completions,
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
    let number = publication.number.map(Numbered::number);
    let shared = match view.shared_payload {
        None if view.payload.len() >= SHARED_PAYLOAD_BYTES_MIN => Some(Bytes::copy_from_slice(view.payload)),
        known => known.cloned(),
    };
    let view = MessageView { shared_payload: shared.as_ref(), ..*view };
    CarriedMessage::new(&view, publication.qos, retain).with_publication(number)
}
