//! Every byte of a small store changed, one at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::tests::{TestDirectory, options, owner};
use crate::{
    Log, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record, SessionRecord, Store, SubscriptionIds,
    WillView, chores,
};

fn view<'a>(topic: &'a str, payload: &'a str) -> MessageView<'a> {
    MessageView {
        topic: topic.as_bytes(),
        properties: b"",
        payload: payload.as_bytes(),
        shared_payload: None,
        qos: 1,
        expires_at_ms: 0,
    }
}

/// Records of every kind, in several batches.
fn fill(path: &Path) {
    let store = Store::open(path, options(1), &owner).unwrap();
    let mut log = store.open_shard(0, &chores().0).unwrap().0;
    let publication = crate::PublicationRecord(77);
    for count in 0..3 {
        let session = SessionRecord(count);
        let (client_id, next) = (format!("client {count}"), QueueNumber(0));
        log.append(Record::SessionBegins {
            session,
            client_id: &client_id,
            expiry_s: 1,
            closed_at_ms: 0,
            next,
        });
        for filter in ["a/#", "b"] {
            log.append(Record::Subscribed { session, filter, options: 1, subscription_id: 3 });
        }
        log.append(Record::Unsubscribed { session, filter: "b" });
        let (topic, properties, payload) = ("will", &b"\x26x"[..], &b"will payload"[..]);
        let will = WillView {
            topic,
            properties,
            payload,
            qos: 1,
            retain: false,
            delay_s: 1,
            message_expiry_s: None,
        };
        log.append(Record::Will { session, will });
        log.append(Record::Taken { session, packet_id: 5, publication: Some(publication) });
        log.append(Record::Taken { session, packet_id: 6, publication: None });
        log.append(Record::Released { session, packet_id: 6 });
        log.append(Record::SessionClosed { session, expiry_s: 9, at_ms: 4 });
        log.end_unit();
        log.turn_over();
    }
    for number in 0..4 {
        let message = log.keep(&view("a/x", &format!("payload {number}"))).unwrap();
        for count in 0..3 {
            let (session, number) = (SessionRecord(count), QueueNumber(number));
            let queued_as = QueuedAs { qos: 1, retain: false };
            let (ids, group) = (SubscriptionIds::Numbers(&[3]), Some("$share/g/a/x"));
            log.append(Record::Queued {
                session,
                queued: QueuedMessage { number, message, queued_as, ids, group },
            });
        }
        log.append(Record::Received { session: SessionRecord(0), number: QueueNumber(number) });
        log.end_unit();
        log.turn_over();
    }
    log.append(Record::Completed { session: SessionRecord(1), number: QueueNumber(0), count: 1 });
    log.append(Record::SessionResumed { session: SessionRecord(2), expiry_s: 2 });
    log.append(Record::WillGone { session: SessionRecord(0) });
    for topic in ["r/1", "r/2"] {
        let message = log.keep(&view(topic, topic)).unwrap();
        log.append(Record::Retained { message });
    }
    log.append(Record::RetainedCleared { topic: "r/2" });
    log.append(Record::Came { publication });
    log.append(Record::Went { publication });
    log.append(Record::SessionEnded { session: SessionRecord(2) });
    log.end_unit();
    log.turn_over();
}

/// What a store holds: the text of each session, and that of each message in it.
type Contents = (BTreeMap<String, String>, Vec<String>);

fn contents(path: &Path) -> (Contents, usize) {
    let store = Store::open(path, options(1), &owner).unwrap();
    let (log, recovered) = store.open_shard(0, &chores().0).unwrap();
    let (mut all, mut messages) = (BTreeMap::new(), Vec::new());
    for session in &recovered.sessions {
        let one = session.messages.iter().filter_map(|one| Some((one.number.0, one.message?)));
        let queue: Vec<_> = one.map(|(number, at)| format!("{number} {}", text(log.message(at)))).collect();
        messages.extend(queue.iter().cloned());
        all.insert(session.client_id.to_string(), format!("{session:?} {queue:?}"));
    }
    let retained: Vec<_> = recovered.retained.iter().map(|&at| text(log.message(at))).collect();
    messages.extend(retained.iter().cloned());
    all.insert("retained".to_owned(), format!("{retained:?} {:?}", recovered.came));
    ((all, messages), recovered.damage.len() + store.reports().len())
}

fn text(view: MessageView<'_>) -> String {
    format!("{:?} {:?} {} {}", view.topic, view.payload, view.qos, view.properties.len())
}

/// All messages that were ever written, as in [`Contents`].
fn written() -> Vec<String> {
    let queued = (0..4).map(|number| {
        let payload = format!("payload {number}");
        format!("{number} {}", text(view("a/x", &payload)))
    });
    queued.chain(["r/1", "r/2"].map(|topic| text(view(topic, topic)))).collect()
}

/// The store's files, to be put back after each round.
fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let names = ["store", "store.copy", "g1-0/00000000.log"];
    names.map(|name| (name.to_owned(), fs::read(path.join(name)).unwrap())).into()
}

#[test]
fn a_changed_byte_anywhere_is_told_and_no_message_is_changed() {
    let directory = TestDirectory::new();
    fill(&directory.0);
    let whole = files(&directory.0);
    let (expected, told) = contents(&directory.0);
    assert_eq!((expected.0.len(), expected.1.len(), told), (3, 4, 0));
    let written = written();
    let mut same = 0;
    for (name, bytes) in &whole {
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let padding = (used..bytes.len()).step_by(4999);
        for at in (0..used).chain(padding) {
            let _ = fs::remove_dir_all(&directory.0);
            fs::create_dir_all(directory.0.join("g1-0")).unwrap();
            for (name, bytes) in &whole {
                fs::write(directory.0.join(name), bytes).unwrap();
            }
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(directory.0.join(name), changed).unwrap();
            let (found, told) = contents(&directory.0);
            assert!(told > 0, "byte {at} of {name} was changed, and nobody says so");
            same += usize::from(found == expected);
            for message in &found.1 {
                assert!(written.contains(message), "byte {at} of {name}: {message}");
            }
            for client in found.0.keys() {
                let is_known = expected.0.contains_key(client) || client == "client 2";
                assert!(is_known, "byte {at} of {name}: {client}");
            }
            assert_eq!(
                contents(&directory.0).0,
                found,
                "byte {at} of {name}: the second start finds the same"
            );
        }
    }
    assert!(same > 300, "changes of a manifest, a header or padding lose nothing: {same}");
}
