//! The manager over cores that the tests play.

use std::error::Error as StdError;
use std::sync::mpsc::channel;
use std::task::Waker;

use ringmq_codec::{QoS, ReasonCode};

use super::*;
use crate::auth::{AuthError, Credentials, CredentialsProvider};
use crate::error::{ConnectError, is_temporary, is_timeout};
use crate::inbox::RecvError;
use crate::link::Publication;
use crate::options::Backoff;
use crate::status::Happening;
use crate::testing::{DEADLINE, Stub, connect, deliver, get_ready, happened, lose};

fn quick(name: &str) -> SessionBuilder {
    SessionBuilder::quick(name, "mqtt://127.0.0.1")
}

fn publications(session: &SessionShared) -> Vec<Publication> {
    let mut publications = Vec::new();
    session.take_publications(&mut publications);
    publications
}

#[test]
fn sessions_are_found_under_their_names() {
    let stub = Stub::new();
    let manager = stub.manager();
    manager.add(quick("b")).unwrap();
    manager.add(quick("a")).unwrap();
    assert!(matches!(manager.add(quick("a")), Err(Error::NameTaken(name)) if name == "a"));
    assert!(matches!(manager.add(SessionBuilder::new("c")), Err(Error::Invalid { .. })));
    let names: Vec<String> = manager.list().iter().map(|session| session.name().to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(manager.statuses(), [("a".into(), Status::Idle), ("b".into(), Status::Idle)]);
    assert!(manager.get("c").is_none() && manager.status("c").is_none());
    assert!(matches!(manager.wait("c", DEADLINE), Err(Error::NoSession(name)) if name == "c"));
    assert!(matches!(manager.remove("c"), Err(Error::NoSession(_))));
    assert!(matches!(manager.publish_to("c", Message::new("t", "")), Err(Error::NoSession(_))));
}

#[test]
fn a_name_is_free_at_once_and_the_old_session_gone() {
    let stub = Stub::new();
    let manager = stub.manager();
    let old = manager.add(quick("s")).unwrap();
    let core = stub.added();
    get_ready(&core);
    manager.remove("s").unwrap();
    assert_eq!(old.status(), Status::Removed);
    assert!(matches!(old.publish(Message::new("t", "")), Err(Error::Gone)));
    assert!(matches!(old.wait(DEADLINE), Err(Error::Gone)));
    assert!(matches!(stub.requests()[..], [Request::Remove(id)] if id == core.id));
    let new = manager.add(quick("s")).unwrap();
    assert_ne!(new.id(), old.id());
    let events = manager.events();
    // What its core still had to say changes nothing.
    happened(&core, Happening::Ready);
    happened(&core, Happening::Removed);
    assert_eq!(old.status(), Status::Removed);
    let is_removed = |event: &Event| matches!(event.kind, EventKind::Removed);
    while !is_removed(&events.recv(DEADLINE).unwrap()) {}
    assert_eq!(new.status(), Status::Idle);
    assert_eq!(manager.list().len(), 1);
}

#[test]
fn equal_addresses_are_registered_once() {
    let stub = Stub::new();
    let manager = stub.manager();
    let events = manager.events();
    for n in 0..1_000 {
        manager.add(quick(&n.to_string()).broker("unix:/b")).unwrap();
    }
    manager.add(quick("other").source("127.0.0.2".parse().unwrap())).unwrap();
    let shown = |stub: &Stub| -> Vec<String> {
        stub.peers.lock().unwrap().iter().map(|(_, peer)| peer.address.to_string()).collect()
    };
    assert_eq!(shown(&stub), ["127.0.0.1:1883", "/b", "127.0.0.1:1883"]);
    let cores: Vec<_> = stub
        .requests()
        .into_iter()
        .filter_map(|request| match request {
            Request::Add(session, begin) => {
                assert!(!begin.peers.is_empty());
                Some(session)
            }
            _ => None,
        })
        .collect();
    assert_eq!(cores.len(), 1_001);
    for core in cores {
        manager.remove(&core.options.name).unwrap();
        happened(&core, Happening::Removed);
    }
    let mut removed = 0;
    while removed < 1_001 {
        removed += usize::from(matches!(events.recv(DEADLINE).unwrap().kind, EventKind::Removed));
    }
    assert_eq!(shown(&stub), [""; 0]);
}

#[test]
fn waits_end_with_readiness_time_or_failure() {
    let stub = Stub::new();
    let manager = stub.manager();
    assert!(manager.wait_all(Duration::ZERO).is_ok(), "there is none to wait for");
    let session = manager.add(quick("s").no_reconnect()).unwrap();
    let core = stub.added();
    let error = manager.wait("s", Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "not ready within 0 s");
    connect(&core);
    lose(&core, Some(1));
    let error = manager.wait_all(Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "not ready within 0 s; at last: the connection was lost");
    assert!(error.is_timeout() && error.is_temporary());
    std::thread::scope(|scope| {
        let one = scope.spawn(|| manager.wait("s", DEADLINE));
        let all = scope.spawn(|| manager.wait_all(DEADLINE));
        get_ready(&core);
        one.join().unwrap().unwrap();
        all.join().unwrap().unwrap();
    });
    lose(&core, None);
    let given_up = |error| matches!(error, Err(Error::Connect(ConnectError::Lost)));
    assert!(given_up(session.wait(DEADLINE)) && given_up(manager.wait_all(DEADLINE)));
    assert_eq!(session.status(), Status::Failed);
    // Tried again by hand.
    get_ready(&core);
    manager.wait_all(DEADLINE).unwrap();
    manager.remove("s").unwrap();
    manager.wait_all(DEADLINE).unwrap();
    assert!(matches!(session.wait(DEADLINE), Err(Error::Gone)));
}

/// Runs a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(DEADLINE),
        }
    }
}

