//! What compaction adds to a turn: `cargo run --release -p ringmq-engine --example compaction_cost -- DIRECTORY`.
//!
//! One shard on a log in a new directory in DIRECTORY (removed afterwards). A session that is away has
//! messages that stay; messages to another one come, are acknowledged and become garbage. Turns in which
//! something was copied are told apart from the others. Writes a gigabyte or so.

#[allow(dead_code, reason = "only the packets are needed here")]
mod bare;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringmq_codec::{
    AckKind, Connect, PacketId, QoS, Subscribe, SubscribeFilter, SubscriptionOptions, Version,
};
use ringmq_engine::{Engine, EngineConfig, EngineIo};
use ringmq_storage::{Directory, Log, LogOptions, SegmentLog, chores};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ListenerId, Now, ShardId};

const STAY: usize = 500_000;
const COME_AND_GO: usize = 5_000_000;
const A_TURN: u16 = 100;

struct Shard {
    engine: Engine<SegmentLog<Directory>>,
    io: EngineIo,
}

impl Shard {
    fn connect(&mut self, slot: u32, client_id: &str, filter: Option<&str>) -> ConnId {
        let conn = ConnId { slot, generation: 1 };
        self.io.open(conn);
        let info = ConnInfo { listener: ListenerId(0), remote: None, over_limit: false };
        self.engine.opened(conn, &info, &mut self.io);
        let mut packets = Vec::new();
        let connect = Connect { clean_start: false, ..Connect::new(Version::V311, client_id) };
        connect.encode(&mut packets);
        if let Some(filter) = filter {
            let options = SubscriptionOptions::new(QoS::AtLeastOnce);
            let filters = [SubscribeFilter { filter, options }];
            let packet_id = PacketId::new(1).expect("one is not zero");
            let user = Default::default();
            let filters = filters[..].into();
            Subscribe { packet_id, subscription_id: None, user, filters }.encode(Version::V311, &mut packets);
        }
        self.turn(&[(conn, &packets)]);
        conn
    }

    /// One turn, and how long the engine took for it.
    fn turn(&mut self, input: &[(ConnId, &[u8])]) -> Duration {
        let since = Instant::now();
        for (conn, bytes) in input {
            self.engine.received(*conn, bytes, &mut self.io);
        }
        self.engine.turn_over(&mut self.io);
        let took = since.elapsed();
        let (mut dirty, mut syncs) = (Vec::new(), Vec::new());
        self.io.take_dirty(&mut dirty);
        for conn in dirty {
            let buffer = self.io.spare_buffer();
            let (bytes, _) = self.io.peek(conn).take(buffer, Vec::new());
            let count = self.io.backlog_bytes(conn);
            self.io.peek(conn).sent(count);
            self.io.recycle(bytes);
        }
        self.io.take_syncs(&mut syncs);
        for sync in syncs {
            let since = Instant::now();
            let outcome = sync.file.sync_data().map(|()| since.elapsed());
            let outcome = outcome.map_err(|error| ringmq_turn::SyncFailure {
                errno: error.raw_os_error().unwrap_or_default(),
            });
            self.engine.synced(sync.ticket, outcome, &mut self.io);
        }
        took
    }
}

fn report(name: &str, turns: &mut [Duration]) {
    turns.sort_unstable();
    let at =
        |percent: usize| turns.get(turns.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    println!(
        "{name}: {} turns, p50 {:.1} us, p90 {:.1} us, p99 {:.1} us",
        turns.len(),
        at(50),
        at(90),
        at(99)
    );
}

fn main() -> std::io::Result<()> {
    let under = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = under.join(format!("compaction_cost-{}", std::process::id()));
    fs::create_dir_all(&path)?;
    let (sender, chores) = chores();
    let helper = std::thread::spawn(|| chores.run());
    let directory = Directory::new(path.clone(), path.join("quarantine"), sender);
    let log = SegmentLog::new(directory, LogOptions { segment_bytes: 32 << 20, bytes_max: u64::MAX })?;
    let config = EngineConfig { sys_interval_ms: 0, ..EngineConfig::new(ShardId::new(0), 1, 7) };
    let mut io = Io::new(1);
    io.now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };
    let mut shard = Shard { engine: Engine::with_log(config, log), io };

    let away = shard.connect(0, "away", Some("stays"));
    shard.engine.closed(away, CloseReason::PeerClosed, &mut shard.io);
    let here = shard.connect(1, "here", Some("goes"));
    let publisher = shard.connect(2, "publisher", None);
    let stays = bare::publishes("stays", QoS::AtLeastOnce, &[b'x'; 64], A_TURN);
    for _ in 0..STAY / usize::from(A_TURN) {
        shard.turn(&[(publisher, &stays)]);
    }
    let goes = bare::publishes("goes", QoS::AtLeastOnce, &[b'x'; 64], A_TURN);
    let (mut calm, mut compacting) = (Vec::new(), Vec::new());
    let mut next = 0u32;
    for _ in 0..COME_AND_GO / usize::from(A_TURN) {
        let mut acks = Vec::new();
        for _ in 0..A_TURN {
            let id = (next % 65_535 + 1) as u16;
            acks.extend(bare::acks(AckKind::PubAck, id, id));
            next += 1;
        }
        let copied = shard.engine.log().figures().copied_bytes;
        let took = shard.turn(&[(publisher, &goes)]) + shard.turn(&[(here, &acks)]);
        let copies = shard.engine.log().figures().copied_bytes > copied;
        if copies { compacting.push(took) } else { calm.push(took) }
    }
    report("nothing copied ", &mut calm);
    report("with compaction", &mut compacting);
    let figures = shard.engine.log().figures();
    println!(
        "{} MiB appended, {} MiB of them copied; {} MiB live on {} MiB of disk",
        figures.appended_bytes >> 20,
        figures.copied_bytes >> 20,
        figures.live_bytes >> 20,
        figures.disk_bytes >> 20
    );
    drop(shard);
    let _ = helper.join();
    fs::remove_dir_all(&path)
}
