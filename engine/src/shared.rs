//! Shared subscriptions: groups whose members, on any shard, take turns. MQTT 5 section 4.8.2.
//!
//! A message is assigned when it is delivered, to a member that is connected; only a group with nobody
//! connected queues for one that is away.

use hashbrown::HashMap;
use ringmq_turn::ShardId;

use crate::hash::Hashing;
use crate::ids::{FilterId, GroupId, SessionSlot};
use crate::tree::Subscriber;

/// How many members of a group one shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Connected.
    pub online: u32,
    /// With a session, but away.
    pub away: u32,
}

/// One group on one filter.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/name/filter`.
    pub(crate) key: Box<str>,
    pub(crate) filter: FilterId,
    /// The connected ones first.
    members: Vec<Subscriber>,
    online: usize,
    elsewhere: Vec<(ShardId, Census)>,
    turn: u64,
    member_turn: usize,
}

/// Who takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// A member of this shard.
    Here(Subscriber),
    /// Some member of another shard.
    There(ShardId),
    /// The group has no member for it.
    Nobody,
}

/// How many members are looked at for one with room in its window.
const MEMBERS_TRIED_MAX: usize = 16;

impl Group {
    pub(crate) fn census(&self) -> Census {
        Census { online: self.online as u32, away: (self.members.len() - self.online) as u32 }
    }

    /// How many members it has on all shards.
    pub(crate) fn census_everywhere(&self) -> Census {
        self.elsewhere.iter().fold(self.census(), |sum, (_, more)| Census {
            online: sum.online + more.online,
            away: sum.away + more.away,
        })
    }

    /// The membership of a session.
    pub(crate) fn member(&self, session: SessionSlot) -> Option<&Subscriber> {
        self.members.iter().find(|member| member.session == session)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.elsewhere.is_empty()
    }

    /// Enters a connected member, or replaces its options; tells which it was.
    pub(crate) fn join(&mut self, member: Subscriber) -> Option<Subscriber> {
        if let Some(known) = self.members.iter_mut().find(|known| known.session == member.session) {
            return Some(std::mem::replace(known, member));
        }
        self.members.push(member);
        let last = self.members.len() - 1;
        self.members.swap(self.online, last);
        self.online += 1;
        None
    }

    /// Takes a member out.
    pub(crate) fn leave(&mut self, session: SessionSlot) -> Option<Subscriber> {
        self.set_online(session, Presence::Away);
        let at = self.members.iter().position(|member| member.session == session)?;
        Some(self.members.swap_remove(at))
    }

    /// A member's client came or went.
    pub(crate) fn set_online(&mut self, session: SessionSlot, presence: Presence) {
        let Some(at) = self.members.iter().position(|member| member.session == session) else { return };
        match (presence, at < self.online) {
            (Presence::Online, false) => {
                self.members.swap(at, self.online);
                self.online += 1;
            }
            (Presence::Away, true) => {
                self.online -= 1;
                self.members.swap(at, self.online);
            }
            (Presence::Online, true) | (Presence::Away, false) => {}
        }
    }

    /// Another shard says how many members it has.
    pub(crate) fn set_elsewhere(&mut self, shard: ShardId, census: Census) {
        self.elsewhere.retain(|(other, _)| *other != shard);
        if census != Census::default() {
            self.elsewhere.push((shard, census));
        }
    }

    /// Chooses who takes the next message: the shards in turn, in proportion to their connected members,
    /// then a member by `has_room`. With nobody connected, one that is away takes it if `may_queue`.
    pub(crate) fn pick(&mut self, queueing: Queueing, has_room: impl Fn(SessionSlot) -> bool) -> Pick {
        let online: u64 = self.elsewhere.iter().map(|(_, census)| u64::from(census.online)).sum();
        let total = online + self.online as u64;
        self.turn = self.turn.wrapping_add(1);
        if total > 0 {
            let mut at = self.turn % total;
            if at < self.online as u64 {
                return Pick::Here(self.pick_online(has_room));
            }
            at -= self.online as u64;
            return self.elsewhere_at(at, |census| census.online);
        }
        if queueing == Queueing::Refused {
            return Pick::Nobody;
        }
        let away: u64 = self.elsewhere.iter().map(|(_, census)| u64::from(census.away)).sum();
        let total = away + self.members.len() as u64;
        if total == 0 {
            return Pick::Nobody;
        }
        let at = self.turn % total;
        match self.members.get(at as usize) {
            Some(member) => Pick::Here(*member),
            None => self.elsewhere_at(at - self.members.len() as u64, |census| census.away),
        }
    }

    /// Chooses among the members of this shard only.
    pub(crate) fn pick_here(&mut self, queueing: Queueing, has_room: impl Fn(SessionSlot) -> bool) -> Pick {
        if self.online > 0 {
            return Pick::Here(self.pick_online(has_room));
        }
        if queueing == Queueing::Refused || self.members.is_empty() {
            return Pick::Nobody;
        }
        self.turn = self.turn.wrapping_add(1);
        Pick::Here(self.members[(self.turn % self.members.len() as u64) as usize])
    }

    fn pick_online(&mut self, has_room: impl Fn(SessionSlot) -> bool) -> Subscriber {
        let first = self.member_turn % self.online;
        let tried = MEMBERS_TRIED_MAX.min(self.online);
        let chosen = (0..tried)
            .map(|step| (first + step) % self.online)
            .find(|&at| has_room(self.members[at].session))
            .unwrap_or(first);
        self.member_turn = chosen + 1;
        self.members[chosen]
    }

    fn elsewhere_at(&self, mut at: u64, count: impl Fn(&Census) -> u32) -> Pick {
        for (shard, census) in &self.elsewhere {
            let here = u64::from(count(census));
            if at < here {
                return Pick::There(*shard);
            }
            at -= here;
        }
        Pick::Nobody
    }
}

/// Whether a member's client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is.
    Online,
    /// Its session waits for it.
    Away,
}

/// Whether a message may wait for a member that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queueing {
    /// QoS 1 and 2.
    Allowed,
    /// QoS 0.
    Refused,
}

/// The groups that this shard knows, by id and by key. An id is never used twice: a queued message may
/// remember a group that is gone.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: HashMap<GroupId, Group, Hashing>,
    by_key: HashMap<Box<str>, GroupId, Hashing>,
    next: u32,
}

impl Groups {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { groups: HashMap::with_hasher(hashing), by_key: HashMap::with_hasher(hashing), next: 0 }
    }

    pub(crate) fn find(&self, key: &str) -> Option<GroupId> {
        self.by_key.get(key).copied()
    }

    /// The id that the next group will have.
    pub(crate) fn next_id(&self) -> GroupId {
        GroupId(self.next)
    }

    /// Enters an empty group under [`Groups::next_id`].
    pub(crate) fn create(&mut self, key: &str, filter: FilterId) -> GroupId {
        let id = self.next_id();
        self.next += 1;
        let group = Group {
            key: key.into(),
            filter,
            members: Vec::new(),
            online: 0,
            elsewhere: Vec::new(),
            turn: 0,
            member_turn: 0,
        };
        self.groups.insert(id, group);
        self.by_key.insert(key.into(), id);
        id
    }

    pub(crate) fn remove(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        self.by_key.remove(&group.key);
        Some(group)
    }

    /// Every group, oldest first.
    pub(crate) fn ids(&self) -> Vec<GroupId> {
        let mut ids: Vec<_> = self.groups.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }
}
