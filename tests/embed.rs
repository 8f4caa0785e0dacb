//! The broker inside a program: what `examples/embed.rs` and `docs/embedding.md` promise.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "crash/client.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod client;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use client::{Event, Link, Who};
use ringmq::{
    Broker, Durability, Error, Message, Overflow, PublishError, QoS, ReasonCode, RecvError, SubscribeError,
    SubscribeOptions, WaitError,
};

use ringmq_codec::Version;

/// A deadline, not a pace: everything comes far sooner.
const DEADLINE: Duration = Duration::from_secs(30);

fn broker(shards: usize) -> Broker {
    Broker::builder().no_listeners().shards(shards).start().unwrap()
}

#[test]
fn messages_of_a_publisher_arrive_in_order_on_every_shard() {
    let broker = broker(2);
    let subscriptions: Vec<_> = (0..4).map(|_| broker.subscribe("n/#", QoS::ExactlyOnce).unwrap()).collect();
    let publishers: Vec<_> = (0..2).map(|_| broker.publisher()).collect();
    for n in 0..5000_u32 {
        for (name, publisher) in publishers.iter().enumerate() {
            let message = Message::new(format!("n/{name}"), n.to_be_bytes().to_vec()).qos(QoS::AtLeastOnce);
            drop(publisher.publish(message).unwrap());
        }
    }
    for subscription in &subscriptions {
        let mut next = [0_u32; 2];
        for _ in 0..10_000 {
            let message = subscription.recv_timeout(DEADLINE).unwrap();
            let publisher: usize = message.topic[2..].parse().unwrap();
            assert_eq!(message.payload[..], next[publisher].to_be_bytes());
            assert_eq!(message.qos, QoS::AtLeastOnce);
            next[publisher] += 1;
        }
        assert_eq!(subscription.dropped(), 0);
    }
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_ticket_tells_whether_anybody_was_there() {
    let broker = broker(1);
    let publish = |topic: &str| broker.publish(Message::new(topic, "x").qos(QoS::AtLeastOnce)).unwrap();
    assert_eq!(publish("nobody").wait(DEADLINE), Ok(ReasonCode::NoMatchingSubscribers));
    let subscription = broker.subscribe("somebody", QoS::AtMostOnce).unwrap();
    assert_eq!(publish("somebody").wait(DEADLINE), Ok(ReasonCode::Success));
    assert_eq!(subscription.recv_timeout(DEADLINE).unwrap().qos, QoS::AtMostOnce);
    drop(subscription);
    // The end of the subscription reaches its shard before anything that is published from here on there.
    assert_eq!(publish("somebody").wait(DEADLINE), Ok(ReasonCode::NoMatchingSubscribers));
}

#[test]
fn retained_messages_come_first() {
    let broker = broker(2);
    for n in 0..10 {
        let message = Message::new(format!("kept/{n}"), "x").retained();
        broker.publish(message).unwrap().wait(DEADLINE).unwrap();
    }
    let subscription = broker.subscribe("kept/+", QoS::AtMostOnce).unwrap();
    let mut topics: Vec<String> = (0..10)
        .map(|_| {
            let message = subscription.recv_timeout(DEADLINE).unwrap();
            assert!(message.retain);
            message.topic
        })
        .collect();
    topics.sort();
    assert_eq!(topics, (0..10).map(|n| format!("kept/{n}")).collect::<Vec<_>>());
}

#[test]
fn a_full_subscription_drops_by_its_policy_and_counts() {
    let broker = broker(1);
    let options = SubscribeOptions {
        queue_messages_max: 3,
        overflow: Overflow::DropOldest,
        ..SubscribeOptions::new("t")
    };
    let subscription = broker.begin_subscribe(options).unwrap().wait(DEADLINE).unwrap();
    for n in 0..10 {
        broker.publish(Message::new("t", vec![n])).unwrap().wait(DEADLINE).unwrap();
    }
    let mut kept = Vec::new();
    while kept.len() < 3 {
        kept.push(subscription.recv_timeout(DEADLINE).unwrap().payload[0]);
    }
    assert_eq!((kept, subscription.dropped()), (vec![7, 8, 9], 7));
    assert_eq!(subscription.try_recv(), Err(RecvError::Empty));
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let broker = broker(1);
    assert!(matches!(broker.publish(Message::new("a/#", "x")), Err(PublishError::Topic { .. })));
    assert!(matches!(broker.subscribe("a/#/b", QoS::AtMostOnce), Err(SubscribeError::Filter { .. })));
    let large = vec![0; 20 << 20];
    assert!(matches!(broker.publish(Message::new("a", large)), Err(PublishError::TooLarge { .. })));
    let open = Broker::builder().listen("0.0.0.0:0".parse().unwrap()).shards(1).start();
    assert!(matches!(open, Err(Error::Config(_))));
}

#[test]
fn after_the_stop_nobody_waits_for_ever() {
    let broker = broker(2);
    let subscription = broker.subscribe("t", QoS::AtMostOnce).unwrap();
    let publisher = broker.publisher();
    broker.publish(Message::new("t", "last")).unwrap().wait(DEADLINE).unwrap();
    let reader = std::thread::spawn(move || {
        let topics: Vec<String> = subscription.iter().map(|message| message.topic).collect();
        (topics, subscription.recv())
    });
    broker.shutdown(DEADLINE).unwrap();
    assert_eq!(reader.join().unwrap(), (vec!["t".to_owned()], Err(RecvError::Stopped)));
    assert!(matches!(publisher.publish(Message::new("t", "late")), Err(PublishError::Stopped)));
}

#[test]
fn a_dropped_broker_has_stopped() {
    let broker = Broker::builder().listen("127.0.0.1:0".parse().unwrap()).shards(1).start().unwrap();
    let address: SocketAddr = broker.addresses()[0];
    let subscription = broker.subscribe("t", QoS::AtMostOnce).unwrap();
    drop(broker);
    assert_eq!(subscription.recv(), Err(RecvError::Stopped));
    std::net::TcpStream::connect(address).unwrap_err();
}

/// The smallest executor there is: a thread that sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn everything_can_be_awaited_without_a_runtime() {
    let broker = broker(2);
    block_on(async {
        let subscription = broker.begin_subscribe(SubscribeOptions::new("t/+")).unwrap().await.unwrap();
        let ticket = broker.publish(Message::new("t/1", "x")).unwrap();
        assert_eq!(subscription.next_message().await.unwrap().topic, "t/1");
        assert_eq!(ticket.await, Ok(ReasonCode::Success));
        let late = broker.publisher();
        broker.shutdown(DEADLINE).unwrap();
        assert_eq!(subscription.next_message().await, None);
        let refused = late.publish(Message::new("t/2", "x")).map(drop);
        assert!(matches!(refused, Err(PublishError::Stopped)));
    });
}