#[test]
fn tasks_wait_too_and_leave_nothing_behind() {
    let stub = Stub::new();
    let manager = stub.manager();
    let session = manager.add(quick("s")).unwrap();
    let core = stub.added();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        let (mut one, mut all) = (session.ready(), manager.all_ready());
        assert!(Pin::new(&mut one).poll(&mut context).is_pending());
        assert!(Pin::new(&mut all).poll(&mut context).is_pending());
        assert_eq!(session.0.state.waiting(), 1);
        drop((one, all));
        assert_eq!(session.0.state.waiting() + manager.inner.tally.waiting(), 0);
        assert!(session.wait(Duration::ZERO).is_err());
    }
    std::thread::scope(|scope| {
        let one = scope.spawn(|| block_on(manager.ready("s")));
        let all = scope.spawn(|| block_on(manager.all_ready()));
        get_ready(&core);
        one.join().unwrap().unwrap();
        all.join().unwrap().unwrap();
    });
    assert!(matches!(block_on(manager.ready("x")), Err(Error::NoSession(_))));
}

#[test]
fn events_come_in_order() {
    let stub = Stub::new();
    let manager = stub.manager();
    let events = manager.events();
    manager.add(quick("s")).unwrap();
    let core = stub.added();
    get_ready(&core);
    lose(&core, Some(2));
    happened(&core, Happening::Connecting { address: 0 });
    happened(&core, Happening::Disconnected);
    manager.remove("s").unwrap();
    happened(&core, Happening::Removed);
    let show = |event: Event| {
        assert_eq!(&*event.session, "s");
        match event.kind {
            EventKind::StateChanged { from, to } => format!("{from:?} -> {to:?}"),
            EventKind::Reconnecting { attempt, delay } => format!("try {attempt} in {delay:?}"),
            EventKind::Disconnected { why } => format!("Disconnected {why:?}"),
            EventKind::Connecting { address } => format!("Connecting {address}"),
            EventKind::Connected { session_present, .. } => format!("Connected {session_present}"),
            kind => format!("{kind:?}"),
        }
    };
    let expect = [
        "Added",
        "Idle -> Connecting",
        "Connecting mqtt://127.0.0.1",
        "Connecting -> Connected",
        "Connected false",
        "Connected -> Ready",
        "Ready",
        "Ready -> Waiting",
        "Disconnected Some(Lost)",
        "try 2 in 7ms",
        "Waiting -> Connecting",
        "Connecting mqtt://127.0.0.1",
        "Connecting -> Disconnected",
        "Disconnected None",
        "Disconnected -> Removed",
        "Removed",
    ];
    for expect in expect {
        assert_eq!(show(events.recv(DEADLINE).unwrap()), expect);
    }
    manager.shutdown(DEADLINE).unwrap();
    assert_eq!(events.recv(DEADLINE).unwrap_err(), RecvError::Stopped);
    assert_eq!(events.dropped(), 0);
}

