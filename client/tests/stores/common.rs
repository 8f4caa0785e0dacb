//! Behaviours that all stores share: scripts of what a session tells its store, and what it finds afterwards.

use std::sync::Arc;

use ringmq_client::store::{Number, Restored, SessionStore, Store, StoreChange, StoreError, Wanted};
use ringmq_client::{Message, MessageProperties, PacketId, QoS, RetainHandling, SubscriptionOptions};

use StoreChange::{Completed, Forgotten, Given, Released, Subscribed, Taken, Unsubscribed};

/// One thing that a session tells its store.
pub enum Step {
    /// Puts publications with these payloads, numbered from the first.
    Put(u64, &'static [&'static str]),
    Tell(StoreChange),
}

use Step::{Put, Tell};

pub fn message(payload: &str) -> Message {
    Message::new("t/x", payload.to_owned()).qos(QoS::AtLeastOnce)
}

pub fn entries(first: u64, payloads: &[&str]) -> Vec<(Number, Message)> {
    (first..).map(Number).zip(payloads.iter().map(|payload| message(payload))).collect()
}

pub fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn wanted(filter: &str, qos: QoS, subscription_id: u32) -> Wanted {
    Wanted { filter: Arc::from(filter), options: SubscriptionOptions::new(qos), subscription_id }
}

/// What is kept, at a glance: publications with their numbers, `*` for those without content.
pub fn text(restored: &Restored) -> String {
    let mut words = Vec::new();
    for (number, message, is_released) in &restored.publications {
        let content = if *is_released { "*" } else { std::str::from_utf8(&message.payload).unwrap() };
        words.push(format!("{}={content}", number.0));
    }
    words.push(format!("next {}", restored.next));
    let mut taken: Vec<u16> = restored.taken.iter().map(|id| id.get()).collect();
    taken.sort_unstable();
    words.extend(taken.iter().map(|id| format!("taken {id}")));
    let mut subscriptions: Vec<String> = restored
        .subscriptions
        .iter()
        .map(|wanted| format!("{}:{}:{}", wanted.filter, wanted.options.qos as u8, wanted.subscription_id))
        .collect();
    subscriptions.sort_unstable();
    words.extend(subscriptions);
    words.join(" ")
}

/// Scripts, and what is found when the session is opened again.
fn table() -> Vec<(&'static str, Vec<Step>, &'static str)> {
    use QoS::{AtLeastOnce, ExactlyOnce};
    vec![
        ("nothing is kept of nothing", vec![], "next 0"),
        (
            "order is kept",
            vec![Put(0, &["a"]), Put(1, &["b", "c"]), Put(3, &["d"])],
            "0=a 1=b 2=c 3=d next 4",
        ),
        (
            "numbers go on where all is done",
            vec![Put(0, &["a", "b"]), Tell(Completed(Number(0))), Tell(Completed(Number(1)))],
            "next 2",
        ),
        (
            "what is completed is gone, in any order",
            vec![
                Put(0, &["a", "b", "c", "d"]),
                Tell(Completed(Number(2))),
                Tell(Completed(Number(0))),
                Put(4, &["e"]),
            ],
            "1=b 3=d 4=e next 5",
        ),
        (
            "what is released keeps its place without content",
            vec![Put(0, &["a", "b", "c"]), Tell(Released(Number(1)))],
            "0=a 1=* 2=c next 3",
        ),
        (
            "what is released is completed in the end",
            vec![Put(0, &["a", "b"]), Tell(Released(Number(0))), Tell(Completed(Number(0)))],
            "1=b next 2",
        ),
        (
            "to repeat a change does no harm",
            vec![
                Put(0, &["a", "b"]),
                Tell(Released(Number(0))),
                Tell(Released(Number(0))),
                Tell(Released(Number(1))),
                Tell(Completed(Number(1))),
                Tell(Released(Number(1))),
                Tell(Completed(Number(1))),
                Tell(Completed(Number(9))),
            ],
            "0=* next 2",
        ),
        (
            "a number that is put again is replaced",
            vec![Put(0, &["a", "b", "c"]), Put(1, &["x", "y"])],
            "0=a 1=x 2=y next 3",
        ),
        ("numbers begin anywhere", vec![Put(70_000_000_000, &["a"])], "70000000000=a next 70000000001"),
        (
            "taken ids stay until they are given back",
            vec![
                Tell(Taken(id(7))),
                Tell(Taken(id(65_535))),
                Tell(Taken(id(8))),
                Tell(Given(id(8))),
                Tell(Given(id(9))),
                Tell(Taken(id(7))),
            ],
            "next 0 taken 7 taken 65535",
        ),
        (
            "a session that the broker forgot has taken nothing",
            vec![Tell(Taken(id(1))), Tell(Taken(id(2))), Tell(Forgotten), Tell(Taken(id(3)))],
            "next 0 taken 3",
        ),
        (
            "subscriptions are made, replaced and ended",
            vec![
                Tell(Subscribed(wanted("a/#", AtLeastOnce, 0))),
                Tell(Subscribed(wanted("b/+", ExactlyOnce, 268_435_455))),
                Tell(Subscribed(wanted("c", AtLeastOnce, 1))),
                Tell(Subscribed(wanted("a/#", ExactlyOnce, 5))),
                Tell(Unsubscribed(Arc::from("c"))),
                Tell(Unsubscribed(Arc::from("d"))),
            ],
            "next 0 a/#:2:5 b/+:2:268435455",
        ),
    ]
}

