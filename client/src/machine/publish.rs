//! Publications on their way to the server, and what it answers. MQTT 5 sections 3.3 to 3.7.

use ringmq_codec::{Ack, PacketId, PayloadFormat, Property, PublishHeader, QoS, ReasonCode, encode_pubrel};

use super::aliases::Name;
use super::limits::{FIELD_BYTES_MAX, SHARED_PAYLOAD_BYTES_MIN};
use super::window::Stage;
use super::{Fault, Machine, Phase, Sink, breach, explain, id_of};
use crate::error::Error;
use crate::link::{Number, Outcome, Publication, StoreChange};
use crate::message::{Message, MessageProperties};

/// Bytes that an alias adds to a packet, its longer lengths included.
const ALIAS_BYTES: usize = 3 + 2;

/// Whether a publication's life is over.
pub(super) fn is_expired<T>(publication: &Publication<T>, now_ms: u64) -> bool {
    publication
        .message
        .message_expiry_s
        .is_some_and(|seconds| now_ms.saturating_sub(publication.since_ms) >= u64::from(seconds) * 1000)
}

/// What is left of a publication's life, in whole seconds, rounded up. [MQTT-3.3.2-6]
fn remaining_s<T>(publication: &Publication<T>, now_ms: u64) -> Option<u32> {
    publication.message.message_expiry_s.map(|seconds| {
        let left_ms = (u64::from(seconds) * 1000).saturating_sub(now_ms.saturating_sub(publication.since_ms));
        u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX)
    })
}

/// Sending.
impl<T> Machine<T> {
    /// Publishes, now if it can be, or puts the publication behind those that wait.
    pub fn publish<S: Sink<Delivery = T>>(&mut self, mut publication: Publication<T>, sink: &mut S) {
        debug_assert_eq!(publication.number.is_some(), publication.message.qos != QoS::AtMostOnce);
        if publication.message.message_expiry_s.is_some() && publication.since_ms == 0 {
            publication.since_ms = sink.now_ms();
        }
        if self.phase == Phase::Up && self.queue.is_empty() && self.window.is_all_sent() {
            match self.send(publication, sink) {
                Ok(()) => return,
                Err(back) => publication = back,
            }
        }
        self.note_expiry(publication.since_ms, publication.message.message_expiry_s);
        self.queue.push_back(publication);
    }

