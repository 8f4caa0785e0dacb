//! Finds the filters that match a topic, at a cost that does not grow with those that do not.

use hashbrown::HashMap;

type Hasher = foldhash::fast::RandomState;

/// What is kept under a filter.
pub(super) trait Leaf: Default {
    fn is_empty(&self) -> bool;
}

#[derive(Debug)]
struct Node<L> {
    children: HashMap<Box<str>, u32, Hasher>,
    /// The child for `+`.
    plus: Option<u32>,
    /// Of the filter that ends here.
    here: L,
    /// Of the filter that goes on with `#`.
    below: L,
}

impl<L: Leaf> Default for Node<L> {
    fn default() -> Self {
        Self { children: HashMap::default(), plus: None, here: L::default(), below: L::default() }
    }
}

impl<L: Leaf> Node<L> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

/// A tree of filters, a level a node. Filters come without their `$share` part.
#[derive(Debug)]
pub(super) struct Matcher<L> {
    /// The root is first.
    nodes: Vec<Node<L>>,
    free: Vec<u32>,
}

impl<L: Leaf> Default for Matcher<L> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

const ROOT: u32 = 0;

impl<L: Leaf> Matcher<L> {
    fn node(&self, at: u32) -> &Node<L> {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<L> {
        &mut self.nodes[at as usize]
    }

    /// Changes what is kept under a filter; what is left empty is forgotten.
    pub fn change(&mut self, filter: &str, change: impl FnOnce(&mut L)) {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        let mut is_below = false;
        for level in filter.split('/') {
            if level == "#" {
                is_below = true;
                break;
            }
            at = self.child(at, level);
            path.push(at);
        }
        let node = self.node_mut(at);
        change(if is_below { &mut node.below } else { &mut node.here });
        self.prune(&path, filter);
    }

    fn child(&mut self, at: u32, level: &str) -> u32 {
        let node = self.node(at);
        let known = if level == "+" { node.plus } else { node.children.get(level).copied() };
        if let Some(known) = known {
            return known;
        }
        let fresh = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            u32::try_from(self.nodes.len() - 1).expect("fewer levels of filters than fit into memory")
        });
        let node = self.node_mut(at);
        if level == "+" {
            node.plus = Some(fresh);
        } else {
            node.children.insert(Box::from(level), fresh);
        }
        fresh
    }

    /// Forgets nodes at the end of a filter's path that hold nothing.
    fn prune(&mut self, path: &[u32], filter: &str) {
        let levels: Vec<&str> = filter.split('/').collect();
        for depth in (1..path.len()).rev() {
            let (at, parent, level) = (path[depth], path[depth - 1], levels[depth - 1]);
            if !self.node(at).is_empty() {
                return;
            }
            *self.node_mut(at) = Node::default();
            self.free.push(at);
            let parent = self.node_mut(parent);
            if level == "+" {
                parent.plus = None;
            } else {
                parent.children.remove(level);
            }
        }
    }

    /// Calls `found` with what is kept under each filter that matches.
    pub fn find<'a>(&'a self, topic: &str, found: &mut impl FnMut(&'a L)) {
        let root = self.node(ROOT);
        if topic.starts_with('$') {
            // Filters that start with a wildcard do not match [MQTT-4.7.2-1].
            let (first, rest) = split(topic);
            if let Some(&child) = root.children.get(first) {
                self.walk(child, rest, found);
            }
            return;
        }
        self.walk(ROOT, Some(topic), found);
    }

    fn walk<'a>(&'a self, at: u32, rest: Option<&str>, found: &mut impl FnMut(&'a L)) {
        let node = self.node(at);
        if !node.below.is_empty() {
            found(&node.below);
        }
        let Some(rest) = rest else {
            if !node.here.is_empty() {
                found(&node.here);
            }
            return;
        };
        let (first, rest) = split(rest);
        if let Some(&child) = node.children.get(first) {
            self.walk(child, rest, found);
        }
        if let Some(child) = node.plus {
            self.walk(child, rest, found);
        }
    }
}

/// The first level, and what follows it.
fn split(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (topic, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringmq_codec::{check_filter, matches};

    use super::*;

    impl Leaf for Vec<usize> {
        fn is_empty(&self) -> bool {
            Vec::is_empty(self)
        }
    }

    fn found(matcher: &Matcher<Vec<usize>>, topic: &str) -> Vec<usize> {
        let mut all = Vec::new();
        matcher.find(topic, &mut |leaf: &Vec<usize>| all.extend(leaf));
        all.sort_unstable();
        all
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        let filters = ["a/b", "a/+", "a/#", "#", "+", "+/+", "$SYS/#", "a//b", "/", "+/b/#"];
        let mut matcher = Matcher::default();
        for (number, filter) in filters.iter().enumerate() {
            matcher.change(filter, |leaf: &mut Vec<usize>| leaf.push(number));
        }
        for topic in ["a", "a/b", "a/b/c", "$SYS", "$SYS/x", "a//b", "/", "x/b", "b", "/b/c/d"] {
            let expect: Vec<usize> = (0..filters.len()).filter(|&n| matches(filters[n], topic)).collect();
            assert_eq!(found(&matcher, topic), expect, "{topic}");
        }
    }

    #[test]
    fn what_is_forgotten_leaves_no_nodes() {
        let mut matcher = Matcher::default();
        for round in 0..1_000 {
            let filter = format!("a/{round}/+/#");
            matcher.change(&filter, |leaf: &mut Vec<usize>| leaf.push(round));
            matcher.change(&filter, Vec::clear);
        }
        assert_eq!(matcher.nodes.len(), 4);
        assert!(matcher.node(ROOT).is_empty());
    }

    fn levels() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["", "a", "b", "$x", "+", "#"]), 1..5)
    }

    proptest! {
        #[test]
        fn it_equals_the_model(
            filters in prop::collection::vec(levels(), 0..20),
            removed in prop::collection::vec(any::<bool>(), 20),
            topics in prop::collection::vec(levels(), 1..20),
        ) {
            let filters: Vec<String> = filters.iter().map(|levels| levels.join("/")).collect();
            let filters: Vec<String> = filters.into_iter().filter(|f| check_filter(f).is_ok()).collect();
            let mut matcher = Matcher::default();
            for (number, filter) in filters.iter().enumerate() {
                matcher.change(filter, |leaf: &mut Vec<usize>| leaf.push(number));
            }
            for (number, filter) in filters.iter().enumerate().filter(|(number, _)| removed[*number]) {
                matcher.change(filter, |leaf: &mut Vec<usize>| leaf.retain(|other| *other != number));
            }
            for topic in topics.iter().map(|levels| levels.join("/")) {
                if topic.is_empty() || topic.contains(['+', '#']) {
                    continue;
                }
                let expect: Vec<usize> = (0..filters.len())
                    .filter(|&number| !removed[number] && matches(&filters[number], &topic))
                    .collect();
                prop_assert_eq!(found(&matcher, &topic), expect, "{} of {:?}", topic, filters);
            }
        }
    }
}
