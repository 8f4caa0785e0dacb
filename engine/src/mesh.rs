//! What shards tell each other, and what waits for their answers.
//!
//! A lane keeps its messages in order, so a count is enough to say how far the other side has come:
//! publications are numbered by counting on both ends, and each shard reports the number that it has
//! accepted. An acknowledgement to a publisher waits for the reports of every shard that its message
//! went to.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmq_codec::ReasonCode;
use ringmq_storage::{Level, LogOffset, PublicationRecord, QueueNumber, SessionRecord};
use ringmq_turn::{ConnId, ShardId, ShardSet};

use crate::carried::CarriedMessage;
use crate::command::RequestId;
use crate::route::Interest;
use crate::run::CarriedRun;
use crate::session::SessionKey;
use crate::shared::Census;
use crate::sys::Report;

/// A replay of retained messages, named by the shard that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayId(pub(crate) u64);

/// What one shard of the broker tells another.
#[derive(Debug)]
pub enum ShardMessage {
    /// Deliver a message to your subscribers. Counted.
    Publish(Arc<CarriedMessage>),
    /// Deliver a run of messages to your subscribers. Counted.
    Run(Arc<CarriedRun>),
    /// Deliver a message to one member of each of these shared groups. Counted.
    ToGroups {
        /// The message.
        message: Arc<CarriedMessage>,
        /// The groups' keys.
        groups: Box<[Box<str>]>,
        /// How many more times it may be sent on when a group's members left meanwhile.
        hops: u8,
    },
    /// A message that you sent me for a shared group, whose members left meanwhile: give it to another one
    /// before you take it for accepted.
    Returned {
        /// The message.
        message: Arc<CarriedMessage>,
        /// The group's key.
        group: Box<str>,
        /// How many more times it may be sent out.
        hops: u8,
        /// Its number on your lane to me.
        number: u64,
    },
    /// Store a retained message of your slice, or clear it if its payload is empty. Counted.
    Retain(Arc<CarriedMessage>),
    /// My interest in a filter changed.
    Interest {
        /// The filter.
        filter: Box<str>,
        /// How.
        change: Interest,
    },
    /// My members of a shared group.
    Census {
        /// The group, as `$share/name/filter`.
        key: Box<str>,
        /// How many.
        census: Census,
    },
    /// Tell me when all I sent before, and all retained messages that you sent on before, are in force.
    Barrier(WaitId),
    /// They are.
    BarrierPassed(WaitId),
    /// I accepted so many of your counted messages, to this level.
    Accepted(Level, u64),
    /// A publication that I sent you will not come again.
    Went(PublicationRecord),
    /// I know all my sessions again, you know their subscriptions, and these publications of theirs may come
    /// again.
    Recovered(Vec<PublicationRecord>),
    /// My log is full, or has room again.
    LogIsFull(bool),
    /// Send me the first retained messages of your slice that match.
    ReplayStart {
        /// My name for it.
        replay: ReplayId,
        /// The filter.
        filter: Box<str>,
    },
    /// Send me more of them.
    ReplayNext(ReplayId),
    /// I want no more of them.
    ReplayStop(ReplayId),
    /// Some of them.
    ReplayChunk {
        /// Of the request.
        replay: ReplayId,
        /// The messages.
        messages: Vec<Arc<CarriedMessage>>,
        /// How many counted messages of each shard had been received when they were read.
        seen: Box<[u64]>,
        /// Whether there are more.
        more: bool,
    },
    /// My counters, for `$SYS`.
    Figures(Box<Report>),
}

/// Names something that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitId {
    slot: u32,
    generation: u32,
}

/// What happens when a wait is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Done {
    /// The acknowledgement with this number is ready to go to a connection.
    Ack { conn: ConnId, number: u64 },
    /// A request of the program is answered.
    Published { request: RequestId, reason: ReasonCode },
    /// A message of a shared group is with another shard, and may leave the queue that it was in.
    Moved(Moved),
    /// A session's messages and will are with other shards, and it may end.
    Ended(SessionRecord),
    /// A session's will is with other shards, and need not be published again.
    WillOut(SessionKey),
    /// A request of the program is answered, and the replay that it entails begins.
    Subscribed { request: RequestId, reason: ReasonCode, replay: Option<ReplayId> },
}

/// A message that went from a session's queue to another shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) session: SessionRecord,
    pub(crate) number: QueueNumber,
    pub(crate) message: LogOffset,
    /// Whether the log knows it in that queue.
    pub(crate) logged: bool,
}

