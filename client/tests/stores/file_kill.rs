//! A process that publishes into a store on disk is killed; nothing that was kept may be missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ringmq_client::store::{Durability, File, FileOptions, Number, Store, StoreChange};

use crate::common::{Scratch, message};

/// Where the child finds the store's directory.
const PATH: &str = "RINGMQ_TEST_STORE";
const DURABILITY: &str = "RINGMQ_TEST_DURABILITY";

fn options(durability: Durability) -> FileOptions {
    FileOptions { durability, segment_bytes: 256 * 1024, bytes_max: 16 << 20 }
}

fn payload(number: u64) -> String {
    format!("{number}:{}", "z".repeat((number % 3000) as usize))
}

/// What the child process does: it publishes and tells the number of each that is kept; each tenth stays
/// unacknowledged.
#[test]
#[ignore = "the other test runs it in a process of its own"]
fn child() {
    let path = std::env::var_os(PATH).expect("the other test sets it");
    let durability = match std::env::var(DURABILITY).as_deref() {
        Ok("synced") => Durability::Synced,
        _ => Durability::Written,
    };
    let store = File::open(path, options(durability)).unwrap();
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

fn spawn(path: &Path, durability: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "file_kill::child", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(DURABILITY, durability)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_kept_survives_kill_9() {
    for (durability, name, rounds, lines) in
        [(Durability::Written, "written", 8, 400), (Durability::Synced, "synced", 3, 40)]
    {
        let scratch = Scratch::new("kill");
        let mut kept = None;
        for round in 0..rounds {
            let mut child = spawn(&scratch.0, name);
            let mut reader = BufReader::new(child.stderr.take().unwrap()).lines();
            let wanted = lines + round * 37;
            // Killed while it goes on, then read to the last line that it wrote.
            for line in reader.by_ref().take(wanted) {
                kept = number_in(&line.unwrap()).or(kept);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kept = reader.map_while(Result::ok).filter_map(|line| number_in(&line)).last().or(kept);
            check(&scratch.0, options(durability), kept.unwrap());
        }
    }
}

fn number_in(line: &str) -> Option<u64> {
    line.strip_prefix("kept ")?.parse().ok()
}

/// All up to the last one that was told, and at most one more.
fn check(path: &Path, options: FileOptions, last: u64) {
    let store = File::open(path, options).unwrap();
    assert_eq!(store.reports(), [] as [&str; 0]);
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
