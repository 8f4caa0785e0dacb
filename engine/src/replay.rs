//! Replays of retained messages to new subscriptions, from every shard's slice, a chunk at a time and
//! no faster than the client reads.

use std::sync::Arc;

use hashbrown::HashMap;
use ringmq_codec::QoS;
use ringmq_storage::{Log, LogOffset};
use ringmq_turn::{ShardId, ShardSet};

use crate::carried::CarriedMessage;
use crate::deliver::{Publication, Retained};
use crate::hash::Hashing;
use crate::ledger::DropReason;
use crate::mesh::{ReplayId, ShardMessage};
use crate::retained::{ScanCursor, ScanProgress};
use crate::route::Target;
use crate::session::SessionKey;
use crate::{Engine, EngineIo};

/// Nodes looked at, and so messages sent, in one chunk.
const CHUNK_VISITS_MAX: usize = 512;
/// Chunks of one shard's own slice that are delivered in one turn.
const CHUNKS_PER_TURN_MAX: usize = 8;
/// Messages that may wait in a session's queue before its replays pause.
const QUEUED_MAX: usize = 1024;

/// The retained messages that a new subscription is still to get.
#[derive(Debug)]
pub(crate) struct Replay {
    session: SessionKey,
    target: Target,
    filter: Box<str>,
    /// The shards that are still to be asked; the lowest is being asked.
    sources: ShardSet,
    cursor: ScanCursor,
    state: State,
}

/// What a replay waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The acknowledgement of its subscription.
    Planned,
    /// Nothing: the next source is to be asked for its first chunk.
    Fresh,
    /// The next chunk is to be fetched from a source that has more.
    HasMore,
    /// A chunk is on its way from another shard.
    Awaits,
}

impl Replay {
    pub(crate) fn new(session: SessionKey, target: Target, filter: &str) -> Self {
        Self {
            session,
            target,
            filter: filter.into(),
            sources: ShardSet::EMPTY,
            cursor: ScanCursor::new(),
            state: State::Planned,
        }
    }
}

/// Some of another shard's retained messages.
pub(crate) struct Chunk<'a> {
    pub(crate) messages: &'a [Arc<CarriedMessage>],
    /// How many counted messages of each shard the sender had received when it read them.
    pub(crate) seen: &'a [u64],
    pub(crate) more: bool,
}

/// A replay that another shard asked this one for.
#[derive(Debug)]
pub(crate) struct Serving {
    filter: Box<str>,
    cursor: ScanCursor,
}

/// The replays under way.
#[derive(Debug)]
pub(crate) struct Replays {
    mine: HashMap<u64, Replay, Hashing>,
    serving: HashMap<(ShardId, u64), Serving, Hashing>,
    last: u64,
    /// Those to look at this turn, in order.
    due: Vec<u64>,
    /// Those whose client or queue has to make room first.
    paused: Vec<u64>,
    /// Topics of live retained messages that came while there was any replay, with the shards that
    /// published them and the numbers under which they are stored.
    live: HashMap<Box<[u8]>, Vec<(ShardId, u64)>, Hashing>,
    hashing: Hashing,
}

/// Topics remembered while replays are under way. Beyond, a replay may bring a message after a later one.
const LIVE_TOPICS_MAX: usize = 65_536;

impl Replays {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self {
            mine: HashMap::with_hasher(hashing),
            serving: HashMap::with_hasher(hashing),
            last: 0,
            due: Vec::new(),
            paused: Vec::new(),
            live: HashMap::with_hasher(hashing),
            hashing,
        }
    }

    /// Whether there is any.
    pub(crate) fn are_under_way(&self) -> bool {
        !self.mine.is_empty()
    }

    /// A live message of a topic came, and its publisher's shard has it stored under this number.
    pub(crate) fn note_live(&mut self, topic: &[u8], publisher: ShardId, number: u64) {
        if self.mine.is_empty() || self.live.len() >= LIVE_TOPICS_MAX {
            return;
        }
        let numbers = self.live.entry_ref(topic).or_default();
        match numbers.iter_mut().find(|(shard, _)| *shard == publisher) {
            Some((_, last)) => *last = number,
            None => numbers.push((publisher, number)),
        }
    }

    /// Whether a message was stored before a live one of its topic that came already.
    fn is_stale(&self, topic: &[u8], seen: &[u64]) -> bool {
        let lives = self.live.get(topic);
        lives.is_some_and(|lives| lives.iter().any(|(shard, number)| seen[shard.index()] < *number))
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, replay: ReplayId) {
        self.mine.remove(&replay.0);
        if self.mine.is_empty() && !self.live.is_empty() {
            self.live = HashMap::with_hasher(self.hashing);
        }
    }

    /// Whether another turn would get on with one.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }
}

