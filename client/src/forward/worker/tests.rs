use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ringmq_codec::{PacketId, QoS, ReasonCode};

use super::*;
use crate::forward::filter::Filter;
use crate::forward::settings::{ForwarderStats, LoopGuard};
use crate::link::{
    Acknowledgement, Mailbox, Overflow, Request, Router, SessionId, SessionMetrics, SessionShared, Target,
    Watcher,
};
use crate::message::Received;
use crate::options::SessionOptions;
use crate::slot::Slot;
use crate::status::Happening;

/// A broker that does what the test says.
#[derive(Default)]
struct Broker {
    is_closed: AtomicBool,
    /// Takes so many more.
    room: AtomicUsize,
    error: Mutex<Option<Error>>,
    got: Mutex<Vec<(Message, Arc<Slot<Outcome>>)>>,
}

impl Broker {
    fn new() -> Arc<Self> {
        let broker = Self::default();
        broker.room.store(usize::MAX, Ordering::SeqCst);
        Arc::new(broker)
    }

    fn payloads(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter().map(|(message, _)| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }

    fn settle(&self, index: usize, outcome: Outcome) {
        self.got.lock().unwrap()[index].1.settle(outcome);
    }
}

impl Outlet for Arc<Broker> {
    type Pending = Arc<Slot<Outcome>>;

    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::SeqCst)
    }

    fn send(&self, message: Message) -> Result<Self::Pending, Returned> {
        if let Some(error) = self.error.lock().unwrap().take() {
            return Err(Box::new((message, error)));
        }
        if self.room.load(Ordering::SeqCst) == 0 {
            return Err(Box::new((message, Error::Full { held: 0 })));
        }
        self.room.fetch_sub(1, Ordering::SeqCst);
        let slot = Arc::new(Slot::default());
        self.got.lock().unwrap().push((message, Arc::clone(&slot)));
        Ok(slot)
    }

    fn poll(&self, pending: &mut Self::Pending, context: &mut Context<'_>) -> Poll<Outcome> {
        Slot::poll(pending, context)
    }
}

#[derive(Debug)]
struct Nobody;

impl Router for Nobody {
    fn version(&self) -> u64 {
        0
    }

    fn targets(&self, _: &str) -> Vec<Arc<dyn Target>> {
        Vec::new()
    }
}

impl Watcher for Nobody {
    fn happened(&self, _: &Arc<SessionShared>, _: Happening) {}
    fn needs_credentials(&self, _: &Arc<SessionShared>) {}
    fn store_failed(&self, _: &Arc<SessionShared>, _: &str) {}
}

/// A source, a forwarder's worker, and its targets.
struct Stage {
    source: Arc<SessionShared>,
    intake: Arc<Intake>,
    targets: Vec<Arc<Broker>>,
    worker: Worker<Arc<Broker>>,
    next: u16,
}

impl Stage {
    fn new(targets: usize, window: usize, way: Way) -> Self {
        let source = Arc::new(SessionShared {
            id: SessionId(1),
            options: Arc::new(SessionOptions::new("s".into(), Vec::new())),
            mailbox: Arc::new(Mailbox::new(Box::new(|| {}))),
            outgoing: Default::default(),
            router: Arc::new(Nobody),
            watcher: Arc::new(Nobody),
            store: None,
            metrics: SessionMetrics::default(),
            broker_packet_bytes_max: Default::default(),
            response_information: Default::default(),
        });
        let intake = Arc::new(Intake::new(4, Overflow::Withhold));
        let targets: Vec<_> = (0..targets).map(|_| Broker::new()).collect();
        let worker = Worker::new(Arc::new(way), Arc::clone(&intake), targets.clone(), window);
        Self { source, intake, targets, worker, next: 1 }
    }

