//! Packets as text: a server's from the notation to bytes, a client's from bytes to the notation.

use std::fmt::Write;
use std::num::{NonZeroU16, NonZeroU32};

use ringmq_codec::{
    Ack, AckKind, Auth, ConnAck, Connect, Decoded, Disconnect, Packet, PacketId, PayloadFormat, Properties,
    Property, PropertyScope, Publish, PublishProperties, QoS, ReasonCode, ReasonCodes, RetainHandling,
    SubAck, Subscribe, SubscriptionIds, UnsubAck, UserProperties, Version, encode_pingresp, frame,
};

/// The words of a packet, and what follows ` = `.
struct Words<'a> {
    words: Vec<&'a str>,
    payload: &'a str,
}

impl<'a> Words<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.value(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{value} is no number")))
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn id(&self) -> Option<PacketId> {
        let id = self.words.iter().find_map(|word| word.strip_prefix('#'))?;
        PacketId::new(id.parse().unwrap())
    }

    fn codes(&self) -> Vec<ReasonCode> {
        let hex = self.words.iter().filter_map(|word| word.strip_prefix("0x"));
        hex.map(|hex| u8::from_str_radix(hex, 16).unwrap().try_into().unwrap()).collect()
    }

    fn code(&self) -> ReasonCode {
        self.codes().first().copied().unwrap_or(ReasonCode::Success)
    }

    fn qos(&self) -> QoS {
        qos(&self.words)
    }
}

pub(super) fn qos(words: &[&str]) -> QoS {
    if words.contains(&"q2") {
        QoS::ExactlyOnce
    } else if words.contains(&"q1") {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    }
}

/// `x*5000` stands for five thousand of them.
pub(super) fn repeated(payload: &str) -> Vec<u8> {
    match payload.split_once('*').map(|(what, times)| (what, times.parse())) {
        Some((what, Ok(times))) if what.len() == 1 => what.repeat(times).into_bytes(),
        _ => payload.into(),
    }
}

fn shortened(payload: &[u8]) -> String {
    let first = payload.first().copied().unwrap_or(b' ');
    if payload.len() > 40 && payload.iter().all(|byte| *byte == first) {
        return format!("{}*{}", char::from(first), payload.len());
    }
    String::from_utf8_lossy(payload).into_owned()
}

/// A server's packet: `CONNACK present rmax=5`, `PUBLISH t q1 #1 = x`, `SUBACK #61441 0x01`, `hex 30 03 ...`.
pub(super) fn encode(version: Version, text: &str) -> Vec<u8> {
    let (head, payload) = text.split_once(" = ").unwrap_or((text, ""));
    let mut words = head.split_whitespace();
    let name = words.next().unwrap();
    let words = Words { words: words.collect(), payload };
    let mut out = Vec::new();
    match name {
        "CONNACK" => connack(&words).encode(version, &mut out),
        "PUBLISH" => publish(version, &words, &mut out),
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
            let kind = match name {
                "PUBACK" => AckKind::PubAck,
                "PUBREC" => AckKind::PubRec,
                "PUBREL" => AckKind::PubRel,
                _ => AckKind::PubComp,
            };
            Ack::new(words.id().unwrap(), words.code()).encode(kind, version, &mut out);
        }
        "SUBACK" | "UNSUBACK" => {
            let (packet_id, codes, user) = (words.id().unwrap(), words.codes(), UserProperties::EMPTY);
            let reasons = ReasonCodes::from(&codes[..]);
            if name == "SUBACK" {
                SubAck { packet_id, reason_string: None, user, reasons }.encode(version, &mut out);
            } else {
                UnsubAck { packet_id, reason_string: None, user, reasons }.encode(version, &mut out);
            }
        }
        "PINGRESP" => encode_pingresp(&mut out),
        "DISCONNECT" => Disconnect {
            reason_string: words.value("why"),
            server_reference: words.value("reference"),
            ..Disconnect::new(words.code())
        }
        .encode(version, &mut out),
        "AUTH" => Auth {
            method: words.value("auth"),
            data: words.value("data").map(str::as_bytes),
            ..Auth::new(words.code())
        }
        .encode(version, &mut out),
        "hex" => {
            out.extend(words.words.iter().map(|hex| u8::from_str_radix(hex, 16).unwrap()));
        }
        _ => panic!("no server sends {name}"),
    }
    out
}

