//! What is said while a store is read, and of what was found in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ringmq_storage::{Damage, Recovered, Store};

/// How often something is said of a start that takes long.
const PROGRESS_LOOK: Duration = Duration::from_secs(1);

/// How far the reading has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Shards whose logs were read.
    pub shards_read: AtomicUsize,
}

/// What was found in a store.
pub(super) struct Report {
    pub progress: Arc<Progress>,
    path: PathBuf,
    began: Instant,
    shards: usize,
    /// The store was made by this start.
    is_new: bool,
    /// Shards that the store was last used with, if others.
    shards_before: usize,
    sessions: usize,
    queued: usize,
    retained: usize,
    damaged_places: usize,
    /// Ends the thread that tells of the progress, when it is dropped.
    _telling: Sender<()>,
}

/// Bytes of all files of the logs; for a message, so what cannot be read counts as nothing.
fn log_bytes(path: &Path) -> u64 {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let logs = entries(path).filter(|entry| entry.file_name().to_string_lossy().starts_with('g'));
    let files = logs.flat_map(|log| entries(&log.path()));
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

impl Report {
    /// Begins to tell how far the reading has come, every now and then.
    pub fn begin(path: &Path, shards: usize) -> Self {
        let progress = Arc::new(Progress::default());
        let began = Instant::now();
        let (telling, hung_up) = channel();
        let (teller, bytes, dir) = (Arc::clone(&progress), log_bytes(path), path.to_owned());
        let tell = move || {
            while hung_up.recv_timeout(PROGRESS_LOOK) == Err(RecvTimeoutError::Timeout) {
                tracing::info!(
                    data_dir = %dir.display(),
                    shards_read = teller.shards_read.load(Ordering::Relaxed),
                    shards,
                    log_bytes = bytes,
                    seconds = began.elapsed().as_secs(),
                    "still reading the store"
                );
            }
        };
        // Without the thread, nothing is said.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(tell);
        Self {
            progress,
            path: path.to_owned(),
            began,
            shards,
            is_new: false,
            shards_before: shards,
            sessions: 0,
            queued: 0,
            retained: 0,
            damaged_places: 0,
            _telling: telling,
        }
    }

    /// Tells what was mended, and what another number of shards brought to light.
    pub fn opened(&mut self, store: &Store) {
        for mended in store.reports() {
            tracing::warn!("{mended}");
        }
        self.is_new = store.epoch() == 1;
        let Some(resharded) = store.resharded() else { return };
        self.shards_before = resharded.from;
        tracing::info!(from = resharded.from, to = self.shards, "the log was written anew for other shards");
        for (shard, damage) in &resharded.damage {
            self.damage(*shard, damage);
        }
        for loss in &resharded.losses {
            tracing::warn!("lost to damage: {loss}");
        }
    }

    /// Counts what a shard's log held, and tells what could not be read of it.
    pub fn count(&mut self, shard: usize, recovered: &Recovered) {
        self.sessions += recovered.sessions.len();
        self.queued += recovered.sessions.iter().map(|session| session.messages.len()).sum::<usize>();
        self.retained += recovered.retained.len();
        for damage in &recovered.damage {
            self.damage(shard, damage);
        }
        for loss in &recovered.losses {
            tracing::warn!(shard, "lost to damage: {loss}");
        }
    }

    fn damage(&mut self, shard: usize, damage: &Damage) {
        if damage.torn_tail {
            // What a crash leaves: nothing in it was acknowledged.
            return tracing::info!(
                shard,
                segment = damage.segment.0,
                place = damage.place,
                bytes = damage.bytes,
                "cut what was being written when the broker last ended"
            );
        }
        self.damaged_places += 1;
        tracing::warn!(
            shard,
            segment = damage.segment.0,
            place = damage.place,
            bytes = damage.bytes,
            records = damage.records,
            seems = damage.seems,
            quarantined = damage.quarantined,
            "a part of the log is damaged and was left out"
        );
    }

    /// All is read: tells what there was.
    pub fn done(self) {
        if self.is_new {
            return tracing::info!(data_dir = %self.path.display(), shards = self.shards, "made a new store");
        }
        tracing::info!(
            data_dir = %self.path.display(),
            sessions = self.sessions,
            queued = self.queued,
            retained = self.retained,
            shards_before = self.shards_before,
            shards = self.shards,
            damaged_places = self.damaged_places,
            took_ms = self.began.elapsed().as_millis() as u64,
            "recovered"
        );
    }
}
