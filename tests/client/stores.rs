//! A program with a store is killed again and again, and so is the broker: what `publish()` returned for arrives, in
//! order, and at QoS 2 once; what a program received and did not acknowledge comes again.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmq_client::store::{Durability, File, FileOptions, Redis, RedisOptions, Store, StoreError};
use ringmq_client::{
    Backoff, Error, EventKind, Listener, Manager, Message, Overflow, QoS, RouteOptions, SessionBuilder,
};

use crate::DEADLINE;
use crate::program::{Directory, Setup};
use crate::redis_server::RedisServer;

/// Tell the child which broker and store to use, and with which number to begin.
const BROKER: &str = "RINGMQ_TEST_BROKER";
const STORE: &str = "RINGMQ_TEST_STORE";
const FIRST: &str = "RINGMQ_TEST_FIRST";

const PUBLISHING: &str = "stores::publishing_child";
const RECEIVING: &str = "stores::receiving_child";

/// What a program that receives has under way at most.
const RECEIVE_MAXIMUM: u16 = 20;
/// Numbers of rounds are so far apart.
const ROUND: u64 = 1_000_000;

/// A store from `written PATH`, `synced PATH` or `redis ADDRESS`.
fn open(store: &str) -> Arc<dyn Store> {
    let (kind, place) = store.split_once(' ').unwrap();
    let on_disk = |durability| {
        let options = FileOptions { durability, segment_bytes: 1 << 20, bytes_max: 64 << 20 };
        Arc::new(File::open(place, options).unwrap())
    };
    match kind {
        "written" => on_disk(Durability::Written),
        "synced" => on_disk(Durability::Synced),
        "redis" => Arc::new(Redis::new(place, RedisOptions::default()).unwrap()),
        other => panic!("there is no store {other}"),
    }
}

/// A session that stays.
fn persistent(name: &str, broker: &str) -> SessionBuilder {
    let backoff = Backoff { first_ms: 20, max_ms: 100, jitter: false, ..Backoff::default() };
    SessionBuilder::quick(name, broker).resume().session_expiry(Duration::from_secs(3600)).backoff(backoff)
}

/// Odd numbers are published at QoS 2, even ones at QoS 1.
fn qos_of(number: u64) -> QoS {
    if number % 2 == 1 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
}