    /// The backlog shrank: more may be sent.
    pub fn drained<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        self.pump(sink);
    }

    /// Sends again what an earlier connection left, then what waits, as far as window and backlog let it.
    pub(super) fn pump<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        if self.phase != Phase::Up {
            return;
        }
        while let Some(at) = self.window.next_again() {
            if !self.window.has_quota() || sink.backlog_bytes() > sink.backlog_high_bytes() {
                return;
            }
            self.send_again(at, sink);
        }
        while let Some(publication) = self.queue.pop_front() {
            let is_restored = self.queue_restored > 0;
            self.queue_restored -= u32::from(is_restored);
            if let Err(back) = self.send_counted(publication, !is_restored, sink) {
                self.queue_restored += u32::from(is_restored);
                self.queue.push_front(back);
                return;
            }
        }
    }

    /// Takes the next publication that waits.
    pub(super) fn pop_queue<S: Sink<Delivery = T>>(&mut self, sink: &mut S) -> Option<Publication<T>> {
        let publication = self.queue.pop_front()?;
        if self.queue_restored > 0 {
            self.queue_restored -= 1;
        } else {
            sink.left_queue();
        }
        Some(publication)
    }

    #[inline]
    fn send<S: Sink<Delivery = T>>(
        &mut self,
        publication: Publication<T>,
        sink: &mut S,
    ) -> Result<(), Publication<T>> {
        self.send_counted(publication, true, sink)
    }

    /// Sends a publication for the first time, or fails it, or gives it back: there is no room.
    fn send_counted<S: Sink<Delivery = T>>(
        &mut self,
        publication: Publication<T>,
        is_counted: bool,
        sink: &mut S,
    ) -> Result<(), Publication<T>> {
        if sink.backlog_bytes() > sink.backlog_high_bytes()
            || publication.number.is_some_and(|number| !self.window.has_room(number))
        {
            return Err(publication);
        }
        if is_counted {
            sink.left_queue();
        }
        if let Err(error) = self.put_publish(&publication, Repeat::No, sink) {
            self.complete(publication, Err(error), sink);
            return Ok(());
        }
        match publication.number {
            None => sink.settled(publication.delivery, Ok(ReasonCode::Success)),
            Some(number) => self.window.launch(number, publication),
        }
        Ok(())
    }

    /// Sends the PUBLISH of a flight again, or fails it. [MQTT-4.4.0-1]
    fn send_again<S: Sink<Delivery = T>>(&mut self, at: usize, sink: &mut S) {
        let flight = self.window.at(at);
        let repeat = if flight.is_repeat { Repeat::Yes } else { Repeat::No };
        let publication = flight.publication.take().expect("what is not done has one");
        // What was sent is finished although it expired since: the server has it perhaps.
        let outcome = self.put_publish(&publication, repeat, sink);
        self.window.at(at).publication = Some(publication);
        match outcome {
            Ok(()) => self.window.sent_again(),
            Err(error) => {
                let publication = self.window.finish(at);
                self.complete(publication, Err(error), sink);
            }
        }
    }

    /// Appends a PUBLISH, or says why it must not be sent.
    fn put_publish<S: Sink<Delivery = T>>(
        &mut self,
        publication: &Publication<T>,
        repeat: Repeat,
        sink: &mut S,
    ) -> Result<(), Error> {
        let (message, now_ms) = (&publication.message, sink.now_ms());
        if repeat == Repeat::No && is_expired(publication, now_ms) {
            return Err(Error::Expired);
        }
        if message.qos > self.server.qos_max {
            return Err(Error::Refused(ReasonCode::QoSNotSupported)); // [MQTT-3.2.2-11]
        }
        if message.retain && !self.server.has_retain {
            return Err(Error::Refused(ReasonCode::RetainNotSupported)); // [MQTT-3.2.2-14]
        }
        let version = self.version();
        let mut properties = Vec::new();
        if let Some(message_properties) = &message.properties
            && version.is_v5()
        {
            put_properties(message_properties, &mut properties)?;
        }
        if message.topic.len() > FIELD_BYTES_MAX || message.topic.is_empty() {
            return Err(invalid("topic", &message.topic, "a topic name of 1 to 65,535 bytes"));
        }
        let packet_id = publication.number.map(Number::packet_id);
        let plain = PublishHeader {
            version,
            dup: repeat == Repeat::Yes,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic.as_bytes(),
            packet_id,
            properties: &properties,
            message_expiry_s: remaining_s(publication, now_ms),
            topic_alias: None,
            subscription_ids: &[],
            payload_len: message.payload.len(),
        };
        let (bytes, bytes_max) = (plain.encoded_len(), self.server.packet_bytes_max as usize);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max }); // [MQTT-3.2.2-15]
        }
        let header = match &mut self.aliases_out {
            Some(aliases) if bytes + ALIAS_BYTES <= bytes_max => match aliases.name(&message.topic) {
                Name::Known(alias) => PublishHeader { topic: b"", topic_alias: Some(alias), ..plain },
                Name::New(alias) => PublishHeader { topic_alias: Some(alias), ..plain },
            },
            Some(_) | None => plain,
        };
        let out = sink.out();
        let before = out.waiting_bytes();
        header.encode(out.tail());
        if message.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
            out.put_shared(message.payload.clone());
        } else {
            out.put(&message.payload);
        }
        let bytes = out.waiting_bytes() - before;
        self.clock.wrote(bytes, now_ms, self.options.write_timeout_ms);
        sink.sent(bytes);
        Ok(())
    }

    /// Appends a packet.
    pub(super) fn write<S: Sink<Delivery = T>>(&mut self, sink: &mut S, encode: impl FnOnce(&mut Vec<u8>)) {
        let out = sink.out().tail();
        let before = out.len();
        encode(out);
        let bytes = out.len() - before;
        self.clock.wrote(bytes, sink.now_ms(), self.options.write_timeout_ms);
    }

    /// A publication is done with, in whatever way.
    pub(super) fn complete<S: Sink<Delivery = T>>(
        &mut self,
        publication: Publication<T>,
        outcome: Outcome,
        sink: &mut S,
    ) {
        if let Some(number) = publication.number {
            sink.store(StoreChange::Completed(number));
        }
        sink.settled(publication.delivery, outcome);
    }
}

