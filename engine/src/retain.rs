//! Retained messages: each topic's lies on the shard that its name hashes to. MQTT 5 section 3.3.1.3.

use std::sync::Arc;

use ringmq_storage::{Log, LogOffset, MessageView, Record};
use ringmq_turn::{ShardId, ShardSet};

use crate::carried::CarriedMessage;
use crate::deliver::Publication;
use crate::mesh::ShardMessage;
use crate::publish::carriable;
use crate::route::is_reserved;
use crate::{Engine, EngineIo};

impl<L: Log> Engine<L> {
    /// Stores a retained message with the shard of its topic, or clears it. The shards to wait for.
    pub(crate) fn retain(
        &mut self,
        publication: &Publication<'_>,
        carried: &mut Option<Arc<CarriedMessage>>,
        io: &mut EngineIo,
    ) -> ShardSet {
        let mut shards = ShardSet::EMPTY;
        let topic = topic_of(&publication.view);
        let owner = self.hashing.owner(topic, self.config.shards);
        if owner == self.config.shard {
            self.store_retained(&publication.view);
        } else {
            let number = self.mesh.count_retain(owner);
            self.replays.note_live(publication.view.topic, self.config.shard, number);
            let message = Arc::new(carriable(publication).with_stored_as(number));
            *carried = Some(Arc::clone(&message));
            io.message(owner, ShardMessage::Retain(message));
            shards.insert(owner);
        }
        shards
    }

    /// Takes note of a live message that another shard sent on to be stored, since a replay may bring what
    /// was stored before it.
    pub(crate) fn note_live(&mut self, from: ShardId, message: &CarriedMessage) {
        if message.retain() && self.replays.are_under_way() {
            let view = message.view();
            let owner = self.hashing.owner(topic_of(&view), self.config.shards);
            // What this shard or the sender stores is stored before it goes any further.
            if owner != self.config.shard && owner != from {
                self.replays.note_live(view.topic, from, message.stored_as());
            }
        }
    }

    /// Stores a retained message of this shard's slice; an empty payload clears its topic's.
    /// [MQTT-3.3.1-5] to [MQTT-3.3.1-7]
    pub(crate) fn store_retained(&mut self, view: &MessageView<'_>) {
        let topic = topic_of(view);
        if view.payload.is_empty() {
            if let Some(before) = self.retained.remove(topic) {
                self.forget_retained(before);
                self.log.append(Record::RetainedCleared { topic });
            }
            return;
        }
        // Most of what the broker says of itself is what it said before, and need not be written again.
        if is_reserved(view.topic)
            && self.retained.get(topic).is_some_and(|at| self.log.message(*at).payload == view.payload)
        {
            return;
        }
        let bytes = view.charged_bytes() as u64;
        let is_full = self.retained.len() >= self.limits.retained_messages_max as usize
            || self.retained_bytes + bytes > self.limits.retained_bytes_max
            || self.log.held_bytes() > self.limits.memory_bytes_max;
        if is_full && self.retained.get(topic).is_none() {
            self.traffic.retained_refused += 1;
            return;
        }
        let Ok(at) = self.log.keep(view) else {
            self.traffic.retained_refused += 1;
            self.refused_copies += 1;
            return;
        };
        self.tell_retained(at, topic);
        self.retained_bytes += bytes;
        if let Some(before) = self.retained.set(topic, at) {
            self.forget_retained(before);
        }
    }

    /// Tells the log that a message is its topic's retained one. What the broker says of itself is not for the
    /// next start.
    pub(crate) fn tell_retained(&mut self, at: LogOffset, topic: &str) {
        if !is_reserved(topic.as_bytes()) {
            self.log.append(Record::Retained { message: at });
        }
    }

    /// Whether this shard stores the retained message of a message's topic.
    pub(crate) fn owns_retained(&self, view: &MessageView<'_>) -> bool {
        self.hashing.owner(topic_of(view), self.config.shards) == self.config.shard
    }

    pub(crate) fn forget_retained(&mut self, at: LogOffset) {
        self.retained_bytes -= self.log.message(at).charged_bytes() as u64;
        self.log.release(at);
    }

    /// Drops retained messages that a scan found expired. [MQTT-3.3.2-5]
    pub(crate) fn drop_expired_retained(&mut self, topics: &[String], wall_ms: u64) {
        for topic in topics {
            let still_expired = self.retained.get(topic).is_some_and(|at| {
                let expires_at_ms = self.log.message(*at).expires_at_ms;
                expires_at_ms != 0 && expires_at_ms <= wall_ms
            });
            if still_expired && let Some(at) = self.retained.remove(topic) {
                self.forget_retained(at);
                self.log.append(Record::RetainedCleared { topic });
            }
        }
    }
}

pub(crate) fn topic_of<'a>(view: &MessageView<'a>) -> &'a str {
    std::str::from_utf8(view.topic).expect("a message's topic was checked where it came in")
}
