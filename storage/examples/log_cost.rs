//! What the log costs: `cargo run --release -p ringmq-storage --example log_cost -- DIRECTORY`.
//!
//! Writes a few hundred MiB into files of a new directory in DIRECTORY, and removes them again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringmq_storage::{
    ChoreSender, Directory, Log, LogOffset, LogOptions, MessageView, QueueNumber, QueuedAs, QueuedMessage,
    Record, SegmentLog, SessionRecord, SubscriptionIds, chores,
};

const TURNS: usize = 10_000;
const MESSAGES_A_TURN: usize = 100;
const COMMITS: usize = 500;
const SESSION: SessionRecord = SessionRecord(1 << 40);

fn main() -> std::io::Result<()> {
    let under = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = under.join(format!("log_cost-{}", std::process::id()));
    let (sender, chores) = chores();
    let helper = std::thread::spawn(|| chores.run());
    for round in 0..3 {
        println!("round {round}:");
        let outcome = measure(&path, &sender);
        fs::remove_dir_all(&path)?;
        outcome?;
    }
    drop(sender);
    helper.join().map_err(|_| std::io::Error::other("the helper thread failed"))
}

fn measure(path: &Path, chores: &ChoreSender) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    let directory = Directory::new(path.to_owned(), path.join("quarantine"), chores.clone());
    let options = LogOptions { segment_bytes: 32 << 20, bytes_max: u64::MAX };
    let mut log = SegmentLog::new(directory, options)?;
    let mut kept = Vec::with_capacity(TURNS * MESSAGES_A_TURN);

    each_turn("keep, Queued, end_unit", &mut log, |log, _| {
        for _ in 0..MESSAGES_A_TURN {
            let number = QueueNumber(kept.len() as u64);
            kept.push(keep_queued(log, number));
            log.end_unit();
        }
    });
    each_turn("message", &mut log, |log, turn| {
        for at in &kept[turn * MESSAGES_A_TURN..(turn + 1) * MESSAGES_A_TURN] {
            assert_eq!(log.message(*at).payload[0], 7);
        }
    });
    each_turn("Completed, end_unit", &mut log, |log, turn| {
        for index in 0..MESSAGES_A_TURN {
            let number = QueueNumber((turn * MESSAGES_A_TURN + index) as u64);
            log.append(Record::Completed { session: SESSION, number, count: 1 });
            log.end_unit();
        }
    });
    each_turn("retain, release", &mut log, |log, turn| {
        for at in &kept[turn * MESSAGES_A_TURN..(turn + 1) * MESSAGES_A_TURN] {
            log.retain(*at);
            log.release(*at);
        }
    });
    each_turn("release", &mut log, |log, turn| {
        for at in &kept[turn * MESSAGES_A_TURN..(turn + 1) * MESSAGES_A_TURN] {
            log.release(*at);
        }
    });
    for messages in [1, 100] {
        commits(messages, &mut log)?;
    }
    Ok(())
}

fn keep_queued(log: &mut SegmentLog<Directory>, number: QueueNumber) -> LogOffset {
    let message = MessageView {
        topic: b"sensors/42/temp",
        properties: b"",
        payload: &[7; 64],
        shared_payload: None,
        qos: 1,
        expires_at_ms: 0,
    };
    let message = log.keep(&message).expect("there is room");
    let queued_as = QueuedAs { qos: 1, retain: false };
    let queued = QueuedMessage { number, message, queued_as, ids: SubscriptionIds::NONE, group: None };
    log.append(Record::Queued { session: SESSION, queued });
    message
}

fn each_turn(
    what: &str,
    log: &mut SegmentLog<Directory>,
    mut turn: impl FnMut(&mut SegmentLog<Directory>, usize),
) {
    let mut times = Vec::with_capacity(TURNS);
    let mut overs = Vec::with_capacity(TURNS);
    for number in 0..TURNS {
        let began = Instant::now();
        turn(log, number);
        let worked = Instant::now();
        log.turn_over();
        times.push(began.elapsed());
        overs.push(worked.elapsed());
    }
    let total: Duration = times.iter().sum();
    let each = total.as_nanos() as f64 / (TURNS * MESSAGES_A_TURN) as f64;
    times.sort_unstable();
    overs.sort_unstable();
    let median = times[TURNS / 2].as_nanos() as f64 / MESSAGES_A_TURN as f64;
    println!(
        "  {what:24} {each:6.1} ns each, {median:6.1} in the median turn; a turn's p99 {:?}, max {:?}; \
         turn_over p50 {:?}, p99 {:?}, max {:?}",
        times[TURNS * 99 / 100],
        times[TURNS - 1],
        overs[TURNS / 2],
        overs[TURNS * 99 / 100],
        overs[TURNS - 1]
    );
}

/// Group commits of so many messages, one after the other.
fn commits(messages: usize, log: &mut SegmentLog<Directory>) -> std::io::Result<()> {
    let mut times = Vec::with_capacity(COMMITS);
    for _ in 0..COMMITS {
        for number in 0..messages {
            keep_queued(log, QueueNumber(number as u64));
            log.end_unit();
        }
        log.want_synced();
        log.turn_over();
        let began = Instant::now();
        while let Some(request) = log.sync() {
            let began = Instant::now();
            request.file.sync_data()?;
            log.synced(request.ticket, Ok(began.elapsed()));
        }
        times.push(began.elapsed());
    }
    let first = times[0];
    times.sort_unstable();
    println!(
        "  commit of {messages:3} messages    p50 {:?}, p99 {:?}, the first {first:?}",
        times[COMMITS / 2],
        times[COMMITS * 99 / 100]
    );
    Ok(())
}
