//! Which subscriptions routes make and end, and what reaches them.

use ringmq_codec::{QoS, ReasonCode};

use super::*;
use crate::builder::SessionBuilder;
use crate::events::Events;
use crate::inbox::RecvError;
use crate::link::Overflow;
use crate::manager::Manager;
use crate::message::Message;
use crate::status::Happening;
use crate::testing::{DEADLINE, Stub, deliver, get_ready, happened, received, withheld};

struct Stage {
    stub: Arc<Stub>,
    manager: Manager,
    /// Not yet given.
    answers: Vec<(String, Answer)>,
}

impl Stage {
    fn new() -> Self {
        let stub = Stub::new();
        Self { manager: stub.manager(), stub, answers: Vec::new() }
    }

    fn add(&mut self, name: &str) -> Arc<SessionShared> {
        self.manager.add(SessionBuilder::quick(name, "mqtt://h")).unwrap();
        let mut core = None;
        for request in self.stub.requests() {
            match request {
                Request::Add(session, _) => core = Some(session),
                Request::Subscribe(_, wanted, answer) => {
                    self.answers.push((wanted.filter.to_string(), answer))
                }
                _ => {}
            }
        }
        let core = core.unwrap();
        get_ready(&core);
        core
    }

    /// What was asked of brokers since the last call.
    fn asked(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        for request in self.stub.requests() {
            match request {
                Request::Subscribe(session, wanted, answer) => {
                    asked.push(format!("{} + {} {:?}", session.0, wanted.filter, wanted.options.qos as u8));
                    self.answers.push((wanted.filter.to_string(), answer));
                }
                Request::Unsubscribe(session, filter, answer) => {
                    asked.push(format!("{} - {filter}", session.0));
                    answer.settle(Ok(ReasonCode::Success));
                }
                Request::Add(..) => {}
                other => asked.push(format!("{other:?}")),
            }
        }
        asked.sort();
        asked
    }

    fn answer(&mut self, reason: ReasonCode) {
        self.answers.drain(..).for_each(|(_, answer)| answer.settle(Ok(reason)));
    }
}

const NONE: [&str; 0] = [];

#[test]
fn routes_with_one_filter_share_a_subscription() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let one = stage.manager.listen("t/#").unwrap();
    assert_eq!(stage.asked(), ["0 + t/# 1"]);
    let two = stage.manager.listen_to("a", RouteOptions::new("t/#").qos(QoS::AtMostOnce)).unwrap();
    assert_eq!(stage.asked(), NONE, "it asks for less");
    let three = stage.manager.listen(RouteOptions::new("t/#").qos(QoS::ExactlyOnce)).unwrap();
    assert_eq!(stage.asked(), ["0 + t/# 2"], "it asks for more");
    assert_eq!(deliver(&core, &[Message::new("t/1", "x")]), 3);
    for listener in [&one, &two, &three] {
        assert_eq!(listener.recv(DEADLINE).unwrap().topic, "t/1");
    }
    drop(three);
    assert_eq!(stage.asked(), ["0 + t/# 1"]);
    one.stop();
    assert_eq!(stage.asked(), ["0 + t/# 0"]);
    assert_eq!(deliver(&core, &[Message::new("t/2", "x")]), 1);
    assert_eq!(two.recv(DEADLINE).unwrap().topic, "t/2");
    two.stop();
    assert_eq!(stage.asked(), ["0 - t/#"]);
    assert_eq!(deliver(&core, &[Message::new("t/3", "x")]), 0);
}

#[test]
fn routes_over_all_sessions_count_for_later_ones() {
    let mut stage = Stage::new();
    let all = stage.manager.listen("x").unwrap();
    let a = stage.add("a");
    assert_eq!(stage.answers.len(), 1, "the subscription comes with the session");
    let b = stage.add("b");
    let own = stage.manager.listen_to("b", "$share/g/y").unwrap();
    assert_eq!(stage.asked(), ["1 + $share/g/y 1"]);
    let messages = [Message::new("x", ""), Message::new("y", "")];
    assert_eq!(deliver(&a, &messages), 1);
    assert_eq!(deliver(&b, &messages), 2);
    let from: Vec<_> = (0..2).map(|_| all.recv(DEADLINE).unwrap().session).collect();
    assert_eq!(from, [Arc::<str>::from("a"), Arc::from("b")]);
    assert_eq!(own.recv(DEADLINE).unwrap().topic, "y");
    drop(all);
    assert_eq!(stage.asked(), ["0 - x", "1 - x"]);
}

