//! Messages for shared groups: to one member each, on whichever shard. MQTT 5 section 4.8.2.

use std::sync::Arc;

use ringmq_codec::QoS;
use ringmq_storage::Log;
use ringmq_turn::{ShardId, ShardSet};

use crate::carried::CarriedMessage;
use crate::deliver::{Publication, Retained};
use crate::ids::{GroupId, SessionSlot};
use crate::ledger::DropReason;
use crate::mesh::ShardMessage;
use crate::publish::{Routed, carry};
use crate::route::{RouteRef, Target};
use crate::run::Run;
use crate::shared::{Pick, Queueing};
use crate::{Engine, EngineIo};

/// How many times a message for a shared group is sent on to another shard. Each shard knows by then who
/// was left on the one before, so only members that come and go make it wander.
const GROUP_HOPS_MAX: u8 = 16;

/// Where a member of a shared group is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    AllShards,
    /// The message was sent here for the purpose by another shard, and may go back so many times.
    ThisShard {
        hops: u8,
        from: ShardId,
    },
    /// The message came back from where it was sent, and may go out again so many times.
    Again {
        hops: u8,
    },
}

impl Scope {
    fn hops(self) -> u8 {
        match self {
            Self::AllShards => GROUP_HOPS_MAX,
            Self::ThisShard { hops, .. } | Self::Again { hops } => hops,
        }
    }
}

impl<L: Log> Engine<L> {
    /// Gives each message of a run to one member of each shared group of its route.
    pub(crate) fn run_to_groups(&mut self, route: RouteRef, run: &Run<'_>, matched: bool, io: &mut EngineIo) {
        for view in run.messages() {
            let publication = Publication {
                view,
                qos: QoS::AtMostOnce,
                retain: Retained::No,
                publisher: None,
                number: None,
            };
            let routed = self.give_to_groups(route, &publication, &mut None, io);
            if !matched && !routed.matched {
                self.ledger.copies += 1;
                self.ledger.drop_copy(DropReason::NoSubscriber);
            }
        }
    }

    /// Gives the message to one member of each shared group of its route.
    pub(crate) fn give_to_groups(
        &mut self,
        route: RouteRef,
        publication: &Publication<'_>,
        carried: &mut Option<Arc<CarriedMessage>>,
        io: &mut EngineIo,
    ) -> Routed {
        let groups = self.router.get(route).groups.clone();
        let mut there: Vec<(ShardId, Box<str>)> = Vec::new();
        let mut routed = Routed::default();
        for group in groups {
            match self.pick(group, publication.qos, Scope::AllShards) {
                Pick::Here(member) => {
                    self.deliver_to_member(group, &Target::of(&member), publication, io);
                    routed.matched = true;
                }
                Pick::There(shard) => {
                    let key = self.router.groups.get(group).map(|group| group.key.clone());
                    there.extend(key.map(|key| (shard, key)));
                    routed.matched = true;
                    routed.groups_elsewhere = true;
                }
                Pick::Nobody => {}
            }
        }
        while let Some(&(shard, _)) = there.first() {
            let (mine, others) = there.into_iter().partition(|(other, _)| *other == shard);
            there = others;
            let groups = Vec::into_iter(mine).map(|(_, key): (_, Box<str>)| key).collect();
            self.mesh.count_sent(shard);
            let message = carry(publication, carried);
            io.message(shard, ShardMessage::ToGroups { message, groups, hops: GROUP_HOPS_MAX });
            routed.shards.insert(shard);
        }
        routed
    }

    /// Delivers to one member of a group, wherever it is. The shard that it was sent to, or back to, if it was.
    pub(crate) fn give_to_group(
        &mut self,
        key: &str,
        publication: &Publication<'_>,
        scope: Scope,
        io: &mut EngineIo,
    ) -> ShardSet {
        let mut sent_to = ShardSet::EMPTY;
        let Some(group) = self.router.groups.find(key) else {
            self.no_member();
            return sent_to;
        };
        let goes_on = scope.hops() > 0 && self.left_for_others(group);
        let picked = match scope {
            Scope::ThisShard { .. } if !goes_on => self.pick(group, publication.qos, scope),
            Scope::ThisShard { .. } | Scope::AllShards | Scope::Again { .. } => {
                self.pick(group, publication.qos, Scope::AllShards)
            }
        };
        match (picked, scope) {
            (Pick::Here(member), _) => {
                self.deliver_to_member(group, &Target::of(&member), publication, io);
            }
            (Pick::There(_), Scope::ThisShard { hops, from }) => {
                // Whoever acknowledges it has to know where it is, so it is theirs to send on.
                let (message, group) = (carry(publication, &mut None), key.into());
                let number = self.mesh.received_from(from);
                io.message(from, ShardMessage::Returned { message, group, hops: hops - 1, number });
                sent_to.insert(from);
            }
            (Pick::There(shard), Scope::AllShards | Scope::Again { .. }) => {
                let (message, groups) = (carry(publication, &mut None), [key.into()].into());
                self.mesh.count_sent(shard);
                io.message(shard, ShardMessage::ToGroups { message, groups, hops: scope.hops() });
                sent_to.insert(shard);
            }
            (Pick::Nobody, _) => self.no_member(),
        }
        sent_to
    }

    /// Whether members left this shard while a message was on its way here, so that others have to take
    /// it: those that are connected elsewhere, or if there is no member here at all, any.
    fn left_for_others(&self, group: GroupId) -> bool {
        self.router.groups.get(group).is_some_and(|group| {
            let (here, everywhere) = (group.census(), group.census_everywhere());
            here.online == 0 && (everywhere.online > 0 || here.away == 0)
        })
    }

    fn no_member(&mut self) {
        self.ledger.copies += 1;
        self.ledger.drop_copy(DropReason::NoSubscriber);
    }

    fn pick(&mut self, group: GroupId, qos: QoS, scope: Scope) -> Pick {
        let sessions = &self.sessions;
        let has_room = |slot: SessionSlot| {
            let out = &sessions.get(slot).out;
            out.has_room() && out.queue_len() == 0
        };
        let queueing = if qos == QoS::AtMostOnce { Queueing::Refused } else { Queueing::Allowed };
        match self.router.groups.get_mut(group) {
            Some(group) if scope != Scope::AllShards => group.pick_here(queueing, has_room),
            Some(group) => group.pick(queueing, has_room),
            None => Pick::Nobody,
        }
    }

    fn deliver_to_member(
        &mut self,
        group: GroupId,
        target: &Target,
        publication: &Publication<'_>,
        io: &mut EngineIo,
    ) {
        let (_, mut delivery) = self.delivery(io);
        delivery.restart();
        delivery.deliver(publication, target, &[], Some(group));
    }
}
