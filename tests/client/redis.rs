//! A program's store in Redis: it and its server are killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_client::store::{Redis, RedisOptions, Store, StoreError};
use ringmq_client::{Error, EventKind, Manager, Message, QoS};

use crate::DEADLINE;
use crate::program::{Directory, Setup};
use crate::redis_server::RedisServer;
use crate::stores::{kill_again_and_again, persistent};

#[test]
fn nothing_is_lost_with_a_store_in_redis() {
    let server = RedisServer::start(&[]);
    kill_again_and_again(&format!("redis {}", server.address()), 8, 400);
}

#[test]
fn a_store_that_fails_is_told_of_and_goes_on_when_it_is_back() {
    let mut server = RedisServer::start(&[]);
    let directory = Directory::new("client-outage");
    let setup = Setup::new(directory.path(), 1);
    let broker = setup.start();
    let options = RedisOptions { retry_for: Duration::from_millis(200), ..RedisOptions::default() };
    let store: Arc<dyn Store> = Arc::new(Redis::new(&server.address(), options).unwrap());
    let manager = Manager::new().unwrap();
    let events = manager.events();
    let session = manager.add(persistent("s", &format!("mqtt://{}", setup.address)).store(store)).unwrap();
    session.wait(DEADLINE).unwrap();
    let message = Message::new("t/x", "1").qos(QoS::ExactlyOnce);
    session.publish(message.clone()).unwrap().wait(DEADLINE).unwrap();
    server.stop();
    let error = session.publish(message.clone()).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })) && error.is_temporary(), "{error}");
    // It is told of the subscription, too.
    let listener = manager.listen_to("s", "t/#").unwrap();
    loop {
        if let EventKind::StoreFailed { why } = events.recv(DEADLINE).unwrap().kind {
            assert!(why.contains("the store in Redis at 127.0.0.1:"), "{why}");
            break;
        }
    }
    server.start_again();
    let began = Instant::now();
    let delivery = loop {
        match session.publish(message.clone()) {
            Ok(delivery) => break delivery,
            Err(error) => assert!(matches!(error, Error::Store(_)) && began.elapsed() < DEADLINE, "{error}"),
        }
    };
    delivery.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    session.send(Message::new("t/y", "2").qos(QoS::AtLeastOnce)).unwrap();
    while &*listener.recv(DEADLINE).unwrap().topic != "t/y" {}
    manager.shutdown(DEADLINE).unwrap();
    broker.kill();
}