fn connack<'a>(words: &Words<'a>) -> ConnAck<'a> {
    let mut connack = ConnAck::new(words.code());
    connack.session_present = words.has("present");
    let properties = &mut connack.properties;
    properties.receive_maximum = words.number("rmax").and_then(NonZeroU16::new);
    properties.packet_bytes_max = words.number("pmax").and_then(NonZeroU32::new);
    properties.topic_alias_maximum = words.number("amax");
    properties.server_keep_alive_s = words.number("keep");
    properties.assigned_client_id = words.value("id");
    properties.reason_string = words.value("why");
    properties.server_reference = words.value("reference");
    properties.response_information = words.value("response");
    properties.authentication_method = words.value("auth");
    properties.authentication_data = words.value("data").map(str::as_bytes);
    properties.maximum_qos = words.number::<u8>("qmax").map(|qos| qos.try_into().unwrap());
    properties.retain_available = words.has("no-retain").then_some(false);
    properties.wildcard_available = words.has("no-wildcards").then_some(false);
    properties.shared_available = words.has("no-shared").then_some(false);
    properties.subscription_ids_available = words.has("no-subs").then_some(false);
    connack
}

fn publish(version: Version, words: &Words<'_>, out: &mut Vec<u8>) {
    let topic = words.words[0];
    let ids: Vec<u32> = words.number("sub").into_iter().collect();
    let payload = repeated(words.payload);
    let user: Vec<_> = words.value("prop").map(|prop| prop.split_once(':').unwrap()).into_iter().collect();
    Publish {
        dup: words.has("dup"),
        qos: words.qos(),
        retain: words.has("retain"),
        topic: if topic == "-" { b"" } else { topic.as_bytes() },
        packet_id: words.id(),
        properties: PublishProperties {
            message_expiry_s: words.number("expiry"),
            topic_alias: words.number("alias"),
            payload_format: words.number::<u8>("pfi").map(|_| PayloadFormat::Utf8),
            content_type: words.value("ct"),
            response_topic: words.value("rt"),
            correlation_data: words.value("cd").map(str::as_bytes),
            subscription_ids: SubscriptionIds::from(&ids[..]),
            user: user[..].into(),
            ..PublishProperties::default()
        },
        payload: &payload,
    }
    .encode(version, out);
}

/// The client's whole packets in `bytes`, which are taken out.
pub(super) fn render_all(version: Version, bytes: &mut Vec<u8>) -> Vec<String> {
    let (mut lines, mut used) = (Vec::new(), 0);
    while let Decoded::Complete(packet) = frame(&bytes[used..], u32::MAX).expect("a client frames well") {
        used += packet.total;
        lines.push(render(&Packet::decode(version, &packet).expect("a client's packets are sound")));
    }
    bytes.drain(..used);
    lines
}

