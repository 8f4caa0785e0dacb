//! The disk stays near what lives, and compaction loses nothing.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{Compaction, Level};

const SESSIONS: usize = 20;

struct Entry {
    number: u64,
    message: LogOffset,
    /// What the message says.
    says: u64,
}

#[derive(Default)]
struct Session {
    queue: VecDeque<Entry>,
    next: u64,
    told_in: SegmentId,
}

/// What an engine does with a log: sessions with queues, told anew by slices when there is a compaction.
struct Model {
    log: TestLog,
    disk: DiskHandle,
    dice: Dice,
    sessions: Vec<Session>,
    said: u64,
    /// The session, and the entry in its queue, that a compaction walks next.
    walk: Option<(usize, usize)>,
    compactions: usize,
    /// The most segments on disk beyond twice of what lives.
    most: f64,
}

impl Model {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let (log, disk) = new_log();
        let sessions = (0..SESSIONS).map(|_| Session::default()).collect();
        let mut model =
            Self { log, disk, dice: Dice(seed), sessions, said: 0, walk: None, compactions: 0, most: 0.0 };
        (0..SESSIONS).for_each(|index| model.tell(index));
        model
    }

    fn tell(&mut self, index: usize) {
        let session = SessionRecord(index as u64);
        let next = QueueNumber(self.sessions[index].next);
        let client_id = "a-client-with-a-name";
        self.log.append(Record::SessionBegins { session, client_id, expiry_s: 9, closed_at_ms: 0, next });
        self.sessions[index].told_in = self.log.head();
        self.log.end_unit();
    }

    fn publish(&mut self, receivers: u64) {
        let mut payload = vec![0; 8 + self.dice.below(400) as usize];
        payload[..8].copy_from_slice(&self.said.to_le_bytes());
        let message = self.log.keep(&view(&payload)).unwrap();
        for receiver in 0..receivers {
            if receiver > 0 {
                self.log.retain(message);
            }
            let index = self.dice.below(SESSIONS as u64) as usize;
            let session = &mut self.sessions[index];
            session.queue.push_back(Entry { number: session.next, message, says: self.said });
            self.log.append(queued(SessionRecord(index as u64), session.next, message));
            session.next += 1;
        }
        self.said += 1;
        self.log.end_unit();
    }

    fn complete(&mut self, index: usize) {
        // A place near the front, as with acks out of order.
        let place = self.dice.below(3).min(self.sessions[index].queue.len() as u64) as usize;
        let Some(entry) = self.sessions[index].queue.remove(place) else { return };
        // A compaction that is in the middle of this queue sees it one shorter.
        if let Some((session, next)) = &mut self.walk
            && *session == index
            && place < *next
        {
            *next -= 1;
        }
        let session = SessionRecord(index as u64);
        self.log.append(Record::Completed { session, number: QueueNumber(entry.number), count: 1 });
        self.log.release(entry.message);
        self.log.end_unit();
    }

    fn state_bytes(&self) -> u64 {
        let entries: usize = self.sessions.iter().map(|session| session.queue.len()).sum();
        (entries * 32 + SESSIONS * 60) as u64
    }

    fn turn_over(&mut self) {
        if let Some(due) = self.log.compaction(self.state_bytes()) {
            self.walk(due);
        }
        turn_over(&mut self.log);
        let live = self.log.figures().live_bytes + self.state_bytes();
        let beyond = self.log.figures().disk_bytes as f64 - 2.0 * live as f64;
        self.most = self.most.max(beyond / SEGMENT_BYTES as f64);
    }

    fn walk(&mut self, due: Compaction) {
        let (mut index, mut next) = self.walk.take().unwrap_or((0, 0));
        let end = self.log.figures().appended_bytes + due.bytes as u64;
        while index < SESSIONS {
            if next == 0 && self.sessions[index].told_in < due.before {
                self.tell(index);
            }
            while let Some(entry) = self.sessions[index].queue.get_mut(next) {
                if self.log.figures().appended_bytes > end {
                    self.walk = Some((index, next));
                    return;
                }
                next += 1;
                if entry.message.segment() < due.before {
                    entry.message = self.log.relocate(entry.message);
                    self.log.append(queued(SessionRecord(index as u64), entry.number, entry.message));
                    self.log.end_unit();
                }
            }
            (index, next) = (index + 1, 0);
        }
        self.log.compacted();
        self.compactions += 1;
    }

    /// Reads the log as a recovery would, and compares.
    fn check(&self) {
        assert_eq!(self.log.reached(Level::Written), self.log.appended());
        let mut queues: Vec<BTreeMap<u64, LogOffset>> = vec![BTreeMap::new(); SESSIONS];
        let mut begun = [false; SESSIONS];
        let mut says = BTreeMap::new();
        for_each_record(&self.log, |_, at, record| match record {
            Record::Message(message) => {
                says.insert(at, u64::from_le_bytes(*message.payload.first_chunk().unwrap()));
            }
            Record::SessionBegins { session, .. } => begun[session.0 as usize] = true,
            Record::Queued { session, queued } => {
                queues[session.0 as usize].insert(queued.number.0, queued.message);
            }
            Record::Completed { session, number, .. } => {
                queues[session.0 as usize].remove(&number.0);
            }
            other => panic!("{other:?} was not written"),
        });
        assert_eq!(begun, [true; SESSIONS]);
        for (session, read) in self.sessions.iter().zip(&queues) {
            let held = session.queue.iter().map(|entry| (entry.number, entry.message));
            assert!(held.eq(read.iter().map(|(number, at)| (*number, *at))));
            for entry in &session.queue {
                assert_eq!(says.get(&entry.message), Some(&entry.says));
            }
        }
    }

    /// Lets turns pass in which nothing happens.
    fn rest(&mut self) {
        (0..2000).for_each(|_| self.turn_over());
        self.check();
        let compactions = self.compactions;
        (0..200).for_each(|_| self.turn_over());
        assert_eq!(self.compactions, compactions, "at rest, nothing is done");
        let live = self.log.figures().live_bytes + self.state_bytes();
        let disk = self.log.figures().disk_bytes;
        assert!(disk <= 2 * live + 2 * SEGMENT_BYTES as u64, "{disk} for {live}");
        assert_eq!(
            self.log.figures().disk_bytes / SEGMENT_BYTES as u64,
            self.disk.borrow().exist.len() as u64
        );
    }
}

