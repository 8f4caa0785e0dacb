//! The retained messages of one shard, by topic name.
//!
//! A trie of levels whose last stretch is not cut up: a leaf's label is all that is left of its topic. So a
//! topic costs about one node, and a wildcard still finds what matches without looking at what does not.

mod scan;
#[cfg(test)]
mod tests;

pub use scan::{ScanCursor, ScanProgress};

use crate::tree::{Keys, LevelTrie, NONE, ROOT, Slab, split_level, split_level_bytes};

/// What hangs on a node. Nodes and values are numbered as in their slabs, [`NONE`] where there is none.
#[derive(Clone, Debug)]
struct Links {
    /// When the node was made, counted in nodes. Tells the users of a slot apart, and orders siblings.
    stamp: u64,
    /// The value of the topic that ends here.
    value: u32,
    /// The oldest and the newest child.
    first: u32,
    last: u32,
    /// The siblings next in age.
    older: u32,
    newer: u32,
}

impl Links {
    fn new(stamp: u64) -> Self {
        Self { stamp, value: NONE, first: NONE, last: NONE, older: NONE, newer: NONE }
    }
}

/// This shard's slice of the retained messages: those whose topic belongs to it, [MQTT-3.3.1-5].
///
/// The shard owns it and keeps it within the limit on retained messages; what a value holds is the caller's.
#[derive(Clone, Debug)]
pub struct RetainedStore<V> {
    /// A leaf of its own stretch of a topic takes one cache line and no allocation, up to 30 bytes.
    trie: LevelTrie<Links, 30>,
    values: Slab<V>,
    /// The stamp of the node made last.
    stamp: u64,
}

/// Where the walk along a topic ends.
enum Reached<'a> {
    /// At the node of the topic.
    Topic(u32),
    /// At this node, which has no child for the rest of the topic.
    Short(u32, &'a str),
    /// At this leaf, whose label goes elsewhere after its first level.
    Fork(u32, &'a str),
}

impl<V> RetainedStore<V> {
    /// An empty store. `seed` keys its hashes and is a secret from clients.
    pub fn new(seed: u64) -> Self {
        Self { trie: LevelTrie::new(Keys::new(seed), Links::new(0)), values: Slab::new(), stamp: 0 }
    }

    /// How many topics have a message.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no topic has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many places there are for messages, in use or free.
    pub fn slots_len(&self) -> usize {
        self.values.slots_len()
    }

    /// The message in a place, to change what stands for it, if the place is in use.
    pub fn value_at_mut(&mut self, at: usize) -> Option<&mut V> {
        self.values.get_mut(u32::try_from(at).ok()?)
    }

    /// Bytes on the heap, estimated; what the values themselves point to is left out.
    pub fn memory_bytes(&self) -> usize {
        self.trie.memory_bytes() + self.values.memory_bytes()
    }

    /// The topic's message.
    pub fn get(&self, topic: &str) -> Option<&V> {
        match self.reach(topic) {
            Reached::Topic(node) => self.values.get(self.trie.node(node).links.value),
            Reached::Short(..) | Reached::Fork(..) => None,
        }
    }

    /// Makes `value` the topic's message, and answers the one that it replaces, [MQTT-3.3.1-5].
    pub fn set(&mut self, topic: &str, value: V) -> Option<V> {
        let node = match self.reach(topic) {
            Reached::Topic(node) => node,
            Reached::Short(node, rest) => self.add_child(node, rest),
            Reached::Fork(leaf, rest) => self.fork(leaf, rest),
        };
        let at = self.trie.node(node).links.value;
        if at != NONE {
            return Some(std::mem::replace(&mut self.values[at], value));
        }
        self.trie.links(node).value = self.values.insert(value);
        None
    }

    /// Takes the topic's message out, as an empty payload asks for, [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let Reached::Topic(node) = self.reach(topic) else { return None };
        let at = std::mem::replace(&mut self.trie.links(node).value, NONE);
        if at == NONE {
            return None;
        }
        self.prune(node);
        Some(self.values.remove(at))
    }

    fn reach<'a>(&self, topic: &'a str) -> Reached<'a> {
        let (mut node, mut rest) = (ROOT, topic.as_bytes());
        loop {
            let (level, behind) = split_level_bytes(rest);
            let Some(child) = self.trie.child(node, level, self.trie.level_hash(level)) else {
                return Reached::Short(node, &topic[topic.len() - rest.len()..]);
            };
            let label = self.trie.node(child).label.as_bytes();
            if label.len() > level.len() {
                let rest_text = &topic[topic.len() - rest.len()..];
                return if label == rest { Reached::Topic(child) } else { Reached::Fork(child, rest_text) };
            }
            match behind {
                Some(behind) => (node, rest) = (child, behind),
                None => return Reached::Topic(child),
            }
        }
    }

    /// Adds a leaf as the newest child.
    fn add_child(&mut self, parent: u32, label: &str) -> u32 {
        self.stamp += 1;
        let id = self.trie.add(parent, label, Links::new(self.stamp));
        let links = self.trie.links(parent);
        let older = std::mem::replace(&mut links.last, id);
        if older == NONE {
            links.first = id;
        } else {
            self.trie.links(older).newer = id;
            self.trie.links(id).older = older;
        }
        id
    }

    /// Cuts a leaf's label up as far as a topic agrees with it, and answers the node of that topic.
    ///
    /// The leaf stays the node of its first level, so that a scan that has passed it does not meet its topic
    /// again.
    fn fork(&mut self, leaf: u32, topic_rest: &str) -> u32 {
        let value = std::mem::replace(&mut self.trie.links(leaf).value, NONE);
        let label = self.trie.cut(leaf);
        let mut node = leaf;
        let (mut old, mut new) = (label.as_deref(), split_level(topic_rest).1);
        while let (Some(old_rest), Some(new_rest)) = (old, new) {
            let (level, old_behind) = split_level(old_rest);
            let (new_level, new_behind) = split_level(new_rest);
            if level != new_level {
                break;
            }
            node = self.add_child(node, level);
            (old, new) = (old_behind, new_behind);
        }
        let moved = old.map_or(node, |label| self.add_child(node, label));
        self.trie.links(moved).value = value;
        new.map_or(node, |label| self.add_child(node, label))
    }

    /// Takes a node out that nothing needs any more, and its parents likewise.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT {
            let links = &self.trie.node(node).links;
            if links.value != NONE || links.first != NONE {
                return;
            }
            let removed = self.trie.remove(node);
            let Links { older, newer, .. } = removed.links;
            match older {
                NONE => self.trie.links(removed.parent).first = newer,
                _ => self.trie.links(older).newer = newer,
            }
            match newer {
                NONE => self.trie.links(removed.parent).last = older,
                _ => self.trie.links(newer).older = older,
            }
            node = removed.parent;
        }
    }
}