#[test]
fn a_refused_subscription_says_why() {
    let mut config = ringmq::config::Config::default();
    config.limits.topic_levels_max = 2;
    let broker = Broker::builder().config(config).no_listeners().shards(1).start().unwrap();
    let refused = broker.subscribe("a/b/c", QoS::AtMostOnce);
    assert!(matches!(refused, Err(SubscribeError::Answer(WaitError::Refused(_)))), "{refused:?}");
}

/// A directory of this test run, gone when its value is.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ringmq-embed-{}-{name}", std::process::id())))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_kept_in_a_directory_is_there_for_the_next_broker() {
    for durability in [Durability::Memory, Durability::Written, Durability::Synced] {
        let dir = TempDir::new(durability.name());
        let builder = Broker::builder().listen("127.0.0.1:0".parse().unwrap()).shards(2);
        let builder = builder.data_dir(&dir.0).durability(durability);
        let kitchen = Who::persistent("kitchen", Version::V311);

        let broker = builder.clone().start().unwrap();
        let mut client = Link::connect(broker.addresses()[0], &kitchen).unwrap();
        client.subscribe("orders", QoS::AtLeastOnce, None).unwrap();
        client.disconnect();
        let order = Message::new("orders", "soup").qos(QoS::AtLeastOnce);
        assert_eq!(broker.publish(order).unwrap().wait(DEADLINE), Ok(ReasonCode::Success));
        broker.publish(Message::new("menu", "soup").retained()).unwrap().wait(DEADLINE).unwrap();
        let second = builder.clone().start().map(drop).unwrap_err();
        assert!(matches!(second, Error::Store(_)), "{second}");
        broker.shutdown(DEADLINE).unwrap();

        let broker = builder.start().unwrap();
        let menu = broker.subscribe("menu", QoS::AtMostOnce).unwrap().recv_timeout(DEADLINE).unwrap();
        assert_eq!((&menu.payload[..], menu.retain), (&b"soup"[..], true));
        let mut client = Link::connect(broker.addresses()[0], &kitchen).unwrap();
        assert!(client.present);
        let Event::Publish(order) = client.next().unwrap() else { panic!("no message") };
        assert_eq!((order.topic.as_str(), &order.payload[..]), ("orders", &b"soup"[..]));
    }
}

#[test]
fn nothing_can_be_promised_without_a_directory() {
    let refused = Broker::builder().no_listeners().durability(Durability::Written).start().map(drop);
    let expect = "configuration: durability \"written\" needs a directory to keep the log in: set data_dir too, or \
                  ask for \"memory\"";
    assert_eq!(refused.unwrap_err().to_string(), expect);
}
