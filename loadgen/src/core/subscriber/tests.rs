use super::*;

#[test]
fn a_delivery_is_read_as_the_broker_wrote_it() {
    let tag = Tag(7);
    let stamp = Stamp { publisher: 3, sequence: 9, at_ns: Some(77) };
    let mut payload = vec![0; 20];
    stamp.write(tag, &mut payload);
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut packet = Vec::new();
            let header = ringmq_codec::PublishHeader {
                version,
                dup: false,
                qos,
                retain: false,
                topic: b"a/b",
                packet_id: PacketId::new(5).filter(|_| qos != QoS::AtMostOnce),
                properties: &[],
                message_expiry_s: Some(9),
                topic_alias: None,
                subscription_ids: &[200],
                payload_len: payload.len(),
            };
            header.encode(&mut packet);
            packet.extend_from_slice(&payload);
            let body = &packet[2..];
            let read = |len: usize| Delivery::read(version, packet[0], &body[..len], body.len() - len, tag);
            let whole = read(body.len()).unwrap();
            assert_eq!((whole.qos, whole.stamp, whole.payload_len), (qos, Some(stamp), 20), "{version:?}");
            assert_eq!(whole.packet_id.map(PacketId::get), (qos != QoS::AtMostOnce).then_some(5));
            // Sixteen bytes of the payload are enough to know.
            assert_eq!(read(body.len() - 4).unwrap().payload_len, 20);
            for len in 0..body.len() - 4 {
                assert!(read(len).is_none(), "{len} bytes of {}", body.len());
            }
        }
    }
    assert!(Delivery::read(Version::V311, 0x36, b"\0\x01a\0\x05", 0, tag).is_none(), "QoS 3");
    assert!(Delivery::read(Version::V311, 0x32, b"\0\x01a\0\0", 0, tag).is_none(), "packet id 0");
}

fn hear(
    subscriber: &mut Subscriber,
    sequence: u32,
    qos: QoS,
    id: u16,
    sample: &mut Sample,
) -> (Vec<u8>, Vec<Arrived>) {
    let stamp = Some(Stamp { publisher: 4, sequence, at_ns: Some(1_000) });
    let packet_id = PacketId::new(id);
    let (mut gathering, mut answers) = (Gathering::default(), Vec::new());
    Hearing {
        subscriber,
        together: None,
        gathering: &mut gathering,
        sample,
        now_ns: 5_000,
        measured_ns: (0, u64::MAX),
        version: Version::V311,
    }
    .hear(&Delivery { qos, packet_id, stamp, payload_len: 16 }, &mut answers);
    gathering.finish(sample);
    (answers, gathering.out)
}

#[test]
fn each_message_is_answered_counted_and_checked() {
    let checks = Checks::new(Arc::from([2, 4]), |_| true);
    let mut subscriber = Subscriber::new(0, Some(checks));
    let mut sample = Sample::default();
    let (answer, arrived) = hear(&mut subscriber, 0, QoS::AtLeastOnce, 9, &mut sample);
    assert_eq!(answer, [0x40, 2, 0, 9]);
    assert_eq!((arrived[0].publisher, arrived[0].run), (4, Run { from: 0, to: 1 }));
    let (answer, arrived) = hear(&mut subscriber, 3, QoS::ExactlyOnce, 10, &mut sample);
    assert_eq!(answer, [0x50, 2, 0, 10]);
    assert_eq!(arrived[0].run, Run { from: 1, to: 4 }, "what is missing is not waited for");
    // The broker repeats it since it did not see PUBREC: that is not a duplicate.
    let (answer, arrived) = hear(&mut subscriber, 3, QoS::ExactlyOnce, 10, &mut sample);
    assert_eq!((answer.len(), arrived.len(), sample.counts.received), (4, 0, 2));
    subscriber.release(PacketId::new(10).unwrap());
    hear(&mut subscriber, 3, QoS::ExactlyOnce, 10, &mut sample);
    hear(&mut subscriber, 1, QoS::AtMostOnce, 0, &mut sample);
    let counts = sample.counts;
    let found =
        (counts.received, counts.duplicates, counts.duplicates_qos2, counts.reordered, counts.foreign);
    assert_eq!(found, (4, 1, 1, 1, 0));
    assert_eq!(sample.times(Kind::Latency).unwrap().len(), 4);
    let mut lacking = Vec::new();
    subscriber.checks.unwrap().lacking(0, &[0, 0, 0, 0, 6], &mut lacking);
    assert_eq!(lacking[0].missing.runs, [Run { from: 2, to: 3 }, Run { from: 4, to: 6 }]);
}
