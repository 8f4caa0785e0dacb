//! The sessions of this shard that subscribe to one filter: none, one without any allocation, or very many.

use super::hash::Keys;
use super::table::IdTable;
use crate::ids::SessionSlot;

/// From here on a list of subscribers has an index by session.
const INDEXED_MIN: usize = 24;

/// Below this an index is given up again.
const INDEXED_KEPT_MIN: usize = 12;

/// What a session asked for with a subscription, as far as deliveries depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriberOptions(u8);

impl SubscriberOptions {
    const NO_LOCAL: u8 = 1 << 2;
    const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

    /// Options with this Maximum QoS and nothing else.
    ///
    /// # Panics
    /// When `qos` is beyond 2; a client's 3 is refused where its packet is decoded.
    pub fn new(qos: u8) -> Self {
        assert!(qos <= 2, "a Maximum QoS of {qos}");
        Self(qos)
    }

    /// The same with No Local: what the session publishes itself is not sent to it (section 3.8.3.1).
    #[must_use]
    pub fn with_no_local(self) -> Self {
        Self(self.0 | Self::NO_LOCAL)
    }

    /// The same with Retain As Published: RETAIN is passed on as the publisher set it, [MQTT-3.3.1-13].
    #[must_use]
    pub fn with_retain_as_published(self) -> Self {
        Self(self.0 | Self::RETAIN_AS_PUBLISHED)
    }

    /// The Maximum QoS, 0 to 2.
    #[inline]
    pub fn qos(self) -> u8 {
        self.0 & 3
    }

    /// Whether No Local is set.
    #[inline]
    pub fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// Whether Retain As Published is set.
    #[inline]
    pub fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }
}

impl std::fmt::Debug for SubscriberOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriberOptions")
            .field("qos", &self.qos())
            .field("no_local", &self.no_local())
            .field("retain_as_published", &self.retain_as_published())
            .finish()
    }
}

/// One session's subscription to one filter, in 12 bytes. The session's shard owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who subscribes.
    pub session: SessionSlot,
    /// How.
    pub options: SubscriberOptions,
    /// The Subscription Identifier that goes with each delivery, [MQTT-3.3.4-3]; 0 stands for none.
    pub subscription_id: u32,
}

/// The subscribers of one filter. Their order follows from the calls made, never from a hash.
#[derive(Clone, Debug, Default)]
pub(super) enum Locals {
    #[default]
    None,
    One(Subscriber),
    Many(Box<Many>),
}

#[derive(Clone, Debug)]
pub(super) struct Many {
    list: Vec<Subscriber>,
    /// Positions in `list` by session; holds every one of them, or nothing while the list is short.
    index: IdTable,
}

impl Locals {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Subscriber] {
        match self {
            Self::None => &[],
            Self::One(subscriber) => std::slice::from_ref(subscriber),
            Self::Many(many) => &many.list,
        }
    }

    /// The subscription of one session.
    pub(super) fn get(&self, keys: &Keys, session: SessionSlot) -> Option<&Subscriber> {
        match self {
            Self::Many(many) => many.position(keys, session).map(|at| &many.list[at]),
            Self::None | Self::One(_) => self.as_slice().iter().find(|one| one.session == session),
        }
    }

    /// Adds a subscriber, or replaces the one of the same session and answers what it was.
    pub(super) fn insert(&mut self, keys: &Keys, subscriber: Subscriber) -> Option<Subscriber> {
        match self {
            Self::None => *self = Self::One(subscriber),
            Self::One(one) if one.session == subscriber.session => {
                return Some(std::mem::replace(one, subscriber));
            }
            Self::One(one) => {
                let list = vec![*one, subscriber];
                *self = Self::Many(Box::new(Many { list, index: IdTable::default() }));
            }
            Self::Many(many) => return many.insert(keys, subscriber),
        }
        None
    }

    /// Takes the subscriber of one session out. The last of the list takes its place.
    pub(super) fn remove(&mut self, keys: &Keys, session: SessionSlot) -> Option<Subscriber> {
        match self {
            Self::None => None,
            Self::One(one) => {
                let found = (one.session == session).then_some(*one)?;
                *self = Self::None;
                Some(found)
            }
            Self::Many(many) => {
                let found = many.remove(keys, session)?;
                if let [last] = many.list[..] {
                    *self = Self::One(last);
                }
                Some(found)
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(many) => {
                let list = many.list.capacity() * size_of::<Subscriber>();
                size_of::<Many>() + list + many.index.memory_bytes()
            }
        }
    }
}

