//! The broker's packets, from bytes to the notation.

use std::fmt::Write;

use ringmq_codec::{
    Ack, ConnAck, Disconnect, Frame, Packet, Properties, Property, PropertyScope, Publish, ReasonCode,
    SubAck, UnsubAck, UserProperties, Version,
};
use ringmq_engine::Limits;

/// One packet in the notation. Of a CONNACK's limits, only those that are not as configured.
pub(crate) fn render(version: Version, frame: &Frame<'_>, limits: &Limits) -> String {
    let packet = Packet::decode(version, frame).expect("the broker sends sound packets");
    match packet {
        Packet::ConnAck(connack) => render_connack(version, &connack, limits),
        Packet::Publish(publish) => render_publish(&publish),
        Packet::PubAck(ack) => render_ack("PUBACK", &ack),
        Packet::PubRec(ack) => render_ack("PUBREC", &ack),
        Packet::PubRel(ack) => render_ack("PUBREL", &ack),
        Packet::PubComp(ack) => render_ack("PUBCOMP", &ack),
        Packet::SubAck(suback) => render_suback(&suback),
        Packet::UnsubAck(unsuback) => render_unsuback(&unsuback),
        Packet::PingResp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => render_disconnect(&disconnect),
        Packet::Connect(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::Auth(_) => panic!("a server does not send {packet:?}"),
    }
}

fn put_reason(reason: ReasonCode, out: &mut String) {
    if reason != ReasonCode::Success {
        write!(out, " {:#04x}", reason as u8).unwrap();
    }
}

/// `name=value` if the two differ.
fn put_unlike<T: PartialEq + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    usual: Option<T>,
    out: &mut String,
) {
    if value != usual {
        match value {
            Some(value) => write!(out, " {name}={value}").unwrap(),
            None => write!(out, " {name}=none").unwrap(),
        }
    }
}

fn render_connack(version: Version, connack: &ConnAck<'_>, limits: &Limits) -> String {
    let mut out = String::from("CONNACK");
    put_reason(connack.reason, &mut out);
    if connack.session_present {
        out.push_str(" present");
    }
    let properties = &connack.properties;
    if version == Version::V5 && connack.reason == ReasonCode::Success {
        put_unlike(
            "rmax",
            properties.receive_maximum.map(|most| most.get()),
            Some(limits.receive_maximum).filter(|most| *most < u16::MAX),
            &mut out,
        );
        let pmax = properties.packet_bytes_max.map(|most| most.get());
        put_unlike("pmax", pmax, Some(limits.packet_bytes_max), &mut out);
        let usual = Some(limits.topic_alias_maximum).filter(|most| *most > 0);
        put_unlike("amax", properties.topic_alias_maximum, usual, &mut out);
    }
    put_unlike("expiry", properties.session_expiry_s, None, &mut out);
    put_unlike("keep", properties.server_keep_alive_s, None, &mut out);
    if let Some(id) = properties.assigned_client_id {
        // It is chance what it is.
        let known = id.starts_with("auto-");
        out.push_str(if known { " assigned" } else { " assigned=?" });
    }
    put_unlike("auth", properties.authentication_method, None, &mut out);
    put_unlike("responses", properties.response_information, None, &mut out);
    put_unlike("reference", properties.server_reference, None, &mut out);
    put_unlike("retain", properties.retain_available, None, &mut out);
    put_unlike("wildcards", properties.wildcard_available, None, &mut out);
    put_unlike("subs", properties.subscription_ids_available, None, &mut out);
    put_unlike("shared", properties.shared_available, None, &mut out);
    put_explanation(properties.reason_string, properties.user, &mut out);
    out
}

fn put_explanation(why: Option<&str>, user: UserProperties<'_>, out: &mut String) {
    put_unlike("why", why, None, out);
    for (name, value) in user {
        write!(out, " prop={name}:{value}").unwrap();
    }
}