impl<L: Log> Engine<L> {
    /// Enters a replay that begins with the acknowledgement of its subscription.
    pub(crate) fn plan_replay(&mut self, mut replay: Replay) -> ReplayId {
        if replay.filter.contains(['+', '#']) {
            replay.sources = self.mesh.others;
            replay.sources.insert(self.config.shard);
        } else {
            replay.sources.insert(self.hashing.owner(&replay.filter, self.config.shards));
        }
        self.replays.last += 1;
        let id = self.replays.last;
        self.replays.mine.insert(id, replay);
        ReplayId(id)
    }

    /// Starts a replay; its messages follow the SUBACK that was just written.
    pub(crate) fn start_replay(&mut self, id: ReplayId, io: &mut EngineIo) {
        if let Some(replay) = self.replays.mine.get_mut(&id.0) {
            replay.state = State::Fresh;
            self.advance_replay(id.0, io);
        }
    }

    /// Gets on with the replays that can.
    pub(crate) fn advance_replays(&mut self, io: &mut EngineIo) {
        let mut due = std::mem::take(&mut self.replays.due);
        due.append(&mut self.replays.paused);
        for id in due {
            self.advance_replay(id, io);
        }
    }

    fn advance_replay(&mut self, id: u64, io: &mut EngineIo) {
        for _ in 0..CHUNKS_PER_TURN_MAX {
            let Some(replay) = self.replays.mine.get(&id) else { return };
            if matches!(replay.state, State::Planned | State::Awaits) {
                return;
            }
            let (session, filter_source) = (replay.session, replay.sources.iter().next());
            let Some(source) = filter_source else {
                self.replays.remove(ReplayId(id));
                return;
            };
            // The first chunk of the only shard follows its subscription at once.
            let is_first = replay.state == State::Fresh && self.mesh.others.is_empty();
            if !is_first && !self.is_wanted(id) || self.sessions.alive(session).is_none() {
                self.stop_replay(id, source, io);
                return;
            }
            if !self.can_take_more(session, io) {
                self.replays.paused.push(id);
                return;
            }
            if source == self.config.shard {
                self.replay_own_chunk(id, io);
            } else {
                self.ask_for_chunk(id, source, io);
            }
        }
        self.replays.due.push(id);
    }

    /// Whether the subscription that a replay is for is still there. [MQTT-3.10.4-1]
    fn is_wanted(&mut self, id: u64) -> bool {
        let Some(Replay { session, filter, .. }) = self.replays.mine.get(&id) else { return false };
        let tree = &self.router.tree;
        self.sessions.alive(*session).is_some()
            && tree.find(filter).is_some_and(|filter| tree.subscriber(filter, session.slot).is_some())
    }

    fn can_take_more(&mut self, session: SessionKey, io: &EngineIo) -> bool {
        self.sessions.alive(session).is_some_and(|session| {
            let queued = session.out.queue_len() > QUEUED_MAX;
            !queued && session.conn.is_none_or(|conn| io.backlog_bytes(conn) <= io.backlog_high_bytes)
        })
    }

    fn stop_replay(&mut self, id: u64, source: ShardId, io: &mut EngineIo) {
        let state = self.replays.mine.get(&id).map(|replay| replay.state);
        self.replays.remove(ReplayId(id));
        if source != self.config.shard && state == Some(State::HasMore) {
            io.message(source, ShardMessage::ReplayStop(ReplayId(id)));
        }
    }

    fn ask_for_chunk(&mut self, id: u64, source: ShardId, io: &mut EngineIo) {
        let Some(replay) = self.replays.mine.get_mut(&id) else { return };
        let message = match replay.state {
            State::Fresh => ShardMessage::ReplayStart { replay: ReplayId(id), filter: replay.filter.clone() },
            State::Planned | State::HasMore | State::Awaits => ShardMessage::ReplayNext(ReplayId(id)),
        };
        replay.state = State::Awaits;
        io.message(source, message);
    }

    fn replay_own_chunk(&mut self, id: u64, io: &mut EngineIo) {
        let Some(mut replay) = self.replays.mine.remove(&id) else { return };
        let mut found = std::mem::take(&mut self.replay_scratch);
        found.clear();
        let progress = self.scan_retained(&replay.filter, &mut replay.cursor, &mut found, io.now.wall_ms);
        for &at in &found {
            self.log.retain(at);
            let (_, mut delivery) = self.delivery(io);
            delivery.restart();
            delivery.replay(at, &replay.target);
            self.log.release(at);
        }
        self.replay_scratch = found;
        match progress {
            ScanProgress::More => replay.state = State::HasMore,
            ScanProgress::Done => {
                replay.sources.remove(self.config.shard);
                replay.state = State::Fresh;
            }
        }
        self.replays.mine.insert(id, replay);
    }