pub fn run(session: &dyn SessionStore, steps: &[Step]) {
    for step in steps {
        match step {
            Put(first, payloads) => session.put(&entries(*first, payloads)).unwrap(),
            Tell(change) => session.apply(std::slice::from_ref(change)).unwrap(),
        }
    }
}

/// Checks all of it for a store. `open` opens it, again and again, while what it opened before is closed.
pub fn check(open: &dyn Fn() -> Arc<dyn Store>) {
    each_script(open);
    batches_are_the_same_as_single_changes(open);
    sessions_are_apart(open);
    a_session_is_open_once(open);
    every_field_is_kept(open);
    much_is_kept(open);
}

fn each_script(open: &dyn Fn() -> Arc<dyn Store>) {
    for (name, steps, expected) in table() {
        let store = open();
        let session = store.open(name).unwrap();
        let restored = session.restore().unwrap();
        assert_eq!((text(&restored).as_str(), restored.resumes), ("next 0", false), "{name}: it is new");
        run(&*session, &steps);
        drop(session);
        // Closed and opened, and then the store itself.
        for _ in 0..2 {
            let session = store.open(name).unwrap();
            let restored = session.restore().unwrap();
            assert_eq!((text(&restored).as_str(), restored.resumes), (expected, true), "{name}");
        }
        drop(store);
        let store = open();
        let session = store.open(name).unwrap();
        let restored = session.restore().unwrap();
        assert_eq!((text(&restored).as_str(), restored.resumes), (expected, true), "{name}, reopened");
        session.remove().unwrap();
        drop(session);
        let restored = store.open(name).unwrap().restore().unwrap();
        assert_eq!((text(&restored).as_str(), restored.resumes), ("next 0", false), "{name}, removed");
    }
}

fn batches_are_the_same_as_single_changes(open: &dyn Fn() -> Arc<dyn Store>) {
    for (name, steps, expected) in table() {
        let store = open();
        let session = store.open(&format!("batched {name}")).unwrap();
        let (mut puts, mut changes) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Put(first, payloads) => puts.extend(entries(first, payloads)),
                Tell(change) => changes.push(change),
            }
        }
        session.put(&puts).unwrap();
        session.apply(&changes).unwrap();
        session.apply(&[]).unwrap();
        let expected = expected.to_owned();
        assert_eq!(text(&session.restore().unwrap()), expected, "{name}");
    }
}

