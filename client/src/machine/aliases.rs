//! The Topic Aliases of one connection, MQTT 5 section 3.3.2.3.4.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::message::Topic;

/// How a topic goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The server knows it by this alias.
    Known(u16),
    /// With this alias, which the server learns by it.
    New(u16),
}

/// Aliases that we gave. A new topic takes the place of one that was not used for a while.
#[derive(Debug)]
pub(super) struct AliasesOut {
    by_topic: HashMap<Topic, u16, FixedState>,
    /// By alias less one, and whether it was used since the hand last passed.
    topics: Vec<(Topic, bool)>,
    hand: usize,
    max: u16,
}

impl AliasesOut {
    pub fn new(max: u16) -> Self {
        assert_ne!(max, 0, "no aliases need no table");
        Self { by_topic: HashMap::default(), topics: Vec::new(), hand: 0, max }
    }

    /// The alias for a topic that goes out now.
    pub fn name(&mut self, topic: &Topic) -> Name {
        if let Some(alias) = self.by_topic.get(topic) {
            self.topics[usize::from(*alias) - 1].1 = true;
            return Name::Known(*alias);
        }
        let at = if self.topics.len() < usize::from(self.max) {
            self.topics.push((topic.clone(), false));
            self.topics.len() - 1
        } else {
            self.replace(topic.clone())
        };
        let alias = at as u16 + 1;
        self.by_topic.insert(topic.clone(), alias);
        Name::New(alias)
    }

    fn replace(&mut self, topic: Topic) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.topics.len();
            let (old, was_used) = &mut self.topics[at];
            if !std::mem::take(was_used) {
                let old = std::mem::replace(old, topic);
                self.by_topic.remove(&old);
                return at;
            }
        }
    }
}

/// Topics by the aliases that the server gave them. [MQTT-3.3.2-10]
#[derive(Debug, Default)]
pub(super) struct AliasesIn(Vec<Option<Topic>>);

impl AliasesIn {
    pub fn set(&mut self, alias: u16, topic: &str) {
        let at = usize::from(alias) - 1;
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        // Servers may repeat what is known.
        if self.0[at].as_deref() != Some(topic) {
            self.0[at] = Some(topic.into());
        }
    }

    pub fn get(&self, alias: u16) -> Option<&Topic> {
        self.0.get(usize::from(alias) - 1)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_used_keep_their_aliases() {
        let mut aliases = AliasesOut::new(2);
        let names: Vec<_> = ["a", "b", "a", "c", "a", "b", "c"]
            .iter()
            .map(|topic| aliases.name(&Topic::from(*topic)))
            .collect();
        use Name::{Known, New};
        assert_eq!(names, [New(1), New(2), Known(1), New(2), Known(1), New(2), New(1)]);
        assert_eq!(aliases.by_topic.len(), 2);
    }
}