/// What the server answers.
impl<T> Machine<T> {
    /// [MQTT-4.3.2-2]
    pub(super) fn on_puback<S: Sink<Delivery = T>>(
        &mut self,
        ack: &Ack<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        // One that is not known may be late: a server may send it for the last connection, and for this again.
        let Some(at) = self.window.find(ack.packet_id) else { return Ok(()) };
        self.expect_qos(at, QoS::AtLeastOnce, "PUBACK")?;
        explain(ack.reason, ack.reason_string, sink);
        self.land(at, outcome(ack.reason), sink);
        Ok(())
    }

    /// [MQTT-4.3.3-4]
    pub(super) fn on_pubrec<S: Sink<Delivery = T>>(
        &mut self,
        ack: &Ack<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let Some(at) = self.window.find(ack.packet_id) else {
            if !ack.reason.is_error() {
                self.send_pubrel(ack.packet_id, ReasonCode::PacketIdentifierNotFound, sink);
            }
            return Ok(());
        };
        self.expect_qos(at, QoS::ExactlyOnce, "PUBREC")?;
        explain(ack.reason, ack.reason_string, sink);
        match self.window.at(at).stage {
            Stage::Publish if ack.reason.is_error() => self.land(at, outcome(ack.reason), sink),
            Stage::Publish => self.received_by_server(at, sink),
            Stage::Release => self.send_pubrel(ack.packet_id, ReasonCode::Success, sink),
            Stage::Storing | Stage::Done => {}
        }
        Ok(())
    }

    /// The server has a QoS 2 message. Its content stays, in case the server loses the session: some publish a message
    /// only when PUBREL comes (MQTT 3.1.1 section 4.3.3, method A). In a store it does not.
    fn received_by_server<S: Sink<Delivery = T>>(&mut self, at: usize, sink: &mut S) {
        let number = self.window.number_at(at);
        let flight = self.window.at(at);
        let publication = flight.publication.as_mut().expect("what is not done has one");
        match sink.store(StoreChange::Released(number)) {
            Some(change) => {
                publication.message = Message { qos: QoS::ExactlyOnce, ..Message::default() };
                flight.stage = Stage::Storing;
                self.storing.push_back((change, number));
            }
            None => {
                flight.stage = Stage::Release;
                self.send_pubrel(number.packet_id(), ReasonCode::Success, sink);
            }
        }
    }

    /// PUBRELs that waited for the store go.
    pub(super) fn release_stored<S: Sink<Delivery = T>>(&mut self, up_to: u64, sink: &mut S) {
        while let Some((_, number)) = self.storing.pop_front_if(|(change, _)| *change <= up_to) {
            let Some(at) = self.window.find_number(number) else { continue };
            if self.window.at(at).stage == Stage::Storing {
                self.window.at(at).stage = Stage::Release;
                if self.phase == Phase::Up {
                    self.send_pubrel(number.packet_id(), ReasonCode::Success, sink);
                }
            }
        }
    }

    /// [MQTT-4.3.3-7]
    pub(super) fn on_pubcomp<S: Sink<Delivery = T>>(
        &mut self,
        ack: &Ack<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let Some(at) = self.window.find(ack.packet_id) else { return Ok(()) };
        if self.window.at(at).stage != Stage::Release {
            return breach(
                ReasonCode::ProtocolError,
                format!("PUBCOMP {} came before PUBREL was sent", ack.packet_id),
            );
        }
        // Also when it does not know the id: then it has published the message before.
        self.land(at, Ok(ReasonCode::Success), sink);
        Ok(())
    }

    fn expect_qos(&mut self, at: usize, qos: QoS, name: &str) -> Result<(), Fault> {
        let publication = self.window.at(at).publication.as_ref().expect("what is not done has one");
        if publication.message.qos != qos {
            let (id, sent) = (id_of(publication), publication.message.qos as u8);
            return breach(
                ReasonCode::ProtocolError,
                format!("{name} {id} answers a message that was sent at QoS {sent}"),
            );
        }
        Ok(())
    }

