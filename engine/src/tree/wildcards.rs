//! The filters with wildcards, as a trie of their levels that a topic walks breadth first.

use super::Entry;
use super::hash::Keys;
use super::levels::{LevelTrie, ROOT, rest_matches, split_level, split_level_bytes};
use crate::ids::FilterId;
use ringmq_turn::{NONE, Slab};

/// Nodes of one level that a walk keeps without allocating.
const FRONTIER_INLINE: usize = 48;

/// What hangs on a node. Filters are numbered as in the tree's slab, [`NONE`] where there is none.
#[derive(Clone, Debug)]
struct Links {
    /// The filter that ends here, or whose `tail` begins behind this level.
    filter: u32,
    /// Where in the filter's text that begins which a topic has yet to match; 0 if the filter ends here.
    ///
    /// Only a leaf has one: levels that one filter alone goes through are not worth nodes.
    tail: u32,
    /// The filter that goes on with "#" and ends.
    hash: u32,
    /// The child whose level is "+".
    plus: u32,
    /// How many children have a level without wildcard.
    children: u32,
}

impl Links {
    const EMPTY: Self = Self { filter: NONE, tail: 0, hash: NONE, plus: NONE, children: 0 };

    fn is_unused(&self) -> bool {
        self.filter == NONE && self.hash == NONE && self.plus == NONE && self.children == 0
    }

    /// Hangs a filter here that goes on with the last `behind` of its `text`.
    fn hang(&mut self, id: u32, text: &str, behind: Option<&str>) {
        let place = if behind == Some("#") { &mut self.hash } else { &mut self.filter };
        assert_eq!(*place, NONE, "a filter is added once");
        *place = id;
        if let Some(behind) = behind.filter(|behind| *behind != "#") {
            self.tail = (text.len() - behind.len()) as u32;
        }
    }
}

/// The trie of filters that have a wildcard.
#[derive(Clone, Debug)]
pub(super) struct Wildcards {
    trie: LevelTrie<Links, 14>,
}

impl Wildcards {
    pub(super) fn new(keys: Keys) -> Self {
        Self { trie: LevelTrie::new(keys, Links::EMPTY) }
    }

    /// The filter's number, if the trie has it.
    pub(super) fn find(&self, filter: &str, entries: &Slab<Entry>) -> Option<u32> {
        let (mut node, mut rest) = (ROOT, filter);
        loop {
            let (level, behind) = split_level(rest);
            if level == "#" {
                return some(self.trie.node(node).links.hash);
            }
            node = self.child(node, level)?;
            let links = &self.trie.node(node).links;
            if links.tail > 0 {
                return Some(links.filter).filter(|id| entries[*id].text.as_bytes() == filter.as_bytes());
            }
            match behind {
                Some(behind) => rest = behind,
                None => return some(links.filter),
            }
        }
    }

    /// Adds a filter that the trie does not have.
    pub(super) fn insert(&mut self, filter: &str, id: u32, entries: &mut Slab<Entry>) {
        let (mut node, mut rest) = (ROOT, Some(filter));
        while let Some((level, behind)) = rest.filter(|rest| *rest != "#").map(split_level) {
            let child = self.child(node, level);
            node = child.unwrap_or_else(|| self.add_child(node, level));
            rest = behind;
            if child.is_none() {
                break;
            }
            self.push_tail_down(node, entries);
        }
        self.trie.links(node).hang(id, filter, rest);
        entries[id].node = node;
    }

    /// Turns a leaf with a tail into a node whose child has what is left of the tail.
    fn push_tail_down(&mut self, node: u32, entries: &mut Slab<Entry>) {
        let links = self.trie.links(node);
        if links.tail == 0 {
            return;
        }
        let id = std::mem::replace(&mut links.filter, NONE);
        let tail = std::mem::replace(&mut links.tail, 0);
        let text = entries[id].text.as_str();
        let (level, behind) = split_level(&text[tail as usize..]);
        let child = self.add_child(node, level);
        self.trie.links(child).hang(id, text, behind);
        entries[id].node = child;
    }

