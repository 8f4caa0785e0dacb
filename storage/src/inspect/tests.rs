use std::fs;

use super::*;
use crate::store::tests::{TestDirectory, options, owner};
use crate::{Log, MessageView, QueueNumber, QueuedAs, SessionRecord, Store, chores};

/// A store with two clients of which one waits for two messages.
fn filled() -> TestDirectory {
    let directory = TestDirectory::new();
    let store = Store::open(&directory.0, options(1), &owner).unwrap();
    let mut log = store.open_shard(0, &chores().0).unwrap().0;
    for (count, client_id) in [(1, "one"), (2, "two")] {
        let (session, next) = (SessionRecord(count), QueueNumber(0));
        log.append(Record::SessionBegins { session, client_id, expiry_s: 5, closed_at_ms: 0, next });
        log.append(Record::Subscribed { session, filter: "a/#", options: 1, subscription_id: 0 });
        log.end_unit();
    }
    for number in 0..2 {
        let payload = vec![b'x' + number as u8; 10];
        let view = MessageView {
            topic: if number == 0 { b"a/\xC3\xA4" } else { b"a/b" },
            properties: b"",
            payload: &payload,
            shared_payload: None,
            qos: 1,
            expires_at_ms: 0,
        };
        let message = log.keep(&view).unwrap();
        let queued_as = QueuedAs { qos: 1, retain: false };
        let (ids, group, number) = (SubscriptionIds::NONE, None, QueueNumber(number));
        let session = SessionRecord(1);
        log.append(Record::Queued {
            session,
            queued: QueuedMessage { number, message, queued_as, ids, group },
        });
        log.end_unit();
    }
    log.append(Record::SessionClosed { session: SessionRecord(1), expiry_s: 5, at_ms: 9 });
    log.end_unit();
    log.turn_over();
    directory
}

fn lines(directory: &TestDirectory, filter: &DumpFilter) -> Vec<String> {
    let mut lines = Vec::new();
    let inspection = Inspection::open(&directory.0).unwrap();
    let mut each = |line: &str| {
        lines.push(line.to_owned());
        true
    };
    inspection.dump(0, filter, &mut each).unwrap();
    lines
}

#[test]
fn a_sound_store_is_counted() {
    let directory = filled();
    let inspection = Inspection::open(&directory.0).unwrap();
    assert_eq!((inspection.manifest().shards, inspection.manifest_report()), (1, None));
    assert_eq!(inspection.user(), None);
    let check = inspection.verify(0).unwrap();
    assert!(check.damage.is_empty() && check.losses.is_empty(), "{check:?}");
    assert_eq!(check.segments.iter().map(|segment| segment.records).sum::<u64>(), 9);
    let stats = inspection.stats(0, 1).unwrap();
    assert_eq!((stats.sessions, stats.sessions_closed, stats.subscriptions), (2, 1, 2));
    assert_eq!((stats.queued, stats.retained), (2, 0));
    assert_eq!(stats.largest_queues, [("one".into(), 2)]);
    assert_eq!(stats.kinds["message"], KindStats { records: 2, bytes: 2 * 32 });
    assert_eq!(stats.live_message_bytes, 64);
    assert!(stats.live_state_bytes > 150 && stats.used_bytes > 300, "{stats:?}");
}

#[test]
fn records_are_lines() {
    let directory = filled();
    let all = lines(&directory, &DumpFilter { payload_bytes_max: 4, ..DumpFilter::default() });
    assert_eq!(
        all,
        [
            "00000000:0000050 0 session-begins session=1 client=\"one\" expiry_s=5 closed_at_ms=0 next=0",
            "00000000:0000078 1 subscribed session=1 filter=\"a/#\" options=0x01 subscription_id=0",
            "00000000:0000090 2 session-begins session=2 client=\"two\" expiry_s=5 closed_at_ms=0 next=0",
            "00000000:00000b8 3 subscribed session=2 filter=\"a/#\" options=0x01 subscription_id=0",
            "00000000:00000d0 4 message topic=\"a/\\xc3\\xa4\" qos=1 payload(10)=\"xxxx\"...",
            "00000000:00000f0 5 queued session=1 number=0 message=00000000:00000d0 qos=1 retain=false",
            "00000000:0000110 6 message topic=\"a/b\" qos=1 payload(10)=\"yyyy\"...",
            "00000000:0000130 7 queued session=1 number=1 message=00000000:0000110 qos=1 retain=false",
            "00000000:0000150 8 session-closed session=1 expiry_s=5 at_ms=9",
        ]
    );
    let client_id = Some("two".to_owned());
    assert_eq!(lines(&directory, &DumpFilter { client_id, ..DumpFilter::default() }), all[2..4]);
    let client_id = Some("one".to_owned());
    assert_eq!(lines(&directory, &DumpFilter { client_id, ..DumpFilter::default() }).len(), 7);
    let topic = Some("a/b".to_owned());
    let of_topic = lines(&directory, &DumpFilter { topic, payload_bytes_max: 4, ..DumpFilter::default() });
    assert_eq!(of_topic, all[6..8]);
}

#[test]
fn nothing_is_changed_and_damage_is_told() {
    let directory = filled();
    let path = directory.0.join("g1-0/00000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[0xd9] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::write(directory.0.join("store.copy"), "junk").unwrap();
    let inspection = Inspection::open(&directory.0).unwrap();
    assert_eq!(inspection.manifest_report(), Some("`store.copy`: it is damaged"));
    let check = inspection.verify(0).unwrap();
    assert_eq!(check.damage.len(), 1);
    inspection.stats(0, 9).unwrap();
    assert!(lines(&directory, &DumpFilter::default()).iter().any(|line| line.contains("seems=")));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read(directory.0.join("store.copy")).unwrap(), b"junk");
}

#[test]
fn who_uses_the_store_is_said_and_it_can_be_read_all_the_same() {
    let directory = filled();
    let store = Store::open(&directory.0, options(1), &owner).unwrap();
    let inspection = Inspection::open(&directory.0).unwrap();
    assert_eq!(inspection.user(), Some(StoreUser { process: Some(std::process::id()) }));
    assert!(inspection.verify(0).unwrap().damage.is_empty());
    drop(store);
    let elsewhere = TestDirectory::new();
    fs::create_dir(&elsewhere.0).unwrap();
    let refused = Inspection::open(&elsewhere.0).unwrap_err().to_string();
    assert!(refused.ends_with("holds no Ringmq store; name the directory that the broker keeps its data in"));
    assert!(fs::read_dir(&elsewhere.0).unwrap().next().is_none(), "nothing was made");
}