#[test]
fn a_change_of_routes_voids_what_was_cached() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let before = core.router.version();
    let route = stage.manager.handle("t", |_| ()).unwrap();
    let with = core.router.version();
    assert_ne!(before, with);
    drop(route);
    assert_ne!(core.router.version(), with);
}

fn refusal(events: &Events) -> (String, Error) {
    loop {
        if let EventKind::SubscribeFailed { filter, why } = events.recv(DEADLINE).unwrap().kind {
            return (filter.to_string(), why);
        }
    }
}

#[test]
fn a_refusal_reaches_the_route_and_an_event() {
    let mut stage = Stage::new();
    stage.add("a");
    let events = stage.manager.events();
    let listener = stage.manager.listen("t").unwrap();
    let error = listener.wait_subscribed(Duration::ZERO).unwrap_err();
    assert!(error.is_timeout(), "not answered yet: {error}");
    assert_eq!(stage.asked(), ["0 + t 1"]);
    stage.answer(ReasonCode::NotAuthorized);
    let is_refusal = |error: &Error| matches!(error, Error::Refused(ReasonCode::NotAuthorized));
    assert!(is_refusal(&listener.wait_subscribed(DEADLINE).unwrap_err()));
    let (filter, why) = refusal(&events);
    assert!(filter == "t" && is_refusal(&why));
    // Another route tries again.
    let again = stage.manager.listen("t").unwrap();
    assert_eq!(stage.asked(), ["0 + t 1"]);
    stage.answer(ReasonCode::GrantedQoS1);
    again.wait_subscribed(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
}

#[test]
fn a_wait_for_a_subscription_ends_with_its_answer() {
    let mut stage = Stage::new();
    stage.add("a");
    stage.add("b");
    let route = stage.manager.handle("t", |_| ()).unwrap();
    assert_eq!(stage.asked().len(), 2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| route.wait_subscribed(DEADLINE));
        stage.answer(ReasonCode::Success);
        waiter.join().unwrap().unwrap();
    });
    let stopper = std::thread::spawn(move || route.stop_and_wait(DEADLINE));
    let until = std::time::Instant::now() + DEADLINE;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        assert!(std::time::Instant::now() < until);
        ended.extend(stage.asked());
    }
    ended.sort();
    assert_eq!(ended, ["0 - t", "1 - t"]);
    stopper.join().unwrap().unwrap();
}

#[test]
fn bad_filters_and_options_are_refused() {
    let stage = Stage::new();
    let table = [
        (RouteOptions::new(""), "empty"),
        (RouteOptions::new("a/#/b"), "#"),
        (RouteOptions::new("a+"), "+"),
        (RouteOptions::new("$share/g"), "lacks"),
        (RouteOptions::new("$share/g/t").no_local(), "no_local"),
        (RouteOptions::new("t").capacity(0), "at least 1"),
        (RouteOptions::new("t").subscription_id(u32::MAX), "268,435,455"),
    ];
    for (options, expect) in table {
        let error = stage.manager.listen(options).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }));
        assert!(error.to_string().contains(expect), "{error} lacks {expect}");
    }
}

#[test]
fn a_removed_session_ends_its_routes_and_no_others() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let all = stage.manager.listen("t").unwrap();
    let own = stage.manager.listen_to("a", "t").unwrap();
    deliver(&core, &[Message::new("t", "")]);
    let events = stage.manager.events();
    stage.manager.remove("a").unwrap();
    let error = stage.manager.get("a").map_or(Error::Gone, |_| Error::Expired);
    assert!(matches!(error, Error::Gone));
    happened(&core, Happening::Removed);
    while !matches!(events.recv(DEADLINE).unwrap().kind, EventKind::Removed) {}
    assert_eq!(own.recv(DEADLINE).unwrap().topic, "t", "what came before is still there");
    assert_eq!(own.recv(DEADLINE).unwrap_err(), RecvError::Stopped);
    assert!(matches!(own.wait_subscribed(DEADLINE), Err(Error::Gone)));
    assert_eq!(all.recv(DEADLINE).unwrap().topic, "t");
    assert_eq!(all.try_recv().unwrap_err(), RecvError::Empty);
    stage.asked();
    stage.answers.clear();
    stage.add("a");
    assert_eq!(stage.answers.iter().filter(|(filter, _)| filter == "t").count(), 1);
}