fn put<T: std::fmt::Display>(out: &mut String, name: &str, value: Option<T>) {
    if let Some(value) = value {
        write!(out, " {name}={value}").unwrap();
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn put_code(out: &mut String, reason: ReasonCode) {
    if reason != ReasonCode::Success {
        write!(out, " {:#04x}", reason as u8).unwrap();
    }
}

fn render(packet: &Packet<'_>) -> String {
    let mut out = String::new();
    match packet {
        Packet::Connect(connect) => render_connect(connect, &mut out),
        Packet::Publish(publish) => render_publish(publish, &mut out),
        Packet::PubAck(ack) => render_ack("PUBACK", ack, &mut out),
        Packet::PubRec(ack) => render_ack("PUBREC", ack, &mut out),
        Packet::PubRel(ack) => render_ack("PUBREL", ack, &mut out),
        Packet::PubComp(ack) => render_ack("PUBCOMP", ack, &mut out),
        Packet::Subscribe(subscribe) => render_subscribe(subscribe, &mut out),
        Packet::Unsubscribe(unsubscribe) => {
            write!(out, "UNSUBSCRIBE #{}", unsubscribe.packet_id).unwrap();
            unsubscribe.filters.clone().for_each(|filter| write!(out, " {filter}").unwrap());
        }
        Packet::PingReq => out.push_str("PINGREQ"),
        Packet::Disconnect(disconnect) => {
            out.push_str("DISCONNECT");
            put_code(&mut out, disconnect.reason);
        }
        Packet::Auth(auth) => {
            out.push_str("AUTH");
            put_code(&mut out, auth.reason);
            put(&mut out, "auth", auth.method);
            put(&mut out, "data", auth.data.map(text));
        }
        other => panic!("no client sends {other:?}"),
    }
    out
}

fn render_connect(connect: &Connect<'_>, out: &mut String) {
    let version = match connect.version {
        Version::V31 => "v31",
        Version::V311 => "v311",
        Version::V5 => "v5",
    };
    write!(out, "CONNECT {version} id={}", connect.client_id).unwrap();
    if connect.clean_start {
        out.push_str(" clean");
    }
    put(out, "keep", Some(connect.keep_alive_s).filter(|seconds| *seconds != 60));
    put(out, "user", connect.username);
    put(out, "pass", connect.password.map(text));
    if let Some(will) = &connect.will {
        write!(out, " will={}:{}", will.topic, text(will.payload)).unwrap();
        write!(out, " will.q{}{}", will.qos as u8, if will.retain { " will.retain" } else { "" }).unwrap();
        put(out, "will.delay", Some(will.delay_s).filter(|delay| *delay != 0));
        put(out, "will.expiry", will.message_expiry_s);
        for property in Properties::new(will.properties, PropertyScope::Will) {
            put_property("will.", &property.unwrap(), out);
        }
    }
    let properties = &connect.properties;
    put(out, "expiry", Some(properties.session_expiry_s).filter(|seconds| *seconds != 0));
    put(out, "rmax", Some(properties.receive_maximum.get()).filter(|max| *max != u16::MAX));
    put(out, "pmax", properties.packet_bytes_max.filter(|max| max.get() != 16 << 20));
    put(out, "amax", Some(properties.topic_alias_maximum).filter(|max| ![0, 16].contains(max)));
    put(out, "responses", properties.request_response_information.then_some(1));
    put(out, "problems", (!properties.request_problem_information).then_some(0));
    put(out, "auth", properties.authentication_method);
    put(out, "data", properties.authentication_data.map(text));
    for (name, value) in &properties.user {
        write!(out, " prop={name}:{value}").unwrap();
    }
}

fn put_property(prefix: &str, property: &Property<'_>, out: &mut String) {
    match property {
        Property::PayloadFormatIndicator(format) => write!(out, " {prefix}pfi={}", *format as u8),
        Property::MessageExpiryInterval(seconds) if prefix.is_empty() => write!(out, " expiry={seconds}"),
        Property::MessageExpiryInterval(_) | Property::WillDelayInterval(_) => Ok(()),
        Property::ContentType(text) => write!(out, " {prefix}ct={text}"),
        Property::ResponseTopic(text) => write!(out, " {prefix}rt={text}"),
        Property::CorrelationData(bytes) => write!(out, " {prefix}cd={}", text(bytes)),
        Property::TopicAlias(alias) => write!(out, " {prefix}alias={alias}"),
        Property::UserProperty(name, value) => write!(out, " {prefix}prop={name}:{value}"),
        other => panic!("{other:?} in a client's message"),
    }
    .unwrap();
}

fn render_publish(publish: &Publish<'_>, out: &mut String) {
    let topic = text(publish.topic);
    write!(out, "PUBLISH {}", if topic.is_empty() { "-" } else { topic }).unwrap();
    if let Some(id) = publish.packet_id {
        write!(out, " q{} #{id}", publish.qos as u8).unwrap();
    }
    for (is_set, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
        out.push_str(if is_set { name } else { "" });
    }
    for property in Properties::new(publish.properties.raw, PropertyScope::Publish) {
        put_property("", &property.unwrap(), out);
    }
    if !publish.payload.is_empty() {
        write!(out, " = {}", shortened(publish.payload)).unwrap();
    }
}

fn render_ack(name: &str, ack: &Ack<'_>, out: &mut String) {
    write!(out, "{name} #{}", ack.packet_id).unwrap();
    put_code(out, ack.reason);
}

fn render_subscribe(subscribe: &Subscribe<'_>, out: &mut String) {
    write!(out, "SUBSCRIBE #{}", subscribe.packet_id).unwrap();
    put(out, "sub", subscribe.subscription_id);
    for (nth, subscription) in subscribe.filters.clone().enumerate() {
        let options = subscription.options;
        out.push_str(if nth == 0 { "" } else { "," });
        write!(out, " {} q{}", subscription.filter, options.qos as u8).unwrap();
        out.push_str(if options.no_local { " nl" } else { "" });
        out.push_str(if options.retain_as_published { " rap" } else { "" });
        out.push_str(match options.retain_handling {
            RetainHandling::SendAtSubscribe => "",
            RetainHandling::SendAtSubscribeIfNew => " rh1",
            RetainHandling::DoNotSend => " rh2",
        });
    }
}