    /// Looks for the next matches in this shard's slice; what has expired is dropped on the way.
    fn scan_retained(
        &mut self,
        filter: &str,
        cursor: &mut ScanCursor,
        found: &mut Vec<LogOffset>,
        wall_ms: u64,
    ) -> ScanProgress {
        let log = &self.log;
        let mut expired = Vec::new();
        let progress = self.retained.scan(filter, cursor, CHUNK_VISITS_MAX, &mut |topic, at| {
            let expires_at_ms = log.message(*at).expires_at_ms;
            if expires_at_ms != 0 && expires_at_ms <= wall_ms {
                expired.push(topic.to_owned());
            } else {
                found.push(*at);
            }
        });
        self.drop_expired_retained(&expired, wall_ms);
        progress
    }

    /// Another shard asks for the first chunk of a replay.
    pub(crate) fn serve_replay(
        &mut self,
        from: ShardId,
        replay: ReplayId,
        filter: Box<str>,
        io: &mut EngineIo,
    ) {
        self.replays.serving.insert((from, replay.0), Serving { filter, cursor: ScanCursor::new() });
        self.serve_next(from, replay, io);
    }

    /// Another shard asks for the next chunk.
    pub(crate) fn serve_next(&mut self, from: ShardId, replay: ReplayId, io: &mut EngineIo) {
        let Some(mut serving) = self.replays.serving.remove(&(from, replay.0)) else { return };
        let mut found = Vec::new();
        let progress = self.scan_retained(&serving.filter, &mut serving.cursor, &mut found, io.now.wall_ms);
        let carried = found.iter().map(|at| {
            let view = self.log.message(*at);
            let qos = crate::deliver::qos_from(view.qos);
            Arc::new(CarriedMessage::new(&view, qos, true))
        });
        let more = progress == ScanProgress::More;
        let messages = carried.collect();
        if more {
            self.replays.serving.insert((from, replay.0), serving);
        }
        let seen = self.mesh.received_counts();
        io.message(from, ShardMessage::ReplayChunk { replay, messages, seen, more });
    }

    /// Another shard wants no more of a replay.
    pub(crate) fn stop_serving(&mut self, from: ShardId, replay: ReplayId) {
        self.replays.serving.remove(&(from, replay.0));
    }

    /// A chunk came from another shard.
    pub(crate) fn take_chunk(
        &mut self,
        from: ShardId,
        replay: ReplayId,
        chunk: Chunk<'_>,
        io: &mut EngineIo,
    ) {
        let Some(mine) = self.replays.mine.get_mut(&replay.0) else { return };
        if chunk.more {
            mine.state = State::HasMore;
        } else {
            mine.sources.remove(from);
            mine.state = State::Fresh;
        }
        let target = mine.target;
        if self.is_wanted(replay.0) {
            for message in chunk.messages {
                if self.replays.is_stale(message.view().topic, chunk.seen) {
                    continue;
                }
                let (_, mut delivery) = self.delivery(io);
                let publication = Publication {
                    view: message.view(),
                    qos: message.qos(),
                    retain: Retained::Replayed,
                    publisher: None,
                    number: None,
                };
                delivery.restart();
                delivery.deliver(&publication, &target, &[], None);
            }
        }
        self.advance_replay(replay.0, io);
    }
}

impl<L: Log> crate::deliver::Delivery<'_, L> {
    /// Delivers a retained message of this shard's own slice, to which the caller holds a reference.
    fn replay(&mut self, at: LogOffset, target: &Target) {
        let view = self.log.message(at);
        let qos = crate::deliver::qos_from(view.qos);
        let granted = crate::deliver::qos_of(target.options);
        let session = self.sessions.get(target.session);
        if qos.min(granted) == QoS::AtMostOnce && session.conn.is_none() && session.local.is_none() {
            self.ledger.copies += 1;
            self.ledger.drop_copy(DropReason::Offline);
            return;
        }
        // The delivery borrows the log to write to it; the message is small or shared.
        let copy = CarriedMessage::new(&view, qos, true);
        let publication =
            Publication { view: copy.view(), qos, retain: Retained::Replayed, publisher: None, number: None };
        self.kept = crate::deliver::Kept::At(at);
        self.deliver(&publication, target, &[], None);
    }
}
