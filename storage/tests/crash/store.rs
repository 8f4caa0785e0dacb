//! A log, what was said to it, and what must be there after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringmq_sim::{Crash, Rng, SimDisk};
use ringmq_storage::{
    Level, Log, LogOffset, LogOptions, MessageView, QueueNumber, Record, Recovered, SegmentId, SegmentLog,
    SessionRecord, encoded_len, open_log,
};
use ringmq_turn::{SyncFailure, SyncTicket};

use crate::compact::Walk;
use crate::disk::{SharedDisk, TestDisk};
use crate::facts::{Before, Change, Fact, Facts, Unit, Value};

/// A message as it was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub topic: String,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub expires_at_ms: u64,
}

impl Content {
    pub fn view(&self) -> MessageView<'_> {
        MessageView {
            topic: self.topic.as_bytes(),
            properties: &self.properties,
            payload: &self.payload,
            shared_payload: None,
            qos: self.qos,
            expires_at_ms: self.expires_at_ms,
        }
    }

    fn is(&self, view: &MessageView<'_>) -> bool {
        (view.topic, view.properties, view.payload)
            == (self.topic.as_bytes(), &self.properties[..], &self.payload[..])
            && (view.qos, view.expires_at_ms) == (self.qos, self.expires_at_ms)
    }
}

/// When the test takes something for acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When the log says that it has reached the level.
    Right,
    /// A level earlier: so the test has to find a loss.
    Early,
}

/// The program ends here.
#[derive(Debug)]
pub struct Ends;

/// The process that writes, and the disk that outlives it.
pub struct Store {
    pub rng: Rng,
    pub log: SegmentLog<TestDisk>,
    pub options: LogOptions,
    pub disk: SharedDisk,
    pub acks: Acks,
    pub contents: Vec<Content>,
    /// All that was said, whether it lasts or not.
    pub facts: Facts,
    /// Where the messages of places in queues and of retained ones are.
    pub offsets: BTreeMap<Fact, LogOffset>,
    /// The oldest segment that says something of a session.
    pub told_in: BTreeMap<u64, SegmentId>,
    /// The next message's number in a session's queue.
    pub nexts: BTreeMap<u64, u64>,
    /// What was true before `units`, and is durable.
    base: Facts,
    units: Vec<Unit>,
    /// How many of them are promised to outlive a kill, and how many a power loss.
    promised: [usize; 2],
    /// What the unit that is being written says.
    changes: Vec<Change>,
    pub walk: Option<Walk>,
    /// The compaction has just moved a message, and has not said so yet.
    pub moved: bool,
    /// The last recovery found no damage.
    whole: bool,
    syncs: Vec<(SyncTicket, u64)>,
    pub turns: u64,
    /// Probability that a unit ends where it may.
    pub unit_chance: f64,
    /// Until the process ends, in records.
    pub fuel: usize,
    pub epoch: u32,
    pub sessions_made: u64,
}

/// Writing.
impl Store {
    pub fn new(mut rng: Rng, options: LogOptions, acks: Acks) -> Self {
        let disk = Rc::new(RefCell::new(SimDisk::new(rng.fork())));
        let (log, recovered) =
            open_log(TestDisk::new(&disk, "", rng.fork()), options).expect("an empty disk can be opened");
        assert!(recovered.sessions.is_empty() && recovered.damage.is_empty(), "{recovered:?}");
        let unit_chance = *rng.pick(&[0.9, 0.9, 0.5, 0.1]);
        Self {
            rng,
            log,
            options,
            disk,
            acks,
            contents: Vec::new(),
            facts: Facts::new(),
            offsets: BTreeMap::new(),
            told_in: BTreeMap::new(),
            nexts: BTreeMap::new(),
            base: Facts::new(),
            units: Vec::new(),
            promised: [0; 2],
            changes: Vec::new(),
            walk: None,
            moved: false,
            whole: true,
            syncs: Vec::new(),
            turns: 0,
            unit_chance,
            fuel: usize::MAX,
            epoch: 1,
            sessions_made: 0,
        }
    }