#[test]
fn handlers_may_call_the_manager() {
    let stub = Stub::new();
    let manager = stub.manager();
    let weak = manager.weak();
    let (done, wait) = channel();
    manager.on_event(move |event| {
        let Some(manager) = weak.upgrade() else { return };
        match event.kind {
            EventKind::Added if &*event.session == "one" => {
                manager.add(quick("two")).unwrap();
                manager.handle("t", |_| ()).unwrap().detach();
                manager.wait("one", Duration::ZERO).unwrap_err();
                manager.remove("one").unwrap();
            }
            EventKind::StateChanged { to: Status::Removed, .. } => {
                done.send((event.session, manager.list().len())).unwrap();
            }
            _ => {}
        }
    });
    manager.add(quick("one")).unwrap();
    assert_eq!(wait.recv_timeout(DEADLINE).unwrap(), ("one".into(), 1));
    let core = stub
        .requests()
        .into_iter()
        .filter_map(|request| match request {
            Request::Add(session, _) if &*session.options.name == "two" => Some(session),
            _ => None,
        })
        .next()
        .unwrap();
    let (done, wait) = channel();
    let inside = manager.clone();
    let session = manager.get("two").unwrap();
    let route = manager.handle("t/#", move |message: Received| {
        drop(inside.publish_to("two", Message::new("answer", message.payload.clone())).unwrap());
        inside.handle_to("two", "x", |_| ()).unwrap().stop();
        inside.shutdown(DEADLINE).unwrap();
        done.send(session.status()).unwrap();
    });
    deliver(&core, &[Message::new("t/1", "x")]);
    assert_eq!(wait.recv_timeout(DEADLINE).unwrap(), Status::Removed);
    assert!(route.is_ok());
    assert!(matches!(manager.add(quick("three")), Err(Error::Gone)));
}

#[test]
fn what_is_published_offline_waits_in_order_up_to_a_bound() {
    let stub = Stub::new();
    let manager = stub.manager();
    let session = manager.add(quick("s").offline_messages_max(3).queue_messages_max(5)).unwrap();
    let core = stub.added();
    let publish = |n: u8| session.publish(Message::new("t", vec![n]).qos(QoS::AtLeastOnce));
    let deliveries: Vec<_> = (0..3).map(|n| publish(n).unwrap()).collect();
    let error = publish(3).unwrap_err();
    assert!(matches!(error, Error::Full { held: 3 }) && error.is_temporary());
    assert!(matches!(session.try_publish(Message::new("t", "")), Err(Error::Full { held: 3 })));
    assert!(matches!(session.send(Message::new("t", "")), Err(Error::Full { held: 3 })));
    assert!(matches!(block_on(session.publish_async(Message::new("t", ""))), Err(Error::Full { .. })));
    assert_eq!(session.waiting(), 3);
    get_ready(&core);
    // There is a connection: there is more room, and beyond it is waited for.
    session.send(Message::new("t", vec![3])).unwrap();
    session.send(Message::new("t", vec![4])).unwrap();
    std::thread::scope(|scope| {
        let one = scope.spawn(|| session.publish(Message::new("t", vec![5])).unwrap());
        let two = scope.spawn(|| block_on(session.publish_async(Message::new("t", vec![5]))).unwrap());
        let taken = publications(&core);
        let payloads: Vec<u8> = taken.iter().map(|publication| publication.message.payload[0]).collect();
        assert_eq!(payloads[..5], [0, 1, 2, 3, 4]);
        assert!(taken[..3].iter().map(|taken| taken.number.unwrap().0).eq(0..3));
        core.release(5);
        for (publication, reason) in taken.into_iter().zip([
            ReasonCode::Success,
            ReasonCode::NoMatchingSubscribers,
            ReasonCode::NotAuthorized,
        ]) {
            publication.delivery.unwrap().settle(Ok(reason));
        }
        drop((one.join().unwrap(), two.join().unwrap()));
    });
    assert_eq!(deliveries[0].wait(DEADLINE).unwrap(), ReasonCode::Success);
    assert_eq!(deliveries[1].try_get().unwrap().unwrap(), ReasonCode::NoMatchingSubscribers);
    let [_, _, refused] = deliveries.try_into().unwrap();
    assert!(matches!(block_on(refused), Err(Error::Refused(ReasonCode::NotAuthorized))));
}

#[test]
fn messages_that_no_broker_accepts_are_refused() {
    let stub = Stub::new();
    let manager = stub.manager();
    let session = manager.add(quick("s").packet_bytes_max(1_000)).unwrap();
    let core = stub.added();
    for topic in ["", "a/+", "#", "a\0"] {
        let error = session.publish(Message::new(topic, "")).unwrap_err();
        assert!(matches!(error, Error::Invalid { what: "the topic", .. }), "{topic:?}: {error}");
    }
    // 1 + 2 for the header, 2 + 1 for the topic, 1 for no properties.
    let sized = |payload| Message::new("t", vec![0; payload]);
    session.send(sized(993)).unwrap();
    assert!(matches!(session.send(sized(994)), Err(Error::TooLarge { bytes: 1_001, bytes_max: 1_000 })));
    core.broker_packet_bytes_max.store(100, Ordering::Relaxed);
    session.send(sized(94)).unwrap();
    assert!(matches!(session.send(sized(95)), Err(Error::TooLarge { bytes: 101, bytes_max: 100 })));
}

