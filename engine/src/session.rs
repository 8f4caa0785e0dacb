//! The sessions of one shard: those whose client id its hash names.

use bytes::Bytes;
use hashbrown::{HashMap, HashTable};
use ringmq_codec::{QoS, Version};
use ringmq_storage::{PublicationRecord, QueueNumber, SegmentId, SessionRecord};
use ringmq_turn::{ConnId, ShardSet, make_room_for};

use crate::command::SubscriberId;
use crate::hash::Hashing;
use crate::ids::{FilterId, GroupId, SessionSlot};
use crate::outgoing::{IdsRef, Outgoing};
use ringmq_turn::TimerId;

/// A session by slot, and a generation that tells the users of the slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) slot: SessionSlot,
    pub(crate) generation: u32,
}

/// A will, kept until its connection ends.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) topic: Box<str>,
    pub(crate) payload: Bytes,
    pub(crate) properties: Box<[u8]>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) delay_s: u32,
    pub(crate) message_expiry_s: Option<u32>,
}

/// What a session is subscribed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscription {
    /// A filter of its own.
    Filter(FilterId),
    /// A shared group.
    Group(GroupId),
}

/// Topic aliases used towards one client, first come first served. [MQTT-3.3.2-8]
#[derive(Debug)]
pub(crate) struct AliasesOut {
    pub(crate) topics: Vec<Box<[u8]>>,
    pub(crate) count_max: u16,
}

/// A QoS 2 publication that was taken from a client, and what may have to be told of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It concerned this shard only.
    Here,
    /// It went to these shards too.
    Spread(PublicationRecord, ShardSet),
    /// It was going to other shards when the process ended: some may lack it. The client repeats it unless
    /// it was acknowledged.
    Unfinished(PublicationRecord),
}

/// What waits for a sync before it is sent: QoS 2 messages above all. What a client received under a packet id must
/// not be forgotten, lest another message goes under that id and is taken for the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SyncGate {
    /// Messages below this number may go.
    pub(crate) open_below: QueueNumber,
    /// The sync of this record opens the gate up to that number.
    pub(crate) next: Option<(u64, QueueNumber)>,
    /// The client came back, and the sync of this record has to come before anything is sent again: a PUBREL
    /// for what it received may say more than is synced.
    pub(crate) resend_at: Option<u64>,
}

impl SyncGate {
    /// Whether a session with this gate is among those that wait for a sync.
    pub(crate) fn waits(&self) -> bool {
        self.next.is_some() || self.resend_at.is_some()
    }

    /// Opens for what the log has `synced`; what came since waits for the record `appended` now. Whether
    /// it opened.
    pub(crate) fn pass(&mut self, synced: u64, (appended, next): (u64, QueueNumber)) -> bool {
        let Some((_, below)) = self.next.filter(|(record, _)| *record <= synced) else { return false };
        // One sync may cover all of them, and then no other follows.
        self.open_below = if appended <= synced { next } else { below };
        self.next = (next > self.open_below).then_some((appended, next));
        true
    }
}

/// One client's session. What a delivery touches stands first.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its connection, on this shard; none while the client is away.
    pub(crate) conn: Option<ConnId>,
    /// Whether the connection speaks MQTT 5.
    pub(crate) v5: bool,
    /// Whether it outlives its connection, or did: its messages are in the log.
    pub(crate) persistent: bool,
    /// Wall-clock time in milliseconds at which its client went away; 0 while it is connected.
    pub(crate) closed_at_ms: u64,
    /// The segment of the log in which it was last told as a whole; none if the log does not know it.
    pub(crate) told_in: Option<SegmentId>,
    /// The client's Maximum Packet Size.
    pub(crate) packet_bytes_max: u32,
    /// Its connection's backlog was found high, and has not drained since.
    pub(crate) slow: bool,
    pub(crate) aliases: Option<Box<AliasesOut>>,
    pub(crate) out: Outgoing,
    /// The in-process subscriber that it serves, in place of a client.
    pub(crate) local: Option<SubscriberId>,
    pub(crate) key: SessionKey,
    pub(crate) record: SessionRecord,
    pub(crate) client_id: Box<str>,
    pub(crate) version: Version,
    pub(crate) expiry_s: u32,
    pub(crate) subscriptions: Vec<Subscription>,
    /// QoS 2 packet ids taken from the client and not released. [MQTT-4.3.3-10]
    pub(crate) taken: HashMap<u16, Taken, Hashing>,
    /// How many of them earlier connections left behind: they are not held against this one's window.
    pub(crate) taken_before: usize,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) expiry_timer: Option<TimerId>,
    pub(crate) will_timer: Option<TimerId>,
    /// Combinations of subscription identifiers that queued messages refer to.
    pub(crate) id_lists: Vec<Box<[u32]>>,
    /// Copies dropped for this session, whatever the reason.
    pub(crate) dropped: u64,
    /// Bytes that it takes to tell it as a whole, about.
    pub(crate) state_bytes: u32,
    pub(crate) gate: SyncGate,
}

