//! Finding the retained messages that match a filter, a bounded piece at a time.

use super::{Links, RetainedStore};
use crate::tree::{NONE, ROOT, has_wildcard, rest_matches, split_level_bytes};

/// Whether a scan has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanProgress {
    /// Call again with the same filter and cursor.
    More,
    /// Everything that matches was reported.
    Done,
}

/// Where a scan stands between two calls, whatever is added or removed meanwhile.
///
/// Belongs to one filter and one store, and whoever scans owns it. Its size is bounded by the levels of a
/// filter and the length of a topic.
#[derive(Clone, Debug, Default)]
pub struct ScanCursor {
    started: bool,
    /// Where each level of the filter begins.
    levels: Vec<u32>,
    /// The nodes on the scan's path whose children it goes through.
    frames: Vec<Frame>,
    /// The text of the path, and of the node looked at last.
    path: String,
}

/// A node and how far the scan has come with its children, which are in the order of their stamps.
#[derive(Clone, Debug)]
struct Frame {
    parent: u32,
    parent_stamp: u64,
    /// The child looked at last, [`NONE`] at first.
    at: u32,
    at_stamp: u64,
    /// Children up to this stamp have had their visit. When `at` is removed the scan passes them by again.
    visited: u64,
    /// How much of the path is the parent's, with its '/'.
    path_len: usize,
    /// Which level of the filter the children have to match.
    depth: usize,
}

/// What a level of the filter asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted<'a> {
    Level(&'a str),
    /// "+"
    Any,
    /// "#": any level, and all that is below.
    All,
}

impl ScanCursor {
    /// A cursor that has not begun.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<V> RetainedStore<V> {
    /// Reports retained messages whose topic matches `filter`, in about `visits_max` (at least 1) looks at
    /// nodes.
    ///
    /// Called with the same cursor until it is done, it reports every topic that was there all the time
    /// exactly once. A topic that comes or goes meanwhile may be reported or not. Siblings come in the order
    /// of their age.
    ///
    /// Matching is that of [`TopicTree::matches`](crate::tree::TopicTree::matches): [MQTT-4.7.1-1],
    /// [MQTT-4.7.1-2] and [MQTT-4.7.2-1]. A level without wildcard is one look-up, so that nothing beside the
    /// way to a match costs anything.
    pub fn scan(
        &self,
        filter: &str,
        cursor: &mut ScanCursor,
        visits_max: usize,
        found: &mut dyn FnMut(&str, &V),
    ) -> ScanProgress {
        let started = std::mem::replace(&mut cursor.started, true);
        if !started && !has_wildcard(filter) {
            self.get(filter).into_iter().for_each(|value| found(filter, value));
            return ScanProgress::Done;
        }
        let mut scan = Scan { store: self, filter, cursor, found };
        if started {
            scan.drop_stale_frames();
        } else {
            scan.begin();
        }
        for _ in 0..visits_max {
            if !scan.step() {
                break;
            }
        }
        if cursor.frames.is_empty() { ScanProgress::Done } else { ScanProgress::More }
    }
}

/// One call's work.
struct Scan<'a, V> {
    store: &'a RetainedStore<V>,
    filter: &'a str,
    cursor: &'a mut ScanCursor,
    found: &'a mut dyn FnMut(&str, &V),
}

impl<V> Scan<'_, V> {
    fn begin(&mut self) {
        let slashes = self.filter.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
        self.cursor.levels = std::iter::once(0).chain(slashes.map(|(at, _)| at as u32 + 1)).collect();
        self.enter(ROOT, 0);
    }

    /// Drops the frames of nodes that were removed since the last call. Those above them are as good as
    /// before.
    fn drop_stale_frames(&mut self) {
        let frames = &self.cursor.frames;
        let stale = frames.iter().position(|frame| self.links(frame.parent, frame.parent_stamp).is_none());
        self.cursor.frames.truncate(stale.unwrap_or(usize::MAX));
    }

    /// The links of a node, if it is the one that had this stamp.
    fn links(&self, node: u32, stamp: u64) -> Option<&Links> {
        let links = &self.store.trie.get(node)?.links;
        (links.stamp == stamp).then_some(links)
    }

    /// Looks at the next child of the innermost frame, or leaves that. False when the scan is over.
    fn step(&mut self) -> bool {
        let Some(frame) = self.cursor.frames.last() else { return false };
        let next = match self.links(frame.at, frame.at_stamp) {
            Some(links) => links.newer,
            None => self.store.trie.node(frame.parent).links.first,
        };
        if next == NONE {
            self.cursor.frames.pop();
            return !self.cursor.frames.is_empty();
        }
        let node = self.store.trie.node(next);
        let (depth, path_len) = (frame.depth, frame.path_len);
        let passed_by = node.links.stamp <= frame.visited;
        if let Some(frame) = self.cursor.frames.last_mut() {
            (frame.at, frame.at_stamp) = (next, node.links.stamp);
            frame.visited = frame.visited.max(node.links.stamp);
        }
        // No wildcard stands for a first level that begins with '$', [MQTT-4.7.2-1].
        let hidden = depth == 0 && node.label.as_bytes().first() == Some(&b'$');
        if !passed_by && !hidden {
            self.cursor.path.truncate(path_len);
            if self.visit(next, depth) {
                self.enter(next, depth + 1);
            }
        }
        true
    }

    /// Goes below a node whose text ends the path: down levels without wildcard, up to one that needs a
    /// frame.
    fn enter(&mut self, mut node: u32, mut depth: usize) {
        loop {
            if node != ROOT {
                self.cursor.path.push('/');
            }
            let Wanted::Level(level) = self.wanted(depth) else {
                self.push_frame(node, depth);
                return;
            };
            let trie = &self.store.trie;
            let Some(child) = trie.child(node, level.as_bytes(), trie.level_hash(level.as_bytes())) else {
                return;
            };
            if !self.visit(child, depth) {
                return;
            }
            (node, depth) = (child, depth + 1);
        }
    }

    fn push_frame(&mut self, parent: u32, depth: usize) {
        let parent_stamp = self.store.trie.node(parent).links.stamp;
        let path_len = self.cursor.path.len();
        let frame = Frame { parent, parent_stamp, at: NONE, at_stamp: 0, visited: 0, path_len, depth };
        self.cursor.frames.push(frame);
    }

    /// Reports a node whose first level matches, if the rest of its label does, and answers whether to go
    /// below it.
    fn visit(&mut self, id: u32, depth: usize) -> bool {
        let node = self.store.trie.node(id);
        let label = node.label.as_str();
        self.cursor.path.push_str(label);
        let all = self.wanted(depth) == Wanted::All;
        let filter_rest =
            self.cursor.levels.get(depth + 1).map(|start| &self.filter.as_bytes()[*start as usize..]);
        let matches = all || rest_matches(filter_rest, split_level_bytes(label.as_bytes()).1);
        if let Some(value) = self.store.values.get(node.links.value).filter(|_| matches) {
            (self.found)(&self.cursor.path, value);
        }
        node.links.first != NONE && (all || filter_rest.is_some())
    }

    /// What the filter asks for at a depth. Below its last level only a '#' leads.
    fn wanted(&self, depth: usize) -> Wanted<'_> {
        let Some(start) = self.cursor.levels.get(depth) else { return Wanted::All };
        let end = self.cursor.levels.get(depth + 1).map_or(self.filter.len(), |next| *next as usize - 1);
        match &self.filter[*start as usize..end] {
            "#" => Wanted::All,
            "+" => Wanted::Any,
            level => Wanted::Level(level),
        }
    }
}
