//! Sessions with a store that does as it is told.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmq_codec::{PacketId, QoS};

use super::{Number, Restored, SessionStore, Store, StoreChange, StoreError, Stores};
use crate::error::Error;
use crate::link::{
    Mailbox, Outgoing, Publication, Request, Router, SessionId, SessionMetrics, SessionShared, StoreLink,
    Target, Watcher,
};
use crate::message::Message;
use crate::options::SessionOptions;
use crate::slot::Slot;
use crate::status::Happening;

/// A call of a store.
#[derive(Debug, PartialEq)]
enum Call {
    Put(Vec<(u64, String)>),
    Apply(Vec<StoreChange>),
    Remove,
    Dropped,
}

use Call::{Apply, Dropped, Put, Remove};
use StoreChange::{Completed, Taken};

/// Tells the test of each call, which answers it.
#[derive(Debug)]
struct Told {
    calls: Sender<Call>,
    answers: Mutex<Receiver<Result<(), StoreError>>>,
}

impl Told {
    fn call(&self, call: Call) -> Result<(), StoreError> {
        let answers = self.answers.lock().unwrap();
        self.calls.send(call).unwrap();
        answers.recv().unwrap()
    }
}

#[derive(Debug)]
struct TestStore(Arc<Told>);

impl Store for TestStore {
    fn open(&self, _session: &str) -> Result<Box<dyn SessionStore>, StoreError> {
        Ok(Box::new(TestSession(Arc::clone(&self.0))))
    }
}

#[derive(Debug)]
struct TestSession(Arc<Told>);

impl SessionStore for TestSession {
    fn restore(&self) -> Result<Restored, StoreError> {
        Ok(Restored { next: 10, ..Restored::default() })
    }

    fn put(&self, publications: &[(Number, Message)]) -> Result<(), StoreError> {
        let one = |(number, message): &(Number, Message)| {
            (number.0, String::from_utf8_lossy(&message.payload).into_owned())
        };
        self.0.call(Put(publications.iter().map(one).collect()))
    }

    fn apply(&self, changes: &[StoreChange]) -> Result<(), StoreError> {
        self.0.call(Apply(changes.to_vec()))
    }

    fn remove(&self) -> Result<(), StoreError> {
        self.0.call(Remove)
    }
}

impl Drop for TestSession {
    fn drop(&mut self) {
        self.0.calls.send(Dropped).unwrap();
    }
}

#[derive(Debug)]
struct Nobody;

impl Router for Nobody {
    fn version(&self) -> u64 {
        0
    }

    fn targets(&self, _topic: &str) -> Vec<Arc<dyn Target>> {
        Vec::new()
    }
}

impl Watcher for Nobody {
    fn happened(&self, _session: &Arc<SessionShared>, _happening: Happening) {}

    fn needs_credentials(&self, _session: &Arc<SessionShared>) {}

    fn store_failed(&self, _session: &Arc<SessionShared>, _why: &str) {}
}

/// A session with a [`TestStore`], and both ends of that.
struct Setup {
    session: Arc<SessionShared>,
    calls: Mutex<Receiver<Call>>,
    answers: Sender<Result<(), StoreError>>,
    /// Rings when the mailbox has its first request.
    rings: Mutex<Receiver<()>>,
    stores: Stores,
}

const LONG: Duration = Duration::from_secs(30);

impl Setup {
    fn new() -> Self {
        Self::with_room(1000)
    }

    fn with_room(offline_messages_max: usize) -> Self {
        let (to_test, calls) = channel();
        let (answers, from_test) = channel();
        let (ringing, rings) = channel();
        let told = Arc::new(Told { calls: to_test, answers: Mutex::new(from_test) });
        let store: Arc<dyn Store> = Arc::new(TestStore(told));
        let mailbox = Arc::new(Mailbox::new(Box::new(move || ringing.send(()).unwrap())));
        let stores = Stores::default();
        let name: Arc<str> = Arc::from("s");
        let (link, restored) = stores.open(&store, &name, SessionId(7), Arc::clone(&mailbox)).unwrap();
        let mut options = SessionOptions::new(name, Vec::new());
        options.offline_messages_max = offline_messages_max;
        options.store = Some(store);
        let session = Arc::new(SessionShared {
            id: SessionId(7),
            options: Arc::new(options),
            mailbox,
            outgoing: Outgoing::default(),
            router: Arc::new(Nobody),
            watcher: Arc::new(Nobody),
            store: Some(link),
            metrics: SessionMetrics::default(),
            broker_packet_bytes_max: AtomicU32::new(u32::MAX),
            response_information: Mutex::default(),
        });
        session.set_next_number(restored.next);
        Self { session, calls: Mutex::new(calls), answers, rings: Mutex::new(rings), stores }
    }

