//! Messages of the server, and their acknowledgements. MQTT 5 sections 3.3 and 4.3.

use ringmq_codec::{
    Ack, PacketId, Publish, QoS, ReasonCode, Version, check_name, encode_puback, encode_pubcomp,
    encode_pubrec,
};

use super::aliases::AliasesIn;
use super::incoming::{Hold, Novelty};
use super::receive::malformed;
use super::{Arrival, Fault, Machine, Phase, Sink, Take, breach};
use crate::link::{Acknowledgement, StoreChange};
use crate::options::SessionOptions;

impl<T> Machine<T> {
    pub(super) fn on_publish<S: Sink<Delivery = T>>(
        &mut self,
        publish: &Publish<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let topic = check_topic(&mut self.aliases_in, self.options.topic_alias_maximum, publish)?;
        let arrival = Arrival { topic, publish, connection: self.connection };
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => {
                sink.message(&arrival);
                Ok(())
            }
            (QoS::AtLeastOnce, Some(id)) => {
                self.incoming.open_one();
                check_open(self.incoming.open(), &self.options)?;
                match sink.message(&arrival) {
                    Take::Later { is_kept } => self.incoming.owe(id, false, Hold::Program { is_kept }),
                    Take::Now if self.incoming.is_clear() => {
                        self.incoming.close_one();
                        let version = self.version();
                        self.write(sink, |out| encode_puback(version, id, ReasonCode::Success, out));
                    }
                    Take::Now => self.incoming.owe(id, false, Hold::Turn),
                }
                Ok(())
            }
            (QoS::ExactlyOnce, Some(id)) => {
                // A server of MQTT 3.1 that lost the session does not say so. One that repeats itself does.
                if self.options.version == Version::V31 && !publish.dup {
                    self.incoming.forget_earlier(id);
                }
                let novelty = self.incoming.take(id);
                check_open(self.incoming.open(), &self.options)?;
                let hold = match novelty {
                    Novelty::New => match sink.message(&arrival) {
                        Take::Later { is_kept } => Hold::Program { is_kept },
                        Take::Now => self.post_taken(id, sink),
                    },
                    Novelty::Again { is_posted: true } => Hold::Turn,
                    Novelty::Again { is_posted: false } => self.post_taken(id, sink),
                    Novelty::Repeated if self.incoming.owes_pubrec(id) => return Ok(()),
                    Novelty::Repeated => Hold::Turn,
                };
                self.incoming.owe(id, true, hold);
                self.acknowledge_ready(sink);
                Ok(())
            }
            (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => unreachable!("it would not have decoded"),
        }
    }

    /// Tells the store of a QoS 2 message; what its PUBREC waits for.
    fn post_taken<S: Sink<Delivery = T>>(&mut self, id: PacketId, sink: &mut S) -> Hold {
        self.incoming.posted(id);
        sink.store(StoreChange::Taken(id)).map_or(Hold::Turn, Hold::Store)
    }

    /// The program dealt with a message.
    pub fn acknowledge<S: Sink<Delivery = T>>(&mut self, acknowledgement: Acknowledgement, sink: &mut S) {
        let Acknowledgement { connection, packet_id } = acknowledgement;
        if connection != self.connection || self.phase != Phase::Up {
            return;
        }
        let Some(is_pubrec) = self.incoming.is_held(packet_id) else { return };
        let hold = if is_pubrec { self.post_taken(packet_id, sink) } else { Hold::Turn };
        self.incoming.acknowledge(packet_id, hold);
        self.acknowledge_ready(sink);
    }

    /// Sends the acknowledgements that nothing stands before.
    fn acknowledge_ready<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        let version = self.version();
        while let Some((id, is_pubrec)) = self.incoming.pop() {
            self.write(sink, |out| {
                if is_pubrec {
                    encode_pubrec(version, id, ReasonCode::Success, out);
                } else {
                    encode_puback(version, id, ReasonCode::Success, out);
                }
            });
        }
    }

    /// Sends the acknowledgements that waited for the store.
    pub(super) fn acknowledge_stored<S: Sink<Delivery = T>>(&mut self, up_to: u64, sink: &mut S) {
        if self.phase != Phase::Up {
            return;
        }
        self.incoming.stored(up_to);
        self.acknowledge_ready(sink);
        while let Some(id) = self.incoming.pop_completion(up_to) {
            self.send_pubcomp(id, ReasonCode::Success, sink);
        }
    }

    /// The server releases a message. [MQTT-4.3.3-11]
    pub(super) fn on_pubrel<S: Sink<Delivery = T>>(
        &mut self,
        ack: &Ack<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let id = ack.packet_id;
        if self.incoming.owes_pubrec(id) {
            return breach(ReasonCode::ProtocolError, format!("PUBREL {id} came before PUBREC was sent"));
        }
        let is_known = self.incoming.release(id);
        let reason = if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // Also when it is not known: what the store was told of its end may have been lost. The server gives the
        // id to another message once it has PUBCOMP.
        match sink.store(StoreChange::Given(id)) {
            Some(change) => self.incoming.owe_completion(change, id),
            None => self.send_pubcomp(id, reason, sink),
        }
        Ok(())
    }

    fn send_pubcomp<S: Sink<Delivery = T>>(&mut self, id: PacketId, reason: ReasonCode, sink: &mut S) {
        let version = self.version();
        self.write(sink, |out| encode_pubcomp(version, id, reason, out));
    }
}

/// More than we said that we take, which only MQTT 5 can. [MQTT-3.3.4-9]
fn check_open(open: u32, options: &SessionOptions) -> Result<(), Fault> {
    let receive_maximum = options.receive_maximum;
    if open > u32::from(receive_maximum) && options.version.is_v5() {
        return breach(
            ReasonCode::ReceiveMaximumExceeded,
            format!("more than {receive_maximum} messages are not acknowledged"),
        );
    }
    Ok(())
}

/// The topic of a message: its own, or the one that its alias stands for.
fn check_topic<'a>(
    aliases: &'a mut Option<Box<AliasesIn>>,
    alias_max: u16,
    publish: &Publish<'a>,
) -> Result<&'a str, Fault> {
    let Some(alias) = publish.properties.topic_alias else {
        return check_name(publish.topic).map_err(malformed);
    };
    if alias > alias_max {
        return breach(
            ReasonCode::TopicAliasInvalid,
            format!("topic alias {alias} is above the maximum of {alias_max}"),
        );
    }
    if !publish.topic.is_empty() {
        let topic = check_name(publish.topic).map_err(malformed)?;
        aliases.get_or_insert_default().set(alias, topic);
        return Ok(topic);
    }
    match aliases.as_ref().and_then(|aliases| aliases.get(alias)) {
        Some(topic) => Ok(topic),
        None => breach(ReasonCode::ProtocolError, format!("topic alias {alias} was not given a topic")),
    }
}