#[test]
fn a_failed_thread_is_told_to_everybody() {
    let stub = Stub::new();
    let manager = stub.manager();
    let events = manager.events();
    let session = manager.add(quick("s").offline_messages_max(1)).unwrap();
    let core = stub.added();
    connect(&core);
    let queued = session.publish(Message::new("t", "")).unwrap();
    let taken = session.publish(Message::new("t", "")).unwrap();
    let publications = publications(&core);
    let listener = session.listen("t").unwrap();
    std::thread::scope(|scope| {
        let waits = [
            scope.spawn(|| session.wait(DEADLINE).unwrap_err()),
            scope.spawn(|| manager.wait_all(DEADLINE).unwrap_err()),
            scope.spawn(|| block_on(manager.all_ready()).unwrap_err()),
            scope.spawn(|| listener.wait_subscribed(DEADLINE).unwrap_err()),
        ];
        stub.fail("shard 0 failed: boom");
        // The core is dropped, with all that it holds.
        drop(publications);
        for (place, wait) in waits.into_iter().enumerate() {
            let error = wait.join().unwrap();
            let is_told = matches!(&error, Error::Runtime(said) if said.contains("boom"));
            assert!(is_told || place == 3 && matches!(error, Error::Gone), "{place}: {error}");
        }
    });
    assert!(matches!(queued.wait(DEADLINE), Err(Error::Runtime(_))));
    assert!(matches!(block_on(taken), Err(Error::Runtime(_))));
    assert!(matches!(session.publish(Message::new("t", "")), Err(Error::Runtime(_))));
    assert!(matches!(manager.add(quick("other")), Err(Error::Runtime(_))));
    assert!(matches!(manager.listen("t"), Err(Error::Runtime(_))));
    assert_eq!(listener.recv(DEADLINE).unwrap_err(), RecvError::Stopped);
    while !matches!(events.recv(DEADLINE).unwrap().kind, EventKind::RuntimeFailed { .. }) {}
    assert!(matches!(manager.shutdown(DEADLINE), Err(Error::Runtime(_))));
}

#[derive(Debug)]
struct Vault(Mutex<Vec<Result<Credentials, AuthError>>>);

impl CredentialsProvider for Vault {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        self.0.lock().unwrap().pop().expect("asked too often")
    }
}

#[test]
fn credentials_are_asked_for_on_the_pool() {
    let stub = Stub::new();
    let manager = stub.manager();
    let given = vec![Err(AuthError("locked".into())), Ok(Credentials::new("u", "p"))];
    manager.add(quick("s").credentials_provider(Arc::new(Vault(Mutex::new(given))))).unwrap();
    let core = stub.added();
    let ask = || {
        core.watcher.needs_credentials(&core);
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until);
            match stub.requests().pop() {
                Some(Request::Credentials(_, given)) => return given,
                _ => std::thread::yield_now(),
            }
        }
    };
    assert_eq!(ask(), Ok(Credentials::new("u", "p")));
    assert_eq!(ask(), Err(AuthError("locked".into())));
    assert_eq!(ask().unwrap_err().0, "the credentials provider panicked: asked too often");
}

