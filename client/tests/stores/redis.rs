//! The store in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_client::store::{
    Number, Redis, RedisOptions, SessionStore, Store, StoreChange, StoreError, Wanted,
};
use ringmq_client::{QoS, SubscriptionOptions};

use crate::common::{check, entries, id, message, text};
use crate::kill::kill_again_and_again;
use crate::redis_server::RedisServer;

fn open(server: &RedisServer, options: RedisOptions) -> Redis {
    Redis::new(&server.address(), options).unwrap()
}

/// Gives up soon.
fn hasty() -> RedisOptions {
    RedisOptions {
        timeout: Duration::from_millis(500),
        retry_for: Duration::from_millis(300),
        ..RedisOptions::default()
    }
}

#[test]
fn a_store_in_redis_does_what_stores_do() {
    let server = RedisServer::start(&[]);
    check(&|| Arc::new(open(&server, RedisOptions::default())));
    let ttl = Some(Duration::from_secs(3600));
    check(&|| {
        Arc::new(open(&server, RedisOptions { prefix: "other".to_owned(), ttl, ..RedisOptions::default() }))
    });
}

#[test]
fn keys_are_laid_out_as_documented() {
    let server = RedisServer::start(&[]);
    let store =
        open(&server, RedisOptions { ttl: Some(Duration::from_secs(100)), ..RedisOptions::default() });
    let session = store.open("s").unwrap();
    session.put(&entries(7, &["payload", "gone"])).unwrap();
    let filter = Wanted {
        filter: Arc::from("a/+"),
        options: SubscriptionOptions::new(QoS::ExactlyOnce),
        subscription_id: 9,
    };
    let changes =
        [StoreChange::Released(Number(8)), StoreChange::Taken(id(5)), StoreChange::Subscribed(filter)];
    session.apply(&changes).unwrap();
    let mut connection = server.connection();
    let mut get = |command: &[&str]| -> Vec<u8> {
        let (name, arguments) = command.split_first().unwrap();
        redis::cmd(name).arg(arguments).query(&mut connection).unwrap()
    };
    assert_eq!(get(&["HGET", "ringmq:session:{s}:meta", "format"]), b"1");
    assert_eq!(get(&["HGET", "ringmq:session:{s}:meta", "next"]), b"9");
    assert_eq!(get(&["HGET", "ringmq:session:{s}:subs", "a/+"]), b"2 9");
    assert_eq!(get(&["HGET", "ringmq:session:{s}:pub", "8"]), [2]);
    // PUBLISH at QoS 1, topic t/x, packet id 8, no properties.
    let value = [&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0x32, 15, 0, 3][..], b"t/x", &[0, 8, 0], b"payload"].concat();
    assert_eq!(get(&["HGET", "ringmq:session:{s}:pub", "7"]), value);
    let mut connection = server.connection();
    let taken: Vec<String> =
        redis::cmd("SMEMBERS").arg("ringmq:session:{s}:taken").query(&mut connection).unwrap();
    assert_eq!(taken, ["5"]);
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    keys.sort();
    assert_eq!(keys, ["meta", "pub", "subs", "taken"].map(|key| format!("ringmq:session:{{s}}:{key}")));
    for key in keys {
        let ttl_ms: i64 = redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
        assert!((1..=100_000).contains(&ttl_ms), "{ttl_ms}");
    }
}

#[test]
fn what_was_kept_survives_kill_9_of_the_client() {
    let server = RedisServer::start(&[]);
    kill_again_and_again(&format!("redis {}", server.address()), 4, 300);
}

#[test]
fn an_outage_is_an_error_and_passes() {
    let mut server = RedisServer::start(&[]);
    let store = open(&server, hasty());
    let session = store.open("s").unwrap();
    session.put(&entries(0, &["before"])).unwrap();
    server.stop();
    let began = Instant::now();
    let error = session.put(&entries(1, &["during"])).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_temporary(), "{error}");
    let said = format!("the store in Redis at 127.0.0.1:{} cannot be reached: ", server.port());
    assert!(error.to_string().starts_with(&said), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "a call ends within its bounds");
    assert!(session.apply(&[StoreChange::Completed(Number(0))]).is_err());
    assert!(store.open("another").is_err(), "nothing is opened without");
    server.start_again();
    let began = Instant::now();
    // The first ones may still be told of the outage.
    while session.put(&entries(1, &["after"])).is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is never reached again");
        std::thread::yield_now();
    }
    assert_eq!(text(&session.restore().unwrap()), "0=before 1=after next 2");
    store.open("another").unwrap();
}

#[test]
fn a_short_outage_is_not_noticed() {
    let mut server = RedisServer::start(&[]);
    let store = open(&server, RedisOptions { retry_for: Duration::from_secs(60), ..RedisOptions::default() });
    let session = store.open("s").unwrap();
    for number in 0..3 {
        session.put(&entries(number, &["x"])).unwrap();
        server.stop();
        // It is tried again until the server is back.
        std::thread::scope(|scope| {
            let done = scope.spawn(|| session.apply(&[StoreChange::Completed(Number(number))]));
            server.start_again();
            done.join().unwrap().unwrap();
        });
    }
    assert_eq!(text(&session.restore().unwrap()), "next 3");
}