    /// Messages at QoS 1, numbered from 1.
    fn receive(&mut self, payloads: &[&'static str]) {
        let mut batch: Vec<Received> = Vec::new();
        for payload in payloads {
            let acknowledgement =
                Acknowledgement { connection: 1, packet_id: PacketId::new(self.next).unwrap() };
            self.next += 1;
            let token = AckToken::for_routes(&self.source, acknowledgement, &[false]).next();
            batch.push(Received {
                message: Message::new("t", *payload).qos(QoS::AtLeastOnce),
                session: "s".into(),
                dup: false,
                subscription_ids: Vec::new(),
                ack: token,
            });
        }
        self.intake.put(&mut batch);
    }

    /// Has the worker do all that it can.
    fn work(&mut self) {
        while self.worker.turn().0 || self.worker.has_news() {
            self.stats();
        }
    }

    fn stats(&self) -> ForwarderStats {
        self.intake.stats()
    }

    /// Packet ids that were acknowledged to the source since the last look.
    fn acknowledged(&self) -> Vec<u16> {
        let mut requests = Vec::new();
        self.source.mailbox.take(&mut requests);
        let id = |request| match request {
            Request::Acknowledge(_, acknowledgement) => acknowledgement.packet_id.get(),
            other => panic!("{other:?}"),
        };
        requests.into_iter().map(id).collect()
    }
}

fn plain() -> Way {
    Way { guard: LoopGuard::Off, ..Way::default() }
}

#[test]
fn a_message_is_acknowledged_once_the_target_has_it() {
    let mut stage = Stage::new(1, 10, plain());
    stage.receive(&["a", "b", "c"]);
    stage.work();
    assert_eq!(stage.targets[0].payloads(), ["a", "b", "c"]);
    assert_eq!(stage.acknowledged(), [0; 0]);
    assert_eq!(stage.stats().in_progress(), 3);
    // Out of order: the acknowledgements keep theirs.
    stage.targets[0].settle(1, Ok(ReasonCode::Success));
    stage.work();
    assert_eq!(stage.acknowledged(), [0; 0]);
    stage.targets[0].settle(0, Ok(ReasonCode::NoMatchingSubscribers));
    stage.work();
    assert_eq!(stage.acknowledged(), [1, 2]);
    stage.targets[0].settle(2, Ok(ReasonCode::Success));
    stage.work();
    assert_eq!(stage.acknowledged(), [3]);
    let stats = stage.stats();
    assert_eq!((stats.received, stats.sent, stats.in_progress()), (3, 3, 0));
}

#[test]
fn every_target_must_have_it() {
    let mut stage = Stage::new(3, 10, plain());
    stage.receive(&["a"]);
    stage.work();
    for index in [2, 0, 1] {
        assert_eq!(stage.acknowledged(), [0; 0]);
        assert_eq!(stage.targets[index].payloads(), ["a"]);
        stage.targets[index].settle(0, Ok(ReasonCode::Success));
        stage.work();
    }
    assert_eq!(stage.acknowledged(), [1]);
    assert_eq!(stage.stats().sent, 1);
}

#[test]
fn what_fails_is_counted_and_acknowledged_unless_the_target_may_want_it() {
    let gone = || Err(Error::Gone);
    let refused = || Ok(ReasonCode::NotAuthorized);
    for (outcomes, reason, acknowledged) in [
        ([refused(), Ok(ReasonCode::Success)], FailReason::Refused, true),
        ([Ok(ReasonCode::Success), refused()], FailReason::Refused, true),
        ([gone(), refused()], FailReason::Target, false),
        ([refused(), gone()], FailReason::Target, false),
        ([gone(), Ok(ReasonCode::Success)], FailReason::Target, false),
        (
            [Err(Error::TooLarge { bytes: 2, bytes_max: 1 }), Ok(ReasonCode::Success)],
            FailReason::TooLarge,
            true,
        ),
    ] {
        let mut stage = Stage::new(2, 10, plain());
        stage.receive(&["a"]);
        stage.work();
        for (target, outcome) in stage.targets.iter().zip(outcomes.clone()) {
            target.settle(0, outcome);
        }
        stage.work();
        let stats = stage.stats();
        assert_eq!(
            (stats.failed_for(reason), stats.failed(), stats.in_progress()),
            (1, 1, 0),
            "{outcomes:?}"
        );
        assert_eq!(stage.acknowledged().len(), usize::from(acknowledged), "{outcomes:?}");
    }
}

#[test]
fn what_a_target_refuses_for_now_or_loses_is_sent_again() {
    for outcome in [Err(Error::SessionLost), Err(Error::Refused(ReasonCode::QuotaExceeded))] {
        let mut stage = Stage::new(2, 10, plain());
        stage.receive(&["a", "b"]);
        stage.work();
        for target in &stage.targets {
            target.settle(1, Ok(ReasonCode::Success));
        }
        stage.targets[0].settle(0, Ok(ReasonCode::Success));
        stage.targets[1].settle(0, outcome);
        stage.work();
        // Not at once, and those behind it wait.
        assert_eq!(stage.targets[1].payloads(), ["a", "b"]);
        assert_eq!(stage.acknowledged(), [0; 0]);
        assert!(stage.worker.again_at.is_some_and(|at| at > Instant::now() - AGAIN));
        stage.worker.again_at = Some(Instant::now());
        stage.work();
        assert_eq!(stage.targets[0].payloads(), ["a", "b"]);
        assert_eq!(stage.targets[1].payloads(), ["a", "b", "a"]);
        stage.targets[1].settle(2, Ok(ReasonCode::Success));
        stage.work();
        assert_eq!(stage.acknowledged(), [1, 2]);
        assert_eq!(stage.stats().sent, 2);
    }
}

#[test]
fn a_target_that_refuses_at_once_does_not_hold_up_the_others() {
    let mut stage = Stage::new(3, 10, plain());
    *stage.targets[1].error.lock().unwrap() = Some(Error::TooLarge { bytes: 2, bytes_max: 1 });
    stage.receive(&["a", "b"]);
    stage.work();
    for (target, count) in stage.targets.iter().zip([2, 1, 2]) {
        assert_eq!(target.payloads().len(), count);
        (0..count).for_each(|index| target.settle(index, Ok(ReasonCode::Success)));
    }
    stage.work();
    let stats = stage.stats();
    assert_eq!((stats.sent, stats.failed_for(FailReason::TooLarge)), (1, 1));
    assert_eq!(stage.acknowledged(), [1, 2]);
}

#[test]
fn dropped_messages_are_acknowledged_in_their_turn() {
    let mut stage = Stage::new(1, 10, Way { filters: vec![!Filter::payload_contains("x")], ..plain() });
    stage.receive(&["a", "x", "b"]);
    stage.work();
    assert_eq!(stage.targets[0].payloads(), ["a", "b"]);
    assert_eq!(stage.acknowledged(), [0; 0]);
    stage.targets[0].settle(0, Ok(ReasonCode::Success));
    stage.work();
    assert_eq!(stage.acknowledged(), [1, 2]);
    assert_eq!(stage.stats().dropped_for(DropReason::Filtered), 1);
}

#[test]
fn no_more_are_under_way_than_the_window_holds() {
    let mut stage = Stage::new(1, 2, plain());
    stage.receive(&["a", "b", "c", "d"]);
    stage.work();
    assert_eq!(stage.targets[0].payloads(), ["a", "b"]);
    let stats = stage.stats();
    assert_eq!((stats.under_way, stats.buffered), (2, 2));
    stage.targets[0].settle(0, Ok(ReasonCode::Success));
    stage.work();
    assert_eq!(stage.targets[0].payloads(), ["a", "b", "c"]);
}

#[test]
fn while_a_target_is_closed_messages_wait_where_the_policy_finds_them() {
    let mut stage = Stage::new(2, 100, plain());
    stage.targets[1].is_closed.store(true, Ordering::SeqCst);
    stage.receive(&["a"]);
    stage.work();
    assert_eq!(stage.targets[0].payloads(), [""; 0]);
    assert_eq!(stage.stats().buffered, 1);
    stage.targets[1].is_closed.store(false, Ordering::SeqCst);
    stage.work();
    assert_eq!(stage.targets[0].payloads(), ["a"]);
    assert_eq!(stage.targets[1].payloads(), ["a"]);
}

#[test]
fn one_that_is_stuck_is_tried_again_where_it_stopped() {
    let mut stage = Stage::new(3, 100, plain());
    stage.targets[1].room.store(1, Ordering::SeqCst);
    stage.receive(&["a", "b", "c"]);
    stage.work();
    let payloads =
        |stage: &Stage| stage.targets.iter().map(|target| target.payloads().len()).collect::<Vec<_>>();
    assert_eq!(payloads(&stage), [2, 1, 1]);
    stage.targets[1].room.store(9, Ordering::SeqCst);
    stage.work();
    assert_eq!(payloads(&stage), [3, 3, 3]);
    assert!(stage.targets.iter().all(|target| target.payloads() == ["a", "b", "c"]));
}

#[test]
fn the_life_of_a_message_goes_on_while_it_waits() {
    let mut stage = Stage::new(1, 10, plain());
    let put = |stage: &Stage, life_s, waited_ms| {
        let mut message = Message::new("t", "");
        message.message_expiry_s = Some(life_s);
        let ack = None;
        let received =
            Received { message, session: "s".into(), dup: false, subscription_ids: Vec::new(), ack };
        stage.intake.put(&mut vec![received]);
        let mut batch = VecDeque::new();
        stage.intake.exchange(&mut Tally::default(), 1, &mut batch);
        batch[0].received_ms = now_ms() - waited_ms;
        batch
    };
    stage.worker.batch = put(&stage, 10, 4_000);
    stage.work();
    let left = stage.targets[0].got.lock().unwrap()[0].0.message_expiry_s;
    assert!(left.is_some_and(|left| left <= 6), "{left:?}");
    stage.targets[0].settle(0, Ok(ReasonCode::Success));
    stage.worker.batch = put(&stage, 10, 11_000);
    stage.work();
    let stats = stage.stats();
    assert_eq!((stats.sent, stats.dropped_for(DropReason::Expired)), (1, 1));
}

#[test]
fn a_worker_that_is_told_to_stop_drains_first() {
    let mut stage = Stage::new(1, 2, plain());
    stage.receive(&["a", "b", "c"]);
    let (intake, target) = (Arc::clone(&stage.intake), Arc::clone(&stage.targets[0]));
    intake.set_stop(Some(Instant::now() + LONG));
    let thread = std::thread::spawn(move || {
        stage.worker.run();
        stage
    });
    // It is woken by what settles, and takes what waits then.
    for index in 0..3 {
        while target.got.lock().unwrap().len() <= index {
            std::thread::yield_now();
        }
        target.settle(index, Ok(ReasonCode::Success));
    }
    let mut stage = thread.join().unwrap();
    assert_eq!(stage.stats().sent, 3);
    assert_eq!(stage.stats().in_progress(), 0);
    assert_eq!(stage.acknowledged(), [1, 2, 3]);

    // Out of time, it leaves what is left, and goes on another day.
    stage.receive(&["d"]);
    intake.set_stop(Some(Instant::now()));
    stage.worker.run();
    assert_eq!(stage.stats().in_progress(), 1);
    target.got.lock().unwrap().iter().for_each(|(_, slot)| slot.settle(Ok(ReasonCode::Success)));
    intake.set_stop(Some(Instant::now() + LONG));
    stage.work();
    target.got.lock().unwrap().iter().for_each(|(_, slot)| slot.settle(Ok(ReasonCode::Success)));
    stage.worker.run();
    assert_eq!(stage.stats().sent, 4);
    assert_eq!(stage.acknowledged(), [4]);
}
