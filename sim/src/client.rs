//! The far ends of connections.

use std::collections::VecDeque;

use ringmq_turn::{CloseReason, ConnId, ConnInfo, ShardId};

/// The far end of one connection, wherever it goes: a client that connected, or whom a core connected to.
/// Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(crate) u32);

impl ClientId {
    /// Its number: the first far end of a world is 0, the next 1.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a client's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Accepted or handed over, on its way to a shard.
    Arriving { shard: ShardId, due_ms: u64 },
    /// With a shard's core.
    Open { shard: ShardId, conn: ConnId },
    /// Closed by its core; its last bytes are on their way.
    Closing,
    /// Closed by its core, and the client has all its bytes.
    Closed,
    /// Gone by the client's or the network's doing.
    Gone,
}

/// What a client sent in one go and the core has not received.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) due_ms: u64,
    bytes: Vec<u8>,
    taken: usize,
}

impl Piece {
    pub(crate) fn left(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

/// What a connection has for its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    Unread,
    Drained,
    Bytes,
    End(CloseReason),
}

/// The far end of a connection, and the network between.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) info: ConnInfo,
    /// The core opened the connection: the number of its request, until it has it.
    pub(crate) dial: Option<usize>,
    pub(crate) place: Place,
    /// From the shard that handed it over, to be presented before any others.
    pub(crate) unread: Vec<u8>,
    /// On the way to the shard.
    pub(crate) inbound: VecDeque<Piece>,
    /// How the client ended it, and when the shard notices, once the inbound bytes are received.
    pub(crate) end: Option<(u64, CloseReason)>,
    pub(crate) paused: bool,
    /// What the driver had already received when the pause came.
    pub(crate) overrun_bytes: usize,
    /// Taken from the outbox and in flight, from `sent` on.
    pub(crate) sending: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) send_due_ms: u64,
    pub(crate) received: Vec<u8>,
    /// The client does not read.
    pub(crate) stalled: bool,
    /// The backlog was above high water at the end of a turn.
    pub(crate) held: bool,
    pub(crate) drained: bool,
    /// The shard among whose ready sources it is.
    pub(crate) listed: Option<ShardId>,
    /// When the agenda has it.
    pub(crate) inbound_put_ms: Option<u64>,
    pub(crate) send_put_ms: Option<u64>,
    pub(crate) send_listed: bool,
}

impl Client {
    pub(crate) fn new(info: ConnInfo, shard: ShardId, due_ms: u64) -> Self {
        Self {
            info,
            dial: None,
            place: Place::Arriving { shard, due_ms },
            unread: Vec::new(),
            inbound: VecDeque::new(),
            end: None,
            paused: false,
            overrun_bytes: 0,
            sending: Vec::new(),
            sent: 0,
            send_due_ms: 0,
            received: Vec::new(),
            stalled: false,
            held: false,
            drained: false,
            listed: None,
            inbound_put_ms: None,
            send_put_ms: None,
            send_listed: false,
        }
    }

    /// The shard that has it or will have it.
    pub(crate) fn shard(&self) -> Option<ShardId> {
        match self.place {
            Place::Arriving { shard, .. } | Place::Open { shard, .. } => Some(shard),
            Place::Closing | Place::Closed | Place::Gone => None,
        }
    }

    /// The network failed, whether the core knows or not.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.end, Some((_, CloseReason::Broken)))
    }

    /// What it has for its core next, and when.
    pub(crate) fn next_input(&self) -> Option<(u64, Input)> {
        match self.place {
            Place::Arriving { due_ms, .. } => return Some((due_ms, Input::Open)),
            Place::Open { .. } => {}
            Place::Closing | Place::Closed | Place::Gone => return None,
        }
        if !self.unread.is_empty() {
            return Some((0, Input::Unread));
        }
        if self.drained {
            return Some((0, Input::Drained));
        }
        let reads = !self.paused || self.overrun_bytes > 0;
        match (self.inbound.front(), self.end) {
            (Some(piece), _) if reads => Some((piece.due_ms, Input::Bytes)),
            // Nobody looks for the end of a stream that is not read; a failure shows anyway.
            (_, Some((due_ms, CloseReason::Broken))) => Some((due_ms, Input::End(CloseReason::Broken))),
            (None, Some((due_ms, reason @ (CloseReason::PeerClosed | CloseReason::Transport(_)))))
                if reads =>
            {
                Some((due_ms, Input::End(reason)))
            }
            (_, Some((_, CloseReason::PeerClosed | CloseReason::Transport(_))) | None) => None,
        }
    }

    /// Puts bytes on their way, behind those that already are.
    pub(crate) fn push_inbound(&mut self, due_ms: u64, bytes: &[u8]) {
        let due_ms = due_ms.max(self.last_due_ms());
        self.inbound.push_back(Piece { due_ms, bytes: bytes.to_vec(), taken: 0 });
    }

    /// When the last of the inbound bytes arrive.
    pub(crate) fn last_due_ms(&self) -> u64 {
        self.inbound.back().map_or(0, |piece| piece.due_ms)
    }

    /// How many inbound bytes have arrived, or wait to, by `now_ms`.
    pub(crate) fn inbound_bytes(&self, now_ms: u64) -> usize {
        self.inbound.iter().take_while(|piece| piece.due_ms <= now_ms).map(|piece| piece.left().len()).sum()
    }

    /// Moves up to `count` bytes of the first piece into `into`.
    pub(crate) fn take_inbound(&mut self, count: usize, into: &mut Vec<u8>) {
        let Some(piece) = self.inbound.front_mut() else { return };
        let count = count.min(piece.left().len());
        into.extend_from_slice(&piece.left()[..count]);
        piece.taken += count;
        if piece.left().is_empty() {
            self.inbound.pop_front();
        }
        self.overrun_bytes = self.overrun_bytes.saturating_sub(count);
    }

    /// Loses all inbound bytes but the first `keep`.
    pub(crate) fn truncate_inbound(&mut self, mut keep: usize) {
        for piece in &mut self.inbound {
            let kept = keep.min(piece.left().len());
            piece.bytes.truncate(piece.taken + kept);
            keep -= kept;
        }
        self.inbound.retain(|piece| !piece.left().is_empty());
    }

    /// Bytes in flight to the client.
    pub(crate) fn sending(&self) -> &[u8] {
        &self.sending[self.sent..]
    }

    /// Forgets what only the last shard knew, on the way to the next.
    pub(crate) fn move_to(&mut self, shard: ShardId, due_ms: u64) {
        self.place = Place::Arriving { shard, due_ms };
        self.paused = false;
        self.overrun_bytes = 0;
        self.held = false;
        self.drained = false;
    }

    /// The end: nothing is on its way any more.
    pub(crate) fn settle(&mut self, place: Place) {
        debug_assert!(matches!(place, Place::Closed | Place::Gone), "only an end settles a client");
        self.place = place;
        self.unread = Vec::new();
        self.inbound = VecDeque::new();
        self.sending = Vec::new();
        self.sent = 0;
    }
}