    fn link(&self) -> Arc<dyn StoreLink> {
        Arc::clone(self.session.store.as_ref().unwrap())
    }

    fn publish(&self, payload: &str) -> Result<(), Error> {
        self.link().publish(&self.session, publication(payload))
    }

    fn next_call(&self) -> Result<Call, RecvTimeoutError> {
        self.calls.lock().unwrap().recv_timeout(LONG)
    }

    /// The next call, and the answer that it gets.
    fn expect(&self, call: &Call, answer: Result<(), StoreError>) {
        assert_eq!(self.next_call().as_ref(), Ok(call));
        self.answers.send(answer).unwrap();
    }

    /// Numbers and payloads of what was queued.
    fn queued(&self) -> Vec<(u64, String)> {
        let mut publications = Vec::new();
        self.session.take_publications(&mut publications);
        let one = |publication: Publication| {
            let payload = String::from_utf8_lossy(&publication.message.payload).into_owned();
            (publication.number.unwrap().0, payload)
        };
        publications.into_iter().map(one).collect()
    }

    /// Waits for answers to what the core posted.
    fn stored(&self) -> Vec<Result<u64, String>> {
        self.rings.lock().unwrap().recv_timeout(LONG).unwrap();
        let mut requests = Vec::new();
        self.session.mailbox.take(&mut requests);
        let one = |request| match request {
            Request::Stored(SessionId(7), outcome) => outcome.map_err(|why| why.to_string()),
            other => panic!("{other:?}"),
        };
        requests.into_iter().map(one).collect()
    }
}

fn publication(payload: &str) -> Publication {
    let message = Message::new("t", payload.to_owned()).qos(QoS::AtLeastOnce);
    Publication { message, number: None, since_ms: 0, delivery: None }
}

fn numbered(first: u64, payloads: &[&str]) -> Vec<(u64, String)> {
    (first..).zip(payloads.iter().map(|payload| (*payload).to_owned())).collect()
}

fn put(first: u64, payloads: &[&str]) -> Call {
    Put(numbered(first, payloads))
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { store: "it".to_owned(), detail: "gone".to_owned() }
}

fn full() -> StoreError {
    StoreError::Full { store: "it".to_owned(), holds: "much".to_owned() }
}

#[test]
fn a_publication_is_kept_before_it_is_queued() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| setup.publish("a"));
        assert_eq!(setup.next_call(), Ok(put(10, &["a"])));
        assert_eq!((setup.queued(), setup.session.held()), (vec![], 1));
        setup.answers.send(Ok(())).unwrap();
        publisher.join().unwrap().unwrap();
    });
    assert_eq!(setup.queued(), numbered(10, &["a"]));
    setup.answers.send(Ok(())).unwrap();
    setup.publish("b").unwrap();
    assert_eq!(setup.queued(), numbered(11, &["b"]));
}

#[test]
fn those_that_come_meanwhile_are_kept_together() {
    let setup = Setup::new();
    let later = Arc::new(Slot::default());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| setup.publish("a"));
        assert_eq!(setup.next_call(), Ok(put(10, &["a"])));
        let mut others = Vec::new();
        for (held, payload) in [(2, "b"), (3, "c")] {
            others.push(scope.spawn(|| setup.publish(payload)));
            while setup.session.held() < held {
                std::thread::yield_now();
            }
        }
        setup.link().publish_later(&setup.session, publication("d"), Arc::clone(&later));
        assert!(later.get().is_none());
        setup.answers.send(Ok(())).unwrap();
        first.join().unwrap().unwrap();
        // A thread that has room for itself may be late.
        let mut rest = Vec::new();
        while rest.len() < 3 {
            let Ok(Put(some)) = setup.next_call() else { panic!("a put") };
            setup.answers.send(Ok(())).unwrap();
            rest.extend(some);
        }
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
        assert!(later.wait(LONG).unwrap().is_ok());
        let mut payloads: Vec<_> = rest.iter().map(|(_, payload)| payload.as_str()).collect();
        payloads.sort_unstable();
        assert_eq!(payloads, ["b", "c", "d"]);
        let expected = [numbered(10, &["a"]), rest].concat();
        assert_eq!(setup.queued(), expected);
    });
}

