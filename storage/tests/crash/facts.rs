//! What a log says, as facts that later ones replace, and what a crash may make of them.

use std::collections::{BTreeMap, BTreeSet};

use ringmq_storage::RecoveredWill;

/// What something is known of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    Session(u64),
    Will(u64),
    Subscription(u64, String),
    Taken(u64, u16),
    /// A place in a session's queue.
    Place(u64, u64),
    Retained(String),
    Came(u64),
}

/// What is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Session {
        client_id: String,
        expiry_s: u32,
        closed_at_ms: Option<u64>,
    },
    Will(RecoveredWill),
    Subscription {
        options: u8,
        id: u32,
    },
    Taken {
        publication: Option<u64>,
    },
    Came,
    Queued {
        message: usize,
        qos: u8,
        retain: bool,
        ids: Vec<u32>,
        group: Option<String>,
    },
    /// The client has the message, and PUBCOMP is awaited.
    Received,
    Retained {
        message: usize,
    },
}

/// Something that a unit says.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Set(Fact, Value),
    /// As `Set`, of a session or a message that an earlier unit told of: without that, it says nothing.
    Refer(Fact, Value),
    Unset(Fact),
    /// A session is told anew: what was known of it is void, but for messages in its queue.
    Begin(u64),
    /// A session ended with all that it had.
    End(u64),
}

/// What belongs together.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The number of its last record.
    pub end: u64,
    pub changes: Vec<Change>,
}

pub type Facts = BTreeMap<Fact, Value>;

impl Fact {
    /// The session without which it is not known.
    pub fn session(&self) -> Option<u64> {
        match self {
            Self::Will(session)
            | Self::Subscription(session, _)
            | Self::Taken(session, _)
            | Self::Place(session, _) => Some(*session),
            Self::Session(_) | Self::Retained(_) | Self::Came(_) => None,
        }
    }

    pub fn is_of(&self, session: u64) -> bool {
        *self == Self::Session(session) || self.session() == Some(session)
    }
}

/// Whether a session that is told anew loses the fact.
fn is_void(fact: &Fact, value: &Value, session: u64) -> bool {
    fact.session() == Some(session) && !matches!(value, Value::Queued { .. })
}

impl Unit {
    /// All that it says happens.
    pub fn apply(&self, facts: &mut Facts) {
        for change in &self.changes {
            change.apply(facts);
        }
    }
}

impl Change {
    pub fn apply(&self, facts: &mut Facts) {
        match self {
            Self::Set(fact, value) | Self::Refer(fact, value) => {
                facts.insert(fact.clone(), value.clone());
            }
            Self::Unset(fact) => {
                facts.remove(fact);
            }
            Self::Begin(session) => facts.retain(|fact, value| !is_void(fact, value, *session)),
            Self::End(session) => facts.retain(|fact, _| !fact.is_of(*session)),
        }
    }
}

/// Which units a crash left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The first so many, and those that say nothing new.
    First(usize),
    /// Some of them, each as a whole.
    Some,
}

/// What was said before a crash.
pub struct Before<'a> {
    pub base: &'a Facts,
    /// What was said since, in order.
    pub units: &'a [Unit],
    /// How many of them must be there.
    pub must: usize,
}

impl Before<'_> {
    /// Explains what was found after the crash, or says why it cannot be. Unless `holes` are possible,
    /// no unit is there without those before it.
    pub fn explain(&self, found: &Facts, holes: bool) -> Result<Left, String> {
        let mut facts = self.base.clone();
        for unit in &self.units[..self.must] {
            unit.apply(&mut facts);
        }
        let sure = facts.clone();
        for (index, unit) in self.units[self.must..].iter().enumerate() {
            if facts == *found {
                return Ok(Left::First(self.must + index));
            }
            unit.apply(&mut facts);
        }
        if facts == *found {
            return Ok(Left::First(self.units.len()));
        }
        if !holes {
            return Err(format!("it is no state that there was; {}", difference(&sure, found)));
        }
        let mut puzzle = Puzzle::new(found);
        for unit in self.units[self.must..].iter().rev() {
            puzzle.try_unit(unit);
        }
        puzzle.finish(&sure).map(|()| Left::Some)
    }
}

fn difference(expected: &Facts, found: &Facts) -> String {
    let missing = expected.iter().filter(|(fact, value)| found.get(fact) != Some(value));
    let surplus = found.iter().filter(|(fact, value)| expected.get(fact) != Some(value));
    let (missing, surplus): (Vec<_>, Vec<_>) = (missing.collect(), surplus.collect());
    format!("of what is promised this is missing: {missing:?}, and this is not among it: {surplus:?}")
}

/// Facts that were found, explained from the last unit back. A unit that contradicts what no later one
/// explains is not there; any other may as well be.
struct Puzzle<'a> {
    found: &'a Facts,
    explained: Explained,
}

#[derive(Clone, Default)]
struct Explained {
    facts: BTreeSet<Fact>,
    begun: BTreeSet<u64>,
    ended: BTreeSet<u64>,
}