#[test]
fn queues_that_come_and_go_leave_little_behind() {
    for seed in 0..6 {
        let mut model = Model::new(seed);
        for turn in 0..1500 {
            let publications = model.dice.below(12);
            let receivers = 1 + model.dice.below(3);
            (0..publications).for_each(|_| model.publish(receivers));
            // Grow, then shrink, and so on.
            let completions = if turn / 200 % 2 == 0 { 8 } else { 24 };
            for _ in 0..completions {
                let index = model.dice.below(SESSIONS as u64) as usize;
                model.complete(index);
            }
            model.turn_over();
            if turn % 100 == 0 {
                model.check();
            }
        }
        println!("{} compactions, {:.2} segments beyond at most", model.compactions, model.most);
        assert!(model.compactions > 5 && model.most < 8.0);
        model.rest();
        while model.sessions.iter().any(|session| !session.queue.is_empty()) {
            (0..SESSIONS).for_each(|index| model.complete(index));
            model.turn_over();
        }
        model.rest();
        assert_eq!(model.log.figures().live_bytes, 0);
    }
}

#[test]
fn a_long_queue_in_front_does_not_pin_what_comes_and_goes_behind() {
    let mut model = Model::new(7);
    (0..1000).for_each(|_| model.publish(1));
    let before: usize = model.sessions.iter().map(|session| session.queue.len()).sum();
    for _ in 0..4000 {
        (0..4).for_each(|_| model.publish(1));
        // The newest go at once.
        for session in 0..SESSIONS {
            while model.sessions[session].queue.back().is_some_and(|entry| entry.says >= 1000) {
                let entry = model.sessions[session].queue.pop_back().unwrap();
                let number = QueueNumber(entry.number);
                model.log.append(Record::Completed {
                    session: SessionRecord(session as u64),
                    number,
                    count: 1,
                });
                model.log.release(entry.message);
            }
            model.log.end_unit();
        }
        model.turn_over();
    }
    println!("{} compactions, {:.2} segments beyond at most", model.compactions, model.most);
    assert!(model.most < 5.0);
    let figures = model.log.figures();
    println!("{} bytes copied for {} appended", figures.copied_bytes, figures.appended_bytes);
    model.rest();
    assert_eq!(model.sessions.iter().map(|session| session.queue.len()).sum::<usize>(), before);
}

#[test]
fn a_disk_that_was_filled_is_used_again_when_queues_are_drained() {
    // On a disk of fewer segments there may not be room to tell that messages are done with which several
    // sessions share: it stays full until somebody makes room.
    for (seed, room) in (0..40).zip(7..) {
        let receivers = 1 + seed % 2;
        let mut model = Model::new(seed);
        model.disk.borrow_mut().room = room;
        for round in 0..4 {
            let said = model.said;
            while !model.log.is_full() {
                (0..3).for_each(|_| model.publish(receivers));
                model.turn_over();
            }
            assert!(round == 2 || model.said > said + 20, "round {round}: {} messages", model.said - said);
            // In one round only half of the sessions come for their messages.
            let drained = if round == 1 { SESSIONS / 2 } else { SESSIONS };
            for index in 0..drained {
                while !model.sessions[index].queue.is_empty() {
                    (0..4).for_each(|_| model.complete(index));
                    model.turn_over();
                }
            }
            (0..1000).for_each(|_| model.turn_over());
            // What the other half holds may be too much for messages to be taken again.
            assert!(round == 1 || !model.log.is_full(), "round {round}: {:?}", model.log.figures());
            model.check();
        }
    }
}
