//! The shards' logs: in memory, or read back from the data directory.

use std::hash::{BuildHasher, RandomState};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{JoinHandle, ScopedJoinHandle};

use ringmq_storage::{ChoreSender, MemoryLog, Recovered, ShardLog, Store, StoreOptions, chores};
use ringmq_turn::ShardId;

use super::report::{Progress, Report};
use crate::Error;
use crate::config::Config;
use crate::system::cpus;

/// What the shards start from, and what has to be kept for as long as they run.
pub(super) struct Logs {
    /// Of the hash tables. It says which shard owns a client id, so that a store keeps its own.
    pub seed: u64,
    /// How often the store was started; 0 without one.
    pub epoch: u32,
    pub shards: ShardLogs,
    pub store: Option<StoreInUse>,
}

/// A shard's log, and what was found in it if it was read.
type ShardStart = (ShardLog, Option<Recovered>);

/// A log for each shard, until it is taken.
pub(super) struct ShardLogs(Vec<Mutex<Option<ShardStart>>>);

impl ShardLogs {
    /// The log of a shard, and what was found in it. Once for each.
    pub fn take(&self, shard: ShardId) -> ShardStart {
        let mut log = self.0[shard.index()].lock().unwrap_or_else(PoisonError::into_inner);
        log.take().expect("the runtime makes each shard's core once")
    }
}

impl FromIterator<ShardStart> for ShardLogs {
    fn from_iter<I: IntoIterator<Item = ShardStart>>(logs: I) -> Self {
        Self(logs.into_iter().map(|log| Mutex::new(Some(log))).collect())
    }
}

/// A data directory that is used: nobody else may, and a thread makes and removes its files.
pub(super) struct StoreInUse {
    /// Taken when the thread is to end, which it does when the logs of all shards are gone too.
    chores: Option<(ChoreSender, JoinHandle<()>)>,
    /// Holds the lock, so it goes last.
    store: Store,
}

impl StoreInUse {
    fn open(path: &Path, options: StoreOptions) -> Result<Self, Error> {
        let store = Store::open(path, options, &ringmq_engine::owner)?;
        let (sender, chores) = chores();
        let thread = std::thread::Builder::new().name("chores".to_owned()).spawn(move || chores.run());
        let thread = thread.map_err(Error::Thread)?;
        Ok(Self { chores: Some((sender, thread)), store })
    }

    /// Reads the logs of all shards, as many at a time as there are CPUs.
    fn read(&self, shards: usize, progress: &Progress) -> Result<Vec<(ShardLog, Recovered)>, Error> {
        let (sender, _) = self.chores.as_ref().expect("taken by drop only");
        let threads = cpus().unwrap_or(1).clamp(1, shards);
        let next = AtomicUsize::new(0);
        let read_some = || {
            let mut read = Vec::new();
            loop {
                let shard = next.fetch_add(1, Ordering::Relaxed);
                if shard >= shards {
                    return Ok(read);
                }
                let (log, recovered) = self.store.open_shard(shard, sender)?;
                read.push((shard, (ShardLog::Segments(Box::new(log)), recovered)));
                progress.shards_read.fetch_add(1, Ordering::Relaxed);
            }
        };
        let parts: Result<Vec<Vec<_>>, Error> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(read_some)).collect();
            let join =
                |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            threads.into_iter().map(join).collect()
        });
        let mut read: Vec<_> = parts?.into_iter().flatten().collect();
        read.sort_unstable_by_key(|(shard, _)| *shard);
        Ok(read.into_iter().map(|(_, log)| log).collect())
    }
}

impl Drop for StoreInUse {
    fn drop(&mut self) {
        let Some((sender, thread)) = self.chores.take() else { return };
        drop(sender);
        if thread.join().is_err() {
            tracing::error!("the thread that makes and removes the files of the log failed");
        }
    }
}

impl Logs {
    /// Opens what the configuration asks for, and reads all that is there.
    pub fn open(config: &Config, shards: usize) -> Result<Self, Error> {
        match &config.data_dir {
            Some(path) => open_store(path, config, shards),
            None => Ok(in_memory(shards)),
        }
    }
}

fn in_memory(shards: usize) -> Logs {
    Logs {
        seed: new_seed(),
        epoch: 0,
        shards: (0..shards).map(|_| (ShardLog::Memory(MemoryLog::new()), None)).collect(),
        store: None,
    }
}

/// What nobody can guess.
fn new_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn open_store(path: &Path, config: &Config, shards: usize) -> Result<Logs, Error> {
    let mut report = Report::begin(path, shards);
    let options = StoreOptions {
        shards,
        segment_bytes: config.segment_bytes(),
        bytes_max: config.shard_log_bytes_max(shards),
        new_seed: new_seed(),
    };
    let store = StoreInUse::open(path, options)?;
    report.opened(&store.store);
    let read = store.read(shards, &report.progress)?;
    for (shard, (_, recovered)) in read.iter().enumerate() {
        report.count(shard, recovered);
    }
    report.done();
    Ok(Logs {
        seed: store.store.seed(),
        epoch: store.store.epoch(),
        shards: read.into_iter().map(|(log, recovered)| (log, Some(recovered))).collect(),
        store: Some(store),
    })
}