#[derive(Debug)]
struct Wait {
    generation: u32,
    remaining: u32,
    done: Option<Done>,
}

/// One other shard, as seen from here.
#[derive(Debug, Default)]
struct Peer {
    /// Counted messages sent to it.
    sent: u64,
    /// How many of them it accepted, as written and as synced.
    accepted: [u64; 2],
    /// Number of the last retained message sent to it.
    last_retain: u64,
    waiting: [VecDeque<(u64, WaitId)>; 2],
    /// Counted messages received from it.
    received: u64,
    /// How many of them it was told of.
    reported: [u64; 2],
}

/// Where the figures of a level stand. What is kept in memory here was still written by the other shards.
fn index(level: Level) -> usize {
    match level {
        Level::Memory | Level::Written => 0,
        Level::Synced => 1,
    }
}

/// A barrier that another shard set here, held until retained messages sent on before are stored.
#[derive(Debug)]
struct HeldBarrier {
    from: ShardId,
    wait: WaitId,
    until: Vec<(ShardId, u64)>,
}

/// The other shards, and what waits for them.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) others: ShardSet,
    peers: Vec<Peer>,
    waits: Vec<Wait>,
    free: Vec<u32>,
    log_waiting: [VecDeque<(u64, WaitId)>; 2],
    /// How many messages of each shard had been received when the log had so many records, oldest first.
    marks: VecDeque<(u64, Box<[u64]>)>,
    held: Vec<HeldBarrier>,
}

impl Mesh {
    pub(crate) fn new(shards: usize, me: ShardId) -> Self {
        Self {
            others: ShardSet::others(shards, me),
            peers: (0..shards).map(|_| Peer::default()).collect(),
            waits: Vec::new(),
            free: Vec::new(),
            log_waiting: Default::default(),
            marks: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// Counts a message to a shard.
    pub(crate) fn count_sent(&mut self, to: ShardId) {
        self.peers[to.index()].sent += 1;
    }

    /// Counts a message to a shard that stores a retained one, and answers its number.
    pub(crate) fn count_retain(&mut self, to: ShardId) -> u64 {
        let peer = &mut self.peers[to.index()];
        peer.sent += 1;
        peer.last_retain = peer.sent;
        peer.sent
    }

    /// How many counted messages of a shard were received.
    pub(crate) fn received_from(&self, shard: ShardId) -> u64 {
        self.peers[shard.index()].received
    }

    /// A message with this number on the lane to a shard was sent on to `shards` instead, or written here:
    /// whoever waits for that shard to accept it waits for them as well.
    pub(crate) fn extend(&mut self, (of, number): (ShardId, u64), shards: &ShardSet, log: Option<u64>) {
        for at in 0..2 {
            let waiting = &self.peers[of.index()].waiting[at];
            let Some(&(_, wait)) = waiting.iter().find(|(last, _)| *last >= number) else { continue };
            let mut more = 0;
            for shard in shards.iter() {
                let peer = &mut self.peers[shard.index()];
                peer.waiting[at].push_back((peer.sent, wait));
                more += 1;
            }
            if let Some(record) = log {
                self.log_waiting[at].push_back((record, wait));
                more += 1;
            }
            self.waits[wait.slot as usize].remaining += more;
        }
    }

    /// Counts a message from a shard.
    pub(crate) fn count_received(&mut self, from: ShardId) {
        self.peers[from.index()].received += 1;
    }

    /// How many counted messages of each shard were received.
    pub(crate) fn received_counts(&self) -> Box<[u64]> {
        self.peers.iter().map(|peer| peer.received).collect()
    }

    /// Takes note of how many messages had been received when the log had so many records.
    pub(crate) fn mark(&mut self, appended: u64) {
        let last = self.marks.back().map(|(_, received)| received);
        let moved = self.peers.iter().enumerate().any(|(at, peer)| {
            peer.received > last.map_or(peer.reported[index(Level::Synced)], |received| received[at])
        });
        if moved {
            self.marks.push_back((appended, self.received_counts()));
        }
    }

    /// How many messages of each shard have reached a level, given how many records have.
    fn reached(&mut self, level: Level, log: LogState) -> Option<Box<[u64]>> {
        match level {
            Level::Memory | Level::Written if log.reached < log.appended => None,
            Level::Memory | Level::Written => Some(self.received_counts()),
            Level::Synced => {
                let passed = self.marks.iter().take_while(|(appended, _)| *appended <= log.reached).count();
                self.marks.drain(..passed).next_back().map(|(_, received)| received)
            }
        }
    }

    /// The shards to tell how far we have come with their messages, and the number.
    pub(crate) fn reports(&mut self, level: Level, log: LogState) -> Vec<(ShardId, u64)> {
        let behind = |peer: &Peer| peer.received > peer.reported[index(level)];
        if !self.peers.iter().any(behind) {
            return Vec::new();
        }
        let Some(reached) = self.reached(level, log) else { return Vec::new() };
        let news = self
            .peers
            .iter_mut()
            .zip(reached)
            .enumerate()
            .filter(|(_, (peer, reached))| *reached > peer.reported[index(level)]);
        news.map(|(at, (peer, reached))| {
            peer.reported[index(level)] = reached;
            (ShardId::new(at), reached)
        })
        .collect()
    }

    /// Starts a wait that [`Mesh::arrive`] must be called for `remaining` times.
    fn begin(&mut self, remaining: u32, done: Done) -> WaitId {
        debug_assert!(remaining > 0, "what waits for nothing is done at once");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.waits.push(Wait { generation: 0, remaining: 0, done: None });
            self.waits.len() as u32 - 1
        });
        let wait = &mut self.waits[slot as usize];
        wait.generation = wait.generation.wrapping_add(1);
        wait.remaining = remaining;
        wait.done = Some(done);
        WaitId { slot, generation: wait.generation }
    }