fn render_publish(publish: &Publish<'_>) -> String {
    let topic = std::str::from_utf8(publish.topic).unwrap();
    let mut out = format!("PUBLISH {}", if topic.is_empty() { "-" } else { topic });
    match publish.qos as u8 {
        0 => {}
        qos => write!(out, " q{qos}").unwrap(),
    }
    if let Some(id) = publish.packet_id {
        write!(out, " #{id}").unwrap();
    }
    for (is_set, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
        if is_set {
            out.push_str(name);
        }
    }
    // The order of Subscription Identifiers means nothing, that of other properties does.
    let mut ids: Vec<u32> = publish.properties.subscription_ids.iter().collect();
    ids.sort();
    let mut ids = ids.into_iter();
    for property in Properties::new(publish.properties.raw, PropertyScope::Publish) {
        let property = match property.unwrap() {
            Property::SubscriptionIdentifier(_) => Property::SubscriptionIdentifier(ids.next().unwrap()),
            other => other,
        };
        put_message_property(&property, &mut out);
    }
    if !publish.payload.is_empty() {
        write!(out, " = {}", shortened(publish.payload)).unwrap();
    }
    out
}

fn put_message_property(property: &Property<'_>, out: &mut String) {
    match property {
        Property::PayloadFormatIndicator(format) => write!(out, " pfi={}", *format as u8),
        Property::MessageExpiryInterval(seconds) => write!(out, " expiry={seconds}"),
        Property::ContentType(text) => write!(out, " ct={text}"),
        Property::ResponseTopic(text) => write!(out, " rt={text}"),
        Property::CorrelationData(bytes) => write!(out, " cd={}", String::from_utf8_lossy(bytes)),
        Property::SubscriptionIdentifier(id) => write!(out, " sub={id}"),
        Property::TopicAlias(alias) => write!(out, " alias={alias}"),
        Property::UserProperty(name, value) => write!(out, " prop={name}:{value}"),
        _ => panic!("{property:?} in a PUBLISH"),
    }
    .unwrap();
}

/// `x*5000` for five thousand of them.
fn shortened(payload: &[u8]) -> String {
    let first = payload[0];
    if payload.len() > 40 && payload.iter().all(|byte| *byte == first) {
        return format!("{}*{}", char::from(first), payload.len());
    }
    String::from_utf8_lossy(payload).into_owned()
}

fn render_ack(name: &str, ack: &Ack<'_>) -> String {
    let mut out = format!("{name} #{}", ack.packet_id);
    put_reason(ack.reason, &mut out);
    put_explanation(ack.reason_string, ack.user, &mut out);
    out
}

fn render_suback(suback: &SubAck<'_>) -> String {
    let mut out = format!("SUBACK #{}", suback.packet_id);
    for reason in suback.reasons.iter() {
        match reason as u8 {
            qos @ 0..=2 => write!(out, " q{qos}").unwrap(),
            code => write!(out, " {code:#04x}").unwrap(),
        }
    }
    put_explanation(suback.reason_string, suback.user, &mut out);
    out
}

fn render_unsuback(unsuback: &UnsubAck<'_>) -> String {
    let mut out = format!("UNSUBACK #{}", unsuback.packet_id);
    for reason in unsuback.reasons.iter() {
        match reason {
            ReasonCode::Success => out.push_str(" ok"),
            _ => put_reason(reason, &mut out),
        }
    }
    put_explanation(unsuback.reason_string, unsuback.user, &mut out);
    out
}

/// Without the reason string, which is for people to read.
fn render_disconnect(disconnect: &Disconnect<'_>) -> String {
    let mut out = String::from("DISCONNECT");
    put_reason(disconnect.reason, &mut out);
    put_unlike("expiry", disconnect.session_expiry_s, None, &mut out);
    put_unlike("reference", disconnect.server_reference, None, &mut out);
    put_explanation(None, disconnect.user, &mut out);
    out
}
