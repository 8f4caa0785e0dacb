//! SUBSCRIBE and UNSUBSCRIBE, and their answers. MQTT 5 sections 3.8 to 3.11.

use std::sync::Arc;

use ringmq_codec::{
    ReasonCode, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe, UserProperties, check_filter,
};

use super::limits::{ASK_BYTES_MAX, FIELD_BYTES_MAX};
use super::publish::outcome;
use super::subscriptions::{Ask, Question};
use super::{Fault, Machine, Phase, Server, Sink, breach, explain};
use crate::error::Error;
use crate::link::{StoreChange, Wanted};

/// Bytes of a packet before its filters at most: fixed header, packet id, and a Subscription Identifier.
const HEAD_BYTES_MAX: usize = 5 + 2 + 1 + 5;

impl<T> Machine<T> {
    /// Has a subscription from now on, and on every connection.
    pub fn subscribe<S: Sink<Delivery = T>>(&mut self, wanted: Wanted, asker: Option<T>, sink: &mut S) {
        self.subscriptions.subscribe(wanted, asker);
        self.ask(sink);
    }

    /// Has it no longer.
    pub fn unsubscribe<S: Sink<Delivery = T>>(&mut self, filter: &Arc<str>, asker: T, sink: &mut S) {
        let is_up = self.phase == Phase::Up;
        if !is_up {
            for asker in self.subscriptions.take_back(filter) {
                sink.settled(asker, Err(Error::Refused(ReasonCode::NoSubscriptionExisted)));
            }
        }
        let (now, later) = if is_up { (None, Some(asker)) } else { (Some(asker), None) };
        if self.subscriptions.unsubscribe(filter, later) {
            sink.store(StoreChange::Unsubscribed(filter.clone()));
        }
        if let Some(asker) = now {
            sink.settled(asker, Ok(ReasonCode::Success));
        }
        self.ask(sink);
    }

    /// Sends as many questions as may be under way.
    pub(super) fn ask<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        if self.phase != Phase::Up {
            return;
        }
        let server = self.server;
        let room = (server.packet_bytes_max as usize).min(ASK_BYTES_MAX).saturating_sub(HEAD_BYTES_MAX);
        while let Some(question) = self.subscriptions.front() {
            if let Some(error) = objection(&server, question) {
                if let Some(asker) = self.subscriptions.refuse_front() {
                    sink.settled(asker, Err(error));
                }
                continue;
            }
            let is_sendable = |ask: &Ask| unavailable(&server, ask).is_none();
            let Some(id) = self.subscriptions.take(room, is_sendable) else { break };
            let version = self.version();
            let questions = self.subscriptions.asked(id).expect("it was just asked");
            let mut packet = Vec::new();
            encode(version, id, questions, &mut packet);
            self.write(sink, |out| out.extend_from_slice(&packet));
        }
        self.check_ready(sink);
    }

    /// [MQTT-3.8.4-2]
    pub(super) fn on_suback<S: Sink<Delivery = T>>(
        &mut self,
        suback: &SubAck<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let asked = self.subscriptions.asked(suback.packet_id);
        let is_meant = |questions: &[Question<T>]| {
            questions.len() == suback.reasons.len() && matches!(questions[0].ask, Ask::Subscribe(_))
        };
        if !asked.is_some_and(is_meant) {
            return breach(
                ReasonCode::ProtocolError,
                format!("SUBACK {} does not answer what was asked", suback.packet_id),
            );
        }
        let questions = self.subscriptions.answered(suback.packet_id);
        if let Some(reason) = suback.reasons.iter().find(|reason| reason.is_error()) {
            explain(reason, suback.reason_string, sink);
        }
        for (question, reason) in questions.into_iter().zip(suback.reasons.iter()) {
            let Ask::Subscribe(wanted) = question.ask else { continue };
            let is_granted = !reason.is_error();
            if self.subscriptions.granted_or_not(&wanted, is_granted) && is_granted {
                sink.store(StoreChange::Subscribed(wanted));
            }
            if let Some(asker) = question.asker {
                sink.settled(asker, outcome(reason));
            }
        }
        self.ask(sink);
        Ok(())
    }

    /// [MQTT-3.10.4-4]
    pub(super) fn on_unsuback<S: Sink<Delivery = T>>(
        &mut self,
        unsuback: &UnsubAck<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let has_reasons = self.version().is_v5();
        let asked = self.subscriptions.asked(unsuback.packet_id);
        let is_meant = |questions: &[Question<T>]| {
            (!has_reasons || questions.len() == unsuback.reasons.len())
                && matches!(questions[0].ask, Ask::Unsubscribe(_))
        };
        if !asked.is_some_and(is_meant) {
            return breach(
                ReasonCode::ProtocolError,
                format!("UNSUBACK {} does not answer what was asked", unsuback.packet_id),
            );
        }
        let questions = self.subscriptions.answered(unsuback.packet_id);
        if let Some(reason) = unsuback.reasons.iter().find(|reason| reason.is_error()) {
            explain(reason, unsuback.reason_string, sink);
        }
        let reasons = unsuback.reasons.iter().chain(std::iter::repeat(ReasonCode::Success));
        for (question, reason) in questions.into_iter().zip(reasons) {
            if let Some(asker) = question.asker {
                sink.settled(asker, outcome(reason));
            }
        }
        self.ask(sink);
        Ok(())
    }

    /// Says once on a connection that every subscription is answered.
    pub(super) fn check_ready<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        if !self.is_ready && self.subscriptions.is_settled() {
            self.is_ready = true;
            sink.ready();
        }
    }
}