impl<'a> Puzzle<'a> {
    fn new(found: &'a Facts) -> Self {
        Self { found, explained: Explained::default() }
    }

    fn try_unit(&mut self, unit: &Unit) {
        let before = self.explained.clone();
        if !unit.changes.iter().rev().all(|change| self.try_change(change)) {
            self.explained = before;
        }
    }

    /// Whether nothing speaks against it.
    fn try_change(&mut self, change: &Change) -> bool {
        match change {
            Change::Set(fact, value) => self.try_fact(fact, Some(value)),
            Change::Refer(fact, value) => !self.found.contains_key(fact) || self.try_fact(fact, Some(value)),
            Change::Unset(fact) => self.try_fact(fact, None),
            Change::Begin(session) => {
                let found = self.found.iter().filter(|(fact, value)| is_void(fact, value, *session));
                let all = found.into_iter().all(|(fact, _)| self.is_explained(fact));
                self.explained.begun.insert(*session);
                all
            }
            Change::End(session) => {
                self.explained.ended.insert(*session);
                !self.found.contains_key(&Fact::Session(*session))
            }
        }
    }

    fn try_fact(&mut self, fact: &Fact, value: Option<&Value>) -> bool {
        if self.is_explained(fact) {
            return true;
        }
        let found = self.found.get(fact);
        let begun = fact.session().is_some_and(|session| self.explained.begun.contains(&session));
        let fits = found == value || (begun && found.is_none() && value == Some(&Value::Received));
        self.explained.facts.insert(fact.clone());
        fits
    }

    fn is_explained(&self, fact: &Fact) -> bool {
        if self.explained.facts.contains(fact) {
            return true;
        }
        match (fact, fact.session()) {
            (Fact::Session(session), _) => self.explained.ended.contains(session),
            (_, None) => false,
            // What is said of a session that is not there goes unheard.
            (_, Some(session)) if !self.found.contains_key(&Fact::Session(session)) => true,
            (Fact::Place(..), Some(_)) => false,
            (_, Some(session)) => self.explained.begun.contains(&session),
        }
    }

    /// What is not explained yet was so before.
    fn finish(&mut self, base: &Facts) -> Result<(), String> {
        let facts: BTreeSet<_> = base.keys().chain(self.found.keys()).cloned().collect();
        for fact in facts {
            if !self.try_fact(&fact, base.get(&fact)) {
                let (expected, found) = (base.get(&fact), self.found.get(&fact));
                return Err(format!("{fact:?} should be {expected:?}, and is {found:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fact: &Fact) -> Change {
        Change::Set(fact.clone(), Value::Came)
    }

    #[test]
    fn a_unit_is_there_as_a_whole_or_not_at_all() {
        let facts: Vec<_> = (0..5).map(Fact::Came).collect();
        let unit = |changes: Vec<Change>| Unit { end: 0, changes };
        let units = [
            unit(vec![set(&facts[0]), set(&facts[1])]),
            unit(vec![set(&facts[2]), set(&facts[3])]),
            unit(vec![Change::Unset(facts[2].clone()), set(&facts[4])]),
        ];
        let base = Facts::new();
        let check = |must: usize, holes: bool, found: &[usize]| {
            let found = found.iter().map(|&at| (facts[at].clone(), Value::Came)).collect();
            Before { base: &base, units: &units, must }.explain(&found, holes)
        };
        assert_eq!(check(0, false, &[]), Ok(Left::First(0)));
        assert_eq!(check(0, false, &[0, 1, 2, 3]), Ok(Left::First(2)));
        assert_eq!(check(0, true, &[0, 1, 3, 4]), Ok(Left::First(3)));
        assert_eq!(check(0, true, &[2, 3]), Ok(Left::Some));
        assert_eq!(check(0, true, &[0, 1, 4]), Ok(Left::Some));
        check(0, false, &[2, 3]).unwrap_err();
        check(1, true, &[2, 3]).unwrap_err();
        check(0, true, &[0, 1, 2]).unwrap_err();
        check(0, true, &[2, 3, 4]).unwrap_err();
        check(0, true, &[0]).unwrap_err();
    }

    #[test]
    fn a_session_that_is_told_anew_has_nothing_of_before() {
        let subscription = Fact::Subscription(1, "a".into());
        let session = |closed_at_ms| {
            let value = Value::Session { client_id: "me".into(), expiry_s: 1, closed_at_ms };
            Change::Set(Fact::Session(1), value)
        };
        let base = Facts::new();
        let units = [
            Unit { end: 0, changes: vec![Change::Begin(1), session(None), set(&subscription)] },
            Unit { end: 0, changes: vec![Change::Begin(1), session(Some(1))] },
        ];
        let before = Before { base: &base, units: &units, must: 0 };
        let mut found = Facts::new();
        session(Some(1)).apply(&mut found);
        assert_eq!(before.explain(&found, true), Ok(Left::First(2)));
        set(&subscription).apply(&mut found);
        before.explain(&found, true).unwrap_err();
    }
}