    fn burn(&mut self) -> Result<(), Ends> {
        self.fuel = self.fuel.checked_sub(1).ok_or(Ends)?;
        Ok(())
    }

    /// Appends a record, which says this.
    pub fn append(&mut self, record: Record<'_>, change: Change) -> Result<(), Ends> {
        self.burn()?;
        self.log.append(record);
        self.change(change);
        Ok(())
    }

    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.facts);
        self.changes.push(change);
    }

    /// Keeps a message; none if there is no room for it.
    pub fn keep(&mut self, message: usize) -> Result<Option<LogOffset>, Ends> {
        self.burn()?;
        let before = self.log.appended();
        let kept = self.log.keep(&self.contents[message].view());
        assert_eq!(self.log.appended() - before, u64::from(kept.is_ok()), "what is refused is not there");
        Ok(kept.ok())
    }

    pub fn end_unit(&mut self) -> Result<(), Ends> {
        self.log.end_unit();
        let changes = std::mem::take(&mut self.changes);
        self.units.push(Unit { end: self.log.appended(), changes });
        self.burn()
    }

    /// A reference to a message ends.
    pub fn release(&mut self, fact: &Fact) {
        if let Some(at) = self.offsets.remove(fact) {
            self.log.release(at);
        }
    }

    /// Whatever follows in a turn that has handed everything in.
    pub fn turn_over(&mut self) -> Result<(), Ends> {
        self.compact()?;
        self.log.turn_over();
        self.check_levels();
        let delay = *self.rng.pick(&[0, 1, 3, 10]);
        while let Some(request) = self.log.sync() {
            self.syncs.push((request.ticket, self.turns + self.rng.range(0..=delay)));
        }
        self.promise();
        self.turns += 1;
        self.burn()?;
        while let Some(at) = self.syncs.iter().position(|(_, due)| *due <= self.turns) {
            let (ticket, _) = self.syncs.swap_remove(at);
            let failed = self.fuel < usize::MAX && self.rng.chance(0.05);
            let outcome = if failed { Err(SyncFailure { errno: 5 }) } else { Ok(Duration::from_micros(9)) };
            self.log.synced(ticket, outcome);
            self.check_levels();
        }
        self.promise();
        Ok(())
    }

    fn check_levels(&self) {
        let reached = [Level::Memory, Level::Written, Level::Synced].map(|level| self.log.reached(level));
        assert!(reached.is_sorted_by(|higher, lower| higher >= lower), "{reached:?}");
        assert_eq!(reached[0], self.log.appended());
    }

    /// Notes what the log promises now, at the end of a turn.
    fn promise(&mut self) {
        let levels = match self.acks {
            Acks::Right => [Level::Written, Level::Synced],
            Acks::Early => [Level::Memory, Level::Written],
        };
        for (promised, level) in self.promised.iter_mut().zip(levels) {
            let reached = self.log.reached(level);
            let units = self.units.partition_point(|unit| unit.end <= reached);
            *promised = units.max(*promised);
        }
        self.forget_old_units();
    }

    /// What is durable need not be kept one by one.
    fn forget_old_units(&mut self) {
        const UNITS_MAX: usize = 200;
        let durable = self.promised[1];
        if durable >= UNITS_MAX {
            for unit in self.units.drain(..durable) {
                unit.apply(&mut self.base);
            }
            self.promised = self.promised.map(|units| units - durable);
        }
    }

    /// Lets turns pass until all is durable, and nothing is left to be done.
    pub fn settle(&mut self) {
        const TURNS_MAX: usize = 5000;
        const QUIET_TURNS: usize = 30;
        let (mut quiet, mut last) = (0, self.log.figures());
        for _ in 0..TURNS_MAX {
            self.log.want_synced();
            self.turn_over().expect("there is fuel");
            let figures = self.log.figures();
            let done = self.log.reached(Level::Synced) == self.log.appended() && self.walk.is_none();
            quiet = if done && figures == last { quiet + 1 } else { 0 };
            if quiet > QUIET_TURNS {
                return;
            }
            last = figures;
        }
        panic!("all has to become durable some day: {last:?} of {}", self.log.appended());
    }

    /// Bytes of messages that are referred to.
    pub fn live_bytes(&self) -> u64 {
        let mut live: Vec<_> = self.offsets.values().copied().collect();
        live.sort_by_key(|at| at.get());
        live.dedup();
        live.iter().map(|at| encoded_len(&Record::Message(self.log.message(*at))) as u64).sum()
    }

    /// Bytes of the records that a compaction would write, about.
    pub fn state_bytes(&self) -> u64 {
        self.facts.len() as u64 * 48
    }
}

