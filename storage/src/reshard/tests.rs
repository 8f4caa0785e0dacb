use std::collections::BTreeMap;
use std::path::Path;

use super::{Step, reshard};
use crate::store::tests::{TestDirectory, options, owner};
use crate::{
    ChoreSender, Directory, Log, LogOffset, MessageView, PublicationRecord, QueueNumber, QueuedAs,
    QueuedMessage, Record, Recovered, RecoveredMore, SegmentLog, SessionRecord, Store, StoreError,
    SubscriptionIds, WillView, chores,
};

const SESSIONS: u64 = 40;

fn sender() -> ChoreSender {
    chores().0
}

fn view<'a>(topic: &'a str, payload: &'a [u8]) -> MessageView<'a> {
    MessageView {
        topic: topic.as_bytes(),
        properties: b"\x26p",
        payload,
        shared_payload: None,
        qos: 2,
        expires_at_ms: 5,
    }
}

/// Writes sessions, shared messages and retained ones into the logs of their owners.
fn fill(path: &Path, shards: usize) {
    let store = Store::open(path, options(shards), &owner).unwrap();
    let (seed, sender) = (store.seed(), sender());
    for shard in 0..shards {
        let mut log = store.open_shard(shard, &sender).unwrap().0;
        let mine = (0..SESSIONS).filter(|count| owner(seed, &format!("c{count}"), shards) == shard);
        let sessions: Vec<_> = mine.collect();
        for &count in &sessions {
            tell(&mut log, count);
            log.end_unit();
        }
        for message in 0..30 {
            publish(&mut log, message, &sessions);
        }
        for topic in
            (0..20).map(|topic| format!("t{topic}")).filter(|topic| owner(seed, topic, shards) == shard)
        {
            let message = log.keep(&view(&topic, topic.as_bytes())).unwrap();
            log.append(Record::Retained { message });
            log.end_unit();
        }
        log.append(Record::Came { publication: PublicationRecord(9) });
        log.end_unit();
        log.turn_over();
    }
}

fn tell(log: &mut SegmentLog<Directory>, count: u64) {
    let session = SessionRecord(count);
    let (client_id, filter) = (format!("c{count}"), format!("f{count}/#"));
    log.append(Record::SessionBegins {
        session,
        client_id: &client_id,
        expiry_s: 3 + count as u32,
        closed_at_ms: if count.is_multiple_of(3) { 0 } else { count },
        next: QueueNumber(100),
    });
    if count.is_multiple_of(4) {
        let will = WillView {
            topic: "gone",
            properties: b"\x26w",
            payload: client_id.as_bytes(),
            qos: 2,
            retain: true,
            delay_s: 7,
            message_expiry_s: Some(8),
        };
        log.append(Record::Will { session, will });
    }
    log.append(Record::Subscribed { session, filter: &filter, options: 2, subscription_id: 4 });
    log.append(Record::Subscribed { session, filter: "all/+", options: 1, subscription_id: 0 });
    let publication = count.is_multiple_of(2).then_some(PublicationRecord(count));
    log.append(Record::Taken { session, packet_id: 5, publication });
}

/// A message that every second session shares; one in five of them was received.
fn publish(log: &mut SegmentLog<Directory>, message: u64, sessions: &[u64]) {
    let payload = format!("message {message}").into_bytes().repeat(20);
    let at = log.keep(&view("all/x", &payload)).unwrap();
    let to: Vec<_> = sessions.iter().filter(|&&count| (count + message).is_multiple_of(2)).collect();
    for &&count in &to {
        let (session, number) = (SessionRecord(count), QueueNumber(100 + message));
        let ids =
            if count.is_multiple_of(5) { SubscriptionIds::Numbers(&[4, 6]) } else { SubscriptionIds::NONE };
        let group = count.is_multiple_of(7).then_some("$share/g/all/+");
        let queued_as = QueuedAs { qos: 1 + (count % 2) as u8, retain: count.is_multiple_of(3) };
        log.append(Record::Queued {
            session,
            queued: QueuedMessage { number, message: at, queued_as, ids, group },
        });
        if (count + message).is_multiple_of(5) {
            log.append(Record::Received { session, number });
        }
    }
    log.end_unit();
}

fn message_text(log: &SegmentLog<Directory>, at: LogOffset) -> String {
    let MessageView { topic, properties, payload, qos, expires_at_ms, .. } = log.message(at);
    format!("{topic:?} {properties:?} {payload:?} {qos} {expires_at_ms}")
}

fn more_text(more: Option<&RecoveredMore>) -> String {
    format!("{more:?}")
}

