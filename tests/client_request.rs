//! Request and response of the client, through a broker.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::sync::mpsc;
use std::time::Duration;

use ringmq::Broker;
use ringmq_client::{
    Error, Manager, Message, MessageProperties, QoS, ReasonCode, RequestStats, Session, SessionBuilder,
    Version,
};

const SECONDS: Duration = Duration::from_secs(30);

struct Stage {
    broker: Broker,
    manager: Manager,
}

impl Stage {
    fn new() -> Self {
        let broker = Broker::builder().listen("127.0.0.1:0".parse().unwrap()).shards(1).start().unwrap();
        Self { broker, manager: Manager::new().unwrap() }
    }

    fn builder(&self, name: &str) -> SessionBuilder {
        SessionBuilder::quick(name, format!("mqtt://{}", self.broker.addresses()[0]))
    }

    fn session(&self, name: &str) -> Session {
        self.manager.add(self.builder(name)).unwrap()
    }
}

#[test]
fn a_thousand_requests_from_many_threads() {
    let stage = Stage::new();
    let (server, client) = (stage.session("server"), stage.session("client"));
    let responder = server.respond("add/+", |request| {
        let level = request.topic.rsplit('/').next().unwrap().parse::<u64>().unwrap();
        (level + String::from_utf8_lossy(&request.payload).parse::<u64>().unwrap()).to_string()
    });
    let responder = responder.unwrap();
    responder.wait_subscribed(SECONDS).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..125 {
                    let answer =
                        client.request(format!("add/{thread}"), number.to_string(), SECONDS).unwrap();
                    assert_eq!(answer.payload, (thread + number).to_string());
                    assert_eq!(answer.qos, QoS::AtLeastOnce);
                }
            });
        }
    });
    assert_eq!((responder.answered(), responder.failed(), responder.unanswerable()), (1_000, 0, 0));
    assert_eq!(client.requests(), RequestStats { pending: 0, late: 0 });
}

#[test]
fn an_answer_that_comes_too_late_is_dropped_and_counted() {
    let stage = Stage::new();
    let (server, client) = (stage.session("server"), stage.session("client"));
    let (go, wait) = mpsc::channel::<()>();
    let responder = server.respond("slow", move |_| {
        wait.recv().unwrap();
        "late"
    });
    responder.as_ref().unwrap().wait_subscribed(SECONDS).unwrap();
    let error = client.request("slow", "", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)) && error.is_timeout(), "{error}");
    assert_eq!(client.requests().pending, 0);
    go.send(()).unwrap();
    // The next one's answer comes after it.
    go.send(()).unwrap();
    assert_eq!(client.request("slow", "", SECONDS).unwrap().payload, "late");
    assert_eq!(client.requests(), RequestStats { pending: 0, late: 1 });
}

#[test]
fn requests_that_nobody_answers_fail_at_once() {
    let stage = Stage::new();
    let client = stage.session("client");
    let error = client.request("nobody", "", SECONDS).unwrap_err();
    assert!(matches!(error, Error::Refused(ReasonCode::NoMatchingSubscribers)), "{error}");
    let error = client.request("a/+", "", SECONDS).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(client.requests().pending, 0);
    client
        .request_message(Message::new("nobody", "").qos(QoS::AtMostOnce), Duration::from_millis(50))
        .unwrap_err();
}

#[test]
fn whole_messages_and_none() {
    let stage = Stage::new();
    let (server, client) = (stage.session("server"), stage.session("client"));
    let responder = server.respond_with("t", |request| {
        if request.payload.is_empty() {
            return None;
        }
        let content_type = Some("text/plain".to_owned());
        let properties = MessageProperties { content_type, ..MessageProperties::default() };
        Some(Message::new("ignored", "answer").properties(properties))
    });
    let responder = responder.unwrap();
    responder.wait_subscribed(SECONDS).unwrap();
    let user = vec![("a".to_owned(), "b".to_owned())];
    let properties = MessageProperties { user, ..MessageProperties::default() };
    let message = Message::new("t", "x").properties(properties);
    let answer = client.request_message(message, SECONDS).unwrap();
    assert_eq!(answer.payload, "answer");
    assert_eq!(answer.properties.unwrap().content_type.as_deref(), Some("text/plain"));
    let error = client.request("t", "", Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    // A message that asks for no answer is left alone.
    client.publish(Message::new("t", "x").qos(QoS::AtLeastOnce)).unwrap().wait(SECONDS).unwrap();
    assert_eq!(client.request("t", "x", SECONDS).unwrap().payload, "answer");
    assert_eq!((responder.answered(), responder.unanswerable()), (2, 1));
    drop(responder);
}

#[test]
fn mqtt_3_cannot() {
    let stage = Stage::new();
    let client = stage.manager.add(stage.builder("old").version(Version::V311)).unwrap();
    let error = client.request("t", "", SECONDS).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("speak MQTT 5"), "{error}");
    let error = client.respond("t", |_| "").unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[test]
fn a_removed_session_answers_who_waits() {
    let stage = Stage::new();
    let (server, client) = (stage.session("server"), stage.session("client"));
    let listener = server.listen("t").unwrap();
    listener.wait_subscribed(SECONDS).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.request("t", "", SECONDS));
        listener.recv(SECONDS).unwrap();
        stage.manager.remove("client").unwrap();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Gone), "{error}");
    });
}