fn sessions_are_apart(open: &dyn Fn() -> Arc<dyn Store>) {
    let names = ["one", "two", "", "one:pub", "ünïcödé / {braces} \n*"];
    let store = open();
    let sessions: Vec<_> = names.iter().map(|name| store.open(name).unwrap()).collect();
    for (index, session) in sessions.iter().enumerate() {
        session.put(&entries(index as u64, &["a", "b"])).unwrap();
        session.apply(&[Taken(id(index as u16 + 1))]).unwrap();
    }
    sessions[1].remove().unwrap();
    drop((sessions, store));
    let store = open();
    for (index, name) in names.iter().enumerate() {
        let expected = match index {
            1 => "next 0".to_owned(),
            _ => format!("{index}=a {}=b next {} taken {}", index + 1, index + 2, index + 1),
        };
        assert_eq!(text(&store.open(name).unwrap().restore().unwrap()), expected, "{name}");
    }
}

fn a_session_is_open_once(open: &dyn Fn() -> Arc<dyn Store>) {
    let store = open();
    let session = store.open("once").unwrap();
    let error = store.open("once").unwrap_err();
    assert!(matches!(&error, StoreError::InUse { session, .. } if session == "once"), "{error}");
    assert!(!error.is_temporary());
    drop(session);
    store.open("once").unwrap();
}

fn every_field_is_kept(open: &dyn Fn() -> Arc<dyn Store>) {
    let properties = MessageProperties {
        payload_is_text: true,
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers/here".into()),
        correlation_data: Some(vec![0, 255, 13, 10, 0].into()),
        user: vec![
            ("a".to_owned(), "1".to_owned()),
            ("a".to_owned(), String::new()),
            (String::new(), "ü".to_owned()),
        ],
    };
    let all_bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let messages = [
        Message::new("a/b", all_bytes).qos(QoS::ExactlyOnce).retained().properties(properties),
        Message::new("a", "").qos(QoS::AtLeastOnce),
        Message::new("$SYS/ü", "x").qos(QoS::AtLeastOnce).retained(),
    ];
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let subscription = Wanted { filter: Arc::from("$share/g/ä/#"), options, subscription_id: 3 };
    let expiring = Message { message_expiry_s: Some(3600), ..message("soon") };
    let expired = Message { message_expiry_s: Some(0), ..message("over") };
    let entries: Vec<_> =
        (5..).map(Number).zip(messages.iter().chain([&expiring, &expired]).cloned()).collect();
    {
        let store = open();
        let session = store.open("fields").unwrap();
        session.put(&entries).unwrap();
        session.apply(&[Subscribed(subscription.clone())]).unwrap();
    }
    let store = open();
    let restored = store.open("fields").unwrap().restore().unwrap();
    assert_eq!(restored.subscriptions, [subscription]);
    let found: Vec<&Message> = restored.publications.iter().map(|(_, message, _)| message).collect();
    assert_eq!(found.len(), 5);
    for (found, message) in found.iter().zip(&messages) {
        assert_eq!(*found, message);
    }
    let left_s = found[3].message_expiry_s.unwrap();
    assert!((1..=3600).contains(&left_s), "{left_s} s of an hour are left");
    assert_eq!((&found[3].payload[..], found[4].message_expiry_s), (&b"soon"[..], Some(0)));
}

/// A long life: many publications, of which few wait at any time.
fn much_is_kept(open: &dyn Fn() -> Arc<dyn Store>) {
    const COUNT: u64 = 20_000;
    const WAITING: u64 = 100;
    {
        let store = open();
        let session = store.open("much").unwrap();
        for first in (0..COUNT).step_by(50) {
            let payloads: Vec<String> = (first..first + 50).map(|number| format!("{number:0>200}")).collect();
            let batch: Vec<_> =
                (first..).map(Number).zip(payloads.iter().map(|payload| message(payload))).collect();
            session.put(&batch).unwrap();
            let done = first.saturating_sub(WAITING);
            let changes: Vec<_> = (done..done + 50).map(|number| Completed(Number(number))).collect();
            if first >= WAITING {
                session.apply(&changes).unwrap();
            }
        }
    }
    let store = open();
    let restored = store.open("much").unwrap().restore().unwrap();
    let numbers: Vec<u64> = restored.publications.iter().map(|(number, _, _)| number.0).collect();
    assert_eq!(numbers, (COUNT - WAITING..COUNT).collect::<Vec<_>>());
    for (number, message, is_released) in &restored.publications {
        assert!(!is_released && message.payload == format!("{:0>200}", number.0), "{number:?}");
    }
    assert_eq!(restored.next, COUNT);
}
