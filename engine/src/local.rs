//! Publishing and subscribing from within the program that the broker is embedded in.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version};
use ringmq_storage::{Level, Log, MessageView, Record};

use crate::command::{Command, Event, LocalMessage, RequestId, SubscriberId};
use crate::deliver::{Publication, Retained};
use crate::encodings::Kind;
use crate::ids::SessionSlot;
use crate::ledger::DropReason;
use crate::mesh::Done;
use crate::route::RouteRef;
use crate::session::NewSession;
use crate::subscribe::{Granted, Wanted};
use crate::timers::{expires_at_ms, remaining_s};
use crate::violation::Violation;
use crate::{Engine, EngineIo};

/// Reports a message to an in-process subscriber.
pub(crate) fn deliver(
    subscriber: SubscriberId,
    publication: &Publication<'_>,
    kind: Kind,
    io: &mut EngineIo,
) {
    let view = &publication.view;
    let message = LocalMessage {
        topic: String::from_utf8_lossy(view.topic).into_owned(),
        payload: view.shared_payload.cloned().unwrap_or_else(|| Bytes::copy_from_slice(view.payload)),
        qos: kind.qos,
        retain: kind.retain,
        properties: Bytes::copy_from_slice(view.properties),
        message_expiry_s: remaining_s(view.expires_at_ms, io.now.wall_ms),
    };
    io.event(Event::Delivery { subscriber, message: Arc::new(message) });
}

impl<L: Log> Engine<L> {
    /// Does what another thread asks for.
    pub(crate) fn on_command(&mut self, command: Command, io: &mut EngineIo) {
        match command {
            Command::Publish { request, message } => self.publish_local(request, &message, io),
            Command::Subscribe { request, subscriber, filter, qos } => {
                let session = self.local_session(subscriber);
                let options = SubscriptionOptions {
                    retain_as_published: true,
                    retain_handling: RetainHandling::SendAtSubscribe,
                    ..SubscriptionOptions::new(qos)
                };
                let granted = self.subscribe(session, &Wanted { filter: &filter, options, id: 0 }, io);
                let Granted { reason, replay } = granted;
                self.answer(Done::Subscribed { request, reason, replay }, reason, io);
            }
            Command::Unsubscribe { request, subscriber, filter } => {
                let session = self.local_session(subscriber);
                let reason = self.unsubscribe(session, &filter, io);
                self.answer(Done::Subscribed { request, reason, replay: None }, reason, io);
            }
            Command::Leave { subscriber } => {
                if let Some(session) = self.locals.remove(&subscriber) {
                    self.end_session(session, io);
                }
            }
        }
    }

    /// Answers a request once what it changed is known on every shard.
    fn answer(&mut self, done: Done, reason: ReasonCode, io: &mut EngineIo) {
        if reason.is_error() || self.mesh.others.is_empty() {
            self.finish(done, io);
        } else {
            let wait = self.mesh.begin_barrier(Level::Memory, None, done);
            self.set_barrier(wait, io);
        }
    }

    fn local_session(&mut self, subscriber: SubscriberId) -> SessionSlot {
        if let Some(session) = self.locals.get(&subscriber) {
            return *session;
        }
        let session = self.sessions.create(&NewSession {
            client_id: "",
            version: Version::V5,
            expiry_s: 0,
            inflight_max: u16::MAX,
            local: Some(subscriber),
            record: None,
        });
        self.locals.insert(subscriber, session);
        session
    }

    fn publish_local(&mut self, request: RequestId, message: &LocalMessage, io: &mut EngineIo) {
        if message.qos > QoS::AtMostOnce && (self.log.is_full() || !self.full_shards.is_empty()) {
            self.ledger.received += 1;
            self.ledger.copies += 1;
            self.ledger.drop_copy(DropReason::StorageFull);
            let reason = ReasonCode::QuotaExceeded;
            return self.finish(Done::Published { request, reason }, io);
        }
        let reason = match self.router.route(message.topic.as_bytes(), RouteRef::default()) {
            Ok(route) => {
                let publication = Publication {
                    view: MessageView {
                        topic: message.topic.as_bytes(),
                        properties: &message.properties,
                        payload: &message.payload,
                        shared_payload: Some(&message.payload),
                        qos: message.qos as u8,
                        expires_at_ms: expires_at_ms(message.message_expiry_s, io.now.wall_ms),
                    },
                    qos: message.qos,
                    retain: if message.retain { Retained::AsPublished } else { Retained::No },
                    publisher: None,
                    number: None,
                };
                let (appended, refused) = (self.log.appended(), self.refused_copies);
                let routed = self.publish(route, &publication, io);
                let reason = match routed.matched {
                    _ if self.refused_copies > refused => ReasonCode::QuotaExceeded,
                    true => ReasonCode::Success,
                    false => ReasonCode::NoMatchingSubscribers,
                };
                let done = Done::Published { request, reason };
                let acked = message.qos > QoS::AtMostOnce;
                let shards = if acked { routed.shards } else { Default::default() };
                let (level, now) = (self.config.durability_default, self.log.appended());
                let log = (acked && now > appended && self.log.reached(level) < now).then_some(now);
                if let Some(done) = self.mesh.wait_accepted(&shards, level, log, done) {
                    self.finish(done, io);
                }
                return;
            }
            Err(refused) => Violation::from(refused).reason(),
        };
        self.finish(Done::Published { request, reason }, io);
    }

    /// What was waited for has happened.
    pub(crate) fn finish(&mut self, done: Done, io: &mut EngineIo) {
        match done {
            Done::Ack { conn, number } => self.ack_ready(conn, number, io),
            Done::Moved(moved) => self.on_moved(&moved),
            Done::Ended(session) => {
                self.completions.tell(&mut self.log);
                self.log.append(Record::SessionEnded { session });
            }
            Done::WillOut(session) => self.on_will_out(session),
            Done::Published { request, reason } => io.event(Event::Published { request, reason }),
            Done::Subscribed { request, reason, replay } => {
                io.event(Event::Subscribed { request, reason });
                if let Some(replay) = replay {
                    self.start_replay(replay, io);
                }
            }
        }
    }
}
