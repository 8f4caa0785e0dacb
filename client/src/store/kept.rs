//! What a store keeps of a session.

use std::sync::Arc;

use ringmq_codec::{PacketId, SubscriptionOptions};

use crate::message::Message;

/// The place of a QoS 1 or 2 publication among all of its session, over all starts of the program that share a
/// store. Its packet id follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

/// Packet ids 1 to this are publications'; those above are for SUBSCRIBE and UNSUBSCRIBE.
pub(crate) const PUBLICATION_IDS: u16 = 61_440;

impl Number {
    /// The packet id that it is sent under. Publications in flight are fewer than 61,440 apart.
    pub fn packet_id(self) -> PacketId {
        let id = (self.0 % u64::from(PUBLICATION_IDS)) as u16 + 1;
        PacketId::new(id).expect("one is added to it")
    }
}

/// A subscription that a session is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The topic filter.
    pub filter: Arc<str>,
    /// How to subscribe to it.
    pub options: SubscriptionOptions,
    /// The Subscription Identifier, MQTT 5; 0 for none.
    pub subscription_id: u32,
}

/// What a session's store kept of an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// QoS 1 and 2 messages that were not acknowledged, in order; whether PUBREC came for it already, in which case
    /// its content is void. Of a Message Expiry Interval the rest is left, 0 where it is over.
    pub publications: Vec<(Number, Message, bool)>,
    /// The number of the next publication.
    pub next: u64,
    /// Packet ids of QoS 2 messages that were received and not released by the broker.
    pub taken: Vec<PacketId>,
    /// Subscriptions that the session had.
    pub subscriptions: Vec<Wanted>,
    /// It is not the first run: the broker may know the session.
    pub resumes: bool,
}

/// What a session tells its store, in order. Publications are put there by who publishes, before they are
/// queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// A publication is done with.
    Completed(Number),
    /// PUBREC came: its content is not needed any more. Its PUBREL waits for the store.
    Released(Number),
    /// A QoS 2 message of the broker was received. Its PUBREC waits for the store.
    Taken(PacketId),
    /// The broker released it.
    Given(PacketId),
    /// The broker does not know the session: nothing that was taken can come again.
    Forgotten,
    /// The session is to have a subscription; one to the same filter is replaced.
    Subscribed(Wanted),
    /// The session is not to have the subscription any more.
    Unsubscribed(Arc<str>),
}