    fn land<S: Sink<Delivery = T>>(&mut self, at: usize, outcome: Outcome, sink: &mut S) {
        let publication = self.window.finish(at);
        self.complete(publication, outcome, sink);
        self.pump(sink);
    }

    fn send_pubrel<S: Sink<Delivery = T>>(&mut self, id: PacketId, reason: ReasonCode, sink: &mut S) {
        let version = self.version();
        self.write(sink, |out| encode_pubrel(version, id, reason, out));
    }

    /// A new connection whose server knows the session, or does not: what was in flight.
    pub(super) fn begin_window<S: Sink<Delivery = T>>(&mut self, session_present: bool, sink: &mut S) {
        if !session_present {
            self.lose_flights(sink);
        }
        let limit = self.options.inflight_messages_max.max(1).min(self.server.receive_maximum);
        self.window.begin(limit);
        let posted_anew = self.storing.is_empty();
        for at in 0..self.window.len() {
            let number = self.window.number_at(at);
            match self.window.at(at).stage {
                Stage::Release => self.send_pubrel(number.packet_id(), ReasonCode::Success, sink),
                // The store failed when it was to be told.
                Stage::Storing if posted_anew => self.received_by_server(at, sink),
                Stage::Storing | Stage::Publish | Stage::Done => {}
            }
        }
    }

    /// The server does not know the session. What is in flight is new to it, also what it had received: whether it has
    /// published that is not known. What has no content any more is taken for published. [MQTT-4.3.3-11]
    fn lose_flights<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        let fails = match self.options.lost_session {
            crate::options::LostSession::Resend => false,
            crate::options::LostSession::Fail => true,
        };
        // From the end, since places move when the first ones go.
        for at in (0..self.window.len()).rev() {
            let flight = self.window.at(at);
            let has_content =
                flight.publication.as_ref().is_some_and(|publication| !publication.message.topic.is_empty());
            let outcome = match flight.stage {
                Stage::Done => continue,
                Stage::Storing | Stage::Release if !has_content => Ok(ReasonCode::Success),
                Stage::Publish | Stage::Storing | Stage::Release if fails => Err(Error::SessionLost),
                Stage::Publish | Stage::Storing | Stage::Release => {
                    flight.stage = Stage::Publish;
                    continue;
                }
            };
            let publication = self.window.finish(at);
            self.complete(publication, outcome, sink);
        }
        self.storing.clear();
        self.window.forget_repeats();
    }
}

/// Whether a PUBLISH may have been sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    No,
    Yes,
}

/// What an acknowledgement's reason code means.
pub(super) fn outcome(reason: ReasonCode) -> Outcome {
    if reason.is_error() { Err(Error::Refused(reason)) } else { Ok(reason) }
}

fn invalid(what: &'static str, given: &str, remedy: &str) -> Error {
    let given = given.chars().take(80).collect();
    Error::Invalid { what, given, remedy: remedy.into() }
}

fn check_field(what: &'static str, bytes: usize, given: &str) -> Result<(), Error> {
    if bytes > FIELD_BYTES_MAX {
        return Err(invalid(what, given, "MQTT allows up to 65,535 bytes"));
    }
    Ok(())
}

/// Appends the properties that a message carries.
fn put_properties(properties: &MessageProperties, out: &mut Vec<u8>) -> Result<(), Error> {
    let MessageProperties { payload_is_text, content_type, response_topic, correlation_data, user } =
        properties;
    if *payload_is_text {
        Property::PayloadFormatIndicator(PayloadFormat::Utf8).encode(out);
    }
    if let Some(content_type) = content_type {
        check_field("content type", content_type.len(), content_type)?;
        Property::ContentType(content_type).encode(out);
    }
    if let Some(topic) = response_topic {
        check_field("response topic", topic.len(), topic)?;
        Property::ResponseTopic(topic).encode(out);
    }
    if let Some(data) = correlation_data {
        check_field("correlation data", data.len(), "")?;
        Property::CorrelationData(data).encode(out);
    }
    for (name, value) in user {
        check_field("user property", name.len().max(value.len()), name)?;
        Property::UserProperty(name, value).encode(out);
    }
    Ok(())
}
