//! From a topic name to everybody who is to have its messages.

use ringmq_codec::{DecodeError, check_name};
use ringmq_turn::{ShardId, ShardSet};

use crate::hash::Hashing;
use crate::ids::{FilterId, GroupId, SessionSlot};
use crate::outgoing::IdsRef;
use crate::shared::{Census, Group, Groups};
use crate::tree::{Subscriber, SubscriberOptions, TopicTree};

/// One session that is to have the messages of a topic, with the options of all its matching
/// subscriptions taken together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) session: SessionSlot,
    pub(crate) options: SubscriberOptions,
    pub(crate) ids: IdsRef,
}

/// Everybody who is to have the messages of one topic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    topic: Vec<u8>,
    epoch: u64,
    pub(crate) targets: Vec<Target>,
    pub(crate) lists: Vec<Box<[u32]>>,
    pub(crate) remote: ShardSet,
    pub(crate) groups: Vec<GroupId>,
    /// Only the broker itself publishes to the topic.
    pub(crate) reserved: bool,
}

/// Names a route until the next one is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteRef(u32);

/// Slots of the route cache; a power of two. A topic has one slot that it can be in.
const ROUTES_MAX: usize = 4096;
/// Targets in all cached routes, beyond which the cache starts afresh.
const CACHED_TARGETS_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(ROUTES_MAX.is_power_of_two());

/// A topic name that no message may have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicRefused {
    /// It is not a topic name.
    Invalid(DecodeError),
    /// It has more levels than the configuration allows.
    Levels,
}

/// The subscriptions that a shard knows, and the routes that follow from them.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) tree: TopicTree,
    pub(crate) groups: Groups,
    routes: Vec<Route>,
    epoch: u64,
    cached_targets: usize,
    hashing: Hashing,
    levels_max: usize,
    matched: Vec<FilterId>,
}

impl Router {
    pub(crate) fn new(hashing: Hashing, seed: u64, levels_max: u16) -> Self {
        let mut routes = Vec::new();
        routes.resize_with(ROUTES_MAX, Route::default);
        Self {
            tree: TopicTree::new(seed),
            groups: Groups::new(hashing),
            routes,
            epoch: 1,
            cached_targets: 0,
            hashing,
            levels_max: usize::from(levels_max),
            matched: Vec::new(),
        }
    }

    /// A route that was just looked up.
    #[inline]
    pub(crate) fn get(&self, at: RouteRef) -> &Route {
        &self.routes[at.0 as usize]
    }

    /// The route of a topic. `hint` is where the caller found its last one.
    #[inline]
    pub(crate) fn route(&mut self, topic: &[u8], hint: RouteRef) -> Result<RouteRef, TopicRefused> {
        if self.holds(hint, topic) {
            return Ok(hint);
        }
        let at = self.slot_of(topic);
        if !self.holds(at, topic) {
            self.compile(at, topic)?;
        }
        Ok(at)
    }

    #[inline]
    fn holds(&self, at: RouteRef, topic: &[u8]) -> bool {
        let route = &self.routes[at.0 as usize];
        route.epoch == self.epoch && route.topic == topic
    }

    fn slot_of(&self, topic: &[u8]) -> RouteRef {
        RouteRef((self.hashing.of(topic) as usize & (ROUTES_MAX - 1)) as u32)
    }

    fn compile(&mut self, at: RouteRef, topic: &[u8]) -> Result<(), TopicRefused> {
        let name = check_name(topic).map_err(TopicRefused::Invalid)?;
        self.check_levels(name)?;
        let route = &mut self.routes[at.0 as usize];
        self.cached_targets -= route.targets.len();
        route.restart(topic, self.epoch);
        self.matched.clear();
        self.tree.matches(name, &mut self.matched);
        for &filter in &self.matched {
            route.targets.extend(self.tree.locals(filter).map(Target::of));
            route.groups.extend_from_slice(self.tree.groups(filter));
            route.remote.union(&self.tree.remote(filter));
        }
        if self.matched.len() > 1 {
            route.merge_sessions();
        }
        self.cached_targets += route.targets.len();
        if self.cached_targets > CACHED_TARGETS_MAX {
            self.keep_only(at);
        }
        Ok(())
    }

    /// Refuses a name or filter of too many levels.
    pub(crate) fn check_levels(&self, name: &str) -> Result<(), TopicRefused> {
        let levels = name.bytes().filter(|&byte| byte == b'/').count() + 1;
        if levels > self.levels_max { Err(TopicRefused::Levels) } else { Ok(()) }
    }