/// All that a store holds as text, by client id or topic; and by shard, how many messages its log has and
/// how often they are referred to.
fn contents(store: &Store) -> (BTreeMap<String, String>, Vec<(usize, usize)>) {
    let (mut all, mut counts) = (BTreeMap::new(), Vec::new());
    for shard in 0..store.shards() {
        let (log, Recovered { sessions, retained, damage, losses, .. }) =
            store.open_shard(shard, &sender()).unwrap();
        assert!(damage.is_empty() && losses.is_empty(), "{damage:?} {losses:?}");
        let mut offsets: Vec<_> = retained.clone();
        for session in sessions {
            assert_eq!(
                owner(store.seed(), &session.client_id, store.shards()),
                shard,
                "it is where it belongs"
            );
            // What went to several shards counts as not taken once their number is another.
            let taken: Vec<_> =
                session.taken.iter().filter(|(_, publication)| publication.is_none()).collect();
            let mut text = format!(
                "{:?} {} {:?} {:?} {:?} {:?} {}",
                session.record,
                session.expiry_s,
                session.closed_at_ms,
                session.subscriptions,
                session.will,
                taken,
                session.next.0
            );
            for one in &session.messages {
                offsets.extend(one.message);
                let message = one.message.map(|at| message_text(&log, at));
                let as_received = one.message.is_some().then_some(one.queued_as);
                text += &format!(
                    "\n{} {as_received:?} {message:?} {}",
                    one.number.0,
                    more_text(one.more.as_deref())
                );
            }
            assert!(all.insert(session.client_id.to_string(), text).is_none(), "{}", session.client_id);
        }
        for at in retained {
            let topic = String::from_utf8(log.message(at).topic.to_vec()).unwrap();
            assert_eq!(owner(store.seed(), &topic, store.shards()), shard, "{topic}");
            assert!(all.insert(topic, message_text(&log, at)).is_none());
        }
        let references = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        counts.push((offsets.len(), references));
    }
    (all, counts)
}

#[test]
fn another_number_of_shards_keeps_everything() {
    let directory = TestDirectory::new();
    fill(&directory.0, 1);
    let before = contents(&Store::open(&directory.0, options(1), &owner).unwrap()).0;
    assert_eq!(before.len(), SESSIONS as usize + 20);
    for (from, shards) in [(1, 3), (3, 2), (2, 2), (2, 7), (7, 1)] {
        let store = Store::open(&directory.0, options(shards), &owner).unwrap();
        assert_eq!(store.resharded().map(|resharded| resharded.from), (from != shards).then_some(from));
        let (after, counts) = contents(&store);
        assert_eq!(after, before, "{from} to {shards} shards");
        for (messages, references) in counts.into_iter().filter(|_| from == 1) {
            let are_shared = references > messages && messages <= 30 + 20;
            assert!(are_shared, "{messages} messages for {references} references");
        }
        let logs =
            crate::store::names(&directory.0).unwrap().into_iter().filter(|name| name.starts_with('g'));
        assert_eq!(logs.count(), shards, "the old logs are gone");
    }
}

#[test]
fn it_may_be_cut_off_after_each_step() {
    let stopped = || StoreError::NoSpace { what: "this test".to_owned() };
    for stop_at in 0.. {
        let directory = TestDirectory::new();
        fill(&directory.0, 3);
        let before = contents(&Store::open(&directory.0, options(3), &owner).unwrap()).0;
        let store = Store::open(&directory.0, options(3), &owner).unwrap();
        let mut steps: Vec<Step> = Vec::new();
        let outcome = reshard(&store, 2, &owner, &mut |step| {
            steps.push(step);
            if steps.len() > stop_at { Err(stopped()) } else { Ok(()) }
        });
        drop(store);
        // Whichever number of shards is asked for next, all is there.
        let shards = 1 + stop_at % 3;
        let store = Store::open(&directory.0, options(shards), &owner).unwrap();
        assert_eq!(contents(&store).0, before, "stopped after {steps:?}, then {shards} shards");
        if outcome.is_ok() {
            assert_eq!(steps.len(), 2 + 3 + 2 + 2);
            return;
        }
    }
}

#[test]
fn marks_of_other_shards_are_dropped() {
    let directory = TestDirectory::new();
    fill(&directory.0, 2);
    let came = |shards| {
        let store = Store::open(&directory.0, options(shards), &owner).unwrap();
        store.open_shard(0, &sender()).unwrap().1.came
    };
    assert_eq!(came(2), [PublicationRecord(9)]);
    assert_eq!(came(1), []);
}

#[test]
fn damage_in_an_old_log_is_told_and_put_aside() {
    let directory = TestDirectory::new();
    fill(&directory.0, 2);
    let path = directory.0.join("g1-1/00000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(&directory.0, options(3), &owner).unwrap();
    let resharded = store.resharded().unwrap();
    let [(1, damage)] = &resharded.damage[..] else { panic!("one place in shard 1: {resharded:?}") };
    let aside = damage.quarantined.as_ref().unwrap();
    assert_eq!(std::fs::read(aside).unwrap().len(), damage.bytes);
    assert!(!resharded.losses.is_empty());
}