#[test]
fn what_could_not_be_kept_is_told_and_its_number_is_used_again() {
    let setup = Setup::new();
    // What may have been kept all the same is taken back before anything else is put.
    let taken_back = || Apply(vec![Completed(Number(10))]);
    for (payload, calls) in [
        ("a", vec![(put(10, &["a"]), Err(unavailable()))]),
        ("b", vec![(taken_back(), Err(unavailable()))]),
        ("c", vec![(taken_back(), Ok(())), (put(10, &["c"]), Err(full()))]),
        ("d", vec![(taken_back(), Ok(())), (put(10, &["d"]), Ok(()))]),
        ("e", vec![(put(11, &["e"]), Ok(()))]),
    ] {
        let is_kept = calls.iter().all(|(_, answer)| answer.is_ok());
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| setup.publish(payload));
            for (call, answer) in calls {
                setup.expect(&call, answer);
            }
            match publisher.join().unwrap() {
                Ok(()) => assert!(is_kept, "{payload}"),
                Err(error) => {
                    assert!(!is_kept && matches!(error, Error::Store(_)) && error.is_temporary(), "{error}");
                    assert_eq!(setup.session.held(), 0);
                }
            }
        });
    }
    assert_eq!(setup.queued(), numbered(10, &["d", "e"]));
    assert_eq!(setup.session.held(), 2);
}

#[test]
fn one_that_has_no_room_does_not_fail_the_others() {
    let setup = Setup::new();
    let outcomes: Vec<Arc<Slot<_>>> = (0..3).map(|_| Arc::default()).collect();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| setup.publish("a"));
        assert_eq!(setup.next_call(), Ok(put(10, &["a"])));
        for (outcome, payload) in outcomes.iter().zip(["b", "large", "c"]) {
            setup.link().publish_later(&setup.session, publication(payload), Arc::clone(outcome));
        }
        setup.answers.send(Ok(())).unwrap();
        setup.expect(&put(11, &["b", "large", "c"]), Err(full()));
        setup.expect(&Apply([11, 12, 13].map(|number| Completed(Number(number))).to_vec()), Ok(()));
        setup.expect(&put(11, &["b"]), Ok(()));
        setup.expect(&put(12, &["large"]), Err(full()));
        setup.expect(&Apply(vec![Completed(Number(12))]), Ok(()));
        setup.expect(&put(12, &["c"]), Ok(()));
        first.join().unwrap().unwrap();
    });
    let outcomes: Vec<bool> = outcomes.iter().map(|slot| slot.wait(LONG).unwrap().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(setup.queued(), numbered(10, &["a", "b", "c"]));
    assert_eq!(setup.session.held(), 3);
}

#[test]
fn room_is_looked_for_before_the_store_is_asked() {
    let setup = Setup::with_room(1);
    setup.answers.send(Ok(())).unwrap();
    setup.publish("a").unwrap();
    assert!(matches!(setup.publish("b"), Err(Error::Full { held: 1 })));
    let later = Arc::new(Slot::default());
    setup.link().publish_later(&setup.session, publication("c"), Arc::clone(&later));
    assert!(matches!(later.get(), Some(Err(Error::Full { held: 1 }))));
    setup.session.set_gone();
    assert!(matches!(setup.publish("d"), Err(Error::Gone)));
}

#[test]
fn a_session_that_goes_meanwhile_takes_back_what_was_kept() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| setup.publish("a"));
        assert_eq!(setup.next_call(), Ok(put(10, &["a"])));
        setup.session.set_gone();
        setup.answers.send(Ok(())).unwrap();
        assert!(matches!(publisher.join().unwrap(), Err(Error::Gone)));
        let closer = scope.spawn(|| setup.link().close());
        setup.expect(&Apply(vec![Completed(Number(10))]), Ok(()));
        closer.join().unwrap();
    });
    assert_eq!(setup.next_call(), Ok(Dropped));
}