/// What the child process does: it publishes and tells the number of each that was taken.
#[test]
#[ignore = "the other tests run it in a process of its own"]
fn publishing_child() {
    let get = |name: &str| std::env::var(name).expect("the other test sets it");
    let manager = Manager::new().unwrap();
    let session = manager.add(persistent("publisher", &get(BROKER)).store(open(&get(STORE)))).unwrap();
    let mut out = std::io::stderr();
    for number in get(FIRST).parse::<u64>().unwrap().. {
        let message = Message::new("t/x", format!("{number}")).qos(qos_of(number));
        loop {
            match session.publish(message.clone()) {
                Ok(_) => break,
                // Without a broker, there is room again when it is back.
                Err(Error::Full { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        writeln!(out, "kept {number}").unwrap();
    }
}

/// What a program that only receives does: it tells the number of each message, and then acknowledges it.
#[test]
#[ignore = "the other tests run it in a process of its own"]
fn receiving_child() {
    let get = |name: &str| std::env::var(name).expect("the other test sets it");
    let manager = Manager::new().unwrap();
    // Before there is a connection that messages come over.
    let listener = manager.listen(RouteOptions::new("t/#").qos(QoS::ExactlyOnce)).unwrap();
    let session = persistent("receiver", &get(BROKER)).manual_acks().receive_maximum(RECEIVE_MAXIMUM);
    manager.add(session.store(open(&get(STORE)))).unwrap().wait(DEADLINE).unwrap();
    let mut out = std::io::stderr();
    writeln!(out, "ready").unwrap();
    for mut received in listener.iter() {
        let number = std::str::from_utf8(&received.payload).unwrap();
        writeln!(out, "kept {number}").unwrap();
        received.ack();
    }
}

/// A program that publishes or receives.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn spawn(part: &str, (broker, store): (&str, &str), first: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", part, "--ignored", "--nocapture"])
            .env(BROKER, broker)
            .env(STORE, store)
            .env(FIRST, first.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until so many more numbers were told.
    fn wait_for(&mut self, count: usize, kept: &mut Vec<u64>) {
        let wanted = kept.len() + count;
        while kept.len() < wanted {
            let line = self.lines.next().expect("it goes on until it is killed").unwrap();
            match line.strip_prefix("kept ") {
                Some(number) => kept.push(number.parse().unwrap()),
                None if line == "ready" => {}
                None => eprintln!("the child said: {line}"),
            }
        }
    }

    fn wait_until_ready(&mut self) {
        loop {
            match self.lines.next().expect("it goes on until it is killed").unwrap().as_str() {
                "ready" => return,
                line => eprintln!("the child said: {line}"),
            }
        }
    }

    /// Kills it while it goes on.
    fn kill(mut self, kept: &mut Vec<u64>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // The last line may be cut off.
        let rest = self.lines.map_while(Result::ok);
        kept.extend(rest.filter_map(|line| line.strip_prefix("kept ")?.parse::<u64>().ok()));
    }
}

/// All that arrived, in order.
fn collect(listener: Listener) -> Arc<Mutex<Vec<u64>>> {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for received in listener.iter() {
            let number = std::str::from_utf8(&received.payload).unwrap().parse().unwrap();
            into.lock().unwrap().push(number);
        }
    });
    arrived
}

fn check(arrived: &[u64], kept: &[u64]) {
    let all: HashSet<u64> = arrived.iter().copied().collect();
    let missing: Vec<u64> = kept.iter().copied().filter(|number| !all.contains(number)).collect();
    assert!(missing.is_empty(), "{} of {} are lost: {missing:?}", missing.len(), kept.len());
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut seen = HashSet::new();
        let of_qos: Vec<u64> = arrived.iter().copied().filter(|number| qos_of(*number) == qos).collect();
        let first: Vec<u64> = of_qos.iter().copied().filter(|number| seen.insert(*number)).collect();
        assert!(first.is_sorted(), "{qos:?} came out of order");
        if qos == QoS::ExactlyOnce {
            assert_eq!(of_qos.len(), first.len(), "some came twice at QoS 2");
        }
    }
}

/// Kills publishers, and the broker at every other time.
fn kill_again_and_again(store: &str, rounds: u64, lines: usize) {
    let directory = Directory::new(&format!("client-{}", store.split(' ').next().unwrap()));
    let setup = Setup::new(directory.path(), 1);
    let address = format!("mqtt://{}", setup.address);
    let mut broker = Some(setup.start());
    let manager = Manager::new().unwrap();
    manager.add(persistent("subscriber", &address)).unwrap();
    let route =
        RouteOptions::new("t/#").qos(QoS::ExactlyOnce).capacity(1_000_000).overflow(Overflow::Withhold);
    let listener = manager.listen(route).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    let arrived = collect(listener);
    let mut kept = Vec::new();
    for round in 0..rounds {
        let is_away = round % 4 == 1;
        if is_away {
            broker.take().unwrap().kill();
        }
        let mut publisher = Program::spawn(PUBLISHING, (&address, store), round * ROUND);
        publisher.wait_for(lines / 2, &mut kept);
        if round % 4 == 3 {
            broker.take().unwrap().kill();
            broker = Some(setup.start());
        }
        publisher.wait_for(lines / 2, &mut kept);
        publisher.kill(&mut kept);
        if is_away {
            broker = Some(setup.start());
        }
    }
    // The last one lives until all has arrived.
    let mut publisher = Program::spawn(PUBLISHING, (&address, store), rounds * ROUND);
    publisher.wait_for(2, &mut kept);
    let last_of_rounds = kept.len();
    let began = Instant::now();
    loop {
        let all: HashSet<u64> = arrived.lock().unwrap().iter().copied().collect();
        if kept[..last_of_rounds].iter().all(|number| all.contains(number)) || began.elapsed() > DEADLINE {
            break;
        }
        // It would stand still once nobody reads what it tells.
        publisher.wait_for(100, &mut kept);
    }
    let mut of_last = Vec::new();
    publisher.kill(&mut of_last);
    kept.truncate(last_of_rounds);
    assert!(kept.len() >= rounds as usize * lines, "each round goes on until so many were taken");
    check(&arrived.lock().unwrap(), &kept);
    manager.shutdown(DEADLINE).unwrap();
    drop(broker);
}

#[test]
fn nothing_is_lost_with_a_store_on_disk() {
    for (kind, rounds, lines) in [("written", 8, 400), ("synced", 2, 40)] {
        let directory = Directory::new(&format!("client-store-{kind}"));
        kill_again_and_again(&format!("{kind} {}", directory.join("store").display()), rounds, lines);
    }
}

#[test]
fn nothing_is_lost_with_a_store_in_redis() {
    let server = RedisServer::start(&[]);
    kill_again_and_again(&format!("redis {}", server.address()), 8, 400);
}

#[test]
fn what_a_killed_program_received_comes_again_unless_it_was_acknowledged() {
    const EACH: u64 = 300;
    const ROUNDS: u64 = 8;
    const COUNT: u64 = ROUNDS * EACH;
    let directory = Directory::new("client-receiver");
    let store = format!("written {}", directory.join("store").display());
    let setup = Setup::new(&directory.join("broker"), 1);
    let address = format!("mqtt://{}", setup.address);
    let broker = setup.start();
    let manager = Manager::new().unwrap();
    let session = manager.add(SessionBuilder::quick("publisher", &address)).unwrap();
    session.wait(DEADLINE).unwrap();
    let mut got = Vec::new();
    let mut receiver = Program::spawn(RECEIVING, (&address, &store), 0);
    receiver.wait_until_ready();
    let mut deliveries = Vec::new();
    for round in 0..ROUNDS {
        for number in round * EACH + 1..=(round + 1) * EACH {
            let message = Message::new("t/x", format!("{number}")).qos(QoS::ExactlyOnce);
            deliveries.push(session.publish(message).unwrap());
        }
        receiver.wait_for(EACH as usize / 4, &mut got);
        receiver.kill(&mut got);
        receiver = Program::spawn(RECEIVING, (&address, &store), 0);
    }
    for delivery in deliveries {
        delivery.wait(DEADLINE).unwrap();
    }
    while !got.contains(&COUNT) {
        receiver.wait_for(1, &mut got);
    }
    receiver.kill(&mut got);
    let mut seen = HashSet::new();
    let first: Vec<u64> = got.iter().copied().filter(|number| seen.insert(*number)).collect();
    assert_eq!(first, (1..=COUNT).collect::<Vec<_>>(), "all came, in order");
    let again = got.len() as u64 - COUNT;
    assert!(
        again <= ROUNDS * u64::from(RECEIVE_MAXIMUM),
        "{again} came again, which is more than was under way"
    );
    manager.shutdown(DEADLINE).unwrap();
    broker.kill();
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
        match events.recv(DEADLINE).unwrap().kind {
            EventKind::StoreFailed { why } => {
                assert!(why.contains("the store in Redis at 127.0.0.1:"), "{why}");
                break;
            }
            _ => {}
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
    session.publish(Message::new("t/y", "2").qos(QoS::AtLeastOnce)).unwrap();
    while &*listener.recv(DEADLINE).unwrap().topic != "t/y" {}
    manager.shutdown(DEADLINE).unwrap();
    broker.kill();
}

#[test]
fn a_session_that_is_added_again_goes_on_and_one_that_is_erased_begins_anew() {
    let directory = Directory::new("client-again");
    let address = crate::program::free_address();
    let store = open(&format!("written {}", directory.join("store").display()));
    let manager = Manager::new().unwrap();
    let add = || {
        let session = persistent("s", &format!("mqtt://{address}")).store(Arc::clone(&store));
        manager.add(session).unwrap()
    };
    // There is no broker yet.
    for (payload, erased) in [("kept", false), ("erased", true), ("kept too", false)] {
        let delivery = add().publish(Message::new("t/x", payload).qos(QoS::AtLeastOnce)).unwrap();
        if erased {
            manager.erase("s").unwrap()
        } else {
            manager.remove("s").unwrap()
        }
        assert!(matches!(delivery.wait(DEADLINE), Err(Error::Gone)), "{payload}");
    }
    let broker = Setup { address, ..Setup::new(&directory.join("broker"), 1) }.start();
    manager.add(persistent("all", &format!("mqtt://{address}"))).unwrap();
    let listener = manager.listen_to("all", RouteOptions::new("#").qos(QoS::AtLeastOnce)).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    add().publish(Message::new("t/x", "last").qos(QoS::AtLeastOnce)).unwrap();
    let mut arrived = Vec::new();
    while arrived.last().is_none_or(|last| last != "last") {
        arrived.push(listener.recv(DEADLINE).unwrap().payload.clone());
    }
    assert_eq!(arrived, ["kept too", "last"]);
    manager.shutdown(DEADLINE).unwrap();
    broker.kill();
}