#[test]
fn a_redis_without_memory_is_full() {
    let server = RedisServer::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let store = open(&server, RedisOptions::default());
    let session = store.open("s").unwrap();
    let payload = "x".repeat(50_000);
    let mut kept = 0;
    let error = loop {
        match session.put(&[(Number(kept), message(&payload))]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }) && error.is_temporary(), "{error}");
    assert!(kept > 0);
    let numbers = |session: &dyn SessionStore| -> Vec<u64> {
        session.restore().unwrap().publications.iter().map(|(number, _, _)| number.0).collect()
    };
    // What makes room is accepted.
    let mut connection = server.connection();
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "64mb"][..]).exec(&mut connection).unwrap();
    assert_eq!(numbers(&*session), (0..kept).collect::<Vec<_>>());
    session.put(&[(Number(kept), message(&payload))]).unwrap();
}

#[test]
fn a_session_that_is_not_open_expires() {
    let server = RedisServer::start(&[]);
    let ttl = Duration::from_secs(2);
    let store = open(&server, RedisOptions { ttl: Some(ttl), ..RedisOptions::default() });
    assert_eq!(store.refresh_every(), Some(ttl / 3));
    assert_eq!(open(&server, RedisOptions::default()).refresh_every(), None);
    let (open_one, closed) = (store.open("open").unwrap(), store.open("closed").unwrap());
    for session in [&open_one, &closed] {
        session.put(&entries(0, &["a"])).unwrap();
    }
    drop(closed);
    let mut connection = server.connection();
    let mut exists = |name: &str| -> bool {
        redis::cmd("EXISTS").arg(format!("ringmq:session:{{{name}}}:pub")).query(&mut connection).unwrap()
    };
    let began = Instant::now();
    while exists("closed") {
        assert!(began.elapsed() < Duration::from_secs(30), "it never expires");
        assert!(exists("open"));
        store.refresh().unwrap();
        std::thread::yield_now();
    }
    assert_eq!(text(&open_one.restore().unwrap()), "0=a next 1");
    let restored = store.open("closed").unwrap().restore().unwrap();
    assert_eq!((text(&restored).as_str(), restored.resumes), ("next 0", false));
}

#[test]
fn what_is_none_of_ours_is_not_taken_for_a_session() {
    let server = RedisServer::start(&[]);
    let store = open(&server, hasty());
    let mut connection = server.connection();
    let mut set = |command: &[&str]| {
        let (name, arguments) = command.split_first().unwrap();
        redis::cmd(name).arg(arguments).exec(&mut connection).unwrap();
    };
    set(&["HSET", "ringmq:session:{newer}:meta", "format", "2"]);
    set(&["HSET", "ringmq:session:{number}:pub", "x", "y"]);
    set(&["HSET", "ringmq:session:{value}:pub", "1", "\u{1}12345678garbage"]);
    set(&["SADD", "ringmq:session:{taken}:taken", "0"]);
    set(&["HSET", "ringmq:session:{subs}:subs", "a", "99 1"]);
    set(&["HSET", "ringmq:session:{next}:meta", "next", "-1"]);
    set(&["SET", "ringmq:session:{type}:taken", "1"]);
    for name in ["newer", "number", "value", "taken", "subs", "next"] {
        let error = store.open(name).and_then(|session| session.restore()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }) && !error.is_temporary(), "{name}: {error}");
    }
    let error = store.open("type").unwrap().restore().unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
}

#[test]
fn passwords_are_used_and_not_told() {
    let server = RedisServer::start(&["--requirepass", "correct"]);
    let address = |password: &str| format!("redis://:{password}@127.0.0.1:{}/", server.port());
    let store = Redis::new(&address("correct"), hasty()).unwrap();
    store.open("s").unwrap().put(&entries(0, &["a"])).unwrap();
    let store = Redis::new(&address("sesame"), hasty()).unwrap();
    let error = store.open("s").unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    let said = format!("{error} {error:?} {store:?}");
    assert!(!said.contains("sesame"), "{said}");
    for (address, options) in [
        ("http://:sesame@host", RedisOptions::default()),
        ("redis://:sesame@host:port", RedisOptions::default()),
        ("redis://h", RedisOptions { connections_max: 0, ..RedisOptions::default() }),
        ("redis://h", RedisOptions { ttl: Some(Duration::ZERO), ..RedisOptions::default() }),
    ] {
        let error = Redis::new(address, options).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Failed { .. }) && !said.contains("sesame"), "{said}");
    }
}

#[test]
fn many_threads_share_few_connections() {
    let server = RedisServer::start(&[]);
    let store = open(&server, RedisOptions { connections_max: 2, ..RedisOptions::default() });
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let session = store.open(&format!("s{thread}")).unwrap();
            scope.spawn(move || {
                for number in 0..20 {
                    session.put(&entries(number, &["x"])).unwrap();
                }
                assert_eq!(session.restore().unwrap().publications.len(), 20);
            });
        }
    });
    let mut connection = server.connection();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut connection).unwrap();
    assert!(clients.lines().count() <= 3, "{clients}");
}
