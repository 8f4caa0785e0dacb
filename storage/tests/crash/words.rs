//! What a shard says: a random unit, as one packet of a client would make it.

use ringmq_storage::{
    Log, LogOffset, PublicationRecord, QueueNumber, QueuedAs, QueuedMessage, Record, RecoveredWill,
    SessionRecord, SubscriptionIds, WillView,
};

use crate::facts::{Change, Fact, Value};
use crate::store::{Content, Ends, Store, named};

const SESSIONS_MAX: usize = 5;
const FILTERS: [&str; 4] = ["a", "b/#", "+/c", "$share/g/d"];
const TOPICS: [&str; 5] = ["a", "b/b", "x/c", "d", "e/f/g"];

const COMPLETED_AT_ONCE_MAX: usize = 12;

pub fn will_view(will: &RecoveredWill) -> WillView<'_> {
    WillView {
        topic: &will.topic,
        properties: &will.properties,
        payload: &will.payload,
        qos: will.qos,
        retain: will.retain,
        delay_s: will.delay_s,
        message_expiry_s: will.message_expiry_s,
    }
}

impl Store {
    /// One unit, or none where there is nothing to say.
    pub fn say_anything(&mut self) -> Result<(), Ends> {
        // A full log is left to what makes room.
        let full = self.log.is_full() && self.rng.chance(0.95);
        match self.rng.below(30) {
            16..24 => self.say_acked()?,
            27 => self.say_retained_cleared()?,
            _ if full => {}
            0..2 => self.say_session_begins()?,
            2..4 => self.say_session_changes()?,
            4..6 => self.say_subscription()?,
            6..16 => self.say_message()?,
            24 => self.say_will()?,
            25..27 => self.say_marks()?,
            28 => self.say_retained_replayed()?,
            _ => {
                for _ in 0..COMPLETED_AT_ONCE_MAX {
                    self.say_acked()?;
                }
            }
        }
        if self.rng.chance(self.unit_chance) {
            self.end_unit()?;
        }
        Ok(())
    }

    fn sessions(&self) -> Vec<u64> {
        let sessions = self.facts.keys().filter_map(|fact| match fact {
            Fact::Session(session) => Some(*session),
            _ => None,
        });
        sessions.collect()
    }

    fn any_session(&mut self) -> Option<u64> {
        let sessions = self.sessions();
        if sessions.is_empty() { None } else { Some(*self.rng.pick(&sessions)) }
    }

    /// Something that is known and that `which` selects.
    fn any_fact(&mut self, which: impl Fn(&Fact, &Value) -> bool) -> Option<(Fact, Value)> {
        let known: Vec<_> = self.facts.iter().filter(|(fact, value)| which(fact, value)).collect();
        if known.is_empty() {
            return None;
        }
        let (fact, value) = self.rng.pick(&known);
        Some(((*fact).clone(), (*value).clone()))
    }

    fn say_session_begins(&mut self) -> Result<(), Ends> {
        let sessions = self.sessions();
        if sessions.len() >= SESSIONS_MAX || (!sessions.is_empty() && self.rng.chance(0.2)) {
            let session = *self.rng.pick(&sessions);
            self.say_session_ended(session)?;
        }
        self.sessions_made += 1;
        let session = SessionRecord::new(self.epoch, 0, self.sessions_made).0;
        let next = self.rng.range(0..=1 << 40);
        let client_id = format!("client-{}", self.sessions_made);
        let expiry_s = self.rng.next_u64() as u32;
        let begins = Record::SessionBegins {
            session: named(session),
            client_id: &client_id,
            expiry_s,
            closed_at_ms: 0,
            next: QueueNumber(next),
        };
        self.change(Change::Begin(session));
        self.nexts.insert(session, next);
        let value = Value::Session { client_id: client_id.clone(), expiry_s, closed_at_ms: None };
        self.append(begins, Change::Set(Fact::Session(session), value))?;
        self.told_in.insert(session, self.log.head());
        if self.rng.chance(0.3) {
            self.say_will_of(session)?;
        }
        for _ in 0..self.rng.below(4) {
            self.say_subscribed(session)?;
        }
        Ok(())
    }

    fn say_session_ended(&mut self, session: u64) -> Result<(), Ends> {
        let facts: Vec<_> = self.offsets.keys().filter(|fact| fact.is_of(session)).cloned().collect();
        for fact in facts {
            self.release(&fact);
        }
        self.append(Record::SessionEnded { session: named(session) }, Change::End(session))
    }

