//! Bytes as a peer might send them. The first picks the version, the rest is a stream of packets.
//! Nothing may panic, and what decodes must survive being encoded and decoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_codec::{Decoded, Packet, Properties, PropertyScope, Version, check_filter, check_name};
use ringmq_codec::{forwardable, frame};

const PACKET_BYTES_MAX: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&first, mut input)) = data.split_first() else { return };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(first % 3)];
    loop {
        match frame(input, PACKET_BYTES_MAX) {
            Ok(Decoded::Complete(frame)) => {
                if let Ok(packet) = Packet::decode(version, &frame) {
                    look_at_all(&packet);
                    check_again(version, &packet);
                }
                input = &input[frame.total..];
            }
            Ok(Decoded::Incomplete { need }) => {
                assert!(need > input.len());
                return;
            }
            Err(_) => return,
        }
    }
});

fn check_again(version: Version, packet: &Packet<'_>) {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    let Ok(Decoded::Complete(again)) = frame(&out, u32::MAX) else {
        panic!("{packet:?} encodes to less than a packet");
    };
    assert_eq!(again.total, out.len());
    assert_eq!(Packet::decode(version, &again).as_ref(), Ok(packet));
}

/// What is read only when asked for.
fn look_at_all(packet: &Packet<'_>) {
    assert!(!format!("{packet:?}").is_empty());
    match packet {
        Packet::Publish(publish) => {
            let _ = check_name(publish.topic);
            let mut properties = Vec::new();
            forwardable(publish.properties.raw, &mut properties);
            assert!(Properties::new(&properties, PropertyScope::Publish).all(|p| p.is_ok()));
        }
        Packet::Subscribe(subscribe) => {
            for subscription in subscribe.filters.clone() {
                let _ = check_filter(subscription.filter);
            }
        }
        _ => {}
    }
}
