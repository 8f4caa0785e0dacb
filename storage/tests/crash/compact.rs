//! What a shard does when its log is to be compacted: all that lies in old segments is said anew.

use ringmq_storage::{
    Log, PublicationRecord, QueueNumber, QueuedAs, QueuedMessage, Record, SegmentId, SubscriptionIds,
};

use crate::facts::{Change, Fact, Value};
use crate::store::{Ends, Store, named};
use crate::words::will_view;

/// A compaction under way.
pub struct Walk {
    before: SegmentId,
    /// What is still to be looked at.
    left: Vec<Fact>,
}

impl Store {
    /// A slice of the compaction that is due, if one is.
    pub fn compact(&mut self) -> Result<(), Ends> {
        let Some(due) = self.log.compaction(self.state_bytes()) else {
            self.walk = None;
            return Ok(());
        };
        if self.walk.as_ref().is_none_or(|walk| walk.before != due.before) {
            self.walk = Some(Walk { before: due.before, left: self.facts.keys().cloned().collect() });
        }
        let start = self.log.figures().appended_bytes;
        while self.log.figures().appended_bytes - start < due.bytes as u64 {
            let Some(fact) = self.walk.as_mut().and_then(|walk| walk.left.pop()) else {
                if self.rest_of(due.before) {
                    continue;
                }
                self.walk = None;
                self.log.compacted();
                break;
            };
            if !self.move_message(&fact, due.before) {
                // There is no room: again in the next turn.
                self.walk.as_mut().expect("it was just there").left.push(fact);
                break;
            }
            self.say_anew(&fact, due.before)?;
            if self.rng.chance(0.5) {
                self.end_unit()?;
            }
        }
        self.end_unit()
    }

    /// Moves the message of a fact, if it has one that lies in the old segments. False if it has to stay.
    fn move_message(&mut self, fact: &Fact, before: SegmentId) -> bool {
        let Some(&at) = self.offsets.get(fact).filter(|at| at.segment() < before) else { return true };
        let to = self.log.relocate(at);
        self.offsets.insert(fact.clone(), to);
        self.moved = to != at;
        to.segment() >= before
    }

    /// Looks whether something came to lie in the old segments after the walk had passed.
    fn rest_of(&mut self, before: SegmentId) -> bool {
        let left = self.offsets.iter().filter(|(_, at)| at.segment() < before);
        let left: Vec<_> = left.map(|(fact, _)| fact.clone()).collect();
        let any = !left.is_empty();
        self.walk = Some(Walk { before, left });
        any
    }

    fn say_anew(&mut self, fact: &Fact, before: SegmentId) -> Result<(), Ends> {
        let moved = std::mem::take(&mut self.moved);
        match (fact, self.facts.get(fact).cloned()) {
            (Fact::Session(session), Some(_)) if self.told_in[session] < before => {
                self.tell_session(*session)
            }
            (Fact::Place(session, number), Some(value)) if moved => {
                self.say_moved((*session, *number), value)
            }
            (Fact::Retained(_), Some(value)) if moved => {
                let message = self.offsets[fact];
                self.append(Record::Retained { message }, Change::Refer(fact.clone(), value))
            }
            (Fact::Came(publication), Some(value)) => {
                let record = Record::Came { publication: PublicationRecord(*publication) };
                self.append(record, Change::Set(fact.clone(), value))
            }
            (
                Fact::Session(_)
                | Fact::Will(_)
                | Fact::Subscription(..)
                | Fact::Taken(..)
                | Fact::Place(..)
                | Fact::Retained(_)
                | Fact::Came(_),
                _,
            ) => Ok(()),
        }
    }

    fn say_moved(&mut self, (session, number): (u64, u64), value: Value) -> Result<(), Ends> {
        let fact = Fact::Place(session, number);
        let Value::Queued { qos, retain, ids, group, .. } = &value else {
            unreachable!("what has a message is queued");
        };
        let queued = QueuedMessage {
            number: QueueNumber(number),
            message: self.offsets[&fact],
            queued_as: QueuedAs { qos: *qos, retain: *retain },
            ids: SubscriptionIds::Numbers(ids),
            group: group.as_deref(),
        };
        let record = Record::Queued { session: named(session), queued };
        // The copy may have been made for another reference, in an earlier unit.
        self.append(record, Change::Refer(fact, value.clone()))
    }

    /// All that is known of a session, but for the messages of its queue; a unit of its own.
    fn tell_session(&mut self, session: u64) -> Result<(), Ends> {
        self.end_unit()?;
        let head = self.log.head();
        let known = self.facts.iter().filter(|(fact, _)| fact.is_of(session));
        let known: Vec<_> = known.map(|(fact, value)| (fact.clone(), value.clone())).collect();
        self.change(Change::Begin(session));
        let record = named(session);
        for (fact, value) in known {
            let change = Change::Set(fact.clone(), value.clone());
            match (&fact, &value) {
                (Fact::Session(_), Value::Session { client_id, expiry_s, closed_at_ms }) => {
                    let begins = Record::SessionBegins {
                        session: record,
                        client_id,
                        expiry_s: *expiry_s,
                        closed_at_ms: closed_at_ms.unwrap_or(0),
                        next: QueueNumber(self.nexts[&session]),
                    };
                    self.append(begins, change)?;
                }
                (Fact::Will(_), Value::Will(will)) => {
                    self.append(Record::Will { session: record, will: will_view(will) }, change)?;
                }
                (Fact::Subscription(_, filter), Value::Subscription { options, id }) => {
                    let subscribed = Record::Subscribed {
                        session: record,
                        filter,
                        options: *options,
                        subscription_id: *id,
                    };
                    self.append(subscribed, change)?;
                }
                (Fact::Taken(_, id), Value::Taken { publication }) => {
                    let publication = publication.map(PublicationRecord);
                    let taken = Record::Taken { session: record, packet_id: *id, publication };
                    self.append(taken, change)?;
                }
                (Fact::Place(_, number), Value::Received) => {
                    let received = Record::Received { session: record, number: QueueNumber(*number) };
                    self.append(received, change)?;
                }
                _ => {}
            }
        }
        self.told_in.insert(session, head);
        self.end_unit()
    }

    /// How much a log may take at rest: twice what lives, two segments, and two that hold little when too
    /// little has changed to look at them again.
    pub fn check_bound(&self) {
        let figures = self.log.figures();
        let lives = figures.live_bytes + self.state_bytes();
        let segment_bytes = self.options.segment_bytes as u64;
        let bound = 2 * lives + 4 * segment_bytes;
        assert!(figures.disk_bytes <= bound, "{lives} bytes live, the bound is {bound}: {figures:?}");
        assert_eq!(figures.live_bytes, self.live_bytes());
    }
}