    fn say_session_changes(&mut self) -> Result<(), Ends> {
        let Some((fact, value)) = self.any_fact(|fact, _| matches!(fact, Fact::Session(_))) else {
            return Ok(());
        };
        let (Fact::Session(session), Value::Session { client_id, .. }) = (&fact, value) else {
            unreachable!("it was chosen so");
        };
        let (session, record) = (*session, named(*session));
        let (expiry_s, at_ms) = (self.rng.next_u64() as u32, 1 + self.rng.range(0..=1 << 41));
        if self.rng.chance(0.1) {
            return self.say_session_ended(session);
        }
        if self.rng.chance(0.5) {
            let closed = Value::Session { client_id, expiry_s, closed_at_ms: Some(at_ms) };
            return self.append(
                Record::SessionClosed { session: record, expiry_s, at_ms },
                Change::Refer(fact, closed),
            );
        }
        let resumed = Value::Session { client_id, expiry_s, closed_at_ms: None };
        self.change(Change::Unset(Fact::Will(session)));
        self.append(Record::SessionResumed { session: record, expiry_s }, Change::Refer(fact, resumed))?;
        if self.rng.chance(0.3) {
            self.say_will_of(session)?;
        }
        Ok(())
    }

    fn say_subscription(&mut self) -> Result<(), Ends> {
        let held = self.any_fact(|fact, _| matches!(fact, Fact::Subscription(..)));
        if let Some((fact @ Fact::Subscription(..), _)) = &held
            && self.rng.chance(0.3)
        {
            let Fact::Subscription(session, filter) = fact else { unreachable!("it was just looked at") };
            let record = Record::Unsubscribed { session: named(*session), filter };
            return self.append(record, Change::Unset(fact.clone()));
        }
        match self.any_session() {
            Some(session) => self.say_subscribed(session),
            None => Ok(()),
        }
    }

    fn say_subscribed(&mut self, session: u64) -> Result<(), Ends> {
        let filter = *self.rng.pick(&FILTERS);
        let (options, id) = (self.rng.below(48) as u8, self.rng.below(1 << 28) as u32);
        let record = Record::Subscribed { session: named(session), filter, options, subscription_id: id };
        let fact = Fact::Subscription(session, filter.to_owned());
        self.append(record, Change::Set(fact, Value::Subscription { options, id }))
    }

    /// Of a message that never was before.
    fn new_message(&mut self) -> usize {
        let number = self.contents.len();
        let mut payload = (number as u32).to_le_bytes().to_vec();
        let bytes_max = self.options.segment_bytes / 8;
        let bytes = *self.rng.pick(&[0, 1, 13, 60, 400, 1000, 4000]);
        payload.resize(4 + self.rng.below(bytes.min(bytes_max) + 1), number as u8 | 1);
        let properties = if self.rng.chance(0.2) { self.rng.bytes(5) } else { Vec::new() };
        self.contents.push(Content {
            topic: (*self.rng.pick(&TOPICS)).to_owned(),
            properties,
            payload,
            qos: self.rng.below(3) as u8,
            expires_at_ms: *self.rng.pick(&[0, 0, 1 << 41]),
        });
        number
    }

    /// A publication that goes to some sessions, or is retained, or both.
    fn say_message(&mut self) -> Result<(), Ends> {
        let message = self.new_message();
        let Some(at) = self.keep(message)? else { return Ok(()) };
        for session in self.sessions() {
            if self.rng.chance(0.4) {
                self.say_queued((session, message), at, Change::Set)?;
            }
        }
        if self.rng.chance(0.15) {
            let fact = Fact::Retained(self.contents[message].topic.clone());
            self.release(&fact);
            self.log.retain(at);
            self.offsets.insert(fact.clone(), at);
            self.append(Record::Retained { message: at }, Change::Set(fact, Value::Retained { message }))?;
        }
        // The reference with which it was kept.
        self.log.release(at);
        if self.rng.chance(0.3) { self.say_marks() } else { Ok(()) }
    }

