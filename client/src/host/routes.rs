//! Messages on their way to the program: which targets they go to, and what waits for the end of the turn.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringmq_codec::{PayloadFormat, Publish, PublishProperties, QoS};

use super::session::Glue;
use crate::link::{AckToken, Acknowledgement, Overflow, SessionId, SessionShared, Target};
use crate::machine::{Arrival, Take};
use crate::message::{Message, MessageProperties, Received, Topic};

/// Topics whose targets a session remembers.
const TOPICS_MAX: usize = 1024;
/// Lists of messages that are kept for the next turn.
const SPARE_LISTS_MAX: usize = 64;
/// Larger ones are given back to the allocator.
const SPARE_LIST_ROOM_MAX: usize = 4096;

/// A target of a session, and where its messages of this turn are.
#[derive(Debug)]
struct Routed {
    target: Arc<dyn Target>,
    turn: u64,
    batch: u32,
}

/// The targets of the topics that a session received last.
#[derive(Debug, Default)]
pub(super) struct Routes {
    version: u64,
    topics: HashMap<Topic, Box<[u32]>, FixedState>,
    targets: Vec<Routed>,
}

impl Routes {
    /// Puts a topic's targets into the table.
    #[cold]
    fn learn(&mut self, topic: &str, shared: &SessionShared) {
        if self.topics.len() >= TOPICS_MAX {
            *self = Self { version: self.version, ..Self::default() };
        }
        let mut found = Vec::new();
        for target in shared.router.targets(topic) {
            let known = self.targets.iter().position(|routed| Arc::ptr_eq(&routed.target, &target));
            let at = known.unwrap_or_else(|| {
                self.targets.push(Routed { target, turn: 0, batch: 0 });
                self.targets.len() - 1
            });
            found.push(at as u32);
        }
        self.topics.insert(topic.into(), found.into());
    }
}

/// What a target gets of a session at the end of the turn.
#[derive(Debug)]
struct Batch {
    slot: u32,
    shared: Arc<SessionShared>,
    target: Arc<dyn Target>,
    overflow: Overflow,
    /// Messages that fit, by the beginning of the turn.
    room: usize,
    messages: Vec<Received>,
}

/// What the targets get at the end of the turn.
#[derive(Debug)]
pub(super) struct Batches {
    turn: u64,
    batches: Vec<Batch>,
    spare: Vec<Vec<Received>>,
}

impl Default for Batches {
    fn default() -> Self {
        // No target was seen in turn 0.
        Self { turn: 1, batches: Vec::new(), spare: Vec::new() }
    }
}

impl Batches {
    /// Has a message wait for the end of the turn. When to acknowledge it.
    pub fn route(&mut self, slot: u32, glue: &mut Glue, arrival: &Arrival<'_>) -> Take {
        let Glue { routes, shared, .. } = glue;
        let routes = routes.get_or_insert_default();
        let version = shared.router.version();
        if routes.version != version {
            **routes = Routes { version, ..Routes::default() };
        }
        if !routes.topics.contains_key(arrival.topic) {
            routes.learn(arrival.topic, shared);
        }
        let Routes { topics, targets, .. } = &mut **routes;
        let (topic, places) = topics.get_key_value(arrival.topic).expect("it was just learned");
        let Some((last, others)) = places.split_last() else { return Take::Now };

        let may_wait = arrival.publish.qos != QoS::AtMostOnce;
        let is_manual = shared.options.manual_acks && may_wait;
        let mut withheld = 0;
        for place in places {
            let batch = self.batch_of(&mut targets[*place as usize], slot, shared);
            withheld += u32::from(batch.is_full());
        }
        let token = match (is_manual, may_wait, withheld) {
            (true, ..) => Some(token(shared, arrival, places.len() as u32, false)),
            (false, true, 1..) => Some(token(shared, arrival, withheld, true)),
            (false, ..) => None,
        };
        let received = received(topic, shared, arrival);
        for place in others {
            let batch = &mut self.batches[targets[*place as usize].batch as usize];
            batch.push(received.clone(), token.as_ref(), is_manual);
        }
        let batch = &mut self.batches[targets[*last as usize].batch as usize];
        batch.push(received, token.as_ref(), is_manual);
        match token {
            None => Take::Now,
            // The routes have what is withheld, and will give it to the program. What it has not acknowledged
            // it gets again.
            Some(_) => Take::Later { is_kept: !is_manual },
        }
    }