    fn keep_only(&mut self, at: RouteRef) {
        for (index, route) in self.routes.iter_mut().enumerate() {
            if index != at.0 as usize {
                *route = Route::default();
            }
        }
        self.cached_targets = self.get(at).targets.len();
    }

    /// The subscribers of a filter changed.
    pub(crate) fn changed(&mut self, filter: &str) {
        if filter.contains(['+', '#']) {
            self.epoch += 1;
            return;
        }
        let at = self.slot_of(filter.as_bytes());
        if self.holds(at, filter.as_bytes()) {
            self.routes[at.0 as usize].epoch = 0;
        }
    }

    /// The group of a key, made if there is none.
    pub(crate) fn group(&mut self, key: &str, filter: &str) -> GroupId {
        if let Some(id) = self.groups.find(key) {
            return id;
        }
        let id = self.groups.next_id();
        let filter_id = self.tree.add_group(filter, id);
        self.changed(filter);
        let created = self.groups.create(key, filter_id);
        debug_assert_eq!(created, id, "a group gets the id that was announced");
        created
    }

    /// Forgets a group once nobody is in it.
    pub(crate) fn drop_empty_group(&mut self, id: GroupId) {
        if !self.groups.get(id).is_some_and(Group::is_empty) {
            return;
        }
        let group = self.groups.remove(id).expect("the group was just looked at");
        let filter: Box<str> = self.tree.text(group.filter).into();
        self.tree.remove_group(group.filter, id);
        self.changed(&filter);
    }

    /// Another shard says how many members it has in a group.
    pub(crate) fn set_census(&mut self, key: &str, filter: &str, shard: ShardId, census: Census) {
        let id = self.group(key, filter);
        if let Some(group) = self.groups.get_mut(id) {
            group.set_elsewhere(shard, census);
        }
        self.drop_empty_group(id);
    }

    /// Another shard gained or lost an interest in a filter.
    pub(crate) fn set_interest(&mut self, filter: &str, shard: ShardId, interested: Interest) {
        self.tree.set_interest(filter, shard, interested == Interest::Gained);
        self.changed(filter);
    }
}

/// Whether a topic is the broker's own, where clients publish nothing. MQTT 5 section 4.7.2
pub(crate) fn is_reserved(topic: &[u8]) -> bool {
    topic.starts_with(b"$SYS/")
}

/// A change of a shard's interest in a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Its first subscriber came.
    Gained,
    /// Its last subscriber went.
    Lost,
}

impl SubscriberOptions {
    /// The options of two subscriptions of one session that match the same message: the higher QoS, and
    /// what either lets through.
    fn merged(self, other: Self) -> Self {
        let mut both = Self::new(self.qos().max(other.qos()));
        if self.no_local() && other.no_local() {
            both = both.with_no_local();
        }
        if self.retain_as_published() || other.retain_as_published() {
            both = both.with_retain_as_published();
        }
        both
    }
}

impl Target {
    pub(crate) fn of(subscriber: &Subscriber) -> Self {
        let ids = match subscriber.subscription_id {
            0 => IdsRef::NONE,
            id => IdsRef::one(id),
        };
        Self { session: subscriber.session, options: subscriber.options, ids }
    }
}

impl Route {
    fn restart(&mut self, topic: &[u8], epoch: u64) {
        self.topic.clear();
        self.topic.extend_from_slice(topic);
        self.epoch = epoch;
        self.targets.clear();
        self.lists.clear();
        self.remote = ShardSet::EMPTY;
        self.groups.clear();
        self.reserved = is_reserved(topic);
    }

    /// One target a session: the highest QoS of its matching subscriptions, and all their identifiers.
    /// [MQTT-3.3.4-2], [MQTT-3.3.4-3]
    fn merge_sessions(&mut self) {
        self.targets.sort_by_key(|target| target.session);
        let lists = &mut self.lists;
        self.targets.dedup_by(|next, kept| {
            if next.session != kept.session {
                return false;
            }
            kept.options = kept.options.merged(next.options);
            if kept.ids.is_none() {
                kept.ids = next.ids;
            } else if !next.ids.is_none() {
                let both = [kept.ids.resolve(lists), next.ids.resolve(lists)].concat();
                kept.ids = IdsRef::listed(lists.len());
                lists.push(both.into());
            }
            true
        });
    }
}