#[test]
fn changes_are_carried_out_in_order_and_repeated_after_a_failure() {
    let setup = Setup::new();
    let id = PacketId::new(3).unwrap();
    let link = setup.link();
    assert_eq!(link.post(Completed(Number(1))), 1);
    assert_eq!(setup.next_call(), Ok(Apply(vec![Completed(Number(1))])));
    assert_eq!((link.post(Completed(Number(2))), link.post(Taken(id))), (2, 3));
    setup.answers.send(Ok(())).unwrap();
    assert_eq!(setup.stored(), [Ok(1)]);
    setup.expect(&Apply(vec![Completed(Number(2)), Taken(id)]), Err(unavailable()));
    let why = "it cannot be reached: gone; see that it runs, and try again".to_owned();
    assert_eq!(setup.stored(), [Err(why.clone())]);
    setup.expect(&Apply(vec![Completed(Number(2)), Taken(id)]), Err(unavailable()));
    assert_eq!(setup.stored(), [Err(why)]);
    setup.expect(&Apply(vec![Completed(Number(2)), Taken(id)]), Ok(()));
    assert_eq!(setup.stored(), [Ok(3)]);
}

#[test]
fn the_end_waits_for_what_was_posted() {
    let setup = Setup::new();
    setup.link().post(Completed(Number(1)));
    std::thread::scope(|scope| {
        let closer = scope.spawn(|| setup.link().close());
        setup.expect(&Apply(vec![Completed(Number(1))]), Ok(()));
        closer.join().unwrap();
    });
    assert_eq!(setup.next_call(), Ok(Dropped));
    assert!(matches!(setup.publish("a"), Err(Error::Gone)));
    // Twice does no harm, nor after the threads have ended.
    setup.link().close();
    drop(setup.stores);
    assert_eq!(setup.session.store.as_ref().unwrap().post(Completed(Number(2))), 2);
    setup.session.store.as_ref().unwrap().close();
    assert!(matches!(setup.session.store.as_ref().unwrap().erase(), Err(Error::Gone)));
}

#[test]
fn what_is_erased_is_removed() {
    for outcome in [Ok(()), Err(unavailable())] {
        let setup = Setup::new();
        std::thread::scope(|scope| {
            let eraser = scope.spawn(|| setup.link().erase());
            setup.expect(&Remove, outcome.clone());
            assert_eq!(eraser.join().unwrap().is_ok(), outcome.is_ok());
        });
        assert_eq!(setup.next_call(), Ok(Dropped));
    }
}

/// A store that panics and refreshes.
#[derive(Debug)]
struct Odd {
    refreshed: Mutex<Sender<()>>,
}

impl Store for Odd {
    fn open(&self, _session: &str) -> Result<Box<dyn SessionStore>, StoreError> {
        Ok(Box::new(Panicking))
    }

    fn refresh_every(&self) -> Option<Duration> {
        Some(Duration::from_millis(1))
    }

    fn refresh(&self) -> Result<(), StoreError> {
        self.refreshed.lock().unwrap().send(()).unwrap();
        Ok(())
    }
}

#[derive(Debug)]
struct Panicking;

impl SessionStore for Panicking {
    fn restore(&self) -> Result<Restored, StoreError> {
        Ok(Restored::default())
    }

    fn put(&self, _publications: &[(Number, Message)]) -> Result<(), StoreError> {
        panic!("{} panics", "put");
    }

    fn apply(&self, _changes: &[StoreChange]) -> Result<(), StoreError> {
        panic!("apply panics");
    }

    fn remove(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn a_store_that_panics_harms_only_its_own() {
    let (refreshed, refreshes) = channel();
    let store: Arc<dyn Store> = Arc::new(Odd { refreshed: Mutex::new(refreshed) });
    let setup = Setup::new();
    let mailbox = Arc::clone(&setup.session.mailbox);
    let (link, _) = setup.stores.open(&store, &Arc::from("odd"), SessionId(7), mailbox).unwrap();
    for said in ["put panics", "apply panics", "apply panics"] {
        let error = link.publish(&setup.session, publication("a")).unwrap_err().to_string();
        assert!(
            error.contains("the store of session \"odd\" failed: it panicked") && error.contains(said),
            "{error}"
        );
    }
    link.post(Completed(Number(1)));
    assert!(setup.stored()[0].is_err());
    refreshes.recv_timeout(LONG).unwrap();
    refreshes.recv_timeout(LONG).unwrap();
    assert_eq!(setup.session.held(), 0);
}
