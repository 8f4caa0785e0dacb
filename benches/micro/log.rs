//! What it costs to append messages to the log: in segments on disk, nothing of which waits for the disk.
#![allow(missing_docs, reason = "criterion's macros make a function that has none")]

mod quick;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_storage::{
    ChoreSender, Directory, Log, LogOptions, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record,
    SegmentLog, SessionRecord, SubscriptionIds, chores,
};

/// Turns until a log is thrown away for a new one, so that little of the disk is used.
const TURNS_MAX: u64 = 2_000;
const SEGMENT_BYTES: usize = 16 << 20;
const SESSION: SessionRecord = SessionRecord(1 << 40);

/// One message for one session that is away.
fn keep_queued(log: &mut SegmentLog<Directory>, number: QueueNumber) {
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
    log.end_unit();
}

/// The time of so many turns.
fn turns(count: u64, messages: u64, path: &Path, chores: &ChoreSender) -> Duration {
    std::fs::create_dir_all(path).expect("the directory for temporary files can be written");
    let directory = Directory::new(path.to_owned(), path.join("quarantine"), chores.clone());
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, bytes_max: u64::MAX };
    let mut log = SegmentLog::new(directory, options).expect("the disk has room for a few segments");
    let began = Instant::now();
    for turn in 0..count {
        for number in turn * messages..(turn + 1) * messages {
            keep_queued(&mut log, QueueNumber(number));
        }
        log.turn_over();
    }
    let took = began.elapsed();
    drop(log);
    // A segment may just be made ahead of need; all goes at the end.
    let _ = std::fs::remove_dir_all(path);
    took
}

fn appends(criterion: &mut Criterion) {
    let base = std::env::temp_dir().join(format!("ringmq-bench-log-{}", std::process::id()));
    let (sender, chores) = chores();
    let helper = std::thread::spawn(|| chores.run());
    let mut logs = 0;
    for messages in [1, 100] {
        let mut group = criterion.benchmark_group("append");
        group.throughput(Throughput::Elements(messages));
        group.bench_function(format!("64 B, queued for one, a turn of {messages}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let count = left.min(TURNS_MAX);
                    logs += 1;
                    took += turns(count, messages, &base.join(logs.to_string()), &sender);
                    left -= count;
                }
                took
            });
        });
    }
    drop(sender);
    helper.join().expect("the helper thread ends");
    let _ = std::fs::remove_dir_all(&base);
}

criterion_group!(name = benches; config = quick::config(); targets = appends);
criterion_main!(benches);