impl Session {
    /// The identifiers of a delivery in a form that outlives the route they come from.
    pub(crate) fn keep_ids(&mut self, ids: IdsRef, lists: &[Box<[u32]>]) -> IdsRef {
        let resolved = ids.resolve(lists);
        if resolved.len() < 2 {
            return ids;
        }
        if self.out.queue_len() == 0 && self.out.unacked() == 0 {
            self.id_lists.clear();
        }
        let known = self.id_lists.iter().position(|list| **list == *resolved);
        IdsRef::listed(known.unwrap_or_else(|| {
            self.id_lists.push(resolved.into());
            self.id_lists.len() - 1
        }))
    }
}

/// The shard's table of sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<u32>,
    by_client: HashTable<u32>,
    hashing: Hashing,
    generation: u32,
    numbering: Numbering,
    len: usize,
}

/// Numbers that no other shard gives and no later start gives again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub(crate) epoch: u32,
    pub(crate) shard: usize,
    pub(crate) count: u64,
}

impl Numbering {
    fn next(&mut self) -> u64 {
        self.count += 1;
        SessionRecord::new(self.epoch, self.shard, self.count).0
    }
}

/// What a new session starts with.
pub(crate) struct NewSession<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) version: Version,
    pub(crate) expiry_s: u32,
    pub(crate) inflight_max: u16,
    pub(crate) local: Option<SubscriberId>,
    /// Its number, if it has one already.
    pub(crate) record: Option<SessionRecord>,
}

impl Sessions {
    pub(crate) fn new(hashing: Hashing, numbering: Numbering) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: HashTable::new(),
            hashing,
            generation: 0,
            numbering,
            len: 0,
        }
    }

    /// A number for a publication that goes to several shards.
    pub(crate) fn number_publication(&mut self) -> PublicationRecord {
        PublicationRecord(self.numbering.next())
    }

    /// How many slots there are, in use or not.
    pub(crate) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// The session in a slot, if it is in use.
    pub(crate) fn at(&self, index: usize) -> Option<&Session> {
        self.slots.get(index)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The session of a client id.
    pub(crate) fn find(&self, client_id: &str) -> Option<SessionSlot> {
        let hash = self.hashing.of(client_id.as_bytes());
        let same = |slot: &u32| {
            self.slots[*slot as usize].as_ref().is_some_and(|session| *session.client_id == *client_id)
        };
        self.by_client.find(hash, same).copied().map(SessionSlot)
    }

    /// Makes a session. A client id is entered under its name, an in-process subscriber is not.
    pub(crate) fn create(&mut self, new: &NewSession<'_>) -> SessionSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            let next = self.slots.len();
            make_room_for(&mut self.slots, next);
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.generation = self.generation.wrapping_add(1);
        let record = new.record.unwrap_or_else(|| SessionRecord(self.numbering.next()));
        self.len += 1;
        self.slots[slot as usize] = Some(Session {
            conn: None,
            v5: new.version == Version::V5,
            persistent: new.expiry_s > 0,
            closed_at_ms: 0,
            told_in: None,
            packet_bytes_max: u32::MAX,
            slow: false,
            aliases: None,
            out: Outgoing::new(new.inflight_max),
            local: new.local,
            key: SessionKey { slot: SessionSlot(slot), generation: self.generation },
            record,
            client_id: new.client_id.into(),
            version: new.version,
            expiry_s: new.expiry_s,
            subscriptions: Vec::new(),
            taken: HashMap::with_hasher(self.hashing),
            taken_before: 0,
            will: None,
            expiry_timer: None,
            will_timer: None,
            id_lists: Vec::new(),
            dropped: 0,
            state_bytes: 0,
            gate: SyncGate::default(),
        });
        if new.local.is_none() {
            self.enter(slot, new.client_id);
        }
        SessionSlot(slot)
    }

    fn enter(&mut self, slot: u32, client_id: &str) {
        let Self { slots, by_client, hashing, .. } = self;
        let rehash = |slot: &u32| {
            let session = slots[*slot as usize].as_ref().expect("the table names living sessions");
            hashing.of(session.client_id.as_bytes())
        };
        by_client.insert_unique(hashing.of(client_id.as_bytes()), slot, rehash);
    }

    /// Takes a session's client id from it, for another that has the same. It can only end.
    pub(crate) fn disown(&mut self, slot: SessionSlot) {
        let session = self.get(slot);
        let hash = self.hashing.of(session.client_id.as_bytes());
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot.0) {
            entry.remove();
        }
    }

    /// Takes a session out; its slot is used again.
    pub(crate) fn remove(&mut self, slot: SessionSlot) -> Session {
        let session = self.slots[slot.index()].take().expect("only a living session is removed");
        if session.local.is_none() {
            let hash = self.hashing.of(session.client_id.as_bytes());
            if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot.0) {
                entry.remove();
            }
        }
        self.free.push(slot.0);
        self.len -= 1;
        session
    }

    /// A living session.
    #[inline]
    pub(crate) fn get(&self, slot: SessionSlot) -> &Session {
        self.slots[slot.index()].as_ref().expect("subscriptions and connections name living sessions")
    }

    /// A living session.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: SessionSlot) -> &mut Session {
        self.slots[slot.index()].as_mut().expect("subscriptions and connections name living sessions")
    }

    /// The session of a key, if it still lives.
    pub(crate) fn alive(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slots.get_mut(key.slot.index())?.as_mut().filter(|session| session.key == key)
    }
}
