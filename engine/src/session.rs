//! The sessions of one shard: those whose client id its hash names.

use bytes::Bytes;
use hashbrown::{HashSet, HashTable};
use ringmq_codec::{QoS, Version};
use ringmq_storage::SessionRecord;
use ringmq_turn::{ConnId, make_room_for};

use crate::command::SubscriberId;
use crate::hash::Hashing;
use crate::ids::{FilterId, GroupId, SessionSlot};
use crate::outgoing::{IdsRef, Outgoing};
use crate::wheel::TimerId;

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

/// One client's session. What a delivery touches stands first.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its connection, on this shard; none while the client is away.
    pub(crate) conn: Option<ConnId>,
    /// Whether the connection speaks MQTT 5.
    pub(crate) v5: bool,
    /// Whether it outlives its connection.
    pub(crate) persistent: bool,
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
    pub(crate) taken: HashSet<u16, Hashing>,
    /// How many of them earlier connections left behind: they are not held against this one's window.
    pub(crate) taken_before: usize,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) expiry_timer: Option<TimerId>,
    pub(crate) will_timer: Option<TimerId>,
    /// Combinations of subscription identifiers that queued messages refer to.
    pub(crate) id_lists: Vec<Box<[u32]>>,
    /// Copies dropped for this session, whatever the reason.
    pub(crate) dropped: u64,
}

impl Session {
    /// The identifiers of a delivery in a form that outlives the route they come from.
    pub(crate) fn keep_ids(&mut self, ids: IdsRef, lists: &[Box<[u32]>]) -> IdsRef {
        let resolved = ids.resolve(lists);
        if resolved.len() < 2 {
            return ids;
        }
        if self.out.queue.is_empty() && self.out.unacked() == 0 {
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
    records: u64,
    len: usize,
}

/// What a new session starts with.
pub(crate) struct NewSession<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) version: Version,
    pub(crate) expiry_s: u32,
    pub(crate) inflight_max: u16,
    pub(crate) local: Option<SubscriberId>,
}

impl Sessions {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: HashTable::new(),
            hashing,
            generation: 0,
            records: 0,
            len: 0,
        }
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
        self.records += 1;
        self.len += 1;
        self.slots[slot as usize] = Some(Session {
            conn: None,
            v5: new.version == Version::V5,
            persistent: new.expiry_s > 0,
            packet_bytes_max: u32::MAX,
            slow: false,
            aliases: None,
            out: Outgoing::new(new.inflight_max),
            local: new.local,
            key: SessionKey { slot: SessionSlot(slot), generation: self.generation },
            record: SessionRecord(self.records),
            client_id: new.client_id.into(),
            version: new.version,
            expiry_s: new.expiry_s,
            subscriptions: Vec::new(),
            taken: HashSet::with_hasher(self.hashing),
            taken_before: 0,
            will: None,
            expiry_timer: None,
            will_timer: None,
            id_lists: Vec::new(),
            dropped: 0,
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