/// Why a question cannot be sent at all.
fn objection<T>(server: &Server, question: &Question<T>) -> Option<Error> {
    let (bytes, bytes_max) = (question.bytes() + HEAD_BYTES_MAX, server.packet_bytes_max as usize);
    if let Ask::Subscribe(Wanted { filter, .. }) | Ask::Unsubscribe(filter) = &question.ask
        && filter.len() > FIELD_BYTES_MAX
    {
        return Some(Error::Refused(ReasonCode::TopicFilterInvalid));
    }
    if bytes > bytes_max {
        return Some(Error::TooLarge { bytes, bytes_max }); // [MQTT-3.2.2-15]
    }
    unavailable(server, &question.ask).map(Error::Refused)
}

/// What the server said that it does not have.
fn unavailable(server: &Server, ask: &Ask) -> Option<ReasonCode> {
    let Ask::Subscribe(wanted) = ask else { return None };
    if wanted.subscription_id != 0 && !server.has_subscription_ids {
        return Some(ReasonCode::SubscriptionIdentifiersNotSupported);
    }
    if server.has_wildcards && server.has_shared {
        return None;
    }
    let Ok(filter) = check_filter(&wanted.filter) else { return None };
    if filter.share.is_some() && !server.has_shared {
        return Some(ReasonCode::SharedSubscriptionsNotSupported);
    }
    (filter.has_wildcards && !server.has_wildcards).then_some(ReasonCode::WildcardSubscriptionsNotSupported)
}

fn encode<T>(
    version: ringmq_codec::Version,
    packet_id: ringmq_codec::PacketId,
    questions: &[Question<T>],
    out: &mut Vec<u8>,
) {
    let user = UserProperties::EMPTY;
    match &questions[0].ask {
        Ask::Subscribe(Wanted { subscription_id, .. }) => {
            let filters: Vec<_> = questions
                .iter()
                .filter_map(|question| match &question.ask {
                    Ask::Subscribe(Wanted { filter, options, .. }) => {
                        Some(SubscribeFilter { filter, options: *options })
                    }
                    Ask::Unsubscribe(_) => None,
                })
                .collect();
            let subscription_id = Some(*subscription_id).filter(|id| *id != 0 && version.is_v5());
            Subscribe { packet_id, subscription_id, user, filters: filters[..].into() }.encode(version, out);
        }
        Ask::Unsubscribe(_) => {
            let filters: Vec<_> = questions
                .iter()
                .filter_map(|question| match &question.ask {
                    Ask::Unsubscribe(filter) => Some(&**filter),
                    Ask::Subscribe(_) => None,
                })
                .collect();
            Unsubscribe { packet_id, user, filters: filters[..].into() }.encode(version, out);
        }
    }
}