    /// Takes a filter out that `node` holds, and every node that only it needed.
    pub(super) fn remove(&mut self, node: u32, id: u32) {
        let links = self.trie.links(node);
        if links.hash == id {
            links.hash = NONE;
        } else {
            assert_eq!(links.filter, id, "a filter is taken out of the node that holds it");
            (links.filter, links.tail) = (NONE, 0);
        }
        self.prune(node);
    }

    /// Appends every filter that matches the topic, in an order that follows from the trie's shape.
    ///
    /// '#' stands for its parent too, and for all that is below, [MQTT-4.7.1-1]; '+' for one level, an empty
    /// one included, [MQTT-4.7.1-2]; neither for a first level that begins with '$', [MQTT-4.7.2-1]. Visits
    /// nodes of the trie only, each at most once.
    pub(super) fn matches(&self, topic: &str, entries: &Slab<Entry>, out: &mut Vec<FilterId>) {
        if self.trie.is_empty() && self.trie.node(ROOT).links.hash == NONE {
            return;
        }
        let (mut here, mut next) = (Frontier::new(), Frontier::new());
        let mut rest = Some(topic.as_bytes());
        if topic.starts_with('$') {
            let (level, behind) = split_level_bytes(topic.as_bytes());
            here.push_some(self.trie.child(ROOT, level, self.trie.level_hash(level)));
            rest = behind;
        } else {
            here.push(ROOT);
        }
        while let Some((level, behind)) = rest.map(split_level_bytes) {
            let level_hash = self.trie.level_hash(level);
            for node in here.iter() {
                let links = &self.trie.node(node).links;
                if links.tail > 0 {
                    let tail = &entries[links.filter].text.as_bytes()[links.tail as usize..];
                    push_filter(out, if rest_matches(Some(tail), rest) { links.filter } else { NONE });
                    continue;
                }
                push_filter(out, links.hash);
                if links.children > 0 {
                    next.push_some(self.trie.child(node, level, level_hash));
                }
                next.push_some(some(links.plus));
            }
            std::mem::swap(&mut here, &mut next);
            next.clear();
            if here.is_empty() {
                return;
            }
            rest = behind;
        }
        for node in here.iter() {
            let links = &self.trie.node(node).links;
            push_filter(out, links.hash);
            if links.tail == 0 {
                push_filter(out, links.filter);
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.trie.memory_bytes()
    }

    #[inline]
    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        match level {
            "+" => some(self.trie.node(parent).links.plus),
            _ => self.trie.child(parent, level.as_bytes(), self.trie.level_hash(level.as_bytes())),
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        if level == "+" {
            let id = self.trie.add_unlisted(parent, level, Links::EMPTY);
            self.trie.links(parent).plus = id;
            return id;
        }
        self.trie.links(parent).children += 1;
        self.trie.add(parent, level, Links::EMPTY)
    }

    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.trie.node(node).links.is_unused() {
            let parent = self.trie.node(node).parent;
            let links = self.trie.links(parent);
            if links.plus == node {
                links.plus = NONE;
                self.trie.remove_unlisted(node);
            } else {
                links.children -= 1;
                self.trie.remove(node);
            }
            node = parent;
        }
    }
}

#[inline]
fn some(id: u32) -> Option<u32> {
    (id != NONE).then_some(id)
}

#[inline]
fn push_filter(out: &mut Vec<FilterId>, id: u32) {
    if id != NONE {
        out.push(FilterId(id));
    }
}

/// The nodes of one level that a topic has reached.
struct Frontier {
    inline: [u32; FRONTIER_INLINE],
    inline_len: usize,
    spill: Vec<u32>,
}

impl Frontier {
    #[inline]
    fn new() -> Self {
        Self { inline: [0; FRONTIER_INLINE], inline_len: 0, spill: Vec::new() }
    }

    #[inline]
    fn push(&mut self, node: u32) {
        if let Some(place) = self.inline.get_mut(self.inline_len) {
            *place = node;
            self.inline_len += 1;
        } else {
            self.spill.push(node);
        }
    }

    #[inline]
    fn push_some(&mut self, node: Option<u32>) {
        if let Some(node) = node {
            self.push(node);
        }
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.inline[..self.inline_len].iter().chain(&self.spill).copied()
    }

    fn is_empty(&self) -> bool {
        self.inline_len == 0
    }

    fn clear(&mut self) {
        self.inline_len = 0;
        self.spill.clear();
    }
}
