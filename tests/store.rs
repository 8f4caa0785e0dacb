//! `ringmq store`, and a broker on a store that is damaged.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "crash/client.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod client;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use client::{DEADLINE, Link, Who};
use ringmq::{Broker, Message, QoS};
use ringmq_codec::Version;
use serde_json::Value;

/// A directory of this test run, gone when its value is.
struct TempDir(PathBuf);

impl TempDir {
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn broker(dir: &TempDir) -> Broker {
    let mut config = ringmq::config::Config::default();
    config.sys.interval_s = 0;
    config.storage.segment_bytes = 1 << 16;
    config.limits.packet_bytes_max = 1 << 12;
    Broker::builder()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .shards(1)
        .data_dir(&dir.0)
        .start()
        .unwrap()
}

/// A store in which a client waits for three orders, with a retained menu.
fn filled(name: &str) -> TempDir {
    let dir = TempDir(std::env::temp_dir().join(format!("ringmq-store-{}-{name}", std::process::id())));
    let broker = broker(&dir);
    let kitchen = Who::persistent("kitchen", Version::V5);
    let mut link = Link::connect(broker.addresses()[0], &kitchen).unwrap();
    link.subscribe("orders", QoS::AtLeastOnce, None).unwrap();
    link.disconnect();
    for payload in ["first", "second", "third"] {
        let order = Message::new("orders", payload).qos(QoS::AtLeastOnce);
        broker.publish(order).unwrap().wait(DEADLINE).unwrap();
    }
    broker.publish(Message::new("menu", "soup").retained()).unwrap().wait(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
    dir
}

fn store(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq")).arg("store").args(args).output().unwrap()
}

/// What it prints, with its exit code.
fn said(args: &[&str]) -> (Option<i32>, String) {
    let output = store(args);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn json(args: &[&str]) -> (Option<i32>, Value) {
    let (code, text) = said(args);
    (code, serde_json::from_str(&text).unwrap())
}

/// Changes a byte of a payload in the log.
fn damage(dir: &TempDir, payload: &str) {
    let path = dir.0.join("g1-0/00000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(payload.len()).position(|window| window == payload.as_bytes()).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_store_is_verified_counted_and_printed() {
    let dir = filled("sound");
    let (code, text) = said(&["verify", dir.path()]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("format 1, 1 shard, opened 1 time") && text.ends_with("No damage.\n"), "{text}");
    let (code, report) = json(&["verify", "--json", dir.path()]);
    assert_eq!(
        (code, &report["healthy"], &report["in_use"]),
        (Some(0), &Value::from(true), &Value::from(false))
    );

    let (code, report) = json(&["stats", "--json", dir.path()]);
    assert_eq!(code, Some(0));
    let expect =
        [("sessions", 1), ("sessions_away", 1), ("subscriptions", 1), ("queued", 3), ("retained", 1)];
    for (name, value) in expect {
        assert_eq!(
            (&report["all"][name], &report["logs"][0][name]),
            (&value.into(), &value.into()),
            "{name}"
        );
    }
    assert_eq!(report["records"]["message"]["records"], 4);
    assert_eq!(report["longest_queues"][0], serde_json::json!({ "client": "kitchen", "messages": 3 }));
    let (code, text) = said(&["stats", dir.path()]);
    assert_eq!(code, Some(0));
    assert!(text.contains("       3  \"kitchen\""), "{text}");

    let lines = |args: &[&str]| {
        let (code, text) = said(&[&["dump", dir.path()], args].concat());
        assert_eq!(code, Some(0));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = lines(&[]);
    let has = |lines: &[String], text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (has(&all, " message "), has(&all, " queued "), has(&all, " retained ")),
        (4, 3, 1),
        "{all:?}"
    );
    assert!(
        has(&all, "payload(5)=\"first\"") == 1 && all.iter().all(|line| line.starts_with("0 ")),
        "{all:?}"
    );
    assert_eq!(lines(&["--limit", "2"]), all[..2]);
    assert_eq!(lines(&["--limit", "0"]).len(), 0);
    assert_eq!(has(&lines(&["--payload-bytes", "2"]), "payload(5)=\"fi\"..."), 1);
    let menu = lines(&["--topic", "menu"]);
    assert_eq!((menu.len(), has(&menu, "soup"), has(&menu, " retained ")), (2, 1, 1), "{menu:?}");
    let kitchen = lines(&["--client", "kitchen"]);
    assert_eq!((has(&kitchen, "soup"), has(&kitchen, " queued ")), (0, 3), "{kitchen:?}");
    assert_eq!(lines(&["--client", "nobody"]).len(), 0);
}

#[test]
fn damage_is_found_and_put_aside_by_the_next_start() {
    let dir = filled("damaged");
    damage(&dir, "second");
    let before = std::fs::read(dir.0.join("g1-0/00000000.log")).unwrap();
    let (code, text) = said(&["verify", dir.path()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("bytes are damaged") && text.contains("There is damage."), "{text}");
    let (code, report) = json(&["verify", "--json", dir.path()]);
    assert_eq!((code, &report["healthy"]), (Some(1), &Value::from(false)));
    assert_eq!(report["logs"][0]["damage"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(std::fs::read(dir.0.join("g1-0/00000000.log")).unwrap(), before, "nothing was changed");

    let broker = broker(&dir);
    let mut link = Link::connect(broker.addresses()[0], &Who::persistent("kitchen", Version::V5)).unwrap();
    assert!(link.present);
    for expect in ["first", "third"] {
        let client::Event::Publish(order) = link.next().unwrap() else { panic!("no message") };
        assert_eq!(order.payload, expect.as_bytes());
    }
    assert!(std::fs::read_dir(dir.0.join("quarantine")).unwrap().next().is_some());
    for name in ["quarantine", "store", "store.copy", "g1-0"] {
        let mode = std::fs::metadata(dir.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may not read {name}: {mode:o}");
    }
    let (code, report) = json(&["verify", "--json", dir.path()]);
    // What is written at this moment may look unfinished, but not damaged.
    assert_eq!((code.is_some(), &report["in_use"]), (true, &Value::from(true)));
    drop(link);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn what_is_no_store_is_refused() {
    let file = TempDir(std::env::temp_dir().join(format!("ringmq-store-{}-none", std::process::id())));
    std::fs::create_dir_all(&file.0).unwrap();
    for (path, expect) in [
        ("/nonexistent", "/nonexistent"),
        ("/proc/version", "not a directory"),
        (file.path(), "no Ringmq store"),
    ] {
        for command in ["verify", "stats", "dump"] {
            let output = store(&[command, path]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
            assert!(text.contains(expect), "{text}");
        }
    }
}
