//! The topic tree: who, on this shard and on others, gets a message to a topic. One walk finds both.
//!
//! A filter is interned once, in a slab entry that holds its text, its local subscribers, the other shards
//! with an interest, and its groups; sessions keep its number. Filters without wildcards are found through
//! one flat hash table, those with wildcards through a trie of levels.

mod hash;
mod label;
mod levels;
mod locals;
#[cfg(test)]
pub(crate) mod model;
mod table;
#[cfg(test)]
mod tests;
mod wildcards;

pub(crate) use hash::Keys;
pub(crate) use levels::{LevelTrie, ROOT, has_wildcard, rest_matches, split_level, split_level_bytes};
pub(crate) use ringmq_turn::{NONE, Slab};

pub use locals::{Subscriber, SubscriberOptions};

use hash::high;
use label::Label;
use locals::Locals;
use ringmq_turn::{ShardId, ShardSet};
use table::IdTable;
use wildcards::Wildcards;

use crate::ids::{FilterId, GroupId, SessionSlot};

/// What [`TopicTree::subscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The filter's number, for the session to keep.
    pub id: FilterId,
    /// What the session had subscribed to the same filter before, [MQTT-3.8.4-3].
    pub replaced: Option<Subscriber>,
    /// Whether this is now the filter's only local subscriber, so that other shards must hear of it.
    pub first_local: bool,
}

/// What [`TopicTree::unsubscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The subscription that is gone; none if there was none.
    pub found: Option<Subscriber>,
    /// Whether it was the filter's last local subscriber, so that other shards may forget this one.
    pub last_local: bool,
}

/// All that is known of one filter, in two neighbouring cache lines. Texts of usual length are in it, so that
/// comparing one does not wait for a second piece of memory.
#[derive(Clone, Debug)]
#[repr(C, align(128))]
struct Entry {
    text: Label<78>,
    remote: ShardSet,
    locals: Locals,
    /// Few filters have a group, so these are elsewhere.
    groups: Option<Box<Groups>>,
    /// The trie's node that holds it, or [`NONE`] for a filter without wildcard.
    node: u32,
    /// The text's hash.
    hash: u32,
}

const _: () = assert!(size_of::<Entry>() == 128);

/// The shared subscriptions to one filter, ascending.
#[derive(Clone, Debug, Default)]
struct Groups(Vec<GroupId>);

impl Entry {
    fn is_unused(&self) -> bool {
        self.groups.is_none() && self.locals.as_slice().is_empty() && self.remote.is_empty()
    }

    /// Bytes on the heap, an allocator's rounding included.
    fn memory_bytes(&self) -> usize {
        let groups = self
            .groups
            .as_ref()
            .map_or(0, |groups| size_of::<Groups>() + groups.0.capacity() * size_of::<GroupId>());
        self.text.memory_bytes() + self.locals.memory_bytes() + groups
    }
}

/// The subscriptions of one shard's sessions and the interest of the other shards, by topic filter.
///
/// Each shard owns one. Its bound is its callers': as many filters as sessions may subscribe to. Filters must
/// be valid, as decoding makes sure; a '#' before the last level is our fault and panics. A [`FilterId`] that
/// is no longer in use panics too.
#[derive(Clone, Debug)]
pub struct TopicTree {
    entries: Slab<Entry>,
    exact: IdTable,
    wildcards: Wildcards,
    keys: Keys,
    /// Bytes on the heap that the entries point to.
    entries_bytes: usize,
}

impl TopicTree {
    /// An empty tree. `seed` keys its hashes and is a secret from clients.
    pub fn new(seed: u64) -> Self {
        let keys = Keys::new(seed);
        Self {
            entries: Slab::new(),
            exact: IdTable::default(),
            wildcards: Wildcards::new(keys.clone()),
            keys,
            entries_bytes: 0,
        }
    }

    /// Subscribes a session to a filter. Its subscription to the same filter, if any, is replaced,
    /// [MQTT-3.8.4-3].
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> Subscribed {
        let id = self.intern(filter);
        let (replaced, count) = self.change(id, |entry, keys| {
            let replaced = entry.locals.insert(keys, subscriber);
            (replaced, entry.locals.as_slice().len())
        });
        Subscribed { id, replaced, first_local: replaced.is_none() && count == 1 }
    }

    /// Ends a session's subscription, and forgets the filter when nobody is left.
    pub fn unsubscribe(&mut self, id: FilterId, session: SessionSlot) -> Unsubscribed {
        let (found, count) = self.change(id, |entry, keys| {
            let found = entry.locals.remove(keys, session);
            (found, entry.locals.as_slice().len())
        });
        self.forget_if_unused(id);
        Unsubscribed { found, last_local: found.is_some() && count == 0 }
    }

    /// Notes that another shard has, or no longer has, subscribers to a filter.
    pub fn set_interest(&mut self, filter: &str, shard: ShardId, interested: bool) {
        if interested {
            let id = self.intern(filter);
            self.entries[id.0].remote.insert(shard);
        } else if let Some(id) = self.find(filter) {
            self.entries[id.0].remote.remove(shard);
            self.forget_if_unused(id);
        }
    }

