//! decode(encode(p)) == p, for every packet and version.

use std::num::{NonZeroU16, NonZeroU32};

use crate::corpus::decode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq_codec::*;

type Pairs = Vec<(String, String)>;

fn version() -> impl Strategy<Value = Version> {
    select(vec![Version::V31, Version::V311, Version::V5])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|qos| QoS::try_from(qos).unwrap())
}

/// Any string that MQTT has: no U+0000. Now and then long enough for a length of two bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\0]{0,6}", 1 => "[a-z]{120,300}"]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\0+#]{1,6}", 1 => "[a-z/]{120,300}"]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..6), 1 => vec(any::<u8>(), 120..300)]
}

fn pairs() -> impl Strategy<Value = Pairs> {
    vec((text(), text()), 0..3)
}

fn borrow(pairs: &Pairs) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// What a version other than 5 loses.
fn v5<T: Default>(version: Version, value: T) -> T {
    if version == Version::V5 { value } else { T::default() }
}

fn reason_of(allowed: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    select(allowed).prop_map(|code| ReasonCode::try_from(code).unwrap())
}

/// Encodes, decodes and compares. The encoding is also what the frame says it is, and stable.
fn check(version: Version, packet: &Packet<'_>) -> Result<(), TestCaseError> {
    let (mut out, mut again) = (Vec::new(), Vec::new());
    packet.encode(version, &mut out);
    let decoded = decode(version, &out);
    prop_assert_eq!(decoded.as_ref(), Ok(packet), "{}: {:02x?}", version, out);
    decoded.unwrap().encode(version, &mut again);
    prop_assert_eq!(out, again);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn connect(
        version in version(), clean_start: bool, keep_alive_s: u16, client_id in text(),
        username in option::of(text()), password in option::of(bytes()),
        will in option::of((name(), bytes(), qos(), any::<bool>(), any::<u32>(), option::of(any::<u32>()), pairs())),
        (session_expiry_s, receive_maximum, bytes_max) in (any::<u32>(), 1..=u16::MAX, any::<u32>()),
        (topic_alias_maximum, flags) in (any::<u16>(), any::<(bool, bool)>()),
        auth in option::of((text(), option::of(bytes()))), user in pairs(),
    ) {
        let (user, mut will_properties) = (borrow(&user), Vec::new());
        if let Some((.., pairs)) = &will {
            Property::ContentType("t").encode(&mut will_properties);
            pairs.iter().for_each(|(n, v)| Property::UserProperty(n, v).encode(&mut will_properties));
        }
        let is_v5 = version == Version::V5;
        let client_id = if !is_v5 && client_id.is_empty() { "c" } else { &*client_id };
        let properties = ConnectProperties {
            session_expiry_s,
            receive_maximum: NonZeroU16::new(receive_maximum).unwrap(),
            packet_bytes_max: NonZeroU32::new(bytes_max),
            topic_alias_maximum,
            request_response_information: flags.0,
            request_problem_information: flags.1,
            authentication_method: auth.as_ref().map(|(method, _)| &**method),
            authentication_data: auth.as_ref().and_then(|(_, data)| data.as_deref()),
            user: (&user[..]).into(),
        };
        let connect = Connect {
            clean_start,
            keep_alive_s,
            will: will.as_ref().map(|(topic, payload, qos, retain, delay_s, message_expiry_s, _)| Will {
                topic,
                payload,
                qos: *qos,
                retain: *retain,
                delay_s: v5(version, *delay_s),
                message_expiry_s: v5(version, *message_expiry_s),
                properties: v5(version, &will_properties),
            }),
            username: username.as_deref(),
            password: password.as_deref().filter(|_| is_v5 || username.is_some()),
            properties: if is_v5 { properties } else { ConnectProperties::default() },
            ..Connect::new(version, client_id)
        };
        check(version, &Packet::Connect(connect))?;
        if let (Some((.., pairs)), true) = (&will, is_v5) {
            prop_assert!(connect.will.unwrap().user().iter().eq(borrow(pairs)));
        }
    }

    #[test]
    fn connack(
        is_v5: bool, session_present: bool,
        reason in reason_of(&[0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
            0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F]),
        code in 0_u8..6,
        numbers in any::<(Option<u32>, Option<u16>, Option<u32>, Option<u16>, Option<u16>)>(),
        flags in any::<(Option<bool>, Option<bool>, Option<bool>, Option<bool>, Option<bool>)>(),
        texts in vec(option::of(text()), 5), data in option::of(bytes()), user in pairs(),
    ) {
        let user = borrow(&user);
        let version = if is_v5 { Version::V5 } else { Version::V311 };
        let reason = if is_v5 { reason } else { ReasonCode::from_connect_return_code(code).unwrap() };
        let properties = ConnAckProperties {
            session_expiry_s: numbers.0,
            receive_maximum: numbers.1.and_then(NonZeroU16::new),
            packet_bytes_max: numbers.2.and_then(NonZeroU32::new),
            topic_alias_maximum: numbers.3,
            server_keep_alive_s: numbers.4,
            maximum_qos: flags.0.map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            retain_available: flags.1,
            wildcard_available: flags.2,
            subscription_ids_available: flags.3,
            shared_available: flags.4,
            assigned_client_id: texts[0].as_deref(),
            reason_string: texts[1].as_deref(),
            response_information: texts[2].as_deref(),
            server_reference: texts[3].as_deref(),
            authentication_method: texts[4].as_deref(),
            authentication_data: data.as_deref(),
            user: (&user[..]).into(),
        };
        let session_present = session_present && reason == ReasonCode::Success;
        check(version, &Packet::ConnAck(ConnAck { session_present, reason, properties: v5(version, properties) }))?;
    }

    /// Also that what a server sends, header and payload, is what `Publish` would have written.
    #[test]
    fn publish(
        version in version(), dup: bool, qos in qos(), retain: bool, topic in name(), id in packet_id(),
        payload in bytes(), format in option::of(any::<bool>()), expiry: Option<u32>, alias in option::of(1..=u16::MAX),
        response in option::of(name()), correlation in option::of(bytes()), content in option::of(text()),
        ids in vec(1_u32..=REMAINING_LENGTH_MAX, 0..3), user in pairs(),
    ) {
        let user = borrow(&user);
        let properties = PublishProperties {
            payload_format: format.map(|utf8| if utf8 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes }),
            message_expiry_s: expiry,
            topic_alias: alias,
            response_topic: response.as_deref(),
            correlation_data: correlation.as_deref(),
            content_type: content.as_deref(),
            subscription_ids: (&ids[..]).into(),
            user: (&user[..]).into(),
            ..Default::default()
        };
        let publish = Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id: Some(id).filter(|_| qos != QoS::AtMostOnce),
            properties: v5(version, properties),
            payload: &payload,
        };
        check(version, &Packet::Publish(publish))?;

        let (mut received, mut properties, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        publish.encode(version, &mut received);
        let Ok(Packet::Publish(decoded)) = decode(version, &received) else { unreachable!() };
        prop_assert_eq!(decoded.properties.has_subscription_ids, version == Version::V5 && !ids.is_empty());
        forwardable(decoded.properties.raw, &mut properties);
        let header = PublishHeader {
            version, dup: publish.dup, qos, retain,
            topic: publish.topic,
            packet_id: None,
            properties: &properties,
            message_expiry_s: expiry,
            topic_alias: alias,
            subscription_ids: &ids,
            payload_len: payload.len(),
        };
        let id_at = header.encode(&mut sent);
        if qos == QoS::AtMostOnce {
            prop_assert_eq!(id_at, 0);
        } else {
            prop_assert_eq!(&sent[id_at..id_at + 2], &[0, 0]);
            sent[id_at..id_at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        sent.extend_from_slice(&payload);
        prop_assert_eq!(sent.len(), header.encoded_len());
        prop_assert_eq!(sent.len(), received.len());
        prop_assert_eq!(decode(version, &sent), Ok(Packet::Publish(publish)));
    }

    #[test]
    fn acks(
        version in version(), packet_id in packet_id(), reason_string in option::of(text()), user in pairs(),
        received in reason_of(&[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        released in reason_of(&[0x00, 0x92]),
    ) {
        let user = borrow(&user);
        let ack = |reason| {
            let is_v5 = version == Version::V5;
            let ack = Ack::new(packet_id, if is_v5 { reason } else { ReasonCode::Success });
            let (user, reason_string) = (v5(version, (&user[..]).into()), v5(version, reason_string.as_deref()));
            Ack { user, reason_string, ..ack }
        };
        check(version, &Packet::PubAck(ack(received)))?;
        check(version, &Packet::PubRec(ack(received)))?;
        check(version, &Packet::PubRel(ack(released)))?;
        check(version, &Packet::PubComp(ack(released)))?;
    }

    #[test]
    fn subscriptions(
        version in version(), packet_id in packet_id(), id in option::of(1..=REMAINING_LENGTH_MAX),
        filters in vec((text(), qos(), any::<(bool, bool)>(), 0_u8..3), 1..4), user in pairs(),
    ) {
        let user = borrow(&user);
        let user = v5(version, (&user[..]).into());
        let subscribes: Vec<_> = filters.iter().map(|(filter, qos, flags, handling)| {
            let options = SubscriptionOptions {
                qos: *qos,
                no_local: flags.0 && !filter.starts_with("$share/"),
                retain_as_published: flags.1,
                retain_handling: [
                    RetainHandling::SendAtSubscribe,
                    RetainHandling::SendAtSubscribeIfNew,
                    RetainHandling::DoNotSend,
                ][usize::from(*handling)],
            };
            let options = if version == Version::V5 { options } else { SubscriptionOptions::new(*qos) };
            SubscribeFilter { filter, options }
        }).collect();
        let subscribe = Subscribe { packet_id, subscription_id: v5(version, id), user, filters: (&subscribes[..]).into() };
        check(version, &Packet::Subscribe(subscribe))?;
        let names: Vec<&str> = filters.iter().map(|(filter, ..)| &**filter).collect();
        check(version, &Packet::Unsubscribe(Unsubscribe { packet_id, user, filters: (&names[..]).into() }))?;
    }

    #[test]
    fn subscription_acks(
        version in version(), packet_id in packet_id(), reason_string in option::of(text()), user in pairs(),
        granted in vec(reason_of(&[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]), 1..5),
        ended in vec(reason_of(&[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]), 1..5),
    ) {
        let user = borrow(&user);
        let (user, reason_string) = (v5(version, (&user[..]).into()), v5(version, reason_string.as_deref()));
        let in_v3 = |reason: &ReasonCode| if reason.is_error() { ReasonCode::UnspecifiedError } else { *reason };
        let granted: Vec<_> = match version {
            Version::V31 | Version::V311 => granted.iter().map(in_v3).collect(),
            Version::V5 => granted,
        };
        let reasons = ReasonCodes::from(&granted[..]);
        check(version, &Packet::SubAck(SubAck { packet_id, reason_string, user, reasons }))?;
        let reasons = v5(version, ReasonCodes::from(&ended[..]));
        check(version, &Packet::UnsubAck(UnsubAck { packet_id, reason_string, user, reasons }))?;
    }

    #[test]
    fn endings(
        version in version(), session_expiry_s: Option<u32>, texts in vec(option::of(text()), 2), user in pairs(),
        reason in reason_of(&[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90,
            0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2]),
        step in reason_of(&[0x00, 0x18, 0x19]), method in text(), data in option::of(bytes()),
    ) {
        let user = borrow(&user);
        let user = (&user[..]).into();
        let (reason_string, server_reference) = (texts[0].as_deref(), texts[1].as_deref());
        let disconnect = match version {
            Version::V31 | Version::V311 => Disconnect::new(ReasonCode::Success),
            Version::V5 => Disconnect { reason, session_expiry_s, reason_string, server_reference, user },
        };
        check(version, &Packet::Disconnect(disconnect))?;
        check(version, &Packet::PingReq)?;
        check(version, &Packet::PingResp)?;
        let auth = Auth { reason: step, method: Some(&method), data: data.as_deref(), reason_string, user };
        check(Version::V5, &Packet::Auth(auth))?;
    }

    /// Whatever splits a stream, a Remaining Length of any size survives.
    #[test]
    fn frames(len in prop_oneof![0_usize..300, 16_300..16_500_usize, 2_097_100..2_097_200_usize], cut: u16) {
        let payload = vec![7; len];
        let publish = Publish {
            dup: false, qos: QoS::AtMostOnce, retain: false, topic: b"t", packet_id: None,
            properties: PublishProperties::default(), payload: &payload,
        };
        let mut out = Vec::new();
        publish.encode(Version::V311, &mut out);
        let total = out.len();
        let max = u32::try_from(total).unwrap();
        out.extend_from_slice(b"next");
        let Ok(Decoded::Complete(whole)) = frame(&out, max) else { panic!("{total} bytes") };
        prop_assert_eq!((whole.total, whole.first), (total, 0x30));
        prop_assert_eq!(Publish::decode(Version::V311, &whole), Ok(publish));
        let header = PublishHeader {
            version: Version::V311, dup: false, qos: QoS::AtMostOnce, retain: false, topic: b"t", packet_id: None,
            properties: &[], message_expiry_s: None, topic_alias: None, subscription_ids: &[], payload_len: len,
        };
        let mut sent = Vec::new();
        header.encode(&mut sent);
        prop_assert_eq!(header.encoded_len(), total);
        prop_assert_eq!(&sent[..], &out[..total - len]);
        prop_assert_eq!(frame(&out, max - 1), Err(DecodeError::PacketTooLarge { bytes: max, bytes_max: max - 1 }));
        let cut = usize::from(cut) % total;
        let Ok(Decoded::Incomplete { need }) = frame(&out[..cut], max) else { panic!("{cut} of {total} bytes") };
        prop_assert!(need == total || need == cut + 1);
    }
}