impl Many {
    fn position(&self, keys: &Keys, session: SessionSlot) -> Option<usize> {
        if self.index.len() == 0 {
            return self.list.iter().position(|one| one.session == session);
        }
        let is_theirs = |at: u32| self.list[at as usize].session == session;
        self.index.find(keys.number(session.0), is_theirs).map(|at| at as usize)
    }

    fn insert(&mut self, keys: &Keys, subscriber: Subscriber) -> Option<Subscriber> {
        if let Some(at) = self.position(keys, subscriber.session) {
            return Some(std::mem::replace(&mut self.list[at], subscriber));
        }
        self.list.push(subscriber);
        let indexed = if self.index.len() > 0 { self.list.len() - 1 } else { 0 };
        if self.list.len() >= INDEXED_MIN {
            for (at, one) in self.list.iter().enumerate().skip(indexed) {
                self.index.insert(keys.number(one.session.0), at as u32);
            }
        }
        None
    }

    fn remove(&mut self, keys: &Keys, session: SessionSlot) -> Option<Subscriber> {
        let at = self.position(keys, session)?;
        let last = self.list.len() - 1;
        if self.index.len() > 0 {
            self.index.remove(keys.number(session.0), at as u32);
            if at != last {
                let moved = self.list[last].session;
                self.index.replace(keys.number(moved.0), last as u32, at as u32);
            }
        }
        let found = self.list.swap_remove(at);
        if self.list.len() < INDEXED_KEPT_MIN {
            self.index = IdTable::default();
        }
        if self.list.len() * 4 < self.list.capacity() {
            self.list.shrink_to(self.list.len() * 2);
        }
        Some(found)
    }
}

const _: () = assert!(size_of::<Subscriber>() == 12 && size_of::<Locals>() == 16);
const _: () = assert!(INDEXED_KEPT_MIN < INDEXED_MIN);

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(session: u32, qos: u8) -> Subscriber {
        let options = SubscriberOptions::new(qos);
        Subscriber { session: SessionSlot(session), options, subscription_id: session }
    }

    #[test]
    fn options_are_what_was_asked_for() {
        let plain = SubscriberOptions::new(2);
        assert_eq!((plain.qos(), plain.no_local(), plain.retain_as_published()), (2, false, false));
        let all = SubscriberOptions::new(1).with_no_local().with_retain_as_published();
        assert_eq!((all.qos(), all.no_local(), all.retain_as_published()), (1, true, true));
    }

    #[test]
    fn a_list_grows_and_shrinks_through_every_form() {
        let keys = Keys::new(1);
        let mut locals = Locals::default();
        for session in 0..1_000 {
            assert_eq!(locals.insert(&keys, subscriber(session, 0)), None);
            assert_eq!(locals.insert(&keys, subscriber(session, 1)), Some(subscriber(session, 0)));
        }
        assert_eq!(
            locals.as_slice().iter().map(|one| one.session.0).collect::<Vec<_>>(),
            Vec::from_iter(0..1_000)
        );
        for session in 0..1_000 {
            assert_eq!(locals.as_slice().len(), 1_000 - session as usize);
            assert_eq!(locals.get(&keys, SessionSlot(session)), Some(&subscriber(session, 1)));
            assert_eq!(locals.remove(&keys, SessionSlot(session)), Some(subscriber(session, 1)));
            assert_eq!(locals.remove(&keys, SessionSlot(session)), None);
            assert_eq!(locals.get(&keys, SessionSlot(session)), None);
            let last = SessionSlot(999);
            assert_eq!(locals.get(&keys, last).is_some(), session < 999);
        }
        assert_eq!((locals.as_slice().len(), locals.memory_bytes()), (0, 0));
    }
}