/// Ending, and beginning again.
impl Store {
    /// The process ends in this way; the next one finds what it must.
    pub fn crash(mut self, crash: Crash) -> Result<Self, String> {
        if self.acks == Acks::Early {
            self.promise();
        }
        let Self { rng, disk, log, options, .. } = &mut self;
        let next = TestDisk::new(disk, "", rng.fork());
        // An empty log stands in: what the process held is given back before the crash.
        let stand_in = Rc::new(RefCell::new(SimDisk::new(Rng::new(0))));
        let (empty, _) = open_log(TestDisk::new(&stand_in, "", Rng::new(0)), *options).expect("it is empty");
        drop(std::mem::replace(log, empty));
        disk.borrow_mut().crash(crash);
        disk.borrow_mut().set_capacity_bytes(u64::MAX);
        let (log, recovered) = open_log(next, *options).map_err(|error| error.to_string())?;
        self.log = log;
        let appended = self.log.appended();
        (self.syncs, self.walk, self.moved, self.changes) = (Vec::new(), None, false, Vec::new());
        self.epoch += 1;
        self.check(crash, &recovered)?;
        assert_eq!(self.log.appended(), appended);
        Ok(self)
    }

    fn check(&mut self, crash: Crash, recovered: &Recovered) -> Result<(), String> {
        let found = self.take(recovered)?;
        let [written, synced] = self.promised;
        let must = if crash == Crash::Kill { written.max(synced) } else { synced };
        // What was damaged by a power loss is there until it is compacted.
        let whole = recovered.damage.iter().all(|damage| damage.torn_tail);
        let was_whole = std::mem::replace(&mut self.whole, whole);
        if crash == Crash::Kill && was_whole && !whole {
            return Err(format!("a kill damages nothing: {:?} {:?}", recovered.damage, recovered.losses));
        }
        if std::env::var_os("RINGMQ_TRACE").is_some() {
            self.trace(crash, must, (&found, recovered));
        }
        if crash == Crash::Kill {
            self.truncate(must)?;
            let before = Before { base: &self.base, units: &self.units, must: self.units.len() };
            before.explain(&found, false)?;
        } else {
            Before { base: &self.base, units: &self.units, must }.explain(&found, true)?;
            self.units.clear();
            self.promised = [0; 2];
            self.base.clone_from(&found);
        }
        self.facts = found;
        Ok(())
    }

    /// All records up to a number are there after a kill, and none behind.
    fn truncate(&mut self, must: usize) -> Result<(), String> {
        let appended = self.log.appended();
        let is_empty = appended == 0 || self.units.last().is_some_and(|unit| unit.end < appended);
        // Nothing is left of a log that goes on with other numbers, but all that must be.
        let left = if is_empty { must } else { self.units.partition_point(|unit| unit.end <= appended) };
        if left < must {
            return Err(format!("{must} units were written, and {left} are left"));
        }
        self.units.truncate(left);
        self.promised[0] = left;
        Ok(())
    }

    fn trace(&self, crash: Crash, must: usize, (found, recovered): (&Facts, &Recovered)) {
        eprintln!("{crash:?}, {must} units of {} are promised", self.units.len());
        for unit in &self.units {
            eprintln!("  to {}: {:?}", unit.end, unit.changes);
        }
        eprintln!("  there is {found:?}\n  {:?} {:?}", recovered.damage, recovered.losses);
    }

