//! A process that publishes into a store is killed; nothing that was kept may be missing.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ringmq_client::store::{Durability, File, FileOptions, Number, Store, StoreChange};

use crate::common::message;
use crate::scratch::Scratch;

/// Tells the child which store to open: `written PATH`, `synced PATH` or `redis ADDRESS`.
const STORE: &str = "RINGMQ_TEST_STORE";

fn open(store: &str) -> Arc<dyn Store> {
    let (kind, place) = store.split_once(' ').unwrap();
    let on_disk = |durability| {
        let options = FileOptions { durability, segment_bytes: 256 * 1024, bytes_max: 16 << 20 };
        let store = File::open(place, options).unwrap();
        assert_eq!(store.reports(), [] as [&str; 0]);
        Arc::new(store)
    };
    match kind {
        "written" => on_disk(Durability::Written),
        "synced" => on_disk(Durability::Synced),
        #[cfg(feature = "redis")]
        "redis" => Arc::new(ringmq_client::store::Redis::new(place, Default::default()).unwrap()),
        other => panic!("there is no store {other}"),
    }
}

fn payload(number: u64) -> String {
    format!("{number}:{}", "z".repeat((number % 3000) as usize))
}

/// What the child process does: it publishes and tells the number of each that is kept; each tenth stays
/// unacknowledged.
#[test]
#[ignore = "the other test runs it in a process of its own"]
fn child() {
    let store = open(&std::env::var(STORE).expect("the other test sets it"));
    let session = store.open("s").unwrap();
    let restored = session.restore().unwrap();
    for (number, _, _) in &restored.publications {
        if number.0 % 10 != 0 {
            session.apply(&[StoreChange::Completed(*number)]).unwrap();
        }
    }
    let first = restored.next;
    let mut out = std::io::stderr();
    for number in first.. {
        session.put(&[(Number(number), message(&payload(number)))]).unwrap();
        writeln!(out, "kept {number}").unwrap();
        if number % 10 != 0 {
            session.apply(&[StoreChange::Completed(Number(number))]).unwrap();
        }
    }
}

fn spawn(store: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(STORE, store)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Has children publish and kills them, so many times, after so many lines.
pub fn kill_again_and_again(store: &str, rounds: usize, lines: usize) {
    let mut kept = None;
    for round in 0..rounds {
        let mut child = spawn(store);
        let mut reader = BufReader::new(child.stderr.take().unwrap()).lines();
        let wanted = lines + round * 37;
        // Killed while it goes on, then read to the last line that it wrote.
        for line in reader.by_ref().take(wanted) {
            kept = number_in(&line.unwrap()).or(kept);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kept = reader.map_while(Result::ok).filter_map(|line| number_in(&line)).last().or(kept);
        check(store, kept.unwrap());
    }
}

#[test]
fn what_was_kept_on_disk_survives_kill_9() {
    for (kind, rounds, lines) in [("written", 8, 400), ("synced", 3, 40)] {
        let scratch = Scratch::new("kill");
        kill_again_and_again(&format!("{kind} {}", scratch.0.display()), rounds, lines);
    }
}

fn number_in(line: &str) -> Option<u64> {
    line.strip_prefix("kept ")?.parse().ok()
}

/// All up to the last one that was told, and at most one more.
fn check(store: &str, last: u64) {
    let store = open(store);
    let restored = store.open("s").unwrap().restore().unwrap();
    assert!(restored.next == last + 1 || restored.next == last + 2, "next {} after {last}", restored.next);
    let tenths: Vec<u64> = (0..=last).filter(|number| number % 10 == 0).collect();
    let found: Vec<u64> = restored.publications.iter().map(|(number, _, _)| number.0).collect();
    assert_eq!(
        found.iter().copied().filter(|number| *number <= last && number % 10 == 0).collect::<Vec<_>>(),
        tenths
    );
    // The last ones may be kept and not completed yet.
    assert!(found.iter().all(|number| number % 10 == 0 || *number >= last), "{found:?}");
    for (number, message, is_released) in &restored.publications {
        assert!(!is_released && message.payload == payload(number.0), "{number:?}");
    }
}
