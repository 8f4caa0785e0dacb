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
    topics: HashMap<Topic, Places, FixedState>,
    targets: Vec<Routed>,
}

/// Where messages of a topic go.
#[derive(Debug)]
struct Places {
    topic: Topic,
    places: Box<[u32]>,
}

/// Puts a topic's targets into the table.
#[cold]
fn learn<'a>(
    topics: &'a mut HashMap<Topic, Places, FixedState>,
    targets: &mut Vec<Routed>,
    topic: &str,
    shared: &SessionShared,
) -> &'a Places {
    if topics.len() >= TOPICS_MAX {
        topics.clear();
        targets.clear();
    }
    let mut places = Vec::new();
    for target in shared.router.targets(topic) {
        let known = targets.iter().position(|routed| Arc::ptr_eq(&routed.target, &target));
        let at = known.unwrap_or_else(|| {
            targets.push(Routed { target, turn: 0, batch: 0 });
            targets.len() - 1
        });
        places.push(at as u32);
    }
    let topic = Topic::from(topic);
    topics.entry(topic.clone()).or_insert(Places { topic, places: places.into() })
}

/// What a target gets of a session at the end of the turn.
#[derive(Debug)]
struct Batch {
    slot: u32,
    shared: Arc<SessionShared>,
    target: Arc<dyn Target>,
    overflow: Overflow,
    /// It acknowledges messages itself.
    acknowledges: bool,
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
    /// Of the message at hand, by its targets.
    holds: Vec<Hold>,
    tokens: Vec<Option<Arc<AckToken>>>,
}

/// Whether a target holds a message's acknowledgement back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    No,
    /// Until it was taken from the target, which is full.
    Withheld,
    /// Until the program, or the target itself, acknowledges.
    Manual,
}

impl Default for Batches {
    fn default() -> Self {
        // No target was seen in turn 0.
        let (batches, spare) = (Vec::new(), Vec::new());
        Self { turn: 1, batches, spare, holds: Vec::new(), tokens: Vec::new() }
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
        let Routes { topics, targets, .. } = &mut **routes;
        let Places { topic, places } = match topics.get(arrival.topic) {
            Some(known) => known,
            None => learn(topics, targets, arrival.topic, shared),
        };
        let Some((last, others)) = places.split_last() else { return Take::Now };

        let may_wait = arrival.publish.qos != QoS::AtMostOnce;
        let is_manual = shared.options.manual_acks && may_wait;
        self.holds.clear();
        for place in places {
            let batch = self.batch_of(&mut targets[*place as usize], slot, shared);
            let hold = match may_wait {
                false => Hold::No,
                true if is_manual || batch.acknowledges => Hold::Manual,
                true if batch.is_full() => Hold::Withheld,
                true => Hold::No,
            };
            self.holds.push(hold);
        }
        let is_held = may_wait && self.holds.iter().any(|hold| *hold != Hold::No);
        if is_held {
            self.put_tokens(shared, arrival);
        }
        let received = received(topic, shared, arrival);
        for (nth, place) in others.iter().enumerate() {
            let ack = if is_held { self.tokens[nth].take() } else { None };
            let batch = &mut self.batches[targets[*place as usize].batch as usize];
            batch.messages.push(Received { ack, ..received.clone() });
        }
        let ack = if is_held { self.tokens[others.len()].take() } else { None };
        let batch = &mut self.batches[targets[*last as usize].batch as usize];
        batch.messages.push(Received { ack, ..received });
        if !is_held {
            return Take::Now;
        }
        // The routes have what is withheld, and will give it to the program. What the program did not acknowledge
        // it gets again.
        Take::Later { is_kept: !self.holds.contains(&Hold::Manual) }
    }

    /// A token for each of the routes that hold the acknowledgement.
    #[cold]
    fn put_tokens(&mut self, shared: &Arc<SessionShared>, arrival: &Arrival<'_>) {
        let packet_id = arrival.publish.packet_id.expect("above QoS 0 there is one");
        let acknowledgement = Acknowledgement { connection: arrival.connection, packet_id };
        let held = self.holds.iter().filter(|hold| **hold != Hold::No);
        let are_automatic: Vec<bool> = held.map(|hold| *hold == Hold::Withheld).collect();
        let mut tokens = AckToken::for_routes(shared, acknowledgement, &are_automatic);
        self.tokens.clear();
        for hold in &self.holds {
            self.tokens.push(if *hold == Hold::No { None } else { tokens.next() });
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
            let (acknowledges, messages) = (target.acknowledges(), self.spare.pop().unwrap_or_default());
            let shared = shared.clone();
            self.batches.push(Batch { slot, shared, target, overflow, acknowledges, room, messages });
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