    /// The messages of a target in this turn.
    fn batch_of(&mut self, routed: &mut Routed, slot: u32, shared: &Arc<SessionShared>) -> &mut Batch {
        if routed.turn != self.turn {
            routed.turn = self.turn;
            routed.batch = self.batches.len() as u32;
            let (target, overflow) = (routed.target.clone(), routed.target.overflow());
            let room = match overflow {
                Overflow::Withhold | Overflow::Pause => target.room(),
                Overflow::DropNewest | Overflow::DropOldest => usize::MAX,
            };
            let messages = self.spare.pop().unwrap_or_default();
            self.batches.push(Batch { slot, shared: shared.clone(), target, overflow, room, messages });
        }
        &mut self.batches[routed.batch as usize]
    }

    /// Puts everything into the targets. The sessions that are not to be read, once for each target that is full.
    pub fn put(&mut self) -> Vec<(u32, SessionId)> {
        let mut full = Vec::new();
        if self.batches.is_empty() {
            return full;
        }
        self.turn += 1;
        for mut batch in self.batches.drain(..) {
            let is_full = batch.overflow == Overflow::Pause && batch.messages.len() >= batch.room;
            batch.target.put(&mut batch.messages);
            batch.messages.clear();
            if is_full && batch.target.wait_for_room(&batch.shared) {
                full.push((batch.slot, batch.shared.id));
            }
            if self.spare.len() < SPARE_LISTS_MAX && batch.messages.capacity() <= SPARE_LIST_ROOM_MAX {
                self.spare.push(batch.messages);
            }
        }
        full
    }
}

impl Batch {
    /// Whether the next message's acknowledgement is held back.
    fn is_full(&self) -> bool {
        self.overflow == Overflow::Withhold && self.messages.len() >= self.room
    }

    fn push(&mut self, mut received: Received, token: Option<&Arc<AckToken>>, is_manual: bool) {
        received.ack = token.filter(|_| is_manual || self.is_full()).cloned();
        self.messages.push(received);
    }
}

fn token(
    shared: &Arc<SessionShared>,
    arrival: &Arrival<'_>,
    owed: u32,
    is_automatic: bool,
) -> Arc<AckToken> {
    let packet_id = arrival.publish.packet_id.expect("above QoS 0 there is one");
    let acknowledgement = Acknowledgement { connection: arrival.connection, packet_id };
    Arc::new(AckToken::new(shared.clone(), acknowledgement, owed, is_automatic))
}

/// A message as the program gets it.
fn received(topic: &Topic, shared: &SessionShared, arrival: &Arrival<'_>) -> Received {
    let Publish { dup, qos, retain, properties, payload, .. } = arrival.publish;
    let has_properties = !properties.raw.is_empty();
    Received {
        message: Message {
            topic: topic.clone(),
            payload: Bytes::copy_from_slice(payload),
            qos: *qos,
            retain: *retain,
            message_expiry_s: properties.message_expiry_s,
            properties: if has_properties { message_properties(properties) } else { None },
        },
        session: shared.options.name.clone(),
        dup: *dup,
        subscription_ids: if properties.has_subscription_ids {
            properties.subscription_ids.iter().collect()
        } else {
            Vec::new()
        },
        ack: None,
    }
}

/// The properties that travel with a message, if it has any.
fn message_properties(properties: &PublishProperties<'_>) -> Option<Box<MessageProperties>> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let properties = MessageProperties {
        payload_is_text: properties.payload_format == Some(PayloadFormat::Utf8),
        content_type: properties.content_type.map(str::to_owned),
        response_topic: properties.response_topic.map(Topic::from),
        correlation_data: properties.correlation_data.map(Bytes::copy_from_slice),
        user: properties.user.iter().map(own).collect(),
    };
    (properties != MessageProperties::default()).then(|| Box::new(properties))
}
