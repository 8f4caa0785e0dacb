//! The filters with wildcards, as a trie of their levels that a topic walks breadth first.

use super::hash::Keys;
use super::levels::{LevelTrie, ROOT, split_level};
use super::slab::NONE;
use crate::ids::FilterId;

/// Nodes of one level that a walk keeps without allocating.
const FRONTIER_INLINE: usize = 48;

/// What hangs on a node. Filters are numbered as in the tree's slab, [`NONE`] where there is none.
#[derive(Clone, Debug)]
struct Links {
    /// The filter that ends here.
    filter: u32,
    /// The filter that goes on with "#".
    hash: u32,
    /// The child whose level is "+".
    plus: u32,
    /// How many children have a level without wildcard.
    children: u32,
}

impl Links {
    const EMPTY: Self = Self { filter: NONE, hash: NONE, plus: NONE, children: 0 };

    fn is_unused(&self) -> bool {
        self.filter == NONE && self.hash == NONE && self.plus == NONE && self.children == 0
    }
}

/// Where a filter with wildcards ends: on a node, or with a "#" below it.
#[derive(Clone, Copy, Debug)]
enum End {
    Here(u32),
    Hash(u32),
}

/// The trie of filters that have a wildcard.
#[derive(Clone, Debug)]
pub(super) struct Wildcards {
    trie: LevelTrie<Links>,
}

impl Wildcards {
    pub(super) fn new(keys: Keys) -> Self {
        Self { trie: LevelTrie::new(keys, Links::EMPTY) }
    }

    /// The filter's number, if the trie has it.
    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        let mut node = ROOT;
        for level in filter.split('/') {
            node = match level {
                "#" => return some(self.trie.node(node).links.hash),
                "+" => some(self.trie.node(node).links.plus)?,
                _ => self.trie.child(node, level, self.trie.level_hash(level))?,
            };
        }
        some(self.trie.node(node).links.filter)
    }

    /// Adds a filter that the trie does not have, and answers the node that holds it.
    pub(super) fn insert(&mut self, filter: &str, id: u32) -> u32 {
        let end = self.grow(filter);
        let (node, place) = match end {
            End::Here(node) => (node, &mut self.trie.links(node).filter),
            End::Hash(node) => (node, &mut self.trie.links(node).hash),
        };
        assert_eq!(*place, NONE, "a filter is added once");
        *place = id;
        node
    }

    /// Takes a filter out that `node` holds, and every node that only it needed.
    pub(super) fn remove(&mut self, node: u32, id: u32) {
        let links = self.trie.links(node);
        let place = if links.hash == id { &mut links.hash } else { &mut links.filter };
        assert_eq!(*place, id, "a filter is taken out of the node that holds it");
        *place = NONE;
        self.prune(node);
    }

    /// Appends every filter that matches the topic, in an order that follows from the trie's shape.
    ///
    /// '#' stands for its parent too, and for all that is below, [MQTT-4.7.1-2]; '+' for one level, an empty one
    /// included, [MQTT-4.7.1-3]; neither for a first level that begins with '$', [MQTT-4.7.2-1].
    /// Visits nodes of the trie only, each at most once.
    pub(super) fn matches(&self, topic: &str, out: &mut Vec<FilterId>) {
        if self.trie.is_empty() && self.trie.node(ROOT).links.hash == NONE {
            return;
        }
        let (mut here, mut next) = (Frontier::new(), Frontier::new());
        let mut rest = Some(topic);
        if topic.starts_with('$') {
            let (level, behind) = split_level(topic);
            here.push_some(self.trie.child(ROOT, level, self.trie.level_hash(level)));
            rest = behind;
        } else {
            here.push(ROOT);
        }
        while let Some((level, behind)) = rest.map(split_level) {
            let level_hash = self.trie.level_hash(level);
            for node in here.iter() {
                let links = &self.trie.node(node).links;
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
            push_filter(out, links.filter);
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.trie.memory_bytes()
    }

    /// Walks to where the filter ends, adding the nodes that are missing.
    fn grow(&mut self, filter: &str) -> End {
        let mut node = ROOT;
        for level in filter.split('/') {
            node = match level {
                "#" => return End::Hash(node),
                "+" => some(self.trie.node(node).links.plus).unwrap_or_else(|| self.add_plus(node)),
                _ => {
                    let found = self.trie.child(node, level, self.trie.level_hash(level));
                    found.unwrap_or_else(|| self.add_child(node, level))
                }
            };
        }
        End::Here(node)
    }

    fn add_plus(&mut self, parent: u32) -> u32 {
        let id = self.trie.add_unlisted(parent, "+", Links::EMPTY);
        self.trie.links(parent).plus = id;
        id
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
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