    /// Adds a shared subscription to a filter (the part behind "$share/name/"). Adding it again changes
    /// nothing.
    pub fn add_group(&mut self, filter: &str, group: GroupId) -> FilterId {
        let id = self.intern(filter);
        self.change(id, |entry, _| {
            let groups = &mut entry.groups.get_or_insert_default().0;
            if let Err(at) = groups.binary_search(&group) {
                groups.insert(at, group);
            }
        });
        id
    }

    /// Takes a shared subscription off a filter, and forgets the filter when nobody is left.
    pub fn remove_group(&mut self, id: FilterId, group: GroupId) {
        self.change(id, |entry, _| {
            let Some(Groups(groups)) = entry.groups.as_deref_mut() else { return };
            if let Ok(at) = groups.binary_search(&group) {
                groups.remove(at);
            }
            if groups.is_empty() {
                entry.groups = None;
            }
        });
        self.forget_if_unused(id);
    }

    /// The number of a filter, if anything holds on to it.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if has_wildcard(filter) {
            return self.wildcards.find(filter, &self.entries).map(FilterId);
        }
        self.find_exact(filter, high(self.keys.text(filter.as_bytes()))).map(FilterId)
    }

    /// A filter's text.
    #[inline]
    pub fn text(&self, id: FilterId) -> &str {
        self.entries[id.0].text.as_str()
    }

    /// Whether a filter has no wildcard, so that it matches the topic of its own name and no other.
    #[inline]
    pub fn is_exact(&self, id: FilterId) -> bool {
        self.entries[id.0].node == NONE
    }

    /// Appends every filter that matches a topic, each once, in an order that does not depend on hashes.
    ///
    /// Implements [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1] and [MQTT-4.7.3-4]. Costs one look-up, and
    /// a walk over those nodes of the wildcard filters' trie that the topic reaches. Does not allocate,
    /// unless `out` must grow or more than 48 nodes of one level are reached.
    pub fn matches(&self, topic: &str, out: &mut Vec<FilterId>) {
        if self.exact.len() > 0 {
            let found = self.find_exact(topic, high(self.keys.text(topic.as_bytes())));
            out.extend(found.map(FilterId));
        }
        self.wildcards.matches(topic, &self.entries, out);
    }

    /// A session's subscription to a filter.
    pub fn subscriber(&self, id: FilterId, session: SessionSlot) -> Option<&Subscriber> {
        self.entries[id.0].locals.get(&self.keys, session)
    }

    /// The filter's subscribers on this shard, from one piece of memory. Their order follows from the calls
    /// made.
    #[inline]
    pub fn locals(&self, id: FilterId) -> std::slice::Iter<'_, Subscriber> {
        self.entries[id.0].locals.as_slice().iter()
    }

    /// How many subscribers the filter has on this shard.
    #[inline]
    pub fn local_count(&self, id: FilterId) -> usize {
        self.entries[id.0].locals.as_slice().len()
    }

    /// The other shards that have subscribers to the filter.
    #[inline]
    pub fn remote(&self, id: FilterId) -> ShardSet {
        self.entries[id.0].remote
    }

    /// The shared subscriptions to the filter, ascending.
    #[inline]
    pub fn groups(&self, id: FilterId) -> &[GroupId] {
        self.entries[id.0].groups.as_ref().map_or(&[], |groups| &groups.0)
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes on the heap, estimated from capacities and an allocator's rounding to 16 bytes.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.exact.memory_bytes() + self.wildcards.memory_bytes();
        self.entries.memory_bytes() + tables + self.entries_bytes
    }

    #[inline]
    fn find_exact(&self, topic: &str, hash: u32) -> Option<u32> {
        self.exact.find(hash, |id| self.entries[id].text.as_bytes() == topic.as_bytes())
    }

    /// The filter's entry, added if it is missing. The caller puts something into it.
    fn intern(&mut self, filter: &str) -> FilterId {
        let hash = high(self.keys.text(filter.as_bytes()));
        let wild = has_wildcard(filter);
        let found =
            if wild { self.wildcards.find(filter, &self.entries) } else { self.find_exact(filter, hash) };
        if let Some(id) = found {
            return FilterId(id);
        }
        let (locals, remote) = (Locals::None, ShardSet::EMPTY);
        let entry = Entry { text: Label::new(filter), remote, locals, groups: None, node: NONE, hash };
        self.entries_bytes += entry.memory_bytes();
        let id = self.entries.insert(entry);
        if wild {
            let hash_is_last = !filter.split('/').rev().skip(1).any(|level| level == "#");
            assert!(hash_is_last, "'#' before the last level, [MQTT-4.7.1-1], is refused when decoded");
            self.wildcards.insert(filter, id, &mut self.entries);
        } else {
            self.exact.insert(hash, id);
        }
        FilterId(id)
    }

    /// Changes an entry and keeps count of the bytes that it points to.
    fn change<R>(&mut self, id: FilterId, change: impl FnOnce(&mut Entry, &Keys) -> R) -> R {
        let entry = &mut self.entries[id.0];
        self.entries_bytes -= entry.memory_bytes();
        let result = change(entry, &self.keys);
        self.entries_bytes += entry.memory_bytes();
        result
    }

    fn forget_if_unused(&mut self, id: FilterId) {
        if !self.entries[id.0].is_unused() {
            return;
        }
        let entry = self.entries.remove(id.0);
        self.entries_bytes -= entry.memory_bytes();
        if entry.node == NONE {
            self.exact.remove(entry.hash, id.0);
        } else {
            self.wildcards.remove(entry.node, id.0);
        }
    }
}
