//! The store on disk.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ringmq_client::store::{Durability, File, FileOptions, Number, Store, StoreChange, StoreError};

use crate::common::{check, entries, id, message, text};
use crate::scratch::Scratch;

const SMALL: FileOptions =
    FileOptions { durability: Durability::Written, segment_bytes: 256 * 1024, bytes_max: 2 << 20 };

fn open(path: &Path, options: FileOptions) -> File {
    File::open(path, options).unwrap()
}

#[test]
fn a_store_on_disk_does_what_stores_do() {
    for durability in [Durability::Written, Durability::Synced] {
        let scratch = Scratch::new("file");
        let options = FileOptions { durability, ..SMALL };
        check(&|| {
            let store = open(&scratch.0, options);
            assert_eq!(store.reports(), [] as [&str; 0]);
            Arc::new(store)
        });
        let disk_bytes = open(&scratch.0, options).figures().disk_bytes;
        assert!(disk_bytes <= SMALL.bytes_max, "{disk_bytes} bytes");
    }
}

#[test]
fn it_is_open_in_one_place_at_a_time() {
    let scratch = Scratch::new("lock");
    let store = open(&scratch.0, SMALL);
    let error = File::open(&scratch.0, SMALL).unwrap_err();
    let path = scratch.0.display();
    let pid = std::process::id();
    let expected = format!(
        "the store in {path} cannot be opened: another process uses {path} (process {pid}); stop it, or choose another \
         directory"
    );
    assert_eq!(error.to_string(), expected);
    // A session keeps it open, too.
    let session = store.open("s").unwrap();
    drop(store);
    assert!(File::open(&scratch.0, SMALL).is_err());
    drop(session);
    open(&scratch.0, SMALL);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let scratch = Scratch::new("options");
    for (options, said) in [
        (
            FileOptions { segment_bytes: 5000, ..SMALL },
            "segment_bytes is 5000: make it a multiple of 4096 up to",
        ),
        (
            FileOptions { bytes_max: 1 << 20, segment_bytes: 512 << 10, ..SMALL },
            "raise it to 2097152 or more",
        ),
    ] {
        let error = File::open(&scratch.0, options).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = File::open("/dev/null", SMALL).unwrap_err().to_string();
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn a_message_that_no_segment_has_room_for_is_refused() {
    let scratch = Scratch::new("large");
    let store = open(&scratch.0, SMALL);
    let session = store.open("s").unwrap();
    let error = session.put(&entries(0, &[&"x".repeat(SMALL.segment_bytes)])).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }) && !error.is_temporary(), "{error}");
    session.put(&entries(0, &[&"x".repeat(SMALL.segment_bytes - 2000)])).unwrap();
    assert_eq!(session.restore().unwrap().publications.len(), 1);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let scratch = Scratch::new("full");
    let store = open(&scratch.0, SMALL);
    let session = store.open("s").unwrap();
    let payload = "x".repeat(10_000);
    let mut kept = 0;
    let error = loop {
        match session.put(&[(Number(kept), message(&payload))]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(kept >= 60, "{kept} messages were taken");
    assert!(store.figures().disk_bytes <= SMALL.bytes_max);
    // Everything else goes on, however often one tries.
    for _ in 0..100 {
        assert!(session.put(&[(Number(kept), message(&payload))]).is_err());
    }
    session.apply(&[StoreChange::Taken(id(1))]).unwrap();
    drop((session, store));
    let store = open(&scratch.0, SMALL);
    let session = store.open("s").unwrap();
    let restored = session.restore().unwrap();
    let numbers: Vec<u64> = restored.publications.iter().map(|(number, _, _)| number.0).collect();
    assert_eq!(numbers, (0..kept).collect::<Vec<_>>());
    assert!(restored.publications.iter().all(|(_, message, _)| message.payload == payload));
    assert_eq!(restored.taken.len(), 1);
    // What is acknowledged makes room.
    let done: Vec<_> = (0..kept).map(|number| StoreChange::Completed(Number(number))).collect();
    session.apply(&done).unwrap();
    let began = Instant::now();
    while let Err(error) = session.put(&[(Number(kept), message(&payload))]) {
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "there is no room again");
        std::thread::yield_now();
    }
    let last = session.restore().unwrap().publications;
    assert_eq!((last.len(), last[0].0), (1, Number(kept)));
}