    fn say_queued(
        &mut self,
        (session, message): (u64, usize),
        at: LogOffset,
        change: fn(Fact, Value) -> Change,
    ) -> Result<(), Ends> {
        let next = self.nexts.get_mut(&session).expect("it has begun");
        let number = *next;
        *next += 1;
        let (qos, retain) = (1 + self.rng.below(2) as u8, self.rng.chance(0.2));
        let ids: Vec<u32> = (0..self.rng.below(5) as u32 / 3).collect();
        let group = self.rng.chance(0.1).then(|| "$share/g/d".to_owned());
        let queued = QueuedMessage {
            number: QueueNumber(number),
            message: at,
            queued_as: QueuedAs { qos, retain },
            ids: SubscriptionIds::Numbers(&ids),
            group: group.as_deref(),
        };
        let fact = Fact::Place(session, number);
        self.log.retain(at);
        self.offsets.insert(fact.clone(), at);
        let record = Record::Queued { session: named(session), queued };
        let value = Value::Queued { message, qos, retain, ids: ids.clone(), group: group.clone() };
        self.append(record, change(fact, value))
    }

    /// A session's client acknowledges something.
    fn say_acked(&mut self) -> Result<(), Ends> {
        let Some((fact, value)) = self.any_fact(|fact, _| matches!(fact, Fact::Place(..))) else {
            return Ok(());
        };
        let Fact::Place(session, number) = fact else { unreachable!("it was chosen so") };
        let (session, number) = (named(session), QueueNumber(number));
        self.release(&fact);
        if matches!(value, Value::Queued { qos: 2, .. }) && self.rng.chance(0.7) {
            return self.append(Record::Received { session, number }, Change::Set(fact, Value::Received));
        }
        self.append(Record::Completed { session, number, count: 1 }, Change::Unset(fact))
    }

    fn say_will(&mut self) -> Result<(), Ends> {
        if let Some((fact, _)) = self.any_fact(|fact, _| matches!(fact, Fact::Will(_)))
            && self.rng.chance(0.5)
        {
            let Fact::Will(session) = fact else { unreachable!("it was chosen so") };
            return self.append(Record::WillGone { session: named(session) }, Change::Unset(fact));
        }
        match self.any_session() {
            Some(session) => self.say_will_of(session),
            None => Ok(()),
        }
    }

    fn say_will_of(&mut self, session: u64) -> Result<(), Ends> {
        let will = RecoveredWill {
            topic: "will".into(),
            properties: self.rng.bytes(3).into(),
            payload: vec![b'w'; self.rng.below(100)].into(),
            qos: self.rng.below(3) as u8,
            retain: self.rng.chance(0.5),
            delay_s: self.rng.next_u64() as u32,
            message_expiry_s: self.rng.chance(0.5).then_some(7),
        };
        let record = Record::Will { session: named(session), will: will_view(&will) };
        self.append(record, Change::Set(Fact::Will(session), Value::Will(will.clone())))
    }

    /// QoS 2 packet ids are taken and released.
    fn say_marks(&mut self) -> Result<(), Ends> {
        if self.rng.chance(0.4) {
            return self.say_came();
        }
        let Some(session) = self.any_session() else { return Ok(()) };
        let (record, packet_id) = (named(session), 1 + self.rng.below(6) as u16);
        let fact = Fact::Taken(session, packet_id);
        if self.rng.chance(0.4) {
            return self.append(Record::Released { session: record, packet_id }, Change::Unset(fact));
        }
        let publication = self.rng.chance(0.3).then(|| self.rng.next_u64());
        let taken =
            Record::Taken { session: record, packet_id, publication: publication.map(PublicationRecord) };
        self.append(taken, Change::Set(fact, Value::Taken { publication }))
    }

    /// Publications come from other shards.
    fn say_came(&mut self) -> Result<(), Ends> {
        let publication = 1 << 40 | self.rng.range(0..=9);
        let (record, fact) = (PublicationRecord(publication), Fact::Came(publication));
        if self.rng.chance(0.6) {
            return self.append(Record::Came { publication: record }, Change::Set(fact, Value::Came));
        }
        self.append(Record::Went { publication: record }, Change::Unset(fact))
    }

    fn say_retained_cleared(&mut self) -> Result<(), Ends> {
        let Some((fact, _)) = self.any_fact(|fact, _| matches!(fact, Fact::Retained(_))) else {
            return Ok(());
        };
        self.release(&fact);
        let Fact::Retained(topic) = &fact else { unreachable!("it was chosen so") };
        self.append(Record::RetainedCleared { topic }, Change::Unset(fact.clone()))
    }

    /// A session gets a retained message, which an earlier unit wrote.
    fn say_retained_replayed(&mut self) -> Result<(), Ends> {
        let retained = self.any_fact(|fact, _| matches!(fact, Fact::Retained(_)));
        let (Some((fact, Value::Retained { message })), Some(session)) = (retained, self.any_session())
        else {
            return Ok(());
        };
        self.say_queued((session, message), self.offsets[&fact], Change::Refer)
    }
}
