//! A trie of topic levels, whatever hangs on its nodes, and the matching rule for texts.

use super::hash::Keys;
use super::label::Label;
use super::table::IdTable;
use ringmq_turn::Slab;

/// The node that every path starts from.
pub(crate) const ROOT: u32 = 0;

/// One node: its text, its parent, and the owner's links.
#[derive(Clone, Debug)]
pub(crate) struct Node<L, const INLINE: usize> {
    pub(crate) label: Label<INLINE>,
    pub(crate) parent: u32,
    pub(crate) links: L,
}

/// Nodes found by their parent and the first level of their label, through one flat table for all parents.
///
/// Only a leaf's label may have more than one level; that is the owner's to keep.
#[derive(Clone, Debug)]
pub(crate) struct LevelTrie<L, const INLINE: usize> {
    nodes: Slab<Node<L, INLINE>>,
    edges: IdTable,
    keys: Keys,
    labels_bytes: usize,
}

impl<L, const INLINE: usize> LevelTrie<L, INLINE> {
    /// A trie with nothing but its root.
    pub(crate) fn new(keys: Keys, root: L) -> Self {
        let mut nodes = Slab::new();
        let id = nodes.insert(Node { label: Label::new(""), parent: ROOT, links: root });
        assert_eq!(id, ROOT, "a new slab numbers from 0");
        Self { nodes, edges: IdTable::default(), keys, labels_bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The hash of a level, for [`LevelTrie::child`].
    #[inline]
    pub(crate) fn level_hash(&self, level: &[u8]) -> u64 {
        self.keys.text(level)
    }

    /// The child of `parent` whose label begins with `level`, which hashes to `level_hash`.
    #[inline]
    pub(crate) fn child(&self, parent: u32, level: &[u8], level_hash: u64) -> Option<u32> {
        self.edges.find(self.keys.edge(parent, level_hash), |id| {
            let node = &self.nodes[id];
            node.parent == parent && node.label.begins_with(level)
        })
    }

    /// Adds a child that `parent` does not have. It is found by the first level of its label.
    pub(crate) fn add(&mut self, parent: u32, label: &str, links: L) -> u32 {
        let id = self.add_unlisted(parent, label, links);
        self.edges.insert(self.edge_hash(parent, label), id);
        id
    }

    /// Adds a child that [`LevelTrie::child`] does not find.
    pub(crate) fn add_unlisted(&mut self, parent: u32, label: &str, links: L) -> u32 {
        let label = Label::new(label);
        self.labels_bytes += label.memory_bytes();
        self.nodes.insert(Node { label, parent, links })
    }

    /// Takes a childless node out that was added with [`LevelTrie::add`].
    pub(crate) fn remove(&mut self, id: u32) -> Node<L, INLINE> {
        let node = self.remove_unlisted(id);
        self.edges.remove(self.edge_hash(node.parent, node.label.as_str()), id);
        node
    }

    /// Takes a childless node out that was added with [`LevelTrie::add_unlisted`].
    pub(crate) fn remove_unlisted(&mut self, id: u32) -> Node<L, INLINE> {
        assert_ne!(id, ROOT, "the root stays");
        let node = self.nodes.remove(id);
        self.labels_bytes -= node.label.memory_bytes();
        if self.is_empty() {
            // Gives back what a crowd of nodes needed.
            let root = self.nodes.remove(ROOT);
            assert_eq!(self.nodes.insert(root), ROOT, "an empty slab numbers from 0");
        }
        node
    }

    /// Cuts a node's label down to its first level and answers what stood behind it.
    pub(crate) fn cut(&mut self, id: u32) -> Option<String> {
        let node = &mut self.nodes[id];
        let (first, rest) = split_level(node.label.as_str());
        let rest = rest?.to_owned();
        let first = Label::new(first);
        self.labels_bytes += first.memory_bytes();
        self.labels_bytes -= std::mem::replace(&mut node.label, first).memory_bytes();
        Some(rest)
    }

    /// The node in this slot, if there is one.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&Node<L, INLINE>> {
        self.nodes.get(id)
    }

    #[inline]
    pub(crate) fn node(&self, id: u32) -> &Node<L, INLINE> {
        &self.nodes[id]
    }

    #[inline]
    pub(crate) fn links(&mut self, id: u32) -> &mut L {
        &mut self.nodes[id].links
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes() + self.edges.memory_bytes() + self.labels_bytes
    }

    fn edge_hash(&self, parent: u32, label: &str) -> u32 {
        self.keys.edge(parent, self.keys.text(split_level(label).0.as_bytes()))
    }
}

/// The first level of a topic or filter, and what stands behind its '/'.
#[inline]
pub(crate) fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}

/// Whether a filter has a level that is '+' or '#'.
pub(crate) fn has_wildcard(filter: &str) -> bool {
    let suspect = filter.bytes().any(|byte| matches!(byte, b'+' | b'#'));
    suspect && filter.split('/').any(|level| matches!(level, "+" | "#"))
}

/// The same for bytes, of which no character but '/' itself has the byte of a '/'.
#[inline]
pub(crate) fn split_level_bytes(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Whether the levels that are left of a topic match those that are left of a filter, `None` being "no more".
///
/// Implements [MQTT-4.7.1-1] and [MQTT-4.7.1-2]: '#' stands for any number of levels, its parent included,
/// and '+' for just one. The rule for topics that begin with '$' is the caller's, who sees the beginning.
pub(crate) fn rest_matches(mut filter: Option<&[u8]>, mut topic: Option<&[u8]>) -> bool {
    loop {
        let Some((wanted, filter_rest)) = filter.map(split_level_bytes) else {
            return topic.is_none();
        };
        if wanted == b"#" {
            return true;
        }
        let Some((level, topic_rest)) = topic.map(split_level_bytes) else {
            return false;
        };
        if wanted != b"+" && wanted != level {
            return false;
        }
        (filter, topic) = (filter_rest, topic_rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_told_apart_by_parent_and_first_level() {
        let mut trie = LevelTrie::<(), 14>::new(Keys::new(1), ());
        let find = |trie: &LevelTrie<(), 14>, parent, level: &[u8]| {
            trie.child(parent, level, trie.level_hash(level))
        };
        let a = trie.add(ROOT, "a", ());
        let empty = trie.add(ROOT, "", ());
        let below = trie.add(a, "a/rest/of/it", ());
        assert_eq!(find(&trie, ROOT, b"a"), Some(a));
        assert_eq!(find(&trie, ROOT, b""), Some(empty));
        assert_eq!(find(&trie, a, b"a"), Some(below));
        assert_eq!(
            (find(&trie, a, b""), find(&trie, empty, b"a"), find(&trie, a, b"a/rest")),
            (None, None, None)
        );
        assert_eq!(trie.cut(below).as_deref(), Some("rest/of/it"));
        assert_eq!((trie.cut(below), trie.node(below).label.as_str()), (None, "a"));
        for id in [below, empty, a] {
            trie.remove(id);
        }
        assert!(trie.is_empty() && find(&trie, ROOT, b"a").is_none());
    }
}