    /// Waits until every one of `shards` accepted all that was sent to it, and the log has brought the record
    /// with number `log`, if there is one, as far as `level` says. `None` when that is so already.
    pub(crate) fn wait_accepted(
        &mut self,
        shards: &ShardSet,
        level: Level,
        log: Option<u64>,
        done: Done,
    ) -> Option<Done> {
        let at = index(level);
        let behind = |peer: &Peer| peer.accepted[at] < peer.sent;
        let lagging = shards.iter().filter(|shard| behind(&self.peers[shard.index()])).count() as u32;
        let waits = lagging + u32::from(log.is_some());
        if waits == 0 {
            return Some(done);
        }
        let wait = self.begin(waits, done);
        for shard in shards.iter() {
            let peer = &mut self.peers[shard.index()];
            if behind(peer) {
                peer.waiting[at].push_back((peer.sent, wait));
            }
        }
        if let Some(record) = log {
            self.log_waiting[at].push_back((record, wait));
        }
        None
    }

    /// Starts a barrier that every other shard has to pass, and the log, if a record is given: there must be
    /// one or the other.
    pub(crate) fn begin_barrier(&mut self, level: Level, log: Option<u64>, done: Done) -> WaitId {
        let wait = self.begin(self.others.len() as u32 + u32::from(log.is_some()), done);
        self.log_waiting[index(level)].extend(log.map(|record| (record, wait)));
        wait
    }

    /// One of the things that a wait waits for happened.
    pub(crate) fn arrive(&mut self, id: WaitId) -> Option<Done> {
        let wait = &mut self.waits[id.slot as usize];
        assert_eq!(wait.generation, id.generation, "a wait is not answered after its end");
        wait.remaining -= 1;
        if wait.remaining > 0 {
            return None;
        }
        self.free.push(id.slot);
        self.waits[id.slot as usize].done.take()
    }

    /// A shard reported how far it has come: what was waiting for that is over.
    pub(crate) fn accepted(&mut self, from: ShardId, (level, count): (Level, u64), over: &mut Vec<Done>) {
        let at = index(level);
        let peer = &mut self.peers[from.index()];
        debug_assert!(count > peer.accepted[at] && count <= peer.sent, "reports grow, up to what was sent");
        peer.accepted[at] = count;
        while let Some(&(number, wait)) = self.peers[from.index()].waiting[at].front()
            && number <= count
        {
            self.peers[from.index()].waiting[at].pop_front();
            over.extend(self.arrive(wait));
        }
    }

    /// The log has come so far: what was waiting for that is over.
    pub(crate) fn log_reached(&mut self, level: Level, reached: u64, over: &mut Vec<Done>) {
        while let Some(&(number, wait)) = self.log_waiting[index(level)].front()
            && number <= reached
        {
            self.log_waiting[index(level)].pop_front();
            over.extend(self.arrive(wait));
        }
    }

    /// Whether something that waits for the log can go on now.
    pub(crate) fn log_is_due(&self, level: Level, reached: u64) -> bool {
        self.log_waiting[index(level)].front().is_some_and(|(number, _)| *number <= reached)
    }