#[test]
fn errors_are_understood_through_any_wrapping() {
    #[derive(Debug)]
    struct Wrapped(Box<dyn StdError + Send + Sync>);
    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&*self.0)
        }
    }
    let timed_out = || ConnectError::TimedOut { address: "a".into(), waited_for: "CONNACK", after: DEADLINE };
    let invalid = || Error::Invalid { what: "x", given: String::new(), remedy: String::new() };
    let table: Vec<(Box<dyn StdError + Send + Sync>, bool, bool)> = vec![
        (Box::new(Error::Full { held: 1 }), true, false),
        (Box::new(Error::TimedOut(DEADLINE)), true, true),
        (Box::new(Error::NotReady { after: DEADLINE, last: None }), true, true),
        (Box::new(Error::Connect(timed_out())), true, true),
        (Box::new(timed_out()), true, true),
        (Box::new(ConnectError::Lost), true, false),
        (Box::new(Error::Connect(ConnectError::Protocol("x".into()))), false, false),
        (Box::new(Error::Connect(ConnectError::Auth(AuthError("x".into())))), false, false),
        (Box::new(Error::Refused(ReasonCode::ServerBusy)), true, false),
        (Box::new(Error::Refused(ReasonCode::NotAuthorized)), false, false),
        (Box::new(Error::Gone), false, false),
        (Box::new(Error::Expired), false, false),
        (Box::new(Error::SessionLost), false, false),
        (Box::new(Error::Runtime("x".into())), false, false),
        (Box::new(Error::Tls("x".into())), false, false),
        (Box::new(Error::NameTaken("x".into())), false, false),
        (Box::new(invalid()), false, false),
        (Box::new(std::io::Error::other("not ours")), false, false),
        (Box::new(std::io::Error::other(Error::TimedOut(DEADLINE))), true, true),
        (Box::new(Arc::new(Error::TimedOut(DEADLINE))), true, true),
        (Box::new(Box::new(Error::Full { held: 1 })), true, false),
    ];
    for (error, temporary, timeout) in table {
        let said = error.to_string();
        let expect = (temporary, timeout);
        assert_eq!((is_temporary(&*error), is_timeout(&*error)), expect, "{said}");
        let wrapped = Wrapped(Box::new(Wrapped(error)));
        assert_eq!((is_temporary(&wrapped), is_timeout(&wrapped)), expect, "{said}, wrapped");
    }
}

#[test]
fn counts_are_exported() {
    let stub = Stub::new();
    let manager = stub.manager();
    manager.add(quick("q\"1\"").resume()).unwrap();
    let core = stub.added();
    get_ready(&core);
    core.metrics.messages_sent.store(5, Ordering::Relaxed);
    core.metrics.bytes_received.store(70, Ordering::Relaxed);
    core.metrics.subscriptions.store(2, Ordering::Relaxed);
    core.metrics.last_message_ms.store(1_500, Ordering::Relaxed);
    let text = manager.prometheus();
    for line in [
        "# TYPE mqtt_session_messages_sent_total counter",
        "mqtt_session_messages_sent_total{session=\"q\\\"1\\\"\"} 5",
        "mqtt_session_bytes_received_total{session=\"q\\\"1\\\"\"} 70",
        "mqtt_session_connected{session=\"q\\\"1\\\"\"} 1",
        "mqtt_session_status{session=\"q\\\"1\\\"\"} 3",
        "mqtt_session_subscriptions{session=\"q\\\"1\\\"\"} 2",
        "mqtt_session_last_message_timestamp_seconds{session=\"q\\\"1\\\"\"} 1.5",
        "mqtt_session_last_error_timestamp_seconds{session=\"q\\\"1\\\"\"} 0",
        "mqtt_session_persistent{session=\"q\\\"1\\\"\"} 1",
        "mqtt_session_clean_session{session=\"q\\\"1\\\"\"} 0",
        "mqtt_session_auto_reconnect{session=\"q\\\"1\\\"\"} 1",
        "mqtt_manager_messages_sent_total 5",
        "mqtt_manager_ready_sessions 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
    }
    for name in ["errors_total", "reconnects_total", "message_rate", "avg_message_rate", "bytes_rate"] {
        assert!(text.contains(&format!("mqtt_session_{name}{{")), "{name}");
    }
    let metrics = manager.metrics();
    assert_eq!((metrics.counts.messages_sent, metrics.sessions, metrics.ready), (5, 1, 1));
    // Counters go on when their session is gone.
    let events = manager.events();
    manager.remove("q\"1\"").unwrap();
    happened(&core, Happening::Removed);
    while !matches!(events.recv(DEADLINE).unwrap().kind, EventKind::Removed) {}
    assert_eq!(manager.metrics().counts.messages_sent, 5);
    assert!(!manager.prometheus().contains("mqtt_session_"));
}

#[test]
fn a_manager_that_is_dropped_stops_its_threads() {
    let stub = Stub::new();
    let manager = stub.manager();
    let session = manager.add(quick("s").backoff(Backoff::default())).unwrap();
    let other = manager.clone();
    let weak = manager.weak();
    drop(manager);
    assert!(!stub.wait_stop(Duration::ZERO) && weak.upgrade().is_some());
    drop(other);
    assert!(stub.wait_stop(Duration::ZERO) && weak.upgrade().is_none());
    assert_eq!(session.status(), Status::Removed);
    assert!(matches!(session.publish(Message::new("t", "")), Err(Error::Gone)));
}