#[test]
fn the_disk_holds_little_more_than_what_waits() {
    let scratch = Scratch::new("compaction");
    let store = open(&scratch.0, FileOptions { bytes_max: 64 << 20, ..SMALL });
    let (busy, idle) = (store.open("busy").unwrap(), store.open("idle").unwrap());
    // Lies in the first segment until compaction moves it.
    idle.put(&entries(3, &["first", "second"])).unwrap();
    idle.apply(&[StoreChange::Released(Number(3)), StoreChange::Taken(id(77))]).unwrap();
    let payload = "x".repeat(1000);
    for number in 0..30_000 {
        busy.put(&[(Number(number), message(&payload))]).unwrap();
        if number >= 10 {
            busy.apply(&[StoreChange::Completed(Number(number - 10))]).unwrap();
        }
    }
    // The thread goes on until all is settled.
    let began = Instant::now();
    while store.figures().disk_bytes > 4 * SMALL.segment_bytes as u64 {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", store.figures());
        std::thread::yield_now();
    }
    assert!(store.figures().appended_bytes > 30_000_000);
    drop((busy, idle, store));
    let store = open(&scratch.0, SMALL);
    assert_eq!(store.reports(), [] as [&str; 0]);
    assert_eq!(text(&store.open("idle").unwrap().restore().unwrap()), "3=* 4=second next 5 taken 77");
    let busy = store.open("busy").unwrap().restore().unwrap();
    assert_eq!((busy.publications.len(), busy.next), (10, 30_000));
}

#[test]
fn those_who_put_at_the_same_time_share_a_sync() {
    const THREADS: usize = 16;
    const EACH: u64 = 50;
    let scratch = Scratch::new("group");
    let store = open(&scratch.0, FileOptions { durability: Durability::Synced, ..SMALL });
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let session = store.open(&format!("s{thread}")).unwrap();
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for number in 0..EACH {
                    session.put(&[(Number(number), message("x"))]).unwrap();
                }
            });
        }
    });
    let figures = store.figures();
    let puts = THREADS as u64 * EACH;
    assert!(
        figures.commits > 0 && figures.commits < puts / 2,
        "{} syncs for {puts} messages",
        figures.commits
    );
}

#[test]
fn damage_is_told_and_left_out() {
    let scratch = Scratch::new("damage");
    let payload = "y".repeat(1000);
    {
        let store = open(&scratch.0, SMALL);
        let session = store.open("s").unwrap();
        for number in 0..400 {
            session.put(&[(Number(number), message(&payload))]).unwrap();
        }
    }
    // One bit in the middle of the first segment.
    let mut files: Vec<_> =
        std::fs::read_dir(scratch.0.join("g1-0")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    let store = open(&scratch.0, SMALL);
    let reports = store.reports().join("\n");
    assert!(reports.contains("are damaged") && reports.contains("lost to damage"), "{reports}");
    let restored = store.open("s").unwrap().restore().unwrap();
    let count = restored.publications.len();
    assert!((300..400).contains(&count), "{count} of 400 are left");
    assert!(restored.publications.iter().all(|(_, message, _)| message.payload == payload));
    assert!(restored.publications.is_sorted_by_key(|(number, _, _)| *number));
    assert_eq!(restored.next, 400);
}

#[test]
fn a_torn_end_is_cut_without_a_word() {
    let scratch = Scratch::new("torn");
    {
        let store = open(&scratch.0, SMALL);
        let session = store.open("s").unwrap();
        session.put(&entries(0, &["a"])).unwrap();
        session.put(&entries(1, &["b"])).unwrap();
    }
    let path = std::fs::read_dir(scratch.0.join("g1-0")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = open(&scratch.0, SMALL);
    assert_eq!(store.reports(), [] as [&str; 0]);
    assert_eq!(text(&store.open("s").unwrap().restore().unwrap()), "0=a next 1");
}