    /// Takes over what was found.
    fn take(&mut self, recovered: &Recovered) -> Result<Facts, String> {
        let mut facts = Facts::new();
        self.offsets.clear();
        self.told_in.clear();
        for session in &recovered.sessions {
            self.take_session(session, &mut facts)?;
        }
        for &at in &recovered.retained {
            let message = self.content_of(at)?;
            let fact = Fact::Retained(self.contents[message].topic.clone());
            self.offsets.insert(fact.clone(), at);
            if facts.insert(fact.clone(), Value::Retained { message }).is_some() {
                return Err(format!("{fact:?} is there twice"));
            }
        }
        for publication in &recovered.came {
            facts.insert(Fact::Came(publication.0), Value::Came);
        }
        let figures = self.log.figures();
        if figures.live_bytes != self.live_bytes() {
            return Err(format!("{} bytes are live, not {}", self.live_bytes(), figures.live_bytes));
        }
        Ok(facts)
    }

    /// The message at an offset, which must be one that was written.
    fn content_of(&self, at: LogOffset) -> Result<usize, String> {
        let view = self.log.message(at);
        let number = view.payload.first_chunk().map(|number| u32::from_le_bytes(*number) as usize);
        let known =
            number.filter(|&number| self.contents.get(number).is_some_and(|content| content.is(&view)));
        known.ok_or_else(|| format!("the message at {at:?} is none that was written: {view:?}"))
    }

    fn take_session(
        &mut self,
        session: &ringmq_storage::RecoveredSession,
        facts: &mut Facts,
    ) -> Result<(), String> {
        let record = session.record.0;
        let value = Value::Session {
            client_id: session.client_id.to_string(),
            expiry_s: session.expiry_s,
            closed_at_ms: session.closed_at_ms,
        };
        if facts.insert(Fact::Session(record), value).is_some() {
            return Err(format!("session {record:x} is there twice"));
        }
        if let Some(will) = &session.will {
            facts.insert(Fact::Will(record), Value::Will(will.clone()));
        }
        for held in &session.subscriptions {
            let value = Value::Subscription { options: held.options, id: held.subscription_id };
            facts.insert(Fact::Subscription(record, held.filter.to_string()), value);
        }
        for (id, publication) in &session.taken {
            let publication = publication.map(|publication| publication.0);
            facts.insert(Fact::Taken(record, *id), Value::Taken { publication });
        }
        let mut last = None;
        for queued in &session.messages {
            let number = queued.number.0;
            let fact = Fact::Place(record, number);
            if last.replace(number).is_some_and(|last| last >= number) || session.next.0 <= number {
                return Err(format!("{number} is out of order, next is {:?}", session.next));
            }
            let value = match queued.message {
                Some(at) => {
                    let message = self.content_of(at)?;
                    self.offsets.insert(fact.clone(), at);
                    let (ids, group) = queued.more.as_deref().cloned().unwrap_or_default();
                    let (qos, retain) = (queued.queued_as.qos, queued.queued_as.retain);
                    let (ids, group) = (ids.into_vec(), group.map(String::from));
                    Value::Queued { message, qos, retain, ids, group }
                }
                None => Value::Received,
            };
            facts.insert(fact, value);
        }
        self.told_in.insert(record, session.told_in);
        self.take_next(record, session.next)
    }

    /// A number is not given twice, unless it was lost with what it was given to.
    fn take_next(&mut self, record: u64, next: QueueNumber) -> Result<(), String> {
        let given = self.nexts.insert(record, next.0);
        let surely = self.units[..self.promised[1]].iter().flat_map(|unit| &unit.changes);
        let surely = surely.filter_map(|change| match change {
            Change::Set(Fact::Place(session, number), _) if *session == record => Some(number + 1),
            _ => None,
        });
        let (least, most) = (surely.max().unwrap_or(0), given.unwrap_or(0));
        if !(least..=most).contains(&next.0) {
            return Err(format!("next in the queue of {record:x} is {next:?}, of {least} to {most}"));
        }
        Ok(())
    }
}

/// A session as records name it.
pub fn named(session: u64) -> SessionRecord {
    SessionRecord(session)
}
