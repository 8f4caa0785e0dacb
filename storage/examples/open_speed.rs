//! How long it takes to open a store with many sessions and queued messages.
//!
//! `cargo run --release -p ringmq-storage --example open_speed [messages] [sessions] [shards]`

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use ringmq_storage::{
    Log, MessageView, QueueNumber, QueuedAs, QueuedMessage, Record, SessionRecord, Store, StoreError,
    StoreOptions, SubscriptionIds, chores,
};

fn main() -> Result<(), StoreError> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let messages = arguments.next().unwrap_or(1_000_000);
    let sessions = arguments.next().unwrap_or(100_000);
    let shards = arguments.next().unwrap_or(1) as usize;
    let path = std::env::temp_dir().join(format!("ringmq-open-speed-{}", std::process::id()));
    let options = StoreOptions { shards, segment_bytes: 32 << 20, bytes_max: u64::MAX, new_seed: 1 };
    let begun = Instant::now();
    fill(&path, options, (messages, sessions))?;
    println!("written in {:?}", begun.elapsed());
    for round in 0..6 {
        let cache = if round == 0 { "cold" } else { "warm" };
        if round == 0 {
            forget_pages(&path);
        }
        let (sender, runner) = chores();
        drop(runner);
        let begun = Instant::now();
        let store = Store::open(&path, options, &|_, _, _| 0)?;
        let (mut found_sessions, mut found_messages) = (0, 0);
        let mut logs = Vec::new();
        for shard in 0..shards {
            let (log, recovered) = store.open_shard(shard, &sender)?;
            found_sessions += recovered.sessions.len();
            found_messages += recovered.sessions.iter().map(|session| session.messages.len()).sum::<usize>();
            assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
            logs.push((log, recovered));
        }
        let took = begun.elapsed();
        println!("{cache}: {found_sessions} sessions with {found_messages} messages in {took:?}");
    }
    let _ = std::fs::remove_dir_all(&path);
    Ok(())
}

/// Takes the logs out of the page cache.
fn forget_pages(store: &Path) {
    for directory in std::fs::read_dir(store).expect("it was just made").flatten() {
        for file in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            let file = File::open(file.path()).expect("it was just written");
            file.sync_all().expect("the disk works");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
        }
    }
}

fn fill(path: &Path, options: StoreOptions, (messages, sessions): (u64, u64)) -> Result<(), StoreError> {
    let store = Store::open(path, options, &|_, _, _| 0)?;
    let (sender, runner) = chores();
    drop(runner);
    let shards = options.shards as u64;
    for shard in 0..options.shards {
        let (mut log, _) = store.open_shard(shard, &sender)?;
        let record = |count: u64| SessionRecord::new(1, shard, count);
        for count in 0..sessions / shards {
            let session = record(count);
            let client_id = format!("client-{shard}-{count}");
            log.append(Record::SessionBegins {
                session,
                client_id: &client_id,
                expiry_s: 3600,
                closed_at_ms: 1,
                next: QueueNumber(0),
            });
            let filter = format!("devices/{client_id}/#");
            log.append(Record::Subscribed { session, filter: &filter, options: 1, subscription_id: 0 });
            log.end_unit();
        }
        for count in 0..messages / shards {
            let session = record(count.wrapping_mul(7919) % (sessions / shards));
            let topic = format!("devices/client-{shard}-{}/up", session.0 & 0xFFFF_FFFF);
            let view = MessageView {
                topic: topic.as_bytes(),
                properties: b"",
                payload: &[7; 64],
                shared_payload: None,
                qos: 1,
                expires_at_ms: 0,
            };
            let message = log.keep(&view).expect("the disk has room");
            let number = QueueNumber(count / (sessions / shards));
            let queued_as = QueuedAs { qos: 1, retain: false };
            let ids = SubscriptionIds::NONE;
            let queued = QueuedMessage { number, message, queued_as, ids, group: None };
            log.append(Record::Queued { session, queued });
            log.end_unit();
            if count % 64 == 0 {
                log.turn_over();
            }
        }
        log.turn_over();
    }
    Ok(())
}