    /// Another shard set a barrier. True when it is passed at once.
    pub(crate) fn barrier_set(&mut self, from: ShardId, wait: WaitId) -> bool {
        let until: Vec<_> = (0..self.peers.len())
            .map(ShardId::new)
            .map(|shard| (shard, self.peers[shard.index()].last_retain))
            .filter(|(shard, number)| self.peers[shard.index()].accepted[0] < *number)
            .collect();
        if until.is_empty() {
            return true;
        }
        self.held.push(HeldBarrier { from, wait, until });
        false
    }

    /// The barriers that are passed now.
    pub(crate) fn barriers_passed(&mut self) -> Vec<(ShardId, WaitId)> {
        let peers = &self.peers;
        let mut passed = Vec::new();
        self.held.retain(|barrier| {
            let holds =
                barrier.until.iter().any(|(shard, number)| peers[shard.index()].accepted[0] < *number);
            if !holds {
                passed.push((barrier.from, barrier.wait));
            }
            holds
        });
        passed
    }

    /// Whether some other shard's barrier is held here.
    pub(crate) fn holds_barriers(&self) -> bool {
        !self.held.is_empty()
    }
}

/// How far the log has come at some level, in records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogState {
    pub(crate) appended: u64,
    pub(crate) reached: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Level = Level::Written;

    fn done() -> Done {
        Done::Published { request: RequestId(1), reason: ReasonCode::Success }
    }

    #[test]
    fn a_wait_ends_when_every_shard_has_reported() {
        let mut mesh = Mesh::new(3, ShardId::new(0));
        let others = mesh.others;
        for shard in others.iter() {
            mesh.count_sent(shard);
        }
        assert!(mesh.wait_accepted(&others, WRITTEN, None, done()).is_none());
        let mut over = Vec::new();
        mesh.accepted(ShardId::new(2), (WRITTEN, 1), &mut over);
        assert!(over.is_empty());
        mesh.accepted(ShardId::new(1), (WRITTEN, 1), &mut over);
        assert_eq!(over.len(), 1);
        assert!(mesh.wait_accepted(&others, WRITTEN, None, done()).is_some(), "nothing is outstanding");
        assert!(mesh.wait_accepted(&others, Level::Synced, None, done()).is_none(), "not at this level");
    }

    #[test]
    fn a_wait_for_the_log_ends_with_the_record() {
        let mut mesh = Mesh::new(1, ShardId::new(0));
        assert!(mesh.wait_accepted(&ShardSet::EMPTY, WRITTEN, Some(5), done()).is_none());
        let mut over = Vec::new();
        mesh.log_reached(WRITTEN, 4, &mut over);
        assert!(over.is_empty());
        mesh.log_reached(WRITTEN, 5, &mut over);
        assert_eq!(over.len(), 1);
    }

    #[test]
    fn a_sync_is_reported_for_what_it_covers_only() {
        let mut mesh = Mesh::new(2, ShardId::new(0));
        let other = ShardId::new(1);
        let at = |appended, reached| LogState { appended, reached };
        mesh.count_received(other);
        mesh.mark(10);
        mesh.count_received(other);
        mesh.mark(20);
        mesh.mark(25);
        assert_eq!(mesh.reports(Level::Synced, at(25, 9)), []);
        assert_eq!(mesh.reports(Level::Synced, at(25, 19)), [(other, 1)]);
        assert_eq!(mesh.reports(Level::Synced, at(25, 25)), [(other, 2)]);
        assert_eq!(mesh.reports(WRITTEN, at(25, 24)), [], "some of it waits for room");
        assert_eq!(mesh.reports(WRITTEN, at(25, 25)), [(other, 2)]);
    }

    #[test]
    fn a_barrier_is_held_until_retained_messages_sent_before_it_are_stored() {
        let mut mesh = Mesh::new(3, ShardId::new(0));
        let wait = WaitId { slot: 0, generation: 1 };
        let (owner, asker) = (ShardId::new(1), ShardId::new(2));
        assert!(mesh.barrier_set(asker, wait));
        mesh.count_retain(owner);
        assert!(!mesh.barrier_set(asker, wait));
        assert!(mesh.barriers_passed().is_empty());
        mesh.accepted(owner, (WRITTEN, 1), &mut Vec::new());
        assert_eq!(mesh.barriers_passed(), [(asker, wait)]);
    }
}