#[test]
fn what_is_withheld_is_acknowledged_when_it_is_taken_or_dropped() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let options = RouteOptions::new("t").capacity(1);
    let listener = stage.manager.listen(options).unwrap();
    stage.asked();
    let message = || Message::new("t", "").qos(QoS::AtLeastOnce);
    let target = core.router.targets("t").pop().unwrap();
    assert_eq!((target.overflow(), target.room()), (Overflow::Withhold, 1));
    let mut messages = vec![received(&core, message())];
    messages.extend((2..5).map(|id| withheld(&core, message(), id, true)));
    messages.push(received(&core, Message::new("t", "")));
    target.put(&mut messages);
    assert_eq!(listener.dropped(), 1, "QoS 0 has no room");
    let acknowledged = |stage: &mut Stage| -> Vec<u16> {
        let id = |request| match request {
            Request::Acknowledge(_, acknowledgement) => Some(acknowledgement.packet_id.get()),
            _ => None,
        };
        stage.stub.requests().into_iter().filter_map(id).collect()
    };
    drop(listener.recv(DEADLINE).unwrap());
    assert_eq!(acknowledged(&mut stage), [0; 0]);
    drop(listener.recv(DEADLINE).unwrap());
    assert_eq!(acknowledged(&mut stage), [2]);
    let mut batch = Vec::new();
    assert_eq!(listener.recv_many(&mut batch, 1, DEADLINE), Ok(1));
    assert_eq!(acknowledged(&mut stage), [3]);
    drop(listener);
    assert_eq!(acknowledged(&mut stage), [4], "the route is gone, the broker must not wait for it");
    // The program's own are its own to acknowledge.
    let listener = stage.manager.listen("t").unwrap();
    stage.asked();
    let target = core.router.targets("t").pop().unwrap();
    target.put(&mut vec![withheld(&core, message(), 9, false)]);
    let mut message = listener.recv(DEADLINE).unwrap();
    assert_eq!(acknowledged(&mut stage), [0; 0]);
    message.ack();
    message.ack();
    assert_eq!(acknowledged(&mut stage), [9]);
}

#[test]
fn a_panic_of_a_handler_is_counted_and_told() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let events = stage.manager.events();
    let (seen, receiver) = std::sync::mpsc::channel();
    let route = stage
        .manager
        .handle_to("a", "t/#", move |message| {
            assert_ne!(message.topic, "t/bad");
            seen.send(message.topic.to_string()).unwrap();
        })
        .unwrap();
    deliver(&core, &["t/1", "t/bad", "t/2"].map(|topic| Message::new(topic, "")));
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), "t/1");
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), "t/2");
    assert_eq!(route.panics(), 1);
    let event = events.recv(DEADLINE).unwrap();
    assert_eq!(&*event.session, "a");
    assert!(matches!(event.kind, EventKind::HandlerPanicked { filter, .. } if &*filter == "t/#"));
}

#[test]
fn a_detached_route_lives_on() {
    let mut stage = Stage::new();
    let core = stage.add("a");
    let (seen, receiver) = std::sync::mpsc::channel();
    stage.manager.handle("t", move |_| seen.send(()).unwrap()).unwrap().detach();
    deliver(&core, &[Message::new("t", "")]);
    receiver.recv_timeout(DEADLINE).unwrap();
    stage.manager.shutdown(DEADLINE).unwrap();
    assert!(receiver.recv_timeout(DEADLINE).is_err(), "the handler is dropped with the manager");
}

#[test]
fn routes_come_and_go_without_a_trace() {
    let mut stage = Stage::new();
    stage.add("a");
    for _ in 0..10_000 {
        let route = stage.manager.handle("a/+/b/#", |_| ()).unwrap();
        let listener = stage.manager.listen_to("a", "a/+/b/#").unwrap();
        drop((route, listener));
        stage.asked();
        stage.answer(ReasonCode::Success);
    }
    let routes = stage.manager.routes();
    routes.table.look(|table| {
        assert!(table.routes.is_empty() && table.filters.is_empty());
        assert_eq!(table.sessions.len(), 1);
    });
}
